//! Clients that register themselves (RFC 7591), without anything being stored: what they said is sealed into the id that they
//! get, and opened again when they come with it. A flood of registrations costs the work of sealing and nothing else.
//!
//! An id cannot be changed or taken back alone. What was granted to it can; and who may register is a setting.

use std::net::IpAddr;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};
use subtle::ConstantTimeEq;
use time::OffsetDateTime;

use super::SOURCES;
use super::client::{AuthMethod, Client, GrantType, Known, Proof, SecretHash};
use super::metadata::{BadMetadata, Metadata, bad};
use super::rate::{Exceeded, Limits, Rate};
use super::redirect::{RedirectUri, Schemes};
use super::scope::ScopeSet;
use crate::config::{self, Registration};
use crate::crypto::{Ids, Place, hash_token};
use crate::id::TenantId;
use crate::secret::Secret;

/// What the id of such a client begins with.
pub const PREFIX: &str = "mcpg_dc_";
/// Most bytes of a registration.
pub const LARGEST_BODY: usize = 16 * 1024;
/// Most bytes of an id: it travels in URLs.
const LONGEST_ID: usize = 4 * 1024;
/// How long a secret is good.
const SECRET_LASTS: Duration = Duration::from_hours(24 * 90);

/// Registrations of one source, and of all.
const OF_ONE: Rate = Rate { burst: 30, pause: Duration::from_secs(2) };
const OF_ALL: Rate = Rate { burst: 300, pause: Duration::from_millis(20) };

/// Why a client was not registered.
#[derive(Debug, thiserror::Error)]
pub enum RegisterError {
    /// Nobody may.
    #[error("clients do not register themselves here; ask an administrator, or use a client id metadata document")]
    Off,
    /// The registration token is missing or wrong.
    #[error("registering a client takes the registration token of this gateway")]
    Token,
    /// Too many have been registered.
    #[error("too many clients are being registered; try again later")]
    TooMany(Exceeded),
    /// What the client said cannot be taken.
    #[error(transparent)]
    Bad(#[from] BadMetadata),
    /// It could not be sealed.
    #[error("the registration could not be sealed")]
    Sealing,
}

impl RegisterError {
    /// The error code of RFC 7591 section 3.2.2 or RFC 6750 section 3.1.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Off => "access_denied",
            Self::Token => "invalid_token",
            Self::TooMany(_) => "temporarily_unavailable",
            Self::Bad(bad) => bad.code(),
            Self::Sealing => "server_error",
        }
    }
}

/// The answer to a registration (RFC 7591 section 3.2.1), to be sent as it is. It holds a secret.
#[derive(Debug, Serialize)]
pub struct Registered {
    client_id: String,
    client_id_issued_at: i64,
    #[serde(skip_serializing_if = "Option::is_none")]
    client_secret: Option<Secret>,
    #[serde(skip_serializing_if = "Option::is_none")]
    client_secret_expires_at: Option<i64>,
    client_name: String,
    redirect_uris: Vec<String>,
    token_endpoint_auth_method: AuthMethod,
    grant_types: Vec<GrantType>,
    response_types: [&'static str; 1],
    #[serde(skip_serializing_if = "Option::is_none")]
    scope: Option<ScopeSet>,
    #[serde(skip_serializing_if = "Option::is_none")]
    application_type: Option<String>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    dpop_bound_access_tokens: bool,
}

impl Registered {
    /// The id that was made.
    pub fn client_id(&self) -> &str {
        &self.client_id
    }

    /// The name that was given.
    pub fn client_name(&self) -> &str {
        &self.client_name
    }
}

/// What is sealed. Short names: it becomes part of URLs.
#[derive(Debug, Serialize, Deserialize)]
struct Sealed {
    #[serde(rename = "r")]
    redirects: Vec<String>,
    #[serde(rename = "n")]
    name: String,
    #[serde(rename = "m")]
    method: AuthMethod,
    #[serde(rename = "g")]
    grants: Vec<GrantType>,
    #[serde(rename = "i")]
    issued_at: i64,
    /// Of the secret, in base64url.
    #[serde(rename = "s", skip_serializing_if = "Option::is_none")]
    secret: Option<String>,
    #[serde(rename = "b", default, skip_serializing_if = "std::ops::Not::not")]
    bound: bool,
}

/// The door for registrations.
#[derive(Debug)]
pub struct Dynamic {
    ids: Ids,
    schemes: Schemes,
    mode: Registration,
    token: Option<[u8; 32]>,
    limits: Limits,
}

impl Dynamic {
    pub(super) fn new(settings: &config::Clients, ids: &Ids, schemes: Schemes) -> Self {
        Self {
            ids: ids.clone(),
            schemes,
            mode: settings.registration,
            token: settings.registration_token.as_ref().map(|token| hash_token(token.expose())),
            limits: Limits::new(OF_ONE, Some(OF_ALL), SOURCES),
        }
    }

    /// Whether there is a registration endpoint to tell of.
    pub fn is_offered(&self) -> bool {
        self.mode != Registration::Off
    }

