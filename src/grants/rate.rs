//! How often something may be done: a bucket of tokens for each source and, where that is wanted, one for all together. A source is
//! an IPv4 address or an IPv6 network of /64; because one customer often has a whole /48 of those, each /48 has a larger bucket
//! besides. The map of sources is bounded; those for which there is no room share a bucket, so that a flood from many addresses
//! neither grows the map nor locks out who is in it.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use time::OffsetDateTime;

use crate::limit::Limit;

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
    /// Whose: of one source, or of all together.
    pub limit: Limit,
    /// After what time it is worth trying again.
    pub retry_after: Duration,
}

#[derive(Debug, Clone, Copy)]
struct Bucket {
    /// When it will be full again.
    full_at: OffsetDateTime,
}

/// How many /64 a /48 may do the work of. Offices and mobile networks have many people in one.
const SITE: u32 = 4;

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
    sources: HashMap<Network, Bucket, ahash::RandomState>,
    /// Of the networks for which there is no room, by [`Network::is_site`].
    others: [Bucket; 2],
    all: Bucket,
    swept_at: OffsetDateTime,
}

impl Limits {
    /// Limits with room for `most` sources. Where `all` is none, a flood of many sources holds back nobody but itself.
    pub fn new(source: Rate, all: Option<Rate>, most: usize) -> Self {
        let state = State {
            sources: HashMap::default(),
            others: [Bucket::FULL; 2],
            all: Bucket::FULL,
            swept_at: OffsetDateTime::UNIX_EPOCH,
        };
        Self { source, all, most, state: Mutex::new(state) }
    }

    /// Takes one for `address`, or says whose limit is reached. What is refused costs nothing.
    pub fn take(&self, address: IpAddr, now: OffsetDateTime) -> Result<(), Exceeded> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let networks = Network::all_of(address);
        let unknown = networks.clone().any(|network| !state.sources.contains_key(&network));
        if unknown && state.sources.len() >= self.most && state.swept_at + Duration::from_secs(1) < now {
            state.swept_at = now;
            state.sources.retain(|_, bucket| bucket.full_at > now);
        }
        // All of them are asked before anything is taken from one.
        self.each(&state, networks.clone(), now)?;
        if let Some(rate) = self.all {
            state.all =
                state.all.taken(rate, now).map_err(|retry_after| Exceeded { limit: Limit::Global, retry_after })?;
        }
        for network in networks {
            let Ok(bucket) = self.bucket(&state, network).taken(self.rate(network), now) else { continue };
            if state.sources.len() < self.most || state.sources.contains_key(&network) {
                state.sources.insert(network, bucket);
            } else {
                state.others[usize::from(network.is_site())] = bucket;
            }
        }
        Ok(())
    }

    /// Gives back one that was taken for `address` at `now`.
    pub fn give_back(&self, address: IpAddr, now: OffsetDateTime) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(rate) = self.all {
            state.all.full_at -= rate.pause;
        }
        let full = state.sources.len() >= self.most;
        for network in Network::all_of(address) {
            let rate = self.rate(network);
            if let Some(bucket) = state.sources.get_mut(&network) {
                bucket.full_at -= rate.pause;
                // Who has shown nothing wrong is not remembered.
                if bucket.full_at <= now {
                    state.sources.remove(&network);
                }
            } else if full {
                state.others[usize::from(network.is_site())].full_at -= rate.pause;
            }
        }
    }

    /// Whether one could be taken for `address`; takes none.
    pub fn check(&self, address: IpAddr, now: OffsetDateTime) -> Result<(), Exceeded> {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        self.each(&state, Network::all_of(address), now)
    }

    /// How many sources are remembered.
    pub fn sources(&self) -> usize {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).sources.len()
    }

    fn each(
        &self,
        state: &State,
        mut networks: impl Iterator<Item = Network>,
        now: OffsetDateTime,
    ) -> Result<(), Exceeded> {
        let asked = |network| self.bucket(state, network).taken(self.rate(network), now).map(drop);
        networks.try_for_each(asked).map_err(|retry_after| Exceeded { limit: Limit::Ip, retry_after })
    }

    fn bucket(&self, state: &State, network: Network) -> Bucket {
        let full = state.sources.len() >= self.most;
        let other = if full { state.others[usize::from(network.is_site())] } else { Bucket::FULL };
        state.sources.get(&network).copied().unwrap_or(other)
    }

    fn rate(&self, network: Network) -> Rate {
        let Rate { burst, pause } = self.source;
        Rate { burst: burst.saturating_mul(network.share()), pause: pause / network.share() }
    }
}

