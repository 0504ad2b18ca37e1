//! The tokens of a grant are one family: each refresh token is good once and gives the next. An answer that was lost is given
//! again, and a token that comes back after its successors were used ends the family, because two hold it.

use std::time::Duration;

use time::OffsetDateTime;
use uuid::Uuid;

use super::{Grants, Order, Refusal, ScopeSet, not_yet};
use crate::secret::Secret;

/// How long the answer to a refresh is given again to whoever repeats it.
pub const REFRESH_GRACE: Duration = Duration::from_secs(60);

/// What a client gets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tokens {
    /// Of which grant.
    pub grant: Uuid,
    /// The access token.
    pub access: Secret,
    /// The refresh token, with the scope `offline_access` only.
    pub refresh: Option<Secret>,
    /// What the access token may be used for.
    pub scopes: ScopeSet,
    /// When the access token ends.
    pub expires_at: OffsetDateTime,
}

/// A refresh token as a client shows it.
#[derive(Debug)]
pub struct Refresh {
    /// The token.
    pub token: Secret,
    /// The client, as far as it proved who it is.
    pub client_id: String,
    /// Fewer scopes for the access token; the grant keeps its own (RFC 6749 section 6).
    pub scopes: Option<ScopeSet>,
    /// Must be the grant's, if it is given.
    pub resource: Option<String>,
}

impl Grants {
    /// Gives an access token at once, without a code and without a refresh token: a client on its own, or by an assertion.
    pub async fn issue(&self, order: &Order, now: OffsetDateTime) -> Result<Tokens, Refusal> {
        let _ = (order, now);
        not_yet()
    }

    /// Gives the next tokens for a refresh token.
    pub async fn refresh(&self, shown: &Refresh, now: OffsetDateTime) -> Result<Tokens, Refusal> {
        let _ = (shown, now);
        not_yet()
    }
}
