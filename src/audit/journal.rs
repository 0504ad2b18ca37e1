//! The journal of this process: files into which each record is appended before its answer goes out, and from which it goes to the
//! database. What is written survives the process; what the disk takes only later, or not at all, is held in memory meanwhile, and
//! answers wait for it. Whether there is room is asked before a request is begun.

use std::collections::VecDeque;
use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, watch};

use super::ticket::Ticket;
use crate::config::Durability;

/// Size at which a file is followed by the next.
const SEGMENT: u64 = 4 << 20;
/// Most bytes of records that are in memory while the disk does not take or keep them: those of requests that were under way.
const MOST_HELD: usize = 32 << 20;
/// Bytes of them from which on nothing more is begun.
const MANY_HELD: usize = MOST_HELD / 2;
/// Pause before the disk is asked again.
const AGAIN: Duration = Duration::from_secs(1);
/// Records that wait for the database at which it is not waited for more of them.
const BATCH: u64 = 4_096;

/// The name of a file of a journal.
pub(super) fn segment_path(folder: &Path, number: u64) -> PathBuf {
    folder.join(format!("{number:012}.log"))
}

/// A place in a journal: everything before it is somewhere else too.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Position {
    /// The file, from 1.
    pub segment: u64,
    /// Bytes of it.
    pub offset: u64,
}

impl Position {
    /// The beginning of a journal.
    pub const BEGIN: Self = Self { segment: 1, offset: 0 };
}

/// Asks the disk to keep a file.
type Sync = fn(&File) -> io::Result<()>;

/// See the module.
pub struct Journal {
    folder: PathBuf,
    durability: Durability,
    most: u64,
    sync: Sync,
    state: Mutex<State>,
    /// Something was written that the disk has not been asked to keep.
    unsynced: Condvar,
    /// Bytes in journals that are in no database yet.
    backlog: AtomicU64,
    /// The disk takes nothing.
    unwritable: AtomicBool,
    /// The disk does not keep what it took.
    unkept: AtomicBool,
    /// Much waits in memory for the disk.
    slow: AtomicBool,
    /// The database does not take what waits for it.
    behind: AtomicBool,
    /// A chain in the database is not what this gateway wrote.
    changed: AtomicBool,
    stopping: AtomicBool,
    /// How many records are kept.
    kept: watch::Sender<u64>,
    /// Told when many records wait for the database.
    many: Notify,
    /// Told when there is room again.
    room: Notify,
}

struct State {
    file: Arc<File>,
    segment: u64,
    length: u64,
    /// Half a frame may stand at the end of the file.
    torn: bool,
    /// The disk did not keep the file: nothing more is written there.
    given_up: bool,
    /// Frames that were written and are not known to be kept, where that is waited for.
    written_only: VecDeque<Box<[u8]>>,
    /// Frames behind them that the disk did not take.
    held: VecDeque<Box<[u8]>>,
    /// Bytes of both.
    memory: usize,
    /// Records that were taken, of those the written, and of those the kept.
    appended: u64,
    written: u64,
    kept: u64,
    /// Records that could neither be written nor held.
    lost: u64,
    /// Nothing is taken any more.
    closed: bool,
    /// Files that the disk is to be asked to keep.
    dirty: Vec<Arc<File>>,
}

impl Journal {
    /// Begins one in `folder`, which is there and this process's own. It may hold `most` bytes that are in no database.
    pub(super) fn open(folder: PathBuf, durability: Durability, most: u64) -> io::Result<Arc<Self>> {
        Self::open_with(folder, durability, most, File::sync_data)
    }

