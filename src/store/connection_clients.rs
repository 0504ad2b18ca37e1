//! The gateway as a client that registered itself at authorization servers; sealed by `connections`. No tenant's: one registration
//! serves all.

use super::{Store, StoreError};

row! {
    /// A row of `connection_clients`.
    #[derive(Debug, Clone, PartialEq, Eq)]
    pub struct ConnectionClientRow {
        /// The authorization server.
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
    /// The registration at an authorization server.
    pub async fn connection_client(&self, issuer: &str) -> Result<Option<ConnectionClientRow>, StoreError> {
        let text = "SELECT * FROM connection_clients WHERE issuer = $1";
        Ok(on!(read self, db => sqlx::query_as(text).bind(issuer).fetch_optional(db).await?))
    }

    /// Whoever gets it registers now, until `until` at most: of all processes one. `version` is that of what was read; none where there
    /// was nothing.
    pub async fn claim_connection_client(
        &self,
        issuer: &str,
        version: Option<i64>,
        now: i64,
        until: i64,
    ) -> Result<Option<ConnectionClientRow>, StoreError> {
        let text = "INSERT INTO connection_clients (issuer, until, version) VALUES ($1, $2, 1)
            ON CONFLICT (issuer) DO UPDATE SET until = excluded.until, version = connection_clients.version + 1
                WHERE connection_clients.version = $3 AND connection_clients.until <= $4
            RETURNING *";
        let claimed: Vec<ConnectionClientRow> = on!(alone self, db => {
            sqlx::query_as(text).bind(issuer).bind(until).bind(version.unwrap_or(-1)).bind(now).fetch_all(db).await?
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
            WHERE issuer = $3 AND version = $4";
        let done = on!(write self, tx => {
            sqlx::query(text)
                .bind(client)
                .bind(expires_at)
                .bind(&claimed.issuer)
                .bind(claimed.version)
                .execute(&mut *tx)
                .await?
                .rows_affected()
        });
        Ok(done > 0)
    }

    /// The registration that was read is of no use any more, or could not be made: it is made when it is next wanted, and not before
    /// `until`.
    pub async fn forget_connection_client(&self, read: &ConnectionClientRow, until: i64) -> Result<(), StoreError> {
        let text = "UPDATE connection_clients SET client = NULL, expires_at = NULL, until = $1, version = version + 1
            WHERE issuer = $2 AND version = $3";
        on!(alone self, db => {
            sqlx::query(text).bind(until).bind(&read.issuer).bind(read.version).execute(db).await?;
        });
        Ok(())
    }
}
