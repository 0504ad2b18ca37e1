//! Several messages in one POST: taken in the sessions of the one version that has them, refused whole everywhere else.

use std::collections::BTreeMap;

use mcp_registry_gateway::mcp::held::SHORT;
use serde_json::{Value, json};
use testkit::client::{Client, Reply, Request};
use testkit::jsonrpc::MODERN;
use testkit::upstream::{Eras, Plain};

use crate::world::{World, until, within};

async fn send(client: &Client, batch: &Value) -> Reply {
    let request = Request::post(batch.to_string());
    let request = match client.session() {
        Some(session) => request.header("mcp-session-id", &session),
        None => request.header("mcp-protocol-version", MODERN),
    };
    within(client.send(request)).await.unwrap()
}

fn call(id: u32, tool: &str, arguments: &Value) -> Value {
    let params = json!({"name": tool, "arguments": arguments, "_meta": {"progressToken": id}});
    json!({"jsonrpc": "2.0", "id": id, "method": "tools/call", "params": params})
}

async fn refused(client: &Client, batch: &Value, words: &str) {
    let reply = send(client, batch).await;
    assert_eq!(reply.status, 400, "{batch}");
    let said: Value = serde_json::from_str(&reply.text().await.unwrap()).unwrap();
    assert_eq!(said["error"]["code"], -32600, "{said}");
    assert!(said["error"]["message"].as_str().unwrap().contains(words), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_is_so_many_calls_and_their_answers_come_on_one_stream() {
    for eras in [Eras::Modern, Eras::Legacy("2025-03-26".into())] {
        let server = Plain::with(eras.clone()).await.unwrap();
        let world = World::start().await;
        world.register("it", &server.url()).await;
        for (path, prefix) in [("/mcp", "it__"), ("/mcp/it", "")] {
            let client = world.client_at(path, "2025-03-26").await;
            let tool = |name: &str| format!("{prefix}{name}");
            let batch = json!([
                call(1, &tool("echo"), &json!({"message": "one"})),
                {"jsonrpc": "2.0", "method": "notifications/of/tomorrow"},
                call(2, &tool("progress"), &json!({"steps": 2})),
                {"jsonrpc": "2.0", "id": "three", "method": "ping"},
                call(4, &tool("nothing"), &json!({})),
            ]);
            let mut reply = send(&client, &batch).await;
            assert_eq!(reply.status, 200);
            let (mut answers, mut steps) = (BTreeMap::new(), 0);
            while let Some(message) = within(reply.message()).await.unwrap() {
                if message["method"] == "notifications/progress" {
                    assert_eq!(message["params"]["progressToken"], 2, "{message}");
                    steps += 1;
                } else {
                    answers.insert(message["id"].to_string(), message);
                }
            }
            let label = format!("{eras:?} {path}: {answers:?}");
            assert_eq!((answers.len(), steps), (4, 2), "{label}");
            assert_eq!(answers["1"]["result"]["structuredContent"]["message"], "one", "{label}");
            assert!(answers["2"]["result"].is_object() && answers["\"three\""]["result"].is_object(), "{label}");
            assert_eq!(answers["4"]["error"]["code"], -32602, "{label}");
            let told = send(&client, &json!([{"jsonrpc": "2.0", "method": "notifications/of/tomorrow"}])).await;
            assert_eq!(told.status, 202, "{label}");
        }
        // Whoever goes away takes back what is not answered.
        let client = world.client_at("/mcp/it", "2025-03-26").await;
        let waiting = send(&client, &json!([call(1, "gate", &json!({})), call(2, "gate", &json!({}))])).await;
        assert!(server.wait_in_flight(2).await);
        drop(waiting);
        // To a server of the legacy era a connection that closes says nothing; its calls go on until it answers.
        if matches!(eras, Eras::Modern) {
            assert!(server.wait_in_flight(0).await);
        }
        until(|| async { (world.app().streams.open() == 0).then_some(()) }).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_that_is_none_has_no_effect_at_all() {
    let server = Plain::start().await.unwrap();
    let world = World::start().await;
    world.register("it", &server.url()).await;
    let old = world.client_at("/mcp/it", "2025-03-26").await;
    let good = call(1, "echo", &json!({}));
    for (batch, words) in [
        (json!([]), "empty"),
        (json!([good, {"jsonrpc": "2.0"}]), "method"),
        (json!([good, 7]), "object"),
        (json!([good, [good]]), "batches"),
        (json!([good, {"jsonrpc": "2.0", "method": "tools/call", "params": {"name": "echo"}}]), "needs an `id`"),
        (json!([good, {"jsonrpc": "2.0", "id": 2, "method": "initialize", "params": {}}]), "initialize"),
        (Value::from(vec![good.clone(); 101]), "at most 100"),
    ] {
        refused(&old, &batch, words).await;
    }
    for version in ["2025-06-18", "2025-11-25", MODERN] {
        refused(&world.client_at("/mcp/it", version).await, &json!([good]), "2025-03-26").await;
    }
    assert_eq!(server.calls("echo").len(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_is_held_to_the_version_of_its_session_and_each_answer_to_one_request() {
    let server = Plain::with(Eras::Dual).await.unwrap();
    let world = World::start().await;
    world.register("it", &server.url()).await;
    let client = world.client_at("/mcp/it", "2025-03-26").await;
    server.host().forget();
    let echo = |id: u32| call(id, "echo", &json!({}));
    refused(&client, &json!([echo(1), echo(1)]), "one id").await;
    for version in [MODERN, "1999-01-01"] {
        let request = Request::post(json!([echo(1)]).to_string())
            .header("mcp-session-id", &client.session().unwrap())
            .header("mcp-protocol-version", version);
        assert_eq!(within(client.send(request)).await.unwrap().status, 400, "{version}");
    }
    let mut modern = echo(1);
    modern["params"]["_meta"]["io.modelcontextprotocol/protocolVersion"] = json!(MODERN);
    refused(&client, &json!([modern]), "batches").await;
    assert!(server.calls("echo").is_empty(), "nothing of them was done");
}

#[tokio::test(flavor = "multi_thread")]
async fn of_a_batch_one_long_answer_is_held_at_a_time_and_all_of_them_come() {
    const LONG: usize = 1_500_000;
    let server = Plain::with(Eras::Legacy("2025-03-26".into())).await.unwrap();
    // Together they are far more than there is room for.
    let world = World::with(&["--response-limit=2MiB"]).await;
    world.register("it", &server.url()).await;
    let client = world.client_at("/mcp/it", "2025-03-26").await;
    let batch: Value = (0..20).map(|id| call(id, "big", &json!({"bytes": LONG}))).collect();
    let mut reply = send(&client, &batch).await;
    let (mut answers, mut most) = (0, 0);
    while let Some(message) = within(reply.message()).await.unwrap() {
        most = most.max(world.app().held.taken());
        let text = message["result"]["content"][0]["text"].as_str().unwrap_or_else(|| panic!("{message}"));
        assert_eq!(text.len(), LONG);
        answers += 1;
    }
    assert_eq!(answers, 20);
    // One, and of the others under way what came before they had to wait.
    assert!(most < LONG + 8 * 2 * SHORT, "{most}");
    until(|| async { (world.app().held.taken() == 0).then_some(()) }).await;
}
