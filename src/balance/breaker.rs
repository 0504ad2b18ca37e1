//! The circuit breaker of one replica. Closed, it lets everything through and counts failures in a row; five open it for a
//! minute; then one probe at a time goes through, and three good ones in a row close it again.
//!
//! It is a state machine over a clock that is passed in, behind a lock that is held for a few assignments and never over an
//! await. A replica without trouble never takes the lock: one atomic word says so. A call's outcome counts only in the phase
//! in which the call was let through, so that the late end of an old call cannot speak about a newer state.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::fault::{Fault, Kind};

/// Failures in a row that open a breaker.
pub const FAILURES_TO_OPEN: u32 = 5;
/// How long an open breaker lets nothing through.
pub const OPEN_FOR: Duration = Duration::from_mins(1);
/// Good probes in a row that close a breaker.
pub const SUCCESSES_TO_CLOSE: u32 = 3;
/// How long a probe keeps the others out. After it the next probe may go, and what became of the old one no longer counts:
/// a call that runs for an hour must not keep a replica out of use for an hour.
pub const PROBE_LEASE: Duration = Duration::from_mins(1);

/// What a status page calls a breaker's state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BreakerState {
    /// Everything passes.
    Closed,
    /// Nothing passes.
    Open,
    /// One probe at a time passes.
    HalfOpen,
}

impl BreakerState {
    /// The label in metrics and status pages.
    pub fn label(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::Open => "open",
            Self::HalfOpen => "half_open",
        }
    }
}

/// The last failure that counted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LastFault {
    /// What happened.
    pub kind: Kind,
    /// One sentence for an administrator, at most 300 characters.
    pub detail: String,
    /// When.
    pub at: Instant,
}

/// What a breaker looks like from outside.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BreakerStatus {
    /// Its state.
    pub state: BreakerState,
    /// Since when.
    pub since: Instant,
    /// The last failure that counted, kept when the breaker closes.
    pub last_fault: Option<LastFault>,
}

/// Leave to send one call. It says in which phase of the breaker it was given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Pass {
    phase: u64,
    pub(super) probe: bool,
}

/// How a call ended, as a breaker sees it.
#[derive(Debug, Clone, Copy)]
pub(super) enum Outcome<'a> {
    Good,
    Bad(&'a Fault),
}

#[derive(Debug)]
enum Phase {
    Closed {
        failures: u32,
    },
    Open {
        until: Instant,
    },
    HalfOpen {
        successes: u32,
        /// Until when the probe under way, if any, keeps others out.
        probe: Option<Instant>,
    },
}

#[derive(Debug)]
struct Inner {
    phase: Phase,
    /// Counts phases, and probes that were given up on.
    number: u64,
    since: Instant,
    last_fault: Option<LastFault>,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Breaker {
    /// `phase number << 1 | 1` while closed without a failure, else `phase number << 1`.
    quick: AtomicU64,
    inner: Mutex<Inner>,
}

impl Breaker {
    pub(super) fn new(now: Instant) -> Self {
        let inner = Inner { phase: Phase::Closed { failures: 0 }, number: 0, since: now, last_fault: None };
        Self { quick: AtomicU64::new(1), inner: Mutex::new(inner) }
    }

    /// How long nothing will pass: zero when a call would pass now. Takes nothing.
    pub(super) fn wait(&self, now: Instant) -> Duration {
        if self.calm().is_some() {
            return Duration::ZERO;
        }
        match &self.lock().phase {
            Phase::Closed { .. } => Duration::ZERO,
            Phase::Open { until } => until.saturating_duration_since(now),
            Phase::HalfOpen { probe, .. } => {
                probe.map_or(Duration::ZERO, |until| until.saturating_duration_since(now).min(Duration::from_secs(1)))
            }
        }
    }

