//! A child that several sessions share: what one of them wants or gives up is no other's loss, what was wanted outlives the
//! child, and no child runs that nobody uses.

use std::time::Duration;

use serde_json::{Value, json};
use testkit::client::{Client, Outcome, Reply, Request};
use testkit::jsonrpc::MODERN;
use testkit::upstream::{Eras, LegacySse, Plain};

use crate::world::{World, stdio_server, until, within};

const NOTE: &str = "stdio://note";

async fn child(world: &World, slug: &str, args: &[&str]) -> Value {
    let command = json!({"program": stdio_server(), "args": args});
    let server = world.register_as(&json!({"slug": slug, "transport": "stdio", "command": command})).await;
    assert_eq!(server["status"]["state"], "ready", "{server}");
    server
}

async fn call(client: &Client, tool: &str, arguments: Value) -> Outcome {
    within(client.tool(tool, arguments)).await.unwrap()
}

/// What the child keeps for its client.
async fn stats(world: &World, version: &str) -> Value {
    let client = world.client_at("/mcp/it", version).await;
    let told = call(&client, "stats", json!({})).await;
    client.end().await.unwrap();
    serde_json::from_str(told.text()).unwrap()
}

async fn on(client: &Client, method: &str) {
    let answer = within(client.call(method, json!({"uri": NOTE}))).await.unwrap();
    assert!(answer.result().is_object(), "{method}: {answer:?}");
}

