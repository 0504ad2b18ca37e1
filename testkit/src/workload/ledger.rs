//! What was done and how it came out, as those saw it who did it.

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

/// Through which door something was asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Door {
    /// MCP.
    Mcp,
    /// The REST API.
    Rest,
    /// Signing in: programs and pages.
    Oauth,
}

/// Who did it, by which credential.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Who {
    /// Whose tenant.
    pub tenant: String,
    /// The id of the account.
    pub user: String,
    /// What it is called.
    pub name: String,
    /// The role of the credential.
    pub role: String,
    /// How it was come by: `api_key`, `password`, `oauth`.
    pub kind: &'static str,
    /// The id of the key or of the session.
    pub credential: String,
}

/// How something came out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum End {
    /// As asked.
    Success,
    /// The tool said that it failed.
    ToolError,
    /// Something broke.
    Error {
        /// What.
        kind: &'static str,
        /// Whose affair that is.
        whose: &'static str,
    },
    /// Refused by a rule, or not let in; the word says by which or why.
    Denied(String),
    /// Refused by a limit.
    RateLimited,
}

impl End {
    /// An error that is the client's own.
    pub fn of_client(kind: &'static str) -> Self {
        Self::Error { kind, whose: "client" }
    }

    /// An error of the server behind.
    pub fn of_server(kind: &'static str) -> Self {
        Self::Error { kind, whose: "upstream" }
    }

    /// In one word.
    pub fn label(&self) -> &'static str {
        match self {
            Self::Success => "success",
            Self::ToolError => "tool_error",
            Self::Error { .. } => "error",
            Self::Denied(_) => "denied",
            Self::RateLimited => "rate_limited",
        }
    }
}

/// From when to when something took, by the clock of this machine: microseconds since 1970.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Time {
    /// Before it was sent.
    pub began: u64,
    /// When its answer was whole.
    pub ended: u64,
}

impl Time {
    /// Now.
    pub fn now() -> u64 {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        u64::try_from(now.as_micros()).unwrap_or(u64::MAX)
    }

    /// From then on until now.
    pub fn since(began: u64) -> Self {
        Self { began, ended: Self::now() }
    }

    /// How long that is.
    pub fn took(&self) -> u64 {
        self.ended.saturating_sub(self.began)
    }
}

/// One request and its answer.
#[derive(Clone, Debug)]
pub struct Deed {
    /// Through which door.
    pub door: Door,
    /// The method of MCP; else verb and route.
    pub action: String,
    /// The path that was asked for; of MCP empty.
    pub path: String,
    /// None of who was not let in, or showed nothing.
    pub who: Option<Arc<Who>>,
    /// The session of MCP.
    pub session: Option<String>,
    /// The server, where one is known.
    pub server: String,
    /// The tool, where one is known.
    pub name: String,
    /// How it came out.
    pub end: End,
    /// When.
    pub time: Time,
    /// For how long the server kept it waiting at least, microseconds.
    pub waited: u64,
    /// Which life of which gateway answered.
    pub gateway: usize,
}

/// What happened beside that.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Happening {
    /// Somebody signed in, or tried to.
    SignIn {
        /// Whose tenant, if that is known.
        tenant: String,
        /// The account, if it is known.
        user: String,
        /// `local`, or a provider.
        method: &'static str,
        /// Why not.
        refused: Option<&'static str>,
    },
    /// A token was asked for, in another way than for the code of a sign-in.
    Token {
        /// Whose tenant.
        tenant: String,
        /// As what it counts.
        method: &'static str,
        /// Why there was none.
        refused: Option<&'static str>,
    },
    /// A session ended.
    SessionEnd {
        /// Whose tenant.
        tenant: String,
        /// Why.
        reason: &'static str,
        /// The least and the most that it lasted, microseconds.
        lasted: (u64, u64),
    },
    /// Something is banned.
    Ban {
        /// The network.
        network: String,
        /// Whether somebody did it; else the gateway by itself.
        by_hand: bool,
    },
    /// A ban is lifted.
    Lift {
        /// The network.
        network: String,
    },
    /// The ban of a network turned out to be wrong.
    WrongBan {
        /// The network.
        network: String,
    },
    /// A request was refused because of a ban.
    Barred,
    /// A limit was reached.
    Throttled {
        /// Whose tenant.
        tenant: String,
        /// Whose limit.
        limit: String,
    },
    /// What a provider gave was refreshed, or was to be.
    Refresh {
        /// Whose tenant.
        tenant: String,
        /// Why.
        kind: &'static str,
        /// How that came out.
        result: &'static str,
    },
    /// The trail says of it what no report counts: a program registered, tokens were given.
    Noted,
}

impl Happening {
    /// Whether the trail has a record of it.
    pub fn is_recorded(&self) -> bool {
        matches!(
            self,
            Self::SignIn { .. }
                | Self::SessionEnd { .. }
                | Self::Ban { .. }
                | Self::Lift { .. }
                | Self::Refresh { .. }
                | Self::Noted
        )
    }
}

/// See [`Happening`].
#[derive(Clone, Debug)]
pub struct Event {
    /// What.
    pub what: Happening,
    /// When.
    pub time: Time,
    /// Which life of which gateway.
    pub gateway: usize,
}

/// Everything, in the order in which it was.
#[derive(Clone, Debug, Default)]
pub struct Ledger {
    /// What was asked.
    pub deeds: Vec<Deed>,
    /// What happened beside.
    pub events: Vec<Event>,
}

impl Ledger {
    /// The same as it was when there were only so many deeds. What happens beside them is done before.
    #[must_use]
    pub fn up_to(&self, deeds: usize) -> Self {
        Self { deeds: self.deeds[..deeds.min(self.deeds.len())].to_vec(), events: self.events.clone() }
    }

    /// How many records the trail has of it.
    pub fn records(&self) -> usize {
        self.deeds.len() + self.events.iter().filter(|event| event.what.is_recorded()).count()
    }
}
