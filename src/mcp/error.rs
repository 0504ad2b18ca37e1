//! Errors as MCP clients read them: a JSON-RPC error and the HTTP status around it.
//!
//! A request that is wrong gets 4xx. A fault behind the gateway gets 502, 503 or 504 under the modern era, and 200 under the
//! legacy era: clients of that time take any other status for the loss of the whole connection.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::response::Response;
use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderValue, RETRY_AFTER};
use http::{HeaderName, StatusCode};

use crate::fault::{Fault, Kind, Whose};
use crate::id::Slug;
use crate::json;
use crate::mcp::admit::RATE_LIMITED;
use crate::mcp::allow::REFUSED;
use crate::policy::RuleName;
use crate::protocol::era::{Era, spoken_json};
use crate::protocol::message::{self, NoMessage};
use crate::protocol::meta;

/// The JSON-RPC code of [`Kind::Full`].
pub const FULL: i32 = -31_009;

/// A refusal: what the client did, or what stands in the way.
#[derive(Debug, Clone)]
pub struct Refusal {
    /// HTTP status.
    pub status: StatusCode,
    /// JSON-RPC code.
    pub code: i32,
    /// One sentence: what is wrong and what to do.
    pub text: Cow<'static, str>,
    /// JSON for `data`.
    pub data: Option<String>,
    /// Seconds for `Retry-After`.
    pub retry_after: Option<Duration>,
    /// Whether `data` is a result that stands in the place of the error: the client is asked for something first.
    pub is_question: bool,
    /// Further headers.
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// What lies behind it, for the record: it says more than clients are told.
    pub fault: Option<Box<Fault>>,
    /// That access rules stand behind it, for the record likewise.
    pub denied: Option<Box<Denied>>,
}

/// What access rules refused.
#[derive(Debug, Clone)]
pub struct Denied {
    /// The rule that decided; none where no rule permits it.
    pub rule: Option<RuleName>,
    /// At which server.
    pub server: Slug,
    /// What there, if the registry knows it.
    pub name: Option<Arc<str>>,
}

impl Refusal {
    /// A refusal without data.
    pub fn new(status: StatusCode, code: i32, text: impl Into<Cow<'static, str>>) -> Self {
        Self {
            status,
            code,
            text: text.into(),
            data: None,
            retry_after: None,
            is_question: false,
            headers: Vec::new(),
            fault: None,
            denied: None,
        }
    }

    /// 400 with this code.
    pub fn bad(code: i32, text: impl Into<Cow<'static, str>>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, code, text)
    }

    /// The method does not exist here; 404 tells a modern client so (2026-07-28, "Protocol Version Header").
    pub fn no_method(era: Era, method: &str) -> Self {
        let status = if era == Era::Modern { StatusCode::NOT_FOUND } else { StatusCode::OK };
        let method: String = method.chars().take(100).collect();
        Self::new(status, meta::METHOD_NOT_FOUND, format!("Method not found: {method}"))
    }

    /// No such tool, prompt or resource, or none that this caller may know of.
    pub fn unknown(what: &str, name: &str) -> Self {
        let name: String = name.chars().take(200).collect();
        Self::new(StatusCode::OK, meta::INVALID_PARAMS, format!("Unknown {what}: {name}"))
    }

    /// The version is not spoken here.
    pub fn version(requested: &str) -> Self {
        let requested: String = requested.chars().take(40).collect();
        let mut refusal = Self::bad(meta::UNSUPPORTED_VERSION, format!("Unsupported protocol version: {requested}"));
        refusal.data = Some(format!("{{\"supported\":{},\"requested\":{}}}", spoken_json(), json::quote(&requested)));
        refusal
    }

    /// The session is not known; the client must begin anew (2025-11-25, "Session Management").
    pub fn no_session() -> Self {
        Self::new(
            StatusCode::NOT_FOUND,
            meta::INVALID_REQUEST,
            "Unknown session: it has ended, or was never opened here. Send `initialize` without a session id to begin anew.",
        )
    }

    /// The gateway holds as many of something as it may: 503 in either era.
    pub fn full(fault: &Fault) -> Self {
        Self::of(fault, "gateway", Era::Modern)
    }

