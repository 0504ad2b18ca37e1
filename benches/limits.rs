//! What the fair limiter costs: a decision, among few tenants and many, from two threads at once; all that a request passes; finding the parts of 10,000 tenants
//! that all ask, ten times a second and at the turn of a second; and the memory of a tenant.
//!
//! `cargo bench --bench limits`

#![allow(clippy::unwrap_used, missing_docs, reason = "a measurement")]

use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, Instant};

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use futures_util::FutureExt as _;
use mcp_registry_gateway::id::TenantId;
use mcp_registry_gateway::limit::bucket::{Nanos, SECOND};
use mcp_registry_gateway::limit::fair::{Fair, Rules};
use mcp_registry_gateway::limit::share::Share;
use mcp_registry_gateway::limit::terms::Terms;
use mcp_registry_gateway::limit::{Limits, Who};

const THREADS: u64 = 2;
const TICK: Nanos = SECOND / 10;

fn limiter(tenants: u64) -> (Fair, Vec<Arc<Share>>) {
    let rules = Rules { capacity_rpm: 6_000_000, window: Duration::from_mins(5), fair: true };
    let share = |key| Arc::new(Share::simulated(key, &Terms::default(), 1.5));
    (Fair::new(rules), (0..tenants).map(share).collect())
}

/// Each thread goes through the tenants in its own order, with the clock of the machine.
fn decisions(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("limits");
    group.throughput(Throughput::Elements(1));
    for tenants in [1_u64, 600, 10_000] {
        let (fair, shares) = limiter(tenants);
        let began = Instant::now();
        let clock = || 40_000 * SECOND + Nanos::try_from(began.elapsed().as_nanos()).unwrap();
        let decide = |count: u64, first: u64| {
            for number in 0..count {
                let share = &shares[usize::try_from((first + number * 7919) % tenants).unwrap()];
                let now = clock();
                fair.wanted(share, now);
                _ = black_box(fair.take(share, now));
            }
        };
        group.bench_function(format!("decision among {tenants}, two threads"), |bencher| {
            bencher.iter_custom(|count| {
                let began = Instant::now();
                std::thread::scope(|scope| {
                    for thread in 0..THREADS {
                        let decide = &decide;
                        scope.spawn(move || decide(count, thread));
                    }
                });
                began.elapsed()
            });
        });
    }
    group.finish();
}

/// All that a request passes: its user's bucket, its tenant's terms and share, the capacity; a million users in turn.
fn admissions(criterion: &mut Criterion) {
    const USERS: u128 = 1_000_000;
    let rules = Rules { capacity_rpm: 600_000_000, window: Duration::from_mins(5), fair: true };
    let (limits, tenant) = (Limits::new(rules, 1.5), TenantId::default_tenant());
    limits.agree([(tenant.clone(), Terms::default())]);
    let admit = |number: u128| {
        // As random as the ids of accounts are.
        let user = number.wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835);
        let who = Who { tenant: &tenant, user, rpm: 1_000 };
        _ = black_box(limits.admit(who).now_or_never());
    };
    let before = resident();
    (0..USERS).for_each(admit);
    if let Some((before, after)) = before.zip(resident()) {
        eprintln!("limits/memory of a user, among {USERS}: {} bytes", u128::from(after.saturating_sub(before)) / USERS);
    }
    let mut group = criterion.benchmark_group("limits");
    group.throughput(Throughput::Elements(1));
    group.bench_function("admission of a million users, two threads", |bencher| {
        bencher.iter_custom(|count| {
            let began = Instant::now();
            std::thread::scope(|scope| {
                for thread in 0..THREADS {
                    let admit = &admit;
                    scope
                        .spawn(move || (0..count).for_each(|number| admit(u128::from(number * 7919 + thread) % USERS)));
                }
            });
            began.elapsed()
        });
    });
    group.finish();
}

/// The request that finds the parts due pays for it.
fn ticks(criterion: &mut Criterion) {
    let (fair, shares) = limiter(10_000);
    let mut now = 40_000 * SECOND;
    // From here on they are due at whole tenths of a second.
    fair.wanted(&shares[0], now);
    let mut tick = |count: u64, turn: bool| {
        let mut spent = Duration::ZERO;
        let mut counted = 0;
        while counted < count {
            for share in &shares {
                fair.wanted(share, now + TICK / 2);
            }
            now += TICK;
            let began = Instant::now();
            fair.wanted(&shares[0], now);
            let took = began.elapsed();
            if now.is_multiple_of(SECOND) == turn {
                spent += took;
                counted += 1;
            }
        }
        spent
    };
    let mut group = criterion.benchmark_group("limits");
    group.sample_size(20);
    group.bench_function("parts of 10000", |bencher| bencher.iter_custom(|count| tick(count, false)));
    group.bench_function("parts of 10000, turn of a second", |bencher| bencher.iter_custom(|count| tick(count, true)));
    group.finish();
}

/// Not a time: bytes of the process for each tenant that has asked once and has figures.
fn memory(_: &mut Criterion) {
    const TENANTS: u64 = 100_000;
    let Some(before) = resident() else { return };
    let (fair, shares) = limiter(TENANTS);
    for tick in 0..15 {
        for share in &shares {
            fair.wanted(share, 40_000 * SECOND + tick * TICK);
        }
    }
    let after = resident().unwrap_or(before);
    eprintln!("limits/memory of a tenant, among {TENANTS}: {} bytes", after.saturating_sub(before) / TENANTS);
}

fn resident() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    Some(line.split_whitespace().next()?.parse::<u64>().ok()? * 1024)
}

criterion_group!(benches, memory, decisions, admissions, ticks);
criterion_main!(benches);
