//! Records of the audit trail that stand in blocks: they are found as if each stood alone, whatever is changed of them is named, and they
//! go when they are too old.

use std::sync::Arc;
use std::time::{Duration, Instant};

use mcp_registry_gateway::audit::{pack, prune, record, records, search, verify};
use mcp_registry_gateway::clock;
use mcp_registry_gateway::crypto::{MasterKey, Sealer};
use mcp_registry_gateway::id::{Principal, Slug, TenantId};
use mcp_registry_gateway::store::audit::AuditRow;
use mcp_registry_gateway::store::audit_blocks::BlockRow;
use mcp_registry_gateway::store::audit_search::AuditSelection;
use mcp_registry_gateway::store::{Store, micros, now};
use mcp_registry_gateway::telemetry::{Actor, Operation, Outcome, RequestId, Sink as _};
use sha2::{Digest as _, Sha256};
use uuid::Uuid;

use crate::audit_chains::{LATER, Process, base, literal, run, words, wrong};
use crate::cut_off::{self, Left, Told};
use crate::store_databases::Database;

async fn blocks(store: &Store, chain: &str) -> Vec<BlockRow> {
    store.audit_blocks(chain, 0, 1_000).await.unwrap().into_iter().map(|found| found.block).collect()
}

/// Where the columns of a record begin, and how wide each is.
const COLUMNS: [(usize, usize); 9] = [(0, 4), (4, 2), (6, 4), (10, 4), (14, 2), (16, 2), (18, 2), (20, 4), (24, 6)];

/// Puts another block where this one stands.
async fn put(database: &Database, block: &BlockRow) {
    let of = |bytes: &[u8]| literal(database, bytes);
    let BlockRow { chain, first_seq, last_seq, columns, hashes, texts, .. } = block;
    let (columns, hashes, texts) = (of(columns), of(hashes), of(texts));
    run(
        database,
        &format!(
            "UPDATE audit_blocks SET last_seq = {last_seq}, columns = {columns}, hashes = {hashes}, texts = {texts}
             WHERE chain = '{chain}' AND first_seq = {first_seq}"
        ),
    )
    .await;
}

/// An id as a literal.
fn id(database: &Database, id: Uuid) -> String {
    if database.file().is_some() { literal(database, id.as_bytes()) } else { format!("UUID '{id}'") }
}

/// Of the records of no tenant, which say how far chains are, those that are not too old.
async fn kept_of_nobody(store: &Store) -> u64 {
    store.audit_chain("").await.unwrap().map_or(0, |head| (head.seq - head.begin_seq).unsigned_abs())
}

/// The texts of a block; each stands behind its length.
fn texts(block: &BlockRow) -> Vec<String> {
    let all = lz4_flex::block::decompress_size_prepended(&block.texts).unwrap();
    let (mut rest, mut texts) = (&all[..], Vec::new());
    while let Some((length, more)) = rest.split_first_chunk() {
        let (text, more) = more.split_at(u32::from_le_bytes(*length) as usize);
        texts.push(String::from_utf8(text.to_vec()).unwrap());
        rest = more;
    }
    texts
}

/// The same block with other texts.
fn with(block: &BlockRow, texts: &[String]) -> BlockRow {
    let mut all = Vec::new();
    for text in texts {
        all.extend_from_slice(&u32::try_from(text.len()).unwrap().to_le_bytes());
        all.extend_from_slice(text.as_bytes());
    }
    BlockRow { texts: lz4_flex::block::compress_prepend_size(&all), ..block.clone() }
}

/// Makes the hashes of a block and of all behind it anew, and the head's.
async fn hash_anew(database: &Database, mut before: Vec<u8>, from: BlockRow, behind: Vec<BlockRow>) {
    let chain = from.chain.clone();
    for mut block in std::iter::once(from).chain(behind) {
        block.hashes.clear();
        for text in texts(&block) {
            before = Sha256::new().chain_update(&before).chain_update(text).finalize().to_vec();
            block.hashes.extend_from_slice(&before);
        }
        put(database, &block).await;
    }
    let hash = literal(database, &before);
    run(database, &format!("UPDATE audit_chains SET hash = {hash} WHERE chain = '{chain}'")).await;
}

