//! What authorization servers gave for people, so that the gateway comes to servers as them; sealed by `connections`.

use uuid::Uuid;

use super::{Store, StoreError};
use crate::id::TenantId;

row! {
    /// A row of `connections`.
    #[derive(Debug, Clone, PartialEq, Eq)]
    pub struct ConnectionRow {
        /// UUID version 7.
        pub id: Uuid,
        /// The tenant of the person.
        pub tenant_id: String,
        /// Whom it is of.
        pub user_id: Uuid,
        /// The server.
        pub server_id: Uuid,
        /// The authorization server.
        pub issuer: String,
        /// Where the server was.
        pub place: String,
        /// Tokens, sealed.
        pub tokens: Option<Vec<u8>>,
        /// What was granted, separated by spaces.
        pub scopes: String,
        /// What the server wants to see besides, separated by spaces.
        pub wanted: String,
        /// `active` or `needs_person`.
        pub state: String,
        /// Why it is not active, or was not renewed the last time.
        pub reason: Option<String>,
        /// Microseconds since 1970.
        pub created_at: i64,
        /// When the tokens came; microseconds since 1970.
        pub renewed_at: i64,
        /// When the access token ends; microseconds since 1970.
        pub expires_at: Option<i64>,
        /// Before when nobody renews the tokens; microseconds since 1970.
        pub until: i64,
        /// Whether somebody is at it.
        pub asking: bool,
        /// How often in a row that came to nothing.
        pub failures: i64,
        /// Grows with each change.
        pub version: i64,
    }
}

row! {
    /// A row of `connection_issuers`.
    #[derive(Debug, Clone, PartialEq, Eq)]
    pub struct IssuerRow {
        /// Whose the server is.
        pub tenant_id: String,
        /// The server.
        pub server_id: Uuid,
        /// Its authorization server.
        pub issuer: String,
        /// `administrator`, `server` or `neighbour`.
        pub named_by: String,
        /// What tokens must be for.
        pub resource: String,
        /// What the server wants to see in them, separated by spaces.
        pub scopes: String,
        /// Where the server was.
        pub place: String,
        /// Microseconds since 1970.
        pub found_at: i64,
    }
}

row! {
    /// A row of `connection_changes`.
    #[derive(Debug, Clone, PartialEq, Eq)]
    pub struct ChangeRow {
        /// Which one it was.
        pub number: i64,
        /// The tenant of the person.
        pub tenant_id: String,
        /// Who.
        pub user_id: Uuid,
        /// At which server.
        pub server_id: Uuid,
        /// Whether they connected; else they disconnected.
        pub connected: bool,
    }
}

row! {
    /// A row of `connection_attempts`.
    #[derive(Debug, Clone, PartialEq, Eq)]
    pub struct AttemptRow {
        /// SHA-256 of the `state`.
        pub state_hash: Vec<u8>,
        /// SHA-256 of the cookie of the browser's session.
        pub browser_hash: Vec<u8>,
        /// The tenant of the person.
        pub tenant_id: String,
        /// Who.
        pub user_id: Uuid,
        /// To which server.
        pub server_id: Uuid,
        /// What they were sent with, sealed.
        pub sent: Vec<u8>,
        /// Microseconds since 1970.
        pub created_at: i64,
        /// Microseconds since 1970.
        pub expires_at: i64,
    }
}

/// New tokens of a connection.
#[derive(Debug, Clone, Copy)]
pub struct RenewedColumns<'a> {
    /// Sealed.
    pub tokens: &'a [u8],
    /// What was granted, separated by spaces.
    pub scopes: &'a str,
    /// When they came; microseconds since 1970.
    pub renewed_at: i64,
    /// When the access token ends; microseconds since 1970.
    pub expires_at: Option<i64>,
}

/// Who and where: there is one connection of an account to a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Of {
    /// The account.
    pub user: Uuid,
    /// The server.
    pub server: Uuid,
}

/// Holds or moves the counter of changes; first, so that they are seen in the order of their numbers.
const HOLD: &str = "UPDATE counters SET value = value WHERE name = 'connections'";
const NEXT: &str = "UPDATE counters SET value = value + 1 WHERE name = 'connections' RETURNING value";
const CHANGE: &str = "INSERT INTO connection_changes (number, tenant_id, user_id, server_id, connected, at)
    VALUES ($1, $2, $3, $4, $5, $6)";