    fn open_with(folder: PathBuf, durability: Durability, most: u64, sync: Sync) -> io::Result<Arc<Self>> {
        let file = Arc::new(new_segment(&folder, 1)?);
        let dirty = vec![Arc::clone(&file), Arc::new(File::open(&folder)?)];
        let state = State {
            file,
            segment: 1,
            length: 0,
            torn: false,
            given_up: false,
            written_only: VecDeque::new(),
            held: VecDeque::new(),
            memory: 0,
            appended: 0,
            written: 0,
            kept: 0,
            lost: 0,
            closed: false,
            dirty,
        };
        let journal = Arc::new(Self {
            folder,
            durability,
            most,
            sync,
            state: Mutex::new(state),
            unsynced: Condvar::new(),
            backlog: AtomicU64::new(0),
            unwritable: AtomicBool::new(false),
            unkept: AtomicBool::new(false),
            slow: AtomicBool::new(false),
            behind: AtomicBool::new(false),
            changed: AtomicBool::new(false),
            stopping: AtomicBool::new(false),
            kept: watch::channel(0).0,
            many: Notify::new(),
            room: Notify::new(),
        });
        if durability == Durability::Disk {
            let syncing = Arc::clone(&journal);
            std::thread::Builder::new().name("audit disk".to_owned()).spawn(move || syncing.keep_syncing())?;
        }
        Ok(journal)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Appends a frame. When this returns it survives the process, or whoever polls this thread's work finds a ticket for it.
    pub(super) fn append(&self, frame: &[u8]) {
        let waits = self.durability == Durability::Disk;
        let mut state = self.lock();
        let fits = !state.closed && state.memory + frame.len() <= MOST_HELD;
        let written = !state.closed && (fits || !waits) && self.write_held(&mut state) && self.write(&mut state, frame);
        let number = if written || fits {
            state.appended += 1;
            // Whoever reads what was written takes this off again.
            self.backlog.fetch_add(frame.len() as u64, Ordering::Relaxed);
            if !written {
                state.held.push_back(frame.into());
            } else if waits {
                state.written_only.push_back(frame.into());
            }
            if waits || !written {
                state.memory += frame.len();
                self.slow.store(state.memory > MANY_HELD, Ordering::Relaxed);
            }
            state.appended
        } else {
            state.lost += 1;
            tracing::error!(
                "{}",
                if state.closed {
                    "a record of the audit trail is lost: it came when the trail had ended"
                } else {
                    "a record of the audit trail is lost: the disk takes none, and memory holds no more"
                }
            );
            // Its answer waits in vain.
            u64::MAX
        };
        let many = state.written.is_multiple_of(BATCH);
        drop(state);
        if many {
            self.many.notify_one();
        }
        if !written || waits {
            self.unsynced.notify_one();
            Ticket { kept: self.kept.subscribe(), number }.leave();
        }
    }

    /// Writes one frame; whether all of it is there.
    fn write(&self, state: &mut State, frame: &[u8]) -> bool {
        let written = self.try_write(state, frame);
        self.is_taken(written)
    }

    /// Whether the disk took it; says when that changes.
    fn is_taken(&self, taken: io::Result<()>) -> bool {
        match taken {
            Ok(()) => {
                if self.unwritable.swap(false, Ordering::Relaxed) {
                    tracing::info!("the audit journal is written again");
                }
                true
            }
            Err(error) => {
                if !self.unwritable.swap(true, Ordering::Relaxed) {
                    tracing::error!(folder = %self.folder.display(), "the audit journal cannot be written: {error}");
                }
                false
            }
        }
    }

    fn try_write(&self, state: &mut State, frame: &[u8]) -> io::Result<()> {
        if state.torn {
            // Else what follows would stand behind half a frame, where nobody looks.
            state.file.set_len(state.length)?;
            state.torn = false;
        }
        if state.length >= SEGMENT || state.given_up {
            self.begin_segment(state)?;
        }
        let written = (&*state.file).write(frame);
        if !matches!(&written, Ok(length) if *length == frame.len()) {
            state.torn = true;
            return Err(written
                .err()
                .unwrap_or_else(|| io::Error::new(io::ErrorKind::StorageFull, "the disk is full")));
        }
        state.length += frame.len() as u64;
        state.written += 1;
        if self.durability == Durability::Disk && !state.dirty.iter().any(|dirty| Arc::ptr_eq(dirty, &state.file)) {
            let file = Arc::clone(&state.file);
            state.dirty.push(file);
        }
        Ok(())
    }

    /// Goes on in the next file.
    fn begin_segment(&self, state: &mut State) -> io::Result<()> {
        let folder = File::open(&self.folder)?;
        state.file = Arc::new(new_segment(&self.folder, state.segment + 1)?);
        (state.segment, state.length, state.given_up) = (state.segment + 1, 0, false);
        if self.durability == Durability::Disk {
            state.dirty.extend([Arc::clone(&state.file), Arc::new(folder)]);
        }
        Ok(())
    }

    /// Writes what is held; whether nothing is any more. What is not kept is not written again and again.
    fn write_held(&self, state: &mut State) -> bool {
        if self.unkept.load(Ordering::Relaxed) {
            return false;
        }
        if state.held.is_empty() {
            return true;
        }
        while let Some(frame) = state.held.pop_front() {
            if !self.write(state, &frame) {
                state.held.push_front(frame);
                return false;
            }
            if self.durability == Durability::Disk {
                state.written_only.push_back(frame);
            } else {
                state.memory -= frame.len();
            }
        }
        if self.durability == Durability::Process {
            self.slow.store(false, Ordering::Relaxed);
            self.kept.send_replace(state.appended);
        }
        self.room.notify_waiters();
        true
    }

    /// Tries again to write what is held.
    pub(super) fn try_again(&self) {
        let mut state = self.lock();
        if !state.held.is_empty() && self.write_held(&mut state) {
            self.unsynced.notify_one();
        }
    }

    /// Asks the disk to keep what was written, for all who wait at once, until the process stops.
    fn keep_syncing(&self) {
        let mut state = self.lock();
        loop {
            while state.dirty.is_empty() {
                if self.stopping.load(Ordering::Relaxed) {
                    return;
                }
                if state.given_up {
                    let begun = self.begin_segment(&mut state);
                    self.is_taken(begun);
                }
                self.write_held(&mut state);
                if state.dirty.is_empty() {
                    state = self.unsynced.wait_timeout(state, AGAIN).unwrap_or_else(PoisonError::into_inner).0;
                }
            }
            let (files, written) = (std::mem::take(&mut state.dirty), state.written);
            drop(state);
            let synced = files.iter().try_for_each(|file| (self.sync)(file));
            state = self.lock();
            match synced {
                Ok(()) => self.are_kept(&mut state, written),
                Err(error) => {
                    self.give_up(&mut state, &error);
                    state = self.unsynced.wait_timeout(state, AGAIN).unwrap_or_else(PoisonError::into_inner).0;
                }
            }
        }
    }

    /// The disk has the first so many records.
    fn are_kept(&self, state: &mut State, written: u64) {
        while state.kept < written {
            state.kept += 1;
            let bytes = state.written_only.pop_front().map_or(0, |frame| frame.len());
            state.memory -= bytes;
        }
        self.slow.store(state.memory > MANY_HELD, Ordering::Relaxed);
        self.kept.send_replace(written);
        if self.unkept.swap(false, Ordering::Relaxed) {
            tracing::info!("the disk keeps the audit journal again");
        }
        self.room.notify_waiters();
    }

    /// The disk did not keep what was written, and says so only once: all of it is written anew, to another file, as soon as that is kept
    /// while it is empty. What can be read in the old one comes into the database once all the same.
    fn give_up(&self, state: &mut State, error: &io::Error) {
        if !self.unkept.swap(true, Ordering::Relaxed) {
            tracing::error!(folder = %self.folder.display(), "the disk does not keep the audit journal: {error}");
        }
        state.written = state.kept;
        while let Some(frame) = state.written_only.pop_back() {
            self.backlog.fetch_add(frame.len() as u64, Ordering::Relaxed);
            state.held.push_front(frame);
        }
        state.dirty.clear();
        state.given_up = true;
    }

    /// Whether what is begun now can be recorded.
    pub fn has_room(&self) -> bool {
        !self.is_failing() && !self.slow.load(Ordering::Relaxed) && self.backlog() < self.most
    }

    /// Waits until there is room; whether there is any.
    pub(super) async fn wait_for_room(&self, longest: Duration) -> bool {
        let waiting = async {
            loop {
                let told = self.room.notified();
                if self.has_room() {
                    return;
                }
                // What makes room may be the disk, which tells nobody.
                _ = tokio::time::timeout(AGAIN, told).await;
            }
        };
        tokio::time::timeout(longest, waiting).await.is_ok()
    }

    /// Whether records go where they should, without delay.
    pub fn is_well(&self) -> bool {
        self.has_room() && !self.behind.load(Ordering::Relaxed) && !self.changed.load(Ordering::Relaxed)
    }

    /// Says whether somebody else changed a chain in the database.
    pub(super) fn set_changed(&self, changed: bool) {
        self.changed.store(changed, Ordering::Relaxed);
    }

    /// Says whether the database takes what waits for it.
    pub(super) fn set_behind(&self, behind: bool) {
        self.behind.store(behind, Ordering::Relaxed);
    }

    /// Bytes that are in no database yet.
    pub fn backlog(&self) -> u64 {
        self.backlog.load(Ordering::Relaxed)
    }

    /// Whether the disk takes nothing, or does not keep it.
    pub fn is_failing(&self) -> bool {
        self.unwritable.load(Ordering::Relaxed) || self.unkept.load(Ordering::Relaxed)
    }

    /// Records that could not be kept at all.
    pub fn lost(&self) -> u64 {
        self.lock().lost
    }

    /// Up to where it is written.
    pub(super) fn end(&self) -> Position {
        let state = self.lock();
        Position { segment: state.segment, offset: state.length }
    }

    /// So many bytes more are found that are in no database.
    pub(super) fn found(&self, bytes: u64) {
        self.backlog.fetch_add(bytes, Ordering::Relaxed);
    }

    /// So many bytes are in the database.
    pub(super) fn drained(&self, bytes: u64) {
        let less = |backlog: u64| Some(backlog.saturating_sub(bytes));
        _ = self.backlog.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less);
        self.room.notify_waiters();
    }

