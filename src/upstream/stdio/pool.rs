//! Children by key: at most one for each, started by the first who asks while others wait for the same start, restarted
//! with growing pauses, stopped when idle. Each child has one task (`life`) that owns it from start to end; the map only
//! says in which phase it is. What a child costs (a seat in the caps) is given back when its last process is gone.

mod life;

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use rustix::process::Pid;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::stderr::Tail;
use super::{Launch, Settings, orphans};
use crate::fault::{Fault, Kind, Retry};
use crate::id::ServerId;
use crate::upstream::mux::Mux;

/// Which child.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Key {
    /// Of which server.
    pub server: ServerId,
    /// Which way of starting it: the revision of the description that it was first started from.
    pub way: i64,
    /// For which user or session, unless all share it.
    pub share: Option<Arc<str>>,
    /// Whether it is spoken to in a stateless version of the protocol; one process is spoken to in one era only.
    pub modern: bool,
}

/// A child that has finished its handshake.
#[derive(Debug)]
pub struct Link<H> {
    /// The way to it.
    pub mux: Mux,
    /// What the handshake returned.
    pub handshake: H,
    born: Instant,
    /// Milliseconds from `born` to the last use.
    used: AtomicU64,
    holds: AtomicUsize,
}

impl<H> Link<H> {
    fn new(mux: Mux, handshake: H) -> Self {
        Self { mux, handshake, born: Instant::now(), used: AtomicU64::new(0), holds: AtomicUsize::new(0) }
    }

    /// Keeps the child from being stopped as idle while the value lives: for a session that waits for its events.
    pub fn hold(self: &Arc<Self>) -> Hold<H> {
        self.holds.fetch_add(1, Ordering::SeqCst);
        Hold(Arc::clone(self))
    }

    fn touch(&self) {
        let now = u64::try_from(self.born.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.used.fetch_max(now, Ordering::SeqCst);
    }

    fn idle_for(&self) -> Duration {
        if self.mux.in_flight() > 0 || self.holds.load(Ordering::SeqCst) > 0 {
            self.touch();
            return Duration::ZERO;
        }
        self.born.elapsed().saturating_sub(Duration::from_millis(self.used.load(Ordering::SeqCst)))
    }
}

/// See [`Link::hold`].
#[derive(Debug)]
pub struct Hold<H>(Arc<Link<H>>);

impl<H> Drop for Hold<H> {
    fn drop(&mut self) {
        self.0.touch();
        self.0.holds.fetch_sub(1, Ordering::SeqCst);
    }
}

/// Where a child is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// Started, handshake not finished.
    Starting,
    /// Taking calls.
    Running,
    /// Told to end, not yet gone.
    Stopping,
    /// Ended by itself or failed to start; not started again before a pause is over.
    BackingOff,
}

/// One child, for people.
#[derive(Debug, Clone)]
pub struct Status {
    /// Which.
    pub key: Key,
    /// Where in its life.
    pub phase: Phase,
    /// Process id of its guard, the parent of the program.
    pub pid: Option<u32>,
    /// Since its start.
    pub age: Option<Duration>,
    /// Starts after the first, since the server was last changed.
    pub restarts: u32,
    /// How it ended the last time.
    pub last_exit: Option<String>,
    /// The last lines it wrote to stderr (at most 20), without the values of its declared environment.
    pub stderr: Vec<String>,
    /// Calls under way.
    pub in_flight: usize,
}

type Outcome<H> = Option<Result<Arc<Link<H>>, Fault>>;

/// Children by key. `H` is what the handshake returns. Clones are the same pool.
#[derive(Debug)]
pub struct Pool<H>(Arc<Inner<H>>);

impl<H> Clone for Pool<H> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

#[derive(Debug)]
struct Inner<H> {
    settings: Settings,
    tasks: TaskTracker,
    /// Children that this process had before the first of ours.
    strangers: OnceLock<Arc<[Pid]>>,
    state: Mutex<State<H>>,
}

#[derive(Debug)]
struct State<H> {
    entries: HashMap<Key, Entry<H>>,
    seats: HashMap<ServerId, usize>,
    taken: usize,
    births: u64,
    shut: bool,
}

#[derive(Debug)]
struct Entry<H> {
    stage: Stage<H>,
    /// Tells this life from a later one of the same key.
    birth: u64,
    stop: CancellationToken,
    /// Cancelled when nothing is left of the child.
    gone: CancellationToken,
    pid: Option<u32>,
    tail: Tail,
    since: Instant,
    starts: u32,
    /// Failures in a row.
    failures: u32,
    last_exit: Option<String>,
}

