//! What servers say by themselves: changes of lists and of resources reach who listens for them, and nobody else.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use http::Request;
use http_body_util::BodyExt as _;
use mcp_registry_gateway::protocol::message::Message;
use mcp_registry_gateway::registry::catalog::{Catalog, Kind};
use mcp_registry_gateway::registry::snapshot::Entry;
use mcp_registry_gateway::router::Front;
use mcp_registry_gateway::upstream::{Notice, Upstream};
use mcp_registry_gateway::web::Door;
use serde_json::{Value, json};
use testkit::client::{Client, Reply};
use testkit::jsonrpc::{self, META_SUBSCRIPTION, MODERN};
use testkit::upstream::{Eras, Fault, Faulty, LegacySse, Plain};

use crate::world::{KEY, World, names, stdio_server, until, within};

const TOOLS: &str = "notifications/tools/list_changed";
const UPDATED: &str = "notifications/resources/updated";

fn another_tool(name: &str) -> Value {
    json!({"name": name, "inputSchema": {"type": "object"}})
}

/// A listener that will hear of everything from now on.
async fn listener(world: &World, path: &str, version: &str, uris: &[&str]) -> (Client, Reply, String) {
    let client = world.client_at(path, version).await;
    if version == MODERN {
        let wants = json!({"toolsListChanged": true, "promptsListChanged": true, "resourcesListChanged": true,
            "resourceSubscriptions": uris});
        let (id, mut reply) = client.subscribe(wants).await.unwrap();
        let first = within(reply.message()).await.unwrap().unwrap();
        assert_eq!(first["method"], "notifications/subscriptions/acknowledged", "{path}: {first}");
        assert_eq!(first["params"]["_meta"][META_SUBSCRIPTION].to_string(), id, "{path}: {first}");
        return (client, reply, id);
    }
    for uri in uris {
        let answer = client.call("resources/subscribe", json!({"uri": uri})).await.unwrap();
        assert!(answer.result().is_object(), "{path}: {answer:?}");
    }
    let reply = client.listen(None).await.unwrap();
    assert_eq!(reply.status, 200, "{path}");
    (client, reply, String::new())
}

async fn next(reply: &mut Reply, id: &str) -> (String, Value) {
    let message = within(reply.message()).await.unwrap().expect("the stream goes on");
    if !id.is_empty() {
        assert_eq!(message["params"]["_meta"][META_SUBSCRIPTION].to_string(), id, "{message}");
    }
    (message["method"].as_str().unwrap().to_owned(), message)
}

