//! `/oauth-clients`: the OAuth clients that an administrator registers, by their client id. A secret is shown in the answer that
//! made it and never again.

use axum::extract::Path;
use axum::extract::rejection::PathRejection;
use axum::response::Json;
use schemars::JsonSchema;
use serde::Serialize;

use super::keys::named;
use crate::access::{AccessError, Admin};
use crate::app::App;
use crate::grants::registered::{self, ClientEdit, ClientOrder, ClientView};
use crate::secret::Secret;
use crate::store::{micros, now};
use crate::web::answer::{CreatedOnce, NoContent, Tagged};
use crate::web::condition::IfMatch;
use crate::web::json::{Body, Page, PageQuery, Parameters, Unread};
use crate::web::path::Named;
use crate::web::problem::Problem;

/// A client with a new secret, shown this once.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "ClientMade")]
pub(super) struct Made {
    #[serde(flatten)]
    view: ClientView,
    #[serde(skip_serializing_if = "Option::is_none")]
    client_secret: Option<Secret>,
}

fn made(client_secret: Option<Secret>, view: ClientView) -> CreatedOnce<Made> {
    let location = format!("/api/v1/oauth-clients/{}", view.client_id);
    if client_secret.is_some() {
        CreatedOnce::with_secret(location, Made { view, client_secret })
    } else {
        CreatedOnce::without_secret(location, Made { view, client_secret })
    }
}

fn tagged(client: ClientView) -> Tagged<ClientView> {
    Tagged::version(micros(client.updated_at), client)
}

pub(super) async fn list(
    app: App,
    admin: Admin,
    Parameters(query): Parameters<PageQuery>,
) -> Result<Json<Page<ClientView>>, Problem> {
    let limit = query.limit()?;
    let items = registered::list(&app.store, &admin, &query.after()?, limit + 1).await?;
    Ok(Json(Page::of(items, limit, |client| client.client_id.clone())))
}

pub(super) async fn create(
    app: App,
    admin: Admin,
    Body(order): Body<ClientOrder>,
) -> Result<CreatedOnce<Made>, Problem> {
    let (secret, view) = registered::create(&app.store, &admin, order, app.clients.schemes(), now()).await?;
    app.changed().await?;
    Ok(made(secret, view))
}

pub(super) async fn read(app: App, admin: Admin, Named(id): Named) -> Result<Tagged<ClientView>, Problem> {
    Ok(tagged(registered::get(&app.store, &admin, &id).await.map_err(missing)?))
}

pub(super) async fn patch(
    app: App,
    admin: Admin,
    Named(id): Named,
    version: IfMatch,
    body: Unread<ClientEdit>,
) -> Result<Tagged<ClientView>, Problem> {
    registered::get(&app.store, &admin, &id).await.map_err(missing)?;
    let edit = ClientEdit { expected: version.expected()?, ..body.read().await? };
    let edited = registered::edit(&app.store, &admin, &id, edit, app.clients.schemes(), now()).await;
    let view = edited.map_err(|error| version.refused(missing(error)))?;
    app.changed().await?;
    Ok(tagged(view))
}

pub(super) async fn delete(app: App, admin: Admin, Named(id): Named, version: IfMatch) -> Result<NoContent, Problem> {
    let removed = registered::remove(&app.store, &admin, &id, version.expected()?, now()).await;
    removed.map_err(|error| version.refused(missing(error)))?;
    app.changed().await?;
    Ok(NoContent)
}

pub(super) async fn add_secret(
    app: App,
    admin: Admin,
    Named(id): Named,
    version: IfMatch,
) -> Result<CreatedOnce<Made>, Problem> {
    let added = registered::add_secret(&app.store, &admin, &id, version.expected()?, now()).await;
    let (secret, view) = added.map_err(|error| version.refused(missing(error)))?;
    app.changed().await?;
    Ok(made(Some(secret), view))
}

pub(super) async fn remove_secret(
    app: App,
    admin: Admin,
    path: Result<Path<(String, String)>, PathRejection>,
    version: IfMatch,
) -> Result<NoContent, Problem> {
    let Path((id, hint)) = path.map_err(|_| Problem::missing("client, or no such secret of it"))?;
    let removed = registered::remove_secret(&app.store, &admin, &id, &hint, version.expected()?, now()).await;
    removed.map_err(|error| version.refused(named(error.into(), "client, or no such secret of it")))?;
    app.changed().await?;
    Ok(NoContent)
}

fn missing(error: AccessError) -> Problem {
    named(error.into(), "client")
}