/// Has the child tell of the resource until it is heard.
async fn updated(teller: &Client, tool: &str, stream: &mut Reply) {
    within(async {
        loop {
            call(teller, tool, json!({"uri": NOTE})).await;
            let heard = tokio::time::timeout(Duration::from_millis(200), stream.message()).await;
            if let Ok(heard) = heard {
                assert_eq!(heard.unwrap().expect("the stream goes on")["method"], "notifications/resources/updated");
                return;
            }
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_resource_is_subscribed_to_once_and_given_up_by_the_last() {
    let world = World::process(&[]).await;
    child(&world, "it", &["--legacy", "2025-11-25", "--state"]).await;
    for (path, tool) in [("/mcp/it", "update"), ("/mcp", "it__update")] {
        let ada = world.client_at(path, "2025-11-25").await;
        let bob = world.client_at(path, "2025-06-18").await;
        let before = stats(&world, "2025-11-25").await["subscriptions"].as_u64().unwrap();
        on(&ada, "resources/subscribe").await;
        on(&bob, "resources/subscribe").await;
        let told = stats(&world, "2025-11-25").await;
        assert_eq!((&told["subscriptions"], &told["subscribed"]), (&json!(before + 1), &json!([NOTE])), "{path}");
        let mut adas = ada.listen(None).await.unwrap();
        on(&bob, "resources/unsubscribe").await;
        updated(&bob, tool, &mut adas).await;
        // Whoever goes without a word gives up as well; and so does a listener without a session.
        on(&bob, "resources/subscribe").await;
        on(&ada, "resources/unsubscribe").await;
        let (_, mut modern) = world.client("/mcp").subscribe(json!({"resourceSubscriptions": [NOTE]})).await.unwrap();
        let first = within(modern.message()).await.unwrap().unwrap();
        assert_eq!(first["params"]["notifications"]["resourceSubscriptions"], json!([NOTE]), "{path}: {first}");
        bob.end().await.unwrap();
        updated(&ada, tool, &mut modern).await;
        assert_eq!(stats(&world, "2025-11-25").await["subscribed"], json!([NOTE]), "{path}");
        drop(modern);
        until(|| async { (stats(&world, "2025-11-25").await["subscribed"] == json!([])).then_some(()) }).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_listeners_watch_in_the_session_of_the_gateway_is_given_up_by_the_last() {
    let server = Plain::with(Eras::Legacy("2025-11-25".into())).await.unwrap();
    let world = World::start().await;
    world.register("it", &server.url()).await;
    let listen = async || {
        let wanted = json!({"resourceSubscriptions": ["stand-in://note"]});
        let (_, mut stream) = world.client("/mcp").subscribe(wanted.clone()).await.unwrap();
        let first = within(stream.message()).await.unwrap().unwrap();
        assert_eq!(first["params"]["notifications"], wanted, "{first}");
        stream
    };
    let (ada, mut bob) = (listen().await, listen().await);
    drop(ada);
    until(|| async { (server.resource_changed("stand-in://note") > 0).then_some(()) }).await;
    let heard = within(bob.message()).await.unwrap().unwrap();
    assert_eq!(heard["method"], "notifications/resources/updated", "{heard}");
    assert!(server.asked("resources/unsubscribe").is_empty(), "somebody watches still");
    drop(bob);
    until(|| async { (server.asked("resources/unsubscribe").len() == 1).then_some(()) }).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn each_session_hears_its_own_level_of_a_shared_child() {
    let world = World::process(&[]).await;
    child(&world, "it", &["--legacy", "2025-11-25", "--state"]).await;
    for (path, tool) in [("/mcp/it", "log"), ("/mcp", "it__log")] {
        let ada = world.client_at(path, "2025-11-25").await;
        let bob = world.client_at(path, "2025-11-25").await;
        for (client, level) in [(&ada, "error"), (&bob, "debug")] {
            let answer = within(client.call("logging/setLevel", json!({"level": level}))).await.unwrap();
            assert!(answer.result().is_object(), "{path}: {answer:?}");
        }
        until(|| async { (stats(&world, "2025-11-25").await["level"] == "debug").then_some(()) }).await;
        for (level, adas, bobs) in [("debug", 0, 1), ("warning", 0, 1), ("alert", 1, 1)] {
            for (client, heard) in [(&ada, adas), (&bob, bobs)] {
                let answer = call(client, tool, json!({"level": level})).await;
                assert_eq!(answer.before.len(), heard, "{path} {level}: {answer:?}");
            }
        }
        bob.end().await.unwrap();
        until(|| async { (stats(&world, "2025-11-25").await["level"] == "error").then_some(()) }).await;
        ada.end().await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_sessions_want_of_a_child_outlives_it() {
    for sharing in ["shared", "per_user", "per_session"] {
        let world = World::process(&[]).await;
        let command = json!({"program": stdio_server(), "args": ["--legacy", "2025-11-25", "--state"]});
        let spec = json!({"slug": "it", "transport": "stdio", "command": command, "sharing": sharing});
        world.register_as(&spec).await;
        let client = world.client_at("/mcp/it", "2025-11-25").await;
        let level = within(client.call("logging/setLevel", json!({"level": "alert"}))).await.unwrap();
        assert!(level.result().is_object(), "{level:?}");
        on(&client, "resources/subscribe").await;
        let mut stream = client.listen(None).await.unwrap();
        updated(&client, "update", &mut stream).await;
        assert_eq!(call(&client, "crash", json!({})).await.code(), Some(-31002), "{sharing}");
        // Nobody calls it: it is started anew for the sake of who listens.
        until(|| async { (children(&world, "it").await > 0).then_some(()) }).await;
        updated(&client, "update", &mut stream).await;
        let told: Value = serde_json::from_str(call(&client, "stats", json!({})).await.text()).unwrap();
        assert_eq!((&told["level"], &told["subscriptions"]), (&json!("alert"), &json!(1)), "{sharing}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_session_wants_of_a_stream_of_the_oldest_transport_outlives_it() {
    const NOTE: &str = "stand-in://note";
    let server = LegacySse::start().await.unwrap();
    let world = World::start().await;
    world.register_as(&json!({"slug": "it", "transport": "sse", "replicas": [{"url": server.url()}]})).await;
    let client = world.client_at("/mcp", "2025-11-25").await;
    client.call("logging/setLevel", json!({"level": "alert"})).await.unwrap();
    client.call("resources/subscribe", json!({"uri": NOTE})).await.unwrap();
    server.host().forget();
    server.host().disconnect_all();
    within(async {
        for (method, member, value) in [("resources/subscribe", "uri", NOTE), ("logging/setLevel", "level", "alert")] {
            let told = server.host().wait_for(|request| request.rpc() == method).await.unwrap();
            assert_eq!(told.json()["params"][member], value, "{method}");
        }
    })
    .await;
}

/// How many processes a server has.
async fn children(world: &World, slug: &str) -> u64 {
    let metrics = world.client("/metrics").send(Request::get()).await.unwrap().text().await.unwrap();
    let name = format!("mcp_stdio_children{{server=\"{slug}\"}} ");
    metrics.lines().find_map(|line| line.strip_prefix(&name)?.parse().ok()).unwrap_or_default()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_child_that_nobody_uses_is_stopped_and_not_started_by_the_gateway_itself() {
    // The gateway asks what there is more often than a child may rest.
    let world = World::process(&["--child-idle-timeout=400ms", "--catalogue-ttl=50ms"]).await;
    for (slug, sharing) in [("shared", "shared"), ("own", "per_session")] {
        let command = json!({"program": stdio_server()});
        world.register_as(&json!({"slug": slug, "transport": "stdio", "command": command, "sharing": sharing})).await;
        // To find out what there is takes a child.
        until(|| async { (world.server(slug).await["status"]["state"] == "ready").then_some(()) }).await;
        let client = world.client_at(&format!("/mcp/{slug}"), "2025-11-25").await;
        let mut before = Value::Null;
        for _ in 0..2 {
            until(|| async { (children(&world, slug).await == 0).then_some(()) }).await;
            for _ in 0..10 {
                tokio::time::sleep(Duration::from_millis(30)).await;
                assert_eq!(children(&world, slug).await, 0, "{slug}: it is started again by nobody");
            }
            let told = call(&client, "env", json!({})).await;
            let pid = serde_json::from_str::<Value>(told.text()).unwrap()["pid"].take();
            assert!(pid.is_u64() && pid != before, "{slug}: the call starts another, {pid} after {before}");
            before = pid;
        }
        let server = world.server(slug).await;
        assert_eq!((&server["status"]["state"], &server["status"]["tools"]), (&json!("ready"), &json!(15)), "{server}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_child_is_started_only_for_a_second_era_that_is_used() {
    let world = World::process(&[]).await;
    for (slug, args, legacy, both) in
        [("old", &["--legacy", "2025-11-25"][..], 1, 1), ("new", &["--modern"], 1, 1), ("dual", &[], 1, 2)]
    {
        child(&world, slug, args).await;
        world.rest(http::Method::POST, &format!("/servers/{slug}/refresh"), &Value::Null).await;
        assert_eq!(children(&world, slug).await, 1, "{slug}: learning what it speaks and has");
        for (version, most) in [("2025-11-25", legacy), (MODERN, both)] {
            let client = world.client_at(&format!("/mcp/{slug}"), version).await;
            assert!(call(&client, "echo", json!({})).await.result().is_object(), "{slug}");
            let all = world.client_at("/mcp", version).await;
            assert!(call(&all, &format!("{slug}__echo"), json!({})).await.result().is_object(), "{slug}");
            assert_eq!(children(&world, slug).await, most, "{slug} {version}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_on_a_channel_may_be_quiet_for_so_long_and_no_longer() {
    let world = World::process(&[]).await;
    let timeouts = json!({"idle_ms": 400, "total_ms": 60_000});
    let command = json!({"program": stdio_server()});
    let spec = json!({"slug": "it", "transport": "stdio", "command": command, "timeouts": timeouts});
    world.register_as(&spec).await;
    let old = LegacySse::start().await.unwrap();
    let spec = json!({"slug": "old", "transport": "sse", "replicas": [{"url": old.url()}], "timeouts": timeouts});
    world.register_as(&spec).await;
    for version in [MODERN, "2025-11-25"] {
        let client = world.answering("/mcp", version).await;
        for (tool, arguments) in [("it__sleep", json!({"ms": 600_000})), ("old__gate", json!({}))] {
            let late = call(&client, tool, arguments).await;
            assert_eq!(late.code(), Some(-31003), "{version} {tool}: {late:?}");
            assert!(late.response["error"]["message"].as_str().unwrap().contains("did not answer in time"), "{late:?}");
        }
        let steps =
            json!({"name": "it__progress", "arguments": {"steps": 5, "ms": 150}, "_meta": {"progressToken": 1}});
        assert_eq!(
            within(client.call("tools/call", steps)).await.unwrap().text(),
            "done",
            "{version}: it is not quiet"
        );
    }
    // The time in which the client makes up its mind is not the server's. Another child: nobody else may have caused what it asks.
    let command = json!({"program": stdio_server()});
    let spec = json!({"slug": "asks", "transport": "stdio", "command": command, "timeouts": timeouts});
    world.register_as(&spec).await;
    let client = world.answering("/mcp/asks", "2025-11-25").await;
    let (id, mut reply) = client.open("tools/call", json!({"name": "ask", "arguments": {}})).await.unwrap();
    let question = within(reply.message()).await.unwrap().unwrap();
    tokio::time::sleep(Duration::from_secs(1)).await;
    let answer = json!({"action": "accept", "content": {"name": "Ada"}});
    let taken = client.respond(&question, &answer).await.unwrap();
    let done = within(reply.finish(&id)).await.unwrap();
    assert_eq!(taken, 202, "{question} {done:?}");
    assert!(done.text().contains("Ada"), "{done:?}");
}
