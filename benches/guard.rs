//! What the guard of addresses costs each request: whether its address is banned, and that somebody who is known was let in from it.
//! With nothing banned, with many others banned, and under a ban.
//!
//! `cargo bench --bench guard`

#![allow(clippy::unwrap_used, missing_docs, reason = "a measurement")]

use std::hint::black_box;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use criterion::{Criterion, criterion_group, criterion_main};
use mcp_registry_gateway::config::{DotEnv, Settings};
use mcp_registry_gateway::limit::guard::{Guard, Wrong};
use mcp_registry_gateway::telemetry::{Metrics, Recorder};
use time::OffsetDateTime;

fn guard(criterion: &mut Criterion) {
    let settings = Settings::from_args(["--ddos-detection-threshold=1"], &DotEnv::default()).unwrap();
    let new = || {
        Guard::new(&settings.guard, &settings.listen, Duration::from_mins(5), Recorder::new(Arc::new(Metrics::new(10))))
    };
    let (good, now) = (IpAddr::from([198, 51, 100, 1]), OffsetDateTime::now_utc());
    let banned = |n: u32| IpAddr::from((0x0a00_0000 + n * 256).to_be_bytes());
    let (nobody, many) = (new(), new());
    (0..10_000).for_each(|n| many.refused(banned(n), Wrong::Throttled, now));
    let ban = many.ban_of(banned(7), now).unwrap();

    let mut group = criterion.benchmark_group("guard");
    group.bench_function("nothing is banned", |bench| bench.iter(|| nobody.ban_of(black_box(good), now)));
    group.bench_function("others are banned", |bench| bench.iter(|| many.ban_of(black_box(good), now)));
    group.bench_function("it is banned", |bench| bench.iter(|| many.ban_of(black_box(banned(7)), now)));
    group.bench_function("it is barred", |bench| bench.iter(|| many.bars(black_box(&ban), now)));
    group.bench_function("somebody is let in", |bench| bench.iter(|| many.let_in(black_box(good), 7_u64, now)));
    group.finish();
}

criterion_group!(benches, guard);
criterion_main!(benches);
