//! The fair limiter: shares the gateway's capacity among the tenants that ask for some, in proportion to weight, lends what is left
//! over, and takes it back as soon as its owner asks.
//!
//! A request touches two buckets: its tenant's, whose rate is the tenant's part, and that of the capacity, which is never exceeded. What
//! the parts are is found out ten times a second from what was asked for (`pace`), by the request that finds it due; between two of
//! these a decision is some reads and two compare-and-swaps, whatever the number of tenants. Time is an argument: simulations and tests
//! have clocks of their own.

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::board::{Key, LEASE, Reply, Report};
use super::bucket::{Bucket, Nanos, Price, SECOND};
use super::figures::{Closeness, Moments, Sums, seconds};
use super::pace::Pace;
use super::share::{Fraction, Share};

/// What all tenants live under.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Rules {
    /// Requests a minute that the gateway serves, on all its replicas.
    pub capacity_rpm: u32,
    /// The window of the shares: what figures are of; a hundredth of it is what a tenant may make up for.
    pub window: Duration,
    /// Whether shares are fair; else each tenant has its own cap and nothing else.
    pub fair: bool,
}

/// Of a minute's capacity as much may come at once: one part in this many.
const AT_ONCE: u32 = 400;
/// And no less than this, if that much is not more than comes in a minute.
const LEAST_AT_ONCE: u32 = 4;
/// Of what may come at once one part in this many is for those who use less than they may.
const LEFT: u64 = 4;
/// How much longer than under pressure a tenant's share is saved up while there is enough for all.
const SAVED_AT_EASE: u64 = 10;
/// A tenant's bucket has room for so many requests besides: when they come, and at which replica, is chance.
const ROOM: u64 = 2;

impl Rules {
    /// Requests of a minute's capacity that may come at once.
    pub(super) fn at_once(&self) -> f64 {
        f64::from((self.capacity_rpm / AT_ONCE).max(LEAST_AT_ONCE.min(self.capacity_rpm)))
    }

    /// Requests a second, so many that with those which come at once no minute has more than the capacity.
    pub fn capacity(&self) -> f64 {
        let rpm = f64::from(self.capacity_rpm);
        ((rpm - self.at_once()) / 60.0).max(rpm / 120.0)
    }

    /// The time in which they come.
    fn at_once_time(&self) -> Nanos {
        Price::a_second(self.capacity() / self.at_once(), 0).token
    }

    /// How long a tenant that was refused anything, or could have been, saves up its share.
    pub(super) fn credit(&self) -> Nanos {
        seconds(self.window) * SECOND / 100
    }

    pub(super) fn window_seconds(&self) -> u64 {
        seconds(self.window)
    }
}

/// Why a request may not pass, and how long it is until the next one of its kind may.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Short {
    /// The gateway's capacity is used up in this moment; the tenant has not had its part.
    Capacity(Nanos),
    /// The tenant has had its part.
    Share(Nanos),
    /// The tenant has had what its own cap allows.
    Own(Nanos),
}

impl Short {
    /// How long it is until the next one may pass.
    pub fn wait(self) -> Nanos {
        let (Self::Capacity(wait) | Self::Share(wait) | Self::Own(wait)) = self;
        wait
    }
}

/// The limiter of one process.
#[derive(Debug)]
pub struct Fair {
    pub(super) rules: Rules,
    pub(super) capacity: Bucket,
    /// Requests a second that this process may let through, and the time in which one comes.
    pub(super) rate: Fraction,
    token: AtomicU64,
    /// Requests a second for each weight: at the level of the water, and as a share.
    pub(super) level: Fraction,
    pub(super) share: Fraction,
    /// How long shares are saved up.
    pub(super) saved: AtomicU64,
    /// Which part of a tenant's own cap is here while it is not known where it is asked for.
    pub(super) fresh: Fraction,
    /// When the parts are to be found out anew.
    pub(super) due: AtomicU64,
    /// When the lease from the board is over; never where there is no board.
    pub(super) until: AtomicU64,
    /// Requests that wait for capacity.
    pub(super) waiting: AtomicU32,
    /// Whether the capacity was used up in this second, here and elsewhere.
    pub(super) exhausted: AtomicBool,
    pub(super) exhausted_abroad: AtomicBool,
    pub(super) arrived: Mutex<Vec<Arc<Share>>>,
    pace: Mutex<Pace>,
}

