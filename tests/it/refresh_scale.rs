//! What it costs to find out who is due among 100,000: figures for the manual, printed by `just refresh-scale`.

use std::time::{Duration, Instant};

use mcp_registry_gateway::store::{Store, micros};
use sqlx::{AssertSqlSafe, Connection as _, Executor as _, PgConnection, SqliteConnection};

use crate::store_databases::Database;
use crate::store_grants::House;

const PEOPLE: i64 = 100_000;
/// What is sealed of Entra's tokens is about as long.
const SEALED: usize = 4_000;

/// So many logins, each with a session used now, that are due one after the other in the hour from `now` on.
async fn fill(database: &Database, house: &House) {
    let on_sqlite = database.file().is_some();
    let (id, sealed) = if on_sqlite {
        ("randomblob(16)".to_owned(), format!("randomblob({SEALED})"))
    } else {
        ("gen_random_uuid()".to_owned(), format!("decode(repeat('a7', {SEALED}), 'hex')"))
    };
    let (now, hour) = (micros(house.now), 3_600_000_000_i64);
    let logins = format!(
        "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {PEOPLE})
         INSERT INTO logins (id, tenant_id, user_id, provider, tokens, state, created_at, checked_at, ask_after, issued_at,
            expires_at, due_at)
         SELECT {id}, 'default', u.id, 'entra', {sealed}, 'active', {now}, {now}, 0, {now}, {now} + {hour},
            {now} + CAST(i AS BIGINT) * {step} FROM n, users u WHERE u.username = 'ada'",
        step = hour / PEOPLE,
    );
    let grants = format!(
        "INSERT INTO grants (id, tenant_id, user_id, kind, scopes, login_method, login_id, created_at, last_used_at,
            expires_at)
         SELECT {id}, tenant_id, user_id, 'client', 'mcp', 'entra', id, {now}, {now}, {now} + {hour} FROM logins"
    );
    for text in [logins, grants, "ANALYZE".to_owned()] {
        if on_sqlite {
            let mut raw = SqliteConnection::connect(&database.url).await.unwrap();
            raw.execute(AssertSqlSafe(text)).await.unwrap();
        } else {
            let mut raw = PgConnection::connect(&database.url).await.unwrap();
            raw.execute(AssertSqlSafe(text)).await.unwrap();
        }
    }
}

/// What half of some runs take at most.
async fn median(mut run: impl AsyncFnMut()) -> Duration {
    let mut took = Vec::new();
    for _ in 0..21 {
        let began = Instant::now();
        run().await;
        took.push(began.elapsed());
    }
    took.sort();
    took[took.len() / 2]
}

async fn measure(name: &str, store: &Store, now: i64) {
    const DAY: i64 = 86_400_000_000;
    let due = store.count_due_logins("entra", now).await.unwrap();
    let next = median(async || _ = store.next_login_due("entra").await.unwrap()).await;
    let count = median(async || _ = store.count_due_logins("entra", now).await.unwrap()).await;
    let report = median(async || _ = store.refresh_queue(None, now).await.unwrap()).await;
    let rest =
        median(async || assert_eq!(store.rest_unused_logins("entra", now - 7 * DAY, now, 500).await.unwrap(), 0)).await;
    let mut taken = 0;
    let claim = median(async || {
        taken += store.claim_due_logins("entra", &[], now, now + DAY, 64).await.unwrap().len();
    })
    .await;
    assert_eq!(taken, 21 * 64);
    eprintln!(
        "{name}, {due} of {PEOPLE} due: the next one {next:?}, how many {count:?}, the report {report:?}, who used nothing {rest:?}, \
         64 of them taken {claim:?}"
    );
}

fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches("kB").trim().parse().unwrap()
}

async fn among_many(name: &str, database: &Database) {
    let house = House::open(database).await;
    fill(database, &house).await;
    let before = resident();
    // Three minutes' worth, as after a short outage; then everybody, as after a long one.
    measure(name, &house.store, micros(house.after(180))).await;
    measure(name, &house.store, micros(house.after(4_000))).await;
    eprintln!("{name}: {} KB more in memory, of {} KB", resident().saturating_sub(before), resident());
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "measures"]
async fn who_is_due_is_found_among_a_hundred_thousand_sqlite() {
    among_many("SQLite", &Database::sqlite()).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "measures"]
async fn who_is_due_is_found_among_a_hundred_thousand_postgresql() {
    if let Some(database) = Database::postgresql().await {
        among_many("PostgreSQL", &database).await;
    }
}
