//! `/users`: local accounts, by id or name.

use std::net::IpAddr;

use axum::response::{IntoResponse, Json, Response};
use http::StatusCode;
use http::header::LOCATION;
use serde::Deserialize;
use uuid::Uuid;

use super::keys::named;
use crate::access::users::{self, NewPassword, UserEdit, UserOrder, UserView};
use crate::access::{AccessError, Admin, Caller, Role};
use crate::app::App;
use crate::secret::Secret;
use crate::store::now;
use crate::web::Source;
use crate::web::json::{Body, Page, PageQuery, Parameters, Unread, cursor_after};
use crate::web::path::Named;
use crate::web::problem::Problem;

/// An account that is asked for.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Order {
    username: String,
    password: Option<Secret>,
    /// Absent: `user`.
    role: Option<Role>,
    /// Absent: the caller's own.
    tenant_id: Option<String>,
}

/// What is to change.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Change {
    role: Option<Role>,
    state: Option<StateName>,
    password: Option<Secret>,
    current_password: Option<Secret>,
}

#[derive(Debug, Clone, Copy, PartialEq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum StateName {
    Active,
    Disabled,
}

/// A new password.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
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
    let mut items = users::list(&app.store, &admin, &query.after()?, limit + 1).await?;
    let more = items.len() > usize::from(limit);
    items.truncate(limit.into());
    let next_cursor = items.last().filter(|_| more).map(|user| cursor_after(&user.username));
    Ok(Json(Page { items, next_cursor }))
}

pub(super) async fn create(app: App, admin: Admin, Body(order): Body<Order>) -> Result<Response, Problem> {
    let Order { username, password, role, tenant_id: tenant } = order;
    let own = tenant.as_deref().is_none_or(|id| id == admin.tenant().as_str());
    let order = UserOrder { username, password, role: role.unwrap_or(Role::User), tenant };
    let user = users::create(&app.store, &app.accounts, &admin, order, now()).await?;
    app.changed().await?;
    // An account of another tenant can be made from here, but not looked at.
    let location = own.then(|| [(LOCATION, format!("/api/v1/users/{}", user.id))]);
    Ok((StatusCode::CREATED, location, Json(user)).into_response())
}

pub(super) async fn read(app: App, caller: Caller, Named(id): Named) -> Result<Json<UserView>, Problem> {
    let id = users::find(&app.store, &caller, &id).await.map_err(missing)?;
    Ok(Json(users::get(&app.store, &caller, id).await.map_err(missing)?))
}

pub(super) async fn patch(
    app: App,
    caller: Caller,
    Source(source): Source,
    Named(id): Named,
    body: Unread,
) -> Result<Json<UserView>, Problem> {
    let id = to_edit(&app, &caller, &id).await?;
    let Change { role, state, password, current_password: current } = body.read().await?;
    let active = state.map(|state| state == StateName::Active);
    let edit = UserEdit { role, active, password: password.map(|new| NewPassword { new, current }) };
    Ok(Json(edited(&app, &caller, source, id, edit).await?))
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

pub(super) async fn delete(app: App, admin: Admin, Named(id): Named) -> Result<StatusCode, Problem> {
    let id = users::find(&app.store, &admin, &id).await.map_err(missing)?;
    let leaving = app.leaving_with(admin.tenant(), id).await;
    users::remove(&app.store, &admin, id).await.map_err(missing)?;
    app.left(leaving);
    app.changed().await?;
    Ok(StatusCode::NO_CONTENT)
}

pub(super) async fn password(
    app: App,
    caller: Caller,
    Source(source): Source,
    Named(id): Named,
    body: Unread,
) -> Result<StatusCode, Problem> {
    let id = to_edit(&app, &caller, &id).await?;
    let PasswordOrder { password: new, current_password: current } = body.read().await?;
    let edit = UserEdit { password: Some(NewPassword { new, current }), ..UserEdit::default() };
    edited(&app, &caller, source, id, edit).await?;
    Ok(StatusCode::NO_CONTENT)
}

fn missing(error: AccessError) -> Problem {
    named(error.into(), "user")
}