const REMOVE: &str = "DELETE FROM connections WHERE tenant_id = $1 AND user_id = $2 AND server_id = $3 RETURNING *";

impl Store {
    /// The connection of an account to a server.
    pub async fn connection(&self, tenant: &TenantId, of: Of) -> Result<Option<ConnectionRow>, StoreError> {
        let text = "SELECT * FROM connections WHERE tenant_id = $1 AND user_id = $2 AND server_id = $3";
        Ok(on!(read self, db => {
            sqlx::query_as(text).bind(tenant.as_str()).bind(of.user).bind(of.server).fetch_optional(db).await?
        }))
    }

    /// All of an account.
    pub async fn connections_of(&self, tenant: &TenantId, user: Uuid) -> Result<Vec<ConnectionRow>, StoreError> {
        let text = "SELECT * FROM connections WHERE tenant_id = $1 AND user_id = $2 ORDER BY id";
        Ok(on!(read self, db => {
            sqlx::query_as(text).bind(tenant.as_str()).bind(user).fetch_all(db).await?
        }))
    }

    /// Up to `limit` to a server that hold something, of all tenants.
    pub async fn connections_to(&self, server: Uuid, limit: i64) -> Result<Vec<ConnectionRow>, StoreError> {
        let text = "SELECT * FROM connections WHERE server_id = $1 AND tokens IS NOT NULL LIMIT $2";
        Ok(on!(read self, db => sqlx::query_as(text).bind(server).bind(limit).fetch_all(db).await?))
    }

    /// Up to `limit` that hold something, of the people of a tenant or to its servers.
    pub async fn connections_around(&self, tenant: &TenantId, limit: i64) -> Result<Vec<ConnectionRow>, StoreError> {
        let text = "SELECT * FROM connections WHERE tokens IS NOT NULL
            AND (tenant_id = $1 OR server_id IN (SELECT id FROM servers WHERE tenant_id = $1)) LIMIT $2";
        Ok(on!(read self, db => sqlx::query_as(text).bind(tenant.as_str()).bind(limit).fetch_all(db).await?))
    }

