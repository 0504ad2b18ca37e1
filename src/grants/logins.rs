//! What an identity provider gave us for a person, sealed: to ask it again, from time to time, whether the person may still come
//! in. It is kept for as long as a live grant rests on it.

use time::OffsetDateTime;
use uuid::Uuid;
use zeroize::Zeroizing;

use super::{Grants, Refusal, not_yet};
use crate::id::TenantId;

/// Whether a provider still vouches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LoginState {
    /// As far as we know.
    Active,
    /// The person has to sign in again.
    NeedsInteraction,
    /// It does not.
    Dead,
}

impl LoginState {
    /// The stored word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::NeedsInteraction => "needs_interaction",
            Self::Dead => "dead",
        }
    }
}

/// A login to keep.
#[derive(Debug)]
pub struct NewLogin<'a> {
    /// Whose.
    pub tenant: &'a TenantId,
    /// Of which account.
    pub user: Uuid,
    /// The provider's name.
    pub provider: &'a str,
    /// The provider's tokens, as bytes of the caller's making; sealed here.
    pub tokens: Option<&'a [u8]>,
}

/// A login as it is kept.
#[derive(Debug)]
pub struct Login {
    /// Its id.
    pub id: Uuid,
    /// Whose.
    pub tenant: TenantId,
    /// Of which account.
    pub user: Uuid,
    /// The provider's name.
    pub provider: String,
    /// The provider's tokens.
    pub tokens: Option<Zeroizing<Vec<u8>>>,
    /// Whether the provider still vouches.
    pub state: LoginState,
    /// Why it does not: its error, never a token.
    pub reason: Option<String>,
    /// What it wants to see at the next sign-in.
    pub claims: Option<String>,
    /// When it was last asked.
    pub checked_at: OffsetDateTime,
}

impl Grants {
    /// Keeps a login.
    pub async fn keep_login(&self, login: &NewLogin<'_>, now: OffsetDateTime) -> Result<Uuid, Refusal> {
        let _ = (login, now);
        not_yet()
    }

    /// A login, whatever its state.
    pub async fn login(&self, tenant: &TenantId, id: Uuid) -> Result<Option<Login>, Refusal> {
        let _ = (tenant, id);
        not_yet()
    }

    /// The provider vouched again, with these tokens.
    pub async fn login_checked(
        &self,
        tenant: &TenantId,
        id: Uuid,
        tokens: Option<&[u8]>,
        now: OffsetDateTime,
    ) -> Result<(), Refusal> {
        let _ = (tenant, id, tokens, now);
        not_yet()
    }

    /// The provider wants the person back, or does not vouch any longer. A dead login loses its tokens.
    pub async fn login_refused(
        &self,
        tenant: &TenantId,
        id: Uuid,
        state: LoginState,
        reason: &str,
        claims: Option<&str>,
        now: OffsetDateTime,
    ) -> Result<(), Refusal> {
        let _ = (tenant, id, state, reason, claims, now);
        not_yet()
    }

    /// Up to `limit` logins that were not checked within the time of the terms and whose grants were used since; they count as
    /// checked from now on, so that of several processes one asks.
    pub async fn logins_due(&self, limit: u16, now: OffsetDateTime) -> Result<Vec<Login>, Refusal> {
        let _ = (limit, now);
        not_yet()
    }
}