async fn tools(client: &Client) -> Vec<String> {
    names(&client.call("tools/list", json!({})).await.unwrap(), "tools")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_changed_list_is_told_to_every_listener_and_is_new_when_it_is_asked_for() {
    for (eras, keepers) in [(Eras::Dual, 1), (Eras::Modern, 1), (Eras::Legacy("2025-11-25".into()), 1)] {
        let server = Plain::with(eras.clone()).await.unwrap();
        let world = World::start().await;
        world.register("it", &server.url()).await;
        assert!(server.wait_listeners(keepers).await, "{eras:?}: the gateway itself listens");
        let mut listeners = Vec::new();
        for path in ["/mcp", "/mcp/it"] {
            for version in [MODERN, "2025-11-25", "2025-03-26"] {
                listeners.push((path, version, listener(&world, path, version, &[]).await));
            }
        }
        server.set(|shown| shown.tools.push(another_tool("new")));
        assert!(server.tools_changed() > 0);
        for (path, version, (client, reply, id)) in &mut listeners {
            let (method, message) = next(reply, id).await;
            assert_eq!(method, TOOLS, "{eras:?} {version} at {path}: {message}");
            let name = if *path == "/mcp" { "it__new" } else { "new" };
            assert!(tools(client).await.contains(&name.to_owned()), "{eras:?} {version} at {path}");
        }
        server.set(|shown| shown.prompts.clear());
        assert!(server.prompts_changed() > 0);
        for (path, version, (_, reply, id)) in &mut listeners {
            assert_eq!(next(reply, id).await.0, "notifications/prompts/list_changed", "{eras:?} {version} at {path}");
        }
        server.set(|shown| shown.resources.clear());
        assert!(server.resources_changed() > 0);
        for (path, version, (_, reply, id)) in &mut listeners {
            assert_eq!(next(reply, id).await.0, "notifications/resources/list_changed", "{eras:?} {version} at {path}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_of_the_oldest_transport_and_of_a_child_is_told_too() {
    let world = World::process(&[]).await;
    let old = LegacySse::start().await.unwrap();
    world.register_as(&json!({"slug": "old", "transport": "sse", "replicas": [{"url": old.url()}]})).await;
    let spec = json!({"slug": "child", "transport": "stdio", "command": {"program": stdio_server()}});
    world.register_as(&spec).await;
    for version in [MODERN, "2025-11-25"] {
        let (client, mut reply, id) = listener(&world, "/mcp", version, &[]).await;
        let name = format!("new{}", old.asked("tools/list").len());
        old.set(|shown| shown.tools.push(another_tool(&name)));
        assert!(old.tools_changed() > 0);
        assert_eq!(next(&mut reply, &id).await.0, TOOLS, "{version}");
        // What was told may still have been the child's change before.
        until(|| async { tools(&client).await.contains(&format!("old__{name}")).then_some(()) }).await;
        assert_eq!(within(client.tool("child__change", json!({}))).await.unwrap().text(), "told");
        assert_eq!(next(&mut reply, &id).await.0, TOOLS, "{version}");
        let (_, mut own, own_id) = listener(&world, "/mcp/child", version, &[]).await;
        assert_eq!(within(client.tool("child__change", json!({}))).await.unwrap().text(), "told");
        assert_eq!(next(&mut own, &own_id).await.0, TOOLS, "{version}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_of_which_a_server_cannot_be_asked_yet_is_told_when_it_can() {
    let server = Faulty::with(Eras::Legacy("2025-11-25".into())).await.unwrap();
    let world = World::start().await;
    world.register("it", &server.url()).await;
    assert!(server.wait_listeners(1).await, "the gateway itself listens");
    let (_, mut reply, id) = listener(&world, "/mcp", MODERN, &[]).await;
    server.fail_on("tools/list", Fault::Status(503));
    assert!(server.tools_changed() > 0);
    world.until_state("it", "unreachable").await;
    server.heal();
    // The list reads as it did before: that it changed is known from what the server said alone.
    assert_eq!(next(&mut reply, &id).await.0, TOOLS);
}

/// Every server that the gateway has set up.
fn servers(world: &World) -> Vec<Arc<Upstream>> {
    let snapshot = world.app().registry.snapshot();
    snapshot.entries().map(|entry| entry.upstream.clone()).collect()
}

/// What an answer says until it says that tools changed.
async fn says_tools_changed(mut body: Body) -> bool {
    let mut said = String::new();
    while let Some(Ok(frame)) = body.frame().await {
        said.push_str(&String::from_utf8_lossy(frame.data_ref().unwrap()));
        if said.contains(TOOLS) {
            return true;
        }
    }
    false
}

/// On one thread nothing goes on beside the test: what an answer leaves to be done has not begun when its head is there.
#[tokio::test]
async fn nothing_that_is_said_behind_the_head_of_a_stream_is_missed() {
    let server = Plain::start().await.unwrap();
    let world = World::start().await;
    world.register("it", &server.url()).await;
    assert!(server.wait_listeners(1).await, "the gateway itself is done with asking");
    let app = world.app();
    let door = Door::new(&app.settings, app.recorder.metrics().clone(), Front::new(app.clone()));
    let all = json!({"notifications": {"toolsListChanged": true}, "_meta": jsonrpc::modern_meta(&json!({}))});
    let session = world.client_at("/mcp", "2025-11-25").await.session().unwrap();
    let common = |method: &str| {
        Request::builder()
            .method(method)
            .uri("/mcp")
            .header("host", "localhost")
            .header("authorization", format!("Bearer {KEY}"))
    };
    let modern = common("POST")
        .header("content-type", "application/json")
        .header("accept", "application/json, text/event-stream")
        .header("mcp-protocol-version", MODERN)
        .header("mcp-method", "subscriptions/listen")
        .body(Body::from(jsonrpc::request("1", "subscriptions/listen", &all)));
    let legacy = common("GET")
        .header("accept", "text/event-stream")
        .header("mcp-protocol-version", "2025-11-25")
        .header("mcp-session-id", session)
        .body(Body::empty());
    for request in [modern, legacy] {
        let request = request.unwrap();
        let label = request.method().clone();
        let response = door.answer("127.0.0.1:9".parse().unwrap(), request).await;
        assert_eq!(response.status(), 200, "{label}");
        for upstream in servers(&world) {
            let catalog = Catalog::clone(&app.registry.catalog(upstream.server.id).unwrap());
            app.registry.heard(&upstream, Ok(catalog), &[Kind::Tools]);
        }
        assert!(within(says_tools_changed(response.into_body())).await, "{label}");
    }
}

#[tokio::test]
async fn where_more_was_said_than_could_be_heard_every_list_may_have_changed() {
    let server = Plain::start().await.unwrap();
    let world = World::start().await;
    world.register("it", &server.url()).await;
    let (_, mut reply, id) = listener(&world, "/mcp", MODERN, &[]).await;
    let herald = servers(&world)[0].herald();
    let said = jsonrpc::notification("notifications/message", &json!({"level": "info", "data": "x"}));
    let said = Message::parse(said.into()).unwrap();
    let said = Notice { server: herald.server, session: None, message: said };
    let mut heard = BTreeSet::new();
    let hearing = async {
        while heard.len() < 3 {
            heard.insert(next(&mut reply, &id).await.0);
        }
    };
    // Who listens has a thread of its own and may keep pace with some of it.
    let telling = async {
        loop {
            for _ in 0..10_000 {
                herald.to.send(said.clone()).unwrap();
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::select! {
        () = hearing => {}
        () = telling => {}
    }
    let lists = ["tools", "prompts", "resources"].map(|list| format!("notifications/{list}/list_changed"));
    assert_eq!(heard, BTreeSet::from(lists));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_servers_say_at_the_same_moment_is_all_read_afterwards() {
    let (one, two) = (Plain::start().await.unwrap(), Plain::start().await.unwrap());
    let world = World::start().await;
    world.register("one", &one.url()).await;
    world.register("two", &two.url()).await;
    let registry = &world.app().registry;
    let servers = servers(&world);
    for round in 0..2_000 {
        let tool = format!("tool{round}");
        let mut catalog = Catalog::default();
        catalog.take_in(Kind::Tools, json!([another_tool(&tool)]).to_string().as_bytes());
        std::thread::scope(|scope| {
            for upstream in &servers {
                let catalog = catalog.clone();
                scope.spawn(move || registry.heard(upstream, Ok(catalog), &[]));
            }
        });
        let snapshot = registry.snapshot();
        let entries = snapshot.entries();
        let read: BTreeSet<_> =
            entries.filter(|entry| entry.catalog.item(Kind::Tools, &tool).is_some()).map(Entry::slug).collect();
        assert_eq!(read, BTreeSet::from(["one", "two"]), "round {round}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn servers_that_come_and_go_change_the_common_list() {
    let (first, second) = (Plain::start().await.unwrap(), Plain::start().await.unwrap());
    let world = World::start().await;
    world.register("first", &first.url()).await;
    let (_, mut modern, id) = listener(&world, "/mcp", MODERN, &[]).await;
    let (_, mut legacy, _) = listener(&world, "/mcp", "2025-11-25", &[]).await;
    world.register("second", &second.url()).await;
    assert_eq!(next(&mut modern, &id).await.0, TOOLS);
    assert_eq!(next(&mut legacy, "").await.0, TOOLS);
    let (status, _) = world.rest(http::Method::DELETE, "/servers/second", &Value::Null).await;
    assert_eq!(status, 204);
    let is_tools = |(method, _): (String, Value)| (method == TOOLS).then_some(());
    for (reply, id) in [(&mut modern, &*id), (&mut legacy, "")] {
        while is_tools(next(reply, id).await).is_none() {}
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_updated_resource_is_told_to_its_watchers_alone() {
    const NOTE: &str = "stand-in://note";
    for eras in [Eras::Dual, Eras::Modern, Eras::Legacy("2025-11-25".into())] {
        let server = Plain::with(eras.clone()).await.unwrap();
        let world = World::start().await;
        world.register("it", &server.url()).await;
        for path in ["/mcp", "/mcp/it"] {
            for version in [MODERN, "2025-11-25"] {
                let label = format!("{eras:?}, {version} at {path}");
                let (client, mut watcher, id) = listener(&world, path, version, &[NOTE]).await;
                let (_, mut other, other_id) = listener(&world, path, version, &["stand-in://notes/7"]).await;
                // Told again until the watch is in place: nobody says when a server has taken it.
                let told = async {
                    loop {
                        server.resource_changed(NOTE);
                        if let Ok(heard) =
                            tokio::time::timeout(std::time::Duration::from_millis(200), next(&mut watcher, &id)).await
                        {
                            return heard;
                        }
                    }
                };
                let (method, message) = within(told).await;
                assert_eq!((method.as_str(), &message["params"]["uri"]), (UPDATED, &json!(NOTE)), "{label}");
                server.set(|shown| shown.tools.push(another_tool(&format!("t{}", shown.tools.len()))));
                assert!(server.tools_changed() > 0);
                let (method, message) = next(&mut other, &other_id).await;
                assert_eq!(method, TOOLS, "{label}: {message}");
                if version != MODERN {
                    let answer = client.call("resources/unsubscribe", json!({"uri": NOTE})).await.unwrap();
                    assert!(answer.result().is_object(), "{label}: {answer:?}");
                    while next(&mut watcher, &id).await.0 != TOOLS {}
                    server.resource_changed(NOTE);
                    server.set(|shown| shown.tools.push(another_tool(&format!("t{}", shown.tools.len()))));
                    assert!(server.tools_changed() > 0);
                    let (method, message) = next(&mut watcher, &id).await;
                    assert_eq!(method, TOOLS, "{label}: {message}");
                }
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_hears_nothing_of_servers_it_may_not_see() {
    let (open, shut) = (Plain::start().await.unwrap(), Plain::start().await.unwrap());
    let world = World::start().await;
    world.register("open", &open.url()).await;
    world.register("shut", &shut.url()).await;
    for server in [&open, &shut] {
        assert!(server.wait_listeners(1).await);
    }
    world.user("bob").await;
    let key = world.key("bob", json!(["open"]), json!("*")).await;
    let client = world.client_of("/mcp", &key);
    let (id, mut reply) = client
        .subscribe(json!({"toolsListChanged": true, "resourceSubscriptions": ["stand-in://note"]}))
        .await
        .unwrap();
    within(reply.message()).await.unwrap().unwrap();
    shut.set(|shown| shown.tools.push(another_tool("secret")));
    assert!(shut.tools_changed() > 0);
    let admin = world.client("/mcp");
    until(|| async { tools(&admin).await.contains(&"shut__secret".to_owned()).then_some(()) }).await;
    shut.resource_changed("stand-in://note");
    open.set(|shown| shown.prompts.clear());
    open.prompts_changed();
    open.set(|shown| shown.tools.push(another_tool("public")));
    assert!(open.tools_changed() > 0);
    let (method, _) = next(&mut reply, &id).await;
    assert_eq!(method, TOOLS);
    assert!(tools(&client).await.contains(&"open__public".to_owned()), "the first it hears is of what it sees");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_acknowledged_is_what_will_be_told() {
    let (picky, down) = (
        Faulty::with(Eras::Legacy("2025-11-25".into())).await.unwrap(),
        Faulty::with(Eras::Legacy("2025-11-25".into())).await.unwrap(),
    );
    let world = World::process(&[]).await;
    let spec = json!({"slug": "child", "transport": "stdio", "command": {"program": stdio_server(), "args": ["--legacy", "2025-11-25"]}});
    world.register_as(&spec).await;
    world.register("picky", &picky.url()).await;
    world.register("down", &down.url()).await;
    picky.fail_on("resources/subscribe", Fault::Refusal(-32602));
    down.fail_on("resources/subscribe", Fault::Status(503));
    for (path, honoured) in [
        ("/mcp/child", Value::Null),
        ("/mcp/picky", Value::Null),
        // It may be back before long, and is then asked again.
        ("/mcp/down", json!(["stand-in://note"])),
    ] {
        let wants = json!({"toolsListChanged": true, "resourceSubscriptions": ["stand-in://note"]});
        let (_, mut reply) = world.client(path).subscribe(wants).await.unwrap();
        let first = within(reply.message()).await.unwrap().unwrap();
        let told = &first["params"]["notifications"];
        assert_eq!(
            (&told["toolsListChanged"], &told["resourceSubscriptions"]),
            (&json!(true), &honoured),
            "{path}: {first}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn where_many_servers_speak_each_speaks_of_what_is_its_own() {
    let server = Plain::with(Eras::Legacy("2025-11-25".into())).await.unwrap();
    let world = World::start().await;
    world.register("it", &server.url()).await;
    let client = world.client_at("/mcp", "2025-11-25").await;
    let mut stream = client.listen(None).await.unwrap();
    client.tool("it__echo", json!({"message": "x"})).await.unwrap();
    // Nobody says when a stream is in place: told again until it is heard.
    let heard = within(async {
        loop {
            server.notify(UPDATED, json!({"uri": "elsewhere://note"}));
            server.notify("notifications/cancelled", json!({"requestId": 7}));
            server.notify("notifications/x/said", json!({}));
            if let Ok(heard) = tokio::time::timeout(Duration::from_millis(200), stream.message()).await {
                return heard.unwrap().unwrap();
            }
        }
    });
    assert_eq!(heard.await["method"], "notifications/x/said");
}
