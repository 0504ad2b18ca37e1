//! The audit trail: records that are only ever added, chained, and removed from the beginning; and how far journals are written here.

use std::sync::LazyLock;

use sqlx::AssertSqlSafe;
use uuid::Uuid;

use super::audit_blocks::{BlockRow, add_block};
use super::rollups::{Increments, add_increments};
use super::{Db, Store, StoreError, places};

row! {
    /// A row of `audit_records`: a record that stands alone, in no block yet. One that was read out of a block looks the same.
    #[derive(Debug, Clone, PartialEq, Eq)]
    pub struct AuditRow {
        /// Whose: a tenant, or empty.
        pub chain: String,
        /// Its place there.
        pub seq: i64,
        /// UUID version 7.
        pub id: Uuid,
        /// Microseconds since 1970.
        pub at: i64,
        /// What was done.
        pub action: String,
        /// How it came out.
        pub outcome: String,
        /// The account.
        pub user_id: Option<Uuid>,
        /// What it is called.
        pub username: Option<String>,
        /// The server.
        pub server: Option<String>,
        /// The tool, prompt, resource or path.
        pub name: Option<String>,
        /// Where it came from.
        pub address: Option<String>,
        /// The OAuth client.
        pub client: Option<String>,
        /// Names the request.
        pub request_id: Option<String>,
        /// The record.
        pub text: String,
        /// SHA-256 of the hash before it and the text.
        pub hash: Vec<u8>,
    }
}

row! {
    /// A row of `audit_chains`.
    #[derive(Debug, Clone, PartialEq, Eq)]
    pub struct ChainRow {
        /// Which one.
        pub chain: String,
        /// The last record that is kept no longer.
        pub begin_seq: i64,
        /// Its hash.
        pub begin_hash: Vec<u8>,
        /// When it was removed, microseconds since 1970; which key signed that, and the signature. Nobody did where none is gone.
        pub begin_at: i64,
        /// See `begin_at`.
        pub begin_key: Option<Uuid>,
        /// See `begin_at`.
        pub begin_signature: Option<Vec<u8>>,
        /// The last record.
        pub seq: i64,
        /// Its hash.
        pub hash: Vec<u8>,
        /// When it was written, microseconds since 1970.
        pub at: i64,
        /// Which key signed this.
        pub key_id: Uuid,
        /// The signature.
        pub signature: Vec<u8>,
        /// The last checkpoint.
        pub checkpoint_seq: i64,
        /// When it was made.
        pub checkpoint_at: i64,
    }
}

row! {
    /// A row of `audit_checkpoints`.
    #[derive(Debug, Clone, PartialEq, Eq)]
    pub struct CheckpointRow {
        /// Of which chain.
        pub chain: String,
        /// Its last record then.
        pub seq: i64,
        /// That one's hash.
        pub hash: Vec<u8>,
        /// When, microseconds since 1970.
        pub at: i64,
        /// Which key signed it.
        pub key_id: Uuid,
        /// The signature.
        pub signature: Vec<u8>,
    }
}

row! {
    /// A row of `audit_accepted`.
    #[derive(Debug, Clone, PartialEq, Eq)]
    pub struct AcceptedRow {
        /// Of which chain.
        pub chain: String,
        /// Its last record then.
        pub seq: i64,
        /// That one's hash.
        pub hash: Vec<u8>,
        /// When, microseconds since 1970.
        pub at: i64,
        /// Who took it as it is.
        pub author: String,
        /// Why.
        pub reason: String,
        /// What was wrong, JSON.
        pub findings: String,
        /// Which key signed it.
        pub key_id: Uuid,
        /// The signature.
        pub signature: Vec<u8>,
    }
}

row! {
    /// How far a chain is, of `audit_chains`.
    #[derive(Debug, Clone, PartialEq, Eq)]
    pub struct ChainHead {
        /// Which one.
        pub chain: String,
        /// Its last record.
        pub seq: i64,
        /// That one's hash.
        pub hash: Vec<u8>,
    }
}

row! {
    /// A row of `audit_keys`.
    #[derive(Debug, Clone, PartialEq, Eq)]
    pub struct AuditKeyRow {
        /// UUID version 7.
        pub id: Uuid,
        /// What verifies.
        pub public: Vec<u8>,
        /// What signs, sealed.
        pub sealed: Vec<u8>,
        /// Microseconds since 1970.
        pub created_at: i64,
    }
}

