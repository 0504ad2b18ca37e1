//! `/admin/tenants`: organisations that share the gateway without seeing each other, and the directories whose people are theirs.

use axum::response::Json;
use http::StatusCode;
use schemars::JsonSchema;
use serde::Deserialize;

use super::keys::named;
use crate::access::tenants::{self, TenantEdit, TenantSaid, TenantState, TenantView};
use crate::access::{AccessError, Admin};
use crate::app::{App, Goes};
use crate::id::TenantId;
use crate::store::{micros, now};
use crate::web::answer::{Created, NoContent, Tagged};
use crate::web::condition::IfMatch;
use crate::web::json::{Body, Page, PageQuery, Parameters, Unread};
use crate::web::path::Named;
use crate::web::problem::Problem;
use crate::web::record::Trail;

/// How a tenant is to go.
#[derive(Debug, Default, Deserialize, JsonSchema)]
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
    let items = tenants::list(&app.store, &admin, &query.after()?, limit + 1).await?;
    Ok(Json(Page::of(items, limit, |tenant| tenant.tenant_id.to_string())))
}

pub(super) async fn create(
    app: App,
    admin: Admin,
    trail: Trail,
    Body(said): Body<TenantSaid>,
) -> Result<Created<TenantView>, Problem> {
    let (tenant_id, about) = said.split();
    let view = tenants::create(&app.store, &admin, &tenant_id, about, now()).await?;
    trail.acts_on(&view.tenant_id);
    app.changed().await?;
    Ok(Created::at(format!("/api/v1/admin/tenants/{}", view.tenant_id), tagged(view)))
}

pub(super) async fn read(app: App, admin: Admin, Named(id): Named) -> Result<Tagged<TenantView>, Problem> {
    Ok(tagged(tenants::get(&app.store, &admin, &id).await.map_err(missing)?))
}

fn tagged(tenant: TenantView) -> Tagged<TenantView> {
    Tagged::version(micros(tenant.updated_at), tenant)
}

pub(super) async fn patch(
    app: App,
    admin: Admin,
    Named(id): Named,
    version: IfMatch,
    body: Unread<TenantEdit>,
) -> Result<Tagged<TenantView>, Problem> {
    tenants::get(&app.store, &admin, &id).await.map_err(missing)?;
    let edit = TenantEdit { expected: version.expected()?, ..body.read().await? };
    let edited = tenants::edit(&app.store, &admin, &id, edit, now()).await;
    let view = edited.map_err(|error| version.refused(missing(error)))?;
    app.changed().await?;
    Ok(tagged(view))
}

/// Suspends a tenant, or removes it with all that is its own when that is confirmed.
pub(super) async fn delete(
    app: App,
    admin: Admin,
    Named(id): Named,
    version: IfMatch,
    Parameters(how): Parameters<How>,
) -> Result<NoContent, Problem> {
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
        let tenant = TenantId::parse(&id).map_err(|_| Problem::missing("tenant"))?;
        let purging = tenants::purge(&app.store, &admin, &id, version.expected()?);
        let purged = app.giving_back(Goes::Tenant(&tenant), purging).await;
        purged.map_err(|error| version.refused(missing(error)))?;
    } else {
        tenants::get(&app.store, &admin, &id).await.map_err(missing)?;
        let (state, expected) = (Some(TenantState::Suspended), version.expected()?);
        let edit = TenantEdit { state, expected, ..TenantEdit::default() };
        let edited = tenants::edit(&app.store, &admin, &id, edit, now()).await;
        edited.map_err(|error| version.refused(missing(error)))?;
    }
    app.changed().await?;
    Ok(NoContent)
}

pub(super) fn missing(error: AccessError) -> Problem {
    named(error.into(), "tenant")
}
