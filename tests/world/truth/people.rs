//! What the reports of people, tenants and sign-ins must say.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use testkit::workload::{Deed, End, Happening, Time};

use super::compare::{Expect, Expected};
use super::facts::{Facts, between, bounds, mean, quantile};
use super::scene::Scene;

/// The least and the most that each lasted, microseconds.
type Lasted = Vec<(u64, u64)>;

const MINUTE: u64 = 60_000_000;
const HOUR: u64 = 60 * MINUTE;

/// Sign-ins by the hour of the day.
fn by_hour<'a>(at: &str, times: impl Iterator<Item = &'a Time>) -> Expected {
    let times: Vec<&Time> = times.collect();
    let hour = |hour: u64| {
        // The workload is over within a day: each hour of the day is one hour, or none.
        let first = times.iter().map(|time| time.began / HOUR).min().unwrap_or_default();
        let from = (first + (hour + 24 - first % 24) % 24) * HOUR;
        (format!("{at}[{hour}]"), between(times.iter().copied(), from, from + HOUR))
    };
    (0..24).map(hour).collect()
}

/// `multi-user-status`.
pub fn status(scene: &Scene<'_>) -> Expected {
    let mut all = scene.envelope("cluster", &["connection_pool.pool_utilization", "token_refresh.success_rate"]);
    all.insert("window_seconds".into(), 300.into());
    let facts = scene.facts;
    let mut users = 0;
    // The minute before this one; the report may have been made on either side of its end.
    let [from, until] = [scene.read.began, scene.read.ended].map(|time| time / MINUTE * MINUTE);
    let (mut least, mut most) = (0.0, 0.0);
    for (at, tenant) in facts.tenants().into_iter().enumerate() {
        let mut put = |field: &str, value: Expect| _ = all.insert(format!("tenants[{at}].{field}"), value);
        let active = facts.accounts(tenant).len() as i64;
        users += active;
        put("tenant_id", tenant.into());
        put("active_users", active.into());
        put("sessions", (scene.signed_in(tenant, None) + scene.open(tenant)).into());
        let times: Vec<&Time> = facts.of(tenant).map(|deed| &deed.time).collect();
        let Expect::Within(possibly_low, _) = between(times.iter().copied(), until.max(from) - MINUTE, from) else {
            continue;
        };
        let Expect::Within(_, high) = between(times.into_iter(), from - MINUTE, until) else { continue };
        (least, most) = (least + possibly_low, most + high);
        put("requests_last_minute", Expect::Within(possibly_low, high));
    }
    all.insert("active_users".into(), users.into());
    all.insert("rate_limiting.used_last_minute".into(), Expect::Within(least, most));
    all.insert("rate_limiting.enabled".into(), true.into());
    all.insert("rate_limiting.global_rpm".into(), 10_000_000.into());
    let banned = facts.count(|what| matches!(what, Happening::Ban { .. }))
        - facts.count(|what| matches!(what, Happening::Lift { .. }));
    all.insert("rate_limiting.banned_addresses".into(), banned.into());
    all.extend(scene.hits("rate_limiting.hits"));
    // A stream on which the gateway listens takes no place.
    all.insert("connection_pool.in_use".into(), 0.into());
    all.insert("connection_pool.limit".into(), (100 * scene.workload.tenants.len()).into());
    let (good, bad) = scene.refreshes();
    all.insert("token_refresh.successful".into(), good.into());
    all.insert("token_refresh.failed".into(), bad.into());
    all.insert("token_refresh.success_rate".into(), Expect::ratio(good, good + bad));
    all
}

