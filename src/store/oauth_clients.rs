//! OAuth clients that an administrator registered. What a client is made of is one JSON object of the engine's; an account as
//! which it acts on its own comes and goes with it.

use uuid::Uuid;

use super::users::UserRow;
use super::{Json, Store, StoreError, changed_one};
use crate::id::TenantId;

row! {
    /// A row of `oauth_clients`, with the role of its account.
    #[derive(Debug, Clone, PartialEq, Eq)]
    pub struct ClientRow {
        /// UUID version 7.
        pub id: Uuid,
        /// Whose it is.
        pub tenant_id: String,
        /// What it calls itself by on the wire; unique in all tenants.
        pub client_id: String,
        /// What people call it.
        pub name: String,
        /// What it is made of.
        pub spec: Json<serde_json::Value>,
        /// The account as which it acts on its own.
        pub user_id: Option<Uuid>,
        /// Microseconds since 1970.
        pub created_at: i64,
        /// Microseconds since 1970; greater with every change.
        pub updated_at: i64,
        /// The role of that account.
        pub user_role: Option<String>,
        /// Its state.
        pub user_state: Option<String>,
    }
}

const SELECT: &str = "SELECT c.*, u.role AS user_role, u.state AS user_state
    FROM oauth_clients c LEFT JOIN users u ON u.id = c.user_id";

impl Store {
    /// Inserts a client, and the account as which it acts if it has one. `Taken` when a client has this id already, or an
    /// account of the tenant this name.
    pub async fn insert_client(
        &self,
        tenant: &TenantId,
        row: &ClientRow,
        account: Option<&UserRow>,
    ) -> Result<(), StoreError> {
        let user = "INSERT INTO users (id, tenant_id, username, password_hash, role, state, created_at, updated_at)
            VALUES ($1, $2, $3, NULL, $4, $5, $6, $6)";
        let client = "INSERT INTO oauth_clients (id, tenant_id, client_id, name, spec, user_id, created_at, updated_at)
            VALUES ($1, $2, $3, $4, $5, $6, $7, $8)";
        on!(change self, tx => {
            if let Some(account) = account {
                sqlx::query(user)
                    .bind(account.id)
                    .bind(tenant.as_str())
                    .bind(&account.username)
                    .bind(&account.role)
                    .bind(&account.state)
                    .bind(account.created_at)
                    .execute(&mut *tx)
                    .await?;
            }
            sqlx::query(client)
                .bind(row.id)
                .bind(tenant.as_str())
                .bind(&row.client_id)
                .bind(&row.name)
                .bind(&row.spec)
                .bind(row.user_id)
                .bind(row.created_at)
                .bind(row.updated_at)
                .execute(&mut *tx)
                .await?;
        });
        Ok(())
    }

    /// Writes name and spec of a client, and the role of its account if one is given, unless it was changed since
    /// `row.updated_at` was read: then `Stale`. `now` must be greater.
    pub async fn update_client(
        &self,
        tenant: &TenantId,
        row: &ClientRow,
        role: Option<&str>,
        now: i64,
    ) -> Result<(), StoreError> {
        let text = "UPDATE oauth_clients SET name = $1, spec = $2, updated_at = $3
            WHERE tenant_id = $4 AND id = $5 AND updated_at = $6";
        let user = "UPDATE users SET role = $1, updated_at = CASE WHEN updated_at < $2 THEN $2 ELSE updated_at + 1 END
            WHERE tenant_id = $3 AND id = $4";
        on!(change self, tx => {
            let done = sqlx::query(text)
                .bind(&row.name)
                .bind(&row.spec)
                .bind(now)
                .bind(tenant.as_str())
                .bind(row.id)
                .bind(row.updated_at)
                .execute(&mut *tx)
                .await?;
            if done.rows_affected() == 0 {
                return Err(StoreError::Stale);
            }
            if let (Some(role), Some(account)) = (role, row.user_id) {
                sqlx::query(user).bind(role).bind(now).bind(tenant.as_str()).bind(account).execute(&mut *tx).await?;
            }
        });
        Ok(())
    }

