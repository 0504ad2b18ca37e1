//! What people agreed to once.

use uuid::Uuid;

use super::{Store, StoreError};
use crate::id::TenantId;

row! {
    /// A row of `consents`.
    #[derive(Debug, Clone, PartialEq, Eq)]
    pub struct ConsentRow {
        /// Whose it is.
        pub tenant_id: String,
        /// Who agreed.
        pub user_id: Uuid,
        /// For which client.
        pub client_id: String,
        /// Sent where.
        pub redirect_uri: String,
        /// For which resource.
        pub resource: String,
        /// Separated by spaces.
        pub scopes: String,
        /// Microseconds since 1970.
        pub given_at: i64,
    }
}

row! {
    /// A row of `consents` with the name of its client.
    #[derive(Debug, Clone, PartialEq, Eq)]
    pub struct NamedConsentRow {
        rows {
            /// The row.
            pub consent: ConsentRow,
        }
        /// The client's name.
        pub name: String,
    }
}

impl Store {
    /// Inserts it, or replaces the scopes of the one for the same account, client, address and resource. `Missing` when the
    /// tenant has no such account.
    pub async fn put_consent(&self, tenant: &TenantId, row: &ConsentRow) -> Result<(), StoreError> {
        let text = "INSERT INTO consents (tenant_id, user_id, client_id, redirect_uri, resource, scopes, given_at)
            VALUES ($1, $2, $3, $4, $5, $6, $7)
            ON CONFLICT (user_id, client_id, redirect_uri, resource)
            DO UPDATE SET scopes = excluded.scopes, given_at = excluded.given_at
            WHERE consents.tenant_id = excluded.tenant_id";
        on!(write self, tx => {
            sqlx::query(text)
                .bind(tenant.as_str())
                .bind(row.user_id)
                .bind(&row.client_id)
                .bind(&row.redirect_uri)
                .bind(&row.resource)
                .bind(&row.scopes)
                .bind(row.given_at)
                .execute(&mut *tx)
                .await?;
        });
        Ok(())
    }

    /// What an account agreed to for that client, address and resource.
    pub async fn consent(
        &self,
        tenant: &TenantId,
        user: Uuid,
        client_id: &str,
        redirect_uri: &str,
        resource: &str,
    ) -> Result<Option<ConsentRow>, StoreError> {
        let text = "SELECT * FROM consents
            WHERE tenant_id = $1 AND user_id = $2 AND client_id = $3 AND redirect_uri = $4 AND resource = $5";
        Ok(on!(read self, db => {
            sqlx::query_as(text)
                .bind(tenant.as_str())
                .bind(user)
                .bind(client_id)
                .bind(redirect_uri)
                .bind(resource)
                .fetch_optional(db)
                .await?
        }))
    }

    /// Up to `limit` that an account agreed to, the latest first, each with the client's name.
    pub async fn consents_of(
        &self,
        tenant: &TenantId,
        user: Uuid,
        limit: i64,
    ) -> Result<Vec<NamedConsentRow>, StoreError> {
        let text = "SELECT c.*, o.name FROM consents c JOIN oauth_clients o ON o.client_id = c.client_id
            WHERE c.tenant_id = $1 AND c.user_id = $2 ORDER BY c.given_at DESC, c.client_id, c.resource LIMIT $3";
        Ok(on!(read self, db => {
            sqlx::query_as(text).bind(tenant.as_str()).bind(user).bind(limit).fetch_all(db).await?
        }))
    }

    /// Removes all that an account agreed to, for one client or for every one.
    pub async fn delete_consents(
        &self,
        tenant: &TenantId,
        user: Uuid,
        client_id: Option<&str>,
    ) -> Result<(), StoreError> {
        let text = "DELETE FROM consents WHERE tenant_id = $1 AND user_id = $2 AND ($3 IS NULL OR client_id = $3)";
        on!(write self, tx => {
            sqlx::query(text).bind(tenant.as_str()).bind(user).bind(client_id).execute(&mut *tx).await?;
        });
        Ok(())
    }
}
