use anyhow::Context as _;
use serde_json::{Value, json};
use testkit::{
    client::{Client, Reply, Request},
    jsonrpc,
    upstream::LegacySse,
};

async fn opened(server: &LegacySse) -> anyhow::Result<(Client, Reply, String)> {
    let client = Client::new(&server.url());
    let mut stream = client.send(Request::get()).await?;
    let first = stream.event().await?.context("an endpoint")?;
    assert_eq!(first.event, "endpoint");
    Ok((client, stream, first.data))
}

async fn post(client: &Client, endpoint: &str, body: String) -> anyhow::Result<()> {
    assert_eq!(client.send(Request::post(body).path(endpoint)).await?.status, 202);
    Ok(())
}

#[tokio::test]
async fn all_answers_come_over_the_stream() -> anyhow::Result<()> {
    let server = LegacySse::start().await?;
    let (client, mut stream, endpoint) = opened(&server).await?;
    let hello = json!({ "protocolVersion": "2024-11-05", "capabilities": { "sampling": {} }, "clientInfo": {} });
    post(&client, &endpoint, jsonrpc::request("0", "initialize", &hello)).await?;
    let shaken = stream.message().await?.context("a handshake")?;
    assert_eq!(shaken["result"]["protocolVersion"], "2024-11-05");
    post(&client, &endpoint, jsonrpc::notification("notifications/initialized", &json!({}))).await?;

    let call = json!({ "name": "ask", "arguments": { "kind": "sampling" } });
    post(&client, &endpoint, jsonrpc::request("\"a\"", "tools/call", &call)).await?;
    let question = stream.message().await?.context("a question")?;
    assert_eq!(question["method"], "sampling/createMessage");
    let answer = json!({ "role": "assistant", "content": { "type": "text", "text": "Paris" }, "model": "m" });
    post(&client, &endpoint, jsonrpc::result(&question["id"].to_string(), &answer.to_string())).await?;
    let answered: Value = stream.message().await?.context("an answer")?;
    assert_eq!(answered["id"], "a");
    assert!(answered["result"]["content"][0]["text"].as_str().is_some_and(|text| text.contains("Paris")));

    assert_eq!(server.tools_changed(), 1);
    assert_eq!(stream.message().await?.context("a change")?["method"], "notifications/tools/list_changed");
    drop(stream);
    assert!(server.wait_streams(0).await);
    assert_eq!(client.send(Request::post("{}").path(&endpoint)).await?.status, 404);
    Ok(())
}

#[tokio::test]
async fn a_stream_that_is_cut_breaks_off_and_its_posts_are_answered() -> anyhow::Result<()> {
    let server = LegacySse::start().await?;
    let (client, mut stream, endpoint) = opened(&server).await?;
    post(&client, &endpoint, jsonrpc::request("0", "initialize", &json!({ "protocolVersion": "2024-11-05" }))).await?;
    assert!(stream.message().await?.is_some());
    let call = jsonrpc::request("1", "tools/call", &json!({ "name": "gate", "arguments": {} }));
    let cut = async {
        assert!(server.wait_running("gate", 1).await);
        server.cut_streams();
    };
    let (taken, ()) = tokio::join!(post(&client, &endpoint, call), cut);
    taken?;
    assert!(stream.message().await.is_err(), "it broke off, and did not end");
    assert!(server.wait_streams(0).await);
    Ok(())
}
