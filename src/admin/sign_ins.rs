//! `/sign-ins`: attempts to sign in, step by step, for whoever is asked why one failed. An administrator of a tenant sees the
//! tenant's; one of the gateway also those of which it is not known yet whose they are, and of steps that were only taken to belong
//! to an attempt what they were: they may be of somebody else at the same address, whose servers and programs are nobody's business.

pub(super) mod advice;

use axum::response::Json;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use uuid::Uuid;

use crate::access::Admin;
use crate::app::App;
use crate::grants::{Outcome, Step, Trace, TraceFilter, awaited};
use crate::store::{at, micros};
use crate::web::answer::Tagged;
use crate::web::json::{Page, PageQuery, Parameters, time_of};
use crate::web::path::Named;
use crate::web::problem::Problem;

/// In place of what was seen at a step that may be somebody else's.
const NOT_TOLD: &str =
    "seen at the same address shortly before; what it was is told to an administrator of the gateway";

/// What to list.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Search {
    /// A person's name, or an account's id.
    user: Option<String>,
    /// Part of a client's id or name, in any case.
    client: Option<String>,
    /// How they went; several, separated by commas.
    outcome: Option<String>,
    /// Only those last changed then or later (RFC 3339).
    since: Option<String>,
    limit: Option<u16>,
    cursor: Option<String>,
}

/// An attempt in a list.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "SignIn")]
pub(super) struct View {
    id: Uuid,
    /// `under_way`, `success`, `failure` or `abandoned`.
    outcome: String,
    client_id: Option<String>,
    client_name: Option<String>,
    user_id: Option<Uuid>,
    username: Option<String>,
    /// The step at which it stopped, or which is waited for; null where it went well.
    stopped_at: Option<Stop>,
    #[serde(with = "crate::clock::Moment")]
    started_at: OffsetDateTime,
    #[serde(with = "crate::clock::Moment")]
    updated_at: OffsetDateTime,
}

#[derive(Serialize, JsonSchema)]
#[schemars(rename = "SignInStop")]
struct Stop {
    step: String,
    /// What was seen there, or what did not happen.
    what: String,
    /// One stable word, or a provider's number.
    reason: Option<String>,
}

/// An attempt with all that is known of it.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "SignInDetail")]
pub(super) struct Whole {
    #[serde(flatten)]
    view: View,
    steps: Vec<StepView>,
    /// What to do, where there is something to be done.
    advice: Option<String>,
}

#[derive(Serialize, JsonSchema)]
#[schemars(rename = "SignInStep")]
struct StepView {
    step: String,
    ok: bool,
    detail: String,
    reason: Option<String>,
    /// Whether it was only taken to belong here, by address and time.
    inferred: bool,
    #[serde(with = "crate::clock::Moment")]
    at: OffsetDateTime,
    /// Milliseconds since the step before.
    after_ms: i64,
}

pub(super) async fn list(
    app: App,
    admin: Admin,
    Parameters(search): Parameters<Search>,
) -> Result<Json<Page<View>>, Problem> {
    let page = PageQuery { limit: search.limit, cursor: search.cursor };
    let (limit, after) = (page.limit()?, page.place(position)?);
    let outcomes = search.outcome.as_deref().map(outcomes).transpose()?.unwrap_or_default();
    let filter = TraceFilter {
        tenant: Some(admin.tenant()),
        unclaimed: admin.administers_gateway(),
        user: search.user.as_deref(),
        client: search.client.as_deref(),
        outcomes: &outcomes,
        since: search.since.as_deref().map(|text| time_of("since", text)).transpose()?,
    };
    note_calls(&app).await;
    let mut traces = app.grants.traces(filter, after, limit + 1).await?;
    for trace in &mut traces {
        told_to(&admin, trace);
    }
    let page = Page::of(traces, limit, |trace| format!("{} {}", micros(trace.updated_at), trace.id));
    Ok(Json(page.map(|trace| view(&trace))))
}

pub(super) async fn read(app: App, admin: Admin, Named(id): Named) -> Result<Tagged<Whole>, Problem> {
    let missing = || Problem::missing("sign-in");
    let id = Uuid::parse_str(&id).map_err(|_| missing())?;
    note_calls(&app).await;
    let trace = app.grants.trace_by_id(admin.tenant(), admin.administers_gateway(), id).await?;
    let mut trace = trace.ok_or_else(missing)?;
    told_to(&admin, &mut trace);
    let mut before = None;
    let steps = trace.steps.iter().map(|step| step_view(step, before.replace(step.at).unwrap_or(step.at))).collect();
    let stop = stop(&trace);
    let advice = stop.as_ref().and_then(|stop| advice::of(&stop.step, stop.reason.as_deref().unwrap_or_default()));
    Ok(Tagged::content(Whole { view: view(&trace), steps, advice }))
}

/// Notes which programs have called, to be read at once. A job does the same: where it fails now, the rest can be read.
async fn note_calls(app: &App) {
    if let Err(refusal) = app.grants.note_calls().await {
        tracing::error!(reason = refusal.reason, detail = refusal.detail, "first calls could not be noted");
    }
}

/// Leaves out what only an administrator of the gateway is told.
fn told_to(admin: &Admin, trace: &mut Trace) {
    if !admin.administers_gateway() {
        for step in trace.steps.iter_mut().filter(|step| step.inferred) {
            NOT_TOLD.clone_into(&mut step.detail);
        }
    }
}

/// A cursor's time and id.
fn position(text: &str) -> Option<(OffsetDateTime, Uuid)> {
    let (time, id) = text.split_once(' ')?;
    Some((at(time.parse().ok()?), id.parse().ok()?))
}

fn outcomes(text: &str) -> Result<Vec<Outcome>, Problem> {
    let each = text.split(',').map(|word| Outcome::parse(word.trim()));
    each.collect::<Option<_>>().ok_or_else(|| {
        let words = Outcome::ALL.map(Outcome::as_str).join(", ");
        Problem::field("outcome", format!("one of {words}, or several of them separated by commas"))
    })
}

fn view(trace: &Trace) -> View {
    View {
        id: trace.id,
        outcome: trace.outcome.clone(),
        client_id: trace.client_id.clone(),
        client_name: trace.client_name.clone(),
        user_id: trace.user,
        username: trace.username.clone(),
        stopped_at: stop(trace),
        started_at: trace.started_at,
        updated_at: trace.updated_at,
    }
}

/// Where it stopped, or what it waits for.
fn stop(trace: &Trace) -> Option<Stop> {
    let bad = trace.steps.iter().rev().find(|step| !step.ok);
    match Outcome::parse(&trace.outcome)? {
        Outcome::Success => None,
        Outcome::Failure | Outcome::Abandoned => {
            bad.map(|step| Stop { step: step.name.clone(), what: step.detail.clone(), reason: some(&step.reason) })
        }
        Outcome::UnderWay => awaited(&trace.steps).map(|missing| Stop {
            step: missing.step.to_owned(),
            what: format!("not yet: {}", missing.what),
            reason: Some("awaited".to_owned()),
        }),
    }
}

fn step_view(step: &Step, before: i64) -> StepView {
    StepView {
        step: step.name.clone(),
        ok: step.ok,
        detail: step.detail.clone(),
        reason: some(&step.reason),
        inferred: step.inferred,
        at: at(step.at),
        after_ms: (step.at - before) / 1_000,
    }
}

fn some(text: &str) -> Option<String> {
    Some(text.to_owned()).filter(|text| !text.is_empty())
}
