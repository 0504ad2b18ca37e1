//! Issuers whose assertions a tenant takes. What such trust is made of is one JSON object of the engine's.

use uuid::Uuid;

use super::{Json, Store, StoreError, changed_one};
use crate::id::TenantId;

row! {
    /// A row of `trusted_issuers`.
    #[derive(Debug, Clone, PartialEq, Eq)]
    pub struct TrustRow {
        /// UUID version 7.
        pub id: Uuid,
        /// Who trusts.
        pub tenant_id: String,
        /// Unique in the tenant.
        pub name: String,
        /// As it writes itself; unique in the tenant.
        pub issuer: String,
        /// What the trust is made of.
        pub spec: Json<serde_json::Value>,
        /// Microseconds since 1970.
        pub created_at: i64,
    }
}

impl Store {
    /// Inserts a trusted issuer. `Taken` when the tenant has one of this name, or trusts the issuer already.
    pub async fn insert_trusted_issuer(&self, tenant: &TenantId, row: &TrustRow) -> Result<(), StoreError> {
        let text = "INSERT INTO trusted_issuers (id, tenant_id, name, issuer, spec, created_at)
            VALUES ($1, $2, $3, $4, $5, $6)";
        on!(write self, tx => {
            sqlx::query(text)
                .bind(row.id)
                .bind(tenant.as_str())
                .bind(&row.name)
                .bind(&row.issuer)
                .bind(&row.spec)
                .bind(row.created_at)
                .execute(&mut *tx)
                .await?;
        });
        Ok(())
    }

    /// Removes a trusted issuer of the tenant, and ends the grants that came by `method`. `Missing` when there is none, `Stale` when
    /// it is not the one that was made at `expected`.
    pub async fn delete_trusted_issuer(
        &self,
        tenant: &TenantId,
        name: &str,
        method: &str,
        expected: Option<i64>,
        now: i64,
    ) -> Result<(), StoreError> {
        let text = "DELETE FROM trusted_issuers
            WHERE tenant_id = $1 AND name = $2 AND (CAST($3 AS BIGINT) IS NULL OR created_at = $3)";
        let grants = "UPDATE grants SET ended_at = $1, end_reason = 'logout', end_detail = 'issuer_removed'
            WHERE tenant_id = $2 AND login_method = $3 AND ended_at IS NULL";
        let ended = on!(write self, tx => {
            let done = sqlx::query(text).bind(tenant.as_str()).bind(name).bind(expected).execute(&mut *tx).await?;
            changed_one(done.rows_affected(), expected)?;
            let done = sqlx::query(grants).bind(now).bind(tenant.as_str()).bind(method).execute(&mut *tx).await?;
            done.rows_affected() + super::grants::end_children!(tx, now).len() as u64
        });
        self.announce_ends(usize::try_from(ended).unwrap_or(usize::MAX)).await;
        Ok(())
    }

    /// The trusted issuer of that name.
    pub async fn trusted_issuer(&self, tenant: &TenantId, name: &str) -> Result<Option<TrustRow>, StoreError> {
        let text = "SELECT * FROM trusted_issuers WHERE tenant_id = $1 AND name = $2";
        Ok(on!(read self, db => sqlx::query_as(text).bind(tenant.as_str()).bind(name).fetch_optional(db).await?))
    }

    /// What the tenant trusts of an issuer, if it does.
    pub async fn trust_in(&self, tenant: &TenantId, issuer: &str) -> Result<Option<TrustRow>, StoreError> {
        let text = "SELECT * FROM trusted_issuers WHERE tenant_id = $1 AND issuer = $2";
        Ok(on!(read self, db => sqlx::query_as(text).bind(tenant.as_str()).bind(issuer).fetch_optional(db).await?))
    }

    /// Up to `limit` trusted issuers of the tenant by name, those after `after`.
    pub async fn trusted_issuers(
        &self,
        tenant: &TenantId,
        after: &str,
        limit: i64,
    ) -> Result<Vec<TrustRow>, StoreError> {
        let text = "SELECT * FROM trusted_issuers WHERE tenant_id = $1 AND name > $2 ORDER BY name LIMIT $3";
        Ok(on!(read self, db => {
            sqlx::query_as(text).bind(tenant.as_str()).bind(after).bind(limit).fetch_all(db).await?
        }))
    }
}
