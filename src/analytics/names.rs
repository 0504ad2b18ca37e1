//! How many names are told apart: of tools in a tenant and day, of reasons, of what an account used. Beyond it they are counted together,
//! so that no tenant makes the tables grow without end. What was told apart before this process began it does not know, so each process
//! tells so many apart.

use ahash::{AHashMap, AHashSet, RandomState};

use crate::telemetry::OTHER;

/// Most names of one kind in a tenant and day.
pub const MOST_NAMES: usize = 1_000;
/// Days that are remembered: records come late where a database was away.
const DAYS: usize = 3;

/// What names are of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Kind {
    /// Tools and prompts.
    Call,
    /// Reasons of authentications, sessions and bans.
    Event,
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Names {
    hasher: RandomState,
    /// By day, then by tenant and kind: hashes of names.
    days: AHashMap<i64, AHashMap<u64, AHashSet<u64>>>,
    shed: u64,
}

impl Names {
    /// The name of `place` to count under on that day.
    pub(super) fn of<'a>(&mut self, kind: Kind, tenant: &str, day: i64, place: &str, name: &'a str) -> &'a str {
        if name.is_empty() {
            return name;
        }
        if !self.days.contains_key(&day)
            && self.days.len() >= DAYS
            && let Some(oldest) = self.days.keys().min().copied()
        {
            self.days.remove(&oldest);
        }
        let (of, one) = (self.hasher.hash_one((kind, tenant)), self.hasher.hash_one((place, name)));
        let known = self.days.entry(day).or_default().entry(of).or_default();
        if known.contains(&one) || known.len() < MOST_NAMES {
            known.insert(one);
            return name;
        }
        self.shed += 1;
        OTHER
    }

    /// How many were counted together since this was last asked.
    pub(super) fn take_shed(&mut self) -> u64 {
        std::mem::take(&mut self.shed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_beyond_the_most_are_counted_together_by_tenant_and_day() {
        let mut names = Names::default();
        let all: Vec<String> = (0..MOST_NAMES + 5).map(|name| name.to_string()).collect();
        let told = |names: &mut Names, tenant, day| {
            all.iter().filter(|name| names.of(Kind::Call, tenant, day, "s", name) != OTHER).count()
        };
        assert_eq!(told(&mut names, "a", 0), MOST_NAMES);
        assert_eq!(told(&mut names, "a", 0), MOST_NAMES, "the same again");
        assert_eq!((names.take_shed(), names.take_shed()), (10, 0));
        assert_eq!(told(&mut names, "b", 0), MOST_NAMES);
        for day in 1..20 {
            assert_eq!(told(&mut names, "a", day), MOST_NAMES);
        }
        assert!(names.days.len() <= DAYS);
    }
}