impl Bucket {
    const FULL: Self = Self { full_at: OffsetDateTime::UNIX_EPOCH };

    /// The bucket with one token less. A bucket is as empty as the time until it is full is long.
    fn taken(self, rate: Rate, now: OffsetDateTime) -> Result<Self, Duration> {
        let latest = now + rate.pause * rate.burst;
        // Never emptier than empty, should the clock have been set back.
        let full_at = self.full_at.clamp(now, latest) + rate.pause;
        if full_at > latest { Err((full_at - latest).try_into().unwrap_or(rate.pause)) } else { Ok(Self { full_at }) }
    }
}

/// Those who are counted as one: an IPv4 address, the /64 that one IPv6 household has, or the /48 that one customer has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Network {
    first: IpAddr,
    bits: u8,
}

impl Network {
    /// The smallest one that the address is in.
    pub(super) fn of(address: IpAddr) -> Self {
        Self::cut(address, 64)
    }

    /// The largest one that the address is in.
    pub(super) fn widest(address: IpAddr) -> Self {
        Self::cut(address, 48)
    }

    /// Each that the address is in.
    pub(super) fn all_of(address: IpAddr) -> impl Iterator<Item = Self> + Clone {
        let (own, site) = (Self::of(address), Self::widest(address));
        std::iter::once(own).chain(Some(site).filter(|site| *site != own))
    }

    fn cut(address: IpAddr, bits: u8) -> Self {
        match address.to_canonical() {
            IpAddr::V4(address) => Self { first: address.into(), bits: 32 },
            IpAddr::V6(address) => {
                let mask = u128::MAX << (128 - bits);
                Self { first: Ipv6Addr::from_bits(address.to_bits() & mask).into(), bits }
            }
        }
    }

    /// How many times what one address may do it may.
    pub(super) fn share(self) -> u32 {
        if self.is_site() { SITE } else { 1 }
    }

    fn is_site(self) -> bool {
        self.bits == 48
    }
}

impl std::fmt::Display for Network {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.first, self.bits)
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
        Err(Exceeded { limit: Limit::Ip, retry_after: Duration::from_secs(seconds) })
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
    fn who_has_a_whole_site_of_networks_is_bounded_too() {
        let limits = Limits::new(SLOW, None, 100_000);
        let taken = |limits: &Limits, site: u16, now| {
            let passed = |n: &u16| limits.take(ip(&format!("2001:db8:{site:x}:{n:x}::1")), now).is_ok();
            (0..10_000).filter(passed).count()
        };
        assert_eq!(taken(&limits, 1, NOW), 12, "as four networks, of ten thousand");
        assert_eq!(limits.sources(), 12 + 1);
        assert_eq!(limits.check(ip("2001:db8:1:ffff::1"), NOW).unwrap_err().limit, Limit::Ip);
        assert_eq!(taken(&limits, 1, NOW + Duration::from_secs(10)), 4, "and so it goes on");
        assert_eq!(taken(&limits, 2, NOW), 12, "others are not held back");
        assert!(limits.take(ip("2001:db8:1::1"), NOW + Duration::from_mins(5)).is_ok());
        let full = Limits::new(SLOW, None, 1);
        full.take(ip("192.0.2.1"), NOW).unwrap();
        assert_eq!(taken(&full, 1, NOW), 3, "where there is no room, all share what one has");
    }

    #[test]
    fn all_together_are_bounded_too() {
        let limits = Limits::new(SLOW, Some(Rate { burst: 5, pause: Duration::from_secs(1) }), 10);
        let taken = (1..=20).filter(|n| limits.take(ip(&format!("192.0.2.{n}")), NOW).is_ok()).count();
        assert_eq!(taken, 5);
        assert_eq!(limits.take(ip("192.0.2.9"), NOW).unwrap_err().limit, Limit::Global);
    }

    #[test]
    fn what_is_given_back_was_never_taken() {
        let limits = Limits::new(SLOW, Some(FAST), 2);
        for address in ["192.0.2.1", "2001:db8::1", "192.0.2.3"].map(ip) {
            for _ in 0..10 {
                limits.take(address, NOW).unwrap();
                limits.give_back(address, NOW);
            }
            assert_eq!([(); 3].map(|()| limits.take(address, NOW)), [Ok(()); 3], "{address}");
            assert_eq!(limits.take(address, NOW), after(10));
            limits.give_back(address, NOW);
            assert_eq!((limits.take(address, NOW), limits.take(address, NOW)), (Ok(()), after(10)), "{address}");
        }
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
