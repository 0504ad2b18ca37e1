//! Brings journals into the database: this process's own while it is written, and those that processes left behind which are gone.
//! A piece of a journal goes with its place in it in one transaction, so that each record comes exactly once, whenever the process
//! ends.

use std::fs::OpenOptions;
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::folder::{self, Folder};
use super::frame;
use super::journal::{Position, segment_path};
use super::reader::{self, Piece};
use super::stamper::StampError;
use super::trail::Trail;
use super::writer::{Counting, Part, Writer, in_time};
use crate::crypto::Sealer;
use crate::store::{Store, StoreError, micros, now};
use crate::telemetry::{Counter, Event, Metrics, Sink as _};

/// Longest that a record waits until the database is asked to take it.
const PAUSE: Duration = Duration::from_secs(1);
/// Longest that journals which were left behind are read while this process's own waits.
const SHARE: Duration = Duration::from_secs(1);
/// How often it is looked for journals that were left behind.
const LOOK: Duration = Duration::from_secs(30);
/// Pause before a journal that cannot be brought over is tried again.
const LATER: Duration = Duration::from_secs(30);
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
    /// The database does not answer.
    #[error("the database does not answer in time")]
    TooLong,
}

/// See the module.
pub struct Drain {
    trail: Trail,
    base: PathBuf,
    store: Store,
    writer: Writer,
    metrics: Arc<Metrics>,
    own: Source,
    found: Vec<(Folder, Source)>,
    looked: Option<Instant>,
}

