//! The life of the process: start, say so, serve, stop. Nothing slow stands before the first answer, and nothing that runs is
//! dropped at the end without having had its time.

mod connection;
mod first_key;
mod listener;
mod reader;
mod tls;
mod watch;
mod workers;

use std::io::Write as _;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use axum::Router;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

pub use first_key::announce;

use crate::app::{App, Built, build};
use crate::config::Settings;
use crate::router;
use crate::telemetry::Metrics;
use crate::web::Door;

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
    tls: bool,
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
        let mut address = self.address;
        if address.ip().is_unspecified() {
            address.set_ip(if address.is_ipv4() {
                [127, 0, 0, 1].into()
            } else {
                std::net::Ipv6Addr::LOCALHOST.into()
            });
        }
        format!("{}://{address}", if self.tls { "https" } else { "http" })
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
        how
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.shutdown.cancel();
        self.cut.cancel();
    }
}

/// Opens the listener and serves `router` behind the door.
pub async fn open(ground: &Ground, router: Router) -> anyhow::Result<Running> {
    let listen = &ground.settings.listen;
    let acceptor = tls::acceptor(listen).await?;
    let wanted = SocketAddr::new(listen.host, listen.port);
    let socket = listener::bind(wanted)
        .with_context(|| format!("cannot listen on {wanted}; is another gateway running? Choose a port with --port"))?;
    let address = socket.local_addr()?;
    let door = Door::new(&ground.settings, Arc::clone(&ground.metrics), router);
    let cut = CancellationToken::new();
    let tls = acceptor.is_some();
    let host = connection::Host::new(ground, door, acceptor, cut.clone());
    let workers =
        Arc::new(workers::Workers::start(ground.settings.pools.worker_threads).context("threads to serve requests")?);
    ground.tasks.spawn(listener::accept(socket, Arc::new(host), Arc::clone(&workers)));
    Ok(Running {
        address,
        tls,
        grace: ground.settings.limits.shutdown_grace,
        tasks: ground.tasks.clone(),
        shutdown: ground.shutdown.clone(),
        cut,
        workers,
    })
}

/// Longest wait, after the last request, for what runs beside requests.
const BESIDE: Duration = Duration::from_secs(10);

/// Builds the parts, listens, and leaves word for the command line on this machine.
pub async fn start(settings: Settings) -> anyhow::Result<(App, Running)> {
    let Built { app, first_key } = build(settings).await?;
    let front = Ground {
        settings: Arc::clone(&app.settings),
        metrics: Arc::clone(app.recorder.metrics()),
        tasks: TaskTracker::new(),
        shutdown: app.shutdown.clone(),
    };
    let running = open(&front, router::routes(app.clone())).await?;
    let folder = &app.settings.data.data_dir;
    match (&first_key, &app.settings.access.bootstrap_admin_key) {
        (Some(key), _) => announce(folder, &running.url(), key, true)?,
        (None, Some(key)) => announce(folder, &running.url(), key, false)?,
        (None, None) => {}
    }
    Ok((app, running))
}

/// A whole process on these settings; `besides` is done once it listens.
pub async fn live(settings: Settings, besides: impl AsyncFnOnce() -> anyhow::Result<()>) -> anyhow::Result<Stopped> {
    until_told(start(settings), besides, end).await
}

/// Serves what `start` opens until SIGTERM or SIGINT, then stops gracefully and does `end`; a second signal does not wait.
/// Says on standard output where it listens, and then does `besides`, whose failure stops nothing.
pub async fn until_told<T>(
    start: impl Future<Output = anyhow::Result<(T, Running)>>,
    besides: impl AsyncFnOnce() -> anyhow::Result<()>,
    end: impl AsyncFnOnce(T),
) -> anyhow::Result<Stopped> {
    // Before anything else, so that a signal during the start is not lost.
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let mut asked = async || tokio::select! { _ = terminate.recv() => {}, _ = interrupt.recv() => {} };
    let (rest, running) = tokio::select! {
        started = start => started?,
        () = asked() => return Ok(Stopped::Clean),
    };
    {
        let mut out = std::io::stdout().lock();
        writeln!(out, "listening on {}", running.url()).and_then(|()| out.flush()).context("standard output")?;
    }
    let besides = async {
        if let Err(error) = besides().await {
            tracing::error!("{error:#}");
        }
        std::future::pending::<()>().await;
    };
    tokio::select! { () = asked() => {}, () = besides => {} }
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
    if let Err(error) = app.keyring.flush_used(&app.store).await {
        tracing::warn!("when keys were last used could not be stored: {error}");
    }
    app.store.close().await;
}

/// A whole process on these settings.
pub async fn run(settings: Settings) -> anyhow::Result<Stopped> {
    live(settings, async || Ok(())).await
}

/// Runs `life` on the runtime of the process, which has what runs beside requests; those have threads of their own.
pub fn block_on(life: impl Future<Output = anyhow::Result<Stopped>>) -> anyhow::Result<Stopped> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    let how = runtime.block_on(life);
    // Blocking work, of the database say, is not waited for beyond what the stop already waited.
    runtime.shutdown_timeout(Duration::from_millis(if matches!(how, Ok(Stopped::Clean)) { 1000 } else { 0 }));
    how
}
