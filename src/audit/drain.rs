//! Brings journals into the database: this process's own while it is written, and those that processes left behind which are gone.
//! A piece of a journal goes with its place in it in one transaction, so that each record comes exactly once, whenever the process
//! ends.

use std::collections::BTreeMap;
use std::fs::OpenOptions;
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::added::Added;
use super::folder::Folder;
use super::journal::{Position, segment_path};
use super::reader;
use super::stamper::{Keys, StampError, Stamper};
use super::trail::Trail;
use super::{Brief, Record, chain};
use crate::crypto::Sealer;
use crate::store::audit::{ChainRow, JournalStep};
use crate::store::rollups::Increments;
use crate::store::{Store, StoreError, micros, now};
use crate::telemetry::{Counter, Metrics};

/// Longest that a record waits until the database is asked to take it.
const PAUSE: Duration = Duration::from_secs(1);
/// Rounds after which it is looked for journals that were left behind.
const LOOK: u32 = 30;
/// The file of records that the database refuses.
const REFUSED: &str = "refused.jsonl";

/// Why records stay in the journal.
#[derive(Debug, thiserror::Error)]
pub enum DrainError {
    /// The journal cannot be read.
    #[error("the audit journal: {0}")]
    Journal(#[from] io::Error),
    /// Nothing can be signed.
    #[error(transparent)]
    Stamp(#[from] StampError),
    /// The database refused or failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Counts what comes into the database, as part of it. Who does so stands above this room.
pub trait Counting: Send + Sync {
    /// What a piece of a journal adds. It may come again, if it was not stored.
    fn fold<'a>(&self, records: &[Brief<'a>]) -> Increments<'a>;

    /// The piece that was folded last is stored.
    fn settle(&self);
}

/// See the module.
pub struct Drain {
    trail: Trail,
    counting: Arc<dyn Counting>,
    base: PathBuf,
    store: Store,
    stamper: Stamper,
    metrics: Arc<Metrics>,
    own: Source,
    found: Vec<(Folder, Source)>,
}

/// A journal and how far it is in the database.
struct Source {
    journal: Uuid,
    path: PathBuf,
    /// None before the database said.
    at: Option<Position>,
    /// Most records of the next piece: fewer where the database refused one, until that one is alone.
    most: usize,
}

impl Drain {
    /// Of an open trail whose folders are below `base`.
    pub fn new(
        trail: &Trail,
        base: PathBuf,
        store: Store,
        master: Sealer,
        metrics: &Arc<Metrics>,
        counting: Arc<dyn Counting>,
    ) -> Option<Self> {
        let folder = &trail.opened()?.folder;
        let own = Source::new(folder.journal, folder.path.clone());
        let stamper = Stamper::new(store.clone(), master);
        let metrics = Arc::clone(metrics);
        Some(Self { trail: trail.clone(), counting, base, store, stamper, metrics, own, found: Vec::new() })
    }

