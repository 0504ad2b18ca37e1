//! How long each report takes when there is much to tell of: sixty tenants, ninety days by the hour, a million rows. Prints it; asserts
//! nothing about time.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use mcp_registry_gateway::sketch::Sketch;
use mcp_registry_gateway::store::now;
use mcp_registry_gateway::store::rollups::{
    CallKey, CallSums, CallTotals, EventKey, EventSums, Increments, Period, Span, UserKey, UserSums, WordKey,
};
use mcp_registry_gateway::store::samples::Sample;
use serde_json::Value;
use uuid::Uuid;

use crate::rollups::made_up;
use crate::store_databases::Database;
use crate::store_rest::World;

const DAYS: i64 = 90;
const TENANTS: usize = 60;
const TOOLS: [&str; 3] = ["read", "write", "find"];
const ACCOUNTS: u128 = 10;
const TIMES: u32 = 20;

fn sums() -> CallSums {
    let mut latency = Sketch::default();
    (0..40_u64).for_each(|call| latency.add(900 + call * call * 37));
    let totals =
        CallTotals { calls: 40, total_us: 4_000_000, upstream_us: 3_000_000, satisfied: 40, ..CallTotals::default() };
    CallSums { totals, latency }
}

/// What happened in one day.
fn of_day<'a>(tenants: &'a [String], day: i64, sums: &CallSums) -> Increments<'a> {
    let mut all = Increments::default();
    let mut add = |tenant: &'a str, period: Period| {
        let whole = CallKey { tenant, period, server: "", method: "", name: "" };
        all.calls.insert(whole, sums.clone());
        for name in TOOLS {
            all.calls.insert(CallKey { server: "files", method: "tools/call", name, ..whole }, sums.clone());
        }
        let event = EventKey { tenant, period, kind: "auth", what: "api_key", result: "success", reason: "" };
        let one = EventSums { count: 40, ..EventSums::default() };
        all.events.insert(event, one.clone());
        all.events.insert(EventKey { what: "login", result: "failure", reason: "AADSTS50057", ..event }, one.clone());
        all.events.insert(EventKey { kind: "session", what: "oauth", result: "ended", reason: "logout", ..event }, one);
    };
    let start = day * 86_400;
    for tenant in tenants {
        for hour in 0..24 {
            add(tenant, Period { span: Span::Hour, at: start + hour * 3_600 });
        }
        add(tenant, Period { span: Span::Day, at: start });
    }
    for (number, tenant) in (0..).zip(tenants) {
        for account in 0..ACCOUNTS {
            let user = Uuid::from_u128(number * 1_000 + account);
            let doings = UserSums { operations: 9, tool_calls: 5, errors: 0, last_at: start * 1_000_000 };
            let day = Period { span: Span::Day, at: start };
            all.users.insert(UserKey { tenant, period: day, user }, doings);
            for hour in 0..4 {
                let period = Period { span: Span::Hour, at: start + (8 + hour) * 3_600 };
                all.users.insert(UserKey { tenant, period, user }, doings);
            }
            let words: BTreeMap<WordKey<'a>, i64> = TOOLS[..2]
                .iter()
                .map(|word| (WordKey { tenant, user, day, kind: "tool", place: "files", word }, 5))
                .collect();
            all.words.extend(words);
        }
    }
    all
}

async fn reports_of_ninety_days(db: &Database) {
    let world = World::open(db).await;
    let store = &world.app.store;
    let mut tenants = vec!["default".to_owned()];
    for number in 1..TENANTS {
        let name = format!("t{number}");
        store.add_tenant(&name, &name).await.unwrap();
        tenants.push(name);
    }
    let (today, sums) = (now().unix_timestamp() / 86_400, sums());
    let mut rows = 0;
    for day in today - DAYS + 1..=today {
        let increments = of_day(&tenants, day, &sums);
        rows += increments.calls.len() + increments.events.len() + increments.users.len() + increments.words.len();
        store.add_increments(&increments).await.unwrap();
    }
    for minute in 0..DAYS * 1_440 / 10 {
        let at = now().unix_timestamp() - minute * 600;
        let sample = Sample {
            at,
            instance: Uuid::nil(),
            seconds: 600.0,
            requests: minute,
            sessions: 5,
            sessions_limit: 100,
            pool_limit: 10,
            ..Sample::default()
        };
        store.add_sample(&sample).await.unwrap();
    }
    for minute in 0..2 * 1_440 {
        store.beat(now().unix_timestamp() / 60 - minute).await.unwrap();
    }
    eprintln!("{rows} rows");
    let me = world.call("GET /me", Value::Null).await.expect(200).json();
    let user = me["user_id"].as_str().unwrap().to_owned();
    for path in [
        "multi-user-status",
        "tenant-analytics/t7",
        &format!("user-activity/{user}"),
        "capacity-status",
        "diagnostics/auth-failures",
        "diagnostics/memory",
        "daily-health-report?history=30",
    ] {
        let mut longest = Duration::ZERO;
        let began = Instant::now();
        for _ in 0..TIMES {
            let one = Instant::now();
            world.call(&format!("GET /admin/{path}"), Value::Null).await.expect(200);
            longest = longest.max(one.elapsed());
        }
        eprintln!(
            "{path}: {:.1} ms on average, {:.1} ms at most",
            (began.elapsed() / TIMES).as_secs_f64() * 1e3,
            longest.as_secs_f64() * 1e3
        );
    }
}

/// What counting costs for each record, in batches as the trail brings them: of one minute, of two tenants.
async fn counting(db: &Database) {
    let world = World::open(db).await;
    world.app.store.add_tenant("acme", "Acme").await.unwrap();
    let mut records = made_up(1);
    for (number, record) in (0..).zip(&mut records) {
        record.at = now().unix_timestamp() * 1_000_000 + number;
    }
    let count = u32::try_from(records.len()).unwrap();
    let (mut folding, mut writing) = (Duration::ZERO, Duration::ZERO);
    for batch in records.chunks(1_000) {
        let began = Instant::now();
        let increments = world.app.analytics.fold(batch);
        folding += began.elapsed();
        let began = Instant::now();
        world.app.store.add_increments(&increments).await.unwrap();
        writing += began.elapsed();
        world.app.analytics.settle();
    }
    eprintln!("folding: {:?} a record, writing: {:?}", folding / count, writing / count);
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "takes minutes"]
async fn on_sqlite() {
    counting(&Database::sqlite()).await;
    reports_of_ninety_days(&Database::sqlite()).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "takes minutes"]
async fn on_postgresql() {
    let Some(database) = Database::postgresql().await else { return };
    counting(&Database::postgresql().await.unwrap()).await;
    reports_of_ninety_days(&database).await;
}
