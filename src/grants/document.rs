//! Clients that are known by a document at their id, an https URL (draft-ietf-oauth-client-id-metadata-document). The URL is a
//! stranger's, and so is what it gives: fetched within narrow bounds, checked whole, kept for a while.
//!
//! A new authorization goes by what the document says now or by nothing: an old copy would let in who was taken off it.

use std::net::IpAddr;
use std::sync::Arc;

use time::OffsetDateTime;

use super::client::{AuthMethod, Client, ClientError, Known, Proof};
use super::fetch::{Chosen, FetchError, Fetcher, fetchable};
use super::kept::{Kept, Terms};
use super::keys::KeySource;
use super::metadata::{BadMetadata, Metadata, bad};
use super::redirect::Schemes;
use super::resource::shown_host;
use super::scope::ScopeSet;

/// Most documents that are kept, those that failed included.
const MOST: usize = 1_000;

#[derive(Debug, Clone)]
enum Failed {
    Fetch(FetchError),
    Invalid(String),
}

impl From<Failed> for ClientError {
    fn from(failed: Failed) -> Self {
        match failed {
            Failed::Fetch(error) => error.into(),
            Failed::Invalid(text) => Self::Invalid(text),
        }
    }
}

/// The documents.
pub struct Documents {
    kept: Kept<Client, Failed>,
    fetcher: Arc<Fetcher>,
    schemes: Schemes,
}

impl Documents {
    pub(super) fn new(fetcher: Arc<Fetcher>, schemes: Schemes) -> Self {
        Self {
            kept: Kept::new(MOST, |failed| !matches!(failed, Failed::Fetch(error) if error.is_ours())),
            fetcher,
            schemes,
        }
    }

    /// Whether the document of `id` was read before.
    pub(super) fn remember(&self, id: &str) -> bool {
        self.kept.holds(id)
    }

    /// The client whose document is at `id`, for who asks `from` there.
    pub(super) async fn get(
        &self,
        id: &str,
        from: IpAddr,
        stale: bool,
        now: OffsetDateTime,
    ) -> Result<Arc<Client>, ClientError> {
        let url = fetchable(id).map_err(|what| ClientError::Invalid(format!("the client id {what}")))?;
        if url.path() == "/" {
            return Err(ClientError::Invalid("the client id is a URL without a path".to_owned()));
        }
        let fetch = async {
            let (body, wish) = self.fetcher.get(&url, Chosen::ByStranger(from), now).await.map_err(Failed::Fetch)?;
            let client = read(id, shown_host(&url), &body, &self.schemes);
            Ok((client.map_err(|error| Failed::Invalid(error.to_string()))?, wish))
        };
        let terms = Terms { stale, at_most: None };
        Ok(self.kept.get(id, terms, now, fetch).await.map_err(|_| ClientError::Busy)??)
    }
}

/// Reads the document of `id`.
fn read(id: &str, host: &str, text: &[u8], schemes: &Schemes) -> Result<Client, BadMetadata> {
    let metadata = Metadata::read(text)?;
    if metadata.client_id.as_deref() != Some(id) {
        return bad("its client_id is not exactly the URL at which it is");
    }
    if metadata.client_secret.is_some() {
        return bad("it holds a client_secret, which everybody can read");
    }
    let method = metadata.auth_method()?;
    let proof = match method {
        AuthMethod::None => Proof::None,
        AuthMethod::PrivateKeyJwt => {
            let keys = KeySource::read(metadata.jwks.as_ref(), metadata.jwks_uri.as_deref(), false);
            Proof::Keys(keys.or_else(|(field, error)| bad(format!("{field}: {error}")))?)
        }
        _ => return bad("token_endpoint_auth_method must be none or private_key_jwt"),
    };
    Ok(Client {
        id: id.into(),
        name: metadata.name(host)?.into(),
        known: Known::Document,
        proof,
        redirects: metadata.redirects(schemes)?,
        grants: metadata.grants()?,
        scopes: ScopeSet::ALL,
        bound: metadata.bound(),
    })
}

#[cfg(test)]
mod tests;
