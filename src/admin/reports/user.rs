//! `/admin/user-activity`: what one account did in thirty days. Administrators of its tenant see it, and those of the gateway.

use std::collections::BTreeMap;

use axum::response::Json;
use schemars::JsonSchema;
use serde::Serialize;
use time::OffsetDateTime;
use uuid::Uuid;

use super::envelope::{Asked, Report};
use super::past::Past;
use crate::access::{Admin, users};
use crate::admin::keys::named;
use crate::app::App;
use crate::id::TenantId;
use crate::store::rollups::Span;
use crate::store::{StoreError, at_opt, micros, now};
use crate::web::json::Parameters;
use crate::web::path::Named;
use crate::web::problem::Problem;
use crate::web::record::Trail;

/// Days that the report is of.
const DAYS: i64 = 30;
/// Most tools and errors that are named.
const TOP: usize = 20;

/// See `docs/analytics.md`.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "UserActivity")]
pub(in crate::admin) struct Activity {
    user_id: Uuid,
    tenant_id: TenantId,
    username: String,
    /// Signed in now.
    sessions: i64,
    #[serde(with = "crate::clock::MaybeMoment")]
    last_seen: Option<OffsetDateTime>,
    operations: i64,
    operations_today: i64,
    tool_calls: i64,
    errors: i64,
    logins_by_hour: [i64; 24],
    tools: Vec<Called>,
    errors_by_reason: BTreeMap<String, i64>,
    behavior_patterns: BTreeMap<String, i64>,
}

#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "ToolUse")]
struct Called {
    server: String,
    tool: String,
    calls: i64,
}

pub(in crate::admin) async fn read(
    app: App,
    admin: Admin,
    trail: Trail,
    Named(id): Named,
    Parameters(_): Parameters<Asked>,
) -> Result<Json<Report<Activity>>, Problem> {
    let (tenant_id, user_id) =
        users::place(&app.store, &admin, &id).await.map_err(|error| named(error.into(), "user"))?;
    trail.acts_on(&tenant_id);
    let (store, now) = (&app.store, now());
    let row = store.user(&tenant_id, user_id).await?.ok_or(StoreError::Missing)?;
    let Past { range, seconds } = Past::days(DAYS, now);
    let all = store.user_totals(&tenant_id, user_id, Span::Day, range.clone()).await?;
    let today = store.user_totals(&tenant_id, user_id, Span::Day, Past::days(1, now).range).await?;
    let mut fields = Activity {
        sessions: store.live_grants_of(&tenant_id, user_id, micros(now)).await?,
        username: row.username,
        last_seen: at_opt(all.last_at),
        operations: all.operations,
        operations_today: today.operations,
        tool_calls: all.tool_calls,
        errors: all.errors,
        logins_by_hour: [0; 24],
        tools: Vec::new(),
        errors_by_reason: BTreeMap::new(),
        behavior_patterns: BTreeMap::new(),
        user_id,
        tenant_id,
    };
    for sum in store.user_words(&fields.tenant_id, user_id, range).await? {
        match sum.kind.as_str() {
            "tool" if fields.tools.len() < TOP => {
                fields.tools.push(Called { server: sum.place, tool: sum.word, calls: sum.count });
            }
            "error" if fields.errors_by_reason.len() < TOP => _ = fields.errors_by_reason.insert(sum.word, sum.count),
            "pattern" => _ = fields.behavior_patterns.insert(sum.word, sum.count),
            "login" => {
                if let Some(hour) = sum.word.parse().ok().and_then(|hour: usize| fields.logins_by_hour.get_mut(hour)) {
                    *hour = sum.count;
                }
            }
            _ => {}
        }
    }
    Ok(Json(Report::of_all(&app, seconds, fields)))
}
