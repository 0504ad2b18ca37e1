//! Why something was not granted: a code of OAuth and one plain sentence for the client, a word for metrics, and what only our
//! own logs may say. None of them holds a token, a code or a cookie.

use std::time::Duration;

use super::{BadScope, Ended};
use crate::store::StoreError;

/// The word for a database that does not do as it is told now.
const DATABASE: &str = "database";
/// The parameter and the claim by which a request says more exactly what it is for (RFC 9396 section 2).
pub const DETAILS: &str = "authorization_details";

/// An error code as clients read it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum OauthCode {
    /// Something is missing, doubled or malformed (RFC 6749 section 5.2).
    InvalidRequest,
    /// The client is unknown or did not prove who it is (RFC 6749 section 5.2).
    InvalidClient,
    /// The code or token is not good, or not this client's (RFC 6749 section 5.2).
    InvalidGrant,
    /// This client may not do this (RFC 6749 section 5.2).
    UnauthorizedClient,
    /// Tokens are not given for that (RFC 6749 section 5.2).
    UnsupportedGrantType,
    /// The scope is unknown, or more than was granted (RFC 6749 section 5.2).
    InvalidScope,
    /// The resource is none of ours, or another than was granted (RFC 8707 section 2).
    InvalidTarget,
    /// Only `code` is given (RFC 6749 section 4.1.2.1).
    UnsupportedResponseType,
    /// Details of a type that there is not; here there is none (RFC 9396 section 5).
    InvalidAuthorizationDetails,
    /// The proof of a key is missing or not good (RFC 9449 section 5).
    InvalidDpopProof,
    /// The person or the gateway said no (RFC 6749 section 4.1.2.1).
    AccessDenied,
    /// The gateway is at fault (RFC 6749 section 4.1.2.1).
    ServerError,
    /// Another try in a moment may succeed (RFC 6749 section 4.1.2.1).
    TemporarilyUnavailable,
}

impl OauthCode {
    /// The code on the wire.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::InvalidRequest => "invalid_request",
            Self::InvalidClient => "invalid_client",
            Self::InvalidGrant => "invalid_grant",
            Self::UnauthorizedClient => "unauthorized_client",
            Self::UnsupportedGrantType => "unsupported_grant_type",
            Self::InvalidScope => "invalid_scope",
            Self::InvalidTarget => "invalid_target",
            Self::UnsupportedResponseType => "unsupported_response_type",
            Self::InvalidAuthorizationDetails => "invalid_authorization_details",
            Self::InvalidDpopProof => "invalid_dpop_proof",
            Self::AccessDenied => "access_denied",
            Self::ServerError => "server_error",
            Self::TemporarilyUnavailable => "temporarily_unavailable",
        }
    }
}

/// Why something was not granted.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{}: {text}", .code.as_str())]
pub struct Refusal {
    /// What the client's program reads.
    pub code: OauthCode,
    /// What its developer reads; says nothing secret.
    pub text: &'static str,
    /// The label in metrics and logs, one word: `expired`, `reuse`, `other_client` …
    pub reason: &'static str,
    /// For our logs: what was found, or the database's error. Never a token.
    pub detail: String,
    /// The grant that ended because of it, if one did.
    pub ended: Option<Box<Ended>>,
    /// When it is worth trying again, if waiting helps.
    pub retry_after: Option<Duration>,
}

impl Refusal {
    /// A refusal with no more to say than its text.
    pub fn new(code: OauthCode, reason: &'static str, text: &'static str) -> Self {
        Self { code, text, reason, detail: String::new(), ended: None, retry_after: None }
    }

    /// Of a request that says by `authorization_details` what it is for: who got a token that ignores them would hold more than
    /// was asked for.
    pub fn of_details() -> Self {
        let text =
            "authorization_details (RFC 9396) are not taken, of no type; say what is wanted by scope and resource";
        Self::new(OauthCode::InvalidAuthorizationDetails, DETAILS, text)
    }

    /// Whether only the database stood in the way, and another try may succeed.
    pub fn is_of_database(&self) -> bool {
        self.reason == DATABASE
    }

    /// The same, with what our logs may know.
    #[must_use]
    pub fn because(self, detail: impl Into<String>) -> Self {
        Self { detail: detail.into(), ..self }
    }
}

impl From<BadScope> for Refusal {
    fn from(error: BadScope) -> Self {
        let text = match error {
            BadScope::Syntax => "the list of scopes cannot be read: words separated by single spaces",
            BadScope::Unknown(_) | BadScope::None => "an unknown scope; there are mcp, admin, offline_access",
        };
        Self::new(OauthCode::InvalidScope, "scope", text)
    }
}

impl From<StoreError> for Refusal {
    /// Never `invalid_grant`: a client that reads that throws its tokens away.
    fn from(error: StoreError) -> Self {
        let refusal = match error {
            StoreError::Database(_) | StoreError::Unreachable { .. } => Self {
                retry_after: Some(Duration::from_secs(1)),
                ..Self::new(
                    OauthCode::TemporarilyUnavailable,
                    DATABASE,
                    "the gateway cannot read its database now; try again in a moment",
                )
            },
            _ => Self::new(OauthCode::ServerError, "internal", "the gateway failed; its log says why"),
        };
        refusal.because(error.to_string())
    }
}
