//! `/admin/diagnostics/memory`: what this process keeps for people, how much that takes, and whether it spares the database. Of the process,
//! so only for administrators of the gateway.

use std::time::Duration;

use axum::response::Json;
use schemars::JsonSchema;
use serde::Serialize;

use super::envelope::{Asked, Report, Target};
use super::limits::of_gateway;
use crate::access::Admin;
use crate::app::App;
use crate::telemetry::{Counter, Usage};
use crate::web::json::Parameters;
use crate::web::problem::Problem;

/// Accounts that showed a credential within it are those whose memory is told.
const LATELY: Duration = Duration::from_hours(24);
/// What one account may take.
const MEGABYTE: f64 = 1_048_576.0;

/// See `docs/analytics.md`. The window is from the start of the process on.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "MemoryDiagnostics")]
pub(in crate::admin) struct Diagnosis {
    /// Access tokens that were shown and known without asking the database.
    session_cache_hit_rate: Option<f64>,
    token_cache_utilization: Option<f64>,
    /// Bytes for each account that was here within a day.
    user_context_memory: Option<f64>,
    resident_bytes: Option<f64>,
    limit_bytes: Option<f64>,
    /// The allocator keeps no count.
    heap_bytes: Option<f64>,
    components: Vec<Kind>,
}

#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "MemoryComponent")]
struct Kind {
    component: &'static str,
    count: usize,
    bytes: usize,
}

#[expect(clippy::cast_precision_loss, reason = "counts and bytes of a process")]
fn ratio(part: usize, whole: usize) -> Option<f64> {
    (whole > 0).then(|| part as f64 / whole as f64)
}

pub(in crate::admin) async fn read(
    app: App,
    admin: Admin,
    Parameters(asked): Parameters<Asked>,
) -> Result<Json<Report<Diagnosis>>, Problem> {
    of_gateway(&admin)?;
    let mut shown = 0;
    app.recorder.metrics().auth_events.each(|[_, method, ..], counter: &Counter| {
        if method == "validate" {
            shown += usize::try_from(counter.get()).unwrap_or(usize::MAX);
        }
    });
    let (held, most) = app.tokens.held();
    let (footprint, usage) = (app.footprint(), Usage::now());
    let fields = Diagnosis {
        session_cache_hit_rate: ratio(shown.saturating_sub(app.tokens.misses()), shown),
        token_cache_utilization: ratio(held, most),
        user_context_memory: ratio(footprint.iter().map(|one| one.bytes).sum(), app.accounts_within(LATELY)),
        resident_bytes: usage.memory,
        limit_bytes: usage.memory_limit,
        heap_bytes: None,
        components: footprint.map(|one| Kind { component: one.component, count: one.count, bytes: one.bytes }).into(),
    };
    let (hits, used, memory) =
        (fields.session_cache_hit_rate, fields.token_cache_utilization, fields.user_context_memory);
    let report = Report::of_own(&app, &asked, app.uptime(), fields)
        .with("session_cache_hit_rate", Target::above(">0.95", 0.95, hits))
        .with("token_cache_utilization", Target::below("<0.8", 0.8, used))
        .with("user_context_memory", Target::below("<1048576", MEGABYTE, memory));
    Ok(Json(report))
}
