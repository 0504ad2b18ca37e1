//! Authorizations under way: from the client's redirect to the code. Each is bound to the browser that began it by a cookie, is
//! sealed in the database, goes on only after the person agreed, and is taken out once.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use uuid::Uuid;

use super::{Grants, Refusal, ScopeSet, not_yet};
use crate::secret::Secret;

/// How long a person has from the client's redirect to the provider's answer.
pub const AUTHORIZATION_LASTS: Duration = Duration::from_mins(10);
/// Most authorizations under way at once; further ones are told to come back.
pub const MOST_AUTHORIZATIONS: i64 = 50_000;

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
}

/// An authorization that was begun.
#[derive(Debug)]
pub struct Begun {
    /// Its id.
    pub id: Uuid,
    /// For a cookie of the browser, named after the id.
    pub cookie: Secret,
    /// For the form by which the person agrees.
    pub csrf: Secret,
}

/// An authorization as it stands.
#[derive(Debug)]
pub struct UnderWay {
    /// Its id.
    pub id: Uuid,
    /// What was asked for.
    pub request: Request,
    /// For the form by which the person agrees.
    pub csrf: Secret,
    /// Whether the person agreed.
    pub consented: bool,
    /// The way to the provider, once the browser was sent there.
    pub leg: Option<Leg>,
}

impl Grants {
    /// Keeps what a client asked for. Refused with `temporarily_unavailable` when [`MOST_AUTHORIZATIONS`] are under way.
    pub async fn begin(&self, request: Request, now: OffsetDateTime) -> Result<Begun, Refusal> {
        let _ = (request, now);
        not_yet()
    }

    /// The authorization of that id, for the browser that shows its cookie.
    pub async fn under_way(&self, id: Uuid, cookie: &str, now: OffsetDateTime) -> Result<UnderWay, Refusal> {
        let _ = (id, cookie, now);
        not_yet()
    }

    /// The person agreed: cookie and form must both be those of the authorization.
    pub async fn consent(&self, id: Uuid, cookie: &str, csrf: &str, now: OffsetDateTime) -> Result<UnderWay, Refusal> {
        let _ = (id, cookie, csrf, now);
        not_yet()
    }

    /// The browser is sent to a provider with `state`. Sending it again replaces the way that it was sent before.
    pub async fn send(
        &self,
        id: Uuid,
        cookie: &str,
        state: &Secret,
        leg: Leg,
        now: OffsetDateTime,
    ) -> Result<(), Refusal> {
        let _ = (id, cookie, state, leg, now);
        not_yet()
    }

    /// The provider sent a browser back with `state`: takes the authorization out, once, if `cookie_of` finds the cookie of its
    /// id in that browser.
    pub async fn at_callback(
        &self,
        state: &str,
        cookie_of: impl FnOnce(Uuid) -> Option<String> + Send,
        now: OffsetDateTime,
    ) -> Result<UnderWay, Refusal> {
        let _ = (state, cookie_of(Uuid::nil()), now);
        not_yet()
    }

    /// Takes an authorization out, once: the person signed in here, or said no.
    pub async fn take(&self, id: Uuid, cookie: &str, now: OffsetDateTime) -> Result<UnderWay, Refusal> {
        let _ = (id, cookie, now);
        not_yet()
    }
}
