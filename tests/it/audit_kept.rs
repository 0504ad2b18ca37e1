//! How the audit trail is kept: chains vouch for one another, what somebody changed is found for good and may be taken as it is, and
//! neither a broken journal nor a broken disk or database loses a record.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use mcp_registry_gateway::audit::{Record, accept, prune, records, verify};
use mcp_registry_gateway::clock;
use mcp_registry_gateway::crypto::{MasterKey, Sealer};
use mcp_registry_gateway::store::{Store, micros, now};

use crate::audit_chains::{Process, base, findings, hash_anew, run, words, wrong};
use crate::store_databases::Database;

const TABLES: [&str; 4] = ["audit_blocks", "audit_records", "audit_chains", "audit_checkpoints"];

/// Copies what there is of the trail.
async fn copy(database: &Database) {
    for table in TABLES {
        run(database, &format!("CREATE TABLE copy_{table} AS SELECT * FROM {table}")).await;
    }
}

/// Brings a chain back to the copy.
async fn bring_back(database: &Database, chain: &str) {
    for table in TABLES {
        let text = format!(
            "DELETE FROM {table} WHERE chain = '{chain}'; INSERT INTO {table} SELECT * FROM copy_{table} WHERE chain = '{chain}'"
        );
        run(database, &text).await;
    }
}

async fn sign_in(base: &Path, store: &Store, sealer: &Sealer, tenants: &[&str], count: usize) {
    let process = Process::start(base.to_owned(), store, sealer);
    for number in 0..count {
        for tenant in tenants {
            process.sign_in(tenant, &format!("user-{number}"));
        }
    }
    process.finish().await;
}