#[derive(Debug)]
enum Stage<H> {
    Starting(watch::Receiver<Outcome<H>>),
    Running(Arc<Link<H>>),
    Stopping,
    Down { until: Instant, fault: Fault },
}

/// What [`Pool::get`] does next.
enum Next<H> {
    Take(Arc<Link<H>>),
    Wait(watch::Receiver<Outcome<H>>),
    WaitGone(CancellationToken),
    Start(life::Seat<H>, watch::Receiver<Outcome<H>>, watch::Sender<Outcome<H>>),
}

/// Children that are down and were not asked for since are forgotten after this.
const FORGET: Duration = Duration::from_mins(10);

impl<H: Send + Sync + 'static> Pool<H> {
    /// An empty pool, whose tasks belong to `tasks`.
    pub fn new(settings: Settings, tasks: TaskTracker) -> Self {
        let state = State { entries: HashMap::new(), seats: HashMap::new(), taken: 0, births: 0, shut: false };
        Self(Arc::new(Inner { settings, tasks, strangers: OnceLock::new(), state: Mutex::new(state) }))
    }

    /// The child of `key`, started if need be: `launch` says what to start, `init` speaks the handshake over it. Both are
    /// called only when this call is the one that starts it. A start goes on when the caller goes away.
    ///
    /// Fails with [`Kind::Setup`] when the program does not exist, [`Kind::Full`] at a cap, [`Kind::Unreachable`] (with
    /// `retry_after`) during the pause before a restart, and with the handshake's own fault.
    pub async fn get<L, F, R>(&self, key: &Key, launch: L, init: F) -> Result<Arc<Link<H>>, Fault>
    where
        L: FnOnce() -> Launch,
        F: FnOnce(Mux) -> R + Send + 'static,
        R: Future<Output = Result<H, Fault>> + Send + 'static,
    {
        let mut outcome = loop {
            match self.0.next(key)? {
                Next::Take(link) => return Ok(link),
                Next::Wait(outcome) => break outcome,
                Next::WaitGone(gone) => gone.cancelled().await,
                Next::Start(seat, outcome, tell) => {
                    let launch = launch();
                    self.0.tasks.spawn(life::live(seat, launch, init, tell));
                    break outcome;
                }
            }
        };
        let told = match outcome.wait_for(Option::is_some).await {
            Ok(told) => told.clone(),
            Err(_) => None,
        };
        told.unwrap_or_else(|| Err(Fault::gateway(Kind::Unreachable, "the start of the server was given up")))
    }

    /// The child of `key` if it is running. Looking is no use of it.
    pub fn peek(&self, key: &Key) -> Option<Arc<Link<H>>> {
        match &self.0.lock().entries.get(key)?.stage {
            Stage::Running(link) if !link.mux.is_closed() => Some(Arc::clone(link)),
            _ => None,
        }
    }

    /// Stops the child of `key` and waits until it is gone: its session or user has left.
    pub async fn release(&self, key: &Key) {
        self.0.stop_where(|other| other == key).await;
    }

    /// Stops all children of `server` that were started in this way and waits until they are gone: it was changed, disabled or
    /// removed. Pauses before restarts are forgotten too.
    pub async fn stop(&self, server: ServerId, way: i64) {
        self.0.stop_where(|key| key.server == server && key.way == way).await;
    }

    /// Stops everything, waits until it is gone, and starts nothing any more.
    pub async fn shutdown(&self) {
        self.0.lock().shut = true;
        self.0.stop_where(|_| true).await;
    }

    /// All children.
    pub fn statuses(&self) -> Vec<Status> {
        self.0.lock().entries.iter().map(|(key, entry)| entry.status(key)).collect()
    }

    /// Processes that are running, starting or stopping.
    pub fn running(&self) -> usize {
        self.0.lock().taken
    }

    /// Whether a child of this server is running, whoever uses it.
    pub fn runs(&self, server: ServerId) -> bool {
        self.0.lock().seats.contains_key(&server)
    }

    /// The same for each server that has any.
    pub fn by_server(&self) -> HashMap<ServerId, usize> {
        self.0.lock().seats.clone()
    }
}

impl<H> Inner<H> {
    /// Looked for by the first who is about to start a child.
    fn strangers(&self) -> Arc<[Pid]> {
        self.strangers.get_or_init(|| orphans::children().into()).clone()
    }

