//! Access rules of tenants with their last versions, what providers counted people among, and which operations there were.

use uuid::Uuid;

use super::users::UserRow;
use super::{Json, Store, StoreError};
use crate::id::TenantId;

/// Versions of a tenant's rules that are kept.
pub const VERSIONS: i64 = 20;
/// Most different operations that are kept of a tenant.
pub const MOST_OBSERVED: i64 = 10_000;

row! {
    /// A row of `access_rules`.
    #[derive(Debug, Clone, PartialEq, Eq)]
    pub struct RulesRow {
        /// Whose.
        pub tenant_id: String,
        /// From 1.
        pub version: i64,
        /// As it was written.
        pub text: String,
        /// What its author was called then.
        pub author: String,
        /// The author's account.
        pub author_id: Uuid,
        /// Microseconds since 1970.
        pub created_at: i64,
    }
}

row! {
    /// A row of `observed_operations`.
    #[derive(Debug, Clone, PartialEq, Eq)]
    pub struct ObservedRow {
        /// SHA-256 of all but how often and when.
        pub digest: Vec<u8>,
        /// Whose tenant.
        pub tenant_id: String,
        /// Who.
        pub user_id: Uuid,
        /// In which role.
        pub role: String,
        /// Through which client.
        pub client: String,
        /// With which kind of credential.
        pub credential: String,
        /// At which server.
        pub server: String,
        /// What kind of thing.
        pub kind: String,
        /// Its name there.
        pub name: String,
        /// `allowed` or `denied`.
        pub decision: String,
        /// How often.
        pub count: i64,
        /// Microseconds since 1970.
        pub last_at: i64,
    }
}

const LATEST: &str = "SELECT * FROM access_rules WHERE tenant_id = $1 ORDER BY version DESC LIMIT 1";

impl Store {
    /// The rules in force of every tenant that has any: for the snapshot only.
    pub async fn rules_of_all_tenants(&self) -> Result<Vec<RulesRow>, StoreError> {
        let text = "SELECT * FROM access_rules a
            WHERE version = (SELECT MAX(version) FROM access_rules b WHERE b.tenant_id = a.tenant_id)";
        Ok(on!(read self, db => sqlx::query_as(text).fetch_all(db).await?))
    }

    /// The rules in force of a tenant, if anybody wrote some.
    pub async fn rules(&self, tenant: &TenantId) -> Result<Option<RulesRow>, StoreError> {
        Ok(on!(read self, db => sqlx::query_as(LATEST).bind(tenant.as_str()).fetch_optional(db).await?))
    }

    /// One version of a tenant's rules.
    pub async fn rules_version(&self, tenant: &TenantId, version: i64) -> Result<Option<RulesRow>, StoreError> {
        let text = "SELECT * FROM access_rules WHERE tenant_id = $1 AND version = $2";
        Ok(on!(read self, db => sqlx::query_as(text).bind(tenant.as_str()).bind(version).fetch_optional(db).await?))
    }

    /// The versions of a tenant's rules that are kept, the newest first.
    pub async fn rules_history(&self, tenant: &TenantId) -> Result<Vec<RulesRow>, StoreError> {
        let text = "SELECT * FROM access_rules WHERE tenant_id = $1 ORDER BY version DESC";
        Ok(on!(read self, db => sqlx::query_as(text).bind(tenant.as_str()).fetch_all(db).await?))
    }

    /// Puts rules in force as the version after the last one; `row.version` is not read. `Stale` unless the last one is `expected`
    /// (0: there is none), `Missing` when there is no such tenant.
    pub async fn put_rules(
        &self,
        tenant: &TenantId,
        row: &RulesRow,
        expected: Option<i64>,
    ) -> Result<RulesRow, StoreError> {
        let insert = "INSERT INTO access_rules (tenant_id, version, text, author, author_id, created_at)
            VALUES ($1, $2, $3, $4, $5, $6)";
        let old = "DELETE FROM access_rules WHERE tenant_id = $1 AND version <= $2";
        let last = "SELECT COALESCE(MAX(version), 0) FROM access_rules WHERE tenant_id = $1";
        Ok(on!(change self, tx => {
            let last: i64 = sqlx::query_scalar(last).bind(tenant.as_str()).fetch_one(&mut *tx).await?;
            if expected.is_some_and(|expected| expected != last) {
                return Err(StoreError::Stale);
            }
            let row = RulesRow { tenant_id: tenant.as_str().to_owned(), version: last + 1, ..row.clone() };
            sqlx::query(insert)
                .bind(&row.tenant_id)
                .bind(row.version)
                .bind(&row.text)
                .bind(&row.author)
                .bind(row.author_id)
                .bind(row.created_at)
                .execute(&mut *tx)
                .await?;
            sqlx::query(old).bind(tenant.as_str()).bind(row.version - VERSIONS).execute(&mut *tx).await?;
            row
        }))
    }

