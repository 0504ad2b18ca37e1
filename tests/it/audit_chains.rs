//! The audit trail in the database: nothing is lost on the way there whenever the process ends, replicas write one chain, and whoever
//! changes what stands there is found out.

use std::fmt::Write as _;
use std::path::PathBuf;
use std::sync::Arc;

use mcp_registry_gateway::app::App;
use mcp_registry_gateway::audit::{Collector, Drain, Finding, Record, Trail, pack, prune, records, search, verify};
use mcp_registry_gateway::clock;
use mcp_registry_gateway::config::{DotEnv, Settings};
use mcp_registry_gateway::crypto::{MasterKey, Sealer, hexadecimal};
use mcp_registry_gateway::fault::Whose;
use mcp_registry_gateway::store::audit_search::AuditSelection;
use mcp_registry_gateway::store::{Store, micros, now};
use mcp_registry_gateway::telemetry::{Event, Metrics, Operation, Outcome, RequestId, Sink};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use sqlx::{AssertSqlSafe, Connection, Executor};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::rollups::analytics;
use crate::store_databases::Database;
use crate::store_rest::World;

/// What a process has of the trail.
pub struct Process {
    base: PathBuf,
    pub trail: Trail,
    drain: Option<Drain>,
}

/// Its drain at work.
pub struct Running {
    stop: CancellationToken,
    task: tokio::task::JoinHandle<Drain>,
}

impl Running {
    pub async fn finish(self) {
        self.stop.cancel();
        self.task.await.unwrap().finish().await.unwrap();
    }
}

impl Process {
    pub fn start(base: PathBuf, store: &Store, sealer: &Sealer) -> Self {
        let settings = Settings::from_args(Vec::<String>::new(), &DotEnv::default()).unwrap();
        let trail = Trail::new(Uuid::now_v7(), settings.audit);
        trail.open(&base).unwrap();
        let metrics = Arc::new(Metrics::new(100));
        let drain = Drain::new(&trail, base.clone(), store.clone(), sealer.clone(), &metrics, Arc::new(analytics()));
        Self { base, trail, drain }
    }

    /// Brings over what comes until it is stopped.
    pub fn run(&mut self) -> Running {
        let stop = CancellationToken::new();
        let task = tokio::spawn(self.drain.take().unwrap().run(stop.clone()));
        Running { stop, task }
    }

    /// Somebody does something.
    pub fn sign_in(&self, tenant: &str, name: &str) {
        let mut event = Event::new("auth.login", true);
        (event.tenant, event.username) = (Some(tenant.into()), Some(name.into()));
        self.trail.event(event);
    }

    pub async fn finish(mut self) {
        self.drain.take().unwrap().finish().await.unwrap();
    }
}

/// Records that say how far chains are, where there are no others of no tenant.
pub async fn words(store: &Store) -> u64 {
    store.audit_chain("").await.unwrap().map_or(0, |head| head.seq.unsigned_abs())
}

/// These signed in, and the trail says so.
pub async fn signed_in(app: &App, tenant: &str, names: &[&str]) {
    let process = Process::start(base(), &app.store, &app.sealer);
    for name in names {
        process.sign_in(tenant, name);
    }
    process.finish().await;
}

/// When whatever stands alone has done so for long.
pub const LATER: i64 = i64::MAX / 2;

pub fn base() -> PathBuf {
    std::env::temp_dir().join(format!("mcp-gateway-audit-{}", Uuid::now_v7()))
}

/// Does something behind everybody's back.
pub async fn run(database: &Database, text: &str) {
    let text = AssertSqlSafe(text.to_owned());
    if database.url.starts_with("sqlite") {
        let mut connection = sqlx::SqliteConnection::connect(&database.url).await.unwrap();
        connection.execute(text).await.unwrap();
        connection.close().await.unwrap();
    } else {
        let mut connection = sqlx::PgConnection::connect(&database.url).await.unwrap();
        connection.execute(text).await.unwrap();
        connection.close().await.unwrap();
    }
}

/// Bytes as the database reads them.
pub fn literal(database: &Database, bytes: &[u8]) -> String {
    let digits = hexadecimal(bytes);
    if database.url.starts_with("sqlite") { format!("x'{digits}'") } else { format!("'\\x{digits}'") }
}

