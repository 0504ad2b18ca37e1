//! Which networks are banned, and which were lately: one entry for each network, with how often it was banned before.
//!
//! A request looks here before anything else. While nothing is banned that is one read of a number; else a look-up for each length of
//! prefix that is banned, under locks that are written only when a ban begins, changes or is forgotten.

use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::Duration;

use hashbrown::HashMap;
use ipnet::IpNet;

use super::network::shortened;

/// Parts of the map, each with a lock of its own.
const SHARDS: usize = 16;
/// A ban is at most so many times as long as the first.
const LONGEST: u32 = 24;
/// For each day (microseconds) without a ban one that was before is forgotten.
const FORGIVEN: i64 = 86_400_000_000;
/// More bans before make none longer.
const MOST_EARLIER: u32 = 5;
/// Between two looks at what is shown under one ban, and between two connections that are let come so far (microseconds).
const LOOK: i64 = 50_000;

/// Why a network is banned.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(rename = "BanReason")]
pub enum Reason {
    /// Too much was refused that came from it.
    Refusals,
    /// The same of a neighbourhood: several addresses of it did too much.
    Neighbours,
    /// An administrator wanted it.
    Hand,
}

impl Reason {
    /// As it is stored.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Refusals => "refusals",
            Self::Neighbours => "neighbours",
            Self::Hand => "hand",
        }
    }

    /// The one that is stored so.
    pub fn parse(text: &str) -> Option<Self> {
        [Self::Refusals, Self::Neighbours, Self::Hand].into_iter().find(|reason| reason.as_str() == text)
    }
}

/// A ban that was taken back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lifted {
    /// When; microseconds since 1970.
    pub at: i64,
    /// It should never have been: it makes no later one longer.
    pub wrong: bool,
    /// In words.
    pub note: String,
    /// By whom.
    pub by: String,
}

/// The last ban of one network; times in microseconds since 1970.
#[derive(Debug)]
pub struct Ban {
    /// Of what.
    pub network: IpNet,
    /// Since when.
    pub since: i64,
    /// Until when.
    pub until: i64,
    /// Why.
    pub reason: Reason,
    /// In words of who made it.
    pub note: String,
    /// By whom, if not by itself.
    pub made_by: Option<String>,
    /// What was refused within an hour.
    pub refusals: u32,
    /// Bans before that were not forgotten.
    pub earlier: u32,
    /// Whether somebody showed a good credential under it, or it was lifted as wrong.
    pub false_positive: AtomicBool,
    /// Whether it was taken back.
    pub lifted: Option<Lifted>,
    /// Requests refused by it, by this process.
    pub prevented: AtomicU64,
    /// When a credential may be looked at again, and when a connection may come as far as its request.
    pub(super) next_look: AtomicI64,
    pub(super) next_connection: AtomicI64,
}

impl Clone for Ban {
    fn clone(&self) -> Self {
        Self {
            network: self.network,
            since: self.since,
            until: self.until,
            reason: self.reason,
            note: self.note.clone(),
            made_by: self.made_by.clone(),
            refusals: self.refusals,
            earlier: self.earlier,
            false_positive: AtomicBool::new(self.false_positive.load(Relaxed)),
            lifted: self.lifted.clone(),
            prevented: AtomicU64::new(self.prevented.load(Relaxed)),
            next_look: AtomicI64::new(self.next_look.load(Relaxed)),
            next_connection: AtomicI64::new(self.next_connection.load(Relaxed)),
        }
    }
}

impl Ban {
    /// One that begins now, after those before.
    pub(super) fn begin(network: IpNet, reason: Reason, lasts: Duration, earlier: u32, now: i64) -> Self {
        let lasts = i64::try_from(lasts.as_micros()).unwrap_or(i64::MAX);
        Self {
            network,
            since: now,
            until: now.saturating_add(lasts),
            reason,
            note: String::new(),
            made_by: None,
            refusals: 0,
            earlier,
            false_positive: AtomicBool::new(false),
            lifted: None,
            prevented: AtomicU64::new(0),
            next_look: AtomicI64::new(0),
            next_connection: AtomicI64::new(0),
        }
    }

    /// Whether it holds.
    pub fn holds(&self, now: i64) -> bool {
        self.lifted.is_none() && self.until > now
    }

