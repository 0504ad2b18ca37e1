//! What goes out to a collector of OpenTelemetry while the process lives, and at its end.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::task::JoinHandle;
use uuid::Uuid;

use crate::app::App;
use crate::audit::OtlpCollector;
use crate::config::Settings;
use crate::jobs::{Every, Jobs};
use crate::net::Outbound;
use crate::telemetry::otlp::{Exporters, Points, Spans};
use crate::telemetry::{Metrics, Tracer};

/// Between two pieces of the audit trail.
const SEND: Duration = Duration::from_secs(1);
/// Longest that the end of the process waits for a collector.
const LAST: Duration = Duration::from_secs(3);

/// What sends.
#[derive(Default)]
pub struct Exporting {
    /// Until it runs.
    spans: Mutex<Option<Spans>>,
    running: Mutex<Option<JoinHandle<()>>>,
    points: Option<Arc<Points>>,
    records: Option<Arc<tokio::sync::Mutex<OtlpCollector>>>,
}

impl Exporting {
    /// As the settings say; with what decides about traces.
    pub(super) fn new(
        settings: &Settings,
        outbound: &Outbound,
        instance: Uuid,
        metrics: &Arc<Metrics>,
    ) -> anyhow::Result<(Self, Option<Tracer>)> {
        let export = settings.otlp.export(settings.audit.otlp).map_err(|wrong| anyhow::anyhow!(wrong.join("\n")))?;
        let Exporters { traces, metrics, records } = Exporters::new(&export, outbound, instance, metrics);
        let (tracer, spans) = traces.unzip();
        let points = metrics.map(Arc::new);
        let records = records.map(|records| Arc::new(tokio::sync::Mutex::new(OtlpCollector::new(records))));
        Ok((Self { spans: Mutex::new(spans), running: Mutex::default(), points, records }, tracer))
    }
}

/// Begins to send spans.
pub(super) fn begin_exporting(app: &App) {
    let spans = app.exporting.spans.lock().unwrap_or_else(PoisonError::into_inner).take();
    if let Some(spans) = spans {
        // Not one of the tasks that end with the process: what those record last is told too.
        let running = tokio::spawn(spans.run(app.last.clone()));
        *app.exporting.running.lock().unwrap_or_else(PoisonError::into_inner) = Some(running);
    }
}

/// What pushes metrics and sends audit records, where somebody wants them.
pub(super) fn export_jobs(app: &App, jobs: &Jobs) {
    if app.exporting.points.is_some() {
        let pusher = app.clone();
        jobs.run("push metrics", Every::about(app.settings.analytics.export_interval), move || {
            let app = pusher.clone();
            async move {
                app.push_metrics().await;
                Ok(())
            }
        });
    }
    if let Some(records) = &app.exporting.records {
        let (records, store) = (Arc::clone(records), app.store.clone());
        jobs.run("export the audit trail", Every::about(SEND), move || {
            let (records, store) = (Arc::clone(&records), store.clone());
            async move { Ok(records.lock().await.forward(&store).await?) }
        });
    }
}

impl App {
    /// Sends what the metrics say now, where somebody wants it.
    pub async fn push_metrics(&self) {
        if let Some(points) = &self.exporting.points {
            self.gauge().await;
            points.push(self.recorder.metrics(), &self.last).await;
        }
    }

    /// Sends the last spans, and what the metrics say at the end, if the collector takes them soon.
    pub async fn end_exporting(&self) {
        let running = self.exporting.running.lock().unwrap_or_else(PoisonError::into_inner).take();
        let last = async {
            if let Some(running) = running {
                _ = running.await;
            }
            self.push_metrics().await;
        };
        if tokio::time::timeout(LAST, last).await.is_err() {
            tracing::warn!("the collector of OpenTelemetry did not take the last of what was to be sent in time");
        }
    }
}
