//! Notes of sign-ins on their way to the database. Who takes part in a sign-in leaves them here and goes on; a moment later they
//! are written, in one transaction all that came meanwhile. There is room for so many: one that finds none is dropped, counted
//! and now and then spoken of. Who reads traces has them written first, and so misses nothing of this process.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::Notify;
use uuid::Uuid;

use super::Change;
use crate::store::Store;
use crate::store::traces::TraceRow;
use crate::telemetry::{Counter, Metrics};

/// How long notes gather before they are written.
const GATHER: Duration = Duration::from_millis(100);
/// Most notes that wait; some 700 bytes each, and as many again while they are written.
pub(super) const MOST: usize = 4_096;
/// How often it is said that some are lost.
const SAY_AGAIN: Duration = Duration::from_mins(1);

/// See the module.
#[derive(Debug)]
pub(in crate::grants) struct Unwritten {
    came: Mutex<Came>,
    /// What is being written. Who gives up on it leaves it to the next.
    going: tokio::sync::Mutex<Batch>,
    some: Notify,
    full: Arc<Counter>,
    failed: Arc<Counter>,
}

#[derive(Debug, Default)]
struct Came {
    notes: Batch,
    count: usize,
    said: Option<Instant>,
}

type Batch = BTreeMap<Uuid, Notes>;

/// What is to be written of one trace.
#[derive(Debug, Default)]
struct Notes {
    begun: Option<TraceRow>,
    changes: Vec<Change>,
}

impl Unwritten {
    /// Empty; what is lost is counted in `metrics`.
    pub(in crate::grants) fn new(metrics: &Metrics) -> Self {
        Self {
            came: Mutex::default(),
            going: tokio::sync::Mutex::default(),
            some: Notify::new(),
            full: metrics.sign_in_notes_dropped.with(["full"]),
            failed: metrics.sign_in_notes_dropped.with(["database"]),
        }
    }

    /// Takes a note of the trace of that id, which may begin with it; says whether there was room.
    pub(super) fn put(&self, id: Uuid, begun: Option<TraceRow>, change: Change) -> bool {
        let mut came = self.came();
        if came.count >= MOST {
            self.full.inc();
            if came.said.is_none_or(|said| said.elapsed() >= SAY_AGAIN) {
                came.said = Some(Instant::now());
                tracing::warn!("sign-ins are noted faster than the database takes them: some steps are missing");
            }
            return false;
        }
        came.count += 1;
        let notes = came.notes.entry(id).or_default();
        notes.begun = begun.or(notes.begun.take());
        notes.changes.push(change);
        self.some.notify_one();
        true
    }

    /// Waits until there are some, and until others have had time to join them.
    pub(super) async fn gather(&self) {
        self.some.notified().await;
        tokio::time::sleep(GATHER).await;
    }

    /// Writes what came before this was called. What the database does not take is lost.
    pub(super) async fn write(&self, store: &Store) {
        let mut going = self.going.lock().await;
        // What somebody gave up on may have been written all the same: to write it again changes nothing.
        self.write_out(store, &mut going).await;
        {
            let mut came = self.came();
            (*going, came.count) = (std::mem::take(&mut came.notes), 0);
        }
        self.write_out(store, &mut going).await;
    }

    async fn write_out(&self, store: &Store, going: &mut Batch) {
        if going.is_empty() {
            return;
        }
        let begun = |(_, notes): (&Uuid, &Notes)| {
            let mut row = notes.begun.clone()?;
            Change::make(&notes.changes, &mut row);
            Some(row)
        };
        let new: Vec<_> = going.iter().filter_map(begun).collect();
        let changed: Vec<_> = going.iter().filter(|(_, notes)| notes.begun.is_none()).map(|(id, _)| *id).collect();
        let change = |row: &mut TraceRow| {
            if let Some(notes) = going.get(&row.id) {
                Change::make(&notes.changes, row);
            }
        };
        if let Err(error) = store.write_traces(&new, &changed, change).await {
            let lost: usize = going.values().map(|notes| notes.changes.len()).sum();
            self.failed.add(lost as u64);
            tracing::warn!(%error, lost, "steps of sign-ins could not be noted");
        }
        going.clear();
    }

    fn came(&self) -> MutexGuard<'_, Came> {
        self.came.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
