//! Proofs that whoever sends a request has a key (RFC 9449 section 4): one signed text per request, which names the key, the
//! request's method and address, and the access token that is shown with it. What is checked is each point of section 4.3; that
//! a proof is shown once is remembered elsewhere. Nonces are not asked for.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, Validation, decode};
use serde::Deserialize;
use serde_json::Value;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq as _;
use time::OffsetDateTime;
use url::Url;

use super::hash_token;
use super::jwk::{KeySet, thumbprint};
use crate::json;

/// How a proof may be signed.
pub const ALGORITHMS: [Algorithm; 4] = [Algorithm::ES256, Algorithm::EdDSA, Algorithm::PS256, Algorithm::RS256];
/// How far from our clock a proof may have been made, before and after: what MCP's profile of RFC 9449 asks for (SEP-1932).
pub const WINDOW: Duration = Duration::from_mins(5);

/// Longest proof, bytes: one by an RSA key of 4096 bits has some 2,500.
const LONGEST: usize = 4096;
/// Longest `jti`, bytes.
const LONGEST_JTI: usize = 256;
/// What a key in a proof must not hold: it would not be a secret any more (RFC 7518 section 6).
const PRIVATE: [&str; 8] = ["d", "p", "q", "dp", "dq", "qi", "oth", "k"];

/// A key, by its SHA-256 thumbprint (RFC 7638): `jkt`.
pub type Thumbprint = [u8; 32];

/// The thumbprint in base64url, as clients write it (`dpop_jkt`, RFC 9449 section 10); `None` when it is none.
pub fn thumbprint_of(text: &str) -> Option<Thumbprint> {
    URL_SAFE_NO_PAD.decode(text).ok()?.try_into().ok()
}

/// What is wrong with a proof.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum BadProof {
    /// None was sent.
    Missing,
    /// More than one was sent.
    Doubled,
    /// It is no signed text of a form that is understood.
    Malformed,
    /// `typ` is something else.
    Type,
    /// `alg` is none of [`ALGORITHMS`].
    Algorithm,
    /// `jwk` is missing, holds a private key, or is none that can be verified with.
    Key,
    /// It is by another key than the one that is asked for.
    OtherKey,
    /// The key did not sign it.
    Signature,
    /// `jti` is missing or too long.
    Id,
    /// `htm` is another method.
    Method,
    /// `htu` is another address.
    Address,
    /// `iat` is too far from now.
    Time,
    /// `ath` is missing, or of another access token.
    Token,
    /// It was shown before.
    Replayed,
}

impl BadProof {
    /// What its maker reads.
    pub fn text(self) -> &'static str {
        match self {
            Self::Missing => "a proof of the key is missing: send one in the header DPoP (RFC 9449)",
            Self::Doubled => "there is more than one header DPoP",
            Self::Malformed => "the header DPoP holds no signed JSON Web Token of at most 4096 bytes",
            Self::Type => "the proof's typ must be dpop+jwt",
            Self::Algorithm => "the proof's alg must be ES256, EdDSA, PS256 or RS256",
            Self::Key => {
                "the proof's jwk must be a public key that fits its alg (RSA of 2048 bits or more), and nothing private"
            }
            Self::OtherKey => "the proof is by another key than the one that the token is bound to",
            Self::Signature => "the proof is not signed by the key in its jwk",
            Self::Id => "the proof's jti must be there, and have at most 256 bytes",
            Self::Method => "the proof's htm must be the method of this request",
            Self::Address => "the proof's htu must be the address of this request below the gateway's public URL",
            Self::Time => "the proof's iat must be within five minutes of the gateway's clock",
            Self::Token => "the proof's ath must be the hash of the access token that is shown",
            Self::Replayed => "the proof was shown before; make a new one for each request",
        }
    }

    /// The label in metrics and logs.
    pub fn reason(self) -> &'static str {
        match self {
            Self::Missing => "proof_missing",
            Self::Doubled => "proof_doubled",
            Self::Malformed => "proof_malformed",
            Self::Type => "proof_type",
            Self::Algorithm => "proof_algorithm",
            Self::Key => "proof_key",
            Self::OtherKey => "other_key",
            Self::Signature => "proof_signature",
            Self::Id => "proof_id",
            Self::Method => "proof_method",
            Self::Address => "proof_address",
            Self::Time => "proof_time",
            Self::Token => "proof_token",
            Self::Replayed => "proof_replayed",
        }
    }
}

impl std::fmt::Display for BadProof {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.text())
    }
}

/// What a proof must be of.
#[derive(Debug, Clone, Copy)]
pub struct Wanted<'a> {
    /// The request's method.
    pub method: &'a str,
    /// The request's address, without query.
    pub address: &'a str,
    /// The access token that is shown with it; none at the token endpoint.
    pub token: Option<&'a str>,
    /// The key that it must be by, if that is known.
    pub key: Option<&'a Thumbprint>,
}

