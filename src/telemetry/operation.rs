//! The one record of a finished operation: who did what, where it went, how it ended, how large and how long. It is made
//! when a request is admitted, filled in on the way, and recorded once. It holds no argument and no result.

use std::borrow::Cow;
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use http::{HeaderMap, HeaderValue};

use crate::fault::{Fault, Whose};
use crate::id::{Slug, TenantId};
use crate::protocol::meta::REQUESTS;
use crate::telemetry::{Actor, Span};

/// Most bytes that are kept of a method that the protocol does not know.
const LONGEST_METHOD: usize = 128;

/// How an operation ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// As asked.
    Success,
    /// The tool answered that it failed (`isError`): the exchange itself is sound.
    ToolError,
    /// Something broke.
    Error {
        /// Who has to act.
        whose: Whose,
        /// A stable word in snake case, a label of metrics: [`crate::fault::Kind::label`] or one of the same form.
        kind: &'static str,
    },
    /// Refused by a rule; the word says which.
    Denied(&'static str),
    /// Refused by a limit.
    RateLimited,
}

impl Outcome {
    /// Of what was under way when its client went away.
    pub const GONE: Self = Self::Error { whose: Whose::Client, kind: "cancelled" };

    /// Of what is dropped while it is under way: its client went away, or the gateway panicked.
    pub fn of_dropped() -> Self {
        if std::thread::panicking() { Self::Error { whose: Whose::Gateway, kind: "internal" } } else { Self::GONE }
    }

    /// The label in metrics and logs.
    pub fn label(self) -> &'static str {
        match self {
            Self::Success => "success",
            Self::ToolError => "tool_error",
            Self::Error { .. } => "error",
            Self::Denied(_) => "denied",
            Self::RateLimited => "rate_limited",
        }
    }
}

impl From<&Fault> for Outcome {
    fn from(fault: &Fault) -> Self {
        Self::Error { whose: fault.whose, kind: fault.kind.label() }
    }
}

/// Bytes of the body in each direction, as the client sees them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Sizes {
    /// From the client.
    pub request: u64,
    /// To the client.
    pub response: u64,
}

/// How long it took.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Times {
    /// From the head of the request to the last byte of the answer.
    pub total: Duration,
    /// Of that, waiting on the upstream.
    pub upstream: Duration,
}

/// A session as logs may show it: enough to find its lines, not enough to use it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct SessionTag(u32);

impl SessionTag {
    /// The tag of a session id: the first four bytes of its SHA-256.
    pub fn of(session: &str) -> Self {
        use sha2::Digest as _;
        let digest = sha2::Sha256::digest(session.as_bytes());
        Self(u32::from_be_bytes([digest[0], digest[1], digest[2], digest[3]]))
    }
}

impl fmt::Display for SessionTag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:08x}", self.0)
    }
}

/// What names one request in logs, errors and the answer's `X-Request-Id`. Cheap to clone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequestId(HeaderValue);

impl RequestId {
    /// Longest id that is taken over from a client, in bytes.
    pub const LONGEST: usize = 64;

    /// The client's own id when it is 1 to 64 letters, digits, `-`, `_`, `.` or `:`; else a new one.
    pub fn of(headers: &HeaderMap) -> Self {
        match headers.get("x-request-id") {
            Some(given) if Self::is_sane(given.as_bytes()) => Self(given.clone()),
            _ => Self::new(),
        }
    }

    fn is_sane(id: &[u8]) -> bool {
        (1..=Self::LONGEST).contains(&id.len())
            && id.iter().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.' | b':'))
    }

    /// A new id: 32 hex digits that sort by time (UUID version 7, RFC 9562).
    pub fn new() -> Self {
        let mut text = [0; uuid::fmt::Simple::LENGTH];
        // Not `now_v7`: it asks the kernel for random bytes under a lock that all threads share.
        let millis = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default().as_millis();
        let millis = u64::try_from(millis).unwrap_or_default();
        let id = uuid::Builder::from_unix_timestamp_millis(millis, &rand::random()).into_uuid();
        let text = id.simple().encode_lower(&mut text);
        Self(HeaderValue::from_str(text).unwrap_or_else(|_| HeaderValue::from_static("unknown")))
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        self.0.to_str().unwrap_or_default()
    }

    /// The value of the answer's `X-Request-Id`.
    pub fn to_header(&self) -> HeaderValue {
        self.0.clone()
    }
}