    fn lock(&self) -> MutexGuard<'_, State<H>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn next(self: &Arc<Self>, key: &Key) -> Result<Next<H>, Fault> {
        let mut state = self.lock();
        if state.shut {
            return Err(Fault::gateway(Kind::Unreachable, "the gateway is stopping"));
        }
        let now = Instant::now();
        let mut history = None;
        if let Some(entry) = state.entries.get(key) {
            match &entry.stage {
                Stage::Running(link) if link.mux.is_closed() => {
                    // Its life is about to see the same and to set a pause.
                    return Err(paused(self.settings.backoff_first, "the server process has just ended"));
                }
                Stage::Running(link) => {
                    link.touch();
                    return Ok(Next::Take(Arc::clone(link)));
                }
                Stage::Starting(outcome) => return Ok(Next::Wait(outcome.clone())),
                Stage::Stopping => return Ok(Next::WaitGone(entry.gone.clone())),
                Stage::Down { until, fault } if *until > now => {
                    return Err(paused(until.duration_since(now), &fault.detail));
                }
                Stage::Down { .. } => {
                    history = Some((entry.starts, entry.failures, entry.last_exit.clone(), entry.tail.clone()));
                }
            }
        }
        state.forget_old(now);
        let seat = self.seat(&mut state, key)?;
        let (tell, outcome) = watch::channel(None);
        let (starts, failures, last_exit, tail) = history.unwrap_or_default();
        let entry = Entry {
            stage: Stage::Starting(outcome.clone()),
            birth: seat.birth(),
            stop: seat.stop(),
            gone: seat.gone(),
            pid: None,
            tail,
            since: now,
            starts: starts + 1,
            failures,
            last_exit,
        };
        state.entries.insert(key.clone(), entry);
        Ok(Next::Start(seat, outcome, tell))
    }

    fn seat(self: &Arc<Self>, state: &mut State<H>, key: &Key) -> Result<life::Seat<H>, Fault> {
        let settings = &self.settings;
        if state.taken >= settings.max_children {
            let text = format!("the gateway already runs {} server processes, as many as it may", state.taken);
            return Err(Fault::gateway(Kind::Full, text));
        }
        let of_server = state.seats.entry(key.server).or_default();
        if *of_server >= settings.max_per_server {
            let text = format!("{of_server} processes of this server are running already, as many as may");
            return Err(Fault::gateway(Kind::Full, text));
        }
        *of_server += 1;
        state.taken += 1;
        state.births += 1;
        Ok(life::Seat::new(Arc::clone(self), key.clone(), state.births))
    }

    async fn stop_where(&self, which: impl Fn(&Key) -> bool) {
        let gone: Vec<CancellationToken> = {
            let mut state = self.lock();
            state.entries.retain(|key, entry| !(which(key) && matches!(entry.stage, Stage::Down { .. })));
            let chosen = state.entries.iter_mut().filter(|(key, _)| which(key));
            chosen
                .map(|(_, entry)| {
                    // A start keeps its stage until it has told those who wait for it.
                    if matches!(entry.stage, Stage::Running(_)) {
                        entry.stage = Stage::Stopping;
                    }
                    entry.stop.cancel();
                    entry.gone.clone()
                })
                .collect()
        };
        for gone in gone {
            gone.cancelled().await;
        }
    }
}

impl<H> State<H> {
    fn forget_old(&mut self, now: Instant) {
        self.entries.retain(|_, entry| match &entry.stage {
            Stage::Down { until, .. } => now.saturating_duration_since(*until) < FORGET,
            _ => true,
        });
    }
}

impl<H> Entry<H> {
    fn status(&self, key: &Key) -> Status {
        let (phase, in_flight) = match &self.stage {
            Stage::Starting(_) => (Phase::Starting, 0),
            Stage::Running(link) => (Phase::Running, link.mux.in_flight()),
            Stage::Stopping => (Phase::Stopping, 0),
            Stage::Down { .. } => (Phase::BackingOff, 0),
        };
        Status {
            key: key.clone(),
            phase,
            pid: self.pid,
            age: (phase != Phase::BackingOff).then(|| self.since.elapsed()),
            restarts: self.starts.saturating_sub(1),
            last_exit: self.last_exit.clone(),
            stderr: self.tail.lines(),
            in_flight,
        }
    }
}

fn paused(rest: Duration, why: &str) -> Fault {
    let text =
        format!("the server process is not running and will be started again in {:.1} s: {why}", rest.as_secs_f64());
    Fault { retry_after: Some(rest), ..Fault::upstream(Kind::Unreachable, Retry::NotSent, text) }
}