on_both! {
    async fn whatever_is_changed_in_blocks_is_named(database) {
        let (store, sealer) = (database.open().await, Sealer::new(&MasterKey::generate()));
        let base = base();
        for part in 0..4 {
            let process = Process::start(base.clone(), &store, &sealer);
            (0..600).for_each(|number| process.sign_in("acme", &format!("user-{part}-{number}")));
            (0..130).for_each(|_| process.sign_in("other", "somebody"));
            process.finish().await;
        }
        pack(&store, LATER).await.unwrap();
        assert!(store.audit_rows("acme", 0, 1).await.unwrap().is_empty(), "none stands alone");
        let whole = verify(&store, Some(&sealer), None, |_| {}).await.unwrap();
        assert_eq!((whole.chains, whole.records, whole.findings), (3, 2_920 + words(&store).await, vec![]));
        let all = blocks(&store, "acme").await;
        assert!(all.len() < 2_400 / 128 && all.iter().all(|block| block.last_seq - block.first_seq < 256));
        let points = store.audit_checkpoints("acme").await.unwrap();
        assert!(points.len() >= 2, "{points:?}");
        let point = points[0].seq;
        for table in ["audit_blocks", "audit_records", "audit_chains", "audit_checkpoints"] {
            run(database, &format!("CREATE TABLE copy_{table} AS SELECT * FROM {table}")).await;
        }
        let again = async || {
            for table in ["audit_blocks", "audit_records", "audit_chains", "audit_checkpoints"] {
                run(database, &format!("DELETE FROM {table}; INSERT INTO {table} SELECT * FROM copy_{table}")).await;
            }
            assert_eq!(wrong(&store, &sealer).await, []);
        };

        for (number, at) in [(0, 0), (0, 6), (2, 100), (all.len() - 1, 30)] {
            let block = &all[number];
            let seq = block.first_seq + i64::try_from(at).unwrap();
            let mut changed = texts(block);
            changed[at] = changed[at].replace("user-", "eser-");
            put(database, &with(block, &changed)).await;
            assert_eq!(wrong(&store, &sealer).await, [("record", Some(seq))], "changed {seq}");
            again().await;
            // Only what is signed tells of this.
            let before = match number.checked_sub(1) {
                Some(before) => all[before].hashes[all[before].hashes.len() - 32..].to_vec(),
                None => Sha256::digest("mcp-gateway audit chain\nacme").to_vec(),
            };
            hash_anew(database, before, with(block, &changed), all[number + 1..].to_vec()).await;
            let told = wrong(&store, &sealer).await;
            let expected = if seq <= point { ("checkpoint", Some(point)) } else { ("head", Some(2_400)) };
            assert!(told.contains(&expected) && told.contains(&("head", Some(2_400))), "hashed anew from {seq}: {told:?}");
            again().await;
            // A search looks at columns alone: it must not be lied to.
            let count = texts(block).len();
            for (column, width) in COLUMNS {
                let mut lying = block.clone();
                lying.columns[column * count + at * width] ^= 1;
                put(database, &lying).await;
                assert_eq!(wrong(&store, &sealer).await, [("columns", Some(seq))], "column {column} of {seq}");
            }
            again().await;
            changed.clone_from(&texts(block));
            changed.swap(at, at + 1);
            put(database, &with(block, &changed)).await;
            let mut told = wrong(&store, &sealer).await;
            // They may have begun in different milliseconds.
            told.retain(|(kind, _)| *kind != "columns");
            assert_eq!(told, [("record", Some(seq)), ("record", Some(seq + 1))], "swapped");
            again().await;
            changed.clone_from(&texts(block));
            "no record".clone_into(&mut changed[at]);
            put(database, &with(block, &changed)).await;
            assert_eq!(wrong(&store, &sealer).await, [("record", Some(seq))], "no record");
            again().await;
        }

        let block = &all[1];
        let (first, last) = (block.first_seq, block.last_seq);
        let of = format!("chain = 'acme' AND first_seq = {first}");
        run(database, &format!("DELETE FROM audit_blocks WHERE {of}")).await;
        assert_eq!(wrong(&store, &sealer).await, [("missing", Some(first))]);
        again().await;
        run(database, &format!("UPDATE audit_blocks SET chain = 'nobody' WHERE {of}")).await;
        assert_eq!(wrong(&store, &sealer).await, [("missing", Some(first)), ("head", None)]);
        again().await;
        run(database, &format!("UPDATE audit_blocks SET last_seq = last_seq - 1 WHERE {of}")).await;
        assert_eq!(wrong(&store, &sealer).await, [("block", Some(first)), ("missing", Some(last))]);
        again().await;
        // Cut, and whole again.
        let kept = usize::try_from(last - first).unwrap();
        let mut cut = with(block, &texts(block)[..kept]);
        (cut.last_seq, cut.columns) = (last - 1, Vec::new());
        for (at, width) in COLUMNS {
            cut.columns.extend_from_slice(&block.columns[at * (kept + 1)..at * (kept + 1) + width * kept]);
        }
        cut.hashes.truncate(kept * 32);
        put(database, &cut).await;
        assert_eq!(wrong(&store, &sealer).await, [("missing", Some(last))], "cut");
        again().await;
        // A search passes over a block whose ids are said to be others; over no other one.
        run(database, &format!("UPDATE audit_blocks SET greatest_id = least_id WHERE {of}")).await;
        assert_eq!(wrong(&store, &sealer).await, [("block", Some(first))]);
        again().await;
        let acme = AuditSelection { chain: Some("acme"), ..AuditSelection::default() };
        let every = async || search(&store, &acme, 10_000).await.unwrap().len();
        let (nil, max) = (id(database, Uuid::nil()), id(database, Uuid::max()));
        for set in [format!("greatest_id = {max}"), format!("least_id = {nil}")] {
            run(database, &format!("UPDATE audit_blocks SET {set} WHERE {of}")).await;
            assert_eq!(wrong(&store, &sealer).await, [("block", Some(first))], "{set}");
            assert_eq!(every().await, 2_400, "{set}");
            run(database, &format!("UPDATE audit_blocks SET {set} WHERE chain = 'acme'")).await;
            let told: Vec<_> = all.iter().map(|block| ("block", Some(block.first_seq))).collect();
            assert_eq!(wrong(&store, &sealer).await, told, "{set} of all");
            assert_eq!(every().await, 2_400, "{set} of all");
            again().await;
        }
        // Nor because of what somebody put in: blocks of nothing, garbage, and what stands there already.
        let none = BlockRow { columns: Vec::new(), hashes: Vec::new(), ..with(block, &[]) };
        let garbage = BlockRow { texts: vec![7; 99], ..block.clone() };
        for (count, long, put_in) in [(64, 0, &none), (1, 20, &garbage), (300, 20, &garbage)] {
            let parts = [&put_in.columns, &put_in.hashes, &put_in.texts].map(|bytes| literal(database, bytes));
            let seqs = (1..=count).map(|number| first + number);
            let rows = seqs.clone().map(|seq| {
                format!(
                    "INSERT INTO audit_blocks (chain, first_seq, last_seq, least_id, greatest_id, columns, hashes, texts)
                     SELECT chain, {seq}, {}, least_id, greatest_id, {} FROM audit_blocks WHERE {of} ON CONFLICT DO NOTHING",
                    seq + long - 1,
                    parts.join(", ")
                )
            });
            run(database, &rows.collect::<Vec<_>>().join(";")).await;
            let told: Vec<_> = seqs.map(|seq| ("block", Some(seq))).collect();
            let found = wrong(&store, &sealer).await;
            assert!(told.iter().all(|told| all.iter().any(|block| Some(block.first_seq) == told.1) || found.contains(told)), "{found:?}");
            assert!(found.iter().all(|(kind, _)| *kind == "block"), "{found:?}");
            assert_eq!(every().await, 2_400, "{count} blocks put in");
            assert_eq!(records(&store, "acme", 0, 10_000).await.unwrap().len(), 2_400, "{count} blocks put in");
            again().await;
        }
        let copied = "INSERT INTO audit_blocks SELECT chain, first_seq + 100000, last_seq + 100000, least_id, greatest_id,
            columns, hashes, texts FROM audit_blocks";
        run(database, &format!("{copied} WHERE {of}")).await;
        assert!(wrong(&store, &sealer).await.contains(&("added", Some(first + 100_000))));
        again().await;
        for at in (0..block.texts.len()).step_by(block.texts.len() / 40) {
            let mut hurt = block.clone();
            hurt.texts[at] ^= 0x11;
            // It may say the same in other words.
            let read = |block: &BlockRow| lz4_flex::block::decompress_size_prepended(&block.texts).ok();
            if read(&hurt) == read(block) && at > 3 {
                continue;
            }
            put(database, &hurt).await;
            let told = wrong(&store, &sealer).await;
            assert!(!told.is_empty() && told.iter().all(|(_, seq)| (first..=last + 1).contains(&seq.unwrap())), "byte {at}: {told:?}");
            // What else there is can be looked at.
            assert!(records(&store, "acme", 0, 10_000).await.unwrap().len() >= 2_400 - kept - 1);
        }
        again().await;
        // What cannot be read has its hashes still: what follows it is not changed unseen either.
        let next = &all[2];
        let mut changed = texts(next);
        changed[0] = changed[0].replace("user-", "eser-");
        put(database, &BlockRow { texts: vec![7; 99], ..block.clone() }).await;
        put(database, &with(next, &changed)).await;
        let told = wrong(&store, &sealer).await;
        assert_eq!(told, [("block", Some(first)), ("record", Some(next.first_seq))]);
        again().await;
        // One finding for each, also of several that are read at once.
        for number in [1, 3] {
            put(database, &BlockRow { texts: vec![7; 99], ..all[number].clone() }).await;
        }
        let told = wrong(&store, &sealer).await;
        assert_eq!(told, [("block", Some(first)), ("block", Some(all[3].first_seq))]);
        again().await;
        let twice = format!(
            "INSERT INTO audit_records (chain, seq, id, at, action, outcome, text, hash)
             SELECT chain, 7, least_id, 1, 'auth.login', 'success', '{{}}', hashes FROM audit_blocks WHERE {of}"
        );
        run(database, &twice).await;
        assert!(wrong(&store, &sealer).await.contains(&("record", Some(7))), "a second record in the same place");
        again().await;
        let before = format!(
            "INSERT INTO audit_records (chain, seq, id, at, action, outcome, text, hash)
             SELECT chain, -5, {nil}, 1, 'auth.login', 'success', '{{}}', hashes FROM audit_blocks WHERE {of}"
        );
        run(database, &before).await;
        assert_eq!(wrong(&store, &sealer).await, [("below", Some(-5))]);
        assert_eq!((every().await, record(&store, None, Uuid::nil()).await.unwrap()), (2_400, None));
        again().await;
        // Nothing goes on as if there had been nothing before.
        run(database, "DELETE FROM audit_chains WHERE chain = 'acme'").await;
        let process = Process::start(base.clone(), &store, &sealer);
        process.sign_in("acme", "later");
        process.finish().await;
        assert_eq!(store.audit_chain("acme").await.unwrap().unwrap().seq, 2_401);
        std::fs::remove_dir_all(&base).unwrap();
    }
}