    /// What is kept of the groups and app roles of an account.
    pub async fn memberships(&self, tenant: &TenantId, user: Uuid) -> Result<Option<String>, StoreError> {
        let text = "SELECT text FROM memberships WHERE tenant_id = $1 AND user_id = $2";
        Ok(on!(read self, db => sqlx::query_scalar(text).bind(tenant.as_str()).bind(user).fetch_optional(db).await?))
    }

    /// The same for every account of a tenant of which anything is kept.
    pub async fn memberships_in(&self, tenant: &TenantId) -> Result<Vec<(Uuid, String)>, StoreError> {
        let text = "SELECT user_id, text FROM memberships WHERE tenant_id = $1";
        Ok(on!(read self, db => sqlx::query_as(text).bind(tenant.as_str()).fetch_all(db).await?))
    }

    /// Who holds an API key, at most as what, and what it may be used for.
    pub async fn key_and_holder(
        &self,
        tenant: &TenantId,
        key: Uuid,
    ) -> Result<Option<(UserRow, String, serde_json::Value)>, StoreError> {
        let Some(holder) = self.key_holder(tenant, key).await? else { return Ok(None) };
        let text = "SELECT role, scopes FROM api_keys WHERE tenant_id = $1 AND id = $2";
        let row: Option<(String, Json<serde_json::Value>)> = on!(read self, db => {
            sqlx::query_as(text).bind(tenant.as_str()).bind(key).fetch_optional(db).await?
        });
        Ok(row.map(|(role, scopes)| (holder, role, scopes.0)))
    }

    /// Writes down the groups and app roles of an account.
    pub async fn set_memberships(
        &self,
        tenant: &TenantId,
        user: Uuid,
        memberships: &str,
        now: i64,
    ) -> Result<(), StoreError> {
        let text = "INSERT INTO memberships (user_id, tenant_id, text, updated_at) VALUES ($1, $2, $3, $4)
            ON CONFLICT (user_id) DO UPDATE SET tenant_id = excluded.tenant_id, text = excluded.text,
            updated_at = excluded.updated_at";
        on!(brief change self, tx => {
            sqlx::query(text).bind(user).bind(tenant.as_str()).bind(memberships).bind(now).execute(&mut *tx).await?;
        });
        Ok(())
    }

    /// Adds operations to those that are kept, in one transaction. Those of tenants that are gone are left out.
    pub async fn observe(&self, rows: &[ObservedRow]) -> Result<(), StoreError> {
        let text = "INSERT INTO observed_operations
                (digest, tenant_id, user_id, role, client, credential, server, kind, name, decision, count, last_at)
            SELECT $1, id, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12 FROM tenants WHERE id = $2
            ON CONFLICT (digest) DO UPDATE SET count = observed_operations.count + excluded.count,
            last_at = CASE WHEN excluded.last_at > observed_operations.last_at THEN excluded.last_at
                ELSE observed_operations.last_at END";
        on!(brief self, tx => {
            for row in rows {
                sqlx::query(text)
                    .bind(row.digest.as_slice())
                    .bind(&row.tenant_id)
                    .bind(row.user_id)
                    .bind(&row.role)
                    .bind(&row.client)
                    .bind(&row.credential)
                    .bind(&row.server)
                    .bind(&row.kind)
                    .bind(&row.name)
                    .bind(&row.decision)
                    .bind(row.count)
                    .bind(row.last_at)
                    .execute(&mut *tx)
                    .await?;
            }
        });
        Ok(())
    }

    /// Removes the oldest operations of a tenant that are more than are kept.
    pub async fn trim_observed(&self, tenant: &str, most: i64) -> Result<u64, StoreError> {
        let text = "DELETE FROM observed_operations WHERE tenant_id = $1 AND digest NOT IN
            (SELECT digest FROM observed_operations WHERE tenant_id = $1 ORDER BY last_at DESC, digest LIMIT $2)";
        let count = "SELECT COUNT(*) FROM observed_operations WHERE tenant_id = $1";
        // Looked for first: there is seldom anything to remove.
        let kept: i64 = on!(read self, db => sqlx::query_scalar(count).bind(tenant).fetch_one(db).await?);
        if kept <= most {
            return Ok(0);
        }
        Ok(on!(brief self, tx => sqlx::query(text).bind(tenant).bind(most).execute(&mut *tx).await?.rows_affected()))
    }

    /// The operations of a tenant since then (microseconds since 1970), the latest first.
    pub async fn observed(&self, tenant: &TenantId, since: i64) -> Result<Vec<ObservedRow>, StoreError> {
        let text = "SELECT * FROM observed_operations WHERE tenant_id = $1 AND last_at >= $2
            ORDER BY last_at DESC, digest LIMIT $3";
        Ok(on!(read self, db => {
            sqlx::query_as(text).bind(tenant.as_str()).bind(since).bind(MOST_OBSERVED).fetch_all(db).await?
        }))
    }
}
