//! A key that signs what is kept for years: Ed25519 (RFC 8032). What verifies is public; whoever has no more than that and the
//! database cannot sign.

use std::fmt;

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ED25519, Ed25519KeyPair, KeyPair as _, UnparsedPublicKey};
use zeroize::Zeroizing;

use super::CryptoError;

/// See the module.
pub struct StampKey(Ed25519KeyPair);

impl fmt::Debug for StampKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("StampKey")
    }
}

impl StampKey {
    /// A new one, to be sealed (PKCS #8).
    pub fn generate() -> Result<Zeroizing<Vec<u8>>, CryptoError> {
        let made = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new());
        made.map(|key| Zeroizing::new(key.as_ref().to_vec())).map_err(|_| CryptoError::Damaged)
    }

    /// Of what was made by [`Self::generate`].
    pub fn read(pkcs8: &[u8]) -> Result<Self, CryptoError> {
        Ed25519KeyPair::from_pkcs8(pkcs8).map(Self).map_err(|_| CryptoError::Damaged)
    }

    /// What verifies.
    pub fn public(&self) -> Vec<u8> {
        self.0.public_key().as_ref().to_vec()
    }

    /// Signs.
    pub fn sign(&self, text: &[u8]) -> Vec<u8> {
        self.0.sign(text).as_ref().to_vec()
    }
}

/// Whether the owner of `public` signed this.
pub fn is_signed(public: &[u8], text: &[u8], signature: &[u8]) -> bool {
    UnparsedPublicKey::new(&ED25519, public).verify(text, signature).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_was_signed_is_signed() {
        let key = StampKey::read(&StampKey::generate().unwrap()).unwrap();
        let other = StampKey::read(&StampKey::generate().unwrap()).unwrap();
        let signature = key.sign(b"text");
        assert!(is_signed(&key.public(), b"text", &signature));
        assert!(!is_signed(&key.public(), b"texT", &signature));
        assert!(!is_signed(&other.public(), b"text", &signature));
        assert!(!is_signed(b"no key", b"text", &signature) && StampKey::read(b"no key").is_err());
    }
}
