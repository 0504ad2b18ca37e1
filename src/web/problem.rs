//! Errors of the REST surfaces as `application/problem+json` (RFC 9457). An engine's error becomes a problem here, once;
//! a cause that is ours is logged under the request's id and not told.

use std::borrow::Cow;

use axum::response::{IntoResponse, Response};
use http::header::{CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use http::{HeaderName, HeaderValue, StatusCode};
use schemars::JsonSchema;
use serde::Serialize;

use crate::access::{AccessError, AuthError, Opening};
use crate::app::App;
use crate::field::FieldError;
use crate::grants::{OauthCode, Refusal, Scope};
use crate::limit::{Limit, Refused};
use crate::registry::servers::ServersError;
use crate::store::StoreError;
use crate::telemetry::RequestId;
use crate::web::challenge::{challenge, insufficient_scope};
use crate::web::throttled;

/// The code for what was changed by somebody else meanwhile.
pub const CHANGED: &str = "CONFLICT";

/// An error as a client of the REST API sees it.
#[derive(Debug, Clone)]
pub struct Problem(Box<Inner>);

#[derive(Debug, Clone)]
struct Inner {
    status: StatusCode,
    code: &'static str,
    detail: Cow<'static, str>,
    errors: Vec<FieldError>,
    headers: Vec<(HeaderName, HeaderValue)>,
    /// Another's own code, where that is why.
    error_code: Option<String>,
    /// The scope that would do, where only that is missing.
    lacks: Option<&'static str>,
    unknown_caller: Option<&'static str>,
    /// For the log only.
    cause: Option<String>,
}

/// A problem (RFC 9457).
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "Problem")]
pub(super) struct Document<'a> {
    /// Names the kind of problem; `code` in a URN.
    r#type: String,
    /// Of the status.
    title: &'a str,
    status: u16,
    /// What was wrong and what to do, in a sentence.
    detail: &'a str,
    /// Stable, in capitals.
    code: &'a str,
    /// Under which the gateway's log has more.
    #[serde(skip_serializing_if = "Option::is_none")]
    request_id: Option<&'a str>,
    /// Each field that does not fit.
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    errors: &'a [FieldError],
    /// The code of somebody else who is why, such as an identity provider's.
    #[serde(skip_serializing_if = "Option::is_none")]
    error_code: Option<&'a str>,
}

impl From<Refused> for Problem {
    fn from(refused: Refused) -> Self {
        let (rpm, seconds) = (refused.rpm, refused.seconds());
        let text =
            format!("your account has made as many requests as it may, {rpm} a minute; try again in {seconds} s");
        Self::throttled(text, refused.limit, rpm, seconds)
    }
}

impl Problem {
    /// A problem with a stable code in capitals and a sentence that says what to do.
    pub fn new(status: StatusCode, code: &'static str, detail: impl Into<Cow<'static, str>>) -> Self {
        let detail = detail.into();
        Self(Box::new(Inner {
            status,
            code,
            detail,
            errors: Vec::new(),
            headers: Vec::new(),
            error_code: None,
            lacks: None,
            unknown_caller: None,
            cause: None,
        }))
    }

    /// 429 for a limit which lets so many a minute through.
    fn throttled(detail: String, limit: Limit, rpm: u64, seconds: u64) -> Self {
        let mut problem = Self::new(StatusCode::TOO_MANY_REQUESTS, "RATE_LIMITED", detail);
        problem.0.headers = throttled::fields(limit, rpm, seconds).collect();
        problem.with_header(RETRY_AFTER, seconds.into())
    }

    /// 422 with every bad field.
    pub fn fields(errors: Vec<FieldError>) -> Self {
        let detail = match errors.as_slice() {
            [one] => format!("{}: {}", one.field, one.message),
            many => format!("{} fields are not valid", many.len()),
        };
        let mut problem = Self::new(StatusCode::UNPROCESSABLE_ENTITY, "INVALID_FIELDS", detail);
        problem.0.errors = errors;
        problem
    }

    /// 422 with one bad field.
    pub fn field(field: impl Into<String>, message: impl Into<String>) -> Self {
        Self::fields(vec![FieldError::new(field, message)])
    }

    /// 412 for what `If-Match` names and is not there any more.
    pub fn changed(detail: impl Into<Cow<'static, str>>) -> Self {
        Self::new(StatusCode::PRECONDITION_FAILED, "PRECONDITION_FAILED", detail)
    }

    /// 404 for what is not there, or not for this caller.
    pub fn missing(what: &str) -> Self {
        Self::new(StatusCode::NOT_FOUND, "NOT_FOUND", format!("there is no such {what}"))
    }

