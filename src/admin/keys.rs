//! `/keys`: make, list, end API keys. A key is shown in the answer that made it and never again.

use axum::response::Json;
use http::StatusCode;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use time::{Duration, OffsetDateTime};
use uuid::Uuid;

use crate::access::keys::{self, KeyOrder, KeyView};
use crate::access::{Allow, Caller, Role, Scopes};
use crate::app::App;
use crate::secret::Secret;
use crate::store::now;
use crate::web::answer::{CreatedOnce, NoContent};
use crate::web::json::{Page, PageQuery, Parameters, Unread};
use crate::web::path::Named;
use crate::web::problem::Problem;

/// A key that is asked for. What is not named is not allowed, except that every tool of a named server is.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "KeyOrder", example = serde_json::json!({ "name": "ci", "servers": ["files"], "expires_in_days": 90 }))]
pub(super) struct Order {
    name: String,
    servers: Allow,
    /// Patterns of `server/tool`; without a slash, of a tool of any server. Absent: every tool of the named servers.
    tools: Option<Allow>,
    /// Absent: `user`.
    role: Option<Role>,
    /// Absent: whether a role above `user` is asked for.
    admin: Option<bool>,
    username: Option<String>,
    #[serde(default, with = "crate::clock::MaybeMoment")]
    expires_at: Option<OffsetDateTime>,
    /// Instead of `expires_at`: 1 to 36 500.
    expires_in_days: Option<u32>,
}

/// A new key, shown this once.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "KeyMade")]
pub(super) struct Made {
    #[serde(flatten)]
    view: KeyView,
    key: Secret,
}

pub(super) async fn create(app: App, caller: Caller, body: Unread<Order>) -> Result<CreatedOnce<Made>, Problem> {
    keys::may_make(&caller)?;
    let order = body.read().await?;
    let (now, at, days) = (now(), order.expires_at, order.expires_in_days);
    let role = order.role.unwrap_or(Role::User);
    let tools = match order.tools.unwrap_or(Allow::All) {
        Allow::All => Allow::All,
        Allow::Only(patterns) => Allow::Only(
            patterns
                .into_iter()
                .map(
                    |pattern| {
                        if pattern.contains('/') || pattern.is_empty() { pattern } else { format!("*/{pattern}") }
                    },
                )
                .collect(),
        ),
    };
    let scopes = Scopes { servers: order.servers, tools, admin: order.admin.unwrap_or(role > Role::User) };
    let mut order = KeyOrder { name: order.name, scopes, role, username: order.username, expires_at: at };
    keys::may_order(&caller, &order)?;
    match (at, days) {
        (Some(_), Some(_)) => return Err(Problem::field("expires_in_days", "give this or `expires_at`, not both")),
        (None, Some(days @ 1..=36_500)) => order.expires_at = Some(now + Duration::days(days.into())),
        (None, Some(_)) => return Err(Problem::field("expires_in_days", "must be 1 to 36500")),
        (_, None) => {}
    }
    let (key, view) = keys::create(&app.store, &caller, order, now).await?;
    app.changed().await?;
    let location = format!("/api/v1/keys/{}", view.id);
    Ok(CreatedOnce::with_secret(location, Made { view, key }))
}

pub(super) async fn list(
    app: App,
    caller: Caller,
    Parameters(query): Parameters<PageQuery>,
) -> Result<Json<Page<KeyView>>, Problem> {
    let (limit, after) = (query.limit()?, query.place(|id| id.parse().ok())?);
    let keys = keys::list(&app.store, &caller, after, limit + 1, now()).await?;
    Ok(Json(Page::of(keys, limit, |key| key.id.to_string())))
}

pub(super) async fn revoke(app: App, caller: Caller, Named(id): Named) -> Result<NoContent, Problem> {
    let id = Uuid::parse_str(&id).map_err(|_| Problem::missing("key"))?;
    keys::revoke(&app.store, &caller, id, now()).await.map_err(|error| named(error.into(), "key"))?;
    app.changed().await?;
    Ok(NoContent)
}

/// Says what it is that is not there.
pub(super) fn named(problem: Problem, what: &str) -> Problem {
    if problem.status() == StatusCode::NOT_FOUND { Problem::missing(what) } else { problem }
}