/// A step of a journal into the database.
#[derive(Debug, Clone, Copy)]
pub struct JournalStep {
    /// Whose journal.
    pub journal: Uuid,
    /// File and offset from which it goes.
    pub from: (i64, i64),
    /// To which.
    pub to: (i64, i64),
    /// When, microseconds since 1970.
    pub at: i64,
    /// Whether what is written outlives a power cut when it is said to be there.
    pub durable: bool,
    /// Since when chains moved of which the one of no tenant, the last one, is to say how far they are.
    pub heads_since: Option<i64>,
    /// Whether it is looked for records behind the heads of chains, which somebody else put there.
    pub look_behind: bool,
}

/// What is added to one chain.
#[derive(Debug)]
pub struct ChainPart {
    /// Records that stand alone, the last ones.
    pub rows: Vec<AuditRow>,
    /// And those before them that come as blocks.
    pub blocks: Vec<BlockRow>,
    /// The chain as it is then.
    pub head: ChainRow,
    /// A checkpoint, if it is time for one.
    pub checkpoint: Option<CheckpointRow>,
    /// What is taken as it is from now on, and with it where the chain begins.
    pub accepted: Option<AcceptedRow>,
}

/// Where a chain begins from now on.
#[derive(Debug)]
pub struct Beginning {
    /// When that was said, microseconds since 1970.
    pub at: i64,
    /// Which key signed it.
    pub key_id: Uuid,
    /// The signature.
    pub signature: Vec<u8>,
}

/// The chain of what belongs to no tenant is written last: it says how far the others are.
pub fn in_order(chains: impl IntoIterator<Item = String>) -> Vec<String> {
    let mut chains: Vec<_> = chains.into_iter().collect();
    chains.sort_by(|one, other| (one.is_empty(), one).cmp(&(other.is_empty(), other)));
    chains
}

/// Rows of one statement, of 15 columns each, and its text. Few texts, so that a connection has read each of them before.
type Inserts = LazyLock<[(usize, String); 3]>;
static NUMBERED: Inserts = LazyLock::new(|| [64, 8, 1].map(|count| (count, insert(true, count))));
static UNNUMBERED: Inserts = LazyLock::new(|| [64, 8, 1].map(|count| (count, insert(false, count))));

fn insert(numbered: bool, count: usize) -> String {
    let rows = places::rows(numbered, 15, count);
    format!(
        "INSERT INTO audit_records (chain, seq, id, at, action, outcome, user_id, username, server, name, address,
            client, request_id, text, hash) VALUES {rows}"
    )
}

/// The last record of a block, which comes with the hashes of all.
fn last_of(block: ChainHead) -> ChainHead {
    ChainHead { hash: block.hash[block.hash.len().saturating_sub(32)..].to_vec(), ..block }
}

/// A chain whose last record is not the one that its head says, if it has a head at all: nobody signed it so.
fn up_to(head: Option<ChainRow>, last: ChainHead) -> ChainRow {
    let ChainHead { chain, seq, hash } = last;
    let signature = Vec::new();
    match head {
        Some(head) => ChainRow { seq, hash, signature, ..head },
        None => ChainRow {
            chain,
            begin_seq: 0,
            begin_hash: Vec::new(),
            begin_at: 0,
            begin_key: None,
            begin_signature: None,
            seq,
            hash,
            at: 0,
            key_id: Uuid::nil(),
            signature,
            checkpoint_seq: seq,
            checkpoint_at: 0,
        },
    }
}

const PUT_CHAIN: &str = "INSERT INTO audit_chains (chain, begin_seq, begin_hash, seq, hash, at, key_id, signature,
        checkpoint_seq, checkpoint_at)
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)
    ON CONFLICT (chain) DO UPDATE SET seq = excluded.seq, hash = excluded.hash, at = excluded.at,
        key_id = excluded.key_id, signature = excluded.signature, checkpoint_seq = excluded.checkpoint_seq,
        checkpoint_at = excluded.checkpoint_at";
// One that stands there is of a state of the chain that was brought back to before it.
const PUT_CHECKPOINT: &str = "INSERT INTO audit_checkpoints (chain, seq, hash, at, key_id, signature)
    VALUES ($1, $2, $3, $4, $5, $6)
    ON CONFLICT (chain, seq) DO UPDATE SET hash = excluded.hash, at = excluded.at, key_id = excluded.key_id,
        signature = excluded.signature";
