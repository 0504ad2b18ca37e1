//! The trail of this process: takes what happened, on the thread where it did, and appends its record to the journal.

use std::borrow::Cow;
use std::cell::RefCell;
use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use uuid::Uuid;

use super::flood::{Flood, Refused};
use super::folder::Folder;
use super::journal::Journal;
use super::{Record, Surface, encode, frame};
use crate::clock;
use crate::config::{Audit, Durability, WhenFull};
use crate::fault::Whose;
use crate::store::micros;
use crate::telemetry::{Event, Metrics, Operation, Outcome, Sink};

/// Longest that a request waits for room in the journal.
const PATIENCE: Duration = Duration::from_secs(10);

/// How old the last record in the database may be while others wait, before that is told of.
const LATE: Duration = Duration::from_mins(1);

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
    flood: Flood,
    /// When the database last had everything.
    complete: Mutex<Instant>,
    /// Lost records that were counted.
    lost: AtomicU64,
}

/// What there is once the process may write.
pub(super) struct Open {
    pub(super) journal: Arc<Journal>,
    pub(super) folder: Folder,
}

impl Trail {
    /// Of the process of this name. Nothing is recorded before it is opened.
    pub fn new(instance: Uuid, settings: Audit) -> Self {
        Self(Arc::new(Inner {
            instance,
            settings,
            open: OnceLock::new(),
            flood: Flood::new(Instant::now()),
            complete: Mutex::new(Instant::now()),
            lost: AtomicU64::new(0),
        }))
    }

    /// Begins the journal, in a folder of its own below `base`.
    pub fn open(&self, base: &Path) -> io::Result<()> {
        let folder = Folder::make(base, self.0.instance)?;
        let Audit { durability, journal_max_bytes, .. } = self.0.settings;
        let journal = Journal::open(folder.path.clone(), durability, journal_max_bytes as u64)?;
        _ = self.0.open.set(Open { journal, folder });
        Ok(())
    }

    /// Whether records outlive a power cut.
    pub(super) fn is_durable(&self) -> bool {
        self.0.settings.durability == Durability::Disk
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

    /// The database has everything.
    pub(super) fn is_complete(&self) {
        *self.0.complete.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
    }

    /// Counts how it stands; whether records go where they should, without delay.
    pub fn look(&self, metrics: &Metrics) -> bool {
        let Some(journal) = self.journal() else { return true };
        let number = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
        metrics.audit_journal_bytes.with([]).set(number(journal.backlog()));
        let complete = *self.0.complete.lock().unwrap_or_else(PoisonError::into_inner);
        // It is looked for what waits every second.
        metrics.audit_lag.with([]).set(number(complete.elapsed().as_secs().saturating_sub(1)));
        let lost = journal.lost();
        let more = lost - self.0.lost.swap(lost, Relaxed);
        metrics.audit_records.on(["lost"], |all| all.add(more));
        journal.is_well() && complete.elapsed() < LATE
    }

    /// Records how many were refused that have no record of their own: those of a minute, or at the end all.
    pub(super) fn tell_of_flood(&self, end: bool) {
        for (Refused { action, reason }, count) in self.0.flood.take(Instant::now(), end) {
            let detail = "refusals without a record of their own: there were too many";
            let (reason, detail) = (Some(reason), Some(detail.into()));
            let name = (!action.is_empty()).then(|| action.into());
            self.append_event(Event { name, reason, detail, count, ..Event::new("auth.failure", false) });
        }
    }
}

/// Appends what `encode` writes.
fn append(journal: &Journal, encode: impl FnOnce(&mut Vec<u8>)) {
    // A thread that ends has no buffer any more, and its record is kept all the same.
    let mut buffer = BUFFER.try_with(RefCell::take).unwrap_or_default();
    frame::begin(&mut buffer);
    encode(&mut buffer);
    frame::end(&mut buffer);
    journal.append(&buffer);
    // One long text is no reason to keep much for each thread.
    if buffer.capacity() <= LARGE {
        _ = BUFFER.try_with(|kept| kept.replace(buffer));
    }
}

/// As much of a text as a record holds.
fn shortened(text: Arc<str>) -> Arc<str> {
    match encode::bounded(&text) {
        whole if whole.len() == text.len() => text,
        part => part.into(),
    }
}

/// Why a caller got nothing, if that was for what it sent.
fn refusal(outcome: Outcome) -> Option<&'static str> {
    match outcome {
        Outcome::Denied(reason) | Outcome::Error { whose: Whose::Client, kind: reason } => Some(reason),
        Outcome::RateLimited => Some("rate_limited"),
        Outcome::Success | Outcome::ToolError | Outcome::Error { .. } => None,
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
        if operation.who.is_none()
            && let Some(reason) = refusal(operation.outcome)
            && !self.0.flood.admits(Refused::of("", reason.into()), Instant::now())
        {
            return;
        }
        let at = micros(clock::now() - operation.started.elapsed());
        append(journal, |out| encode::operation(operation, new_id(at), at, self.0.instance, out));
    }

    fn event(&self, event: Event) {
        let refused = !event.good && event.action.starts_with("auth.") && event.user.is_none();
        let reason = || event.reason.clone().unwrap_or_default();
        if !refused || self.0.flood.admits(Refused::of(event.action, reason()), Instant::now()) {
            self.append_event(event);
        }
    }
}

impl Trail {
    fn append_event(&self, event: Event) {
        let Some(journal) = self.journal() else { return };
        let record = self.record(event);
        append(journal, |out| _ = serde_json::to_writer(out, &record));
    }

    pub(super) fn record(&self, event: Event) -> Record {
        let at = micros(clock::now());
        Record {
            id: new_id(at),
            at,
            instance: self.0.instance,
            surface: if event.commanded { Surface::Cli } else { Surface::Background },
            action: Cow::Borrowed(event.action),
            endpoint: None,
            chain: None,
            tenant: event.tenant,
            user: event.user,
            username: event.username,
            issuer: None,
            subject: None,
            role: None,
            session_type: event.session_type,
            credential: event.credential,
            client: event.client.map(shortened),
            session: event.session.map(|session| Cow::Owned(session.to_string())),
            address: event.address,
            server: event.server,
            replica: None,
            attempts: None,
            name: event.name.map(shortened),
            arguments_digest: None,
            arguments: None,
            outcome: Cow::Borrowed(match (event.good, event.action.starts_with("auth.")) {
                (true, _) => "success",
                (false, true) => "denied",
                (false, false) => "error",
            }),
            reason: event.reason,
            whose: None,
            rule: None,
            detail: event.detail,
            request_bytes: 0,
            response_bytes: event.response_bytes,
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
