//! The folders of journals, one for each process. A living process holds a lock in its own, so that nobody takes its journal; one that
//! nobody holds belongs to a process that is gone, and is drained by whoever finds it.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use uuid::Uuid;

use super::journal::segment_path;

/// What the lock is called.
const LOCK: &str = "lock";

/// Ending of one that is being made, and when nobody is at it any more.
const NEW: &str = ".new";
const ABANDONED: Duration = Duration::from_hours(1);

/// A journal's folder, held by this process.
#[derive(Debug)]
pub(super) struct Folder {
    /// Whose journal it is.
    pub(super) journal: Uuid,
    /// Where it is.
    pub(super) path: PathBuf,
    _lock: File,
}

impl Folder {
    /// Makes one below `base` for the journal of this name.
    pub(super) fn make(base: &Path, journal: Uuid) -> io::Result<Self> {
        DirBuilder::new().recursive(true).mode(0o700).create(base)?;
        let (path, made) = (base.join(journal.to_string()), base.join(format!("{journal}{NEW}")));
        DirBuilder::new().mode(0o700).create(&made)?;
        let lock = lock_file(&made)?;
        lock.lock()?;
        // Under its name it is found by others, who then find it locked.
        std::fs::rename(&made, &path)?;
        // It is there after a power cut too: what is in it may be all that is left of an operation.
        keep(base)?;
        if let Some(parent) = base.parent().filter(|parent| !parent.as_os_str().is_empty()) {
            keep(parent)?;
        }
        Ok(Self { journal, path, _lock: lock })
    }

    /// Those below `base` that no process holds.
    pub(super) fn left_behind(base: &Path) -> io::Result<Vec<Self>> {
        let mut found = Vec::new();
        for entry in std::fs::read_dir(base)? {
            let path = entry?.path();
            let journal = path.file_name().and_then(|name| Uuid::parse_str(name.to_str()?).ok());
            let Some(journal) = journal else { continue };
            let lock = match lock_file(&path) {
                Ok(lock) => lock,
                // It may be gone by now.
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) => {
                    tracing::warn!(folder = %path.display(), "a journal of the audit trail cannot be taken over: {error}");
                    continue;
                }
            };
            if lock.try_lock().is_ok() && path.exists() {
                found.push(Self { journal, path, _lock: lock });
            }
        }
        found.sort_by_key(|folder| folder.journal);
        Ok(found)
    }

    /// Those below `base` that were drained whole by a process that was killed before it had forgotten them.
    pub(super) fn done(base: &Path) -> io::Result<Vec<(Uuid, PathBuf)>> {
        let mut found = Vec::new();
        for entry in std::fs::read_dir(base)? {
            let path = entry?.path();
            let name = path.file_name().and_then(|name| name.to_str()?.strip_suffix(".done"));
            found.extend(name.and_then(|name| Uuid::parse_str(name).ok()).map(|journal| (journal, path.clone())));
        }
        Ok(found)
    }

    /// Removes what processes left below `base` that were killed while they made a folder.
    pub(super) fn remove_half_made(base: &Path) -> io::Result<()> {
        for entry in std::fs::read_dir(base)? {
            let path = entry?.path();
            let name = path.file_name().and_then(|name| name.to_str()?.strip_suffix(NEW));
            let made = std::fs::metadata(&path).and_then(|found| found.modified());
            let is_old = made.is_ok_and(|made| made.elapsed().is_ok_and(|passed| passed > ABANDONED));
            if is_old && name.is_some_and(|name| Uuid::parse_str(name).is_ok()) {
                std::fs::remove_dir_all(&path)?;
            }
        }
        Ok(())
    }

    /// Says that all of it is in the database; nobody reads it any more.
    pub(super) fn finish(self) -> io::Result<(Uuid, PathBuf)> {
        let done = self.path.with_file_name(format!("{}.done", self.journal));
        std::fs::rename(&self.path, &done)?;
        Ok((self.journal, done))
    }
}

/// Has the disk keep what a folder says is in it, where it can be asked that.
fn keep(folder: &Path) -> io::Result<()> {
    match File::open(folder)?.sync_all() {
        Err(error) if matches!(error.kind(), io::ErrorKind::InvalidInput | io::ErrorKind::Unsupported) => Ok(()),
        synced => synced,
    }
}

fn lock_file(folder: &Path) -> io::Result<File> {
    OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(folder.join(LOCK))
}

/// The files of a journal, in order.
pub(super) fn segments(folder: &Path) -> io::Result<Vec<u64>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        found.extend(entry?.file_name().to_str().and_then(|name| name.strip_suffix(".log")?.parse::<u64>().ok()));
    }
    found.sort_unstable();
    Ok(found)
}

/// Removes the files of a journal before that one.
pub(super) fn remove_before(folder: &Path, segment: u64) -> io::Result<()> {
    segments(folder)?
        .into_iter()
        .filter(|found| *found < segment)
        .try_for_each(|found| std::fs::remove_file(segment_path(folder, found)))
}
