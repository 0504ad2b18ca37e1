//! How long it takes to look into a long audit trail, and by which indexes. A measurement, not a test.

use std::sync::Arc;
use std::time::{Duration, Instant};

use mcp_registry_gateway::audit::{Drain, Trail, pack, search};
use mcp_registry_gateway::config::{DotEnv, Settings};
use mcp_registry_gateway::crypto::{MasterKey, Sealer};
use mcp_registry_gateway::id::{Principal, Slug, TenantId};
use mcp_registry_gateway::store::audit_search::AuditSelection;
use mcp_registry_gateway::store::{micros, now};
use mcp_registry_gateway::telemetry::{Actor, Metrics, Operation, Outcome, RequestId, Sink};
use sqlx::{Connection as _, Row as _};
use uuid::Uuid;

use crate::rollups::analytics;
use crate::store_databases::Database;

const RECORDS: u32 = 1_000_000;

fn call(actors: &[Arc<Actor>], servers: &[Slug], number: u32) -> Operation {
    let of = |count: usize, salt: u32| (number.wrapping_mul(2_654_435_761) ^ salt) as usize % count;
    let mut call = Operation::start(RequestId::new(), "/mcp/{server}");
    call.set_method(if number.is_multiple_of(10) { "tools/list" } else { "tools/call" });
    call.who = Some(Arc::clone(&actors[of(actors.len(), 1)]));
    call.server = Some(servers[of(servers.len(), 2)].clone());
    call.name = Some(format!("tool_{}", of(40, 3)).into());
    call.address = Some(std::net::Ipv4Addr::from(0x0a00_0000 + number % 500).into());
    call.finish(if number.is_multiple_of(200) { Outcome::Denied("policy") } else { Outcome::Success });
    call
}

/// The median and the longest of some looks.
async fn measure(what: &str, store: &mcp_registry_gateway::store::Store, which: AuditSelection<'_>) {
    let mut took = Vec::new();
    let mut found = 0;
    for _ in 0..9 {
        let began = Instant::now();
        found = search(store, &which, 101).await.unwrap().len();
        took.push(began.elapsed());
    }
    took.sort();
    eprintln!("{what:42} {found:4} rows, median {:?}, longest {:?}", took[4], took[8]);
    assert!(took[4] < Duration::from_millis(200), "{what} takes too long");
}

