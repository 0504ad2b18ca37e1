//! Registered servers. The description and the sealed secrets are opaque here; `registry::servers` reads and writes them.

use serde_json::Value;
use sqlx::types::Json;
use uuid::Uuid;

use super::tenants::tenant_of;
use super::{Store, StoreError};
use crate::id::TenantId;

row! {
    /// A row of `servers`.
    #[derive(Debug, Clone)]
    pub struct ServerRow {
        /// UUID version 7.
        pub id: Uuid,
        /// Whose it is.
        pub tenant_id: String,
        /// Who registered it.
        pub owner_id: Option<Uuid>,
        /// Unique in the tenant.
        pub slug: String,
        /// The description, an object without secrets.
        pub spec: Json<Value>,
        /// Header values and environment, sealed.
        pub secrets: Option<Vec<u8>>,
        /// Whether calls are let through.
        pub enabled: bool,
        /// Counts changes, from 1.
        pub revision: i64,
        /// Microseconds since 1970.
        pub created_at: i64,
        /// Microseconds since 1970.
        pub updated_at: i64,
    }
}

/// One change of a tenant's servers.
#[derive(Debug, Clone, Copy)]
pub enum ServerChange<'a> {
    /// A new one.
    Insert(&'a ServerRow),
    /// Everything but id, tenant, owner and time of making, if the stored revision is still this one; the row then has its own.
    Update(&'a ServerRow, i64),
    /// Removes it with its catalogue and memory, if its revision is still this one (or whatever it is).
    Delete(Uuid, Option<i64>),
}

pub(super) const INSERT: &str = "INSERT INTO servers
    (id, tenant_id, owner_id, slug, spec, secrets, enabled, revision, created_at, updated_at)
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)";
pub(super) const UPDATE: &str = "UPDATE servers
    SET slug = $1, spec = $2, secrets = $3, enabled = $4, revision = $5, updated_at = $6
    WHERE tenant_id = $7 AND id = $8 AND revision = $9";
pub(super) const DELETE: &str =
    "DELETE FROM servers WHERE tenant_id = $1 AND id = $2 AND ($3 IS NULL OR revision = $3)";
pub(super) const REVISION: &str = "SELECT revision FROM servers WHERE tenant_id = $1 AND id = $2";

/// Servers of the first tenant that are offered to others, by slug; and perhaps some that are not, which whoever reads them sees.
pub(super) const OFFERED: &str =
    r#"SELECT * FROM servers WHERE tenant_id = 'default' AND CAST(spec AS TEXT) LIKE '%"offered_to"%' ORDER BY slug"#;

/// Takes a tenant's name out of every offer, in the transaction `$tx`: who comes later under that name was not meant.
macro_rules! withdraw_offers {
    ($tx:ident, $tenant:expr, $now:expr) => {
        let offered: Vec<$crate::store::servers::ServerRow> =
            sqlx::query_as($crate::store::servers::OFFERED).fetch_all(&mut *$tx).await?;
        for mut server in offered {
            let Some(named) = server.spec.0.get_mut("offered_to").and_then(|offers| offers.as_array_mut()) else {
                continue;
            };
            let before = named.len();
            named.retain(|name| name.as_str() != Some($tenant.as_str()));
            if named.len() < before {
                let text = "UPDATE servers SET spec = $1, revision = revision + 1, updated_at = $2 WHERE id = $3";
                sqlx::query(text).bind(&server.spec).bind($now).bind(server.id).execute(&mut *$tx).await?;
            }
        }
    };
}
pub(super) use withdraw_offers;

/// Makes all of these changes of a tenant's servers in the transaction `$tx`. See [`Store::change_servers`].
macro_rules! change_servers {
    ($tx:ident, $tenant:expr, $changes:expr) => {
        for change in $changes {
            use $crate::store::servers::{DELETE, INSERT, REVISION, ServerChange, UPDATE};
            let tenant = $tenant.as_str();
            let (id, done) = match *change {
                ServerChange::Insert(row) => {
                    let insert = sqlx::query(INSERT).bind(row.id).bind(tenant).bind(row.owner_id);
                    let insert = insert.bind(&row.slug).bind(&row.spec).bind(row.secrets.as_deref());
                    let insert = insert.bind(row.enabled).bind(row.revision);
                    (row.id, insert.bind(row.created_at).bind(row.updated_at).execute(&mut *$tx).await?)
                }
                ServerChange::Update(row, expected) => {
                    let update = sqlx::query(UPDATE).bind(&row.slug).bind(&row.spec).bind(row.secrets.as_deref());
                    let update = update.bind(row.enabled).bind(row.revision).bind(row.updated_at);
                    (row.id, update.bind(tenant).bind(row.id).bind(expected).execute(&mut *$tx).await?)
                }
                ServerChange::Delete(id, expected) => {
                    (id, sqlx::query(DELETE).bind(tenant).bind(id).bind(expected).execute(&mut *$tx).await?)
                }
            };
            if done.rows_affected() == 0 {
                let there: Option<i64> =
                    sqlx::query_scalar(REVISION).bind(tenant).bind(id).fetch_optional(&mut *$tx).await?;
                return Err(if there.is_some() { StoreError::Stale } else { StoreError::Missing });
            }
        }
    };
}
pub(super) use change_servers;

