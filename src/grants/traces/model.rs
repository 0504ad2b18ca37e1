//! What a trace is made of: its outcome, its steps, what becomes known of it, and how it is looked for.

use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use uuid::Uuid;

use crate::id::TenantId;
use crate::store::micros;

/// How an attempt went.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// Not over.
    UnderWay,
    /// The client got tokens, or the person got in.
    Success,
    /// Somebody said no, or something failed.
    Failure,
    /// Nobody came back.
    Abandoned,
}

impl Outcome {
    /// Each of them.
    pub const ALL: [Self; 4] = [Self::UnderWay, Self::Success, Self::Failure, Self::Abandoned];

    /// The stored word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::UnderWay => "under_way",
            Self::Success => "success",
            Self::Failure => "failure",
            Self::Abandoned => "abandoned",
        }
    }

    /// The outcome of that word.
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|outcome| outcome.as_str() == word)
    }
}

/// One step.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Step {
    /// When, microseconds since 1970.
    pub at: i64,
    /// One word: `authorize`, `consent`, `callback` …
    pub name: String,
    /// Whether it went well.
    pub ok: bool,
    /// What was seen, at most 400 bytes; no secret.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub detail: String,
    /// Why it did not go well, in one stable word or as a provider numbers it: `redirect_uri`, `AADSTS50011`.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub reason: String,
    /// Whether it was only taken to belong here, by the address that it came from and by its time.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub inferred: bool,
}

impl Step {
    /// Something that went well.
    pub fn good(name: &str, detail: impl Into<String>, now: OffsetDateTime) -> Self {
        Self { at: micros(now), name: name.to_owned(), ok: true, detail: detail.into(), ..Self::default() }
    }

    /// Something that did not, and why in one word.
    pub fn bad(name: &str, reason: &str, detail: impl Into<String>, now: OffsetDateTime) -> Self {
        Self { ok: false, reason: reason.to_owned(), ..Self::good(name, detail, now) }
    }
}

/// What becomes known of an attempt on the way; what is none stays.
#[derive(Debug, Clone, Copy, Default)]
pub struct TraceNote<'a> {
    /// Whose.
    pub tenant: Option<&'a TenantId>,
    /// Who it was.
    pub user: Option<Uuid>,
    /// What the person is called.
    pub username: Option<&'a str>,
    /// Which client.
    pub client_id: Option<&'a str>,
    /// What it calls itself.
    pub client_name: Option<&'a str>,
    /// The grant that came of it.
    pub grant: Option<Uuid>,
    /// How it went.
    pub outcome: Option<Outcome>,
    /// Whether the program was refused and may come again with what it has: a failure unless it has its tokens, until it gets them.
    pub refused: bool,
}

/// An attempt to sign in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trace {
    /// Its id.
    pub id: Uuid,
    /// Whose, as far as known.
    pub tenant: Option<String>,
    /// Who it was, as far as known.
    pub user: Option<Uuid>,
    /// What the person is called, lower case.
    pub username: Option<String>,
    /// Which client, as [`shown_client`] shows it.
    pub client_id: Option<String>,
    /// What the client calls itself.
    pub client_name: Option<String>,
    /// How it went.
    pub outcome: String,
    /// What happened in the order of time, at most 64 steps.
    pub steps: Vec<Step>,
    /// When it began.
    pub started_at: OffsetDateTime,
    /// When its last step was.
    pub updated_at: OffsetDateTime,
}

/// Which attempts to list.
#[derive(Debug, Clone, Copy, Default)]
pub struct TraceFilter<'a> {
    /// Only a tenant's; what nobody's yet is only in a list without this, or with the next.
    pub tenant: Option<&'a TenantId>,
    /// With those that are nobody's yet.
    pub unclaimed: bool,
    /// Only of a person: the account's id, or the name.
    pub user: Option<&'a str>,
    /// Only of clients whose id or name holds this, in whatever case.
    pub client: Option<&'a str>,
    /// Only those that went so; empty: however they went.
    pub outcomes: &'a [Outcome],
    /// Only those last changed then or later.
    pub since: Option<OffsetDateTime>,
}
