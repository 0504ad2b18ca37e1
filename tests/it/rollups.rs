//! What is counted of records agrees with a model that made them up: counts exactly, quantiles within the sketch's error, whichever
//! process counts which part, and in whichever order.

#![allow(
    clippy::cast_possible_truncation,
    clippy::cast_possible_wrap,
    clippy::cast_precision_loss,
    clippy::cast_sign_loss,
    reason = "numbers of a test"
)]

use std::collections::BTreeMap;
use std::sync::Arc;

use mcp_registry_gateway::analytics::{Analytics, Switches};
use mcp_registry_gateway::audit::Record;
use mcp_registry_gateway::id::TenantId;
use mcp_registry_gateway::sketch::ERROR;
use mcp_registry_gateway::store::rollups::Span;
use mcp_registry_gateway::telemetry::Metrics;
use rand::rngs::SmallRng;
use rand::{RngExt as _, SeedableRng as _};
use serde_json::json;
use uuid::Uuid;

/// A Sunday.
const START: i64 = 1_782_000_000 / 86_400 * 86_400;
const DAYS: i64 = 2;
const RECORDS: usize = 3_000;
const TENANTS: [&str; 3] = ["default", "acme", ""];
const OUTCOMES: [&str; 6] = ["success", "success", "tool_error", "error", "denied", "rate_limited"];

fn user(tenant: &str, number: u128) -> Uuid {
    Uuid::from_u128(number + if tenant == "acme" { 100 } else { 0 })
}

/// Records of two days in the order of their time.
pub fn made_up(seed: u64) -> Vec<Record> {
    let mut luck = SmallRng::seed_from_u64(seed);
    let mut times: Vec<i64> =
        (0..RECORDS).map(|_| START * 1_000_000 + luck.random_range(0..DAYS * 86_400_000_000)).collect();
    times.sort_unstable();
    times.into_iter().map(|at| one(&mut luck, at)).collect()
}

fn one(luck: &mut SmallRng, at: i64) -> Record {
    let tenant = TENANTS[luck.random_range(0..TENANTS.len())];
    let (action, surface) = [
        ("tools/call", "mcp"),
        ("tools/call", "mcp"),
        ("tools/list", "mcp"),
        ("GET /api/v1/me", "admin"),
        ("auth.login", "oauth"),
        ("session.end", "background"),
    ][luck.random_range(0..6)];
    let outcome = if surface == "background" { "success" } else { OUTCOMES[luck.random_range(0..OUTCOMES.len())] };
    let mut record = json!({
        "id": Uuid::now_v7(), "at": at, "instance": Uuid::nil(), "surface": surface, "action": action, "outcome": outcome,
        "total_us": 2_u64.pow(luck.random_range(3..23)) + luck.random_range(0..1000), "upstream_us": luck.random_range(0..2000),
        "request_bytes": luck.random_range(0..5000), "response_bytes": luck.random_range(0..50_000),
    });
    let mut set = |name: &str, value: serde_json::Value| record[name] = value;
    if !tenant.is_empty() {
        set("tenant", tenant.into());
        set("user", json!(user(tenant, luck.random_range(0..5))));
        set("credential", json!(Uuid::from_u128(luck.random_range(0..9))));
        set("session_type", ["api_key", "oauth"][luck.random_range(0..2)].into());
    }
    if action == "tools/call" {
        set("server", ["files", "search"][luck.random_range(0..2)].into());
        set("name", ["read", "write", "find"][luck.random_range(0..3)].into());
    }
    if action == "session.end" {
        set("reason", ["logout", "timeout"][luck.random_range(0..2)].into());
    } else if outcome != "success" {
        set("reason", ["broken", "slow"][luck.random_range(0..2)].into());
    }
    serde_json::from_value(record).unwrap()
}

/// One that counts all that there is.
pub fn analytics() -> Analytics {
    Analytics::new(Switches { users: true, behaviour: true }, Uuid::nil(), Arc::new(Metrics::new(1000)))
}

fn of<'a>(records: &'a [Record], tenant: &'a str) -> impl Iterator<Item = &'a Record> {
    records.iter().filter(move |record| record.tenant.as_deref().unwrap_or_default() == tenant)
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "as filters call it")]
fn is_call(record: &&Record) -> bool {
    !record.action.contains('.')
}

fn day(record: &Record) -> i64 {
    (record.at / 1_000_000 - START) / 86_400
}

/// The one of that rank.
fn exact(times: &mut [u64], part: f64) -> f64 {
    times.sort_unstable();
    times[((part * times.len() as f64).ceil() as usize).max(1) - 1] as f64
}

