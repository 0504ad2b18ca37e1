//! How many requests a replica may have in flight: the limit that follows the load. Pure decisions over the figures of one
//! second after another.
//!
//! A limit grows when the places were taken for more than the threshold of the second and somebody waited all the same: either
//! alone says nothing, full without a queue is just right, and a queue beside free places was a short burst. It shrinks after a
//! minute in which it was hardly used, and never below what was in flight at once in that minute: nobody who did not wait before
//! waits because of it, so a load that stays the same never lets it grow again after it shrank.

use std::time::Duration;

use crate::config;

/// A limit that is used less than this may shrink.
const QUIET: f64 = 0.3;
/// After so long.
const QUIET_FOR: Duration = Duration::from_mins(1);
/// Nothing is measured to be used more than this, however full it is.
const FULL: f64 = 0.99;

/// Whether limits follow the load.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// They stay, and nothing is said of them.
    Fixed,
    /// They stay, and it is said what they should be.
    Advise,
    /// They follow.
    Adapt,
}

impl Mode {
    /// In one word.
    pub fn label(self) -> &'static str {
        match self {
            Self::Fixed => "fixed",
            Self::Advise => "advise",
            Self::Adapt => "adapt",
        }
    }
}

/// How limits follow the load.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Scaling {
    /// Whether they do.
    pub mode: Mode,
    /// No limit is lower.
    pub least: usize,
    /// None is higher.
    pub most: usize,
    /// A step, up or down; above 1.
    pub factor: f64,
    /// A fraction of the places; used more than that, a limit with a queue grows.
    pub threshold: f64,
}

impl From<&config::Pools> for Scaling {
    fn from(pools: &config::Pools) -> Self {
        let mode = match (pools.adaptive, pools.scaling) {
            (false, _) => Mode::Fixed,
            (true, false) => Mode::Advise,
            (true, true) => Mode::Adapt,
        };
        Self {
            mode,
            least: pools.min_pool_size,
            most: pools.max_pool_size,
            factor: pools.scaling_factor,
            threshold: pools.utilization_threshold,
        }
    }
}

impl Scaling {
    /// The limit of a replica of which nothing is known: one that cannot grow is as high as it may be.
    pub fn first(&self) -> usize {
        if self.mode == Mode::Adapt { self.least } else { self.most }
    }

    fn above(&self, limit: usize) -> usize {
        scaled(limit, self.factor, f64::ceil).max(limit.saturating_add(1)).min(self.most)
    }

    fn below(&self, limit: usize) -> usize {
        scaled(limit, 1.0 / self.factor, f64::floor).min(limit.saturating_sub(1)).max(self.least)
    }
}

#[expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "limits are small positive numbers, and a float that is too large becomes the largest"
)]
fn scaled(limit: usize, by: f64, round: fn(f64) -> f64) -> usize {
    round(limit as f64 * by) as usize
}

/// What was seen of a replica's places in one second.
#[derive(Debug, Clone, Copy)]
pub(super) struct Seen {
    /// How long that was.
    pub(super) over: Duration,
    /// How many places there are.
    pub(super) limit: usize,
    /// Places taken, as a fraction of all, on average over the time.
    pub(super) utilization: f64,
    /// Most that were taken at once.
    pub(super) peak: usize,
    /// Whether somebody had to wait.
    pub(super) waited: bool,
}

/// What to do with a limit.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Advice {
    /// The limit that was looked at.
    pub from: usize,
    /// What it should be.
    pub to: usize,
    /// Why.
    pub why: Why,
}

/// Why a limit should change, or stay.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Why {
    /// It is not looked at.
    Fixed,
    /// So much of it was used, and somebody waited.
    Busy(f64),
    /// The same, but it is as high as it may be.
    AtMost(f64),
    /// So little of it was used for a while.
    Quiet(f64),
    /// The same, but it is as low as it may be.
    AtLeast(f64),
    /// The same, but so many were in flight at once.
    Peak(usize),
    /// Neither.
    Fits(f64),
}

impl Advice {
    /// `grow`, `shrink` or `hold`.
    pub fn action(&self) -> &'static str {
        match self.to.cmp(&self.from) {
            std::cmp::Ordering::Greater => "grow",
            std::cmp::Ordering::Less => "shrink",
            std::cmp::Ordering::Equal => "hold",
        }
    }

    /// Whether the limit should grow, and may not.
    pub fn is_at_most(&self) -> bool {
        matches!(self.why, Why::AtMost(_))
    }

    /// In one sentence, without a name or an address.
    pub fn reason(&self) -> String {
        let percent = |part: f64| format!("{:.0} %", part * 100.0);
        match self.why {
            Why::Fixed => "limits do not follow the load here (MREG_FASTMCP_ENABLE_ADAPTIVE_CONNECTION_POOLING)".into(),
            Why::Busy(used) => format!("{} of the limit was in use in a second, and requests waited", percent(used)),
            Why::AtMost(used) => format!(
                "{} of the limit was in use in a second and requests waited, but it is at MREG_FASTMCP_MAX_POOL_SIZE",
                percent(used)
            ),
            Why::Quiet(used) => {
                format!("under 30 % of the limit was in use for {} s, {} at last", QUIET_FOR.as_secs(), percent(used))
            }
            Why::AtLeast(used) => {
                format!("{} of the limit is in use, but it is at MREG_FASTMCP_MIN_POOL_SIZE", percent(used))
            }
            Why::Peak(peak) => {
                format!("little of the limit is in use on average, but {peak} requests were in flight at once")
            }
            Why::Fits(used) => format!("{} of the limit is in use", percent(used)),
        }
    }
}

