//! What happened at each attempt to sign in, step by step, for whoever has to find out why it failed. Nothing in it is a secret;
//! it is bounded in steps, texts, rows and days.

use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use uuid::Uuid;

use super::{Grants, Refusal, not_yet};
use crate::id::TenantId;

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
    /// The stored word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::UnderWay => "under_way",
            Self::Success => "success",
            Self::Failure => "failure",
            Self::Abandoned => "abandoned",
        }
    }
}

/// One step.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
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
}

/// What becomes known of an attempt on the way; what is none stays.
#[derive(Debug, Clone, Copy, Default)]
pub struct TraceNote<'a> {
    /// Whose.
    pub tenant: Option<&'a TenantId>,
    /// Who it was.
    pub user: Option<Uuid>,
    /// Which client.
    pub client_id: Option<&'a str>,
    /// How it went.
    pub outcome: Option<Outcome>,
}

/// An attempt to sign in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Trace {
    /// Its id.
    pub id: Uuid,
    /// Whose, as far as known.
    pub tenant: Option<String>,
    /// Who it was, as far as known.
    pub user: Option<Uuid>,
    /// Which client.
    pub client_id: Option<String>,
    /// How it went.
    pub outcome: String,
    /// What happened, at most 64 steps.
    pub steps: Vec<Step>,
    /// When it began.
    #[serde(with = "time::serde::rfc3339")]
    pub started_at: OffsetDateTime,
    /// When its last step was.
    #[serde(with = "time::serde::rfc3339")]
    pub updated_at: OffsetDateTime,
}

/// Which attempts to list.
#[derive(Debug, Clone, Copy, Default)]
pub struct TraceFilter<'a> {
    /// Only a tenant's, and those of nobody yet.
    pub tenant: Option<&'a TenantId>,
    /// Only an account's.
    pub user: Option<Uuid>,
    /// Only a client's.
    pub client_id: Option<&'a str>,
    /// Only those that went so.
    pub outcome: Option<Outcome>,
}

impl Grants {
    /// Begins a trace with its first step.
    pub async fn trace(&self, client_id: Option<&str>, step: Step) -> Result<Uuid, Refusal> {
        let _ = (client_id, step);
        not_yet()
    }

    /// Adds a step; the 64th is the last.
    pub async fn trace_step(&self, id: Uuid, step: Step, note: TraceNote<'_>) -> Result<(), Refusal> {
        let _ = (id, step, note);
        not_yet()
    }

    /// Traces, the newest first, at most `limit`, those before `before`.
    pub async fn traces(
        &self,
        filter: TraceFilter<'_>,
        before: Option<OffsetDateTime>,
        limit: u16,
    ) -> Result<Vec<Trace>, Refusal> {
        let _ = (filter, before, limit);
        not_yet()
    }
}