    /// A fault on the way to the server and back, in words that tell nobody where the server is or what it wrote.
    pub fn of(fault: &Fault, server: &str, era: Era) -> Self {
        let (code, status) = match fault.kind {
            Kind::Unreachable => (-31_001, StatusCode::BAD_GATEWAY),
            Kind::Dropped => (-31_002, StatusCode::BAD_GATEWAY),
            Kind::Timeout => (-31_003, StatusCode::GATEWAY_TIMEOUT),
            Kind::Garbage => (-31_004, StatusCode::BAD_GATEWAY),
            Kind::TooLarge => (-31_005, StatusCode::BAD_GATEWAY),
            Kind::Status(429) => (-31_006, StatusCode::SERVICE_UNAVAILABLE),
            Kind::Status(_) => (-31_006, StatusCode::BAD_GATEWAY),
            Kind::Refused => (-31_007, StatusCode::BAD_GATEWAY),
            Kind::BreakerOpen => (-31_008, StatusCode::SERVICE_UNAVAILABLE),
            Kind::Full => (FULL, StatusCode::SERVICE_UNAVAILABLE),
            Kind::Cancelled => (-31_010, StatusCode::OK),
            Kind::Era => (-31_011, StatusCode::OK),
            Kind::Setup => (-31_012, StatusCode::BAD_GATEWAY),
            // Nothing on the way is broken where the caller is not let in.
            Kind::NoCredential if fault.whose == Whose::Client => (-31_015, StatusCode::OK),
            Kind::NoCredential => (-31_015, StatusCode::BAD_GATEWAY),
            Kind::SignIn => (-31_016, StatusCode::UNAUTHORIZED),
            Kind::Connect => (-31_017, StatusCode::OK),
        };
        let whose = fault.whose.label();
        let retry = fault.retry_after.map_or(String::new(), |wait| format!(",\"retryAfterMs\":{}", wait.as_millis()));
        Self {
            status: if era == Era::Modern { status } else { StatusCode::OK },
            code,
            text: format!("{server}: {}", fault.public()).into(),
            data: Some(format!(
                "{{\"server\":{},\"kind\":\"{}\",\"whose\":\"{whose}\"{retry}}}",
                json::quote(server),
                fault.kind.label()
            )),
            retry_after: fault.retry_after,
            is_question: false,
            headers: Vec::new(),
            fault: Some(Box::new(fault.clone())),
            denied: None,
        }
    }

    /// What the audit trail says: the sentence, where nothing stands in it that was sent; else what its code means.
    pub fn recorded(&self) -> &'static str {
        match (&self.text, self.code) {
            (Cow::Borrowed(text), _) => text,
            (_, meta::PARSE_ERROR) => "the message is no JSON that is taken",
            (_, meta::INVALID_REQUEST) => "the message is no request that is taken",
            (_, meta::METHOD_NOT_FOUND) => "there is no such method here",
            (_, meta::INVALID_PARAMS) => "the parameters do not fit, or name what is not there for the caller",
            (_, meta::RESOURCE_NOT_FOUND) => "there is no such resource for the caller",
            (_, meta::UNSUPPORTED_VERSION) => "the version of MCP is not spoken here",
            (_, meta::HEADER_MISMATCH) => "a header says something else than the message",
            (_, RATE_LIMITED) => "a limit is reached",
            (_, REFUSED) => "access rules refuse it with these arguments",
            _ => "the request is not taken",
        }
    }

    /// The JSON-RPC message, for a request with this id.
    pub fn message(&self, id: Option<&[u8]>) -> Bytes {
        match self.data.as_deref().filter(|_| self.is_question) {
            Some(result) => message::result(id.unwrap_or(b"null"), result.as_bytes()),
            None => message::error(id, self.code, &self.text, self.data.as_deref()),
        }
    }

    /// The HTTP answer, for a request with this id.
    pub fn respond(&self, id: Option<&[u8]>) -> Response {
        let mut response = json_response(self.status, self.message(id));
        if let Some(wait) = self.retry_after {
            let seconds = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
            response.headers_mut().insert(RETRY_AFTER, HeaderValue::from(seconds.max(1)));
        }
        response.headers_mut().extend(self.headers.iter().cloned());
        response
    }
}

impl From<NoMessage> for Refusal {
    fn from(error: NoMessage) -> Self {
        let intro = if error.code == meta::PARSE_ERROR { "Parse error" } else { "Invalid request" };
        Self::bad(error.code, format!("{intro}: {}", error.text))
    }
}

/// An answer that is one JSON text.
pub fn json_response(status: StatusCode, body: Bytes) -> Response {
    let mut response = Response::new(Body::from(body));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

/// An answer without a body.
pub fn empty_response(status: StatusCode) -> Response {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = status;
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_not_let_in_meets_no_bad_gateway() {
        let person = Fault::client(Kind::NoCredential, "not let in");
        let gateway = Fault::gateway(Kind::NoCredential, "its credential is refused");
        let told = |fault: &Fault| {
            let refusal = Refusal::of(fault, "files", Era::Modern);
            (refusal.code, refusal.status)
        };
        assert_eq!(told(&person), (-31_015, StatusCode::OK));
        assert_eq!(told(&gateway), (-31_015, StatusCode::BAD_GATEWAY));
    }
}
