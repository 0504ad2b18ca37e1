//! The gateway as a client that registered itself at the authorization servers of servers; sealed by `connections`.

use uuid::Uuid;

use super::{Store, StoreError};

row! {
    /// A row of `connection_clients`.
    #[derive(Debug, Clone, PartialEq, Eq)]
    pub struct ConnectionClientRow {
        /// For which server.
        pub server_id: Uuid,
        /// Its authorization server.
        pub issuer: String,
        /// Id and secret, sealed; none while the first registration is under way.
        pub client: Option<Vec<u8>>,
        /// When the secret ends; microseconds since 1970.
        pub expires_at: Option<i64>,
        /// Until when whoever registers has it alone; microseconds since 1970.
        pub until: i64,
        /// Grows with each change.
        pub version: i64,
    }
}

impl Store {
    /// The last registration for a server.
    pub async fn connection_client(&self, server: Uuid) -> Result<Option<ConnectionClientRow>, StoreError> {
        let text = "SELECT * FROM connection_clients WHERE server_id = $1";
        Ok(on!(read self, db => sqlx::query_as(text).bind(server).fetch_optional(db).await?))
    }

    /// Whoever gets it registers now, until `until` at most: of all processes one. `version` is that of what was read; none where there
    /// was nothing. What there is stays until there is another, but for that of another authorization server.
    pub async fn claim_connection_client(
        &self,
        server: Uuid,
        issuer: &str,
        version: Option<i64>,
        now: i64,
        until: i64,
    ) -> Result<Option<ConnectionClientRow>, StoreError> {
        let text = "INSERT INTO connection_clients (server_id, issuer, until, version) VALUES ($1, $2, $3, 1)
            ON CONFLICT (server_id) DO UPDATE SET
                client = CASE WHEN connection_clients.issuer = excluded.issuer THEN connection_clients.client END,
                expires_at = CASE WHEN connection_clients.issuer = excluded.issuer THEN connection_clients.expires_at END,
                issuer = excluded.issuer, until = excluded.until, version = connection_clients.version + 1
                WHERE connection_clients.version = $4
                    AND (connection_clients.until <= $5 OR connection_clients.issuer <> excluded.issuer)
            RETURNING *";
        let claimed: Vec<ConnectionClientRow> = on!(alone self, db => {
            let query = sqlx::query_as(text).bind(server).bind(issuer).bind(until).bind(version.unwrap_or(-1));
            query.bind(now).fetch_all(db).await?
        });
        Ok(claimed.into_iter().next())
    }

    /// Keeps the registration of who claimed it; says whether: it may be another's by now.
    pub async fn keep_connection_client(
        &self,
        claimed: &ConnectionClientRow,
        client: &[u8],
        expires_at: Option<i64>,
    ) -> Result<bool, StoreError> {
        let text = "UPDATE connection_clients SET client = $1, expires_at = $2, until = 0, version = version + 1
            WHERE server_id = $3 AND version = $4";
        let done = on!(write self, tx => {
            sqlx::query(text)
                .bind(client)
                .bind(expires_at)
                .bind(claimed.server_id)
                .bind(claimed.version)
                .execute(&mut *tx)
                .await?
                .rows_affected()
        });
        Ok(done > 0)
    }

    /// Who claimed it could not register: it is tried again at `until`, and what there is stays.
    pub async fn release_connection_client(&self, claimed: &ConnectionClientRow, until: i64) -> Result<(), StoreError> {
        let text =
            "UPDATE connection_clients SET until = $1, version = version + 1 WHERE server_id = $2 AND version = $3";
        on!(alone self, db => {
            sqlx::query(text).bind(until).bind(claimed.server_id).bind(claimed.version).execute(db).await?;
        });
        Ok(())
    }

    /// Nobody is sent as the registration that was read any more: the next is made when it is wanted.
    pub async fn forget_connection_client(&self, read: &ConnectionClientRow) -> Result<(), StoreError> {
        let text = "UPDATE connection_clients SET client = NULL, expires_at = NULL, version = version + 1
            WHERE server_id = $1 AND version = $2";
        on!(alone self, db => {
            sqlx::query(text).bind(read.server_id).bind(read.version).execute(db).await?;
        });
        Ok(())
    }
}
