//! What one call of a client has on its way through the replicas of a server: the time by which it must be answered, and how many
//! of them were tried.

use std::sync::atomic::{AtomicU16, Ordering::Relaxed};
use std::time::Instant;

use crate::balance::InFlight;

/// See the module. The gateway's own questions have none of it: [`Trip::default`].
#[derive(Debug, Default)]
pub struct Trip {
    until: Option<Instant>,
    tried: AtomicU16,
}

impl Trip {
    /// One that must have ended by then.
    pub fn by(until: Option<Instant>) -> Self {
        Self { until, tried: AtomicU16::new(0) }
    }

    /// One for what must be done first: due at the same time, and counted by itself.
    #[must_use]
    pub fn beside(&self) -> Self {
        Self::by(self.until)
    }

    /// When the answer is due.
    pub fn until(&self) -> Option<Instant> {
        self.until
    }

    /// One more replica is tried.
    pub fn tries(&self) {
        self.tried.fetch_add(1, Relaxed);
    }

    /// The same with a place on it.
    pub fn begin(&self, mut place: InFlight) -> InFlight {
        self.tries();
        place.due_by(self.until);
        place
    }

    /// How many times a replica was tried.
    pub fn tried(&self) -> u16 {
        self.tried.load(Relaxed)
    }
}
