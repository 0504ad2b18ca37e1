//! What is asked for with an `Idempotency-Key` is done once.

use std::cell::Cell;

use http::HeaderValue;
use mcp_registry_gateway::admin::reference::openapi_document;
use mcp_registry_gateway::id::TenantId;
use mcp_registry_gateway::place;
use mcp_registry_gateway::store::idempotency::{Asking, Claim, Headers, Most};
use mcp_registry_gateway::store::{micros, now};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use sqlx::Connection as _;
use testkit::answer::Answer;
use uuid::Uuid;

use crate::api::{body, operations};
use crate::api_changes::furnished;
use crate::routes::{filled, service};
use crate::store_databases::Database;
use crate::store_rest::{World, request, server};

/// `POST` below `/api/v1` with this credential and key.
async fn post_as(world: &World, credential: &str, path: &str, key: &str, body: &Value) -> Answer {
    let mut request = request("POST", &format!("/api/v1{path}"), credential, body);
    request.headers_mut().insert("idempotency-key", HeaderValue::from_str(key).unwrap());
    world.send(request).await
}

async fn post(world: &World, path: &str, key: &str, body: &Value) -> Answer {
    post_as(world, &world.admin, path, key, body).await
}

async fn count(world: &World, list: &str) -> usize {
    world.call(&format!("GET /{list}"), Value::Null).await.expect(200).json()["items"].as_array().unwrap().len()
}

on_both! {
    async fn a_repeat_gets_the_first_answer(db) {
        let world = World::open(db).await;
        let ada = json!({"username": "ada"});
        let first = post(&world, "/users", "\"one\"", &ada).await.expect(201);
        assert_eq!(first.headers.get("idempotency-replayed"), None);
        let again = post(&world, "/users", "one", &ada).await.expect(201);
        assert_eq!((&again.text, again.header("location")), (&first.text, first.header("location")));
        assert_eq!((again.header("etag"), again.header("idempotency-replayed")), (first.header("etag"), "true"));
        assert_eq!(again.header("cache-control"), first.header("cache-control"));
        let beside = world.beside(db).await;
        assert_eq!(post(&beside, "/users", "one", &ada).await.expect(201).text, first.text, "also at another replica");
        world.call("DELETE /users/ada", Value::Null).await.expect(204);
        post(&world, "/users", "one", &ada).await.expect(201);
        world.call("GET /users/ada", Value::Null).await.expect(404);

        let other = post(&world, "/users", "one", &json!({"username": "bob"})).await.expect(422).json();
        assert_eq!(other["code"], "IDEMPOTENCY_KEY_REUSED");
        post(&world, "/users", "two", &ada).await.expect(201);
        post(&world, "/servers", "one", &server("files")).await.expect(201);
        for wrong in ["\"\"", &"k".repeat(256)] {
            let refused = post(&world, "/users", wrong, &ada).await.expect(422).json();
            assert_eq!(refused["errors"][0]["field"], "Idempotency-Key");
        }
    }
}

on_both! {
    async fn it_is_of_one_credential(db) {
        let world = World::open(db).await;
        let all = json!({"servers": "*"});
        let (one, other) = (world.person("olga", "server_owner", all.clone()).await, world.person("omar", "server_owner", all).await);
        let mine = post_as(&world, &one, "/servers", "k", &server("files")).await.expect(201);
        let refused = post_as(&world, &other, "/servers", "k", &server("files")).await.expect(409).json();
        assert_eq!(refused["code"], "SLUG_TAKEN", "it is none of the other's: {refused}");
        assert_eq!(post_as(&world, &one, "/servers", "k", &server("files")).await.expect(201).text, mine.text);
        post_as(&world, "", "/servers", "k", &server("files")).await.expect(401);
        post_as(&world, "mcpg_unknown", "/servers", "k", &server("files")).await.expect(401);
    }
}

