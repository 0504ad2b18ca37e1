//! `/apply`: brings the registry to what a list of servers says, all of it or nothing. With `dry_run` it says what it would do.

use std::time::Duration;

use axum::response::Json;
use futures_util::future::join_all;
use serde::{Deserialize, Serialize};

use super::servers::FIRST_LOOK;
use crate::access::Caller;
use crate::app::App;
use crate::registry::apply::{Step, StepView};
use crate::registry::model::ServerSpec;
use crate::registry::servers::must_register;
use crate::store::now;
use crate::web::json::Unread;
use crate::web::problem::Problem;

/// What shall be.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Wanted {
    servers: Vec<ServerSpec>,
    /// Whether servers that are not named are removed, as far as the caller may.
    #[serde(default)]
    prune: bool,
    /// Whether nothing is changed.
    #[serde(default)]
    dry_run: bool,
}

/// What was done, or would be.
#[derive(Serialize)]
pub(super) struct Done {
    dry_run: bool,
    changes: Vec<StepView>,
    unchanged: usize,
    warnings: Vec<String>,
}

pub(super) async fn apply(app: App, caller: Caller, body: Unread) -> Result<Json<Done>, Problem> {
    must_register(&caller)?;
    let Wanted { servers, prune, dry_run } = body.read().await?;
    let plan = app.servers().plan(&caller, servers, prune, now()).await?;
    let described: Vec<_> = plan.steps.iter().filter_map(Step::after).map(|after| &after.server.spec).collect();
    let warnings = app.servers().warnings(&caller, &described).await?;
    if !dry_run && !plan.steps.is_empty() {
        app.servers().carry_out(&caller, &plan).await?;
        app.changed().await?;
        look(&app, &plan.steps, FIRST_LOOK).await;
    }
    let changes = plan.steps.iter().map(Step::view).collect();
    Ok(Json(Done { dry_run, changes, unchanged: plan.unchanged, warnings }))
}

/// Waits for new servers to say what they offer, as registering one does.
async fn look(app: &App, steps: &[Step], patience: Duration) {
    let new = steps.iter().filter_map(|step| match step {
        Step::Create(record) => Some(app.registry.first_look(record.server.id)),
        _ => None,
    });
    let _ = tokio::time::timeout(patience, join_all(new)).await;
}
