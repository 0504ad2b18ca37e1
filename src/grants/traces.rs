//! What happened at each attempt to sign in, step by step, for whoever has to find out why it failed. Nothing in it is a secret;
//! it is bounded in steps, texts, rows and days.

mod awaited;
mod model;
mod redact;

use serde::{Deserialize, Serialize};
use time::{Duration, OffsetDateTime};
use uuid::Uuid;

pub use awaited::{Awaited, awaited};
pub use model::{Outcome, Step, Trace, TraceFilter, TraceNote};
pub use redact::{redact, shown_client};

use super::{Grants, Refusal};
use crate::id::TenantId;
use crate::store::traces::{TraceRow, TraceSelection};
use crate::store::{Json, at, micros};

/// Most steps of one trace.
const STEPS: usize = 64;
/// Longest text of a step, in bytes.
const TEXT: usize = 400;
/// After how much silence nobody is expected to come back: a little more than a person has at the pages.
const SILENT: Duration = Duration::minutes(11);
/// Traces that a sweep looks at.
const BATCH: u16 = 500;

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

    fn push(&mut self, step: Step) {
        let step = Step { name: cut(step.name), detail: cut(redact(&step.detail)), reason: cut(step.reason), ..step };
        let same = |last: &Step| (&last.name, last.ok, &last.detail) == (&step.name, step.ok, &step.detail);
        // A program that tries the same again and again says nothing new.
        let repeated =
            !step.ok && matches!(step.name.as_str(), "call" | "refresh") && self.steps.last().is_some_and(same);
        if self.steps.len() < STEPS && !repeated {
            self.steps.push(step);
        }
    }
}

fn cut(mut text: String) -> String {
    text.truncate(text.floor_char_boundary(TEXT));
    text
}

impl TraceNote<'_> {
    fn put(&self, row: &mut TraceRow) {
        if let Some(tenant) = self.tenant {
            row.tenant_id = Some(tenant.as_str().to_owned());
        }
        row.user_id = self.user.or(row.user_id);
        if let Some(name) = self.username {
            row.username = Some(cut(redact(&name.to_lowercase())));
        }
        if let Some(client_id) = self.client_id {
            row.client_id = Some(cut(shown_client(client_id)));
        }
        if let Some(name) = self.client_name {
            row.client_name = Some(cut(redact(name)));
        }
        row.grant_id = self.grant.or(row.grant_id);
        if let Some(outcome) = self.outcome {
            outcome.as_str().clone_into(&mut row.outcome);
        }
    }
}

/// Adds steps to a row.
fn add(row: &mut TraceRow, new: impl IntoIterator<Item = Step>) {
    let mut steps = Steps::of(&row.steps.0);
    for step in new {
        row.updated_at = row.updated_at.max(step.at);
        steps.push(step);
    }
    row.steps = Json(steps.value());
}

impl Grants {
    /// Begins a trace with its first steps, of which there is at least one.
    pub async fn trace(&self, steps: Vec<Step>, note: TraceNote<'_>) -> Result<Uuid, Refusal> {
        let id = Uuid::now_v7();
        let time = steps.iter().map(|step| step.at).min().unwrap_or_default();
        let mut row = TraceRow {
            id,
            tenant_id: None,
            user_id: None,
            username: None,
            client_id: None,
            client_name: None,
            grant_id: None,
            outcome: Outcome::UnderWay.as_str().to_owned(),
            steps: Json(Steps::default().value()),
            started_at: time,
            updated_at: time,
        };
        add(&mut row, steps);
        note.put(&mut row);
        self.0.store.insert_trace(&row).await?;
        Ok(id)
    }

    /// Adds steps; the 64th is the last. A trace that is gone is no error.
    pub async fn trace_steps(
        &self,
        id: Uuid,
        steps: impl IntoIterator<Item = Step> + Send,
        note: TraceNote<'_>,
    ) -> Result<(), Refusal> {
        let change = |row: &mut TraceRow| {
            add(row, steps);
            note.put(row);
        };
        Ok(self.0.store.change_trace(id, change).await?)
    }