/// What many people did, and others before anybody knew them, at many times.
fn operations() -> Vec<Operation> {
    let one = |number: usize| {
        let of = |count: usize, salt: usize| (number.wrapping_mul(2_654_435_761) >> salt) % count;
        let mut one = Operation::start(RequestId::new(), "/mcp/{server}");
        one.set_method(["tools/call", "tools/call", "tools/list"][of(3, 2)]);
        one.started = Instant::now().checked_sub(Duration::from_secs(of(600, 4) as u64)).unwrap();
        let user = of(6, 6);
        one.who = (user > 0).then(|| {
            Arc::new(Actor {
                tenant: TenantId::default_tenant(),
                principal: Principal { issuer: "local".into(), subject: user.to_string().into() },
                user: Uuid::from_u128(user as u128),
                username: format!("user-{user}").into(),
                role: "user",
                session_type: "api_key",
                credential: Uuid::from_u128(user as u128),
                client: (user == 3).then(|| "editor".into()),
            })
        });
        one.server = (of(7, 3) > 0).then(|| Slug::parse(&format!("server-{}", of(3, 5))).unwrap());
        one.name = Some(format!("tool_{}", of(5, 8)).into());
        one.address = Some(std::net::Ipv6Addr::from(0x2001_0db8_u128 << 96 | of(4, 9) as u128).into());
        one.finish([Outcome::Success, Outcome::ToolError][usize::from(of(20, 10) == 0)]);
        one
    };
    (0..1_500).map(one).collect()
}

