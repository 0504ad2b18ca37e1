//! What the REST API says to requests that it does not serve, and that nothing is half written then.

use axum::body::Body;
use http::Request;
use mcp_registry_gateway::store::users::UserRow;
use serde_json::{Value, json};

use crate::store_databases::Database;
use crate::store_rest::{Answer, World, server};

async fn raw(world: &World, call: &str, kind: &str, body: impl Into<Body>) -> Answer {
    let (method, path) = call.split_once(' ').unwrap();
    let request = Request::builder()
        .method(method)
        .uri(format!("/api/v1{path}"))
        .header("authorization", format!("Bearer {}", world.admin))
        .header("content-type", kind);
    world.send(request.body(body.into()).unwrap()).await
}

async fn nothing_was_written(world: &World, revision: i64) {
    assert_eq!(world.app.store.revision().await.unwrap(), revision);
    assert_eq!(world.call("GET /servers", Value::Null).await.json()["items"], json!([]));
}

#[tokio::test]
async fn a_problem_document_has_its_members_and_the_requests_id() {
    let database = Database::sqlite();
    let world = World::open(&database).await;
    let answer = world.call("GET /servers/none", Value::Null).await.expect(404);
    assert_eq!(answer.header("content-type"), "application/problem+json");
    let id = answer.header("x-request-id").to_owned();
    assert!(id.parse::<uuid::Uuid>().is_ok());
    let expected = json!({
        "type": "urn:mcp-gateway:problem:not-found", "title": "Not Found", "status": 404,
        "detail": "there is no such server", "code": "NOT_FOUND", "request_id": id,
    });
    assert_eq!(answer.json(), expected);
    assert!(!world.call("GET /me", Value::Null).await.expect(200).header("x-request-id").is_empty());
}

#[tokio::test]
async fn malformed_json_is_refused_with_line_and_column() {
    let database = Database::sqlite();
    let world = World::open(&database).await;
    let revision = world.app.store.revision().await.unwrap();
    for (body, place) in [
        ("{\"slug\": \"files\",\n  \"tags\": [1,]}", "line 2, column 14"),
        ("", "line 1, column 1"),
        ("{\"é\": x}", "line 1, column 7"),
        ("{\"slug\":\"a\",\"slug\":\"b\"}", "\"slug\" occurs twice"),
        ("{} {}", "line 1, column 4"),
    ] {
        let answer = raw(&world, "POST /servers", "application/json", body).await.expect(400).json();
        assert_eq!(answer["code"], "MALFORMED_JSON");
        assert!(answer["detail"].as_str().unwrap().contains(place), "{answer}");
    }
    let deep = "[".repeat(5_000);
    raw(&world, "POST /servers", "application/json", deep).await.expect(400);
    nothing_was_written(&world, revision).await;
}

#[tokio::test]
async fn a_parameter_that_a_path_does_not_know_keeps_it_from_changing_anything() {
    let database = Database::sqlite();
    let world = World::open(&database).await;
    let revision = world.app.store.revision().await.unwrap();
    let body = server("files");
    for (call, name) in [
        ("POST /servers?dry_run=true", "dry_run"),
        ("POST /apply?dry-run", "dry-run"),
        ("POST /keys?limit=3", "limit"),
        ("PUT /servers/files?x=1", "x"),
        ("PATCH /admin/tenants/default?purge=true", "purge"),
        ("DELETE /admin/tenants/default?purged=true", "purged"),
        ("DELETE /servers/files?dry_run=1", "dry_run"),
    ] {
        let answer = world.call(call, body.clone()).await.expect(422).json();
        assert_eq!(answer["errors"][0]["field"], name, "{call}: {answer}");
    }
    nothing_was_written(&world, revision).await;
    world.call("POST /servers?", body).await.expect(201);
}

