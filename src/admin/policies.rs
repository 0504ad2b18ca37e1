//! `/admin/policies`: the access rules of a tenant, their versions, and what they decide: of one question, or of what was called
//! lately.

use axum::extract::Path;
use axum::extract::rejection::PathRejection;
use axum::response::Json;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

use super::keys::named;
use crate::access::{AccessError, Admin};
use crate::app::{App, Explained, Question, Trial};
use crate::id::TenantId;
use crate::policy::kept::{self, Author, RulesView};
use crate::store::{micros, now};
use crate::web::answer::Tagged;
use crate::web::condition::IfMatch;
use crate::web::json::{Page, PageQuery, Parameters, Unread};
use crate::web::path::Named;
use crate::web::problem::Problem;

/// Longest time back for a trial, days.
const MOST_DAYS: u16 = 366;
/// How far back one looks that says nothing.
const DAYS: u16 = 30;

/// A set that is to be in force.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "RulesOrder", example = serde_json::json!({ "text": "permit(principal, action, resource);" }))]
pub(super) struct Order {
    text: String,
}

/// Whether it is only to be looked at.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct How {
    #[serde(default)]
    dry_run: bool,
}

/// A set that is tried.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "RulesTrial", example = serde_json::json!({ "text": "permit(principal, action, resource);", "days": 7 }))]
pub(super) struct Try {
    text: String,
    days: Option<u16>,
}

/// A version without its text.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "RulesVersion")]
pub(super) struct Written {
    version: i64,
    in_force: bool,
    #[serde(flatten)]
    author: Author,
}

fn answer(view: RulesView) -> Tagged<RulesView> {
    Tagged::version(view.version, view)
}

fn missing(error: AccessError) -> Problem {
    named(error.into(), "tenant")
}

async fn in_force(app: &App, tenant: &TenantId) -> Result<RulesView, AccessError> {
    kept::get(&app.store, tenant, app.registry.rules().of(tenant)).await
}

pub(super) async fn read(app: App, admin: Admin, Named(id): Named) -> Result<Tagged<RulesView>, Problem> {
    let tenant = kept::tenant(&app.store, &admin, &id).await.map_err(missing)?;
    Ok(answer(in_force(&app, &tenant).await?))
}

pub(super) async fn replace(
    app: App,
    admin: Admin,
    Named(id): Named,
    Parameters(how): Parameters<How>,
    version: IfMatch,
    body: Unread<Order>,
) -> Result<Tagged<RulesView>, Problem> {
    let tenant = kept::tenant(&app.store, &admin, &id).await.map_err(missing)?;
    let expected = version.expected()?;
    let Order { text } = body.read().await?;
    if how.dry_run {
        let (_, warnings) = kept::read(&text).await?;
        let before = in_force(&app, &tenant).await?;
        // Of what is not in force: no version of it can be changed.
        return Ok(Tagged::content(RulesView { text, warnings, trouble: None, ..before }));
    }
    let put = kept::put(&app.store, &admin, &tenant, &text, expected, now()).await;
    let view = put.map_err(|error| version.refused(error.into()))?;
    // In force here before the answer goes out.
    app.changed().await?;
    Ok(answer(view))
}

pub(super) async fn versions(
    app: App,
    admin: Admin,
    Named(id): Named,
    Parameters(query): Parameters<PageQuery>,
) -> Result<Json<Page<Written>>, Problem> {
    let tenant = kept::tenant(&app.store, &admin, &id).await.map_err(missing)?;
    let versions = kept::history(&app.store, &tenant).await?;
    let newest = versions.first().map(|(version, _)| *version);
    let of = |(version, author)| Written { version, in_force: Some(version) == newest, author };
    Ok(Json(query.cut(versions.into_iter().map(of).collect(), |written| -written.version)?))
}

pub(super) async fn version(
    app: App,
    admin: Admin,
    path: Result<Path<(String, String)>, PathRejection>,
) -> Result<Tagged<RulesView>, Problem> {
    let Path((id, version)) = path.map_err(|_| Problem::missing("version"))?;
    let tenant = kept::tenant(&app.store, &admin, &id).await.map_err(missing)?;
    let version = version.parse().map_err(|_| Problem::missing("version"))?;
    let view = kept::version(&app.store, &tenant, version).await.map_err(|error| named(error.into(), "version"))?;
    Ok(Tagged::content(view))
}

pub(super) async fn explain(
    app: App,
    admin: Admin,
    Named(id): Named,
    body: Unread<Question>,
) -> Result<Json<Explained>, Problem> {
    let tenant = kept::tenant(&app.store, &admin, &id).await.map_err(missing)?;
    let question = body.read().await?;
    Ok(Json(app.explain(&tenant, &question).await?))
}

pub(super) async fn dry_run(
    app: App,
    admin: Admin,
    Named(id): Named,
    body: Unread<Try>,
) -> Result<Json<Trial>, Problem> {
    let tenant = kept::tenant(&app.store, &admin, &id).await.map_err(missing)?;
    let Try { text, days } = body.read().await?;
    let days = days.unwrap_or(DAYS);
    if !(1..=MOST_DAYS).contains(&days) {
        return Err(Problem::field("days", format!("must be 1 to {MOST_DAYS}")));
    }
    let (rules, _) = kept::read(&text).await?;
    let since: OffsetDateTime = now() - time::Duration::days(days.into());
    Ok(Json(app.try_rules(&tenant, rules, micros(since)).await?))
}
