//! The keys that seal secrets, replaced while everything goes on: nothing is lost, nothing stays under an old key, and what is one
//! person's opens as nobody else's.

use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use mcp_registry_gateway::crypto::{MasterKey, Place, SealKeyId, Sealer};
use mcp_registry_gateway::grants::{GivenTokens, NewLogin, Tokens};
use mcp_registry_gateway::id::TenantId;
use mcp_registry_gateway::store::sealed::{self, SealedRow, Under};
use mcp_registry_gateway::store::{Store, now};
use mcp_registry_gateway::vault::SETTLED;
use serde_json::{Value, json};
use sqlx::{AssertSqlSafe, Connection as _, Executor as _, SqliteConnection};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::store_databases::Database;
use crate::store_grants::House;
use crate::store_rest::{World, server};

const HERE: std::net::IpAddr = std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);
const ROTATE: &str = "POST /admin/rotate-sealing-keys";

fn default() -> TenantId {
    TenantId::default_tenant()
}

/// Servers with secrets, logins and a session of one person.
struct Kept {
    user: Uuid,
    logins: Vec<Uuid>,
}

const SERVERS: usize = 3;
const LOGINS: usize = 4;

fn with_header(slug: &str, value: &str) -> Value {
    let mut spec = server(slug);
    spec["headers"] = json!({"x-key": value});
    spec
}

/// As the process of `world`, an authorization server with somebody's account.
fn house(world: &World, user: Uuid) -> House {
    House { store: world.app.store.clone(), grants: world.app.grants.clone(), tenant: default(), user, now: now() }
}

async fn put_in(world: &World) -> Kept {
    for at in 0..SERVERS {
        world.call("POST /servers", with_header(&format!("s{at}"), "first")).await.expect(201);
    }
    let made = world.call("POST /users", json!({"username": "ann"})).await.expect(201).json();
    let user = made["id"].as_str().unwrap().parse().unwrap();
    let mut logins = Vec::new();
    for _ in 0..LOGINS {
        let tokens = GivenTokens { text: b"0", expires_at: now() + Duration::from_hours(1) };
        let new = NewLogin { tenant: &default(), user, provider: "entra", tokens: Some(tokens) };
        logins.push(world.app.grants.keep_login(&new, now()).await.unwrap());
    }
    Kept { user, logins }
}

async fn token_of(world: &World, login: Uuid) -> String {
    let login = world.app.grants.login(&default(), login).await.unwrap().unwrap();
    String::from_utf8(login.tokens.unwrap().to_vec()).unwrap()
}

async fn headers(world: &World) -> Vec<String> {
    let mut servers = world.app.servers().load_all().await.unwrap();
    servers.sort_by(|one, other| one.spec.slug.as_str().cmp(other.spec.slug.as_str()));
    servers.iter().map(|server| server.spec.headers["x-key"].expose().to_owned()).collect()
}

async fn status(world: &World) -> Value {
    world.call("GET /admin/sealing-keys", Value::Null).await.expect(200).json()
}

