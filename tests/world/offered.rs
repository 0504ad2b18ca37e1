//! A server of the gateway's own tenant that is offered to others: who sees it, whose name wins, and that nothing of one user is another's.

use std::time::Duration;

use http::Method;
use serde_json::{Value, json};
use testkit::client::{Client, Reply, Request};
use testkit::jsonrpc::MODERN;
use testkit::upstream::{Eras, Plain};
use tokio::time::timeout;

use crate::world::{DEADLINE, KEY, World, names, shake, stdio_server, within};

const PASSWORD: &str = "a long pass phrase";

/// A key of somebody of a tenant, who is made.
async fn somebody(world: &World, tenant: &str, name: &str, role: &str) -> String {
    world.rest(Method::POST, "/admin/tenants", &json!({"tenant_id": tenant})).await;
    let user = json!({"username": name, "tenant_id": tenant, "role": role, "password": PASSWORD});
    let (status, made) = world.rest(Method::POST, "/users", &user).await;
    assert_eq!(status, 201, "{made}");
    let name = if tenant == "default" { name.to_owned() } else { format!("{tenant}/{name}") };
    let (status, come) = world.rest(Method::POST, "/login", &json!({"username": name, "password": PASSWORD})).await;
    assert_eq!(status, 200, "{come}");
    come["key"].as_str().unwrap().to_owned()
}

async fn rest_of(world: &World, key: &str, method: Method, path: &str, body: &Value) -> (u16, Value) {
    let body = if body.is_null() { String::new() } else { body.to_string() };
    let request = Request::new(method, body.into()).header("content-type", "application/json");
    let reply = world.client_of("/", key).send(request.path(&format!("/api/v1{path}"))).await.unwrap();
    let status = reply.status.as_u16();
    let text = reply.text().await.unwrap();
    (status, if text.is_empty() { Value::Null } else { serde_json::from_str(&text).unwrap() })
}

async fn offer(world: &World, to: Value) {
    let (status, told) = world.rest(Method::PATCH, "/servers/search", &json!({"offered_to": to})).await;
    assert_eq!(status, 200, "{told}");
}