    /// Lets a call through or not. What is let through must end in `settle` or `cancel`, whatever becomes of it.
    pub(super) fn admit(&self, now: Instant) -> Option<Pass> {
        if let Some(phase) = self.calm() {
            return Some(Pass { phase, probe: false });
        }
        let mut inner = self.lock();
        match inner.phase {
            Phase::Closed { .. } => return Some(Pass { phase: inner.number, probe: false }),
            Phase::Open { until } if now < until => return None,
            Phase::HalfOpen { probe: Some(until), .. } if now < until => return None,
            Phase::Open { .. } => {
                inner.enter(Phase::HalfOpen { successes: 0, probe: Some(now + PROBE_LEASE) }, now);
            }
            Phase::HalfOpen { successes, probe } => {
                // A probe that outstayed its lease loses its say, by number.
                inner.number += u64::from(probe.is_some());
                inner.phase = Phase::HalfOpen { successes, probe: Some(now + PROBE_LEASE) };
            }
        }
        self.publish(&inner);
        Some(Pass { phase: inner.number, probe: true })
    }

    /// Ends the wait of an open breaker: the next call is its probe.
    pub(super) fn hasten(&self, now: Instant) {
        if self.calm().is_none()
            && let Phase::Open { until } = &mut self.lock().phase
        {
            *until = now.min(*until);
        }
    }

    /// Counts the end of a call that was let through.
    pub(super) fn settle(&self, pass: Pass, outcome: Outcome<'_>, now: Instant) {
        if !pass.probe && matches!(outcome, Outcome::Good) && self.calm().is_some() {
            return;
        }
        let mut inner = self.lock();
        if inner.number != pass.phase {
            return;
        }
        if let Outcome::Bad(fault) = outcome {
            let detail = fault.detail.chars().take(300).collect();
            inner.last_fault = Some(LastFault { kind: fault.kind, detail, at: now });
        }
        match (&mut inner.phase, outcome) {
            (Phase::Closed { failures }, Outcome::Good) => *failures = 0,
            (Phase::Closed { failures }, Outcome::Bad(_)) => {
                *failures += 1;
                if *failures >= FAILURES_TO_OPEN {
                    inner.enter(Phase::Open { until: now + OPEN_FOR }, now);
                }
            }
            (Phase::HalfOpen { successes, probe }, Outcome::Good) => {
                *probe = None;
                *successes += 1;
                if *successes >= SUCCESSES_TO_CLOSE {
                    inner.enter(Phase::Closed { failures: 0 }, now);
                }
            }
            (Phase::HalfOpen { .. }, Outcome::Bad(_)) => inner.enter(Phase::Open { until: now + OPEN_FOR }, now),
            // A phase is numbered, and nothing is let through in this one.
            (Phase::Open { .. }, _) => {}
        }
        self.publish(&inner);
    }

    /// Ends a call that says nothing about the replica: a probe's place is free again.
    pub(super) fn cancel(&self, pass: Pass) {
        if !pass.probe {
            return;
        }
        let mut inner = self.lock();
        if inner.number == pass.phase
            && let Phase::HalfOpen { probe, .. } = &mut inner.phase
        {
            *probe = None;
        }
    }

    pub(super) fn status(&self, now: Instant) -> BreakerStatus {
        let inner = self.lock();
        let (state, since) = match inner.phase {
            Phase::Closed { .. } => (BreakerState::Closed, inner.since),
            Phase::Open { until } if now >= until => (BreakerState::HalfOpen, until),
            Phase::Open { .. } => (BreakerState::Open, inner.since),
            Phase::HalfOpen { .. } => (BreakerState::HalfOpen, inner.since),
        };
        BreakerStatus { state, since, last_fault: inner.last_fault.clone() }
    }

    /// The last failure, while nothing has gone well since the breaker opened.
    pub(super) fn failing(&self) -> Option<LastFault> {
        if self.calm().is_some() {
            return None;
        }
        let inner = self.lock();
        match inner.phase {
            Phase::Open { .. } | Phase::HalfOpen { successes: 0, .. } => inner.last_fault.clone(),
            Phase::Closed { .. } | Phase::HalfOpen { .. } => None,
        }
    }

