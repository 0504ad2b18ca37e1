//! A tenant as the limiter knows it: its terms, its buckets, and what it asked for and was given. What each request touches is a
//! number that is changed without a lock.

use std::pin::pin;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex};

use sha2::{Digest as _, Sha256};
use tokio::sync::Notify;

use super::board::Key;
use super::bucket::{Bucket, Nanos, Price};
use super::figures::Window;
use super::terms::Terms;
use crate::id::TenantId;

/// A fraction that is read and replaced without a lock.
#[derive(Debug, Default)]
pub(super) struct Fraction(AtomicU64);

impl Fraction {
    pub(super) fn new(value: f64) -> Self {
        Self(AtomicU64::new(value.to_bits()))
    }

    pub(super) fn get(&self) -> f64 {
        f64::from_bits(self.0.load(Relaxed))
    }

    pub(super) fn set(&self, value: f64) {
        self.0.store(value.to_bits(), Relaxed);
    }
}

/// A request of a tenant that may have only so many served at once; dropped when it is over.
#[derive(Debug)]
pub struct Permit(Arc<Share>);

/// One that has left for a while, and wants to go on.
#[derive(Debug)]
pub struct Absent(Arc<Share>);

impl Permit {
    /// Makes room for others for a while.
    pub fn leave(self) -> Absent {
        Absent(Arc::clone(&self.0))
    }
}

impl Absent {
    /// Whose it is.
    pub(super) fn share(&self) -> &Arc<Share> {
        &self.0
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.0.at_once.fetch_sub(1, Relaxed);
        self.0.left.notify_one();
    }
}

/// Whether another request may be served.
#[derive(Debug)]
pub enum Room {
    /// It may; where nobody counts, without a permit.
    Free(Option<Permit>),
    /// Not before one ends.
    Full,
}

/// Requests asked for and let through, since the process began.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Counted {
    /// On all replicas.
    pub wanted: u64,
    pub given: u64,
    /// At this one.
    pub wanted_here: u64,
    pub given_here: u64,
}

/// A tenant's part in the limits of this process.
#[derive(Debug)]
pub struct Share {
    /// Whose it is.
    pub tenant: TenantId,
    weight: Fraction,
    burst: Fraction,
    /// Requests a minute at most; 0: as many as its share has.
    base_rpm: AtomicU32,
    /// Requests served at once, everywhere and here.
    most_at_once: AtomicU32,
    most_here: AtomicU32,
    first: AtomicBool,
    tools_apart: AtomicBool,
    shows_arguments: AtomicBool,
    /// Its part of the capacity.
    pub(super) fair: Bucket,
    /// Its own cap.
    pub(super) own: Bucket,
    /// How much of what the tenant asks for everywhere is asked for here, 0 to 1; and how much of its own caps is for here.
    pub(super) here: Fraction,
    pub(super) own_here: Fraction,
    /// What was counted when it was last looked at.
    pub(super) looked_at: Mutex<Counted>,
    /// Its name on the board, and what was read there: requests a second asked for elsewhere, and how many were asked for and given.
    pub(super) key: Key,
    pub(super) abroad: Fraction,
    pub(super) abroad_long: Fraction,
    pub(super) abroad_wanted: AtomicU64,
    pub(super) abroad_given: AtomicU64,
    /// Requests asked for and let through, since the process began.
    pub(super) wanted: AtomicU64,
    pub(super) given: AtomicU64,
    /// Those of them that came to nothing before they began. The counters never go back, for others read how much they have grown:
    /// the next ones are not counted instead.
    wanted_in_vain: AtomicU64,
    given_in_vain: AtomicU64,
    /// Whether the next tick looks at it.
    pub(super) listed: AtomicBool,
    at_once: AtomicU32,
    queued: AtomicU32,
    left: Notify,
    pub(super) window: Mutex<Option<Box<Window>>>,
}

impl Share {
    /// That of a tenant which has not asked for anything.
    pub fn new(tenant: TenantId, terms: &Terms, burst: f64) -> Self {
        let key = key(&tenant);
        Self::keyed(tenant, key, terms, burst)
    }

