//! Accounts, of this gateway and of identity providers. Names are kept in lower case; passwords only as the hash that `access` makes.

use sqlx::AssertSqlSafe;
use uuid::Uuid;

use super::keys::END_LOGINS;
use super::tenants::tenant_of;
use super::{Store, StoreError, changed_one};
use crate::id::TenantId;

row! {
    /// A row of `users`.
    #[derive(Debug, Clone, Default, PartialEq, Eq)]
    pub struct UserRow {
        /// UUID version 7.
        pub id: Uuid,
        /// Whose it is.
        pub tenant_id: String,
        /// Lower case, unique in the tenant.
        pub username: String,
        /// PHC string; none for an account that cannot sign in by password.
        pub password_hash: Option<String>,
        /// `admin`, `tenant_admin`, `server_owner` or `user`.
        pub role: String,
        /// `active` or `disabled`.
        pub state: String,
        /// The identity provider that vouches for the account; none for an account of this gateway.
        pub issuer: Option<String>,
        /// The name that never changes there.
        pub subject: Option<String>,
        /// What pages call the person.
        pub display_name: Option<String>,
        /// The person's directory at Entra, a GUID in lower case.
        pub directory: Option<String>,
        /// Whether the person is a guest there, at home in another directory.
        pub guest: bool,
        /// Microseconds since 1970.
        pub created_at: i64,
        /// Microseconds since 1970.
        pub updated_at: i64,
    }
}

/// What of a user changes; what is none stays.
#[derive(Debug, Clone, Default)]
pub struct UserChange<'a> {
    /// New password hash.
    pub password_hash: Option<&'a str>,
    /// New role.
    pub role: Option<&'a str>,
    /// New state.
    pub state: Option<&'a str>,
    /// When it was last changed as the caller read it; `Stale` if that was later.
    pub expected: Option<i64>,
}

pub(super) const INSERT_USER: &str =
    "INSERT INTO users (id, tenant_id, username, password_hash, role, state, issuer, subject,
        display_name, directory, guest, created_at, updated_at)
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)";

macro_rules! insert_user {
    ($tx:ident, $tenant:expr, $row:expr) => {
        sqlx::query($crate::store::users::INSERT_USER)
            .bind($row.id)
            .bind($tenant.as_str())
            .bind(&$row.username)
            .bind($row.password_hash.as_deref())
            .bind(&$row.role)
            .bind(&$row.state)
            .bind($row.issuer.as_deref())
            .bind($row.subject.as_deref())
            .bind($row.display_name.as_deref())
            .bind($row.directory.as_deref())
            .bind($row.guest)
            .bind($row.created_at)
            .bind($row.updated_at)
            .execute(&mut *$tx)
            .await?
    };
}
pub(super) use insert_user;

/// Who can administer the gateway: people who may come in, not the accounts of clients.
pub(super) const ACTIVE_ADMINS: &str = "SELECT COUNT(*) FROM users u JOIN standing s ON s.user_id = u.id
    WHERE u.role = 'admin' AND s.state = 'active'
    AND u.id NOT IN (SELECT user_id FROM oauth_clients WHERE user_id IS NOT NULL)";

/// Fails with `LastAdmin` when there were `$before` of [`ACTIVE_ADMINS`] and are none any more.
macro_rules! still_administered {
    ($tx:ident, $before:expr) => {
        if $before > 0 {
            let after: i64 = sqlx::query_scalar($crate::store::users::ACTIVE_ADMINS).fetch_one(&mut *$tx).await?;
            if after == 0 {
                return Err(StoreError::LastAdmin);
            }
        }
    };
}
pub(super) use still_administered;

/// Whether an account may come in: 1 or 0.
pub(super) const STANDS: &str =
    "SELECT COUNT(*) FROM standing WHERE tenant_id = $1 AND user_id = $2 AND state = 'active'";

impl Store {
    /// Inserts a user; `Taken` when the tenant has one of that name, or anybody the same issuer and subject.
    pub async fn insert_user(&self, tenant: &TenantId, row: &UserRow) -> Result<(), StoreError> {
        on!(change self, tx => { insert_user!(tx, tenant, row); });
        Ok(())
    }

