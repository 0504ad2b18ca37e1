//! What this process tells the other replicas and hears of them. With thousands of tenants on many replicas that is a long list ten
//! times a second; each replica names its tenants in much the same order every time, so hardly any is looked up.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use ahash::AHashMap;

use super::{Others, Pace, QUIET};
use crate::limit::board::{Asked, Key, Reply, Report};
use crate::limit::bucket::Nanos;
use crate::limit::fair::{Fair, locked};
use crate::limit::share::Share;

/// What was heard of the other replicas.
#[derive(Debug, Default)]
pub(super) struct Heard {
    replicas: AHashMap<u128, Replica>,
    sums: Vec<Sum>,
    places: AHashMap<Key, usize>,
}

/// What one of them had counted when it was last heard.
#[derive(Debug, Default)]
struct Replica {
    tenants: Vec<Counted>,
    places: AHashMap<Key, usize>,
}

#[derive(Debug)]
struct Counted {
    key: Key,
    sum: usize,
    wanted: u32,
    given: u32,
}

/// What all of them say of one tenant.
#[derive(Debug, Default)]
struct Sum {
    key: Key,
    named: bool,
    rate: f64,
    long: f64,
    wanted: u64,
    given: u64,
}

/// By how much a counter has grown, which begins again at 0 when it is full. One that is far behind is another one: nothing is known of it.
fn grown(before: &mut u32, now: u32) -> u64 {
    let more = now.wrapping_sub(std::mem::replace(before, now));
    if more < u32::MAX / 2 { more.into() } else { 0 }
}

impl Heard {
    fn take_in(&mut self, reply: &Reply) {
        let before = self.replicas.len();
        self.replicas.retain(|replica, _| reply.others.iter().any(|other| other.replica == *replica));
        if self.replicas.is_empty() && before > 0 {
            // With nobody to compare them with, names are only in the way.
            *self = Self::default();
        }
        for other in &reply.others {
            let first = !self.replicas.contains_key(&other.replica);
            let replica = self.replicas.entry(other.replica).or_default();
            let mut next = 0;
            for asked in &other.asked {
                let place = match replica.tenants.get(next) {
                    Some(tenant) if tenant.key == asked.tenant => next,
                    _ => *replica.places.entry(asked.tenant).or_insert_with(|| {
                        let sum = *self.places.entry(asked.tenant).or_insert_with(|| {
                            self.sums.push(Sum { key: asked.tenant, ..Sum::default() });
                            self.sums.len() - 1
                        });
                        // What a replica counted before it was first heard is not of now.
                        let (wanted, given) = if first { (asked.wanted, asked.given) } else { (0, 0) };
                        replica.tenants.push(Counted { key: asked.tenant, sum, wanted, given });
                        replica.tenants.len() - 1
                    }),
                };
                next = place + 1;
                let tenant = &mut replica.tenants[place];
                let sum = &mut self.sums[tenant.sum];
                sum.named = true;
                sum.rate += f64::from(asked.rate);
                sum.long += f64::from(asked.long);
                sum.wanted += grown(&mut tenant.wanted, asked.wanted);
                sum.given += grown(&mut tenant.given, asked.given);
            }
        }
    }
}

impl Pace {
    /// What this process writes on the board.
    pub(in crate::limit) fn report(&self, fair: &Fair, replica: u128, now: Nanos) -> Report {
        let asked = self.active.iter().filter(|active| now < active.last + QUIET).map(|active| Asked {
            tenant: active.share.key,
            rate: active.rate as f32,
            long: active.long as f32,
            wanted: active.share.wanted.load(Relaxed) as u32,
            given: active.share.given.load(Relaxed) as u32,
        });
        let exhausted = fair.exhausted.load(Relaxed);
        Report { replica, asked: asked.collect(), rate: self.usable, exhausted, ..Report::default() }
    }

    /// Takes in what the others wrote.
    pub(in crate::limit) fn hear(&mut self, fair: &Fair, reply: &Reply, known: impl Fn(Key) -> Option<Arc<Share>>) {
        self.forget_abroad();
        self.others = Others::Heard;
        self.replicas = u32::try_from(reply.others.len()).unwrap_or(u32::MAX - 1) + 1;
        self.heard.take_in(reply);
        for sum in self.heard.sums.iter_mut().filter(|sum| sum.named) {
            let sum = std::mem::replace(sum, Sum { key: sum.key, ..Sum::default() });
            let Some(share) = known(sum.key) else { continue };
            share.abroad_wanted.fetch_add(sum.wanted, Relaxed);
            share.abroad_given.fetch_add(sum.given, Relaxed);
            share.abroad.set(sum.rate);
            share.abroad_long.set(sum.long);
            if !share.listed.swap(true, Relaxed) {
                locked(&fair.arrived).push(share.clone());
            }
            self.abroad.push(share);
        }
    }

    /// Goes on without the others; returns of how many replicas this is one.
    pub(in crate::limit) fn part(&mut self) -> u32 {
        self.forget_abroad();
        self.others = Others::Away;
        self.replicas = self.replicas.max(1);
        self.replicas
    }

    fn forget_abroad(&mut self) {
        for share in self.abroad.drain(..) {
            share.abroad.set(0.0);
            share.abroad_long.set(0.0);
        }
    }
}
