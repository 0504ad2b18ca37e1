//! What the reports of pools, memory, the network, refreshes and capacity must say, as far as a workload knows it.

use serde_json::{Value, json};
use testkit::workload::{Happening, Workload};

use super::compare::{Elsewhere, Expect, Expected};
use super::scene::Scene;

/// What is measured of pools, and how they should be.
pub const OF_POOLS: [&str; 6] = [
    "pool_utilization",
    "avg_connection_latency",
    "avg_connection_wait_time",
    "connection_timeouts",
    "connection_reuse_rate",
    "ssl_handshake_time",
];

/// Servers in the order in which they are told: by tenant.
fn servers(workload: &Workload) -> Vec<(&str, &str)> {
    workload.tenants.iter().map(|tenant| (tenant.id.as_str(), tenant.slug.as_str())).collect()
}

fn measured(at: &str) -> Expected {
    let mut all: Expected = ["pool_utilization", "connection_reuse_rate"]
        .into_iter()
        .map(|field| (format!("{at}{field}"), Expect::Within(0.0, 1.0)))
        .collect();
    all.insert(format!("{at}avg_connection_latency"), Expect::MayBe(0.0, 1_000.0));
    all.insert(format!("{at}avg_connection_wait_time"), 0.0.into());
    all.insert(format!("{at}connection_timeouts"), Expect::MayBe(0.0, 0.0));
    all.insert(format!("{at}ssl_handshake_time"), Value::Null.into());
    all
}

/// `connection-pool-status`.
pub fn pools(scene: &Scene<'_>, scope: &str) -> Expected {
    let mut all = scene.envelope(scope, &OF_POOLS);
    let servers = servers(scene.workload);
    all.insert("mode".into(), "adapt".into());
    all.insert("window_seconds".into(), 300.into());
    all.insert("limit".into(), (100 * servers.len()).into());
    for field in ["in_flight", "waiting"] {
        all.insert(field.into(), 0.into());
    }
    // The gateway listens to each server for changes.
    all.insert("in_use".into(), servers.len().into());
    all.extend(measured(""));
    for (at, (tenant, slug)) in servers.iter().enumerate() {
        let mut put = |field: &str, value: Expect| _ = all.insert(format!("pools[{at}].{field}"), value);
        put("tenant_id", (*tenant).into());
        put("server", (*slug).into());
        put("replica", 0.into());
        put("limit", 100.into());
        for field in ["in_flight", "waiting", "waited", "turned_away"] {
            put(field, 0.into());
        }
        put("in_use", 1.into());
        all.extend(measured(&format!("pools[{at}].")));
    }
    all.extend(recommendations(scene.workload));
    all
}

fn recommendations(workload: &Workload) -> Expected {
    let mut all = Expected::new();
    for (at, (tenant, slug)) in servers(workload).into_iter().enumerate() {
        let mut put = |field: &str, value: Expect| {
            _ = all.insert(format!("scaling_recommendations[{at}].{field}"), value);
        };
        put("tenant_id", tenant.into());
        put("server", slug.into());
        put("replica", 0.into());
        put("action", "hold".into());
        put("from", 100.into());
        put("to", 100.into());
        put("reason", Expect::Text(|text| !text.is_empty()));
    }
    all
}

/// `diagnostics/resources`.
pub fn resources(scene: &Scene<'_>, scope: &str) -> Expected {
    let mut all = scene.envelope(scope, &OF_POOLS);
    all.insert("window_seconds".into(), 300.into());
    all.extend(measured(""));
    all.extend(recommendations(scene.workload));
    all
}

