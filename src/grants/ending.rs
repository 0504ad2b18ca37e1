//! Grants end: by their account, their client, an administrator, the provider's word or time. An end is final, has a reason, and
//! is told to the other processes on the database.

use serde::Serialize;
use time::OffsetDateTime;
use uuid::Uuid;

use super::{GrantView, Grants, Refusal, not_yet};
use crate::id::TenantId;

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

impl Grants {
    /// Ends what is live of them; what has ended already, or is not there, is left out of the answer.
    pub async fn end(
        &self,
        tenant: &TenantId,
        which: Ids<'_>,
        end: End,
        now: OffsetDateTime,
    ) -> Result<Vec<Ended>, Refusal> {
        let _ = (tenant, which, end, now);
        not_yet()
    }

    /// A client gives a token of either kind back: its grant ends (RFC 7009). A text that is no live token is a success.
    pub async fn revoke(&self, token: &str, client_id: &str, now: OffsetDateTime) -> Result<Option<Ended>, Refusal> {
        let _ = (token, client_id, now);
        not_yet()
    }

    /// The live grants of an account, newest use first, at most 500.
    pub async fn of_user(&self, tenant: &TenantId, user: Uuid, now: OffsetDateTime) -> Result<Vec<GrantView>, Refusal> {
        let _ = (tenant, user, now);
        not_yet()
    }

    /// Grants that ended after (or at, with a greater id) what was seen last, oldest first, at most 1,000. Ends that are being
    /// written may come to light some moments late: whoever polls looks some seconds back.
    pub async fn ended_since(&self, after: OffsetDateTime, id: Uuid) -> Result<Vec<(OffsetDateTime, Uuid)>, Refusal> {
        let _ = (after, id);
        not_yet()
    }
}
