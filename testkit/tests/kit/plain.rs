use anyhow::Context as _;
use serde_json::{Value, json};
use testkit::{
    client::{Client, Request},
    upstream::{Answer, Cancelled, Eras, How, Plain, ReplyForm, filler},
};

#[tokio::test]
async fn a_modern_call_is_answered_in_json_or_as_events() -> anyhow::Result<()> {
    let server = Plain::start().await?;
    let client = Client::new(&server.url());
    for form in [ReplyForm::Auto, ReplyForm::Json, ReplyForm::Sse] {
        server.reply(form);
        let outcome = client.tool("echo", json!({ "message": "é" })).await?;
        assert_eq!(outcome.status, 200);
        assert_eq!(outcome.result()["structuredContent"], json!({ "message": "é" }));
        assert_eq!(outcome.result()["resultType"], "complete");
        let kind = outcome.headers["content-type"].to_str()?;
        assert_eq!(kind, if form == ReplyForm::Sse { "text/event-stream" } else { "application/json" });
    }
    let recorded = server.calls("echo");
    assert_eq!(recorded.len(), 3);
    assert_eq!(recorded[0].header("mcp-name"), "echo");
    Ok(())
}

#[tokio::test]
async fn what_precedes_an_answer_makes_it_a_stream() -> anyhow::Result<()> {
    let server = Plain::start().await?;
    let client = Client::new(&server.url());
    let asked = json!({ "name": "progress", "arguments": { "steps": 4 }, "_meta": { "progressToken": "t" } });
    let outcome = client.call("tools/call", asked).await?;
    assert_eq!(outcome.headers["content-type"], "text/event-stream");
    let steps: Vec<_> = outcome.before.iter().map(|step| step["params"]["progress"].as_u64()).collect();
    assert_eq!(steps, [Some(1), Some(2), Some(3), Some(4)]);
    assert_eq!(outcome.text(), "done");
    Ok(())
}

#[tokio::test]
async fn a_legacy_session_lives_and_ends() -> anyhow::Result<()> {
    let server = Plain::with(Eras::Legacy("2025-06-18".to_owned())).await?;
    let client = Client::new(&server.url());
    assert_eq!(client.call("server/discover", json!({})).await?.status, 400, "a modern client is refused");
    client.initialize("2025-11-25").await?;
    assert_eq!(client.version().as_deref(), Some("2025-06-18"));
    assert_eq!(server.session_ids(), [client.session().context("a session")?]);
    assert_eq!(client.tool("echo", json!({})).await?.result()["resultType"], Value::Null);
    assert_eq!(client.end().await?, 204);
    assert_eq!(client.tool("echo", json!({})).await?.status, 404);
    client.set_session(None);
    assert_eq!(client.tool("echo", json!({})).await?.status, 400);
    Ok(())
}

#[tokio::test]
async fn a_modern_server_knows_no_sessions() -> anyhow::Result<()> {
    let server = Plain::with(Eras::Modern).await?;
    let client = Client::new(&server.url());
    assert!(client.initialize("2025-11-25").await.is_err());
    assert_eq!(client.listen(None).await?.status, 405);
    let found = client.call("server/discover", json!({})).await?;
    assert_eq!(found.result()["supportedVersions"], json!(["2026-07-28"]));
    assert_eq!(client.call("ping", json!({})).await?.status, 404);
    Ok(())
}

#[tokio::test]
async fn headers_that_do_not_fit_are_refused() -> anyhow::Result<()> {
    let server = Plain::start().await?;
    let client = Client::new(&server.url());
    let good = || client.request("1", "tools/call", json!({ "name": "echo", "arguments": {} }));
    for bad in [
        good().header("mcp-method", "tools/list"),
        good().header("mcp-name", "other"),
        good().without("mcp-name"),
        good().without("mcp-method"),
        good().header("mcp-protocol-version", "2025-11-25"),
        good().header("mcp-name", "=?base64?ZWNoby?="),
    ] {
        let outcome = client.send(bad).await?.finish("1").await?;
        assert_eq!((outcome.status.as_u16(), outcome.code()), (400, Some(-32020)));
    }
    let encoded = client.send(good().header("mcp-name", "=?base64?ZWNobw==?=")).await?.finish("1").await?;
    assert_eq!(encoded.status, 200);
    Ok(())
}

