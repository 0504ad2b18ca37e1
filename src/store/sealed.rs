//! Which columns hold sealed values: the one list, for whoever seals, seals anew, and counts what names which key.

use serde_json::Value;
use sqlx::AssertSqlSafe;
use sqlx::types::Json;
use uuid::Uuid;

use super::tenants::tenant_of;
use super::{Store, StoreError};
use crate::crypto::{FROM_NEWEST, MARK};
use crate::id::TenantId;

/// A column that holds sealed values, as SQL sees it: the rows `t`, and what of them a value is bound to.
#[derive(Debug)]
pub struct Column {
    /// Table and column; authenticated with what is sealed there.
    pub name: &'static str,
    /// Under which key.
    pub under: Under,
    /// What becomes of a value whose key another took the place of.
    pub old: Old,
    /// The rows.
    rows: &'static str,
    tenant: &'static str,
    subject: &'static str,
    /// What a value is bound to besides the id of its row.
    about: &'static str,
    /// Whether nobody is at work on a row who would miss the value that was read; `{now}` is the time.
    idle: &'static str,
}

/// Under which key a value is sealed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Under {
    /// The master key.
    Master,
    /// Its tenant's.
    Tenant,
}

/// What becomes of a value that names an old key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Old {
    /// It is sealed anew. Its row has an `id`.
    Resealed,
    /// It is sealed anew, beside the others: its row has no `id`.
    ResealedApart,
    /// It is gone within minutes; the old key waits for that.
    RunsOut,
}

/// What servers are shown.
pub const SERVERS: Column = Column {
    name: "servers.secrets",
    under: Under::Tenant,
    old: Old::Resealed,
    rows: "servers t",
    tenant: "t.tenant_id",
    subject: "CAST(NULL AS UUID)",
    about: "t.spec",
    idle: "TRUE",
};
/// What identity providers gave for people.
pub const LOGINS: Column = Column {
    name: "logins.tokens",
    rows: "logins t",
    subject: "t.user_id",
    about: "CAST(NULL AS JSONB)",
    // Who asks a provider knows by the sealed tokens whether others took their place, and tries for up to an hour to write what it
    // gave, whoever asks meanwhile. Twice that, in microseconds, is long enough.
    idle: "((NOT t.asking OR t.ask_after < {now} - 7200000000)
        AND (t.cut_off_at IS NULL OR t.cut_off_at < {now} - 7200000000))",
    ..SERVERS
};
/// What was given for a refresh token, to give it once more.
pub const ANSWERS: Column = Column {
    name: "refresh_tokens.answer",
    old: Old::RunsOut,
    // Few have one, and these are found by an index; joined, all grants of a tenant would be looked through.
    rows: "refresh_tokens t",
    tenant: "(SELECT g.tenant_id FROM grants g WHERE g.id = t.grant_id)",
    subject: "(SELECT g.user_id FROM grants g WHERE g.id = t.grant_id)",
    ..LOGINS
};
/// What authorization servers of servers gave for people.
pub const CONNECTIONS: Column = Column {
    name: "connections.tokens",
    rows: "connections t",
    // As with logins.
    idle: "NOT (t.asking AND t.until > {now})",
    ..LOGINS
};
/// People on the way to such an authorization server.
pub const CONNECTION_ATTEMPTS: Column = Column {
    name: "connection_attempts.sent",
    old: Old::RunsOut,
    rows: "connection_attempts t",
    idle: "TRUE",
    ..LOGINS
};
/// Sign-ins under way.
pub const AUTHORIZATIONS: Column = Column {
    name: "authorizations.request",
    under: Under::Master,
    old: Old::RunsOut,
    rows: "authorizations t",
    ..SIGNING_KEYS
};
/// What the gateway signs with.
pub const SIGNING_KEYS: Column = Column {
    name: "signing_keys.sealed",
    under: Under::Master,
    rows: "signing_keys t",
    tenant: "CAST('default' AS TEXT)",
    about: "CAST(NULL AS JSONB)",
    ..SERVERS
};
/// What seals that which only programs keep.
pub const ID_KEYS: Column = Column { name: "id_keys.sealed", rows: "id_keys t", ..SIGNING_KEYS };
/// The keys of tenants. What they are bound to is the affair of `crypto`.
pub const DATA_KEYS: Column = Column {
    name: "data_keys.sealed",
    old: Old::ResealedApart,
    rows: "data_keys t",
    tenant: "t.tenant_id",
    ..SIGNING_KEYS
};

/// What signs the chains of the audit trail.
pub const AUDIT_KEYS: Column = Column { name: "audit_keys.sealed", rows: "audit_keys t", ..SIGNING_KEYS };

/// Each of them.
pub static ALL: [Column; 10] = [
    SERVERS,
    LOGINS,
    ANSWERS,
    CONNECTIONS,
    CONNECTION_ATTEMPTS,
    AUTHORIZATIONS,
    SIGNING_KEYS,
    ID_KEYS,
    AUDIT_KEYS,
    DATA_KEYS,
];

row! {
    /// A value that is to be sealed anew.
    #[derive(Debug)]
    pub struct SealedRow {
        /// Of the row.
        pub id: Uuid,
        /// Of which account.
        pub subject: Option<Uuid>,
        /// What it is bound to besides.
        pub about: Option<Json<Value>>,
        /// The value.
        pub sealed: Vec<u8>,
        /// Whether nobody is at work on the row who would miss it.
        pub idle: bool,
    }
}