/// `diagnostics/network`.
pub fn network(scene: &Scene<'_>, scope: &str) -> Expected {
    let mut all = scene.envelope(scope, &["azure_oauth_latency", "connection_reuse_rate", "ssl_handshake_time"]);
    all.insert("window_seconds".into(), 300.into());
    let asked = scene.own.count(|what| matches!(what, Happening::Refresh { .. })) > 0;
    all.insert("azure_oauth_latency".into(), if asked { Expect::Within(0.0, 1e5) } else { Value::Null.into() });
    all.insert("ssl_handshake_time".into(), Value::Null.into());
    all.insert("connection_reuse_rate".into(), Expect::Within(0.0, 1.0));
    for (at, (tenant, slug)) in servers(scene.workload).into_iter().enumerate() {
        let mut put = |field: &str, value: Expect| _ = all.insert(format!("upstreams[{at}].{field}"), value);
        put("tenant_id", tenant.into());
        put("server", slug.into());
        put("replica", 0.into());
        put("connection_reuse_rate", Expect::Within(0.0, 1.0));
        put("ssl_handshake_time", Value::Null.into());
        put("avg_connection_latency", Expect::MayBe(0.0, 1_000.0));
        put("connection_timeouts", Expect::MayBe(0.0, 0.0));
    }
    all
}

/// `diagnostics/memory`.
pub fn memory(scene: &Scene<'_>, scope: &str) -> Expected {
    let targets = ["session_cache_hit_rate", "token_cache_utilization", "user_context_memory"];
    let mut all = scene.envelope(scope, &targets);
    all.insert("heap_bytes".into(), Value::Null.into());
    let sessions = scene.facts.tenants().into_iter().map(|tenant| scene.open(tenant)).sum::<usize>();
    for (at, component) in ["access_tokens", "api_keys", "mcp_sessions"].into_iter().enumerate() {
        all.insert(format!("components[{at}].component"), component.into());
    }
    all.insert("components[2].count".into(), sessions.into());
    // Each access token is looked up once; of each program there were two.
    let shown = scene.own.deeds().filter(|deed| deed.who.as_ref().is_some_and(|who| who.kind == "oauth")).count();
    let looked_up = 2 * scene.own.count(|what| matches!(what, Happening::Token { .. }));
    let least = 1.0 - looked_up as f64 / shown as f64;
    let rate = if shown == 0 { Value::Null.into() } else { Expect::Within((least - 1e-9).max(0.0), 1.0) };
    all.insert("session_cache_hit_rate".into(), rate);
    all
}

/// `capacity-status`.
pub fn capacity(scene: &Scene<'_>) -> Expected {
    let mut all = scene.envelope("cluster", &[]);
    let resources = ["requests", "users", "pool", "memory", "cpu", "file_descriptors", "database", "connections"];
    for (at, resource) in resources.into_iter().enumerate() {
        all.insert(format!("resource_projections[{at}].resource"), resource.into());
        // Of less than twelve samples there is no line.
        all.insert(format!("resource_projections[{at}].slope_per_hour"), Value::Null.into());
        all.insert(format!("resource_projections[{at}].reaches_80_percent_at"), Value::Null.into());
    }
    all
}

/// `token-refresh-status`.
pub fn refreshes(scene: &Scene<'_>) -> Expected {
    let targets = ["success_rate", "proactive_ratio", "emergency_ratio", "average_retries"];
    let mut all = scene.envelope("cluster", &targets);
    let (good, bad) = scene.refreshes();
    let next = if scene.workload.vouched() > 0 { Expect::Text(super::scene::is_time) } else { Value::Null.into() };
    let fields: [(&str, Expect); 12] = [
        ("successful_refreshes", good.into()),
        ("failed_refreshes", bad.into()),
        ("success_rate", Expect::ratio(good, good + bad)),
        ("proactive_refreshes", 0.into()),
        ("emergency_refreshes", 0.into()),
        ("proactive_ratio", Value::Null.into()),
        ("emergency_ratio", Value::Null.into()),
        ("average_retries", Expect::ratio(0, good + bad)),
        ("active_monitoring_tasks", scene.workload.vouched().into()),
        ("reauth_required", scene.workload.vouched().into()),
        ("next_due_at", next),
        ("queue_depth", 0.into()),
    ];
    all.extend(fields.into_iter().map(|(field, value)| (field.to_owned(), value)));
    all
}