/// `tenant-analytics`.
pub fn tenant(scene: &Scene<'_>, tenant: &str) -> Expected {
    let facts = scene.facts;
    let mut all = scene.envelope("cluster", &[]);
    let mut put = |field: &str, value: Expect| _ = all.insert(field.to_owned(), value);
    put("tenant_id", tenant.into());
    put("active_users", facts.accounts(tenant).len().into());
    put("resource_utilization.cpu_seconds", Value::Null.into());
    put("resource_utilization.memory_bytes", Value::Null.into());
    put("resource_utilization.connections", scene.open(tenant).into());
    let deeds: Vec<&Deed> = facts.of(tenant).collect();
    let errors = deeds.iter().filter(|deed| matches!(deed.end, End::Error { .. })).count() as i64;
    put("performance_metrics.requests", deeds.len().into());
    put("performance_metrics.error_rate", Expect::ratio(errors, deeds.len() as i64));
    let times = bounds(deeds.iter().copied());
    for (field, part) in [("p50", 0.5), ("p95", 0.95), ("p99", 0.99)] {
        put(&format!("performance_metrics.{field}"), quantile(&times, part));
    }
    put("top_tools", json!([]).into());
    let tools = tools(deeds.iter().copied());
    for (at, ((server, tool), calls)) in tools.iter().take(10).enumerate() {
        all.remove("top_tools");
        let failed = calls.iter().filter(|deed| matches!(deed.end, End::Error { .. } | End::ToolError)).count() as i64;
        let times = bounds(calls.iter().copied());
        let fields: [(&str, Expect); 6] = [
            ("server", (*server).into()),
            ("tool", (*tool).into()),
            ("calls", calls.len().into()),
            ("error_rate", Expect::ratio(failed, calls.len() as i64)),
            ("mean", mean(&times)),
            ("p95", quantile(&times, 0.95)),
        ];
        all.extend(fields.into_iter().map(|(field, value)| (format!("top_tools[{at}].{field}"), value)));
    }
    let mut patterns: BTreeMap<&str, i64> = BTreeMap::new();
    for ((of, _, pattern), count) in facts.patterns() {
        if of == tenant {
            *patterns.entry(pattern).or_default() += count;
        }
    }
    all.extend(members("behavior_patterns", patterns.into_iter().map(|(name, count)| (name.to_owned(), count))));
    let came = facts.sign_ins().filter(|sign_in| sign_in.0 == tenant && sign_in.3.is_none());
    all.extend(by_hour("logins_by_hour", came.map(|sign_in| &sign_in.4.time)));
    all.extend(durations(facts, tenant));
    all
}

/// Counts by name; an empty object where there are none.
fn members(at: &str, counts: impl Iterator<Item = (String, i64)>) -> Expected {
    let all: Expected = counts.map(|(name, count)| (format!("{at}.{name}"), count.into())).collect();
    if all.is_empty() { [(at.to_owned(), json!({}).into())].into() } else { all }
}

/// Calls by server and tool, the most first.
fn tools<'a>(deeds: impl Iterator<Item = &'a Deed>) -> Vec<((&'a str, &'a str), Vec<&'a Deed>)> {
    let mut all: BTreeMap<(&str, &str), Vec<&Deed>> = BTreeMap::new();
    for deed in deeds.filter(|deed| deed.action == "tools/call" && !deed.name.is_empty()) {
        all.entry((&deed.server, &deed.name)).or_default().push(deed);
    }
    let mut all: Vec<_> = all.into_iter().collect();
    all.sort_by_key(|(_, calls)| std::cmp::Reverse(calls.len()));
    all
}

fn durations(facts: Facts<'_>, tenant: &str) -> Expected {
    let mut ended: BTreeMap<&str, Vec<(u64, u64)>> = BTreeMap::new();
    for event in facts.events() {
        if let Happening::SessionEnd { tenant: of, reason, lasted } = &event.what
            && of == tenant
        {
            ended.entry(reason).or_default().push(*lasted);
        }
    }
    if ended.is_empty() {
        return [("session_durations".to_owned(), json!([]).into())].into();
    }
    let of = |(at, (reason, times)): (usize, (&str, Lasted))| {
        let fields: [(&str, Expect); 5] = [
            ("end_reason", reason.into()),
            ("count", times.len().into()),
            ("mean", mean(&times)),
            ("p50", quantile(&times, 0.5)),
            ("p95", quantile(&times, 0.95)),
        ];
        fields.map(|(field, value)| (format!("session_durations[{at}].{field}"), value))
    };
    ended.into_iter().enumerate().flat_map(of).collect()
}

