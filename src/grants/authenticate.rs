//! A client proving who it is at the token endpoint (RFC 6749 section 2.3), by exactly one method. A client that does not exist
//! and one that shows the wrong secret get the same answer.

use std::net::IpAddr;
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use percent_encoding::percent_decode_str;
use subtle::ConstantTimeEq;
use time::OffsetDateTime;

pub use super::assertion::ALGORITHMS as ASSERTION_ALGORITHMS;
use super::assertion::{Kind, Rules, Unproved};
use super::client::{Client, ClientError, Clients, Proof, SecretHash};
use super::fetch::{Chosen, FetchError};
use crate::crypto::{TokenKind, hash_token};
use crate::protocol::oauth::CLIENT_ASSERTION;
use crate::secret::Secret;
use crate::store::StoreError;

/// Why an assertion is refused that says of itself that it proves no client.
pub const OTHER_TYPE: &str = "type";

/// What a request shows.
#[derive(Debug, Clone, Default)]
pub struct Shown<'a> {
    /// The `Authorization` header.
    pub authorization: Option<&'a str>,
    /// `client_id` of the form.
    pub client_id: Option<&'a str>,
    /// `client_secret` of the form.
    pub client_secret: Option<&'a str>,
    /// `client_assertion_type` of the form.
    pub assertion_type: Option<&'a str>,
    /// `client_assertion` of the form.
    pub assertion: Option<&'a str>,
    /// A code or token of ours that it shows besides.
    pub beside: Option<&'a str>,
}

impl Shown<'_> {
    /// The client that it calls itself, whatever proves that.
    pub fn claimed(&self) -> Option<String> {
        let named = self.client_id.filter(|id| !id.is_empty()).map(str::to_owned);
        method(self).ok().map(|method| method.id().to_owned()).or(named)
    }
}

