//! Answers of the endpoints that clients' programs call: tokens, and errors as RFC 6749 section 5.2 writes them. Nothing of it is
//! kept by anybody on the way.

use std::time::Duration;

use axum::response::{IntoResponse, Json, Response};
use http::header::{CACHE_CONTROL, PRAGMA, RETRY_AFTER, WWW_AUTHENTICATE};
use http::{HeaderName, HeaderValue, StatusCode};
use serde::Serialize;
use time::OffsetDateTime;

use crate::app::App;
use crate::grants::rate::Exceeded;
use crate::grants::{OauthCode, Refusal, ScopeSet, Tokens};
use crate::secret::Secret;

/// Of every answer that holds a secret, or could have.
pub(super) const UNKEPT: [(HeaderName, HeaderValue); 2] =
    [(CACHE_CONTROL, HeaderValue::from_static("no-store")), (PRAGMA, HeaderValue::from_static("no-cache"))];
const BASIC: HeaderValue = HeaderValue::from_static("Basic realm=\"mcp-gateway\", charset=\"UTF-8\"");

/// The reason for who shows what was never given to it, and is not known otherwise.
pub(super) const STRANGER: &str = "unknown_client";

/// The reason for who has to wait.
pub(super) const THROTTLED: &str = "throttled";

/// Tokens as a client gets them (RFC 6749 section 5.1).
#[derive(Serialize)]
struct Given {
    access_token: Secret,
    token_type: &'static str,
    expires_in: i64,
    #[serde(skip_serializing_if = "Option::is_none")]
    refresh_token: Option<Secret>,
    scope: ScopeSet,
    #[serde(skip_serializing_if = "Option::is_none")]
    issued_token_type: Option<&'static str>,
}

/// The answer that gives tokens; to who exchanged one it says what kind was given (RFC 8693 section 2.2.1).
pub(super) fn tokens(tokens: Tokens, issued: Option<&'static str>, now: OffsetDateTime) -> Response {
    let given = Given {
        access_token: tokens.access,
        token_type: if tokens.key.is_some() { "DPoP" } else { "Bearer" },
        expires_in: (tokens.expires_at - now).whole_seconds().max(0),
        refresh_token: tokens.refresh,
        scope: tokens.scopes,
        issued_token_type: issued,
    };
    (UNKEPT, Json(given)).into_response()
}

/// Why a client got nothing.
#[derive(Debug)]
pub(super) struct Denied {
    status: StatusCode,
    /// Whether the client is told how to prove who it is (RFC 9110 section 11.6.1).
    basic: bool,
    /// Whether it is for what the client names and others do not give us.
    others: bool,
    refusal: Refusal,
}

impl From<Refusal> for Denied {
    fn from(refusal: Refusal) -> Self {
        let status = match refusal.code {
            OauthCode::InvalidClient => StatusCode::UNAUTHORIZED,
            OauthCode::TemporarilyUnavailable => StatusCode::SERVICE_UNAVAILABLE,
            OauthCode::ServerError => StatusCode::INTERNAL_SERVER_ERROR,
            _ => StatusCode::BAD_REQUEST,
        };
        Self { status, basic: false, others: false, refusal }
    }
}

impl From<Exceeded> for Denied {
    fn from(exceeded: Exceeded) -> Self {
        Self::throttled(exceeded, "too much that was wrong has come from this address; wait before the next request")
    }
}

impl Denied {
    /// For who has to wait; `text` says what there was too much of.
    pub(super) fn throttled(exceeded: Exceeded, text: &'static str) -> Self {
        let refusal = Refusal::new(OauthCode::TemporarilyUnavailable, THROTTLED, text);
        let refusal = Refusal { retry_after: Some(exceeded.retry_after), ..refusal };
        Self { status: StatusCode::TOO_MANY_REQUESTS, basic: false, others: false, refusal }
    }

    /// Whether what was shown is not good, or not the client's: somebody guesses, or does not notice that it is over. Or makes us
    /// ask where there is nothing to be had.
    pub(super) fn is_wrong(&self) -> bool {
        self.others || matches!(self.refusal.code, OauthCode::InvalidClient | OauthCode::InvalidGrant)
    }

    /// Whether the client was never given what it shows.
    pub(super) fn is_of_stranger(&self) -> bool {
        self.refusal.reason == STRANGER
    }

    /// The same with another status.
    pub(super) fn with_status(self, status: StatusCode) -> Self {
        Self { status, ..self }
    }

    /// The same with a challenge: the client used the `Authorization` header.
    pub(super) fn with_basic(self, basic: bool) -> Self {
        Self { basic, ..self }
    }

    /// The same, for what the client names and others do not give us: no fault of ours.
    pub(super) fn of_others(self) -> Self {
        Self { others: true, ..self }
    }

    /// What was refused.
    pub(super) fn refusal(&self) -> &Refusal {
        &self.refusal
    }

    /// The label in metrics and logs.
    pub(super) fn reason(&self) -> &'static str {
        self.refusal.reason
    }

    /// Takes over what ended because of it, and logs what is our own fault.
    pub(super) fn note(&self, app: &App) {
        if let Some(ended) = &self.refusal.ended {
            app.told_of(std::slice::from_ref(&**ended));
        }
        let Refusal { reason, detail, .. } = &self.refusal;
        if self.status.is_server_error() && !self.others {
            tracing::error!(reason, detail, "tokens were not given");
        } else {
            tracing::debug!(reason, detail, "tokens were not given");
        }
    }
}

impl IntoResponse for Denied {
    fn into_response(self) -> Response {
        let Refusal { code, text, retry_after, .. } = self.refusal;
        let mut response = error(self.status, code.as_str(), text);
        if self.basic {
            response.headers_mut().insert(WWW_AUTHENTICATE, BASIC);
        }
        let unavailable = self.status == StatusCode::SERVICE_UNAVAILABLE;
        if let Some(wait) = retry_after.or(unavailable.then_some(Duration::from_secs(1))) {
            response.headers_mut().insert(RETRY_AFTER, after(wait));
        }
        response
    }
}

/// An error as a client's program reads it.
pub(super) fn error(status: StatusCode, code: &str, text: &str) -> Response {
    // The grammar of a description has neither quotes nor anything beyond ASCII (RFC 6749 section 5.2).
    let plain = |c: char| match c {
        '"' | '\\' | '`' => '\'',
        ' '..='~' => c,
        _ => '?',
    };
    let text: String = text.chars().map(plain).collect();
    (status, UNKEPT, Json(serde_json::json!({ "error": code, "error_description": text }))).into_response()
}

/// The value of `Retry-After`: whole seconds, 1 to 3,600.
pub(super) fn after(wait: Duration) -> HeaderValue {
    HeaderValue::from(wait.as_millis().div_ceil(1_000).clamp(1, 3_600) as u32)
}
