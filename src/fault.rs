//! What went wrong on the way to an upstream and back: whose fault it is, what kind, and whether another try is safe.
//! Status, metric label and failover read these three fields and nothing else.

use std::borrow::Cow;
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

impl Whose {
    /// The word in metrics, records and errors.
    pub fn label(self) -> &'static str {
        match self {
            Self::Client => "client",
            Self::Gateway => "gateway",
            Self::Upstream => "upstream",
        }
    }
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
    /// There is nothing to show the server in the caller's name.
    NoCredential,
    /// The same, and the caller can change that by signing in again.
    SignIn,
    /// The same, and the caller can change that by connecting their account at the server.
    Connect,
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
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{detail}")]
pub struct Fault {
    /// Who has to act.
    pub whose: Whose,
    /// What happened.
    pub kind: Kind,
    /// Whether another replica may be tried.
    pub retry: Retry,
    /// One sentence for an administrator. It may quote addresses and what the server wrote: users get [`Fault::public`].
    pub detail: String,
    /// When it is worth coming back, if known.
    pub retry_after: Option<Duration>,
    /// What users get in place of the sentence of its kind: what to do, in words that tell no more than they may know.
    pub told: Option<Box<str>>,
}

impl Fault {
    /// A fault of the upstream.
    pub fn upstream(kind: Kind, retry: Retry, detail: impl Into<String>) -> Self {
        Self { whose: Whose::Upstream, kind, retry, detail: detail.into(), retry_after: None, told: None }
    }

    /// A fault of this gateway.
    pub fn gateway(kind: Kind, detail: impl Into<String>) -> Self {
        Self {
            whose: Whose::Gateway,
            kind,
            retry: Retry::NotSent,
            detail: detail.into(),
            retry_after: None,
            told: None,
        }
    }

    /// A fault of the caller.
    pub fn client(kind: Kind, detail: impl Into<String>) -> Self {
        Self { whose: Whose::Client, kind, retry: Retry::NotSent, detail: detail.into(), retry_after: None, told: None }
    }

    /// The same with this for users.
    #[must_use]
    pub fn telling(self, told: impl Into<Box<str>>) -> Self {
        Self { told: Some(told.into()), ..self }
    }

    /// One sentence for whoever calls: what kind of thing went wrong, without where the server is or what it wrote.
    pub fn public(&self) -> Cow<'_, str> {
        if let Some(told) = &self.told {
            return Cow::Borrowed(told);
        }
        match self.kind {
            Kind::Status(status @ 300..400) => {
                format!("the server redirects (HTTP {status}); an administrator must register its final URL").into()
            }
            Kind::Status(status) if status != 429 => format!("the server failed (HTTP {status})").into(),
            // Our own words about ourselves and the caller.
            Kind::Full | Kind::Cancelled | Kind::Era => self.detail.clone().into(),
            kind => Cow::Borrowed(kind.sentence()),
        }
    }

    /// Whether the call may be tried on another replica; `again` says that doing it twice does no harm.
    pub fn may_go_on(&self, again: bool) -> bool {
        // What the gateway has not, it has for none of them.
        !matches!(self.kind, Kind::NoCredential | Kind::SignIn | Kind::Connect)
            && (self.retry == Retry::NotSent || (again && self.counts_against_replica()))
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
    /// One sentence in which nothing stands that a server, a caller or a setting said.
    pub fn sentence(self) -> &'static str {
        match self {
            Self::Unreachable => "the server cannot be reached",
            Self::Dropped => "the server ended or broke off before its answer was whole",
            Self::Timeout => "the server did not answer in time",
            Self::Garbage => "the server's answer is no valid MCP message",
            Self::TooLarge => "the server's answer is larger than the gateway passes on",
            Self::Status(429) => "the server takes no more requests for now (HTTP 429)",
            Self::Status(300..400) => "the server redirects; an administrator must register its final URL",
            Self::Status(502..505) => "the server failed (HTTP 502 to 504)",
            Self::Status(_) => "the server failed",
            Self::Refused => "the server refuses the gateway's credential; an administrator must renew it",
            Self::BreakerOpen => "the server failed several times in a row and is left alone for a while",
            Self::Full => "the gateway holds as much of this as it may",
            Self::Cancelled => "it was taken back, or its client's time was over",
            Self::Era => "the two ends speak versions of MCP between which this cannot be carried",
            Self::Setup => "the server is not set up so that it can be called; an administrator must mend it",
            Self::NoCredential => "the gateway has nothing to show the server in your name; ask an administrator",
            Self::SignIn => "the server wants to see you sign in again",
            Self::Connect => "the server wants you to connect your account there",
        }
    }

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
            Self::NoCredential => "no_credential",
            Self::SignIn => "sign_in",
            Self::Connect => "connect",
        }
    }
}