/// Looks at one replica, second after second.
#[derive(Debug)]
pub(super) struct Judge {
    /// How long it has been quiet, and what was in flight at most meanwhile.
    quiet: Option<(Duration, usize)>,
    /// What it said last.
    last: Option<Advice>,
}

impl Judge {
    pub(super) const fn new() -> Self {
        Self { quiet: None, last: None }
    }

    /// What it said last.
    pub(super) fn last(&self) -> Option<Advice> {
        self.last
    }

    /// What the limit should be after a second such as this.
    pub(super) fn judge(&mut self, scaling: &Scaling, seen: Seen) -> Advice {
        let advice = if scaling.mode == Mode::Fixed { hold(seen.limit, Why::Fixed) } else { self.look(scaling, seen) };
        self.last = Some(advice);
        advice
    }

    fn look(&mut self, scaling: &Scaling, seen: Seen) -> Advice {
        let Seen { over, limit, utilization: used, peak, waited } = seen;
        if waited && used > scaling.threshold.min(FULL) {
            self.quiet = None;
            let to = scaling.above(limit);
            return if to > limit {
                Advice { from: limit, to, why: Why::Busy(used) }
            } else {
                hold(limit, Why::AtMost(used))
            };
        }
        if used >= QUIET || used.is_nan() {
            self.quiet = None;
            return hold(limit, Why::Fits(used));
        }
        let (so_long, before) = self.quiet.unwrap_or_default();
        let (so_long, peak) = (so_long + over, peak.max(before));
        if so_long < QUIET_FOR {
            self.quiet = Some((so_long, peak));
            // What was advised and not done is still the advice, as long as it is quiet.
            let still = self.last.filter(|last| last.from == limit && last.to < limit && last.to >= peak);
            return still.unwrap_or(hold(limit, Why::Fits(used)));
        }
        // A new minute: what was in flight in this one does not count for ever.
        self.quiet = None;
        let lowest = scaling.below(limit);
        let to = lowest.max(peak);
        match to < limit {
            true => Advice { from: limit, to, why: Why::Quiet(used) },
            false if lowest < limit => hold(limit, Why::Peak(peak)),
            false => hold(limit, Why::AtLeast(used)),
        }
    }
}