    /// The number of the phase while it is closed and without a failure.
    fn calm(&self) -> Option<u64> {
        let quick = self.quick.load(Ordering::Acquire);
        (quick & 1 == 1).then_some(quick >> 1)
    }

    fn publish(&self, inner: &Inner) {
        let calm = matches!(inner.phase, Phase::Closed { failures: 0 });
        self.quick.store(inner.number << 1 | u64::from(calm), Ordering::Release);
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // Nothing under the lock can panic half way, so a poisoned one is still whole.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn enter(&mut self, phase: Phase, now: Instant) {
        self.phase = phase;
        self.number += 1;
        self.since = now;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fault::Retry;
    use proptest::prelude::*;

    #[test]
    fn whoever_looks_after_a_replica_need_not_wait_for_a_probe() {
        let now = Instant::now();
        let breaker = Breaker::new(now);
        breaker.hasten(now);
        fail(&breaker, 5, now);
        assert_eq!(breaker.admit(now), None);
        breaker.hasten(now);
        let probe = breaker.admit(now).unwrap();
        assert!(probe.probe);
        breaker.hasten(now);
        assert_eq!(breaker.admit(now), None, "one probe at a time");
        breaker.settle(probe, Outcome::Bad(&broken()), now);
        assert_eq!(breaker.admit(now), None, "a failed one opens it for as long as ever");
    }

    fn broken() -> Fault {
        Fault::upstream(Kind::Dropped, Retry::MaybeSent, "the connection ended")
    }

    fn fail(breaker: &Breaker, times: u32, now: Instant) {
        for _ in 0..times {
            let pass = breaker.admit(now).expect("a closed breaker lets calls through");
            breaker.settle(pass, Outcome::Bad(&broken()), now);
        }
    }

    #[test]
    fn opens_after_five_failures_in_a_row_and_a_success_starts_the_count_anew() {
        let now = Instant::now();
        let breaker = Breaker::new(now);
        fail(&breaker, 4, now);
        let pass = breaker.admit(now).unwrap();
        breaker.settle(pass, Outcome::Good, now);
        fail(&breaker, 4, now);
        assert_eq!(breaker.status(now).state, BreakerState::Closed);
        fail(&breaker, 1, now);
        assert_eq!(breaker.admit(now), None);
        let status = breaker.status(now);
        assert_eq!((status.state, status.since), (BreakerState::Open, now));
        assert_eq!(status.last_fault.map(|fault| fault.kind), Some(Kind::Dropped));
        assert_eq!(breaker.wait(now + Duration::from_secs(45)), Duration::from_secs(15));
    }

    #[test]
    fn after_a_minute_three_good_probes_one_at_a_time_close_it() {
        let now = Instant::now();
        let breaker = Breaker::new(now);
        fail(&breaker, 5, now);
        assert_eq!(breaker.admit(now + Duration::from_secs(59)), None);
        let later = now + OPEN_FOR;
        for _ in 0..SUCCESSES_TO_CLOSE {
            assert_eq!(breaker.status(later).state, BreakerState::HalfOpen);
            let probe = breaker.admit(later).expect("a probe");
            assert!(probe.probe);
            assert_eq!(breaker.admit(later), None, "one at a time");
            assert!(breaker.wait(later) > Duration::ZERO);
            breaker.settle(probe, Outcome::Good, later);
        }
        assert_eq!(breaker.status(later).state, BreakerState::Closed);
        assert!(breaker.calm().is_some(), "a closed breaker is off the lock again");
    }

    #[test]
    fn a_bad_probe_opens_it_for_another_minute_and_a_cancelled_one_only_frees_its_place() {
        let now = Instant::now();
        let breaker = Breaker::new(now);
        fail(&breaker, 5, now);
        let later = now + OPEN_FOR;
        let cancelled = breaker.admit(later).unwrap();
        breaker.cancel(cancelled);
        let bad = breaker.admit(later).expect("the place of the cancelled probe is free");
        breaker.settle(bad, Outcome::Bad(&broken()), later);
        assert_eq!(breaker.admit(later + OPEN_FOR / 2), None);
        assert!(breaker.admit(later + OPEN_FOR).is_some());
    }

    #[test]
    fn the_late_end_of_an_old_call_says_nothing_about_a_newer_phase() {
        let now = Instant::now();
        let breaker = Breaker::new(now);
        let old = breaker.admit(now).unwrap();
        fail(&breaker, 5, now);
        breaker.settle(old, Outcome::Good, now);
        assert_eq!(breaker.status(now).state, BreakerState::Open);

        let later = now + OPEN_FOR;
        let slow = breaker.admit(later).unwrap();
        let after = later + PROBE_LEASE;
        let fresh = breaker.admit(after).expect("a probe past its lease no longer keeps others out");
        breaker.settle(slow, Outcome::Bad(&broken()), after);
        breaker.cancel(slow);
        assert_eq!(breaker.admit(after), None, "the fresh probe still holds the place");
        breaker.settle(fresh, Outcome::Good, after);
        assert_eq!(breaker.status(after).state, BreakerState::HalfOpen);
    }

    #[test]
    fn many_threads_get_one_probe() {
        let now = Instant::now();
        for _ in 0..50 {
            let breaker = Breaker::new(now);
            fail(&breaker, 5, now);
            let start = std::sync::Barrier::new(8);
            let probes: usize = std::thread::scope(|scope| {
                let ask = || {
                    start.wait();
                    usize::from(breaker.admit(now + OPEN_FOR).is_some())
                };
                let threads: Vec<_> = (0..8).map(|_| scope.spawn(ask)).collect();
                threads.into_iter().map(|thread| thread.join().unwrap()).sum()
            });
            assert_eq!(probes, 1);
        }
    }

    proptest! {
        /// Whatever happens in whatever order, no second probe is under way within the lease of the first, nothing passes an
        /// open breaker, and the breaker always comes back to letting something through.
        #[test]
        fn never_two_probes(steps in prop::collection::vec((0..4_u8, 0..40_u64), 1..300)) {
            let mut now = Instant::now();
            let breaker = Breaker::new(now);
            let mut under_way: Vec<(Pass, Instant)> = Vec::new();
            for (step, wait) in steps {
                now += Duration::from_secs(wait) / 2;
                let state = breaker.status(now).state;
                match step {
                    0 => if let Some(pass) = breaker.admit(now) {
                        prop_assert_eq!(pass.probe, state == BreakerState::HalfOpen);
                        prop_assert_ne!(state, BreakerState::Open);
                        if pass.probe {
                            let held = under_way.iter().any(|(other, at)| {
                                other.probe && other.phase == pass.phase && now < *at + PROBE_LEASE
                            });
                            prop_assert!(!held);
                        }
                        under_way.push((pass, now));
                    },
                    outcome => if !under_way.is_empty() {
                        let (pass, _) = under_way.remove(usize::from(outcome) % under_way.len());
                        match outcome {
                            1 => breaker.settle(pass, Outcome::Good, now),
                            2 => breaker.settle(pass, Outcome::Bad(&broken()), now),
                            _ => breaker.cancel(pass),
                        }
                    },
                }
                prop_assert_eq!(breaker.wait(now).is_zero() , {
                    let probing = matches!(breaker.lock().phase, Phase::HalfOpen { probe: Some(until), .. } if now < until);
                    breaker.status(now).state != BreakerState::Open && !probing
                });
            }
            prop_assert!(breaker.admit(now + OPEN_FOR + PROBE_LEASE).is_some());
        }
    }
}
