//! The keys that a provider signs with (RFC 7517). A key is looked up by its id; one that is not known makes us look again, at
//! most once in five minutes however many tokens name it; while the provider is ill the last good keys serve.

use std::sync::Arc;
use std::time::Instant;

use jsonwebtoken::{Algorithm, DecodingKey};
use serde::Deserialize;
use url::Url;

use super::error::IdpError;
use super::http::Http;
use super::kept::Kept;

/// Largest key set, bytes.
const MOST: usize = 512 << 10;
/// Most keys of one that are looked at.
const MAX_KEYS: usize = 200;

/// A public key.
pub(super) struct Key {
    pub(super) decoding: DecodingKey,
    algorithms: Vec<Algorithm>,
    /// For whom it signs, where the provider says so: Entra's template or one directory.
    pub(super) issuer: Option<String>,
}

/// A key set.
pub(super) struct KeySet(Vec<(Option<String>, Arc<Key>)>);

#[derive(Deserialize)]
struct Jwk {
    kty: String,
    kid: Option<String>,
    #[serde(rename = "use")]
    purpose: Option<String>,
    key_ops: Option<Vec<String>>,
    alg: Option<String>,
    crv: Option<String>,
    n: Option<String>,
    e: Option<String>,
    x: Option<String>,
    y: Option<String>,
    issuer: Option<String>,
}

#[derive(Deserialize)]
struct Keys {
    keys: Vec<serde_json::Value>,
}

impl KeySet {
    /// Reads a set. A key that cannot be used, or is for something else, is left out; a set without any is an error.
    pub(super) fn parse(body: &[u8]) -> Result<Self, IdpError> {
        let set: Keys = serde_json::from_slice(body).map_err(|error| {
            IdpError::temporary(format!("the keys of the identity provider cannot be read: {error}"))
        })?;
        let jwks = set.keys.into_iter().take(MAX_KEYS).filter_map(|key| serde_json::from_value::<Jwk>(key).ok());
        let keys: Vec<_> = jwks.filter_map(usable).collect();
        if keys.is_empty() {
            return Err(IdpError::temporary("the identity provider publishes no key that can be used"));
        }
        Ok(Self(keys))
    }

    /// The key of this id; without an id, the only key that the algorithm could be of.
    fn find(&self, id: Option<&str>, algorithm: Algorithm) -> Option<Arc<Key>> {
        let mut fitting = self
            .0
            .iter()
            .filter(|(own, key)| key.algorithms.contains(&algorithm) && id.is_none_or(|id| own.as_deref() == Some(id)));
        let (_, key) = fitting.next()?;
        (id.is_some() || fitting.next().is_none()).then(|| Arc::clone(key))
    }

    /// Whether a key is called so, whatever it is for.
    fn names(&self, id: &str) -> bool {
        self.0.iter().any(|(own, _)| own.as_deref() == Some(id))
    }
}

fn usable(jwk: Jwk) -> Option<(Option<String>, Arc<Key>)> {
    let to_verify = jwk.key_ops.is_none_or(|operations| operations.iter().any(|operation| operation == "verify"));
    if jwk.purpose.is_some_and(|purpose| purpose != "sig") || !to_verify {
        return None;
    }
    // A symmetric key (`oct`) in a public set is nobody's secret: it is never one of ours.
    let (decoding, mut algorithms) = match (jwk.kty.as_str(), jwk.crv.as_deref()) {
        ("RSA", _) => {
            let key = DecodingKey::from_rsa_components(jwk.n.as_deref()?, jwk.e.as_deref()?).ok()?;
            (key, vec![Algorithm::RS256, Algorithm::PS256])
        }
        ("EC", Some("P-256")) => {
            (DecodingKey::from_ec_components(jwk.x.as_deref()?, jwk.y.as_deref()?).ok()?, vec![Algorithm::ES256])
        }
        ("OKP", Some("Ed25519")) => (DecodingKey::from_ed_components(jwk.x.as_deref()?).ok()?, vec![Algorithm::EdDSA]),
        _ => return None,
    };
    if let Some(only) = &jwk.alg {
        algorithms.retain(|algorithm| format!("{algorithm:?}") == *only);
        if algorithms.is_empty() {
            return None;
        }
    }
    Some((jwk.kid, Arc::new(Key { decoding, algorithms, issuer: jwk.issuer })))
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
    ) -> Result<Option<Arc<Key>>, IdpError> {
        let seen = self.0.newest();
        if let Some(key) = seen.as_ref().and_then(|seen| seen.value.find(id, algorithm)) {
            return Ok(Some(key));
        }
        let newer = self.0.newer(seen.as_ref(), now, fetch(http, url)).await?;
        let found = newer.value.find(id, algorithm);
        if found.is_none() && id.is_none_or(|id| newer.value.names(id)) {
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
    KeySet::parse(&http.document(url, MOST).await?)
}
