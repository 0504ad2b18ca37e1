//! Servers that ask their clients: the question reaches the one session that caused it, and its answer the one server that
//! asked, once.

use std::time::Duration;

use serde_json::{Value, json};
use testkit::client::{Client, Request};
use testkit::upstream::{Answer, Eras, Plain};

use crate::world::{World, shake, stdio_server, within};

async fn legacy() -> Plain {
    Plain::with(Eras::Legacy("2025-11-25".into())).await.unwrap()
}

fn asking() -> Value {
    json!({"elicitation": {}, "sampling": {}, "roots": {}})
}

async fn answer_to(client: &Client, id: &Value, result: &Value) -> (u16, Value) {
    let text = json!({"jsonrpc": "2.0", "id": id, "result": result}).to_string();
    let request = Request::post(text)
        .header("mcp-session-id", &client.session().unwrap())
        .header("mcp-protocol-version", &client.version().unwrap());
    let reply = client.send(request).await.unwrap();
    let status = reply.status.as_u16();
    let text = reply.text().await.unwrap();
    (status, serde_json::from_str(&text).unwrap_or_default())
}

/// The id under which the server asked last, as the answer that it got says.
fn last_asked(server: &Plain) -> u64 {
    let answers = server.host().requests().into_iter().map(|request| request.json());
    let mut ids: Vec<u64> =
        answers.filter(|text| text["result"]["action"].is_string()).filter_map(|text| text["id"].as_u64()).collect();
    ids.pop().unwrap()
}