const PUT_ACCEPTED: &str =
    "INSERT INTO audit_accepted (chain, seq, hash, at, author, reason, findings, key_id, signature)
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)";
const PUT_BEGINNING: &str = "UPDATE audit_chains SET begin_seq = $1, begin_hash = $2, begin_at = $3, begin_key = $4,
    begin_signature = $5 WHERE chain = $6";
const LAST_RECORD: &str = "SELECT chain, seq, hash FROM audit_records WHERE chain = $1 ORDER BY seq DESC LIMIT 1";
// The hashes of all of its records: the last is the chain's then.
const LAST_BLOCK: &str =
    "SELECT chain, last_seq AS seq, hashes AS hash FROM audit_blocks WHERE chain = $1 ORDER BY first_seq DESC LIMIT 1";
const MOVED_CHAINS: &str = "SELECT chain, seq, hash FROM audit_chains WHERE chain <> '' AND at >= $1 ORDER BY chain";

macro_rules! bind_chain {
    ($text:expr, $row:expr) => {
        sqlx::query($text)
            .bind(&$row.chain)
            .bind($row.begin_seq)
            .bind(&$row.begin_hash)
            .bind($row.seq)
            .bind(&$row.hash)
            .bind($row.at)
            .bind($row.key_id)
            .bind(&$row.signature)
            .bind($row.checkpoint_seq)
            .bind($row.checkpoint_at)
    };
}

/// To which collector a chain is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// One of syslog.
    Syslog,
    /// One of OpenTelemetry.
    Otlp,
}

impl Way {
    fn name(self) -> &'static str {
        match self {
            Self::Syslog => "syslog",
            Self::Otlp => "otlp",
        }
    }
}

/// Waits until no other transaction writes to a chain of PostgreSQL's. One that is not there cannot be locked; its name can.
macro_rules! lock_chain {
    ($tx:ident, $chain:expr) => {{
        let lock = sqlx::query("SELECT pg_advisory_xact_lock(hashtext($1))").bind(format!("audit {}", $chain));
        lock.execute(&mut *$tx).await?;
    }};
}
pub(super) use lock_chain;

/// Reads a chain that is to be changed. Whoever is first makes the row that the others wait for; SQLite's transaction has taken everything
/// already.
macro_rules! locked_chain {
    ($postgres:expr, $tx:ident, $chain:expr) => {{
        let text = if $postgres {
            lock_chain!($tx, $chain);
            "SELECT * FROM audit_chains WHERE chain = $1 FOR UPDATE"
        } else {
            "SELECT * FROM audit_chains WHERE chain = $1"
        };
        let found: Option<ChainRow> = sqlx::query_as(text).bind($chain).fetch_optional(&mut *$tx).await?;
        found
    }};
}

impl Store {
    /// Begins a journal where it is not known yet; says how far it is written.
    pub async fn audit_journal(&self, journal: Uuid, now: i64) -> Result<(i64, i64), StoreError> {
        let begin = "INSERT INTO audit_journals (journal, segment, position, updated_at) VALUES ($1, 1, 0, $2)
            ON CONFLICT (journal) DO NOTHING";
        let read = "SELECT segment, position FROM audit_journals WHERE journal = $1";
        Ok(on!(write self, tx => {
            sqlx::query(begin).bind(journal).bind(now).execute(&mut *tx).await?;
            sqlx::query_as(read).bind(journal).fetch_one(&mut *tx).await?
        }))
    }

    /// Forgets a journal that is written whole and read by nobody any more.
    pub async fn forget_audit_journal(&self, journal: Uuid) -> Result<(), StoreError> {
        on!(write self, tx => {
            sqlx::query("DELETE FROM audit_journals WHERE journal = $1").bind(journal).execute(&mut *tx).await?;
        });
        Ok(())
    }

