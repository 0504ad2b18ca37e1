//! The parts of the process, built once from the settings. Surfaces take the whole of it; engines take the parts they need.

use std::ops::Deref;
use std::sync::Arc;

use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::access::{Accounts, KeyRing};
use crate::config::Settings;
use crate::crypto::Sealer;
use crate::mcp::session::Sessions;
use crate::registry::live::Registry;
use crate::store::Store;
use crate::telemetry::Recorder;

/// The process. Cloning copies a pointer.
#[derive(Clone)]
pub struct App(Arc<Parts>);

/// See [`App`].
pub struct Parts {
    /// What was set.
    pub settings: Settings,
    /// The database.
    pub store: Store,
    /// Seals secrets at rest.
    pub sealer: Sealer,
    /// Who may come in.
    pub keyring: KeyRing,
    /// Local accounts.
    pub accounts: Accounts,
    /// The servers at run time.
    pub registry: Arc<Registry>,
    /// Sessions of legacy clients.
    pub sessions: Sessions,
    /// Takes finished operations.
    pub recorder: Recorder,
    /// Owns everything that was spawned, so that the end can wait for it.
    pub tasks: TaskTracker,
    /// Cancelled when the process is told to stop.
    pub shutdown: CancellationToken,
}

impl App {
    /// Puts the parts together.
    pub fn new(parts: Parts) -> Self {
        Self(Arc::new(parts))
    }
}

impl Deref for App {
    type Target = Parts;

    fn deref(&self) -> &Parts {
        &self.0
    }
}
