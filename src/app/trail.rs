//! The audit trail of the process: where its journal is, what brings it into the database, and its end.

use std::sync::{Arc, PoisonError};
use std::time::Duration;

use anyhow::Context as _;

use crate::app::App;
use crate::audit::{Collector, Drain, pack, prune};
use crate::config::Audit;
use crate::jobs::{Every, Jobs};
use crate::store::{micros, now};
use crate::telemetry::{Event, Status, Weight};

/// The folder of journals in the data folder.
const FOLDER: &str = "audit";
/// Between two pieces for the collector.
const SEND: Duration = Duration::from_secs(1);
/// How often it is looked at how it stands.
const LOOK: Duration = Duration::from_secs(1);
/// How often it is looked for records to make blocks of, and how soon again where more are left.
const PACK: Duration = Duration::from_secs(10);
const PACK_ON: Duration = Duration::from_secs(1);
/// How often it is looked for what may go.
const PRUNE: Duration = Duration::from_hours(1);

/// Begins the journal, and what drains it. Nothing is recorded before.
pub(super) fn begin_trail(app: &App) -> anyhow::Result<()> {
    let base = app.settings.data.data_dir.join(FOLDER);
    app.trail.open(&base).with_context(|| {
        format!("cannot begin the audit journal in {}; it belongs to this user alone", base.display())
    })?;
    let (store, master) = (app.store.clone(), app.sealer.clone());
    let counting = Arc::clone(&app.analytics);
    if let Some(drain) = Drain::new(&app.trail, base, store, master, app.recorder.metrics(), counting) {
        // Not one of the tasks that end with the process: what they record last is brought over too.
        let drain = tokio::spawn(drain.run(app.last.clone()));
        *app.drain.lock().unwrap_or_else(PoisonError::into_inner) = Some(drain);
    }
    Ok(())
}

/// What removes records that are older than their tenants want them kept.
pub(super) fn trail_jobs(app: &App, jobs: &Jobs) {
    let health = app.health.part("audit", Weight::Partial);
    let looker = app.clone();
    jobs.run("look at the audit trail", Every::about(LOOK), move || {
        let well = looker.trail.look(looker.recorder.metrics());
        health.set(if well { Status::Ok } else { Status::Degraded });
        async { Ok(()) }
    });
    let packed = app.store.clone();
    jobs.run_when_due("pack the audit trail", PACK, move || {
        let store = packed.clone();
        async move { Ok(if pack(&store, micros(now())).await? { PACK_ON } else { PACK }) }
    });
    let pruner = app.clone();
    jobs.run("prune the audit trail", Every::about(PRUNE), move || {
        let app = pruner.clone();
        async move {
            for (chain, count) in prune(&app.store, &app.sealer, micros(now())).await? {
                app.recorder.tell(Event { name: Some(chain.into()), count, ..Event::new("audit.prune", true) });
            }
            Ok(())
        }
    });
    send_records(app, jobs);
}

/// What sends records to a collector, where there is one.
fn send_records(app: &App, jobs: &Jobs) {
    let Audit { syslog: Some(collector), syslog_arguments, .. } = &app.settings.audit else { return };
    let collector = Collector::new(collector.clone(), *syslog_arguments);
    let collector = Arc::new(tokio::sync::Mutex::new(collector));
    let store = app.store.clone();
    jobs.run("send the audit trail", Every::about(SEND), move || {
        let (collector, store) = (Arc::clone(&collector), store.clone());
        async move { Ok(collector.lock().await.forward(&store).await?) }
    });
}

impl App {
    /// Brings over what the trail still holds, when nothing is recorded any more.
    pub async fn end_trail(&self) {
        self.last.cancel();
        let drain = self.drain.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(drain) = drain else { return };
        let finished = match drain.await {
            Ok(drain) => Box::pin(drain.finish()).await.map_err(anyhow::Error::from),
            Err(error) => Err(error.into()),
        };
        if let Err(error) = finished {
            tracing::warn!("the last records of the audit trail wait in the journal for the next start: {error}");
        }
    }
}