    /// Writes what a journal holds, all of it or nothing. `chains` are [`in_order`], so that no two processes wait for one another; `link`
    /// makes of each, of how it stands, and of the heads of those that moved, what is to be added, or gives up; `increments` is what is
    /// counted of all of it.
    ///
    /// # Errors
    ///
    /// [`StoreError::Stale`] when the journal is not as far as the step says, as it was written already; and when `link` gives up.
    pub async fn write_audit(
        &self,
        step: JournalStep,
        chains: &[String],
        mut link: impl FnMut(&str, Option<ChainRow>, &[ChainHead]) -> Option<ChainPart> + Send,
        increments: &Increments<'_>,
    ) -> Result<(), StoreError> {
        let moved = "UPDATE audit_journals SET segment = $1, position = $2, updated_at = $3
            WHERE journal = $4 AND segment = $5 AND position = $6";
        let postgres = matches!(self.db, Db::Postgres(_));
        macro_rules! written {
            ($tx:ident) => {{
                let moved = sqlx::query(moved).bind(step.to.0).bind(step.to.1).bind(step.at);
                let moved = moved.bind(step.journal).bind(step.from.0).bind(step.from.1);
                if moved.execute(&mut *$tx).await?.rows_affected() == 0 {
                    return Err(StoreError::Stale);
                }
                let (mut rows, mut blocks) = (Vec::new(), Vec::new());
                for chain in chains {
                    let mut before = locked_chain!(postgres, $tx, chain);
                    if step.look_behind || before.is_none() {
                        let last: Option<ChainHead> =
                            sqlx::query_as(LAST_RECORD).bind(chain).fetch_optional(&mut *$tx).await?;
                        let block: Option<ChainHead> =
                            sqlx::query_as(LAST_BLOCK).bind(chain).fetch_optional(&mut *$tx).await?;
                        let last = last.into_iter().chain(block.map(last_of)).max_by_key(|last| last.seq);
                        let seq = before.as_ref().map_or(0, |before| before.seq);
                        if let Some(last) = last.filter(|last| last.seq > seq) {
                            before = Some(up_to(before, last));
                        }
                    }
                    let mut heads: Vec<ChainHead> = Vec::new();
                    if let Some(since) = step.heads_since.filter(|_| chain.is_empty()) {
                        heads = sqlx::query_as(MOVED_CHAINS).bind(since).fetch_all(&mut *$tx).await?;
                    }
                    let Some(part) = link(chain, before, &heads) else { return Err(StoreError::Stale) };
                    rows.extend(part.rows);
                    blocks.extend(part.blocks);
                    bind_chain!(PUT_CHAIN, part.head).execute(&mut *$tx).await?;
                    if let Some(point) = &part.checkpoint {
                        let query = sqlx::query(PUT_CHECKPOINT).bind(&point.chain).bind(point.seq).bind(&point.hash);
                        query.bind(point.at).bind(point.key_id).bind(&point.signature).execute(&mut *$tx).await?;
                    }
                    if let Some(row) = &part.accepted {
                        let query =
                            sqlx::query(PUT_ACCEPTED).bind(&row.chain).bind(row.seq).bind(&row.hash).bind(row.at);
                        let query = query.bind(&row.author).bind(&row.reason).bind(&row.findings);
                        query.bind(row.key_id).bind(&row.signature).execute(&mut *$tx).await?;
                        let head = &part.head;
                        let query = sqlx::query(PUT_BEGINNING).bind(head.begin_seq).bind(&head.begin_hash);
                        let query = query.bind(head.begin_at).bind(head.begin_key).bind(&head.begin_signature);
                        query.bind(chain).execute(&mut *$tx).await?;
                    }
                }
                for block in &blocks {
                    add_block!($tx, block);
                }
                let inserts = if postgres { &NUMBERED } else { &UNNUMBERED };
                let mut rest = &rows[..];
                while !rest.is_empty() {
                    let (count, text) = inserts.iter().find(|(count, _)| *count <= rest.len()).unwrap_or(&inserts[2]);
                    let (now, more) = rest.split_at(*count);
                    rest = more;
                    let query = sqlx::query(AssertSqlSafe(text.as_str()));
                    let query = now.iter().fold(query, |query, row| {
                        query
                            .bind(&row.chain)
                            .bind(row.seq)
                            .bind(row.id)
                            .bind(row.at)
                            .bind(&row.action)
                            .bind(&row.outcome)
                            .bind(row.user_id)
                            .bind(row.username.as_deref())
                            .bind(row.server.as_deref())
                            .bind(row.name.as_deref())
                            .bind(row.address.as_deref())
                            .bind(row.client.as_deref())
                            .bind(row.request_id.as_deref())
                            .bind(&row.text)
                            .bind(&row.hash)
                    });
                    query.execute(&mut *$tx).await?;
                }
                add_increments!($tx, increments, postgres);
            }};
        }
        if step.durable {
            on!(write self, tx => written!(tx));
        } else {
            on!(brief self, tx => written!(tx));
        }
        Ok(())
    }

