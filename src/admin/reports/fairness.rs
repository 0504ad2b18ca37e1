//! `/admin/tenant-fairness`: what a tenant's share is, what it had of it and beyond it, and among whom it shares.

use axum::response::Json;
use schemars::JsonSchema;
use serde::Serialize;

use super::envelope::{Asked, Report};
use crate::access::Admin;
use crate::access::tenant_limits;
use crate::admin::tenants::missing;
use crate::app::App;
use crate::id::TenantId;
use crate::limit::figures::Sums;
use crate::limit::terms::RateLimits;
use crate::web::json::Parameters;
use crate::web::path::Named;
use crate::web::problem::Problem;

/// See `docs/operations.md`.
#[derive(Debug, Serialize, JsonSchema)]
pub(in crate::admin) struct Fairness {
    tenant_id: TenantId,
    fair_share: FairShare,
    usage: Usage,
    burst: Burst,
    active_tenants: Vec<ActiveTenant>,
    limits: RateLimits,
}

/// Its part of the capacity while the tenants share it that asked for something in the window.
#[derive(Debug, Serialize, JsonSchema)]
struct FairShare {
    ratio: f64,
    /// No more than its own cap.
    rpm: f64,
}

#[derive(Debug, Serialize, JsonSchema)]
struct Usage {
    /// Let through.
    requests: u64,
    /// Its share of the seconds in which it asked for something; like what follows, of all replicas together or of none.
    quota: Option<f64>,
    ratio: Option<f64>,
}

#[derive(Debug, Serialize, JsonSchema)]
struct Burst {
    /// Requests beyond its share that it could have had.
    allowed: Option<f64>,
    /// That it had.
    used: Option<f64>,
    utilization: Option<f64>,
}

#[derive(Debug, Serialize, JsonSchema)]
struct ActiveTenant {
    /// Absent for who administers only a tenant.
    #[serde(skip_serializing_if = "Option::is_none")]
    tenant_id: Option<TenantId>,
    weight: f64,
    share: f64,
}

pub(in crate::admin) async fn read(
    app: App,
    admin: Admin,
    Named(id): Named,
    Parameters(asked): Parameters<Asked>,
) -> Result<Json<Report<Fairness>>, Problem> {
    let burst = app.settings.rate_limits.burst_factor;
    let in_force = tenant_limits::get(&app.store, &admin, &id, burst).await.map_err(missing)?;
    let (tenant_id, limits) = (in_force.tenant_id, in_force.limits);
    let (now, fair) = (app.limits.now(), app.limits.fair());
    let all: Vec<(TenantId, f64, Sums)> = app
        .limits
        .settled()
        .iter()
        .map(|share| (share.tenant.clone(), share.weight(), fair.sums(share, now)))
        .filter(|(tenant, _, sums)| sums.wanted > 0 || *tenant == tenant_id)
        .collect();
    let weights: f64 = all.iter().map(|(_, weight, _)| weight).sum();
    let asking: f64 = all.iter().filter(|(.., sums)| sums.wanted > 0).map(|(_, weight, _)| weight).sum();
    let ratio = limits.fairness_weight / weights.max(limits.fairness_weight);
    let sums = all.iter().find(|(tenant, ..)| *tenant == tenant_id).map(|(.., sums)| *sums).unwrap_or_default();
    let of_all = asked.is_of_all(&app);
    let requests = if of_all { sums.given } else { sums.given_here };
    #[expect(clippy::cast_precision_loss, reason = "requests of some minutes")]
    let given = requests as f64;
    let told = |figure: f64| of_all.then_some(figure);
    let of = |part: f64, whole: f64| (of_all && whole > 0.0).then(|| part / whole);
    let mut active_tenants: Vec<ActiveTenant> = all
        .into_iter()
        .filter(|(.., sums)| sums.wanted > 0)
        .map(|(tenant, weight, _)| ActiveTenant {
            tenant_id: Some(tenant).filter(|_| admin.administers_gateway()),
            weight,
            share: weight / asking,
        })
        .collect();
    active_tenants.sort_by(|one, other| other.share.total_cmp(&one.share).then(one.tenant_id.cmp(&other.tenant_id)));
    let rpm = ratio * f64::from(app.settings.rate_limits.global_rpm);
    let fields = Fairness {
        tenant_id,
        fair_share: FairShare { ratio, rpm: limits.base_rpm.map_or(rpm, |cap| rpm.min(cap.into())) },
        usage: Usage { requests, quota: told(sums.share), ratio: of(given, sums.share) },
        burst: Burst { allowed: told(sums.lendable), used: told(sums.lent), utilization: of(sums.lent, sums.lendable) },
        active_tenants,
        limits,
    };
    Ok(Json(Report::new(&app, &asked, fields)))
}