/// A proof that holds, if it was not shown before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Proved {
    /// The key that it is by.
    pub key: Thumbprint,
    /// By what it is remembered: half a SHA-256 of the key and `jti`.
    pub id: u128,
}

/// The header (RFC 9449 section 4.2).
#[derive(Deserialize)]
struct Head {
    typ: Option<String>,
    alg: Option<String>,
    jwk: Option<Value>,
    crit: Option<serde::de::IgnoredAny>,
}

/// The claims that are looked at.
#[derive(Deserialize)]
struct Claims {
    jti: Option<String>,
    htm: Option<String>,
    htu: Option<String>,
    iat: Option<f64>,
    ath: Option<String>,
}

/// Checks a proof, all but that it is shown once. What costs most, the signature, is looked at after all that can be read without.
pub fn check(text: &str, wanted: &Wanted<'_>, now: OffsetDateTime) -> Result<Proved, BadProof> {
    let (algorithm, jwk) = read_head(text)?;
    let key = thumbprint(&jwk).ok_or(BadProof::Key)?;
    if wanted.key.is_some_and(|wanted| !bool::from(wanted.ct_eq(&key))) {
        return Err(BadProof::OtherKey);
    }
    let keys = KeySet::read(&[jwk]);
    let public = keys.of(None, algorithm).next().ok_or(BadProof::Key)?;
    let mut validation = Validation::new(algorithm);
    // What is said is looked at below, the time by our own clock.
    validation.validate_exp = false;
    validation.validate_aud = false;
    validation.required_spec_claims.clear();
    let claims: Claims = decode(text, &public.decoding, &validation).map_err(|_| BadProof::Signature)?.claims;

    let jti = claims.jti.filter(|jti| !jti.is_empty() && jti.len() <= LONGEST_JTI).ok_or(BadProof::Id)?;
    if claims.htm.as_deref() != Some(wanted.method) {
        return Err(BadProof::Method);
    }
    if !claims.htu.is_some_and(|htu| is_same(&htu, wanted.address)) {
        return Err(BadProof::Address);
    }
    #[expect(clippy::cast_precision_loss, reason = "seconds since 1970 are whole in a float for millions of years")]
    let apart = claims.iat.ok_or(BadProof::Time)? - now.unix_timestamp() as f64;
    if apart.abs() > WINDOW.as_secs_f64() {
        return Err(BadProof::Time);
    }
    if let Some(token) = wanted.token {
        let hash = URL_SAFE_NO_PAD.encode(hash_token(token));
        if claims.ath.as_deref() != Some(&*hash) {
            return Err(BadProof::Token);
        }
    }
    let digest = Sha256::new().chain_update(key).chain_update(jti).finalize();
    let id = u128::from_be_bytes(std::array::from_fn(|at| digest[at]));
    Ok(Proved { key, id })
}

/// How it is signed, and the key that it names.
fn read_head(text: &str) -> Result<(Algorithm, Value), BadProof> {
    if text.len() > LONGEST || text.bytes().filter(|byte| *byte == b'.').count() != 2 {
        return Err(BadProof::Malformed);
    }
    let head = text.split('.').next().and_then(|head| URL_SAFE_NO_PAD.decode(head).ok()).ok_or(BadProof::Malformed)?;
    json::check(&head).map_err(|_| BadProof::Malformed)?;
    let head: Head = serde_json::from_slice(&head).map_err(|_| BadProof::Malformed)?;
    // Nothing is understood that would have to be (RFC 7515 section 4.1.11).
    if head.crit.is_some() {
        return Err(BadProof::Malformed);
    }
    if !head.typ.is_some_and(|typ| typ.eq_ignore_ascii_case("dpop+jwt")) {
        return Err(BadProof::Type);
    }
    let algorithm = head.alg.and_then(|alg| alg.parse().ok()).filter(|alg| ALGORITHMS.contains(alg));
    let algorithm = algorithm.ok_or(BadProof::Algorithm)?;
    let jwk = head.jwk.ok_or(BadProof::Key)?;
    if PRIVATE.iter().any(|name| jwk.get(name).is_some()) {
        return Err(BadProof::Key);
    }
    Ok((algorithm, jwk))
}

/// Whether a proof's `htu` is an address of ours: compared as URLs, whatever the one says behind `?` and `#`.
fn is_same(htu: &str, address: &str) -> bool {
    let (Ok(mut said), Ok(own)) = (Url::parse(htu), Url::parse(address)) else { return false };
    said.set_query(None);
    said.set_fragment(None);
    said == own
}

#[cfg(test)]
mod tests;
