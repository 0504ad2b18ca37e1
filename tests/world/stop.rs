//! The end: what runs may finish, what only listens ends at once, and who asks twice is not made to wait.

use mcp_registry_gateway::serve::Stopped;
use serde_json::json;
use testkit::client::Client;
use testkit::jsonrpc::MODERN;
use testkit::upstream::Plain;

use crate::world::{World, until, within};

async fn gate(client: &Client) -> testkit::client::Outcome {
    client.tool("gate", json!({})).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_running_call_finishes_and_streams_end_at_once() {
    let server = Plain::start().await.unwrap();
    let mut world = World::start().await;
    world.register("it", &server.url()).await;
    let (modern, legacy) = (world.client("/mcp/it"), world.client_at("/mcp/it", "2025-11-25").await);
    let mut streams = Vec::new();
    for path in ["/mcp", "/mcp/it"] {
        let client = world.client_at(path, "2025-11-25").await;
        streams.push((path, String::new(), client.listen(None).await.unwrap()));
        let (id, mut reply) = world.client(path).subscribe(json!({"toolsListChanged": true})).await.unwrap();
        within(reply.message()).await.unwrap().unwrap();
        streams.push((path, id, reply));
    }
    let url = world.url().to_owned();
    let running = world.take_running();
    let story = async {
        until(|| async { (server.calls("gate").len() == 2).then_some(()) }).await;
        let stopping = tokio::spawn(running.stop(std::future::pending()));
        for (path, id, stream) in &mut streams {
            let mut last = serde_json::Value::Null;
            while let Some(message) = within(stream.message()).await.unwrap_or(None) {
                last = message;
            }
            if !id.is_empty() {
                assert_eq!(last["id"].to_string(), *id, "{path}: a subscription ends with its answer: {last}");
            }
        }
        assert!(!stopping.is_finished(), "two calls run");
        let late = Client::new(&format!("{url}/mcp")).call("tools/list", json!({})).await;
        assert!(late.is_err(), "nobody new is let in: {late:?}");
        server.open_gate(true);
        assert_eq!(within(stopping).await.unwrap(), Stopped::Clean);
    };
    let (one, two, ()) = within(Box::pin(async { tokio::join!(gate(&modern), gate(&legacy), story) })).await;
    assert_eq!((one.text(), two.text()), ("let through", "let through"));
}

#[tokio::test(flavor = "multi_thread")]
async fn who_asks_twice_is_not_made_to_wait() {
    let server = Plain::start().await.unwrap();
    let mut world = World::with(&["--shutdown-grace=10m"]).await;
    world.register("it", &server.url()).await;
    let client = world.client_at("/mcp/it", MODERN).await;
    let running = world.take_running();
    let story = async {
        until(|| async { (!server.calls("gate").is_empty()).then_some(()) }).await;
        let (hurry, asked) = tokio::sync::oneshot::channel::<()>();
        let stopping = tokio::spawn(running.stop(async move { _ = asked.await }));
        hurry.send(()).unwrap();
        assert_eq!(within(stopping).await.unwrap(), Stopped::Forced);
    };
    let (cut, ()) = within(async { tokio::join!(client.tool("gate", json!({})), story) }).await;
    assert!(cut.is_err(), "{cut:?}");
    assert!(server.wait_cancelled().await.is_some(), "the server hears that nobody waits any more");
}
