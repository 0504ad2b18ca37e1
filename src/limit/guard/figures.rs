//! What the guard did within the last minutes, for reports.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use schemars::JsonSchema;
use serde::Serialize;
use time::OffsetDateTime;

use crate::limit::Limit;

/// Parts of the window: what is told is older than it by one of them at most.
const PARTS: u8 = 60;

/// What is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Event {
    /// A request was refused by a ban.
    Prevented,
    /// A ban began by itself.
    Banned,
    /// A ban turned out to be wrong.
    FalsePositive,
    /// A limit was reached.
    Hit(Limit),
}

impl Event {
    fn place(self) -> usize {
        match self {
            Self::Prevented => 0,
            Self::Banned => 1,
            Self::FalsePositive => 2,
            Self::Hit(limit) => 3 + limit as usize,
        }
    }
}

/// Refusals by whose limit it was.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, JsonSchema)]
pub struct HitsByType {
    /// The whole gateway's.
    pub global: u64,
    /// A tenant's.
    pub tenant: u64,
    /// A user's.
    pub user: u64,
    /// An address'.
    pub ip: u64,
    /// Of the guard: bans, and credentials that were not looked at.
    pub ddos: u64,
    /// A server's.
    pub server: u64,
    /// A tool's.
    pub tool: u64,
}

/// What happened within the window.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct Figures {
    /// Requests that a ban refused.
    pub ddos_blocks_prevented: u64,
    /// Bans that began by themselves.
    pub ddos_bans: u64,
    /// Bans that an administrator lifted as wrong, or under which somebody showed a good credential; each once.
    pub ddos_false_positives: u64,
    /// Refusals because of a limit.
    pub hits_by_type: HitsByType,
}

/// How many of each kind of event there were.
pub(super) type Events = [u64; KINDS];
/// Kinds of events.
const KINDS: usize = 10;

impl Figures {
    pub(super) fn of(events: &Events) -> Self {
        let of = |event: Event| events[event.place()];
        let hits = |limit| of(Event::Hit(limit));
        Self {
            ddos_blocks_prevented: of(Event::Prevented),
            ddos_bans: of(Event::Banned),
            ddos_false_positives: of(Event::FalsePositive),
            hits_by_type: HitsByType {
                global: hits(Limit::Global),
                tenant: hits(Limit::Tenant),
                user: hits(Limit::User),
                ip: hits(Limit::Ip),
                ddos: hits(Limit::Ddos),
                server: hits(Limit::Server),
                tool: hits(Limit::Tool),
            },
        }
    }
}

#[derive(Debug, Clone, Copy, Default)]
struct Count {
    /// Which part of time it is of.
    part: i64,
    events: Events,
}

/// Counts within a window, and since they began.
#[derive(Debug)]
pub(super) struct Counts {
    /// Milliseconds of a part.
    width: i64,
    parts: Mutex<([Count; PARTS as usize], Events)>,
}

impl Counts {
    pub(super) fn new(window: Duration) -> Self {
        let width = i64::try_from(window.as_millis()).unwrap_or(i64::MAX) / i64::from(PARTS);
        Self { width: width.max(1), parts: Mutex::new(([Count::default(); PARTS as usize], Events::default())) }
    }

    pub(super) fn count(&self, event: Event, now: OffsetDateTime) {
        let mut events = Events::default();
        events[event.place()] = 1;
        self.add(&events, now);
    }

    /// Counts so many of each kind.
    pub(super) fn add(&self, events: &[u64], now: OffsetDateTime) {
        let part = self.part(now);
        let (parts, ever) = &mut *self.locked();
        let count = &mut parts[usize::try_from(part.rem_euclid(PARTS.into())).unwrap_or_default()];
        if count.part != part {
            *count = Count { part, ..Count::default() };
        }
        for ((within, ever), more) in count.events.iter_mut().zip(ever).zip(events) {
            *within = within.saturating_add(*more);
            *ever = ever.saturating_add(*more);
        }
    }

    /// How many of each kind there were since they began.
    pub(super) fn ever(&self) -> Vec<u64> {
        self.locked().1.to_vec()
    }

    /// How many of each kind there were within the window.
    pub(super) fn within(&self, now: OffsetDateTime) -> Events {
        let now = self.part(now);
        let (parts, _) = &*self.locked();
        let mut all = Events::default();
        for count in parts.iter().filter(|count| (0..PARTS.into()).contains(&(now - count.part))) {
            all.iter_mut().zip(count.events).for_each(|(all, more)| *all += more);
        }
        all
    }

    fn locked(&self) -> MutexGuard<'_, ([Count; PARTS as usize], Events)> {
        self.parts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn part(&self, now: OffsetDateTime) -> i64 {
        i64::try_from(now.unix_timestamp_nanos() / 1_000_000).unwrap_or(i64::MAX) / self.width
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_limit_is_counted_under_its_own_name() {
        let now = OffsetDateTime::UNIX_EPOCH;
        let all =
            [Limit::Global, Limit::Tenant, Limit::User, Limit::Ip, Limit::Ddos, Limit::Server, Limit::Tool].into_iter();
        let counts = Counts::new(Duration::from_mins(5));
        for (limit, times) in all.clone().zip(1..) {
            (0..times).for_each(|_| counts.count(Event::Hit(limit), now));
        }
        let hits = serde_json::to_value(Figures::of(&counts.within(now)).hits_by_type).unwrap();
        assert_eq!(hits.as_object().unwrap().len(), all.len());
        for (limit, times) in all.zip(1..) {
            assert_eq!(hits[limit.label()], times, "{hits}");
        }
    }
}
