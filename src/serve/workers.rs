//! The threads that serve requests. Each has a runtime of its own, and a connection stays on the thread that it was given to,
//! with everything that its requests open: no task is stolen, no waker crosses threads, and what is allocated is freed where
//! it was. What runs beside requests has the process's own runtime.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use tokio::runtime::{Builder, Handle};
use tokio::sync::oneshot;

/// The threads. They end when this is dropped, and what still ran on them is cut off.
pub(super) struct Workers {
    each: Vec<Worker>,
}

struct Worker {
    handle: Handle,
    busy: Arc<AtomicUsize>,
    _stop: oneshot::Sender<()>,
}

/// A connection's seat on a thread.
pub(super) struct Seat {
    /// Where to spawn it.
    pub handle: Handle,
    /// To be dropped with it.
    pub busy: Busy,
}

/// Counts a connection on its thread until dropped.
pub(super) struct Busy(Arc<AtomicUsize>);

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
        let mut each = Vec::with_capacity(count);
        for number in 0..count.max(1) {
            let runtime = Builder::new_current_thread().enable_all().build()?;
            let handle = runtime.handle().clone();
            let (stop, stopped) = oneshot::channel::<()>();
            std::thread::Builder::new().name(format!("serve-{number}")).spawn(move || {
                // Ends when the sender is dropped.
                let _ = runtime.block_on(stopped);
                // Blocking work, such as hashing a password, is not waited for.
                runtime.shutdown_background();
            })?;
            each.push(Worker { handle, busy: Arc::default(), _stop: stop });
        }
        Ok(Self { each })
    }

    /// A seat on the thread with the fewest connections.
    pub(super) fn seat(&self) -> Seat {
        let idlest = self.each.iter().min_by_key(|worker| worker.busy.load(Relaxed));
        match idlest {
            Some(worker) => {
                worker.busy.fetch_add(1, Relaxed);
                Seat { handle: worker.handle.clone(), busy: Busy(worker.busy.clone()) }
            }
            None => Seat { handle: Handle::current(), busy: Busy(Arc::new(AtomicUsize::new(1))) },
        }
    }
}
