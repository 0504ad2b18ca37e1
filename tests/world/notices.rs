//! What clients tell without waiting for an answer: it has its effect at once, reaches every server that it concerns, and no
//! server that does not answer holds anybody up.

use serde_json::{Value, json};
use testkit::client::{Client, Request};
use testkit::jsonrpc;
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

#[tokio::test(flavor = "multi_thread")]
async fn a_request_without_an_id_is_no_notification_and_reaches_no_server() {
    let (plain, oldest) = (Plain::with(legacy()).await.unwrap(), LegacySse::start().await.unwrap());
    let world = World::start().await;
    world.register("fs", &plain.url()).await;
    world.register_as(&json!({"slug": "old", "transport": "sse", "replicas": [{"url": oldest.url()}]})).await;
    world.user("bob").await;
    let key = world.key("bob", json!(["fs", "old"]), json!(["fs/echo", "old/echo"])).await;
    for (slug, host) in [("fs", plain.host()), ("old", oldest.host())] {
        let client = crate::world::shake(world.client_of(&format!("/mcp/{slug}"), &key), "2025-11-25").await;
        assert!(client.tool("echo", json!({})).await.unwrap().result().is_object());
        host.forget();
        for method in ["tools/call", "resources/read", "prompts/get", "initialize", "ping", "tasks/cancel"] {
            let text = jsonrpc::notification(method, &json!({"name": "slow", "arguments": {}, "uri": "test://a"}));
            let request = Request::post(text).header("mcp-session-id", &client.session().unwrap());
            let reply = within(client.send(request)).await.unwrap();
            assert_eq!(reply.status, 400, "{slug}: {method}");
            let said: Value = serde_json::from_str(&reply.text().await.unwrap()).unwrap();
            assert_eq!(said["error"]["code"], -32600, "{said}");
            assert!(said["error"]["message"].as_str().unwrap().contains("needs an `id`"), "{said}");
        }
        // It would have come before this one.
        assert_eq!(within(client.notify("notifications/of/tomorrow", json!({}))).await.unwrap(), 202);
        within(host.wait_for(|request| request.rpc() == "notifications/of/tomorrow")).await.unwrap();
        let heard: Vec<_> =
            host.requests().into_iter().map(|request| request.rpc()).filter(|rpc| !rpc.is_empty()).collect();
        assert_eq!(heard, ["notifications/of/tomorrow"], "{slug}");
    }
}