    /// Removes a client with its account and what people agreed to for it, and ends what was granted to it. `Stale`
    /// when it was changed after `expected`.
    pub async fn delete_client(
        &self,
        tenant: &TenantId,
        id: Uuid,
        expected: Option<i64>,
        now: i64,
    ) -> Result<(), StoreError> {
        let find = "SELECT client_id, user_id FROM oauth_clients WHERE tenant_id = $1 AND id = $2";
        let client = "DELETE FROM oauth_clients
            WHERE tenant_id = $1 AND id = $2 AND (CAST($3 AS BIGINT) IS NULL OR updated_at = $3)";
        let grants = "UPDATE grants SET ended_at = $1, end_reason = 'logout', end_detail = 'client_removed'
            WHERE client_id = $2 AND ended_at IS NULL";
        on!(change self, tx => {
            let found: Option<(String, Option<Uuid>)> =
                sqlx::query_as(find).bind(tenant.as_str()).bind(id).fetch_optional(&mut *tx).await?;
            let Some((client_id, account)) = found else { return Err(StoreError::Missing) };
            sqlx::query(grants).bind(now).bind(&client_id).execute(&mut *tx).await?;
            super::grants::end_children!(tx, now);
            sqlx::query("DELETE FROM consents WHERE client_id = $1").bind(&client_id).execute(&mut *tx).await?;
            let gone =
                sqlx::query(client).bind(tenant.as_str()).bind(id).bind(expected).execute(&mut *tx).await?;
            changed_one(gone.rows_affected(), expected)?;
            if let Some(account) = account {
                sqlx::query("DELETE FROM users WHERE tenant_id = $1 AND id = $2")
                    .bind(tenant.as_str())
                    .bind(account)
                    .execute(&mut *tx)
                    .await?;
            }
        });
        Ok(())
    }

    /// The client of that id on the wire, in the tenant.
    pub async fn client(&self, tenant: &TenantId, client_id: &str) -> Result<Option<ClientRow>, StoreError> {
        let text = sqlx::AssertSqlSafe(format!("{SELECT} WHERE c.tenant_id = $1 AND c.client_id = $2"));
        Ok(on!(read self, db => {
            sqlx::query_as(text).bind(tenant.as_str()).bind(client_id).fetch_optional(db).await?
        }))
    }

    /// The client of that id on the wire, whichever active tenant it is of: for a client that introduces itself.
    pub async fn client_of_any_tenant(&self, client_id: &str) -> Result<Option<ClientRow>, StoreError> {
        let text = sqlx::AssertSqlSafe(format!(
            "{SELECT} JOIN tenants t ON t.id = c.tenant_id WHERE c.client_id = $1 AND t.state = 'active'"
        ));
        Ok(on!(read self, db => sqlx::query_as(text).bind(client_id).fetch_optional(db).await?))
    }

    /// Up to `limit` clients of the tenant by id on the wire, those after `after`.
    pub async fn clients(&self, tenant: &TenantId, after: &str, limit: i64) -> Result<Vec<ClientRow>, StoreError> {
        let text = sqlx::AssertSqlSafe(format!(
            "{SELECT} WHERE c.tenant_id = $1 AND c.client_id > $2 ORDER BY c.client_id LIMIT $3"
        ));
        Ok(on!(read self, db => {
            sqlx::query_as(text).bind(tenant.as_str()).bind(after).bind(limit).fetch_all(db).await?
        }))
    }

    /// Whether the account is one as which a client acts.
    pub async fn is_clients_account(&self, tenant: &TenantId, user: Uuid) -> Result<bool, StoreError> {
        let text = "SELECT COUNT(*) FROM oauth_clients WHERE tenant_id = $1 AND user_id = $2";
        let found: i64 =
            on!(read self, db => sqlx::query_scalar(text).bind(tenant.as_str()).bind(user).fetch_one(db).await?);
        Ok(found > 0)
    }
}
