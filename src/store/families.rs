//! The tokens of a grant: its code, its access tokens, its refresh tokens. Every change of a family begins by taking the grant's
//! row, in both databases, so that of many that show one token at once each sees what the one before it did. What is to be done
//! is the engine's affair: it decides, inside the transaction, on what is found there.

use uuid::Uuid;

use super::grants::{GrantRow, end_children, insert_grant};
use super::users::STANDS;
use super::{Store, StoreError};
use crate::id::TenantId;

row! {
    /// A row of `authorization_codes`.
    #[derive(Debug, Clone, PartialEq, Eq)]
    pub struct CodeRow {
        /// SHA-256 of the code.
        pub hash: Vec<u8>,
        /// Of which grant.
        pub grant_id: Uuid,
        /// Where it was sent.
        pub redirect_uri: String,
        /// S256 of the verifier.
        pub code_challenge: String,
        /// Thumbprint of the key that it is bound to.
        pub jkt: Option<Vec<u8>>,
        /// Microseconds since 1970.
        pub expires_at: i64,
        /// Microseconds since 1970.
        pub spent_at: Option<i64>,
        /// The trace of the sign-in that it came of.
        pub trace_id: Option<Uuid>,
    }
}

row! {
    /// A row of `refresh_tokens`.
    #[derive(Debug, Clone, PartialEq, Eq)]
    pub struct RefreshRow {
        /// SHA-256 of the token.
        pub hash: Vec<u8>,
        /// Of which grant.
        pub grant_id: Uuid,
        /// `active`, `spent` or `revoked`.
        pub state: String,
        /// Microseconds since 1970.
        pub created_at: i64,
        /// Microseconds since 1970.
        pub spent_at: Option<i64>,
        /// The answer that spent it, sealed.
        pub answer: Option<Vec<u8>>,
        /// SHA-256 of the refresh token in that answer.
        pub next_refresh: Option<Vec<u8>>,
        /// SHA-256 of the access token in that answer.
        pub next_access: Option<Vec<u8>>,
    }
}

/// What is found when a code or a refresh token is shown.
#[derive(Debug)]
pub struct Seen<T> {
    /// Its grant, whatever its state; nobody else changes its tokens meanwhile.
    pub grant: GrantRow,
    /// Whether the account may come in.
    pub account_active: bool,
    /// The row of what was shown.
    pub shown: T,
    /// Whether the refresh token that it gave is still active.
    pub next_is_active: bool,
    /// Whether the access token that it gave is known to be unused.
    pub next_is_unused: bool,
}

/// What was shown, read with what decides whether it is good: one question instead of four while others wait.
struct Shown<T> {
    row: T,
    account_active: bool,
    next_is_active: bool,
    next_is_unused: bool,
}

impl<'r, R: sqlx::Row, T: sqlx::FromRow<'r, R>> sqlx::FromRow<'r, R> for Shown<T>
where
    &'static str: sqlx::ColumnIndex<R>,
    bool: sqlx::Decode<'r, R::Database> + sqlx::Type<R::Database>,
{
    fn from_row(row: &'r R) -> Result<Self, sqlx::Error> {
        Ok(Self {
            row: T::from_row(row)?,
            account_active: row.try_get("account_active")?,
            next_is_active: row.try_get("next_is_active")?,
            next_is_unused: row.try_get("next_is_unused")?,
        })
    }
}

/// Tokens to write.
#[derive(Debug)]
pub struct NewTokens {
    /// SHA-256 of the access token.
    pub access: [u8; 32],
    /// What it may be used for.
    pub scopes: String,
    /// When it ends, microseconds since 1970.
    pub access_expires_at: i64,
    /// Thumbprint of the key that the access token is bound to.
    pub access_jkt: Option<[u8; 32]>,
    /// Thumbprint of the key that the grant's refresh tokens are bound to from now on, if they were to none.
    pub grant_jkt: Option<[u8; 32]>,
    /// SHA-256 of the refresh token.
    pub refresh: Option<[u8; 32]>,
    /// The answer that holds both, sealed: for the refresh token that is spent.
    pub answer: Option<Vec<u8>>,
    /// When the grant ends from now on, microseconds since 1970.
    pub grant_expires_at: i64,
}

/// What is to be done.
#[derive(Debug)]
pub enum Deed {
    /// Nothing.
    Leave,
    /// End the family: the stored reason and detail.
    End(&'static str, &'static str),
    /// Spend what was shown and write these. What an earlier answer to it gave is revoked.
    Give(NewTokens),
}

const ACCESS: &str = "INSERT INTO access_tokens (hash, grant_id, scopes, created_at, expires_at, jkt)
    VALUES ($1, $2, $3, $4, $5, $6)";