on_both! {
    async fn what_stands_in_blocks_is_found_as_if_it_stood_alone(database) {
        let (store, sealer) = (database.open().await, Sealer::new(&MasterKey::generate()));
        let base = base();
        for some in operations().chunks(60) {
            let process = Process::start(base.clone(), &store, &sealer);
            for (number, one) in some.iter().enumerate() {
                process.trail.operation(one);
                if number % 5 == 0 {
                    process.sign_in("acme", "somebody");
                }
            }
            process.finish().await;
        }
        let mut all: Vec<AuditRow> = Vec::new();
        for chain in ["", "acme", "default"] {
            all.extend(records(&store, chain, 0, 10_000).await.unwrap());
        }
        all.sort_by_key(|row| std::cmp::Reverse(row.id));
        // And some that say how far chains are.
        let count = all.len();
        assert!((1_801..1_900).contains(&count), "{count}");
        let (early, late) = (Some(all[1_000].at), Some(all[500].at));
        let some = &all[700];
        let any = AuditSelection::default();
        let wanted = [
            any.clone(),
            AuditSelection { chain: Some("acme"), ..any.clone() },
            AuditSelection { chain: Some(""), outcome: Some("success"), ..any.clone() },
            AuditSelection { user: Some(Uuid::from_u128(3)), ..any.clone() },
            AuditSelection { user: Some(Uuid::from_u128(3)), chain: Some("default"), ..any.clone() },
            AuditSelection { client: Some("editor"), from: early, ..any.clone() },
            AuditSelection { server: Some("server-1"), name: Some("tool_4"), to: late, ..any.clone() },
            AuditSelection { server: Some("server-1"), name: Some("none"), ..any.clone() },
            AuditSelection { address: Some("2001:db8::2"), from: early, to: late, ..any.clone() },
            AuditSelection { action: Some("tools/list"), outcome: Some("tool_error"), ..any.clone() },
            AuditSelection { request_id: some.request_id.as_deref(), ..any.clone() },
            AuditSelection { username: Some("nobody"), ..any.clone() },
            AuditSelection { from: late, to: late, ..any.clone() },
            AuditSelection { from: early, before: Some(all[800].id), ..any.clone() },
        ];
        let like = |which: &AuditSelection<'_>| -> Vec<AuditRow> {
            let is = |wanted: Option<&str>, is: Option<&str>| wanted.is_none_or(|wanted| is == Some(wanted));
            let fits = |row: &&AuditRow| {
                is(which.chain, Some(&row.chain)) && which.username.is_none()
                    && which.user.is_none_or(|user| row.user_id == Some(user))
                    && is(which.action, Some(&row.action)) && is(which.outcome, Some(&row.outcome))
                    && is(which.server, row.server.as_deref()) && is(which.name, row.name.as_deref())
                    && is(which.address, row.address.as_deref()) && is(which.client, row.client.as_deref())
                    && is(which.request_id, row.request_id.as_deref())
                    && which.from.is_none_or(|from| row.at >= from) && which.to.is_none_or(|to| row.at < to)
                    && which.before.is_none_or(|before| row.id < before)
            };
            all.iter().filter(fits).cloned().collect()
        };
        for then in ["alone", "some in blocks", "all in blocks"] {
            for which in &wanted {
                let expected = like(which);
                assert_eq!(search(&store, which, 10_000).await.unwrap(), expected, "{then}: {which:?}");
                // A page at a time.
                let (mut paged, mut before) = (Vec::new(), which.before);
                loop {
                    let page = search(&store, &AuditSelection { before, ..which.clone() }, 70).await.unwrap();
                    let Some(last) = page.last() else { break };
                    before = Some(last.id);
                    paged.extend(page);
                }
                assert_eq!(paged, expected, "{then}, by pages: {which:?}");
            }
            for row in [&all[0], some, &all[count - 1]] {
                assert_eq!(record(&store, None, row.id).await.unwrap().as_ref(), Some(row), "{then}");
                assert_eq!(record(&store, Some(&row.chain), row.id).await.unwrap().as_ref(), Some(row), "{then}");
                assert_eq!(record(&store, Some("another"), row.id).await.unwrap(), None, "{then}");
            }
            assert_eq!(record(&store, None, Uuid::nil()).await.unwrap(), None, "{then}");
            while pack(&store, if then == "alone" { micros(now()) } else { LATER }).await.unwrap() {}
        }
        for chain in ["", "acme", "default"] {
            assert!(store.audit_rows(chain, 0, 1).await.unwrap().is_empty(), "of `{chain}` some stand alone");
        }
        let verified = verify(&store, Some(&sealer), None, |_| {}).await.unwrap();
        assert_eq!((verified.records, verified.findings), (count as u64, vec![]));
        std::fs::remove_dir_all(&base).unwrap();
    }
}

