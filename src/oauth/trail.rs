//! What is noted of an attempt to sign in, step by step, for the administrator who is asked why it failed. Notes are a help and no
//! condition: when one cannot be written, the sign-in goes on.

use uuid::Uuid;

use crate::app::App;
use crate::grants::{Account, Outcome, Step, TraceNote};
use crate::store::{micros, now};

/// The trace of one attempt.
#[derive(Clone)]
pub(super) struct Trail {
    app: App,
    id: Option<Uuid>,
}

fn step(name: &str, ok: bool, detail: impl Into<String>) -> Step {
    Step { at: micros(now()), name: name.to_owned(), ok, detail: detail.into() }
}

impl Trail {
    /// Begins one: a client asks.
    pub(super) async fn begin(app: &App, client_id: Option<&str>, name: &str, detail: String) -> Self {
        let id = app.grants.trace(client_id, step(name, true, detail)).await;
        let id = id.inspect_err(|error| tracing::warn!(error = error.detail, "a sign-in is not noted")).ok();
        Self { app: app.clone(), id }
    }

    /// Goes on with one.
    pub(super) fn of(app: &App, id: Option<Uuid>) -> Self {
        Self { app: app.clone(), id }
    }

    /// Its id.
    pub(super) fn id(&self) -> Option<Uuid> {
        self.id
    }

    /// Something went well.
    pub(super) async fn went(&self, name: &str, detail: impl Into<String>) {
        self.write(name, true, detail.into(), TraceNote::default()).await;
    }

    /// It is known who it is.
    pub(super) async fn known(
        &self,
        name: &str,
        detail: impl Into<String>,
        account: &Account,
        outcome: Option<Outcome>,
    ) {
        let note = TraceNote { tenant: Some(&account.tenant), user: Some(account.id), outcome, ..TraceNote::default() };
        self.write(name, true, detail.into(), note).await;
    }

    /// Something went wrong, but the attempt goes on.
    pub(super) async fn stumbled(&self, name: &str, detail: impl Into<String>) {
        self.write(name, false, detail.into(), TraceNote::default()).await;
    }

    /// Something went wrong: it is over, and counted.
    pub(super) async fn failed(&self, name: &str, detail: impl Into<String>, tenant: &str, reason: &str) {
        self.app.recorder.metrics().auth(tenant, "login", false, reason);
        let note = TraceNote { outcome: Some(Outcome::Failure), ..TraceNote::default() };
        self.write(name, false, detail.into(), note).await;
    }

    async fn write(&self, name: &str, ok: bool, detail: String, note: TraceNote<'_>) {
        let Some(id) = self.id else { return };
        if let Err(error) = self.app.grants.trace_step(id, step(name, ok, detail), note).await {
            tracing::warn!(error = error.detail, "a step of a sign-in is not noted");
        }
    }
}
