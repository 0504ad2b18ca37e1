//! `/admin/tenant-analytics`: what a tenant did in a day, how fast that was, with which tools, and how its people come and go.

use std::collections::BTreeMap;

use axum::response::Json;
use schemars::JsonSchema;
use serde::Serialize;

use super::envelope::{Asked, Report};
use super::past::Past;
use crate::access::{Admin, tenants};
use crate::admin::tenants::missing;
use crate::analytics::kpis::{mean_ms, ratio};
use crate::app::{ACTIVE, App};
use crate::id::TenantId;
use crate::sketch::Sketch;
use crate::store::rollups::Span;
use crate::store::{micros, now};
use crate::web::json::Parameters;
use crate::web::path::Named;
use crate::web::problem::Problem;

/// Hours that the report is of.
const HOURS: i64 = 24;
/// Most tools that are named.
const TOP: i64 = 10;

/// See `docs/analytics.md`. Durations are milliseconds.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "TenantAnalytics")]
pub(in crate::admin) struct OfTenant {
    tenant_id: TenantId,
    active_users: i64,
    resource_utilization: Resources,
    /// What it had of its share.
    rate_limit_utilization: Option<f64>,
    behavior_patterns: BTreeMap<String, i64>,
    performance_metrics: Performance,
    top_tools: Vec<Called>,
    logins_by_hour: [i64; 24],
    session_durations: Vec<Sessions>,
}

/// Processors and memory are not measured by tenant.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "TenantResources")]
struct Resources {
    cpu_seconds: Option<f64>,
    memory_bytes: Option<i64>,
    /// MCP sessions that this process holds.
    connections: usize,
}

#[derive(Debug, Serialize, JsonSchema)]
struct Performance {
    requests: i64,
    error_rate: Option<f64>,
    p50: Option<f64>,
    p95: Option<f64>,
    p99: Option<f64>,
}

#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "TopTool")]
struct Called {
    server: String,
    tool: String,
    calls: i64,
    error_rate: Option<f64>,
    mean: Option<f64>,
    p95: Option<f64>,
}

#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "SessionDurations")]
struct Sessions {
    end_reason: String,
    count: i64,
    mean: Option<f64>,
    p50: Option<f64>,
    p95: Option<f64>,
}

fn ms(times: &Sketch, part: f64) -> Option<f64> {
    times.quantile(part).map(|micros| micros / 1e3)
}

pub(in crate::admin) async fn read(
    app: App,
    admin: Admin,
    Named(id): Named,
    Parameters(_): Parameters<Asked>,
) -> Result<Json<Report<OfTenant>>, Problem> {
    let tenant = tenants::get(&app.store, &admin, &id).await.map_err(missing)?.tenant_id;
    let (store, now) = (&app.store, now());
    let Past { range, seconds } = Past::hours(HOURS, now);
    let active = store.active_accounts(micros(now - ACTIVE)).await?;
    let all = store.call_totals(Some(&tenant), Span::Hour, range.clone()).await?;
    let times = store.call_times(&tenant, Span::Hour, range.clone(), None).await?;
    let mut top_tools = Vec::new();
    for tool in store.top_tools(&tenant, Span::Hour, range.clone(), TOP).await? {
        let times = store.call_times(&tenant, Span::Hour, range.clone(), Some((&tool.server, &tool.name))).await?;
        top_tools.push(Called {
            calls: tool.calls,
            error_rate: ratio(tool.failed, tool.calls),
            mean: mean_ms(tool.total_us, tool.calls),
            p95: ms(&times, 0.95),
            server: tool.server,
            tool: tool.name,
        });
    }
    let patterns = store.event_totals(Some(&tenant), Span::Hour, range.clone(), "pattern").await?;
    let mut ended: BTreeMap<String, (i64, i64)> = BTreeMap::new();
    for sum in store.event_totals(Some(&tenant), Span::Hour, range.clone(), "session").await? {
        let of = ended.entry(sum.reason).or_default();
        *of = (of.0 + sum.count, of.1 + sum.lasted_us);
    }
    let mut session_durations = Vec::new();
    for (end_reason, (count, lasted_us)) in ended {
        let times = store.event_times(&tenant, Span::Hour, range.clone(), "session", &end_reason).await?;
        let (p50, p95) = (ms(&times, 0.5), ms(&times, 0.95));
        session_durations.push(Sessions { end_reason, count, mean: mean_ms(lasted_us, count), p50, p95 });
    }
    let mut connections = 0;
    app.sessions.each(|session, _| connections += usize::from(session.tenant == tenant));
    let fields = OfTenant {
        active_users: active.iter().find(|(name, _)| name == tenant.as_str()).map_or(0, |(_, users)| *users),
        resource_utilization: Resources { cpu_seconds: None, memory_bytes: None, connections },
        rate_limit_utilization: used_of_share(&app, &tenant),
        behavior_patterns: patterns.into_iter().map(|sum| (sum.what, sum.count)).collect(),
        performance_metrics: Performance {
            requests: all.calls,
            error_rate: ratio(all.errors, all.calls),
            p50: ms(&times, 0.5),
            p95: ms(&times, 0.95),
            p99: ms(&times, 0.99),
        },
        top_tools,
        logins_by_hour: store.events_by_hour(&tenant, range, "login").await?,
        session_durations,
        tenant_id: tenant,
    };
    Ok(Json(Report::of_all(&app, seconds, fields)))
}

/// What a tenant had of its share, in the window of the shares; of all processes or not at all.
fn used_of_share(app: &App, tenant: &TenantId) -> Option<f64> {
    let (fair, shares) = (app.limits.fair(), app.limits.settled());
    let share = shares.iter().find(|share| share.tenant == *tenant).filter(|_| fair.hears_all() || fair.is_alone())?;
    let sums = fair.sums(share, app.limits.now());
    #[expect(clippy::cast_precision_loss, reason = "requests of some minutes")]
    let given = sums.given as f64;
    (sums.share > 0.0).then(|| given / sums.share)
}
