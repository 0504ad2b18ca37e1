//! `/apply`: brings the registry to what lists of tenants and of servers say, all of it or nothing. With `dry_run` it says what it
//! would do.

use std::time::Duration;

use axum::response::Json;
use futures_util::future::join_all;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::servers::FIRST_LOOK;
use crate::access::tenants::TenantSaid;
use crate::access::{AccessError, Admin, Caller, tenant_plan};
use crate::app::{App, Goes};
use crate::registry::apply::{Step, StepView};
use crate::registry::model::ServerSpec;
use crate::registry::servers::{ServersError, must_register};
use crate::store::{micros, now};
use crate::web::json::Unread;
use crate::web::problem::Problem;
use crate::web::record::Trail;

/// What shall be.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "ApplyOrder", example = serde_json::json!({ "servers": [{ "slug": "files", "replicas": [{ "url": "https://files.example/mcp" }] }], "dry_run": true }))]
pub(super) struct Wanted {
    servers: Vec<ServerSpec>,
    /// Only an administrator of the gateway names any.
    #[serde(default)]
    tenants: Vec<TenantSaid>,
    /// Whether servers that are not named are removed, as far as the caller may.
    #[serde(default)]
    prune: bool,
    /// Whether nothing is changed.
    #[serde(default)]
    dry_run: bool,
}

/// What was done, or would be.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "ApplyResult")]
pub(super) struct Done {
    dry_run: bool,
    tenants: Vec<tenant_plan::StepView>,
    tenants_unchanged: usize,
    changes: Vec<StepView>,
    unchanged: usize,
    warnings: Vec<String>,
}

pub(super) async fn apply(app: App, caller: Caller, trail: Trail, body: Unread<Wanted>) -> Result<Json<Done>, Problem> {
    must_register(&caller)?;
    let Wanted { servers, tenants, prune, dry_run } = body.read().await?;
    if !tenants.is_empty() {
        trail.acts_on_gateway();
    }
    let tenants = plan_tenants(&app, &caller, tenants).await;
    let (tenants, plan) = match (tenants, app.servers().plan(&caller, servers, prune, now()).await) {
        (Err(AccessError::Invalid(mut errors)), Err(ServersError::Invalid(more))) => {
            errors.extend(more);
            return Err(Problem::fields(errors));
        }
        (tenants, plan) => (tenants?, plan?),
    };
    let described: Vec<_> = plan.steps.iter().filter_map(Step::after).map(|after| &after.server.spec).collect();
    let warnings = app.servers().warnings(&caller, &described, &tenants.made()).await?;
    let changes = tenants.changes()?;
    if dry_run {
        if !changes.is_empty() {
            app.store.change_tenants(&changes, micros(now()), true).await?;
        }
    } else if !plan.steps.is_empty() || !changes.is_empty() {
        let removed = plan.steps.iter().filter_map(Step::removed).map(|record| &record.server).collect();
        let servers = app.servers();
        let changing = servers.carry_out(&caller, &changes, &plan, now());
        app.giving_back(Goes::Servers(removed), changing).await?;
        app.changed().await?;
        look(&app, &plan.steps, FIRST_LOOK).await;
    }
    Ok(Json(Done {
        dry_run,
        tenants: tenants.views()?,
        tenants_unchanged: tenants.unchanged,
        changes: plan.steps.iter().map(Step::view).collect(),
        unchanged: plan.unchanged,
        warnings,
    }))
}

async fn plan_tenants(app: &App, caller: &Caller, wanted: Vec<TenantSaid>) -> Result<tenant_plan::Plan, AccessError> {
    if wanted.is_empty() {
        return Ok(tenant_plan::Plan::default());
    }
    tenant_plan::Plan::of(&app.store, &Admin::prove(caller)?, wanted, now()).await
}

/// Waits for new servers to say what they offer, as registering one does.
async fn look(app: &App, steps: &[Step], patience: Duration) {
    let new = steps.iter().filter_map(|step| match step {
        Step::Create(record) => Some(app.registry.first_look(record.server.id)),
        _ => None,
    });
    let _ = tokio::time::timeout(patience, join_all(new)).await;
}
