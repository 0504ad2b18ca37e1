//! A server is described anew while it is used: what only describes it disturbs nobody, and where it is reached otherwise,
//! calls finish where they began.

use http::Method;
use serde_json::{Value, json};
use testkit::client::{Client, Outcome};
use testkit::jsonrpc::MODERN;
use testkit::upstream::{Eras, LegacySse, Plain};

use crate::world::{World, stdio_server, until, within};

const LEGACY: &str = "2025-11-25";

fn legacy() -> Eras {
    Eras::Legacy(LEGACY.into())
}

async fn patch(world: &World, change: &Value) -> Value {
    let (status, server) = world.rest(Method::PATCH, "/servers/it", change).await;
    assert_eq!(status, 200, "{server}");
    server
}

/// Calls that came to a server of the oldest transport.
fn called(server: &LegacySse) -> usize {
    server.asked("tools/call").len()
}

async fn gate(client: &Client) -> Outcome {
    client.tool("gate", json!({})).await.unwrap()
}

/// Everything of a description that does not say how the server is reached.
fn other_words() -> Value {
    json!({"title": "Otherwise", "description": "x", "tags": ["x"], "visibility": {"everyone": false, "roles": ["user"]},
        "timeouts": {"connect_ms": 1000, "idle_ms": 60000, "total_ms": 60000}, "balance": "random"})
}

