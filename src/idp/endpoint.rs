//! The token endpoint of a provider: codes are redeemed there and tokens refreshed. A provider that says "too many requests"
//! (429) is left alone by everybody for as long as it asked. What was sent never shows in an error.

use std::sync::Arc;
use std::time::{Duration, Instant};

use arc_swap::ArcSwapOption;
use http::StatusCode;
use serde::Deserialize;
use time::OffsetDateTime;
use url::Url;
use zeroize::Zeroizing;

use super::AccessToken;
use super::classify::{classify_hiding, names_error, shown};
use super::credential::Credential;
use super::error::{Class, IdpError};
use super::http::Http;
use super::pause::Pause;
use crate::clock;
use crate::protocol::oauth::{ACCESS_TOKEN, JWT};
use crate::secret::Secret;

/// Largest answer, bytes.
const MOST: usize = 256 << 10;
/// What was sent and is shorter is no secret, and could be a part of any sentence.
const SHORT: usize = 12;
/// The codes that say that this secret is wrong or has expired, so that another may be right.
const OTHER_SECRET: [&str; 2] = ["AADSTS7000215", "AADSTS7000222"];

/// What an exchange may give that is an access token (RFC 8693 section 3).
const ACCESS: [&str; 2] = [ACCESS_TOKEN, JWT];

/// What a token endpoint gives (RFC 6749 section 5.1, OpenID Connect Core 1.0 section 3.1.3.3).
#[derive(Deserialize)]
pub(super) struct Given {
    pub(super) access_token: Option<Secret>,
    pub(super) refresh_token: Option<Secret>,
    pub(super) id_token: Option<Secret>,
    expires_in: Option<Lifetime>,
    token_type: Option<String>,
    /// Of an exchange (RFC 8693 section 2.2.1).
    issued_token_type: Option<String>,
    pub(super) scope: Option<String>,
}

/// Some providers write the number as a text.
#[derive(Deserialize)]
#[serde(untagged)]
enum Lifetime {
    Number(u32),
    Text(String),
}

impl Given {
    /// The access token, which every answer must hold.
    pub(super) fn access(self, now: OffsetDateTime) -> Result<AccessToken, IdpError> {
        // What is shown otherwise than as a bearer token is of no use, and what is no access token must not be shown at all.
        let other = |said: &Option<String>, known: &[&str]| {
            said.as_ref()
                .filter(|said| !known.iter().any(|known| said.eq_ignore_ascii_case(known)))
                .map(|said| shown(said))
        };
        if let Some(kind) = other(&self.token_type, &["Bearer"]).or(other(&self.issued_token_type, &ACCESS)) {
            let text = format!("the token endpoint gave a token of the kind `{kind}`, which is no bearer access token");
            return Err(IdpError::configuration(text));
        }
        let expires_at = self.expires_at(now);
        let token = self.access_token.ok_or_else(|| IdpError::temporary("the token endpoint gave no access token"))?;
        Ok(AccessToken { token, expires_at })
    }

    /// Whether it says when the access token ends.
    pub(super) fn says_when(&self) -> bool {
        self.expires_in.is_some()
    }

    /// When the access token ends; an hour from now where the provider does not say.
    pub(super) fn expires_at(&self, now: OffsetDateTime) -> OffsetDateTime {
        let seconds = match &self.expires_in {
            Some(Lifetime::Number(seconds)) => Some(*seconds),
            Some(Lifetime::Text(text)) => text.parse().ok(),
            None => None,
        };
        now + Duration::from_secs(seconds.unwrap_or(3600).into())
    }
}

/// What of that which was sent must not show in an error.
pub(super) fn secrets<'a>(sent: impl Iterator<Item = &'a str>) -> Vec<&'a str> {
    sent.filter(|value| value.len() >= SHORT).collect()
}

/// Where tokens are, and how a client proves there who it is.
#[derive(Clone, Copy)]
pub(super) struct Place<'a> {
    pub(super) url: &'a Url,
    pub(super) secret_in_body: bool,
    /// For whom an assertion is.
    pub(super) audience: &'a str,
}

/// One client at one authority.
pub(super) struct TokenEndpoint {
    pub(super) client: String,
    pub(super) credential: Arc<Credential>,
    /// What cannot be done when the credential is refused.
    without: &'static str,
    pause: Pause,
    refused: ArcSwapOption<IdpError>,
}