const REFRESH: &str = "INSERT INTO refresh_tokens (hash, grant_id, state, created_at) VALUES ($1, $2, 'active', $3)";
const USE: &str = "UPDATE grants SET last_used_at = $1, expires_at = $2, jkt = COALESCE(jkt, $3) WHERE id = $4";
const END: &str = "UPDATE grants SET ended_at = $1, end_reason = $2, end_detail = $3
    WHERE id = $4 AND ended_at IS NULL RETURNING *";

/// Whether the account behind a code or a token `t` may come in.
macro_rules! account_active {
    () => {
        "EXISTS (SELECT 1 FROM grants g JOIN standing s ON s.tenant_id = g.tenant_id AND s.user_id = g.user_id
            WHERE g.id = t.grant_id AND s.state = 'active')"
    };
}

/// Writes new tokens of a grant.
macro_rules! give {
    ($tx:ident, $grant:expr, $new:expr, $now:expr) => {{
        sqlx::query(ACCESS)
            .bind($new.access.as_slice())
            .bind($grant)
            .bind(&$new.scopes)
            .bind($now)
            .bind($new.access_expires_at)
            .bind($new.access_jkt.as_ref().map(<[u8; 32]>::as_slice))
            .execute(&mut *$tx)
            .await?;
        if let Some(refresh) = &$new.refresh {
            sqlx::query(REFRESH).bind(refresh.as_slice()).bind($grant).bind($now).execute(&mut *$tx).await?;
        }
        sqlx::query(USE)
            .bind($now)
            .bind($new.grant_expires_at)
            .bind($new.grant_jkt.as_ref().map(<[u8; 32]>::as_slice))
            .bind($grant)
            .execute(&mut *$tx)
            .await?;
    }};
}

/// Ends the grant, if it was live, and what rests on it.
macro_rules! finish {
    ($tx:ident, $grant:expr, $reason:expr, $detail:expr, $now:expr) => {{
        let ended = sqlx::query_as::<_, GrantRow>(END)
            .bind($now)
            .bind($reason)
            .bind($detail)
            .bind($grant)
            .fetch_optional(&mut *$tx)
            .await?;
        end_children!($tx, $now);
        ended
    }};
}

/// Shows a code or a refresh token: takes the row of its grant, which is the lock of the family, reads it, and does whole or not at
/// all what `decide` says of it. `spend` marks it as spent where tokens are given and says how many rows that were. `None` when nothing of that hash is known; else what `decide` gave besides, and the grant if it ended.
macro_rules! show {
    (
        $tx:ident, $hash:ident, $now:ident, $decide:ident, $take:ident, $read:ident,
        spend |$seen:ident: $row:ty, $new:ident| $spend:expr
    ) => {{
        let grant: Option<GrantRow> = sqlx::query_as($take).bind($hash.as_slice()).fetch_optional(&mut *$tx).await?;
        match grant {
            None => None,
            Some(grant) => {
                let id = grant.id;
                let shown: Shown<$row> = sqlx::query_as($read).bind($hash.as_slice()).fetch_one(&mut *$tx).await?;
                let Shown { row: shown, account_active, next_is_active, next_is_unused } = shown;
                let $seen = Seen { grant, account_active, shown, next_is_active, next_is_unused };
                let (deed, told) = $decide(&$seen);
                let ended = match deed {
                    Deed::Leave => None,
                    Deed::End(reason, detail) => finish!($tx, id, reason, detail, $now),
                    Deed::Give($new) => {
                        if $spend == 0 {
                            return Err(StoreError::Stale);
                        }
                        give!($tx, id, $new, $now);
                        None
                    }
                };
                Some((told, ended))
            }
        }
    }};
}

impl Store {
    /// Inserts a grant with the code that waits to be shown; ends up to 500 of the account's live grants to clients beyond the
    /// `most` that were used last, and returns them. `Missing` when the tenant has no such account.
    pub async fn insert_grant_with_code(
        &self,
        tenant: &TenantId,
        grant: &GrantRow,
        code: &CodeRow,
    ) -> Result<(), StoreError> {
        let text = "INSERT INTO authorization_codes
            (hash, grant_id, redirect_uri, code_challenge, expires_at, jkt, trace_id) VALUES ($1, $2, $3, $4, $5, $6, $7)";
        on!(brief self, tx => {
            insert_grant!(tx, tenant, grant);
            sqlx::query(text)
                .bind(code.hash.as_slice())
                .bind(grant.id)
                .bind(&code.redirect_uri)
                .bind(&code.code_challenge)
                .bind(code.expires_at)
                .bind(code.jkt.as_deref())
                .bind(code.trace_id)
                .execute(&mut *tx)
                .await?;
        });
        Ok(())
    }