/// Makes the hashes of a chain anew from a record on, and its head's: what somebody would do who knows how.
pub async fn hash_anew(database: &Database, store: &Store, chain: &str) {
    let rows = records(store, chain, 0, 100_000).await.unwrap();
    let mut hash = Sha256::digest(format!("mcp-gateway audit chain\n{chain}")).to_vec();
    let literal = |hash: &[u8]| literal(database, hash);
    let mut all = String::new();
    for row in rows {
        hash = Sha256::new().chain_update(&hash).chain_update(&row.text).finalize().to_vec();
        if hash != row.hash {
            let (new, seq) = (literal(&hash), row.seq);
            _ = write!(all, "UPDATE audit_records SET hash = {new} WHERE chain = '{chain}' AND seq = {seq};");
        }
    }
    _ = write!(all, "UPDATE audit_chains SET hash = {} WHERE chain = '{chain}';", literal(&hash));
    run(database, &all).await;
}

pub async fn findings(store: &Store, sealer: &Sealer) -> Vec<Finding> {
    verify(store, Some(sealer), None, |_| {}).await.unwrap().findings
}

/// Kind and place of what is wrong.
pub async fn wrong(store: &Store, sealer: &Sealer) -> Vec<(&'static str, Option<i64>)> {
    findings(store, sealer).await.iter().map(|finding| (finding.kind, finding.seq)).collect()
}