#[tokio::test(flavor = "multi_thread")]
async fn other_words_for_a_server_leave_calls_sessions_and_connections_alone() {
    let server = Plain::with(legacy()).await.unwrap();
    let world = World::start().await;
    world.register("it", &server.url()).await;
    let (modern, client) = (world.client_at("/mcp/it", MODERN).await, world.client_at("/mcp/it", LEGACY).await);
    client.tool("echo", json!({})).await.unwrap();
    modern.tool("echo", json!({})).await.unwrap();
    assert!(server.wait_listeners(1).await, "the gateway listens");
    let sessions = server.session_ids();
    server.host().forget();
    let story = async {
        until(|| async { (server.calls("gate").len() == 2).then_some(()) }).await;
        let changed = patch(&world, &other_words()).await;
        assert_eq!((&changed["title"], &changed["status"]["state"]), (&json!("Otherwise"), &json!("ready")));
        modern.tool("echo", json!({})).await.unwrap();
        client.tool("echo", json!({})).await.unwrap();
        server.open_gate(true);
    };
    let (one, two, ()) = within(Box::pin(async { tokio::join!(gate(&modern), gate(&client), story) })).await;
    assert_eq!((one.text(), two.text()), ("let through", "let through"));
    assert_eq!(server.session_ids(), sessions);
    assert_eq!((server.asked("initialize").len(), server.asked("tools/list").len()), (0, 0), "nothing was begun anew");
    assert_eq!(server.listeners(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn timeouts_that_change_hold_for_the_next_call() {
    let server = Plain::start().await.unwrap();
    let world = World::start().await;
    world.register("it", &server.url()).await;
    patch(&world, &json!({"timeouts": {"idle_ms": 150}})).await;
    let late = within(gate(&world.client("/mcp/it"))).await;
    assert_eq!(late.code(), Some(-31003), "{late:?}");
    patch(&world, &json!({"timeouts": {"idle_ms": 60000, "total_ms": 150}})).await;
    let late = within(gate(&world.client("/mcp/it"))).await;
    assert_eq!(late.code(), Some(-31003), "{late:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_finish_where_they_began_when_a_server_moves() {
    for eras in [legacy(), Eras::Modern] {
        let (old, new) = (Plain::with(eras.clone()).await.unwrap(), Plain::with(eras.clone()).await.unwrap());
        let world = World::start().await;
        // The second replica is the one that goes: a session with it must not be looked for among those that stay.
        let replicas = json!([{"url": old.url()}, {"url": format!("{}?two", old.url())}]);
        world.register_as(&json!({"slug": "it", "replicas": replicas})).await;
        let (modern, client) = (world.client_at("/mcp/it", MODERN).await, world.client_at("/mcp/it", LEGACY).await);
        client.tool("echo", json!({})).await.unwrap();
        let story = async {
            until(|| async { (old.calls("gate").len() == 2).then_some(()) }).await;
            patch(&world, &json!({"replicas": [{"url": new.url()}]})).await;
            for client in [&modern, &client] {
                let answer = client.tool("echo", json!({"message": "new"})).await.unwrap();
                assert_eq!(answer.result()["structuredContent"]["message"], "new", "{eras:?}: {answer:?}");
            }
            assert_eq!((new.calls("echo").len(), old.calls("echo").len()), (2, 1), "{eras:?}");
            old.open_gate(true);
        };
        let (one, two, ()) = within(Box::pin(async { tokio::join!(gate(&modern), gate(&client), story) })).await;
        assert_eq!((one.text(), two.text()), ("let through", "let through"), "{eras:?}");
        assert!(old.cancelled().is_empty(), "{eras:?}: {:?}", old.cancelled());
        assert!(old.wait_listeners(0).await, "{eras:?}: nobody listens there any more");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_gateways_own_session_ends_when_its_last_call_has() {
    let server = Plain::with(legacy()).await.unwrap();
    let world = World::start().await;
    world.register("it", &server.url()).await;
    let client = world.client_at("/mcp/it", MODERN).await;
    assert_eq!(server.session_ids().len(), 1);
    let story = async {
        until(|| async { (server.calls("gate").len() == 1).then_some(()) }).await;
        let (status, _) = world.rest(Method::DELETE, "/servers/it", &Value::Null).await;
        assert_eq!(status, 204);
        let gone = client.tool("echo", json!({})).await.unwrap();
        assert_eq!(gone.status, 404, "{gone:?}");
        assert_eq!(server.session_ids().len(), 1, "it is needed still");
        server.open_gate(true);
    };
    let (one, ()) = within(async { tokio::join!(gate(&client), story) }).await;
    assert_eq!(one.text(), "let through");
    until(|| async { server.session_ids().is_empty().then_some(()) }).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disabled_server_finishes_what_runs_and_ends_what_only_listens() {
    let server = Plain::with(Eras::Modern).await.unwrap();
    let old = LegacySse::start().await.unwrap();
    let world = World::start().await;
    world.register("it", &server.url()).await;
    world.register_as(&json!({"slug": "old", "transport": "sse", "replicas": [{"url": old.url()}]})).await;
    let (client, other) = (world.client("/mcp/it"), world.client("/mcp/old"));
    let (id, mut stream) = client.subscribe(json!({"toolsListChanged": true})).await.unwrap();
    within(stream.message()).await.unwrap().unwrap();
    let story = async {
        until(|| async { (server.calls("gate").len() + called(&old) == 2).then_some(()) }).await;
        for slug in ["it", "old"] {
            world.rest(Method::POST, &format!("/servers/{slug}/disable"), &Value::Null).await;
        }
        server.open_gate(true);
        old.open_gate(true);
    };
    let (one, two, ()) = within(Box::pin(async { tokio::join!(gate(&client), gate(&other), story) })).await;
    assert_eq!((one.text(), two.text()), ("let through", "let through"));
    let mut last = Value::Null;
    while let Some(message) = within(stream.message()).await.unwrap() {
        last = message;
    }
    assert_eq!(last["id"].to_string(), id, "the subscription ends with its answer: {last}");
}

/// Starts a call that reports each step; returns when the first has come.
async fn begun(client: &Client) -> (String, testkit::client::Reply) {
    let params = json!({"name": "progress", "arguments": {"steps": 4, "ms": 300}, "_meta": {"progressToken": "p"}});
    let (id, mut reply) = client.open("tools/call", params).await.unwrap();
    let first = within(reply.message()).await.unwrap().unwrap();
    assert_eq!(first["method"], "notifications/progress", "{first}");
    (id, reply)
}

/// The arguments with which the child that answers was started, and its process id.
async fn child(client: &Client) -> (String, u64) {
    let about = client.tool("env", json!({})).await.unwrap();
    let about: Value = serde_json::from_str(about.text()).unwrap();
    (about["args"].to_string(), about["pid"].as_u64().unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_child_lives_on_under_other_words_and_makes_way_when_its_calls_have_finished() {
    let mut world = World::process(&[]).await;
    let command = |args: &[&str]| json!({"program": stdio_server(), "args": args});
    world.register_as(&json!({"slug": "it", "transport": "stdio", "command": command(&[])})).await;
    for version in [MODERN, LEGACY] {
        let client = world.client_at("/mcp/it", version).await;
        patch(&world, &json!({"command": command(&[])})).await;
        let before = child(&client).await;
        let (id, running) = begun(&client).await;
        patch(&world, &json!({"title": version, "timeouts": {"total_ms": 60000}})).await;
        assert_eq!(child(&client).await, before, "{version}: it is the same child");
        assert_eq!(within(running.finish(&id)).await.unwrap().text(), "done", "{version}");

        let (id, running) = begun(&client).await;
        patch(&world, &json!({"command": command(&["--chatter"])})).await;
        let new = child(&client).await;
        assert!(new.0.contains("--chatter"), "{version}: {new:?}");
        assert_eq!(within(running.finish(&id)).await.unwrap().text(), "done", "{version}: on the old child");

        let (id, running) = begun(&client).await;
        let off = world.rest(Method::POST, "/servers/it/disable", &Value::Null).await;
        assert_eq!(off.0, 200);
        assert_eq!(within(running.finish(&id)).await.unwrap().text(), "done", "{version}: disabled");
        let pid = world.the_process().pid();
        until(|| async { testkit::process::descendants(pid).is_empty().then_some(()) }).await;
        world.rest(Method::POST, "/servers/it/enable", &Value::Null).await;
    }
}
