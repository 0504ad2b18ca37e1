//! Writes pieces of journals into the chains of the database, and signs where these end. What somebody else made of a chain is not signed;
//! which chains that is so of is looked at again and again.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use ahash::AHashMap;
use uuid::Uuid;

use super::added::Added;
use super::drain::DrainError;
use super::forward::of_unreadable;
use super::journal::Position;
use super::stamper::{Keys, Stamper};
use super::trail::Trail;
use super::{Brief, Record, chain, search, words};
use crate::crypto::Sealer;
use crate::store::audit::{ChainHead, ChainRow, JournalStep, in_order};
use crate::store::rollups::Increments;
use crate::store::{Store, micros, now};
use crate::telemetry::{Counter, Event, Metrics};

/// Longest that the database may take for anything.
const LONGEST: Duration = Duration::from_secs(30);
/// How often it is said how far chains are that move, and looked whether all are sound, microseconds.
const WORDS: i64 = 60_000_000;
/// How far back that goes: clocks of processes differ.
const BACK: i64 = 120_000_000;
/// How often it is said of all chains.
const ALL_WORDS: i64 = 24 * chain::TIME;

/// Counts what comes into the database, as part of it. Who does so stands above this room.
pub trait Counting: Send + Sync {
    /// What a piece of a journal adds. It may come again, if it was not stored.
    fn fold<'a>(&self, records: &[Brief<'a>]) -> Increments<'a>;

    /// The piece that was folded last is stored.
    fn settle(&self);
}

/// See the module.
pub(super) struct Writer {
    trail: Trail,
    counting: Arc<dyn Counting>,
    store: Store,
    stamper: Stamper,
    metrics: Arc<Metrics>,
    /// How far each chain was when this process wrote it last, and when that was.
    seen: AHashMap<String, (i64, i64)>,
    /// The chains that somebody else changed.
    not_sound: BTreeSet<String>,
    looked_at: i64,
    /// When it was said how far chains are: those that moved, and all.
    said_at: i64,
    all_said_at: i64,
    /// Whether one moved since.
    unsaid: bool,
}

/// A piece of a journal.
#[derive(Debug, Clone, Copy)]
pub(super) struct Part {
    pub(super) journal: Uuid,
    pub(super) from: Position,
    pub(super) to: Position,
    /// Whether something kept it from being written before.
    pub(super) again: bool,
}

/// With what it is seen whether a chain is sound.
struct Trust {
    keys: Arc<Keys>,
    /// When chains were taken as they are, where that was asked for.
    accepted: Option<AHashMap<String, i64>>,
}

/// What of a chain is to be remembered once it is written.
struct Moved {
    chain: String,
    seq: i64,
    sound: bool,
}

/// Waits for the database, but not for ever.
pub(super) async fn in_time<T, E>(asking: impl Future<Output = Result<T, E>>) -> Result<T, DrainError>
where
    DrainError: From<E>,
{
    Ok(tokio::time::timeout(LONGEST, asking).await.map_err(|_| DrainError::TooLong)??)
}

impl Writer {
    pub(super) fn new(
        trail: &Trail,
        store: Store,
        master: Sealer,
        metrics: &Arc<Metrics>,
        counting: Arc<dyn Counting>,
    ) -> Self {
        Self {
            trail: trail.clone(),
            counting,
            stamper: Stamper::new(store.clone(), master),
            store,
            metrics: Arc::clone(metrics),
            seen: AHashMap::new(),
            not_sound: BTreeSet::new(),
            looked_at: 0,
            said_at: 0,
            all_said_at: 0,
            unsaid: false,
        }
    }

    /// Writes a piece.
    pub(super) async fn write(&mut self, part: Part, texts: &[String]) -> Result<(), DrainError> {
        self.write_all(part, texts, false).await
    }

    /// Says how far chains are, if one moved and that was not said for a while, or if it is the `end`.
    pub(super) async fn say(&mut self, journal: Uuid, at: Position, end: bool) -> Result<(), DrainError> {
        let due = (micros(now()) - self.said_at).abs() >= WORDS;
        if !self.unsaid || !(due || end) {
            return Ok(());
        }
        self.write_all(Part { journal, from: at, to: at, again: false }, &[], true).await
    }

    /// Of some records, those that are not in the database yet.
    pub(super) async fn missing(&self, texts: Vec<String>) -> Result<Vec<String>, DrainError> {
        let mut missing = Vec::new();
        for text in texts {
            if !self.has(&text).await? {
                missing.push(text);
            }
        }
        Ok(missing)
    }

