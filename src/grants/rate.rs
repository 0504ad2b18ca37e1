//! How often something may be done: a bucket of tokens for each source and, where that is wanted, one for all together. The map
//! of sources is bounded; those for which there is no room share one bucket, so that a flood from many addresses neither grows the
//! map nor locks out who is in it.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use time::OffsetDateTime;

/// A bucket: so many at once, and one more after each pause.
#[derive(Debug, Clone, Copy)]
pub struct Rate {
    /// Most at once.
    pub burst: u32,
    /// Time until one more may be done.
    pub pause: Duration,
}

impl Rate {
    /// So many in a minute, which may all come at once.
    pub fn per_minute(count: u32) -> Self {
        Self { burst: count.max(1), pause: Duration::from_mins(1) / count.max(1) }
    }
}

/// A limit is reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Exceeded {
    /// Whose: `ip` of one source, `global` of all together; the label in metrics.
    pub limit: &'static str,
    /// After what time it is worth trying again.
    pub retry_after: Duration,
}

#[derive(Debug, Clone, Copy)]
struct Bucket {
    /// When it will be full again.
    full_at: OffsetDateTime,
}

/// Limits by source and together.
#[derive(Debug)]
pub struct Limits {
    source: Rate,
    all: Option<Rate>,
    most: usize,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    sources: HashMap<IpAddr, Bucket, ahash::RandomState>,
    others: Bucket,
    all: Bucket,
    swept_at: OffsetDateTime,
}

impl Limits {
    /// Limits with room for `most` sources. Where `all` is none, a flood of many sources holds back nobody but itself.
    pub fn new(source: Rate, all: Option<Rate>, most: usize) -> Self {
        let empty = Bucket { full_at: OffsetDateTime::UNIX_EPOCH };
        let state =
            State { sources: HashMap::default(), others: empty, all: empty, swept_at: OffsetDateTime::UNIX_EPOCH };
        Self { source, all, most, state: Mutex::new(state) }
    }

    /// Takes one for `address`, or says whose limit is reached. What is refused costs nothing.
    pub fn take(&self, address: IpAddr, now: OffsetDateTime) -> Result<(), Exceeded> {
        let address = network(address);
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let State { sources, others, all, swept_at } = &mut *state;
        if !sources.contains_key(&address) && sources.len() >= self.most && *swept_at + Duration::from_secs(1) < now {
            *swept_at = now;
            sources.retain(|_, bucket| bucket.full_at > now);
        }
        let empty = Bucket { full_at: OffsetDateTime::UNIX_EPOCH };
        let known = sources.get(&address).copied();
        let own = known.unwrap_or(if sources.len() < self.most { empty } else { *others });
        let own = own.taken(self.source, now).map_err(|retry_after| Exceeded { limit: "ip", retry_after })?;
        if let Some(rate) = self.all {
            *all = all.taken(rate, now).map_err(|retry_after| Exceeded { limit: "global", retry_after })?;
        }
        if known.is_some() || sources.len() < self.most {
            sources.insert(address, own);
        } else {
            *others = own;
        }
        Ok(())
    }

    /// Whether one could be taken for `address`; takes none.
    pub fn check(&self, address: IpAddr, now: OffsetDateTime) -> Result<(), Exceeded> {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let full = state.sources.len() >= self.most;
        let own = state.sources.get(&network(address)).or(full.then_some(&state.others));
        let own = own.map_or(Ok(()), |bucket| bucket.taken(self.source, now).map(drop));
        own.map_err(|retry_after| Exceeded { limit: "ip", retry_after })
    }

    /// How many sources are remembered.
    pub fn sources(&self) -> usize {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).sources.len()
    }
}

impl Bucket {
    /// The bucket with one token less. A bucket is as empty as the time until it is full is long.
    fn taken(self, rate: Rate, now: OffsetDateTime) -> Result<Self, Duration> {
        let latest = now + rate.pause * rate.burst;
        // Never emptier than empty, should the clock have been set back.
        let full_at = self.full_at.clamp(now, latest) + rate.pause;
        if full_at > latest { Err((full_at - latest).try_into().unwrap_or(rate.pause)) } else { Ok(Self { full_at }) }
    }
}

