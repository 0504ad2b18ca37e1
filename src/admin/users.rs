//! `/users`: local accounts, by id or name.

use std::net::IpAddr;

use axum::response::Json;
use schemars::JsonSchema;
use serde::Deserialize;
use uuid::Uuid;

use super::keys::named;
use crate::access::users::{self, NewPassword, UserEdit, UserOrder, UserView};
use crate::access::{AccessError, Admin, Caller, Role};
use crate::app::{App, Goes};
use crate::id::TenantId;
use crate::secret::Secret;
use crate::store::{micros, now};
use crate::web::Source;
use crate::web::answer::{Created, NoContent, Tagged};
use crate::web::condition::IfMatch;
use crate::web::json::{Body, Page, PageQuery, Parameters, Unread};
use crate::web::path::Named;
use crate::web::problem::Problem;
use crate::web::record::Trail;

/// An account that is asked for.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "UserOrder", example = serde_json::json!({ "username": "ada", "role": "server_owner" }))]
pub(super) struct Order {
    username: String,
    password: Option<Secret>,
    /// Absent: `user`.
    role: Option<Role>,
    /// Absent: the caller's own.
    tenant_id: Option<String>,
}

/// What is to change.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "UserChange", example = serde_json::json!({ "role": "user" }))]
pub(super) struct Change {
    role: Option<Role>,
    state: Option<StateName>,
    password: Option<Secret>,
    current_password: Option<Secret>,
}

#[derive(Debug, Clone, Copy, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(rename = "UserState")]
enum StateName {
    Active,
    Disabled,
}

/// A new password.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(example = serde_json::json!({ "password": "correct horse battery staple" }))]
pub(super) struct PasswordOrder {
    password: Secret,
    current_password: Option<Secret>,
}

pub(super) async fn list(
    app: App,
    admin: Admin,
    Parameters(query): Parameters<PageQuery>,
) -> Result<Json<Page<UserView>>, Problem> {
    let limit = query.limit()?;
    let items = users::list(&app.store, &admin, &query.after()?, limit + 1).await?;
    Ok(Json(Page::of(items, limit, |user| user.username.clone())))
}

pub(super) async fn create(
    app: App,
    admin: Admin,
    trail: Trail,
    Body(order): Body<Order>,
) -> Result<Created<UserView>, Problem> {
    let Order { username, password, role, tenant_id: tenant } = order;
    let of = tenant.as_deref().and_then(|id| TenantId::parse(id).ok());
    let own = tenant.as_deref().is_none_or(|id| id == admin.tenant().as_str());
    let order = UserOrder { username, password, role: role.unwrap_or(Role::User), tenant };
    let user = users::create(&app.store, &app.accounts, &admin, order, now()).await?;
    trail.acts_on(of.as_ref().unwrap_or(admin.tenant()));
    app.changed().await?;
    // An account of another tenant can be made from here, but not looked at.
    let location = format!("/api/v1/users/{}", user.id);
    Ok(if own { Created::at(location, tagged(user)) } else { Created::elsewhere(tagged(user)) })
}

pub(super) async fn read(app: App, caller: Caller, Named(id): Named) -> Result<Tagged<UserView>, Problem> {
    let id = users::find(&app.store, &caller, &id).await.map_err(missing)?;
    Ok(tagged(users::get(&app.store, &caller, id).await.map_err(missing)?))
}

fn tagged(user: UserView) -> Tagged<UserView> {
    Tagged::version(micros(user.updated_at), user)
}

pub(super) async fn patch(
    app: App,
    caller: Caller,
    Source(source): Source,
    Named(id): Named,
    version: IfMatch,
    body: Unread<Change>,
) -> Result<Tagged<UserView>, Problem> {
    let id = to_edit(&app, &caller, &id).await?;
    let Change { role, state, password, current_password: current } = body.read().await?;
    let active = state.map(|state| state == StateName::Active);
    let password = password.map(|new| NewPassword { new, current });
    let edit = UserEdit { role, active, password, expected: version.expected()? };
    let edited = edited(&app, &caller, source, id, edit).await;
    Ok(tagged(edited.map_err(|problem| version.refused(problem))?))
}

/// The id of an account that the caller may change.
async fn to_edit(app: &App, caller: &Caller, id: &str) -> Result<Uuid, Problem> {
    let id = users::find(&app.store, caller, id).await.map_err(missing)?;
    Ok(users::may_edit(&app.store, caller, id).await.map_err(missing)?.id)
}

async fn edited(app: &App, caller: &Caller, source: IpAddr, id: Uuid, edit: UserEdit) -> Result<UserView, Problem> {
    let (at, count) = (now(), app.counting(source, now()));
    let user = users::edit(&app.store, &app.accounts, caller, id, edit, count, at).await.map_err(missing)?;
    app.changed().await?;
    Ok(user)
}

pub(super) async fn delete(app: App, admin: Admin, Named(id): Named, version: IfMatch) -> Result<NoContent, Problem> {
    let id = users::find(&app.store, &admin, &id).await.map_err(missing)?;
    let removing = users::remove(&app.store, &admin, id, version.expected()?);
    let removed = app.giving_back(Goes::Account(admin.tenant(), id), removing).await;
    removed.map_err(|error| version.refused(missing(error)))?;
    app.changed().await?;
    Ok(NoContent)
}

pub(super) async fn password(
    app: App,
    caller: Caller,
    Source(source): Source,
    Named(id): Named,
    version: IfMatch,
    body: Unread<PasswordOrder>,
) -> Result<NoContent, Problem> {
    let id = to_edit(&app, &caller, &id).await?;
    let PasswordOrder { password: new, current_password: current } = body.read().await?;
    let (password, expected) = (Some(NewPassword { new, current }), version.expected()?);
    let edit = UserEdit { password, expected, ..UserEdit::default() };
    edited(&app, &caller, source, id, edit).await.map_err(|problem| version.refused(problem))?;
    Ok(NoContent)
}

fn missing(error: AccessError) -> Problem {
    named(error.into(), "user")
}
