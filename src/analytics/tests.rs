use serde_json::{Value, json};
use uuid::Uuid;

use super::*;
use crate::audit::Record;
use crate::store::rollups::{CallKey, CallSums, CallTotals, EventKey, Span};

const DAY: i64 = 1_782_000_000 / 86_400 * 86_400;

fn analytics(users: bool, behaviour: bool) -> Analytics {
    Analytics::new(Switches { users, behaviour }, Uuid::nil(), Arc::new(Metrics::new(100)))
}

/// A record at so many seconds of a day, with these fields besides.
fn record(second: i64, action: &str, more: &Value) -> Record {
    let mut record = json!({
        "id": Uuid::now_v7(), "at": (DAY + second) * 1_000_000, "instance": Uuid::nil(), "surface": "mcp", "action": action,
        "tenant": "acme", "outcome": "success",
    });
    record.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    serde_json::from_value(record).unwrap()
}

fn call(second: i64, session: &str, tool: &str) -> Record {
    record(second, "tools/call", &json!({"session": session, "server": "files", "name": tool, "total_us": 1500}))
}

fn patterns(increments: &Increments<'_>) -> Vec<(String, i64)> {
    let days = increments.events.iter().filter(|(key, _)| key.kind == "pattern" && key.period.span == Span::Day);
    days.map(|(key, sums)| (key.what.to_owned(), sums.count)).collect()
}

#[test]
fn a_call_is_counted_once_in_each_period_and_under_its_name_in_the_long_ones() {
    let analytics = analytics(true, true);
    let more = json!({"server": "files", "name": "read", "total_us": 1_500_000, "upstream_us": 1_400_000,
        "request_bytes": 7, "response_bytes": 9});
    let records = [record(3_725, "tools/call", &more)];
    let calls = analytics.fold(&records).calls;
    let keys: Vec<(Span, i64, &str, &str)> =
        calls.keys().map(|key| (key.period.span, key.period.at - DAY, key.method, key.name)).collect();
    assert_eq!(
        keys,
        [
            (Span::Minute, 3_720, "", ""),
            (Span::Hour, 3_600, "", ""),
            (Span::Hour, 3_600, "tools/call", "read"),
            (Span::Day, 0, "", ""),
            (Span::Day, 0, "tools/call", "read"),
        ]
    );
    for CallSums { totals, latency } in calls.values() {
        let CallTotals { calls, total_us, upstream_us, satisfied, tolerated, .. } = totals;
        assert_eq!((*calls, *total_us, *upstream_us, *satisfied, *tolerated), (1, 1_500_000, 1_400_000, 0, 1));
        assert_eq!(latency.count(), 1);
    }
}

#[test]
fn a_batch_that_was_not_stored_leaves_nothing_behind() {
    let analytics = analytics(true, true);
    let first = [call(0, "s", "a"), call(1, "s", "a")];
    let second = [call(2, "s", "a")];
    analytics.fold(&first);
    analytics.fold(&first);
    analytics.settle();
    for _ in 0..3 {
        assert_eq!(patterns(&analytics.fold(&second)), [("repetitive_usage".to_owned(), 1)]);
    }
    assert_eq!(analytics.metrics.behavior_patterns.with(["acme", "repetitive_usage"]).get(), 0);
    analytics.settle();
    analytics.settle();
    assert_eq!(analytics.metrics.behavior_patterns.with(["acme", "repetitive_usage"]).get(), 1);
    assert_eq!(analytics.metrics.tenant_activity.with(["acme", "tool_call", "tool"]).get(), 3);
    assert_eq!(analytics.metrics.analytics_records.with([]).get(), 3);
}

#[test]
fn sessions_are_looked_at_apart_and_begin_anew_after_half_an_hour() {
    let analytics = analytics(true, true);
    let list = |second, session: &str| record(second, "tools/list", &json!({"session": session}));
    let records = [
        list(0, "one"),
        call(1, "one", "a"),
        call(1, "two", "a"),
        call(2, "one", "b"),
        call(2, "two", "a"),
        call(1_802, "two", "a"),
        call(1_803, "two", "a"),
        call(1_804, "two", "a"),
    ];
    let mut found = patterns(&analytics.fold(&records));
    found.sort();
    assert_eq!(found, [("browse_then_action".to_owned(), 1), ("repetitive_usage".to_owned(), 1)]);
}

#[test]
fn what_is_switched_off_is_not_counted() {
    let user = json!({"user": Uuid::nil(), "credential": Uuid::nil(), "session_type": "api_key", "name": "a"});
    let records = [
        record(0, "tools/call", &user),
        record(1, "tools/call", &user),
        record(2, "tools/call", &user),
        record(3, "auth.login", &json!({"user": Uuid::nil()})),
    ];
    let all = analytics(true, true);
    let increments = all.fold(&records);
    assert!(!increments.users.is_empty() && !increments.words.is_empty() && !patterns(&increments).is_empty());
    let none = analytics(false, false);
    let increments = none.fold(&records);
    assert!(increments.users.is_empty() && increments.words.is_empty());
    let kinds: Vec<&str> = increments.events.keys().map(|key: &EventKey<'_>| key.kind).collect();
    assert!(kinds.iter().all(|kind| *kind == "auth"), "{kinds:?}");
    assert!(increments.calls.keys().any(|key: &CallKey<'_>| key.name == "a"));
}

#[test]
fn what_clients_make_up_is_no_key() {
    let analytics = analytics(true, true);
    let records =
        [record(0, "made/up", &json!({"name": "x"})), record(0, "resources/read", &json!({"name": "file:///x"}))];
    let calls = analytics.fold(&records).calls;
    assert!(calls.keys().all(|key| key.name.is_empty() && key.method != "made/up"), "{calls:?}");
    assert!(calls.keys().any(|key| key.method == "other"));
}

#[test]
fn events_are_no_operations() {
    let operation = |surface: &str, action: &str| is_operation(&record(0, action, &json!({"surface": surface})));
    for (surface, action) in
        [("mcp", "tools/call"), ("mcp", "GET"), ("admin", "GET /api/v1/me"), ("oauth", "POST /oauth/token")]
    {
        assert!(operation(surface, action), "{action}");
    }
    for (surface, action) in
        [("background", "token.refresh"), ("oauth", "auth.login"), ("admin", "session.end"), ("cli", "keys rotate")]
    {
        assert!(!operation(surface, action), "{action}");
    }
}
