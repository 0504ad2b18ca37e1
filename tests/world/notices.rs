//! What clients tell without waiting for an answer: it has its effect at once, reaches every server that it concerns, and no
//! server that does not answer holds anybody up.

use serde_json::{Value, json};
use testkit::client::Client;
use testkit::upstream::{Eras, Fault, Faulty, LegacySse, Plain};

use crate::world::{World, stdio_server, until, within};

const CHANGED: &str = "notifications/roots/list_changed";

fn legacy() -> Eras {
    Eras::Legacy("2025-11-25".into())
}

/// What a child counted.
async fn stats(client: &Client) -> Value {
    let told = within(client.tool("stats", json!({}))).await.unwrap();
    serde_json::from_str(told.text()).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_that_is_taken_back_ends_at_once_whatever_its_server_does() {
    // A server may take two minutes for an answer, which nobody here waits for.
    let server = Faulty::with(legacy()).await.unwrap();
    let world = World::start().await;
    world.register("it", &server.url()).await;
    for (path, tool) in [("/mcp", "it__gate"), ("/mcp/it", "gate")] {
        let client = world.client_at(path, "2025-11-25").await;
        server.host().forget();
        server.fail_on("notifications/cancelled", Fault::Hang);
        let params = json!({"name": tool, "arguments": {}});
        let call = async {
            let reply = client.send(client.request("7", "tools/call", params)).await.unwrap();
            reply.finish("7").await.unwrap()
        };
        let story = async {
            server.host().wait_for(|request| request.rpc() == "tools/call").await.unwrap();
            client.notify("notifications/cancelled", json!({"requestId": 7})).await.unwrap();
            server.host().wait_for(|request| request.rpc() == "notifications/cancelled").await.unwrap();
        };
        let (gone, ()) = within(async { tokio::join!(call, story) }).await;
        assert!(gone.response.is_null(), "{path}: {gone:?}");
        server.heal();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_takes_no_notification_keeps_it_from_no_other() {
    let (deaf, one, two) = (
        Faulty::with(legacy()).await.unwrap(),
        Plain::with(legacy()).await.unwrap(),
        LegacySse::start().await.unwrap(),
    );
    let world = World::start().await;
    world.register("deaf", &deaf.url()).await;
    world.register("one", &one.url()).await;
    world.register_as(&json!({"slug": "two", "transport": "sse", "replicas": [{"url": two.url()}]})).await;
    let client = world.answering("/mcp", "2025-11-25").await;
    for tool in ["deaf__echo", "one__echo", "two__echo"] {
        assert!(client.tool(tool, json!({})).await.unwrap().result().is_object());
    }
    deaf.fail_on(CHANGED, Fault::Hang);
    assert_eq!(within(client.notify(CHANGED, json!({"x": 1.50}))).await.unwrap(), 202);
    within(async {
        let heard = one.host().wait_for(|request| request.rpc() == CHANGED).await.unwrap();
        assert_eq!(heard.json()["params"], json!({"x": 1.5}));
        two.host().wait_for(|request| request.rpc() == CHANGED).await.unwrap();
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_child_hears_what_its_own_client_tells_and_a_shared_one_no_roots() {
    let world = World::process(&[]).await;
    for sharing in ["per_session", "shared"] {
        let command = json!({"program": stdio_server(), "args": ["--legacy", "2025-11-25"]});
        let spec =
            json!({"slug": sharing.replace('_', "-"), "transport": "stdio", "command": command, "sharing": sharing});
        world.register_as(&spec).await;
        let client = world.answering(&format!("/mcp/{}", sharing.replace('_', "-")), "2025-11-25").await;
        // The handshake is confirmed once, whoever speaks it.
        assert_eq!(stats(&client).await["notifications"], 1, "{sharing}");
        client.notify("notifications/roots/list_changed", json!({})).await.unwrap();
        client.notify("notifications/of/tomorrow", json!({"x": null})).await.unwrap();
        let heard = if sharing == "shared" { 2 } else { 3 };
        until(|| async { (stats(&client).await["notifications"] == heard).then_some(()) }).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_of_the_oldest_transport_hears_what_its_client_tells() {
    let server = LegacySse::start().await.unwrap();
    let world = World::start().await;
    world.register_as(&json!({"slug": "it", "transport": "sse", "replicas": [{"url": server.url()}]})).await;
    let client = world.client_at("/mcp/it", "2025-11-25").await;
    client.tool("echo", json!({})).await.unwrap();
    client.notify("notifications/of/tomorrow", json!({"n": 1})).await.unwrap();
    let heard = within(server.host().wait_for(|request| request.rpc() == "notifications/of/tomorrow")).await.unwrap();
    assert_eq!(heard.json()["params"], json!({"n": 1}));
}
