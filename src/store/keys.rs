//! API keys: only their SHA-256 is kept. Keys that signing in made live here too, with an end of hours.

use std::time::Duration;

use serde_json::Value;
use sqlx::AssertSqlSafe;
use sqlx::types::Json;
use uuid::Uuid;

use super::refreshes::in_order;
use super::users::{UserRow, insert_user};
use super::{Store, StoreError};
use crate::id::TenantId;

row! {
    /// A row of `api_keys`.
    #[derive(Debug, Clone, PartialEq)]
    pub struct KeyRow {
        /// UUID version 7.
        pub id: Uuid,
        /// Whose it is.
        pub tenant_id: String,
        /// Who holds it.
        pub user_id: Uuid,
        /// What people call it.
        pub name: String,
        /// `key` or `login`.
        pub kind: String,
        /// Its first characters.
        pub hint: String,
        /// SHA-256 of the key.
        pub hash: Vec<u8>,
        /// What it may be used for, an object.
        pub scopes: Json<Value>,
        /// The most it may be used as.
        pub role: String,
        /// Microseconds since 1970.
        pub created_at: i64,
        /// Microseconds since 1970; none: it does not expire.
        pub expires_at: Option<i64>,
        /// Microseconds since 1970.
        pub last_used_at: Option<i64>,
        /// Microseconds since 1970.
        pub revoked_at: Option<i64>,
    }
}

row! {
    /// A key with what authentication must know of its holder.
    #[derive(Debug, Clone)]
    pub struct HeldKeyRow {
        rows {
            /// The key.
            pub key: KeyRow,
        }
        /// The holder's name.
        pub username: String,
        /// The identity provider that vouches for the holder, if one does.
        pub issuer: Option<String>,
        /// The holder's role.
        pub user_role: String,
        /// How the holder stands: `active`, or why not.
        pub user_state: String,
        /// What a provider counted the holder among.
        pub memberships: Option<String>,
    }
}

/// Most keys that signing in may leave alive for one user; older ones give way.
const MOST_LOGINS: i64 = 50;

const INSERT: &str = "INSERT INTO api_keys (id, tenant_id, user_id, name, kind, hint, hash, scopes, role, created_at,
        expires_at, last_used_at, revoked_at)
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)";

pub(super) const END_LOGINS: &str = "UPDATE api_keys SET revoked_at = $1
    WHERE tenant_id = $2 AND user_id = $3 AND kind = 'login' AND revoked_at IS NULL";

macro_rules! insert {
    ($tx:ident, $tenant:expr, $row:expr) => {
        sqlx::query(INSERT)
            .bind($row.id)
            .bind($tenant.as_str())
            .bind($row.user_id)
            .bind(&$row.name)
            .bind(&$row.kind)
            .bind(&$row.hint)
            .bind($row.hash.as_slice())
            .bind(&$row.scopes)
            .bind(&$row.role)
            .bind($row.created_at)
            .bind($row.expires_at)
            .bind($row.last_used_at)
            .bind($row.revoked_at)
            .execute(&mut *$tx)
            .await?
    };
}

impl Store {
    /// Inserts a key. `Missing` when the tenant has no such user, `Taken` when the key exists.
    pub async fn insert_key(&self, tenant: &TenantId, row: &KeyRow) -> Result<(), StoreError> {
        on!(change self, tx => { insert!(tx, tenant, row); });
        Ok(())
    }

    /// Inserts a key made by signing in, and removes the user's expired and too many others of that kind.
    pub async fn insert_login(&self, tenant: &TenantId, row: &KeyRow) -> Result<(), StoreError> {
        let expired = "DELETE FROM api_keys
            WHERE tenant_id = $1 AND user_id = $2 AND kind = 'login' AND expires_at < $3";
        let surplus = "DELETE FROM api_keys WHERE tenant_id = $1 AND user_id = $2 AND kind = 'login' AND id NOT IN
            (SELECT id FROM api_keys WHERE tenant_id = $1 AND user_id = $2 AND kind = 'login'
             ORDER BY created_at DESC, id DESC LIMIT $3)";
        on!(change self, tx => {
            let (tenant_id, user) = (tenant.as_str(), row.user_id);
            sqlx::query(expired).bind(tenant_id).bind(user).bind(row.created_at).execute(&mut *tx).await?;
            insert!(tx, tenant, row);
            sqlx::query(surplus).bind(tenant_id).bind(user).bind(MOST_LOGINS).execute(&mut *tx).await?;
        });
        Ok(())
    }

