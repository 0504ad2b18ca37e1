//! What ends streams, and what does not.

use std::time::Duration;

use http::StatusCode;
use mcp_registry_gateway::serve::Stopped;
use serde_json::{Value, json};
use testkit::client::{Reply, Request};
use testkit::upstream::{Eras, Plain};

use crate::world::{World, until};

/// Only the newest version with a handshake.
fn legacy_era() -> Eras {
    Eras::Legacy("2025-11-25".to_owned())
}

/// Reads up to the end of the stream; the last message.
async fn last(mut reply: Reply) -> Value {
    let mut last = Value::Null;
    while let Some(message) = reply.message().await.unwrap() {
        last = message;
    }
    last
}

fn is_completion(message: &Value, id: &str) -> bool {
    let id: Value = serde_json::from_str(id).unwrap();
    let result = &message["result"];
    let named = [&message["id"], &result["_meta"]["io.modelcontextprotocol/subscriptionId"]];
    result["resultType"] == "complete" && named.iter().all(|name| **name == id)
}

#[tokio::test]
async fn a_stop_ends_every_listening_stream_at_once_and_subscriptions_with_their_result() {
    let modern = Plain::with(Eras::Modern).await.unwrap();
    let legacy = Plain::with(legacy_era()).await.unwrap();
    let world = World::with(&["--shutdown-grace=1h"]).await;
    world.register("modern", &[modern.url()]).await;
    world.register("legacy", &[legacy.url()]).await;

    let wanted = || json!({ "toolsListChanged": true, "resourceSubscriptions": ["stand-in://note"] });
    let (own, own_stream) = world.client("/mcp/modern").subscribe(wanted()).await.unwrap();
    let (bridged, bridged_stream) = world.client("/mcp/legacy").subscribe(wanted()).await.unwrap();
    let (common, common_stream) = world.client("/mcp").subscribe(wanted()).await.unwrap();
    let mut gets = Vec::new();
    for path in ["/mcp", "/mcp/legacy", "/mcp/modern"] {
        let client = world.client(path);
        client.initialize("2025-11-25").await.unwrap();
        gets.push(client.listen(None).await.unwrap());
    }
    assert_eq!(world.app.streams.open(), 6);

    let readers = async {
        for (id, stream) in [(own, own_stream), (bridged, bridged_stream), (common, common_stream)] {
            let end = last(stream).await;
            assert!(is_completion(&end, &id), "{end} for {id}");
        }
        for stream in gets {
            last(stream).await;
        }
    };
    let stop = tokio::time::timeout(crate::world::DEADLINE, world.running.stop(std::future::pending()));
    let (stopped, ()) = tokio::join!(stop, readers);
    assert_eq!(stopped.expect("it does not wait for the grace"), Stopped::Clean);
    assert_eq!(world.app.streams.open(), 0);
}

/// One stream of each kind that lasts, and a call that takes its time.
async fn every_kind_of_stream(world: &World, key: &str) -> Vec<(&'static str, Reply)> {
    let mut all = Vec::new();
    let wanted = || json!({ "toolsListChanged": true, "resourceSubscriptions": ["stand-in://note"] });
    for path in ["/mcp", "/mcp/modern", "/mcp/legacy"] {
        all.push((path, world.client_of(path, key).subscribe(wanted()).await.unwrap().1));
        let client = world.client_of(path, key);
        client.initialize("2025-11-25").await.unwrap();
        all.push((path, client.listen(None).await.unwrap()));
    }
    all.push(("/sse", world.client_of("/", key).send(Request::get().path("/sse")).await.unwrap()));
    let call =
        json!({ "name": "progress", "arguments": { "steps": 1_000, "ms": 60_000 }, "_meta": { "progressToken": 1 } });
    let (_, mut reply) = world.client_of("/mcp/modern", key).open("tools/call", call).await.unwrap();
    assert_eq!(reply.message().await.unwrap().unwrap()["method"], "notifications/progress");
    all.push(("a call", reply));
    all
}