on_both! {
    async fn whatever_is_changed_of_records_that_stand_alone_is_named(database) {
        let (store, sealer) = (database.open().await, Sealer::new(&MasterKey::generate()));
        let base = base();
        // So few at a time that each stands alone; there are checkpoints among them.
        for part in 0..44 {
            let process = Process::start(base.clone(), &store, &sealer);
            (0..50).for_each(|number| process.sign_in("acme", &format!("user-{part}-{number}")));
            (0..part % 2).for_each(|_| process.sign_in("other", "somebody"));
            process.finish().await;
        }
        assert_eq!(std::fs::read_dir(&base).unwrap().count(), 0, "no journal is left behind");
        let whole = verify(&store, Some(&sealer), None, |_| {}).await.unwrap();
        assert_eq!((whole.chains, whole.records, whole.findings), (3, 2_222 + words(&store).await, vec![]));
        let points = store.audit_checkpoints("acme").await.unwrap();
        assert!(points.len() >= 2, "{points:?}");
        let point = points[0].seq;

        let of = "chain = 'acme' AND seq";
        // A copy to begin again from.
        for table in ["audit_records", "audit_chains", "audit_checkpoints"] {
            run(database, &format!("CREATE TABLE copy_{table} AS SELECT * FROM {table}")).await;
        }
        let again = async || {
            for table in ["audit_records", "audit_chains", "audit_checkpoints"] {
                run(database, &format!("DELETE FROM {table}; INSERT INTO {table} SELECT * FROM copy_{table}")).await;
            }
            assert_eq!(wrong(&store, &sealer).await, []);
        };
        for seq in [1, 7, point, 1_500, 2_200] {
            run(database, &format!("UPDATE audit_records SET text = replace(text, 'user', 'eser') WHERE {of} = {seq}")).await;
            assert_eq!(wrong(&store, &sealer).await, [("record", Some(seq)), ("columns", Some(seq))], "changed {seq}");
            again().await;
            run(database, &format!("UPDATE audit_records SET username = 'eve' WHERE {of} = {seq}")).await;
            assert_eq!(wrong(&store, &sealer).await, [("columns", Some(seq))], "a column of {seq}");
            again().await;
            run(database, &format!("DELETE FROM audit_records WHERE {of} = {seq}")).await;
            assert_eq!(wrong(&store, &sealer).await, [("missing", Some(seq))], "removed {seq}");
            again().await;
            // Only what is signed tells of this.
            run(database, &format!("UPDATE audit_records SET text = replace(text, '\"user-', '\"eser-'), username = 'eser' || substr(username, 5) WHERE {of} = {seq}")).await;
            hash_anew(database, &store, "acme").await;
            let told = wrong(&store, &sealer).await;
            let expected = if seq <= point { ("checkpoint", Some(point)) } else { ("head", Some(2_200)) };
            assert!(told.contains(&expected) && told.contains(&("head", Some(2_200))), "hashed anew from {seq}: {told:?}");
            again().await;
        }
        let swap = format!(
            "UPDATE audit_records SET seq = 100007 WHERE {of} = 7; UPDATE audit_records SET seq = 7 WHERE {of} = 8;
             UPDATE audit_records SET seq = 8 WHERE {of} = 100007"
        );
        run(database, &swap).await;
        assert_eq!(wrong(&store, &sealer).await, [("record", Some(7)), ("record", Some(8)), ("record", Some(9))]);
        again().await;
        run(database, &format!("DELETE FROM audit_records WHERE {of} > 2100")).await;
        assert_eq!(wrong(&store, &sealer).await, [("missing", Some(2_101))]);
        // Nor is it of use to say that the chain ends there.
        run(database, "UPDATE audit_chains SET seq = 2100, hash = (SELECT hash FROM audit_records WHERE chain = 'acme' AND seq = 2100) WHERE chain = 'acme'").await;
        assert!(wrong(&store, &sealer).await.contains(&("head", Some(2_100))));
        again().await;
        // Nor is a checkpoint a head, if nothing is left behind it.
        let old = format!(
            "DELETE FROM audit_records WHERE {of} > {point}; DELETE FROM audit_checkpoints WHERE {of} > {point};
             UPDATE audit_chains SET seq = {point}, checkpoint_seq = {point}, (hash, at, key_id, signature) =
             (SELECT hash, at, key_id, signature FROM audit_checkpoints WHERE {of} = {point}) WHERE chain = 'acme'"
        );
        run(database, &old).await;
        let told = wrong(&store, &sealer).await;
        assert_eq!(told, [("head", Some(point)), ("heads", Some(2_200))], "a checkpoint as head");
        again().await;
        // Or to bring back what was signed before.
        run(database, &format!("DELETE FROM audit_records WHERE {of} > {point}")).await;
        run(database, &format!("UPDATE audit_chains SET seq = {point}, (hash, at, signature) = (SELECT hash, at, signature FROM audit_checkpoints WHERE {of} = {point}) WHERE chain = 'acme'")).await;
        let last = points.last().unwrap().seq;
        assert!(wrong(&store, &sealer).await.contains(&("checkpoint", Some(last))), "an old head");
        again().await;
        run(database, &format!("DELETE FROM audit_records WHERE {of} <= {point}; UPDATE audit_chains SET begin_seq = {point} WHERE chain = 'acme'")).await;
        assert!(wrong(&store, &sealer).await.contains(&("beginning", Some(point))));
        again().await;
        run(database, &format!("UPDATE audit_checkpoints SET at = at + 1 WHERE {of} = {point}")).await;
        assert_eq!(wrong(&store, &sealer).await, [("checkpoint", Some(point))]);
        again().await;
        run(database, "DELETE FROM audit_chains WHERE chain = 'other'").await;
        assert_eq!(wrong(&store, &sealer).await, [("heads", Some(22))]);
        again().await;
        let nobody = verify(&store, Some(&sealer), Some("acmee"), |_| {}).await.unwrap();
        assert_eq!(nobody.findings.iter().map(|finding| finding.kind).collect::<Vec<_>>(), ["chain"]);
        // What was made up is not signed by the gateway either, however it goes on.
        run(database, &format!("DELETE FROM audit_checkpoints WHERE chain = 'acme'; UPDATE audit_records SET text = replace(text, '\"user-', '\"eser-'), username = 'eser' || substr(username, 5) WHERE {of} = 7")).await;
        hash_anew(database, &store, "acme").await;
        run(database, "DELETE FROM audit_chains WHERE chain = 'other'").await;
        for _ in 0..2 {
            let process = Process::start(base.clone(), &store, &sealer);
            process.sign_in("acme", "user-later");
            process.sign_in("other", "somebody");
            let journal = Arc::clone(process.trail.journal().unwrap());
            process.finish().await;
            assert!(!journal.is_well(), "health says so");
        }
        let told = findings(&store, &sealer).await;
        assert!(told.iter().any(|finding| (&*finding.chain, finding.kind) == ("acme", "heads")), "{told:?}");
        let told = told.iter().filter(|finding| finding.kind != "heads");
        let told: Vec<_> = told.map(|finding| (&*finding.chain, finding.kind, finding.seq)).collect();
        assert_eq!(told, [("acme", "head", Some(2_202)), ("other", "head", Some(24))]);
        again().await;
        let stranger = Sealer::new(&MasterKey::generate());
        assert_eq!(wrong(&store, &stranger).await, [("key", None)]);
        std::fs::remove_dir_all(&base).unwrap();
    }
}