    /// Works until the process stops.
    pub async fn run(mut self, shutdown: CancellationToken) -> Self {
        let mut rounds = 0_u32;
        while !shutdown.is_cancelled() {
            if rounds.is_multiple_of(LOOK) {
                self.look().await;
            }
            rounds = rounds.wrapping_add(1);
            self.trail.tell_of_flood(false);
            let drained = self.drain().await;
            if let Some(journal) = self.trail.journal() {
                journal.set_behind(drained.is_err());
            }
            match drained {
                Ok(()) => self.trail.is_complete(),
                Err(error) => tracing::warn!("records of the audit trail wait in the journal: {error}"),
            }
            let many = async {
                match self.trail.journal() {
                    Some(journal) => journal.many().await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = shutdown.cancelled() => {}
                () = many => {}
                () = tokio::time::sleep(PAUSE) => {}
            }
        }
        self
    }

    /// Brings over what is left when nothing is recorded any more, and leaves no journal behind.
    pub async fn finish(mut self) -> Result<(), DrainError> {
        let trail = self.trail.clone();
        let Some(open) = trail.opened() else { return Ok(()) };
        self.trail.tell_of_flood(true);
        open.journal.try_again();
        open.journal.stop();
        self.drain().await?;
        if open.journal.backlog() == 0 && !open.journal.is_failing() {
            let (journal, path) = (self.own.journal, self.own.path.clone());
            let done = path.with_file_name(format!("{journal}.done"));
            std::fs::rename(&path, &done)?;
            forget(&self.store, journal, &done).await?;
        }
        Ok(())
    }

    /// Takes over journals that were left behind.
    async fn look(&mut self) {
        let found = async {
            for (journal, path) in Folder::done(&self.base)? {
                forget(&self.store, journal, &path).await?;
            }
            for folder in Folder::left_behind(&self.base)? {
                let source = Source::new(folder.journal, folder.path.clone());
                tracing::info!(journal = %folder.journal, "a journal of the audit trail that a process left behind is taken over");
                self.found.push((folder, source));
            }
            Ok::<_, DrainError>(())
        };
        if let Err(error) = found.await {
            tracing::warn!("journals of the audit trail that were left behind cannot be looked for: {error}");
        }
    }

    /// Brings everything over that there is.
    async fn drain(&mut self) -> Result<(), DrainError> {
        let trail = self.trail.clone();
        let Some(open) = trail.opened() else { return Ok(()) };
        let journal = &open.journal;
        journal.try_again();
        while let Some((folder, mut source)) = self.found.pop() {
            let drained = async {
                let first = source.at.is_none();
                source.place(&self.store).await?;
                if first {
                    journal.found(source.left()?);
                }
                while let Some(bytes) = self.step(&mut source, None).await? {
                    journal.drained(bytes);
                }
                Ok::<_, DrainError>(())
            };
            if let Err(error) = drained.await {
                self.found.push((folder, source));
                return Err(error);
            }
            let (journal, path) = folder.finish()?;
            forget(&self.store, journal, &path).await?;
        }
        let mut own = std::mem::replace(&mut self.own, Source::new(Uuid::nil(), PathBuf::new()));
        let drained = async {
            own.place(&self.store).await?;
            // What comes meanwhile has the next round: else this one would not end under a load that goes on.
            let end = journal.end();
            while let Some(bytes) = self.step(&mut own, Some(end)).await? {
                journal.drained(bytes);
            }
            Ok(())
        };
        let drained = drained.await;
        self.own = own;
        drained
    }

    /// Brings over the next piece; says how many bytes of the journal it was, or that there is none.
    async fn step(&self, source: &mut Source, end: Option<Position>) -> Result<Option<u64>, DrainError> {
        let Some(from) = source.at else { return Ok(None) };
        let (path, most) = (source.path.clone(), source.most);
        let read = tokio::task::spawn_blocking(move || reader::read(&path, from, end, most));
        let piece = read.await.map_err(io::Error::other)??;
        let Some(to) = piece.next.filter(|to| *to != from) else { return Ok(None) };
        if piece.damaged {
            self.keep_damaged(source, from.segment)?;
        }
        let (bytes, torn, count) = (piece.bytes, piece.torn, piece.texts.len());
        match self.write(source.journal, (from, to), &piece.texts).await {
            // It was written, and whoever did could not say so.
            Err(DrainError::Store(StoreError::Stale)) => {
                source.at = None;
                source.place(&self.store).await?;
                return Ok(Some(bytes + torn));
            }
            // What it does not take for what is in it, it never will: the rest goes on without that.
            Err(DrainError::Store(error)) if error.is_of_content() && count > 0 => {
                if count > 1 {
                    source.most = count / 2;
                    return Ok(Some(0));
                }
                self.set_aside(&piece.texts, &error)?;
                self.write(source.journal, (from, to), &[]).await?;
            }
            written => {
                written?;
                self.metrics.audit_records.on(["drained"], |all| all.add(count as u64));
            }
        }
        source.most = source.most.saturating_mul(2).min(reader::MOST);
        if torn > 0 && !piece.damaged {
            tracing::warn!(journal = %source.journal, bytes = torn, "the end of a journal was torn: its last operation was not answered");
        }
        source.at = Some(to);
        if to.segment > from.segment {
            std::fs::remove_file(segment_path(&source.path, from.segment))?;
        }
        Ok(Some(bytes + torn))
    }

    /// Keeps a file of a journal of which not all can be read, under another name.
    fn keep_damaged(&self, source: &Source, segment: u64) -> io::Result<()> {
        let kept = self.base.join(format!("{}-{segment}.damaged", source.journal));
        match std::fs::hard_link(segment_path(&source.path, segment), &kept) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Ok(()),
            linked => linked?,
        }
        self.metrics.audit_records.on(["damaged"], Counter::inc);
        tracing::error!(
            file = %kept.display(),
            "a file of the audit journal is damaged: what can be read of it goes into the database, and the file is kept"
        );
        Ok(())
    }

    /// Keeps what the database refuses in a file below the journals, a line each. It may come there twice.
    fn set_aside(&self, texts: &[String], why: &StoreError) -> io::Result<()> {
        let path = self.base.join(REFUSED);
        let mut file = OpenOptions::new().append(true).create(true).mode(0o600).open(&path)?;
        for text in texts {
            file.write_all(format!("{text}\n").as_bytes())?;
            self.metrics.audit_records.on(["refused"], Counter::inc);
            tracing::error!(
                file = %path.display(),
                record = %crate::crypto::masked(text),
                "the database refuses a record of the audit trail for what is in it: {why}; it was set aside in the file"
            );
        }
        file.sync_data()
    }