on_both! {
    async fn two_processes_count_together_what_the_model_knows(db) {
        let (one, other) = (db.open().await, db.open().await);
        let tenants = [TenantId::default_tenant(), one.add_tenant("acme", "Acme").await.unwrap()];
        let records = made_up(7);
        // Every other batch is another process's, at the same time as the next.
        let (first, second) = (analytics(), analytics());
        let batches: Vec<&[Record]> = records.chunks(150).collect();
        for pair in batches.chunks(2) {
            let (mine, others) = (first.fold(pair[0]), second.fold(pair.get(1).copied().unwrap_or_default()));
            let (mine, others) = tokio::join!(one.add_increments(&mine), other.add_increments(&others));
            mine.unwrap();
            others.unwrap();
            first.settle();
            second.settle();
        }
        for tenant in tenants {
            let name = tenant.as_str();
            for (span, at) in [(Span::Hour, 0..DAYS * 86_400), (Span::Day, 0..DAYS * 86_400), (Span::Minute, 0..DAYS * 86_400),
                (Span::Day, 0..86_400), (Span::Hour, 7_200..50_400)] {
                let range = START + at.start..START + at.end;
                let within = |record: &&Record| range.contains(&(record.at / 1_000_000));
                let calls: Vec<&Record> = of(&records, name).filter(is_call).filter(within).collect();
                let count = |outcome: &str| calls.iter().filter(|call| call.outcome == outcome).count() as i64;
                let sum = |field: fn(&Record) -> u64| calls.iter().map(|call| field(call)).sum::<u64>() as i64;
                let all = one.call_totals(Some(&tenant), span, range.clone()).await.unwrap();
                assert_eq!(
                    (all.calls, all.tool_errors, all.errors, all.denied, all.rate_limited),
                    (calls.len() as i64, count("tool_error"), count("error"), count("denied"), count("rate_limited"))
                );
                assert_eq!((all.request_bytes, all.response_bytes, all.total_us, all.upstream_us), (
                    sum(|call| call.request_bytes), sum(|call| call.response_bytes), sum(|call| call.total_us),
                    sum(|call| call.upstream_us.min(call.total_us)),
                ));
                let good = |range: std::ops::RangeInclusive<u64>| {
                    calls.iter().filter(|call| call.outcome == "success" && range.contains(&call.total_us)).count() as i64
                };
                assert_eq!((all.satisfied, all.tolerated), (good(0..=1_000_000), good(1_000_001..=4_000_000)));
                let times = one.call_times(&tenant, span, range.clone(), None).await.unwrap();
                for part in [0.5, 0.95, 0.99] {
                    let exact = exact(&mut calls.iter().map(|call| call.total_us).collect::<Vec<_>>(), part);
                    let found = times.quantile(part).unwrap();
                    assert!((found - exact).abs() <= exact * ERROR, "{part}: {found} for {exact}");
                }
            }
            check_names(&one, &records, &tenant).await;
            check_users(&one, &records, &tenant).await;
        }
        let range = START..START + DAYS * 86_400;
        let all = one.call_totals(None, Span::Day, range.clone()).await.unwrap();
        assert_eq!(all.calls, records.iter().filter(|record| record.tenant.is_some()).filter(is_call).count() as i64);
        let by_tenant = one.calls_by_tenant(Span::Day, range).await.unwrap();
        assert_eq!(by_tenant.iter().map(|(_, calls)| calls).sum::<i64>(), all.calls);
        assert_eq!(by_tenant.iter().map(|(tenant, _)| tenant.as_str()).collect::<Vec<_>>(), ["acme", "default"]);
    }
}

async fn check_names(store: &mcp_registry_gateway::store::Store, records: &[Record], tenant: &TenantId) {
    let (name, range) = (tenant.as_str(), START..START + DAYS * 86_400);
    let mut tools: BTreeMap<(&str, &str), (i64, i64)> = BTreeMap::new();
    for call in of(records, name).filter(|record| record.action == "tools/call") {
        let tool = tools.entry((call.server.as_deref().unwrap(), call.name.as_deref().unwrap())).or_default();
        tool.0 += 1;
        tool.1 += i64::from(matches!(&*call.outcome, "error" | "tool_error"));
    }
    let found = store.top_tools(tenant, Span::Hour, range.clone(), 3).await.unwrap();
    let most: Vec<i64> = found.iter().map(|tool| tool.calls).collect();
    let mut expected: Vec<i64> = tools.values().map(|tool| tool.0).collect();
    expected.sort_unstable_by(|one, other| other.cmp(one));
    assert_eq!(most, expected[..3]);
    for tool in found {
        assert_eq!((tool.calls, tool.failed), tools[&(tool.server.as_str(), tool.name.as_str())]);
        let times = store.call_times(tenant, Span::Day, range.clone(), Some((&tool.server, &tool.name))).await.unwrap();
        assert_eq!(times.count() as i64, tool.calls);
    }

    let count = |of_it: &dyn Fn(&&Record) -> bool| of(records, name).filter(|record| of_it(record)).count() as i64;
    let logins = store.event_totals(Some(tenant), Span::Day, range.clone(), "auth").await.unwrap();
    let logins: i64 =
        logins.iter().filter(|sum| sum.what == "login" && sum.result == "success").map(|sum| sum.count).sum();
    assert_eq!(logins, count(&|record| record.action == "auth.login" && record.outcome == "success"));
    let hours = store.events_by_hour(tenant, range.clone(), "login").await.unwrap();
    for (hour, logins) in hours.into_iter().enumerate() {
        let then = |record: &&Record| (record.at / 3_600_000_000) % 24 == hour as i64;
        assert_eq!(logins, count(&|r| r.action == "auth.login" && r.outcome == "success" && then(r)), "{hour}");
    }
    let ended = store.event_totals(Some(tenant), Span::Hour, range.clone(), "session").await.unwrap();
    assert_eq!(ended.iter().map(|sum| sum.count).sum::<i64>(), count(&|record| record.action == "session.end"));
    for reason in ["logout", "timeout"] {
        let mine = || of(records, name).filter(|r| r.action == "session.end" && r.reason.as_deref() == Some(reason));
        let sums: i64 = ended.iter().filter(|sum| sum.reason == reason).map(|sum| sum.lasted_us).sum();
        assert_eq!(sums, mine().map(|record| record.total_us).sum::<u64>() as i64);
        let last = ended.iter().filter(|sum| sum.reason == reason).map(|sum| sum.last_at).max();
        assert_eq!(last, mine().map(|record| record.at).max());
        let times = store.event_times(tenant, Span::Day, range.clone(), "session", reason).await.unwrap();
        let exact = exact(&mut mine().map(|record| record.total_us).collect::<Vec<_>>(), 0.9);
        assert!((times.quantile(0.9).unwrap() - exact).abs() <= exact * ERROR);
    }
}

