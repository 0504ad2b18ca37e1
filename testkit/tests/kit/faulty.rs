use std::time::Duration;

use anyhow::Context as _;
use serde_json::json;
use testkit::{
    client::{Client, Outcome},
    upstream::{Fault, Faulty},
};

async fn under(fault: Fault) -> anyhow::Result<Outcome> {
    let server = Faulty::start().await?;
    let client = Client::new(&server.url());
    assert_eq!(client.tool("echo", json!({})).await?.status, 200);
    server.fail_times("tools/call", 1, fault);
    let call = tokio::time::timeout(Duration::from_secs(2), client.tool("echo", json!({}))).await;
    assert_eq!(client.tool("echo", json!({})).await?.status, 200, "it works again");
    call.context("no answer")?
}

#[tokio::test]
async fn some_faults_are_no_answer() -> anyhow::Result<()> {
    for fault in [
        Fault::DieMidStream,
        Fault::Reset,
        Fault::Close,
        Fault::ShortBody,
        Fault::Garbage,
        Fault::Html,
        Fault::HalfUtf8,
        Fault::Status(503),
        Fault::Hang,
        Fault::HangAfterHead,
    ] {
        let outcome = under(fault.clone()).await;
        assert!(outcome.is_err(), "{fault:?}: {outcome:?}");
    }
    Ok(())
}

#[tokio::test]
async fn some_faults_are_a_wrong_answer() -> anyhow::Result<()> {
    assert!(under(Fault::WrongId).await?.response.is_null());
    assert!(under(Fault::Empty).await?.response.is_null());
    assert!(under(Fault::EndWithoutAnswer(3)).await?.response.is_null());
    assert!(under(Fault::NotJsonRpc).await?.result().is_null());
    assert!(under(Fault::TwoResponses).await?.result().is_object());
    assert!(under(Fault::CloseIdle).await?.result().is_object());
    assert_eq!(under(Fault::UnknownType).await?.headers["content-type"], "application/vnd.unknown");
    assert!(under(Fault::SlowDrip(Duration::from_micros(10))).await?.result().is_object());
    assert_eq!(under(Fault::TooMany(7)).await.err().map(|_| ()), Some(()));
    Ok(())
}

#[tokio::test]
async fn a_reset_is_a_reset() -> anyhow::Result<()> {
    let server = Faulty::start().await?;
    server.fail(Fault::Reset);
    let error = Client::new(&server.url()).tool("echo", json!({})).await.err().context("a reset")?;
    assert!(format!("{error:?}").to_lowercase().contains("reset"), "{error:?}");
    Ok(())
}

#[tokio::test]
async fn an_idle_connection_is_closed_unannounced() -> anyhow::Result<()> {
    let server = Faulty::start().await?;
    server.fail(Fault::CloseIdle);
    let outcome = Client::new(&server.url()).keep_alive().tool("echo", json!({})).await?;
    assert!(outcome.headers.get("connection").is_none());
    assert!(server.host().wait_open(0).await);
    Ok(())
}

#[tokio::test]
async fn a_flood_is_as_long_as_it_is_told_to_be() -> anyhow::Result<()> {
    let server = Faulty::start().await?;
    server.fail_on("tools/call", Fault::Huge(100 << 20));
    let client = Client::new(&server.url());
    let (_, mut reply) = client.open("tools/call", json!({ "name": "echo" })).await?;
    let mut length = 0;
    while let Some(piece) = reply.piece().await? {
        length += piece.len();
    }
    assert!((100 << 20..(100 << 20) + 200).contains(&length));
    Ok(())
}
