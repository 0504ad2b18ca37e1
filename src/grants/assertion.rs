//! Assertions that a client signs with its key to prove who it is (RFC 7523 section 3). Each is for us, for minutes, and for
//! once. The algorithm is one of a list of ours; nothing is symmetric.

use std::time::Duration;

use jsonwebtoken::jwk::{Jwk, JwkSet};
use jsonwebtoken::{Algorithm, DecodingKey, Validation, decode, decode_header};
use serde::Deserialize;
use sha2::{Digest, Sha256};
use time::OffsetDateTime;

/// Longest assertion, bytes.
const LONGEST: usize = 8 * 1024;
/// How far ahead it may end.
const LASTS: Duration = Duration::from_mins(10);
/// How far clocks may be apart.
const LEEWAY: Duration = Duration::from_mins(1);
/// Longest `jti`, bytes.
const LONGEST_JTI: usize = 256;

/// How one may be signed.
pub const ALGORITHMS: [Algorithm; 9] = [
    Algorithm::ES256,
    Algorithm::ES384,
    Algorithm::EdDSA,
    Algorithm::PS256,
    Algorithm::PS384,
    Algorithm::PS512,
    Algorithm::RS256,
    Algorithm::RS384,
    Algorithm::RS512,
];

/// What an assertion says, read but not yet believed.
#[derive(Debug)]
pub(super) struct Unproved<'a> {
    text: &'a str,
    algorithm: Algorithm,
    /// Which of the client's keys.
    pub(super) kid: Option<String>,
    /// Who it says it is.
    pub(super) client_id: String,
}

/// An assertion that holds, if it was not shown before.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Proved {
    /// SHA-256 of who made it and its `jti`: to be remembered.
    pub(super) hash: [u8; 32],
    /// Until when.
    pub(super) until: OffsetDateTime,
}

#[derive(Debug, Deserialize)]
struct Claims {
    iss: String,
    sub: String,
    aud: Audience,
    exp: f64,
    nbf: Option<f64>,
    iat: Option<f64>,
    jti: String,
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Audience {
    One(String),
    Many(Vec<String>),
}

#[derive(Debug, Deserialize)]
struct Subject {
    sub: String,
}

impl<'a> Unproved<'a> {
    /// Reads an assertion; says in a word for the log why it is none.
    pub(super) fn read(text: &'a str) -> Result<Self, &'static str> {
        if text.len() > LONGEST {
            return Err("too long");
        }
        let header = decode_header(text).map_err(|_| "malformed")?;
        if !ALGORITHMS.contains(&header.alg) {
            return Err("algorithm");
        }
        let claims: Subject = jsonwebtoken::dangerous::insecure_decode_claims(text).map_err(|_| "malformed")?;
        Ok(Self { text, algorithm: header.alg, kid: header.kid, client_id: claims.sub })
    }

    /// Proves it with the client's keys, as meant for one of `audiences`; says in a word for the log why it does not hold.
    pub(super) fn prove(&self, keys: &JwkSet, audiences: &[&str], now: OffsetDateTime) -> Result<Proved, &'static str> {
        let claims = keys.keys.iter().filter(|key| self.may_be_of(key)).find_map(|key| self.verify(key));
        let claims = claims.ok_or("signature")?;
        if claims.iss != self.client_id || claims.sub != self.client_id {
            return Err("issuer");
        }
        // One that is for somebody else too could be shown here by them.
        let audience = match &claims.aud {
            Audience::One(audience) => audience,
            Audience::Many(several) => match several.as_slice() {
                [audience] => audience,
                _ => return Err("audience"),
            },
        };
        if !audiences.contains(&audience.as_str()) {
            return Err("audience");
        }
        let at = |seconds: f64| {
            let seconds = if seconds.is_finite() { seconds } else { 0.0 };
            #[expect(clippy::cast_possible_truncation, reason = "a cast of a float saturates")]
            OffsetDateTime::from_unix_timestamp(seconds as i64).unwrap_or(OffsetDateTime::UNIX_EPOCH)
        };
        let ends = at(claims.exp);
        // The upper bound first: an end far in the future cannot be added to.
        if ends > now + LASTS + LEEWAY || ends + LEEWAY <= now {
            return Err("expiry");
        }
        if [claims.nbf, claims.iat].into_iter().flatten().any(|from| at(from) > now + LEEWAY) {
            return Err("not yet");
        }
        if claims.jti.is_empty() || claims.jti.len() > LONGEST_JTI {
            return Err("jti");
        }
        let hash = Sha256::new().chain_update(&self.client_id).chain_update([0]).chain_update(&claims.jti).finalize();
        Ok(Proved { hash: hash.into(), until: ends + LEEWAY })
    }

    fn may_be_of(&self, key: &Jwk) -> bool {
        self.kid.is_none() || key.common.key_id.is_none() || self.kid == key.common.key_id
    }

    fn verify(&self, key: &Jwk) -> Option<Claims> {
        let mut validation = Validation::new(self.algorithm);
        // Times and names are looked at above, by our own clock.
        validation.validate_exp = false;
        validation.validate_aud = false;
        validation.required_spec_claims.clear();
        let key = DecodingKey::from_jwk(key).ok()?;
        decode(self.text, &key, &validation).ok().map(|token| token.claims)
    }
}

#[cfg(test)]
mod tests;
