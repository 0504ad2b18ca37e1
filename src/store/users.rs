//! Local accounts. Names are kept in lower case; passwords only as the hash that `access` makes.

use uuid::Uuid;

use super::{Store, StoreError};
use crate::id::TenantId;

/// A row of `users`.
#[derive(Debug, Clone, PartialEq, Eq, sqlx::FromRow)]
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
    /// Microseconds since 1970.
    pub created_at: i64,
    /// Microseconds since 1970.
    pub updated_at: i64,
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
}

/// People, not the accounts of clients.
const ACTIVE_ADMINS: &str = "SELECT COUNT(*) FROM users WHERE role = 'admin' AND state = 'active'
    AND id NOT IN (SELECT user_id FROM oauth_clients WHERE user_id IS NOT NULL)";

impl Store {
    /// Inserts a user; `Taken` when the tenant has one of that name.
    pub async fn insert_user(&self, tenant: &TenantId, row: &UserRow) -> Result<(), StoreError> {
        let text = "INSERT INTO users (id, tenant_id, username, password_hash, role, state, created_at, updated_at)
            VALUES ($1, $2, $3, $4, $5, $6, $7, $8)";
        on!(change self, tx => {
            sqlx::query(text)
                .bind(row.id)
                .bind(tenant.as_str())
                .bind(&row.username)
                .bind(row.password_hash.as_deref())
                .bind(&row.role)
                .bind(&row.state)
                .bind(row.created_at)
                .bind(row.updated_at)
                .execute(&mut *tx)
                .await?;
        });
        Ok(())
    }

    /// Changes a user. `Missing` when the tenant has none of that id, `LastAdmin` when no active administrator of the
    /// gateway would be left. With `end_sessions` every key made by signing in is revoked at `now`.
    pub async fn update_user(
        &self,
        tenant: &TenantId,
        id: Uuid,
        change: UserChange<'_>,
        end_sessions: bool,
        now: i64,
    ) -> Result<(), StoreError> {
        let text = "UPDATE users SET password_hash = COALESCE($1, password_hash), role = COALESCE($2, role),
            state = COALESCE($3, state), updated_at = $4 WHERE tenant_id = $5 AND id = $6";
        let end = "UPDATE api_keys SET revoked_at = $1
            WHERE tenant_id = $2 AND user_id = $3 AND kind = 'login' AND revoked_at IS NULL";
        on!(change self, tx => {
            let before: i64 = sqlx::query_scalar(ACTIVE_ADMINS).fetch_one(&mut *tx).await?;
            let done = sqlx::query(text)
                .bind(change.password_hash)
                .bind(change.role)
                .bind(change.state)
                .bind(now)
                .bind(tenant.as_str())
                .bind(id)
                .execute(&mut *tx)
                .await?;
            if done.rows_affected() == 0 {
                return Err(StoreError::Missing);
            }
            let after: i64 = sqlx::query_scalar(ACTIVE_ADMINS).fetch_one(&mut *tx).await?;
            if before > 0 && after == 0 {
                return Err(StoreError::LastAdmin);
            }
            if end_sessions {
                sqlx::query(end).bind(now).bind(tenant.as_str()).bind(id).execute(&mut *tx).await?;
            }
        });
        Ok(())
    }

    /// Removes a user with every key. `Missing` when the tenant has none of that id, `LastAdmin` when no active
    /// administrator of the gateway would be left. What the user registered stays.
    pub async fn delete_user(&self, tenant: &TenantId, id: Uuid) -> Result<(), StoreError> {
        let text = "DELETE FROM users WHERE tenant_id = $1 AND id = $2";
        on!(change self, tx => {
            let before: i64 = sqlx::query_scalar(ACTIVE_ADMINS).fetch_one(&mut *tx).await?;
            let done = sqlx::query(text).bind(tenant.as_str()).bind(id).execute(&mut *tx).await?;
            if done.rows_affected() == 0 {
                return Err(StoreError::Missing);
            }
            let after: i64 = sqlx::query_scalar(ACTIVE_ADMINS).fetch_one(&mut *tx).await?;
            if before > 0 && after == 0 {
                return Err(StoreError::LastAdmin);
            }
        });
        Ok(())
    }

    /// The user of that name (lower case).
    pub async fn user_named(&self, tenant: &TenantId, username: &str) -> Result<Option<UserRow>, StoreError> {
        let text = "SELECT * FROM users WHERE tenant_id = $1 AND username = $2";
        Ok(on!(read self, db => sqlx::query_as(text).bind(tenant.as_str()).bind(username).fetch_optional(db).await?))
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
