//! What happened at each attempt to sign in, step by step, for whoever has to find out why it failed. Nothing in it is a secret;
//! it is bounded in steps, texts, rows and days.

use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use uuid::Uuid;

use super::{Grants, Refusal};
use crate::crypto::masked;
use crate::id::TenantId;
use crate::store::traces::{TraceRow, TraceSelection};
use crate::store::{Json, at, micros};

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
    /// Only a tenant's; what nobody's yet is only in a list without this.
    pub tenant: Option<&'a TenantId>,
    /// Only an account's.
    pub user: Option<Uuid>,
    /// Only a client's.
    pub client_id: Option<&'a str>,
    /// Only those that went so.
    pub outcome: Option<Outcome>,
}

/// Most steps of one trace.
const STEPS: usize = 64;
/// Longest text of a step, in bytes.
const TEXT: usize = 400;

/// Steps as they are stored.
#[derive(Serialize, Deserialize, Default)]
struct Steps {
    steps: Vec<Step>,
}

impl Steps {
    fn of(value: &serde_json::Value) -> Self {
        Self::deserialize(value).unwrap_or_default()
    }

    fn value(&self) -> serde_json::Value {
        serde_json::json!({ "steps": self.steps })
    }

    fn push(&mut self, step: &Step) {
        if self.steps.len() < STEPS {
            self.steps.push(Step { name: cut(&step.name), detail: cut(&step.detail), ..*step });
        }
    }
}

/// A text as it is kept: of a secret in it no more than the beginning, and not longer than may be.
fn cut(text: &str) -> String {
    let mut text = masked(text).into_owned();
    text.truncate(text.floor_char_boundary(TEXT));
    text
}

impl Grants {
    /// Begins a trace with its first step.
    pub async fn trace(&self, client_id: Option<&str>, step: Step) -> Result<Uuid, Refusal> {
        let (id, time) = (Uuid::now_v7(), step.at);
        let mut steps = Steps::default();
        steps.push(&step);
        let row = TraceRow {
            id,
            tenant_id: None,
            user_id: None,
            client_id: client_id.map(cut),
            outcome: Outcome::UnderWay.as_str().to_owned(),
            steps: Json(steps.value()),
            started_at: time,
            updated_at: time,
        };
        self.0.store.insert_trace(&row).await?;
        Ok(id)
    }

    /// Adds a step; the 64th is the last. A trace that is gone is no error.
    pub async fn trace_step(&self, id: Uuid, step: Step, note: TraceNote<'_>) -> Result<(), Refusal> {
        let change = |row: &mut TraceRow| {
            row.updated_at = row.updated_at.max(step.at);
            let mut steps = Steps::of(&row.steps.0);
            steps.push(&step);
            row.steps = Json(steps.value());
            if let Some(tenant) = note.tenant {
                row.tenant_id = Some(tenant.as_str().to_owned());
            }
            row.user_id = note.user.or(row.user_id);
            if let Some(client_id) = note.client_id {
                row.client_id = Some(cut(client_id));
            }
            if let Some(outcome) = note.outcome {
                outcome.as_str().clone_into(&mut row.outcome);
            }
        };
        Ok(self.0.store.change_trace(id, change).await?)
    }

    /// Traces, the last changed first, at most `limit`, those last changed before `before`.
    pub async fn traces(
        &self,
        filter: TraceFilter<'_>,
        before: Option<OffsetDateTime>,
        limit: u16,
    ) -> Result<Vec<Trace>, Refusal> {
        let which = TraceSelection {
            tenant: filter.tenant,
            user: filter.user,
            client_id: filter.client_id,
            outcome: filter.outcome.map(Outcome::as_str),
            before: before.map(micros),
        };
        let rows = self.0.store.traces(which, limit.into()).await?;
        Ok(rows.into_iter().map(view).collect())
    }
}

fn view(row: TraceRow) -> Trace {
    Trace {
        id: row.id,
        tenant: row.tenant_id,
        user: row.user_id,
        client_id: row.client_id,
        outcome: row.outcome,
        steps: Steps::of(&row.steps.0).steps,
        started_at: at(row.started_at),
        updated_at: at(row.updated_at),
    }
}
