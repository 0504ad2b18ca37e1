//! Tags of what is read: nothing is sent that the caller has, and nothing changed that somebody else changed meanwhile.

use http::HeaderValue;
use mcp_registry_gateway::router;
use serde_json::{Value, json};
use testkit::answer::Answer;

use crate::api::{body, operations};
use crate::routes::{filled, issuer, send, service};
use crate::store_databases::Database;
use crate::store_rest::{World, request, server};

/// One of everything that the paths of [`filled`] name.
pub async fn furnished(database: &Database) -> World {
    let world = World::open(database).await;
    world.call("POST /servers", server("files")).await.expect(201);
    // One that is asked nothing stands as it stands.
    world.call("POST /servers/files/disable", Value::Null).await.expect(200);
    world.call("POST /users", json!({"username": "target"})).await.expect(201);
    world.call("POST /oauth-clients", service("bot")).await.expect(201);
    world.call("POST /trusted-issuers", issuer("corp")).await.expect(201);
    world.call("POST /admin/tenants", json!({"tenant_id": "other"})).await.expect(201);
    world.call("POST /admin/bans", json!({"address": "192.0.2.9", "note": "x"})).await.expect(201);
    world
}

async fn with(world: &World, header: &'static str, value: &str, call: (&str, &str), body: &Value) -> Answer {
    let mut request = request(call.0, call.1, &world.admin, body);
    request.headers_mut().insert(header, HeaderValue::from_str(value).unwrap());
    world.send(request).await
}

#[tokio::test]
async fn whoever_has_it_is_told_that_nothing_changed() {
    let database = Database::sqlite();
    let world = furnished(&database).await;
    let mut tried = 0;
    for operation in operations() {
        if operation.about["responses"].get("304").is_none() || operation.id() == "getSignIn" {
            continue;
        }
        let path = filled(operation.path());
        let read = world.send(request("GET", &path, &world.admin, &Value::Null)).await.expect(200);
        let tag = read.header("etag").to_owned();
        with(&world, "if-match", &tag, ("GET", &path), &Value::Null).await.expect(200);
        let other = with(&world, "if-match", "\"other\"", ("GET", &path), &Value::Null).await.expect(412).json();
        assert_eq!(other["code"], "PRECONDITION_FAILED", "{}", operation.call);
        let again = with(&world, "if-none-match", &tag, ("GET", &path), &Value::Null).await.expect(304);
        assert_eq!((again.text.as_str(), again.header("etag")), ("", tag.as_str()), "{}", operation.call);
        with(&world, "if-none-match", "\"other\"", ("GET", &path), &Value::Null).await.expect(200);
        tried += 1;
    }
    assert!(tried >= 11, "{tried}");
}

#[tokio::test]
async fn every_change_that_takes_a_version_is_refused_with_an_older_one_and_made_with_the_newest() {
    let mut tried = 0;
    for operation in operations() {
        if !operation.takes("If-Match") {
            continue;
        }
        let database = Database::sqlite();
        let world = furnished(&database).await;
        let (call, mut path) = (&operation.call, filled(operation.path()));
        let read = if path.contains("/secrets/") {
            let made = world.call("POST /oauth-clients/bot/secrets", Value::Null).await.expect(201).json();
            path = format!("/api/v1/oauth-clients/bot/secrets/{}", made["secrets"][0]["hint"].as_str().unwrap());
            "/api/v1/oauth-clients/bot".to_owned()
        } else {
            // What is done with a thing stands below it.
            let verbs = ["/enable", "/disable", "/password", "/secrets"];
            verbs.iter().find_map(|verb| path.strip_suffix(verb)).unwrap_or(&path).to_owned()
        };
        let tag =
            world.send(request("GET", &read, &world.admin, &Value::Null)).await.expect(200).header("etag").to_owned();
        let version: i64 = tag.trim_start_matches('"').split('.').next().unwrap().parse().expect(call);
        let body = body(call);
        for old in [format!("\"{}\"", version - 1), "what".to_owned()] {
            let refused = with(&world, "if-match", &old, (operation.method(), &path), &body).await.expect(412).json();
            assert_eq!(refused["code"], "PRECONDITION_FAILED", "{call}");
        }
        let after = world.send(request("GET", &read, &world.admin, &Value::Null)).await.expect(200);
        assert_eq!(after.header("etag"), tag, "{call}: nothing was changed");
        let done = with(&world, "if-match", &tag, (operation.method(), &path), &body).await;
        assert!(matches!(done.status, 200 | 201 | 204), "{call}: {} {}", done.status, done.text);
        tried += 1;
    }
    assert!(tried >= 17, "{tried}");
}

on_both! {
    async fn of_two_who_read_the_same_one_changes_it(db) {
        let world = World::open(db).await;
        world.call("POST /users", json!({"username": "ada"})).await.expect(201);
        world.call("POST /admin/tenants", json!({"tenant_id": "acme"})).await.expect(201);
        world.call("POST /oauth-clients", service("bot")).await.expect(201);
        let changes = [
            ("/api/v1/users/ada", [json!({"role": "server_owner"}), json!({"state": "disabled"})]),
            ("/api/v1/admin/tenants/acme", [json!({"display_name": "One"}), json!({"guests": false})]),
            ("/api/v1/oauth-clients/bot", [json!({"name": "One"}), json!({"name": "Two"})]),
        ];
        for (path, bodies) in changes {
            for _ in 0..5 {
                let read = world.send(request("GET", path, &world.admin, &Value::Null)).await.expect(200);
                let tag = read.header("etag").to_owned();
                let change = |body| with(&world, "if-match", &tag, ("PATCH", path), body);
                let (one, other) = tokio::join!(change(&bodies[0]), change(&bodies[1]));
                let mut statuses = [one.status, other.status];
                statuses.sort_unstable();
                assert_eq!(statuses, [200, 412], "{path}: {} {}", one.text, other.text);
            }
        }
    }
}