    /// 500; the cause goes to the log.
    pub fn internal(cause: impl std::fmt::Display) -> Self {
        let detail = "the gateway failed; its log says more under the request id";
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "INTERNAL", detail).because(cause)
    }

    /// The same with a cause, for the log only.
    fn because(mut self, cause: impl std::fmt::Display) -> Self {
        self.0.cause = Some(cause.to_string());
        self
    }

    /// The same with the code of somebody else who is why, such as an identity provider's.
    #[must_use]
    pub fn with_error_code(mut self, code: String) -> Self {
        self.0.error_code = Some(code);
        self
    }

    /// The same with a header.
    #[must_use]
    pub fn with_header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.0.headers.push((name, value));
        self
    }

    /// The status of the answer.
    pub fn status(&self) -> StatusCode {
        self.0.status
    }

    /// The sentence.
    pub fn detail(&self) -> &str {
        &self.0.detail
    }

    /// What the audit trail says: the sentence, where nothing stands in it that was sent; else the code.
    pub fn recorded(&self) -> &'static str {
        match self.0.detail {
            Cow::Borrowed(detail) => detail,
            Cow::Owned(_) => self.0.code,
        }
    }

    /// The scope that would do, where only that is missing: whoever knows the resource adds the challenge (RFC 6750 section
    /// 3.1).
    pub fn lacks(&self) -> Option<&'static str> {
        self.0.lacks
    }

    /// Why it is not known who calls, in the word of metrics, where that is the problem.
    pub fn unknown_caller(&self) -> Option<&'static str> {
        self.0.unknown_caller
    }

    /// The stable code.
    pub fn code(&self) -> &'static str {
        self.0.code
    }

    fn document(&self, request_id: Option<&str>) -> Vec<u8> {
        let document = Document {
            r#type: format!("urn:mcp-gateway:problem:{}", self.0.code.to_ascii_lowercase().replace('_', "-")),
            title: self.0.status.canonical_reason().unwrap_or("Error"),
            status: self.0.status.as_u16(),
            detail: &self.0.detail,
            code: self.0.code,
            request_id,
            errors: &self.0.errors,
            error_code: self.0.error_code.as_deref(),
        };
        serde_json::to_vec(&document).unwrap_or_default()
    }

    /// The answer, with what went wrong here in the log, under the request's id.
    pub fn respond(&self, request_id: &RequestId) -> Response {
        if let Some(cause) = &self.0.cause {
            tracing::error!(request_id = request_id.as_str(), code = self.0.code, cause, "a request failed");
        }
        self.answer(Some(request_id.as_str()))
    }

    fn answer(&self, request_id: Option<&str>) -> Response {
        let mut response = (self.0.status, self.document(request_id)).into_response();
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        headers.extend(self.0.headers.iter().cloned());
        response
    }
}

impl IntoResponse for Problem {
    /// Without the request's id, which only the layer around the surface knows: it answers with what lies in the extension.
    fn into_response(self) -> Response {
        let mut response = self.answer(None);
        response.extensions_mut().insert(self);
        response
    }
}

/// 404 for a path that is none of ours.
pub async fn no_such_path() -> Problem {
    Problem::new(StatusCode::NOT_FOUND, "NO_SUCH_PATH", "there is nothing at this path; MCP is spoken at /mcp")
}

/// 405; the `Allow` header names what the path takes.
pub async fn no_such_method() -> Problem {
    let detail = "the path does not take this method; the Allow header names those it takes";
    Problem::new(StatusCode::METHOD_NOT_ALLOWED, "METHOD_NOT_ALLOWED", detail)
}

/// 403 for somebody who was let in but may not do this. Only who lacks the scope is told of one: no other credential makes up
/// for a role.
fn forbidden(detail: String, lacks: Option<&'static str>) -> Problem {
    let mut problem = Problem::new(StatusCode::FORBIDDEN, "FORBIDDEN", detail);
    problem.0.lacks = lacks;
    problem
}

/// The scope that managing takes.
const MANAGING: Option<&str> = Some(Scope::Admin.as_str());

fn after_seconds(wait: std::time::Duration) -> (HeaderName, HeaderValue) {
    (RETRY_AFTER, HeaderValue::from(wait.as_millis().div_ceil(1_000).clamp(1, 3_600) as u32))
}