on_both! {
    async fn a_record_is_found_by_its_id_among_many_blocks_of_the_same_time(database) {
        let (store, sealer) = (database.open().await, Sealer::new(&MasterKey::generate()));
        let base = base();
        let process = Process::start(base.clone(), &store, &sealer);
        for part in 0..2 {
            (0..80).for_each(|number| process.sign_in(&format!("tenant-{number}"), &format!("user-{part}")));
        }
        process.finish().await;
        pack(&store, LATER).await.unwrap();
        // Each block of this chain holds what began before all of them.
        let old = operations().into_iter().filter(|one| one.who.is_some()).max_by_key(|one| one.started.elapsed()).unwrap();
        for number in 0..70 {
            let process = Process::start(base.clone(), &store, &sealer);
            process.trail.operation(&old);
            process.sign_in("default", &format!("user-{number}"));
            process.finish().await;
            while pack(&store, LATER).await.unwrap() {}
        }
        assert!(blocks(&store, "default").await.len() >= 70);
        let mut chains: Vec<_> = (0..80).map(|number| format!("tenant-{number}")).collect();
        chains.push("default".to_owned());
        for chain in &chains {
            let rows = records(&store, chain, 0, 1_000).await.unwrap();
            assert!(rows.len() >= 2, "{chain}");
            for row in rows {
                for of in [None, Some(chain.as_str())] {
                    assert_eq!(record(&store, of, row.id).await.unwrap().as_ref(), Some(&row), "{chain}: {of:?}");
                }
            }
        }
        std::fs::remove_dir_all(&base).unwrap();
    }
}