async fn check_users(store: &mcp_registry_gateway::store::Store, records: &[Record], tenant: &TenantId) {
    let (name, range) = (tenant.as_str(), START..START + DAYS * 86_400);
    for number in 0..5 {
        let user = user(name, number);
        let mine = || of(records, name).filter(|record| record.user == Some(user));
        let calls = || mine().filter(is_call);
        for (span, days) in [(Span::Hour, 0..2), (Span::Day, 1..2)] {
            let then = |record: &&Record| days.contains(&day(record));
            let range = START + days.start * 86_400..START + days.end * 86_400;
            let sums = store.user_totals(tenant, user, span, range).await.unwrap();
            let failed = |record: &&Record| matches!(&*record.outcome, "error" | "tool_error");
            assert_eq!(
                (sums.operations, sums.tool_calls, sums.errors),
                (
                    calls().filter(then).count() as i64,
                    calls().filter(then).filter(|record| record.action == "tools/call").count() as i64,
                    calls().filter(then).filter(failed).count() as i64,
                )
            );
        }
        let mut words: BTreeMap<(String, String, String), i64> = BTreeMap::new();
        for sum in store.user_words(tenant, user, range.clone()).await.unwrap() {
            words.insert((sum.kind, sum.place, sum.word), sum.count);
        }
        let tools = words.iter().filter(|((kind, ..), _)| kind == "tool").map(|(_, count)| count).sum::<i64>();
        assert_eq!(tools, calls().filter(|record| record.action == "tools/call").count() as i64);
        let logins = words.iter().filter(|((kind, ..), _)| kind == "login").map(|(_, count)| count).sum::<i64>();
        assert_eq!(logins, mine().filter(|r| r.action == "auth.login" && r.outcome == "success").count() as i64);
    }
    let end = (START + DAYS * 86_400) * 1_000_000;
    let active = store.active_accounts(end - 3_600_000_000).await.unwrap();
    let users: std::collections::BTreeSet<Uuid> = of(records, name)
        .filter(|record| record.at >= end - 3_600_000_000)
        .filter(|record| is_call(record) || (record.action == "auth.login" && record.outcome == "success"))
        .filter_map(|record| record.user)
        .collect();
    let found = active.iter().find(|(tenant, _)| tenant == name).map_or(0, |(_, count)| *count);
    assert_eq!(found, users.len() as i64);
}

on_both! {
    async fn periods_go_when_they_are_old_and_with_their_tenant(db) {
        let store = db.open().await;
        let tenant = store.add_tenant("acme", "Acme").await.unwrap();
        let analytics = analytics();
        let records = made_up(3);
        store.add_increments(&analytics.fold(&records)).await.unwrap();
        let all = || store.call_totals(Some(&tenant), Span::Hour, 0..i64::MAX);
        let before = all().await.unwrap().calls;
        while store.purge_rollups(Span::Hour, START + 86_400).await.unwrap() > 0 {}
        let second = of(&records, "acme").filter(is_call).filter(|record| day(record) == 1).count() as i64;
        assert!(before > second && all().await.unwrap().calls == second);
        let days = store.call_totals(Some(&tenant), Span::Day, 0..i64::MAX).await.unwrap();
        assert_eq!(days.calls, before, "others stay");
        store.purge_tenant(&tenant, None).await.unwrap();
        // A record that came late.
        store.add_increments(&analytics.fold(&records[..500])).await.unwrap();
        for span in [Span::Minute, Span::Hour, Span::Day] {
            assert_eq!(store.call_totals(Some(&tenant), span, 0..i64::MAX).await.unwrap().calls, 0);
        }
        assert_eq!(store.user_totals(&tenant, user("acme", 1), Span::Day, 0..i64::MAX).await.unwrap().operations, 0);
        assert!(store.event_totals(Some(&tenant), Span::Day, 0..i64::MAX, "auth").await.unwrap().is_empty());
    }
}