    /// `active`, `expired` or `lifted`.
    pub fn state(&self, now: i64) -> &'static str {
        match self.lifted {
            Some(_) => "lifted",
            None if self.until > now => "active",
            None => "expired",
        }
    }

    /// How many bans count against the network if it is banned now: this one and those before, less one for each day since.
    pub fn remembered(&self, now: i64) -> u32 {
        let wrong = self.lifted.as_ref().is_some_and(|lifted| lifted.wrong);
        let ended = self.lifted.as_ref().map_or(self.until, |lifted| lifted.at.min(self.until));
        let forgiven = u32::try_from((now - ended).max(0) / FORGIVEN).unwrap_or(u32::MAX);
        (self.earlier + u32::from(!wrong)).min(MOST_EARLIER).saturating_sub(forgiven)
    }

    /// Whether nothing depends on it any longer.
    fn is_over(&self, now: i64) -> bool {
        !self.holds(now) && now - self.until > FORGIVEN * i64::from(MOST_EARLIER)
    }

    /// Takes one of the few looks at what is shown under it.
    pub fn may_look(&self, now: i64) -> bool {
        !self.false_positive.load(Relaxed) && take(&self.next_look, now)
    }
}

/// Whether it is time again; of several at once, one is told so.
pub(super) fn take(next: &AtomicI64, now: i64) -> bool {
    let due = next.load(Relaxed);
    // A clock that was set back makes nobody wait for it.
    (due <= now || due > now + LOOK) && next.compare_exchange(due, now + LOOK, Relaxed, Relaxed).is_ok()
}

/// How long a ban is, by how many there were before: twice as long each time, at most 24 times.
pub fn length(first: Duration, earlier: u32) -> Duration {
    first.saturating_mul(1_u32.checked_shl(earlier).unwrap_or(LONGEST).min(LONGEST))
}

fn family(network: &IpNet) -> usize {
    usize::from(matches!(network, IpNet::V6(_)))
}

fn length_bit(network: &IpNet) -> u64 {
    1 << (network.prefix_len().clamp(1, 64) - 1)
}

type Part = HashMap<IpNet, Arc<Ban>, ahash::RandomState>;

/// See the module.
#[derive(Debug)]
pub(super) struct Bans {
    parts: [RwLock<Part>; SHARDS],
    hasher: ahash::RandomState,
    most: usize,
    held: AtomicUsize,
    /// Lengths of prefixes that are banned, a bit each, of IPv4 and IPv6.
    lengths: [AtomicU64; 2],
    /// Held by who changes what is banned: no length is lost of a ban that begins while others are swept.
    changing: Mutex<()>,
}

impl Bans {
    pub(super) fn new(most: usize) -> Self {
        Self {
            parts: std::array::from_fn(|_| RwLock::default()),
            hasher: ahash::RandomState::new(),
            most,
            held: AtomicUsize::new(0),
            lengths: Default::default(),
            changing: Mutex::default(),
        }
    }

    /// The ban under which the address is, the longest if there are several.
    pub(super) fn of(&self, address: IpAddr, now: i64) -> Option<Arc<Ban>> {
        let mut lengths = self.lengths[usize::from(address.is_ipv6())].load(Relaxed);
        let mut found: Option<Arc<Ban>> = None;
        while lengths != 0 {
            let bits = lengths.trailing_zeros() + 1;
            lengths &= lengths - 1;
            let network = shortened(address, u8::try_from(bits).unwrap_or(u8::MAX));
            let part = self.read(&network);
            let ban = part.get(&network).filter(|ban| ban.holds(now));
            if let Some(ban) = ban.filter(|ban| found.as_ref().is_none_or(|longest| longest.until < ban.until)) {
                found = Some(Arc::clone(ban));
            }
        }
        found
    }

    /// The last ban of exactly this network.
    pub(super) fn get(&self, network: &IpNet) -> Option<Arc<Ban>> {
        self.read(network).get(network).cloned()
    }

    /// Puts in what `make` makes of the last ban of the network; nothing where it makes nothing, or there is no room. What was made by
    /// hand takes the place of the one that is missed least.
    pub(super) fn put(&self, network: IpNet, make: impl FnOnce(Option<&Arc<Ban>>) -> Option<Ban>) -> Option<Arc<Ban>> {
        let _one = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        let before = self.get(&network);
        let ban = Arc::new(make(before.as_ref())?);
        if before.is_none() {
            if self.held.load(Relaxed) >= self.most {
                let least = (ban.reason == Reason::Hand).then(|| self.least(ban.since)).flatten()?;
                self.write(&least).remove(&least);
                self.held.fetch_sub(1, Relaxed);
            }
            self.held.fetch_add(1, Relaxed);
        }
        self.write(&network).insert(network, Arc::clone(&ban));
        self.lengths[family(&network)].fetch_or(length_bit(&network), Relaxed);
        Some(ban)
    }

