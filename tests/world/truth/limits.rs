//! What the reports of limits, bans and shares must say.

use serde_json::json;
use testkit::workload::{Deed, Door, End, Happening, Tenant};

use super::compare::{Expect, Expected};
use super::scene::Scene;

/// Calls that the limits of tenants were asked about, and those that they let through; and where anybody was refused.
fn asked<'a>(scene: &Scene<'a>, tenant: &'a str) -> (u64, u64) {
    let counts =
        |deed: &&Deed| deed.door == Door::Mcp && deed.action != "DELETE" && !deed.action.starts_with("notifications/");
    let all: Vec<_> = scene.own.of(tenant).filter(counts).collect();
    let refused = all.iter().filter(|deed| deed.end == End::RateLimited).count();
    (all.len() as u64, (all.len() - refused) as u64)
}

/// `rate-limit-analytics`.
pub fn analytics(scene: &Scene<'_>, scope: &str) -> Expected {
    let mut all = scene.envelope(scope, &["fairness_efficiency", "rate_limit_accuracy.false_positive_rate"]);
    all.extend(scene.hits("hits_by_type"));
    all.extend(bans(scene));
    all.insert("window_seconds".into(), 300.into());
    let own = scene.own.count(|what| matches!(what, Happening::Ban { by_hand: false, .. }));
    all.insert("ddos_bans".into(), own.into());
    all.insert("top_throttled_tenants".into(), json!([]).into());
    let tight = scene.workload.tenants.iter().filter_map(|tenant| {
        let (asked, given) = asked(scene, &tenant.id);
        (asked > given).then_some((tenant, asked, asked - given))
    });
    for (at, (tenant, asked, refused)) in tight.enumerate() {
        all.remove("top_throttled_tenants");
        let fields: [(&str, Expect); 3] =
            [("tenant_id", tenant.id.as_str().into()), ("requests", asked.into()), ("refused", refused.into())];
        all.extend(fields.into_iter().map(|(field, value)| (format!("top_throttled_tenants[{at}].{field}"), value)));
    }
    all
}

fn bans(scene: &Scene<'_>) -> Expected {
    [("ddos_blocks_prevented".to_owned(), scene.own.count(|what| *what == Happening::Barred).into())].into()
}

/// `diagnostics/rate-limits`.
pub fn diagnostics(scene: &Scene<'_>, scope: &str) -> Expected {
    let mut all = scene.envelope(scope, &[]);
    all.extend(bans(scene));
    all.insert("window_seconds".into(), 300.into());
    let wrong = scene.own.count(|what| matches!(what, Happening::WrongBan { .. }));
    all.insert("ddos_false_positives".into(), wrong.into());
    // Only all replicas together know.
    let all_know = scope == "cluster";
    let violations = if all_know { 0.into() } else { serde_json::Value::Null };
    all.insert("tenant_fairness_violations".into(), violations.into());
    all.insert("global_quota_exhaustion".into(), 0.into());
    let mut findings = Vec::new();
    for tenant in &scene.workload.tenants {
        let (asked, given) = asked(scene, &tenant.id);
        let refused = asked - given;
        if refused * 2 > asked {
            let what = format!("The tenant `{}` asks for more than twice what it has", tenant.id);
            findings.push((what, format!("{refused} of its {asked} requests were refused")));
        }
    }
    if wrong > 0 {
        let what = "Bans met somebody who should not have been banned".to_owned();
        findings.push((what, format!("{wrong} bans were lifted as wrong or met a good credential")));
    }
    if findings.is_empty() {
        all.insert("findings".into(), json!([]).into());
    }
    for (at, (what, evidence)) in findings.into_iter().enumerate() {
        all.insert(format!("findings[{at}].severity"), "warning".into());
        all.insert(format!("findings[{at}].what"), what.into());
        all.insert(format!("findings[{at}].evidence"), evidence.into());
    }
    all
}

/// The limits of a tenant; `burst` is what it has none of its own for.
pub fn in_force(of: &Tenant, at: &str, burst: serde_json::Value) -> Expected {
    let fields: [(&str, Expect); 4] = [
        ("fairness_weight", of.weight.into()),
        ("base_rpm", of.base_rpm.map_or(serde_json::Value::Null.into(), Expect::from)),
        ("burst_factor", burst.into()),
        ("max_concurrent_requests", serde_json::Value::Null.into()),
    ];
    fields.into_iter().map(|(field, value)| (format!("{at}.{field}"), value)).collect()
}

/// What `tenant-limits` answers.
pub fn set(of: &Tenant) -> Expected {
    let mut all = in_force(of, "limits", 1.5.into());
    all.insert("tenant_id".into(), of.id.as_str().into());
    all.insert("in_force_from".into(), Expect::Text(super::scene::is_time));
    all
}

/// `tenants`.
pub fn tenant(of: &Tenant) -> Expected {
    let mut all = in_force(of, "rate_limits", serde_json::Value::Null);
    let time = || Expect::Text(super::scene::is_time);
    let fields: [(&str, Expect); 12] = [
        ("tenant_id", of.id.as_str().into()),
        ("display_name", of.id.as_str().into()),
        ("entra_tenant_ids", Expect::Empty),
        ("assumed_entra_tenant_ids", Expect::Empty),
        ("role_mappings", Expect::Empty),
        ("guests", true.into()),
        ("features.enhanced_monitoring", of.monitored.into()),
        ("features.priority_support", false.into()),
        ("features.recorded_arguments", false.into()),
        ("state", "active".into()),
        ("created_at", time()),
        ("updated_at", time()),
    ];
    all.extend(fields.into_iter().map(|(field, value)| (field.to_owned(), value)));
    all
}

/// `tenant-fairness`.
pub fn fairness(scene: &Scene<'_>, of: &Tenant, scope: &str) -> Expected {
    let mut all = scene.envelope(scope, &[]);
    let mut put = |field: String, value: Expect| _ = all.insert(field, value);
    put("window_seconds".into(), 300.into());
    put("tenant_id".into(), of.id.as_str().into());
    for (field, value) in in_force(of, "limits", 1.5.into()) {
        put(field, value);
    }
    let (_, given) = asked(scene, &of.id);
    put("usage.requests".into(), given.into());
    let mut active: Vec<(&str, f64)> = scene
        .workload
        .tenants
        .iter()
        .map(|tenant| (tenant.id.as_str(), tenant.weight))
        .filter(|(tenant, _)| asked(scene, tenant).0 > 0)
        .collect();
    let weights: f64 = active.iter().map(|(_, weight)| weight).sum();
    let own = active.iter().any(|(tenant, _)| *tenant == of.id);
    let ratio = of.weight / if own { weights } else { weights + of.weight };
    put("fair_share.ratio".into(), ratio.into());
    let rpm = ratio * 10_000_000.0;
    put("fair_share.rpm".into(), of.base_rpm.map_or(rpm, |cap| rpm.min(cap.into())).into());
    active.sort_by(|one, other| other.1.total_cmp(&one.1).then(one.0.cmp(other.0)));
    if active.is_empty() {
        put("active_tenants".into(), json!([]).into());
    }
    for (at, (tenant, weight)) in active.into_iter().enumerate() {
        put(format!("active_tenants[{at}].tenant_id"), tenant.into());
        put(format!("active_tenants[{at}].weight"), weight.into());
        put(format!("active_tenants[{at}].share"), (weight / weights).into());
    }
    all
}
