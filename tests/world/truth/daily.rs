//! What the daily report must say. A day on which nothing was done before is one without figures.

use serde_json::Value;
use testkit::workload::{Deed, End, Happening};

use super::compare::{Expect, Expected};
use super::facts::{bounds, mean};
use super::scene::Scene;

/// Within it an answer satisfies, and within four times of it it is put up with; microseconds.
const SATISFIES: u64 = 1_000_000;

/// `daily-health-report`.
pub fn daily(scene: &Scene<'_>) -> Expected {
    let mut all = scene.envelope("cluster", &[]);
    let day = |back: u64| {
        let seconds = (scene.read.ended / 1_000_000 / 86_400 - back) * 86_400;
        time::OffsetDateTime::from_unix_timestamp(seconds as i64).unwrap().date().to_string()
    };
    all.insert("today".into(), day(0).into());
    all.insert("yesterday".into(), day(1).into());
    for (at, (name, target, value)) in figures(scene).into_iter().enumerate() {
        let mut put = |field: &str, value: Expect| _ = all.insert(format!("kpis[{at}].{field}"), value);
        put("name", name.into());
        put("target", target.map_or(Value::Null, Value::from).into());
        put("today.value", value);
        put("yesterday.value", Value::Null.into());
        put("yesterday.met", Value::Null.into());
        put("change", Value::Null.into());
    }
    all.extend(incidents(scene));
    all
}

/// Bans, in the order in which they began.
fn incidents(scene: &Scene<'_>) -> Expected {
    let mut bans: Vec<(&str, u64, bool)> = Vec::new();
    for event in scene.facts.events() {
        if let Happening::Ban { network, by_hand } = &event.what {
            bans.push((network, event.time.began, *by_hand));
        }
    }
    bans.sort_by_key(|ban| ban.1);
    let mut all = Expected::new();
    for (at, (network, _, by_hand)) in bans.iter().enumerate() {
        let wrong = scene.facts.count(|what| matches!(what, Happening::WrongBan { network: of } if of == network)) > 0;
        let reason = if *by_hand { "hand" } else { "refusals" };
        let what = format!("{network} was banned ({reason}){}", if wrong { ", which was wrong" } else { "" });
        all.insert(format!("incidents[{at}].kind"), "ban".into());
        all.insert(format!("incidents[{at}].what"), what.into());
        all.insert(format!("incidents[{at}].from"), Expect::Text(super::scene::is_time));
        all.insert(format!("incidents[{at}].until"), Expect::Text(super::scene::is_time));
    }
    if bans.is_empty() {
        all.insert("incidents".into(), serde_json::json!([]).into());
    }
    all
}

/// The figures of today, in the order in which they are told.
fn figures(scene: &Scene<'_>) -> Vec<(&'static str, Option<&'static str>, Expect)> {
    let facts = scene.facts;
    let authentications = facts.authentications();
    let sum =
        |good: bool| authentications.iter().filter(|((.., is, _), _)| *is == good).map(|(_, of)| of.0).sum::<i64>();
    let (good, bad) = (sum(true), sum(false));
    let done: Vec<&Deed> = facts.deeds().filter(|deed| deed.who.is_some()).collect();
    let times = bounds(done.iter().copied());
    let over: Vec<(u64, u64)> =
        done.iter().map(|deed| (0, deed.time.took().saturating_sub(deed.waited) + 500)).collect();
    let sessions: Vec<(u64, u64)> = facts
        .events()
        .filter_map(|event| if let Happening::SessionEnd { lasted, .. } = event.what { Some(lasted) } else { None })
        .collect();
    let (refreshed, failed) = scene.refreshes();
    let own = facts.count(|what| matches!(what, Happening::Ban { by_hand: false, .. }));
    let wrong = facts.count(|what| matches!(what, Happening::WrongBan { .. }));
    let (refused, abroad) = facts.abroad();
    let users: usize = facts.tenants().into_iter().map(|tenant| facts.accounts(tenant).len()).sum();
    vec![
        ("authentication_success", Some(">0.995"), Expect::ratio(good, good + bad)),
        ("token_refresh_success", Some(">0.95"), Expect::ratio(refreshed, refreshed + failed)),
        ("uptime", Some(">0.999"), Expect::MayBe(0.0, 1.0)),
        ("mean_response", Some("<100"), mean(&times)),
        ("mean_gateway_overhead", Some("<100"), mean(&over)),
        ("pool_utilization", Some("<0.8"), Expect::MayBe(0.0, 1.0)),
        ("peak_concurrent_users", Some("500"), Expect::MayBe(0.0, users as f64)),
        ("mean_session", Some("2 to 4 h"), mean(&sessions)),
        ("satisfaction", Some(">4.5"), satisfaction(&done)),
        ("authentication_failures", Some("<0.005"), Expect::ratio(bad, good + bad)),
        ("ddos_false_positives", Some("<0.01"), Expect::ratio(wrong, own)),
        ("fairness", Some(">0.99"), Expect::MayBe(0.0, 1.0)),
        ("audit_completeness", Some("1.0"), Expect::MayBe(1.0, 1.0)),
        ("tenant_isolation", Some("1.0"), Expect::ratio(refused, abroad)),
        ("tenants_active", None, facts.tenants().len().into()),
    ]
}

/// 1 + 4 · Apdex, between the least and the most that what was seen allows.
fn satisfaction(done: &[&Deed]) -> Expect {
    let worth = |micros: u64| {
        if micros <= SATISFIES {
            1.0
        } else if micros <= 4 * SATISFIES {
            0.5
        } else {
            0.0
        }
    };
    let good = done.iter().filter(|deed| deed.end == End::Success);
    let (least, most) =
        good.fold((0.0, 0.0), |(least, most), deed| (least + worth(deed.time.took()), most + worth(deed.waited)));
    let apdex = |sum: f64| 1.0 + 4.0 * sum / done.len() as f64;
    Expect::Within(apdex(least) - 1e-9, apdex(most) + 1e-9)
}
