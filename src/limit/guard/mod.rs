//! The address guard: who sends too much that is refused is not heard for a while. It counts refusals by address and by neighbourhood
//! ([`scores`]), bans both ([`bans`]), keeps bans over restarts and takes over those of other processes ([`kept`]), and bans and
//! lifts what it is told to ([`by_hand`]). Whose address it is, proxies taken into account, others have found out.
//!
//! It never bans this machine, networks that are allowed, nor the proxies in front; nor an address where many are known. It lets
//! nobody in: under a ban a good credential is counted, and refused.

mod abroad;
mod bans;
mod bounded;
mod by_hand;
mod figures;
mod kept;
mod network;
mod scores;
#[cfg(test)]
mod tests;
mod window;

use std::collections::HashSet;
use std::net::IpAddr;
use std::sync::atomic::{AtomicI64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use ipnet::IpNet;
use time::OffsetDateTime;
use tokio::sync::Notify;

pub use bans::{Ban, Lifted, Reason, length};
pub use by_hand::NotBanned;
pub use figures::{Figures, HitsByType};
pub use network::{parse as parse_network, written};
pub use scores::Wrong;

use self::abroad::Abroad;
use self::bans::Bans;
use self::figures::{Counts, Event};
use self::scores::Scores;
use crate::config::{Guard as Settings, Listen};
use crate::limit::Limit;
use crate::limit::board::Other;
use crate::store::{at, micros};
use crate::telemetry::{self, Counter, Recorder};

/// Addresses that are remembered for what came from them; some 200 bytes each.
const MOST_ADDRESSES: usize = 100_000;
/// Networks that are banned or were lately.
const MOST_BANS: usize = 100_000;

/// The guard of one process. Cheap to clone; clones are one guard.
#[derive(Clone)]
pub struct Guard(Arc<Inner>);

struct Inner {
    first: Duration,
    /// Networks that are never banned.
    spared: Box<[IpNet]>,
    scores: Scores,
    bans: Bans,
    counts: Counts,
    abroad: Abroad,
    recorder: Recorder,
    /// Networks whose ban is not stored as it is.
    unwritten: Mutex<HashSet<IpNet>>,
    changed: Notify,
    /// The revision of the stored bans that was last taken over.
    followed: AtomicI64,
}

/// A request that is refused before anybody looks at it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Barred {
    /// After what time it is worth trying again.
    pub retry_after: Duration,
    /// Whether the address is banned; else only what it shows is not looked at for now.
    pub banned: bool,
}

impl Guard {
    /// A guard that knows nothing yet. `window` is the time that its figures are of.
    pub fn new(settings: &Settings, listen: &Listen, window: Duration, recorder: Recorder) -> Self {
        Self::with_room(settings, listen, window, recorder, MOST_ADDRESSES)
    }

    fn with_room(settings: &Settings, listen: &Listen, window: Duration, recorder: Recorder, most: usize) -> Self {
        let proxies = if listen.behind_proxy { listen.trusted_proxies.as_slice() } else { &[] };
        // Whoever has no address, or one of this machine, is nobody whom a ban would keep out.
        let own = ["127.0.0.0/8", "::1/128", "0.0.0.0/32", "::/128"].map(|own| own.parse().ok());
        Self(Arc::new(Inner {
            first: settings.ban_duration,
            spared: own.into_iter().flatten().chain(settings.allowed.iter().chain(proxies).copied()).collect(),
            scores: Scores::new(settings.threshold, most),
            bans: Bans::new(MOST_BANS),
            counts: Counts::new(window),
            abroad: Abroad::new(window),
            recorder,
            unwritten: Mutex::default(),
            changed: Notify::new(),
            followed: AtomicI64::new(0),
        }))
    }

    /// The ban under which `address` is not heard. To be asked before anything else is done for it.
    pub fn ban_of(&self, address: IpAddr, now: OffsetDateTime) -> Option<Arc<Ban>> {
        let ban = self.0.bans.of(address.to_canonical(), micros(now))?;
        // Asked last: it is seldom that somebody is banned.
        (!self.is_spared(address)).then_some(ban)
    }

    /// Counts a request that the ban refuses.
    pub fn bars(&self, ban: &Ban, now: OffsetDateTime) -> Barred {
        ban.prevented.fetch_add(1, Relaxed);
        self.0.recorder.metrics().rate_limit_hits.on(["", Limit::Ddos.label(), "banned"], Counter::inc);
        self.count(Event::Prevented, now);
        self.count(Event::Hit(Limit::Ddos), now);
        Barred { retry_after: rest(ban, now), banned: true }
    }

    /// Whether a connection of `peer` may come as far as its request; else how long its ban lasts. A few of a banned peer may, to be
    /// told why, and so that it is seen whether somebody good is among them.
    pub fn may_connect(&self, peer: IpAddr, now: OffsetDateTime) -> Result<(), Duration> {
        match self.ban_of(peer, now) {
            Some(ban) if !bans::take(&ban.next_connection, micros(now)) => Err(self.bars(&ban, now).retry_after),
            _ => Ok(()),
        }
    }

    /// A good credential was shown under a ban: it is wrong, which counts once. What an administrator bans is meant.
    pub fn was_good(&self, ban: &Ban, now: OffsetDateTime) {
        if ban.reason != Reason::Hand && !ban.false_positive.swap(true, Relaxed) {
            self.count(Event::FalsePositive, now);
            tracing::warn!(network = %ban.network, "somebody showed a good credential under a ban");
            self.is_unwritten(ban.network);
        }
    }

