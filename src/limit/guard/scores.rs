//! What came from each address within the last hour: how much that was refused, and from how many who are known. It says when that
//! is too much. Pure; it holds no ban.

use std::net::IpAddr;
use std::sync::atomic::{AtomicI64, Ordering::Relaxed};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use ipnet::IpNet;
use time::OffsetDateTime;

use super::bounded::{Bounded, Remembered};
use super::network::{around, own};
use super::window::{Recent, Slot, Window};

/// Parts of each map, each with a lock of its own.
const SHARDS: usize = 16;
/// Neighbourhoods that are remembered, as a part of the addresses.
const NEIGHBOURHOODS: usize = 4;

/// At an address where this many are known nothing is banned by itself: there are many behind it.
pub(super) const MANY: usize = 8;
/// So many times the threshold is borne of an address where somebody is known.
pub(super) const PATIENCE: u32 = 10;
/// A neighbourhood is bad when so many of its addresses are.
pub(super) const BAD_NEIGHBOURS: usize = 4;
/// And so many for each who is known in it.
const FOR_EACH_GOOD: usize = 4;
/// So many addresses of a neighbourhood are looked at; more of one IPv6 customer are counted for it alone.
const MEMBERS: usize = 64;
/// Credentials of one address that are watched for being shown again and again.
const MOST_WATCHED: usize = 16;
/// So many times one is looked at, within [`HELD_FOR`] of each other: a token that has just expired is shown a few times by the honest.
pub(super) const LOOKS: u8 = 5;
/// Seconds for which it is not looked at then.
const HELD_FOR: i64 = 60;
/// A refusal that counts whole.
const WHOLE: u32 = 10;

/// Why something was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wrong {
    /// A limit of rate was reached.
    Throttled,
    /// A credential that is no good was shown; its fingerprint, where the very same would be shown again.
    Credential(Option<u64>),
    /// It asks for what there is not, or what it sent cannot be read. A tenth: programs of the honest err too.
    Malformed,
    /// It showed no credential where one is needed. A tenth: so begins every sign-in of a program.
    Bare,
}

impl Wrong {
    fn tenths(self) -> u32 {
        match self {
            Self::Throttled | Self::Credential(_) => WHOLE,
            Self::Malformed | Self::Bare => 1,
        }
    }
}

/// Too much came: refusals within the hour.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Offences {
    /// From the address.
    pub(super) own: Option<u32>,
    /// From its neighbourhood.
    pub(super) around: Option<u32>,
    /// Something that mattered was forgotten to count it.
    pub(super) shed: bool,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Scores {
    /// Tenths.
    threshold: u32,
    addresses: [Mutex<Bounded<Address>>; SHARDS],
    neighbourhoods: [Mutex<Bounded<Neighbourhood>>; SHARDS],
    hasher: ahash::RandomState,
    /// Until when some credential is not looked at; seconds since 1970.
    held_until: AtomicI64,
}

#[derive(Debug, Default)]
struct Address {
    wrong: Window,
    known: Recent<MANY>,
    watched: Vec<Watched>,
    /// When it last did too much.
    offended: Option<Slot>,
}

/// A credential that was no good at an address from which too much came.
#[derive(Debug)]
struct Watched {
    credential: u64,
    /// How often it was looked at.
    looks: u8,
    /// When that is forgotten; seconds since 1970.
    until: i64,
}

#[derive(Debug, Default)]
struct Neighbourhood {
    wrong: Window,
    known: Recent<16>,
    bad: Recent<MEMBERS>,
}

impl Address {
    /// A credential was no good, at `now` in seconds since 1970; until when it is not looked at, if it is not from now on.
    fn watch(&mut self, credential: u64, now: i64) -> Option<i64> {
        self.watched.retain(|one| one.until > now);
        let at = self.watched.iter().position(|one| one.credential == credential).unwrap_or_else(|| {
            if self.watched.len() == MOST_WATCHED {
                // The one that was shown longest ago: who shows the same again and again stays.
                self.watched.remove(0);
            }
            self.watched.push(Watched { credential, looks: 0, until: 0 });
            self.watched.len() - 1
        });
        let mut one = self.watched.remove(at);
        (one.looks, one.until) = (one.looks.saturating_add(1), now + HELD_FOR);
        let held = (one.looks >= LOOKS).then_some(one.until);
        self.watched.push(one);
        held
    }
}

impl Remembered for Address {
    fn matters(&mut self, now: Slot) -> u32 {
        matters(self.wrong.sum(now), self.known.count(now))
    }
}

impl Remembered for Neighbourhood {
    fn matters(&mut self, now: Slot) -> u32 {
        matters(self.wrong.sum(now), self.known.count(now))
    }
}

/// Who is known cannot be made up: it weighs as much as a hundred refusals.
fn matters(wrong: u32, known: usize) -> u32 {
    wrong.saturating_add(u32::try_from(known).unwrap_or(u32::MAX).saturating_mul(100 * WHOLE))
}

impl Scores {
    /// With room for `most` addresses.
    pub(super) fn new(threshold: u32, most: usize) -> Self {
        Self {
            threshold: threshold.max(1).saturating_mul(WHOLE),
            addresses: std::array::from_fn(|_| Mutex::new(Bounded::new(most / SHARDS))),
            neighbourhoods: std::array::from_fn(|_| Mutex::new(Bounded::new(most / SHARDS / NEIGHBOURHOODS))),
            hasher: ahash::RandomState::new(),
            held_until: AtomicI64::new(0),
        }
    }