    /// Whether a record is in the database.
    pub(super) async fn has(&self, text: &str) -> Result<bool, DrainError> {
        let Ok(record) = Record::read(text) else { return Ok(false) };
        let known = in_time(search::record(&self.store, None, record.id)).await?;
        Ok(known.is_some_and(|known| known.text == text))
    }

    async fn write_all(&mut self, part: Part, texts: &[String], say: bool) -> Result<(), DrainError> {
        let keys = in_time(self.stamper.keys()).await?;
        if !self.write_with(&Trust { keys, accepted: None }, part, texts, say).await? {
            // Another process may have made the key that it signed with, and somebody may have taken a chain as it is.
            let trust = self.look_again().await?;
            self.write_with(&trust, part, texts, say).await?;
        }
        Ok(())
    }

    async fn look_again(&self) -> Result<Trust, DrainError> {
        let keys = in_time(self.stamper.look_again()).await?;
        let mut accepted = AHashMap::new();
        for chain in self.seen.keys() {
            let rows = in_time(self.store.audit_accepted(chain)).await?;
            let last = rows.iter().rev().find(|row| chain::is_accepted(row, keys.public(row.key_id)));
            accepted.extend(last.map(|row| (chain.clone(), row.at)));
        }
        Ok(Trust { keys, accepted: Some(accepted) })
    }

    /// Since when chains moved of which it is time to say so.
    fn words_due(&self, at: i64, chains: &BTreeMap<String, Added<'_>>, say: bool) -> Option<i64> {
        if (at - self.all_said_at).abs() >= ALL_WORDS {
            return Some(0);
        }
        let moves = self.unsaid || chains.keys().any(|chain| !chain.is_empty());
        let is_new = chains.keys().any(|chain| !chain.is_empty() && !self.seen.contains_key(chain));
        let due = say || is_new || moves && (at - self.said_at).abs() >= WORDS;
        due.then_some(self.said_at - BACK)
    }

