//! Authorization requests under way. Rows are minutes old at most; what is in them is sealed by `grants`, and only hashes of the
//! cookie and the state that reach them are kept. Anybody can begin one, so that when there are too many, those go that somebody
//! is least likely to wait for.

use uuid::Uuid;

use super::{Store, StoreError};

row! {
    /// A row of `authorizations`.
    #[derive(Debug, Clone, PartialEq, Eq)]
    pub struct AuthorizationRow {
        /// UUID version 7.
        pub id: Uuid,
        /// SHA-256 of the cookie of the browser that it is bound to.
        pub browser_hash: Vec<u8>,
        /// SHA-256 of the state that a provider was sent.
        pub state_hash: Option<Vec<u8>>,
        /// What was asked for, sealed.
        pub request: Vec<u8>,
        /// The network from which it was begun.
        pub source: String,
        /// How far it is: of several, those of the lowest give way first, and those of [`STAYS`] never.
        pub stage: i64,
        /// Microseconds since 1970.
        pub created_at: i64,
        /// Microseconds since 1970.
        pub expires_at: i64,
    }
}

/// The stage from which on a row does not give way.
pub const STAYS: i64 = 2;
/// Most rows that give way at once, so that they need not be counted again for each that comes.
const AT_ONCE: i64 = 100;

/// How many there may be.
#[derive(Debug, Clone, Copy)]
pub struct Room {
    /// In all.
    pub all: i64,
    /// Of one network.
    pub of_one: i64,
}

/// What became of one that was to be inserted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Inserted {
    /// It is there; so many others gave way.
    For(u64),
    /// There is no room, and none gives way.
    Full,
}

/// Counts, up to a number, those that meet a condition; removes so many of them that may go.
macro_rules! room {
    ($condition:literal) => {
        (
            concat!("SELECT COUNT(*) FROM (SELECT 1 FROM authorizations WHERE ", $condition, " LIMIT $2) AS counted"),
            concat!(
                "DELETE FROM authorizations WHERE id IN (SELECT id FROM authorizations WHERE ",
                $condition,
                " AND (stage < $3 OR expires_at <= $4) ORDER BY stage, created_at LIMIT $2)"
            ),
        )
    };
}

impl Store {
    /// Inserts one. Where its network, or all together, have as many as there is room for, the oldest of the lowest stage give way.
    /// Several at once may go over it by as many.
    pub async fn insert_authorization(&self, row: &AuthorizationRow, room: Room) -> Result<Inserted, StoreError> {
        let (one, all) = (room!("source = $1"), room!("$1 = ''"));
        let text =
            "INSERT INTO authorizations (id, browser_hash, state_hash, request, created_at, expires_at, source, stage)
            VALUES ($1, $2, $3, $4, $5, $6, $7, $8)";
        let done = on!(brief self, tx => {
            let (mut gone, mut full) = (0, false);
            for ((count, yields), source, most) in [(one, row.source.as_str(), room.of_one), (all, "", room.all)] {
                let there: i64 = sqlx::query_scalar(count).bind(source).bind(most).fetch_one(&mut *tx).await?;
                if there >= most {
                    let some = AT_ONCE.min(most / 10 + 1);
                    let query = sqlx::query(yields).bind(source).bind(some).bind(STAYS).bind(row.created_at);
                    let went = query.execute(&mut *tx).await?.rows_affected();
                    full |= went == 0;
                    gone += went;
                }
            }
            if full {
                Inserted::Full
            } else {
                sqlx::query(text)
                    .bind(row.id)
                    .bind(row.browser_hash.as_slice())
                    .bind(row.state_hash.as_deref())
                    .bind(row.request.as_slice())
                    .bind(row.created_at)
                    .bind(row.expires_at)
                    .bind(row.source.as_str())
                    .bind(row.stage)
                    .execute(&mut *tx)
                    .await?;
                Inserted::For(gone)
            }
        });
        Ok(done)
    }

    /// The one of that id, if it is bound to that browser and not over by `now`.
    pub async fn authorization(
        &self,
        id: Uuid,
        browser: &[u8; 32],
        now: i64,
    ) -> Result<Option<AuthorizationRow>, StoreError> {
        let text = "SELECT * FROM authorizations WHERE id = $1 AND browser_hash = $2 AND expires_at > $3";
        Ok(on!(read self, db => {
            sqlx::query_as(text).bind(id).bind(browser.as_slice()).bind(now).fetch_optional(db).await?
        }))
    }

    /// The one of that id, whichever browser it is bound to, if it is not over by `now`.
    pub async fn any_authorization(&self, id: Uuid, now: i64) -> Result<Option<AuthorizationRow>, StoreError> {
        let text = "SELECT * FROM authorizations WHERE id = $1 AND expires_at > $2";
        Ok(on!(read self, db => sqlx::query_as(text).bind(id).bind(now).fetch_optional(db).await?))
    }

    /// The id of the one whose browser was sent to a provider with that state.
    pub async fn authorization_of_state(&self, state: &[u8; 32], now: i64) -> Result<Option<Uuid>, StoreError> {
        let text = "SELECT id FROM authorizations WHERE state_hash = $1 AND expires_at > $2";
        Ok(on!(read self, db => {
            sqlx::query_scalar(text).bind(state.as_slice()).bind(now).fetch_optional(db).await?
        }))
    }

    /// Writes the sealed request, the state's hash and the stage over `read`; `Stale` when the row is not as it was read.
    pub async fn update_authorization(
        &self,
        read: &AuthorizationRow,
        request: &[u8],
        state: Option<&[u8]>,
        stage: i64,
    ) -> Result<(), StoreError> {
        let text = "UPDATE authorizations SET request = $1, state_hash = $2, stage = $3 WHERE id = $4 AND request = $5";
        let done = on!(alone self, db => {
            sqlx::query(text)
                .bind(request)
                .bind(state)
                .bind(stage)
                .bind(read.id)
                .bind(read.request.as_slice())
                .execute(db)
                .await?
                .rows_affected()
        });
        if done == 0 { Err(StoreError::Stale) } else { Ok(()) }
    }

    /// Removes and returns the one of that id and browser; with `state`, only if that is its state. Of several that try at
    /// once, one gets it.
    pub async fn take_authorization(
        &self,
        id: Uuid,
        browser: &[u8; 32],
        state: Option<&[u8; 32]>,
        now: i64,
    ) -> Result<Option<AuthorizationRow>, StoreError> {
        let text = "DELETE FROM authorizations
            WHERE id = $1 AND browser_hash = $2 AND ($3 IS NULL OR state_hash = $3) AND expires_at > $4 RETURNING *";
        let taken: Vec<AuthorizationRow> = on!(alone self, db => {
            sqlx::query_as(text)
                .bind(id)
                .bind(browser.as_slice())
                .bind(state.map(<[u8; 32]>::as_slice))
                .bind(now)
                .fetch_all(db)
                .await?
        });
        Ok(taken.into_iter().next())
    }

    /// Removes up to 1,000 that were over by `now`; says how many.
    pub async fn purge_authorizations(&self, now: i64) -> Result<u64, StoreError> {
        let text = "DELETE FROM authorizations
            WHERE id IN (SELECT id FROM authorizations WHERE expires_at <= $1 ORDER BY expires_at LIMIT 1000)";
        Ok(on!(brief self, tx => sqlx::query(text).bind(now).execute(&mut *tx).await?.rows_affected()))
    }
}