/// One source: an IPv4 address, or the /64 that one IPv6 household has.
pub(super) fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(address) => address.into(),
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() & (u128::MAX << 64)).into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: OffsetDateTime = time::macros::datetime!(2026-01-01 00:00:00 UTC);
    const SLOW: Rate = Rate { burst: 3, pause: Duration::from_secs(10) };
    const FAST: Rate = Rate { burst: 1_000_000, pause: Duration::from_micros(1) };

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    fn after(seconds: u64) -> Result<(), Exceeded> {
        Err(Exceeded { limit: "ip", retry_after: Duration::from_secs(seconds) })
    }

    #[test]
    fn a_source_may_so_many_at_once_and_then_one_after_each_pause() {
        let limits = Limits::new(SLOW, Some(FAST), 10);
        let take = |seconds: i64| limits.take(ip("192.0.2.1"), NOW + time::Duration::seconds(seconds));
        assert_eq!([take(0), take(0), take(0)], [Ok(()); 3]);
        assert_eq!(take(0), after(10));
        assert_eq!(take(4), after(6));
        assert_eq!((take(10), take(10)), (Ok(()), after(10)));
        assert_eq!([take(1_000), take(1_000), take(1_000)], [Ok(()); 3]);
        assert!(take(1_000).is_err(), "what was not used is not saved up");
        let later = NOW + time::Duration::seconds(1_000);
        assert_eq!(limits.take(ip("192.0.2.2"), later), Ok(()), "others are not held back");
        assert_eq!(take(0), after(10), "a clock that was set back makes nobody wait for it");
    }

    #[test]
    fn one_household_is_one_source() {
        let limits = Limits::new(Rate { burst: 1, ..SLOW }, None, 10);
        assert!(limits.take(ip("2001:db8::1"), NOW).is_ok() && limits.take(ip("2001:db8::2"), NOW).is_err());
        assert!(limits.take(ip("2001:db8:0:1::1"), NOW).is_ok());
        assert!(limits.take(ip("192.0.2.1"), NOW).is_ok() && limits.take(ip("::ffff:192.0.2.1"), NOW).is_err());
    }

    #[test]
    fn all_together_are_bounded_too() {
        let limits = Limits::new(SLOW, Some(Rate { burst: 5, pause: Duration::from_secs(1) }), 10);
        let taken = (1..=20).filter(|n| limits.take(ip(&format!("192.0.2.{n}")), NOW).is_ok()).count();
        assert_eq!(taken, 5);
        assert_eq!(limits.take(ip("192.0.2.9"), NOW).unwrap_err().limit, "global");
    }

    #[test]
    fn to_ask_takes_nothing() {
        let limits = Limits::new(Rate::per_minute(6), None, 1);
        let one = ip("192.0.2.1");
        assert!((0..100).all(|_| limits.check(one, NOW).is_ok()) && limits.sources() == 0);
        assert!((0..6).all(|_| limits.take(one, NOW).is_ok()));
        assert_eq!((limits.check(one, NOW), limits.take(one, NOW)), (after(10), after(10)));
        assert!(limits.check(one, NOW + time::Duration::seconds(10)).is_ok());
        let others = ["192.0.2.2", "192.0.2.3"].map(ip);
        assert!(limits.check(others[0], NOW).is_ok());
        assert!((0..6).all(|n| limits.take(others[n % 2], NOW).is_ok()));
        assert_eq!(limits.check(others[0], NOW), after(10), "who has no bucket of its own shares one");
    }

    #[test]
    fn a_flood_from_many_addresses_neither_grows_the_map_nor_locks_out_who_is_in_it() {
        let limits = Limits::new(SLOW, Some(FAST), 100);
        limits.take(ip("192.0.2.1"), NOW).unwrap();
        let passed = (0..10_000u32).filter(|n| limits.take(IpAddr::from((0x0a00_0000 + n).to_be_bytes()), NOW).is_ok());
        assert_eq!(passed.count(), 99 + 3, "the rest shares one bucket");
        assert_eq!(limits.sources(), 100);
        assert!(limits.take(ip("192.0.2.1"), NOW).is_ok());
        let later = NOW + time::Duration::minutes(10);
        limits.take(ip("198.51.100.1"), later).unwrap();
        assert_eq!(limits.sources(), 1, "who has been quiet is forgotten");
    }
}
