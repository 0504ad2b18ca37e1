//! What is shown of one look: some figures of the whole, and three tables.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::look::Lately;
use super::scrape::Calls;

/// What is in a column.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unit {
    Text,
    Count,
    /// Of a second.
    Rate,
    Millis,
    /// Of a whole.
    Part,
}

/// A column: its heading, its name in documents, what is in it.
#[derive(Debug)]
pub(super) struct Column {
    pub(super) head: &'static str,
    key: &'static str,
    pub(super) unit: Unit,
}

const fn column(head: &'static str, key: &'static str, unit: Unit) -> Column {
    Column { head, key, unit }
}

const RATE: Column = column("REQ/S", "requests_per_second", Unit::Rate);
const ERRORS: Column = column("ERR/S", "errors_per_second", Unit::Rate);
const REFUSED: Column = column("REFUSED/S", "refused_per_second", Unit::Rate);
const P95: Column = column("P95", "p95", Unit::Millis);

const TENANTS: [Column; 8] = [
    column("TENANT", "tenant_id", Unit::Text),
    RATE,
    ERRORS,
    REFUSED,
    P95,
    column("PEOPLE", "active_users", Unit::Count),
    column("SESSIONS", "sessions", Unit::Count),
    column("LAST MINUTE", "requests_last_minute", Unit::Count),
];
const SERVERS: [Column; 9] = [
    column("SERVER", "server", Unit::Text),
    RATE,
    ERRORS,
    REFUSED,
    P95,
    column("IN FLIGHT", "in_flight", Unit::Count),
    column("WAITING", "waiting", Unit::Count),
    column("LIMIT", "limit", Unit::Count),
    column("USED", "pool_utilization", Unit::Part),
];
const TOOLS: [Column; 6] =
    [column("TOOL", "tool", Unit::Text), column("SERVER", "server", Unit::Text), RATE, ERRORS, REFUSED, P95];

/// The three tables.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Tenants,
    Servers,
    Tools,
}

impl Kind {
    pub(super) const ALL: [Self; 3] = [Self::Tenants, Self::Servers, Self::Tools];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Tenants => "tenants",
            Self::Servers => "servers",
            Self::Tools => "tools",
        }
    }

    pub(super) fn columns(self) -> &'static [Column] {
        match self {
            Self::Tenants => &TENANTS,
            Self::Servers => &SERVERS,
            Self::Tools => &TOOLS,
        }
    }
}

/// A cell; `Null` where nothing was measured.
pub(super) type Row = Vec<Value>;

/// What is shown.
#[derive(Debug, Default)]
pub(super) struct Figures {
    /// Rates and what reports tell of the whole, as in documents.
    pub(super) whole: Value,
    tables: [Vec<Row>; 3],
    /// Why no rate is known.
    pub(super) without: Option<String>,
}

impl Figures {
    pub(super) fn of(status: &Value, pools: &Value, lately: Option<&Lately>, without: Option<String>) -> Self {
        let all = |lately: &Lately, of: fn(&Calls) -> f64| {
            // The sum of nothing would be -0.
            lately.tenants.values().map(of).fold(0.0, |sum, count| sum + count) / lately.seconds
        };
        let sum = |of: fn(&Calls) -> f64| lately.map(|lately| all(lately, of));
        let sessions = rows(status, "tenants").filter_map(|tenant| tenant["sessions"].as_i64()).sum::<i64>();
        let whole = json!({
            "at": OffsetDateTime::now_utc().format(&Rfc3339).ok(),
            "window_seconds": lately.map(|lately| lately.seconds),
            "requests_per_second": sum(|calls| calls.all),
            "errors_per_second": sum(|calls| calls.errors),
            "refused_per_second": sum(|calls| calls.limited),
            "active_users": status["active_users"],
            "sessions": sessions,
            "resource_utilization": status["resource_utilization"],
            "rate_limiting": status["rate_limiting"],
            "connection_pool": {
                "limit": pools["limit"], "in_flight": pools["in_flight"], "waiting": pools["waiting"],
                "pool_utilization": pools["pool_utilization"],
            },
        });
        Self { whole, tables: [tenants(status, lately), servers(pools, lately), tools(lately)], without }
    }

