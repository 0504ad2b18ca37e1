//! What identity providers gave us for people; sealed by `grants`.

use uuid::Uuid;

use super::{Store, StoreError};
use crate::id::TenantId;

row! {
    /// A row of `logins`.
    #[derive(Debug, Clone, PartialEq, Eq)]
    pub struct LoginRow {
        rows {
            /// How the provider was last asked.
            pub last: LastRefresh,
        }
        /// UUID version 7.
        pub id: Uuid,
        /// Whose it is.
        pub tenant_id: String,
        /// Whom it is for.
        pub user_id: Uuid,
        /// The provider's name.
        pub provider: String,
        /// The provider's tokens, sealed.
        pub tokens: Option<Vec<u8>>,
        /// `active`, `needs_interaction` or `dead`.
        pub state: String,
        /// Why it is not active.
        pub reason: Option<String>,
        /// What the provider wants to see at the next sign-in.
        pub claims: Option<String>,
        /// Microseconds since 1970.
        pub created_at: i64,
        /// When the provider last answered; microseconds since 1970.
        pub checked_at: i64,
        /// Before when nobody asks; microseconds since 1970.
        pub ask_after: i64,
        /// When the tokens came; microseconds since 1970.
        pub issued_at: i64,
        /// When the access token among them ends; microseconds since 1970.
        pub expires_at: i64,
        /// When the provider is to be asked next by itself; microseconds since 1970.
        pub due_at: Option<i64>,
        /// Whether somebody has it alone to ask, until `ask_after` at most.
        pub asking: bool,
        /// Whether the provider has been asked since then.
        pub sent: bool,
        /// When it was seen that somebody who asked was cut off; microseconds since 1970.
        pub cut_off_at: Option<i64>,
        /// Before when not even an administrator has the provider asked; microseconds since 1970.
        pub not_before: i64,
        /// Questions in a row that came to nothing.
        pub failures: i64,
    }
}

row! {
    /// How a provider was last asked.
    #[derive(Debug, Clone, Default, PartialEq, Eq)]
    pub struct LastRefresh {
        /// When; microseconds since 1970.
        pub last_at: Option<i64>,
        /// Why.
        pub last_kind: Option<String>,
        /// How that came out.
        pub last_result: Option<String>,
        /// The provider's error code.
        pub last_code: Option<String>,
    }
}

/// How a login was when somebody got it to ask about, or kept it last: what is written of an answer is written as long as nobody else
/// got it since.
#[derive(Debug, Clone, Copy)]
pub struct Claim<'a> {
    /// `ask_after`.
    pub until: i64,
    /// `tokens`.
    pub tokens: Option<&'a [u8]>,
}

/// How long a provider's tokens live, as columns; microseconds since 1970.
#[derive(Debug, Clone, Copy)]
pub struct LifeColumns {
    /// When they came.
    pub issued_at: i64,
    /// When they end.
    pub expires_at: i64,
}