    /// Something from there was refused.
    pub(super) fn refused(&self, address: IpAddr, wrong: Wrong, now: OffsetDateTime) -> Offences {
        let (slot, network, neighbourhood) = (Slot::of(now), own(address), around(address));
        let crowded = address.is_ipv6()
            && part(&self.neighbourhoods, &self.hasher, &neighbourhood)
                .get(&neighbourhood)
                .is_some_and(|entry| entry.bad.count(slot) >= MEMBERS);
        let mut offences = Offences::default();
        let counted = if crowded && part(&self.addresses, &self.hasher, &network).get(&network).is_none() {
            wrong.tenths()
        } else {
            self.at_address(network, wrong, now, &mut offences)
        };
        let mut part = part(&self.neighbourhoods, &self.hasher, &neighbourhood);
        let (entry, shed) = part.get_or_take_in(neighbourhood, slot);
        offences.shed |= shed;
        if counted > 0 {
            entry.wrong.add(counted, slot);
            entry.bad.see(self.hasher.hash_one(network), slot);
            let (sum, bad, known) = (entry.wrong.sum(slot), entry.bad.count(slot), entry.known.count(slot));
            let most = self.threshold.saturating_mul(u32::try_from(BAD_NEIGHBOURS).unwrap_or(u32::MAX));
            if sum >= most && bad >= BAD_NEIGHBOURS && bad >= FOR_EACH_GOOD * known {
                entry.wrong = Window::default();
                offences.around = Some(sum / WHOLE);
            }
        }
        offences
    }

    /// Counts it for the address; how much of it counts for the neighbourhood: of one address no more than the threshold does.
    fn at_address(&self, network: IpNet, wrong: Wrong, now: OffsetDateTime, offences: &mut Offences) -> u32 {
        let slot = Slot::of(now);
        let mut part = part(&self.addresses, &self.hasher, &network);
        let (entry, shed) = part.get_or_take_in(network, slot);
        offences.shed |= shed;
        // Its neighbourhood has had its part of this hour, however often it was banned since.
        let before = if entry.offended.is_some_and(|offended| offended.is_within_hour(slot)) {
            u32::MAX
        } else {
            entry.wrong.sum(slot)
        };
        entry.wrong.add(wrong.tenths(), slot);
        let sum = entry.wrong.sum(slot);
        let borne = match entry.known.count(slot) {
            0 => Some(self.threshold),
            MANY.. => None,
            _ => Some(self.threshold.saturating_mul(PATIENCE)),
        };
        if borne.is_some_and(|borne| sum >= borne) {
            entry.wrong = Window::default();
            entry.watched = Vec::new();
            entry.offended = Some(slot);
            offences.own = Some(sum / WHOLE);
        } else if sum >= self.threshold
            && let Wrong::Credential(Some(shown)) = wrong
            && let Some(until) = entry.watch(shown, now.unix_timestamp())
        {
            self.held_until.fetch_max(until, Relaxed);
        }
        sum.min(self.threshold).saturating_sub(before)
    }

    /// Somebody who is known came from there.
    pub(super) fn let_in(&self, address: IpAddr, who: u64, now: OffsetDateTime) {
        let (slot, network) = (Slot::of(now), own(address));
        if part(&self.addresses, &self.hasher, &network).get_or_take_in(network, slot).0.known.see(who, slot) {
            let neighbourhood = around(address);
            let mut part = part(&self.neighbourhoods, &self.hasher, &neighbourhood);
            part.get_or_take_in(neighbourhood, slot).0.known.see(who, slot);
        }
    }

    /// How long the credential is not even looked at, if it is not: it was no good again and again, at an address from which too much
    /// came that is not banned for the others there.
    pub(super) fn holds_back(&self, address: IpAddr, credential: u64, now: OffsetDateTime) -> Option<Duration> {
        let now = now.unix_timestamp();
        let network = own(address);
        let mut part = part(&self.addresses, &self.hasher, &network);
        let held = |one: &&Watched| one.credential == credential && one.looks >= LOOKS && one.until > now;
        let held = part.get(&network)?.watched.iter().find(held)?;
        Some(Duration::from_secs(held.until.abs_diff(now)))
    }

    /// Whether any credential is not looked at.
    pub(super) fn holds_any_back(&self, now: OffsetDateTime) -> bool {
        self.held_until.load(Relaxed) > now.unix_timestamp()
    }

    /// A number that stands for this text here, and nowhere else.
    pub(super) fn fingerprint(&self, text: impl std::hash::Hash) -> u64 {
        self.hasher.hash_one(text)
    }

    /// Forgets what is over; how many addresses are remembered then.
    pub(super) fn sweep(&self, now: OffsetDateTime) -> usize {
        let slot = Slot::of(now);
        self.neighbourhoods.iter().for_each(|part| locked(part).sweep(slot));
        let each = self.addresses.iter().map(|part| {
            let mut part = locked(part);
            part.sweep(slot);
            part.len()
        });
        each.sum()
    }

    /// Networks that are remembered.
    pub(super) fn len(&self) -> usize {
        let addresses = self.addresses.iter().map(|part| locked(part).len()).sum::<usize>();
        addresses + self.neighbourhoods.iter().map(|part| locked(part).len()).sum::<usize>()
    }
}

fn locked<T>(part: &Mutex<T>) -> MutexGuard<'_, T> {
    part.lock().unwrap_or_else(PoisonError::into_inner)
}

fn part<'a, T>(parts: &'a [Mutex<T>; SHARDS], hasher: &ahash::RandomState, network: &IpNet) -> MutexGuard<'a, T> {
    let at = usize::try_from(hasher.hash_one(network) % SHARDS as u64).unwrap_or_default();
    locked(&parts[at])
}
