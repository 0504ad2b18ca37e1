//! The gateway as a client of an authorization server that somebody named for a server: where its token endpoint is (RFC 8414,
//! OpenID Connect Discovery 1.0), and tokens for whatever grant is shown there.

use std::sync::Arc;
use std::time::{Duration, Instant};

use serde::Deserialize;
use time::OffsetDateTime;
use url::Url;

use super::AccessToken;
use super::authority::{metadata, must_be_of};
use super::credential::{Credential, Sign};
use super::discovery::takes_secret_in_body;
use super::endpoint::{Place as At, TokenEndpoint};
use super::error::IdpError;
use super::http::Http;
use super::kept::{Aged, Kept};
use crate::config::is_guarded;
use crate::net::Outbound;
use crate::secret::Secret;

/// Age at which they are asked for again.
const FRESH: Duration = Duration::from_hours(1);

/// Where the token endpoint is.
#[derive(Debug, Clone)]
pub enum Place {
    /// There.
    Endpoint(Url),
    /// Where the metadata of this issuer say.
    Issuer(Url),
}

/// A token endpoint as it was found: what is made for it goes nowhere else.
#[derive(Debug)]
pub struct Endpoint {
    /// Where it is.
    pub url: Url,
    /// By what name the authorization server knows what is for it alone: its issuer, or the endpoint where only that is known
    /// (draft-ietf-oauth-rfc7523bis: an assertion for an endpoint could be passed on by whoever names another's as its own).
    pub audience: String,
    secret_in_body: bool,
}

/// See the module.
pub struct Client {
    http: Http,
    place: Place,
    metadata: Kept<Metadata>,
    tokens: TokenEndpoint,
    /// Whether the secret goes into the body; as the metadata say where nothing else was said.
    in_body: Option<bool>,
}

/// What is used of metadata.
#[derive(Debug, Deserialize)]
struct Metadata {
    issuer: String,
    token_endpoint: Url,
    #[serde(default)]
    token_endpoint_auth_methods_supported: Vec<String>,
}

impl Client {
    /// One of this id; nothing is asked yet.
    pub fn new(outbound: &Outbound, place: Place, id: String, secret: Option<Secret>, in_body: Option<bool>) -> Self {
        let credential = secret.map_or(Credential::Nothing, |secret| Credential::secrets([secret]));
        let tokens = TokenEndpoint::new(id, credential, "no call reaches the servers that want its tokens");
        Self { http: Http::new(outbound), place, metadata: Kept::default(), tokens, in_body }
    }

    /// It proves who it is by what this signs.
    #[must_use]
    pub fn signing(mut self, sign: Sign) -> Self {
        self.tokens.credential = Credential::Key(sign).into();
        self
    }

    /// Where tokens are now.
    pub async fn endpoint(&self) -> Result<Endpoint, IdpError> {
        let (url, audience, said) = match &self.place {
            Place::Endpoint(url) => (url.clone(), url.to_string(), false),
            Place::Issuer(issuer) => {
                let about = &self.metadata(issuer).await?.value;
                let said = takes_secret_in_body(&about.token_endpoint_auth_methods_supported);
                (about.token_endpoint.clone(), about.issuer.clone(), said)
            }
        };
        Ok(Endpoint { url, audience, secret_in_body: self.in_body.unwrap_or(said) })
    }

    /// A token for what is shown there: the fields of a grant.
    pub async fn token(
        &self,
        at: &Endpoint,
        grant: &[(&str, &str)],
        now: OffsetDateTime,
    ) -> Result<AccessToken, IdpError> {
        let at = At { url: &at.url, secret_in_body: at.secret_in_body, audience: &at.audience };
        self.tokens.ask(&self.http, at, grant, now).await?.access(now)
    }

    async fn metadata(&self, issuer: &Url) -> Result<Arc<Aged<Metadata>>, IdpError> {
        let (seen, now) = (self.metadata.newest(), Instant::now());
        if let Some(seen) = seen.as_ref().filter(|seen| !seen.is_older(FRESH, now)) {
            return Ok(Arc::clone(seen));
        }
        match (self.metadata.newer(seen.as_ref(), now, self.fetch(issuer)).await, seen) {
            (Err(error), Some(seen)) => {
                tracing::warn!(error = error.detail, "the last metadata of an authorization server are used on");
                Ok(seen)
            }
            (outcome, _) => outcome,
        }
    }

    async fn fetch(&self, issuer: &Url) -> Result<Metadata, IdpError> {
        let body = metadata(&self.http, issuer).await?;
        let found: Metadata = serde_json::from_slice(&body).map_err(|error| {
            IdpError::temporary(format!("the metadata of the authorization server {issuer} cannot be read: {error}"))
        })?;
        must_be_of(&found.issuer, issuer.as_str())?;
        if !is_guarded(&found.token_endpoint) {
            let text =
                format!("{issuer} names `{}` as its token endpoint, which is no https URL", found.token_endpoint);
            return Err(IdpError::configuration(text));
        }
        Ok(found)
    }
}
