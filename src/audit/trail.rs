//! The trail of this process: takes what happened, on the thread where it did, and appends its record to the journal.

use std::borrow::Cow;
use std::cell::RefCell;
use std::io;
use std::path::Path;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use uuid::Uuid;

use super::folder::Folder;
use super::journal::Journal;
use super::{Record, Surface, encode, frame};
use crate::clock;
use crate::config::{Audit, WhenFull};
use crate::store::micros;
use crate::telemetry::{Event, Operation, Sink};

/// Longest that a request waits for room in the journal.
const PATIENCE: Duration = Duration::from_secs(10);

/// Longest buffer that a thread keeps.
const LARGE: usize = 16 << 10;

thread_local!(static BUFFER: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) });

/// See the module. Cheap to clone; clones are one.
#[derive(Clone)]
pub struct Trail(Arc<Inner>);

struct Inner {
    instance: Uuid,
    settings: Audit,
    open: OnceLock<Open>,
}

/// What there is once the process may write.
pub(super) struct Open {
    pub(super) journal: Arc<Journal>,
    pub(super) folder: Folder,
}

impl Trail {
    /// Of the process of this name. Nothing is recorded before it is opened.
    pub fn new(instance: Uuid, settings: Audit) -> Self {
        Self(Arc::new(Inner { instance, settings, open: OnceLock::new() }))
    }

    /// Begins the journal, in a folder of its own below `base`.
    pub fn open(&self, base: &Path) -> io::Result<()> {
        let folder = Folder::make(base, self.0.instance)?;
        let Audit { durability, journal_max_bytes, .. } = self.0.settings;
        let journal = Journal::open(folder.path.clone(), durability, journal_max_bytes as u64)?;
        _ = self.0.open.set(Open { journal, folder });
        Ok(())
    }

    pub(super) fn opened(&self) -> Option<&Open> {
        self.0.open.get()
    }

    /// The journal, once there is one.
    pub fn journal(&self) -> Option<&Arc<Journal>> {
        self.0.open.get().map(|open| &open.journal)
    }

    /// Whether what is begun now can be recorded, which is so but for a full or broken disk, or a database that was long away.
    pub fn has_room(&self) -> bool {
        self.journal().is_none_or(|journal| journal.has_room())
    }

    /// The same for who may wait for it, as the settings say.
    pub async fn comes_to_have_room(&self) -> bool {
        let Some(journal) = self.journal() else { return true };
        match self.0.settings.when_full {
            WhenFull::Refuse => journal.has_room(),
            WhenFull::Slow => journal.wait_for_room(PATIENCE).await,
        }
    }

    fn append(&self, journal: &Journal, encode: impl FnOnce(&mut Vec<u8>)) {
        _ = BUFFER.try_with(|buffer| {
            let mut buffer = buffer.borrow_mut();
            frame::begin(&mut buffer);
            encode(&mut buffer);
            frame::end(&mut buffer);
            journal.append(&buffer);
            // One long text is no reason to keep much for each thread.
            if buffer.capacity() > LARGE {
                buffer.shrink_to(LARGE);
            }
        });
    }
}

/// A new id that sorts by this time, microseconds since 1970.
fn new_id(at: i64) -> Uuid {
    // Not `now_v7`: it asks the kernel for random bytes under a lock that all threads share.
    uuid::Builder::from_unix_timestamp_millis(u64::try_from(at / 1_000).unwrap_or_default(), &rand::random())
        .into_uuid()
}

impl Sink for Trail {
    fn operation(&self, operation: &Operation) {
        let Some(journal) = self.journal() else { return };
        let at = micros(clock::now() - operation.started.elapsed());
        self.append(journal, |out| encode::operation(operation, new_id(at), at, self.0.instance, out));
    }

    fn event(&self, event: Event) {
        let Some(journal) = self.journal() else { return };
        let record = self.record(event);
        self.append(journal, |out| _ = serde_json::to_writer(out, &record));
    }
}

impl Trail {
    fn record(&self, event: Event) -> Record {
        let at = micros(clock::now());
        Record {
            id: new_id(at),
            at,
            instance: self.0.instance,
            surface: Surface::Background,
            action: Cow::Borrowed(event.action),
            endpoint: None,
            tenant: event.tenant,
            user: event.user,
            username: event.username,
            issuer: None,
            subject: None,
            role: None,
            session_type: event.session_type,
            credential: event.credential,
            client: event.client,
            session: None,
            address: event.address,
            server: None,
            replica: None,
            attempts: None,
            name: event.name,
            arguments_digest: None,
            outcome: Cow::Borrowed(if event.good { "success" } else { "denied" }),
            reason: event.reason,
            whose: None,
            rule: None,
            detail: event.detail,
            request_bytes: 0,
            response_bytes: 0,
            total_us: encode::micros(event.lasted),
            upstream_us: 0,
            request_id: event.request_id.map(|id| Cow::Owned(id.as_str().to_owned())),
            trace_id: None,
            client_version: None,
            upstream_version: None,
            count: event.count,
        }
    }
}
