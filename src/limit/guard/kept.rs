//! Bans in the database: a restart forgives nothing, and what one process bans the others do too. Written behind the requests; a
//! database that is away delays it and keeps nobody from being banned here.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use time::OffsetDateTime;

use super::bans::{Ban, Lifted, Reason};
use super::{Guard, network};
use crate::store::bans::BanRow;
use crate::store::{Store, StoreError, micros};

/// Rows of one transaction.
const AT_ONCE: usize = 200;
/// Pause after the database did not take what was to be written.
const AGAIN: Duration = Duration::from_secs(2);
/// How long an ended ban is stored: beyond it, it makes no later one longer.
const KEPT: time::Duration = time::Duration::days(7);

impl Guard {
    /// Takes over bans that were stored since the last time.
    pub async fn follow(&self, store: &Store) -> Result<(), StoreError> {
        let mut revision = self.0.followed.load(Relaxed);
        for row in store.bans_since(revision).await? {
            revision = revision.max(row.revision);
            match read(&row) {
                Ok(ban) => self.take_over(ban),
                Err(error) => tracing::error!(network = row.network, "a ban is left out: {error}"),
            }
        }
        self.0.followed.fetch_max(revision, Relaxed);
        Ok(())
    }

    fn take_over(&self, ban: Ban) {
        self.0.bans.put(ban.network, |before| {
            let Some(before) = before.filter(|before| before.since >= ban.since) else { return Some(ban) };
            // The same ban: what is known of it here and there. One that began here later is stored soon.
            (before.since == ban.since).then(|| {
                let known = Ban::clone(before);
                let wrong = known.false_positive.load(Relaxed) || ban.false_positive.load(Relaxed);
                Ban { lifted: ban.lifted.or(known.lifted), false_positive: AtomicBool::new(wrong), ..known }
            })
        });
    }

    /// Stores what is not yet. For the end of the process; before it, [`Guard::keep_writing`] does.
    pub async fn write(&self, store: &Store) -> Result<(), StoreError> {
        loop {
            let some: Vec<_> = self.unwritten().iter().copied().take(AT_ONCE).collect();
            if some.is_empty() {
                return Ok(());
            }
            // Taken out before they are read: what changes from now on is written again.
            self.unwritten().retain(|network| !some.contains(network));
            let rows: Vec<_> =
                some.iter().filter_map(|network| self.0.bans.get(network)).map(|ban| row(&ban)).collect();
            if let Err(error) = store.put_bans(&rows).await {
                self.unwritten().extend(some);
                return Err(error);
            }
        }
    }

    /// Stores bans as they come, for as long as it runs.
    pub async fn keep_writing(&self, store: &Store) {
        loop {
            self.0.changed.notified().await;
            while let Err(error) = self.write(store).await {
                tracing::warn!("bans are not stored yet: {error}");
                tokio::time::sleep(AGAIN).await;
            }
        }
    }

    /// Removes what is over from the database. For a job, every hour or so.
    pub async fn purge(&self, store: &Store, now: OffsetDateTime) -> Result<u64, StoreError> {
        store.purge_bans(micros(now - KEPT)).await
    }

    /// Stores one ban and then has it hold here: for who waits for it.
    pub(super) async fn store(&self, store: &Store, ban: Ban) -> Result<Arc<Ban>, StoreError> {
        store.put_bans(&[row(&ban)]).await?;
        self.follow(store).await?;
        self.0.bans.get(&ban.network).ok_or(StoreError::Missing)
    }
}

fn row(ban: &Ban) -> BanRow {
    let lifted = ban.lifted.as_ref();
    BanRow {
        network: ban.network.to_string(),
        since_at: ban.since,
        until_at: ban.until,
        reason: ban.reason.as_str().to_owned(),
        note: ban.note.clone(),
        made_by: ban.made_by.clone(),
        refusals: ban.refusals.into(),
        earlier: ban.earlier.into(),
        false_positive: ban.false_positive.load(Relaxed),
        lifted_at: lifted.map(|lifted| lifted.at),
        lifted_as: lifted.map(|lifted| if lifted.wrong { "wrong" } else { "served" }.to_owned()),
        lift_note: lifted.map(|lifted| lifted.note.clone()),
        lifted_by: lifted.map(|lifted| lifted.by.clone()),
        revision: 0,
    }
}

fn read(row: &BanRow) -> Result<Ban, StoreError> {
    let corrupt = |what: &str| StoreError::Corrupt(format!("ban of {}: {what}", row.network));
    let network = network::parse(&row.network).map_err(|_| corrupt("network"))?;
    let reason = Reason::parse(&row.reason).ok_or_else(|| corrupt("reason"))?;
    let count = |count: i64| u32::try_from(count).map_err(|_| corrupt("count"));
    let mut ban = Ban::begin(network, reason, Duration::ZERO, count(row.earlier)?, row.since_at);
    ban.until = row.until_at;
    ban.note.clone_from(&row.note);
    ban.made_by.clone_from(&row.made_by);
    ban.refusals = count(row.refusals)?;
    ban.false_positive = AtomicBool::new(row.false_positive);
    ban.lifted = row.lifted_at.map(|at| Lifted {
        at,
        wrong: row.lifted_as.as_deref() == Some("wrong"),
        note: row.lift_note.clone().unwrap_or_default(),
        by: row.lifted_by.clone().unwrap_or_default(),
    });
    Ok(ban)
}
