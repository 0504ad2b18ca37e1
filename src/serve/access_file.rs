//! `cli.json` in the data folder: where the gateway of that folder listens and, unless somebody took it away, a key for the
//! command line on this machine. Readable by its owner only. The gateway writes it, commands read it.

use std::fs::{File, TryLockError};
use std::io::{ErrorKind, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use serde::{Deserialize, Serialize};

use crate::secret::Secret;

/// What the file holds.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct AccessFile {
    /// Base URL of the gateway.
    pub gateway: String,
    /// A key of an administrator.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<Secret>,
}

/// The right to say in the file where the gateway is. One process has it, as long as it lives and holds this.
#[derive(Debug)]
pub struct Claim {
    _locked: File,
}

impl Claim {
    /// Takes it for the folder `data`; `None` while another process has it.
    pub fn take(data: &Path) -> std::io::Result<Option<Self>> {
        let path = data.join("cli.lock");
        let file = std::fs::OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(path)?;
        match file.try_lock() {
            Err(TryLockError::WouldBlock) => Ok(None),
            // Some file systems have no locks; then whoever comes last has the file, as if there were none.
            Ok(()) | Err(TryLockError::Error(_)) => Ok(Some(Self { _locked: file })),
        }
    }
}

impl AccessFile {
    /// The file in the folder `data`.
    pub fn path(data: &Path) -> PathBuf {
        data.join("cli.json")
    }

    /// Reads the file in `data`; `None` when there is none.
    pub fn read(data: &Path) -> anyhow::Result<Option<Self>> {
        let path = Self::path(data);
        match std::fs::read(&path) {
            // The parser's error could quote the key.
            Ok(text) => serde_json::from_slice(&text).map(Some).map_err(|_| {
                anyhow::anyhow!(
                    "{} cannot be read as JSON with `gateway` and `key`; correct it, or move it away and start the gateway \
                     again: it writes the file anew, without the key",
                    path.display()
                )
            }),
            Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => Ok(None),
            Err(error) => Err(error).with_context(|| format!("cannot read {}", path.display())),
        }
    }

    /// Writes the file into `data` beside the one that is there, which it replaces when the draft is kept.
    pub fn draft(&self, data: &Path) -> std::io::Result<Draft> {
        let path = Self::path(data);
        let draft = Draft { from: path.with_extension(format!("json.{}", std::process::id())), to: path };
        // What a process of the same id left behind.
        let _ = std::fs::remove_file(&draft.from);
        let mut file = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&draft.from)?;
        file.write_all(&serde_json::to_vec_pretty(self)?)?;
        file.sync_all()?;
        Ok(draft)
    }

    /// Writes the file into `data`.
    pub fn write(&self, data: &Path) -> std::io::Result<()> {
        self.draft(data)?.keep()
    }
}

/// A file that is written and does not count yet. Removed when dropped.
#[derive(Debug)]
pub struct Draft {
    from: PathBuf,
    to: PathBuf,
}

impl Draft {
    /// Makes it count: a reader sees the old text or the new one, and nobody ever an open one.
    pub fn keep(self) -> std::io::Result<()> {
        std::fs::rename(&self.from, &self.to)
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        // It is gone already when it was kept.
        let _ = std::fs::remove_file(&self.from);
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn one_process_at_a_time_says_where_the_gateway_is() {
        let folder = std::env::temp_dir().join(format!("access-claim-{}", uuid::Uuid::now_v7()));
        std::fs::create_dir(&folder).unwrap();
        let first = Claim::take(&folder).unwrap();
        assert!(first.is_some() && Claim::take(&folder).unwrap().is_none());
        drop(first);
        assert!(Claim::take(&folder).unwrap().is_some());
        std::fs::remove_dir_all(&folder).unwrap();
    }

    #[test]
    fn the_file_is_its_owners_alone_even_where_an_open_one_stood() {
        let folder = std::env::temp_dir().join(format!("access-file-{}", uuid::Uuid::now_v7()));
        std::fs::create_dir(&folder).unwrap();
        let path = folder.join("cli.json");
        std::fs::write(&path, "old").unwrap();
        let error = format!("{:#}", AccessFile::read(&folder).unwrap_err());
        assert!(error.contains("move it away") && !error.contains("old"), "{error}");
        let access = AccessFile { gateway: "http://127.0.0.1:8001".into(), key: Some(Secret::new("mcpg_x")) };
        drop(access.draft(&folder).unwrap());
        assert_eq!(std::fs::read(&path).unwrap(), b"old", "a draft that is not kept changes nothing");
        access.write(&folder).unwrap();
        let read: serde_json::Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
        assert_eq!(read, serde_json::json!({ "gateway": "http://127.0.0.1:8001", "key": "mcpg_x" }));
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(std::fs::read_dir(&folder).unwrap().count(), 1, "no draft is left");
        std::fs::remove_dir_all(&folder).unwrap();
    }
}
