//! The public keys of clients that sign (RFC 7517): given with the client, or at a URL of its own and kept for a while.

use std::sync::Arc;
use std::time::Duration;

use jsonwebtoken::DecodingKey;
use jsonwebtoken::jwk::{AlgorithmParameters, EllipticCurve, Jwk, JwkSet, PublicKeyUse};
use serde_json::Value;
use time::OffsetDateTime;
use url::Url;

use super::fetch::{Chosen, FetchError, Fetcher, fetchable};
use super::kept::{Kept, Terms};
use crate::json;

/// Most keys of one client.
const MOST: usize = 10;
/// Most sets that are kept.
const SETS: usize = 1_000;
/// Before that, a key that is not known is not looked for again.
const ASK_AGAIN: Duration = Duration::from_mins(1);

/// Where a client's keys are.
#[derive(Debug, Clone)]
pub enum KeySource {
    /// Here.
    Inline(Arc<JwkSet>),
    /// At a URL.
    At {
        /// Which.
        url: Url,
        /// Whether an administrator chose it; else a stranger did.
        by_admin: bool,
    },
}

impl KeySource {
    /// The keys or the URL that somebody gave, one of the two; a mistake names the member.
    pub(super) fn read(
        jwks: Option<&Value>,
        jwks_uri: Option<&str>,
        by_admin: bool,
    ) -> Result<Self, (&'static str, String)> {
        match (jwks, jwks_uri) {
            (Some(jwks), None) => {
                parse(jwks).map(|set| Self::Inline(Arc::new(set))).map_err(|error| ("jwks", error.to_owned()))
            }
            (None, Some(uri)) => match fetchable(uri) {
                Ok(url) => Ok(Self::At { url, by_admin }),
                Err(error) => Err(("jwks_uri", error.to_owned())),
            },
            _ => Err(("jwks", "give `jwks` or `jwks_uri`, one of the two".to_owned())),
        }
    }
}

/// Reads a set of public keys that can be verified with.
fn parse(value: &Value) -> Result<JwkSet, &'static str> {
    let keys = value["keys"].as_array().ok_or("must be an object with a list `keys`")?;
    if keys.is_empty() || keys.len() > MOST {
        return Err("holds 1 to 10 keys");
    }
    // Whoever publishes one has lost it; whoever sends one to us should not.
    if keys.iter().any(|key| ["d", "p", "q", "dp", "dq", "qi", "oth", "k"].iter().any(|part| key.get(part).is_some())) {
        return Err("holds a secret or private key; give public keys only, and make a new pair");
    }
    let usable: Vec<_> =
        keys.iter().filter_map(|key| serde_json::from_value::<Jwk>(key.clone()).ok()).filter(can_verify).collect();
    if usable.is_empty() {
        return Err("holds no key that can be verified with: RSA of 2048 bits or more, EC P-256 or P-384, Ed25519");
    }
    Ok(JwkSet { keys: usable })
}

fn can_verify(key: &Jwk) -> bool {
    let strong = match &key.algorithm {
        // In base64url, a sixth of a byte more.
        AlgorithmParameters::RSA(rsa) => rsa.n.trim_end_matches('=').len() >= 342,
        AlgorithmParameters::EllipticCurve(ec) => matches!(ec.curve, EllipticCurve::P256 | EllipticCurve::P384),
        AlgorithmParameters::OctetKeyPair(okp) => okp.curve == EllipticCurve::Ed25519,
        _ => false,
    };
    let signs = key.common.public_key_use.as_ref().is_none_or(|usage| *usage == PublicKeyUse::Signature);
    strong && signs && DecodingKey::from_jwk(key).is_ok()
}

/// Sets of keys that were fetched.
pub(super) struct Keys {
    kept: Kept<JwkSet, FetchError>,
    fetcher: Arc<Fetcher>,
}

impl Keys {
    pub(super) fn new(fetcher: Arc<Fetcher>) -> Self {
        Self { kept: Kept::new(SETS, |error| *error != FetchError::Busy), fetcher }
    }

    /// The keys of a client. When there is none of the id `kid`, and that was not asked a moment ago, they are fetched anew:
    /// the client may have changed them.
    pub(super) async fn of(
        &self,
        source: &KeySource,
        kid: Option<&str>,
        now: OffsetDateTime,
    ) -> Result<Arc<JwkSet>, FetchError> {
        let (url, by_admin) = match source {
            KeySource::Inline(set) => return Ok(Arc::clone(set)),
            KeySource::At { url, by_admin } => (url, *by_admin),
        };
        let set = self.fetched(url, by_admin, None, now).await?;
        if kid.is_none_or(|kid| set.find(kid).is_some()) {
            return Ok(set);
        }
        self.fetched(url, by_admin, Some(ASK_AGAIN), now).await
    }

    async fn fetched(
        &self,
        url: &Url,
        by_admin: bool,
        at_most: Option<Duration>,
        now: OffsetDateTime,
    ) -> Result<Arc<JwkSet>, FetchError> {
        let chosen = if by_admin { Chosen::ByAdmin } else { Chosen::ByStranger };
        let fetch = async {
            let (body, wish) = self.fetcher.get(url, chosen).await?;
            let wrong = |what: &str| FetchError::Wrong(format!("the keys at {url}: {what}"));
            json::check(&body).map_err(|_| wrong("no strict JSON"))?;
            let value: Value = serde_json::from_slice(&body).map_err(|_| wrong("no strict JSON"))?;
            Ok((parse(&value).map_err(wrong)?, wish))
        };
        // What an administrator's URL may reach, a stranger's may not: they are kept apart.
        let name = format!("{chosen:?} {url}");
        self.kept.get(&name, Terms { at_most, stale: false }, now, fetch).await.map_err(|_| FetchError::Busy)?
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn only_public_keys_that_can_be_verified_with_are_taken() {
        let ec = json!({"kty": "EC", "crv": "P-256", "kid": "a",
            "x": "f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU", "y": "x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0"});
        let with = |key: &Value, name: &str, value: Value| {
            let mut key = key.clone();
            key[name] = value;
            json!({ "keys": [key] })
        };
        assert_eq!(parse(&json!({ "keys": [ec] })).unwrap().keys.len(), 1);
        let among_others = json!({"keys": [{"kty": "future"}, ec, {"kty": "RSA", "n": "AQAB", "e": "AQAB"}]});
        assert_eq!(parse(&among_others).unwrap().keys.len(), 1);
        for (set, told) in [
            (with(&ec, "d", json!("x")), "private"),
            (json!({"keys": [{"kty": "oct", "k": "c2VjcmV0"}]}), "private"),
            (with(&ec, "use", json!("enc")), "no key"),
            (json!({"keys": [{"kty": "RSA", "n": "AQAB", "e": "AQAB"}]}), "no key"),
            (json!({"keys": []}), "1 to 10"),
            (json!({"keys": vec![ec.clone(); 11]}), "1 to 10"),
            (json!([]), "list `keys`"),
        ] {
            let refused = parse(&set).unwrap_err();
            assert!(refused.contains(told), "{refused}");
        }
        let both = KeySource::read(Some(&json!({"keys": [ec]})), Some("https://a.example/keys"), false);
        assert_eq!(both.unwrap_err().0, "jwks");
        assert_eq!(KeySource::read(None, Some("http://a.example/keys"), false).unwrap_err().0, "jwks_uri");
    }
}