/// `user-token-status` of somebody for whom no provider gave anything.
pub fn tokens(scene: &Scene<'_>, tenant: &str, user: &str) -> Expected {
    let mut all = scene.envelope("cluster", &[]);
    all.insert("window_seconds".into(), 0.into());
    all.insert("tenant_id".into(), tenant.into());
    all.insert("user_id".into(), user.into());
    all.insert("credentials".into(), json!([]).into());
    all
}

/// The same of whom a provider vouches for, and what it gave was refreshed because somebody wanted that.
pub fn vouched(scene: &Scene<'_>, tenant: &str, user: &str, result: &str) -> Expected {
    let mut all = tokens(scene, tenant, user);
    all.remove("credentials");
    let good = result == "success";
    let time = || Expect::Text(super::scene::is_time);
    let when_good = || if good { time() } else { Value::Null.into() };
    let fields: [(&str, Expect); 8] = [
        ("provider", "entra".into()),
        ("state", if good { "valid" } else { "reauth_required" }.into()),
        ("failing", false.into()),
        ("expires_at", when_good()),
        ("refresh_due_at", when_good()),
        ("last_refresh.at", time()),
        ("last_refresh.kind", "forced".into()),
        ("last_refresh.result", result.into()),
    ];
    all.extend(fields.into_iter().map(|(field, value)| (format!("credentials[0].{field}"), value)));
    all
}

