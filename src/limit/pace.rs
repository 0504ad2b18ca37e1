//! Finds out, ten times a second, what the parts of the tenants are: how much each asks for, who asks for anything, where the water
//! stands. Once a second it compares what was given with what would have been exact.

#![expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    reason = "rates are estimates, and counters on the board begin again at 0 when they are full"
)]

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use super::board::{Asked, Key, Reply, Report};
use super::bucket::{Nanos, SECOND};
use super::exact::{self, Wish};
use super::fair::{Fair, locked};
use super::figures::{Moments, Ring, Sums, Window};
use super::share::Share;
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
const BALANCE: f64 = 1.0;

/// One tenant that asks for something.
#[derive(Debug)]
struct Active {
    share: Arc<Share>,
    wanted: u64,
    /// Requests a second, lately.
    rate: f64,
    /// The same, over a longer time.
    long: f64,
    last: Nanos,
    /// Both counters at the last whole second.
    second: (u64, u64),
    saved: f64,
    /// What it is owed of its share; below 0, what it had too much.
    owed: f64,
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
    /// What each of the others had counted when it was last heard.
    heard: HashMap<u128, HashMap<Key, (u32, u32)>>,
    /// Whose demand elsewhere is known.
    abroad: Vec<Arc<Share>>,
    /// Requests a second that this process could use.
    usable: f64,
    active: Vec<Active>,
    at: Nanos,
    second: u64,
    reserve: f64,
    refused: u64,
    pub(super) moments: Ring<Moments>,
}