    /// Inserts the first administrator with a key, unless there is an administrator already: two processes that start at
    /// once make one. Says whether it was inserted.
    pub async fn insert_first_admin(
        &self,
        tenant: &TenantId,
        user: &UserRow,
        key: &KeyRow,
    ) -> Result<bool, StoreError> {
        let exists = "SELECT COUNT(*) FROM users WHERE role = 'admin'";
        let made = on!(change self, tx => {
            let admins: i64 = sqlx::query_scalar(exists).fetch_one(&mut *tx).await?;
            if admins == 0 {
                insert_user!(tx, tenant, user);
                insert!(tx, tenant, key);
            }
            admins == 0
        });
        Ok(made)
    }

    /// The oldest administrator of the gateway, an active one if there is any.
    pub async fn first_admin(&self) -> Result<Option<UserRow>, StoreError> {
        let text = "SELECT * FROM users WHERE role = 'admin' ORDER BY state, created_at LIMIT 1";
        Ok(on!(read self, db => sqlx::query_as(text).fetch_optional(db).await?))
    }

    /// Whether a key of that hash exists, in any tenant and state.
    pub async fn key_exists(&self, hash: &[u8; 32]) -> Result<bool, StoreError> {
        let text = "SELECT COUNT(*) FROM api_keys WHERE hash = $1";
        let found: i64 = on!(read self, db => sqlx::query_scalar(text).bind(hash.as_slice()).fetch_one(db).await?);
        Ok(found > 0)
    }

    /// Who holds the key of that id.
    pub async fn key_holder(&self, tenant: &TenantId, id: Uuid) -> Result<Option<UserRow>, StoreError> {
        let text = "SELECT u.* FROM users u JOIN api_keys k ON k.user_id = u.id WHERE k.tenant_id = $1 AND k.id = $2";
        Ok(on!(read self, db => sqlx::query_as(text).bind(tenant.as_str()).bind(id).fetch_optional(db).await?))
    }

    /// Removes up to `most` keys, of any tenant, that were revoked or expired before a time in microseconds, but none that
    /// is called `kept`; says how many.
    pub async fn purge_keys(&self, before: i64, kept: &str, most: i64) -> Result<u64, StoreError> {
        let due = "FROM api_keys WHERE (revoked_at < $1 OR expires_at < $1) AND name <> $2";
        // Looked for first: where there is none, nobody hears of a change.
        let look = AssertSqlSafe(format!("SELECT COUNT(*) {due}"));
        let some: i64 = on!(read self, db => sqlx::query_scalar(look).bind(before).bind(kept).fetch_one(db).await?);
        if some == 0 {
            return Ok(0);
        }
        let text = AssertSqlSafe(format!("DELETE FROM api_keys WHERE id IN (SELECT id {due} ORDER BY id LIMIT $3)"));
        Ok(on!(change self, tx => {
            sqlx::query(text).bind(before).bind(kept).bind(most).execute(&mut *tx).await?.rows_affected()
        }))
    }

    /// Ends a key at `now`; ending it twice changes nothing. With `user`, only if that user holds it.
    pub async fn revoke_key(
        &self,
        tenant: &TenantId,
        id: Uuid,
        user: Option<Uuid>,
        now: i64,
    ) -> Result<(), StoreError> {
        let text = "UPDATE api_keys SET revoked_at = COALESCE(revoked_at, $1)
            WHERE tenant_id = $2 AND id = $3 AND ($4 IS NULL OR user_id = $4)";
        let done = on!(change self, tx => {
            sqlx::query(text).bind(now).bind(tenant.as_str()).bind(id).bind(user).execute(&mut *tx).await?.rows_affected()
        });
        if done == 0 { Err(StoreError::Missing) } else { Ok(()) }
    }

