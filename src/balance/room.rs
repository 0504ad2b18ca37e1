//! How many calls one replica takes at a time, and the queue of those that wait for a place. Below the bound a place costs one
//! atomic change and nothing is locked. What waits is bounded in number and in time, and is served in order of arrival but
//! for the rare call that comes in the very moment in which a place becomes free.

use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::time::{Duration, Instant};

use tokio::sync::Notify;
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
    pub const ENDLESS: Self = Self { most: usize::MAX, queue: 0, patience: Duration::ZERO };
}

/// The places of one replica.
#[derive(Debug, Default)]
pub(super) struct Places {
    taken: AtomicUsize,
    waiting: AtomicUsize,
    freed: Notify,
}

/// A call in the queue; it leaves when dropped.
struct Waiting<'a>(&'a AtomicUsize);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, SeqCst);
    }
}

impl Places {
    pub(super) fn taken(&self) -> usize {
        self.taken.load(SeqCst)
    }

    pub(super) fn waiting(&self) -> usize {
        self.waiting.load(SeqCst)
    }

    /// Takes a place if there is one and nobody waits for it.
    pub(super) fn take(&self, room: Room) -> bool {
        self.waiting.load(SeqCst) == 0 && self.grab(room)
    }

    fn grab(&self, room: Room) -> bool {
        self.taken.fetch_update(SeqCst, SeqCst, |taken| (taken < room.most).then_some(taken + 1)).is_ok()
    }

    /// Takes a place, in turn. A call that must be answered by `until` waits half of the time that it has left and no longer:
    /// after that its answer would come too late.
    pub(super) async fn take_in_turn(&self, room: Room, until: Option<Instant>) -> Result<(), Fault> {
        if self.take(room) {
            return Ok(());
        }
        if self.waiting.fetch_update(SeqCst, SeqCst, |waiting| (waiting < room.queue).then_some(waiting + 1)).is_err() {
            let text = format!(
                "{} requests to this server are under way and {} wait, as many as may; try again later",
                room.most, room.queue
            );
            return Err(full(text));
        }
        let _waiting = Waiting(&self.waiting);
        let left = until.map(|until| until.saturating_duration_since(Instant::now()) / 2);
        let patience = left.map_or(room.patience, |left| left.min(room.patience));
        let turn = async {
            loop {
                // Listening first, then looking: a place that becomes free in between is not missed. Who is dropped here after
                // it was told hands its turn on.
                let mut freed = std::pin::pin!(self.freed.notified());
                freed.as_mut().enable();
                if self.grab(room) {
                    return;
                }
                freed.await;
            }
        };
        timeout(patience, turn).await.map_err(|_| {
            let (most, waited) = (room.most, patience.as_millis());
            full(format!("{most} requests to this server are under way, and none of them ended within {waited} ms"))
        })
    }

    /// Gives a place back.
    pub(super) fn free(&self) {
        self.taken.fetch_sub(1, SeqCst);
        if self.waiting.load(SeqCst) > 0 {
            self.freed.notify_one();
        }
    }
}

fn full(text: String) -> Fault {
    Fault { retry_after: Some(TRY_AGAIN), ..Fault::gateway(Kind::Full, text) }
}
