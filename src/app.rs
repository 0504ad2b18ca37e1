<<<<<<< HEAD
<<<<<<< HEAD
//! The parts of the process, built once from the settings. Surfaces take the whole of it; engines take the parts they need.

use std::ops::Deref;
=======
//! The parts of the process, built once from the settings.

>>>>>>> process
use std::sync::Arc;

use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

<<<<<<< HEAD
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
=======
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
>>>>>>> process
    pub shutdown: CancellationToken,
}

impl App {
<<<<<<< HEAD
    /// Puts the parts together.
    pub fn new(parts: Parts) -> Self {
        Self(Arc::new(parts))
    }
=======
//! The parts of the process, built once from the settings; itself an extractor. What surfaces ask of the running gateway
//! beyond one engine (rebuild after a change, refresh a server, how a server does) are small functions here.

use std::ops::Deref;
use std::sync::Arc;

use axum::extract::FromRequestParts;
use bytes::Bytes;
use http::request::Parts as RequestParts;
use serde::Serialize;
use time::OffsetDateTime;

use crate::access::{Accounts, KeyRing};
use crate::crypto::Sealer;
use crate::fault::Fault;
use crate::id::{ServerId, TenantId};
use crate::registry::model::Server;
use crate::registry::servers::Servers;
use crate::store::catalogs::CatalogKind;
use crate::store::{Store, StoreError, at};

/// The running gateway. Cheap to clone.
#[derive(Debug, Clone)]
pub struct App(Arc<Parts>);

/// What it is made of.
#[derive(Debug)]
pub struct Parts {
    /// The database.
    pub store: Store,
    /// What seals secrets at rest.
    pub sealer: Sealer,
    /// Who may come in.
    pub keyring: KeyRing,
    /// Who may sign in by password.
    pub accounts: Accounts,
>>>>>>> registry
}

impl Deref for App {
    type Target = Parts;

    fn deref(&self) -> &Parts {
        &self.0
<<<<<<< HEAD
=======
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
>>>>>>> process
=======
    }
}

impl FromRequestParts<App> for App {
    type Rejection = std::convert::Infallible;

    async fn from_request_parts(_: &mut RequestParts, app: &App) -> Result<Self, Self::Rejection> {
        Ok(app.clone())
    }
}

/// How a server is doing, for people.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct ServerStatus {
    /// `ready`, `unreachable`, `disabled` or `unknown`.
    pub state: &'static str,
    /// `legacy` or `modern`, once known.
    pub era: Option<String>,
    /// Protocol version, once known.
    pub version: Option<String>,
    /// Why it could last not be asked.
    pub last_error: Option<String>,
    /// When it was last asked.
    #[serde(with = "time::serde::rfc3339::option")]
    pub checked_at: Option<OffsetDateTime>,
    /// How many tools it offers, once known.
    pub tools: Option<usize>,
    /// How many resources.
    pub resources: Option<usize>,
    /// How many resource templates.
    pub templates: Option<usize>,
    /// How many prompts.
    pub prompts: Option<usize>,
}

/// What a server offers: JSON arrays as it sent them.
#[derive(Debug, Clone)]
pub struct Offers {
    /// Its tools.
    pub tools: Bytes,
    /// Its resources.
    pub resources: Bytes,
    /// Its resource templates.
    pub templates: Bytes,
    /// Its prompts.
    pub prompts: Bytes,
}

impl App {
    /// Puts the parts together.
    pub fn new(parts: Parts) -> Self {
        Self(Arc::new(parts))
    }

    /// The servers of the registry, to read and change.
    pub fn servers(&self) -> Servers<'_> {
        Servers { store: &self.store, sealer: &self.sealer }
    }

    /// Takes over a change of servers, keys or accounts at once, before the answer to who made it.
    pub async fn changed(&self) -> Result<(), StoreError> {
        self.keyring.reload(&self.store).await
    }

    /// Asks a server anew what it offers, and waits for the answer.
    #[expect(clippy::unused_async, reason = "the runtime registry is asked here")]
    pub async fn refresh(&self, _server: ServerId) -> Result<(), Fault> {
        Ok(())
    }

    /// How a server is doing.
    pub async fn status(&self, server: &Server) -> ServerStatus {
        let rows = self.store.catalogs(&server.tenant, server.id).await.unwrap_or_default();
        let count = |kind: CatalogKind| {
            let row = rows.iter().find(|row| row.kind == kind.as_str())?;
            Some(crate::json::elements(&row.items).count())
        };
        let last_error = rows.iter().find_map(|row| row.error.clone());
        ServerStatus {
            state: match (server.spec.enabled, &last_error) {
                (false, _) => "disabled",
                (true, Some(_)) => "unreachable",
                (true, None) if rows.is_empty() => "unknown",
                (true, None) => "ready",
            },
            checked_at: rows.iter().map(|row| at(row.discovered_at)).max(),
            last_error,
            tools: count(CatalogKind::Tools),
            resources: count(CatalogKind::Resources),
            templates: count(CatalogKind::Templates),
            prompts: count(CatalogKind::Prompts),
            ..ServerStatus::default()
        }
    }

    /// What a server is known to offer.
    pub async fn offers(&self, tenant: &TenantId, server: ServerId) -> Result<Offers, StoreError> {
        let rows = self.store.catalogs(tenant, server).await?;
        let items = |kind: CatalogKind| {
            let row = rows.iter().find(|row| row.kind == kind.as_str());
            row.map_or(Bytes::from_static(b"[]"), |row| Bytes::from(row.items.clone()))
        };
        Ok(Offers {
            tools: items(CatalogKind::Tools),
            resources: items(CatalogKind::Resources),
            templates: items(CatalogKind::Templates),
            prompts: items(CatalogKind::Prompts),
        })
>>>>>>> registry
    }
}