/// Why a client was not let in.
#[derive(Debug, thiserror::Error)]
pub enum AuthenticateError {
    /// `invalid_request`: what it showed cannot be read, or is more than one proof.
    #[error("{0}")]
    Request(&'static str),
    /// `invalid_client`: it does not exist or did not prove who it is.
    #[error("the client is unknown, or did not prove who it is")]
    Refused {
        /// Why, in a word for the log.
        why: &'static str,
        /// Whether it used the `Authorization` header, and is answered with a challenge there.
        basic: bool,
    },
    /// `invalid_grant`: nothing is known of a client of that id, and what it shows besides was not given to it. What it says of
    /// itself is not even asked for: anybody could make us ask anywhere.
    #[error("what is shown was not given to this client")]
    Stranger,
    /// It cannot be told now.
    #[error(transparent)]
    Unavailable(ClientError),
}

impl From<StoreError> for AuthenticateError {
    fn from(error: StoreError) -> Self {
        Self::Unavailable(error.into())
    }
}

/// What a request showed, as one method.
enum Method<'a> {
    Nothing { id: &'a str },
    Secret { id: String, secret: Secret, basic: bool },
    Assertion(Unproved<'a>),
}

impl Clients {
    /// The client that sent a request, proved. `audiences` are the names that an assertion may call us by: the issuer and
    /// the token endpoint; the request came `from` there. `spend` remembers the hash of an assertion until a time, and says whether it was new.
    pub async fn authenticate<F>(
        &self,
        shown: &Shown<'_>,
        audiences: &[&str],
        from: IpAddr,
        now: OffsetDateTime,
        spend: impl FnOnce([u8; 32], OffsetDateTime) -> F,
    ) -> Result<Arc<Client>, AuthenticateError>
    where
        F: Future<Output = Result<bool, StoreError>>,
    {
        let method = method(shown)?;
        if self.is_news(method.id()) && !self.gave(shown.beside, method.id()).await? {
            return Err(AuthenticateError::Stranger);
        }
        match method {
            Method::Nothing { id } => {
                let client = self.known(id, false, from, now).await?;
                match client.proof {
                    // What stands in place of a proof of its own is shown as the grant.
                    Proof::None | Proof::Workload(_) => Ok(client),
                    _ => refused("no proof", false),
                }
            }
            Method::Secret { id, secret, basic } => {
                let found = self.known(&id, basic, from, now).await;
                let hash = hash_token(secret.expose());
                // Who is not there is compared with all the same.
                let nobody = [SecretHash { hash: [0; 32], expires_at: None }];
                let (secrets, known) = match found.as_deref().map(|client| &client.proof) {
                    Ok(Proof::Secret(secrets)) => (secrets.as_slice(), true),
                    _ => (&nobody[..], false),
                };
                let fits = secrets.iter().fold(false, |fits, secret| {
                    fits | (bool::from(secret.hash.ct_eq(&hash)) & secret.expires_at.is_none_or(|end| end > now))
                });
                let client = found?;
                if known && fits { Ok(client) } else { refused("wrong secret", basic) }
            }
            Method::Assertion(assertion) => {
                let client = self.known(&assertion.subject, false, from, now).await?;
                let Proof::Keys(source) = &client.proof else { return refused("no keys", false) };
                let keys = self.0.keys.of(source, assertion.kid.as_deref(), Chosen::ByStranger(from), now).await;
                let keys = keys.map_err(|error| match error {
                    FetchError::Wrong(_) => AuthenticateError::Refused { why: "keys", basic: false },
                    error => AuthenticateError::Unavailable(error.into()),
                })?;
                let rules = Rules {
                    kind: Kind::ClientProof,
                    issuer: &assertion.subject,
                    audiences,
                    algorithms: &ASSERTION_ALGORITHMS,
                };
                match assertion.prove(&keys, &rules, now) {
                    Ok(proved) if spend(proved.hash(), proved.until).await? => Ok(client),
                    Ok(_) => refused("shown before", false),
                    Err(why) => refused(why, false),
                }
            }
        }
    }

    /// The client of that id; one that is not there is refused like one that proves nothing.
    async fn known(
        &self,
        id: &str,
        basic: bool,
        from: IpAddr,
        now: OffsetDateTime,
    ) -> Result<Arc<Client>, AuthenticateError> {
        self.recall(id, from, now).await.map_err(|error| match error {
            ClientError::Unknown | ClientError::Invalid(_) | ClientError::Unreachable { temporary: false, .. } => {
                AuthenticateError::Refused { why: error.reason(), basic }
            }
            error => AuthenticateError::Unavailable(error),
        })
    }

    /// Whether a code or token was given to the client of that id, by whichever gateway on the database.
    async fn gave(&self, text: Option<&str>, id: &str) -> Result<bool, StoreError> {
        let (Some(text), store) = (text, &self.0.store) else { return Ok(false) };
        let hash = hash_token(text);
        let grant = match TokenKind::of(text) {
            Some(TokenKind::Code) => store.grant_of_code(&hash).await?,
            Some(TokenKind::Refresh) => store.grant_of_token(&hash, true).await?,
            Some(TokenKind::Access) => store.grant_of_token(&hash, false).await?,
            Some(TokenKind::ApiKey) | None => None,
        };
        Ok(grant.is_some_and(|grant| grant.client_id.as_deref() == Some(id)))
    }
}

impl Method<'_> {
    fn id(&self) -> &str {
        match self {
            Self::Nothing { id } => id,
            Self::Secret { id, .. } => id,
            Self::Assertion(assertion) => &assertion.subject,
        }
    }
}

fn refused<T>(why: &'static str, basic: bool) -> Result<T, AuthenticateError> {
    Err(AuthenticateError::Refused { why, basic })
}

/// Reads which method a request uses. An empty secret is none: some public clients send one.
fn method<'a>(shown: &Shown<'a>) -> Result<Method<'a>, AuthenticateError> {
    let request = |text| Err(AuthenticateError::Request(text));
    let basic = shown.authorization.map(basic).transpose()?;
    let secret = shown.client_secret.filter(|secret| !secret.is_empty());
    if usize::from(basic.is_some()) + usize::from(secret.is_some()) + usize::from(shown.assertion.is_some()) > 1 {
        return request("show one proof of the client: the Authorization header, client_secret or client_assertion");
    }
    let named = shown.client_id.filter(|id| !id.is_empty());
    let method = if let Some((id, secret)) = basic {
        Method::Secret { id, secret, basic: true }
    } else if let Some(text) = shown.assertion {
        if shown.assertion_type != Some(CLIENT_ASSERTION) {
            return request("client_assertion_type must be urn:ietf:params:oauth:client-assertion-type:jwt-bearer");
        }
        match Unproved::read(text) {
            Ok(assertion) if assertion.is_of(Kind::ClientProof) => Method::Assertion(assertion),
            // Before anybody is looked for: it may be told.
            Ok(_) => return refused(OTHER_TYPE, false),
            Err(why) => return refused(why, false),
        }
    } else {
        let Some(id) = named else { return request("name the client: client_id") };
        match secret {
            Some(secret) => Method::Secret { id: id.to_owned(), secret: Secret::new(secret), basic: false },
            None => Method::Nothing { id },
        }
    };
    if named.is_some_and(|named| named != method.id()) {
        return request("client_id names another client than the proof");
    }
    Ok(method)
}

/// Id and secret of a `Basic` credential, each form-encoded (RFC 6749 section 2.3.1).
fn basic(header: &str) -> Result<(String, Secret), AuthenticateError> {
    const FORM: AuthenticateError = AuthenticateError::Request("the Authorization header is no Basic credential");
    let (scheme, credential) = header.split_once(' ').ok_or(FORM)?;
    if !scheme.eq_ignore_ascii_case("basic") {
        return Err(FORM);
    }
    let bytes = zeroize::Zeroizing::new(STANDARD.decode(credential.trim()).map_err(|_| FORM)?);
    let text = std::str::from_utf8(&bytes).map_err(|_| FORM)?;
    let (id, secret) = text.split_once(':').ok_or(FORM)?;
    let decoded = |text: &str| -> Result<String, AuthenticateError> {
        Ok(percent_decode_str(&text.replace('+', " ")).decode_utf8().map_err(|_| FORM)?.into_owned())
    };
    Ok((decoded(id)?, Secret::new(decoded(secret)?)))
}

#[cfg(test)]
mod tests;
