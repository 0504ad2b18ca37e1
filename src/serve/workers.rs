//! The threads that serve requests. Each has a runtime of its own, and a connection stays on the thread that it was given to,
//! with everything that its requests open: no task is stolen, no waker crosses threads, and what is allocated is freed where
//! it was. What runs beside requests has the process's own runtime.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use tokio::runtime::{Builder, Handle};
use tokio::sync::oneshot;

use super::connection::Host;
use super::rounds::Rounds;
use super::uptake::Uptake;

/// The threads, one at least. They end when this is dropped, and what still ran on them is cut off.
pub(super) struct Workers {
    first: Worker,
    others: Vec<Worker>,
}

struct Worker {
    handle: Handle,
    busy: Arc<AtomicUsize>,
    uptake: Arc<Uptake>,
    rounds: Arc<Rounds>,
    _stop: oneshot::Sender<()>,
}

/// A connection's seat on a thread.
pub(super) struct Seat {
    /// Where to spawn it.
    pub handle: Handle,
    /// To be dropped with it.
    _busy: Busy,
    /// What its thread has in hand.
    pub uptake: Arc<Uptake>,
    /// What looks after it.
    pub rounds: Arc<Rounds>,
}

/// Counts a connection on its thread until dropped.
struct Busy(Arc<AtomicUsize>);

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Relaxed);
    }
}

impl Workers {
    /// Starts so many threads; one a processor when none.
    pub(super) fn start(count: Option<usize>) -> io::Result<Self> {
        let count = match count {
            Some(count) => count,
            None => std::thread::available_parallelism()?.get(),
        };
        let others = (1..count).map(Worker::start).collect::<io::Result<_>>()?;
        Ok(Self { first: Worker::start(0)?, others })
    }

    fn each(&self) -> impl Iterator<Item = &Worker> {
        std::iter::once(&self.first).chain(&self.others)
    }

    /// Has each thread look after its connections, until the process cuts them off.
    pub(super) fn look_after(&self, host: &Arc<Host>) {
        for worker in self.each() {
            let (rounds, uptake, host) = (Arc::clone(&worker.rounds), Arc::clone(&worker.uptake), Arc::clone(host));
            worker.handle.spawn(async move { rounds.make(&host, &uptake).await });
        }
    }

    /// A seat on the thread with the fewest connections.
    pub(super) fn seat(&self) -> Seat {
        let idlest = self.each().min_by_key(|worker| worker.busy.load(Relaxed)).unwrap_or(&self.first);
        idlest.busy.fetch_add(1, Relaxed);
        Seat {
            handle: idlest.handle.clone(),
            _busy: Busy(Arc::clone(&idlest.busy)),
            uptake: Arc::clone(&idlest.uptake),
            rounds: Arc::clone(&idlest.rounds),
        }
    }
}

impl Worker {
    fn start(number: usize) -> io::Result<Self> {
        let uptake = Arc::<Uptake>::default();
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let handle = runtime.handle().clone();
        let (stop, stopped) = oneshot::channel::<()>();
        let timed = Arc::clone(&uptake);
        std::thread::Builder::new().name(format!("serve-{number}")).spawn(move || {
            runtime.block_on(async {
                tokio::select! {
                    // Ends when the sender is dropped.
                    _ = stopped => {}
                    () = timed.keep_time() => {}
                }
            });
            // Blocking work, such as hashing a password, is not waited for.
            runtime.shutdown_background();
        })?;
        Ok(Self { handle, busy: Arc::default(), uptake, rounds: Arc::default(), _stop: stop })
    }
}
