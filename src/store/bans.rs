//! Bans of addresses and networks: the last one of each, what a process has to know to go on where another one was.

use std::ops::Range;

use super::{Store, StoreError};

row! {
    /// A row of `bans`; times in microseconds since 1970.
    #[derive(Debug, Clone, PartialEq, Eq)]
    pub struct BanRow {
        /// In CIDR notation.
        pub network: String,
        /// Since when.
        pub since_at: i64,
        /// Until when.
        pub until_at: i64,
        /// `refusals`, `neighbours` or `hand`.
        pub reason: String,
        /// In words.
        pub note: String,
        /// By whom, if not by itself.
        pub made_by: Option<String>,
        /// Refusals within an hour.
        pub refusals: i64,
        /// Bans before.
        pub earlier: i64,
        /// Whether it turned out to be wrong.
        pub false_positive: bool,
        /// When it was taken back.
        pub lifted_at: Option<i64>,
        /// `wrong` or `served`.
        pub lifted_as: Option<String>,
        /// In words.
        pub lift_note: Option<String>,
        /// By whom.
        pub lifted_by: Option<String>,
        /// When it was written, by the counter of that.
        pub revision: i64,
    }
}

const MOVE: &str = "UPDATE counters SET value = value + 1 WHERE name = 'bans_revision'";
const REVISION: &str = "SELECT value FROM counters WHERE name = 'bans_revision'";

/// An older ban never takes the place of a newer one. Of the same ban, what any process learned of it stays.
const PUT: &str =
    "INSERT INTO bans (network, since_at, until_at, reason, note, made_by, refusals, earlier, false_positive,
        lifted_at, lifted_as, lift_note, lifted_by, revision)
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14)
    ON CONFLICT (network) DO UPDATE SET since_at = excluded.since_at, until_at = excluded.until_at,
        reason = excluded.reason, note = excluded.note, made_by = excluded.made_by, refusals = excluded.refusals,
        earlier = excluded.earlier,
        false_positive = excluded.false_positive OR (bans.false_positive AND bans.since_at = excluded.since_at),
        lifted_at = CASE WHEN excluded.lifted_at IS NULL AND bans.since_at = excluded.since_at
            THEN bans.lifted_at ELSE excluded.lifted_at END,
        lifted_as = CASE WHEN excluded.lifted_at IS NULL AND bans.since_at = excluded.since_at
            THEN bans.lifted_as ELSE excluded.lifted_as END,
        lift_note = CASE WHEN excluded.lifted_at IS NULL AND bans.since_at = excluded.since_at
            THEN bans.lift_note ELSE excluded.lift_note END,
        lifted_by = CASE WHEN excluded.lifted_at IS NULL AND bans.since_at = excluded.since_at
            THEN bans.lifted_by ELSE excluded.lifted_by END,
        revision = excluded.revision
    WHERE bans.since_at <= excluded.since_at";

macro_rules! put {
    ($tx:ident, $rows:expr) => {{
        sqlx::query(MOVE).execute(&mut *$tx).await?;
        let revision: i64 = sqlx::query_scalar(REVISION).fetch_one(&mut *$tx).await?;
        for row in $rows {
            sqlx::query(PUT)
                .bind(&row.network)
                .bind(row.since_at)
                .bind(row.until_at)
                .bind(&row.reason)
                .bind(&row.note)
                .bind(row.made_by.as_deref())
                .bind(row.refusals)
                .bind(row.earlier)
                .bind(row.false_positive)
                .bind(row.lifted_at)
                .bind(row.lifted_as.as_deref())
                .bind(row.lift_note.as_deref())
                .bind(row.lifted_by.as_deref())
                .bind(revision)
                .execute(&mut *$tx)
                .await?;
        }
    }};
}

impl Store {
    /// Writes bans, and tells other processes. Their revision is set here.
    pub async fn put_bans(&self, rows: &[BanRow]) -> Result<(), StoreError> {
        use super::announcements::ANNOUNCE_BANS;
        super::on!(@write self, durable, tx => put!(tx, rows), {
            put!(tx, rows);
            sqlx::query(ANNOUNCE_BANS).execute(&mut *tx).await?;
        });
        Ok(())
    }

    /// Those that were written after that revision, in the order of it.
    pub async fn bans_since(&self, revision: i64) -> Result<Vec<BanRow>, StoreError> {
        let text = "SELECT * FROM bans WHERE revision > $1 ORDER BY revision";
        Ok(on!(read self, db => sqlx::query_as(text).bind(revision).fetch_all(db).await?))
    }

    /// Those that began in that time, microseconds since 1970, the oldest first. Of each network the last one is known.
    pub async fn bans_within(&self, Range { start, end }: Range<i64>) -> Result<Vec<BanRow>, StoreError> {
        let text = "SELECT * FROM bans WHERE since_at >= $1 AND since_at < $2 ORDER BY since_at, network LIMIT 1000";
        Ok(on!(read self, db => sqlx::query_as(text).bind(start).bind(end).fetch_all(db).await?))
    }

    /// Removes those that ended before that time; says how many.
    pub async fn purge_bans(&self, before: i64) -> Result<u64, StoreError> {
        let text = "DELETE FROM bans WHERE until_at < $1";
        Ok(on!(brief self, tx => sqlx::query(text).bind(before).execute(&mut *tx).await?.rows_affected()))
    }
}
