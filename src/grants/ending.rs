//! Grants end: by their account, their client, an administrator, the provider's word or time. An end is final, has a reason, and
//! is told to the other processes on the database.

use serde::Serialize;
use time::{Duration, OffsetDateTime};
use uuid::Uuid;

use super::{GrantView, Grants, OauthCode, Refusal};
use crate::crypto::{TokenKind, hash_token};
use crate::id::TenantId;
use crate::store::grants::{BATCH, GrantRow, Made, Which};
use crate::store::tenants::tenant_of;
use crate::store::{StoreError, at, micros};

/// Why a grant ended, as it is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum EndReason {
    /// Somebody ended it on purpose.
    Logout,
    /// Its time was over.
    Timeout,
    /// It could not be trusted any longer.
    Error,
}

impl EndReason {
    /// The stored word, and the label in metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Logout => "logout",
            Self::Timeout => "timeout",
            Self::Error => "error",
        }
    }
}

/// How a grant is to end.
#[derive(Debug, Clone, Copy)]
pub struct End {
    /// As it is counted.
    pub reason: EndReason,
    /// One word: `revoked`, `reuse`, `disabled` …
    pub detail: &'static str,
}

/// A grant that ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ended {
    /// Which.
    pub id: Uuid,
    /// Whose.
    pub tenant: TenantId,
    /// For which account.
    pub user: Uuid,
    /// `client`, `service` or `browser`.
    pub kind: String,
    /// `logout`, `timeout` or `error`.
    pub reason: String,
    /// One word.
    pub detail: String,
    /// When it began.
    pub created_at: OffsetDateTime,
    /// When it ended.
    pub ended_at: OffsetDateTime,
}

/// Which grants of a tenant.
#[derive(Debug, Clone, Copy)]
pub enum Ids<'a> {
    /// One, and with an account only if it is that one's.
    One(Uuid, Option<Uuid>),
    /// Every one of an account.
    User(Uuid),
    /// Every one of a client.
    Client(&'a str),
    /// Every one that rests on what a provider gave.
    Login(Uuid),
}

impl Ended {
    pub(super) fn of(row: GrantRow) -> Result<Self, StoreError> {
        Ok(Self {
            id: row.id,
            tenant: tenant_of(&row.tenant_id)?,
            user: row.user_id,
            kind: row.kind,
            reason: row.end_reason.unwrap_or_default(),
            detail: row.end_detail.unwrap_or_default(),
            created_at: at(row.created_at),
            ended_at: at(row.ended_at.unwrap_or(row.expires_at)),
        })
    }
}

/// Most live grants to clients that an account has by signing in; the one that was not used for longest gives way.
pub const MOST_GRANTS: i64 = 500;
/// Most besides that programs made for it at once, with assertions and other tokens, and most that one client has as a service; the
/// oldest gives way. They are minutes old.
pub const MOST_AT_ONCE: i64 = 2_000;
/// Most sessions of browsers at our own pages that an account has; the oldest gives way.
pub const MOST_IN_BROWSERS: i64 = 50;

/// For how long it is shown that a client has to be signed in to anew, and how many of those at most.
const PARTED_SHOWN: Duration = Duration::days(7);
const MOST_PARTED: i64 = 50;

impl Grants {
    /// Ends what is live of them; what has ended already, or is not there, is left out of the answer.
    pub async fn end(
        &self,
        tenant: &TenantId,
        which: Ids<'_>,
        end: End,
        now: OffsetDateTime,
    ) -> Result<Vec<Ended>, Refusal> {
        let which = match which {
            Ids::One(id, user) => Which::One(id, user),
            Ids::User(id) => Which::User(id),
            Ids::Client(id) => Which::Client(id),
            Ids::Login(id) => Which::Login(id),
        };
        let mut ended = Vec::new();
        loop {
            let store = &self.0.store;
            let rows = store.end_grants(tenant, which, end.reason.as_str(), end.detail, micros(now)).await?;
            let whole = rows.len() < BATCH;
            for row in rows {
                ended.push(Ended::of(row)?);
            }
            if whole {
                return Ok(ended);
            }
        }
    }

    /// Ends what an account has of grants beyond the bound of those that were made so.
    pub async fn end_surplus(
        &self,
        tenant: &TenantId,
        user: Uuid,
        made: Made<'_>,
        now: OffsetDateTime,
    ) -> Result<Vec<Ended>, Refusal> {
        let most = match made {
            Made::BySignIn => MOST_GRANTS,
            Made::AtOnce | Made::ByItself(_) => MOST_AT_ONCE,
            Made::InBrowser => MOST_IN_BROWSERS,
        };
        let ended = self.0.store.end_surplus_grants(tenant, user, made, most, micros(now)).await?;
        Ok(ended.into_iter().map(Ended::of).collect::<Result<_, _>>()?)
    }

    /// A client gives a token of either kind back: its grant ends (RFC 7009), and what rests on it. A text that is no live token
    /// is a success; another client's token is not touched and is refused.
    pub async fn revoke(&self, token: &str, client_id: &str, now: OffsetDateTime) -> Result<Vec<Ended>, Refusal> {
        let refresh = match TokenKind::of(token) {
            Some(TokenKind::Access) => false,
            Some(TokenKind::Refresh) => true,
            _ => return Ok(Vec::new()),
        };
        let Some(grant) = self.0.store.grant_of_token(&hash_token(token), refresh).await? else {
            return Ok(Vec::new());
        };
        if grant.client_id.as_deref() != Some(client_id) {
            let text = "the token was not issued to this client";
            return Err(Refusal::new(OauthCode::InvalidGrant, "other_client", text));
        }
        let end = End { reason: EndReason::Logout, detail: "revoked" };
        self.end(&tenant_of(&grant.tenant_id)?, Ids::One(grant.id, None), end, now).await
    }

    /// What clients had of an account in the last week until its provider wanted to see the person, each once with its end; clients that
    /// have been let in anew are left out.
    pub async fn parted(
        &self,
        tenant: &TenantId,
        user: Uuid,
        now: OffsetDateTime,
    ) -> Result<Vec<(GrantView, OffsetDateTime)>, Refusal> {
        let rows = self.0.store.parted_grants(tenant, user, micros(now - PARTED_SHOWN), MOST_PARTED).await?;
        let mut seen = std::collections::HashSet::new();
        let last = rows.into_iter().filter(|row| seen.insert(row.client_id.clone()));
        Ok(last
            .map(|row| (row.ended_at.unwrap_or_default(), row))
            .map(|(end, row)| (GrantView::of(row), at(end)))
            .collect())
    }

    /// The live grants of an account, newest use first, at most 500.
    pub async fn of_user(&self, tenant: &TenantId, user: Uuid, now: OffsetDateTime) -> Result<Vec<GrantView>, Refusal> {
        let rows = self.0.store.live_grants(tenant, user, micros(now), MOST_GRANTS).await?;
        Ok(rows.into_iter().map(GrantView::of).collect())
    }
}