on_both! {
    async fn what_changed_nothing_may_be_asked_for_anew(db) {
        let world = World::open(db).await;
        let ada = json!({"username": "ada"});
        world.call("POST /users", ada.clone()).await.expect(201);
        post(&world, "/users", "k", &ada).await.expect(409);
        post(&world, "/users", "k", &json!({"username": "?"})).await.expect(422);
        world.call("DELETE /users/ada", Value::Null).await.expect(204);
        post(&world, "/users", "k", &ada).await.expect(201);
    }
}

on_both! {
    async fn a_secret_is_kept_nowhere_and_made_once(db) {
        let world = World::open(db).await;
        let before = count(&world, "keys").await;
        let order = json!({"name": "ci", "servers": []});
        let made = post(&world, "/keys", "k", &order).await.expect(201);
        assert_eq!(made.headers.get("etag"), None, "nobody reads it again");
        let again = post(&world, "/keys", "k", &order).await.expect(409).json();
        assert_eq!(again["code"], "ANSWER_NOT_KEPT");
        assert!(again["detail"].as_str().unwrap().contains(made.header("location")), "{again}");
        assert_eq!(count(&world, "keys").await, before + 1);
        let key = made.json()["key"].as_str().unwrap().to_owned();
        if let Some(file) = db.file() {
            for file in [file.clone(), file.with_extension("db-wal")] {
                let bytes = std::fs::read(file).unwrap_or_default();
                assert!(!bytes.windows(key.len()).any(|part| part == key.as_bytes()), "the key is in the database");
            }
        }
    }
}

thread_local! {
    /// How many commits of this thread go well before one breaks what made it.
    static COMMITS: Cell<usize> = const { Cell::new(usize::MAX) };
}

fn break_behind_a_commit(place: &str) {
    if place == "after a commit" && COMMITS.get() != usize::MAX {
        let left = COMMITS.get();
        COMMITS.set(left.checked_sub(1).unwrap_or(usize::MAX));
        assert!(left > 0, "the test breaks it");
    }
}

on_both! {
    async fn what_failed_behind_its_commit_is_not_done_again(db) {
        place::watch(break_behind_a_commit);
        let world = World::open(db).await;
        let before = count(&world, "keys").await;
        let order = json!({"name": "ci", "servers": []});
        // The first commit takes the key.
        COMMITS.set(1);
        post(&world, "/keys", "k", &order).await.expect(500);
        assert_eq!(COMMITS.get(), usize::MAX, "it was broken");
        assert_eq!(count(&world, "keys").await, before + 1);
        for _ in 0..2 {
            let again = post(&world, "/keys", "k", &order).await.expect(409).json();
            assert_eq!(again["code"], "OUTCOME_UNKNOWN");
        }
        assert_eq!(count(&world, "keys").await, before + 1, "it is not done twice");
        post(&world, "/keys", "new", &order).await.expect(201);
    }
}

/// The database, without the gateway.
async fn raw(database: &Database) -> sqlx::SqliteConnection {
    sqlx::SqliteConnection::connect(&database.url).await.unwrap()
}

#[tokio::test]
async fn what_was_begun_by_a_process_that_is_gone_is_not_done_again() {
    let database = Database::sqlite();
    let world = World::open(&database).await;
    let ada = json!({"username": "ada"});
    post(&world, "/users", "k", &ada).await.expect(201);
    let mut raw = raw(&database).await;
    let mut is = async |text: &'static str, code: &str| {
        assert_eq!(sqlx::query(text).execute(&mut raw).await.unwrap().rows_affected(), 1);
        assert_eq!(post(&world, "/users", "k", &ada).await.expect(409).json()["code"], code);
    };
    is("UPDATE idempotency SET status = NULL, headers = NULL, body = NULL", "IDEMPOTENCY_KEY_IN_USE").await;
    is("UPDATE idempotency SET begun_at = begun_at - 660000000", "OUTCOME_UNKNOWN").await;
}

