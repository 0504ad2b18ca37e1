//! `/oauth-clients`: the OAuth clients that an administrator registers, by their client id. A secret is shown in the answer that
//! made it and never again.

use axum::extract::Path;
use axum::extract::rejection::PathRejection;
use axum::response::{IntoResponse, Json, Response};
use http::StatusCode;
use http::header::{CACHE_CONTROL, LOCATION};
use serde::Serialize;

use super::keys::named;
use crate::access::{AccessError, Admin};
use crate::app::App;
use crate::grants::registered::{self, ClientEdit, ClientOrder, ClientView};
use crate::secret::Secret;
use crate::store::now;
use crate::web::json::{Body, Page, PageQuery, Parameters, cursor_after};
use crate::web::path::Named;
use crate::web::problem::Problem;

/// A client with a new secret, shown this once.
#[derive(Serialize)]
struct Made {
    #[serde(flatten)]
    view: ClientView,
    #[serde(skip_serializing_if = "Option::is_none")]
    client_secret: Option<Secret>,
}

fn made(client_secret: Option<Secret>, view: ClientView) -> Response {
    let location = format!("/api/v1/oauth-clients/{}", view.client_id);
    let headers = [(LOCATION, location), (CACHE_CONTROL, "no-store".to_owned())];
    (StatusCode::CREATED, headers, Json(Made { view, client_secret })).into_response()
}

pub(super) async fn list(
    app: App,
    admin: Admin,
    Parameters(query): Parameters<PageQuery>,
) -> Result<Json<Page<ClientView>>, Problem> {
    let limit = query.limit()?;
    let mut items = registered::list(&app.store, &admin, &query.after()?, limit + 1).await?;
    let more = items.len() > usize::from(limit);
    items.truncate(limit.into());
    let next_cursor = items.last().filter(|_| more).map(|client| cursor_after(&client.client_id));
    Ok(Json(Page { items, next_cursor }))
}

pub(super) async fn create(app: App, admin: Admin, Body(order): Body<ClientOrder>) -> Result<Response, Problem> {
    let (secret, view) = registered::create(&app.store, &admin, order, app.clients.schemes(), now()).await?;
    app.changed().await?;
    Ok(made(secret, view))
}

pub(super) async fn read(app: App, admin: Admin, Named(id): Named) -> Result<Json<ClientView>, Problem> {
    Ok(Json(registered::get(&app.store, &admin, &id).await.map_err(missing)?))
}

pub(super) async fn patch(
    app: App,
    admin: Admin,
    Named(id): Named,
    Body(edit): Body<ClientEdit>,
) -> Result<Json<ClientView>, Problem> {
    let edited = registered::edit(&app.store, &admin, &id, edit, app.clients.schemes(), now()).await;
    let view = edited.map_err(missing)?;
    app.changed().await?;
    Ok(Json(view))
}

pub(super) async fn delete(app: App, admin: Admin, Named(id): Named) -> Result<StatusCode, Problem> {
    registered::remove(&app.store, &admin, &id, now()).await.map_err(missing)?;
    app.changed().await?;
    Ok(StatusCode::NO_CONTENT)
}

pub(super) async fn add_secret(app: App, admin: Admin, Named(id): Named) -> Result<Response, Problem> {
    let (secret, view) = registered::add_secret(&app.store, &admin, &id, now()).await.map_err(missing)?;
    app.changed().await?;
    Ok(made(Some(secret), view))
}

pub(super) async fn remove_secret(
    app: App,
    admin: Admin,
    path: Result<Path<(String, String)>, PathRejection>,
) -> Result<StatusCode, Problem> {
    let Path((id, hint)) = path.map_err(|_| Problem::missing("client, or no such secret of it"))?;
    let removed = registered::remove_secret(&app.store, &admin, &id, &hint, now()).await;
    removed.map_err(|error| named(error.into(), "client, or no such secret of it"))?;
    app.changed().await?;
    Ok(StatusCode::NO_CONTENT)
}

fn missing(error: AccessError) -> Problem {
    named(error.into(), "client")
}
