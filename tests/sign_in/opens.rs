//! What a credential opens: an access token its one resource, a key every one, and nothing else anything. What has ended opens
//! nothing from that moment on, in every process.

use std::time::Duration;

use mcp_registry_gateway::access::{AuthError, KeyRing, Opening};
use mcp_registry_gateway::app::{assemble, build};
use mcp_registry_gateway::grants::{End, EndReason, Ids};
use mcp_registry_gateway::id::TenantId;
use mcp_registry_gateway::store::now;
use mcp_registry_gateway::store::users::UserRow;
use mcp_registry_gateway::web::caller::authenticate;
use mcp_registry_gateway::web::proof::Sent;
use serde_json::json;
use testkit::client::Client;
use testkit::upstream::{Answer, Eras, Plain};

use crate::world::{KEY, World};

/// The status of a first message, or of the REST API, with this credential.
pub async fn knock(world: &World, path: &str, credential: &str) -> u16 {
    let bearer = format!("Bearer {credential}");
    let headers = [
        ("authorization", bearer.as_str()),
        ("content-type", "application/json"),
        ("accept", "application/json, text/event-stream"),
    ];
    if path.starts_with("/api") {
        return world.send("GET", &format!("{path}/me"), &headers, "").await.status;
    }
    let params =
        json!({"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "t", "version": "1"}});
    let hello = json!({"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": params});
    world.send("POST", path, &headers, &hello.to_string()).await.status
}

#[tokio::test]
async fn a_token_opens_the_resource_it_was_asked_for_and_no_other() {
    let world = World::start().await;
    let spec = json!({"slug": "files", "replicas": [{"url": "https://files.example/mcp"}], "enabled": false});
    world.rest("POST", "/servers", spec).await.expect(201);
    let (all, refresh) = world.tokens("/mcp", "mcp offline_access").await;
    let one = world.tokens("/mcp/files", "mcp").await.0;
    let api = world.tokens("/api/v1", "mcp admin").await.0;
    let code = world.code("/mcp", "mcp").await;
    for (what, credential, expected) in [
        ("for /mcp", &all, [true, false, false]),
        ("for /mcp/files", &one, [false, true, false]),
        ("for /api/v1", &api, [false, false, true]),
        ("a refresh token", &refresh, [false, false, false]),
        ("a code", &code, [false, false, false]),
        ("a key", &KEY.to_owned(), [true, true, true]),
    ] {
        for (path, opens) in ["/mcp", "/mcp/files", "/api/v1"].into_iter().zip(expected) {
            let status = knock(&world, path, credential).await;
            assert_eq!(status != 401, opens, "{what} at {path}: {status}");
        }
    }
}

#[tokio::test]
async fn who_lacks_only_the_scope_is_told_which_and_who_lacks_the_role_is_not() {
    let world = World::start().await;
    let make = async |token: &str, path: &str| {
        let bearer = format!("Bearer {token}");
        let headers = [("authorization", bearer.as_str()), ("content-type", "application/json")];
        world.send("POST", &format!("/api/v1{path}"), &headers, r#"{"username":"bob"}"#).await
    };
    let few = world.tokens("/api/v1", "mcp").await.0;
    let told = make(&few, "/users").await.expect(403);
    let challenge = told.header("www-authenticate");
    assert!(challenge.starts_with("Bearer ") && !challenge.contains("DPoP"), "{challenge}");
    assert!(challenge.contains("error=\"insufficient_scope\", scope=\"admin\""), "{challenge}");
    assert!(challenge.contains(&world.uri("/.well-known/oauth-protected-resource/api/v1")), "{challenge}");
    let more = world.tokens("/api/v1", "mcp admin").await.0;
    make(&more, "/users").await.expect(201);

    world.rest("PATCH", &format!("/users/{}", world.user), json!({"role": "user"})).await.expect(200);
    let lesser = world.tokens("/api/v1", "mcp admin").await.0;
    assert_eq!(make(&lesser, "/users").await.expect(403).header("www-authenticate"), "");

    let (_, refresh) = world.tokens("/mcp", "mcp offline_access").await;
    let narrow = world.refresh(&refresh, &[("scope", "offline_access")]).await.expect(200).json();
    let narrow = narrow["access_token"].as_str().unwrap();
    let told = world.get("/mcp", narrow).await.expect(403);
    assert!(told.header("www-authenticate").contains("error=\"insufficient_scope\", scope=\"mcp\""), "{told:?}");
}

#[tokio::test]
async fn what_is_counted_of_all_tenants_is_for_administrators_of_the_gateway() {
    let world = World::with(&["--behind-proxy"]).await;
    let read = async |token: &str| world.get("/metrics", token).await;
    let of_a_tenant = world.tokens("/api/v1", "mcp admin").await.0;
    assert_eq!(read(&of_a_tenant).await.expect(403).json()["code"], "FORBIDDEN");
    world.rest("PATCH", &format!("/users/{}", world.user), json!({"role": "admin"})).await.expect(200);
    read(&world.tokens("/api/v1", "mcp").await.0).await.expect(403);
    read(&world.tokens("/mcp", "mcp admin").await.0).await.expect(401);
    let told = read(&world.tokens("/api/v1", "mcp admin").await.0).await.expect(200);
    assert!(told.text.contains("mcp_auth_events_total"), "{}", told.text);
}

#[tokio::test]
async fn what_is_given_back_is_over_at_once_here_and_in_other_processes() {
    let world = World::start().await;
    let app = &world.app;
    let beside =
        assemble((*app.settings).clone(), app.issuer.clone(), app.store.clone(), app.sealer.clone(), KeyRing::empty())
            .unwrap();
    for which in ["access", "refresh"] {
        let (access, refresh) = world.tokens("/api/v1", "mcp offline_access").await;
        let mut headers = http::HeaderMap::new();
        headers.insert("authorization", format!("Bearer {access}").parse().unwrap());
        let there = async || authenticate(&beside, &headers, Opening::Api, Sent::new("GET", "/api/v1/me")).await;
        world.get("/api/v1/me", &access).await.expect(200);
        let held = there().await.unwrap();

        let given = if which == "access" { &access } else { &refresh };
        let fields = [("token", given.as_str()), ("client_id", world.client.as_str())];
        let answer = world.form("/oauth/revoke", &[], &fields).await.expect(200);
        assert_eq!((answer.text.as_str(), answer.header("cache-control")), ("", "no-store"));

        world.get("/api/v1/me", &access).await.expect(401);
        assert_eq!(world.refresh(&refresh, &[]).await.error(), (400, "invalid_grant".to_owned()));
        beside.tokens.forget_ended(&beside.store).await.unwrap();
        assert!(held.ended().is_cancelled(), "what is open under it ends");
        assert_eq!(there().await.unwrap_err(), AuthError::EndedToken);
        world.form("/oauth/revoke", &[], &fields).await.expect(200);
    }
    assert!(
        world
            .metrics()
            .await
            .contains("mcp_session_duration_seconds_count{tenant_id=\"default\",end_reason=\"logout\"} 2")
    );
}

#[tokio::test]
async fn what_one_process_ends_another_refuses_without_being_told() {
    let world = World::start().await;
    // With its own jobs, on the same database, which tells it of nothing.
    let beside = build((*world.app.settings).clone(), world.app.issuer.clone()).await.unwrap();
    let (access, refresh) = world.tokens("/api/v1", "mcp offline_access").await;
    let mut headers = http::HeaderMap::new();
    headers.insert("authorization", format!("Bearer {access}").parse().unwrap());
    let there = async || authenticate(&beside, &headers, Opening::Api, Sent::new("GET", "/api/v1/me")).await;
    let held = there().await.unwrap();
    let fields = [("token", refresh.as_str()), ("client_id", world.client.as_str())];
    world.form("/oauth/revoke", &[], &fields).await.expect(200);
    // Within a second, but for the machine.
    tokio::time::timeout(Duration::from_secs(20), held.ended().cancelled()).await.expect("it is heard of");
    assert_eq!(there().await.unwrap_err(), AuthError::EndedToken);
    beside.shutdown.cancel();
    beside.tasks.close();
    beside.tasks.wait().await;
}

#[tokio::test]
async fn an_end_is_heard_of_whatever_the_clocks_of_other_processes_say() {
    let world = World::start().await;
    let app = &world.app;
    let beside =
        assemble((*app.settings).clone(), app.issuer.clone(), app.store.clone(), app.sealer.clone(), KeyRing::empty())
            .unwrap();
    let minute = time::Duration::MINUTE;
    for clock in [minute * 60, -minute / 2, -minute * 3 / 4] {
        let access = world.tokens("/api/v1", "mcp").await.0;
        let held = beside.tokens.find(&beside.store, &access, now()).await.unwrap();
        let (grant, end) = (held.grant_id().unwrap(), End { reason: EndReason::Logout, detail: "revoked" });
        app.grants.end(held.tenant(), Ids::One(grant, None), end, now() + clock).await.unwrap();
        for _ in 0..2 {
            beside.tokens.forget_ended(&beside.store).await.unwrap();
        }
        assert!(held.ended().is_cancelled(), "{clock}");
        assert_eq!(beside.tokens.find(&beside.store, &access, now()).await.unwrap_err(), AuthError::EndedToken);
    }
}

#[tokio::test]
async fn a_client_of_the_older_transport_is_led_to_the_description_of_its_own_address() {
    let world = World::start().await;
    for path in ["/sse", "/sse/files", "/mcp", "/mcp/files"] {
        let answer = world.send("GET", path, &[("accept", "text/event-stream")], "").await.expect(401);
        let told =
            format!("resource_metadata=\"{}\"", world.uri(&format!("/.well-known/oauth-protected-resource{path}")));
        assert!(answer.header("www-authenticate").contains(&told), "{path}: {answer:?}");
        let metadata = world.send("GET", &format!("/.well-known/oauth-protected-resource{path}"), &[], "").await;
        assert_eq!(metadata.expect(200).json()["resource"], world.uri(path));
    }
    // It asks for a token for that address, and gets one that opens it.
    let (token, _) = world.tokens("/mcp", "mcp").await;
    let bearer = format!("Bearer {token}");
    let headers = [("authorization", bearer.as_str()), ("accept", "application/json")];
    world.send("GET", "/sse", &headers, "").await.expect(406);
    let keys = world.send("GET", "/oauth/keys", &[], "").await.expect(200).json();
    // Of the word by which servers know who calls; nothing of them is secret.
    let [key] = keys["keys"].as_array().unwrap().as_slice() else { panic!("{keys}") };
    assert_eq!((&key["use"], &key["alg"], key.get("d")), (&"sig".into(), &"ES256".into(), None), "{keys}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_task_belongs_to_the_account_whichever_credential_it_comes_with() {
    let mut world = World::start().await;
    let row = UserRow {
        id: uuid::Uuid::now_v7(),
        username: "grace".into(),
        role: "user".into(),
        state: "active".into(),
        issuer: Some("https://login.example.com".into()),
        subject: Some("1".into()),
        ..UserRow::default()
    };
    world.app.store.insert_person(&TenantId::default_tenant(), &row).await.unwrap();
    let server = Plain::with(Eras::Legacy("2025-11-25".into())).await.unwrap();
    server.set(|settings| {
        settings.capabilities["tasks"] = json!({"requests": {"tools": {"call": {}}}});
        settings.tools = vec![json!({"name": "work", "inputSchema": {"type": "object"}})];
    });
    let task = json!({"taskId": "7", "status": "working", "ttl": 60_000});
    let begun = json!({"task": task});
    server.script("work", move |_| Answer::Result(begun.to_string()));
    server.script("tasks/get", move |_| Answer::Result(task.to_string()));
    let spec = json!({"slug": "jobs", "replicas": [{"url": server.url()}]});
    world.rest("POST", "/servers", spec).await.expect(201);
    let key_of = async |name: &str| {
        let order = json!({"name": "all", "username": name, "role": "user", "servers": "*"});
        let made = world.rest("POST", "/keys", order).await.expect(201).json();
        made["key"].as_str().unwrap().to_owned()
    };
    let (key, another) = (key_of("grace").await, key_of("ada").await);
    world.user = row.id;
    let token = world.tokens("/mcp/jobs", "mcp").await.0;
    let client = async |credential: &str| {
        let client = Client::new(&format!("{}/mcp/jobs", world.url)).bearer(credential);
        client.initialize("2025-11-25").await.unwrap();
        client
    };
    let (by_key, by_token, other) = (client(&key).await, client(&token).await, client(&another).await);
    for (one, two) in [(&by_key, &by_token), (&by_token, &by_key)] {
        let begun = one.call("tools/call", json!({"name": "work", "arguments": {}, "task": {}})).await.unwrap();
        let ask = json!({"taskId": begun.result()["task"]["taskId"]});
        assert_eq!(two.call("tasks/get", ask.clone()).await.unwrap().code(), None);
        assert_eq!(other.call("tasks/get", ask).await.unwrap().code(), Some(-32602));
    }
}