pub(super) fn locked<T>(lock: &Mutex<T>) -> MutexGuard<'_, T> {
    lock.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A request that waits in line for capacity; dropped when it waits no longer.
#[derive(Debug)]
pub struct InLine<'a> {
    fair: &'a Fair,
    /// When it is its turn.
    pub wait: Nanos,
}

impl Drop for InLine<'_> {
    fn drop(&mut self) {
        self.fair.waited();
    }
}

/// What a request took of its tenant's and of the capacity, at which prices.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Spent {
    own: Option<Price>,
    part: Option<Price>,
    capacity: Price,
}

/// What a request took of its tenant's, at which prices, and what it leaves of the capacity.
#[derive(Debug, Clone, Copy)]
struct Taken {
    own: Option<Price>,
    part: Option<Price>,
    left: Nanos,
}

impl Taken {
    fn spent(self, capacity: Price) -> Spent {
        Spent { own: self.own, part: self.part, capacity }
    }

    fn give_back(self, share: &Share) {
        self.own.inspect(|price| share.own.give_back(*price));
        self.part.inspect(|price| share.fair.give_back(*price));
    }
}

impl Fair {
    /// What all tenants live under.
    pub fn rules(&self) -> &Rules {
        &self.rules
    }

    /// With all capacity free.
    pub fn new(rules: Rules) -> Self {
        Self {
            rules,
            capacity: Bucket::default(),
            rate: Fraction::new(rules.capacity()),
            token: AtomicU64::new(price(&rules, rules.capacity()).token),
            level: Fraction::new(f64::INFINITY),
            share: Fraction::new(rules.capacity()),
            saved: AtomicU64::new(rules.credit() * SAVED_AT_EASE),
            fresh: Fraction::new(1.0),
            due: AtomicU64::default(),
            until: AtomicU64::new(Nanos::MAX),
            waiting: AtomicU32::default(),
            exhausted: AtomicBool::default(),
            exhausted_abroad: AtomicBool::default(),
            arrived: Mutex::default(),
            pace: Mutex::default(),
        }
    }

    /// A request of this tenant has come that nothing else stands against. Said once for each, before it is tried.
    pub fn wanted(&self, share: &Arc<Share>, now: Nanos) {
        share.count_wanted();
        if !share.listed.swap(true, Relaxed) {
            // It may be asked for on the other replicas as well, until it is known where.
            share.have_own_here(self.fresh.get(), now);
            locked(&self.arrived).push(share.clone());
        }
        if now >= self.due.load(Relaxed)
            && let Ok(mut pace) = self.pace.try_lock()
        {
            pace.tick(self, now);
        }
    }

    /// Lets a request through, or says why not. A refused one costs nothing.
    pub fn take(&self, share: &Share, now: Nanos) -> Result<Spent, Short> {
        let (taken, capacity) = (self.take_own(share, now)?, self.capacity_price());
        if self.capacity.take_leaving(capacity, now, taken.left).is_err() {
            taken.give_back(share);
            return Err(Short::Capacity(self.capacity_wait(now, taken.left)));
        }
        share.count_given();
        Ok(taken.spent(capacity))
    }

    /// Lets a request through as the next for which there is capacity, before all who wait in line: returns how long it is until then.
    pub fn take_next(&self, share: &Share, now: Nanos, patience: Nanos) -> Result<(Nanos, Spent), Short> {
        let (taken, capacity) = (self.take_own(share, now)?, self.capacity_price());
        let wait = self.capacity.reserve(capacity, now, patience).map_err(|wait| {
            taken.give_back(share);
            Short::Capacity(wait)
        })?;
        share.count_given();
        Ok((wait, taken.spent(capacity)))
    }

    /// A request that was let through comes to nothing for another reason: as if it had never come.
    pub fn undo(&self, share: &Share, spent: Spent) {
        Taken { own: spent.own, part: spent.part, left: 0 }.give_back(share);
        self.capacity.give_back(spent.capacity);
        share.take_back();
    }

    /// Takes what is the tenant's: of its own cap and of its part.
    fn take_own(&self, share: &Share, now: Nanos) -> Result<Taken, Short> {
        let own = share.own_price();
        let part = self.rules.fair.then(|| self.price(share));
        let left = part.map_or(0, |price| self.left(share, price, now));
        if let Some(price) = own
            && let Err(wait) = share.own.take(price, now)
        {
            let of_share = part.map_or(0, |price| share.fair.wait(price, now));
            return Err(Short::Own(wait.max(of_share).max(self.capacity_wait(now, left))));
        }
        if let Some(price) = part
            && let Err(wait) = share.fair.take(price, now)
        {
            Taken { own, part: None, left }.give_back(share);
            return Err(Short::Share(wait.max(self.capacity_wait(now, left))));
        }
        Ok(Taken { own, part, left })
    }

