//! `servers pools`: the limit of each replica of a server, how much of it is used, and how its connections do.

use serde_json::Value;

use super::Verdict;
use super::figures::{millis, percent};
use super::gateway::Gateway;
use super::screen::{Screen, Table, Tone, shorten, text_at};

/// Carries out `servers pools`.
pub async fn run(gateway: &Gateway, screen: Screen) -> anyhow::Result<Verdict> {
    let report = gateway.get(&["admin", "connection-pool-status"]).await?.value;
    screen.show(&report, || table(&report))?;
    Ok(Verdict::Fine)
}

fn table(report: &Value) -> String {
    let mut table = Table::new(&[
        "SERVER",
        "TENANT",
        "REPLICA",
        "LIMIT",
        "IN FLIGHT",
        "WAITING",
        "USED",
        "WAIT",
        "CONNECT",
        "REUSED",
        "LIMIT SHOULD",
    ]);
    let none = Vec::new();
    let advice = report["scaling_recommendations"].as_array().unwrap_or(&none);
    for pool in report["pools"].as_array().unwrap_or(&none) {
        let of = |advice: &&Value| ["tenant_id", "server", "replica"].iter().all(|key| advice[*key] == pool[*key]);
        let advice = advice.iter().find(of).map(should).unwrap_or_default();
        table.row([
            (text_at(pool, "/server"), Tone::Plain),
            (text_at(pool, "/tenant_id"), Tone::Plain),
            (text_at(pool, "/replica"), Tone::Plain),
            (text_at(pool, "/limit"), Tone::Plain),
            (text_at(pool, "/in_flight"), Tone::Plain),
            (text_at(pool, "/waiting"), tone(&pool["waiting"], |waiting| waiting == 0.0)),
            (percent(&pool["pool_utilization"]), tone(&pool["pool_utilization"], |used| used < 0.8)),
            (millis(&pool["avg_connection_wait_time"]), tone(&pool["avg_connection_wait_time"], |wait| wait < 100.0)),
            (millis(&pool["avg_connection_latency"]), tone(&pool["avg_connection_latency"], |took| took < 50.0)),
            (percent(&pool["connection_reuse_rate"]), tone(&pool["connection_reuse_rate"], |rate| rate > 0.9)),
            (shorten(&advice, 100), Tone::Dim),
        ]);
    }
    table.render("no server is reached over HTTP")
}

/// What should become of the limit, and why.
fn should(advice: &Value) -> String {
    let (action, reason) = (text_at(advice, "/action"), text_at(advice, "/reason"));
    match action.as_str() {
        "hold" => format!("stay: {reason}"),
        _ => format!("{action} to {}: {reason}", text_at(advice, "/to")),
    }
}

fn tone(figure: &Value, good: impl Fn(f64) -> bool) -> Tone {
    if figure.as_f64().is_none_or(good) { Tone::Plain } else { Tone::Warn }
}