row! {
    /// How many values begin alike.
    #[derive(Debug)]
    pub struct MarkCount {
        /// Whose.
        pub tenant_id: String,
        /// Their first bytes.
        pub mark: Vec<u8>,
        /// How many.
        pub count: i64,
    }
}

impl MarkCount {
    /// Whose.
    pub fn tenant(&self) -> Result<TenantId, StoreError> {
        tenant_of(&self.tenant_id)
    }
}

impl Column {
    /// Whether its values name such a key, and are sealed anew when that is an old one.
    pub fn is_resealed_under(&self, key: Under) -> bool {
        self.under == key && self.old == Old::Resealed
    }

    /// Its own name, without the table's.
    fn column(&self) -> &'static str {
        self.name.split_once('.').map_or(self.name, |(_, column)| column)
    }

    /// Its table.
    fn table(&self) -> &'static str {
        self.name.split_once('.').map_or(self.name, |(table, _)| table)
    }

    /// Counts, up to one, what of the tenant `$1` begins with `$2` or `$3`.
    pub(super) fn names(&self) -> String {
        let Self { rows, tenant, .. } = self;
        let column = self.column();
        format!(
            "SELECT COUNT(*) FROM (SELECT 1 FROM {rows} WHERE {tenant} = $1 AND t.{column} IS NOT NULL
            AND substr(t.{column}, 1, {MARK}) IN ($2, $3) LIMIT 1) AS named"
        )
    }

    /// The tenants of values that begin before `$1`.
    fn begin_before(&self) -> String {
        let Self { rows, tenant, .. } = self;
        let column = self.column();
        format!(
            "SELECT {tenant} AS tenant_id FROM {rows} WHERE t.{column} IS NOT NULL AND substr(t.{column}, 1, {MARK}) < $1"
        )
    }
}

impl Store {
    /// How many values of a tenant, or of all, begin alike.
    pub async fn count_marks(&self, column: &Column, tenant: Option<&TenantId>) -> Result<Vec<MarkCount>, StoreError> {
        let Column { rows, tenant: whose, .. } = column;
        let name = column.column();
        let text = format!(
            "SELECT {whose} AS tenant_id, substr(t.{name}, 1, {MARK}) AS mark, COUNT(*) AS count FROM {rows}
            WHERE t.{name} IS NOT NULL AND ($1 IS NULL OR {whose} = $1) GROUP BY 1, 2 ORDER BY 1, 2"
        );
        let tenant = tenant.map(TenantId::as_str);
        Ok(on!(read self, db => sqlx::query_as(AssertSqlSafe(text.as_str())).bind(tenant).fetch_all(db).await?))
    }

    /// The tenants that have keys whose place another took, or values that an older version sealed.
    pub async fn tenants_to_reseal(&self) -> Result<Vec<TenantId>, StoreError> {
        let older = ALL.iter().filter(|column| column.is_resealed_under(Under::Tenant)).map(Column::begin_before);
        let text = older
            .fold("SELECT tenant_id FROM data_keys WHERE retired_at IS NOT NULL".to_owned(), |text, more| {
                format!("{text} UNION {more}")
            });
        let ids: Vec<String> = on!(read self, db => {
            let query = sqlx::query_scalar(AssertSqlSafe(text.as_str())).bind(FROM_NEWEST.as_slice());
            query.fetch_all(db).await?
        });
        ids.iter().map(|id| tenant_of(id)).collect()
    }

    /// Up to `limit` values of a tenant that do not begin so, by the ids of their rows, those after `after`.
    pub async fn to_reseal(
        &self,
        column: &Column,
        tenant: &TenantId,
        mark: &[u8; MARK],
        after: Uuid,
        now: i64,
        limit: i64,
    ) -> Result<Vec<SealedRow>, StoreError> {
        let Column { rows, tenant: whose, subject, about, .. } = column;
        let (name, idle) = (column.column(), column.idle.replace("{now}", &now.to_string()));
        let text = format!(
            "SELECT t.id, {subject} AS subject, {about} AS about, t.{name} AS sealed, {idle} AS idle FROM {rows}
            WHERE {whose} = $1 AND t.{name} IS NOT NULL AND substr(t.{name}, 1, {MARK}) <> $2 AND t.id > $3
            ORDER BY t.id LIMIT $4"
        );
        Ok(on!(read self, db => {
            let query = sqlx::query_as(AssertSqlSafe(text.as_str())).bind(tenant.as_str()).bind(mark.as_slice());
            query.bind(after).bind(limit).fetch_all(db).await?
        }))
    }

    /// Puts values that were sealed anew in the place of the old ones, where these still are and nobody is at work on them; says how many.
    pub async fn reseal(&self, column: &Column, values: &[(SealedRow, Vec<u8>)], now: i64) -> Result<u64, StoreError> {
        let (table, name, idle) = (column.table(), column.column(), column.idle.replace("{now}", &now.to_string()));
        let text = format!("UPDATE {table} AS t SET {name} = $1 WHERE t.id = $2 AND t.{name} = $3 AND {idle}");
        Ok(on!(write self, tx => {
            let mut done = 0;
            for (old, new) in values {
                let query = sqlx::query(AssertSqlSafe(text.as_str())).bind(new).bind(old.id).bind(&old.sealed);
                done += query.execute(&mut *tx).await?.rows_affected();
            }
            done
        }))
    }
}