#[tokio::test]
async fn bytes_go_out_as_they_are_written() -> anyhow::Result<()> {
    let server = Plain::start().await?;
    let client = Client::new(&server.url());
    let body = r#"{"jsonrpc":"2.0","id":1,"id":2,"method":"ping"}"#;
    let refused = client.send(Request::post(body)).await?;
    assert_eq!(refused.status, 400);
    let recorded = server.host().requests();
    assert_eq!(recorded[0].body, body);
    let raw = client.raw(b"NONSENSE\r\n\r\n", std::time::Duration::from_millis(300)).await?;
    assert!(raw.starts_with(b"HTTP/1.1 400"), "{}", String::from_utf8_lossy(&raw));
    Ok(())
}

#[tokio::test]
async fn a_modern_call_is_cancelled_by_going_away() -> anyhow::Result<()> {
    let server = Plain::start().await?;
    server.reply(ReplyForm::Sse);
    let client = Client::new(&server.url());
    let (id, reply) = client.open("tools/call", json!({ "name": "gate" })).await?;
    assert!(server.wait_in_flight(1).await);
    drop(reply);
    let tool = Some("gate".to_owned());
    assert_eq!(server.wait_cancelled().await, Some(Cancelled { id, tool, how: How::Disconnect }));
    assert!(server.wait_in_flight(0).await);
    Ok(())
}

#[tokio::test]
async fn a_legacy_call_is_cancelled_by_a_notification_alone() -> anyhow::Result<()> {
    let server = Plain::start().await?;
    server.reply(ReplyForm::Sse);
    let client = Client::new(&server.url());
    client.initialize("2025-11-25").await?;
    let (id, reply) = client.open("tools/call", json!({ "name": "gate" })).await?;
    assert!(server.wait_in_flight(1).await);
    drop(reply);
    let asked = json!({ "requestId": serde_json::from_str::<Value>(&id)? });
    assert_eq!(server.in_flight(), 1);
    assert_eq!(client.notify("notifications/cancelled", asked).await?, 202);
    let tool = Some("gate".to_owned());
    assert_eq!(server.wait_cancelled().await, Some(Cancelled { id, tool, how: How::Notification }));
    assert!(server.wait_in_flight(0).await);
    Ok(())
}

#[tokio::test]
async fn changes_reach_those_who_asked() -> anyhow::Result<()> {
    let server = Plain::start().await?;
    let legacy = Client::new(&server.url());
    legacy.initialize("2025-06-18").await?;
    let mut stream = legacy.listen(None).await?;
    let modern = Client::new(&server.url());
    let wants = json!({ "promptsListChanged": true, "resourceSubscriptions": ["stand-in://note"] });
    let (id, mut subscription) = modern.subscribe(wants).await?;
    let first = subscription.message().await?.context("an acknowledgement")?;
    assert_eq!(first["method"], "notifications/subscriptions/acknowledged");
    assert!(server.wait_listeners(2).await);

    server.set(|settings| settings.tools.truncate(1));
    assert_eq!(server.tools_changed(), 1, "the subscription did not ask for this");
    assert_eq!(server.prompts_changed(), 2);
    assert_eq!(server.resource_changed("stand-in://note"), 1, "the session has not subscribed to it");
    let told = stream.message().await?.context("a change")?;
    assert_eq!(told["method"], "notifications/tools/list_changed");
    let told = subscription.message().await?.context("a change")?;
    assert_eq!(told["method"], "notifications/prompts/list_changed");
    assert_eq!(told["params"]["_meta"]["io.modelcontextprotocol/subscriptionId"].to_string(), id);
    let told = subscription.message().await?.context("a change")?;
    assert_eq!(told["params"]["uri"], "stand-in://note");

    legacy.call("resources/subscribe", json!({ "uri": "stand-in://note" })).await?;
    assert_eq!(server.resource_changed("stand-in://note"), 2);
    server.close_subscriptions();
    subscription.message().await?;
    assert_eq!(subscription.message().await?.context("an end")?["result"]["resultType"], "complete");
    Ok(())
}

#[tokio::test]
async fn a_question_is_asked_in_the_way_of_the_era() -> anyhow::Result<()> {
    let server = Plain::start().await?;
    let answer = json!({ "action": "accept", "content": { "name": "Ada" } });

    let legacy = Client::new(&server.url()).capabilities(json!({ "elicitation": {} }));
    legacy.initialize("2025-11-25").await?;
    let (id, mut reply) = legacy.open("tools/call", json!({ "name": "ask", "arguments": {} })).await?;
    let question = reply.message().await?.context("a question")?;
    assert_eq!(question["method"], "elicitation/create");
    assert_eq!(legacy.respond(&question, &answer).await?, 202);
    assert!(reply.finish(&id).await?.text().contains("Ada"));

    let modern = Client::new(&server.url());
    assert_eq!(modern.tool("ask", json!({})).await?.code(), Some(-32021));
    let modern = modern.capabilities(json!({ "elicitation": {} }));
    let pending = modern.tool("ask", json!({})).await?;
    assert_eq!(pending.result()["resultType"], "input_required");
    let again = json!({
        "name": "ask", "arguments": {}, "inputResponses": { "question": answer },
        "requestState": pending.result()["requestState"],
    });
    assert!(modern.call("tools/call", again).await?.text().contains("Ada"));
    Ok(())
}

