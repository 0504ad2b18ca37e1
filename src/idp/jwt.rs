//! Signed tokens of a provider (RFC 7519), read and then verified. What [`Unverified`] shows serves to choose a key and to say
//! in words why a token is refused, never to let anybody in; only [`Unverified::verify`] gives [`Claims`].

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::errors::ErrorKind;
use jsonwebtoken::{Algorithm, Validation};
use serde::Deserialize;
use serde_json::{Map, Value};
use subtle::ConstantTimeEq as _;
use time::OffsetDateTime;

use super::classify::shown;
use super::error::IdpError;
use crate::crypto::jwk::PublicKey;
use crate::secret::Secret;

/// Longest token that is looked at, bytes.
const MOST: usize = 64 << 10;
/// How far the clocks of a provider and of this machine may be apart.
const LEEWAY: Duration = Duration::from_mins(5);

/// What stands before the claims (RFC 7515 section 4.1), as far as it matters.
#[derive(Debug, Deserialize)]
pub(super) struct Header {
    alg: String,
    pub(super) kid: Option<String>,
    typ: Option<String>,
    /// Entra's mark of a token that nobody but Microsoft Graph can verify.
    nonce: Option<Value>,
    crit: Option<Value>,
}

/// Claims; true ones only if [`Unverified::verify`] gave them.
#[derive(Debug, Clone, Deserialize)]
#[serde(transparent)]
pub(super) struct Claims(Map<String, Value>);

/// A token that somebody showed.
pub(super) struct Unverified<'a> {
    text: &'a str,
    /// Whether the provider itself gave it to us, and not somebody who came to the door.
    from_provider: bool,
    header: Header,
    claims: Claims,
}

/// What a token must say besides being signed.
pub(super) struct Expected<'a> {
    /// For whom it is; one of these.
    pub(super) audience: &'a [String],
    /// Who made it.
    pub(super) issuer: &'a str,
}

impl<'a> Unverified<'a> {
    /// Takes the token apart.
    pub(super) fn read(text: &'a str) -> Result<Self, IdpError> {
        let malformed = || IdpError::forged("the token is no signed JWT");
        if text.len() > MOST {
            return Err(IdpError::forged("the token is longer than any that an identity provider makes"));
        }
        let mut parts = text.split('.');
        let (Some(header), Some(claims), Some(_), None) = (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(malformed());
        };
        let header: Header = part(header).ok_or_else(malformed)?;
        let claims = part(claims).ok_or_else(malformed)?;
        Ok(Self { text, from_provider: false, header, claims })
    }

    /// The same of a token that came from the provider's own endpoint.
    pub(super) fn read_from_provider(text: &'a str) -> Result<Self, IdpError> {
        Ok(Self { from_provider: true, ..Self::read(text)? })
    }

    /// What it says under this name, believed or not.
    pub(super) fn said(&self, name: &str) -> Option<&str> {
        self.claims.text(name)
    }

    /// It names a key that is not published as far as is known. The provider's own answers are not forged: its keys have changed
    /// since they were looked at, and are looked at again in a while. Anybody else may have made the name up.
    pub(super) fn unknown_key(&self) -> IdpError {
        if self.from_provider {
            IdpError::temporary("the identity provider signs with a key that is new; its keys are looked at again soon")
        } else {
            IdpError::forged("the token is signed by a key that the identity provider does not publish")
        }
    }

    /// What it claims, which may be a lie.
    pub(super) fn claims(&self) -> &Claims {
        &self.claims
    }

    /// The id of the key that it says it is signed with.
    pub(super) fn key_id(&self) -> Option<&str> {
        self.header.kid.as_deref()
    }

    /// Whether it is one of those that only Microsoft Graph can verify.
    pub(super) fn is_for_graph(&self) -> bool {
        self.header.nonce.is_some()
    }

    /// Its algorithm, if it is one of `allowed`, and its type one of `types`, or none at all.
    pub(super) fn algorithm(&self, allowed: &[Algorithm], types: &[&str]) -> Result<Algorithm, IdpError> {
        if self.header.crit.is_some() {
            return Err(IdpError::forged("the token wants extensions understood that are not (`crit`)"));
        }
        if let Some(typ) = &self.header.typ
            && !types.iter().any(|one| one.eq_ignore_ascii_case(typ))
        {
            return Err(IdpError::forged(format!("the token is of the type `{}`, which is another kind", shown(typ))));
        }
        let found = allowed.iter().find(|algorithm| format!("{algorithm:?}") == self.header.alg);
        found.copied().ok_or_else(|| {
            IdpError::forged(format!("the token's algorithm `{}` is not taken", shown(&self.header.alg)))
        })
    }

