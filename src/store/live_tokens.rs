//! What authentication must know of an access token: the token's own life, its grant, and the account behind it. How tokens
//! come to be and end is told beside the grants.

use std::time::Duration;

use uuid::Uuid;

use super::refreshes::in_order;
use super::{Store, StoreError};

row! {
    /// An access token that is good, with what stands behind it.
    #[derive(Debug, Clone, PartialEq)]
    pub struct LiveTokenRow {
        /// Its grant.
        pub grant_id: Uuid,
        /// Whose tenant.
        pub tenant_id: String,
        /// Whose account.
        pub user_id: Uuid,
        /// The account's name.
        pub username: String,
        /// Who vouches for the account; none: this gateway.
        pub issuer: Option<String>,
        /// Its name there.
        pub subject: Option<String>,
        /// The account's role.
        pub role: String,
        /// How the account stands: `active` or why not.
        pub state: String,
        /// `client`, `service` or `browser`.
        pub kind: String,
        /// The client's id.
        pub client_id: Option<String>,
        /// The client's name, for people.
        pub client_name: Option<String>,
        /// The URI that it is good for.
        pub resource: Option<String>,
        /// Separated by spaces.
        pub scopes: String,
        /// Microseconds since 1970.
        pub expires_at: i64,
        /// What a provider counted the account among.
        pub memberships: Option<String>,
        /// Thumbprint of the key that it is bound to.
        pub jkt: Option<Vec<u8>>,
    }
}

row! {
    /// The part of an account that decides what its tokens may.
    #[derive(Debug, Clone, PartialEq, Eq)]
    pub struct StandingRow {
        /// The account.
        pub id: Uuid,
        /// Its name.
        pub username: String,
        /// Its role.
        pub role: String,
        /// How it stands: `active` or why not.
        pub state: String,
        /// Who vouches for it; none: this gateway.
        pub issuer: Option<String>,
        /// What that one counted it among.
        pub memberships: Option<String>,
    }
}

const LIVE: &str =
    "SELECT t.grant_id, g.tenant_id, g.user_id, u.username, u.issuer, u.subject, u.role, s.state, g.kind,
        g.client_id, g.client_name, g.resource, m.text AS memberships, t.scopes, t.expires_at, t.jkt
    FROM access_tokens t JOIN grants g ON g.id = t.grant_id JOIN users u ON u.id = g.user_id
    JOIN standing s ON s.user_id = u.id LEFT JOIN memberships m ON m.user_id = u.id
    WHERE t.hash = $1 AND t.expires_at > $2 AND g.ended_at IS NULL AND g.expires_at > $2";

impl Store {
    /// The access token of this hash if it is good at `now`, and notes that it was used: a refresh that repeats itself is
    /// forgiven only where what it gave was never shown.
    pub async fn show_access_token(&self, hash: &[u8; 32], now: i64) -> Result<Option<LiveTokenRow>, StoreError> {
        let note = "UPDATE access_tokens SET used_at = $1 WHERE hash = $2 AND used_at IS NULL";
        let row: Option<LiveTokenRow> = on!(read self, db => {
            sqlx::query_as(LIVE).bind(hash.as_slice()).bind(now).fetch_optional(db).await?
        });
        if row.is_none() {
            return Ok(None);
        }
        // Noted before it is believed; and read again, for a refresh may have ended it in between.
        Ok(on!(brief self, tx => {
            sqlx::query(note).bind(now).bind(hash.as_slice()).execute(&mut *tx).await?;
            sqlx::query_as(LIVE).bind(hash.as_slice()).bind(now).fetch_optional(&mut *tx).await?
        }))
    }

    /// Why the grant of the access token of this hash ended, in the two words that are stored, if it would be good at `now` otherwise: who
    /// shows one that was spent before learns nothing. None of one that is bound to a key, of which no proof was asked.
    pub async fn end_of_access_token(&self, hash: &[u8; 32], now: i64) -> Result<Option<(String, String)>, StoreError> {
        let text = "SELECT g.end_reason, g.end_detail FROM access_tokens t JOIN grants g ON g.id = t.grant_id
            WHERE t.hash = $1 AND t.expires_at > g.ended_at AND t.expires_at > $2 AND t.jkt IS NULL
            AND g.end_reason IS NOT NULL AND g.end_detail IS NOT NULL";
        Ok(on!(read self, db => sqlx::query_as(text).bind(hash.as_slice()).bind(now).fetch_optional(db).await?))
    }

    /// How these accounts stand; those that are gone are left out.
    pub async fn standing_of(&self, users: &[Uuid]) -> Result<Vec<StandingRow>, StoreError> {
        let mut found = Vec::with_capacity(users.len());
        for some in users.chunks(500) {
            let places = (1..=some.len()).map(|at| format!("${at}")).collect::<Vec<_>>().join(", ");
            let text = format!(
                "SELECT u.id, u.username, u.role, s.state, u.issuer, m.text AS memberships
                FROM users u JOIN standing s ON s.user_id = u.id LEFT JOIN memberships m ON m.user_id = u.id
                WHERE u.id IN ({places})"
            );
            found.extend(on!(read self, db => {
                let query = some.iter().fold(sqlx::query_as(sqlx::AssertSqlSafe(text)), |query, id| query.bind(*id));
                query.fetch_all(db).await?
            }) as Vec<StandingRow>);
        }
        Ok(found)
    }

    /// Notes when grants were last used: each with its time in microseconds since 1970. What a provider gave for who uses them is due when
    /// its word is older than `recheck`.
    pub async fn touch_grants(&self, used: &[(Uuid, i64)], recheck: Duration) -> Result<(), StoreError> {
        let text = "UPDATE grants SET last_used_at = CASE WHEN last_used_at < $1 THEN $1 ELSE last_used_at END
            WHERE id = $2 AND ended_at IS NULL RETURNING login_id";
        let used = in_order(used);
        let mut logins = Vec::with_capacity(used.len());
        on!(brief self, tx => {
            for (grant, at) in &used {
                let login: Option<Option<Uuid>> =
                    sqlx::query_scalar(text).bind(at).bind(grant).fetch_optional(&mut *tx).await?;
                logins.extend(login.flatten().map(|login| (login, *at)));
            }
        });
        self.wake_logins(&in_order(&logins), recheck).await
    }
}
