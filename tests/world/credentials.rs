//! What the gateway shows servers, and for whom: seen by the servers.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use futures_util::future::join_all;
use http::Method;
use jsonwebtoken::{Algorithm, Validation};
use mcp_registry_gateway::crypto::jwk::KeySet;
use serde_json::{Value, json};
use testkit::authorization::Authorization;
use testkit::client::{Client, Request};
use testkit::jsonrpc::MODERN;
use testkit::upstream::{Eras, Plain, Recorded};

use crate::world::{World, within};

const SECRET: &str = "a-client-secret-of-the-gateway";

/// What a word of the gateway says, verified with the keys that it publishes.
async fn said(world: &World, word: &str, audience: &str) -> Value {
    verified(world, word, "mcp-identity+jwt", world.url(), audience).await
}

/// The same of anything that it signs.
async fn verified(world: &World, word: &str, typ: &str, issuer: &str, audience: &str) -> Value {
    let reply = Client::new(world.url()).send(Request::get().path("/oauth/keys")).await.unwrap();
    let keys: Value = serde_json::from_str(&reply.text().await.unwrap()).unwrap();
    let keys = KeySet::read(keys["keys"].as_array().unwrap());
    let header = jsonwebtoken::decode_header(word).unwrap();
    assert_eq!(header.typ.as_deref(), Some(typ));
    let kid = header.kid;
    let key = keys.of(kid.as_deref(), Algorithm::ES256).next().expect("it is signed with a published key");
    let mut rules = Validation::new(Algorithm::ES256);
    rules.set_audience(&[audience]);
    rules.set_issuer(&[issuer]);
    jsonwebtoken::decode::<Value>(word, &key.decoding, &rules).unwrap().claims
}

/// The claims of a word, unverified; null where there is none.
fn claims(request: &Recorded, header: &str) -> Value {
    let word = request.header(header).trim_start_matches("Bearer ").to_owned();
    let part = word.split('.').nth(1).unwrap_or_default().to_owned();
    URL_SAFE_NO_PAD.decode(part).ok().and_then(|json| serde_json::from_slice(&json).ok()).unwrap_or_default()
}