    /// Inserts a grant with its tokens, if the account may come in and the grant that it rests on, if it does, is live; says
    /// whether it did.
    pub async fn insert_grant_with_tokens(
        &self,
        tenant: &TenantId,
        grant: &GrantRow,
        new: &NewTokens,
    ) -> Result<bool, StoreError> {
        let now = grant.created_at;
        // Taking the row makes whoever ends it wait, and see this one then.
        let take = "UPDATE grants SET last_used_at = last_used_at
            WHERE tenant_id = $1 AND id = $2 AND ended_at IS NULL AND expires_at > $3";
        let done = on!(brief self, tx => {
            let active: i64 =
                sqlx::query_scalar(STANDS).bind(tenant.as_str()).bind(grant.user_id).fetch_one(&mut *tx).await?;
            let rests = match grant.parent_id {
                None => 1,
                Some(parent) => {
                    let taken = sqlx::query(take).bind(tenant.as_str()).bind(parent).bind(now).execute(&mut *tx).await?;
                    taken.rows_affected()
                }
            };
            let may = active > 0 && rests > 0;
            if may {
                insert_grant!(tx, tenant, grant);
                give!(tx, grant.id, new, now);
            }
            may
        });
        Ok(done)
    }

    /// Shows a code: does what `decide` says of it, whole or not at all. `None` when no such code is known; else what `decide`
    /// gave besides, and the grant if it ended.
    pub async fn show_code<T: Send>(
        &self,
        hash: &[u8; 32],
        now: i64,
        decide: impl FnOnce(&Seen<CodeRow>) -> (Deed, T) + Send,
    ) -> Result<Option<(T, Option<GrantRow>)>, StoreError> {
        let take = "UPDATE grants SET last_used_at = last_used_at
            WHERE id = (SELECT grant_id FROM authorization_codes WHERE hash = $1) RETURNING *";
        let code = concat!(
            "SELECT t.*, ",
            account_active!(),
            " AS account_active, FALSE AS next_is_active, FALSE AS next_is_unused
            FROM authorization_codes t WHERE t.hash = $1"
        );
        let spend = "UPDATE authorization_codes SET spent_at = $1 WHERE hash = $2 AND spent_at IS NULL";
        let done = on!(brief self, tx => {
            show!(tx, hash, now, decide, take, code,
                spend |seen: CodeRow, new| {
                    sqlx::query(spend).bind(now).bind(hash.as_slice()).execute(&mut *tx).await?.rows_affected()
                }
            )
        });
        self.announce_ends(done.as_ref().map_or(0, |(_, ended)| usize::from(ended.is_some()))).await;
        Ok(done)
    }

    /// Shows a refresh token, as [`Store::show_code`] shows a code.
    pub async fn show_refresh_token<T: Send>(
        &self,
        hash: &[u8; 32],
        now: i64,
        decide: impl FnOnce(&Seen<RefreshRow>) -> (Deed, T) + Send,
    ) -> Result<Option<(T, Option<GrantRow>)>, StoreError> {
        let take = "UPDATE grants SET last_used_at = last_used_at
            WHERE id = (SELECT grant_id FROM refresh_tokens WHERE hash = $1) RETURNING *";
        let token = concat!(
            "SELECT t.*, ",
            account_active!(),
            " AS account_active,
            EXISTS (SELECT 1 FROM refresh_tokens n WHERE n.hash = t.next_refresh AND n.state = 'active') AS next_is_active,
            EXISTS (SELECT 1 FROM access_tokens a WHERE a.hash = t.next_access AND a.used_at IS NULL) AS next_is_unused
            FROM refresh_tokens t WHERE t.hash = $1"
        );
        let spend = "UPDATE refresh_tokens SET state = 'spent', spent_at = $1, answer = $2, next_refresh = $3,
            next_access = $4 WHERE hash = $5 AND state = $6";
        let revoke = "UPDATE refresh_tokens SET state = 'revoked' WHERE hash = $1";
        let remove = "DELETE FROM access_tokens WHERE hash = $1";
        let done = on!(brief self, tx => {
            show!(tx, hash, now, decide, take, token,
                spend |seen: RefreshRow, new| {
                    let old = &seen.shown;
                    let spent = sqlx::query(spend)
                        .bind(now)
                        .bind(new.answer.as_deref())
                        .bind(new.refresh.as_ref().map(<[u8; 32]>::as_slice))
                        .bind(new.access.as_slice())
                        .bind(hash.as_slice())
                        .bind(&old.state)
                        .execute(&mut *tx)
                        .await?;
                    if let Some(next) = &old.next_refresh {
                        sqlx::query(revoke).bind(next).execute(&mut *tx).await?;
                    }
                    if let Some(next) = &old.next_access {
                        sqlx::query(remove).bind(next).execute(&mut *tx).await?;
                    }
                    spent.rows_affected()
                }
            )
        });
        self.announce_ends(done.as_ref().map_or(0, |(_, ended)| usize::from(ended.is_some()))).await;
        Ok(done)
    }

