//! Directories of Entra and the tenants whose people theirs are. One belongs to one tenant at most.

use uuid::Uuid;

use super::{Store, StoreError};
use crate::id::TenantId;

/// Whose the people of a directory are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Whose {
    /// The tenant's that names it.
    Of(String),
    /// Nobody's, though others are named.
    Nobodys,
    /// No directory was ever named by any tenant.
    Unsettled,
}

/// Whether any was ever named: 1 or 0. When the last name goes, nobody is let in whom a name kept out.
pub(super) const SETTLED: &str = "SELECT COUNT(*) FROM counters WHERE name = 'directories_settled'";
pub(super) const SETTLE_FOR_GOOD: &str = "INSERT INTO counters (name, value) VALUES ('directories_settled', 1)";
pub(super) const HOLDER: &str = "SELECT tenant_id FROM directories WHERE id = $1";
pub(super) const CLEAR: &str = "DELETE FROM directories WHERE tenant_id = $1";
pub(super) const NAME: &str = "INSERT INTO directories (id, tenant_id) VALUES ($1, $2)";
/// With the first that is named, those stay where they are whose people have accounts already.
pub(super) const SETTLE: &str = "INSERT INTO directories (id, tenant_id)
    SELECT u.directory, MIN(u.tenant_id) FROM users u WHERE u.directory IS NOT NULL AND u.state = 'active'
    AND NOT EXISTS (SELECT 1 FROM directories d WHERE d.id = u.directory) GROUP BY u.directory";

/// Makes `$directories` those of the tenant, in the transaction `$tx`.
macro_rules! name_directories {
    ($tx:ident, $tenant:expr, $directories:expr) => {{
        let before: i64 = sqlx::query_scalar($crate::store::directories::SETTLED).fetch_one(&mut *$tx).await?;
        sqlx::query($crate::store::directories::CLEAR).bind($tenant.as_str()).execute(&mut *$tx).await?;
        for directory in $directories {
            let name = directory.to_string();
            let held: Option<String> =
                sqlx::query_scalar($crate::store::directories::HOLDER).bind(&name).fetch_optional(&mut *$tx).await?;
            if let Some(tenant) = held {
                return Err(StoreError::DirectoryHeld { directory: *directory, tenant });
            }
            sqlx::query($crate::store::directories::NAME).bind(&name).bind($tenant.as_str()).execute(&mut *$tx).await?;
        }
        if before == 0 && !$directories.is_empty() {
            sqlx::query($crate::store::directories::SETTLE).execute(&mut *$tx).await?;
            sqlx::query($crate::store::directories::SETTLE_FOR_GOOD).execute(&mut *$tx).await?;
        }
    }};
}
pub(super) use name_directories;

impl Store {
    /// Whose the people of a directory are.
    pub async fn whose_directory(&self, directory: Uuid) -> Result<Whose, StoreError> {
        let name = directory.to_string();
        let held: Option<String> =
            on!(read self, db => sqlx::query_scalar(HOLDER).bind(&name).fetch_optional(db).await?);
        if let Some(tenant) = held {
            return Ok(Whose::Of(tenant));
        }
        let any: i64 = on!(read self, db => sqlx::query_scalar(SETTLED).fetch_one(db).await?);
        Ok(if any > 0 { Whose::Nobodys } else { Whose::Unsettled })
    }

    /// The directories of a tenant, in their order.
    pub(super) async fn directories_of(&self, tenant: &TenantId) -> Result<Vec<Uuid>, StoreError> {
        let text = "SELECT id FROM directories WHERE tenant_id = $1 ORDER BY id";
        let names: Vec<String> =
            on!(read self, db => sqlx::query_scalar(text).bind(tenant.as_str()).fetch_all(db).await?);
        names.iter().map(|name| parse(name)).collect()
    }

    /// Each directory, with its tenant, of the tenants after `after` up to `last`.
    pub(super) async fn directories_between(&self, after: &str, last: &str) -> Result<Vec<(String, Uuid)>, StoreError> {
        let text = "SELECT tenant_id, id FROM directories WHERE tenant_id > $1 AND tenant_id <= $2 ORDER BY id";
        let rows: Vec<(String, String)> =
            on!(read self, db => sqlx::query_as(text).bind(after).bind(last).fetch_all(db).await?);
        rows.into_iter().map(|(tenant, name)| Ok((tenant, parse(&name)?))).collect()
    }
}

fn parse(name: &str) -> Result<Uuid, StoreError> {
    Uuid::try_parse(name).map_err(|_| StoreError::Corrupt(format!("directory `{name}`")))
}
