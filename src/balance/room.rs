//! How many calls one replica takes at a time, and the lines of those that wait for a place (`line`). What waits is bounded in
//! number and in time, and is served in order of arrival, as far as one thread goes. To take a place or give one back takes a
//! lock for a moment, and nothing else where nobody waits.

use std::pin::Pin;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker, ready};
use std::time::{Duration, Instant};

use tokio::time::timeout;

use super::line::Lines;
use crate::fault::{Fault, Kind};
use crate::id;

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
#[derive(Debug)]
pub(super) struct Places {
    room: Room,
    lines: Mutex<Lines>,
}

/// A call in line. One that is dropped leaves it, and gives on the place that it was given and has not taken.
struct Turn<'a> {
    places: &'a Places,
    number: Option<u64>,
}

impl Future for Turn<'_> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        if let Some(number) = self.number {
            ready!(self.places.lines().look(number, context));
            self.number = None;
        }
        Poll::Ready(())
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        if let Some(number) = self.number {
            let next = self.places.lines().leave(number, id::thread());
            next.into_iter().for_each(Waker::wake);
        }
    }
}

impl Places {
    pub(super) fn new(room: Room) -> Self {
        Self { room, lines: Mutex::new(Lines::new(room.most)) }
    }

    fn lines(&self) -> MutexGuard<'_, Lines> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn taken(&self) -> usize {
        self.room.most - self.lines().free()
    }

    pub(super) fn waiting(&self) -> usize {
        self.lines().waiting()
    }

    /// Takes a place if there is one and nobody waits for it.
    pub(super) fn take(&self) -> bool {
        self.lines().take()
    }

    /// Takes a place, in turn. A call that must be answered by `until` waits half of the time that it has left and no longer:
    /// after that its answer would come too late.
    pub(super) async fn take_in_turn(&self, until: Option<Instant>) -> Result<(), Fault> {
        let Room { most, queue, patience } = self.room;
        let now = Instant::now();
        let number = {
            let mut lines = self.lines();
            if lines.take() {
                return Ok(());
            }
            (lines.waiting() < queue).then(|| lines.join(id::thread(), now))
        };
        let Some(number) = number else {
            return Err(full(format!(
                "{most} requests to this server are under way and {queue} wait, as many as may; try again later"
            )));
        };
        let turn = Turn { places: self, number: Some(number) };
        let left = until.map(|until| until.saturating_duration_since(now) / 2);
        let patience = left.map_or(patience, |left| left.min(patience));
        if timeout(patience, turn).await.is_ok() {
            return Ok(());
        }
        let waited = patience.as_millis();
        Err(full(format!("{most} requests to this server are under way, and none of them ended within {waited} ms")))
    }

    /// Gives a place back.
    pub(super) fn free(&self) {
        let next = self.lines().give_back(id::thread());
        // Not under the lock: who is woken may look at once.
        next.into_iter().for_each(Waker::wake);
    }
}

fn full(text: String) -> Fault {
    Fault { retry_after: Some(TRY_AGAIN), ..Fault::gateway(Kind::Full, text) }
}
