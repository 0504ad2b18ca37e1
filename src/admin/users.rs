//! `/users`: local accounts, by id or name.

use axum::extract::Path;
use axum::response::{IntoResponse, Json, Response};
use http::StatusCode;
use http::header::LOCATION;
use serde::Deserialize;

use super::keys::named;
use crate::access::users::{self, UserEdit, UserView};
use crate::access::{AccessError, Admin, Caller, Role};
use crate::app::App;
use crate::secret::Secret;
use crate::store::now;
use crate::web::json::{Body, Page, PageQuery, Parameters, cursor_after};
use crate::web::problem::Problem;

/// An account that is asked for.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Order {
    username: String,
    password: Option<Secret>,
    /// Absent: `user`.
    role: Option<Role>,
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
pub(super) struct NewPassword {
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
    let role = order.role.unwrap_or(Role::User);
    let user = users::create(&app.store, &app.accounts, &admin, &order.username, order.password, role, now()).await?;
    app.changed().await?;
    let location = [(LOCATION, format!("/api/v1/users/{}", user.id))];
    Ok((StatusCode::CREATED, location, Json(user)).into_response())
}

pub(super) async fn read(app: App, caller: Caller, Path(id): Path<String>) -> Result<Json<UserView>, Problem> {
    let id = users::find(&app.store, &caller, &id).await.map_err(missing)?;
    Ok(Json(users::get(&app.store, &caller, id).await.map_err(missing)?))
}

pub(super) async fn patch(
    app: App,
    caller: Caller,
    Path(id): Path<String>,
    Body(change): Body<Change>,
) -> Result<Json<UserView>, Problem> {
    let id = users::find(&app.store, &caller, &id).await.map_err(missing)?;
    if let Some(new) = change.password {
        users::set_password(&app.store, &app.accounts, &caller, id, change.current_password, new, now())
            .await
            .map_err(missing)?;
    }
    let edit = UserEdit { role: change.role, active: change.state.map(|state| state == StateName::Active) };
    let user = if edit.role.is_some() || edit.active.is_some() {
        users::edit(&app.store, &Admin::prove(&caller)?, id, edit, now()).await.map_err(missing)?
    } else {
        users::get(&app.store, &caller, id).await.map_err(missing)?
    };
    app.changed().await?;
    Ok(Json(user))
}

pub(super) async fn delete(app: App, admin: Admin, Path(id): Path<String>) -> Result<StatusCode, Problem> {
    let id = users::find(&app.store, &admin, &id).await.map_err(missing)?;
    users::remove(&app.store, &admin, id).await.map_err(missing)?;
    app.changed().await?;
    Ok(StatusCode::NO_CONTENT)
}

pub(super) async fn password(
    app: App,
    caller: Caller,
    Path(id): Path<String>,
    Body(body): Body<NewPassword>,
) -> Result<StatusCode, Problem> {
    let id = users::find(&app.store, &caller, &id).await.map_err(missing)?;
    users::set_password(&app.store, &app.accounts, &caller, id, body.current_password, body.password, now())
        .await
        .map_err(missing)?;
    app.changed().await?;
    Ok(StatusCode::NO_CONTENT)
}

fn missing(error: AccessError) -> Problem {
    named(error.into(), "user")
}