on_both! {
    async fn what_a_process_left_behind_is_brought_over_once(database) {
        let (store, sealer) = (database.open().await, Sealer::new(&MasterKey::generate()));
        let base = base();
        let gone = Process::start(base.clone(), &store, &sealer);
        for number in 0..1_500 {
            gone.sign_in("acme", &format!("user-{number}"));
        }
        let folder = std::fs::read_dir(&gone.base).unwrap().next().unwrap().unwrap().path();
        // It wrote half a record when it was killed.
        let torn = folder.join("000000000001.log");
        let mut bytes = std::fs::read(&torn).unwrap();
        bytes.extend_from_slice(&[90, 0, 0, 0, 1, 2, 3, 4, b'{']);
        std::fs::write(&torn, bytes).unwrap();
        drop(gone);
        let mut next = Process::start(base.clone(), &store, &sealer);
        next.sign_in("acme", "next");
        let running = next.run();
        for _ in 0..600 {
            if store.audit_chain("acme").await.unwrap().is_some_and(|head| head.seq == 1_501) {
                break;
            }
            tokio::time::sleep(std::time::Duration::from_millis(100)).await;
        }
        running.finish().await;
        let verified = verify(&store, Some(&sealer), None, |_| {}).await.unwrap();
        assert_eq!((verified.records, verified.findings), (1_501 + words(&store).await, vec![]));
        let which = AuditSelection { action: Some("auth.login"), chain: Some("acme"), ..AuditSelection::default() };
        let found = search(&store, &which, 2_000).await.unwrap();
        assert_eq!(found.iter().filter(|row| row.username.as_deref() == Some("user-1499")).count(), 1);
        assert_eq!(std::fs::read_dir(&base).unwrap().count(), 0, "no journal is left behind");
        std::fs::remove_dir_all(&base).unwrap();
    }
}

on_both! {
    async fn what_the_database_refuses_keeps_no_other_record_waiting(database) {
        let (store, sealer) = (database.open().await, Sealer::new(&MasterKey::generate()));
        let base = base();
        let refuse = if database.url.starts_with("sqlite") {
            "CREATE TRIGGER refuse BEFORE INSERT ON audit_records WHEN NEW.username = 'bad'
             BEGIN SELECT RAISE(ABORT, 'no'); END"
        } else {
            "ALTER TABLE audit_records ADD CONSTRAINT refuse CHECK (username <> 'bad')"
        };
        run(database, refuse).await;
        let process = Process::start(base.clone(), &store, &sealer);
        for number in 0..50 {
            process.sign_in("acme", if number == 20 { "bad" } else { "good" });
        }
        process.sign_in("acme", "a\0b\u{1b}c");
        let mut odd = Operation::start(RequestId::new(), "/mcp");
        odd.set_method("a\0b");
        process.trail.operation(&odd);
        process.finish().await;
        let verified = verify(&store, Some(&sealer), None, |_| {}).await.unwrap();
        assert_eq!((verified.records, verified.findings), (50 + words(&store).await, vec![]));
        let last = records(&store, "acme", 49, 10).await.unwrap();
        assert_eq!(last[0].username.as_deref(), Some("a\u{fffd}b\u{fffd}c"));
        let aside = std::fs::read_to_string(base.join("refused.jsonl")).unwrap();
        assert!(aside.lines().count() == 1 && aside.contains("\"bad\""), "{aside}");
        std::fs::remove_dir_all(&base).unwrap();
    }
}

#[tokio::test]
async fn a_damaged_journal_costs_what_was_damaged_and_is_kept() {
    let database = Database::sqlite();
    let (store, sealer) = (database.open().await, Sealer::new(&MasterKey::generate()));
    let base = base();
    let process = Process::start(base.clone(), &store, &sealer);
    (0..100).for_each(|number| process.sign_in("acme", &format!("user-{number}")));
    let folder = std::fs::read_dir(&base).unwrap().next().unwrap().unwrap().path();
    let file = folder.join("000000000001.log");
    let mut bytes = std::fs::read(&file).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&file, &bytes).unwrap();
    process.finish().await;
    let verified = verify(&store, Some(&sealer), None, |_| {}).await.unwrap();
    assert_eq!((verified.records, verified.findings), (99 + words(&store).await, vec![]));
    let kept: Vec<_> = std::fs::read_dir(&base).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert_eq!(kept.iter().map(|path| path.extension().unwrap()).collect::<Vec<_>>(), ["damaged"]);
    assert_eq!(std::fs::read(&kept[0]).unwrap(), bytes);
    std::fs::remove_dir_all(&base).unwrap();
}