on_both! {
    async fn a_block_goes_when_all_of_it_may_and_what_is_too_old_in_it_is_not_shown(database) {
        let (store, sealer) = (database.open().await, Sealer::new(&MasterKey::generate()));
        let base = base();
        for part in 0..5 {
            let process = Process::start(base.clone(), &store, &sealer);
            (0..60).for_each(|number| process.sign_in("default", &format!("user-{part}-{number}")));
            process.finish().await;
            clock::move_on(Duration::from_hours(24 * 100));
        }
        pack(&store, micros(now())).await.unwrap();
        let ends = async || blocks(&store, "default").await.iter().map(|block| block.last_seq).collect::<Vec<_>>();
        assert_eq!(ends().await, [256, 300]);
        // They are from 500 to 100 days old, and are kept for 365; the last checkpoint before then is behind the second batch.
        assert_eq!(prune(&store, &sealer, micros(now())).await.unwrap(), []);
        assert_eq!(ends().await, [256, 300]);
        let seen = records(&store, "default", 0, 1_000).await.unwrap();
        assert_eq!((seen.len(), seen[0].seq), (180, 121));
        let all = AuditSelection { chain: Some("default"), ..AuditSelection::default() };
        assert_eq!(search(&store, &all, 1_000).await.unwrap().len(), 180);
        let verified = verify(&store, Some(&sealer), None, |_| {}).await.unwrap();
        assert_eq!((verified.records, verified.findings), (180 + kept_of_nobody(&store).await, vec![]));
        clock::move_on(Duration::from_hours(24 * 200));
        // Now the first block lies on both sides still; then all of it may go.
        let gone = prune(&store, &sealer, micros(now())).await.unwrap();
        assert!(gone.iter().all(|(chain, _)| chain.is_empty()), "{gone:?}");
        clock::move_on(Duration::from_hours(24 * 100));
        // One that is longer than numbers go counts for no more than a block holds.
        let long = "INSERT INTO audit_blocks SELECT chain, -9223372036854775808, 5, least_id, greatest_id, columns, hashes, texts
            FROM audit_blocks WHERE chain = 'default' AND first_seq = 1";
        run(database, long).await;
        let gone = prune(&store, &sealer, micros(now())).await.unwrap();
        assert!(gone.contains(&("default".to_owned(), 556)), "{gone:?}");
        assert!(ends().await.is_empty());
        // What the chains said of one another went as well; who writes says it anew.
        let process = Process::start(base.clone(), &store, &sealer);
        process.sign_in("other", "user");
        process.finish().await;
        let verified = verify(&store, Some(&sealer), None, |_| {}).await.unwrap();
        assert_eq!((verified.records, verified.findings), (kept_of_nobody(&store).await + 1, vec![]));
        std::fs::remove_dir_all(&base).unwrap();
    }
}

