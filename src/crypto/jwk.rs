//! Public keys that others sign with (RFC 7517). Those are taken that one can verify with: RSA of 2048 bits or more, P-256, P-384
//! and Ed25519. A symmetric key in a public set is nobody's secret: it is never one of these.

use std::fmt;
use std::sync::Arc;

use jsonwebtoken::{Algorithm, DecodingKey};
use serde::Deserialize;
use serde_json::Value;
use sha2::{Digest, Sha256};

/// Shortest modulus of an RSA key, characters of base64url: 2048 bits.
const SHORTEST_RSA: usize = 342;

/// A public key.
#[derive(Debug)]
pub struct PublicKey {
    /// Its id in the set.
    pub id: Option<String>,
    /// To verify with.
    pub decoding: DecodingKey,
    /// For whom it signs, where the set says so, as Entra's do.
    pub issuer: Option<String>,
    algorithms: Vec<Algorithm>,
}

/// A set of them.
pub struct KeySet(Vec<Arc<PublicKey>>);

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

impl KeySet {
    /// Of these keys those that can be used; the others are left out, whatever is wrong with them.
    pub fn read(keys: &[Value]) -> Self {
        let jwks = keys.iter().filter_map(|key| Jwk::deserialize(key).ok());
        Self(jwks.filter_map(usable).map(Arc::new).collect())
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether there is one of this id.
    pub fn has(&self, id: &str) -> bool {
        self.0.iter().any(|key| key.id.as_deref() == Some(id))
    }

    /// Those by which a text may be signed that names this key and this algorithm; one that names no key may be signed by any.
    pub fn of<'a>(&'a self, id: Option<&'a str>, algorithm: Algorithm) -> impl Iterator<Item = &'a Arc<PublicKey>> {
        let named = move |key: &PublicKey| id.is_none() || key.id.is_none() || key.id.as_deref() == id;
        self.0.iter().filter(move |key| named(key) && key.algorithms.contains(&algorithm))
    }
}

impl fmt::Debug for KeySet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.0.iter().map(|key| key.id.as_deref().unwrap_or("-"))).finish()
    }
}

/// SHA-256 over what makes a key the key that it is (RFC 7638 section 3); `None` for one of a kind that is not known here.
pub fn thumbprint(key: &Value) -> Option<[u8; 32]> {
    // In the order of the alphabet, in which they are hashed.
    let names: &[&str] = match key.get("kty")?.as_str()? {
        "RSA" => &["e", "kty", "n"],
        "EC" => &["crv", "kty", "x", "y"],
        "OKP" => &["crv", "kty", "x"],
        _ => return None,
    };
    let mut hash = Sha256::new();
    for (at, name) in names.iter().enumerate() {
        let value = key.get(name)?.as_str()?;
        // Texts of keys are plain: nothing in them is written in two ways.
        if !value.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_')) {
            return None;
        }
        let between = if at == 0 { '{' } else { ',' };
        hash.update(format!("{between}\"{name}\":\"{value}\""));
    }
    hash.update("}");
    Some(hash.finalize().into())
}

fn usable(jwk: Jwk) -> Option<PublicKey> {
    let to_verify = jwk.key_ops.is_none_or(|operations| operations.iter().any(|operation| operation == "verify"));
    if jwk.purpose.is_some_and(|purpose| purpose != "sig") || !to_verify {
        return None;
    }
    let point = || DecodingKey::from_ec_components(jwk.x.as_deref()?, jwk.y.as_deref()?).ok();
    let (decoding, mut algorithms) = match (jwk.kty.as_str(), jwk.crv.as_deref()) {
        ("RSA", _) => {
            let (n, e) = (jwk.n.as_deref()?, jwk.e.as_deref()?);
            if n.trim_end_matches('=').len() < SHORTEST_RSA {
                return None;
            }
            let algorithms = vec![
                Algorithm::RS256,
                Algorithm::RS384,
                Algorithm::RS512,
                Algorithm::PS256,
                Algorithm::PS384,
                Algorithm::PS512,
            ];
            (DecodingKey::from_rsa_components(n, e).ok()?, algorithms)
        }
        ("EC", Some("P-256")) => (point()?, vec![Algorithm::ES256]),
        ("EC", Some("P-384")) => (point()?, vec![Algorithm::ES384]),
        ("OKP", Some("Ed25519")) => (DecodingKey::from_ed_components(jwk.x.as_deref()?).ok()?, vec![Algorithm::EdDSA]),
        _ => return None,
    };
    if let Some(only) = &jwk.alg {
        algorithms.retain(|algorithm| format!("{algorithm:?}") == *only);
    }
    (!algorithms.is_empty()).then_some(PublicKey { id: jwk.kid, decoding, issuer: jwk.issuer, algorithms })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn only_keys_that_can_be_verified_with_are_taken_each_for_its_algorithms() {
        let ec = |id: &str, more: Value| {
            let mut key = json!({"kty": "EC", "crv": "P-256", "kid": id,
                "x": "f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU", "y": "x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0"});
            key.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            key
        };
        let set = KeySet::read(&[
            ec("a", json!({})),
            ec("b", json!({"use": "enc"})),
            ec("c", json!({"key_ops": ["sign"]})),
            ec("d", json!({"alg": "RS256"})),
            ec("e", json!({"x": "?"})),
            json!({"kty": "oct", "kid": "f", "k": "c2VjcmV0"}),
            json!({"kty": "RSA", "kid": "g", "n": "AQAB", "e": "AQAB"}),
            json!({"kty": "future", "kid": "h"}),
            json!(7),
        ]);
        assert_eq!(format!("{set:?}"), r#"["a"]"#);
        assert!(set.has("a") && !set.has("b") && set.len() == 1 && KeySet::read(&[]).is_empty());
        assert_eq!(set.of(Some("a"), Algorithm::ES256).count(), 1);
        assert_eq!(set.of(None, Algorithm::ES256).count(), 1);
        assert_eq!(set.of(Some("b"), Algorithm::ES256).count(), 0);
        assert_eq!(set.of(Some("a"), Algorithm::RS256).count(), 0);
    }
}