    pub(super) fn table(&self, kind: Kind) -> &[Row] {
        &self.tables[kind as usize]
    }

    /// As a document, under `--json`.
    pub(super) fn document(&self, gateway: &str) -> Value {
        let mut document = self.whole.clone();
        document["gateway"] = gateway.into();
        for kind in Kind::ALL {
            let of = |row: &Row| {
                let fields = kind.columns().iter().zip(row).map(|(column, cell)| (column.key.to_owned(), cell.clone()));
                Value::from(fields.collect::<Map<_, _>>())
            };
            document[kind.name()] = self.table(kind).iter().map(of).collect();
        }
        document
    }
}

fn rows<'a>(report: &'a Value, list: &str) -> impl Iterator<Item = &'a Value> {
    report[list].as_array().into_iter().flatten()
}

/// Rates and times of calls, in the order of the columns; of no calls, if there is a window to speak of, none a second.
fn rates(lately: Option<&Lately>, calls: Option<&Calls>) -> [Value; 4] {
    let Some(lately) = lately else { return [const { Value::Null }; 4] };
    let nothing = Calls::default();
    let calls = calls.unwrap_or(&nothing);
    let rate = |count: f64| Value::from(count / lately.seconds);
    let p95 = calls.quantile(0.95).map(|seconds| seconds * 1e3);
    [rate(calls.all), rate(calls.errors), rate(calls.limited), p95.into()]
}

fn tenants(status: &Value, lately: Option<&Lately>) -> Vec<Row> {
    let mut there: BTreeMap<&str, Option<&Value>> =
        lately.into_iter().flat_map(|lately| lately.tenants.keys()).map(|tenant| (tenant.as_str(), None)).collect();
    for tenant in rows(status, "tenants") {
        there.insert(tenant["tenant_id"].as_str().unwrap_or_default(), Some(tenant));
    }
    let row = |(name, told): (&str, Option<&Value>)| {
        let calls = lately.and_then(|lately| lately.tenants.get(name));
        let of = |field: &str| told.map_or(Value::Null, |tenant| tenant[field].clone());
        let figures = ["active_users", "sessions", "requests_last_minute"].map(of);
        [Value::from(name)].into_iter().chain(rates(lately, calls)).chain(figures).collect()
    };
    there.into_iter().map(row).collect()
}

/// Of all replicas of a server, and of all servers of a name.
fn servers(pools: &Value, lately: Option<&Lately>) -> Vec<Row> {
    let mut there: BTreeMap<&str, Vec<&Value>> =
        lately.into_iter().flat_map(|lately| lately.servers.keys()).map(|server| (server.as_str(), vec![])).collect();
    for pool in rows(pools, "pools") {
        there.entry(pool["server"].as_str().unwrap_or_default()).or_default().push(pool);
    }
    let row = |(name, pools): (&str, Vec<&Value>)| {
        let calls = lately.and_then(|lately| lately.servers.get(name));
        let sum = |field: &str| {
            let all: Vec<u64> = pools.iter().filter_map(|pool| pool[field].as_u64()).collect();
            if all.is_empty() { Value::Null } else { all.into_iter().sum::<u64>().into() }
        };
        let used: Vec<f64> = pools.iter().filter_map(|pool| pool["pool_utilization"].as_f64()).collect();
        let most = used.into_iter().reduce(f64::max);
        let figures = [sum("in_flight"), sum("waiting"), sum("limit"), most.into()];
        [Value::from(name)].into_iter().chain(rates(lately, calls)).chain(figures).collect()
    };
    there.into_iter().map(row).collect()
}

fn tools(lately: Option<&Lately>) -> Vec<Row> {
    let row = |((server, tool), calls): (&(String, String), &Calls)| {
        let names = [Value::from(tool.as_str()), Value::from(server.as_str())];
        names.into_iter().chain(rates(lately, Some(calls))).collect()
    };
    lately.into_iter().flat_map(|lately| &lately.tools).map(row).collect()
}
