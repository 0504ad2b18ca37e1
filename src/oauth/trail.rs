//! What is noted of an attempt to sign in, step by step, for the administrator who is asked why it failed. Notes are a help and no
//! condition: nobody waits until they are written, and when one cannot be, the sign-in goes on.

use std::net::IpAddr;

use uuid::Uuid;

use crate::app::App;
use crate::grants::client::Client;
use crate::grants::{Account, Outcome, Refusal, Step, TraceNote, shown_client};
use crate::id::TenantId;
use crate::store::now;
use crate::telemetry::Event;

/// The trace of one attempt.
#[derive(Clone)]
pub(super) struct Trail {
    app: App,
    id: Option<Uuid>,
}

impl Trail {
    /// Begins one: a browser comes from `address` for a client, or for nobody. What the client did before stands in front.
    pub(super) fn begin(app: &App, address: IpAddr, client_id: Option<&str>, name: &str, detail: String) -> Self {
        let first = Step::good(name, detail, now());
        let before = client_id.map(|id| app.grants.preludes().take(address, id, now())).unwrap_or_default();
        let steps = before.into_iter().chain([first]).collect();
        Self::write_first(app, address, steps, TraceNote { client_id, ..TraceNote::default() })
    }

    /// Notes something that went wrong and belongs to no sign-in that is known; `note` is what is known besides.
    pub(super) fn alone(app: &App, address: IpAddr, note: TraceNote<'_>, step: Step) {
        Self::write_first(app, address, vec![step], TraceNote { outcome: Some(Outcome::Failure), ..note });
    }

    fn write_first(app: &App, address: IpAddr, steps: Vec<Step>, note: TraceNote<'_>) -> Self {
        // Anybody can begin one: so many are noted and no more.
        let may = app.grants.preludes().may_begin(address, now());
        Self { app: app.clone(), id: if may { app.grants.trace(steps, note) } else { None } }
    }

    /// Goes on with one.
    pub(super) fn of(app: &App, id: Option<Uuid>) -> Self {
        Self { app: app.clone(), id }
    }

    /// Goes on with the one that a grant came of, if it is still kept.
    pub(super) async fn of_grant(app: &App, grant: Uuid) -> Self {
        let found = app.grants.trace_of_grant(grant).await;
        let id = found.inspect_err(|error| tracing::warn!(error = error.detail, "a sign-in is not found")).ok();
        Self::of(app, id.flatten())
    }

    /// Its id.
    pub(super) fn id(&self) -> Option<Uuid> {
        self.id
    }

    /// Something went well.
    pub(super) fn went(&self, name: &str, detail: impl Into<String>) {
        self.write([Step::good(name, detail, now())], TraceNote::default());
    }

    /// It is known which client asks, and how.
    pub(super) fn is_of(&self, client: &Client, detail: impl Into<String>) {
        self.write([Step::good("client", detail, now())], of_client(client));
    }

    /// It is known what the person is called, whether or not an account comes of it.
    pub(super) fn is_by(&self, tenant: Option<&TenantId>, username: &str) {
        self.write([], TraceNote { tenant, username: Some(username), ..TraceNote::default() });
    }

    /// It is known who it is.
    pub(super) fn known(&self, name: &str, detail: impl Into<String>, account: &Account, outcome: Option<Outcome>) {
        let note = TraceNote { outcome, ..of_account(account) };
        self.write([Step::good(name, detail, now())], note);
    }

    /// A grant was made, whose code the client now has to fetch a token for.
    pub(super) fn granted(&self, detail: impl Into<String>, account: &Account, grant: Uuid) {
        let note = TraceNote { grant: Some(grant), ..of_account(account) };
        self.write([Step::good("code", detail, now())], note);
    }

    /// The client itself comes from `address`: what it did there before is known now.
    pub(super) fn is_from(&self, address: IpAddr, client_id: &str) {
        let before = self.app.grants.preludes().take(address, client_id, now());
        if let Some(id) = self.id.filter(|_| !before.is_empty()) {
            self.app.grants.trace_before(id, before);
        }
    }

    /// Something went wrong, but the attempt goes on.
    pub(super) fn stumbled(&self, name: &str, reason: &str, detail: impl Into<String>) {
        self.write([Step::bad(name, reason, detail, now())], TraceNote::default());
    }

    /// The program was refused, and may come again with what it has.
    pub(super) fn refused(&self, step: Step) {
        self.write([step], TraceNote { refused: true, ..TraceNote::default() });
    }

    /// Something went wrong: it is over, and counted. `who` was turned away; where `code` is given, it says in the trace what happened
    /// more exactly than the reason.
    pub(super) fn failed(&self, name: &str, detail: impl Into<String>, who: Event, code: Option<&str>) {
        let reason = who.reason.clone().unwrap_or_default();
        self.app.recorder.not_signed_in(Event { name: Some(name.into()), ..who });
        self.over(Step::bad(name, code.unwrap_or(&reason), detail, now()));
    }

    /// It is over with this step.
    pub(super) fn over(&self, step: Step) {
        self.write([step], TraceNote { outcome: Some(Outcome::Failure), ..TraceNote::default() });
    }

    fn write<const N: usize>(&self, steps: [Step; N], note: TraceNote<'_>) {
        if let Some(id) = self.id {
            self.app.grants.trace_steps(id, steps, note);
        }
    }
}

/// What is known of an attempt by its client.
pub(super) fn of_client(client: &Client) -> TraceNote<'_> {
    TraceNote {
        tenant: client.tenant(),
        client_id: Some(&client.id),
        client_name: Some(&client.name),
        ..TraceNote::default()
    }
}

fn of_account(account: &Account) -> TraceNote<'_> {
    TraceNote {
        tenant: Some(&account.tenant),
        user: Some(account.id),
        username: Some(&account.username),
        ..TraceNote::default()
    }
}

/// A client's id in a sentence.
pub(super) fn quoted(client_id: &str) -> String {
    format!("`{}`", shown_client(client_id).chars().take(120).collect::<String>())
}

/// What was refused, for a trace: what the client reads, and what our log says besides.
pub(super) fn told(refusal: &Refusal) -> String {
    if refusal.detail.is_empty() { refusal.to_string() } else { format!("{refusal} ({})", refusal.detail) }
}
