//! Directories of Entra and the tenants whose people theirs are. One belongs to one tenant at most.

use sqlx::AssertSqlSafe;
use uuid::Uuid;

use super::users::{ACTIVE_ADMINS, still_administered};
use super::{Store, StoreError};
use crate::id::TenantId;

/// Whose the people of a directory are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Whose {
    /// This tenant's.
    Of {
        /// The tenant that names it.
        tenant: String,
        /// Nobody named it: it was written down when the first was named, since its people had accounts already.
        assumed: bool,
    },
    /// Nobody's, though others are named.
    Nobodys,
    /// No directory was ever named by any tenant.
    Unsettled,
}

/// A directory of a tenant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Directory {
    /// Its id.
    pub id: Uuid,
    /// See [`Whose::Of`].
    pub assumed: bool,
}

/// What became of those who are more than users by the word of a directory that nobody named.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Lowered {
    /// The names of those who are users now.
    pub users: Vec<String>,
    /// Of those who stay administrators, since nobody could administer the gateway any more.
    pub admins: Vec<String>,
}

/// Who is more than a user by the word of a directory other than `$1` that is not named for the own tenant.
const ABOVE: &str = "role <> 'user' AND directory IS NOT NULL AND directory <> $1 AND NOT EXISTS
    (SELECT 1 FROM directories d WHERE d.id = users.directory AND d.tenant_id = users.tenant_id AND NOT d.assumed)";
/// Whether any was ever named: 1 or 0. When the last name goes, nobody is let in whom a name kept out.
pub(super) const SETTLED: &str = "SELECT COUNT(*) FROM counters WHERE name = 'directories_settled'";
pub(super) const SETTLE_FOR_GOOD: &str = "INSERT INTO counters (name, value) VALUES ('directories_settled', 1)";
pub(super) const HOLDER: &str = "SELECT tenant_id FROM directories WHERE id = $1";
pub(super) const CLEAR: &str = "DELETE FROM directories WHERE tenant_id = $1";
pub(super) const NAME: &str = "INSERT INTO directories (id, tenant_id) VALUES ($1, $2)";
/// With the first that is named, those stay where they are whose people have accounts already.
pub(super) const SETTLE: &str = "INSERT INTO directories (id, tenant_id, assumed)
    SELECT u.directory, MIN(u.tenant_id), TRUE FROM users u WHERE u.directory IS NOT NULL AND u.state = 'active'
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
        let text = "SELECT tenant_id, assumed FROM directories WHERE id = $1";
        let held: Option<(String, bool)> =
            on!(read self, db => sqlx::query_as(text).bind(&name).fetch_optional(db).await?);
        if let Some((tenant, assumed)) = held {
            return Ok(Whose::Of { tenant, assumed });
        }
        Ok(if self.are_directories_settled().await? { Whose::Nobodys } else { Whose::Unsettled })
    }

    /// Whether any was ever named by any tenant.
    pub async fn are_directories_settled(&self) -> Result<bool, StoreError> {
        let any: i64 = on!(read self, db => sqlx::query_scalar(SETTLED).fetch_one(db).await?);
        Ok(any > 0)
    }

    /// The directories of a tenant, in their order.
    pub(super) async fn directories_of(&self, tenant: &TenantId) -> Result<Vec<Directory>, StoreError> {
        let text = "SELECT tenant_id, id, assumed FROM directories WHERE tenant_id = $1 ORDER BY id";
        let rows: Vec<Row> = on!(read self, db => sqlx::query_as(text).bind(tenant.as_str()).fetch_all(db).await?);
        rows.into_iter().map(|row| Ok(read(row)?.1)).collect()
    }

    /// Each directory, with its tenant, of the tenants after `after` up to `last`.
    pub(super) async fn directories_between(
        &self,
        after: &str,
        last: &str,
    ) -> Result<Vec<(String, Directory)>, StoreError> {
        let text =
            "SELECT tenant_id, id, assumed FROM directories WHERE tenant_id > $1 AND tenant_id <= $2 ORDER BY id";
        let rows: Vec<Row> = on!(read self, db => sqlx::query_as(text).bind(after).bind(last).fetch_all(db).await?);
        rows.into_iter().map(read).collect()
    }

    /// Makes those to users who are more by the word of a directory that no tenant names, but for `only`, the one directory
    /// that is let in; says who. When nobody could administer the gateway any more, such administrators stay it.
    pub async fn lower_unnamed(&self, only: Option<Uuid>, now: i64) -> Result<Lowered, StoreError> {
        let only = only.map(|id| id.to_string()).unwrap_or_default();
        match self.lower(ABOVE, &only, now).await {
            Err(StoreError::LastAdmin) => {}
            lowered => return Ok(Lowered { users: lowered?, admins: Vec::new() }),
        }
        let users = self.lower(&format!("{ABOVE} AND role <> 'admin'"), &only, now).await?;
        let text = format!("SELECT username FROM users WHERE {ABOVE} AND role = 'admin' ORDER BY username");
        let text = AssertSqlSafe(text);
        let admins: Vec<String> = on!(read self, db => sqlx::query_scalar(text).bind(&only).fetch_all(db).await?);
        Ok(Lowered { users, admins })
    }

    /// Makes those to users of whom `which` is true; says who. `LastAdmin`, and nothing changes, when nobody could administer the
    /// gateway any more.
    async fn lower(&self, which: &str, only: &str, now: i64) -> Result<Vec<String>, StoreError> {
        // Looked for first: where there is none, nobody hears of a change.
        let look = AssertSqlSafe(format!("SELECT COUNT(*) FROM users WHERE {which}"));
        let some: i64 = on!(read self, db => sqlx::query_scalar(look).bind(only).fetch_one(db).await?);
        if some == 0 {
            return Ok(Vec::new());
        }
        let at = "CASE WHEN updated_at < $2 THEN $2 ELSE updated_at + 1 END";
        let text = format!("UPDATE users SET role = 'user', updated_at = {at} WHERE {which} RETURNING username");
        let text = AssertSqlSafe(text);
        Ok(on!(change self, tx => {
            let admins: i64 = sqlx::query_scalar(ACTIVE_ADMINS).fetch_one(&mut *tx).await?;
            let lowered = sqlx::query_scalar(text).bind(only).bind(now).fetch_all(&mut *tx).await?;
            still_administered!(tx, admins);
            lowered
        }))
    }
}

type Row = (String, String, bool);

fn read((tenant, name, assumed): Row) -> Result<(String, Directory), StoreError> {
    Ok((tenant, Directory { id: parse(&name)?, assumed }))
}

fn parse(name: &str) -> Result<Uuid, StoreError> {
    Uuid::try_parse(name).map_err(|_| StoreError::Corrupt(format!("directory `{name}`")))
}