    /// Changes a user. `Missing` when the tenant has none of that id, `LastAdmin` when no active administrator of the
    /// gateway would be left. With `end_sessions` every key made by signing in is revoked at `now`, and every grant ends.
    pub async fn update_user(
        &self,
        tenant: &TenantId,
        id: Uuid,
        change: UserChange<'_>,
        end_sessions: bool,
        now: i64,
    ) -> Result<(), StoreError> {
        let text = "UPDATE users SET password_hash = COALESCE($1, password_hash), role = COALESCE($2, role),
            state = COALESCE($3, state), updated_at = CASE WHEN updated_at < $4 THEN $4 ELSE updated_at + 1 END
            WHERE tenant_id = $5 AND id = $6 AND (CAST($7 AS BIGINT) IS NULL OR updated_at = $7)";
        // As which a client acts: its role is told of the client.
        let client = "UPDATE oauth_clients SET updated_at = CASE WHEN updated_at < $1 THEN $1 ELSE updated_at + 1 END
            WHERE tenant_id = $2 AND user_id = $3";
        let end_grants = "UPDATE grants SET ended_at = $1, end_reason = 'error', end_detail = $2
            WHERE tenant_id = $3 AND user_id = $4 AND ended_at IS NULL";
        let detail = if change.state == Some("disabled") { "disabled" } else { "changed" };
        on!(change self, tx => {
            let before: i64 = sqlx::query_scalar(ACTIVE_ADMINS).fetch_one(&mut *tx).await?;
            let done = sqlx::query(text)
                .bind(change.password_hash)
                .bind(change.role)
                .bind(change.state)
                .bind(now)
                .bind(tenant.as_str())
                .bind(id)
                .bind(change.expected)
                .execute(&mut *tx)
                .await?;
            changed_one(done.rows_affected(), change.expected)?;
            sqlx::query(client).bind(now).bind(tenant.as_str()).bind(id).execute(&mut *tx).await?;
            still_administered!(tx, before);
            if end_sessions {
                let tenant = tenant.as_str();
                sqlx::query(END_LOGINS).bind(now).bind(tenant).bind(id).execute(&mut *tx).await?;
                sqlx::query(end_grants).bind(now).bind(detail).bind(tenant).bind(id).execute(&mut *tx).await?;
            }
        });
        self.announce_ends(usize::from(end_sessions)).await;
        Ok(())
    }

    /// Removes a user with every key. `Missing` when the tenant has none of that id, `LastAdmin` when no active
    /// administrator of the gateway would be left. What the user registered stays.
    /// `Stale` when it was changed after `expected`.
    pub async fn delete_user(&self, tenant: &TenantId, id: Uuid, expected: Option<i64>) -> Result<(), StoreError> {
        let text = "DELETE FROM users
            WHERE tenant_id = $1 AND id = $2 AND (CAST($3 AS BIGINT) IS NULL OR updated_at = $3)";
        on!(change self, tx => {
            let before: i64 = sqlx::query_scalar(ACTIVE_ADMINS).fetch_one(&mut *tx).await?;
            let done = sqlx::query(text).bind(tenant.as_str()).bind(id).bind(expected).execute(&mut *tx).await?;
            changed_one(done.rows_affected(), expected)?;
            still_administered!(tx, before);
        });
        Ok(())
    }

    /// The user of that name (lower case).
    pub async fn user_named(&self, tenant: &TenantId, username: &str) -> Result<Option<UserRow>, StoreError> {
        let text = "SELECT * FROM users WHERE tenant_id = $1 AND username = $2";
        Ok(on!(read self, db => sqlx::query_as(text).bind(tenant.as_str()).bind(username).fetch_optional(db).await?))
    }

    /// The users of the tenant that have one of these names (lower case) or ids, at most a thousand of each; in one query.
    pub async fn users_among(
        &self,
        tenant: &TenantId,
        names: &[String],
        ids: &[Uuid],
    ) -> Result<Vec<UserRow>, StoreError> {
        // Only numbers of parameters are put into the text.
        let places = |first: usize, count: usize| {
            let places: Vec<_> = (first..first + count).map(|number| format!("${number}")).collect();
            // No list may be empty.
            if places.is_empty() { "NULL".to_owned() } else { places.join(", ") }
        };
        let (named, of_id) = (places(2, names.len()), places(2 + names.len(), ids.len()));
        let text = format!("SELECT * FROM users WHERE tenant_id = $1 AND (username IN ({named}) OR id IN ({of_id}))");
        Ok(on!(read self, db => {
            let mut query = sqlx::query_as(AssertSqlSafe(text)).bind(tenant.as_str());
            for name in names {
                query = query.bind(name);
            }
            for id in ids {
                query = query.bind(*id);
            }
            query.fetch_all(db).await?
        }))
    }

    /// Whether an account may come in: it and its tenant are active, and its directory is the tenant's.
    pub async fn may_come_in(&self, tenant: &TenantId, id: Uuid) -> Result<bool, StoreError> {
        let stands: i64 = on!(read self, db => {
            sqlx::query_scalar(STANDS).bind(tenant.as_str()).bind(id).fetch_one(db).await?
        });
        Ok(stands > 0)
    }

    /// Whose tenant's the user of that id is.
    pub async fn tenant_of_user(&self, id: Uuid) -> Result<Option<TenantId>, StoreError> {
        let text = "SELECT tenant_id FROM users WHERE id = $1";
        let tenant: Option<String> = on!(read self, db => sqlx::query_scalar(text).bind(id).fetch_optional(db).await?);
        tenant.as_deref().map(tenant_of).transpose()
    }

    /// The user of that id.
    pub async fn user(&self, tenant: &TenantId, id: Uuid) -> Result<Option<UserRow>, StoreError> {
        let text = "SELECT * FROM users WHERE tenant_id = $1 AND id = $2";
        Ok(on!(read self, db => sqlx::query_as(text).bind(tenant.as_str()).bind(id).fetch_optional(db).await?))
    }

    /// Up to `limit` users of the tenant by name, those after `after`.
    pub async fn users(&self, tenant: &TenantId, after: &str, limit: i64) -> Result<Vec<UserRow>, StoreError> {
        let text = "SELECT * FROM users WHERE tenant_id = $1 AND username > $2 ORDER BY username LIMIT $3";
        Ok(on!(read self, db => {
            sqlx::query_as(text).bind(tenant.as_str()).bind(after).bind(limit).fetch_all(db).await?
        }))
    }
}