#[tokio::test]
async fn every_bad_field_is_named() {
    let database = Database::sqlite();
    let world = World::open(&database).await;
    let revision = world.app.store.revision().await.unwrap();
    let unsendable = ["a b?q", "a?q=a b", "a?q\r\n", "a?q\tr", " a", "b\u{fc}cher.example/"];
    let unsendable = unsendable.map(|rest| json!({"url": format!("https://{rest}")}));
    for (body, fields) in [
        (json!({"slug": "Not A Slug"}), vec!["slug"]),
        (json!({"slug": "a", "colour": 1}), vec!["colour"]),
        (json!({"slug": "a", "timeouts": {"idle": 1}}), vec!["timeouts.idle"]),
        (json!({"slug": "a", "replicas": [{"url": "https://a.example"}, {"url": 7}]}), vec!["replicas[1].url"]),
        (json!({"slug": "a", "replicas": [{"weight": 2}], "tags": []}), vec!["replicas[0].url"]),
        (
            json!({"slug": "a", "replicas": unsendable}),
            vec![
                "replicas[0].url",
                "replicas[1].url",
                "replicas[2].url",
                "replicas[3].url",
                "replicas[4].url",
                "replicas[5].url",
            ],
        ),
        (json!({"slug": "a", "tags": ["x", {}]}), vec!["tags[1]"]),
        (
            json!({"slug": "a", "replicas": [{"url": "https://a"}, {"url": "https://a"}], "sharing": "per_user"}),
            vec!["sharing", "replicas[1].url"],
        ),
        (
            json!({"slug": "a", "transport": "stdio", "command": {"program": "x"}, "balance": "random",
                   "env": {"A B": "c", "A.B-c": "d"}}),
            vec!["balance", "env.A B"],
        ),
        (json!({"title": "no slug", "timeouts": {}}), vec!["slug"]),
        (
            json!({"slug": "a", "replicas": [{"url": "https://a.example"}],
                   "visibility": {"users": vec!["ada"; 1_001], "roles": vec!["user"; 5]}}),
            vec!["visibility.users", "visibility.roles"],
        ),
        (
            json!({"slug": "a", "replicas": [{"url": "ftp://a"}, {"url": "https://u:p@a/", "weight": 0}],
                   "headers": {"bad name": "v", "host": "v"}, "timeouts": {"idle_ms": 1}, "visibility": {"roles": ["king"]}}),
            vec![
                "replicas[0].url",
                "replicas[1].url",
                "replicas[1].weight",
                "headers.bad name",
                "headers.host",
                "timeouts.idle_ms",
                "visibility.roles[0]",
            ],
        ),
    ] {
        let answer = world.call("POST /servers", body.clone()).await.expect(422).json();
        let named: Vec<_> =
            answer["errors"].as_array().unwrap().iter().map(|e| e["field"].as_str().unwrap().to_owned()).collect();
        assert_eq!(named, fields, "{body}: {answer}");
        assert_eq!(answer["code"], "INVALID_FIELDS");
    }
    for (call, body, field) in [
        ("POST /keys", json!({"name": "x"}), "servers"),
        ("POST /keys", json!({"name": "", "servers": []}), "name"),
        ("POST /keys", json!({"name": "x", "servers": ["*"], "role": "king"}), "role"),
        ("POST /keys", json!({"name": "x", "servers": [], "expires_at": "2001-01-01T00:00:00Z"}), "expires_at"),
        ("POST /keys", json!({"name": "x", "servers": [], "username": "nobody"}), "username"),
        ("POST /users", json!({"username": "a b"}), "username"),
        ("POST /users", json!({"username": "ada", "password": "short"}), "password"),
        ("PATCH /users/admin", json!({"state": "gone"}), "state"),
        ("POST /login", json!({"username": "ada"}), "password"),
    ] {
        let answer = world.call(call, body.clone()).await.expect(422).json();
        assert_eq!(answer["errors"][0]["field"], field, "{call} {body}: {answer}");
    }
    nothing_was_written(&world, revision).await;
}

