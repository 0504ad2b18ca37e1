//! What was measured of one replica over the last minutes: sums in slots, so that what is old goes away by itself. Ratios and
//! averages are made when somebody asks, and there are none without a denominator.

use std::ops::AddAssign;
use std::time::{Duration, Instant};

use super::sockets::Dial;

/// How many slots there are.
const SLOTS: u64 = 30;
/// How long one is.
const SLOT: Duration = Duration::from_secs(10);
/// The time of which figures are.
pub const WINDOW: Duration = Duration::from_secs(SLOTS * SLOT.as_secs());

/// How many times were measured, and their sum.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tally {
    /// How many.
    pub count: u64,
    /// Of all.
    pub sum: Duration,
}

impl From<(u64, Duration)> for Tally {
    fn from((count, sum): (u64, Duration)) -> Self {
        Self { count, sum }
    }
}

impl AddAssign<(u64, Duration)> for Tally {
    fn add_assign(&mut self, (count, sum): (u64, Duration)) {
        self.count += count;
        self.sum += sum;
    }
}

/// Sums of some time, of one replica or several.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Figures {
    /// Of how long; of several replicas, of the one that is known longest.
    pub over: Duration,
    /// Places taken, times seconds.
    pub held: f64,
    /// Places that there were, times seconds.
    pub offered: f64,
    /// Requests that found a place at once.
    pub entered: u64,
    /// Those that waited for one, whether they got it or not.
    pub waited: Tally,
    /// Those that found no room to wait either.
    pub turned_away: u64,
    /// How long the limit should have grown and might not; of several replicas, added up.
    pub pressed: Duration,
    /// Requests that went out on a new connection and have ended.
    pub fresh: u64,
    /// Those that went out on one that had carried another before.
    pub reused: u64,
    /// How connections that were to be opened did.
    pub dials: [u64; Dial::ALL.len()],
    /// TCP handshakes.
    pub connect: Tally,
    /// TLS handshakes.
    pub tls: Tally,
}

impl AddAssign<&Self> for Figures {
    fn add_assign(&mut self, other: &Self) {
        self.over = self.over.max(other.over);
        self.held += other.held;
        self.offered += other.offered;
        self.entered += other.entered;
        self.waited += (other.waited.count, other.waited.sum);
        self.turned_away += other.turned_away;
        self.pressed += other.pressed;
        self.fresh += other.fresh;
        self.reused += other.reused;
        self.dials.iter_mut().zip(other.dials).for_each(|(sum, count)| *sum += count);
        self.connect += (other.connect.count, other.connect.sum);
        self.tls += (other.tls.count, other.tls.sum);
    }
}

impl Figures {
    /// Places taken, as a fraction of all, on average over the time. After a limit was lowered more may be taken than there are.
    pub fn utilization(&self) -> Option<f64> {
        (self.offered > 0.0).then(|| (self.held / self.offered).min(1.0))
    }

    /// Requests in flight, on average over the time.
    pub fn average_in_flight(&self) -> Option<f64> {
        (!self.over.is_zero()).then(|| self.held / self.over.as_secs_f64())
    }

    /// Average time to open a connection, TCP and TLS, milliseconds.
    pub fn connection_latency(&self) -> Option<f64> {
        average(self.connect.sum + self.tls.sum, self.connect.count)
    }

    /// Average time in the queue of all requests, also of those that did not wait; milliseconds.
    pub fn connection_wait(&self) -> Option<f64> {
        average(self.waited.sum, self.entered + self.waited.count)
    }

    /// Connections that were not open in time, as a fraction of those that were waited for to the end.
    pub fn connection_timeouts(&self) -> Option<f64> {
        let of = |dial: Dial| self.dials[dial as usize];
        let timed_out = of(Dial::TimedOut);
        ratio(timed_out, timed_out + of(Dial::Connected) + of(Dial::Failed))
    }

    /// How many connections were to be opened.
    pub fn dialled(&self) -> u64 {
        self.dials.iter().sum()
    }

    /// How many of these failed for another reason than time.
    pub fn failed(&self) -> u64 {
        self.dials[Dial::Failed as usize]
    }

    /// Requests on a connection that had carried another before, as a fraction of all.
    pub fn reuse_rate(&self) -> Option<f64> {
        ratio(self.reused, self.fresh + self.reused)
    }