    /// Waits until many records wait for the database.
    pub(super) async fn many(&self) {
        self.many.notified().await;
    }

    /// Takes nothing more; returns the frames that are in no file.
    pub(super) fn close(&self) -> Vec<Box<[u8]>> {
        let mut state = self.lock();
        state.closed = true;
        self.write_held(&mut state);
        let held: Vec<_> = std::mem::take(&mut state.held).into();
        let bytes: usize = held.iter().map(|frame| frame.len()).sum();
        state.memory -= bytes;
        drop(state);
        self.drained(bytes as u64);
        self.stopping.store(true, Ordering::Relaxed);
        self.unsynced.notify_one();
        held
    }
}

fn new_segment(folder: &Path, number: u64) -> io::Result<File> {
    OpenOptions::new().append(true).create_new(true).mode(0o600).open(segment_path(folder, number))
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;

    use super::*;
    use crate::audit::folder::Folder;
    use crate::audit::frame::framed;
    use crate::audit::reader;

    fn base() -> PathBuf {
        std::env::temp_dir().join(format!("mcp-gateway-journal-{}", uuid::Uuid::now_v7()))
    }

    fn texts(journal: &Journal, segment: u64) -> Vec<String> {
        let piece = reader::read(&journal.folder, Position { segment, offset: 0 }, None, 1_000).unwrap();
        assert_eq!(piece.torn, 0);
        piece.texts
    }

    async fn until(what: impl Fn() -> bool) {
        while !what() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    #[tokio::test]
    async fn what_the_disk_did_not_keep_is_written_anew_and_nothing_is_begun_before_it_is_kept() {
        static BROKEN: AtomicBool = AtomicBool::new(false);
        static ASKED: AtomicUsize = AtomicUsize::new(0);
        // Like the kernel, which tells of a failure once and then knows nothing of it.
        let sync: Sync = |_| {
            ASKED.fetch_add(1, Ordering::SeqCst);
            if BROKEN.load(Ordering::SeqCst) { Err(io::ErrorKind::Other.into()) } else { Ok(()) }
        };
        let base = base();
        let folder = Folder::make(&base, uuid::Uuid::now_v7()).unwrap();
        let journal = Journal::open_with(folder.path.clone(), Durability::Disk, 1 << 30, sync).unwrap();
        let mut kept = journal.kept.subscribe();
        journal.append(&framed("first"));
        kept.wait_for(|kept| *kept == 1).await.unwrap();
        BROKEN.store(true, Ordering::SeqCst);
        journal.append(&framed("second"));
        until(|| journal.is_failing()).await;
        assert!(!journal.has_room());
        journal.append(&framed("third"));
        assert!(!journal.has_room(), "that it is written says nothing of whether it is kept");
        let asked = ASKED.load(Ordering::SeqCst);
        until(|| ASKED.load(Ordering::SeqCst) > asked).await;
        assert_eq!(*journal.kept.borrow(), 1);
        BROKEN.store(false, Ordering::SeqCst);
        // Nobody writes anything, and it is well again.
        kept.wait_for(|kept| *kept == 3).await.unwrap();
        until(|| journal.has_room()).await;
        assert_eq!(texts(&journal, 1), ["first", "second"]);
        assert_eq!(texts(&journal, journal.end().segment), ["second", "third"]);
        journal.append(&framed("fourth"));
        kept.wait_for(|kept| *kept == 4).await.unwrap();
        assert_eq!(journal.lock().memory, 0);
        std::fs::remove_dir_all(&base).unwrap();
    }

    #[tokio::test]
    async fn what_comes_when_the_journal_is_closed_is_counted_and_written_nowhere() {
        let base = base();
        let folder = Folder::make(&base, uuid::Uuid::now_v7()).unwrap();
        let journal = Journal::open(folder.path.clone(), Durability::Process, 1 << 30).unwrap();
        journal.append(&framed("first"));
        assert!(journal.close().is_empty());
        let backlog = journal.backlog();
        journal.append(&framed("second"));
        assert_eq!((texts(&journal, 1), journal.lost(), journal.backlog()), (vec!["first".to_owned()], 1, backlog));
        std::fs::remove_dir_all(&base).unwrap();
    }
}
