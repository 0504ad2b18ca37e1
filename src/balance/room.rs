//! How many calls one replica takes at a time, and the lines of those that wait for a place (`line`). What waits is bounded in
//! number and in time, and is served in order of arrival, as far as one thread goes. To take a place or give one back takes a
//! lock for a moment, and nothing else where nobody waits. How many places there are may change at any time: more are given to
//! who waits at once, fewer are reached as calls end.

use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker, ready};
use std::time::{Duration, Instant};

use tokio::time::timeout;

use super::figures::Figures;
use super::line::Lines;
use super::meter::Reading;
use crate::fault::{Fault, Kind};
use crate::id;
use crate::telemetry::{Histogram, Metrics, POOL};

/// When it is worth coming back to a replica that had no place.
const TRY_AGAIN: Duration = Duration::from_secs(1);

/// The bounds of one replica.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Room {
    /// Calls under way, at first.
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
    /// How long calls waited, since somebody last looked.
    waits: Histogram,
    turned_away: AtomicU64,
}

/// A call in line. One that is dropped leaves it, and gives on the place that it was given and has not taken.
struct Turn<'a> {
    places: &'a Places,
    since: Instant,
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
        let now = Instant::now();
        if let Some(number) = self.number {
            let next = self.places.lines().leave(number, id::thread(), now);
            next.into_iter().for_each(Waker::wake);
        }
        self.places.waits.observe(now.saturating_duration_since(self.since));
    }
}

impl Places {
    pub(super) fn new(room: Room, now: Instant) -> Self {
        let lines = Mutex::new(Lines::new(room.most, now));
        Self { room, lines, waits: Histogram::over(POOL), turned_away: AtomicU64::new(0) }
    }

    fn lines(&self) -> MutexGuard<'_, Lines> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many there are.
    pub(super) fn most(&self) -> usize {
        self.lines().most()
    }

    pub(super) fn taken(&self) -> usize {
        self.lines().taken()
    }

    pub(super) fn waiting(&self) -> usize {
        self.lines().waiting()
    }

    /// Takes a place if there is one and nobody waits for it.
    pub(super) fn take(&self, now: Instant) -> bool {
        self.lines().take(now)
    }

    /// From now on there are so many.
    pub(super) fn resize(&self, most: usize, now: Instant) {
        let woken = self.lines().resize(most, id::thread(), now);
        woken.into_iter().for_each(Waker::wake);
    }

    /// What was measured since the last time, in `figures` and `metrics` as far as it is to be told.
    pub(super) fn empty_into(
        &self,
        figures: &mut Figures,
        metrics: &Metrics,
        labels: [&str; 2],
        now: Instant,
    ) -> Reading {
        let (reading, most) = {
            let mut lines = self.lines();
            (lines.read(now), lines.most())
        };
        figures.over = reading.over;
        figures.held = reading.held;
        #[expect(clippy::cast_precision_loss, reason = "there are few places")]
        let most = most as f64;
        figures.offered = most * reading.over.as_secs_f64();
        figures.entered = reading.entered;
        if reading.entered > 0 || self.waits.count() > 0 {
            metrics.upstream_wait.on(labels, |all| {
                all.observe_none(reading.entered);
                figures.waited += self.waits.pour_into(all);
            });
        }
        figures.turned_away = self.turned_away.swap(0, Relaxed);
        if figures.turned_away > 0 {
            metrics.upstream_turned_away.on(labels, |all| all.add(figures.turned_away));
        }
        reading
    }

    /// Takes a place, in turn. A call that must be answered by `until` waits half of the time that it has left and no longer:
    /// after that its answer would come too late.
    pub(super) async fn take_in_turn(&self, until: Option<Instant>) -> Result<(), Fault> {
        let Room { queue, patience, .. } = self.room;
        let now = Instant::now();
        let number = {
            let mut lines = self.lines();
            if lines.take(now) {
                return Ok(());
            }
            if lines.waiting() < queue {
                Ok(lines.join(id::thread(), now))
            } else {
                lines.turn_away();
                Err(lines.most())
            }
        };
        let number = number.map_err(|most| {
            self.turned_away.fetch_add(1, Relaxed);
            full(format!(
                "{most} requests to this server are under way and {queue} wait, as many as may; try again later"
            ))
        })?;
        let turn = Turn { places: self, since: now, number: Some(number) };
        let left = until.map(|until| until.saturating_duration_since(now) / 2);
        let patience = left.map_or(patience, |left| left.min(patience));
        if timeout(patience, turn).await.is_ok() {
            return Ok(());
        }
        let (most, waited) = (self.most(), patience.as_millis());
        Err(full(format!("{most} requests to this server are under way, and none of them ended within {waited} ms")))
    }

    /// Gives a place back.
    pub(super) fn free(&self, now: Instant) {
        let next = self.lines().give_back(id::thread(), now);
        // Not under the lock: who is woken may look at once.
        next.into_iter().for_each(Waker::wake);
    }
}

fn full(text: String) -> Fault {
    Fault { retry_after: Some(TRY_AGAIN), ..Fault::gateway(Kind::Full, text) }
}