#[tokio::test]
async fn no_stream_outlives_the_key_it_was_opened_with() {
    let modern = Plain::with(Eras::Modern).await.unwrap();
    let legacy = Plain::with(legacy_era()).await.unwrap();
    // Nothing is said on a stream by itself, so that nothing but the end of the key can end it.
    let world = World::with(&["--sse-keep-alive=1h"]).await;
    world.register("modern", &[modern.url()]).await;
    world.register("legacy", &[legacy.url()]).await;
    let stays = world.user("ada").await;
    let others = every_kind_of_stream(&world, &stays).await;
    let key_of = async |name: &str| {
        let keys = world.rest(http::Method::GET, "/keys?limit=100", &Value::Null).await;
        let mut keys = keys["items"].as_array().unwrap().iter();
        keys.find(|key| key["username"] == name).unwrap()["id"].as_str().unwrap().to_owned()
    };
    for end in ["revoked", "disabled", "expired"] {
        let key = if end == "expired" {
            let soon = time::OffsetDateTime::now_utc() + Duration::from_secs(5);
            let soon = soon.format(&time::format_description::well_known::Rfc3339).unwrap();
            world.rest(http::Method::POST, "/users", &json!({ "username": end })).await;
            let order =
                json!({ "name": "short", "username": end, "servers": ["*"], "tools": ["*"], "expires_at": soon });
            world.rest(http::Method::POST, "/keys", &order).await["key"].as_str().unwrap().to_owned()
        } else {
            world.user(end).await
        };
        let streams = every_kind_of_stream(&world, &key).await;
        match end {
            "revoked" => {
                let id = key_of(end).await;
                drop(world.rest(http::Method::DELETE, &format!("/keys/{id}"), &Value::Null).await);
            }
            "disabled" => {
                let change = json!({ "state": "disabled" });
                drop(world.rest(http::Method::PATCH, &format!("/users/{end}"), &change).await);
            }
            _ => {}
        }
        for (what, mut stream) in streams {
            let to_its_end = async { while stream.event().await.unwrap().is_some() {} };
            let ended = tokio::time::timeout(crate::world::DEADLINE, to_its_end).await;
            assert!(ended.is_ok(), "{what} goes on under a key that is {end}");
        }
        until(async || world.app.streams.open() == others.len()).await;
    }
}

#[tokio::test]
async fn a_call_that_takes_long_begins_as_a_stream_and_ends_with_its_answer_or_its_key() {
    let modern = Plain::with(Eras::Modern).await.unwrap();
    let legacy = Plain::with(legacy_era()).await.unwrap();
    for server in [&modern, &legacy] {
        server.reply(testkit::upstream::ReplyForm::Json);
    }
    let world = World::with(&["--sse-keep-alive=50ms"]).await;
    world.register("modern", &[modern.url()]).await;
    world.register("legacy", &[legacy.url()]).await;
    let key = world.user("bob").await;
    let gate = json!({ "name": "gate", "arguments": {} });
    let mut clients = Vec::new();
    for (path, server) in [("/mcp/modern", &modern), ("/mcp/legacy", &legacy)] {
        for version in [testkit::jsonrpc::MODERN, "2025-11-25"] {
            let client = world.client_of(path, &key);
            if version != testkit::jsonrpc::MODERN {
                client.initialize(version).await.unwrap();
            }
            server.open_gate(false);
            // It begins before the server does.
            let (id, reply) = client.open("tools/call", gate.clone()).await.unwrap();
            assert!(reply.status == StatusCode::OK && reply.is_stream(), "{path} {version}");
            server.open_gate(true);
            assert_eq!(reply.finish(&id).await.unwrap().text(), "let through", "{path} {version}");
            let wrong = json!({ "name": "slow", "arguments": { "ms": 200 } });
            let (id, reply) = client.open("tools/call", wrong).await.unwrap();
            assert_eq!(reply.finish(&id).await.unwrap().text(), "at last", "{path} {version}");
            // Who reads no streams gets none, however long it takes.
            let wait = json!({ "name": "slow", "arguments": { "ms": 200 } });
            let request = client.request("9", "tools/call", wait).without("accept");
            let reply = client.send(request).await.unwrap();
            assert!(!reply.is_stream(), "{path} {version}");
            clients.push(client);
        }
        server.open_gate(false);
    }
    let mut left = Vec::new();
    for client in &clients {
        left.push(client.open("tools/call", gate.clone()).await.unwrap());
    }
    let keys = world.rest(http::Method::GET, "/keys?limit=100", &Value::Null).await;
    let mut keys = keys["items"].as_array().unwrap().iter();
    let id = keys.find(|key| key["username"] == "bob").unwrap()["id"].as_str().unwrap().to_owned();
    world.rest(http::Method::DELETE, &format!("/keys/{id}"), &Value::Null).await;
    for (id, reply) in left {
        let end = reply.finish(&id).await.unwrap();
        assert_eq!(end.code(), Some(-31_010), "{end:?}");
    }
}