async fn scale(database: Database) {
    let (store, sealer) = (database.open().await, Sealer::new(&MasterKey::generate()));
    let base = std::env::temp_dir().join(format!("mcp-gateway-audit-{}", Uuid::now_v7()));
    let mut settings = Settings::from_args(Vec::<String>::new(), &DotEnv::default()).unwrap().audit;
    settings.journal_max_bytes = 4 << 30;
    let trail = Trail::new(Uuid::now_v7(), settings);
    trail.open(&base).unwrap();
    let actor = |number: u128| {
        Arc::new(Actor {
            tenant: TenantId::default_tenant(),
            principal: Principal { issuer: "local".into(), subject: number.to_string().into() },
            user: Uuid::from_u128(number),
            username: format!("user-{number}").into(),
            role: "user",
            session_type: "api_key",
            credential: Uuid::from_u128(number << 64),
            client: None,
        })
    };
    let actors: Vec<_> = (0..500).map(actor).collect();
    let servers: Vec<_> = (0..20).map(|number| Slug::parse(&format!("server-{number}")).unwrap()).collect();
    let calls: Vec<_> = (0..10_000).map(|number| call(&actors, &servers, number)).collect();
    let (began, begin) = (Instant::now(), micros(now()));
    for number in 0..RECORDS as usize {
        let mut call = calls[number % calls.len()].clone();
        call.started = Instant::now();
        trail.operation(&call);
    }
    eprintln!("appended: {:?} a record", began.elapsed() / RECORDS);
    let end = micros(now());
    let bytes = trail.journal().unwrap().backlog();
    eprintln!("{} bytes a record in the journal", bytes / u64::from(RECORDS));
    let began = Instant::now();
    let metrics = Arc::new(Metrics::new(100));
    Drain::new(&trail, base.clone(), store.clone(), sealer, &metrics, Arc::new(analytics()))
        .unwrap()
        .finish()
        .await
        .unwrap();
    eprintln!("drained: {:.0} records a second", f64::from(RECORDS) / began.elapsed().as_secs_f64());
    if let Some(file) = database.file() {
        eprintln!("{} bytes a record in the database", std::fs::metadata(file).unwrap().len() / u64::from(RECORDS));
    }
    let began = Instant::now();
    while pack(&store, micros(now())).await.unwrap() {}
    eprintln!("packed what stood alone: {:?}", began.elapsed());
    let (from, to) = (Some(begin + (end - begin) / 4), Some(begin + (end - begin) / 2));
    let all = AuditSelection::default();
    measure("newest", &store, all.clone()).await;
    measure("of a tenant", &store, AuditSelection { chain: Some("default"), ..all.clone() }).await;
    let user = Some(Uuid::from_u128(77));
    measure("by user and time", &store, AuditSelection { user, from, to, ..all.clone() }).await;
    let (server, name) = (Some("server-7"), Some("tool_7"));
    measure("by tool and time", &store, AuditSelection { server, name, from, to, ..all.clone() }).await;
    measure("by user, tool and time", &store, AuditSelection { user, server, name, from, to, ..all.clone() }).await;
    measure(
        "by user, tool that was not called",
        &store,
        AuditSelection { user, server, name: Some("none"), ..all.clone() },
    )
    .await;
    measure("by time", &store, AuditSelection { from, to, ..all.clone() }).await;
    measure("by outcome", &store, AuditSelection { outcome: Some("denied"), from, to, ..all.clone() }).await;
    measure("by address", &store, AuditSelection { address: Some("10.0.1.7"), ..all.clone() }).await;
    measure("by request", &store, AuditSelection { request_id: Some("none"), ..all.clone() }).await;
    measure("all of a user, tool and time", &store, AuditSelection { user, server, name, ..all }).await;
    std::fs::remove_dir_all(&base).unwrap();
    plans(&database).await;
}

/// How SQLite finds them, for the manual.
async fn plans(database: &Database) {
    if database.file().is_none() {
        return;
    }
    let mut connection = sqlx::SqliteConnection::connect(&database.url).await.unwrap();
    for (what, index) in [
        (
            "greatest_id >= $1 AND least_id < $2 ORDER BY greatest_id DESC, chain DESC, first_seq DESC",
            "audit_blocks_by_id (greatest_id>?)",
        ),
        (
            "least_id < $1 AND (greatest_id, chain, first_seq) < ($2, $3, $4)
             ORDER BY greatest_id DESC, chain DESC, first_seq DESC",
            "audit_blocks_by_id ((greatest_id,chain,first_seq)<(?,?,?))",
        ),
        (
            "chain = $1 AND least_id < $2 AND (greatest_id, chain, first_seq) < ($3, $4, $5)
             ORDER BY greatest_id DESC, chain DESC, first_seq DESC",
            "audit_blocks_by_chain (chain=? AND greatest_id<?)",
        ),
        (
            "chain = $1 AND first_seq > $2 - 256 ORDER BY first_seq",
            "sqlite_autoindex_audit_blocks_1 (chain=? AND first_seq>?)",
        ),
    ] {
        let text = format!(
            "EXPLAIN QUERY PLAN SELECT chain, first_seq, greatest_id, columns FROM audit_blocks WHERE {what} LIMIT 64"
        );
        let rows = sqlx::query(sqlx::AssertSqlSafe(text)).fetch_all(&mut connection).await.unwrap();
        let plan: Vec<String> = rows.iter().map(|row| row.get(3)).collect();
        eprintln!("{what}: {}", plan.join("; "));
        assert_eq!(plan, [format!("SEARCH audit_blocks USING INDEX {index}")], "{what}");
    }
    connection.close().await.unwrap();
}

#[tokio::test]
#[ignore = "minutes: just audit-scale"]
async fn sqlite() {
    scale(Database::sqlite()).await;
}

#[tokio::test]
#[ignore = "minutes: just audit-scale"]
async fn postgresql() {
    if let Some(database) = Database::postgresql().await {
        scale(database).await;
    }
}
