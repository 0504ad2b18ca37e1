//! `/admin/tenant-limits`: how much a tenant may call, as it is in force.

use super::tenants::missing;
use crate::access::Admin;
use crate::access::tenant_limits::{self, InForce};
use crate::app::App;
use crate::limit::terms::RateLimitsSaid;
use crate::store::{micros, now};
use crate::web::answer::Tagged;
use crate::web::condition::IfMatch;
use crate::web::json::Unread;
use crate::web::path::Named;
use crate::web::problem::Problem;

pub(super) async fn read(app: App, admin: Admin, Named(id): Named) -> Result<Tagged<InForce>, Problem> {
    let burst_factor = app.settings.rate_limits.burst_factor;
    Ok(tagged(tenant_limits::get(&app.store, &admin, &id, burst_factor).await.map_err(missing)?))
}

/// A change of anything of the tenant is one of what its limits stand in.
fn tagged(limits: InForce) -> Tagged<InForce> {
    Tagged::version(micros(limits.updated_at), limits)
}

pub(super) async fn set(
    app: App,
    admin: Admin,
    Named(id): Named,
    version: IfMatch,
    body: Unread<RateLimitsSaid>,
) -> Result<Tagged<InForce>, Problem> {
    let burst_factor = app.settings.rate_limits.burst_factor;
    // Whoever may not know of the tenant is told no more of what was wrong.
    tenant_limits::get(&app.store, &admin, &id, burst_factor).await.map_err(missing)?;
    let (expected, said) = (version.expected()?, body.read().await?);
    let set = tenant_limits::set(&app.store, &admin, &id, &said, (burst_factor, expected), now()).await;
    let set = set.map_err(|error| version.refused(missing(error)))?;
    app.changed().await?;
    Ok(tagged(set))
}