    /// Whether the credential that an address shows is not looked at, because the very same was no good again and again and too much
    /// came from there: how the one bad among many behind one address is held back. Counts it.
    pub fn holds_back(&self, address: IpAddr, shown: &[u8], now: OffsetDateTime) -> Option<Barred> {
        if !self.0.scores.holds_any_back(now) {
            return None;
        }
        let wait = self.0.scores.holds_back(address.to_canonical(), self.fingerprint(shown), now)?;
        self.0.recorder.metrics().rate_limit_hits.on(["", Limit::Ddos.label(), "throttled"], Counter::inc);
        self.count(Event::Hit(Limit::Ddos), now);
        self.refused(address, Wrong::Throttled, now);
        Some(Barred { retry_after: wait, banned: false })
    }

    /// A number that stands for what was shown.
    pub fn fingerprint(&self, shown: &[u8]) -> u64 {
        self.0.scores.fingerprint(shown)
    }

    /// Something that came from `address` was refused; it may be banned for that.
    pub fn refused(&self, address: IpAddr, wrong: Wrong, now: OffsetDateTime) {
        let address = address.to_canonical();
        if self.is_spared(address) {
            return;
        }
        let offences = self.0.scores.refused(address, wrong, now);
        if offences.shed {
            self.0.recorder.metrics().guard_shed.on([], Counter::inc);
        }
        if let Some(refusals) = offences.own {
            self.ban(network::own(address), Reason::Refusals, refusals, now);
        }
        if let Some(refusals) = offences.around {
            self.ban(network::around(address), Reason::Neighbours, refusals, now);
        }
    }

    /// Somebody who is known came from `address` and was let in; `who` stands for the account, not for a credential of it.
    pub fn let_in(&self, address: IpAddr, who: impl std::hash::Hash, now: OffsetDateTime) {
        let address = address.to_canonical();
        if !self.is_spared(address) {
            self.0.scores.let_in(address, self.0.scores.fingerprint(who), now);
        }
    }

    /// A limit was reached, anybody's: for the figures.
    pub fn hit(&self, whose: Limit, now: OffsetDateTime) {
        self.count(Event::Hit(whose), now);
    }

    /// What happened within the window, in this process.
    pub fn figures(&self, now: OffsetDateTime) -> Figures {
        Figures::of(&self.0.counts.within(now))
    }

    /// The same for all replicas that were heard.
    pub fn figures_of_all(&self, now: OffsetDateTime) -> Figures {
        let mut events = self.0.counts.within(now);
        events.iter_mut().zip(self.0.abroad.within(now)).for_each(|(all, more)| *all += more);
        Figures::of(&events)
    }

    /// What this process counted since it began, to tell the others.
    pub fn counted(&self) -> Vec<u64> {
        self.0.counts.ever()
    }

    /// What the others counted since they began.
    pub fn hear(&self, others: &[Other], now: OffsetDateTime) {
        self.0.abroad.hear(others, now);
    }

    /// Forgets what is over. For a job, every minute or so.
    pub fn sweep(&self, now: OffsetDateTime) {
        self.0.scores.sweep(now);
        self.0.bans.sweep(micros(now));
    }

    /// How many networks are banned.
    pub fn banned(&self, now: OffsetDateTime) -> usize {
        let now = micros(now);
        self.0.bans.all().iter().filter(|ban| ban.holds(now)).count()
    }

    /// How many networks are remembered for what came from them.
    pub fn entries(&self) -> usize {
        self.0.scores.len()
    }

    fn ban(&self, network: IpNet, reason: Reason, refusals: u32, now: OffsetDateTime) {
        let at = micros(now);
        let made = self.0.bans.put(network, |before| {
            let earlier = before.map_or(0, |ban| ban.remembered(at));
            // Many requests may reach the threshold at once.
            let fresh = before.is_none_or(|ban| !ban.holds(at));
            fresh.then(|| {
                let lasts = length(self.0.first, earlier);
                Ban { refusals, ..Ban::begin(network, reason, lasts, earlier, at) }
            })
        });
        if let Some(ban) = made {
            self.count(Event::Banned, now);
            self.is_unwritten(network);
            self.told("ban.begin", &ban);
            tracing::warn!(
                %network, refusals, earlier = ban.earlier, until = %crate::store::at(ban.until),
                "banned: too much that came from there was refused"
            );
        } else if self.0.bans.get(&network).is_none() {
            self.0.recorder.metrics().guard_shed.on([], Counter::inc);
        }
    }

    /// Has it kept that a ban began here, or was taken back.
    fn told(&self, action: &'static str, ban: &Ban) {
        let lifted = ban.lifted.as_ref();
        let by = lifted.map(|lifted| &lifted.by).or(ban.made_by.as_ref());
        self.0.recorder.tell(telemetry::Event {
            username: by.map(|by| by.as_str().into()),
            name: Some(ban.network.to_string().into()),
            reason: Some(ban.reason.as_str().into()),
            lasted: (at(lifted.map_or(ban.until, |lifted| lifted.at)) - at(ban.since)).try_into().unwrap_or_default(),
            ..telemetry::Event::new(action, true)
        });
    }

    /// Whether the address is never banned.
    fn is_spared(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        self.0.spared.iter().any(|network| network.contains(&address))
    }

    fn count(&self, event: Event, now: OffsetDateTime) {
        self.0.counts.count(event, now);
    }

    fn unwritten(&self) -> MutexGuard<'_, HashSet<IpNet>> {
        self.0.unwritten.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_unwritten(&self, network: IpNet) {
        self.unwritten().insert(network);
        self.0.changed.notify_one();
    }
}

/// How long a ban lasts yet.
fn rest(ban: &Ban, now: OffsetDateTime) -> Duration {
    (at(ban.until) - now).try_into().unwrap_or_default()
}
