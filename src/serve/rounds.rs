//! One look at all connections of a thread, now and then, in place of a timer for each: a connection that rests costs nothing.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use super::connection::Host;
use super::uptake::Uptake;
use super::watch::{Pulse, Verdict};

/// The longest time between two looks.
const LONGEST: Duration = Duration::from_secs(1);
/// The shortest.
const SHORTEST: Duration = Duration::from_millis(10);
/// A connection passes a time that it may take by one part in so many at most, as far as the shortest pause allows.
const PARTS: u32 = 10;

/// The connections of one thread.
#[derive(Default)]
pub(super) struct Rounds {
    connections: Mutex<Vec<Weak<Pulse>>>,
}

impl Rounds {
    fn connections(&self) -> MutexGuard<'_, Vec<Weak<Pulse>>> {
        self.connections.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Looks after a connection for as long as it is there.
    pub(super) fn include(&self, pulse: &Arc<Pulse>) {
        self.connections().push(Arc::downgrade(pulse));
    }

    /// Calls the connections of which `which` is true.
    fn call(&self, which: impl Fn(&Pulse) -> bool) {
        let mut connections = self.connections();
        connections.retain(|pulse| {
            let pulse = pulse.upgrade();
            if let Some(pulse) = pulse.as_deref().filter(|pulse| which(pulse)) {
                pulse.call();
            }
            pulse.is_some()
        });
        let room = connections.len() * 2;
        connections.shrink_to(room);
    }

    /// Calls each connection for which something is due, and all of them when the process begins to stop and when what is left
    /// is cut off. Ends then.
    pub(super) async fn make(&self, host: &Host, uptake: &Uptake) {
        let limits = &host.limits;
        let shortest = limits.header_read_timeout.min(limits.keep_alive).min(limits.write_timeout);
        let pause = (shortest / PARTS).clamp(SHORTEST, LONGEST);
        let mut stopping = false;
        loop {
            tokio::select! {
                biased;
                () = host.cut.cancelled() => return self.call(|_| true),
                () = host.shutdown.cancelled(), if !stopping => {
                    stopping = true;
                    uptake.open();
                    self.call(|_| true);
                }
                () = tokio::time::sleep(pause) => {
                    uptake.ease();
                    self.call(|pulse| {
                        for _ in 0..pulse.reset_slow(limits) {
                            tracing::debug!("stream reset: its reader makes no room");
                            host.cut_for("slow_reader");
                        }
                        // While the process stops, whoever rests has a time to go.
                        stopping || pulse.verdict(limits) != Verdict::Wait
                    });
                }
            }
        }
    }
}