impl Problem {
    /// 401 for a request to this resource, with the way to sign in.
    pub fn unauthenticated(app: &App, what: Opening<'_>, error: AuthError) -> Self {
        let code = match error {
            AuthError::Missing => "UNAUTHENTICATED",
            AuthError::TooManyBare { rpm, seconds } => {
                return Self::throttled(error.to_string(), Limit::Ip, rpm.into(), seconds.into());
            }
            AuthError::Expired => "KEY_EXPIRED",
            AuthError::Revoked => "KEY_REVOKED",
            AuthError::Disabled => "ACCOUNT_DISABLED",
            AuthError::Suspended => "TENANT_SUSPENDED",
            AuthError::Malformed | AuthError::Unknown => "INVALID_KEY",
            AuthError::EndedToken | AuthError::WrongKind | AuthError::Foreign | AuthError::OfPerson => "INVALID_TOKEN",
            AuthError::ComeBack => "SIGN_IN_AGAIN",
            AuthError::WrongResource => "WRONG_RESOURCE",
            AuthError::Bound | AuthError::NotBound | AuthError::Proof(_) => "INVALID_PROOF",
            AuthError::Gone | AuthError::NotLetIn => "NOT_LET_IN",
            AuthError::LacksScope { bound } => {
                let value = insufficient_scope(app, what, what.scope(), bound);
                return Self::new(StatusCode::FORBIDDEN, "INSUFFICIENT_SCOPE", error.to_string())
                    .with_header(WWW_AUTHENTICATE, value);
            }
            AuthError::ProviderAway => {
                return Self::new(StatusCode::SERVICE_UNAVAILABLE, "IDENTITY_PROVIDER_UNAVAILABLE", error.to_string())
                    .with_header(RETRY_AFTER, HeaderValue::from_static("10"));
            }
            AuthError::Unavailable => {
                return Self::new(StatusCode::SERVICE_UNAVAILABLE, "DATABASE_UNAVAILABLE", error.to_string())
                    .with_header(RETRY_AFTER, HeaderValue::from_static("2"));
            }
        };
        let value = challenge(app, what, what, error);
        let mut problem =
            Self::new(StatusCode::UNAUTHORIZED, code, error.to_string()).with_header(WWW_AUTHENTICATE, value);
        problem.0.unknown_caller = Some(error.reason());
        problem
    }
}

impl From<StoreError> for Problem {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Missing => Self::missing("thing"),
            StoreError::Taken => Self::new(StatusCode::CONFLICT, "TAKEN", "the name is taken"),
            StoreError::Stale => Self::new(StatusCode::CONFLICT, CHANGED, "it was changed meanwhile; read it again"),
            StoreError::DirectoryHeld { .. } => {
                Self::new(StatusCode::CONFLICT, "DIRECTORY_TAKEN", format!("{error}; take it away from there first"))
            }
            StoreError::LastAdmin => Self::new(
                StatusCode::CONFLICT,
                "LAST_ADMIN",
                "this is the last active administrator; make another one first",
            ),
            StoreError::Database(cause) => {
                let detail = "the database does not answer; try again in a moment";
                Self::new(StatusCode::SERVICE_UNAVAILABLE, "DATABASE_UNAVAILABLE", detail)
                    .because(cause)
                    .with_header(RETRY_AFTER, HeaderValue::from_static("2"))
            }
            other => Self::internal(other),
        }
    }
}

impl From<AccessError> for Problem {
    fn from(error: AccessError) -> Self {
        let detail = error.to_string();
        match error {
            AccessError::Forbidden(_) => forbidden(detail, None),
            AccessError::Scope(_) => forbidden(detail, MANAGING),
            AccessError::Invalid(errors) => Self::fields(errors),
            AccessError::WrongPassword => Self::new(StatusCode::UNAUTHORIZED, "WRONG_PASSWORD", detail)
                .with_header(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer realm=\"mcp-gateway\"")),
            AccessError::TooManyAttempts { retry_after } | AccessError::TooManyFromHere { retry_after } => {
                let (name, value) = after_seconds(retry_after);
                Self::new(StatusCode::TOO_MANY_REQUESTS, "TOO_MANY_ATTEMPTS", detail).with_header(name, value)
            }
            AccessError::Busy => Self::new(StatusCode::SERVICE_UNAVAILABLE, "BUSY", detail)
                .with_header(RETRY_AFTER, HeaderValue::from_static("1")),
            AccessError::Hashing(cause) => Self::internal(cause),
            AccessError::Store(error) => error.into(),
        }
    }
}

impl From<Refusal> for Problem {
    /// For our own pages and API; at the token endpoint a refusal keeps its OAuth form.
    fn from(refusal: Refusal) -> Self {
        let status = match refusal.code {
            OauthCode::ServerError => return Self::internal(refusal.detail),
            OauthCode::TemporarilyUnavailable => StatusCode::SERVICE_UNAVAILABLE,
            _ => StatusCode::BAD_REQUEST,
        };
        let problem = Self::new(status, "REFUSED", refusal.text).because(refusal.detail);
        match refusal.retry_after.map(after_seconds) {
            Some((name, value)) => problem.with_header(name, value),
            None => problem,
        }
    }
}

impl From<ServersError> for Problem {
    fn from(error: ServersError) -> Self {
        let detail = error.to_string();
        match error {
            ServersError::Forbidden(_) => forbidden(detail, None),
            ServersError::Scope(_) => forbidden(detail, MANAGING),
            ServersError::Invalid(errors) => Self::fields(errors),
            ServersError::Refused(errors) => {
                let mut problem = Self::new(StatusCode::FORBIDDEN, "FORBIDDEN", detail);
                problem.0.errors = errors;
                problem
            }
            ServersError::Taken(_) => Self::new(StatusCode::CONFLICT, "SLUG_TAKEN", detail),
            ServersError::Missing => Self::missing("server"),
            ServersError::Stale => Self::new(StatusCode::CONFLICT, CHANGED, detail),
            ServersError::Vault(cause) => Self::internal(cause),
            ServersError::Store(error) => error.into(),
        }
    }
}
