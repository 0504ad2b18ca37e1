//! How replicas share one capacity: each writes on a board what is asked of it and how much of the capacity it could use, and reads what
//! the others wrote. All find the parts by the same rule from the same figures, so nobody has to hand them out; only the capacity itself
//! is leased by the board, so that all leases together are never more than it.
//!
//! The buckets of users, servers and tools are kept there as well: a replica says how many tokens it let go of which, and reads how much
//! is left of all that all of them did.
//!
//! One exchange for a replica every [`PERIOD`], whatever the number of requests and tenants.

pub mod redis;
mod wire;

use std::collections::{BTreeMap, HashMap};

use super::bucket::{Nanos, Price, SECOND};
use super::buckets::BucketKey;

/// How often a replica comes to the board.
pub const PERIOD: Nanos = SECOND / 10;
/// How long what it wrote and what it was leased holds.
pub const LEASE: Nanos = SECOND;

/// A tenant, in as few bytes as tell it from all others.
pub type Key = u64;

/// What one tenant asks for at one replica.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Asked {
    /// Whose.
    pub tenant: Key,
    /// Requests a second, lately.
    pub rate: f32,
    /// The same over a longer time: by the sum of these the tenant's part is split anew when a replica goes.
    pub long: f32,
    /// Asked for and let through since the replica began; they begin again at 0 when they are full.
    pub wanted: u32,
    /// See `wanted`.
    pub given: u32,
}

/// What a replica writes.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Report {
    /// Which replica.
    pub replica: u128,
    /// What is asked of it.
    pub asked: Vec<Asked>,
    /// Requests a second of the capacity that it could use.
    pub rate: f64,
    /// Tokens that it let go since it came last; more than [`MOST_TAKEN`] are for the next time.
    pub taken: Vec<Taken>,
    /// Whether it found the capacity used up in this second.
    pub exhausted: bool,
    /// What else all add up, counted since the replica began.
    pub counts: Vec<u64>,
}

/// Most buckets that one report speaks of.
pub const MOST_TAKEN: usize = 1000;

/// Tokens taken of one bucket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Taken {
    /// Which.
    pub bucket: BucketKey,
    /// How many; below 0 when more were given back.
    pub count: i32,
    /// At which price.
    pub price: Price,
}

/// What another replica wrote.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Other {
    /// Which replica.
    pub replica: u128,
    /// See [`Report`].
    pub asked: Vec<Asked>,
    /// See [`Report`].
    pub exhausted: bool,
    /// See [`Report`].
    pub counts: Vec<u64>,
}

/// What it reads.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Reply {
    /// What the others wrote.
    pub others: Vec<Other>,
    /// Requests a second that it may let through.
    pub lease: f64,
    /// For each bucket of the report up to when it is spent, in nanoseconds from the moment of the exchange; most are below 0.
    pub spent: Vec<i64>,
}

/// A board in the memory of this process: that of simulations and tests, which the one in Redis is compared with.
#[derive(Debug)]
pub struct Board {
    capacity: f64,
    /// In one order always: sums of rates differ by it in the last digit.
    reports: BTreeMap<u128, (Nanos, Report)>,
    buckets: HashMap<BucketKey, Nanos>,
}

impl Board {
    /// An empty one, for so many requests a second.
    pub fn new(capacity: f64) -> Self {
        Self { capacity, reports: BTreeMap::new(), buckets: HashMap::new() }
    }

    /// One replica writes and reads.
    pub fn exchange(&mut self, mut report: Report, now: Nanos) -> Reply {
        self.reports.retain(|_, (until, _)| *until > now);
        let others = || self.reports.iter().filter(|(replica, _)| **replica != report.replica);
        let leased: f64 = others().map(|(_, (_, other))| other.rate).sum();
        let lease = report.rate.min(self.capacity - leased).max(0.0);
        let read = |(replica, (_, other)): (&u128, &(Nanos, Report))| Other {
            replica: *replica,
            asked: other.asked.clone(),
            exhausted: other.exhausted,
            counts: other.counts.clone(),
        };
        let others = others().map(read).collect();
        let spent = report.taken.iter().map(|taken| self.take(taken, now)).collect();
        report.rate = lease;
        self.reports.insert(report.replica, (now + LEASE, report));
        Reply { others, lease, spent }
    }

    fn take(&mut self, taken: &Taken, now: Nanos) -> i64 {
        let Taken { bucket, count, price } = *taken;
        let (saved, signed) = (price.saved.max(price.token), |time: Nanos| i64::try_from(time).unwrap_or(i64::MAX));
        let spent = self.buckets.get(&bucket).copied().unwrap_or_default().max(now.saturating_sub(saved));
        let more = i64::from(count).saturating_mul(signed(price.token));
        // Who could take too much, because several replicas did not know of each other yet, owes it; but no more than a bucket.
        let spent = spent.saturating_add_signed(more).clamp(now.saturating_sub(saved), now + saved);
        self.buckets.insert(bucket, spent);
        signed(spent) - signed(now)
    }
}
