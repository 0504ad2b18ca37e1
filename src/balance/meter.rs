//! How much of a replica's places is taken, over time: an integral that moves when a place is taken or given back, under the lock
//! that is held for that anyway. A few additions; nothing is sampled.

use std::time::{Duration, Instant};

/// See the module.
#[derive(Debug)]
pub(super) struct Meter {
    since: Instant,
    at: Instant,
    /// Places times nanoseconds.
    held: u64,
    peak: usize,
    entered: u64,
    queued: bool,
}

/// What was measured since the last look.
#[derive(Debug, Clone, Copy)]
pub(super) struct Reading {
    /// How long that was.
    pub(super) over: Duration,
    /// Places times seconds.
    pub(super) held: f64,
    /// Most that were taken at once.
    pub(super) peak: usize,
    /// Places that were taken at once, without waiting.
    pub(super) entered: u64,
    /// Whether somebody waited, or was turned away because too many did.
    pub(super) waited: bool,
}

impl Meter {
    pub(super) fn new(now: Instant) -> Self {
        Self { since: now, at: now, held: 0, peak: 0, entered: 0, queued: false }
    }

    /// So many places were taken until now. Threads look at the clock before they wait for the lock, so it may seem to go back.
    pub(super) fn pass(&mut self, taken: usize, now: Instant) {
        let passed = u64::try_from(now.saturating_duration_since(self.at).as_nanos()).unwrap_or(u64::MAX);
        self.held = self.held.saturating_add(passed.saturating_mul(taken as u64));
        self.at = self.at.max(now);
    }

    /// So many are taken from now on, one more than before.
    pub(super) fn enter(&mut self, taken: usize) {
        self.peak = self.peak.max(taken);
        self.entered += 1;
    }

    /// Somebody could not be let in at once.
    pub(super) fn queue(&mut self) {
        self.queued = true;
    }

    /// What was measured since the last reading; so many are taken and wait now. Call [`pass`](Self::pass) before.
    pub(super) fn read(&mut self, taken: usize, waiting: usize) -> Reading {
        let (over, peak) = (self.at.saturating_duration_since(self.since), self.peak.max(taken));
        #[expect(clippy::cast_precision_loss, reason = "the seconds of some places, to many digits")]
        let held = self.held as f64 / 1e9;
        let reading = Reading { over, held, peak, entered: self.entered, waited: self.queued || waiting > 0 };
        *self = Self { peak: taken, ..Self::new(self.at) };
        reading
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_integral_is_of_places_and_time_however_often_it_is_read() {
        let (start, ms) = (Instant::now(), Duration::from_millis);
        let mut meter = Meter::new(start);
        meter.pass(0, start + ms(100));
        meter.enter(1);
        meter.pass(1, start + ms(300));
        meter.enter(2);
        // Another thread looked at the clock a little earlier.
        meter.pass(2, start + ms(250));
        meter.pass(2, start + ms(400));
        let reading = meter.read(1, 0);
        assert!((reading.held - 0.4).abs() < 1e-9, "{reading:?}");
        assert_eq!((reading.over, reading.peak, reading.entered, reading.waited), (ms(400), 2, 2, false));
        meter.pass(1, start + ms(900));
        let reading = meter.read(0, 3);
        assert!((reading.held - 0.5).abs() < 1e-9, "{reading:?}");
        assert_eq!((reading.over, reading.peak, reading.entered, reading.waited), (ms(500), 1, 0, true));
    }
}
