//! The folders of journals, one for each process. A living process holds a lock in its own, so that nobody takes its journal; one that
//! nobody holds belongs to a process that is gone, and is drained by whoever finds it.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use uuid::Uuid;

/// What the lock is called.
const LOCK: &str = "lock";

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
        let (path, made) = (base.join(journal.to_string()), base.join(format!("{journal}.new")));
        DirBuilder::new().mode(0o700).create(&made)?;
        let lock = lock_file(&made)?;
        lock.lock()?;
        // Under its name it is found by others, who then find it locked.
        std::fs::rename(&made, &path)?;
        Ok(Self { journal, path, _lock: lock })
    }

    /// Those below `base` that no process holds.
    pub(super) fn left_behind(base: &Path) -> io::Result<Vec<Self>> {
        let mut found = Vec::new();
        for entry in std::fs::read_dir(base)? {
            let path = entry?.path();
            let journal = path.file_name().and_then(|name| Uuid::parse_str(name.to_str()?).ok());
            let Some(journal) = journal else { continue };
            // It may be gone by now.
            let Ok(lock) = lock_file(&path) else { continue };
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

    /// Says that all of it is in the database; nobody reads it any more.
    pub(super) fn finish(self) -> io::Result<(Uuid, PathBuf)> {
        let done = self.path.with_file_name(format!("{}.done", self.journal));
        std::fs::rename(&self.path, &done)?;
        Ok((self.journal, done))
    }
}

fn lock_file(folder: &Path) -> io::Result<File> {
    OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(folder.join(LOCK))
}