/// Seals anew what there is, as if the old keys had been old for long enough, until none is left.
async fn settle(world: &World) {
    let later = now() + SETTLED + Duration::from_mins(1);
    world.app.grants.sweep(later, |_| {}).await.unwrap();
    // Another process may be at it.
    while status(world).await["data"]["retired"] != 0 {
        world.app.seal_anew(later).await.unwrap();
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let status = status(world).await;
    assert_eq!((&status["data"]["stale"], &status["data"]["running_out"]), (&json!(0), &json!(0)), "{status}");
}

/// Each value of a tenant names the newest of its keys, and that is all there are.
async fn only_the_newest_key_is_named(world: &World) {
    let keys = world.app.vault.keys_of(&default());
    assert_eq!(keys.len(), 1, "{keys:?}");
    for column in sealed::ALL.iter().filter(|column| column.under == Under::Tenant) {
        for counted in world.app.store.count_marks(column, None).await.unwrap() {
            assert_eq!(SealKeyId::of(&counted.mark), keys[0].1, "{}: {counted:?}", column.name);
        }
    }
}

#[tokio::test]
async fn every_column_that_could_hold_something_sealed_is_known_as_sealed_or_as_open() {
    const OPEN: [(&str, &str); 34] = [
        ("access_tokens.hash", "a hash"),
        ("access_tokens.jkt", "a thumbprint of a public key"),
        ("api_keys.hash", "a hash"),
        ("audit_accepted.hash", "a hash"),
        ("audit_accepted.signature", "a signature"),
        ("audit_blocks.columns", "hashes of what is looked for"),
        ("audit_blocks.hashes", "hashes"),
        ("audit_blocks.texts", "records in which no secret is, compressed"),
        ("audit_chains.begin_hash", "a hash"),
        ("audit_chains.begin_signature", "a signature"),
        ("audit_chains.hash", "a hash"),
        ("audit_chains.signature", "a signature"),
        ("audit_checkpoints.hash", "a hash"),
        ("audit_checkpoints.signature", "a signature"),
        ("audit_keys.public", "a public key"),
        ("audit_records.hash", "a hash"),
        ("authorization_codes.hash", "a hash"),
        ("authorization_codes.jkt", "a thumbprint of a public key"),
        ("authorizations.browser_hash", "a hash"),
        ("authorizations.state_hash", "a hash"),
        ("browser_sessions.hash", "a hash"),
        ("catalogs.items", "what a server offers"),
        ("connection_attempts.browser_hash", "a hash"),
        ("connection_attempts.state_hash", "a hash"),
        ("connection_clients.client", "sealed by the key of ids, which outlasts the others"),
        ("grants.jkt", "a thumbprint of a public key"),
        ("idempotency.body", "an answer in which no secret is"),
        ("idempotency.fingerprint", "a hash"),
        ("idempotency.id", "a hash"),
        ("observed_operations.digest", "names an operation"),
        ("refresh_tokens.hash", "a hash"),
        ("rollup_calls.latency", "how long calls took"),
        ("rollup_events.lasted", "how long sessions lasted"),
        ("spent_assertions.hash", "a hash"),
    ];
    let database = Database::sqlite();
    let store = database.open().await;
    let mut raw = SqliteConnection::connect(&database.url).await.unwrap();
    let text = "SELECT m.name || '.' || c.name FROM sqlite_master m JOIN pragma_table_info(m.name) c
        WHERE m.type = 'table' AND c.type = 'BYTEA' ORDER BY 1";
    let there: Vec<String> = sqlx::query_scalar(text).fetch_all(&mut raw).await.unwrap();
    let is_sealed = |name: &str| sealed::ALL.iter().any(|column| column.name == name);
    let is_open = |name: &str| {
        let memory = ["discover_result", "initialize_result", "next_refresh", "next_access"];
        OPEN.iter().any(|(open, _)| *open == name) || memory.iter().any(|column| name.ends_with(column))
    };
    let unknown: Vec<&String> = there.iter().filter(|name| is_sealed(name) == is_open(name)).collect();
    assert!(unknown.is_empty(), "say of each in `store::sealed`, or here, whether it is sealed: {unknown:?}");
    for column in &sealed::ALL {
        assert!(there.iter().any(|name| name == column.name), "{} is gone", column.name);
        store.count_marks(column, None).await.unwrap();
    }
}

on_both! {
    async fn keys_are_rotated_while_two_processes_write_and_read_and_nothing_is_lost(db) {
        const ROUNDS: usize = 4;
        let here = World::open(db).await;
        let kept = put_in(&here).await;
        let there = here.beside(db).await;
        let over = CancellationToken::new();
        let worlds = [&here, &there];

        let renew = async |login: Uuid| {
            let mut done = 0;
            while !over.is_cancelled() {
                let grants = &worlds[done % 2].app.grants;
                let mut read = grants.login(&default(), login).await.unwrap().unwrap();
                assert_eq!(read.tokens.as_ref().unwrap().as_slice(), done.to_string().as_bytes());
                done += 1;
                let (text, expires_at) = (done.to_string(), now() + Duration::from_hours(1));
                let new = GivenTokens { text: text.as_bytes(), expires_at };
                assert!(grants.login_renewed(&mut read, new, now()).await.unwrap());
                tokio::task::yield_now().await;
            }
            (login, done.to_string())
        };
        let sessions = async || {
            let houses = worlds.map(|world| house(world, kept.user));
            let mut tokens: Tokens = houses[0].tokens("mcp offline_access").await;
            let mut done = 0;
            while !over.is_cancelled() {
                let shown = tokens.refresh.clone().unwrap();
                let [first, again] = [0, 1].map(|more| &houses[(done + more) % 2]);
                let next = first.refresh(&shown, 1).await.unwrap();
                // The answer was lost on the way: it is kept, sealed by the one process and opened by the other.
                let repeated = again.refresh(&shown, 2).await.unwrap();
                assert_eq!(repeated.access.expose(), next.access.expose());
                (tokens, done) = (next, done + 1);
            }
            done
        };
        let registry = async || {
            let mut done = 0;
            while !over.is_cancelled() {
                let found = headers(worlds[done % 2]).await;
                assert_eq!(found.len(), SERVERS);
                done += 1;
                let header = json!({"headers": {"x-key": done.to_string()}});
                worlds[done % 2].call("PATCH /servers/s0", header).await.expect(200);
                assert_eq!(headers(worlds[(done + 1) % 2]).await[0], done.to_string());
            }
            done.to_string()
        };
        let rotate = async || {
            for round in 0..ROUNDS {
                worlds[round % 2].call(ROTATE, json!({"what": "data"})).await.expect(202);
                let (one, other) = tokio::join!(here.app.seal_anew(now()), there.app.seal_anew(now()));
                one.unwrap();
                other.unwrap();
            }
            over.cancel();
        };
        let renewed = futures_util::future::join_all(kept.logins.iter().map(|login| renew(*login)));
        let (renewed, refreshed, changed, ()) = tokio::join!(renewed, sessions(), registry(), rotate());
        assert!(refreshed > 0 && changed != "0");

        settle(&here).await;
        only_the_newest_key_is_named(&here).await;
        let fresh = here.beside(db).await;
        for world in [&here, &there, &fresh] {
            for (login, text) in &renewed {
                assert_eq!(token_of(world, *login).await, *text);
            }
            assert_eq!(headers(world).await[0], changed);
        }
        let status = status(&fresh).await;
        assert!(status["data"]["rotated_at"].is_string() && status["data"]["keys"] == 1, "{status}");
    }
}

/// Drives a future until it is done, or has been polled so many times: as if the process ended there.
async fn cut_off_after<T>(polls: usize, future: impl Future<Output = T>) -> Option<T> {
    let mut future = pin!(future);
    let mut left = polls;
    std::future::poll_fn(move |context| {
        if left == 0 {
            return Poll::Ready(None);
        }
        left -= 1;
        future.as_mut().poll(context).map(Some)
    })
    .await
}

on_both! {
    async fn a_rotation_that_is_cut_off_anywhere_loses_nothing_and_is_finished_by_who_comes_next(db) {
        let first = World::open(db).await;
        let kept = put_in(&first).await;
        let mut cut = 0;
        // What is there at once is no poll: of some databases a whole run has few.
        for polls in std::iter::successors(Some(1_usize), |polls| Some(polls + 1 + polls / 3)) {
            first.app.vault.rotate(&[default()], now()).await.unwrap();
            let later = now() + SETTLED + Duration::from_mins(1);
            if cut_off_after(polls, first.app.seal_anew(later)).await.is_some() {
                break;
            }
            cut += 1;
            let next = first.beside(db).await;
            for world in [&first, &next] {
                assert_eq!(headers(world).await, ["first"; SERVERS]);
                for login in &kept.logins {
                    assert_eq!(token_of(world, *login).await, "0");
                }
            }
            // Whoever was cut off holds it for some seconds only.
            first.app.store.leave_resealing(mcp_registry_gateway::store::resealings::Resealing::Data, first.app.instance, None).await.unwrap();
            settle(&next).await;
            next.app.store.close().await;
            first.app.vault.load().await.unwrap();
        }
        assert!(cut > 3, "{cut}");
        settle(&first).await;
        only_the_newest_key_is_named(&first).await;
    }
}

on_both! {
    async fn an_old_key_stays_while_somebody_may_seal_under_it_or_something_names_it(db) {
        let world = World::open(db).await;
        let kept = put_in(&world).await;
        let keys = || world.app.vault.keys_of(&default());
        let before = keys()[0].1.unwrap();
        world.app.vault.rotate(&[default()], now()).await.unwrap();
        let behind = world.app.store.login_row(&default(), kept.logins[0]).await.unwrap().unwrap();
        world.app.seal_anew(now()).await.unwrap();
        assert_eq!(keys().len(), 2, "nobody knows yet that all others have seen the new one");
        let seen = world.call("GET /admin/sealing-keys/default", Value::Null).await.expect(200).json();
        assert_eq!((&seen["stale"], &seen["keys"][1]["values"]), (&json!(0), &json!(0)), "{seen}");
        assert!(seen["retired_until"].is_string() && seen["keys"][1]["key_id"] == before.to_string(), "{seen}");

        // Somebody who was slow writes what was sealed before.
        let slow = mcp_registry_gateway::store::logins::Claim { until: behind.ask_after, tokens: None };
        let life = mcp_registry_gateway::store::logins::LifeColumns { issued_at: behind.issued_at, expires_at: behind.expires_at };
        let tokens = behind.tokens.unwrap();
        assert!(world.app.store.renew_login(&default(), behind.id, slow, &tokens, life).await.unwrap());
        let stale = status(&world).await;
        assert_eq!((&stale["data"]["stale"], &stale["data"]["retired"]), (&json!(1), &json!(1)), "{stale}");
        let later = now() + SETTLED + Duration::from_mins(1);
        let named = world.app.store.remove_data_key(&keys()[1].0, &before.marks_of_tenant(), i64::MAX).await.unwrap();
        assert!(!named, "it is named");
        world.app.seal_anew(later).await.unwrap();
        world.app.vault.load().await.unwrap();
        only_the_newest_key_is_named(&world).await;
        assert_eq!(token_of(&world, behind.id).await, "0");
    }
}

on_both! {
    async fn a_login_that_somebody_asks_about_is_left_alone_until_they_are_done(db) {
        let world = World::open(db).await;
        let kept = put_in(&world).await;
        let grants = &world.app.grants;
        let asked = grants.login_now(&default(), kept.logins[0], now()).await.unwrap().unwrap();
        world.app.vault.rotate(&[default()], now()).await.unwrap();
        world.app.seal_anew(now()).await.unwrap();
        let row = world.app.store.login_row(&default(), asked.id).await.unwrap().unwrap();
        assert_eq!(row.tokens, asked.sealed, "who asks knows it by that");
        assert_eq!(status(&world).await["data"]["stale"], 1);
        grants.ask_login_after(&asked, now()).await.unwrap();
        settle(&world).await;
    }
}

on_both! {
    async fn what_a_provider_gave_is_taken_however_late_and_whoever_asked_and_rotated_meanwhile(db) {
        let world = World::open(db).await;
        let kept = put_in(&world).await;
        let grants = &world.app.grants;
        let long_ago = now() - mcp_registry_gateway::grants::ALONE - Duration::from_mins(1);
        let mut slow = grants.login_now(&default(), kept.logins[0], long_ago).await.unwrap().unwrap();
        assert!(grants.hold_login(&mut slow, long_ago).await.unwrap(), "the provider is asked");
        world.app.vault.rotate(&[default()], now()).await.unwrap();
        world.app.seal_anew(now()).await.unwrap();
        let next = grants.login_now(&default(), slow.id, now()).await.unwrap().unwrap();
        assert!(next.cut_off_at.is_some(), "so that nobody gives it up yet");
        grants.ask_login_after(&next, now()).await.unwrap();
        world.app.seal_anew(now()).await.unwrap();
        assert_eq!(status(&world).await["data"]["stale"], 1);
        let new = GivenTokens { text: b"given", expires_at: now() + Duration::from_hours(1) };
        assert!(grants.login_renewed(&mut slow, new, now()).await.unwrap(), "it knows the login by what it was shown");
        settle(&world).await;
        assert_eq!(token_of(&world, slow.id).await, "given");
    }
}

/// Puts in the place of a login's tokens what the first versions kept: the same under the master key.
async fn as_the_first_versions_did(world: &World, login: Uuid) {
    let row = world.app.store.login_row(&default(), login).await.unwrap().unwrap();
    let id = login.to_string();
    let place = Place { table: sealed::LOGINS.name, row: &id, tenant: &default(), subject: None };
    let sealed = world.app.sealer.seal(place, b"first").unwrap();
    let old = SealedRow { id: login, subject: None, about: None, sealed: row.tokens.unwrap(), idle: true };
    assert_eq!(world.app.store.reseal(&sealed::LOGINS, &[(old, sealed)], i64::MAX).await.unwrap(), 1);
}

on_both! {
    async fn what_the_first_versions_sealed_for_people_is_sealed_anew_by_itself(db) {
        let world = World::open(db).await;
        let kept = put_in(&world).await;
        as_the_first_versions_did(&world, kept.logins[0]).await;
        assert_eq!(status(&world).await["data"]["stale"], 1);
        world.app.seal_anew(now()).await.unwrap();
        let after = status(&world).await;
        assert_eq!((&after["data"]["stale"], &after["data"]["keys"]), (&json!(0), &json!(1)), "{after}");
        only_the_newest_key_is_named(&world).await;
        assert_eq!(token_of(&world, kept.logins[0]).await, "first");
    }
}

on_both! {
    async fn a_master_key_is_needed_as_long_as_it_alone_opens_what_the_first_versions_sealed(db) {
        let [old, new] = [(); 2].map(|()| MasterKey::generate());
        let before = World::sealed_by(db, Sealer::new(&old)).await;
        let kept = put_in(&before).await;
        as_the_first_versions_did(&before, kept.logins[0]).await;
        let during = before.with_sealer(Sealer::with_previous(&new, &[old])).await;
        // Somebody asks about it, so that it must wait.
        let asked = during.app.grants.login_now(&default(), kept.logins[0], now()).await.unwrap().unwrap();
        during.call(ROTATE, json!({"what": "master"})).await.expect(202);
        during.app.seal_anew(now()).await.unwrap();
        let waits = status(&during).await["master"].take();
        assert_eq!((&waits["stale"], &waits["open"]), (&json!(1), &json!(true)), "{waits}");
        let is_old = |mark: &[u8]| *mark == before.app.sealer.mark();
        assert!(Store::look(&db.url).await.unwrap().marks().any(is_old), "a start without it is refused");

        during.app.grants.ask_login_after(&asked, now()).await.unwrap();
        during.app.seal_anew(now()).await.unwrap();
        let done = status(&during).await["master"].take();
        assert_eq!((&done["stale"], &done["open"]), (&json!(0), &json!(false)), "{done}");
        assert!(!Store::look(&db.url).await.unwrap().marks().any(is_old));
        let after = during.with_sealer(Sealer::new(&new)).await;
        assert_eq!(token_of(&after, kept.logins[0]).await, "first");
    }
}

on_both! {
    async fn the_key_of_ids_is_made_anew_when_it_is_damaged_and_never_because_the_master_key_is_another(db) {
        let first = World::open(db).await;
        first.app.vault.know_ids().await.unwrap();
        let stranger = first.with_sealer(Sealer::new(&MasterKey::generate())).await;
        assert!(stranger.app.vault.know_ids().await.unwrap_err().is_of_other_key());
        let own = Store::look(&db.url).await.unwrap().own;
        assert_eq!(own, [first.app.sealer.mark().to_vec()], "it is seen before a start");

        let key = first.app.store.id_key().await.unwrap().unwrap();
        let mut bent = key.clone();
        *bent.last_mut().unwrap() ^= 1;
        first.app.store.replace_id_key(&key, &bent).await.unwrap();
        let [one, other] = [first.beside(db).await, first.beside(db).await];
        for world in [&one, &other] {
            world.app.vault.know_ids().await.unwrap();
        }
        let place = Place { table: "t", row: "r", tenant: &default(), subject: None };
        let id = one.app.vault.ids().seal(place, b"x").unwrap();
        assert_eq!(**other.app.vault.ids().open(place, &id).unwrap(), *b"x");
    }
}

on_both! {
    async fn processes_that_rotate_many_tenants_at_once_do_not_wait_for_each_other(db) {
        const TENANTS: usize = 40;
        const ROUNDS: usize = 3;
        let here = World::open(db).await;
        let mut tenants = Vec::new();
        for at in 0..TENANTS {
            let tenant = here.app.store.add_tenant(&format!("t{at}"), "T").await.unwrap();
            here.app.vault.prepare(&tenant).await.unwrap();
            tenants.push(tenant);
        }
        let there = here.beside(db).await;
        for _ in 0..ROUNDS {
            let (one, other) = tokio::join!(here.app.rotate_data_keys(None), there.app.rotate_data_keys(None));
            assert!(one.unwrap() + other.unwrap() >= TENANTS as u64);
        }
        here.app.vault.load().await.unwrap();
        for tenant in &tenants {
            let keys = here.app.vault.keys_of(tenant);
            assert!(keys.len() > ROUNDS && keys.iter().skip(1).all(|(key, _)| key.retired_at.is_some()), "{keys:?}");
        }
    }
}

on_both! {
    async fn a_tenant_whose_key_is_damaged_stands_in_nobodys_way(db) {
        let first = World::open(db).await;
        let kept = put_in(&first).await;
        // Before the other one in every order.
        let acme = first.app.store.add_tenant("acme", "Acme").await.unwrap();
        first.app.vault.prepare(&acme).await.unwrap();
        first.app.vault.rotate(&[acme.clone(), default()], now()).await.unwrap();
        let (newest, _) = first.app.vault.keys_of(&acme)[0].clone();
        let mut bent = newest.sealed.clone();
        *bent.last_mut().unwrap() ^= 1;
        assert_eq!(first.app.store.reseal_data_keys(&[(newest, bent)]).await.unwrap(), 1);

        let next = first.beside(db).await;
        next.app.seal_anew(now() + SETTLED + Duration::from_mins(1)).await.unwrap();
        next.app.vault.load().await.unwrap();
        only_the_newest_key_is_named(&next).await;
        assert_eq!(token_of(&next, kept.logins[0]).await, "0");
    }
}

/// Damages the first value in a column; says in which row.
async fn bend_one(world: &World, column: &sealed::Column) -> String {
    let all = world.app.store.to_reseal(column, &default(), &[0; 5], Uuid::nil(), 0, 1).await.unwrap();
    let [row] = <[SealedRow; 1]>::try_from(all).unwrap();
    let (mut bent, id) = (row.sealed.clone(), row.id.to_string());
    *bent.last_mut().unwrap() ^= 1;
    assert_eq!(world.app.store.reseal(column, &[(row, bent)], i64::MAX).await.unwrap(), 1);
    id
}

fn left(world: &World, key: &str) -> (i64, i64) {
    let values = &world.app.recorder.metrics().stale_sealed_values;
    (values.with([key, "waiting"]).get(), values.with([key, "unreadable"]).get())
}

on_both! {
    async fn a_damaged_value_is_named_and_nobody_waits_for_it(db) {
        let world = World::open(db).await;
        let kept = put_in(&world).await;
        let row = bend_one(&world, &sealed::LOGINS).await;
        world.call(ROTATE, json!({"what": "data"})).await.expect(202);
        // One is waiting besides.
        let whole = *kept.logins.iter().find(|login| login.to_string() != row).unwrap();
        let asked = world.app.grants.login_now(&default(), whole, now()).await.unwrap().unwrap();
        let later = now() + SETTLED + Duration::from_mins(1);
        // Another look may be under way.
        while status(&world).await["data"]["stale"] != 1 || left(&world, "data") != (1, 1) {
            world.app.seal_anew(later).await.unwrap();
        }
        world.app.grants.ask_login_after(&asked, now()).await.unwrap();
        while left(&world, "data") != (0, 1) {
            world.app.seal_anew(later).await.unwrap();
        }
        let named = json!([{"column": "logins.tokens", "row": row, "tenant_id": "default"}]);
        let of_one = world.call("GET /admin/sealing-keys/default", Value::Null).await.expect(200).json();
        for after in [status(&world).await["data"].take(), of_one] {
            assert_eq!((&after["stale"], &after["lost"], &after["unreadable"]), (&json!(0), &json!(0), &json!(1)), "{after}");
            assert_eq!(after["unreadable_values"], named, "{after}");
        }
        assert_eq!(status(&world).await["data"]["retired"], 1, "its key stays: what it is bound to may be mended");
        assert_eq!((headers(&world).await.len(), token_of(&world, whole).await.as_str()), (SERVERS, "0"));

        // Somebody mends it, or removes it as here.
        world.call(&format!("DELETE /users/{}", kept.user), Value::Null).await;
        settle(&world).await;
        assert_eq!((left(&world, "data"), &status(&world).await["data"]["unreadable"]), ((0, 0), &json!(0)));
    }
}

on_both! {
    async fn what_another_version_described_waits_and_is_not_taken_for_damaged(db) {
        let world = World::open(db).await;
        put_in(&world).await;
        let store = &world.app.store;
        let rows = store.servers_of_all_tenants().await.unwrap();
        let mut row = rows.into_iter().find(|row| row.secrets.is_some()).unwrap();
        row.spec.0["of_tomorrow"] = json!(true);
        row.revision += 1;
        store.update_server(&default(), &row, row.revision - 1).await.unwrap();
        world.call(ROTATE, json!({"what": "data"})).await.expect(202);
        // Another look may be under way, and all but that one is sealed anew.
        let all = || left(&world, "data");
        while all().0 + all().1 != 1 {
            world.app.seal_anew(now() + SETTLED + Duration::from_mins(1)).await.unwrap();
        }
        assert_eq!(all(), (1, 0));
        let after = status(&world).await["data"].take();
        assert_eq!((&after["stale"], &after["unreadable"]), (&json!(1), &json!(0)), "{after}");
    }
}

on_both! {
    async fn a_change_of_the_master_key_ends_though_something_is_damaged(db) {
        let [old, new] = [(); 2].map(|()| MasterKey::generate());
        let before = World::sealed_by(db, Sealer::new(&old)).await;
        before.app.registry.ground.credentials.signer().follow(now()).await.unwrap();
        let row = bend_one(&before, &sealed::SIGNING_KEYS).await;
        let acme = before.app.store.add_tenant("acme", "Acme").await.unwrap();
        for tenant in [&default(), &acme] {
            before.app.vault.prepare(tenant).await.unwrap();
        }
        let (key, _) = before.app.vault.keys_of(&acme)[0].clone();
        let mut bent = key.sealed.clone();
        *bent.last_mut().unwrap() ^= 1;
        assert_eq!(before.app.store.reseal_data_keys(&[(key, bent)]).await.unwrap(), 1);

        let during = before.with_sealer(Sealer::with_previous(&new, &[old])).await;
        during.app.seal_anew(now()).await.unwrap();
        assert_eq!(left(&during, "master"), (1, 2), "before anybody asks for it");
        during.call(ROTATE, json!({"what": "master"})).await.expect(202);
        while status(&during).await["master"]["open"] == true {
            during.app.seal_anew(now()).await.unwrap();
        }
        let after = status(&during).await["master"].take();
        assert_eq!((&after["stale"], &after["unreadable"]), (&json!(0), &json!(2)), "{after}");
        let named = json!([
            {"column": "signing_keys.sealed", "row": row, "tenant_id": "default"},
            {"column": "data_keys.sealed", "row": "1", "tenant_id": "acme"},
        ]);
        assert_eq!(after["unreadable_values"], named, "{after}");
        during.app.seal_anew(now()).await.unwrap();
        assert_eq!(left(&during, "master"), (0, 2));
    }
}

on_both! {
    async fn one_tenants_keys_are_rotated_without_the_others(db) {
        let world = World::open(db).await;
        put_in(&world).await;
        let acme = world.app.store.add_tenant("acme", "Acme").await.unwrap();
        let told = world.call(ROTATE, json!({"what": "data", "tenant_id": "acme"})).await.expect(409).json();
        assert_eq!(told["code"], "NO_KEY_MADE", "{told}");
        world.app.vault.prepare(&acme).await.unwrap();
        world.call(ROTATE, json!({"what": "data", "tenant_id": "acme"})).await.expect(202);
        assert_eq!([&acme, &default()].map(|tenant| world.app.vault.keys_of(tenant).len()), [2, 1]);
        for (body, status) in [
            (json!({"what": "data", "tenant_id": "none"}), 404),
            (json!({"what": "master", "tenant_id": "acme"}), 422),
            (json!({"what": "master"}), 409),
            (json!({"what": "all"}), 422),
            (json!({}), 422),
        ] {
            world.call(ROTATE, body).await.expect(status);
        }
        world.call("GET /admin/sealing-keys/none", Value::Null).await.expect(404);
        let admin = world.person("eve", "tenant_admin", json!({"servers": "*", "admin": true})).await;
        for (path, status) in [("", 403), ("/default", 200), ("/acme", 404), ("/none", 404)] {
            world.with_key(&admin, &format!("GET /admin/sealing-keys{path}"), Value::Null).await.expect(status);
        }
        world.with_key(&admin, ROTATE, json!({"what": "data"})).await.expect(403);
    }
}

on_both! {
    async fn after_a_change_of_the_master_key_everything_opens_without_the_old_one(db) {
        let [old, new] = [(); 2].map(|()| MasterKey::generate());
        let before = World::sealed_by(db, Sealer::new(&old)).await;
        let kept = put_in(&before).await;
        before.app.registry.ground.credentials.signer().follow(now()).await.unwrap();
        before.app.vault.know_ids().await.unwrap();
        let body = json!({"redirect_uris": ["http://127.0.0.1/callback"]}).to_string();
        let client = before.app.clients.dynamic().register(body.as_bytes(), None, HERE, now()).unwrap();
        let is_known = async |world: &World| {
            world.app.vault.know_ids().await.unwrap();
            world.app.clients.find(client.client_id(), HERE, now()).await.is_ok()
        };
        before.call(ROTATE, json!({"what": "master"})).await.expect(409);

        let during = before.with_sealer(Sealer::with_previous(&new, &[old])).await;
        assert_eq!(headers(&during).await, ["first"; SERVERS]);
        let stale = status(&during).await["master"].take();
        assert!(stale["stale"].as_i64() > Some(1) && stale["resealed_at"].is_null(), "{stale}");
        assert_eq!((&stale["key_id"], &stale["previous"]), (&json!(new.id()), &json!([before.app.sealer.key_id()])));
        during.call(ROTATE, json!({"what": "master"})).await.expect(202);
        // A process that does not have the new key yet leaves it to the others.
        before.app.seal_anew(now()).await.unwrap();
        while status(&during).await["master"]["resealed_at"].is_null() {
            during.app.seal_anew(now()).await.unwrap();
        }
        assert_eq!(status(&during).await["master"]["stale"], 0);
        let seen = Store::look(&db.url).await.unwrap();
        let after = Sealer::new(&new);
        assert!(!seen.sealed.is_empty() && !seen.own.is_empty(), "{seen:?}");
        assert!(seen.marks().all(|mark| *mark == after.mark()), "{seen:?}");

        let after = during.with_sealer(after).await;
        assert_eq!(headers(&after).await, ["first"; SERVERS]);
        assert_eq!(token_of(&after, kept.logins[0]).await, "0");
        assert!(is_known(&before).await && is_known(&during).await && is_known(&after).await, "nobody registers again");
        let signer = |world: &World| world.app.registry.ground.credentials.signer().clone();
        for world in [&during, &after] {
            signer(world).follow(now()).await.unwrap();
        }
        assert_eq!(signer(&after).published(), signer(&during).published(), "it goes on signing with the same keys");
    }
}

#[tokio::test]
async fn one_persons_token_does_not_open_as_another_persons() {
    let database = Database::sqlite();
    let world = World::open(&database).await;
    let kept = put_in(&world).await;
    let houses = house(&world, kept.user);
    let tokens = houses.tokens("mcp offline_access").await;
    let shown = tokens.refresh.unwrap();
    houses.refresh(&shown, 1).await.unwrap();
    houses.refresh(&shown, 2).await.unwrap();
    let bob = world.call("POST /users", json!({"username": "bob"})).await.expect(201).json();
    let mut raw = SqliteConnection::connect(&database.url).await.unwrap();
    let id = Uuid::parse_str(bob["id"].as_str().unwrap()).unwrap().simple().to_string();
    for table in ["logins", "grants"] {
        raw.execute(AssertSqlSafe(format!("UPDATE {table} SET user_id = x'{id}'"))).await.unwrap();
    }
    let moved = world.app.grants.login(&default(), kept.logins[0]).await.unwrap_err();
    assert_eq!(moved.reason, "internal");
    assert_eq!(houses.refresh(&shown, 3).await.unwrap_err().reason, "internal");
}