    /// What a tenant leaves of the capacity that is there at once, as the time in which it comes. Who uses all that it may leaves
    /// some for the modest: else these would wait behind what others saved up.
    fn left(&self, share: &Share, price: Price, now: Nanos) -> Nanos {
        let capacity = self.capacity_price();
        let used = price.saved.saturating_sub(share.fair.there(price, now)).min(price.saved / LEFT);
        let left = u128::from(capacity.saved) * u128::from(used) / u128::from(price.saved.max(1));
        Nanos::try_from(left).unwrap_or(Nanos::MAX).min(capacity.saved.saturating_sub(capacity.token))
    }

    /// How long it is until capacity is there, and so much is left.
    fn capacity_wait(&self, now: Nanos, left: Nanos) -> Nanos {
        // What was leased to others comes back within the time of a lease, if anything does.
        if self.rate.get() > 0.0 { self.capacity.wait_leaving(self.capacity_price(), now, left) } else { LEASE }
    }

    /// One more request waits for capacity, which is there for the first in line in this time.
    pub fn line_up(&self, first: Nanos) -> InLine<'_> {
        InLine { fair: self, wait: self.wait(first) }
    }

    /// The same for who says itself when it waits no longer. Returns when it is this one's turn.
    pub fn wait(&self, first: Nanos) -> Nanos {
        let before = u64::from(self.waiting.fetch_add(1, Relaxed));
        // Without a lease it is for ever: as long as a clock can still be set forward by.
        first.saturating_add(before.saturating_mul(self.capacity_price().token)).min(u64::MAX / 4)
    }

    /// One of these waits no longer.
    pub fn waited(&self) {
        self.waiting.fetch_sub(1, Relaxed);
    }

    /// A request was refused for good, for this reason.
    pub fn refuse(&self, short: Short) {
        let of_capacity = match short {
            Short::Capacity(_) => true,
            // There is a level only while there is not enough for all.
            Short::Share(_) => self.is_pressed(),
            Short::Own(_) => false,
        };
        if of_capacity {
            self.exhausted.store(true, Relaxed);
        }
    }

    /// What this process writes on the board. What it no longer uses it leaves before the others hear of it.
    pub fn report(&self, replica: u128, now: Nanos) -> Report {
        let mut pace = locked(&self.pace);
        pace.tick(self, now);
        let report = pace.report(self, replica, now);
        self.lease(report.rate.min(self.rate.get()), pace.at());
        report
    }

    /// What it read there, having gone there at `sent`. `known` finds the tenant of a key.
    pub fn hear(&self, reply: &Reply, sent: Nanos, known: impl Fn(Key) -> Option<Arc<Share>>) {
        let mut pace = locked(&self.pace);
        self.until.store(sent.saturating_add(LEASE), Relaxed);
        pace.hear(self, reply, known);
        let part = pace.heard_part();
        self.lease(reply.lease * part, pace.at());
        self.fresh.set(part / f64::from(pace.replicas));
        if reply.others.iter().any(|other| other.exhausted) {
            self.exhausted_abroad.store(true, Relaxed);
        }
    }

    /// This process shares the capacity with others, of which it knows so many, itself among them: it lets nothing through before it
    /// has heard the board. When it does not within the time of a lease, it goes on by itself.
    pub fn join(&self, replicas: u32, now: Nanos) {
        let mut pace = locked(&self.pace);
        pace.replicas = replicas.max(1);
        self.until.store(now.saturating_add(LEASE), Relaxed);
        self.lease(0.0, now);
    }

    /// This process is one of so many that share the capacity without a board: it goes on by itself with its part.
    pub fn go_on_alone(&self, replicas: u32) {
        let mut pace = locked(&self.pace);
        pace.replicas = replicas.max(1);
        self.part_from_others(&mut pace);
    }

    /// The board is away: this process goes on with its part of the capacity by itself, one of as many parts as there were replicas.
    pub(super) fn part_from_others(&self, pace: &mut Pace) {
        let replicas = f64::from(pace.part());
        self.until.store(Nanos::MAX, Relaxed);
        self.fresh.set(1.0 / replicas);
        self.lease(self.rules.capacity() / replicas, pace.at());
    }

    /// From `at` on as many requests a second may pass here. What could have come at once at the old rate is no more at the new one:
    /// else capacity that is handed to and fro would come at once each time.
    fn lease(&self, rate: f64, at: Nanos) {
        let (old, new) = (self.capacity_price(), price(&self.rules, rate));
        self.rate.set(rate);
        self.token.store(new.token, Relaxed);
        self.capacity.reprice(old, new, at);
    }

    /// Replicas that share the capacity, this one among them, as far as is known.
    pub fn replicas(&self) -> u32 {
        locked(&self.pace).replicas.max(1)
    }

    /// So many replicas serve and are not on the board: their part is left to them, for they go on by themselves.
    pub fn miss(&self, replicas: u32) {
        locked(&self.pace).missing = replicas;
    }

    /// Whether what it knows is of all replicas.
    pub fn hears_all(&self) -> bool {
        let pace = locked(&self.pace);
        (self.is_on_board() || pace.replicas <= 1) && pace.missing == 0
    }

    /// Whether it is the only one.
    pub fn is_alone(&self) -> bool {
        let pace = locked(&self.pace);
        pace.replicas <= 1 && pace.missing == 0
    }

    /// Whether it goes by what the board said, or waits for its first word; else by itself.
    pub fn is_on_board(&self) -> bool {
        self.until.load(Relaxed) < Nanos::MAX
    }

    /// Whether more is asked for than there is.
    pub fn is_pressed(&self) -> bool {
        self.level.get().is_finite()
    }

    /// Requests a second that the tenant may have now at this process.
    pub fn part(&self, share: &Share) -> f64 {
        self.part_everywhere(share) * share.here.get()
    }

    /// Requests a second that it may have now on all replicas that this one hears.
    pub fn part_everywhere(&self, share: &Share) -> f64 {
        let burst = share.burst() * self.share.get();
        share.weight() * self.level.get().min(burst)
    }

    /// Requests a second that are the tenant's due on all replicas while it asks for as many.
    pub fn due_share(&self, share: &Share) -> f64 {
        share.weight() * self.share.get()
    }

    fn price(&self, share: &Share) -> Price {
        let price = Price::a_second(self.part(share), self.saved.load(Relaxed));
        Price { saved: price.saved + ROOM * price.token, ..price }
    }

    pub(super) fn capacity_price(&self) -> Price {
        Price { token: self.token.load(Relaxed), saved: self.rules.at_once_time() }
    }

    /// How long shares are saved up while there is enough for all, or is not.
    pub(super) fn set_pressed(&self, pressed: bool) {
        let credit = self.rules.credit();
        self.saved.store(if pressed { credit } else { credit * SAVED_AT_EASE }, Relaxed);
    }

    /// Brings the figures up to the last whole second; requests do so as they come, readers when there are none.
    pub fn settle(&self, now: Nanos) {
        locked(&self.pace).tick(self, now);
    }

    /// What the tenant asked for and was given in the window before `now`.
    pub fn sums(&self, share: &Share, now: Nanos) -> Sums {
        let at = now / SECOND;
        locked(&share.window).as_ref().map_or_else(Sums::default, |window| window.sum(at, self.rules.window_seconds()))
    }

    /// What happened in the window before `now`.
    pub fn moments(&self, now: Nanos) -> Moments {
        locked(&self.pace).moments.sum(now / SECOND, self.rules.window_seconds())
    }

    /// How close the window before `now` came to the exact allocation.
    pub fn closeness<'a>(&self, shares: impl Iterator<Item = &'a Arc<Share>>, now: Nanos) -> Closeness {
        let mut closeness = Closeness::default();
        for share in shares {
            closeness.take_in(&self.sums(share, now));
        }
        closeness
    }
}

/// The price of capacity at so many requests a second, which are a part of the whole.
fn price(rules: &Rules, rate: f64) -> Price {
    // Of what may come at once each replica has as much as of the rest. Where that is less than one, a bucket holds one nevertheless,
    // and the difference is taken off the rate, so that it is made up for within the minute.
    let at_once = rate * rules.at_once() / rules.capacity();
    let rate = (rate - (1.0 - at_once).max(0.0) / 60.0).max(rate / 2.0);
    Price::a_second(rate, rules.at_once_time())
}

#[cfg(test)]
mod tests;