on_both! {
    async fn processes_that_write_at_once_make_one_chain(database) {
        let sealer = Sealer::new(&MasterKey::generate());
        let base = base();
        let mut processes = tokio::task::JoinSet::new();
        for process in 0..3 {
            let (store, sealer, base) = (database.open().await, sealer.clone(), base.clone());
            processes.spawn(async move {
                for round in 0..5 {
                    let process_now = Process::start(base.join(process.to_string()), &store, &sealer);
                    for number in 0..100 + round * 50 {
                        process_now.sign_in("acme", &format!("user-{process}-{round}-{number}"));
                        process_now.sign_in(&format!("tenant-{}", number % 3), "somebody");
                    }
                    process_now.finish().await;
                }
            });
        }
        // Others make blocks of what stands alone, all the while.
        let packers = tokio_util::sync::CancellationToken::new();
        let mut packing = tokio::task::JoinSet::new();
        for _ in 0..2 {
            let (store, stop) = (database.open().await, packers.clone());
            packing.spawn(async move {
                while !stop.is_cancelled() {
                    pack(&store, LATER).await.unwrap();
                }
            });
        }
        while let Some(done) = processes.join_next().await {
            done.unwrap();
        }
        packers.cancel();
        while let Some(done) = packing.join_next().await {
            done.unwrap();
        }
        let store = database.open().await;
        let verified = verify(&store, Some(&sealer), None, |_| {}).await.unwrap();
        let records = 6_000 + words(&store).await;
        assert_eq!((verified.chains, verified.records, verified.findings), (5, records, vec![]));
        assert_eq!(store.audit_keys().await.unwrap().len(), 1, "one of them made the key");
        std::fs::remove_dir_all(&base).unwrap();
    }
}

on_both! {
    async fn what_is_too_old_goes_and_what_is_left_hangs_together(database) {
        let (store, sealer) = (database.open().await, Sealer::new(&MasterKey::generate()));
        let base = base();
        for part in 0..4 {
            let process = Process::start(base.clone(), &store, &sealer);
            for number in 0..1_200 {
                process.sign_in("default", &format!("user-{part}-{number}"));
            }
            process.sign_in("gone", "somebody");
            process.finish().await;
            clock::move_on(std::time::Duration::from_hours(24 * 100));
        }
        // They are 100, 200, 300 and 400 days old; those of the first tenant are kept for 365. What is behind the last checkpoint
        // before then goes with the next one.
        assert_eq!(prune(&store, &sealer, micros(now())).await.unwrap(), [("default".to_owned(), 1_200)]);
        assert_eq!(prune(&store, &sealer, micros(now())).await.unwrap(), []);
        let verified = verify(&store, Some(&sealer), None, |_| {}).await.unwrap();
        assert_eq!((verified.records, verified.findings), (3_604 + words(&store).await, vec![]));
        let head = store.audit_chain("default").await.unwrap().unwrap();
        assert_eq!((head.begin_seq, head.seq), (1_200, 4_800));
        // Nobody can put anything where nothing is any more.
        run(database, "UPDATE audit_records SET seq = -3 WHERE chain = 'gone' AND seq = 1").await;
        run(database, "UPDATE audit_records SET chain = 'default', seq = 7 WHERE chain = 'gone' AND seq = 2").await;
        let told = wrong(&store, &sealer).await;
        assert!(told.contains(&("below", Some(-3))) && told.contains(&("below", Some(7))), "{told:?}");
        run(database, "UPDATE audit_records SET chain = 'gone', seq = 2 WHERE chain = 'default' AND seq = 7").await;
        run(database, "UPDATE audit_records SET seq = 1 WHERE chain = 'gone' AND seq = -3").await;

        // Somebody else has them go too early: it looks the same, but for the time.
        let process = Process::start(base.clone(), &store, &sealer);
        (0..1_200).for_each(|number| process.sign_in("default", &format!("user-{number}")));
        process.finish().await;
        let early = store.audit_checkpoints("default").await.unwrap().last().unwrap().seq;
        let of = "chain = 'default' AND seq";
        let hash = format!("(SELECT hash FROM audit_checkpoints WHERE {of} = {early})");
        run(database, &format!("UPDATE audit_chains SET begin_seq = {early}, begin_hash = {hash} WHERE chain = 'default'")).await;
        run(database, &format!("DELETE FROM audit_records WHERE {of} <= {early}")).await;
        run(database, &format!("DELETE FROM audit_blocks WHERE chain = 'default' AND last_seq <= {early}")).await;
        assert_eq!(wrong(&store, &sealer).await, [("beginning", Some(early))]);
        std::fs::remove_dir_all(&base).unwrap();
    }
}

