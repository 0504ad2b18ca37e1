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
