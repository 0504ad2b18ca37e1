//! How many calls one replica takes at a time, and the queue of those that wait for a place. Below the bound a place costs one
//! atomic change to take; to give one back takes the semaphore's lock for a moment. What waits is bounded in number and in time,
//! and is served in order of arrival.

use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::time::{Duration, Instant};

use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::timeout;

use crate::fault::{Fault, Kind};

/// When it is worth coming back to a replica that had no place.
const TRY_AGAIN: Duration = Duration::from_secs(1);

/// The bounds of one replica.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Room {
    /// Calls under way.
    pub most: usize,
    /// Calls that wait for a place.
    pub queue: usize,
    /// How long one waits.
    pub patience: Duration,
}

impl Room {
    /// No bound.
    pub const ENDLESS: Self = Self { most: Semaphore::MAX_PERMITS, queue: 0, patience: Duration::ZERO };
}

/// The places of one replica.
#[derive(Debug)]
pub(super) struct Places {
    room: Room,
    /// Given back to whoever has waited longest.
    free: Semaphore,
    waiting: AtomicUsize,
}

/// A call in the queue; it leaves when dropped.
struct Waiting<'a>(&'a AtomicUsize);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, SeqCst);
    }
}

impl Places {
    pub(super) fn new(room: Room) -> Self {
        Self { room, free: Semaphore::new(room.most), waiting: AtomicUsize::new(0) }
    }

    pub(super) fn taken(&self) -> usize {
        self.room.most - self.free.available_permits()
    }

    pub(super) fn waiting(&self) -> usize {
        self.waiting.load(SeqCst)
    }

    /// Takes a place if there is one and nobody waits for it.
    pub(super) fn take(&self) -> bool {
        self.free.try_acquire().map(SemaphorePermit::forget).is_ok()
    }

    /// Takes a place, in turn. A call that must be answered by `until` waits half of the time that it has left and no longer:
    /// after that its answer would come too late.
    pub(super) async fn take_in_turn(&self, until: Option<Instant>) -> Result<(), Fault> {
        if self.take() {
            return Ok(());
        }
        let Room { most, queue, patience } = self.room;
        if self.waiting.fetch_update(SeqCst, SeqCst, |waiting| (waiting < queue).then_some(waiting + 1)).is_err() {
            return Err(full(format!(
                "{most} requests to this server are under way and {queue} wait, as many as may; try again later"
            )));
        }
        let _waiting = Waiting(&self.waiting);
        let left = until.map(|until| until.saturating_duration_since(Instant::now()) / 2);
        let patience = left.map_or(patience, |left| left.min(patience));
        if let Ok(Ok(place)) = timeout(patience, self.free.acquire()).await {
            place.forget();
            return Ok(());
        }
        let waited = patience.as_millis();
        Err(full(format!("{most} requests to this server are under way, and none of them ended within {waited} ms")))
    }

    /// Gives a place back.
    pub(super) fn free(&self) {
        self.free.add_permits(1);
    }
}

fn full(text: String) -> Fault {
    Fault { retry_after: Some(TRY_AGAIN), ..Fault::gateway(Kind::Full, text) }
}
