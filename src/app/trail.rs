//! The audit trail of the process: where its journal is, what brings it into the database, and its end.

use std::sync::{Arc, PoisonError};

use anyhow::Context as _;

use crate::app::App;
use crate::audit::Drain;
use crate::telemetry::Weight;

/// The folder of journals in the data folder.
const FOLDER: &str = "audit";

/// Begins the journal, and what drains it. Nothing is recorded before.
pub(super) fn begin_trail(app: &App) -> anyhow::Result<()> {
    let base = app.settings.data.data_dir.join(FOLDER);
    app.trail.open(&base).with_context(|| {
        format!("cannot begin the audit journal in {}; it belongs to this user alone", base.display())
    })?;
    let (store, master) = (app.store.clone(), app.sealer.clone());
    let health = app.health.part("audit", Weight::Partial);
    let counting = Arc::clone(&app.analytics);
    if let Some(drain) = Drain::new(&app.trail, base, store, master, app.recorder.metrics(), counting) {
        // Not one of the tasks that end with the process: what they record last is brought over too.
        let drain = tokio::spawn(drain.run(health, app.last.clone()));
        *app.drain.lock().unwrap_or_else(PoisonError::into_inner) = Some(drain);
    }
    Ok(())
}

impl App {
    /// Brings over what the trail still holds, when nothing is recorded any more.
    pub async fn end_trail(&self) {
        self.last.cancel();
        let drain = self.drain.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(drain) = drain else { return };
        let finished = match drain.await {
            Ok(drain) => drain.finish().await.map_err(anyhow::Error::from),
            Err(error) => Err(error.into()),
        };
        if let Err(error) = finished {
            tracing::warn!("the last records of the audit trail wait in the journal for the next start: {error}");
        }
    }
}
