//! Grants and how they end, and the sessions of browsers, which are grants too. A grant's row is also the lock of its family:
//! whoever changes its tokens takes the row first (`families`).

use uuid::Uuid;

use super::tenants::tenant_of;
use super::{Store, StoreError};
use crate::id::TenantId;

row! {
    /// A row of `grants`.
    #[derive(Debug, Clone, PartialEq, Eq)]
    pub struct GrantRow {
        /// UUID version 7.
        pub id: Uuid,
        /// Whose it is.
        pub tenant_id: String,
        /// For which account.
        pub user_id: Uuid,
        /// `client`, `service` or `browser`.
        pub kind: String,
        /// To which client.
        pub client_id: Option<String>,
        /// What the client calls itself.
        pub client_name: Option<String>,
        /// What its tokens are good for.
        pub resource: Option<String>,
        /// Separated by spaces.
        pub scopes: String,
        /// `local`, or an identity provider's name.
        pub login_method: String,
        /// What the provider gave us.
        pub login_id: Option<Uuid>,
        /// Microseconds since 1970.
        pub created_at: i64,
        /// Microseconds since 1970.
        pub last_used_at: i64,
        /// Microseconds since 1970.
        pub expires_at: i64,
        /// Microseconds since 1970.
        pub ended_at: Option<i64>,
        /// `logout`, `timeout` or `error`.
        pub end_reason: Option<String>,
        /// One word.
        pub end_detail: Option<String>,
        /// The grant whose token was exchanged for this one's.
        pub parent_id: Option<Uuid>,
        /// Thumbprint of the key that its refresh tokens are bound to; known once tokens were given.
        pub jkt: Option<Vec<u8>>,
    }
}

impl GrantRow {
    /// Whose tenant's it is.
    pub fn tenant(&self) -> Result<TenantId, StoreError> {
        tenant_of(&self.tenant_id)
    }
}

row! {
    /// Whose a grant is, as far as being let in needs it.
    #[derive(Debug, Clone, PartialEq, Eq)]
    pub struct Holder {
        /// The account's name.
        pub username: String,
        /// For pages.
        pub display_name: Option<String>,
        /// The account's role.
        pub user_role: String,
        /// The account's state.
        pub user_state: String,
        /// Who vouches for the account.
        pub issuer: Option<String>,
        /// Its name there.
        pub subject: Option<String>,
    }
}

row! {
    /// A grant with its holder.
    #[derive(Debug, Clone, PartialEq, Eq)]
    pub struct HeldGrantRow {
        rows {
            /// The grant.
            pub grant: GrantRow,
            /// Its holder.
            pub holder: Holder,
        }
    }
}

/// Which grants of a tenant.
#[derive(Debug, Clone, Copy)]
pub enum Which<'a> {
    /// One, and with an account only if it is that one's.
    One(Uuid, Option<Uuid>),
    /// Of an account.
    User(Uuid),
    /// Of a client.
    Client(&'a str),
    /// That rest on what a provider gave.
    Login(Uuid),
}

/// How a grant came to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Made<'a> {
    /// A person signed in: it began with a code, which stays with it.
    BySignIn,
    /// A program asked, with an assertion or another token, and as often as it likes.
    AtOnce,
    /// This client asked on its own: as the service that it is, or with a token of one.
    ByItself(&'a str),
    /// A person signed in at our own pages.
    InBrowser,
}

/// Most rows that one statement ends or removes.
pub const BATCH: usize = 500;

pub(super) const INSERT_GRANT: &str =
    "INSERT INTO grants (id, tenant_id, user_id, kind, client_id, client_name, resource,
        scopes, login_method, login_id, created_at, last_used_at, expires_at, parent_id)
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14)";

macro_rules! insert_grant {
    ($tx:ident, $tenant:expr, $row:expr) => {
        sqlx::query($crate::store::grants::INSERT_GRANT)
            .bind($row.id)
            .bind($tenant.as_str())
            .bind($row.user_id)
            .bind(&$row.kind)
            .bind($row.client_id.as_deref())
            .bind($row.client_name.as_deref())
            .bind($row.resource.as_deref())
            .bind(&$row.scopes)
            .bind(&$row.login_method)
            .bind($row.login_id)
            .bind($row.created_at)
            .bind($row.last_used_at)
            .bind($row.expires_at)
            .bind($row.parent_id)
            .execute(&mut *$tx)
            .await?
    };
}
pub(super) use insert_grant;