impl Pace {
    /// Finds the parts anew if that is due.
    pub(super) fn tick(&mut self, fair: &Fair, now: Nanos) {
        if now < fair.due.load(Relaxed) {
            return;
        }
        fair.due.store(now + TICK, Relaxed);
        self.listen(fair, now);
        self.find_level(fair, now);
        let second = now / SECOND;
        if second > self.second {
            self.compare(fair, second);
            self.second = second;
        }
        self.active.retain(|active| {
            let stays = now < active.last + QUIET
                || active.share.abroad.get() > 0.0
                || active.share.counted().0 != active.second.0;
            if !stays {
                *locked(&active.share.looked_at) = (active.wanted, active.second);
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
            let (wanted, second) = *locked(&share.looked_at);
            self.active.push(Active {
                share,
                wanted,
                rate: 0.0,
                long: 0.0,
                last: now,
                second,
                saved: f64::MAX,
                owed: 0.0,
            });
        }
        let (fresh, long) = (1.0 - (-passed / MEMORY).exp(), 1.0 - (-passed / LONG_MEMORY).exp());
        for active in &mut self.active {
            let wanted = active.share.wanted.load(Relaxed);
            let asked = wanted - active.wanted;
            if asked > 0 {
                (active.wanted, active.last) = (wanted, now);
            }
            let rate = asked as f64 / passed;
            active.rate += (rate - active.rate) * fresh;
            active.long += (rate - active.long) * long;
        }
    }

    fn find_level(&mut self, fair: &Fair, now: Nanos) {
        let (parts, own_part) = match self.others {
            Others::None | Others::Heard => (1.0, 1.0),
            Others::Away => (f64::from(self.replicas), 1.0 / f64::from(self.replicas)),
        };
        let capacity = fair.rules.capacity() / parts;
        let weights: f64 = self.active.iter().map(|active| active.share.weight()).sum();
        let share = if weights > 0.0 { capacity / weights } else { capacity };
        let claims = self.active.iter().map(|active| {
            let weight = active.share.weight();
            let own = active.share.base_rpm().map_or(f64::INFINITY, |rpm| f64::from(rpm) / 60.0 * own_part);
            Claim { weight, most: active.everywhere().min(own).min(weight * share * active.share.burst()) }
        });
        let level = level(&claims, capacity * balance(fair, now));
        fair.share.set(share);
        fair.level.set(level);
        fair.set_pressed(level.is_finite());

        let (mut all, mut here) = (0.0, 0.0);
        let replicas = if self.others == Others::Heard { f64::from(self.replicas) } else { 1.0 };
        for (active, claim) in self.active.iter().zip(claims) {
            // As if each replica were asked once a second besides, so that one that was not asked yet has something to give.
            let part = (active.long + 1.0) / (active.long + active.share.abroad_long.get() + replicas);
            let part = if replicas > 1.0 { part.min(1.0) } else { 1.0 };
            active.share.here.set(part);
            active.share.own_here.set(part * own_part);
            all += claim.part(level);
            here += claim.part(level) * part;
        }
        // What nobody asks for is for whoever is asked next: half of it for each alike, half where most is asked.
        let spare = (capacity - all).max(0.0);
        let busy = if all > 0.0 { here / all } else { 1.0 / replicas };
        self.usable = here + spare * (0.5 / replicas + 0.5 * busy);
    }

    /// What this process writes on the board.
    pub(super) fn report(&self, replica: u128, now: Nanos) -> Report {
        let asked = self.active.iter().filter(|active| now < active.last + QUIET).map(|active| Asked {
            tenant: active.share.key,
            rate: active.rate as f32,
            long: active.long as f32,
            wanted: active.share.wanted.load(Relaxed) as u32,
            given: active.share.given.load(Relaxed) as u32,
        });
        Report { replica, asked: asked.collect(), rate: self.usable }
    }

    /// Takes in what the others wrote.
    pub(super) fn hear(&mut self, fair: &Fair, reply: &Reply, known: impl Fn(Key) -> Option<Arc<Share>>) {
        for share in self.abroad.drain(..) {
            share.abroad.set(0.0);
            share.abroad_long.set(0.0);
        }
        self.others = Others::Heard;
        self.replicas = u32::try_from(reply.others.len()).unwrap_or(u32::MAX - 1) + 1;
        self.heard.retain(|replica, _| reply.others.iter().any(|(other, _)| other == replica));
        for (replica, asked) in &reply.others {
            let first = !self.heard.contains_key(replica);
            let heard = self.heard.entry(*replica).or_default();
            for asked in asked {
                let Some(share) = known(asked.tenant) else { continue };
                let before = heard.insert(asked.tenant, (asked.wanted, asked.given));
                // What a replica counted before it was first heard is not of now.
                let before = before.unwrap_or(if first { (asked.wanted, asked.given) } else { (0, 0) });
                share.abroad_wanted.fetch_add(asked.wanted.wrapping_sub(before.0).into(), Relaxed);
                share.abroad_given.fetch_add(asked.given.wrapping_sub(before.1).into(), Relaxed);
                if share.abroad.get() == 0.0 {
                    self.abroad.push(share.clone());
                }
                share.abroad.set(share.abroad.get() + f64::from(asked.rate));
                share.abroad_long.set(share.abroad_long.get() + f64::from(asked.long));
                if !share.listed.swap(true, Relaxed) {
                    locked(&fair.arrived).push(share);
                }
            }
        }
    }

    /// Goes on without the others; returns of how many replicas this is one.
    pub(super) fn part(&mut self) -> u32 {
        for share in self.abroad.drain(..) {
            share.abroad.set(0.0);
            share.abroad_long.set(0.0);
        }
        self.others = Others::Away;
        self.replicas = self.replicas.max(1);
        self.replicas
    }

    /// Compares the second that is over with what would have been exact.
    fn compare(&mut self, fair: &Fair, second: u64) {
        let (capacity, credit) = (fair.rules.capacity(), fair.rules.window_seconds() as f64 / 100.0);
        let asked: Vec<(u64, u64)> = self
            .active
            .iter_mut()
            .map(|active| {
                let now = active.share.counted();
                let before = std::mem::replace(&mut active.second, now);
                (now.0.saturating_sub(before.0), now.1.saturating_sub(before.1))
            })
            .collect();
        let with_demand = self.active.iter().zip(&asked).filter(|(_, (wanted, _))| *wanted > 0);
        let weights: f64 = with_demand.map(|(active, _)| active.share.weight()).sum();
        let share = if weights > 0.0 { capacity / weights } else { capacity };
        let mut wishes: Vec<Wish> = self
            .active
            .iter()
            .zip(&asked)
            .map(|(active, (wanted, _))| {
                let (weight, burst) = (active.share.weight(), active.share.burst());
                let own = active.share.base_rpm().map_or(f64::INFINITY, |rpm| f64::from(rpm) / 60.0);
                let part = (weight * share).min(own);
                Wish {
                    weight,
                    demand: *wanted as f64,
                    share: part,
                    most: (weight * share * burst).min(own),
                    saved: active.saved.min(part * credit),
                }
            })
            .collect();
        let whole = capacity + self.reserve;
        let fair_parts = exact::second(&mut wishes, whole, credit);
        self.reserve = (whole - fair_parts.iter().sum::<f64>()).clamp(0.0, fair.rules.at_once());

        let window = fair.rules.window_seconds();
        let at = second.saturating_sub(1);
        let mut starved = false;
        let mut above = 0;
        for ((active, wish), ((wanted, given), exact)) in
            self.active.iter_mut().zip(&wishes).zip(asked.iter().zip(&fair_parts))
        {
            let (had, share) = (*given as f64, wish.share);
            above += u64::from(had > share + active.owed.max(0.0) + 1.0);
            let unmet = wanted > given;
            active.saved = wish.saved;
            active.owed = if unmet { active.owed + share - had } else { 0.0 };
            active.owed = active.owed.clamp(-share * credit - 1.0, share * credit + 2.0);
            starved |= unmet && active.owed > share * credit + 1.0;
            if *wanted > 0 {
                let sums = Sums { wanted: *wanted, given: *given, fair: *exact, share, lent: (had - share).max(0.0) };
                locked(&active.share.window).get_or_insert_with(|| Box::new(Window::new())).add(at, window, sums);
            }
        }
        let refused = fair.refused.load(Relaxed);
        self.moments.add(
            at,
            window,
            Moments {
                violations: if starved { above } else { 0 },
                exhausted: u64::from(fair.exhausted.swap(false, Relaxed)),
                refused: refused - std::mem::replace(&mut self.refused, refused),
            },
        );
    }
}

/// How much more, or less, than the capacity is to be given out so that what may pass at once comes to half of its bound: how the
/// figures of demand, which are never quite right, are made up for.
fn balance(fair: &Fair, now: Nanos) -> f64 {
    let (rate, price) = (fair.rate.get(), fair.capacity_price());
    let there = fair.capacity.tokens(price, now) as f64 - f64::from(fair.waiting.load(Relaxed));
    let half = rate / fair.rules.capacity() * fair.rules.at_once() / 2.0;
    if rate > 0.0 { (1.0 + (there - half) / (rate * BALANCE)).clamp(0.5, 1.5) } else { 1.0 }
}
