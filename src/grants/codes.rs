//! Codes: made when a person was let in, shown once by the client that proves to be the one that asked (RFC 7636, S256 only).
//! Whatever is wrong burns the code, and a second showing ends what the first one got.

use std::time::Duration;

use time::OffsetDateTime;

use super::{Granted, Grants, Order, Refusal, Tokens, not_yet};
use crate::secret::Secret;

/// How long a code is good.
pub const CODE_LASTS: Duration = Duration::from_secs(60);

/// What a code is bound to besides its grant.
#[derive(Debug, Clone)]
pub struct CodeTerms {
    /// Where it is sent.
    pub redirect_uri: String,
    /// S256 of the client's verifier.
    pub code_challenge: String,
}

/// A code as a client shows it.
#[derive(Debug)]
pub struct Redemption {
    /// The code.
    pub code: Secret,
    /// The client, as far as it proved who it is.
    pub client_id: String,
    /// Must be the one that it was sent to, if it is given (OAuth 2.1 does not ask for it).
    pub redirect_uri: Option<String>,
    /// 43 to 128 characters.
    pub verifier: Secret,
    /// Must be the grant's, if it is given.
    pub resource: Option<String>,
}

/// S256 of a verifier (RFC 7636 section 4.2).
pub fn challenge_of(verifier: &str) -> String {
    let _ = verifier;
    String::new()
}

impl Grants {
    /// Makes a grant with its code.
    pub async fn grant(&self, order: &Order, code: &CodeTerms, now: OffsetDateTime) -> Result<Granted, Refusal> {
        let _ = (order, code, now);
        not_yet()
    }

    /// Gives the first tokens for a code.
    pub async fn redeem(&self, shown: &Redemption, now: OffsetDateTime) -> Result<Tokens, Refusal> {
        let _ = (shown, now);
        not_yet()
    }
}