fn hold(limit: usize, why: Why) -> Advice {
    Advice { from: limit, to: limit, why }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn scaling() -> Scaling {
        Scaling { mode: Mode::Adapt, least: 10, most: 100, factor: 1.5, threshold: 0.8 }
    }

    fn seen(limit: usize, utilization: f64, peak: usize, waited: bool) -> Seen {
        Seen { over: SECOND, limit, utilization, peak, waited }
    }

    /// So many callers, each of which always has one request: what is seen of it.
    #[expect(clippy::cast_precision_loss, reason = "small numbers")]
    fn steady(limit: usize, callers: usize) -> Seen {
        let taken = callers.min(limit);
        seen(limit, taken as f64 / limit as f64, taken, callers > limit)
    }

    /// The limits of so many seconds, one after the other, under a load that may depend on the limit and the second.
    fn follow(scaling: &Scaling, mut limit: usize, seconds: usize, load: impl Fn(usize, usize) -> Seen) -> Vec<usize> {
        let mut judge = Judge::new();
        let second = |second| {
            let advice = judge.judge(scaling, load(limit, second));
            assert_eq!(advice.from, limit);
            limit = advice.to;
            limit
        };
        (0..seconds).map(second).collect()
    }

    #[test]
    fn a_step_of_load_is_followed_up_within_seconds_and_down_within_minutes() {
        let up = follow(&scaling(), 10, 8, |limit, _| steady(limit, 90));
        assert_eq!(up, [15, 23, 35, 53, 80, 100, 100, 100]);
        let down = follow(&scaling(), 100, 600, |limit, _| steady(limit, 1));
        assert_eq!((down[58], down[59], down[118], down[119]), (100, 66, 66, 44));
        assert_eq!(down.last(), Some(&10));
    }

    #[test]
    fn full_without_a_queue_is_just_right_and_a_queue_beside_free_places_is_a_burst() {
        for (used, waited, to) in [(1.0, false, 40), (0.8, true, 40), (0.81, true, 60), (0.29, true, 40)] {
            assert_eq!(Judge::new().judge(&scaling(), seen(40, used, 40, waited)).to, to, "{used} {waited}");
        }
        let full = Scaling { threshold: 1.0, ..scaling() };
        assert_eq!(Judge::new().judge(&full, seen(40, 0.999, 40, true)).to, 60, "all of it is all of it");
    }

    #[test]
    fn what_was_in_flight_at_once_is_not_cut_into() {
        let burst = |limit, second| seen(limit, 0.1, if second % 45 == 0 { 80 } else { 2 }, false);
        let limits = follow(&scaling(), 100, 300, burst);
        assert_eq!(limits.last(), Some(&80), "{limits:?}");
        let once = |limit, second| seen(limit, 0.1, if second == 5 { 80 } else { 2 }, false);
        assert_eq!(follow(&scaling(), 100, 600, once).last(), Some(&10), "a burst counts for its minute");
    }

    #[test]
    fn advice_that_nobody_follows_stays_until_it_is_wrong() {
        let advise = Scaling { mode: Mode::Advise, ..scaling() };
        let mut judge = Judge::new();
        let actions: Vec<&str> = (0..100).map(|_| judge.judge(&advise, seen(100, 0.01, 1, false)).action()).collect();
        assert!(
            actions[..59].iter().all(|action| *action == "hold")
                && actions[59..].iter().all(|action| *action == "shrink")
        );
        assert_eq!(judge.judge(&advise, seen(100, 0.5, 50, false)).action(), "hold");
        let fixed = Scaling { mode: Mode::Fixed, ..scaling() };
        assert_eq!(Judge::new().judge(&fixed, seen(50, 1.0, 50, true)), hold(50, Why::Fixed));
        assert_eq!((scaling().first(), advise.first(), fixed.first()), (10, 100, 100));
    }

    #[test]
    fn nothing_measured_changes_nothing() {
        assert_eq!(follow(&scaling(), 50, 200, |limit, _| seen(limit, f64::NAN, 0, false)), vec![50; 200]);
    }

    fn scalings() -> impl Strategy<Value = Scaling> {
        (1..2000_usize, 0..2000_usize, 1.05..10.0_f64, 0.1..=1.0_f64).prop_map(|(least, more, factor, threshold)| {
            Scaling { mode: Mode::Adapt, least, most: least + more, factor, threshold }
        })
    }

    proptest! {
        #[test]
        fn a_limit_stays_within_its_bounds_and_grows_only_when_busy_and_waited_for(
            scaling in scalings(),
            seconds in prop::collection::vec((0.0..1.2_f64, 0..5000_usize, any::<bool>()), 1..200),
        ) {
            let (mut judge, mut limit, mut quiet) = (Judge::new(), scaling.first(), 0);
            for (used, peak, waited) in seconds {
                let advice = judge.judge(&scaling, seen(limit, used, peak.min(limit), waited));
                quiet = if used < QUIET && !(waited && used > scaling.threshold) { quiet + 1 } else { 0 };
                prop_assert!((scaling.least..=scaling.most).contains(&advice.to), "{:?}", advice);
                prop_assert!(advice.to <= limit || (waited && used > scaling.threshold.min(FULL)), "{:?}", advice);
                prop_assert!(advice.to >= limit || quiet >= 60, "{:?} after {} quiet seconds", advice, quiet);
                limit = advice.to;
            }
        }

        #[test]
        fn a_load_that_stays_the_same_never_lets_a_limit_grow_again_after_it_shrank(
            scaling in scalings(),
            start in 0.0..1.0_f64,
            callers in 0..5000_usize,
            busy in 0.0..1.0_f64,
        ) {
            // Callers who all come at once, for a part of each second.
            let load = |limit, _| {
                let seen = steady(limit, callers);
                Seen { utilization: seen.utilization * busy, ..seen }
            };
            #[expect(clippy::cast_precision_loss, clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a place between the bounds")]
            let start = scaling.least + ((scaling.most - scaling.least) as f64 * start) as usize;
            let mut limits = follow(&scaling, start, 20_000, load);
            limits.insert(0, start);
            let moves: Vec<_> = limits.windows(2).filter(|two| two[0] != two[1]).map(|two| (two[0], two[1])).collect();
            let shrinks = moves.iter().position(|(from, to)| to < from).unwrap_or(moves.len());
            prop_assert!(moves[shrinks..].iter().all(|(from, to)| to < from), "{:?}", moves);
            prop_assert_eq!(limits[limits.len() - 100], limits[limits.len() - 1], "it comes to rest: {:?}", moves);
        }
    }
}
