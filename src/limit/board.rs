//! How replicas share one capacity: each writes on a board what is asked of it and how much of the capacity it could use, and reads what
//! the others wrote. All find the parts by the same rule from the same figures, so nobody has to hand them out; only the capacity itself
//! is leased by the board, so that all leases together are never more than it.
//!
//! One exchange for a replica every [`PERIOD`], whatever the number of requests and tenants.

use std::collections::HashMap;

use super::bucket::{Nanos, SECOND};

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
    /// The same over a longer time: by it the tenant's part is split among replicas.
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
}

/// What it reads.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Reply {
    /// What the others wrote.
    pub others: Vec<(u128, Vec<Asked>)>,
    /// Requests a second that it may let through.
    pub lease: f64,
}

/// A board in the memory of this process: that of simulations and tests, which the one in Redis is compared with.
#[derive(Debug)]
pub struct Board {
    capacity: f64,
    reports: HashMap<u128, (Nanos, Report)>,
}

impl Board {
    /// An empty one, for so many requests a second.
    pub fn new(capacity: f64) -> Self {
        Self { capacity, reports: HashMap::new() }
    }

    /// One replica writes and reads.
    pub fn exchange(&mut self, mut report: Report, now: Nanos) -> Reply {
        self.reports.retain(|_, (until, _)| *until > now);
        let others = || self.reports.iter().filter(|(replica, _)| **replica != report.replica);
        let leased: f64 = others().map(|(_, (_, other))| other.rate).sum();
        let lease = report.rate.min(self.capacity - leased).max(0.0);
        let reply =
            Reply { others: others().map(|(replica, (_, other))| (*replica, other.asked.clone())).collect(), lease };
        report.rate = lease;
        self.reports.insert(report.replica, (now + LEASE, report));
        reply
    }
}
