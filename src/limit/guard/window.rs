//! What happened within the last hour, in little room: a sum, and a few that were seen.
//!
//! An hour is twelve slots of five minutes, the running one among them: what is counted is never older than an hour, so that nobody
//! is taken to have done more within one than was done.

use time::OffsetDateTime;

/// Seconds of a slot.
const SLOT: i64 = 300;
/// Slots of an hour.
const SLOTS: u32 = 12;

/// Five minutes, counted since 1970.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub(super) struct Slot(u32);

impl Slot {
    /// The one that holds this time.
    pub(super) fn of(time: OffsetDateTime) -> Self {
        Self(u32::try_from(time.unix_timestamp() / SLOT).unwrap_or_default())
    }

    /// Whether it is within the hour that ends in `now`. A clock that was set back makes nothing older.
    pub(super) fn is_within_hour(self, now: Self) -> bool {
        self.0 + SLOTS > now.0
    }
}

/// A sum of the last hour.
#[derive(Debug, Clone, Default)]
pub(super) struct Window {
    counts: [u32; SLOTS as usize],
    last: Slot,
}

impl Window {
    /// Adds to it.
    pub(super) fn add(&mut self, more: u32, now: Slot) {
        let now = self.advance(now);
        let count = &mut self.counts[(now.0 % SLOTS) as usize];
        *count = count.saturating_add(more);
    }

    /// The sum.
    pub(super) fn sum(&mut self, now: Slot) -> u32 {
        self.advance(now);
        self.counts.iter().fold(0, |sum: u32, count| sum.saturating_add(*count))
    }

    /// Forgets what is older; the slot that runs.
    fn advance(&mut self, now: Slot) -> Slot {
        let now = now.max(self.last);
        for slot in (self.last.0 + 1..=now.0).rev().take(SLOTS as usize) {
            self.counts[(slot % SLOTS) as usize] = 0;
        }
        self.last = now;
        now
    }
}

/// Those that were seen within the last hour, up to `MOST` of them. Further ones are not taken in before one is forgotten: whoever
/// looks asks only whether there are many.
#[derive(Debug, Clone, Default)]
pub(super) struct Recent<const MOST: usize>(Vec<(u64, Slot)>);

impl<const MOST: usize> Recent<MOST> {
    /// One is seen. Whether that is news: it was not seen in this slot yet.
    pub(super) fn see(&mut self, one: u64, now: Slot) -> bool {
        if let Some((_, at)) = self.0.iter_mut().find(|(known, _)| *known == one) {
            let news = *at < now;
            *at = now.max(*at);
            return news;
        }
        if self.0.len() == MOST {
            self.0.retain(|(_, at)| at.is_within_hour(now));
        }
        let room = self.0.len() < MOST;
        if room {
            self.0.push((one, now));
        }
        room
    }

    /// How many different ones.
    pub(super) fn count(&self, now: Slot) -> usize {
        self.0.iter().filter(|(_, at)| at.is_within_hour(now)).count()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn never_more_than_within_some_hour_and_all_of_the_last_55_minutes(
            times in proptest::collection::vec(0..20_000i64, 1..200),
        ) {
            let mut times = times;
            times.sort_unstable();
            let at = |seconds: i64| OffsetDateTime::UNIX_EPOCH + time::Duration::seconds(1_000_000 + seconds);
            let mut window = Window::default();
            for (index, time) in times.iter().enumerate() {
                window.add(1, Slot::of(at(*time)));
                let within = |seconds: i64| times[..=index].iter().filter(|before| time - **before < seconds).count();
                let sum = window.sum(Slot::of(at(*time))) as usize;
                prop_assert!(sum <= within(3600) && sum >= within(3300));
            }
            prop_assert_eq!(window.sum(Slot::of(at(20_000 + 3600))), 0);
        }
    }

    #[test]
    fn only_so_many_are_remembered_and_each_for_an_hour() {
        let mut seen = Recent::<4>::default();
        (0..100).for_each(|one| _ = seen.see(one % 10, Slot(20)));
        assert_eq!(seen.count(Slot(20)), 4);
        seen.see(0, Slot(25));
        assert_eq!((seen.count(Slot(31)), seen.count(Slot(32))), (4, 1));
        seen.see(77, Slot(32));
        assert_eq!(seen.count(Slot(32)), 2);
    }
}