#[tokio::test]
async fn what_does_not_stand_as_it_was_written_becomes_part_of_no_block() {
    let database = Database::sqlite();
    let (store, sealer) = (database.open().await, Sealer::new(&MasterKey::generate()));
    let base = base();
    let process = Process::start(base.clone(), &store, &sealer);
    (0..60).for_each(|number| process.sign_in("acme", &format!("user-{number}")));
    process.finish().await;
    run(&database, "UPDATE audit_records SET username = 'eve' WHERE seq = 40").await;
    pack(&store, LATER).await.unwrap();
    let ranges: Vec<_> = blocks(&store, "acme").await.iter().map(|block| (block.first_seq, block.last_seq)).collect();
    assert_eq!(ranges, [(1, 39), (41, 60)]);
    assert_eq!(wrong(&store, &sealer).await, [("columns", Some(40))]);
    std::fs::remove_dir_all(&base).unwrap();
}

on_both! {
    async fn what_one_record_is_not_takes_no_other_with_it(database) {
        let (store, sealer) = (database.open().await, Sealer::new(&MasterKey::generate()));
        let base = base();
        let process = Process::start(base.clone(), &store, &sealer);
        (0..60).for_each(|number| process.sign_in("acme", &format!("user-{number}")));
        process.finish().await;
        run(database, "UPDATE audit_records SET hash = substr(hash, 1, 31) WHERE chain = 'acme' AND seq = 40").await;
        while pack(&store, LATER).await.unwrap() {}
        let told = wrong(&store, &sealer).await;
        assert!(told.iter().all(|(kind, seq)| *kind == "record" && [Some(40), Some(41)].contains(seq)), "{told:?}");
        assert!(told.contains(&("record", Some(40))), "{told:?}");
        let acme = AuditSelection { chain: Some("acme"), ..AuditSelection::default() };
        let found = search(&store, &acme, 1_000).await.unwrap();
        assert!((1..=60).filter(|seq| *seq != 40).all(|seq| found.iter().any(|row| row.seq == seq)));
        std::fs::remove_dir_all(&base).unwrap();
    }
}

