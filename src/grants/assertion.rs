//! Signed assertions (RFC 7523 section 3): of a client that proves who it is, and of an issuer that vouches for somebody. Each is
//! for us alone and for a while; its kind says for how long, and whether it may be shown again. The algorithm is one of a list
//! of ours; nothing is symmetric.

use std::time::Duration;

use jsonwebtoken::{Algorithm, Validation, decode, decode_header};
use serde::Deserialize;
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};
use time::OffsetDateTime;

use crate::crypto::dpop::{Thumbprint, thumbprint_of};
use crate::crypto::jwk::{KeySet, PublicKey};
use crate::protocol::oauth::{CLIENT_PROOF, ID_JAG};

/// Longest assertion, bytes.
const LONGEST: usize = 12 * 1024;
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

/// What an assertion is for; one never passes for another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// A client proves who it is (RFC 7523 section 2.2).
    ClientProof,
    /// An identity provider vouches for a person to one client (draft-ietf-oauth-identity-assertion-authz-grant).
    IdJag,
    /// A platform vouches for a program that runs on it.
    Workload,
}

impl Kind {
    /// Whether the header may say this of its type (RFC 8725 section 3.11).
    fn takes(self, typ: Option<&str>) -> bool {
        let typ = typ.map(str::to_ascii_lowercase);
        let typ = typ.as_deref().map(|typ| typ.strip_prefix("application/").unwrap_or(typ));
        match self {
            // Many a client says nothing more exact than that (draft-ietf-oauth-rfc7523bis section 4).
            Self::ClientProof => matches!(typ, None | Some("jwt" | CLIENT_PROOF)),
            Self::IdJag => typ == Some(ID_JAG),
            Self::Workload => matches!(typ, None | Some("jwt")),
        }
    }

    /// How far ahead it may end.
    fn lasts(self) -> Duration {
        match self {
            Self::ClientProof | Self::IdJag => Duration::from_mins(10),
            // A platform writes it into a file or gives it for a day, and the program shows it as often as it comes.
            Self::Workload => Duration::from_hours(24),
        }
    }

    /// Whether it is shown once, and says so by an id.
    fn is_once(self) -> bool {
        self != Self::Workload
    }
}

/// What an assertion must be to be believed.
#[derive(Debug, Clone, Copy)]
pub(super) struct Rules<'a> {
    /// What it is for.
    pub(super) kind: Kind,
    /// Who made it.
    pub(super) issuer: &'a str,
    /// Our names; it is for exactly one of them.
    pub(super) audiences: &'a [&'a str],
    /// How it may be signed.
    pub(super) algorithms: &'a [Algorithm],
}

/// What an assertion says, read but not yet believed.
#[derive(Debug)]
pub(super) struct Unproved<'a> {
    text: &'a str,
    algorithm: Algorithm,
    typ: Option<String>,
    /// Which of the keys.
    pub(super) kid: Option<String>,
    /// Who it says made it.
    pub(super) issuer: String,
    /// About whom it says it is.
    pub(super) subject: String,
}

/// An assertion that holds, if it was not shown before.
#[derive(Debug)]
pub(super) struct Proved {
    /// What it says.
    pub(super) claims: Claims,
    /// Until when it holds; for so long it must be remembered that it was shown.
    pub(super) until: OffsetDateTime,
}

impl Proved {
    /// SHA-256 of who made it and its `jti`: by which it is remembered.
    pub(super) fn hash(&self) -> [u8; 32] {
        let jti = self.claims.jti.as_deref().unwrap_or_default();
        Sha256::new().chain_update(&self.claims.iss).chain_update([0]).chain_update(jti).finalize().into()
    }
}

/// What an assertion says; true only of one that was proved.
#[derive(Deserialize)]
pub(super) struct Claims {
    pub(super) iss: String,
    pub(super) sub: String,
    aud: Audience,
    exp: f64,
    nbf: Option<f64>,
    iat: Option<f64>,
    pub(super) jti: Option<String>,
    #[serde(flatten)]
    others: Map<String, Value>,
}

impl Claims {
    /// One of the other claims, if it is a text and not empty.
    pub(super) fn text(&self, name: &str) -> Option<&str> {
        self.others.get(name)?.as_str().filter(|text| !text.is_empty())
    }

    /// One of the other claims, if it is one text or a list of them.
    pub(super) fn texts(&self, name: &str) -> Vec<&str> {
        match self.others.get(name) {
            Some(Value::String(text)) => vec![text],
            Some(Value::Array(list)) => list.iter().filter_map(Value::as_str).collect(),
            _ => Vec::new(),
        }
    }