async fn id_of(world: &World, name: &str) -> String {
    let (_, user) = world.rest(Method::GET, &format!("/users/{name}"), &Value::Null).await;
    user["id"].as_str().unwrap().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_hears_who_calls_in_every_request_and_session_and_nobody_is_taken_for_another() {
    let world = World::start().await;
    let people: Vec<(String, String)> = vec![
        ("ann".into(), world.person("ann", "user").await),
        ("bob".into(), world.person("bob", "user").await),
        ("head".into(), world.person("head", "tenant_admin").await),
    ];
    let mut ids = BTreeMap::new();
    for (name, _) in &people {
        ids.insert(name.clone(), id_of(&world, name).await);
    }
    for (at, eras) in [Eras::Legacy("2025-11-25".into()), Eras::Modern, Eras::Dual].into_iter().enumerate() {
        let server = Plain::with(eras.clone()).await.unwrap();
        let slug = format!("s{at}");
        let auth = json!({"kind": "identity", "claims": ["role", "name"]});
        let spec = json!({"slug": slug, "replicas": [{"url": server.url()}], "auth": auth});
        assert_eq!(world.register_as(&spec).await["status"]["state"], "ready");
        // Everybody at once, again and again, in both eras, at the common endpoint and at the server's own.
        let calls = people.iter().flat_map(|(name, key)| {
            [("/mcp".to_owned(), format!("{slug}__echo")), (format!("/mcp/{slug}"), "echo".to_owned())]
                .into_iter()
                .flat_map(move |(path, tool)| {
                    [MODERN, "2025-11-25"].map(|version| (name, key, path.clone(), tool.clone(), version))
                })
        });
        let world = &world;
        join_all(calls.map(|(name, key, path, tool, version)| async move {
            let client = crate::world::shake(world.client_of(&path, key), version).await;
            for _ in 0..5 {
                let called = within(client.tool(&tool, json!({"who": name}))).await.unwrap();
                assert!(called.result().is_object(), "{called:?}");
            }
        }))
        .await;
        let mut sessions: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        for request in server.host().requests() {
            let claims = claims(&request, "authorization");
            let subject = claims["sub"].as_str().unwrap_or_else(|| panic!("nobody: {request:?}")).to_owned();
            assert!(!format!("{:?}", request.headers).contains("mcpg_"), "what a client shows goes no further");
            if let Some(who) = request.json()["params"]["arguments"]["who"].as_str() {
                assert_eq!(subject, ids[who], "{who}: {claims}");
                assert_eq!(claims["preferred_username"], who);
                assert_eq!(claims["role"], if who == "head" { "tenant_admin" } else { "user" });
            }
            if !request.header("mcp-session-id").is_empty() {
                sessions.entry(request.header("mcp-session-id").to_owned()).or_default().insert(subject);
            }
        }
        assert!(sessions.values().all(|who| who.len() == 1), "a session is one person's: {sessions:?}");
        assert_eq!(sessions.is_empty(), matches!(eras, Eras::Modern), "{eras:?}");
        let own =
            server.asked("tools/list").into_iter().find(|asked| claims(asked, "authorization")["sub"] == "gateway");
        assert!(own.is_some(), "the gateway asks in its own name");
        let one = &server.calls("echo")[0];
        let word = one.header("authorization").trim_start_matches("Bearer ").to_owned();
        let said = said(world, &word, &server.url()).await;
        assert_eq!(
            (&said["tenant"], said["exp"].as_i64().unwrap() - said["iat"].as_i64().unwrap()),
            (&json!("default"), 300)
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_opened_at_a_server_with_more_is_not_used_with_less() {
    let world = World::start().await;
    let server = Plain::with(Eras::Legacy("2025-11-25".into())).await.unwrap();
    let auth = json!({"kind": "identity", "claims": ["role"]});
    world.register_as(&json!({"slug": "a", "replicas": [{"url": server.url()}], "auth": auth})).await;
    let more = world.person("head", "tenant_admin").await;
    let order = json!({"name": "less", "username": "head", "role": "user", "servers": "*"});
    let (status, less) = world.rest(Method::POST, "/keys", &order).await;
    assert_eq!(status, 201, "{less}");
    for path in ["/mcp", "/mcp/a"] {
        let tool = if path == "/mcp" { "a__echo" } else { "echo" };
        let [more, less] = [&more, less["key"].as_str().unwrap()].map(|key| world.client_of(path, key));
        let more = crate::world::shake(more, "2025-11-25").await;
        let less = crate::world::shake(less, "2025-11-25").await;
        less.set_session(more.session().as_deref());
        for client in [&more, &less, &more, &less] {
            let called = within(client.tool(tool, json!({}))).await.unwrap();
            assert!(called.result().is_object(), "{called:?}");
        }
    }
    let mut roles: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for call in server.calls("echo") {
        let role = claims(&call, "authorization")["role"].as_str().unwrap().to_owned();
        roles.entry(call.header("mcp-session-id").to_owned()).or_default().insert(role);
    }
    assert!(roles.len() > 2 && roles.values().all(|roles| roles.len() == 1), "{roles:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_word_goes_into_the_header_or_the_member_that_was_chosen() {
    let world = World::start().await;
    let ann = world.person("ann", "user").await;
    for (slug, auth) in [
        ("own", json!({"kind": "identity", "header": "X-Caller"})),
        ("meta", json!({"kind": "identity", "meta": true})),
    ] {
        let server = Plain::with(Eras::Dual).await.unwrap();
        let spec = json!({"slug": slug, "replicas": [{"url": server.url()}], "auth": auth, "headers": {"Authorization": "Bearer shared"}});
        world.register_as(&spec).await;
        let client = world.client_of("/mcp", &ann);
        let called = within(client.tool(&format!("{slug}__echo"), json!({}))).await.unwrap();
        assert!(called.result().is_object(), "{called:?}");
        let call = &server.calls("echo")[0];
        assert_eq!(call.header("authorization"), "Bearer shared");
        let word = match slug {
            "own" => call.header("x-caller").to_owned(),
            _ => call.json()["params"]["_meta"]["io.mcp-registry-gateway/identity"].as_str().unwrap().to_owned(),
        };
        assert_eq!(said(&world, &word, &server.url()).await["sub"], id_of(&world, "ann").await);
    }
}

/// Whether the page of metrics has these lines.
async fn counted(world: &World, lines: &[&str]) {
    let page = within(world.client("/metrics").send(Request::get())).await.unwrap().text().await.unwrap();
    assert!(lines.iter().all(|line| page.contains(line)), "{lines:?} {page}");
}

/// How a client at `issuer` is described.
fn as_client(issuer: &Authorization, kind: &str) -> Value {
    json!({"kind": kind, "issuer": issuer.issuer(), "client_id": "gateway", "client_secret": SECRET, "scopes": ["read"]})
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_is_got_once_for_many_and_again_when_the_server_refuses_it() {
    let issuer = Authorization::start().await.unwrap();
    let server = Plain::with(Eras::Dual).await.unwrap();
    server.bearer("token-1");
    let world = World::start().await;
    let spec =
        json!({"slug": "a", "replicas": [{"url": server.url()}], "auth": as_client(&issuer, "client_credentials")});
    let made = world.register_as(&spec).await;
    assert_eq!(made["status"]["state"], "ready", "{made}");
    assert_eq!(made["auth"]["client_secret"], "***");
    let client = world.client("/mcp");
    let call = || async { within(client.tool("a__echo", json!({}))).await.unwrap() };
    let all = join_all((0..50).map(|_| call())).await;
    assert!(all.iter().all(|called| called.result().is_object()));
    let asked = issuer.asked();
    assert_eq!(asked.len(), 1, "{asked:?}");
    let form = |name: &str| asked[0].get(name).map(String::as_str);
    assert_eq!(form("grant_type"), Some("client_credentials"));
    assert_eq!((form("client_secret"), form("scope")), (Some(SECRET), Some("read")));

    // It is revoked there. Of many who hear of it, one gets another.
    server.bearer("token-2");
    let all = join_all((0..50).map(|_| call())).await;
    assert!(all.iter().all(|called| called.result().is_object()), "{all:?}");
    assert_eq!(issuer.asked().len(), 2);
    // A server that goes on refusing does not make the gateway ask again and again.
    server.bearer("token-7");
    for _ in 0..10 {
        let refused = call().await;
        assert_eq!((refused.code(), issuer.asked().len()), (Some(-31_007), 2), "{refused:?}");
    }
    let renewed = r#"mcp_token_refresh_total{tenant_id="default",kind="on_demand",result="success"} 1"#;
    let got = r#"mcp_upstream_credential_requests_total{kind="client_credentials",result="success"} 2"#;
    let of_servers = r#"mcp_upstream_token_renewals_total{tenant_id="default",kind="on_demand",result="success"} 1"#;
    counted(&world, &[renewed, of_servers, got]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_server_wants_to_see_in_a_token_is_asked_for_at_once() {
    let issuer = Authorization::start().await.unwrap();
    let server = Plain::with(Eras::Modern).await.unwrap();
    let world = World::start().await;
    let spec =
        json!({"slug": "a", "replicas": [{"url": server.url()}], "auth": as_client(&issuer, "client_credentials")});
    world.register_as(&spec).await;
    let client = world.client("/mcp/a");
    within(client.tool("echo", json!({}))).await.unwrap();
    let before = issuer.asked().len();
    let claims = URL_SAFE_NO_PAD.encode(r#"{"access_token":{"nbf":{"essential":true}}}"#);
    let refusals = Arc::new(AtomicUsize::new(0));
    let counted = refusals.clone();
    server.door(move |headers| {
        let old = headers.get("authorization").is_some_and(|value| value == "Bearer token-1");
        old.then(|| counted.fetch_add(1, Relaxed));
        old.then(|| format!("Bearer error=\"insufficient_claims\", claims=\"{claims}\""))
    });
    let called = within(client.tool("echo", json!({"n": 2}))).await.unwrap();
    assert!(called.result().is_object(), "{called:?}");
    assert_eq!((issuer.asked().len(), refusals.load(Relaxed)), (before + 1, 1));
    assert_eq!(server.calls("echo").last().unwrap().header("authorization"), "Bearer token-2");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_at_the_authorization_server_is_told_without_secrets_and_not_repeated_at_once() {
    let issuer = Authorization::start().await.unwrap();
    issuer.answer(|form| {
        let secret = form.get("client_secret").cloned().unwrap_or_default();
        // It stands where a long text is cut.
        (401, json!({"error": "invalid_client", "error_description": format!("{}{secret}", "x".repeat(290))}))
    });
    let server = Plain::with(Eras::Dual).await.unwrap();
    let world = World::start().await;
    let ann = world.person("ann", "user").await;
    let spec =
        json!({"slug": "a", "replicas": [{"url": server.url()}], "auth": as_client(&issuer, "client_credentials")});
    let made = world.register_as(&spec).await;
    let reason = made["status"]["last_error"].as_str().unwrap();
    assert!(reason.contains("invalid_client") && !reason.contains(&SECRET[..6]), "{reason}");
    let client = world.client_of("/mcp/a", &ann);
    for _ in 0..20 {
        let refused = within(client.tool("echo", json!({}))).await.unwrap();
        let text = refused.response["error"]["message"].as_str().unwrap().to_owned();
        assert_eq!(refused.code(), Some(-31_015), "{refused:?}");
        assert!(text.starts_with("a: the gateway is not given access to the server"), "{text}");
        assert!(!refused.response.to_string().contains("invalid_client"), "{refused:?}");
    }
    assert!(issuer.asked().len() < 5, "{}", issuer.asked().len());
    assert!(server.host().requests().is_empty(), "nothing is sent without it");
}

#[tokio::test(flavor = "multi_thread")]
async fn whom_the_authorization_server_does_not_let_in_is_told_that_it_is_about_them() {
    let issuer = Authorization::start().await.unwrap();
    issuer.answer(|_| (400, json!({"error": "invalid_grant", "error_description": "no account of that name"})));
    let server = Plain::with(Eras::Modern).await.unwrap();
    let world = World::start().await;
    let ann = world.person("ann", "user").await;
    for kind in ["token_exchange", "id_jag"] {
        let (slug, own) =
            (kind.replace('_', "-"), json!({"kind": "headers", "headers": {"Authorization": "Bearer own"}}));
        let spec = json!({"slug": slug, "replicas": [{"url": server.url()}], "auth": as_client(&issuer, kind), "discovery_auth": own});
        world.register_as(&spec).await;
        let client = world.client_of(&format!("/mcp/{slug}"), &ann);
        let refused = within(client.tool("echo", json!({}))).await.unwrap();
        assert_eq!(refused.code(), Some(-31_015), "{refused:?}");
        let error = &refused.response["error"];
        assert_eq!(error["data"]["whose"], "client", "{refused:?}");
        assert!(error["message"].as_str().unwrap().contains("does not let you in"), "{refused:?}");
        assert!(!error.to_string().contains("no account"), "{refused:?}");
        let line = format!(r#"mcp_upstream_credential_requests_total{{kind="{kind}",result="refused"}} 1"#);
        counted(&world, &[&line]).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_gateways_own_questions_go_with_what_they_were_given() {
    let issuer = Authorization::start().await.unwrap();
    for eras in [Eras::Legacy("2025-11-25".into()), Eras::Dual] {
        let server = Plain::with(eras.clone()).await.unwrap();
        let world = World::start().await;
        let ann = world.person("ann", "user").await;
        let spec = json!({
            "slug": "a", "replicas": [{"url": server.url()}],
            "auth": as_client(&issuer, "token_exchange"),
            "discovery_auth": {"kind": "headers", "headers": {"Authorization": "Bearer catalogue", "X-Own": "1"}},
        });
        let made = world.register_as(&spec).await;
        assert_eq!(
            (&made["status"]["state"], &made["discovery_auth"]["headers"]["X-Own"]),
            (&json!("ready"), &json!("***"))
        );
        for version in [MODERN, "2025-11-25"] {
            let client = crate::world::shake(world.client_of("/mcp", &ann), version).await;
            assert!(within(client.tool("a__echo", json!({}))).await.unwrap().result().is_object());
        }
        let (mut own, mut calls) = (BTreeSet::new(), BTreeSet::new());
        for request in server.host().requests() {
            let shown = (request.header("authorization").to_owned(), request.header("mcp-session-id").to_owned());
            let is_own = request.header("x-own") == "1";
            assert_eq!(is_own, shown.0 == "Bearer catalogue", "{request:?}");
            assert!(request.rpc() != "tools/call" || !is_own, "{request:?}");
            if !shown.1.is_empty() {
                if is_own {
                    own.insert(shown.1)
                } else {
                    calls.insert(shown.1)
                };
            }
        }
        assert!(own.is_disjoint(&calls), "no session is used with both: {own:?} {calls:?}");
        let exchanged = issuer.asked();
        let form = exchanged.last().unwrap();
        assert_eq!(form["grant_type"], "urn:ietf:params:oauth:grant-type:token-exchange");
        let word = said(&world, &form["subject_token"], &issuer.issuer()).await;
        assert_eq!(word["sub"], id_of(&world, "ann").await);
    }
}

/// Gives a token that names what this claim of the word in this field says.
fn give_for(issuer: &Authorization, field: &'static str, claim: &'static str) {
    issuer.answer(move |form| {
        let part = form[field].split('.').nth(1).unwrap_or_default().to_owned();
        let claims: Value = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(part).unwrap()).unwrap();
        let token = format!("for-{}", claims[claim].as_str().unwrap());
        (200, json!({"access_token": token, "token_type": "Bearer", "expires_in": 600}))
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn each_person_has_a_token_of_their_own_by_exchange() {
    let issuer = Authorization::start().await.unwrap();
    give_for(&issuer, "subject_token", "sub");
    let server = Plain::with(Eras::Dual).await.unwrap();
    let world = World::start().await;
    let own = json!({"kind": "headers", "headers": {"Authorization": "Bearer catalogue"}});
    let spec = json!({"slug": "a", "replicas": [{"url": server.url()}], "auth": as_client(&issuer, "token_exchange"), "discovery_auth": own});
    world.register_as(&spec).await;
    let mut keys = Vec::new();
    for name in ["ann", "bob", "cid"] {
        keys.push((name, world.person(name, "user").await, id_of(&world, name).await));
    }
    let world = &world;
    join_all(keys.iter().flat_map(|(name, key, _)| (0..10).map(move |_| (name, key))).map(|(name, key)| async move {
        let called = within(world.client_of("/mcp/a", key).tool("echo", json!({"who": name}))).await.unwrap();
        assert!(called.result().is_object(), "{called:?}");
    }))
    .await;
    for call in server.calls("echo") {
        let who = call.json()["params"]["arguments"]["who"].as_str().unwrap().to_owned();
        let (_, _, id) = keys.iter().find(|(name, ..)| **name == *who).unwrap();
        assert_eq!(call.header("authorization"), format!("Bearer for-{id}"), "{who}");
    }
    assert_eq!(issuer.asked().len(), 3, "one for each");
}

#[tokio::test(flavor = "multi_thread")]
async fn secrets_stay_where_they_were_given_for_and_tokens_of_people_with_administrators() {
    let issuer = Authorization::start().await.unwrap();
    let server = Plain::with(Eras::Modern).await.unwrap();
    let world = World::start().await;
    let spec =
        json!({"slug": "a", "replicas": [{"url": server.url()}], "auth": as_client(&issuer, "client_credentials")});
    world.register_as(&spec).await;
    let patch = |body: Value| {
        let world = &world;
        async move { world.rest(Method::PATCH, "/servers/a", &body).await }
    };
    let (status, _) = patch(json!({"auth": {"client_auth": "post"}})).await;
    assert_eq!(status, 200, "how it is shown there may change");
    for moved in [
        json!({"auth": {"issuer": "https://elsewhere.example"}}),
        json!({"auth": {"scopes": ["read", "write"]}}),
        json!({"auth": {"scopes": null}}),
        json!({"auth": {"audience": "payroll"}}),
        json!({"auth": {"resource": "https://payroll.example"}}),
        json!({"auth": {"client_id": "other"}}),
        json!({"replicas": [{"url": "https://elsewhere.example/mcp"}]}),
    ] {
        let (status, problem) = patch(moved.clone()).await;
        assert_eq!(status, 422, "{moved} {problem}");
        assert!(
            problem.to_string().contains("auth.client_secret") && problem.to_string().contains("give the value again"),
            "{problem}"
        );
    }
    let (_, listed) = world.rest(Method::GET, "/servers/a", &Value::Null).await;
    assert!(!listed.to_string().contains(SECRET));

    let owner = world.person("olga", "server_owner").await;
    let register = |auth: Value| {
        let two = auth["audience"] == "https://mine.example/mcp";
        let urls = &["https://mine.example/mcp", "https://mine.example/other"][..if two { 2 } else { 1 }];
        let replicas: Vec<Value> = urls.iter().map(|url| json!({ "url": url })).collect();
        let body = json!({"slug": "mine", "replicas": replicas, "auth": auth}).to_string();
        let request = Request::post(body).header("content-type", "application/json").path("/api/v1/servers");
        let client = world.client_of("/", &owner);
        async move { client.send(request).await.unwrap().status.as_u16() }
    };
    for taken in [
        json!({"kind": "on_behalf_of", "audience": "https://graph.microsoft.com"}),
        json!({"kind": "token_exchange", "issuer": "https://mine.example", "client_id": "x", "subject": "provider"}),
        json!({"kind": "token_exchange", "issuer": "https://mine.example", "client_id": "x"}),
        json!({"kind": "identity", "audience": "https://payroll.example/mcp"}),
        json!({"kind": "identity", "audience": "https://mine.example/payroll"}),
        json!({"kind": "identity", "audience": "https://mine.example/mcp"}),
    ] {
        assert_eq!(register(taken.clone()).await, 403, "{taken}");
    }
    let signed = json!({"kind": "client_credentials", "issuer": "https://as.example", "client_id": "theirs", "client_auth": "private_key_jwt"});
    let vouched = json!({"kind": "id_jag", "issuer": "https://as.example", "client_id": "mine", "client_secret": "s"});
    for taken in [&signed, &vouched] {
        assert_eq!(register(taken.clone()).await, 403, "{taken}");
    }
    let body = json!({"slug": "mine", "replicas": [{"url": "https://mine.example/mcp"}], "discovery_auth": signed});
    let request = Request::post(body.to_string()).header("content-type", "application/json").path("/api/v1/servers");
    let reply = world.client_of("/", &owner).send(request).await.unwrap();
    assert_eq!(reply.status, 403, "there is no secret that only one tenant knows");
    assert_eq!(register(json!({"kind": "identity"})).await, 201);
}

#[tokio::test(flavor = "multi_thread")]
async fn only_bearer_access_tokens_are_taken() {
    let issuer = Authorization::start().await.unwrap();
    let world = World::start().await;
    let ann = world.person("ann", "user").await;
    let server = Plain::with(Eras::Modern).await.unwrap();
    let own = json!({"kind": "headers", "headers": {"Authorization": "Bearer catalogue"}});
    for (at, (kind, issued)) in [
        ("N_A", "urn:ietf:params:oauth:token-type:access_token"),
        ("DPoP", "urn:ietf:params:oauth:token-type:access_token"),
        ("Bearer", "urn:ietf:params:oauth:token-type:refresh_token"),
        ("bearer", "urn:ietf:params:oauth:token-type:jwt"),
    ]
    .into_iter()
    .enumerate()
    {
        issuer.answer(move |_| {
            (200, json!({"access_token": "given", "token_type": kind, "issued_token_type": issued, "expires_in": 600}))
        });
        let slug = format!("s{at}");
        let spec = json!({"slug": slug, "replicas": [{"url": server.url()}], "auth": as_client(&issuer, "token_exchange"), "discovery_auth": own});
        world.register_as(&spec).await;
        let client = world.client_of(&format!("/mcp/{slug}"), &ann);
        let called = within(client.tool("echo", json!({}))).await.unwrap();
        assert_eq!(called.code(), if at == 3 { None } else { Some(-31_015) }, "{kind} {issued} {called:?}");
    }
    assert_eq!(server.calls("echo").len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn no_token_and_no_word_stands_in_what_the_process_says() {
    let issuer = Authorization::start().await.unwrap();
    let servers = [Plain::with(Eras::Dual).await.unwrap(), Plain::with(Eras::Dual).await.unwrap()];
    let mut world = World::process(&["--log", "trace"]).await;
    for (server, (slug, auth)) in
        servers.iter().zip([("word", json!({"kind": "identity"})), ("token", as_client(&issuer, "client_credentials"))])
    {
        let spec = json!({"slug": slug, "replicas": [{"url": server.url()}], "auth": auth});
        assert_eq!(world.register_as(&spec).await["status"]["state"], "ready");
        let client = world.client("/mcp");
        within(client.tool(&format!("{slug}__echo"), json!({}))).await.unwrap();
        server.door(|_| Some("Bearer error=\"invalid_token\"".to_owned()));
        within(client.tool(&format!("{slug}__echo"), json!({}))).await.unwrap();
    }
    issuer
        .answer(|form| (400, json!({"error": "invalid_request", "error_description": form["client_secret"].clone()})));
    let spec = json!({"slug": "bad", "replicas": [{"url": servers[1].url()}], "auth": as_client(&issuer, "client_credentials")});
    world.register_as(&spec).await;
    let shown: BTreeSet<String> = servers
        .iter()
        .flat_map(|server| server.host().requests())
        .map(|request| request.header("authorization").trim_start_matches("Bearer ").to_owned())
        .filter(|shown| shown.len() >= 7)
        .collect();
    assert!(shown.len() >= 2, "{shown:?}");
    let process = world.the_process();
    let said = process.stdout().join("\n") + &process.stderr().join("\n");
    assert!(said.contains("listening on"));
    for secret in shown.iter().map(String::as_str).chain([SECRET]) {
        assert!(!said.contains(secret), "{secret}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_gateway_proves_which_client_it_is_by_its_key_and_never_twice_by_the_same_word() {
    let issuer = Authorization::start().await.unwrap();
    let world = World::start().await;
    let server = Plain::with(Eras::Modern).await.unwrap();
    let endpoint = format!("{}/token", issuer.issuer());
    let mut ids = BTreeSet::new();
    for (slug, place, value) in
        [("one", "issuer", issuer.issuer()), ("two", "issuer", issuer.issuer()), ("three", "token_endpoint", endpoint)]
    {
        let mut auth = json!({"kind": "client_credentials", "client_id": "gateway", "client_auth": "private_key_jwt"});
        auth[place] = value.clone().into();
        let spec = json!({"slug": slug, "replicas": [{"url": server.url()}], "auth": auth});
        let made = world.register_as(&spec).await;
        assert_eq!(made["status"]["state"], "ready", "{made}");
        let form = issuer.asked().pop().unwrap();
        assert_eq!(form["client_assertion_type"], "urn:ietf:params:oauth:client-assertion-type:jwt-bearer");
        assert!(!form.contains_key("client_secret"), "{form:?}");
        let kind = "client-authentication+jwt";
        let said = verified(&world, &form["client_assertion"], kind, "gateway", &value).await;
        assert_eq!(said["sub"], "gateway");
        assert!(said["exp"].as_i64().unwrap() - said["iat"].as_i64().unwrap() <= 300, "{said}");
        assert!(ids.insert(said["jti"].as_str().unwrap().to_owned()), "each is another: {said}");
    }
    assert_eq!(issuer.asked().len(), ids.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_gateway_vouches_for_each_person_to_the_authorization_server_of_one_resource() {
    let issuer = Authorization::start().await.unwrap();
    give_for(&issuer, "assertion", "preferred_username");
    let server = Plain::with(Eras::Modern).await.unwrap();
    server.door(|headers| headers.get("authorization").is_none().then(|| "Bearer".to_owned()));
    let world = World::start().await;
    let mut auth = as_client(&issuer, "id_jag");
    auth["claims"] = json!(["name"]);
    world.register_as(&json!({"slug": "a", "replicas": [{"url": server.url()}], "auth": auth})).await;
    for name in ["ann", "bob"] {
        let key = world.person(name, "user").await;
        let called = within(world.client_of("/mcp/a", &key).tool("echo", json!({"who": name}))).await.unwrap();
        assert!(called.result().is_object(), "{called:?}");
        let form = issuer.asked().pop().unwrap();
        assert_eq!(form["grant_type"], "urn:ietf:params:oauth:grant-type:jwt-bearer");
        assert_eq!((&*form["client_secret"], &*form["scope"]), (SECRET, "read"));
        let said = verified(&world, &form["assertion"], "oauth-id-jag+jwt", world.url(), &issuer.issuer()).await;
        assert_eq!(said["sub"], id_of(&world, name).await);
        assert_eq!(
            (&said["client_id"], &said["resource"], &said["scope"]),
            (&json!("gateway"), &json!(server.url()), &json!("read"))
        );
    }
    for call in server.calls("echo") {
        let who = call.json()["params"]["arguments"]["who"].as_str().unwrap().to_owned();
        assert_eq!(call.header("authorization"), format!("Bearer for-{who}"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_place_is_held_at_a_server_while_an_authorization_server_is_waited_for() {
    let issuer = Authorization::start().await.unwrap();
    // What it says, when it is let; the first for each person is at once.
    let (open, gate) = std::sync::mpsc::channel::<()>();
    let gate = std::sync::Mutex::new(gate);
    let (given, slow) = (AtomicUsize::new(0), Arc::new(std::sync::atomic::AtomicBool::new(false)));
    let is_slow = slow.clone();
    issuer.answer(move |_| {
        if is_slow.load(Relaxed) {
            tokio::task::block_in_place(|| gate.lock().unwrap().recv()).unwrap();
        }
        let token = format!("token-{}", given.fetch_add(1, Relaxed) + 1);
        (200, json!({"access_token": token, "token_type": "Bearer", "expires_in": 600}))
    });
    let server = Plain::with(Eras::Modern).await.unwrap();
    let world = World::with(&["--min-pool-size=1", "--max-pool-size=1"]).await;
    let own = json!({"kind": "headers", "headers": {"Authorization": "Bearer catalogue"}});
    let spec = json!({"slug": "a", "replicas": [{"url": server.url()}], "auth": as_client(&issuer, "token_exchange"), "discovery_auth": own});
    world.register_as(&spec).await;
    let mut clients = Vec::new();
    for name in ["ann", "bob", "cid"] {
        clients.push(world.client_of("/mcp/a", &world.person(name, "user").await));
    }
    let [ann, bob, cid] = clients.try_into().unwrap_or_else(|_| unreachable!());
    for client in [&ann, &bob] {
        assert!(within(client.tool("echo", json!({}))).await.unwrap().result().is_object());
    }
    // Bob's is refused from now on, Cid has none yet, and neither gets one.
    server.door(|headers| {
        headers.get("authorization").is_some_and(|value| value == "Bearer token-2").then(|| "Bearer".to_owned())
    });
    slow.store(true, Relaxed);
    for (count, waiting) in [(3, bob), (4, cid)] {
        let waiting = tokio::spawn(async move { waiting.tool("echo", json!({})).await.unwrap() });
        while issuer.asked().len() < count {
            tokio::task::yield_now().await;
        }
        // The only place is free.
        assert!(within(ann.tool("echo", json!({}))).await.unwrap().result().is_object());
        open.send(()).unwrap();
        let called = within(waiting).await.unwrap();
        assert!(called.result().is_object(), "{called:?}");
    }
}

#[tokio::test]
async fn a_refusal_costs_no_connection() {
    let issuer = Authorization::start().await.unwrap();
    let server = Plain::with(Eras::Modern).await.unwrap();
    // Each thread that serves has connections of its own.
    let world = World::with(&["--worker-threads=1"]).await;
    let spec =
        json!({"slug": "a", "replicas": [{"url": server.url()}], "auth": as_client(&issuer, "client_credentials")});
    world.register_as(&spec).await;
    assert!(server.wait_listeners(1).await, "the gateway's own stream has its connection");
    let client = world.client("/mcp/a");
    assert!(within(client.tool("echo", json!({}))).await.unwrap().result().is_object());
    let before = server.host().accepted();
    server.bearer("token-2");
    assert!(within(client.tool("echo", json!({}))).await.unwrap().result().is_object());
    assert_eq!(issuer.asked().len(), 2);
    server.bearer("nobody's");
    for _ in 0..3 {
        assert_eq!(within(client.tool("echo", json!({}))).await.unwrap().code(), Some(-31_007));
    }
    assert_eq!(server.host().accepted(), before, "what refuses is read to its end");
}
