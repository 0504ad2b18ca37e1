//! The provider's description of itself (OpenID Connect Discovery 1.0 section 4), as far as it is used. It is read at most once
//! an hour; the last good one serves while the provider is ill.

use std::sync::Arc;
use std::time::{Duration, Instant};

use serde::Deserialize;
use url::Url;

use super::endpoint::Place;
use super::error::IdpError;
use super::http::Http;
use super::kept::{Aged, Kept};
use crate::config::is_guarded;

/// Largest document, bytes.
const MOST: usize = 64 << 10;
/// Age at which it is asked for again.
const FRESH: Duration = Duration::from_hours(1);

/// What is used of a discovery document.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct Discovery {
    pub(super) issuer: String,
    pub(super) authorization_endpoint: Url,
    pub(super) token_endpoint: Url,
    pub(super) jwks_uri: Url,
    #[serde(default)]
    pub(super) token_endpoint_auth_methods_supported: Vec<String>,
}

impl Discovery {
    fn parse(body: &[u8]) -> Result<Self, IdpError> {
        let found: Self = serde_json::from_slice(body).map_err(|error| {
            IdpError::temporary(format!("the discovery document of the identity provider cannot be read: {error}"))
        })?;
        for url in [&found.authorization_endpoint, &found.token_endpoint, &found.jwks_uri] {
            if !is_guarded(url) {
                let text =
                    format!("the identity provider names `{url}` in its discovery document, which is no https URL");
                return Err(IdpError::configuration(text));
            }
        }
        Ok(found)
    }

    /// Where tokens are.
    pub(super) fn tokens(&self) -> Place<'_> {
        let secret_in_body = takes_secret_in_body(&self.token_endpoint_auth_methods_supported);
        Place { url: &self.token_endpoint, secret_in_body, audience: self.token_endpoint.as_str() }
    }
}

/// Whether a token endpoint takes the client's secret in the body, by the methods that it names; if it says nothing, in a header
/// (OpenID Connect Discovery 1.0 section 3, RFC 8414 section 2).
pub(super) fn takes_secret_in_body(methods: &[String]) -> bool {
    methods.iter().any(|method| method == "client_secret_post")
}

/// The document of one provider.
#[derive(Debug)]
pub(super) struct Described {
    /// Where it is.
    url: Url,
    kept: Kept<Discovery>,
}

impl Described {
    /// The document of the issuer at `base`.
    pub(super) fn at(base: &str) -> Result<Self, IdpError> {
        let url = format!("{}/.well-known/openid-configuration", base.trim_end_matches('/'));
        let url = Url::parse(&url).map_err(|error| IdpError::configuration(format!("`{url}` is no URL: {error}")))?;
        Ok(Self { url, kept: Kept::default() })
    }

    /// The document, at most an hour old unless the provider is ill. `right` refuses one of another issuer.
    pub(super) async fn get(
        &self,
        http: &Http,
        now: Instant,
        right: impl Fn(&str) -> Result<(), IdpError>,
    ) -> Result<Arc<Aged<Discovery>>, IdpError> {
        let seen = self.kept.newest();
        if let Some(seen) = &seen
            && !seen.is_older(FRESH, now)
        {
            return Ok(Arc::clone(seen));
        }
        match (self.kept.newer(seen.as_ref(), now, self.fetch(http, right)).await, seen) {
            (Err(error), Some(seen)) => {
                tracing::warn!(error = error.detail, "the identity provider's last discovery document is used on");
                Ok(seen)
            }
            (outcome, _) => outcome,
        }
    }

    async fn fetch(&self, http: &Http, right: impl Fn(&str) -> Result<(), IdpError>) -> Result<Discovery, IdpError> {
        let found = Discovery::parse(&http.document(&self.url, MOST).await?)?;
        right(&found.issuer)?;
        Ok(found)
    }
}
