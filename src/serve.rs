//! The life of the process: start, say so, serve, stop. Nothing slow stands before the first answer, and nothing that runs is
//! dropped at the end without having had its time.

mod access_file;
mod awake;
mod connection;
mod first_key;
mod front;
mod listener;
mod reader;
mod rounds;
mod socket;
mod tls;
mod uptake;
mod watch;
mod workers;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

pub use access_file::AccessFile;
pub use first_key::own_key;

use crate::app::{App, build};
use crate::config::{Listen, Settings};
use crate::grants::resource::Issuer;
use crate::router;
use crate::secret::Secret;
use crate::telemetry::Metrics;
use crate::web::Surfaces;
use front::Front;

/// What a listener needs of the process.
pub struct Ground {
    /// What the operator asked for.
    pub settings: Arc<Settings>,
    /// Counts connections.
    pub metrics: Arc<Metrics>,
    /// Owns the listener and each connection.
    pub tasks: TaskTracker,
    /// Cancelled when the process begins to stop.
    pub shutdown: CancellationToken,
}

/// A process that listens. Dropping it cuts everything off; [`Running::stop`] lets it finish.
pub struct Running {
    address: SocketAddr,
    url: String,
    settled: first_key::Settled,
    grace: Duration,
    tasks: TaskTracker,
    shutdown: CancellationToken,
    cut: CancellationToken,
    workers: Arc<workers::Workers>,
}

/// How it ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stopped {
    /// All that ran has finished.
    Clean,
    /// The grace ended first; what still ran was cut off.
    Expired,
    /// Somebody asked a second time.
    Forced,
}

impl Running {
    /// The address it listens on, with the port that port 0 became.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// `http://address:port`; an address that stands for all is shown as the loopback one.
    pub fn url(&self) -> String {
        self.url.clone()
    }

    /// The first administrator's key, if this start made it.
    pub fn first_key(&self) -> Option<&Secret> {
        self.settled.key.as_ref()
    }

    /// Stops accepting, lets what runs finish within the grace, then cuts off the rest. When `hurry` completes, nothing is
    /// waited for any longer.
    pub async fn stop(self, hurry: impl Future<Output = ()>) -> Stopped {
        self.shutdown.cancel();
        self.tasks.close();
        let how = tokio::select! {
            biased;
            () = self.tasks.wait() => Stopped::Clean,
            () = hurry => Stopped::Forced,
            () = tokio::time::sleep(self.grace) => Stopped::Expired,
        };
        self.cut.cancel();
        if how == Stopped::Expired {
            // What was cut off is recorded as that, before the trail ends.
            _ = tokio::time::timeout(CUT, self.tasks.wait()).await;
        }
        how
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.shutdown.cancel();
        self.cut.cancel();
    }
}

/// Opens the listener and serves `surfaces` behind the door.
pub async fn open(ground: &Ground, surfaces: impl Surfaces) -> anyhow::Result<Running> {
    Ok(Front::open(&ground.settings).await?.serve(ground, surfaces))
}

/// Refuses a certificate or key that cannot be served with; for who only wants to know.
pub async fn check_tls(listen: &Listen) -> anyhow::Result<()> {
    tls::acceptor(listen).await.map(drop)
}

/// Longest wait for what was cut off.
const CUT: Duration = Duration::from_secs(1);

/// Longest wait, after the last request, for what runs beside requests.
const BESIDE: Duration = Duration::from_secs(10);

/// Takes the port, builds the parts, lets the first administrator in, and serves: in this order, so that a start that fails
/// leaves no key that nobody was shown.
pub async fn start(settings: Settings) -> anyhow::Result<(App, Running)> {
    let front = Front::open(&settings).await?;
    let listen = &settings.listen;
    let issuer = Issuer::new(listen.public_url.as_ref(), listen.has_tls(), front.address());
    let app = Box::pin(build(settings, issuer)).await?;
    let settled = first_key::settle(&app, &front.url()).await?;
    let ground = Ground {
        settings: Arc::clone(&app.settings),
        metrics: Arc::clone(app.recorder.metrics()),
        tasks: TaskTracker::new(),
        shutdown: app.shutdown.clone(),
    };
    let mut running = front.serve(&ground, router::Front::new(app.clone()));
    running.settled = settled;
    Ok((app, running))
}

