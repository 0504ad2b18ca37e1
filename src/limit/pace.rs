//! Finds out, ten times a second, what the parts of the tenants are: how much each asks for, who asks for anything, where the water
//! stands. Once a second it compares what was given with what would have been exact.

#![expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    reason = "rates are estimates, and counters on the board begin again at 0 when they are full"
)]

mod compare;
mod others;

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use self::others::Heard;
use super::bucket::{Nanos, SECOND};
use super::exact::{Comparison, Standing};
use super::fair::{Fair, locked};
use super::figures::{Moments, Ring};
use super::share::{Counted, Share};
use super::water::{Claim, level};

/// How often the parts are found out anew.
pub const TICK: Nanos = SECOND / 10;
/// What a tenant asks for is averaged over about as long, in seconds.
const MEMORY: f64 = 0.15;
/// Where it asks for it, over about as long.
const LONG_MEMORY: f64 = 3.0;
/// A tenant that asked for nothing for so long has no demand.
const QUIET: Nanos = SECOND;
/// Within as many seconds the capacity that is there at once is brought back to half.
const BALANCE: f64 = 0.7;
/// Or within the time in which so many come, if that is longer: one request more or less would swing the parts to and fro, at the cost of
/// whoever asks just when they are low, and that is who asks most.
const SLOWEST: f64 = 50.0;
/// How many times its part a tenant has at one of several replicas. Where it asks next nobody knows, so that parts which are just enough
/// together are too small where it does; the capacity's own bucket and the balance see that it is not too much.
const AMPLE: f64 = 1.15;

/// One tenant that asks for something.
#[derive(Debug)]
struct Active {
    share: Arc<Share>,
    wanted: u64,
    /// Requests a second, lately.
    rate: f64,
    /// The same, over a longer time.
    long: f64,
    /// The same elsewhere, from what was counted there: also of replicas that do not name the tenant in this moment.
    abroad_long: f64,
    abroad_wanted: u64,
    last: Nanos,
    /// What was counted at the last whole second.
    second: Counted,
    standing: Standing,
}

/// Where the other replicas stand.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
enum Others {
    /// There are none, or none was heard of.
    #[default]
    None,
    /// They are on the board.
    Heard,
    /// They cannot be heard: each has its part.
    Away,
}

impl Active {
    /// Requests a second that the tenant asks for on all replicas.
    fn everywhere(&self) -> f64 {
        self.rate + self.share.abroad.get()
    }
}

/// What the next tick has to know of the last.
#[derive(Debug, Default)]
pub(super) struct Pace {
    others: Others,
    /// Replicas, this one with them.
    pub(super) replicas: u32,
    /// How many there were at the last tick.
    replicas_before: u32,
    /// Those that serve and cannot be heard.
    pub(super) missing: u32,
    heard: Heard,
    /// Whose demand elsewhere is known.
    abroad: Vec<Arc<Share>>,
    /// Requests a second that this process could use.
    usable: f64,
    active: Vec<Active>,
    /// Room for the claims of a tick.
    claims: Vec<Claim>,
    at: Nanos,
    second: u64,
    comparison: Comparison,
    pub(super) moments: Ring<Moments>,
}

impl Pace {
    /// When the parts were last found.
    pub(super) fn at(&self) -> Nanos {
        self.at
    }

    /// Which part of everything those have that hear each other: the rest is for those that cannot be heard.
    pub(super) fn heard_part(&self) -> f64 {
        let heard = f64::from(self.replicas.max(1));
        heard / (heard + f64::from(self.missing))
    }

    /// Finds the parts anew if that is due.
    pub(super) fn tick(&mut self, fair: &Fair, now: Nanos) {
        if now < fair.due.load(Relaxed) {
            return;
        }
        fair.due.store(now + TICK, Relaxed);
        if now >= fair.until.load(Relaxed) {
            fair.part_from_others(self);
        }
        self.listen(fair, now);
        self.find_level(fair, now);
        let second = now / SECOND;
        if second > self.second {
            self.compare(fair, second);
            self.take_back(fair, now);
            self.second = second;
        }
        self.active.retain(|active| {
            let stays = now < active.last + QUIET
                || active.share.abroad.get() > 0.0
                || active.share.counted().wanted != active.second.wanted;
            if !stays {
                *locked(&active.share.looked_at) = active.second;
                active.share.listed.store(false, Relaxed);
            }
            stays
        });
        self.at = now;
    }