#[tokio::test]
async fn a_value_that_does_not_fit_is_told_in_plain_words() {
    let database = Database::sqlite();
    let world = World::open(&database).await;
    let spec = |more: Value| {
        let mut spec = json!({"slug": "a", "replicas": [{"url": "https://a.example/"}]});
        spec.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        spec
    };
    for (call, body, told) in [
        (
            "POST /servers",
            spec(json!({"transport": "pigeon"})),
            "transport: `pigeon` is not possible here; use streamable_http, sse, stdio",
        ),
        ("POST /servers", spec(json!({"enabled": "yes"})), "enabled: must be true or false"),
        ("POST /servers", spec(json!({"tags": "one"})), "tags: must be a list"),
        ("POST /servers", spec(json!({"title": 5})), "title: must be a text"),
        ("POST /servers", spec(json!({"timeouts": 5})), "timeouts: must be an object"),
        (
            "POST /servers",
            spec(json!({"timeouts": {"idle_ms": "s3cret"}})),
            "timeouts.idle_ms: must be a whole number, 0 or greater",
        ),
        (
            "POST /servers",
            spec(json!({"timeouts": {"idle_ms": -1}})),
            "timeouts.idle_ms: must be a whole number, 0 or greater",
        ),
        ("POST /servers", spec(json!({"colour": 1})), "colour: there is no such field; there are slug, title"),
        (
            "POST /servers",
            spec(json!({"headers": {"authorization": "a", "Authorization": "b"}})),
            "headers.authorization: the same header as `Authorization`",
        ),
        (
            "POST /keys",
            json!({"name": "x", "servers": [], "role": "king"}),
            "role: `king` is not possible here; use user, server_owner, tenant_admin, admin",
        ),
        ("POST /keys", json!({"name": "x", "servers": 1}), "servers: must be \"*\" or a list of patterns"),
        (
            "POST /keys",
            json!({"name": "x", "servers": [], "expires_in_days": "x"}),
            "expires_in_days: must be a whole number from 0 to 4294967295",
        ),
        ("PATCH /users/admin", json!({"state": "gone"}), "state: `gone` is not possible here; use active, disabled"),
        ("GET /servers?limit=x", Value::Null, "limit: must be a whole number"),
        ("GET /servers?page=2", Value::Null, "page: there is no such field; there are limit, cursor"),
    ] {
        let answer = world.call(call, body.clone()).await.expect(422).json();
        let error = &answer["errors"][0];
        let said = format!("{}: {}", error["field"].as_str().unwrap(), error["message"].as_str().unwrap());
        assert!(said.starts_with(told), "{call} {body}: {said}");
        assert!(!answer.to_string().contains("s3cret"), "{answer}");
    }
}

#[tokio::test]
async fn who_is_not_let_in_gets_a_challenge() {
    let database = Database::sqlite();
    let world = World::open(&database).await;
    let none = world.with_key("", "GET /servers", Value::Null).await.expect(401);
    let way =
        "resource_metadata=\"http://127.0.0.1:8001/.well-known/oauth-protected-resource/api/v1\", scope=\"admin\"";
    let both = format!("Bearer realm=\"mcp-gateway\", {way}, DPoP algs=\"ES256 EdDSA PS256 RS256\"");
    assert_eq!(none.header("www-authenticate"), both);
    assert_eq!(none.json()["code"], "UNAUTHENTICATED");
    let unknown = format!("mcpg_{}", "aB3dE6gH9kL2".repeat(4));
    for (header, code) in [(format!("Bearer {unknown}"), "INVALID_KEY"), ("Basic YTpi".into(), "INVALID_KEY")] {
        let request = Request::get("/api/v1/servers").header("authorization", &header).body(Body::empty()).unwrap();
        let answer = world.send(request).await.expect(401);
        let challenge = answer.header("www-authenticate");
        assert!(
            challenge.starts_with("Bearer realm=\"mcp-gateway\", error=\"invalid_token\", error_description=\""),
            "{challenge}"
        );
        assert!(challenge.ends_with(way) && challenge.matches('"').count() == 10, "{challenge}");
        assert_eq!(answer.json()["code"], code);
        assert!(!answer.text.contains(&unknown));
    }
    let two = Request::get("/api/v1/servers")
        .header("authorization", format!("Bearer {}", world.admin))
        .header("authorization", format!("Bearer {unknown}"));
    world.send(two.body(Body::empty()).unwrap()).await.expect(401);
    let lower = Request::get("/api/v1/me").header("authorization", format!("bearer {}", world.admin));
    world.send(lower.body(Body::empty()).unwrap()).await.expect(200);
}

