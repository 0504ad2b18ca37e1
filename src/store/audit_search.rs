//! Records of the audit trail as people look for them: the newest first, by what is known of them. The statement holds only what is
//! asked for, so that the database finds the index for it.

use std::fmt::Write as _;

use sqlx::AssertSqlSafe;
use uuid::Uuid;

use super::audit::AuditRow;
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
}

enum Value<'a> {
    Text(&'a str),
    Number(i64),
    Id(Uuid),
}

impl<'a> AuditSelection<'a> {
    /// The statement that finds them, and what is put in for its parameters.
    fn statement(&self, most: i64) -> (String, Vec<Value<'a>>) {
        let (mut text, mut values) = ("SELECT * FROM audit_records WHERE 1 = 1".to_owned(), Vec::new());
        let mut and = |what: &str, value: Value<'a>| {
            values.push(value);
            _ = write!(text, " AND {}", what.replace('?', &format!("${}", values.len())));
        };
        let texts = [
            ("chain = ?", self.chain),
            // By the index of ids; names would need one of their own.
            ("user_id IN (SELECT id FROM users WHERE username = ?)", self.username),
            ("action = ?", self.action),
            ("server IS NOT NULL AND server = ?", self.server),
            ("name = ?", self.name),
            ("outcome = ?", self.outcome),
            ("address IS NOT NULL AND address = ?", self.address),
            ("client IS NOT NULL AND client = ?", self.client),
            ("request_id IS NOT NULL AND request_id = ?", self.request_id),
        ];
        for (what, value) in texts {
            if let Some(value) = value {
                and(what, Value::Text(value));
            }
        }
        if let Some(user) = self.user {
            and("user_id IS NOT NULL AND user_id = ?", Value::Id(user));
        }
        // Ids sort by time, to the millisecond.
        if let Some(from) = self.from {
            and("id >= ?", Value::Id(id_of(from)));
            and("at >= ?", Value::Number(from));
        }
        if let Some(to) = self.to {
            and("id < ?", Value::Id(id_of(to.saturating_add(999))));
            and("at < ?", Value::Number(to));
        }
        if let Some(before) = self.before {
            and("id < ?", Value::Id(before));
        }
        values.push(Value::Number(most));
        let end = values.len();
        // What indexes leave out, a parameter cannot say.
        for (common, value) in [("action <> 'tools/call'", self.action), ("outcome <> 'success'", self.outcome)] {
            if value.is_some_and(|value| !common.contains(&format!("'{value}'"))) {
                _ = write!(text, " AND {common}");
            }
        }
        _ = write!(text, " ORDER BY id DESC LIMIT ${end}");
        (text, values)
    }
}

/// The least id of a time.
fn id_of(micros: i64) -> Uuid {
    let millis = u64::try_from(micros.div_euclid(1_000)).unwrap_or_default();
    Uuid::from_u128(u128::from(millis) << 80)
}

impl Store {
    /// Up to `most` of them, the newest first.
    pub async fn audit_records(&self, which: &AuditSelection<'_>, most: i64) -> Result<Vec<AuditRow>, StoreError> {
        let (text, values) = which.statement(most);
        Ok(on!(read self, db => {
            let query = sqlx::query_as(AssertSqlSafe(text));
            let query = values.iter().fold(query, |query, value| match value {
                Value::Text(text) => query.bind(*text),
                Value::Number(number) => query.bind(*number),
                Value::Id(id) => query.bind(*id),
            });
            query.fetch_all(db).await?
        }))
    }

    /// One of them; of that chain, or of any.
    pub async fn audit_record(&self, chain: Option<&str>, id: Uuid) -> Result<Option<AuditRow>, StoreError> {
        let text = "SELECT * FROM audit_records WHERE id = $1";
        let found: Option<AuditRow> = on!(read self, db => sqlx::query_as(text).bind(id).fetch_optional(db).await?);
        Ok(found.filter(|row| chain.is_none_or(|chain| row.chain == chain)))
    }
}