    /// The grant of a token of either kind, live or not.
    pub async fn grant_of_token(&self, hash: &[u8; 32], refresh: bool) -> Result<Option<GrantRow>, StoreError> {
        let by_access = "SELECT g.* FROM grants g JOIN access_tokens t ON t.grant_id = g.id WHERE t.hash = $1";
        let by_refresh = "SELECT g.* FROM grants g JOIN refresh_tokens t ON t.grant_id = g.id WHERE t.hash = $1";
        let text = if refresh { by_refresh } else { by_access };
        Ok(on!(read self, db => sqlx::query_as(text).bind(hash.as_slice()).fetch_optional(db).await?))
    }

    /// The grant that a code was made for, spent or not.
    pub async fn grant_of_code(&self, hash: &[u8; 32]) -> Result<Option<GrantRow>, StoreError> {
        let text = "SELECT g.* FROM grants g JOIN authorization_codes c ON c.grant_id = g.id WHERE c.hash = $1";
        Ok(on!(read self, db => sqlx::query_as(text).bind(hash.as_slice()).fetch_optional(db).await?))
    }

    /// How many refresh tokens of a live grant are active: one at most.
    pub async fn count_active_refresh_tokens(&self, grant: Uuid) -> Result<i64, StoreError> {
        let text = "SELECT COUNT(*) FROM refresh_tokens t JOIN grants g ON g.id = t.grant_id
            WHERE t.grant_id = $1 AND t.state = 'active' AND g.ended_at IS NULL";
        Ok(on!(read self, db => sqlx::query_scalar(text).bind(grant).fetch_one(db).await?))
    }

    /// Ends, at `now`, up to 500 grants, of every tenant, whose code expired by `expired` and was not shown, and returns them. Let
    /// there be a while between the two: who waits for a row on PostgreSQL looks at the grant again and not at its code, which may
    /// have been shown in its last moment.
    pub async fn end_grants_of_lost_codes(&self, expired: i64, now: i64) -> Result<Vec<GrantRow>, StoreError> {
        let end = "UPDATE grants SET ended_at = $1, end_reason = 'timeout', end_detail = 'code'
            WHERE ended_at IS NULL AND id IN
            (SELECT grant_id FROM authorization_codes WHERE spent_at IS NULL AND expires_at <= $2
             ORDER BY expires_at LIMIT 500)
            RETURNING *";
        let remove = "DELETE FROM authorization_codes WHERE spent_at IS NULL AND grant_id IN
            (SELECT c.grant_id FROM authorization_codes c JOIN grants g ON g.id = c.grant_id
             WHERE c.spent_at IS NULL AND c.expires_at <= $1 AND g.ended_at IS NOT NULL LIMIT 1000)";
        let ended: Vec<GrantRow> = on!(brief self, tx => {
            let ended = sqlx::query_as(end).bind(now).bind(expired).fetch_all(&mut *tx).await?;
            sqlx::query(remove).bind(now).execute(&mut *tx).await?;
            ended
        });
        self.announce_ends(ended.len()).await;
        Ok(ended)
    }

    /// Removes up to 1,000 of each: answers to what was spent before `grace`; refresh tokens that were spent before `old`;
    /// access tokens that expired before `now` and were used, and unused ones that expired before `unused`. Says how many rows
    /// went. What is forgotten of a token never makes it good: it is unknown then, or counts as used.
    pub async fn purge_tokens(&self, now: i64, grace: i64, unused: i64, old: i64) -> Result<u64, StoreError> {
        let answers = "UPDATE refresh_tokens SET answer = NULL WHERE hash IN
            (SELECT hash FROM refresh_tokens WHERE answer IS NOT NULL AND spent_at < $1 ORDER BY spent_at LIMIT 1000)";
        let spent = "DELETE FROM refresh_tokens WHERE hash IN
            (SELECT hash FROM refresh_tokens WHERE spent_at < $1 ORDER BY spent_at LIMIT 1000)";
        let used = "DELETE FROM access_tokens WHERE hash IN
            (SELECT hash FROM access_tokens WHERE used_at IS NOT NULL AND expires_at < $1 LIMIT 1000)";
        let never = "DELETE FROM access_tokens WHERE hash IN
            (SELECT hash FROM access_tokens WHERE expires_at < $1 ORDER BY expires_at LIMIT 1000)";
        let gone = on!(brief self, tx => {
            sqlx::query(answers).bind(grace).execute(&mut *tx).await?;
            let mut gone = 0;
            for (text, time) in [(spent, old), (used, now), (never, unused)] {
                gone += sqlx::query(text).bind(time).execute(&mut *tx).await?.rows_affected();
            }
            gone
        });
        Ok(gone)
    }
}
