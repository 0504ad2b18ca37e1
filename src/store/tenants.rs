//! Tenants: every other row belongs to one.

use time::OffsetDateTime;

use super::{Store, StoreError, at, micros, now};
use crate::id::TenantId;

/// A tenant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tenant {
    /// Its id, a slug.
    pub id: TenantId,
    /// Its name for people.
    pub display_name: String,
    /// When it was made.
    pub created_at: OffsetDateTime,
}

impl Store {
    /// Every tenant, by id.
    pub async fn tenants(&self) -> Result<Vec<Tenant>, StoreError> {
        let text = "SELECT id, display_name, created_at FROM tenants ORDER BY id";
        let rows: Vec<(String, String, i64)> = on!(read self, db => sqlx::query_as(text).fetch_all(db).await?);
        rows.into_iter()
            .map(|(id, display_name, created_at)| {
                Ok(Tenant { id: tenant_of(&id)?, display_name, created_at: at(created_at) })
            })
            .collect()
    }

    /// Makes a tenant; `Taken` when there is one of that name.
    pub async fn add_tenant(&self, id: &str, display_name: &str) -> Result<TenantId, StoreError> {
        let tenant = TenantId::parse(id).map_err(|bad| StoreError::Corrupt(bad.to_string()))?;
        let text = "INSERT INTO tenants (id, display_name, created_at) VALUES ($1, $2, $3)";
        on!(change self, tx => {
            sqlx::query(text).bind(tenant.as_str()).bind(display_name).bind(micros(now())).execute(&mut *tx).await?;
        });
        Ok(tenant)
    }

    /// Gives the tenant that the tables came with the time of the first start.
    pub(super) async fn date_first_start(&self) -> Result<(), StoreError> {
        let text = "UPDATE tenants SET created_at = $1 WHERE created_at = 0";
        let seen: Option<i64> = on!(read self, db => {
            sqlx::query_scalar("SELECT created_at FROM tenants WHERE created_at = 0").fetch_optional(db).await?
        });
        if seen.is_some() {
            on!(write self, tx => { sqlx::query(text).bind(micros(now())).execute(&mut *tx).await?; });
        }
        Ok(())
    }
}

/// The tenant a row names.
pub(crate) fn tenant_of(text: &str) -> Result<TenantId, StoreError> {
    TenantId::parse(text).map_err(|bad| StoreError::Corrupt(bad.to_string()))
}