/// Waits until something is so.
async fn until(what: impl AsyncFn() -> bool) {
    let waiting = async {
        while !what().await {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(Duration::from_mins(1), waiting).await.expect("it never came to that");
}

async fn seq(store: &Store, chain: &str) -> i64 {
    store.audit_chain(chain).await.unwrap().map_or(0, |head| head.seq)
}

/// What the records of no tenant are called.
async fn of_nobody(store: &Store) -> Vec<Record> {
    let rows = records(store, "", 0, 100_000).await.unwrap();
    rows.iter().map(|row| serde_json::from_str(&row.text).unwrap()).collect()
}

on_both! {
    async fn a_chain_that_is_removed_or_brought_back_alone_is_missed_by_the_others(database) {
        let (store, sealer, base) = (database.open().await, Sealer::new(&MasterKey::generate()), base());
        sign_in(&base, &store, &sealer, &["acme", "other"], 10).await;
        copy(database).await;
        clock::move_on(Duration::from_hours(1));
        sign_in(&base, &store, &sealer, &["acme", "other"], 5).await;
        assert_eq!(wrong(&store, &sealer).await, []);

        bring_back(database, "acme").await;
        assert_eq!(wrong(&store, &sealer).await, [("heads", Some(15))], "brought back alone");
        // With the chain that says so, all others are too new.
        bring_back(database, "").await;
        assert_eq!(wrong(&store, &sealer).await, [("heads", None)], "brought back together");
        for table in TABLES {
            run(database, &format!("DELETE FROM {table} WHERE chain = 'acme'")).await;
        }
        let told = verify(&store, Some(&sealer), Some("acme"), |_| {}).await.unwrap().findings;
        let told: Vec<_> = told.iter().map(|finding| (&*finding.chain, finding.kind, finding.seq)).collect();
        assert_eq!(told, [("", "heads", None), ("acme", "heads", Some(10))], "removed");
        std::fs::remove_dir_all(&base).unwrap();
    }
}

on_both! {
    async fn a_chain_that_grows_again_after_it_was_brought_back_is_found_for_good(database) {
        let (store, sealer, base) = (database.open().await, Sealer::new(&MasterKey::generate()), base());
        sign_in(&base, &store, &sealer, &["acme"], 10).await;
        copy(database).await;
        sign_in(&base, &store, &sealer, &["acme"], 10).await;
        bring_back(database, "acme").await;
        for _ in 0..3 {
            sign_in(&base, &store, &sealer, &["acme"], 15).await;
            assert!(wrong(&store, &sealer).await.contains(&("heads", Some(20))));
        }
        std::fs::remove_dir_all(&base).unwrap();
    }
}

on_both! {
    async fn a_process_sees_that_a_chain_of_its_own_was_brought_back_and_signs_it_no_more(database) {
        let (store, sealer, base) = (database.open().await, Sealer::new(&MasterKey::generate()), base());
        let mut process = Process::start(base.clone(), &store, &sealer);
        let journal = Arc::clone(process.trail.journal().unwrap());
        let running = process.run();
        process.sign_in("acme", "one");
        until(async || seq(&store, "acme").await == 1).await;
        copy(database).await;
        (0..5).for_each(|_| process.sign_in("acme", "more"));
        until(async || seq(&store, "acme").await == 6).await;
        assert!(journal.is_well());
        bring_back(database, "acme").await;
        process.sign_in("acme", "later");
        until(async || !journal.is_well()).await;
        assert!(wrong(&store, &sealer).await.contains(&("head", Some(2))));

        let told = accept(&store, &sealer, &process.trail, "acme", ("ada", "an old backup"), |_| {}).await.unwrap();
        assert!(!told.findings.is_empty() && told.seq == 2, "{told:?}");
        process.sign_in("acme", "after");
        until(async || journal.is_well()).await;
        running.finish().await;
        let verified = verify(&store, Some(&sealer), None, |_| {}).await.unwrap();
        assert_eq!(verified.findings, []);
        assert_eq!(verified.accepted.len(), 1);
        std::fs::remove_dir_all(&base).unwrap();
    }
}

on_both! {
    async fn what_is_accepted_is_told_for_ever_and_what_is_changed_then_is_found(database) {
        let (store, sealer, base) = (database.open().await, Sealer::new(&MasterKey::generate()), base());
        sign_in(&base, &store, &sealer, &["acme"], 50).await;
        let change = async |seq: i64| {
            let change = format!("UPDATE audit_records SET text = replace(text, '\"user-', '\"eser-'),
                username = 'eser' || substr(username, 5) WHERE chain = 'acme' AND seq = {seq}");
            run(database, &change).await;
        };
        change(7).await;
        hash_anew(database, &store, "acme").await;
        sign_in(&base, &store, &sealer, &["acme"], 5).await;
        // It is no record that somebody added that the gateway goes on from, but all of them are seen.
        let added = "INSERT INTO audit_records (chain, seq, id, at, action, outcome, text, hash)
            SELECT chain, 56, '00000000-0000-7000-8000-000000000001', at, action, outcome, text, hash FROM audit_records
            WHERE chain = 'acme' AND seq = 55";
        let added = if database.file().is_some() {
            added.replace("'00000000-0000-7000-8000-000000000001'", "x'00000000000070008000000000000001'")
        } else {
            added.to_owned()
        };
        run(database, &added).await;
        sign_in(&base, &store, &sealer, &["acme"], 5).await;
        assert_eq!(seq(&store, "acme").await, 61, "what stands in the way is gone around");
        let before = findings(&store, &sealer).await;
        let kinds: Vec<_> = before.iter().map(|finding| finding.kind).collect();
        assert!(kinds.contains(&"head") && kinds.contains(&"heads") && kinds.contains(&"columns"), "{before:?}");

        let process = Process::start(base.clone(), &store, &sealer);
        let told = accept(&store, &sealer, &process.trail, "acme", ("ada", "a test"), |_| {}).await.unwrap();
        assert_eq!((told.seq, told.findings.len()), (61, before.len()));
        let journal = Arc::clone(process.trail.journal().unwrap());
        process.sign_in("acme", "after");
        process.finish().await;
        assert!(journal.is_well());
        let verified = verify(&store, Some(&sealer), None, |_| {}).await.unwrap();
        assert_eq!(verified.findings, []);
        let taken = &verified.accepted[0];
        assert_eq!((&*taken.author, &*taken.reason, taken.seq), ("ada", "a test", 61));
        assert_eq!(taken.findings.iter().map(|known| &*known.what).collect::<Vec<_>>(), before.iter().map(|finding| &*finding.what).collect::<Vec<_>>());
        let nothing = Process::start(base.clone(), &store, &sealer);
        let told = accept(&store, &sealer, &nothing.trail, "acme", ("ada", "again"), |_| {}).await.unwrap();
        assert!(told.findings.is_empty(), "{told:?}");
        nothing.finish().await;

        // Neither is anything behind it free to change, nor what was found, nor who said what.
        change(3).await;
        assert_eq!(wrong(&store, &sealer).await, [("record", Some(3))]);
        hash_anew(database, &store, "acme").await;
        assert!(wrong(&store, &sealer).await.iter().any(|(kind, _)| *kind == "accepted"));
        run(database, "UPDATE audit_accepted SET reason = 'nothing'").await;
        assert!(wrong(&store, &sealer).await.contains(&("accepted", Some(61))));
        std::fs::remove_dir_all(&base).unwrap();
    }
}

on_both! {
    async fn a_trail_that_is_written_and_pruned_meanwhile_is_whole(database) {
        let (store, sealer, base) = (database.open().await, Sealer::new(&MasterKey::generate()), base());
        let tenants = ["acme", "default", "other"];
        sign_in(&base, &store, &sealer, &tenants, 1_000).await;
        clock::move_on(Duration::from_hours(24 * 200));
        sign_in(&base, &store, &sealer, &tenants, 1_000).await;
        clock::move_on(Duration::from_hours(24 * 200));
        let writing = {
            let (store, sealer, base) = (database.open().await, sealer.clone(), base.clone());
            tokio::spawn(async move {
                for round in 0..20 {
                    sign_in(&base, &store, &sealer, &tenants, 300).await;
                    if round == 10 {
                        assert!(!prune(&store, &sealer, micros(now())).await.unwrap().is_empty());
                    }
                }
            })
        };
        while !writing.is_finished() {
            assert_eq!(findings(&store, &sealer).await, []);
        }
        writing.await.unwrap();
        assert_eq!(findings(&store, &sealer).await, []);
        std::fs::remove_dir_all(&base).unwrap();
    }
}

/// The only folder of a journal below `base`.
fn folder_of(base: &Path) -> std::path::PathBuf {
    let mut folders = std::fs::read_dir(base).unwrap().map(|entry| entry.unwrap().path()).filter(|path| path.is_dir());
    folders.next().unwrap()
}

#[tokio::test]
async fn files_that_are_gone_cost_what_was_in_them_and_it_is_said() {
    let database = Database::sqlite();
    let (store, sealer, base) = (database.open().await, Sealer::new(&MasterKey::generate()), base());
    let gone = Process::start(base.clone(), &store, &sealer);
    let name = "x".repeat(4_000);
    (0..3_000).for_each(|_| gone.sign_in("acme", &name));
    let folder = folder_of(&base);
    drop(gone);
    // The database that had taken them is an older one by now.
    let files = std::fs::read_dir(&folder).unwrap().count() - 1;
    assert!(files > 2, "{files}");
    let left = std::fs::metadata(folder.join("000000000001.log")).unwrap().len();
    std::fs::remove_file(folder.join("000000000001.log")).unwrap();
    let lost = i64::try_from(left / 4_000).unwrap();
    let mut next = Process::start(base.clone(), &store, &sealer);
    let running = next.run();
    until(async || of_nobody(&store).await.iter().any(|record| record.action == "audit.gap")).await;
    running.finish().await;
    let came = seq(&store, "acme").await;
    assert!(came < 3_000 && came >= 3_000 - lost, "{came} of 3000, without {lost}");
    assert_eq!(findings(&store, &sealer).await, []);
    assert_eq!(std::fs::read_dir(&base).unwrap().count(), 0);
    std::fs::remove_dir_all(&base).unwrap();
}

#[tokio::test]
async fn a_journal_that_cannot_be_read_keeps_no_other_waiting() {
    let database = Database::sqlite();
    let (store, sealer, base) = (database.open().await, Sealer::new(&MasterKey::generate()), base());
    let gone = Process::start(base.clone(), &store, &sealer);
    gone.sign_in("acme", "gone");
    let file = folder_of(&base).join("000000000001.log");
    drop(gone);
    let whole = std::fs::read(&file).unwrap();
    std::fs::remove_file(&file).unwrap();
    std::fs::create_dir(&file).unwrap();
    let mut next = Process::start(base.clone(), &store, &sealer);
    let journal = Arc::clone(next.trail.journal().unwrap());
    let running = next.run();
    next.sign_in("acme", "next");
    until(async || seq(&store, "acme").await == 1).await;
    until(async || !journal.is_well()).await;
    running.finish().await;
    std::fs::remove_dir(&file).unwrap();
    std::fs::write(&file, whole).unwrap();
    let mut last = Process::start(base.clone(), &store, &sealer);
    let running = last.run();
    until(async || seq(&store, "acme").await == 2).await;
    running.finish().await;
    assert_eq!(std::fs::read_dir(&base).unwrap().count(), 0);
    std::fs::remove_dir_all(&base).unwrap();
}

/// A frame of a journal.
fn framed(text: &str) -> Vec<u8> {
    let checksum = crc::Crc::<u32>::new(&crc::CRC_32_ISCSI).checksum(text.as_bytes());
    let length = u32::try_from(text.len()).unwrap();
    [&length.to_le_bytes()[..], &checksum.to_le_bytes(), text.as_bytes()].concat()
}

on_both! {
    async fn a_record_that_stands_twice_comes_once_and_one_that_cannot_be_read_is_kept(database) {
        let (store, sealer, base) = (database.open().await, Sealer::new(&MasterKey::generate()), base());
        let process = Process::start(base.clone(), &store, &sealer);
        (0..100).for_each(|number| process.sign_in("acme", &format!("user-{number}")));
        let folder = folder_of(&base);
        drop(process);
        // As a journal is whose disk did not keep a file.
        let mut bytes = std::fs::read(folder.join("000000000001.log")).unwrap();
        let strange = r#"{"kind":"of a version to come"}"#;
        bytes.extend(framed(&strange.replace('}', r#","arguments":{"a":"word"}}"#)));
        std::fs::write(folder.join("000000000002.log"), &bytes).unwrap();
        let mut next = Process::start(base.clone(), &store, &sealer);
        let running = next.run();
        until(async || of_nobody(&store).await.iter().any(|record| record.action == "audit.unreadable")).await;
        running.finish().await;
        assert_eq!(seq(&store, "acme").await, 100);
        let records = of_nobody(&store).await;
        let kept: Vec<_> = records.iter().filter(|record| record.action == "audit.unreadable").collect();
        assert_eq!(kept.iter().map(|record| record.detail.as_deref()).collect::<Vec<_>>(), [Some(strange)]);
        assert_eq!(findings(&store, &sealer).await, []);
        assert_eq!(std::fs::read_dir(&base).unwrap().count(), 0, "nothing was refused");
        std::fs::remove_dir_all(&base).unwrap();
    }
}

/// A disk of 2 MiB, if this may have one.
struct SmallDisk(std::path::PathBuf);

impl SmallDisk {
    fn mount() -> Option<Self> {
        let path = base();
        std::fs::create_dir_all(&path).unwrap();
        let mut mount = std::process::Command::new("mount");
        let mounted = mount.args(["-t", "tmpfs", "-o", "size=2m", "tmpfs"]).arg(&path).output();
        if mounted.is_ok_and(|mounted| mounted.status.success()) {
            return Some(Self(path));
        }
        std::fs::remove_dir_all(&path).unwrap();
        eprintln!("skipped: no disk can be mounted here");
        None
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let unmounted = std::process::Command::new("umount").arg("-l").arg(&self.0).status();
        if unmounted.is_ok_and(|unmounted| unmounted.success()) {
            _ = std::fs::remove_dir_all(&self.0);
        }
    }
}

#[tokio::test]
async fn what_a_full_disk_did_not_take_comes_into_the_database_at_the_end() {
    let Some(disk) = SmallDisk::mount() else { return };
    let database = Database::sqlite();
    let (store, sealer) = (database.open().await, Sealer::new(&MasterKey::generate()));
    let base = disk.0.join("audit");
    let process = Process::start(base.clone(), &store, &sealer);
    let journal = Arc::clone(process.trail.journal().unwrap());
    let count = 10_000;
    (0..count).for_each(|number| process.sign_in("acme", &format!("user-{number}")));
    assert!(journal.is_failing() && !journal.has_room());
    process.finish().await;
    assert_eq!((seq(&store, "acme").await, journal.lost(), journal.backlog()), (count, 0, 0));
    assert_eq!(findings(&store, &sealer).await, []);
    assert_eq!(std::fs::read_dir(&base).unwrap().count(), 0);
}

/// A way to PostgreSQL that can be cut: a socket before its own.
struct Way {
    folder: std::path::PathBuf,
    socket: std::path::PathBuf,
    open: Option<tokio::task::JoinHandle<()>>,
}

impl Way {
    /// Of the database at this address; and the address by this way.
    fn to(url: &str) -> (Self, String) {
        let (rest, folder) = url.split_once("?host=").unwrap();
        let way = base();
        std::fs::create_dir_all(&way).unwrap();
        let address = format!("{rest}?host={}", way.display());
        (Self { folder: way, socket: Path::new(folder).join(".s.PGSQL.5432"), open: None }, address)
    }

    fn open(&mut self) {
        let (path, socket) = (self.folder.join(".s.PGSQL.5432"), self.socket.clone());
        let listener = tokio::net::UnixListener::bind(path).unwrap();
        self.open = Some(tokio::spawn(async move {
            let mut ways = tokio::task::JoinSet::new();
            loop {
                let (mut near, _) = listener.accept().await.unwrap();
                let mut far = tokio::net::UnixStream::connect(&socket).await.unwrap();
                ways.spawn(async move { tokio::io::copy_bidirectional(&mut near, &mut far).await });
            }
        }));
    }

    /// Cuts what goes through it, and lets nothing more through.
    async fn cut(&mut self) {
        let open = self.open.take().unwrap();
        open.abort();
        _ = open.await;
        std::fs::remove_file(self.folder.join(".s.PGSQL.5432")).unwrap();
    }
}

#[tokio::test]
async fn records_wait_while_postgresql_is_away_and_each_comes_once() {
    let Some(database) = Database::postgresql().await else { return };
    let (mut way, address) = Way::to(&database.url);
    way.open();
    let (near, far) = (Store::connect(&address, 5).await.unwrap(), database.open().await);
    let (sealer, base) = (Sealer::new(&MasterKey::generate()), base());
    let mut process = Process::start(base.clone(), &near, &sealer);
    let journal = Arc::clone(process.trail.journal().unwrap());
    let running = process.run();
    let mut count = 0_i64;
    for _ in 0..5 {
        for _ in 0..700 {
            process.sign_in("acme", "somebody");
            count += 1;
        }
        // In the midst of it, or not.
        tokio::time::sleep(Duration::from_millis(rand::random::<u64>() % 50)).await;
        way.cut().await;
        (0..10).for_each(|_| process.sign_in("acme", "somebody"));
        count += 10;
        until(async || !journal.is_well()).await;
        way.open();
        until(async || seq(&far, "acme").await == count).await;
        until(async || journal.is_well()).await;
    }
    running.finish().await;
    let verified = verify(&far, Some(&sealer), None, |_| {}).await.unwrap();
    assert_eq!((verified.records, verified.findings), (count.unsigned_abs() + words(&far).await, vec![]));
    std::fs::remove_dir_all(&base).unwrap();
    std::fs::remove_dir_all(&way.folder).unwrap();
}