#[tokio::test]
async fn a_long_answer_is_written_no_faster_than_it_is_read() -> anyhow::Result<()> {
    const LENGTH: usize = 32 * 1024 * 1024;
    let server = Plain::start().await?;
    let client = Client::new(&server.url());
    for form in [ReplyForm::Json, ReplyForm::Sse] {
        server.reply(form);
        let before = server.sent();
        let (id, mut reply) =
            client.open("tools/call", json!({ "name": "big", "arguments": { "bytes": LENGTH } })).await?;
        let _first = reply.event().await.ok();
        drop(reply);
        let (other, reply) =
            client.open("tools/call", json!({ "name": "big", "arguments": { "bytes": 100_000 } })).await?;
        assert_eq!(reply.finish(&other).await?.text(), filler(100_000));
        assert!(server.sent() - before > 100_000);
        let _ = id;
    }
    let stalled = Plain::start().await?;
    let client = Client::new(&stalled.url());
    let (_, _unread) = client.open("tools/call", json!({ "name": "big", "arguments": { "bytes": LENGTH } })).await?;
    let (_, second) = client.open("tools/call", json!({ "name": "echo" })).await?;
    assert_eq!(second.status, 200);
    assert!(stalled.sent() < LENGTH as u64, "{} bytes went into the void", stalled.sent());
    Ok(())
}

#[tokio::test]
async fn a_closed_stream_is_resumed() -> anyhow::Result<()> {
    let server = Plain::start().await?;
    let client = Client::new(&server.url());
    client.initialize("2025-11-25").await?;
    let (id, mut reply) = client.open("tools/call", json!({ "name": "reconnect" })).await?;
    let event = reply.event().await?.context("a first event")?;
    assert_eq!(event.data, "");
    assert_eq!(reply.event().await?, None);
    let resumed = client.listen(event.id.as_deref()).await?;
    assert_eq!(resumed.finish(&id).await?.text(), "resumed");
    Ok(())
}

#[tokio::test]
async fn a_script_answers_byte_for_byte() -> anyhow::Result<()> {
    let server = Plain::start().await?;
    let odd = r#"{"content":[],"big":18446744073709551615,"float":1.0,"twice":1,"twice":2}"#;
    server.script("odd", move |_| Answer::Result(odd.to_owned()));
    let client = Client::new(&server.url());
    let (_, reply) = client.open("tools/call", json!({ "name": "odd" })).await?;
    assert!(reply.text().await?.contains(odd));
    server.script("no", |call| Answer::Error(7, "no".into(), Some(call.params["name"].clone())));
    let refused = client.tool("no", json!({})).await?;
    assert_eq!(refused.response["error"], json!({ "code": 7, "message": "no", "data": "no" }));
    Ok(())
}

#[tokio::test]
async fn lists_have_pages_and_tokens_are_wanted() -> anyhow::Result<()> {
    let server = Plain::start().await?;
    server.bearer("secret").set(|settings| settings.page = Some(4));
    let client = Client::new(&server.url());
    assert_eq!(client.call("tools/list", json!({})).await.err().map(|_| 401), Some(401));
    let client = client.bearer("secret").keep_alive();
    let (mut names, mut cursor) = (Vec::new(), json!({}));
    loop {
        let page = client.call("tools/list", cursor).await?;
        names.extend(page.result()["tools"].as_array().context("tools")?.iter().map(|tool| tool["name"].clone()));
        let Some(next) = page.result()["nextCursor"].as_str() else { break };
        cursor = json!({ "cursor": next });
    }
    assert_eq!(names.len(), 10);
    assert_eq!(server.host().accepted(), 2, "all pages came over one connection");
    Ok(())
}

#[tokio::test]
async fn a_server_that_is_dropped_is_gone() -> anyhow::Result<()> {
    let server = Plain::start().await?;
    let (client, port) = (Client::new(&server.url()), server.host().address().port());
    let (_, mut reply) = client.subscribe(json!({ "toolsListChanged": true })).await?;
    reply.message().await?;
    drop(server);
    assert!(!matches!(reply.message().await, Ok(Some(_))));
    assert!(client.tool("echo", json!({})).await.is_err());
    let _again = Plain::on(Eras::Dual, port).await?;
    assert_eq!(client.tool("echo", json!({})).await?.status, 200);
    Ok(())
}