#[tokio::test]
async fn beyond_the_cap_a_stream_is_refused_and_a_closed_one_makes_room() {
    let server = Plain::with(Eras::Modern).await.unwrap();
    server.reply(testkit::upstream::ReplyForm::Sse);
    let world = World::with(&["--max-streams=1"]).await;
    world.register("one", &[server.url()]).await;
    let (_, held) = world.client("/mcp").subscribe(json!({ "toolsListChanged": true })).await.unwrap();

    let full = |reply: &Reply| {
        assert_eq!(reply.status, StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(reply.header("retry-after"), "10");
    };
    let (_, listen) = world.client("/mcp").subscribe(json!({ "toolsListChanged": true })).await.unwrap();
    full(&listen);
    let legacy = world.client("/mcp");
    legacy.initialize("2025-11-25").await.unwrap();
    full(&legacy.listen(None).await.unwrap());
    let tool = json!({ "name": "echo", "arguments": { "text": "hello" } });
    let (_, mut call) = world.client("/mcp/one").open("tools/call", tool.clone()).await.unwrap();
    full(&call);
    assert_eq!(call.message().await.unwrap().unwrap()["error"]["code"], -31_009);

    drop(held);
    until(async || world.app.streams.open() == 0).await;
    assert_eq!(world.client("/mcp/one").call("tools/call", tool).await.unwrap().status, StatusCode::OK);
}

#[tokio::test]
async fn a_quiet_subscription_outlives_the_idle_timeout_of_its_server() {
    let server = Plain::with(Eras::Modern).await.unwrap();
    let world = World::with(&[]).await;
    let spec = json!({ "slug": "quiet", "replicas": [{ "url": server.url() }], "timeouts": { "idle_ms": 100 } });
    world.rest(http::Method::POST, "/servers", &spec).await;
    let wanted = json!({ "toolsListChanged": true });
    let (_, mut stream) = world.client("/mcp/quiet").subscribe(wanted).await.unwrap();
    assert_eq!(stream.message().await.unwrap().unwrap()["method"], "notifications/subscriptions/acknowledged");
    // Twice the timeout: a stream that it cuts would have ended with an error.
    let early = tokio::time::timeout(Duration::from_millis(300), stream.message()).await;
    assert!(early.is_err(), "{early:?}");
    server.tools_changed();
    assert_eq!(stream.message().await.unwrap().unwrap()["method"], "notifications/tools/list_changed");
}

#[tokio::test]
async fn a_trace_reaches_the_server_in_either_era() {
    for eras in [Eras::Modern, legacy_era()] {
        let server = Plain::with(eras.clone()).await.unwrap();
        let world = World::with(&[]).await;
        world.register("one", &[server.url()]).await;
        let trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
        let tool = json!({ "name": "echo", "arguments": { "text": "hello" } });
        let modern = world.client("/mcp/one");
        let request: Request = modern.request(&modern.next_id(), "tools/call", tool.clone());
        let request = request.header("traceparent", trace).header("tracestate", "a=1");
        assert_eq!(modern.send(request).await.unwrap().status, StatusCode::OK);
        let legacy = world.client("/mcp/one").header("traceparent", trace).header("tracestate", "a=1");
        legacy.initialize("2025-11-25").await.unwrap();
        legacy.call("tools/call", tool).await.unwrap();
        let calls = server.calls("echo");
        assert_eq!(calls.len(), 2);
        for call in calls {
            assert_eq!((call.header("traceparent"), call.header("tracestate")), (trace, "a=1"), "{eras:?}");
        }
    }
}