/// Whether the tool is listed, which is the same as whether it can be called, at both endpoints.
async fn reaches(world: &World, key: &str) -> bool {
    let mut seen = Vec::new();
    for version in [MODERN, "2025-11-25"] {
        let all = shake(world.client_of("/mcp", key), version).await;
        let list = within(all.call("tools/list", json!({}))).await.unwrap();
        seen.push(names(&list, "tools").contains(&"search__echo".to_owned()));
        seen.push(within(all.tool("search__echo", json!({}))).await.unwrap().code().is_none());
    }
    seen.push(within(world.client_of("/mcp/search", key).tool("echo", json!({}))).await.unwrap().code().is_none());
    assert!(seen.iter().all(|one| *one == seen[0]), "{seen:?}");
    seen[0]
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_is_there_for_the_tenants_that_it_is_offered_to() {
    let server = Plain::with(Eras::Dual).await.unwrap();
    let world = World::start().await;
    let ada = somebody(&world, "acme", "ada", "user").await;
    let zoe = somebody(&world, "other", "zoe", "user").await;
    let spec = json!({"slug": "search", "replicas": [{"url": server.url()}], "offered_to": ["acme", "nobody"]});
    let made = world.register_as(&spec).await;
    assert!(made["warnings"][0].as_str().unwrap().contains("`nobody`"), "{made}");
    let both = async || (reaches(&world, &ada).await, reaches(&world, &zoe).await);
    assert_eq!(both().await, (true, false));
    offer(&world, json!("*")).await;
    assert_eq!(both().await, (true, true));
    let late = somebody(&world, "late", "lea", "user").await;
    assert!(reaches(&world, &late).await, "also to those that come later");

    let open = shake(world.client_of("/mcp", &ada), "2025-11-25").await;
    offer(&world, json!([])).await;
    assert_eq!(both().await, (false, false));
    assert_eq!(
        within(open.tool("search__echo", json!({}))).await.unwrap().code(),
        Some(-32602),
        "in open sessions too"
    );
    offer(&world, json!(["acme"])).await;
    world.rest(Method::POST, "/servers/search/disable", &Value::Null).await;
    assert_eq!(both().await, (false, false), "as long as it is disabled");
    world.rest(Method::POST, "/servers/search/enable", &Value::Null).await;
    world.until_state("search", "ready").await;
    assert!(reaches(&world, &ada).await);

    let counted = world.client("/metrics").send(Request::get().path("/metrics")).await.unwrap().text().await.unwrap();
    let call = |tenant: &str| format!("mcp_tool_calls_total{{tenant_id=\"{tenant}\",server=\"search\"");
    assert!(
        counted.contains(&call("acme")) && !counted.contains(&call("default")),
        "whoever calls is counted: {counted}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn who_administers_another_tenant_reads_what_is_offered_and_may_have_its_own_of_the_name() {
    let (server, own) = (Plain::with(Eras::Dual).await.unwrap(), Plain::with(Eras::Dual).await.unwrap());
    let world = World::start().await;
    let head = somebody(&world, "acme", "head", "tenant_admin").await;
    let spec = json!({"slug": "search", "replicas": [{"url": server.url()}], "headers": {"x-key": "s3cret"}, "offered_to": ["acme"]});
    world.register_as(&spec).await;
    let of_head = async |method, path: &str, body: Value| rest_of(&world, &head, method, path, &body).await;
    let (_, list) = of_head(Method::GET, "/servers", Value::Null).await;
    let (_, one) = of_head(Method::GET, "/servers/search", Value::Null).await;
    assert_eq!((&list["items"][0]["slug"], &one["offered_by"]), (&json!("search"), &json!("default")));
    for hidden in ["replicas", "headers", "visibility", "offered_to"] {
        assert!(one.get(hidden).is_none() && list["items"][0].get(hidden).is_none(), "{hidden}: {one}");
    }
    assert!(!one.to_string().contains(&server.url()), "{one}");
    let (_, tools) = of_head(Method::GET, "/discovery/tools", Value::Null).await;
    assert_eq!(tools["items"][0]["exposed_name"], "search__ask", "{tools}");
    for (method, path) in [
        (Method::PATCH, "/servers/search"),
        (Method::DELETE, "/servers/search"),
        (Method::POST, "/servers/search/disable"),
        (Method::POST, "/servers/search/refresh"),
    ] {
        let body = if method == Method::PATCH { json!({"title": "x"}) } else { Value::Null };
        assert_eq!(of_head(method.clone(), path, body).await.0, 403, "{method} {path}");
    }

    let mine = json!({"slug": "search", "replicas": [{"url": own.url()}]});
    assert_eq!(of_head(Method::POST, "/servers", mine.clone()).await.0, 201);
    let offered = json!({"slug": "more", "replicas": [{"url": own.url()}], "offered_to": ["other"]});
    assert_eq!(of_head(Method::POST, "/servers", offered).await.0, 403, "only the gateway's administrators offer");
    let calls = |of: &Plain| {
        of.host().requests().iter().filter(|asked| String::from_utf8_lossy(&asked.body).contains("tools/call")).count()
    };
    let before = calls(&server);
    assert!(reaches(&world, &head).await);
    assert_eq!((calls(&server), calls(&own) > 0), (before, true), "its own stands before what is offered");
    let (_, list) = of_head(Method::GET, "/servers?limit=1", Value::Null).await;
    assert_eq!((list["items"].as_array().unwrap().len(), &list["next_cursor"]), (1, &Value::Null), "{list}");
    of_head(Method::POST, "/servers/search/disable", Value::Null).await;
    assert!(!reaches(&world, &head).await, "also while it is disabled");
    assert_eq!(of_head(Method::DELETE, "/servers/search", Value::Null).await.0, 204);
    assert!(reaches(&world, &head).await);

    // Visible by role, and not by a name that means somebody else here.
    let ada = somebody(&world, "acme", "ada", "user").await;
    let owner = somebody(&world, "default", "owner", "server_owner").await;
    for (visibility, sees) in [
        (json!({"everyone": false, "roles": ["server_owner"]}), (false, true)),
        (json!({"everyone": false, "roles": [], "users": ["ada", "head"]}), (false, false)),
        (json!({"everyone": true}), (true, true)),
    ] {
        let (status, told) = world.rest(Method::PATCH, "/servers/search", &json!({"visibility": visibility})).await;
        assert_eq!(status, 200, "{told}");
        assert_eq!((reaches(&world, &ada).await, reaches(&world, &head).await), sees, "{visibility}");
    }
    let mut owned = json!({"slug": "owned", "replicas": [{"url": own.url()}]});
    assert_eq!(rest_of(&world, &owner, Method::POST, "/servers", &owned).await.0, 201);
    owned["offered_to"] = json!("*");
    assert_eq!(rest_of(&world, &owner, Method::PUT, "/servers/owned", &owned).await.0, 403);
    world.rest(Method::PATCH, "/servers/owned", &json!({"offered_to": "*"})).await;
    let moved = json!({"title": "x"});
    assert_eq!(rest_of(&world, &owner, Method::PATCH, "/servers/owned", &moved).await.0, 403, "not even its owner");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_listens_to_a_server_hears_nothing_of_it_once_the_offer_is_taken_back() {
    const NOTE: &str = "stand-in://note";
    let updated = |said: &Value| said["method"] == "notifications/resources/updated";
    for eras in [Eras::Legacy("2025-11-25".into()), Eras::Dual] {
        let server = Plain::with(eras.clone()).await.unwrap();
        let own = Plain::with(Eras::Dual).await.unwrap();
        let world = World::start().await;
        let ada = somebody(&world, "acme", "ada", "tenant_admin").await;
        let spec = json!({"slug": "search", "replicas": [{"url": server.url()}], "offered_to": ["acme"]});
        world.register_as(&spec).await;
        let listening = async |path: &str, key: &str, version: &str| {
            let client = shake(world.client_of(path, key), version).await;
            if version == MODERN {
                let wanted = json!({"resourceSubscriptions": [NOTE], "toolsListChanged": true});
                return (client.subscribe(wanted).await.unwrap().1, client);
            }
            client.call("resources/subscribe", json!({"uri": NOTE})).await.unwrap();
            (client.listen(None).await.unwrap(), client)
        };
        // Nobody says when a stream is in place: told again until it is heard.
        let heard = async |stream: &mut Reply| {
            within(async {
                loop {
                    server.resource_changed(NOTE);
                    if let Ok(said) = timeout(Duration::from_millis(200), stream.message()).await
                        && said.unwrap().is_some_and(|said| updated(&said))
                    {
                        return;
                    }
                }
            })
            .await;
        };
        let mut open = Vec::new();
        for version in ["2025-11-25", MODERN] {
            for path in ["/mcp", "/mcp/search"] {
                let (mut stream, client) = listening(path, &ada, version).await;
                heard(&mut stream).await;
                open.push((path, version, stream, client));
            }
        }
        let (mut witness, _) = listening("/mcp", KEY, MODERN).await;
        heard(&mut witness).await;

        offer(&world, json!([])).await;
        let reach = |slug: &str| json!({"slug": slug, "replicas": [{"url": own.url()}]});
        for (path, version, mut stream, _client) in open {
            let place = format!("{eras:?} {version} {path}");
            if path != "/mcp" {
                let to_its_end = async { while let Ok(Some(_)) = stream.message().await {} };
                timeout(DEADLINE, to_its_end).await.unwrap_or_else(|_| panic!("{place} goes on"));
                continue;
            }
            // What was said before has come once the stream tells of the lists that became shorter.
            let listed = async |stream: &mut Reply| {
                let mut before = Vec::new();
                loop {
                    let said = within(stream.message()).await.unwrap().unwrap();
                    if said["method"] == "notifications/tools/list_changed" {
                        return before;
                    }
                    before.push(said);
                }
            };
            listed(&mut stream).await;
            heard(&mut witness).await;
            let slug = format!("own-{}", version.replace('.', "-"));
            assert_eq!(rest_of(&world, &ada, Method::POST, "/servers", &reach(&slug)).await.0, 201);
            let meanwhile = listed(&mut stream).await;
            assert!(!meanwhile.iter().any(updated), "{place}: {meanwhile:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_access_rules_of_who_calls_hold_and_not_those_of_who_offers() {
    let server = Plain::with(Eras::Dual).await.unwrap();
    let world = World::start().await;
    let ada = somebody(&world, "acme", "ada", "user").await;
    let zoe = somebody(&world, "other", "zoe", "user").await;
    world.register_as(&json!({"slug": "search", "replicas": [{"url": server.url()}], "offered_to": "*"})).await;
    let rule = async |tenant: &str, text: &str| {
        let path = format!("/admin/policies/{tenant}");
        let (status, told) = world.rest(Method::PUT, &path, &json!({"text": text})).await;
        assert_eq!(status, 200, "{told}");
    };
    let shown = async |key: &str| {
        let one = rest_of(&world, key, Method::GET, "/servers/search", &Value::Null).await.0;
        let tools = rest_of(&world, key, Method::GET, "/servers/search/tools", &Value::Null).await;
        let names = tools.1["items"].as_array().map_or(0, Vec::len);
        assert_eq!((one == 200, names > 0), (one == 200, one == 200), "{tools:?}");
        one == 200
    };
    let both = async || (reaches(&world, &ada).await, reaches(&world, &zoe).await);
    rule("default", "forbid(principal, action, resource);").await;
    assert_eq!((both().await, shown(&ada).await), ((true, true), true));
    rule("acme", "forbid(principal, action, resource);").await;
    assert_eq!((both().await, shown(&ada).await, shown(&zoe).await), ((false, true), false, true));
    let seen = json!({"visibility": {"everyone": false, "users": ["ada"]}});
    assert_eq!(world.rest(Method::PATCH, "/servers/search", &seen).await.0, 200);
    let question = json!({"user": "ada", "server": "search"});
    let (status, told) = world.rest(Method::POST, "/admin/policies/acme/explain", &question).await;
    assert_eq!((status, &told["visible"]), (200, &json!(false)), "{told}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_user_or_a_session_has_of_its_own_is_nobody_elses_in_another_tenant() {
    let pid = async |client: &Client| -> Value {
        let told = within(client.tool("env", json!({}))).await.unwrap();
        serde_json::from_str::<Value>(told.text()).unwrap()["pid"].clone()
    };
    for sharing in ["shared", "per_user", "per_session"] {
        let world = World::process(&[]).await;
        let command = json!({"program": stdio_server(), "args": ["--legacy", "2025-11-25"]});
        let spec =
            json!({"slug": "it", "transport": "stdio", "command": command, "sharing": sharing, "offered_to": "*"});
        world.register_as(&spec).await;
        let mut pids = Vec::new();
        let mut open = Vec::new();
        for tenant in ["default", "acme", "other"] {
            let key = somebody(&world, tenant, "ada", "user").await;
            let client = shake(world.client_of("/mcp/it", &key), "2025-11-25").await;
            pids.push(pid(&client).await.to_string());
            open.push(client);
        }
        pids.sort();
        pids.dedup();
        assert_eq!(pids.len(), if sharing == "shared" { 1 } else { 3 }, "{sharing}");
        for client in open {
            client.end().await.unwrap();
        }
    }
}