    /// Verifies the signature by `key`, issuer, audience and time.
    pub(super) fn verify(
        self,
        key: &PublicKey,
        algorithm: Algorithm,
        expected: &Expected<'_>,
        now: OffsetDateTime,
    ) -> Result<Claims, IdpError> {
        let mut rules = Validation::new(algorithm);
        rules.algorithms = vec![algorithm];
        rules.set_required_spec_claims(&["exp", "iss", "aud"]);
        rules.set_audience(expected.audience);
        rules.set_issuer(&[expected.issuer]);
        // The clock is the caller's, so the times are looked at below.
        (rules.validate_exp, rules.validate_nbf) = (false, false);
        let verified = jsonwebtoken::decode::<Claims>(self.text, &key.decoding, &rules);
        let claims = verified.map_err(|error| self.refusal(error.kind(), expected))?.claims;
        claims.in_time(now)?;
        Ok(claims)
    }

    fn refusal(&self, why: &ErrorKind, expected: &Expected<'_>) -> IdpError {
        IdpError::forged(match why {
            ErrorKind::InvalidSignature => "the token's signature does not hold".to_owned(),
            ErrorKind::InvalidAudience => self.foreign_audience(expected.audience),
            ErrorKind::InvalidIssuer => self.foreign_issuer(expected.issuer),
            ErrorKind::MissingRequiredClaim(name) => format!("the token lacks `{name}`"),
            _ => "the token cannot be verified".to_owned(),
        })
    }

    /// The sentence for a token that somebody else made.
    pub(super) fn foreign_issuer(&self, expected: &str) -> String {
        let found = shown(self.claims.text("iss").unwrap_or("nobody"));
        format!("the token is of `{found}`, not of `{expected}`")
    }

    /// The sentence for a token that is for somebody else.
    pub(super) fn foreign_audience(&self, ours: &[String]) -> String {
        let found = self.claims.texts("aud").join(", ");
        format!("the token is for `{}`, not for this gateway ({})", shown(&found), ours.join(", "))
    }
}

fn part<T: serde::de::DeserializeOwned>(text: &str) -> Option<T> {
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(text).ok()?).ok()
}

impl Claims {
    /// A claim that is a text, not empty.
    pub(super) fn text(&self, name: &str) -> Option<&str> {
        self.0.get(name)?.as_str().filter(|text| !text.is_empty())
    }

    /// A claim, whatever it is.
    pub(super) fn value(&self, name: &str) -> Option<&Value> {
        self.0.get(name)
    }

    /// A claim that is one text or a list of them.
    pub(super) fn texts(&self, name: &str) -> Vec<&str> {
        self.value(name).map(texts).unwrap_or_default()
    }

    /// A claim that is a time in whole seconds since 1970.
    pub(super) fn time(&self, name: &str) -> Option<OffsetDateTime> {
        OffsetDateTime::from_unix_timestamp(self.value(name)?.as_i64()?).ok()
    }

    /// Fails if the token answers another request than ours.
    pub(super) fn answers(&self, nonce: &Secret) -> Result<(), IdpError> {
        let found = self.text("nonce").unwrap_or_default();
        if found.as_bytes().ct_eq(nonce.expose().as_bytes()).into() {
            return Ok(());
        }
        Err(IdpError::forged("the ID token does not answer this sign-in (nonce)"))
    }

    /// Fails if it is for several and was not made for `client` (OpenID Connect Core 1.0 section 3.1.3.7).
    pub(super) fn is_made_for(&self, client: &str) -> Result<(), IdpError> {
        match self.text("azp") {
            Some(azp) if azp != client => Err(IdpError::forged("the ID token was made for another client (azp)")),
            None if self.texts("aud").len() > 1 => {
                Err(IdpError::forged("the ID token is for several and does not say for whom it was made (azp)"))
            }
            _ => Ok(()),
        }
    }

    fn in_time(&self, now: OffsetDateTime) -> Result<(), IdpError> {
        let time = |name: &str| match self.value(name) {
            None => Ok(None),
            Some(value) => match value.as_f64().map(Duration::try_from_secs_f64) {
                Some(Ok(since)) => Ok(Some(since)),
                _ => Err(IdpError::forged(format!("the token's `{name}` is no time"))),
            },
        };
        let now = Duration::try_from(now - OffsetDateTime::UNIX_EPOCH).unwrap_or_default();
        match (time("exp")?, time("nbf")?) {
            (Some(exp), _) if exp.saturating_add(LEEWAY) <= now => Err(IdpError::forged("the token has expired")),
            (_, Some(nbf)) if nbf > now + LEEWAY => {
                Err(IdpError::forged("the token is not valid yet: is this machine's clock right?"))
            }
            (Some(_), _) => Ok(()),
            (None, _) => Err(IdpError::forged("the token lacks `exp`")),
        }
    }
}

/// One text, or the texts of a list.
pub(super) fn texts(value: &Value) -> Vec<&str> {
    match value {
        Value::String(text) => vec![text],
        Value::Array(list) => list.iter().filter_map(Value::as_str).collect(),
        _ => Vec::new(),
    }
}
