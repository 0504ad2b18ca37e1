//! What went wrong on the way to an upstream and back: whose fault it is, what kind, and whether another try is safe.
//! Status, metric label and failover read these three fields and nothing else.

use std::time::Duration;

/// Who has to act.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Whose {
    /// The caller sent something that cannot be served.
    Client,
    /// This gateway: a bug, a cap, a missing setting.
    Gateway,
    /// The server behind the gateway.
    Upstream,
}

/// What happened, as metric label and as JSON-RPC error (see `mcp/error.rs` for codes and texts).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// No connection could be made, or a child process did not start.
    Unreachable,
    /// The connection or child ended before the answer was whole.
    Dropped,
    /// No answer, or no further byte of one, within the server's timeout.
    Timeout,
    /// The answer is no valid MCP message: bad JSON, wrong id, wrong content type, an error page.
    Garbage,
    /// The answer is larger than the gateway passes on.
    TooLarge,
    /// An HTTP status that says the upstream failed (5xx) or throttles (429).
    Status(u16),
    /// The upstream refuses the gateway's credential (401, 403).
    Refused,
    /// The breaker of every replica is open.
    BreakerOpen,
    /// The gateway holds as many requests, sessions, streams or children for this as it may.
    Full,
    /// The client went away or cancelled.
    Cancelled,
    /// The two ends speak protocol eras between which this exchange cannot be carried.
    Era,
    /// A setting of the server makes the call impossible (bad URL, missing program).
    Setup,
}

/// Whether the same call may be tried elsewhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Retry {
    /// Not a byte of the request reached an upstream that could have acted on it.
    NotSent,
    /// It may have been acted on; only an idempotent call may be tried again.
    MaybeSent,
}

/// One failed attempt.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{}{}{detail}", place.as_deref().unwrap_or_default(), if place.is_some() { ": " } else { "" })]
pub struct Fault {
    /// Who has to act.
    pub whose: Whose,
    /// What happened.
    pub kind: Kind,
    /// Whether another replica may be tried.
    pub retry: Retry,
    /// One sentence for a person, whoever that is: without secrets and without addresses.
    pub detail: String,
    /// The address that it happened at: for administrators and the log, who read the whole as text.
    pub place: Option<Box<str>>,
    /// When it is worth coming back, if known.
    pub retry_after: Option<Duration>,
}

impl Fault {
    /// A fault of the upstream.
    pub fn upstream(kind: Kind, retry: Retry, detail: impl Into<String>) -> Self {
        Self { whose: Whose::Upstream, kind, retry, detail: detail.into(), place: None, retry_after: None }
    }

    /// A fault of this gateway.
    pub fn gateway(kind: Kind, detail: impl Into<String>) -> Self {
        Self {
            whose: Whose::Gateway,
            kind,
            retry: Retry::NotSent,
            detail: detail.into(),
            place: None,
            retry_after: None,
        }
    }

    /// A fault of the caller.
    pub fn client(kind: Kind, detail: impl Into<String>) -> Self {
        Self {
            whose: Whose::Client,
            kind,
            retry: Retry::NotSent,
            detail: detail.into(),
            place: None,
            retry_after: None,
        }
    }

    /// The same, with the address that it happened at.
    #[must_use]
    pub fn at(mut self, place: impl std::fmt::Display) -> Self {
        self.place = Some(place.to_string().into());
        self
    }

    /// Whether a circuit breaker counts this against the replica: failures of transport and 5xx do, a refusal of ours does not.
    pub fn counts_against_replica(&self) -> bool {
        self.whose == Whose::Upstream
            && match self.kind {
                Kind::Unreachable | Kind::Dropped | Kind::Timeout | Kind::Garbage | Kind::TooLarge => true,
                Kind::Status(status) => status >= 500,
                _ => false,
            }
    }
}

impl Kind {
    /// The label in metrics and logs, `snake_case` and stable.
    pub fn label(self) -> &'static str {
        match self {
            Self::Unreachable => "unreachable",
            Self::Dropped => "dropped",
            Self::Timeout => "timeout",
            Self::Garbage => "garbage",
            Self::TooLarge => "too_large",
            Self::Status(_) => "status",
            Self::Refused => "refused",
            Self::BreakerOpen => "breaker_open",
            Self::Full => "full",
            Self::Cancelled => "cancelled",
            Self::Era => "era",
            Self::Setup => "setup",
        }
    }
}
