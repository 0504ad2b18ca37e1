//! How the parts of the process are, said by the parts themselves. Reading it asks nobody and waits for nobody: a probe
//! must not hang on what it is to judge.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use serde::Serialize;

/// How one part is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// Works.
    Ok,
    /// Works in part.
    Degraded,
    /// Does not work.
    Failing,
}

impl Status {
    fn of(number: u8) -> Self {
        match number {
            0 => Self::Ok,
            1 => Self::Degraded,
            _ => Self::Failing,
        }
    }
}

/// Whether the gateway can work without a part.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Weight {
    /// It cannot: the part's status is the gateway's.
    Vital,
    /// It can: at worst the gateway is degraded.
    Partial,
}

struct Entry {
    weight: Weight,
    status: Arc<AtomicU8>,
}

/// All parts and how they are. Cheap to clone.
#[derive(Clone, Default)]
pub struct Health(Arc<RwLock<BTreeMap<&'static str, Entry>>>);

/// Where one part says how it is. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Part(Arc<AtomicU8>);

impl Part {
    /// Says so.
    pub fn set(&self, status: Status) {
        self.0.store(status as u8, Ordering::Relaxed);
    }
}

impl Health {
    /// The part called `name`, `ok` when it is new.
    pub fn part(&self, name: &'static str, weight: Weight) -> Part {
        let mut parts = self.0.write().unwrap_or_else(PoisonError::into_inner);
        let entry = parts.entry(name).or_insert_with(|| Entry { weight, status: Arc::default() });
        Part(Arc::clone(&entry.status))
    }

    /// The whole, and each part.
    pub fn look(&self) -> (Status, BTreeMap<&'static str, Status>) {
        let parts = self.0.read().unwrap_or_else(PoisonError::into_inner);
        let mut whole = Status::Ok;
        let mut each = BTreeMap::new();
        for (name, entry) in parts.iter() {
            let status = Status::of(entry.status.load(Ordering::Relaxed));
            each.insert(*name, status);
            whole = whole.max(if entry.weight == Weight::Vital { status } else { status.min(Status::Degraded) });
        }
        (whole, each)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_vital_part_takes_the_whole_down() {
        let health = Health::default();
        let database = health.part("database", Weight::Vital);
        let upstreams = health.part("upstreams", Weight::Partial);
        assert_eq!(health.look().0, Status::Ok);
        upstreams.set(Status::Failing);
        assert_eq!(health.look().0, Status::Degraded);
        assert_eq!(health.look().1["upstreams"], Status::Failing);
        database.set(Status::Failing);
        assert_eq!(health.look().0, Status::Failing);
        health.part("database", Weight::Vital).set(Status::Ok);
        assert_eq!(health.look().1["database"], Status::Ok);
    }
}