#[tokio::test]
async fn without_a_version_a_change_is_made_as_before() {
    let database = Database::sqlite();
    let world = furnished(&database).await;
    let router = router::routes(world.app.clone());
    let change = json!({"title": "x"});
    assert_eq!(send(&router, "PATCH", "/api/v1/servers/files", &world.admin, &change).await.status().as_u16(), 200);
    with(&world, "if-match", "*", ("DELETE", "/api/v1/users/target"), &Value::Null).await.expect(204);
}

/// How much there is, and at which version.
async fn state(world: &World) -> Vec<String> {
    let lists = ["keys", "servers", "users", "oauth-clients", "trusted-issuers", "admin/tenants", "admin/bans"];
    let mut all = Vec::new();
    for list in lists {
        let told = world.call(&format!("GET /{list}"), Value::Null).await.expect(200).json();
        all.push(format!("{list}: {}", told["items"].as_array().unwrap().len()));
    }
    for one in ["servers/files", "users/target", "oauth-clients/bot", "admin/tenants/other", "admin/policies/default"] {
        let tag = world.call(&format!("GET /{one}"), Value::Null).await.expect(200).header("etag").to_owned();
        all.push(format!("{one}: {}", tag.split('.').next().unwrap()));
    }
    all
}

#[tokio::test]
async fn every_other_change_is_refused_to_who_names_a_version() {
    let database = Database::sqlite();
    let world = furnished(&database).await;
    let (before, mut tried) = (state(&world).await, 0);
    for operation in operations() {
        if operation.method() == "GET" || operation.takes("If-Match") {
            continue;
        }
        let path = filled(operation.path());
        for version in ["\"1\"", "*"] {
            let call = (operation.method(), path.as_str());
            let refused = with(&world, "if-match", version, call, &body(&operation.call)).await.expect(422).json();
            assert_eq!(refused["errors"][0]["field"], "If-Match", "{}", operation.call);
        }
        tried += 1;
    }
    assert_eq!(state(&world).await, before);
    assert!(tried >= 15, "{tried}");
}

#[tokio::test]
async fn a_parameter_that_a_change_does_not_take_is_refused() {
    let database = Database::sqlite();
    let world = furnished(&database).await;
    let before = state(&world).await;
    for operation in operations() {
        let takes_some = operation.about["parameters"].as_array().unwrap().iter().any(|one| one["in"] == "query");
        if operation.method() == "GET" || takes_some {
            continue;
        }
        let path = format!("{}?dry_run=true", filled(operation.path()));
        let request = request(operation.method(), &path, &world.admin, &body(&operation.call));
        let refused = world.send(request).await.expect(422).json();
        assert_eq!(refused["errors"][0]["field"], "dry_run", "{}", operation.call);
    }
    assert_eq!(state(&world).await, before);
}

#[tokio::test]
async fn the_tag_of_a_change_is_the_one_of_what_is_read_then() {
    let database = Database::sqlite();
    let world = furnished(&database).await;
    let change = json!({"visibility": {"users": ["nobody-yet"]}});
    let changed = world.call("PATCH /servers/files", change).await.expect(200);
    assert!(!changed.json()["warnings"].as_array().unwrap().is_empty(), "{}", changed.text);
    let read = world.call("GET /servers/files", Value::Null).await.expect(200);
    assert_eq!(changed.header("etag"), read.header("etag"));

    let other = json!({"text": "permit(principal, action, resource); // other"});
    let tried = world.call("PUT /admin/policies/default?dry_run=true", other.clone()).await.expect(200);
    let tag = tried.header("etag").to_owned();
    let refused = with(&world, "if-match", &tag, ("PUT", "/api/v1/admin/policies/default"), &other).await;
    refused.expect(412);
}

on_both! {
    async fn the_version_of_a_client_moves_with_the_role_of_its_account(db) {
        let world = World::open(db).await;
        let made = world.call("POST /oauth-clients", service("bot")).await.expect(201).json();
        let tag = world.call("GET /oauth-clients/bot", Value::Null).await.expect(200).header("etag").to_owned();
        let account = format!("PATCH /users/{}", made["user_id"].as_str().unwrap());
        world.call(&account, json!({"role": "server_owner"})).await.expect(200);
        let read = world.call("GET /oauth-clients/bot", Value::Null).await.expect(200);
        assert_ne!(read.header("etag").split('.').next(), tag.split('.').next());
        let rename = ("PATCH", "/api/v1/oauth-clients/bot");
        with(&world, "if-match", &tag, rename, &json!({"name": "x"})).await.expect(412);
        with(&world, "if-match", read.header("etag"), rename, &json!({"name": "x"})).await.expect(200);
    }
}

#[tokio::test]
async fn what_is_not_there_is_not_there_whatever_version_is_named() {
    let database = Database::sqlite();
    let world = furnished(&database).await;
    for path in ["trusted-issuers/none", "servers/none", "users/none", "oauth-clients/none", "admin/tenants/none"] {
        let path = format!("/api/v1/{path}");
        with(&world, "if-match", "\"1\"", ("DELETE", &path), &Value::Null).await.expect(404);
    }
}