    /// That of a tenant which there is not: simulations and measurements number theirs.
    pub fn simulated(key: Key, terms: &Terms, burst: f64) -> Self {
        Self::keyed(TenantId::default_tenant(), key, terms, burst)
    }

    fn keyed(tenant: TenantId, key: Key, terms: &Terms, burst: f64) -> Self {
        let share = Self {
            key,
            abroad: Fraction::default(),
            abroad_long: Fraction::default(),
            abroad_wanted: AtomicU64::default(),
            abroad_given: AtomicU64::default(),
            tenant,
            weight: Fraction::default(),
            burst: Fraction::default(),
            base_rpm: AtomicU32::default(),
            most_at_once: AtomicU32::default(),
            most_here: AtomicU32::default(),
            first: AtomicBool::default(),
            tools_apart: AtomicBool::default(),
            shows_arguments: AtomicBool::default(),
            fair: Bucket::default(),
            own: Bucket::default(),
            here: Fraction::new(1.0),
            own_here: Fraction::new(1.0),
            looked_at: Mutex::default(),
            wanted: AtomicU64::default(),
            given: AtomicU64::default(),
            wanted_in_vain: AtomicU64::default(),
            given_in_vain: AtomicU64::default(),
            listed: AtomicBool::default(),
            at_once: AtomicU32::default(),
            queued: AtomicU32::default(),
            left: Notify::new(),
            window: Mutex::default(),
        };
        share.agree(terms, burst);
        share
    }

    /// New terms; they hold from the next request on. `burst` is the factor where the terms name none.
    pub fn agree(&self, terms: &Terms, burst: f64) {
        self.weight.set(terms.weight);
        self.burst.set(terms.burst_factor.unwrap_or(burst));
        self.base_rpm.store(terms.base_rpm.unwrap_or(0), Relaxed);
        self.most_at_once.store(terms.max_concurrent_requests.unwrap_or(u32::MAX), Relaxed);
        self.find_most_here();
        self.first.store(terms.priority_support, Relaxed);
        self.tools_apart.store(terms.enhanced_monitoring, Relaxed);
        self.shows_arguments.store(terms.recorded_arguments, Relaxed);
    }

    /// Its weight, above 0.
    pub fn weight(&self) -> f64 {
        self.weight.get()
    }

    /// How many times its share it may use while others leave some, at least 1.
    pub fn burst(&self) -> f64 {
        self.burst.get()
    }

    /// Requests a minute that it has at most, whatever is free.
    pub fn base_rpm(&self) -> Option<u32> {
        Some(self.base_rpm.load(Relaxed)).filter(|rpm| *rpm > 0)
    }

    /// Whether its waiting requests go before those of others.
    pub fn goes_first(&self) -> bool {
        self.first.load(Relaxed)
    }

    /// Whether each of its tools is measured apart.
    pub fn measures_tools(&self) -> bool {
        self.tools_apart.load(Relaxed)
    }

    /// Whether its records show what tools are called with.
    pub fn shows_arguments(&self) -> bool {
        self.shows_arguments.load(Relaxed)
    }

    /// Its name on the board.
    pub fn key(&self) -> Key {
        self.key
    }

    /// One more is asked for.
    pub(super) fn count_wanted(&self) {
        count(&self.wanted, &self.wanted_in_vain);
    }

    /// One more was let through: also for judges, where somebody else decides.
    pub fn count_given(&self) {
        count(&self.given, &self.given_in_vain);
    }

    /// One that was asked for and let through counts as neither.
    pub(super) fn take_back(&self) {
        self.wanted_in_vain.fetch_add(1, Relaxed);
        self.given_in_vain.fetch_add(1, Relaxed);
    }

    /// Requests that are being served now.
    pub fn at_once(&self) -> u32 {
        self.at_once.load(Relaxed)
    }

    /// Requests that may be served at once, on all replicas together.
    pub fn most_at_once(&self) -> u32 {
        self.most_at_once.load(Relaxed)
    }

