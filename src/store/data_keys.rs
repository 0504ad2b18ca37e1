//! The keys of tenants, sealed; `vault` opens them. All are read where one is, so that whoever seals and opens has them together.

use sqlx::AssertSqlSafe;

use super::sealed::{ALL, Column, Under};
use super::tenants::tenant_of;
use super::{Store, StoreError};
use crate::crypto::MARK;
use crate::id::TenantId;

row! {
    /// A row of `data_keys`.
    #[derive(Debug, Clone, PartialEq, Eq)]
    pub struct DataKeyRow {
        /// Whose.
        pub tenant_id: String,
        /// The how-manieth of the tenant's it is, from 1.
        pub generation: i64,
        /// The key, sealed under the master key.
        pub sealed: Vec<u8>,
        /// Microseconds since 1970; not known of the oldest.
        pub created_at: Option<i64>,
        /// When another took its place; microseconds since 1970.
        pub retired_at: Option<i64>,
    }
}

impl DataKeyRow {
    /// Whose.
    pub fn tenant(&self) -> Result<TenantId, StoreError> {
        tenant_of(&self.tenant_id)
    }
}

/// A key that is to become its tenant's newest.
#[derive(Debug)]
pub struct NewDataKey {
    /// Whose.
    pub tenant: TenantId,
    /// The generation of the one whose place it takes; 0 where there is none.
    pub after: i64,
    /// The key, sealed.
    pub sealed: Vec<u8>,
}

pub(super) const MOVE: &str = "UPDATE counters SET value = value + 1 WHERE name = 'data_keys_revision'";

impl Store {
    /// Moves with every key that comes or goes.
    pub async fn data_keys_revision(&self) -> Result<i64, StoreError> {
        let text = "SELECT value FROM counters WHERE name = 'data_keys_revision'";
        Ok(on!(read self, db => sqlx::query_scalar(text).fetch_one(db).await?))
    }

    /// Those of a tenant, or of all, tenant by tenant; the newest of each first.
    pub async fn data_keys(&self, tenant: Option<&TenantId>) -> Result<Vec<DataKeyRow>, StoreError> {
        let text = "SELECT * FROM data_keys WHERE ($1 IS NULL OR tenant_id = $1) ORDER BY tenant_id, generation DESC";
        let tenant = tenant.map(TenantId::as_str);
        Ok(on!(read self, db => sqlx::query_as(text).bind(tenant).fetch_all(db).await?))
    }

    /// Makes each of these its tenant's newest key, unless there is another since; says how many. A tenant that is not there gets none.
    pub async fn add_data_keys(&self, keys: &[NewDataKey], now: i64) -> Result<u64, StoreError> {
        // Whatever the clocks of other processes said, it is newer than the others.
        let add = "INSERT INTO data_keys (tenant_id, generation, sealed, created_at)
            SELECT id, $2 + 1, $3, (SELECT MAX(made) FROM (SELECT CAST($4 AS BIGINT) AS made
                UNION ALL SELECT created_at + 1 FROM data_keys WHERE tenant_id = $1) AS before)
            FROM tenants WHERE id = $1
            AND NOT EXISTS (SELECT 1 FROM data_keys WHERE tenant_id = $1 AND generation > $2)
            ON CONFLICT (tenant_id, generation) DO NOTHING";
        let retire = "UPDATE data_keys SET retired_at = $3
            WHERE tenant_id = $1 AND generation <= $2 AND retired_at IS NULL";
        Ok(on!(write self, tx => {
            let mut added = 0;
            for NewDataKey { tenant, after, sealed } in keys {
                let query = sqlx::query(add).bind(tenant.as_str()).bind(after).bind(sealed).bind(now);
                if query.execute(&mut *tx).await?.rows_affected() > 0 {
                    sqlx::query(retire).bind(tenant.as_str()).bind(after).bind(now).execute(&mut *tx).await?;
                    added += 1;
                }
            }
            sqlx::query(MOVE).execute(&mut *tx).await?;
            added
        }))
    }

    /// Puts the same keys, sealed anew, in the place of the old ones, where these still are; says how many.
    pub async fn reseal_data_keys(&self, keys: &[(DataKeyRow, Vec<u8>)]) -> Result<u64, StoreError> {
        let text = "UPDATE data_keys SET sealed = $1 WHERE tenant_id = $2 AND generation = $3 AND sealed = $4";
        Ok(on!(write self, tx => {
            let mut done = 0;
            for (old, new) in keys {
                let query = sqlx::query(text).bind(new).bind(&old.tenant_id).bind(old.generation).bind(&old.sealed);
                done += query.execute(&mut *tx).await?.rows_affected();
            }
            done
        }))
    }

    /// Removes a key that was retired by `before` and that nothing names which begins with one of these marks; says whether.
    pub async fn remove_data_key(
        &self,
        key: &DataKeyRow,
        marks: &[[u8; MARK]; 2],
        before: i64,
    ) -> Result<bool, StoreError> {
        let text = "DELETE FROM data_keys WHERE tenant_id = $1 AND generation = $2 AND retired_at <= $3";
        let counts: Vec<String> =
            ALL.iter().filter(|column| column.under == Under::Tenant).map(Column::names).collect();
        let [one, other] = marks.each_ref().map(<[u8; MARK]>::as_slice);
        // Whoever writes need not wait for a first look.
        for count in &counts {
            let named: i64 = on!(read self, db => {
                let query = sqlx::query_scalar(AssertSqlSafe(count.as_str())).bind(&key.tenant_id);
                query.bind(one).bind(other).fetch_one(db).await?
            });
            if named > 0 {
                return Ok(false);
            }
        }
        Ok(on!(write self, tx => {
            for count in &counts {
                let query = sqlx::query_scalar(AssertSqlSafe(count.as_str())).bind(&key.tenant_id);
                let named: i64 = query.bind(one).bind(other).fetch_one(&mut *tx).await?;
                if named > 0 {
                    return Ok(false);
                }
            }
            let query = sqlx::query(text).bind(&key.tenant_id).bind(key.generation).bind(before);
            let gone = query.execute(&mut *tx).await?.rows_affected();
            sqlx::query(MOVE).execute(&mut *tx).await?;
            gone > 0
        }))
    }
}
