//! What happened at each attempt to sign in, step by step, for whoever has to find out why it failed. Nothing in it is a secret;
//! it is bounded in steps, texts, rows and days.

mod awaited;
mod model;
mod redact;
mod unwritten;

use std::collections::HashMap;

use serde::{Deserialize, Serialize};
use time::{Duration, OffsetDateTime};
use uuid::Uuid;

pub use awaited::{Awaited, awaited};
pub use model::{Outcome, Step, Trace, TraceFilter, TraceNote};
pub use redact::{redact, shown_client};
pub(super) use unwritten::Unwritten;

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

    fn push(&mut self, step: &Step) {
        let same = |last: &Step| (&last.name, last.ok, &last.detail) == (&step.name, step.ok, &step.detail);
        // A program that tries the same again and again says nothing new.
        let repeated =
            !step.ok && matches!(step.name.as_str(), "call" | "refresh") && self.steps.last().is_some_and(same);
        if self.steps.len() < STEPS && !repeated && !self.steps.contains(step) {
            self.steps.push(step.clone());
        }
    }
}

/// At most so long, and without the character that PostgreSQL has no place for.
fn cut(mut text: String) -> String {
    text.retain(|c| c != '\0');
    text.truncate(text.floor_char_boundary(TEXT));
    text
}

/// As they may be stored.
fn tidy(steps: impl IntoIterator<Item = Step>) -> Vec<Step> {
    let tidy =
        |step: Step| Step { name: cut(step.name), detail: cut(redact(&step.detail)), reason: cut(step.reason), ..step };
    steps.into_iter().map(tidy).collect()
}

/// A [`TraceNote`] as it may be stored; what is none stays.
#[derive(Debug, Default)]
struct Known {
    tenant: Option<String>,
    user: Option<Uuid>,
    username: Option<String>,
    client_id: Option<String>,
    client_name: Option<String>,
    grant: Option<Uuid>,
    outcome: Option<Outcome>,
    refused: bool,
}

impl Known {
    fn of(note: TraceNote<'_>) -> Self {
        Self {
            tenant: note.tenant.map(|tenant| tenant.as_str().to_owned()),
            user: note.user,
            username: note.username.map(|name| cut(redact(&name.to_lowercase()))),
            client_id: note.client_id.map(|id| cut(shown_client(id))),
            client_name: note.client_name.map(|name| cut(redact(name))),
            grant: note.grant,
            outcome: note.outcome,
            refused: note.refused,
        }
    }

    fn put(&self, row: &mut TraceRow) {
        let known = |new: &Option<String>, old: &mut Option<String>| {
            if new.is_some() {
                old.clone_from(new);
            }
        };
        known(&self.tenant, &mut row.tenant_id);
        known(&self.username, &mut row.username);
        known(&self.client_id, &mut row.client_id);
        known(&self.client_name, &mut row.client_name);
        row.user_id = self.user.or(row.user_id);
        row.grant_id = self.grant.or(row.grant_id);
        if let Some(outcome) = self.outcome {
            outcome.as_str().clone_into(&mut row.outcome);
        }
    }
}

/// What becomes of a trace.
#[derive(Debug)]
enum Change {
    /// More steps, and what is known besides.
    Add(Vec<Step>, Known),
    /// What the program did earlier.
    Before(Vec<Step>),
}

impl Change {
    /// Makes several, one after the other. Made once more, they change nothing.
    fn make(changes: &[Self], row: &mut TraceRow) {
        let mut all = Steps::of(&row.steps.0);
        for change in changes {
            match change {
                Self::Add(steps, known) => {
                    let has_tokens = |step: &Step| step.ok && step.name == "token";
                    if steps.iter().any(has_tokens) && row.outcome == Outcome::Failure.as_str() {
                        // It came again, and goes on.
                        Outcome::UnderWay.as_str().clone_into(&mut row.outcome);
                    }
                    for step in steps {
                        row.updated_at = row.updated_at.max(step.at);
                        all.push(step);
                    }
                    if known.refused && !all.steps.iter().any(has_tokens) {
                        Outcome::Failure.as_str().clone_into(&mut row.outcome);
                    }
                    known.put(row);
                }
                Self::Before(steps) => {
                    let first = row.started_at;
                    let has_some = all.steps.iter().any(|step| step.at < first || step.name == "metadata");
                    if !has_some {
                        steps.iter().filter(|step| step.at < first).for_each(|step| all.push(step));
                    }
                }
            }
        }
        row.steps = Json(all.value());
    }
}