    /// The keys that sign heads and checkpoints, oldest first.
    pub async fn audit_keys(&self) -> Result<Vec<AuditKeyRow>, StoreError> {
        let text = "SELECT * FROM audit_keys ORDER BY created_at, id";
        Ok(on!(read self, db => sqlx::query_as(text).fetch_all(db).await?))
    }

    /// Keeps one, unless there are more than `known`: of several processes, one is first.
    pub async fn add_audit_key(&self, row: &AuditKeyRow, known: i64) -> Result<(), StoreError> {
        let text = "INSERT INTO audit_keys (id, public, sealed, created_at)
            SELECT $1, $2, $3, $4 WHERE (SELECT count(*) FROM audit_keys) <= $5";
        let postgres = matches!(self.db, Db::Postgres(_));
        on!(write self, tx => {
            if postgres {
                // Two that count at once both find none.
                sqlx::query("SELECT pg_advisory_xact_lock(hashtext('audit key'))").execute(&mut *tx).await?;
            }
            let query = sqlx::query(text).bind(row.id).bind(&row.public).bind(&row.sealed);
            query.bind(row.created_at).bind(known).execute(&mut *tx).await?;
        });
        Ok(())
    }

    /// All chains.
    pub async fn audit_chains(&self) -> Result<Vec<ChainRow>, StoreError> {
        let text = "SELECT * FROM audit_chains ORDER BY chain";
        Ok(on!(read self, db => sqlx::query_as(text).fetch_all(db).await?))
    }

    /// What was taken as it is, of a chain; in order.
    pub async fn audit_accepted(&self, chain: &str) -> Result<Vec<AcceptedRow>, StoreError> {
        let text = "SELECT * FROM audit_accepted WHERE chain = $1 ORDER BY seq";
        Ok(on!(read self, db => sqlx::query_as(text).bind(chain).fetch_all(db).await?))
    }

    /// One chain.
    pub async fn audit_chain(&self, chain: &str) -> Result<Option<ChainRow>, StoreError> {
        let text = "SELECT * FROM audit_chains WHERE chain = $1";
        Ok(on!(read self, db => sqlx::query_as(text).bind(chain).fetch_optional(db).await?))
    }

    /// The last record of a chain, by its head; of one without, none.
    pub async fn audit_last(&self, chain: &str) -> Result<i64, StoreError> {
        let text = "SELECT seq FROM audit_chains WHERE chain = $1";
        let last: Option<i64> = on!(read self, db => sqlx::query_scalar(text).bind(chain).fetch_optional(db).await?);
        Ok(last.unwrap_or_default())
    }

    /// The checkpoints of a chain, oldest first.
    pub async fn audit_checkpoints(&self, chain: &str) -> Result<Vec<CheckpointRow>, StoreError> {
        let text = "SELECT * FROM audit_checkpoints WHERE chain = $1 ORDER BY seq";
        Ok(on!(read self, db => sqlx::query_as(text).bind(chain).fetch_all(db).await?))
    }

    /// The chains of which not all was sent this way.
    pub async fn audit_unsent(&self, way: Way) -> Result<Vec<String>, StoreError> {
        let text = "SELECT c.chain FROM audit_chains c LEFT JOIN audit_sent_to s ON s.chain = c.chain AND s.way = $1
            WHERE s.seq IS NULL OR s.seq < c.seq ORDER BY c.chain";
        Ok(on!(read self, db => sqlx::query_scalar(text).bind(way.name()).fetch_all(db).await?))
    }

    /// Takes it on to send a chain until that time; says how far it was sent, or none where another process is at it.
    pub async fn claim_audit_sending(
        &self,
        way: Way,
        chain: &str,
        now: i64,
        until: i64,
    ) -> Result<Option<i64>, StoreError> {
        let begin = "INSERT INTO audit_sent_to (way, chain, seq, until_at) VALUES ($1, $2, 0, 0)
            ON CONFLICT (way, chain) DO NOTHING";
        let claim =
            "UPDATE audit_sent_to SET until_at = $1 WHERE way = $2 AND chain = $3 AND until_at < $4 RETURNING seq";
        Ok(on!(brief self, tx => {
            sqlx::query(begin).bind(way.name()).bind(chain).execute(&mut *tx).await?;
            let claim = sqlx::query_scalar(claim).bind(until).bind(way.name()).bind(chain).bind(now);
            claim.fetch_optional(&mut *tx).await?
        }))
    }

