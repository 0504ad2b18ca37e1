//! Clients of the oldest HTTP transport: one stream, and POSTs to the address that it names.

use http::{Method, StatusCode};
use mcp_registry_gateway::serve::Stopped;
use serde_json::{Value, json};
use testkit::client::{Client, Reply, Request};
use testkit::upstream::{Eras, Plain};

use crate::world::{DEADLINE, World, until};

/// A client with its stream open.
struct Old {
    client: Client,
    stream: Reply,
    address: String,
}

impl Old {
    async fn open(client: Client, path: &str) -> Self {
        let mut stream = client.send(Request::get().path(path)).await.unwrap();
        assert!(stream.status == StatusCode::OK && stream.is_stream(), "{}", stream.status);
        let first = stream.event().await.unwrap().unwrap();
        assert_eq!(first.event, "endpoint");
        assert!(first.data.starts_with("/messages?channel="), "{}", first.data);
        Self { client, stream, address: first.data }
    }

    async fn post(&self, message: &Value) -> Reply {
        // Such clients say nothing of what they accept.
        let request = Request::post(message.to_string()).without("accept").path(&self.address);
        self.client.send(request).await.unwrap()
    }

    async fn say(&self, message: &Value) {
        assert_eq!(self.post(message).await.status, StatusCode::ACCEPTED, "{message}");
    }

    async fn next(&mut self) -> Value {
        self.stream.message().await.unwrap().expect("the stream is open")
    }

    async fn ask(&mut self, id: u32, method: &str, params: Value) -> Value {
        self.say(&json!({ "jsonrpc": "2.0", "id": id, "method": method, "params": params })).await;
        let answer = self.next().await;
        assert_eq!(answer["id"], id, "{answer}");
        answer
    }

    async fn shake(&mut self, capabilities: Value) -> Value {
        let info = json!({ "name": "old", "version": "1" });
        let params = json!({ "protocolVersion": "2024-11-05", "capabilities": capabilities, "clientInfo": info });
        let answer = self.ask(0, "initialize", params).await;
        self.say(&json!({ "jsonrpc": "2.0", "method": "notifications/initialized" })).await;
        answer
    }
}

#[tokio::test]
async fn an_old_client_shakes_hands_lists_and_calls_at_either_door() {
    let newest = Plain::with(Eras::Modern).await.unwrap();
    let older = Plain::with(Eras::Legacy("2025-06-18".to_owned())).await.unwrap();
    let world = World::with(&[]).await;
    world.register("newest", &[newest.url()]).await;
    world.register("older", &[older.url()]).await;
    for (path, prefix) in [("/sse", "newest__"), ("/sse", "older__"), ("/sse/newest", ""), ("/sse/older", "")] {
        let mut old = Old::open(world.client("/"), path).await;
        let hello = old.shake(json!({})).await;
        assert!(hello["result"]["serverInfo"].is_object(), "{hello}");
        let tools = old.ask(1, "tools/list", json!({})).await;
        let name = format!("{prefix}echo");
        let listed = tools["result"]["tools"].as_array().unwrap().iter().any(|tool| tool["name"] == *name);
        assert!(listed, "{path}: {tools}");
        let said = old.ask(2, "tools/call", json!({ "name": name, "arguments": { "message": "hello" } })).await;
        assert_eq!(said["result"]["structuredContent"]["message"], "hello", "{path}: {said}");
        let unknown = old.ask(3, "tools/call", json!({ "name": "nobody__knows" })).await;
        assert!(unknown["error"].is_object() || unknown["result"]["isError"] == true, "{path}: {unknown}");
    }
}

#[tokio::test]
async fn what_belongs_to_no_request_comes_on_the_stream() {
    let server = Plain::start().await.unwrap();
    let world = World::with(&[]).await;
    world.register("one", &[server.url()]).await;
    let mut old = Old::open(world.client("/"), "/sse").await;
    old.shake(json!({})).await;
    // Answered behind the beginning of listening, which nobody is told of.
    until(async || {
        server.tools_changed();
        let waiting = std::time::Duration::from_millis(200);
        matches!(tokio::time::timeout(waiting, old.stream.message()).await,
            Ok(Ok(Some(told))) if told["method"] == "notifications/tools/list_changed")
    })
    .await;
}

