//! How the gateway proves to a provider that it is the client it says: a secret and perhaps the next one, a certificate, or a
//! token that the platform put into a file. Files are read at each use: what is renewed there needs no restart.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use http::HeaderValue;
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use time::OffsetDateTime;
use tokio::io::AsyncReadExt as _;
use uuid::Uuid;
use zeroize::Zeroizing;

use super::endpoint::Place;
use super::error::{Class, IdpError};
use crate::protocol::oauth::{CLIENT_ASSERTION, CLIENT_PROOF};
use crate::secret::Secret;

/// How long an assertion is good for, seconds.
const LIFETIME: i64 = 300;
/// Largest file, bytes.
const MOST: u64 = 64 << 10;

/// Signs a text of this type with these claims, by a key that others know as the gateway's; none where there is no key.
pub type Sign = Box<dyn Fn(&str, &Value, OffsetDateTime) -> Option<Secret> + Send + Sync>;

/// What the gateway has to show.
pub(super) enum Credential {
    /// Nothing: a public client.
    Nothing,
    /// Secrets that are good at the same time; the one that was taken last is shown first.
    Secrets { secrets: Vec<Secret>, taken: AtomicUsize },
    /// A PEM file with a certificate and its RSA key.
    Certificate(PathBuf),
    /// A file with a token of the platform.
    Federated(PathBuf),
    /// The gateway's own key.
    Key(Sign),
}

impl std::fmt::Debug for Credential {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Nothing => "Nothing",
            Self::Secrets { .. } => "Secrets",
            Self::Certificate(_) => "Certificate",
            Self::Federated(_) => "Federated",
            Self::Key(_) => "Key",
        })
    }
}

/// What goes along with a request to the token endpoint.
#[derive(Default)]
pub(super) struct Proof {
    /// Fields of the form.
    pub(super) fields: Vec<(&'static str, Secret)>,
    /// The header `Authorization`.
    pub(super) header: Option<HeaderValue>,
}

impl Credential {
    pub(super) fn secrets(secrets: impl IntoIterator<Item = Secret>) -> Self {
        Self::Secrets { secrets: secrets.into_iter().collect(), taken: AtomicUsize::new(0) }
    }

    /// The secrets, for who must not repeat them.
    pub(super) fn texts(&self) -> impl Iterator<Item = &str> {
        let secrets = if let Self::Secrets { secrets, .. } = self { &secrets[..] } else { &[] };
        secrets.iter().map(Secret::expose)
    }

    /// How many proofs there are to try, at least one.
    pub(super) fn len(&self) -> usize {
        if let Self::Secrets { secrets, .. } = self { secrets.len().max(1) } else { 1 }
    }

    /// The proof to show there at this attempt, counted from 0.
    pub(super) async fn prove(
        &self,
        attempt: usize,
        client: &str,
        at: Place<'_>,
        now: OffsetDateTime,
    ) -> Result<Proof, IdpError> {
        let assertion = |assertion: Secret| Proof {
            fields: vec![("client_assertion_type", Secret::new(CLIENT_ASSERTION)), ("client_assertion", assertion)],
            header: None,
        };
        match self {
            Self::Nothing => Ok(Proof::default()),
            Self::Secrets { secrets, taken } => {
                let which = (taken.load(Ordering::Relaxed) + attempt) % secrets.len().max(1);
                let Some(secret) = secrets.get(which) else { return Ok(Proof::default()) };
                if at.secret_in_body {
                    return Ok(Proof { fields: vec![("client_secret", secret.clone())], header: None });
                }
                Ok(Proof { fields: Vec::new(), header: Some(basic(client, secret)?) })
            }
            Self::Certificate(path) => {
                let pem = read(path).await?;
                sign(&pem, client, at.audience, now)
                    .map(assertion)
                    .ok_or_else(|| ours(path, "holds no certificate with an RSA key that can sign"))
            }
            Self::Federated(path) => {
                let text = read(path).await?;
                let token = std::str::from_utf8(&text).map(str::trim).unwrap_or_default();
                if token.is_empty() {
                    return Err(ours(path, "holds no token"));
                }
                Ok(assertion(Secret::new(token)))
            }
            Self::Key(sign) => sign(CLIENT_PROOF, &claims(client, at.audience, now), now)
                .map(assertion)
                .ok_or_else(|| IdpError::temporary("the gateway has no key to sign with; see its log")),
        }
    }

    /// Remembers that the proof of this attempt was taken.
    pub(super) fn was_taken(&self, attempt: usize) {
        if let Self::Secrets { secrets, taken } = self
            && attempt > 0
        {
            let which = (taken.load(Ordering::Relaxed) + attempt) % secrets.len().max(1);
            taken.store(which, Ordering::Relaxed);
        }
    }
}

fn ours(path: &Path, what: &str) -> IdpError {
    IdpError::new(Class::OurCredential, format!("the file {} {what}", path.display()))
}

async fn read(path: &Path) -> Result<Zeroizing<Vec<u8>>, IdpError> {
    let failed = |error: std::io::Error| ours(path, &format!("cannot be read: {error}"));
    let mut text = Zeroizing::new(Vec::new());
    let file = tokio::fs::File::open(path).await.map_err(failed)?;
    file.take(MOST).read_to_end(&mut text).await.map_err(failed)?;
    Ok(text)
}

/// `client_secret_basic` (RFC 6749 section 2.3.1): both parts are form-encoded first.
fn basic(client: &str, secret: &Secret) -> Result<HeaderValue, IdpError> {
    let encoded = |text: &str| url::form_urlencoded::byte_serialize(text.as_bytes()).collect::<String>();
    let pair = Zeroizing::new(format!("{}:{}", encoded(client), encoded(secret.expose())));
    let text = Zeroizing::new(format!("Basic {}", STANDARD.encode(pair.as_bytes())));
    let mut header = HeaderValue::from_str(&text)
        .map_err(|_| IdpError::new(Class::OurCredential, "the client secret cannot be sent"))?;
    header.set_sensitive(true);
    Ok(header)
}

/// What a client says that proves who it is (RFC 7523 section 3).
fn claims(client: &str, audience: &str, now: OffsetDateTime) -> Value {
    let now = now.unix_timestamp();
    json!({
        "aud": audience,
        "iss": client,
        "sub": client,
        "jti": Uuid::from_bytes(crate::crypto::random_bytes()).to_string(),
        "iat": now,
        "nbf": now,
        "exp": now + LIFETIME,
    })
}

/// The assertion that Entra takes for a certificate: PS256, named by its SHA-256 thumbprint.
fn sign(pem: &[u8], client: &str, audience: &str, now: OffsetDateTime) -> Option<Secret> {
    let certificate = CertificateDer::from_pem_slice(pem).ok()?;
    let mut header = Header::new(Algorithm::PS256);
    header.x5t_s256 = Some(URL_SAFE_NO_PAD.encode(Sha256::digest(&certificate)));
    let text = std::str::from_utf8(pem).ok()?;
    let start = text.match_indices("-----BEGIN ").find(|(at, _)| {
        let label = text[at + 11..].split("-----").next().unwrap_or_default();
        label == "PRIVATE KEY" || label == "RSA PRIVATE KEY"
    })?;
    let key = EncodingKey::from_rsa_pem(&pem[start.0..]).ok()?;
    jsonwebtoken::encode(&header, &claims(client, audience, now), &key).ok().map(Secret::new)
}