    /// Whether a ban of this network that is made by hand would hold.
    pub(super) fn has_room_for(&self, network: &IpNet, now: i64) -> bool {
        self.held.load(Relaxed) < self.most || self.get(network).is_some() || self.least(now).is_some()
    }

    /// Of which network the ban is missed least: one that is over, or the one that began by itself and is over first.
    fn least(&self, now: i64) -> Option<IpNet> {
        let mut least: Option<((bool, i64), IpNet)> = None;
        for part in &self.parts {
            for ban in part.read().unwrap_or_else(PoisonError::into_inner).values() {
                let (holds, rank) = (ban.holds(now), (ban.holds(now), ban.until));
                if (ban.reason != Reason::Hand || !holds) && least.is_none_or(|(before, _)| rank < before) {
                    least = Some((rank, ban.network));
                }
            }
        }
        least.map(|(_, network)| network)
    }

    /// Forgets those that are over; how many hold.
    pub(super) fn sweep(&self, now: i64) -> usize {
        let _one = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        let (mut holding, mut held, mut lengths) = (0, 0, [0; 2]);
        for part in &self.parts {
            let mut part = part.write().unwrap_or_else(PoisonError::into_inner);
            part.retain(|_, ban| !ban.is_over(now));
            held += part.len();
            for ban in part.values().filter(|ban| ban.holds(now)) {
                lengths[family(&ban.network)] |= length_bit(&ban.network);
                holding += 1;
            }
        }
        self.held.store(held, Relaxed);
        self.lengths.iter().zip(lengths).for_each(|(known, now)| known.store(now, Relaxed));
        holding
    }

    /// All that are remembered.
    pub(super) fn all(&self) -> Vec<Arc<Ban>> {
        let parts = self.parts.iter();
        parts
            .flat_map(|part| part.read().unwrap_or_else(PoisonError::into_inner).values().cloned().collect::<Vec<_>>())
            .collect()
    }

    fn at(&self, network: &IpNet) -> &RwLock<Part> {
        &self.parts[usize::try_from(self.hasher.hash_one(network) % SHARDS as u64).unwrap_or_default()]
    }

    fn read(&self, network: &IpNet) -> RwLockReadGuard<'_, Part> {
        self.at(network).read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self, network: &IpNet) -> RwLockWriteGuard<'_, Part> {
        self.at(network).write().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn begins(bans: &Bans, address: &str, reason: Reason, hours: u64) -> bool {
        let network = super::super::network::own(address.parse().unwrap());
        bans.put(network, |_| Some(Ban::begin(network, reason, Duration::from_hours(hours), 0, 1))).is_some()
    }

    fn holds(bans: &Bans, address: &str) -> bool {
        bans.of(address.parse().unwrap(), 2).is_some()
    }

    #[test]
    fn when_there_is_no_room_a_ban_by_hand_takes_that_of_the_mildest_which_was_not() {
        let bans = Bans::new(3);
        for (address, reason, hours) in
            [("192.0.2.1", Reason::Refusals, 2), ("192.0.2.2", Reason::Neighbours, 1), ("192.0.2.3", Reason::Hand, 1)]
        {
            assert!(begins(&bans, address, reason, hours));
        }
        assert!(!begins(&bans, "192.0.2.4", Reason::Refusals, 24) && !holds(&bans, "192.0.2.4"));
        assert!(begins(&bans, "192.0.2.5", Reason::Hand, 1) && holds(&bans, "192.0.2.5"));
        assert!(!holds(&bans, "192.0.2.2") && holds(&bans, "192.0.2.1") && holds(&bans, "192.0.2.3"));
        assert!(begins(&bans, "192.0.2.6", Reason::Hand, 1) && !holds(&bans, "192.0.2.1"));
        let none = super::super::network::own("192.0.2.7".parse().unwrap());
        let known = super::super::network::own("192.0.2.3".parse().unwrap());
        assert!(!bans.has_room_for(&none, 2) && bans.has_room_for(&known, 2));
        assert!(!begins(&bans, "192.0.2.7", Reason::Hand, 1), "all were made by hand");
        let later = 3 * 3_600_000_000;
        assert!(bans.has_room_for(&none, later), "they are over");
        assert_eq!(bans.all().len(), 3);
    }
}