/// A journal and how far it is in the database.
struct Source {
    journal: Uuid,
    path: PathBuf,
    /// None before the database said.
    at: Option<Position>,
    /// Most records of the next piece: fewer where the database refused one, until that one is alone.
    most: usize,
    /// Before then it is not tried again.
    not_before: Option<Instant>,
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
        let writer = Writer::new(trail, store.clone(), master, metrics, counting);
        let metrics = Arc::clone(metrics);
        Some(Self { trail: trail.clone(), base, store, writer, metrics, own, found: Vec::new(), looked: None })
    }

    /// Works until the process stops.
    pub async fn run(mut self, shutdown: CancellationToken) -> Self {
        while !shutdown.is_cancelled() {
            if self.looked.is_none_or(|looked| looked.elapsed() >= LOOK) {
                self.look().await;
            }
            self.trail.tell_of_flood(false);
            let drained = self.drain().await;
            if let Some(journal) = self.trail.journal() {
                let stuck = self.found.iter().any(|(_, source)| source.not_before.is_some());
                journal.set_behind(drained.is_err() || stuck);
            }
            match drained {
                // More waits, and this process's own journal had its turn.
                Ok(true) => continue,
                Ok(false) if self.found.is_empty() => self.trail.is_complete(),
                Ok(false) => {}
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

    /// Brings over what is left, takes nothing more, and leaves no journal behind.
    pub async fn finish(mut self) -> Result<(), DrainError> {
        let trail = self.trail.clone();
        let Some(open) = trail.opened() else { return Ok(()) };
        self.trail.tell_of_flood(true);
        // What of those that were left behind cannot be brought over, the next process takes over.
        while self.drain_found().await.unwrap_or_default() {}
        let held = open.journal.close();
        let drained = self.drain_last(&held).await;
        if drained.is_err() && !held.is_empty() {
            let lost = held.len();
            self.metrics.audit_records.on(["lost"], |all| all.add(lost as u64));
            tracing::error!("{lost} records of the audit trail are lost: neither the disk nor the database took them");
        }
        drained?;
        if self.own.at == Some(open.journal.end()) {
            let (journal, path) = (self.own.journal, self.own.path.clone());
            let done = path.with_file_name(format!("{journal}.done"));
            std::fs::rename(&path, &done)?;
            forget(&self.store, journal, &done).await?;
        }
        Ok(())
    }

    /// Brings over the end of this process's own journal, with what is in no file; and says how far chains are.
    async fn drain_last(&mut self, held: &[Box<[u8]>]) -> Result<(), DrainError> {
        self.drain_own().await?;
        let Some(at) = self.own.at else { return Ok(()) };
        self.write_held(at, held).await?;
        self.writer.say(self.own.journal, at, true).await
    }

    /// Brings over records that are in no file.
    async fn write_held(&mut self, at: Position, mut held: &[Box<[u8]>]) -> Result<(), DrainError> {
        let text = |frame: &[u8]| String::from_utf8_lossy(&frame[frame::HEAD..]).into_owned();
        let mut source = Source::new(self.own.journal, self.own.path.clone());
        while !held.is_empty() {
            let (now, rest) = held.split_at(source.most.min(held.len()));
            let texts = now.iter().map(|frame| text(frame)).collect();
            if self.write(&mut source, at, at, texts).await? {
                source.most = source.most.saturating_mul(2).min(reader::MOST);
                held = rest;
            }
        }
        Ok(())
    }

    /// Takes over journals that were left behind.
    async fn look(&mut self) {
        self.looked = Some(Instant::now());
        let base = self.base.clone();
        let found = async {
            let (done, left) = blocking(move || {
                Folder::remove_half_made(&base)?;
                Ok((Folder::done(&base)?, Folder::left_behind(&base)?))
            })
            .await?;
            for folder in left {
                let source = Source::new(folder.journal, folder.path.clone());
                tracing::info!(journal = %folder.journal, "a journal of the audit trail that a process left behind is taken over");
                self.found.push((folder, source));
            }
            for (journal, path) in done {
                forget(&self.store, journal, &path).await?;
            }
            Ok::<_, DrainError>(())
        };
        if let Err(error) = found.await {
            tracing::warn!("journals of the audit trail that were left behind cannot be looked for: {error}");
        }
    }

    /// Brings over what there is of this process's own journal, and for a while of others; whether there is more of those.
    async fn drain(&mut self) -> Result<bool, DrainError> {
        let own = self.drain_own().await;
        let found = self.drain_found().await;
        own?;
        if let Some(at) = self.own.at {
            self.writer.say(self.own.journal, at, false).await?;
        }
        self.writer.look().await?;
        found
    }

    async fn drain_own(&mut self) -> Result<(), DrainError> {
        let trail = self.trail.clone();
        let Some(open) = trail.opened() else { return Ok(()) };
        let journal = &open.journal;
        journal.try_again();
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

    /// Brings over what was left behind, one journal after the other; one that cannot be read keeps no other waiting.
    async fn drain_found(&mut self) -> Result<bool, DrainError> {
        let (began, mut failed) = (Instant::now(), None);
        let mut rest = std::mem::take(&mut self.found).into_iter();
        let mut more = false;
        for (folder, mut source) in rest.by_ref() {
            if source.not_before.is_some_and(|time| Instant::now() < time) {
                self.found.push((folder, source));
                continue;
            }
            match self.drain_one(&mut source, began).await {
                Ok(true) => {
                    if let Err(error) = self.finish_one(folder).await {
                        failed = Some(error);
                    }
                }
                Ok(false) => {
                    self.found.push((folder, source));
                    more = true;
                    break;
                }
                Err(error) => {
                    tracing::warn!(journal = %source.journal, "a journal that a process left behind cannot be brought over: {error}");
                    source.not_before = Some(Instant::now() + LATER);
                    self.found.push((folder, source));
                    failed = Some(error);
                }
            }
        }
        self.found.extend(rest);
        failed.map_or(Ok(more), Err)
    }

    /// Brings over a journal, for a while; whether it is all.
    async fn drain_one(&mut self, source: &mut Source, began: Instant) -> Result<bool, DrainError> {
        let trail = self.trail.clone();
        let Some(journal) = trail.journal() else { return Ok(false) };
        let first = source.at.is_none();
        source.place(&self.store).await?;
        if first {
            journal.found(source.left()?);
        }
        while let Some(bytes) = self.step(source, None).await? {
            journal.drained(bytes);
            if began.elapsed() >= SHARE {
                return Ok(false);
            }
        }
        Ok(true)
    }

    async fn finish_one(&self, folder: Folder) -> Result<(), DrainError> {
        let (journal, path) = blocking(move || folder.finish()).await?;
        forget(&self.store, journal, &path).await
    }

    /// Brings over the next piece; says how many bytes of the journal it was, or that there is none.
    async fn step(&mut self, source: &mut Source, end: Option<Position>) -> Result<Option<u64>, DrainError> {
        let Some(from) = source.at else { return Ok(None) };
        let (path, most) = (source.path.clone(), source.most);
        let piece = blocking(move || reader::read(&path, from, end, most)).await?;
        let Some(to) = piece.next.filter(|to| *to != from) else { return Ok(None) };
        if piece.damaged {
            self.keep_damaged(source, from.segment)?;
        }
        let Piece { texts, bytes, torn, gap, damaged, .. } = piece;
        if !self.write(source, from, to, texts).await? {
            return Ok(Some(0));
        }
        source.most = source.most.saturating_mul(2).min(reader::MOST);
        if torn > 0 && !damaged {
            tracing::warn!(journal = %source.journal, bytes = torn, "the end of a journal was torn: its last operation was not answered");
        }
        if gap {
            self.tell_of_gap(source, from, to);
        }
        // What was written already by somebody who could not say so may be further.
        let at = source.at.filter(|at| *at != from).unwrap_or(to);
        source.at = Some(at);
        if at.segment > from.segment {
            let path = source.path.clone();
            blocking(move || folder::remove_before(&path, at.segment)).await?;
        }
        Ok(Some(bytes + torn))
    }

    /// Writes a piece; not so if a smaller one is to be tried.
    async fn write(
        &mut self,
        source: &mut Source,
        from: Position,
        to: Position,
        mut texts: Vec<String>,
    ) -> Result<bool, DrainError> {
        let mut part = Part { journal: source.journal, from, to, again: false };
        // What the disk did not keep stands again at the beginning of a later file, and no index keeps it from coming twice.
        if let Some(first) = texts.first().filter(|_| from.segment > 1)
            && self.writer.has(first).await?
        {
            texts = self.writer.missing(texts).await?;
        }
        loop {
            match self.writer.write(part, &texts).await {
                // It was written, and whoever did could not say so.
                Err(DrainError::Store(StoreError::Stale)) => {
                    source.at = None;
                    source.place(&self.store).await?;
                    return Ok(true);
                }
                Err(DrainError::Store(error)) if error.is_of_content() && !texts.is_empty() => {
                    if !part.again {
                        // Some of it may be there, from another file of the journal.
                        texts = self.writer.missing(texts).await?;
                        part.again = true;
                    } else if texts.len() > 1 {
                        source.most = (source.most.min(texts.len()) / 2).max(1);
                        return Ok(false);
                    } else {
                        // What it does not take for what is in it, it never will: the rest goes on without that.
                        self.set_aside(&texts, &error)?;
                        texts.clear();
                    }
                }
                // Less at once may be done in time: else the same would be tried for ever.
                Err(DrainError::TooLong) => {
                    source.most = (source.most.min(texts.len()) / 2).max(1);
                    return Err(DrainError::TooLong);
                }
                written => {
                    written?;
                    self.metrics.audit_records.on(["drained"], |all| all.add(texts.len() as u64));
                    return Ok(true);
                }
            }
        }
    }

    /// Records of this process's trail are missing, or of one that is gone.
    fn tell_of_gap(&self, source: &Source, from: Position, to: Position) {
        let files = format!("files {} to {} of the journal {}", from.segment, to.segment - 1, source.journal);
        tracing::error!("{files} of the audit trail are gone, and what was in them is not known to be in the database");
        let detail = format!("{files} are gone: the database is older than they were, or somebody removed them");
        self.trail.event(Event { detail: Some(detail.into()), ..Event::new("audit.gap", false) });
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
}

impl Source {
    fn new(journal: Uuid, path: PathBuf) -> Self {
        Self { journal, path, at: None, most: reader::MOST, not_before: None }
    }

    /// Learns from the database how far it is there.
    async fn place(&mut self, store: &Store) -> Result<(), DrainError> {
        if self.at.is_none() {
            let (segment, offset) = in_time(store.audit_journal(self.journal, micros(now()))).await?;
            let number =
                |number: i64| u64::try_from(number).map_err(|_| StoreError::Corrupt("a journal's place".to_owned()));
            self.at = Some(Position { segment: number(segment)?, offset: number(offset)? });
        }
        Ok(())
    }

    /// Bytes that are in its files and not in the database.
    fn left(&self) -> io::Result<u64> {
        let at = self.at.unwrap_or(Position::BEGIN);
        let mut left = 0;
        for segment in folder::segments(&self.path)?.into_iter().filter(|segment| *segment >= at.segment) {
            left += std::fs::metadata(segment_path(&self.path, segment))?.len();
            if segment == at.segment {
                left -= at.offset.min(left);
            }
        }
        Ok(left)
    }
}

/// Does what waits for the disk on a thread that may.
async fn blocking<T: Send + 'static>(doing: impl FnOnce() -> io::Result<T> + Send + 'static) -> io::Result<T> {
    tokio::task::spawn_blocking(doing).await.map_err(io::Error::other)?
}

/// Forgets a journal of which nothing is left to read: first in the database, so that it can be done again.
async fn forget(store: &Store, journal: Uuid, path: &Path) -> Result<(), DrainError> {
    in_time(store.forget_audit_journal(journal)).await?;
    let path = path.to_owned();
    let removed = blocking(move || std::fs::remove_dir_all(path)).await;
    match removed {
        // Another process was at it too.
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        removed => Ok(removed?),
    }
}