    /// Puts what the program did earlier in front of a trace, if nothing of the kind stands there yet. Of a program that does not
    /// run where the person's browser does, this is known only when it fetches its token.
    pub async fn trace_before(&self, id: Uuid, before: Vec<Step>) -> Result<(), Refusal> {
        let change = |row: &mut TraceRow| {
            let first = row.started_at;
            let known = Steps::of(&row.steps.0).steps.iter().any(|step| step.at < first || step.name == "metadata");
            if !known {
                let updated = row.updated_at;
                add(row, before.into_iter().filter(|step| step.at < first));
                row.updated_at = updated;
            }
        };
        Ok(self.0.store.change_trace(id, change).await?)
    }

    /// The trace of the sign-in that a grant came of, while it is kept.
    pub async fn trace_of_grant(&self, grant: Uuid) -> Result<Option<Uuid>, Refusal> {
        Ok(self.0.store.trace_of_grant(grant).await?)
    }

    /// Traces, the last changed first, at most `limit`; with `after`, those behind the one last changed then, of that id.
    pub async fn traces(
        &self,
        filter: TraceFilter<'_>,
        after: Option<(OffsetDateTime, Uuid)>,
        limit: u16,
    ) -> Result<Vec<Trace>, Refusal> {
        let user = filter.user.and_then(|user| Uuid::try_parse(user).ok());
        let username = filter.user.filter(|_| user.is_none()).map(str::to_lowercase);
        let client = filter.client.map(|client| shown_client(client).to_lowercase());
        let outcomes: Vec<_> = filter.outcomes.iter().map(|outcome| outcome.as_str()).collect();
        let outcomes = outcomes.join(",");
        let which = TraceSelection {
            tenant: filter.tenant,
            unclaimed: filter.unclaimed,
            user,
            username: username.as_deref(),
            client: client.as_deref(),
            outcomes: Some(outcomes.as_str()).filter(|words| !words.is_empty()),
            since: filter.since.map(micros),
            after: after.map(|(time, id)| (micros(time), id)),
        };
        let rows = self.0.store.traces(which, limit.into()).await?;
        Ok(rows.into_iter().map(view).collect())
    }

    /// The trace of that id: of the tenant, or, with `unclaimed`, of nobody yet.
    pub async fn trace_by_id(&self, tenant: &TenantId, unclaimed: bool, id: Uuid) -> Result<Option<Trace>, Refusal> {
        let row = self.0.store.trace(id).await?;
        let own = |row: &TraceRow| row.tenant_id.as_deref().map_or(unclaimed, |of| of == tenant.as_str());
        Ok(row.filter(own).map(view))
    }

    /// Notes which clients have called with their tokens, and which attempts nobody came back to; says whether there is more.
    pub(super) async fn sweep_traces(&self, now: OffsetDateTime) -> Result<bool, Refusal> {
        let store = &self.0.store;
        let called = store.traces_of_first_calls(BATCH.into()).await?;
        for (id, used_at) in &called {
            let step = Step::good("call", "the program called with its access token", at(*used_at));
            let success = |row: &mut TraceRow| {
                // Unless another process has noted it meanwhile.
                if matches!(Outcome::parse(&row.outcome), Some(Outcome::UnderWay | Outcome::Abandoned)) {
                    add(row, [step]);
                    Outcome::Success.as_str().clone_into(&mut row.outcome);
                }
            };
            store.change_trace(*id, success).await?;
        }
        let silent = store.silent_traces(micros(now - SILENT), BATCH.into()).await?;
        for row in &silent {
            let step = awaited(&Steps::of(&row.steps.0).steps)
                .map(|missing| Step::bad(missing.step, "never_came", missing.what, now));
            let seen = row.updated_at;
            let give_up = |row: &mut TraceRow| {
                // Unless it went on meanwhile. That nobody came is no step after which somebody is waited for again.
                if row.outcome == Outcome::UnderWay.as_str() && row.updated_at == seen {
                    add(row, step);
                    row.updated_at = seen;
                    Outcome::Abandoned.as_str().clone_into(&mut row.outcome);
                }
            };
            store.change_trace(row.id, give_up).await?;
        }
        Ok(called.len().max(silent.len()) >= usize::from(BATCH))
    }
}

fn view(row: TraceRow) -> Trace {
    let mut steps = Steps::of(&row.steps.0).steps;
    // What came before is sometimes known only later.
    steps.sort_by_key(|step| step.at);
    Trace {
        id: row.id,
        tenant: row.tenant_id,
        user: row.user_id,
        username: row.username,
        client_id: row.client_id,
        client_name: row.client_name,
        outcome: row.outcome,
        steps,
        started_at: at(row.started_at),
        updated_at: at(row.updated_at),
    }
}