async fn ask(client: &Client, tool: &str, kind: &str, result: &Value) -> String {
    let (id, mut reply) = client.open("tools/call", json!({"name": tool, "arguments": {"kind": kind}})).await.unwrap();
    let question = within(reply.message()).await.unwrap().unwrap();
    assert_eq!(client.respond(&question, result).await.unwrap(), 202);
    within(reply.finish(&id)).await.unwrap().text().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn two_servers_ask_under_the_same_id_and_each_gets_its_own_answer() {
    let (left, right) = (legacy().await, legacy().await);
    let world = World::start().await;
    world.register("left", &left.url()).await;
    world.register("right", &right.url()).await;
    let client = world.answering("/mcp", "2025-11-25").await;
    let done = json!({"action": "accept", "content": {"name": "nobody"}});
    for tool in ["left__ask", "right__ask"] {
        ask(&client, tool, "elicitation", &done).await;
    }
    // Each question takes one number: the server that is behind is asked again until both will take the same.
    while last_asked(&left) != last_asked(&right) {
        let behind = if last_asked(&left) < last_asked(&right) { "left__ask" } else { "right__ask" };
        ask(&client, behind, "elicitation", &done).await;
    }
    let (left_id, mut left_reply) =
        client.open("tools/call", json!({"name": "left__ask", "arguments": {}})).await.unwrap();
    let (right_id, mut right_reply) =
        client.open("tools/call", json!({"name": "right__ask", "arguments": {}})).await.unwrap();
    let left_question = within(left_reply.message()).await.unwrap().unwrap();
    let right_question = within(right_reply.message()).await.unwrap().unwrap();
    assert_ne!(left_question["id"], right_question["id"], "the client must tell them apart");
    let named = |name: &str| json!({"action": "accept", "content": {"name": name}});
    assert_eq!(client.respond(&right_question, &named("Rita")).await.unwrap(), 202);
    assert_eq!(client.respond(&left_question, &named("Liz")).await.unwrap(), 202);
    let right_answer = within(right_reply.finish(&right_id)).await.unwrap();
    let left_answer = within(left_reply.finish(&left_id)).await.unwrap();
    assert!(left_answer.text().contains("Liz"), "{left_answer:?}");
    assert!(right_answer.text().contains("Rita"), "{right_answer:?}");
    assert_eq!(last_asked(&left), last_asked(&right), "they did use the same id");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_question_that_a_server_takes_back_is_named_as_the_client_knows_it() {
    let server = legacy().await;
    let world = World::start().await;
    world.register("it", &server.url()).await;
    let client = world.answering("/mcp", "2025-11-25").await;
    let mut stream = client.listen(None).await.unwrap();
    let done = json!({"action": "accept", "content": {"name": "nobody"}});
    ask(&client, "it__ask", "elicitation", &done).await;
    let (_, mut reply) = client.open("tools/call", json!({"name": "it__ask", "arguments": {}})).await.unwrap();
    let question = within(reply.message()).await.unwrap().unwrap();
    // Questions and streams take numbers in turn: it is one of the next.
    let (before, likely) = (last_asked(&server), 8);
    // Nobody says when a stream is in place: told again until it is heard.
    let heard = within(async {
        loop {
            for theirs in before + 1..before + likely {
                server.notify("notifications/cancelled", json!({"requestId": theirs}));
            }
            if let Ok(heard) = tokio::time::timeout(Duration::from_millis(200), stream.message()).await {
                return heard.unwrap().unwrap();
            }
        }
    });
    assert_eq!(heard.await["params"]["requestId"], question["id"]);
    assert_eq!(client.respond(&question, &done).await.unwrap(), 400, "nobody waits for it any more");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_question_is_answered_once_by_the_session_it_was_put_to() {
    let server = legacy().await;
    let world = World::start().await;
    world.register("it", &server.url()).await;
    world.user("bob").await;
    let bobs = world.key("bob", json!("*"), json!("*")).await;
    for (path, tool) in [("/mcp", "it__ask"), ("/mcp/it", "ask")] {
        let asked = world.answering(path, "2025-11-25").await;
        let sibling = world.answering(path, "2025-11-25").await;
        let bob = shake(world.client_of(path, &bobs).capabilities(asking()), "2025-11-25").await;
        let (id, mut reply) = asked.open("tools/call", json!({"name": tool, "arguments": {}})).await.unwrap();
        let question = within(reply.message()).await.unwrap().unwrap();
        let result = json!({"action": "accept", "content": {"name": "Mallory"}});

        for stranger in [&sibling, &bob] {
            let (status, said) = answer_to(stranger, &question["id"], &result).await;
            assert_eq!((status, said["error"]["code"].as_i64()), (400, Some(-32600)), "{path}: {said}");
        }
        bob.set_session(asked.session().as_deref());
        let (status, said) = answer_to(&bob, &question["id"], &result).await;
        assert_eq!((status, said["error"]["code"].as_i64()), (404, Some(-32600)), "{path}: {said}");
        for unknown in [json!(99_999), json!("mcpg-0"), json!("mcpg-0000000000000000")] {
            let (status, said) = answer_to(&asked, &unknown, &result).await;
            assert_eq!((status, said["error"]["code"].as_i64()), (400, Some(-32600)), "{path}: {said}");
        }

        let result = json!({"action": "accept", "content": {"name": "Ada"}});
        assert_eq!(answer_to(&asked, &question["id"], &result).await.0, 202, "{path}");
        assert_eq!(answer_to(&asked, &question["id"], &result).await.0, 400, "{path}: twice");
        let answer = within(reply.finish(&id)).await.unwrap();
        assert!(answer.text().contains("Ada") && !answer.text().contains("Mallory"), "{path}: {answer:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_kind_of_question_and_a_refusal_get_through() {
    let server = legacy().await;
    let world = World::start().await;
    world.register("it", &server.url()).await;
    for (path, tool) in [("/mcp", "it__ask"), ("/mcp/it", "ask")] {
        let client = world.answering(path, "2025-06-18").await;
        let sampled = json!({"role": "assistant", "content": {"type": "text", "text": "Hm"}, "model": "m", "x": 1.5});
        for (kind, result) in [("sampling", sampled), ("roots", json!({"roots": [{"uri": "file:///x"}]}))] {
            let told: Value = serde_json::from_str(&ask(&client, tool, kind, &result).await).unwrap();
            assert_eq!(told, result, "{path}");
        }
        let (id, mut reply) = client.open("tools/call", json!({"name": tool, "arguments": {}})).await.unwrap();
        let question = within(reply.message()).await.unwrap().unwrap();
        let no = json!({"jsonrpc": "2.0", "id": question["id"], "error": {"code": -1, "message": "I will not say"}});
        let request = Request::post(no.to_string())
            .header("mcp-session-id", &client.session().unwrap())
            .header("mcp-protocol-version", "2025-06-18");
        assert_eq!(client.send(request).await.unwrap().status, 202);
        assert!(within(reply.finish(&id)).await.unwrap().text().contains("I will not say"), "{path}");
        // A client that cannot be asked is not.
        let mute = world.client_at(path, "2025-06-18").await;
        let answer = within(mute.tool(tool, json!({}))).await.unwrap();
        assert_eq!(answer.code(), Some(-32600), "{path}: {answer:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_capability_that_a_client_lacks_is_a_bad_request_whatever_the_way_to_the_server() {
    let over_http = Plain::with(Eras::Modern).await.unwrap();
    let world = World::process(&[]).await;
    let command = json!({"program": stdio_server(), "args": ["--modern"]});
    world.register_as(&json!({"slug": "pipe", "transport": "stdio", "command": command})).await;
    world.register("http", &over_http.url()).await;
    over_http.script("ask", |_| Answer::Error(-32021, "Missing required client capability".into(), None));
    for path in ["/mcp/pipe", "/mcp/http"] {
        let params = json!({"name": "ask", "arguments": {"kind": "elicitation"}});
        let refused = within(world.client(path).call("tools/call", params)).await.unwrap();
        assert_eq!((refused.code(), refused.status.as_u16()), (Some(-32021), 400), "{path}: {refused:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_url_that_an_old_server_wants_visited_cannot_be_carried_to_a_client_without_a_session() {
    let (server, world) = (legacy().await, World::start().await);
    server.script("echo", |_| Answer::Error(-32042, "visit first".into(), Some(json!({"elicitations": []}))));
    world.register("it", &server.url()).await;
    let new = within(world.client("/mcp/it").tool("echo", json!({}))).await.unwrap();
    assert_eq!(new.code(), Some(-31011), "{new:?}");
    assert_eq!(new.response["error"]["data"]["kind"], "era", "{new:?}");
    let old = within(world.client_at("/mcp/it", "2025-11-25").await.tool("echo", json!({}))).await.unwrap();
    assert_eq!(old.code(), Some(-32042), "between ends of one era it passes: {old:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_question_too_many_is_declined_and_one_whose_call_has_ended_is_forgotten() {
    let server = legacy().await;
    let world = World::start().await;
    world.register("it", &server.url()).await;
    for (path, tool) in [("/mcp", "it__ask"), ("/mcp/it", "ask")] {
        let client = world.answering(path, "2025-11-25").await;
        let open = async || client.open("tools/call", json!({"name": tool, "arguments": {}})).await.unwrap();
        let mut unanswered = Vec::new();
        for _ in 0..64 {
            let (_, mut reply) = open().await;
            let question = within(reply.message()).await.unwrap().unwrap();
            assert_eq!(question["method"], "elicitation/create", "{path}: {question}");
            unanswered.push(reply);
        }
        for _ in 0..3 {
            let (id, reply) = open().await;
            let answer = within(reply.finish(&id)).await.unwrap();
            assert!(answer.text().contains("already wait for this client"), "{path}: {answer:?}");
        }
        // Their connections close, and with them the calls end in which was asked.
        drop(unanswered);
        crate::world::until(|| async {
            let (_, mut reply) = open().await;
            let said = within(reply.message()).await.unwrap().unwrap();
            (said["method"] == "elicitation/create").then_some(())
        })
        .await;
    }
}