/// `user-activity`.
pub fn user(scene: &Scene<'_>, tenant: &str, user: &str, name: &str) -> Expected {
    let facts = scene.facts;
    let mut all = scene.envelope("cluster", &[]);
    let did: Vec<&Deed> =
        facts.of(tenant).filter(|deed| deed.who.as_ref().is_some_and(|who| who.user == user)).collect();
    let failed: Vec<&&Deed> =
        did.iter().filter(|deed| matches!(deed.end, End::Error { .. } | End::ToolError)).collect();
    let mut put = |field: &str, value: Expect| _ = all.insert(field.to_owned(), value);
    put("user_id", user.into());
    put("tenant_id", tenant.into());
    put("username", name.into());
    put("sessions", scene.signed_in(tenant, Some(user)).into());
    put("operations", did.len().into());
    put(
        "operations_today",
        if scene.is_of_one_day() { did.len().into() } else { Expect::Within(0.0, did.len() as f64) },
    );
    put("tool_calls", did.iter().filter(|deed| deed.action == "tools/call").count().into());
    put("errors", failed.len().into());
    put("last_seen", Expect::Text(super::scene::is_time));
    let mut reasons: BTreeMap<String, i64> = BTreeMap::new();
    for deed in failed {
        let reason = if let End::Error { kind, .. } = deed.end { kind } else { deed.end.label() };
        *reasons.entry(reason.to_owned()).or_default() += 1;
    }
    all.extend(members("errors_by_reason", reasons.into_iter()));
    let patterns = facts.patterns().into_iter().filter(|((of, who, _), _)| (*of, *who) == (tenant, user));
    all.extend(members("behavior_patterns", patterns.map(|((_, _, pattern), count)| (pattern.to_owned(), count))));
    let tools = tools(did.iter().copied());
    if tools.is_empty() {
        all.insert("tools".into(), json!([]).into());
    }
    for (at, ((server, tool), calls)) in tools.iter().take(20).enumerate() {
        let fields: [(&str, Expect); 3] =
            [("server", (*server).into()), ("tool", (*tool).into()), ("calls", calls.len().into())];
        all.extend(fields.into_iter().map(|(field, value)| (format!("tools[{at}].{field}"), value)));
    }
    let came = facts.sign_ins().filter(|sign_in| (sign_in.0, sign_in.1) == (tenant, user) && sign_in.3.is_none());
    all.extend(by_hour("logins_by_hour", came.map(|sign_in| &sign_in.4.time)));
    all
}

/// `diagnostics/auth-failures`.
pub fn failures(scene: &Scene<'_>) -> Expected {
    let mut all = scene.envelope("cluster", &["token_refresh_failures"]);
    let mut failed: BTreeMap<(&str, &str), (i64, u64, u64)> = BTreeMap::new();
    for ((_, how, good, why), (count, began, ended)) in scene.facts.authentications() {
        if !good {
            let of = failed.entry((how, why)).or_default();
            *of = (of.0 + count, of.1.max(began), of.2.max(ended));
        }
    }
    let invalid = failed.iter().filter(|((how, _), _)| ["validate", "api_key"].contains(how)).map(|(_, of)| of.0);
    all.insert("invalid_token_errors".into(), invalid.sum::<i64>().into());
    all.insert("login_timeout_errors".into(), 0.into());
    let (good, bad) = scene.refreshes();
    all.insert("token_refresh_failures".into(), Expect::ratio(bad, good + bad));
    let mut failed: Vec<_> = failed.into_iter().collect();
    failed.sort_by_key(|((how, why), of)| (std::cmp::Reverse(of.0), *how, *why));
    if failed.is_empty() {
        all.insert("by_reason".into(), json!([]).into());
    }
    for (at, ((how, why), (count, ..))) in failed.into_iter().enumerate() {
        let fields: [(&str, Expect); 4] = [
            ("code", why.into()),
            ("method", how.into()),
            ("count", count.into()),
            ("last_at", Expect::Text(super::scene::is_time)),
        ];
        all.extend(fields.into_iter().map(|(field, value)| (format!("by_reason[{at}].{field}"), value)));
    }
    all
}