    /// Takes in who has come, and how much each asked for since the last tick.
    fn listen(&mut self, fair: &Fair, now: Nanos) {
        let passed = now.saturating_sub(self.at).max(1) as f64 / 1e9;
        let arrived = std::mem::take(&mut *locked(&fair.arrived));
        for share in arrived {
            // What it asked for before, if it did, was looked at then.
            let second = *locked(&share.looked_at);
            let given = share.counted().given_here - second.given_here;
            self.active.push(Active {
                standing: Standing::with_own(share.own_left(now) + given as f64),
                share,
                wanted: second.wanted_here,
                rate: 0.0,
                long: 0.0,
                abroad_long: 0.0,
                abroad_wanted: second.wanted - second.wanted_here,
                last: now,
                second,
            });
        }
        let (fresh, long) = (1.0 - (-passed / MEMORY).exp(), 1.0 - (-passed / LONG_MEMORY).exp());
        let fewer = self.replicas < std::mem::replace(&mut self.replicas_before, self.replicas);
        for active in &mut self.active {
            let wanted = active.share.wanted.load(Relaxed);
            let asked = wanted - active.wanted;
            if asked > 0 {
                (active.wanted, active.last) = (wanted, now);
            }
            let rate = asked as f64 / passed;
            active.rate += (rate - active.rate) * fresh;
            active.long += (rate - active.long) * long;
            let abroad = active.share.abroad_wanted.load(Relaxed);
            let asked = abroad - std::mem::replace(&mut active.abroad_wanted, abroad);
            active.abroad_long += (asked as f64 / passed - active.abroad_long) * long;
            if fewer {
                // What was asked of one that is gone is asked of the others from now on.
                active.abroad_long = active.abroad_long.min(active.share.abroad_long.get());
            }
        }
    }

    fn find_level(&mut self, fair: &Fair, now: Nanos) {
        let own_part = match self.others {
            Others::None | Others::Heard => self.heard_part(),
            Others::Away => 1.0 / f64::from(self.replicas),
        };
        let capacity = fair.rules.capacity() * own_part;
        let weights: f64 = self.active.iter().map(|active| active.share.weight()).sum();
        let share = if weights > 0.0 { capacity / weights } else { capacity };
        // Once for each: tenants are spread over the memory, the claims are not.
        let mut claims = std::mem::take(&mut self.claims);
        claims.extend(self.active.iter().map(|active| {
            let weight = active.share.weight();
            let own = active.share.base_rpm().map_or(f64::INFINITY, |rpm| f64::from(rpm) / 60.0 * own_part);
            Claim { weight, most: active.everywhere().min(own).min(weight * share * active.share.burst()) }
        }));
        let balance = balance(fair, now);
        let level = level(&claims.iter().copied(), capacity * balance);
        fair.share.set(share);
        fair.level.set(level);
        // Also while saved-up shares use the capacity up although all that is asked for lately would fit.
        fair.set_pressed(level.is_finite() || balance < 1.0);

        let (mut all, mut here) = (0.0, 0.0);
        let replicas = if self.others == Others::Heard { f64::from(self.replicas) } else { 1.0 };
        for (active, claim) in self.active.iter().zip(claims.drain(..)) {
            // As if each replica were asked once a second besides, so that one that was not asked yet has something to give.
            let part = (active.long + 1.0) / (active.long + active.abroad_long + replicas);
            let part = if replicas > 1.0 { part.min(1.0) } else { 1.0 };
            active.share.here.set(if replicas > 1.0 { (part * AMPLE).min(1.0) } else { 1.0 });
            active.share.have_own_here(part * own_part, now);
            all += claim.part(level);
            here += claim.part(level) * part;
        }
        self.claims = claims;
        let busy = if all > 0.0 { here / all } else { 1.0 / replicas };
        // What nobody asks for is for whoever is asked next: half of it for each alike, half where most is asked.
        let all = all.min(capacity);
        self.usable = all * busy + (capacity - all) * (0.5 / replicas + 0.5 * busy);
    }
}

/// How much more, or less, than the capacity is to be given out so that what may pass at once comes to half of its bound: how the
/// figures of demand, which are never quite right, are made up for.
fn balance(fair: &Fair, now: Nanos) -> f64 {
    let (rate, price) = (fair.rate.get(), fair.capacity_price());
    let there = fair.capacity.tokens(price, now) as f64 - f64::from(fair.waiting.load(Relaxed));
    let half = rate / fair.rules.capacity() * fair.rules.at_once() / 2.0;
    if rate > 0.0 { (1.0 + (there - half) / (rate * BALANCE).max(SLOWEST)).clamp(0.5, 1.5) } else { 1.0 }
}