#[tokio::test]
async fn a_channel_is_its_owners_alone_and_wants_a_handshake_first() {
    let world = World::with(&["--max-streams=1"]).await;
    let bob = world.user("bob").await;
    let mut old = Old::open(world.client("/"), "/sse").await;

    let ping = json!({ "jsonrpc": "2.0", "id": 1, "method": "ping" });
    let post = || Request::post(ping.to_string()).path(&old.address);
    assert_eq!(world.client_of("/", &bob).send(post()).await.unwrap().status, StatusCode::NOT_FOUND);
    let nobody = world.client("/").send(post().without("authorization")).await.unwrap();
    assert_eq!(nobody.status, StatusCode::UNAUTHORIZED);
    let elsewhere = Request::post(ping.to_string()).path("/messages?channel=0");
    assert_eq!(world.client("/").send(elsewhere).await.unwrap().status, StatusCode::NOT_FOUND);
    assert_eq!(old.post(&ping).await.status, StatusCode::BAD_REQUEST, "no handshake yet");

    old.shake(json!({})).await;
    old.ask(1, "ping", json!({})).await;
    let again = json!({ "jsonrpc": "2.0", "id": 9, "method": "initialize", "params": {} });
    assert_eq!(old.post(&again).await.status, StatusCode::BAD_REQUEST, "one session a stream");

    let call = json!({ "jsonrpc": "2.0", "method": "tools/call", "params": { "name": "delete" } });
    assert_eq!(old.post(&call).await.status, StatusCode::BAD_REQUEST, "a request without an id");

    let second = world.client("/").send(Request::get().path("/sse")).await.unwrap();
    assert_eq!((second.status, second.header("retry-after")), (StatusCode::SERVICE_UNAVAILABLE, "10"));
    let unseen = world.client("/").send(Request::get().path("/sse/nothing")).await.unwrap();
    assert_eq!(unseen.status, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn a_dropped_stream_ends_the_session_the_channel_and_what_is_under_way() {
    let server = Plain::with(Eras::Legacy("2025-11-25".to_owned())).await.unwrap();
    let world = World::with(&[]).await;
    world.register("one", &[server.url()]).await;
    let mut old = Old::open(world.client("/"), "/sse/one").await;
    old.shake(json!({})).await;
    assert_eq!(world.app.sessions.count(), 1);
    let wait = json!({ "name": "gate", "arguments": {} });
    old.say(&json!({ "jsonrpc": "2.0", "id": 5, "method": "tools/call", "params": wait })).await;
    assert!(server.wait_in_flight(1).await);

    let Old { client, stream, address } = old;
    drop(stream);
    until(async || world.app.sessions.count() == 0 && world.app.streams.open() == 0).await;
    assert!(server.host().wait_for(|request| request.method == Method::DELETE).await.is_some());
    let late = client.send(Request::post("{}").path(&address)).await.unwrap();
    assert_eq!(late.status, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn a_server_asks_and_the_old_client_answers() {
    let server = Plain::with(Eras::Legacy("2025-11-25".to_owned())).await.unwrap();
    let world = World::with(&[]).await;
    world.register("one", &[server.url()]).await;
    let mut old = Old::open(world.client("/"), "/sse/one").await;
    old.shake(json!({ "sampling": {}, "elicitation": {}, "roots": {} })).await;
    let sample = json!({ "name": "ask", "arguments": { "kind": "sampling", "message": "hello" } });
    old.say(&json!({ "jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": sample })).await;
    let question = old.next().await;
    assert_eq!(question["method"], "sampling/createMessage", "{question}");
    let words = json!({ "role": "assistant", "content": { "type": "text", "text": "well" }, "model": "m" });
    old.say(&json!({ "jsonrpc": "2.0", "id": question["id"], "result": words })).await;
    let answer = old.next().await;
    assert!(answer["id"] == 1 && answer["result"].to_string().contains("well"), "{answer}");
}

#[tokio::test]
async fn what_is_refused_on_the_stream_counts_against_its_address() {
    let world = World::with(&["--behind-proxy", "--ddos-detection-threshold=5", "--rate-limit-admin-rpm=10"]).await;
    let mut old = Old::open(world.client("/").header("x-forwarded-for", "192.0.2.1"), "/sse").await;
    old.shake(json!({})).await;
    let (mut id, mut refused) = (0, 0);
    while old.post(&json!({ "jsonrpc": "2.0", "id": id, "method": "tools/list" })).await.status == StatusCode::ACCEPTED
    {
        refused += usize::from(old.next().await["error"]["code"] == -31_014);
        id += 1;
    }
    // Of an address where somebody is known ten times as many are borne.
    assert_eq!(refused, 50);
}

#[tokio::test]
async fn an_answer_that_could_only_be_resumed_is_an_error_that_says_so() {
    let server = Plain::with(Eras::Legacy("2025-11-25".to_owned())).await.unwrap();
    let world = World::with(&[]).await;
    world.register("one", &[server.url()]).await;
    let mut old = Old::open(world.client("/"), "/sse/one").await;
    old.shake(json!({})).await;
    let answer = old.ask(1, "tools/call", json!({ "name": "reconnect", "arguments": {} })).await;
    assert_eq!(answer["error"]["data"]["kind"], "dropped", "{answer}");
}

#[tokio::test]
async fn a_stop_waits_for_what_is_under_way_and_then_ends_the_stream() {
    let server = Plain::start().await.unwrap();
    let world = World::with(&["--shutdown-grace=1h"]).await;
    world.register("one", &[server.url()]).await;
    let mut old = Old::open(world.client("/"), "/sse").await;
    old.shake(json!({})).await;
    let wait = json!({ "name": "one__gate", "arguments": {} });
    old.say(&json!({ "jsonrpc": "2.0", "id": 5, "method": "tools/call", "params": wait })).await;
    assert!(server.wait_in_flight(1).await);
    let app = world.app.clone();
    let reader = async {
        app.shutdown.cancelled().await;
        server.open_gate(true);
        let answer = old.next().await;
        assert_eq!(answer["id"], 5, "{answer}");
        assert_eq!(old.stream.message().await.unwrap(), None);
    };
    let stop = tokio::time::timeout(DEADLINE, world.running.stop(std::future::pending()));
    let (stopped, ()) = tokio::join!(stop, reader);
    assert_eq!(stopped.expect("it does not wait for the grace"), Stopped::Clean);
}