impl TokenEndpoint {
    pub(super) fn new(client: String, credential: impl Into<Arc<Credential>>, without: &'static str) -> Self {
        Self {
            client,
            credential: credential.into(),
            without,
            pause: Pause::default(),
            refused: ArcSwapOption::empty(),
        }
    }

    /// Why the provider refuses the gateway's own credential, if it did the last time.
    pub(super) fn refused(&self) -> Option<Arc<IdpError>> {
        self.refused.load_full()
    }

    /// How long the provider is not asked still.
    pub(super) fn pause(&self, now: Instant) -> Option<Duration> {
        self.pause.left(now)
    }

    /// Asks for tokens with the fields of a grant.
    pub(super) async fn ask(
        &self,
        http: &Http,
        place: Place<'_>,
        grant: &[(&str, &str)],
        now: OffsetDateTime,
    ) -> Result<Given, IdpError> {
        if let Some(left) = self.pause(clock::instant()) {
            let text = "the identity provider asked to be left alone for a while (429)";
            return Err(IdpError::new(Class::Temporary { retry_after: Some(left) }, text));
        }
        let mut attempt = 0;
        loop {
            let outcome = self.try_once(http, place, grant, attempt, now).await;
            match &outcome {
                Ok(_) => self.credential.was_taken(attempt),
                Err(error) => {
                    let other = error.code.as_deref().is_some_and(|code| OTHER_SECRET.contains(&code));
                    if error.class == Class::OurCredential && other && attempt + 1 < self.credential.len() {
                        attempt += 1;
                        continue;
                    }
                }
            }
            self.note(outcome.as_ref().err());
            return outcome;
        }
    }

    async fn try_once(
        &self,
        http: &Http,
        place: Place<'_>,
        grant: &[(&str, &str)],
        attempt: usize,
        now: OffsetDateTime,
    ) -> Result<Given, IdpError> {
        let url = place.url;
        let proof = self.credential.prove(attempt, &self.client, place, now).await?;
        // Within braces: what writes the form cannot be carried from thread to thread while the answer is waited for.
        let form = {
            let mut form = url::form_urlencoded::Serializer::new(String::new());
            form.append_pair("client_id", &self.client).extend_pairs(grant);
            form.extend_pairs(proof.fields.iter().map(|(name, value)| (name, value.expose())));
            Zeroizing::new(form.finish())
        };
        let answer = http.form(url, &form, proof.header, MOST).await?;
        if answer.status == StatusCode::OK {
            // The error of the parser would quote what it read.
            let given: Given = serde_json::from_slice(&answer.body).map_err(|_| {
                IdpError::temporary("the answer of the identity provider's token endpoint cannot be read")
            })?;
            // Some say what went wrong in an answer that looks like a good one.
            if given.access_token.is_some() || !names_error(&answer.body) {
                return Ok(given);
            }
        }
        // What kind of grant it is is no secret, and a part of error codes.
        let sent = grant.iter().filter(|(name, _)| *name != "grant_type").map(|(_, value)| *value);
        let sent = sent.chain(proof.fields.iter().map(|(_, value)| value.expose()));
        let mut error = classify_hiding(&answer, &secrets(sent.chain(self.credential.texts())), now);
        if answer.status == StatusCode::TOO_MANY_REQUESTS {
            let retry_after = Some(self.pause.begin(clock::instant(), answer.retry_after(now)));
            error.class = Class::Temporary { retry_after };
        }
        Err(error)
    }

    /// Remembers whether our credential is taken, as far as the answer tells.
    fn note(&self, error: Option<&IdpError>) {
        match error {
            Some(error) if error.class == Class::OurCredential => {
                if self.refused().is_none_or(|before| before.code != error.code) {
                    tracing::error!(
                        code = error.code.as_deref(),
                        trace_id = error.trace_id.as_deref(),
                        error = error.detail,
                        "the identity provider refuses the gateway's credential: {} until it is mended",
                        self.without
                    );
                }
                self.refused.store(Some(Arc::new(error.clone())));
            }
            Some(error) if matches!(error.class, Class::Temporary { .. }) => {}
            _ => self.refused.store(None),
        }
    }
}