    /// Somebody connected: this one takes the place of what there was, if there was anything. `Missing` when the account or the server is
    /// gone.
    pub async fn put_connection(
        &self,
        tenant: &TenantId,
        row: &ConnectionRow,
    ) -> Result<Option<ConnectionRow>, StoreError> {
        let text = "INSERT INTO connections
            (id, tenant_id, user_id, server_id, issuer, place, tokens, scopes, state, created_at, renewed_at, expires_at)
            VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)";
        Ok(on!(write self, tx => {
            let number: i64 = sqlx::query_scalar(NEXT).fetch_one(&mut *tx).await?;
            let removed = sqlx::query_as(REMOVE).bind(tenant.as_str()).bind(row.user_id).bind(row.server_id);
            let removed: Vec<ConnectionRow> = removed.fetch_all(&mut *tx).await?;
            sqlx::query(text)
                .bind(row.id)
                .bind(tenant.as_str())
                .bind(row.user_id)
                .bind(row.server_id)
                .bind(&row.issuer)
                .bind(&row.place)
                .bind(row.tokens.as_deref())
                .bind(&row.scopes)
                .bind(&row.state)
                .bind(row.created_at)
                .bind(row.renewed_at)
                .bind(row.expires_at)
                .execute(&mut *tx)
                .await?;
            sqlx::query(CHANGE)
                .bind(number)
                .bind(tenant.as_str())
                .bind(row.user_id)
                .bind(row.server_id)
                .bind(true)
                .bind(row.created_at)
                .execute(&mut *tx)
                .await?;
            removed.into_iter().next()
        }))
    }

    /// Somebody disconnected: what there was, if there was anything.
    pub async fn remove_connection(
        &self,
        tenant: &TenantId,
        of: Of,
        now: i64,
    ) -> Result<Option<ConnectionRow>, StoreError> {
        Ok(on!(write self, tx => {
            let number: i64 = sqlx::query_scalar(NEXT).fetch_one(&mut *tx).await?;
            let removed: Vec<ConnectionRow> =
                sqlx::query_as(REMOVE).bind(tenant.as_str()).bind(of.user).bind(of.server).fetch_all(&mut *tx).await?;
            if !removed.is_empty() {
                sqlx::query(CHANGE)
                    .bind(number)
                    .bind(tenant.as_str())
                    .bind(of.user)
                    .bind(of.server)
                    .bind(false)
                    .bind(now)
                    .execute(&mut *tx)
                    .await?;
            }
            removed.into_iter().next()
        }))
    }

    /// The number of the last change.
    pub async fn last_connection_change(&self) -> Result<i64, StoreError> {
        let text = "SELECT value FROM counters WHERE name = 'connections'";
        Ok(on!(read self, db => sqlx::query_scalar(text).fetch_one(db).await?))
    }

    /// Up to `limit` changes after the one of this number, of all tenants.
    pub async fn connection_changes(&self, after: i64, limit: i64) -> Result<Vec<ChangeRow>, StoreError> {
        let text = "SELECT * FROM connection_changes WHERE number > $1 ORDER BY number LIMIT $2";
        Ok(on!(read self, db => sqlx::query_as(text).bind(after).bind(limit).fetch_all(db).await?))
    }

    /// The connection as it was read, for who renews its tokens now: until `until` nobody else gets it. None where it has changed, or
    /// somebody is at it.
    pub async fn claim_connection(
        &self,
        tenant: &TenantId,
        read: &ConnectionRow,
        now: i64,
        until: i64,
    ) -> Result<Option<ConnectionRow>, StoreError> {
        let text = "UPDATE connections SET until = $1, asking = TRUE, version = version + 1
            WHERE tenant_id = $2 AND id = $3 AND version = $4 AND until <= $5 RETURNING *";
        let claimed: Vec<ConnectionRow> = on!(alone self, db => {
            sqlx::query_as(text)
                .bind(until)
                .bind(tenant.as_str())
                .bind(read.id)
                .bind(read.version)
                .bind(now)
                .fetch_all(db)
                .await?
        });
        Ok(claimed.into_iter().next())
    }

    /// Whoever claimed it and is about to ask has it until `until`; says whether: it may be gone, or another's.
    pub async fn hold_connection(
        &self,
        tenant: &TenantId,
        claimed: &ConnectionRow,
        until: i64,
    ) -> Result<bool, StoreError> {
        let text = "UPDATE connections SET until = $1 WHERE tenant_id = $2 AND id = $3 AND version = $4 AND asking";
        let done = on!(alone self, db => {
            let query = sqlx::query(text).bind(until).bind(tenant.as_str()).bind(claimed.id).bind(claimed.version);
            query.execute(db).await?.rows_affected()
        });
        Ok(done > 0)
    }

    /// Whoever claimed it did not ask: whoever comes next may.
    pub async fn release_connection(&self, tenant: &TenantId, claimed: &ConnectionRow) -> Result<(), StoreError> {
        let text = "UPDATE connections SET until = 0, asking = FALSE, version = version + 1
            WHERE tenant_id = $1 AND id = $2 AND version = $3";
        on!(alone self, db => {
            sqlx::query(text).bind(tenant.as_str()).bind(claimed.id).bind(claimed.version).execute(db).await?;
        });
        Ok(())
    }

    /// These tokens take the place of those of who claimed it; says whether. Nothing changes when it is gone, or somebody else got it
    /// since and its tokens are others by now.
    pub async fn renew_connection(
        &self,
        tenant: &TenantId,
        claimed: &ConnectionRow,
        new: RenewedColumns<'_>,
    ) -> Result<bool, StoreError> {
        let text =
            "UPDATE connections SET tokens = $1, scopes = $2, renewed_at = $3, expires_at = $4, state = 'active',
                reason = NULL, until = 0, asking = FALSE, failures = 0, version = version + 1
            WHERE tenant_id = $5 AND id = $6 AND (version = $7 OR tokens = $8)";
        let done = on!(write self, tx => {
            sqlx::query(text)
                .bind(new.tokens)
                .bind(new.scopes)
                .bind(new.renewed_at)
                .bind(new.expires_at)
                .bind(tenant.as_str())
                .bind(claimed.id)
                .bind(claimed.version)
                .bind(claimed.tokens.as_deref())
                .execute(&mut *tx)
                .await?
                .rows_affected()
        });
        Ok(done > 0)
    }

    /// Who claimed it got nothing, for this reason if it is worth a word: it is tried again at `until`.
    pub async fn connection_unanswered(
        &self,
        tenant: &TenantId,
        claimed: &ConnectionRow,
        until: i64,
        reason: Option<&str>,
    ) -> Result<(), StoreError> {
        let text = "UPDATE connections SET until = $1, asking = FALSE, failures = failures + 1, version = version + 1,
                reason = $5
            WHERE tenant_id = $2 AND id = $3 AND version = $4";
        on!(alone self, db => {
            sqlx::query(text)
                .bind(until)
                .bind(tenant.as_str())
                .bind(claimed.id)
                .bind(claimed.version)
                .bind(reason)
                .execute(db)
                .await?;
        });
        Ok(())
    }

    /// The person has to connect again, for this reason: the tokens are of no use any more and go. Says whether: it may be gone, or
    /// another's.
    pub async fn connection_needs_person(
        &self,
        tenant: &TenantId,
        read: &ConnectionRow,
        reason: &str,
    ) -> Result<bool, StoreError> {
        let text =
            "UPDATE connections SET tokens = NULL, state = 'needs_person', reason = $1, until = 0, asking = FALSE,
                version = version + 1
            WHERE tenant_id = $2 AND id = $3 AND version = $4";
        let done = on!(alone self, db => {
            sqlx::query(text)
                .bind(reason)
                .bind(tenant.as_str())
                .bind(read.id)
                .bind(read.version)
                .execute(db)
                .await?
                .rows_affected()
        });
        Ok(done > 0)
    }

    /// The server wants to see these scopes besides, in place of those that were read; the tokens go on. What another noted meanwhile
    /// stays.
    pub async fn want_of_connection(
        &self,
        tenant: &TenantId,
        read: &ConnectionRow,
        wanted: &str,
    ) -> Result<(), StoreError> {
        let text = "UPDATE connections SET wanted = $1 WHERE tenant_id = $2 AND id = $3 AND wanted = $4";
        on!(alone self, db => {
            sqlx::query(text).bind(wanted).bind(tenant.as_str()).bind(read.id).bind(&read.wanted).execute(db).await?;
        });
        Ok(())
    }

    /// Where the authorization server of a server was last found.
    pub async fn connection_issuer(&self, tenant: &TenantId, server: Uuid) -> Result<Option<IssuerRow>, StoreError> {
        let text = "SELECT * FROM connection_issuers WHERE tenant_id = $1 AND server_id = $2";
        Ok(on!(read self, db => {
            sqlx::query_as(text).bind(tenant.as_str()).bind(server).fetch_optional(db).await?
        }))
    }

    /// The same of all servers of a tenant.
    pub async fn connection_issuers(&self, tenant: &TenantId) -> Result<Vec<IssuerRow>, StoreError> {
        let text = "SELECT * FROM connection_issuers WHERE tenant_id = $1";
        Ok(on!(read self, db => sqlx::query_as(text).bind(tenant.as_str()).fetch_all(db).await?))
    }

    /// It was found there. Whoever is connected to it by another is in a change: what processes keep of them is got anew, and is not
    /// found good. `Missing` when the server is gone.
    pub async fn set_connection_issuer(&self, tenant: &TenantId, row: &IssuerRow) -> Result<(), StoreError> {
        let text = "INSERT INTO connection_issuers
            (tenant_id, server_id, issuer, named_by, resource, scopes, place, found_at)
            VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
            ON CONFLICT (server_id) DO UPDATE SET issuer = excluded.issuer, named_by = excluded.named_by,
                resource = excluded.resource, scopes = excluded.scopes, place = excluded.place, found_at = excluded.found_at";
        let before = "SELECT issuer FROM connection_issuers WHERE server_id = $1";
        let others =
            "SELECT tenant_id, user_id FROM connections WHERE server_id = $1 AND issuer <> $2 AND tokens IS NOT NULL";
        on!(write self, tx => {
            sqlx::query(HOLD).execute(&mut *tx).await?;
            let before: Option<String> = sqlx::query_scalar(before).bind(row.server_id).fetch_optional(&mut *tx).await?;
            if before.is_some_and(|before| before != row.issuer) {
                let others: Vec<(String, Uuid)> =
                    sqlx::query_as(others).bind(row.server_id).bind(&row.issuer).fetch_all(&mut *tx).await?;
                for (tenant, user) in others {
                    let number: i64 = sqlx::query_scalar(NEXT).fetch_one(&mut *tx).await?;
                    sqlx::query(CHANGE)
                        .bind(number)
                        .bind(tenant)
                        .bind(user)
                        .bind(row.server_id)
                        .bind(false)
                        .bind(row.found_at)
                        .execute(&mut *tx)
                        .await?;
                }
            }
            sqlx::query(text)
                .bind(tenant.as_str())
                .bind(row.server_id)
                .bind(&row.issuer)
                .bind(&row.named_by)
                .bind(&row.resource)
                .bind(&row.scopes)
                .bind(&row.place)
                .bind(row.found_at)
                .execute(&mut *tx)
                .await?;
        });
        Ok(())
    }

    /// Keeps an attempt; of those of an account the oldest give way to it, so that there are at most `most`.
    pub async fn begin_connecting(&self, tenant: &TenantId, row: &AttemptRow, most: i64) -> Result<(), StoreError> {
        let yields = "DELETE FROM connection_attempts WHERE state_hash IN
            (SELECT state_hash FROM connection_attempts WHERE tenant_id = $1 AND user_id = $2
             ORDER BY created_at DESC, state_hash LIMIT 1000 OFFSET $3)";
        let text = "INSERT INTO connection_attempts
            (state_hash, browser_hash, tenant_id, user_id, server_id, sent, created_at, expires_at)
            VALUES ($1, $2, $3, $4, $5, $6, $7, $8)";
        on!(brief self, tx => {
            sqlx::query(yields).bind(tenant.as_str()).bind(row.user_id).bind(most - 1).execute(&mut *tx).await?;
            sqlx::query(text)
                .bind(row.state_hash.as_slice())
                .bind(row.browser_hash.as_slice())
                .bind(tenant.as_str())
                .bind(row.user_id)
                .bind(row.server_id)
                .bind(row.sent.as_slice())
                .bind(row.created_at)
                .bind(row.expires_at)
                .execute(&mut *tx)
                .await?;
        });
        Ok(())
    }

    /// Removes and returns the attempt with that state, if it is of this account in this browser and not over by `now`. Of several that
    /// try at once, one gets it.
    pub async fn take_connecting(
        &self,
        tenant: &TenantId,
        user: Uuid,
        state: &[u8; 32],
        browser: &[u8; 32],
        now: i64,
    ) -> Result<Option<AttemptRow>, StoreError> {
        let text = "DELETE FROM connection_attempts WHERE state_hash = $1 AND browser_hash = $2 AND tenant_id = $3
            AND user_id = $4 AND expires_at > $5 RETURNING *";
        let taken: Vec<AttemptRow> = on!(alone self, db => {
            sqlx::query_as(text)
                .bind(state.as_slice())
                .bind(browser.as_slice())
                .bind(tenant.as_str())
                .bind(user)
                .bind(now)
                .fetch_all(db)
                .await?
        });
        Ok(taken.into_iter().next())
    }

    /// Removes up to 1,000 attempts that were over by `now`, and as many changes from before `before`; says how many of both.
    pub async fn purge_connecting(&self, now: i64, before: i64) -> Result<u64, StoreError> {
        let attempts = "DELETE FROM connection_attempts WHERE state_hash IN
            (SELECT state_hash FROM connection_attempts WHERE expires_at <= $1 ORDER BY expires_at LIMIT 1000)";
        let changes = "DELETE FROM connection_changes WHERE number IN
            (SELECT number FROM connection_changes WHERE at < $1 ORDER BY at LIMIT 1000)";
        Ok(on!(brief self, tx => {
            let attempts = sqlx::query(attempts).bind(now).execute(&mut *tx).await?.rows_affected();
            attempts + sqlx::query(changes).bind(before).execute(&mut *tx).await?.rows_affected()
        }))
    }
}