/// A whole process on these settings; `up` is done once it listens.
pub async fn live(
    settings: Settings,
    up: impl AsyncFnOnce(&App, &Running) -> anyhow::Result<()>,
) -> anyhow::Result<Stopped> {
    until_told(start(settings), up, end).await
}

/// Serves what `start` opens until SIGTERM or SIGINT, then stops gracefully and does `end`; a second signal does not wait.
/// Does `up` once it listens, whose failure stops nothing.
pub async fn until_told<T>(
    start: impl Future<Output = anyhow::Result<(T, Running)>>,
    up: impl AsyncFnOnce(&T, &Running) -> anyhow::Result<()>,
    end: impl AsyncFnOnce(T),
) -> anyhow::Result<Stopped> {
    // Before anything else, so that a signal during the start is not lost.
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let mut asked = async || tokio::select! { _ = terminate.recv() => {}, _ = interrupt.recv() => {} };
    let (rest, running) = tokio::select! {
        started = start => started?,
        () = asked() => return Ok(Stopped::Clean),
    };
    let up = async {
        if let Err(error) = up(&rest, &running).await {
            tracing::error!("{error:#}");
        }
        std::future::pending::<()>().await;
    };
    tokio::select! { () = asked() => {}, () = up => {} }
    tracing::info!("stopping: what runs may finish; a second signal ends it at once");
    // What runs beside requests may have been begun on their threads, and ends after them.
    let workers = Arc::clone(&running.workers);
    let how = running.stop(asked()).await;
    if how != Stopped::Forced {
        tokio::select! { () = end(rest) => {}, () = asked() => {}, () = tokio::time::sleep(BESIDE) => {} }
    }
    drop(workers);
    match how {
        Stopped::Clean => tracing::info!("stopped"),
        Stopped::Expired => tracing::warn!("the grace ended (MREG_SHUTDOWN_GRACE); what still ran was cut off"),
        Stopped::Forced => tracing::warn!("asked twice: what still ran was cut off"),
    }
    Ok(how)
}

/// Ends what runs beside requests: children, sessions with servers, jobs, and the database last.
async fn end(app: App) {
    app.registry.close().await;
    app.tasks.close();
    app.tasks.wait().await;
    app.grants.write_traces().await;
    if let Err(error) = app.guard.write(&app.store).await {
        tracing::warn!("the last bans could not be stored: {error}");
    }
    if let Err(error) = app.keyring.flush_used(&app.store, app.grants.terms().schedule.recheck).await {
        tracing::warn!("when keys were last used could not be stored: {error}");
    }
    if let Err(error) = app.tokens.flush_used(&app.store, app.grants.terms().schedule.recheck).await {
        tracing::warn!("when sessions were last used could not be stored: {error}");
    }
    if let Err(error) = app.grants.flush_refreshes().await {
        tracing::warn!("how the last refreshes came out could not be stored: {error}");
    }
    if let Err(error) = app.observed.flush(&app.store).await {
        tracing::warn!("what was called last could not be stored: {error}");
    }
    app.end_trail().await;
    app.end_exporting().await;
    app.store.close().await;
}

/// Runs `life` on the runtime of the process, which has what runs beside requests; those have threads of their own.
pub fn block_on(life: impl Future<Output = anyhow::Result<Stopped>>) -> anyhow::Result<Stopped> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    let how = runtime.block_on(life);
    // Blocking work, of the database say, is not waited for beyond what the stop already waited.
    runtime.shutdown_timeout(Duration::from_millis(if matches!(how, Ok(Stopped::Clean)) { 1000 } else { 0 }));
    how
}
