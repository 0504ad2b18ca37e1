//! A key that the gateway signs with: P-256, ES256 (RFC 7518 section 3.4), which every library verifies.

use std::fmt;

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde::Serialize;
use serde_json::{Value, json};
use zeroize::Zeroizing;

use super::CryptoError;
use super::jwk::thumbprint;
use crate::secret::Secret;

/// See the module.
pub struct SigningKey {
    id: String,
    key: EncodingKey,
    public: Value,
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SigningKey({})", self.id)
    }
}

impl SigningKey {
    /// A new one, to be sealed (PKCS #8).
    pub fn generate() -> Result<Zeroizing<Vec<u8>>, CryptoError> {
        let made = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &SystemRandom::new());
        made.map(|key| Zeroizing::new(key.as_ref().to_vec())).map_err(|_| CryptoError::Damaged)
    }

    /// Of what was made by [`Self::generate`].
    pub fn read(pkcs8: &[u8]) -> Result<Self, CryptoError> {
        let pair =
            EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, pkcs8).map_err(|_| CryptoError::Damaged)?;
        // An uncompressed point: a mark, and both coordinates.
        let point = pair.public_key().as_ref();
        let (Some(x), Some(y)) = (point.get(1..33), point.get(33..65)) else { return Err(CryptoError::Damaged) };
        let [x, y] = [x, y].map(|part| URL_SAFE_NO_PAD.encode(part));
        let mut public = json!({ "kty": "EC", "crv": "P-256", "x": x, "y": y });
        let id = URL_SAFE_NO_PAD.encode(thumbprint(&public).ok_or(CryptoError::Damaged)?);
        for (name, value) in [("use", "sig"), ("alg", "ES256"), ("kid", &id)] {
            public[name] = value.into();
        }
        Ok(Self { id, key: EncodingKey::from_ec_der(pkcs8), public })
    }

    /// For who verifies what it signed (RFC 7517 section 4).
    pub fn public(&self) -> &Value {
        &self.public
    }

    /// A signed text with these claims (RFC 7519).
    pub fn sign(&self, claims: &impl Serialize) -> Result<Secret, CryptoError> {
        let header = Header { kid: Some(self.id.clone()), ..Header::new(Algorithm::ES256) };
        jsonwebtoken::encode(&header, claims, &self.key).map(Secret::new).map_err(|_| CryptoError::Damaged)
    }
}

#[cfg(test)]
mod tests {
    use jsonwebtoken::Validation;

    use super::*;
    use crate::crypto::jwk::KeySet;

    #[test]
    fn what_it_signs_is_verified_with_what_it_publishes() {
        let key = SigningKey::read(&SigningKey::generate().unwrap()).unwrap();
        let other = SigningKey::read(&SigningKey::generate().unwrap()).unwrap();
        let signed = key.sign(&json!({ "sub": "ann", "aud": "x", "exp": u32::MAX })).unwrap();
        let set = KeySet::read(&[key.public().clone()]);
        let kid = jsonwebtoken::decode_header(signed.expose()).unwrap().kid;
        let public = set.of(kid.as_deref(), Algorithm::ES256).next().unwrap();
        let mut rules = Validation::new(Algorithm::ES256);
        rules.set_audience(&["x"]);
        let read = jsonwebtoken::decode::<Value>(signed.expose(), &public.decoding, &rules).unwrap();
        assert_eq!(read.claims["sub"], "ann");
        let others = KeySet::read(&[other.public().clone()]);
        assert_eq!(others.of(kid.as_deref(), Algorithm::ES256).count(), 0, "it names the key");
        assert!(SigningKey::read(b"no key").is_err());
        assert!(!format!("{key:?}").contains("PRIVATE") && key.public().get("d").is_none());
    }
}
