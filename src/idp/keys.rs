//! The keys that a provider signs with (RFC 7517). A key is looked up by its id; one that is not known makes us look again, at
//! most once in five minutes however many tokens name it; while the provider is ill the last good keys serve.

use std::sync::Arc;
use std::time::Instant;

use jsonwebtoken::Algorithm;
use serde::Deserialize;
use url::Url;

use super::error::IdpError;
use super::http::Http;
use super::kept::Kept;
use crate::crypto::jwk::{KeySet, PublicKey};

/// Largest key set, bytes.
const MOST: usize = 512 << 10;
/// Most keys of one that are looked at.
const MAX_KEYS: usize = 200;

#[derive(Deserialize)]
struct Keys {
    keys: Vec<serde_json::Value>,
}

/// Reads a set. A key that cannot be used, or is for something else, is left out; a set without any is an error.
fn parse(body: &[u8]) -> Result<KeySet, IdpError> {
    let mut set: Keys = serde_json::from_slice(body)
        .map_err(|error| IdpError::temporary(format!("the keys of the identity provider cannot be read: {error}")))?;
    set.keys.truncate(MAX_KEYS);
    let keys = KeySet::read(&set.keys);
    if keys.is_empty() {
        return Err(IdpError::temporary("the identity provider publishes no key that can be used"));
    }
    Ok(keys)
}

/// The key of this id; without an id, the only key that the algorithm could be of.
fn find(set: &KeySet, id: Option<&str>, algorithm: Algorithm) -> Option<Arc<PublicKey>> {
    let mut fitting = set.of(id, algorithm).filter(|key| id.is_none() || key.id.as_deref() == id);
    let key = fitting.next()?;
    (id.is_some() || fitting.next().is_none()).then(|| Arc::clone(key))
}

/// The keys of one provider.
#[derive(Default)]
pub(super) struct KeyStore(Kept<KeySet>);

impl KeyStore {
    /// The key of this id, looked for at `url` if it is not known; none if none is called so, or was not a moment ago.
    pub(super) async fn find(
        &self,
        http: &Http,
        url: &Url,
        id: Option<&str>,
        algorithm: Algorithm,
        now: Instant,
    ) -> Result<Option<Arc<PublicKey>>, IdpError> {
        let seen = self.0.newest();
        if let Some(key) = seen.as_ref().and_then(|seen| find(&seen.value, id, algorithm)) {
            return Ok(Some(key));
        }
        let newer = self.0.newer(seen.as_ref(), now, fetch(http, url)).await?;
        let found = find(&newer.value, id, algorithm);
        if found.is_none() && id.is_none_or(|id| newer.value.has(id)) {
            return Err(IdpError::forged(
                "the token is not signed in the way of a key that the identity provider publishes",
            ));
        }
        Ok(found)
    }

    /// Looks at the keys again, so that those taken back go.
    pub(super) async fn refresh(&self, http: &Http, url: &Url, now: Instant) -> Result<(), IdpError> {
        self.0.renew(now, fetch(http, url)).await.map(|_| ())
    }
}

async fn fetch(http: &Http, url: &Url) -> Result<KeySet, IdpError> {
    parse(&http.document(url, MOST).await?)
}