/// What no report knows from what people do, why, and between which bounds it is all the same.
pub const ELSEWHERE: &[Elsewhere] = &[
    Elsewhere(
        "window_seconds",
        "it grows until the hour, the day or the process is over",
        Expect::Within(0.0, 2_678_400.0),
    ),
    Elsewhere("resource_utilization.cpu", "samples of the process", Expect::MayBe(0.0, 1.5)),
    Elsewhere("resource_utilization.memory_bytes", "samples of the process", Expect::MayBe(1e6, 1e11)),
    Elsewhere("resource_utilization.memory", "samples of the process", Expect::MayBe(0.0, 1.0)),
    Elsewhere("resource_utilization.connections", "samples of the process", Expect::MayBe(0.0, 1.0)),
    Elsewhere("resource_utilization.file_descriptors", "samples of the process", Expect::MayBe(0.0, 1.0)),
    Elsewhere("connection_pool.pool_utilization", "places times seconds", Expect::Within(0.0, 1.0)),
    Elsewhere("rate_limit_utilization", "the share grows with seconds", Expect::MayBe(0.0, 1e6)),
    Elsewhere("usage.quota", "the share grows with seconds", Expect::MayBe(0.0, 1e9)),
    Elsewhere("usage.ratio", "the share grows with seconds", Expect::MayBe(0.0, 1e6)),
    Elsewhere("burst.allowed", "the share grows with seconds", Expect::MayBe(0.0, 1e9)),
    Elsewhere("burst.used", "the share grows with seconds", Expect::MayBe(0.0, 1e9)),
    Elsewhere("burst.utilization", "the share grows with seconds", Expect::MayBe(0.0, 1e6)),
    Elsewhere("fairness_efficiency", "an allocation by seconds", Expect::MayBe(0.0, 1.0)),
    Elsewhere("jain_index", "an allocation by seconds", Expect::MayBe(0.0, 1.0)),
    Elsewhere("rate_limit_accuracy.false_positive_rate", "an allocation by seconds", Expect::MayBe(0.0, 1.0)),
    Elsewhere("rate_limit_accuracy.false_negative_rate", "an allocation by seconds", Expect::MayBe(0.0, 1.0)),
    Elsewhere("retention.audit_days", "the settings", Expect::Within(30.0, 3_650.0)),
    Elsewhere("retention.analytics_days", "the settings", Expect::Within(1.0, 1_096.0)),
    Elsewhere("findings", "what figures say", Expect::Empty),
    Elsewhere("findings[*].severity", "what figures say", Expect::Text(is_severity)),
    Elsewhere("findings[*].what", "what figures say", Expect::Text(is_some)),
    Elsewhere("findings[*].evidence", "what figures say", Expect::Text(is_some)),
    Elsewhere("findings[*].advice", "what figures say", Expect::Text(is_some)),
    Elsewhere("idle", "connections rest as long as servers let them", Expect::Within(0.0, 1_000.0)),
    Elsewhere("pools[*].idle", "connections rest as long as servers let them", Expect::Within(0.0, 1_000.0)),
    Elsewhere("pools[*].measured_seconds", "time", Expect::Within(0.0, 310.0)),
    Elsewhere("pools[*].average_in_flight", "places times seconds", Expect::Within(0.0, 100.0)),
    Elsewhere("pools[*].requests", "the gateway asks for itself too", Expect::Within(1.0, 1e5)),
    Elsewhere("pools[*].dials", "the gateway asks for itself too", Expect::Within(1.0, 1e5)),
    Elsewhere("database.size", "the pool's own affair", Expect::Within(0.0, 1_000.0)),
    Elsewhere("database.in_use", "the pool's own affair", Expect::Within(0.0, 1_000.0)),
    Elsewhere("database.idle", "the pool's own affair", Expect::Within(0.0, 1_000.0)),
    Elsewhere("database.limit", "the pool's own affair", Expect::Within(1.0, 1_000.0)),
    Elsewhere("database.average_wait", "time", Expect::MayBe(0.0, 1e5)),
    Elsewhere("database.longest_wait", "time", Expect::MayBe(0.0, 1e5)),
    Elsewhere("credentials[*].audience", "the provider's affair", Expect::Text(is_some)),
    Elsewhere("credentials[*].scopes[*]", "the provider's affair", Expect::Text(is_some)),
    Elsewhere("credentials[*].scopes", "nothing is kept of who has to come back", Expect::Empty),
    Elsewhere("credentials[*].last_refresh.error_code", "the provider's affair", Expect::Code),
    Elsewhere("token_cache_utilization", "what is remembered", Expect::Within(0.0, 1.0)),
    Elsewhere("user_context_memory", "sizes of this build", Expect::Within(1.0, 1e6)),
    Elsewhere("resident_bytes", "the process", Expect::Within(1e6, 1e11)),
    Elsewhere("limit_bytes", "the machine", Expect::Within(1e6, 1e15)),
    Elsewhere("components[*].count", "what is remembered", Expect::Within(0.0, 1e5)),
    Elsewhere("components[*].bytes", "sizes of this build", Expect::Within(0.0, 1e8)),
    Elsewhere("current_utilization", "samples of the process", Expect::MayBe(0.0, 1.5)),
    Elsewhere("scaling_recommendation", "samples of the process", Expect::Text(|text| text == "maintain")),
    Elsewhere("bottleneck_analysis[*].resource", "samples of the process", Expect::Text(is_some)),
    Elsewhere("bottleneck_analysis[*].utilization", "samples of the process", Expect::Within(0.0, 1.5)),
    Elsewhere("bottleneck_analysis[*].limit", "samples of the process", Expect::Within(0.0, 1e15)),
    Elsewhere("bottleneck_analysis[*].headroom", "samples of the process", Expect::Within(-1e9, 1e15)),
    Elsewhere("resource_projections[*].needed_at_double_load", "samples of the process", Expect::MayBe(0.0, 1e15)),
    Elsewhere("targets.*.met", "looked at apart", Expect::Perhaps),
    Elsewhere("kpis[*].today.met", "looked at apart", Expect::Perhaps),
    Elsewhere("by_reason[*].advice", "a sentence", Expect::Text(is_some)),
];

fn is_severity(text: &str) -> bool {
    ["info", "warning", "critical"].contains(&text)
}

fn is_some(text: &str) -> bool {
    !text.is_empty()
}
