//! Servers behind one channel, a stream of the oldest transport or the pipe of a child: what happens when it breaks, and who
//! shares it.

use serde_json::{Value, json};
use testkit::client::{Client, Outcome};
use testkit::jsonrpc::MODERN;
use testkit::upstream::LegacySse;

use crate::world::{World, stdio_server, until, within};

async fn call(client: &Client, tool: &str, arguments: Value) -> Outcome {
    within(client.tool(tool, arguments)).await.unwrap()
}

async fn child(spec: Value) -> World {
    let world = World::process(&[]).await;
    let mut whole = json!({"slug": "it", "transport": "stdio", "command": {"program": stdio_server()}});
    for (name, value) in spec.as_object().unwrap() {
        whole[name] = value.clone();
    }
    let server = world.register_as(&whole).await;
    assert_eq!(server["status"]["state"], "ready", "{server}");
    world
}

#[tokio::test(flavor = "multi_thread")]
async fn a_child_that_dies_fails_its_calls_and_is_started_anew() {
    let world = child(json!({})).await;
    for version in [MODERN, "2025-11-25"] {
        let (one, two) = (world.client_at("/mcp/it", version).await, world.client_at("/mcp", version).await);
        let died = async {
            let crashed = call(&one, "crash", json!({})).await;
            assert_eq!(crashed.code(), Some(-31002), "{version}: {crashed:?}");
        };
        // Whether the other call was already under way or came too late, it ends with a word for it.
        let (beside, ()) = tokio::join!(call(&two, "it__sleep", json!({"ms": 60_000})), died);
        assert!(matches!(beside.code(), Some(-31001 | -31002 | -31012)), "{version}: {beside:?}");
        until(|| async { call(&one, "echo", json!({"a": 1})).await.text().contains("\"a\":1").then_some(()) }).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn noise_on_the_pipe_harms_nobody() {
    let world = child(json!({})).await;
    let client = world.client_at("/mcp/it", "2025-11-25").await;
    for text in ["Server is ready!", "{", "[]", "{\"jsonrpc\":\"2.0\",\"id\":999999,\"result\":{}}", "\u{7}\u{1b}[0m"] {
        assert_eq!(call(&client, "noise", json!({"text": text})).await.text(), "made", "{text}");
        assert!(call(&client, "echo", json!({})).await.result().is_object(), "{text}");
    }
    assert_eq!(call(&client, "big", json!({"bytes": 10 << 20})).await.text().len(), 10 << 20);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_child_is_shared_as_it_is_set() {
    let pid = async |client: &Client| -> Value {
        let told = call(client, "env", json!({})).await;
        serde_json::from_str::<Value>(told.text()).unwrap()["pid"].clone()
    };
    for (sharing, same_user, same_session) in
        [("shared", true, true), ("per_user", true, true), ("per_session", false, true)]
    {
        let world = child(json!({"sharing": sharing})).await;
        world.user("bob").await;
        let bobs = world.key("bob", json!("*"), json!("*")).await;
        let (one, two) =
            (world.client_at("/mcp/it", "2025-11-25").await, world.client_at("/mcp/it", "2025-11-25").await);
        let bob = crate::world::shake(world.client_of("/mcp/it", &bobs), "2025-11-25").await;
        let (first, second, other) = (pid(&one).await, pid(&two).await, pid(&bob).await);
        assert_eq!(first == pid(&one).await, same_session, "{sharing}");
        assert_eq!(first == second, same_user, "{sharing}");
        assert_eq!(first == other, sharing == "shared", "{sharing}");
        let first = u32::try_from(first.as_u64().unwrap()).unwrap();
        one.end().await.unwrap();
        if sharing == "per_session" {
            assert!(testkit::process::wait_gone(first, crate::world::DEADLINE).await, "it ends with its session");
        } else {
            assert_eq!(pid(&two).await, second, "{sharing}: it outlives a session");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_of_the_oldest_transport_that_breaks_is_opened_anew() {
    let server = LegacySse::start().await.unwrap();
    let world = World::start().await;
    world.register_as(&json!({"slug": "it", "transport": "sse", "replicas": [{"url": server.url()}]})).await;
    for (calls, version) in [(1, MODERN), (2, "2025-11-25")] {
        let client = world.client_at("/mcp", version).await;
        assert!(call(&client, "it__echo", json!({})).await.result().is_object());
        let broken = async {
            assert!(server.wait_running("gate", calls).await);
            server.cut_streams();
        };
        let (outcome, ()) = tokio::join!(call(&client, "it__gate", json!({})), broken);
        assert_eq!(outcome.code(), Some(-31002), "{version}: {outcome:?}");
        let answer = call(&client, "it__echo", json!({"message": "again"})).await;
        assert_eq!(answer.result()["structuredContent"]["message"], "again", "{version}: {answer:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_endpoint_at_another_origin_is_not_followed() {
    let (server, other) = (LegacySse::start().await.unwrap(), LegacySse::start().await.unwrap());
    server.endpoint(&other.url().replace("/sse", "/messages?session_id=stream-0"));
    let world = World::start().await;
    let spec = json!({"slug": "it", "transport": "sse", "replicas": [{"url": server.url()}]});
    let kept = world.register_as(&spec).await;
    assert_eq!(kept["status"]["state"], "unreachable", "{kept}");
    assert!(kept["status"]["last_error"].as_str().unwrap().contains("another origin"), "{kept}");
    assert!(other.host().requests().is_empty());
}