impl Store {
    /// Makes all of these changes, in their order, or none. `Taken` when the tenant has a server of a slug, `Stale` when one was
    /// changed meanwhile, `Missing` when one is gone.
    pub async fn change_servers(&self, tenant: &TenantId, changes: &[ServerChange<'_>]) -> Result<(), StoreError> {
        on!(change self, tx => { change_servers!(tx, tenant, changes); });
        Ok(())
    }

    /// Inserts a server; `Taken` when the tenant has one of that slug.
    pub async fn insert_server(&self, tenant: &TenantId, row: &ServerRow) -> Result<(), StoreError> {
        self.change_servers(tenant, &[ServerChange::Insert(row)]).await
    }

    /// Updates a server if its revision is still `expected`.
    pub async fn update_server(&self, tenant: &TenantId, row: &ServerRow, expected: i64) -> Result<(), StoreError> {
        self.change_servers(tenant, &[ServerChange::Update(row, expected)]).await
    }

    /// Removes a server if its revision is still `expected` (or whatever it is).
    pub async fn delete_server(&self, tenant: &TenantId, id: Uuid, expected: Option<i64>) -> Result<(), StoreError> {
        self.change_servers(tenant, &[ServerChange::Delete(id, expected)]).await
    }

    /// The server of that slug, if the tenant has one.
    pub async fn server(&self, tenant: &TenantId, slug: &str) -> Result<Option<ServerRow>, StoreError> {
        let text = "SELECT * FROM servers WHERE tenant_id = $1 AND slug = $2";
        Ok(on!(read self, db => sqlx::query_as(text).bind(tenant.as_str()).bind(slug).fetch_optional(db).await?))
    }

    /// The sealed secrets of every server, of every tenant, with its description.
    pub async fn server_secrets(&self) -> Result<Vec<(TenantId, Uuid, serde_json::Value, Vec<u8>)>, StoreError> {
        type Row = (String, Uuid, Json<serde_json::Value>, Vec<u8>);
        let text = "SELECT tenant_id, id, spec, secrets FROM servers WHERE secrets IS NOT NULL";
        let rows: Vec<Row> = on!(read self, db => sqlx::query_as(text).fetch_all(db).await?);
        rows.into_iter().map(|(tenant, id, Json(spec), secrets)| Ok((tenant_of(&tenant)?, id, spec, secrets))).collect()
    }

    /// Puts the same secrets, sealed anew, in the place of `old`, unless others have taken it; no change of the server.
    pub async fn reseal_server(&self, tenant: &TenantId, id: Uuid, old: &[u8], new: &[u8]) -> Result<(), StoreError> {
        let text = "UPDATE servers SET secrets = $1 WHERE tenant_id = $2 AND id = $3 AND secrets = $4";
        on!(write self, tx => {
            sqlx::query(text).bind(new).bind(tenant.as_str()).bind(id).bind(old).execute(&mut *tx).await?;
        });
        Ok(())
    }

    /// Up to `limit` servers of the tenant by slug, those after `after`.
    pub async fn servers(&self, tenant: &TenantId, after: &str, limit: i64) -> Result<Vec<ServerRow>, StoreError> {
        let text = "SELECT * FROM servers WHERE tenant_id = $1 AND slug > $2 ORDER BY slug LIMIT $3";
        Ok(on!(read self, db => {
            sqlx::query_as(text).bind(tenant.as_str()).bind(after).bind(limit).fetch_all(db).await?
        }))
    }

    /// See [`OFFERED`].
    pub async fn offered_servers(&self) -> Result<Vec<ServerRow>, StoreError> {
        Ok(on!(read self, db => sqlx::query_as(OFFERED).fetch_all(db).await?))
    }

    /// Every server of every active tenant: for the snapshot only.
    pub async fn servers_of_all_tenants(&self) -> Result<Vec<ServerRow>, StoreError> {
        let text = "SELECT s.* FROM servers s JOIN tenants t ON t.id = s.tenant_id WHERE t.state = 'active'
            ORDER BY s.tenant_id, s.slug";
        Ok(on!(read self, db => sqlx::query_as(text).fetch_all(db).await?))
    }
}