    /// Average time of a TLS handshake, milliseconds.
    pub fn handshake(&self) -> Option<f64> {
        average(self.tls.sum, self.tls.count)
    }
}

#[expect(clippy::cast_precision_loss, reason = "counts of some minutes are far below 2^53")]
fn ratio(part: u64, whole: u64) -> Option<f64> {
    (whole > 0).then(|| part as f64 / whole as f64)
}

#[expect(clippy::cast_precision_loss, reason = "counts of some minutes are far below 2^53")]
fn average(sum: Duration, count: u64) -> Option<f64> {
    (count > 0).then(|| sum.as_secs_f64() * 1e3 / count as f64)
}

/// The figures of the last [`WINDOW`].
#[derive(Debug)]
pub(super) struct Window {
    began: Instant,
    /// Each with its number since the beginning; another one takes its place a window later.
    slots: Box<[(u64, Figures)]>,
}

impl Window {
    pub(super) fn new(began: Instant) -> Self {
        Self { began, slots: (0..SLOTS).map(|number| (number, Figures::default())).collect() }
    }

    fn number(&self, now: Instant) -> u64 {
        now.saturating_duration_since(self.began).as_secs() / SLOT.as_secs()
    }

    /// Takes in what was measured up to now.
    pub(super) fn take_in(&mut self, figures: &Figures, now: Instant) {
        let number = self.number(now);
        let slot = &mut self.slots[(number % SLOTS) as usize];
        if slot.0 != number {
            *slot = (number, Figures::default());
        }
        // Seconds of one slot follow each other, while replicas that are added up run at the same time.
        let over = slot.1.over + figures.over;
        slot.1 += figures;
        slot.1.over = over;
    }

    /// The sums of the window that ends now.
    pub(super) fn sum(&self, now: Instant) -> Figures {
        let newest = self.number(now);
        let mut sum = Figures::default();
        let mut over = Duration::ZERO;
        for (_, figures) in
            self.slots.iter().filter(|(number, _)| (newest.saturating_sub(SLOTS - 1)..=newest).contains(number))
        {
            sum += figures;
            over += figures.over;
        }
        Figures { over, ..sum }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_a_denominator_there_is_no_figure() {
        let none = Figures::default();
        let all = [none.utilization(), none.average_in_flight(), none.connection_latency(), none.connection_wait()];
        assert_eq!(all, [None; 4]);
        assert_eq!([none.connection_timeouts(), none.reuse_rate(), none.handshake()], [None; 3]);
    }

    #[test]
    fn figures_are_what_their_names_say() {
        let second = |seconds| Duration::from_secs(seconds);
        let figures = Figures {
            over: second(10),
            held: 30.0,
            offered: 100.0,
            entered: 90,
            waited: Tally { count: 10, sum: second(5) },
            fresh: 5,
            reused: 95,
            dials: [6, 2, 2, 7],
            connect: Tally { count: 6, sum: second(3) },
            tls: Tally { count: 3, sum: second(6) },
            ..Figures::default()
        };
        let all =
            [figures.utilization(), figures.average_in_flight(), figures.connection_timeouts(), figures.reuse_rate()];
        assert_eq!(all, [Some(0.3), Some(3.0), Some(0.2), Some(0.95)], "who gave up says nothing of the connection");
        let over = Figures { held: 101.0, ..figures };
        assert_eq!(over.utilization(), Some(1.0), "all is all");
        let times = [figures.connection_latency(), figures.connection_wait(), figures.handshake()];
        assert_eq!(times, [Some(1_500.0), Some(50.0), Some(2_000.0)]);
    }

    #[test]
    fn what_is_older_than_the_window_is_gone_also_when_nobody_measured_since() {
        let start = Instant::now();
        let mut window = Window::new(start);
        let one = Figures { over: Duration::from_secs(1), held: 2.0, reused: 1, ..Figures::default() };
        for second in 1..=1000_u64 {
            window.take_in(&one, start + Duration::from_secs(second));
            let sum = window.sum(start + Duration::from_secs(second));
            assert_eq!(sum.over, Duration::from_secs(sum.reused));
            assert!((sum.reused == second) || (291..=300).contains(&sum.reused), "{} after {second}", sum.reused);
        }
        assert_eq!(window.sum(start + Duration::from_secs(1290)).reused, 1);
        assert_eq!(window.sum(start + Duration::from_secs(1300)), Figures::default());
    }
}