    /// Whether whoever proved this key may show it: it names that one (RFC 7800 section 3.1, RFC 9449 section 6.1), or none. One that
    /// is bound to something else is bound to what is not understood here.
    pub(super) fn is_for(&self, key: Option<&Thumbprint>) -> bool {
        self.others.get("cnf").is_none_or(|cnf| {
            let bound = cnf.get("jkt").and_then(Value::as_str).and_then(thumbprint_of);
            bound.is_some() && bound.as_ref() == key
        })
    }

    /// Whether it is said at all.
    pub(super) fn has(&self, name: &str) -> bool {
        self.others.contains_key(name)
    }
}

impl std::fmt::Debug for Claims {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Claims")
    }
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Audience {
    One(String),
    Many(Vec<String>),
}

#[derive(Deserialize)]
struct Names {
    iss: String,
    sub: String,
}

impl<'a> Unproved<'a> {
    /// Reads an assertion; says in a word for the log why it is none.
    pub(super) fn read(text: &'a str) -> Result<Self, &'static str> {
        if text.len() > LONGEST {
            return Err("too_long");
        }
        let header = decode_header(text).map_err(|_| "malformed")?;
        if !ALGORITHMS.contains(&header.alg) {
            return Err("algorithm");
        }
        // Nothing is understood that would have to be (RFC 7515 section 4.1.11).
        if header.crit.is_some() {
            return Err("crit");
        }
        let Names { iss, sub } = jsonwebtoken::dangerous::insecure_decode_claims(text).map_err(|_| "malformed")?;
        let (algorithm, typ, kid) = (header.alg, header.typ, header.kid);
        Ok(Self { text, algorithm, typ, kid, issuer: iss, subject: sub })
    }

    /// Whether it says that it is of this kind, or does not say otherwise.
    pub(super) fn is_of(&self, kind: Kind) -> bool {
        kind.takes(self.typ.as_deref())
    }

    /// Proves it with the keys of who made it; says in a word for the log why it does not hold.
    pub(super) fn prove(&self, keys: &KeySet, rules: &Rules<'_>, now: OffsetDateTime) -> Result<Proved, &'static str> {
        if !self.is_of(rules.kind) {
            return Err("type");
        }
        if !rules.algorithms.contains(&self.algorithm) {
            return Err("algorithm");
        }
        let claims = keys.of(self.kid.as_deref(), self.algorithm).find_map(|key| self.verify(key, rules.issuer));
        let claims = claims.ok_or("signature")?;
        if claims.iss != rules.issuer {
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
        if !rules.audiences.contains(&audience.as_str()) {
            return Err("audience");
        }
        let at = |seconds: f64| {
            let seconds = if seconds.is_finite() { seconds } else { 0.0 };
            #[expect(clippy::cast_possible_truncation, reason = "a cast of a float saturates")]
            OffsetDateTime::from_unix_timestamp(seconds as i64).unwrap_or(OffsetDateTime::UNIX_EPOCH)
        };
        let ends = at(claims.exp);
        // The upper bound first: an end far in the future cannot be added to.
        if ends > now + rules.kind.lasts() + LEEWAY || ends + LEEWAY <= now {
            return Err("expiry");
        }
        if [claims.nbf, claims.iat].into_iter().flatten().any(|from| at(from) > now + LEEWAY) {
            return Err("not_yet");
        }
        if rules.kind == Kind::IdJag && claims.iat.is_none() {
            return Err("iat");
        }
        if rules.kind.is_once() && claims.jti.as_ref().is_none_or(|jti| jti.is_empty() || jti.len() > LONGEST_JTI) {
            return Err("jti");
        }
        Ok(Proved { claims, until: ends + LEEWAY })
    }

    fn verify(&self, key: &PublicKey, issuer: &str) -> Option<Claims> {
        // A key that is published for another issuer signs for that one. (`{tenantid}` stands for each directory of Entra.)
        if key.issuer.as_deref().is_some_and(|own| own != issuer && !own.contains("{tenantid}")) {
            return None;
        }
        let mut validation = Validation::new(self.algorithm);
        // Times and names are looked at above, by our own clock.
        validation.validate_exp = false;
        validation.validate_aud = false;
        validation.required_spec_claims.clear();
        decode(self.text, &key.decoding, &validation).ok().map(|token| token.claims)
    }
}

#[cfg(test)]
mod tests;
