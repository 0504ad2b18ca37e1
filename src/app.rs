//! The parts of the process, built once from the settings.

use std::sync::Arc;

use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::config::Settings;
use crate::telemetry::{Health, Metrics, Recorder};

/// All parts. Cheap to clone.
#[derive(Clone)]
pub struct App {
    /// What the operator asked for.
    pub settings: Arc<Settings>,
    /// Where finished operations go.
    pub recorder: Recorder,
    /// How the parts are.
    pub health: Health,
    /// Owns everything that runs on its own.
    pub tasks: TaskTracker,
    /// Cancelled when the process begins to stop.
    pub shutdown: CancellationToken,
}

impl App {
    /// Builds the parts.
    pub fn new(settings: Settings) -> Self {
        let metrics = Arc::new(Metrics::new(settings.metrics.max_series));
        Self {
            settings: Arc::new(settings),
            recorder: Recorder::new(metrics),
            health: Health::default(),
            tasks: TaskTracker::new(),
            shutdown: CancellationToken::new(),
        }
    }
}
