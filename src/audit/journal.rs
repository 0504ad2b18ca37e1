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
/// Most bytes of records that are held in memory while the disk takes none: those of requests that were under way.
const MOST_HELD: usize = 32 << 20;
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

/// See the module.
pub struct Journal {
    folder: PathBuf,
    durability: Durability,
    most: u64,
    state: Mutex<State>,
    /// Something was written that the disk has not been asked to keep.
    unsynced: Condvar,
    /// Bytes in journals that are in no database yet.
    backlog: AtomicU64,
    failing: AtomicBool,
    /// The database does not take what waits for it.
    behind: AtomicBool,
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
    /// Frames that the disk did not take.
    held: VecDeque<Box<[u8]>>,
    held_bytes: usize,
    /// Records that were taken, and of those the written.
    appended: u64,
    written: u64,
    /// Records that could neither be written nor held.
    lost: u64,
    /// Files that the disk is to be asked to keep.
    dirty: Vec<Arc<File>>,
}

impl Journal {
    /// Begins one in `folder`, which is there and this process's own. It may hold `most` bytes that are in no database.
    pub(super) fn open(folder: PathBuf, durability: Durability, most: u64) -> io::Result<Arc<Self>> {
        let file = Arc::new(new_segment(&folder, 1)?);
        let dirty = vec![Arc::clone(&file), Arc::new(File::open(&folder)?)];
        let state = State {
            file,
            segment: 1,
            length: 0,
            torn: false,
            held: VecDeque::new(),
            held_bytes: 0,
            appended: 0,
            written: 0,
            lost: 0,
            dirty,
        };
        let journal = Arc::new(Self {
            folder,
            durability,
            most,
            state: Mutex::new(state),
            unsynced: Condvar::new(),
            backlog: AtomicU64::new(0),
            failing: AtomicBool::new(false),
            behind: AtomicBool::new(false),
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
        let mut state = self.lock();
        let written = self.write_held(&mut state) && self.write(&mut state, frame);
        let number = if written || Self::hold(&mut state, frame) {
            state.appended += 1;
            state.appended
        } else {
            // Its answer waits in vain.
            u64::MAX
        };
        let many = state.written.is_multiple_of(BATCH);
        drop(state);
        self.backlog.fetch_add(frame.len() as u64, Ordering::Relaxed);
        if many {
            self.many.notify_one();
        }
        if !written || self.durability == Durability::Disk {
            self.unsynced.notify_one();
            Ticket { kept: self.kept.subscribe(), number }.leave();
        }
    }

    /// Writes one frame; whether all of it is there.
    fn write(&self, state: &mut State, frame: &[u8]) -> bool {
        match self.try_write(state, frame) {
            Ok(()) => {
                if self.failing.swap(false, Ordering::Relaxed) {
                    tracing::info!("the audit journal is written again");
                }
                true
            }
            Err(error) => {
                if !self.failing.swap(true, Ordering::Relaxed) {
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
        if state.length >= SEGMENT {
            let next = Arc::new(new_segment(&self.folder, state.segment + 1)?);
            (state.segment, state.length) = (state.segment + 1, 0);
            state.file = next;
            if self.durability == Durability::Disk {
                state.dirty.push(Arc::new(File::open(&self.folder)?));
            }
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

    /// Keeps a frame in memory that the disk did not take, if there is room for it.
    fn hold(state: &mut State, frame: &[u8]) -> bool {
        if state.held_bytes + frame.len() > MOST_HELD {
            state.lost += 1;
            tracing::error!("a record of the audit trail is lost: the disk takes none, and memory holds no more");
            return false;
        }
        state.held_bytes += frame.len();
        state.held.push_back(frame.into());
        true
    }

    /// Writes what is held; whether nothing is any more.
    fn write_held(&self, state: &mut State) -> bool {
        if state.held.is_empty() {
            return true;
        }
        while let Some(frame) = state.held.pop_front() {
            if !self.write(state, &frame) {
                state.held.push_front(frame);
                return false;
            }
            state.held_bytes -= frame.len();
        }
        if self.durability == Durability::Process {
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
                state = self.unsynced.wait_timeout(state, AGAIN).unwrap_or_else(PoisonError::into_inner).0;
            }
            let (files, written) = (std::mem::take(&mut state.dirty), state.written);
            drop(state);
            let synced = files.iter().try_for_each(|file| file.sync_data());
            state = self.lock();
            match synced {
                Ok(()) => {
                    self.kept.send_replace(written);
                }
                Err(error) => {
                    tracing::error!("the disk does not keep the audit journal: {error}");
                    self.failing.store(true, Ordering::Relaxed);
                    state.dirty.extend(files);
                    state = self.unsynced.wait_timeout(state, AGAIN).unwrap_or_else(PoisonError::into_inner).0;
                }
            }
        }
    }

    /// Whether what is begun now can be recorded.
    pub fn has_room(&self) -> bool {
        !self.failing.load(Ordering::Relaxed) && self.backlog() < self.most
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
        self.has_room() && !self.behind.load(Ordering::Relaxed)
    }

    /// Says whether the database takes what waits for it.
    pub(super) fn set_behind(&self, behind: bool) {
        self.behind.store(behind, Ordering::Relaxed);
    }

    /// Bytes that are in no database yet.
    pub fn backlog(&self) -> u64 {
        self.backlog.load(Ordering::Relaxed)
    }

    /// Whether the disk takes nothing.
    pub fn is_failing(&self) -> bool {
        self.failing.load(Ordering::Relaxed)
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

    /// Nothing more is appended.
    pub(super) fn stop(&self) {
        self.stopping.store(true, Ordering::Relaxed);
        self.unsynced.notify_one();
    }
}

fn new_segment(folder: &Path, number: u64) -> io::Result<File> {
    OpenOptions::new().append(true).create_new(true).mode(0o600).open(segment_path(folder, number))
}
