//! `/admin/tenants`: organisations that share the gateway without seeing each other, and the directories whose people are theirs.

use axum::response::{IntoResponse, Json, Response};
use http::StatusCode;
use http::header::LOCATION;
use serde::Deserialize;

use super::keys::named;
use crate::access::tenants::{self, TenantEdit, TenantSaid, TenantState, TenantView};
use crate::access::{AccessError, Admin};
use crate::app::App;
use crate::store::now;
use crate::web::json::{Body, Page, PageQuery, Parameters, Unread, cursor_after};
use crate::web::path::Named;
use crate::web::problem::Problem;

/// How a tenant is to go.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct How {
    /// For good, and not only suspended.
    #[serde(default)]
    purge: bool,
    /// The tenant's id once more: what was shown is to be removed.
    confirm: Option<String>,
}

pub(super) async fn list(
    app: App,
    admin: Admin,
    Parameters(query): Parameters<PageQuery>,
) -> Result<Json<Page<TenantView>>, Problem> {
    let limit = query.limit()?;
    let mut items = tenants::list(&app.store, &admin, &query.after()?, limit + 1).await?;
    let more = items.len() > usize::from(limit);
    items.truncate(limit.into());
    let next_cursor = items.last().filter(|_| more).map(|tenant| cursor_after(tenant.tenant_id.as_str()));
    Ok(Json(Page { items, next_cursor }))
}

pub(super) async fn create(app: App, admin: Admin, Body(said): Body<TenantSaid>) -> Result<Response, Problem> {
    let (tenant_id, about) = said.split();
    let view = tenants::create(&app.store, &admin, &tenant_id, about, now()).await?;
    app.changed().await?;
    let location = [(LOCATION, format!("/api/v1/admin/tenants/{}", view.tenant_id))];
    Ok((StatusCode::CREATED, location, Json(view)).into_response())
}

pub(super) async fn read(app: App, admin: Admin, Named(id): Named) -> Result<Json<TenantView>, Problem> {
    Ok(Json(tenants::get(&app.store, &admin, &id).await.map_err(missing)?))
}

pub(super) async fn patch(app: App, admin: Admin, Named(id): Named, body: Unread) -> Result<Json<TenantView>, Problem> {
    tenants::get(&app.store, &admin, &id).await.map_err(missing)?;
    let edit: TenantEdit = body.read().await?;
    let view = tenants::edit(&app.store, &admin, &id, edit, now()).await.map_err(missing)?;
    app.changed().await?;
    Ok(Json(view))
}

/// Suspends a tenant, or removes it with all that is its own when that is confirmed.
pub(super) async fn delete(
    app: App,
    admin: Admin,
    Named(id): Named,
    Parameters(how): Parameters<How>,
) -> Result<StatusCode, Problem> {
    if how.purge {
        let held = tenants::holdings(&app.store, &admin, &id).await.map_err(missing)?;
        if how.confirm.as_deref() != Some(&id) {
            let detail = format!(
                "this removes the tenant `{id}` for good, with {} accounts and their keys, {} servers and {} clients; \
                 repeat it with confirm={id}",
                held.accounts, held.servers, held.clients
            );
            return Err(Problem::new(StatusCode::CONFLICT, "NOT_CONFIRMED", detail));
        }
        tenants::purge(&app.store, &admin, &id).await.map_err(missing)?;
    } else {
        let edit = TenantEdit { state: Some(TenantState::Suspended), ..TenantEdit::default() };
        tenants::edit(&app.store, &admin, &id, edit, now()).await.map_err(missing)?;
    }
    app.changed().await?;
    Ok(StatusCode::NO_CONTENT)
}

pub(super) fn missing(error: AccessError) -> Problem {
    named(error.into(), "tenant")
}