    async fn write(&self, journal: Uuid, range: (Position, Position), texts: &[String]) -> Result<(), DrainError> {
        if !self.write_with(self.stamper.keys().await?, false, journal, range, texts).await? {
            // Another process may have made the key that it signed with.
            self.write_with(self.stamper.look_again().await?, true, journal, range, texts).await?;
        }
        Ok(())
    }

    /// Writes; not so if a head is signed with none of the keys, unless these are `all` that there are.
    async fn write_with(
        &self,
        keys: Arc<Keys>,
        all: bool,
        journal: Uuid,
        (from, to): (Position, Position),
        texts: &[String],
    ) -> Result<bool, DrainError> {
        // Few are not to be read in place.
        let (mut read, mut others) = (Vec::with_capacity(texts.len()), Vec::new());
        for text in texts {
            let brief = Brief::read(text);
            if brief.is_some() {
                read.push((brief, text));
                continue;
            }
            match Record::read(text) {
                Ok(record) => {
                    read.push((None, text));
                    others.push(record);
                }
                // Only a newer or damaged program writes such a thing; what it says is in the log, and the rest goes on.
                Err(error) => {
                    self.metrics.audit_records.on(["unreadable"], Counter::inc);
                    tracing::error!(record = %crate::crypto::masked(text), "a record of the audit journal cannot be read: {error}");
                }
            }
        }
        let mut others = others.iter().map(Brief::from);
        let records: Vec<Brief<'_>> = read.iter().filter_map(|(brief, _)| brief.or_else(|| others.next())).collect();
        let mut chains: BTreeMap<&str, Vec<(Brief<'_>, &str)>> = BTreeMap::new();
        for (record, (_, text)) in records.iter().zip(&read) {
            chains.entry(chain::chain_of(record)).or_default().push((*record, text));
        }
        let mut chains: BTreeMap<_, _> =
            chains.into_iter().map(|(name, records)| (name.to_owned(), Added::of(&records))).collect();
        let at = micros(now());
        let durable = self.trail.is_durable();
        let step = JournalStep { journal, from: numbers(from), to: numbers(to), at, durable };
        let names: Vec<String> = chains.keys().cloned().collect();
        let (mut unsigned, mut strange) = (0, false);
        let link = |name: &str, before: Option<ChainRow>| {
            if before.as_ref().is_some_and(|before| !all && keys.public(before.key_id).is_none()) {
                strange = true;
                return None;
            }
            let added = chains.remove(name).unwrap_or_default();
            if before.as_ref().is_some_and(|before| !chain::is_own(before, &keys)) {
                unsigned += added.count() as u64;
                tracing::error!(
                    chain = name,
                    "the head of a chain of the audit trail is not what this gateway signed: it was changed in the database. \
                     Records are added and not signed; `audit verify` says what is wrong"
                );
            }
            Some(chain::link(name, before, added, &keys, at))
        };
        let increments = self.counting.fold(&records);
        match self.store.write_audit(step, &names, link, &increments).await {
            Err(_) if strange => return Ok(false),
            written => written?,
        }
        self.counting.settle();
        self.metrics.audit_records.on(["unsigned"], |all| all.add(unsigned));
        Ok(true)
    }
}

impl Source {
    fn new(journal: Uuid, path: PathBuf) -> Self {
        Self { journal, path, at: None, most: reader::MOST }
    }

    /// Learns from the database how far it is there.
    async fn place(&mut self, store: &Store) -> Result<(), StoreError> {
        if self.at.is_none() {
            let (segment, offset) = store.audit_journal(self.journal, micros(now())).await?;
            let number =
                |number: i64| u64::try_from(number).map_err(|_| StoreError::Corrupt("a journal's place".to_owned()));
            self.at = Some(Position { segment: number(segment)?, offset: number(offset)? });
        }
        Ok(())
    }

    /// Bytes that are in its files and not in the database.
    fn left(&self) -> io::Result<u64> {
        let at = self.at.unwrap_or(Position::BEGIN);
        let (mut left, mut segment) = (0, at.segment);
        loop {
            match std::fs::metadata(segment_path(&self.path, segment)) {
                Ok(found) => left += found.len(),
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(left.saturating_sub(at.offset)),
                Err(error) => return Err(error),
            }
            segment += 1;
        }
    }
}

fn numbers(position: Position) -> (i64, i64) {
    let number = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
    (number(position.segment), number(position.offset))
}

/// Forgets a journal of which nothing is left to read: first in the database, so that it can be done again.
async fn forget(store: &Store, journal: Uuid, path: &Path) -> Result<(), DrainError> {
    store.forget_audit_journal(journal).await?;
    Ok(std::fs::remove_dir_all(path)?)
}
