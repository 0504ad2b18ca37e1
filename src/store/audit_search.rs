//! Records of the audit trail as people look for them, by what is known of them, as far as they stand alone; and in which blocks there
//! may be others.

use std::fmt::Write as _;

use sqlx::AssertSqlSafe;
use uuid::Uuid;

use super::audit::AuditRow;
use super::audit_blocks::BlockColumns;
use super::{Store, StoreError};

/// Which records; what is none does not matter.
#[derive(Debug, Clone, Default)]
pub struct AuditSelection<'a> {
    /// Of that tenant; empty: of none.
    pub chain: Option<&'a str>,
    /// Of the account with this id.
    pub user: Option<Uuid>,
    /// Of the accounts that have this name now.
    pub username: Option<&'a str>,
    /// Of this kind.
    pub action: Option<&'a str>,
    /// At that server.
    pub server: Option<&'a str>,
    /// Of this tool, prompt, resource or path.
    pub name: Option<&'a str>,
    /// Which came out so.
    pub outcome: Option<&'a str>,
    /// From there.
    pub address: Option<&'a str>,
    /// Through that client.
    pub client: Option<&'a str>,
    /// Of that request.
    pub request_id: Option<&'a str>,
    /// That began then or later, microseconds since 1970.
    pub from: Option<i64>,
    /// That began before then.
    pub to: Option<i64>,
    /// Before the one of this id.
    pub before: Option<Uuid>,
    /// Behind this place of its chain: the oldest first then.
    pub after: Option<i64>,
}

/// What is put in for a parameter.
pub(super) enum Value<'a> {
    Text(&'a str),
    Number(i64),
    Id(Uuid),
}

/// A statement that grows, and what is put in for its parameters.
struct Statement<'a> {
    text: String,
    values: Vec<Value<'a>>,
}

impl<'a> Statement<'a> {
    fn new(text: &str) -> Self {
        Self { text: text.to_owned(), values: Vec::new() }
    }

    fn and(&mut self, what: &str, value: Value<'a>) {
        self.values.push(value);
        _ = write!(self.text, " AND {}", what.replace('?', &format!("${}", self.values.len())));
    }

    /// Those before that one, of blocks in the order of [`NEWEST`].
    fn and_below(&mut self, block: &'a BlockColumns) {
        let key = [Value::Id(block.greatest_id), Value::Text(&block.chain), Value::Number(block.first_seq)];
        let first = self.values.len() + 1;
        self.values.extend(key);
        let [second, third] = [first + 1, first + 2];
        _ = write!(self.text, " AND (greatest_id, chain, first_seq) < (${first}, ${second}, ${third})");
    }

    fn the_first(mut self, order: &str, most: i64) -> (String, Vec<Value<'a>>) {
        self.values.push(Value::Number(most));
        _ = write!(self.text, " ORDER BY {order} LIMIT ${}", self.values.len());
        (self.text, self.values)
    }
}

impl<'a> AuditSelection<'a> {
    /// Whether so few records are like that, or so many, that all times can be looked through.
    pub fn is_narrow(&self) -> bool {
        let place = [self.server, self.address, self.client, self.request_id, self.username];
        let by_name = self.name.is_some() && self.chain.is_some();
        let rare = self.action.is_some_and(|action| action != COMMON_ACTION)
            || self.outcome.is_some_and(|outcome| outcome != COMMON_OUTCOME);
        let any = self.name.is_some() || self.action.is_some() || self.outcome.is_some();
        self.user.is_some() || place.iter().any(Option::is_some) || by_name || rare || self.after.is_some() || !any
    }

