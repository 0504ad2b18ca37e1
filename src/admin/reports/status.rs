//! `/admin/multi-user-status`: who is there now, what that takes, and how the limits, pools and refreshes do. An administrator of a tenant
//! sees its tenant.

use std::collections::BTreeMap;

use axum::response::Json;
use schemars::JsonSchema;
use serde::Serialize;
use time::OffsetDateTime;

use super::envelope::{Asked, Report, Target};
use super::past::{Past, missing_after};
use super::upstreams::{self, Measured};
use super::{limits, tokens};
use crate::access::Admin;
use crate::app::{ACTIVE, App};
use crate::limit::guard::HitsByType;
use crate::store::rollups::Span;
use crate::store::samples::Sample;
use crate::store::{micros, now};
use crate::web::json::Parameters;
use crate::web::problem::Problem;

/// See `docs/analytics.md`.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "MultiUserStatus")]
pub(in crate::admin) struct Status {
    active_users: i64,
    tenants: Vec<OfTenant>,
    /// Of the whole gateway, so only for its administrators; like what follows.
    resource_utilization: Option<Resources>,
    rate_limiting: Option<RateLimiting>,
    connection_pool: Upstreams,
    token_refresh: Refreshes,
}

#[derive(Debug, Default, Serialize, JsonSchema)]
#[schemars(rename = "TenantNow")]
struct OfTenant {
    tenant_id: String,
    active_users: i64,
    sessions: i64,
    requests_last_minute: i64,
}

/// What the last sample of each process says; parts of what may be used, but for the bytes.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "ResourceUtilization")]
struct Resources {
    cpu: Option<f64>,
    memory_bytes: Option<i64>,
    memory: Option<f64>,
    connections: Option<f64>,
    file_descriptors: Option<f64>,
}

#[derive(Debug, Serialize, JsonSchema)]
struct RateLimiting {
    enabled: bool,
    global_rpm: u32,
    used_last_minute: i64,
    hits: HitsByType,
    banned_addresses: usize,
}

#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "PoolUse")]
struct Upstreams {
    pool_utilization: Option<f64>,
    in_use: usize,
    limit: usize,
}

#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "RefreshSuccess")]
struct Refreshes {
    success_rate: Option<f64>,
    successful: i64,
    failed: i64,
}

impl Resources {
    fn of(samples: &[Sample]) -> Self {
        let part = |used: &dyn Fn(&Sample) -> Option<f64>, limit: &dyn Fn(&Sample) -> Option<f64>| {
            let of = |sample: &Sample| Some((used(sample)?, limit(sample)?));
            let (used, limit) = samples.iter().filter_map(of).fold((0.0, 0.0), |(a, b), (c, d)| (a + c, b + d));
            (limit > 0.0).then(|| used / limit)
        };
        let memory: Vec<i64> = samples.iter().filter_map(|sample| sample.memory).collect();
        Self {
            cpu: part(&|one| one.cpu, &|one| one.cpu_limit),
            memory_bytes: (!memory.is_empty()).then(|| memory.iter().sum()),
            memory: part(&|one| one.memory.map(float), &|one| one.memory_limit.map(float)),
            connections: part(&|one| Some(float(one.connections)), &|one| Some(float(one.connections_limit))),
            file_descriptors: part(&|one| one.descriptors.map(float), &|one| one.descriptors_limit.map(float)),
        }
    }
}

#[expect(clippy::cast_precision_loss, reason = "bytes and files of some processes")]
pub(super) fn float(number: i64) -> f64 {
    number as f64
}

/// The last sample of each process that is there.
pub(super) async fn last_samples(app: &App, now: OffsetDateTime) -> Result<Vec<Sample>, Problem> {
    let since = now.unix_timestamp() - missing_after(&app.settings.analytics);
    let samples = app.store.samples(since..now.unix_timestamp() + 1).await?;
    let last: BTreeMap<_, _> = samples.into_iter().map(|sample| (sample.instance, sample)).collect();
    Ok(last.into_values().collect())
}

pub(in crate::admin) async fn read(
    app: App,
    admin: Admin,
    Parameters(asked): Parameters<Asked>,
) -> Result<Json<Report<Status>>, Problem> {
    let (now, above) = (now(), admin.administers_gateway());
    let tenants = tenants(&app, &admin, now).await?;
    let used_last_minute = tenants.iter().map(|tenant| tenant.requests_last_minute).sum();
    let seen = upstreams::seen(&app, &admin);
    let measured = Measured::from(&upstreams::sum(&seen));
    let counted = || seen.iter().filter(|seen| seen.counted).map(|seen| &seen.status);
    let refreshes = tokens::sums(&app, &admin, now).await?;
    let fields = Status {
        active_users: tenants.iter().map(|tenant| tenant.active_users).sum(),
        tenants,
        resource_utilization: if above { Some(Resources::of(&last_samples(&app, now).await?)) } else { None },
        rate_limiting: above.then(|| RateLimiting {
            enabled: app.settings.rate_limits.fairness,
            global_rpm: app.settings.rate_limits.global_rpm,
            used_last_minute,
            hits: limits::figures(&app, &asked).hits_by_type,
            banned_addresses: app.guard.banned(now),
        }),
        connection_pool: Upstreams {
            pool_utilization: measured.pool_utilization,
            in_use: counted().map(|status| status.in_flight).sum(),
            limit: counted().map(|status| status.limit).sum(),
        },
        token_refresh: Refreshes {
            success_rate: refreshes.success_rate(),
            successful: refreshes.successful,
            failed: refreshes.failed,
        },
    };
    let (pool, rate) = (fields.connection_pool.pool_utilization, fields.token_refresh.success_rate);
    let report = Report::of_all(&app, ACTIVE.as_secs(), fields)
        .with("connection_pool.pool_utilization", Target::below("<0.8", 0.8, pool))
        .with("token_refresh.success_rate", Target::above(">0.95", 0.95, rate));
    Ok(Json(report))
}

/// The tenants that the administrator may see, and that somebody was at.
async fn tenants(app: &App, admin: &Admin, now: OffsetDateTime) -> Result<Vec<OfTenant>, Problem> {
    let own = Some(admin.tenant().as_str()).filter(|_| !admin.administers_gateway());
    let seen = |tenant: &str| own.is_none_or(|own| own == tenant);
    let mut all: BTreeMap<String, OfTenant> = BTreeMap::new();
    if let Some(own) = own {
        all.entry(own.to_owned()).or_default();
    }
    for (tenant, users) in app.store.active_accounts(micros(now - ACTIVE)).await? {
        all.entry(tenant).or_default().active_users = users;
    }
    for (tenant, calls) in app.store.calls_by_tenant(Span::Minute, Past::last_minute(now)).await? {
        all.entry(tenant).or_default().requests_last_minute = calls;
    }
    for signed_in in app.signed_in(ACTIVE).await {
        let live = i64::try_from(signed_in.live).unwrap_or(i64::MAX);
        all.entry(signed_in.tenant).or_default().sessions += live;
    }
    app.sessions.each(|session, _| {
        // Who signed in is counted already, however many sessions that opened.
        if session.credential.label() == "api_key" {
            all.entry(session.tenant.as_str().to_owned()).or_default().sessions += 1;
        }
    });
    all.retain(|tenant, _| seen(tenant));
    Ok(all.into_iter().map(|(tenant_id, of)| OfTenant { tenant_id, ..of }).collect())
}