impl Grants {
    /// Begins a trace with its first steps, of which there is at least one; none when there is no room for more notes.
    pub fn trace(&self, steps: Vec<Step>, note: TraceNote<'_>) -> Option<Uuid> {
        let id = Uuid::now_v7();
        let time = steps.iter().map(|step| step.at).min().unwrap_or_default();
        let row = TraceRow {
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
        self.0.unwritten.put(id, Some(row), Change::Add(tidy(steps), Known::of(note))).then_some(id)
    }

    /// Adds steps; the 64th is the last. A trace that is gone is no error.
    pub fn trace_steps(&self, id: Uuid, steps: impl IntoIterator<Item = Step>, note: TraceNote<'_>) {
        self.0.unwritten.put(id, None, Change::Add(tidy(steps), Known::of(note)));
    }

    /// Puts what the program did earlier in front of a trace, if nothing of the kind stands there yet. Of a program that does not
    /// run where the person's browser does, this is known only when it fetches its token.
    pub fn trace_before(&self, id: Uuid, before: Vec<Step>) {
        self.0.unwritten.put(id, None, Change::Before(tidy(before)));
    }

    /// Writes what was noted until now: a trace that is read afterwards is whole. What the database does not take is lost.
    pub async fn write_traces(&self) {
        self.0.unwritten.write(&self.0.store).await;
    }

    /// Writes what is noted, a moment later, for as long as it is polled.
    pub async fn keep_writing_traces(&self) {
        loop {
            self.0.unwritten.gather().await;
            self.write_traces().await;
        }
    }

    /// The trace of the sign-in that a grant came of, while it is kept.
    pub async fn trace_of_grant(&self, grant: Uuid) -> Result<Option<Uuid>, Refusal> {
        self.write_traces().await;
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
        self.write_traces().await;
        let rows = self.0.store.traces(which, limit.into()).await?;
        Ok(rows.into_iter().map(view).collect())
    }

    /// The trace of that id: of the tenant, or, with `unclaimed`, of nobody yet.
    pub async fn trace_by_id(&self, tenant: &TenantId, unclaimed: bool, id: Uuid) -> Result<Option<Trace>, Refusal> {
        self.write_traces().await;
        let row = self.0.store.trace(id).await?;
        let own = |row: &TraceRow| row.tenant_id.as_deref().map_or(unclaimed, |of| of == tenant.as_str());
        Ok(row.filter(own).map(view))
    }

    /// Notes which clients have called with their tokens, to be read at once; says of how many.
    pub async fn note_calls(&self) -> Result<usize, Refusal> {
        // First those that called in the wrong place, which is no success.
        self.note_misused().await?;
        self.write_traces().await;
        let store = &self.0.store;
        let called: HashMap<_, _> = store.traces_of_first_calls(BATCH.into()).await?.into_iter().collect();
        let success = |row: &mut TraceRow| {
            // Unless another process has noted it meanwhile.
            let waits = matches!(Outcome::parse(&row.outcome), Some(Outcome::UnderWay | Outcome::Abandoned));
            if let Some(used_at) = called.get(&row.id).filter(|_| waits) {
                let step = Step::good("call", "the program called with its access token", at(*used_at));
                let known = Known { outcome: Some(Outcome::Success), ..Known::default() };
                Change::make(&[Change::Add(vec![step], known)], row);
            }
        };
        if !called.is_empty() {
            store.write_traces(&[], &called.keys().copied().collect::<Vec<_>>(), success).await?;
        }
        Ok(called.len())
    }

    /// Notes which clients have called with their tokens, and which attempts nobody came back to; says whether there is more.
    pub(super) async fn sweep_traces(&self, now: OffsetDateTime) -> Result<bool, Refusal> {
        let called = self.note_calls().await?;
        let store = &self.0.store;
        let silent = store.silent_traces(micros(now - SILENT), BATCH.into()).await?;
        let seen: HashMap<_, _> = silent.iter().map(|row| (row.id, row.updated_at)).collect();
        let give_up = |row: &mut TraceRow| {
            // Unless it went on meanwhile. That nobody came is no step after which somebody is waited for again.
            if row.outcome == Outcome::UnderWay.as_str() && seen.get(&row.id) == Some(&row.updated_at) {
                let last = row.updated_at;
                let missing = awaited(&Steps::of(&row.steps.0).steps);
                let step = missing.map(|missing| Step::bad(missing.step, "never_came", missing.what, now));
                let known = Known { outcome: Some(Outcome::Abandoned), ..Known::default() };
                Change::make(&[Change::Add(step.into_iter().collect(), known)], row);
                row.updated_at = last;
            }
        };
        store.write_traces(&[], &seen.keys().copied().collect::<Vec<_>>(), give_up).await?;
        Ok(called.max(silent.len()) >= usize::from(BATCH))
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