    /// The statement that finds those that stand alone, and what is put in for its parameters.
    fn of_rows(&self, most: i64) -> (String, Vec<Value<'a>>) {
        let mut statement = Statement::new(&format!("SELECT * FROM audit_records WHERE {KEPT}"));
        let texts = [
            ("chain = ?", self.chain),
            ("user_id IN (SELECT id FROM users WHERE username = ?)", self.username),
            ("action = ?", self.action),
            ("server = ?", self.server),
            ("name = ?", self.name),
            ("outcome = ?", self.outcome),
            ("address = ?", self.address),
            ("client = ?", self.client),
            ("request_id = ?", self.request_id),
        ];
        for (what, value) in texts {
            if let Some(value) = value {
                statement.and(what, Value::Text(value));
            }
        }
        if let Some(user) = self.user {
            statement.and("user_id = ?", Value::Id(user));
        }
        if let Some(from) = self.from {
            statement.and("at >= ?", Value::Number(from));
        }
        if let Some(to) = self.to {
            statement.and("at < ?", Value::Number(to));
        }
        if let Some(before) = self.before {
            statement.and("id < ?", Value::Id(before));
        }
        statement.the_first("id DESC", most)
    }

    /// The same of blocks in which there may be some, by their chain and ids alone; those behind `below` in their order.
    pub(super) fn of_blocks<'b>(&'b self, below: Option<&'b BlockColumns>, most: i64) -> (String, Vec<Value<'b>>) {
        let mut statement =
            Statement::new("SELECT chain, first_seq, greatest_id, columns FROM audit_blocks WHERE 1 = 1");
        if let Some(chain) = self.chain {
            statement.and("chain = ?", Value::Text(chain));
        }
        // Ids sort by time, to the millisecond.
        if let Some(from) = self.from {
            statement.and("greatest_id >= ?", Value::Id(id_of(from)));
        }
        if let Some(to) = self.to {
            statement.and("least_id < ?", Value::Id(id_of(to.saturating_add(999))));
        }
        if let Some(before) = self.before {
            statement.and("least_id < ?", Value::Id(before));
        }
        if let Some(below) = below {
            statement.and_below(below);
        }
        statement.the_first(NEWEST, most)
    }
}

/// The order of blocks. Somebody who can write the database may give many the same greatest id: none is passed over for that.
const NEWEST: &str = "greatest_id DESC, chain DESC, first_seq DESC";
/// Of records that stand alone those that are not before the beginning of their chain: nobody wrote them there, or they are about to go.
const KEPT: &str = "seq > COALESCE((SELECT begin_seq FROM audit_chains c WHERE c.chain = audit_records.chain), 0)";
/// What most records are.
const COMMON_ACTION: &str = "tools/call";
const COMMON_OUTCOME: &str = "success";

/// The least id of a time.
pub fn id_of(micros: i64) -> Uuid {
    let millis = u64::try_from(micros.div_euclid(1_000)).unwrap_or_default();
    Uuid::from_u128(u128::from(millis) << 80)
}

/// What a statement finds, with what is put in for its parameters.
macro_rules! found {
    ($store:expr, $statement:expr) => {{
        let (text, values) = $statement;
        on!(read $store, db => {
            let query = sqlx::query_as(sqlx::AssertSqlSafe(text));
            let query = values.iter().fold(query, |query, value| match value {
                $crate::store::audit_search::Value::Text(text) => query.bind(*text),
                $crate::store::audit_search::Value::Number(number) => query.bind(*number),
                $crate::store::audit_search::Value::Id(id) => query.bind(*id),
            });
            query.fetch_all(db).await?
        })
    }};
}
pub(super) use found;

impl Store {
    /// Up to `most` of those that stand alone, the newest first.
    pub async fn audit_rows_like(&self, which: &AuditSelection<'_>, most: i64) -> Result<Vec<AuditRow>, StoreError> {
        Ok(found!(self, which.of_rows(most)))
    }

    /// The accounts that have this name now, of every tenant.
    pub async fn audit_users(&self, username: &str) -> Result<Vec<Uuid>, StoreError> {
        let text = "SELECT id FROM users WHERE username = $1";
        Ok(on!(read self, db => sqlx::query_scalar(text).bind(username).fetch_all(db).await?))
    }

    /// One of those that stand alone.
    pub async fn audit_row(&self, id: Uuid) -> Result<Option<AuditRow>, StoreError> {
        let text = format!("SELECT * FROM audit_records WHERE id = $1 AND {KEPT}");
        Ok(on!(read self, db => sqlx::query_as(AssertSqlSafe(text)).bind(id).fetch_optional(db).await?))
    }
}