    /// Finds anew how many of them may be here: as much of them as of the cap, and never none.
    fn find_most_here(&self) {
        let most = self.most_at_once();
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a part of a number of the same kind"
        )]
        let here = if most == u32::MAX { most } else { (f64::from(most) * self.own_here.get()).max(1.0) as u32 };
        if self.most_here.swap(here, Relaxed) < here {
            // All of them look again; those for whom there is still no room go on waiting.
            self.left.notify_waiters();
        }
    }

    /// One more request is to be served.
    pub fn enter(self: &Arc<Self>) -> Room {
        let most = self.most_here.load(Relaxed);
        if most == u32::MAX {
            return Room::Free(None);
        }
        // Never more than may be, not even for a moment: another one would find no room where there is some.
        match self.at_once.fetch_update(Relaxed, Relaxed, |now| (now < most).then(|| now + 1)) {
            Ok(_) => Room::Free(Some(Permit(self.clone()))),
            Err(_) => Room::Full,
        }
    }

    /// Waits until it may; full at once, if as many wait already as are served.
    pub async fn queue(self: &Arc<Self>) -> Room {
        struct Queued<'a>(&'a AtomicU32);
        impl Drop for Queued<'_> {
            fn drop(&mut self) {
                self.0.fetch_sub(1, Relaxed);
            }
        }
        let before = self.queued.fetch_add(1, Relaxed);
        let _queued = Queued(&self.queued);
        if before >= self.most_here.load(Relaxed) {
            return Room::Full;
        }
        loop {
            let mut left = pin!(self.left.notified());
            // From here on nobody leaves unheard.
            left.as_mut().enable();
            match self.enter() {
                Room::Full => left.await,
                room @ Room::Free(_) => return room,
            }
        }
    }

    /// What was counted, here and, as far as is known, elsewhere.
    pub(super) fn counted(&self) -> Counted {
        let (wanted_here, given_here) = (self.wanted.load(Relaxed), self.given.load(Relaxed));
        Counted {
            wanted: wanted_here + self.abroad_wanted.load(Relaxed),
            given: given_here + self.abroad_given.load(Relaxed),
            wanted_here,
            given_here,
        }
    }

    /// From now on so much of its own caps is for here; what is there already stays.
    pub(super) fn have_own_here(&self, part: f64, now: Nanos) {
        let old = self.own_price();
        self.own_here.set(part);
        self.find_most_here();
        if let (Some(old), Some(new)) = (old, self.own_price()) {
            self.own.reprice(old, new, now);
        }
    }

    /// Requests left of its own cap now, on all replicas if it is asked for elsewhere as it is here.
    #[expect(clippy::cast_precision_loss, reason = "moments of some minutes")]
    pub(super) fn own_left(&self, now: Nanos) -> f64 {
        let left = |price: Price| self.own.there(price, now) as f64 / price.token as f64 / self.own_here.get();
        self.own_price().map_or(f64::MAX, left)
    }

    /// What a request costs of its own cap, if it has one.
    pub(super) fn own_price(&self) -> Option<Price> {
        let rpm = self.base_rpm()?;
        Some(Price {
            token: Price::a_second(f64::from(rpm) / 60.0 * self.own_here.get(), 0).token,
            ..Price::a_minute(rpm)
        })
    }
}

/// Counts one more, or one less of what was counted in vain.
fn count(counter: &AtomicU64, in_vain: &AtomicU64) {
    let makes_up =
        in_vain.load(Relaxed) > 0 && in_vain.fetch_update(Relaxed, Relaxed, |left| left.checked_sub(1)).is_ok();
    if !makes_up {
        counter.fetch_add(1, Relaxed);
    }
}

/// The same in every process: the first bytes of a digest.
fn key(tenant: &TenantId) -> Key {
    let digest = Sha256::digest(tenant.as_str());
    digest.iter().take(8).fold(0, |key, byte| key << 8 | Key::from(*byte))
}