pub(super) const END_CHILDREN: &str =
    "UPDATE grants SET ended_at = $1, end_reason = 'logout', end_detail = 'parent' WHERE ended_at IS NULL AND parent_id IN
    (SELECT id FROM grants WHERE ended_at = $1) RETURNING *";

/// Ends what rests on grants that ended at this time, and what rests on that, and returns them. Whoever adds a grant that rests on
/// another holds that one's row (`families`), so that each round sees what the one before it waited for.
macro_rules! end_children {
    ($tx:ident, $now:expr) => {{
        let mut all: Vec<$crate::store::grants::GrantRow> = Vec::new();
        loop {
            let some: Vec<$crate::store::grants::GrantRow> =
                sqlx::query_as($crate::store::grants::END_CHILDREN).bind($now).fetch_all(&mut *$tx).await?;
            if some.is_empty() {
                break;
            }
            all.extend(some);
        }
        all
    }};
}
pub(super) use end_children;

/// Ends up to a batch of live grants that meet a condition on `g`, and returns them.
macro_rules! end {
    ($condition:literal) => {
        concat!(
            "UPDATE grants SET ended_at = $1, end_reason = $2, end_detail = $3 WHERE ended_at IS NULL AND id IN
             (SELECT g.id FROM grants g WHERE g.ended_at IS NULL AND ",
            $condition,
            " LIMIT 500) RETURNING *"
        )
    };
}

impl Store {
    /// Ends up to [`BATCH`] live ones at `now`, and returns them.
    pub async fn end_grants(
        &self,
        tenant: &TenantId,
        which: Which<'_>,
        reason: &str,
        detail: &str,
        now: i64,
    ) -> Result<Vec<GrantRow>, StoreError> {
        let one = end!("g.tenant_id = $4 AND g.id = $5 AND ($6 IS NULL OR g.user_id = $6)");
        let by_user = end!("g.tenant_id = $4 AND g.user_id = $5");
        let by_client = end!("g.tenant_id = $4 AND g.client_id = $5");
        let by_login = end!("g.tenant_id = $4 AND g.login_id = $5");
        let tenant = tenant.as_str();
        let ended: Vec<GrantRow> = on!(write self, tx => {
            let query = match which {
                Which::One(..) => one,
                Which::User(_) => by_user,
                Which::Client(_) => by_client,
                Which::Login(_) => by_login,
            };
            let query = sqlx::query_as(query).bind(now).bind(reason).bind(detail).bind(tenant);
            let query = match which {
                Which::One(id, user) => query.bind(id).bind(user),
                Which::User(id) | Which::Login(id) => query.bind(id),
                Which::Client(id) => query.bind(id),
            };
            let mut ended: Vec<GrantRow> = query.fetch_all(&mut *tx).await?;
            ended.extend(end_children!(tx, now));
            ended
        });
        self.announce_ends(ended.len()).await;
        Ok(ended)
    }

    /// Ends, at `now`, up to [`BATCH`] of an account's live grants that were made so, beyond the `most` that were used last or, of
    /// those made by programs or in a browser, are newest; and returns them.
    pub async fn end_surplus_grants(
        &self,
        tenant: &TenantId,
        user: Uuid,
        made: Made<'_>,
        most: i64,
        now: i64,
    ) -> Result<Vec<GrantRow>, StoreError> {
        macro_rules! surplus {
            ($made:literal, $order:literal, $limit:literal) => {
                concat!(
                    "SELECT g.id FROM grants g WHERE g.tenant_id = $1 AND g.user_id = $2
                     AND g.ended_at IS NULL AND g.expires_at > $3 AND ",
                    $made,
                    " ORDER BY ",
                    $order,
                    " DESC, g.id DESC LIMIT ",
                    $limit,
                    " OFFSET $4"
                )
            };
        }
        macro_rules! texts {
            ($made:literal, $order:literal) => {
                (
                    surplus!($made, $order, "1"),
                    concat!(
                        "UPDATE grants SET ended_at = $3, end_reason = 'timeout', end_detail = 'surplus'
                         WHERE ended_at IS NULL AND id IN (",
                        surplus!($made, $order, "500"),
                        ") RETURNING *"
                    ),
                )
            };
        }
        let (any, text) = match made {
            Made::BySignIn => texts!(
                "g.kind = 'client' AND EXISTS (SELECT 1 FROM authorization_codes c WHERE c.grant_id = g.id)",
                "g.last_used_at"
            ),
            Made::AtOnce => texts!(
                "g.kind = 'client' AND NOT EXISTS (SELECT 1 FROM authorization_codes c WHERE c.grant_id = g.id)",
                "g.created_at"
            ),
            Made::ByItself(_) => texts!("g.kind = 'service' AND g.client_id = $5", "g.created_at"),
            Made::InBrowser => texts!("g.kind = 'browser'", "g.created_at"),
        };
        macro_rules! asked {
            ($query:expr) => {{
                let query = $query.bind(tenant.as_str()).bind(user).bind(now).bind(most);
                match made {
                    Made::ByItself(client) => query.bind(client),
                    Made::BySignIn | Made::AtOnce | Made::InBrowser => query,
                }
            }};
        }
        // Seldom is there one, and looking makes nobody wait.
        let first: Option<Uuid> = on!(read self, db => {
            asked!(sqlx::query_scalar(any)).fetch_optional(db).await?
        });
        if first.is_none() {
            return Ok(Vec::new());
        }
        let ended: Vec<GrantRow> = on!(write self, tx => {
            let mut ended: Vec<GrantRow> = asked!(sqlx::query_as(text)).fetch_all(&mut *tx).await?;
            ended.extend(end_children!(tx, now));
            ended
        });
        self.announce_ends(ended.len()).await;
        Ok(ended)
    }

    /// Ends up to [`BATCH`] live ones, of every tenant, that nobody used since `idle` or that were to end by `now`, and
    /// returns them.
    pub async fn end_grants_by_time(&self, idle: i64, now: i64) -> Result<Vec<GrantRow>, StoreError> {
        let unused = end!("g.last_used_at <= $4");
        let past = end!("g.expires_at <= $4");
        let ended: Vec<GrantRow> = on!(write self, tx => {
            let ends = |text: &'static str, detail: &'static str, time: i64| {
                sqlx::query_as::<_, GrantRow>(text).bind(now).bind("timeout").bind(detail).bind(time)
            };
            let mut ended = ends(past, "expired", now).fetch_all(&mut *tx).await?;
            ended.extend(ends(unused, "idle", idle).fetch_all(&mut *tx).await?);
            ended.extend(end_children!(tx, now));
            ended
        });
        self.announce_ends(ended.len()).await;
        Ok(ended)
    }

    /// The id and end of up to `limit` that ended later than that time and id, oldest first.
    pub async fn grants_ended_since(&self, time: i64, id: Uuid, limit: i64) -> Result<Vec<(i64, Uuid)>, StoreError> {
        let text = "SELECT ended_at, id FROM grants WHERE ended_at IS NOT NULL AND (ended_at, id) > ($1, $2)
            ORDER BY ended_at, id LIMIT $3";
        Ok(on!(read self, db => sqlx::query_as(text).bind(time).bind(id).bind(limit).fetch_all(db).await?))
    }

    /// Up to `limit` live ones of an account, the last used first; what programs made at once comes behind the rest.
    pub async fn live_grants(
        &self,
        tenant: &TenantId,
        user: Uuid,
        now: i64,
        limit: i64,
    ) -> Result<Vec<GrantRow>, StoreError> {
        let text = "SELECT g.* FROM grants g
            WHERE g.tenant_id = $1 AND g.user_id = $2 AND g.ended_at IS NULL AND g.expires_at > $3
            ORDER BY CASE WHEN g.kind = 'browser' OR EXISTS
                (SELECT 1 FROM authorization_codes c WHERE c.grant_id = g.id) THEN 0 ELSE 1 END,
            g.last_used_at DESC, g.id DESC LIMIT $4";
        Ok(on!(read self, db => {
            sqlx::query_as(text).bind(tenant.as_str()).bind(user).bind(now).bind(limit).fetch_all(db).await?
        }))
    }

    /// Up to `limit` grants of an account to clients that ended later than `since` because a provider wants to see the person, the last
    /// first. Clients that have been let in anew are left out.
    pub async fn parted_grants(
        &self,
        tenant: &TenantId,
        user: Uuid,
        since: i64,
        limit: i64,
    ) -> Result<Vec<GrantRow>, StoreError> {
        let text = "SELECT g.* FROM grants g WHERE g.tenant_id = $1 AND g.user_id = $2 AND g.kind = 'client'
            AND g.ended_at > $3 AND g.end_reason = 'error'
            AND g.end_detail IN ('needs_interaction', 'consent_missing', 'forged', 'dead')
            AND NOT EXISTS (SELECT 1 FROM grants n WHERE n.tenant_id = g.tenant_id AND n.user_id = g.user_id
                AND n.client_id = g.client_id AND n.ended_at IS NULL)
            ORDER BY g.ended_at DESC, g.id DESC LIMIT $4";
        Ok(on!(read self, db => {
            sqlx::query_as(text).bind(tenant.as_str()).bind(user).bind(since).bind(limit).fetch_all(db).await?
        }))
    }

    /// How many are live, by tenant and kind, and how many of those were used since `since`.
    pub async fn count_live_grants(&self, now: i64, since: i64) -> Result<Vec<(String, String, i64, i64)>, StoreError> {
        let text = "SELECT tenant_id, kind, COUNT(*), COUNT(CASE WHEN last_used_at > $2 THEN 1 END) FROM grants
            WHERE ended_at IS NULL AND expires_at > $1 GROUP BY tenant_id, kind";
        Ok(on!(read self, db => sqlx::query_as(text).bind(now).bind(since).fetch_all(db).await?))
    }

    /// How many live grants an account has.
    pub async fn live_grants_of(&self, tenant: &TenantId, user: Uuid, now: i64) -> Result<i64, StoreError> {
        let text = "SELECT COUNT(*) FROM grants WHERE tenant_id = $1 AND user_id = $2 AND ended_at IS NULL AND expires_at > $3";
        Ok(on!(read self, db => {
            sqlx::query_scalar(text).bind(tenant.as_str()).bind(user).bind(now).fetch_one(db).await?
        }))
    }

    /// Removes, with all their tokens, up to [`BATCH`] that ended before `before`; says how many.
    pub async fn purge_grants(&self, before: i64) -> Result<u64, StoreError> {
        let text = "DELETE FROM grants WHERE id IN
            (SELECT id FROM grants WHERE ended_at IS NOT NULL AND ended_at < $1 ORDER BY ended_at LIMIT 500)";
        Ok(on!(brief self, tx => sqlx::query(text).bind(before).execute(&mut *tx).await?.rows_affected()))
    }

    /// Inserts the grant of a browser's session with its cookie's hash. `Missing` when the tenant has no such account.
    pub async fn insert_browser_session(
        &self,
        tenant: &TenantId,
        grant: &GrantRow,
        cookie: &[u8; 32],
    ) -> Result<(), StoreError> {
        let text = "INSERT INTO browser_sessions (hash, grant_id, expires_at) VALUES ($1, $2, $3)";
        on!(brief self, tx => {
            insert_grant!(tx, tenant, grant);
            sqlx::query(text).bind(cookie.as_slice()).bind(grant.id).bind(grant.expires_at).execute(&mut *tx).await?;
        });
        Ok(())
    }

    /// The live session of that cookie's hash.
    pub async fn browser_session(&self, cookie: &[u8; 32], now: i64) -> Result<Option<HeldGrantRow>, StoreError> {
        let text =
            "SELECT g.*, u.username, u.display_name, u.role AS user_role, st.state AS user_state, u.issuer, u.subject
            FROM browser_sessions s JOIN grants g ON g.id = s.grant_id JOIN users u ON u.id = g.user_id
            JOIN standing st ON st.user_id = u.id
            WHERE s.hash = $1 AND s.expires_at > $2 AND g.ended_at IS NULL AND g.expires_at > $2";
        Ok(on!(read self, db => {
            sqlx::query_as(text).bind(cookie.as_slice()).bind(now).fetch_optional(db).await?
        }))
    }
}
