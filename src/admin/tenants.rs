//! `/admin/tenants`: organisations that share the gateway without seeing each other, and the directories whose people are theirs.

use axum::response::{IntoResponse, Json, Response};
use http::StatusCode;
use http::header::LOCATION;
use serde::Deserialize;
use uuid::Uuid;

use super::keys::named;
use crate::access::retention::RetentionSaid;
use crate::access::tenants::{self, TenantEdit, TenantView};
use crate::access::{AccessError, Admin, RoleMapping};
use crate::app::App;
use crate::limit::terms::{FeaturesSaid, RateLimitsSaid};
use crate::store::now;
use crate::web::json::{Body, Page, PageQuery, Parameters, Unread, cursor_after};
use crate::web::path::Named;
use crate::web::problem::Problem;

/// A tenant that is asked for.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Order {
    tenant_id: String,
    /// Absent: the id.
    display_name: Option<String>,
    entra_tenant_ids: Option<Vec<Uuid>>,
    /// Absent: yes.
    guests: Option<bool>,
    rate_limits: Option<RateLimitsSaid>,
    features: Option<FeaturesSaid>,
    role_mappings: Option<Vec<RoleMapping>>,
    retention: Option<RetentionSaid>,
}

/// What is to change.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Change {
    display_name: Option<String>,
    entra_tenant_ids: Option<Vec<Uuid>>,
    guests: Option<bool>,
    state: Option<StateName>,
    rate_limits: Option<RateLimitsSaid>,
    features: Option<FeaturesSaid>,
    role_mappings: Option<Vec<RoleMapping>>,
    retention: Option<RetentionSaid>,
}

#[derive(Debug, Clone, Copy, PartialEq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum StateName {
    Active,
    Suspended,
}

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

pub(super) async fn create(app: App, admin: Admin, Body(order): Body<Order>) -> Result<Response, Problem> {
    let Order { tenant_id, display_name, entra_tenant_ids, guests, rate_limits, features, role_mappings, retention } =
        order;
    let about = TenantEdit {
        display_name,
        entra_tenant_ids,
        guests,
        active: None,
        rate_limits,
        features,
        role_mappings,
        retention,
    };
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
    let Change { display_name, entra_tenant_ids, guests, state, rate_limits, features, role_mappings, retention } =
        body.read().await?;
    let active = state.map(|state| state == StateName::Active);
    let edit =
        TenantEdit { display_name, entra_tenant_ids, guests, active, rate_limits, features, role_mappings, retention };
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
        let edit = TenantEdit { active: Some(false), ..TenantEdit::default() };
        tenants::edit(&app.store, &admin, &id, edit, now()).await.map_err(missing)?;
    }
    app.changed().await?;
    Ok(StatusCode::NO_CONTENT)
}

pub(super) fn missing(error: AccessError) -> Problem {
    named(error.into(), "tenant")
}