impl Store {
    /// Inserts one. `Missing` when the tenant has no such account.
    pub async fn insert_login_row(&self, tenant: &TenantId, row: &LoginRow) -> Result<(), StoreError> {
        let text = "INSERT INTO logins (id, tenant_id, user_id, provider, tokens, state, reason, claims, created_at,
                checked_at, ask_after, issued_at, expires_at, due_at)
            VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14)";
        on!(alone self, db => {
            sqlx::query(text)
                .bind(row.id)
                .bind(tenant.as_str())
                .bind(row.user_id)
                .bind(&row.provider)
                .bind(row.tokens.as_deref())
                .bind(&row.state)
                .bind(row.reason.as_deref())
                .bind(row.claims.as_deref())
                .bind(row.created_at)
                .bind(row.checked_at)
                .bind(row.ask_after)
                .bind(row.issued_at)
                .bind(row.expires_at)
                .bind(row.due_at)
                .execute(db)
                .await?;
        });
        Ok(())
    }

    /// The one of that id.
    pub async fn login_row(&self, tenant: &TenantId, id: Uuid) -> Result<Option<LoginRow>, StoreError> {
        let text = "SELECT * FROM logins WHERE tenant_id = $1 AND id = $2";
        Ok(on!(read self, db => sqlx::query_as(text).bind(tenant.as_str()).bind(id).fetch_optional(db).await?))
    }

    /// The one that a live grant rests on.
    pub async fn login_row_of_grant(&self, tenant: &TenantId, grant: Uuid) -> Result<Option<LoginRow>, StoreError> {
        let text = "SELECT l.* FROM logins l JOIN grants g ON g.login_id = l.id AND g.tenant_id = l.tenant_id
            WHERE g.tenant_id = $1 AND g.id = $2 AND g.ended_at IS NULL AND l.user_id = g.user_id";
        Ok(on!(read self, db => sqlx::query_as(text).bind(tenant.as_str()).bind(grant).fetch_optional(db).await?))
    }

    /// Writes what a check found: all but whose it is, its tokens and their life; the tokens go if it is not active any more. Nobody asks
    /// any longer. Says whether: nothing changes when somebody else got it since, or of the end of one that has other tokens.
    pub async fn update_login_row(
        &self,
        tenant: &TenantId,
        row: &LoginRow,
        claim: Claim<'_>,
    ) -> Result<bool, StoreError> {
        let text = "UPDATE logins SET tokens = CASE WHEN $1 = 'active' THEN tokens END, state = $1, reason = $2, claims = $3,
                checked_at = $4, ask_after = $5, due_at = $6, asking = FALSE, sent = FALSE, cut_off_at = $7, failures = $8,
                last_at = $9, last_kind = $10, last_result = $11, last_code = $12, not_before = $17
            WHERE tenant_id = $13 AND id = $14 AND ask_after = $15
            AND ($1 = 'active' OR tokens IS NOT DISTINCT FROM $16)";
        let done = on!(write self, tx => {
            sqlx::query(text)
                .bind(&row.state)
                .bind(row.reason.as_deref())
                .bind(row.claims.as_deref())
                .bind(row.checked_at)
                .bind(row.ask_after)
                .bind(row.due_at)
                .bind(row.cut_off_at)
                .bind(row.failures)
                .bind(row.last.last_at)
                .bind(row.last.last_kind.as_deref())
                .bind(row.last.last_result.as_deref())
                .bind(row.last.last_code.as_deref())
                .bind(tenant.as_str())
                .bind(row.id)
                .bind(claim.until)
                .bind(claim.tokens)
                .bind(row.not_before)
                .execute(&mut *tx)
                .await?
                .rows_affected()
        });
        Ok(done > 0)
    }

    /// Writes the tokens of an active one with their life, and nothing else; says whether. Nothing changes when somebody else got it
    /// since and its tokens are others by now.
    pub async fn renew_login(
        &self,
        tenant: &TenantId,
        id: Uuid,
        claim: Claim<'_>,
        tokens: &[u8],
        life: LifeColumns,
    ) -> Result<bool, StoreError> {
        let text = "UPDATE logins SET tokens = $1, issued_at = $2, expires_at = $3
            WHERE tenant_id = $4 AND id = $5 AND state = 'active' AND (ask_after = $6 OR tokens = $7)";
        let done = on!(write self, tx => {
            let query = sqlx::query(text).bind(tokens).bind(life.issued_at).bind(life.expires_at);
            let query = query.bind(tenant.as_str()).bind(id).bind(claim.until).bind(claim.tokens);
            query.execute(&mut *tx).await?.rows_affected()
        });
        Ok(done > 0)
    }

    /// Sessions that rest on what an account was given by a provider, and of which a question was cut off or may be, since it is under way,
    /// rest on this one from now on, which the provider gave since.
    pub async fn adopt_grants(&self, tenant: &TenantId, login: &LoginRow) -> Result<(), StoreError> {
        // Seldom is there one, and looking makes nobody wait.
        let any = "SELECT id FROM logins WHERE tenant_id = $1 AND user_id = $2 AND provider = $3 AND id <> $4
            AND state = 'active' AND (cut_off_at IS NOT NULL OR sent) LIMIT 1";
        let first: Option<Uuid> = on!(read self, db => {
            let query = sqlx::query_scalar(any).bind(tenant.as_str()).bind(login.user_id).bind(&login.provider);
            query.bind(login.id).fetch_optional(db).await?
        });
        if first.is_none() {
            return Ok(());
        }
        let text = "UPDATE grants SET login_id = $1 WHERE ended_at IS NULL AND login_id IN
            (SELECT id FROM logins WHERE tenant_id = $2 AND user_id = $3 AND provider = $4 AND id <> $1
             AND state = 'active' AND (cut_off_at IS NOT NULL OR sent))";
        on!(alone self, db => {
            let query = sqlx::query(text).bind(login.id).bind(tenant.as_str()).bind(login.user_id).bind(&login.provider);
            query.execute(db).await?;
        });
        Ok(())
    }

    /// Those of an account, the newest first.
    pub async fn logins_of(&self, tenant: &TenantId, user: Uuid, limit: i64) -> Result<Vec<LoginRow>, StoreError> {
        let text =
            "SELECT * FROM logins WHERE tenant_id = $1 AND user_id = $2 ORDER BY created_at DESC, id DESC LIMIT $3";
        Ok(on!(read self, db => {
            sqlx::query_as(text).bind(tenant.as_str()).bind(user).bind(limit).fetch_all(db).await?
        }))
    }

    /// What a provider last wanted to see of an account at its next sign-in there, if that has not come yet.
    pub async fn parked_claims(
        &self,
        tenant: &TenantId,
        user: Uuid,
        provider: &str,
    ) -> Result<Option<String>, StoreError> {
        let text = "SELECT claims FROM logins WHERE tenant_id = $1 AND user_id = $2 AND provider = $3
            AND claims IS NOT NULL ORDER BY checked_at DESC, id DESC LIMIT 1";
        Ok(on!(read self, db => {
            sqlx::query_scalar(text).bind(tenant.as_str()).bind(user).bind(provider).fetch_optional(db).await?
        }))
    }

    /// Notes what a provider wants to see of an account at its next sign-in there, for a call on this grant: whoever holds it, or the one
    /// that it rests on, is to be told. Who was told before is told again only of something else.
    pub async fn park_claims(&self, tenant: &TenantId, id: Uuid, grant: Uuid, claims: &str) -> Result<(), StoreError> {
        let other =
            "UPDATE grants SET asked_back = NULL WHERE tenant_id = $1 AND login_id = $2 AND asked_back IS NOT NULL
            AND EXISTS (SELECT 1 FROM logins l WHERE l.tenant_id = $1 AND l.id = $2 AND l.claims IS DISTINCT FROM $3)";
        let wanted = "UPDATE grants SET asked_back = 'wanted' WHERE tenant_id = $1 AND asked_back IS NULL AND id IN
            (WITH RECURSIVE above (id) AS
                (SELECT id FROM grants WHERE id = $2
                 UNION ALL SELECT g.parent_id FROM grants g JOIN above a ON g.id = a.id WHERE g.parent_id IS NOT NULL)
             SELECT id FROM above)";
        let parked = "UPDATE logins SET claims = $3 WHERE tenant_id = $1 AND id = $2 AND state = 'active'";
        on!(write self, tx => {
            let tenant = tenant.as_str();
            sqlx::query(other).bind(tenant).bind(id).bind(claims).execute(&mut *tx).await?;
            sqlx::query(wanted).bind(tenant).bind(grant).execute(&mut *tx).await?;
            sqlx::query(parked).bind(tenant).bind(id).bind(claims).execute(&mut *tx).await?;
        });
        Ok(())
    }

    /// Whether something is wanted at the next sign-in, by a call on this grant of an active login, of which its holder was not told yet;
    /// from now on the holder was.
    pub async fn tell_of_claims(&self, tenant: &TenantId, id: Uuid, grant: Uuid) -> Result<bool, StoreError> {
        let text = "UPDATE grants SET asked_back = 'told' WHERE tenant_id = $1 AND id = $3 AND asked_back = 'wanted'
            AND EXISTS (SELECT 1 FROM logins l WHERE l.tenant_id = $1 AND l.id = $2 AND l.state = 'active'
                AND l.claims IS NOT NULL)";
        let done = on!(alone self, db => {
            let query = sqlx::query(text).bind(tenant.as_str()).bind(id).bind(grant);
            query.execute(db).await?.rows_affected()
        });
        Ok(done > 0)
    }

    /// What is wanted of an account whose sessions go on is asked for now, and that once: who cannot show it comes in all the same.
    pub async fn try_claims(&self, tenant: &TenantId, user: Uuid, provider: &str) -> Result<(), StoreError> {
        let text = "UPDATE logins SET claims = NULL
            WHERE tenant_id = $1 AND user_id = $2 AND provider = $3 AND state = 'active' AND claims IS NOT NULL";
        on!(write self, tx => {
            sqlx::query(text).bind(tenant.as_str()).bind(user).bind(provider).execute(&mut *tx).await?;
        });
        Ok(())
    }

    /// The provider has seen what it wanted of an account.
    pub async fn clear_claims(&self, tenant: &TenantId, user: Uuid, provider: &str) -> Result<(), StoreError> {
        let text = "UPDATE logins SET claims = NULL
            WHERE tenant_id = $1 AND user_id = $2 AND provider = $3 AND claims IS NOT NULL";
        on!(write self, tx => {
            sqlx::query(text).bind(tenant.as_str()).bind(user).bind(provider).execute(&mut *tx).await?;
        });
        Ok(())
    }

    /// Removes up to 1,000 that were made before `before` and that no live grant rests on; says how many. One that says what the
    /// provider wants to see stays until `parked`, as does one that says that the person must come back, until the person has; and the
    /// newest by which the holder of API keys can be asked about as long as there are any.
    pub async fn purge_logins(&self, before: i64, parked: i64) -> Result<u64, StoreError> {
        let text = "DELETE FROM logins WHERE id IN
            (SELECT l.id FROM logins l WHERE l.created_at < $1 AND (l.claims IS NULL OR l.checked_at < $2)
             AND NOT EXISTS (SELECT 1 FROM grants g WHERE g.login_id = l.id AND g.ended_at IS NULL)
             AND (l.state = 'active' OR l.checked_at < $2
                OR EXISTS (SELECT 1 FROM logins n WHERE n.tenant_id = l.tenant_id AND n.user_id = l.user_id
                    AND n.provider = l.provider AND n.created_at > l.created_at))
             AND NOT (l.state = 'active' AND l.tokens IS NOT NULL
                AND EXISTS (SELECT 1 FROM api_keys k WHERE k.tenant_id = l.tenant_id AND k.user_id = l.user_id
                    AND k.revoked_at IS NULL)
                AND NOT EXISTS (SELECT 1 FROM logins n WHERE n.tenant_id = l.tenant_id AND n.user_id = l.user_id
                    AND n.state = 'active' AND n.tokens IS NOT NULL AND n.created_at > l.created_at))
             LIMIT 1000)";
        Ok(on!(brief self, tx => {
            sqlx::query(text).bind(before).bind(parked).execute(&mut *tx).await?.rows_affected()
        }))
    }
}
