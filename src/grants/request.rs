//! What is kept of an authorization under way: what the client asked for, the way to the provider, and who came back from it.

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::ScopeSet;
use crate::crypto::dpop::Thumbprint;
use crate::secret::Secret;

/// What a client asked for; checked before.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Request {
    /// The client.
    pub client_id: String,
    /// What the client calls itself; text only.
    pub client_name: Option<String>,
    /// Where the answer goes, exactly as it was asked for.
    pub redirect_uri: String,
    /// The client's own, only given back.
    pub state: Option<String>,
    /// S256 of the client's verifier (RFC 7636).
    pub code_challenge: String,
    /// The resource (RFC 8707), canonical.
    pub resource: String,
    /// The scopes.
    pub scopes: ScopeSet,
    /// Whom the client expects to sign in.
    pub login_hint: Option<String>,
    /// How the person is to be asked.
    #[serde(default)]
    pub prompt: Prompt,
    /// Whether the person signs in first and is asked then, if at all. Nothing is given before.
    #[serde(default)]
    pub ask_later: bool,
    /// The key that the code is bound to (RFC 9449 section 10).
    #[serde(default)]
    pub key: Option<Thumbprint>,
    /// The trace of this attempt to sign in.
    pub trace: Option<Uuid>,
}

/// What is kept of the way to the identity provider.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Leg {
    /// The provider's name.
    pub provider: String,
    /// What the provider repeats in its token.
    pub nonce: Secret,
    /// Ours, of RFC 7636.
    pub verifier: Secret,
    /// What the provider wanted to see (a claims challenge) and was sent along: it is sent along once.
    #[serde(default)]
    pub claims: Option<String>,
}

/// How the person is to be asked, as the client wants it (OpenID Connect Core 1.0 section 3.1.2.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Prompt {
    /// To sign in anew, whoever is signed in already; also by `max_age`.
    pub login: bool,
    /// Which account it is to be.
    pub select_account: bool,
    /// Whether it is allowed, though it was before.
    pub consent: bool,
}

/// Who has signed in, while the person is asked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Arrived {
    /// The account.
    pub user: Uuid,
    /// Its tenant.
    pub tenant: String,
    /// `local`, or the identity provider's name.
    pub method: String,
    /// What the provider gave us for the person, if it is kept.
    pub login: Option<Uuid>,
}