#[tokio::test]
async fn a_guessed_password_cannot_be_tried_on_what_is_kept() {
    let database = Database::sqlite();
    let world = World::open(&database).await;
    let body = json!({"username": "ada", "password": "correct horse battery staple"});
    post(&world, "/users", "k", &body).await.expect(201);
    let mut raw = raw(&database).await;
    let (id, fingerprint): (Vec<u8>, Vec<u8>) =
        sqlx::query_as("SELECT id, fingerprint FROM idempotency").fetch_one(&mut raw).await.unwrap();
    let bytes = serde_json::to_vec(&body).unwrap();
    let with_length = [&(bytes.len() as u64).to_be_bytes()[..], &bytes].concat();
    for guess in [&bytes, &with_length] {
        let guess = Sha256::digest(guess);
        assert!(guess[..] != id[..] && guess[..] != fingerprint[..], "it is of the body alone");
    }
}

on_both! {
    async fn of_many_at_once_at_two_replicas_one_does_it(db) {
        let world = World::open(db).await;
        let beside = world.beside(db).await;
        for round in 0..5 {
            let (key, body) = (format!("k{round}"), json!({"client_id": format!("bot-{round}"), "name": "x", "kind": "public", "redirect_uris": ["https://a.example/cb"]}));
            let ask = |world| post(world, "/oauth-clients", &key, &body);
            let answers = tokio::join!(ask(&world), ask(&beside), ask(&world), ask(&beside));
            let answers = [answers.0, answers.1, answers.2, answers.3];
            assert!(answers.iter().any(|answer| answer.status == 201), "{:?}", answers.each_ref().map(|answer| &answer.text));
            for answer in &answers {
                assert!(answer.status == 201 || answer.json()["code"] == "IDEMPOTENCY_KEY_IN_USE", "{}", answer.text);
            }
            let first = answers.iter().filter(|answer| answer.status == 201 && answer.headers.get("idempotency-replayed").is_none());
            assert_eq!(first.count(), 1);
        }
        assert_eq!(count(&world, "oauth-clients").await, 5);
    }
}

on_both! {
    async fn after_a_day_a_key_is_as_new(db) {
        let store = db.open().await;
        let tenant = TenantId::default_tenant();
        let (ada, bob) = (Uuid::from_u128(1), Uuid::from_u128(2));
        let by = |user| Asking { tenant: &tenant, user };
        let (one, many) = (Most { of_account: 1, of_tenant: 2 }, Most { of_account: 9, of_tenant: 1 });
        let claim = async |now: i64| store.claim(by(ada), b"id", b"body", (now, now - 100), one).await.unwrap();
        assert_eq!(claim(1_000).await, Claim::Won);
        let held = claim(1_100).await;
        assert!(matches!(held, Claim::Held(row) if row.status.is_none() && row.begun_at == 1_000), "nobody else does it");
        assert_eq!(claim(1_101).await, Claim::Won);
        store.keep_answer(&tenant, b"id", 1_000, 201, &Headers::new(), Some(b"late")).await.unwrap();
        store.keep_answer(&tenant, b"id", 1_101, 200, &Headers::new(), Some(b"done")).await.unwrap();
        assert!(
            matches!(claim(1_201).await, Claim::Held(row) if row.status == Some(200) && row.body.as_deref() == Some(b"done"))
        );
        assert_eq!(claim(1_202).await, Claim::Won);
        let other = async |user, id: &[u8], most| store.claim(by(user), id, b"body", (1_203, 0), most).await.unwrap();
        assert_eq!(other(ada, b"other", one).await, Claim::Full(1_202), "the account has one");
        assert_eq!(other(bob, b"other", many).await, Claim::Full(1_202), "the tenant has one");
        assert_eq!(other(bob, b"other", one).await, Claim::Won, "another account has none");
        assert_eq!(store.purge_answers(1_202).await.unwrap(), 0);
        assert_eq!(store.purge_answers(1_203).await.unwrap(), 1);
        assert_eq!(other(ada, b"more", one).await, Claim::Won);
    }
}

