use std::time::Duration;

use anyhow::Context as _;
use serde_json::{Value, json};
use testkit::{
    client::Client,
    jsonrpc,
    process::{Process, Start, is_alive, wait_gone},
};
use tokio::io::AsyncWriteExt as _;

const STDIO: &str = env!("CARGO_BIN_EXE_stdio_server");

async fn say(process: &mut Process, line: &str) -> anyhow::Result<()> {
    process.stdin().context("standard input")?.write_all(format!("{line}\n").as_bytes()).await?;
    Ok(())
}

async fn call(process: &mut Process, id: &str, name: &str, arguments: Value) -> anyhow::Result<Value> {
    let params = json!({
        "name": name, "arguments": arguments, "_meta": jsonrpc::modern_meta(&json!({})),
    });
    say(process, &jsonrpc::request(id, "tools/call", &params)).await?;
    let line = process.line(&format!("\"id\":{id},")).await.context("an answer")?;
    Ok(serde_json::from_str(&line)?)
}

#[tokio::test]
async fn a_program_starts_with_what_it_is_given_and_ends_with_its_input() -> anyhow::Result<()> {
    let mut process = Start::new(STDIO).env("COLOUR", "green").start().await?;
    let told = call(&mut process, "1", "env", json!({})).await?;
    let told: Value = serde_json::from_str(told["result"]["content"][0]["text"].as_str().context("a text")?)?;
    assert_eq!(told["env"]["COLOUR"], "green");
    assert_eq!(told["pid"], process.pid());
    assert!(process.rss()? > 100_000 && process.peak_rss()? >= process.rss()?);
    assert!(process.open_files()? >= 3 && process.threads()? >= 1);
    assert!(process.cpu()? < Duration::from_secs(1));
    process.close_stdin();
    assert!(process.wait().await?.success());
    assert!(process.signal(rustix::process::Signal::TERM).is_err(), "its number may be somebody else's by now");
    Ok(())
}

#[tokio::test]
async fn no_descendant_survives_the_test() -> anyhow::Result<()> {
    let mut process = Start::new(STDIO).start().await?;
    let mut pids = Vec::new();
    for (id, kind) in [("1", "plain"), ("2", "ignore_term"), ("3", "setsid")] {
        let told = call(&mut process, id, "spawn_grandchild", json!({ "kind": kind })).await?;
        let pid: u32 = told["result"]["content"][0]["text"].as_str().context("a process id")?.parse()?;
        assert!(is_alive(pid));
        pids.push(pid);
    }
    let mut found = process.descendants();
    found.sort_unstable();
    pids.sort_unstable();
    assert_eq!(found, pids);
    drop(process);
    for pid in pids {
        assert!(wait_gone(pid, Duration::from_secs(5)).await, "{pid} is still there");
    }
    Ok(())
}

#[tokio::test]
async fn a_call_is_cancelled_and_a_crash_is_a_crash() -> anyhow::Result<()> {
    let mut process = Start::new(STDIO).arg("--chatter").ready("step 3").start().await?;
    let asleep = json!({
        "name": "sleep", "arguments": { "ms": 600_000 }, "_meta": jsonrpc::modern_meta(&json!({})),
    });
    say(&mut process, &jsonrpc::request("7", "tools/call", &asleep)).await?;
    say(&mut process, &jsonrpc::notification("notifications/cancelled", &json!({ "requestId": 7 }))).await?;
    let told = call(&mut process, "8", "stats", json!({})).await?;
    let told: Value = serde_json::from_str(told["result"]["content"][0]["text"].as_str().context("a text")?)?;
    assert_eq!(told["cancellations"], 1);
    assert!(!process.stdout().iter().any(|line| line.contains("awake")));
    let crash = json!({ "name": "crash", "arguments": { "code": 3 }, "_meta": jsonrpc::modern_meta(&json!({})) });
    say(&mut process, &jsonrpc::request("9", "tools/call", &crash)).await?;
    assert_eq!(process.wait().await?.code(), Some(3));
    assert_eq!(process.line("no such line").await, None, "its output has ended");
    Ok(())
}

#[tokio::test]
async fn a_program_that_is_never_ready_says_what_it_said() -> anyhow::Result<()> {
    let start =
        Start::new(STDIO).arg("--chatter").arg("--ignore-eof").ready("never").patience(Duration::from_millis(300));
    let error = start.start().await.err().context("an error")?.to_string();
    assert!(error.contains("never") && error.contains("starting up, step 1"), "{error}");
    Ok(())
}

#[tokio::test]
async fn the_bench_upstream_answers_in_both_forms() -> anyhow::Result<()> {
    for form in [&["--tools", "1000"][..], &["--tools", "1000", "--sse"]] {
        let server = Start::new(env!("CARGO_BIN_EXE_bench_upstream")).args(form).ready("listening on").start().await?;
        let client = Client::new(server.url().context("an address")?).keep_alive();
        assert_eq!(client.call("tools/list", json!({})).await?.result()["tools"].as_array().map(Vec::len), Some(1000));
        assert_eq!(client.tool("tool_1", json!({})).await?.text().len(), 100);
        assert_eq!(client.tool("echo", json!({ "message": "\"é" })).await?.text(), r#"{"message":"\"é"}"#);
        assert_eq!(client.call("nothing", json!({})).await?.code(), Some(-32601));
        let legacy = Client::new(server.url().context("an address")?);
        legacy.initialize("2025-06-18").await?;
        assert_eq!(legacy.version().as_deref(), Some("2025-06-18"));
    }
    Ok(())
}

#[tokio::test]
async fn the_fixture_serves_both_eras() -> anyhow::Result<()> {
    let mut server = Start::new(env!("CARGO_BIN_EXE_fixture")).ready("listening on").start().await?;
    let url = server.url().context("an address")?.to_owned();
    let modern = Client::new(&url);
    assert_eq!(modern.tool("test_simple_text", json!({})).await?.status, 200);
    let legacy = Client::new(&url);
    legacy.initialize("2025-11-25").await?;
    assert!(legacy.session().is_some());
    let foreign =
        legacy.send(legacy.request("5", "tools/list", json!({})).header("origin", "http://evil.example")).await?;
    assert_eq!(foreign.status, 403);
    assert!(server.is_running());
    assert!(!server.stop(Duration::from_secs(5)).await?.success(), "it is ended by the signal");
    Ok(())
}
