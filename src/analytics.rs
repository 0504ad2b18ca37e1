//! ENGINE: what is counted of the records of the audit trail. A batch of records is folded into increments, which the store writes in the
//! transaction that stores the batch: what is counted is what the trail holds, each record once, whichever process wrote it down and however
//! that one ended. Nothing of it happens while somebody waits for an answer.

mod activity;
mod behaviour;
mod fold;
pub mod kpis;
mod names;
pub mod outlook;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use uuid::Uuid;

use self::activity::{Activities, Done};
use self::behaviour::{Behaviour, Moves, Pattern};
use self::fold::Fold;
use self::names::Names;
use crate::audit::{Brief, Counting};
use crate::store::rollups::Increments;
use crate::telemetry::Metrics;

pub use self::fold::is_operation;
pub use self::names::MOST_NAMES;

/// What is counted besides calls and authentications.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Switches {
    /// Sessions, logins and what accounts do.
    pub users: bool,
    /// Patterns of use.
    pub behaviour: bool,
}

/// See the module.
pub struct Analytics {
    switches: Switches,
    instance: Uuid,
    metrics: Arc<Metrics>,
    state: Mutex<State>,
    /// Operations of this process that are in the trail.
    own: AtomicU64,
}

/// What is known from one batch to the next.
#[derive(Default)]
struct State {
    behaviour: Behaviour,
    names: Names,
    /// What follows from the last batch as soon as it is stored.
    unsettled: Unsettled,
}

#[derive(Default)]
struct Unsettled {
    moves: Moves,
    activities: Done,
    patterns: Vec<(Arc<str>, Pattern)>,
    records: u64,
    own: u64,
}

impl Analytics {
    /// That of the process `instance`; it counts into `metrics` too.
    pub fn new(switches: Switches, instance: Uuid, metrics: Arc<Metrics>) -> Self {
        Self { switches, instance, metrics, state: Mutex::default(), own: AtomicU64::new(0) }
    }

    /// How many operations that this process answered are in the trail.
    pub fn own(&self) -> u64 {
        self.own.load(Ordering::Relaxed)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What a batch adds. A batch that was folded before and not [settled](Self::settle) is forgotten: it was not stored, and comes again.
    pub fn fold<'a>(&self, records: impl IntoIterator<Item = impl Into<Brief<'a>>>) -> Increments<'a> {
        let mut state = self.state();
        let State { behaviour, names, .. } = &mut *state;
        let mut fold = Fold::new(self.switches, behaviour, names);
        let (mut unsettled, mut activities) = (Unsettled::default(), Activities::default());
        for record in records {
            let record: Brief<'a> = record.into();
            unsettled.records += 1;
            if record.instance == self.instance && stands_for_operations(&record) {
                unsettled.own += record.count;
            }
            activities.count(&record);
            let pattern = fold.take(&record);
            unsettled.patterns.extend(record.tenant.zip(pattern).map(|(tenant, pattern)| (Arc::from(tenant), pattern)));
        }
        let (increments, moves) = fold.finish();
        state.unsettled = Unsettled { moves, activities: activities.done(), ..unsettled };
        increments
    }

    /// The batch that was folded last is stored.
    pub fn settle(&self) {
        let mut state = self.state();
        let Unsettled { moves, activities, patterns, records, own } = std::mem::take(&mut state.unsettled);
        state.behaviour.settle(moves);
        let shed = state.names.take_shed();
        drop(state);
        self.own.fetch_add(own, Ordering::Relaxed);
        for (tenant, pattern) in patterns {
            self.metrics.behavior_patterns.on([&tenant, pattern.label()], crate::telemetry::Counter::inc);
        }
        activities.show(&self.metrics);
        self.metrics.analytics_records.on([], |counter| counter.add(records));
        self.metrics.analytics_names_shed.on([], |counter| counter.add(shed));
    }
}

impl Counting for Analytics {
    fn fold<'a>(&self, records: &[Brief<'a>]) -> Increments<'a> {
        Self::fold(self, records.iter().copied())
    }

    fn settle(&self) {
        Self::settle(self);
    }
}

/// Whether a record is of an operation that was answered, or of many that have none of their own.
fn stands_for_operations(record: &Brief<'_>) -> bool {
    is_operation(*record) || record.action == "auth.failure"
}

#[cfg(test)]
mod tests;
