//! How much a tenant may call: what is in force, and since when. An administrator of the gateway sets it.

use schemars::JsonSchema;
use serde::Serialize;
use time::OffsetDateTime;

use super::tenants::{of_gateway, seen};
use super::{AccessError, Admin, invalid};
use crate::id::TenantId;
use crate::limit::Terms;
use crate::limit::terms::{RateLimits, RateLimitsSaid};
use crate::store::tenants::TenantChange;
use crate::store::{Store, StoreError, micros};

/// The limits of a tenant.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
#[schemars(rename = "TenantLimits")]
pub struct InForce {
    /// Whose they are.
    pub tenant_id: TenantId,
    /// As they are in force: the factor of the settings where the tenant has none of its own.
    pub limits: RateLimits,
    /// Since when.
    #[serde(with = "crate::clock::Moment")]
    pub in_force_from: OffsetDateTime,
    /// When the tenant was last changed.
    #[serde(skip)]
    pub updated_at: OffsetDateTime,
}

/// What is in force; `burst_factor` is that of the settings.
pub async fn get(store: &Store, admin: &Admin, id: &str, burst_factor: f64) -> Result<InForce, AccessError> {
    let tenant = store.tenant(&seen(admin, id)?).await?.ok_or(StoreError::Missing)?;
    let mut limits = Terms::from(tenant.terms).rate_limits();
    limits.burst_factor.get_or_insert(burst_factor);
    Ok(InForce { tenant_id: tenant.id, limits, in_force_from: tenant.terms_since, updated_at: tenant.updated_at })
}

/// Changes what is said, and says what is in force then. `Stale` if the tenant was changed after `expected`.
pub async fn set(
    store: &Store,
    admin: &Admin,
    id: &str,
    said: &RateLimitsSaid,
    (burst_factor, expected): (f64, Option<i64>),
    now: OffsetDateTime,
) -> Result<InForce, AccessError> {
    of_gateway(admin)?;
    let tenant = seen(admin, id)?;
    if said.is_empty() {
        let text = "give at least one of base_rpm, fairness_weight, burst_factor and max_concurrent_requests";
        return Err(invalid("", text));
    }
    let mut wrong = Vec::new();
    let terms = said.read("", &mut wrong);
    if !wrong.is_empty() {
        return Err(AccessError::Invalid(wrong));
    }
    store.update_tenant(&tenant, TenantChange { terms, expected, ..TenantChange::default() }, micros(now)).await?;
    get(store, admin, id, burst_factor).await
}