on_both! {
    async fn who_has_the_name_of_a_removed_tenant_sees_nothing_of_it(database) {
        let (world, store, sealer) = (World::open(database).await, database.open().await, Sealer::new(&MasterKey::generate()));
        let base = base();
        let record = async |name: &str| {
            let process = Process::start(base.clone(), &store, &sealer);
            process.sign_in("acme", name);
            process.finish().await;
            records(&store, "acme", 0, 10).await.unwrap().last().unwrap().id
        };
        let old = record("old").await;
        let eve = world.acme().await;
        let new = record("new").await;
        let seen = world.with_key(&eve, "GET /admin/audit?from=2001-01-01T00:00:00Z", Value::Null).await.expect(200).json();
        let ids: Vec<_> = seen["items"].as_array().unwrap().iter().map(|item| item["id"].clone()).collect();
        assert_eq!(ids, [json!(new)], "{seen}");
        world.with_key(&eve, &format!("GET /admin/audit/{new}"), Value::Null).await.expect(200);
        world.with_key(&eve, &format!("GET /admin/audit/{old}"), Value::Null).await.expect(404);
        world.call(&format!("GET /admin/audit/{old}"), Value::Null).await.expect(200);
        std::fs::remove_dir_all(&base).unwrap();
    }
}

#[tokio::test]
async fn a_flood_of_refusals_is_counted_and_not_kept_one_by_one() {
    let database = Database::sqlite();
    let (store, sealer) = (database.open().await, Sealer::new(&MasterKey::generate()));
    let base = base();
    let process = Process::start(base.clone(), &store, &sealer);
    let outcomes = [
        Outcome::Denied("unknown_key"),
        Outcome::RateLimited,
        Outcome::Error { whose: Whose::Client, kind: "not_found" },
        Outcome::Error { whose: Whose::Client, kind: "bad_request" },
    ];
    for number in 0..20_000 {
        let mut refused = Operation::start(RequestId::new(), "/mcp");
        refused.finish(outcomes[number % 4]);
        process.trail.operation(&refused);
    }
    process.finish().await;
    let rows = records(&store, "", 0, 100_000).await.unwrap();
    assert!(rows.len() < 5_000, "{}", rows.len());
    let count = |text: &str| serde_json::from_str::<Record>(text).unwrap().count;
    assert_eq!(rows.iter().map(|row| count(&row.text)).sum::<u64>(), 20_000, "none is forgotten");
    std::fs::remove_dir_all(&base).unwrap();
}

#[tokio::test]
async fn a_collector_hears_of_every_record_once_it_is_there() {
    use tokio::io::AsyncReadExt as _;
    let database = Database::sqlite();
    let (store, sealer) = (database.open().await, Sealer::new(&MasterKey::generate()));
    let base = base();
    let process = Process::start(base.clone(), &store, &sealer);
    (0..1_200).for_each(|number| process.sign_in("acme", &format!("user-{number}")));
    process.finish().await;
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("--audit-syslog=tcp://{}", listener.local_addr().unwrap());
    let settings = Settings::from_args([&address], &DotEnv::default()).unwrap();
    drop(listener);
    let mut collector = Collector::new(settings.audit.syslog.clone().unwrap(), false);
    collector.forward(&store).await.unwrap_err();
    let to = address.strip_prefix("--audit-syslog=tcp://").unwrap();
    let listener = tokio::net::TcpListener::bind(to).await.unwrap();
    let reading = tokio::spawn(async move {
        let mut all = Vec::new();
        listener.accept().await.unwrap().0.read_to_end(&mut all).await.unwrap();
        String::from_utf8(all).unwrap()
    });
    collector.forward(&store).await.unwrap();
    collector.forward(&store).await.unwrap();
    drop(collector);
    let mut heard = reading.await.unwrap();
    let mut names = Vec::new();
    while !heard.is_empty() {
        let (length, rest) = heard.split_once(' ').unwrap();
        let (message, rest) = rest.split_at(length.parse().unwrap());
        assert!(message.starts_with("<110>1 2"), "{message}");
        let record: Record = serde_json::from_str(message.split_once('\u{feff}').unwrap().1).unwrap();
        names.extend(record.username.map(|name| name.to_string()));
        heard = rest.to_owned();
    }
    let all: Vec<_> = (0..1_200).map(|number| format!("user-{number}")).collect();
    assert_eq!(names, all);
    std::fs::remove_dir_all(&base).unwrap();
}