impl Default for RequestId {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// One operation. Fields are filled in as they become known.
#[derive(Debug, Clone)]
pub struct Operation {
    /// When it began; not logged.
    pub started: Instant,
    /// Names the request.
    pub request_id: RequestId,
    /// The trace it belongs to (`traceparent`), if any.
    pub trace_id: Option<u128>,
    /// Its place in the trace, if traces are exported.
    pub span: Option<Box<Span>>,
    /// Who; unknown of a request that was not let in.
    pub who: Option<Arc<Actor>>,
    /// The chain of the trail that it belongs to, where that is not the one of the tenant of who did it.
    pub chain: Option<Arc<str>>,
    /// Where from.
    pub address: Option<IpAddr>,
    /// In which session.
    pub session: Option<SessionTag>,
    /// Through which door: `/mcp`, `/mcp/{server}`, `/sse`, or a route of the REST API.
    pub endpoint: Cow<'static, str>,
    /// The MCP method, as the client named it; of the REST API, verb and route.
    pub method: Cow<'static, str>,
    /// Whether the method is verb and route of this gateway's own router, and no word of the client's.
    pub routed: bool,
    /// The server it went to.
    pub server: Option<Slug>,
    /// The replica that answered: its place in the server's list, from 0.
    pub replica: Option<u16>,
    /// How many replicas were tried.
    pub attempts: u16,
    /// The tool, prompt or resource, as the registry knows it; of the REST API, the path. A tool's name that was not found is
    /// not put here: it would be a metric label of the caller's making.
    pub name: Option<Arc<str>>,
    /// Whether its tenant has each of its tools measured apart.
    pub tool_apart: bool,
    /// SHA-256 of the arguments of a tool, as they were sent.
    pub arguments: Option<[u8; 32]>,
    /// The arguments without what looks like a secret, JSON, where the tenant wants them in its records.
    pub shown: Option<Box<str>>,
    /// The access rule that denied it, if one did.
    pub rule: Option<Arc<str>>,
    /// How it ended.
    pub outcome: Outcome,
    /// One sentence about the outcome, for the log of who runs the gateway: it may quote what a server or a caller wrote.
    pub detail: Option<Box<str>>,
    /// The same for the trail, which others read: words of the gateway's own, of a type that can quote nobody.
    pub told: Option<&'static str>,
    /// How large.
    pub sizes: Sizes,
    /// How long.
    pub times: Times,
    /// Protocol version spoken with the client.
    pub client_version: Option<&'static str>,
    /// Protocol version spoken with the upstream.
    pub upstream_version: Option<&'static str>,
}

impl Operation {
    /// One that begins now. Until somebody says otherwise it was cancelled: what is dropped half-way did not succeed.
    pub fn start(request_id: RequestId, endpoint: impl Into<Cow<'static, str>>) -> Self {
        Self {
            started: Instant::now(),
            request_id,
            trace_id: None,
            span: None,
            who: None,
            chain: None,
            address: None,
            session: None,
            endpoint: endpoint.into(),
            method: Cow::Borrowed(""),
            routed: false,
            server: None,
            replica: None,
            attempts: 0,
            name: None,
            tool_apart: false,
            arguments: None,
            shown: None,
            rule: None,
            outcome: Outcome::GONE,
            detail: None,
            told: None,
            sizes: Sizes::default(),
            times: Times::default(),
            client_version: None,
            upstream_version: None,
        }
    }

    /// Whose tenant; unknown of a request that was not let in.
    pub fn tenant(&self) -> Option<&TenantId> {
        self.who.as_deref().map(|who| &who.tenant)
    }

    /// Sets the method, without a copy where the protocol knows it. Of one that it does not know, the beginning.
    pub fn set_method(&mut self, method: &str) {
        let beginning = || method[..method.floor_char_boundary(LONGEST_METHOD)].to_owned();
        self.method = known(method).map_or_else(|| Cow::Owned(beginning()), Cow::Borrowed);
    }

    /// Sets the outcome and the total time.
    pub fn finish(&mut self, outcome: Outcome) {
        self.outcome = outcome;
        self.times.total = self.started.elapsed();
    }

    /// Sets outcome, what is said of it, and total time from a fault.
    pub fn fail(&mut self, fault: &Fault) {
        self.detail = Some(fault.to_string().into());
        self.told = Some(fault.kind.sentence());
        self.finish(Outcome::from(fault));
    }

    /// The method as metric label: `other` when the protocol knows no such method, because clients choose it.
    pub fn method_label(&self) -> &str {
        if self.routed {
            return &self.method;
        }
        known(&self.method).unwrap_or("other")
    }

    /// Whether somebody changed, or was to change, what the gateway keeps: who did so is worth a line in any log.
    pub fn changes(&self) -> bool {
        let changing = ["POST ", "PUT ", "PATCH ", "DELETE "];
        self.routed && self.who.is_some() && changing.iter().any(|verb| self.method.starts_with(verb))
    }
}

/// What else is recorded: notifications, and requests that bring no message.
const OTHERS: [&str; 8] = [
    "notifications/initialized",
    "notifications/cancelled",
    "notifications/progress",
    "notifications/message",
    "notifications/roots/list_changed",
    "GET",
    "DELETE",
    "POST",
];

/// The method as it is written here; `None` if no version of the protocol knows it.
fn known(method: &str) -> Option<&'static str> {
    REQUESTS.iter().chain(&OTHERS).find(|known| **known == method).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sane_request_id_is_kept_and_any_other_replaced() {
        let with = |id: &str| {
            let mut headers = HeaderMap::new();
            headers.insert("x-request-id", HeaderValue::from_bytes(id.as_bytes()).unwrap());
            RequestId::of(&headers)
        };
        assert_eq!(with("req-7.a:b_C").as_str(), "req-7.a:b_C");
        for odd in ["", "a b", "\"x\"", "é", &"x".repeat(65)] {
            let made = with(odd);
            assert!(made.as_str().len() == 32 && made.as_str() != odd, "{made}");
        }
        assert_ne!(RequestId::of(&HeaderMap::new()), RequestId::of(&HeaderMap::new()));
    }

    #[test]
    fn of_a_method_that_nobody_knows_the_beginning_is_kept() {
        let mut operation = Operation::start(RequestId::new(), "/mcp");
        operation.set_method(&"é".repeat(1_000_000));
        assert_eq!(operation.method, "é".repeat(LONGEST_METHOD / 2));
        operation.set_method("tools/call");
        assert_eq!(operation.method, "tools/call");
    }

    #[test]
    fn a_session_tag_does_not_hold_the_session() {
        let tag = SessionTag::of("secret-session").to_string();
        assert_eq!(tag.len(), 8);
        assert_ne!(tag, SessionTag::of("secret-sessioN").to_string());
    }
}