#[tokio::test]
async fn wrong_paths_methods_and_bodies_are_told_apart() {
    let database = Database::sqlite();
    let world = World::open(&database).await;
    assert_eq!(world.call("GET /nothing", Value::Null).await.expect(404).json()["code"], "NO_SUCH_PATH");
    let method = world.call("DELETE /servers", Value::Null).await.expect(405);
    assert_eq!(method.json()["code"], "METHOD_NOT_ALLOWED");
    assert!(method.header("allow").contains("POST"), "{}", method.header("allow"));
    assert!(!method.header("x-request-id").is_empty());
    for kind in ["text/plain", "application/x-www-form-urlencoded", ""] {
        let answer = raw(&world, "POST /servers", kind, server("a").to_string()).await.expect(415);
        assert_eq!(answer.json()["code"], "UNSUPPORTED_MEDIA_TYPE");
    }
    let large = json!({"slug": "a", "description": "x".repeat(1024 * 1024)}).to_string();
    assert_eq!(
        raw(&world, "POST /servers", "application/json", large).await.expect(413).json()["code"],
        "BODY_TOO_LARGE"
    );
    raw(&world, "POST /servers", "application/json; charset=utf-8", server("a").to_string()).await.expect(201);
    raw(&world, "PATCH /servers/a", "application/merge-patch+json", "[1]").await.expect(400);
}

#[tokio::test]
async fn a_database_that_is_away_is_told_and_not_quoted() {
    let database = Database::sqlite();
    let world = World::open(&database).await;
    world.app.store.close().await;
    let answer = world.call("GET /servers", Value::Null).await.expect(503);
    assert_eq!(answer.json()["code"], "DATABASE_UNAVAILABLE");
    assert!(!answer.header("retry-after").is_empty());
    world.call("GET /me", Value::Null).await.expect(200);
}

#[tokio::test]
async fn another_tenants_things_do_not_exist() {
    let database = Database::sqlite();
    let world = World::open(&database).await;
    let other = world.app.store.add_tenant("acme", "Acme").await.unwrap();
    let row = UserRow {
        id: uuid::Uuid::now_v7(),
        username: "eve".into(),
        role: "user".into(),
        state: "active".into(),
        ..UserRow::default()
    };
    world.app.store.insert_user(&other, &row).await.unwrap();
    for who in [row.id.to_string(), "eve".into()] {
        world.call(&format!("GET /users/{who}"), Value::Null).await.expect(404);
        world.call(&format!("PATCH /users/{who}"), json!({"state": "disabled"})).await.expect(404);
        world.call(&format!("DELETE /users/{who}"), Value::Null).await.expect(404);
        world.call(&format!("POST /users/{who}/password"), json!({"password": "a long pass phrase"})).await.expect(404);
    }
    world.call(&format!("DELETE /keys/{}", uuid::Uuid::now_v7()), Value::Null).await.expect(404);
}

on_both! {
    async fn a_nul_character_is_refused_or_not_found_but_no_failure(db) {
        let world = World::open(db).await;
        let mut titled = server("a");
        titled["title"] = json!("a\0b");
        for (call, body, status) in [
            ("GET /servers/a%00b", Value::Null, 404),
            ("GET /users/a%00b", Value::Null, 404),
            ("GET /servers?cursor=YQBi", Value::Null, 422),
            ("POST /servers", titled, 422),
            ("POST /keys", json!({"name": "a\0b", "servers": []}), 422),
            ("POST /keys", json!({"name": "a", "servers": ["a\0b"]}), 422),
            ("POST /keys", json!({"name": "a", "servers": [], "username": "a\0b"}), 422),
            ("POST /users", json!({"username": "a\0b"}), 422),
            ("POST /login", json!({"username": "a\0b", "password": "a\0b"}), 401),
        ] {
            let answer = world.call(call, body).await;
            assert_eq!(answer.status, status, "{call}: {}", answer.text);
        }
    }
}