on_both! {
    async fn who_may_less_by_now_gets_no_answer_from_before(db) {
        let world = World::open(db).await;
        let olga = world.person("olga", "tenant_admin", json!({"servers": "*", "admin": true})).await;
        let order = json!({"username": "sam"});
        post_as(&world, &olga, "/users", "k", &order).await.expect(201);
        let again = post_as(&world, &olga, "/users", "k", &order).await.expect(201);
        assert_eq!(again.header("idempotency-replayed"), "true");
        world.call("PATCH /users/olga", json!({"role": "user"})).await.expect(200);
        post_as(&world, &olga, "/users", "k", &order).await.expect(403);
    }
}

#[tokio::test]
async fn one_account_does_not_use_up_the_keys_of_its_tenant() {
    let database = Database::sqlite();
    let world = World::open(&database).await;
    let olga = world.person("olga", "server_owner", json!({"servers": "*", "admin": true})).await;
    let used = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 1000)
        INSERT INTO idempotency (id, tenant_id, user_id, fingerprint, begun_at)
        SELECT CAST(i AS BLOB), 'default', (SELECT id FROM users WHERE username = 'olga'), x'00', $1 FROM n";
    let begun = micros(now() - time::Duration::hours(23));
    sqlx::query(used).bind(begun).execute(&mut raw(&database).await).await.unwrap();
    let refused = post_as(&world, &olga, "/servers", "k", &server("files")).await.expect(429);
    assert_eq!(refused.json()["code"], "TOO_MANY_IDEMPOTENCY_KEYS");
    let wait: u64 = refused.header("retry-after").parse().unwrap();
    assert!((3_500..=3_601).contains(&wait), "until the oldest is a day old: {wait}");
    world.call("GET /servers/files", Value::Null).await.expect(404);
    post(&world, "/servers", "k", &server("files")).await.expect(201);
}

/// The schema, where it stands.
fn resolved<'a>(document: &'a Value, schema: &'a Value) -> &'a Value {
    let place = schema["$ref"].as_str().map(|place| place.trim_start_matches('#'));
    place.map_or(schema, |place| document.pointer(place).unwrap())
}

/// What stands in a value where its schema says that a secret does.
fn secrets(document: &Value, schema: &Value, value: &Value, found: &mut Vec<String>) {
    let schema = resolved(document, schema);
    if schema["format"] == "password" {
        found.extend(value.as_str().map(str::to_owned));
    }
    for parts in ["allOf", "anyOf", "oneOf"] {
        schema[parts].as_array().into_iter().flatten().for_each(|part| secrets(document, part, value, found));
    }
    for (name, value) in value.as_object().into_iter().flatten() {
        let of = schema["properties"].get(name).or(schema.get("additionalProperties"));
        if let Some(of) = of {
            secrets(document, of, value, found);
        }
    }
    for value in value.as_array().into_iter().flatten() {
        secrets(document, &schema["items"], value, found);
    }
}

#[tokio::test]
async fn no_answer_with_a_secret_in_it_is_kept() {
    let document = openapi_document();
    let mut shown = Vec::new();
    for operation in operations() {
        if !operation.takes("Idempotency-Key") {
            continue;
        }
        let database = Database::sqlite();
        let world = furnished(&database).await;
        let path = filled(operation.path());
        let path = path.strip_prefix("/api/v1").unwrap();
        let mut body = body(&operation.call);
        if operation.id() == "createClient" {
            body = service("other");
        }
        let first = post(&world, path, "k", &body).await;
        let schema = &operation.about["responses"][first.status.to_string()]["content"]["application/json"]["schema"];
        let mut found = Vec::new();
        if !schema.is_null() {
            secrets(&document, schema, &first.json(), &mut found);
        }
        found.retain(|secret| secret != "***");
        if found.is_empty() {
            continue;
        }
        let again = post(&world, path, "k", &body).await.expect(409).json();
        assert_eq!(again["code"], "ANSWER_NOT_KEPT", "{}", operation.call);
        let kept: Option<Vec<u8>> =
            sqlx::query_scalar("SELECT body FROM idempotency").fetch_one(&mut raw(&database).await).await.unwrap();
        assert_eq!(kept, None, "{}", operation.call);
        shown.push(operation.id().to_owned());
    }
    shown.sort_unstable();
    assert_eq!(shown, ["addClientSecret", "createClient", "createKey"]);
}