    /// Writes; not so if only more than what is trusted can tell whether a chain is sound.
    async fn write_with(
        &mut self,
        trust: &Trust,
        Part { journal, from, to, again }: Part,
        texts: &[String],
        say: bool,
    ) -> Result<bool, DrainError> {
        let Read { briefs, others, unreadable } = self.read(texts);
        let mut others = others.iter().map(Brief::from);
        let records: Vec<Brief<'_>> = briefs.iter().filter_map(|(brief, _)| brief.or_else(|| others.next())).collect();
        let mut by_chain: BTreeMap<&str, Vec<(Brief<'_>, &str)>> = BTreeMap::new();
        for (record, (_, text)) in records.iter().zip(&briefs) {
            by_chain.entry(chain::chain_of(record)).or_default().push((*record, text));
        }
        let mut chains: BTreeMap<_, _> =
            by_chain.into_iter().map(|(name, records)| (name.to_owned(), Added::of(&records))).collect();
        if !unreadable.is_empty() {
            chains.entry(String::new()).or_default().push(unreadable.iter().map(chain::written));
        }
        let at = micros(now());
        let heads_since = self.words_due(at, &chains, say);
        if heads_since.is_some() {
            chains.entry(String::new()).or_default();
        }
        let names = in_order(chains.keys().cloned());
        let durable = self.trail.is_durable();
        let step =
            JournalStep { journal, from: numbers(from), to: numbers(to), at, durable, heads_since, look_behind: again };
        let (mut moved, mut unsigned, mut strange) = (Vec::with_capacity(names.len()), 0, false);
        let (seen, trail) = (&self.seen, &self.trail);
        let link = |name: &str, before: Option<ChainRow>, heads: &[ChainHead]| {
            let Some(sound) = trust.says(name, before.as_ref(), seen) else {
                strange = true;
                return None;
            };
            let mut added = chains.remove(name).unwrap_or_default();
            added.push(words::rows(trail, heads));
            if !sound {
                unsigned += added.count() as u64;
            }
            let part = chain::link(name, before, added, &trust.keys, sound, at);
            moved.push(Moved { chain: name.to_owned(), seq: part.head.seq, sound });
            Some(part)
        };
        let increments = self.counting.fold(&records);
        match in_time(Box::pin(self.store.write_audit(step, &names, link, &increments))).await {
            Err(_) if strange => return Ok(false),
            written => written?,
        }
        self.counting.settle();
        self.metrics.audit_records.on(["unsigned"], |all| all.add(unsigned));
        self.unsaid |= moved.iter().any(|moved| !moved.chain.is_empty());
        if let Some(since) = heads_since {
            (self.said_at, self.unsaid) = (at, false);
            if since == 0 {
                self.all_said_at = at;
            }
        }
        for Moved { chain, seq, sound } in moved {
            self.is_sound(&chain, sound);
            self.seen.insert(chain, (seq, at));
        }
        self.tell();
        Ok(true)
    }

    fn read<'a>(&self, texts: &'a [String]) -> Read<'a> {
        let mut read = Read::default();
        for text in texts {
            let brief = Brief::read(text);
            if brief.is_some() {
                read.briefs.push((brief, text.as_str()));
                continue;
            }
            match Record::read(text) {
                Ok(record) => {
                    read.briefs.push((None, text.as_str()));
                    read.others.push(record);
                }
                // Only a newer or damaged program writes such a thing: it is kept to the letter, but for arguments.
                Err(error) => {
                    let text = of_unreadable(text);
                    self.metrics.audit_records.on(["unreadable"], Counter::inc);
                    tracing::error!(
                        record = %crate::crypto::masked(&text),
                        "a record of the audit journal cannot be read: {error}; it is kept as the detail of another"
                    );
                    let detail = Some(text.into_owned().into());
                    read.unreadable.push(self.trail.record(Event { detail, ..Event::new("audit.unreadable", false) }));
                }
            }
        }
        read
    }

    /// Looks, now and then, whether the heads of all chains are what this gateway signed.
    pub(super) async fn look(&mut self) -> Result<(), DrainError> {
        let at = micros(now());
        if (at - self.looked_at).abs() < WORDS {
            return Ok(());
        }
        let rows = in_time(self.store.audit_chains()).await?;
        let keys = in_time(self.stamper.keys()).await?;
        let mut trust = Trust { keys, accepted: None };
        let all = rows.iter().map(|row| (&row.chain, Some(row)));
        let gone = self.seen.keys().filter(|chain| !rows.iter().any(|row| row.chain == **chain));
        let all: Vec<_> = all.chain(gone.map(|chain| (chain, None))).collect();
        if all.iter().any(|(chain, row)| trust.says(chain, *row, &self.seen).is_none()) {
            trust = self.look_again().await?;
        }
        let found: Vec<_> =
            all.iter().map(|(chain, row)| ((*chain).clone(), trust.says(chain, *row, &self.seen))).collect();
        for (chain, sound) in found {
            self.is_sound(&chain, sound.unwrap_or_default());
        }
        self.looked_at = at;
        self.tell();
        Ok(())
    }

    fn is_sound(&mut self, chain: &str, sound: bool) {
        if sound {
            if self.not_sound.remove(chain) {
                tracing::info!(chain, "a chain of the audit trail that was changed in the database was taken as it is");
            }
        } else if !self.not_sound.contains(chain) {
            self.not_sound.insert(chain.to_owned());
            tracing::error!(
                chain,
                "the head of a chain of the audit trail is not what this gateway signed: it was changed in the database. \
                 Records are added and not signed; `audit verify` says what is wrong, `audit accept` begins anew"
            );
        }
    }

    fn tell(&self) {
        if let Some(journal) = self.trail.journal() {
            journal.set_changed(!self.not_sound.is_empty());
        }
    }
}

/// A piece as it is read.
#[derive(Default)]
struct Read<'a> {
    /// In place, as most are, with their texts.
    briefs: Vec<(Option<Brief<'a>>, &'a str)>,
    /// The others of them.
    others: Vec<Record>,
    /// What keeps those that cannot be read.
    unreadable: Vec<Record>,
}

impl Trust {
    /// Whether a chain is what this gateway made of it; none if that cannot be said yet.
    fn says(&self, name: &str, before: Option<&ChainRow>, seen: &AHashMap<String, (i64, i64)>) -> Option<bool> {
        let keys = &self.keys;
        let last = seen.get(name);
        let Some(before) = before else {
            return if last.is_some() && self.accepted.is_none() { None } else { Some(last.is_none()) };
        };
        if self.accepted.is_none() && keys.public(before.key_id).is_none() {
            return None;
        }
        // What went on in this process cannot have been undone, unless somebody took it so.
        if let Some((seq, at)) = last.filter(|(seq, _)| *seq > before.seq) {
            let accepted = self.accepted.as_ref()?.get(name);
            if accepted.is_none_or(|accepted| accepted < at) {
                tracing::debug!(chain = name, seq, "a chain of the audit trail is shorter than it was");
                return Some(false);
            }
        }
        Some(chain::is_own(before, keys))
    }
}

fn numbers(position: Position) -> (i64, i64) {
    let number = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
    (number(position.segment), number(position.offset))
}