on_both! {
    async fn blocks_are_made_whatever_stands_in_the_way_of_others(database) {
        let (store, sealer) = (database.open().await, Sealer::new(&MasterKey::generate()));
        let base = base();
        for part in 0..30 {
            let process = Process::start(base.clone(), &store, &sealer);
            for chain in ["acme", "other"] {
                (0..30).for_each(|number| process.sign_in(chain, &format!("user-{part}-{number}")));
            }
            process.finish().await;
        }
        assert_eq!(store.audit_rows("other", 0, 1_000).await.unwrap().len(), 900);
        run(
            database,
            "INSERT INTO audit_blocks SELECT chain, seq, seq - 1, id, id, hash, hash, hash FROM audit_records WHERE chain = 'acme' AND seq = 1;
             UPDATE audit_records SET name = 'eve' WHERE chain = 'other' AND seq <= 600",
        )
        .await;
        pack(&store, LATER).await.unwrap();
        let made: Vec<_> = blocks(&store, "other").await.iter().map(|block| (block.first_seq, block.last_seq)).collect();
        assert!(made.first().is_some_and(|block| block.0 == 601) && made.last().is_some_and(|block| block.1 == 900), "{made:?}");
        assert_eq!(store.audit_rows("other", 600, 1_000).await.unwrap(), []);
        assert_eq!(store.audit_rows("acme", 0, 1_000).await.unwrap().len(), 900);
        assert!(wrong(&store, &sealer).await.contains(&("block", Some(1))));
        std::fs::remove_dir_all(&base).unwrap();
    }
}

/// The process that is ended, or comes later: makes blocks. Of another test, which says where it ends.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "is run by other tests"]
async fn a_process_of_its_own() {
    let told = Told::here();
    let store = Store::connect(told.text("database"), 2).await.unwrap();
    told.watch();
    pack(&store, LATER).await.unwrap();
    println!("{}", cut_off::reached());
}

async fn ends_at(database: &Database, place: usize) -> Left {
    let (store, sealer) = (database.open().await, Sealer::new(&MasterKey::generate()));
    let base = base();
    for _ in 0..6 {
        let process = Process::start(base.clone(), &store, &sealer);
        (0..50).for_each(|number| process.sign_in("acme", &format!("user-{number}")));
        process.finish().await;
    }
    let before = records(&store, "acme", 0, 1_000).await.unwrap();
    let of = AuditSelection { chain: Some("acme"), ..AuditSelection::default() };
    let what = serde_json::json!({"database": database.url});
    let process =
        async |ends_at| cut_off::run("audit_blocks::a_process_of_its_own", &what, Duration::ZERO, ends_at).await;
    let places = process(place).await;
    for _ in 0..2 {
        assert_eq!(records(&store, "acme", 0, 1_000).await.unwrap(), before, "nothing is lost or comes twice: {place}");
        assert_eq!(search(&store, &of, 1_000).await.unwrap().len(), 300, "{place}");
        assert_eq!(wrong(&store, &sealer).await, [], "{place}");
        process(0).await;
    }
    assert_eq!(blocks(&store, "acme").await.len(), 2, "{place}");
    std::fs::remove_dir_all(&base).unwrap();
    Left { places, lost: false }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_makes_blocks_may_end_anywhere_sqlite() {
    let (places, _) = cut_off::at_every_place(async || Some(Database::sqlite()), ends_at).await.unwrap();
    assert_eq!(
        places.iter().filter(|place| *place == "after a commit").count(),
        5,
        "two blocks and one, and nothing left of either chain: {places:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn who_makes_blocks_may_end_anywhere_postgresql() {
    cut_off::at_every_place(Database::postgresql, ends_at).await;
}