    /// A chain was sent so far by who has it until then; another process may go on. Nothing, where one does already.
    pub async fn audit_was_sent(&self, way: Way, chain: &str, seq: i64, until: i64) -> Result<(), StoreError> {
        let text = "UPDATE audit_sent_to SET seq = $1, until_at = 0 WHERE way = $2 AND chain = $3 AND until_at = $4";
        on!(brief self, tx => {
            sqlx::query(text).bind(seq).bind(way.name()).bind(chain).bind(until).execute(&mut *tx).await?;
        });
        Ok(())
    }

    /// The chains, and for how many days the records of each are kept; those of no tenant as long as those of the first one, and of
    /// one that is gone nobody says.
    pub async fn audit_retention(&self) -> Result<Vec<(String, Option<i64>)>, StoreError> {
        let text = "SELECT c.chain, t.audit_days FROM audit_chains c LEFT JOIN tenants t
            ON t.id = CASE WHEN c.chain IN ('', '@platform') THEN 'default' ELSE c.chain END ORDER BY c.chain";
        Ok(on!(read self, db => sqlx::query_as(text).fetch_all(db).await?))
    }

    /// Has a chain begin behind its next checkpoint, if that was made before that time, and removes the records before, a block when all of
    /// it may go; says how many, or none if there is no such checkpoint, or `sign` does not sign it.
    pub async fn prune_audit_chain(
        &self,
        chain: &str,
        before: i64,
        mut sign: impl FnMut(&ChainRow, &CheckpointRow) -> Option<Beginning> + Send,
    ) -> Result<Option<u64>, StoreError> {
        let next = "SELECT * FROM audit_checkpoints WHERE chain = $1 AND seq > $2 AND at < $3 ORDER BY seq LIMIT 1";
        let remove = "DELETE FROM audit_records WHERE chain = $1 AND seq <= $2";
        // Somebody may have put in one that is said to be longer than any is, or to end before it begins.
        let of_blocks = "SELECT CAST(COALESCE(sum(CASE WHEN last_seq < first_seq THEN 0
            WHEN last_seq > first_seq + 255 THEN 256 ELSE last_seq - first_seq + 1 END), 0) AS BIGINT) FROM audit_blocks
            WHERE chain = $1 AND first_seq <= $2 AND last_seq <= $2";
        let remove_blocks = "DELETE FROM audit_blocks WHERE chain = $1 AND first_seq <= $2 AND last_seq <= $2";
        let older = "DELETE FROM audit_checkpoints WHERE chain = $1 AND seq < $2";
        let postgres = matches!(self.db, Db::Postgres(_));
        Ok(on!(write self, tx => {
            let Some(head) = locked_chain!(postgres, tx, chain) else { return Ok(None) };
            let next = sqlx::query_as(next).bind(chain).bind(head.begin_seq).bind(before);
            let next: Option<CheckpointRow> = next.fetch_optional(&mut *tx).await?;
            let Some((point, begin)) = next.and_then(|point| sign(&head, &point).map(|begin| (point, begin))) else {
                return Ok(None);
            };
            let query = sqlx::query(PUT_BEGINNING).bind(point.seq).bind(&point.hash).bind(begin.at);
            query.bind(begin.key_id).bind(&begin.signature).bind(chain).execute(&mut *tx).await?;
            sqlx::query(older).bind(chain).bind(point.seq).execute(&mut *tx).await?;
            let in_blocks: i64 = sqlx::query_scalar(of_blocks).bind(chain).bind(point.seq).fetch_one(&mut *tx).await?;
            sqlx::query(remove_blocks).bind(chain).bind(point.seq).execute(&mut *tx).await?;
            let alone = sqlx::query(remove).bind(chain).bind(point.seq).execute(&mut *tx).await?.rows_affected();
            Some(alone + u64::try_from(in_blocks).unwrap_or_default())
        }))
    }

    /// Up to `most` records of a chain behind that place that stand alone, in their order.
    pub async fn audit_rows(&self, chain: &str, after: i64, most: i64) -> Result<Vec<AuditRow>, StoreError> {
        let text = "SELECT * FROM audit_records WHERE chain = $1 AND seq > $2 ORDER BY seq LIMIT $3";
        Ok(on!(read self, db => sqlx::query_as(text).bind(chain).bind(after).bind(most).fetch_all(db).await?))
    }
}