    /// Ends, at `now`, the keys that signing in made for a user.
    pub async fn revoke_logins(&self, tenant: &TenantId, user: Uuid, now: i64) -> Result<(), StoreError> {
        on!(change self, tx => {
            sqlx::query(END_LOGINS).bind(now).bind(tenant.as_str()).bind(user).execute(&mut *tx).await?;
        });
        Ok(())
    }

    /// Inserts a key and ends, at the time it was made, those of the same holder and name.
    pub async fn replace_key(&self, tenant: &TenantId, row: &KeyRow) -> Result<(), StoreError> {
        let end = "UPDATE api_keys SET revoked_at = $1
            WHERE tenant_id = $2 AND user_id = $3 AND name = $4 AND revoked_at IS NULL";
        on!(change self, tx => {
            let (tenant_id, user) = (tenant.as_str(), row.user_id);
            sqlx::query(end).bind(row.created_at).bind(tenant_id).bind(user).bind(&row.name).execute(&mut *tx).await?;
            insert!(tx, tenant, row);
        });
        Ok(())
    }

    /// Up to `limit` keys of the tenant (with `user`, only that user's) by id, those after `after`. Keys made by signing
    /// in are left out.
    pub async fn keys(
        &self,
        tenant: &TenantId,
        user: Option<Uuid>,
        after: Uuid,
        limit: i64,
    ) -> Result<Vec<HeldKeyRow>, StoreError> {
        let text = "SELECT k.*, u.username, u.issuer, u.role AS user_role, s.state AS user_state, m.text AS memberships
            FROM api_keys k JOIN users u ON u.id = k.user_id JOIN standing s ON s.user_id = u.id
            LEFT JOIN memberships m ON m.user_id = u.id
            WHERE k.tenant_id = $1 AND ($2 IS NULL OR k.user_id = $2) AND k.kind = 'key' AND k.id > $3
            ORDER BY k.id LIMIT $4";
        Ok(on!(read self, db => {
            sqlx::query_as(text).bind(tenant.as_str()).bind(user).bind(after).bind(limit).fetch_all(db).await?
        }))
    }

    /// Every key of every tenant with its holder: for the key ring only.
    pub async fn keys_of_all_tenants(&self) -> Result<Vec<HeldKeyRow>, StoreError> {
        let text = "SELECT k.*, u.username, u.issuer, u.role AS user_role, s.state AS user_state, m.text AS memberships
            FROM api_keys k JOIN users u ON u.id = k.user_id JOIN standing s ON s.user_id = u.id
            LEFT JOIN memberships m ON m.user_id = u.id";
        Ok(on!(read self, db => sqlx::query_as(text).fetch_all(db).await?))
    }

    /// Notes when keys were last used (id, microseconds). What a provider gave last for their holders is due when its
    /// word is older than `recheck`.
    pub async fn touch_keys(&self, used: &[(Uuid, i64)], recheck: Duration) -> Result<(), StoreError> {
        let text =
            "UPDATE api_keys SET last_used_at = $1 WHERE id = $2 AND (last_used_at IS NULL OR last_used_at < $1)";
        let login = "SELECT l.id FROM api_keys k JOIN logins l ON l.tenant_id = k.tenant_id AND l.user_id = k.user_id
             WHERE k.id = $1 AND k.revoked_at IS NULL AND l.state = 'active' AND l.tokens IS NOT NULL
             ORDER BY l.created_at DESC, l.id DESC LIMIT 1";
        let used = in_order(used);
        let mut logins: Vec<(Uuid, i64)> = Vec::new();
        on!(write self, tx => {
            for (id, at) in &used {
                sqlx::query(text).bind(at).bind(id).execute(&mut *tx).await?;
                let login: Option<Uuid> = sqlx::query_scalar(login).bind(id).fetch_optional(&mut *tx).await?;
                logins.extend(login.map(|login| (login, *at)));
            }
        });
        self.wake_logins(&in_order(&logins), recheck).await
    }
}
