//! `/admin/tenant-limits`: how much a tenant may call, as it is in force.

use axum::response::Json;

use super::tenants::missing;
use crate::access::Admin;
use crate::access::tenant_limits::{self, InForce};
use crate::app::App;
use crate::limit::terms::RateLimitsSaid;
use crate::store::now;
use crate::web::answer::Tagged;
use crate::web::json::Unread;
use crate::web::path::Named;
use crate::web::problem::Problem;

pub(super) async fn read(app: App, admin: Admin, Named(id): Named) -> Result<Tagged<InForce>, Problem> {
    let burst_factor = app.settings.rate_limits.burst_factor;
    Ok(Tagged::content(tenant_limits::get(&app.store, &admin, &id, burst_factor).await.map_err(missing)?))
}

pub(super) async fn set(
    app: App,
    admin: Admin,
    Named(id): Named,
    body: Unread<RateLimitsSaid>,
) -> Result<Json<InForce>, Problem> {
    let burst_factor = app.settings.rate_limits.burst_factor;
    // Whoever may not know of the tenant is told no more of what was wrong.
    tenant_limits::get(&app.store, &admin, &id, burst_factor).await.map_err(missing)?;
    let said = body.read().await?;
    let set = tenant_limits::set(&app.store, &admin, &id, &said, burst_factor, now()).await.map_err(missing)?;
    app.changed().await?;
    Ok(Json(set))
}