    /// How many sources are remembered for their rate.
    pub fn sources(&self) -> usize {
        self.limits.sources()
    }

    /// Registers a client: `body` as it was sent (at most [`LARGEST_BODY`]), `token` the bearer token that was shown.
    pub fn register(
        &self,
        body: &[u8],
        token: Option<&str>,
        source: IpAddr,
        now: OffsetDateTime,
    ) -> Result<Registered, RegisterError> {
        if !self.is_offered() {
            return Err(RegisterError::Off);
        }
        // First, so that tokens cannot be guessed at any rate.
        self.limits.take(source, now).map_err(RegisterError::TooMany)?;
        if self.mode == Registration::Token {
            // Hashes are compared: their lengths are the same, and so is the time.
            let shown = hash_token(token.unwrap_or_default());
            let fits = self.token.as_ref().is_some_and(|token| bool::from(token.ct_eq(&shown)));
            if !fits {
                return Err(RegisterError::Token);
            }
        }
        if body.len() > LARGEST_BODY {
            return bad(format!("a registration has at most {LARGEST_BODY} bytes"))?;
        }
        let metadata = Metadata::read(body)?;
        let method = metadata.auth_method()?;
        if method == AuthMethod::PrivateKeyJwt {
            return bad("a client with keys is known by a metadata document, or registered by an administrator")?;
        }
        let redirects = metadata.redirects(&self.schemes)?;
        let name = metadata.name(redirects.first().map_or("client", RedirectUri::shown))?;
        let secret = method.is_secret().then(super::new_client_secret);
        let sealed = Sealed {
            redirects: redirects.iter().map(|uri| uri.as_str().to_owned()).collect(),
            name,
            method,
            grants: metadata.grants()?,
            issued_at: now.unix_timestamp(),
            secret: secret.as_ref().map(|secret| URL_SAFE_NO_PAD.encode(hash_token(secret.expose()))),
            bound: metadata.bound(),
        };
        let client_id = self.seal(&sealed)?;
        let expires_at = sealed.issued_at.saturating_add_unsigned(SECRET_LASTS.as_secs());
        Ok(Registered {
            client_id,
            client_id_issued_at: sealed.issued_at,
            client_secret_expires_at: secret.is_some().then_some(expires_at),
            client_secret: secret,
            client_name: sealed.name,
            redirect_uris: sealed.redirects,
            token_endpoint_auth_method: method,
            grant_types: sealed.grants,
            response_types: ["code"],
            scope: metadata.scope.as_deref().and_then(|scope| ScopeSet::asked(Some(scope)).ok()),
            application_type: metadata.application_type.filter(|kind| matches!(kind.as_str(), "native" | "web")),
            dpop_bound_access_tokens: sealed.bound,
        })
    }

    /// The client that an id holds; `None` when we did not make it.
    pub(super) fn open(&self, id: &str) -> Option<Client> {
        let text = id.strip_prefix(PREFIX).filter(|_| id.len() <= LONGEST_ID)?;
        let bytes = URL_SAFE_NO_PAD.decode(text).ok()?;
        let plain = self.ids.open(place(&TenantId::default_tenant()), &bytes).ok()?;
        let sealed: Sealed = serde_json::from_slice(&plain).ok()?;
        let proof = match &sealed.secret {
            None => Proof::None,
            Some(hash) => {
                let hash = URL_SAFE_NO_PAD.decode(hash).ok()?.try_into().ok()?;
                let ends = sealed.issued_at.saturating_add_unsigned(SECRET_LASTS.as_secs());
                let expires_at = Some(OffsetDateTime::from_unix_timestamp(ends).ok()?);
                Proof::Secret(vec![SecretHash { hash, expires_at }])
            }
        };
        // Judged again: what is allowed may be less by now.
        let redirects = sealed.redirects.iter().filter_map(|uri| RedirectUri::parse(uri, &self.schemes).ok());
        Some(Client {
            id: id.into(),
            name: sealed.name.into(),
            known: Known::Dynamic { issued_at: OffsetDateTime::from_unix_timestamp(sealed.issued_at).ok()? },
            proof,
            redirects: redirects.collect(),
            grants: sealed.grants,
            scopes: ScopeSet::ALL,
            bound: sealed.bound,
        })
    }

    fn seal(&self, sealed: &Sealed) -> Result<String, RegisterError> {
        let plain = serde_json::to_vec(sealed).map_err(|_| RegisterError::Sealing)?;
        let tenant = TenantId::default_tenant();
        let bytes = self.ids.seal(place(&tenant), &plain).map_err(|_| RegisterError::Sealing)?;
        let id = PREFIX.to_owned() + &URL_SAFE_NO_PAD.encode(bytes);
        if id.len() > LONGEST_ID {
            let text = "name and redirect URIs are too long together; a registration without some of them fits";
            return bad(text)?;
        }
        Ok(id)
    }
}

/// Where a registration is sealed for: it opens as nothing else, and nothing else as it. It is no tenant's.
fn place(tenant: &TenantId) -> Place<'_> {
    Place { table: "oauth_clients.dynamic", row: "", tenant, subject: None }
}

#[cfg(test)]
mod tests;
