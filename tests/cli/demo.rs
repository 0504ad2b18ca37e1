//! `demo`, the first thing that anybody runs.

use rustix::process::Signal;
use serde_json::{Value, json};
use testkit::process::{Process, Start};

use crate::real::{PATIENCE, start};
use crate::{BINARY, Folder, run};

/// Starts it until it has shown everything.
async fn shown(folder: &Folder, more: &[&str]) -> Process {
    let args = [&["demo", "--port=0"], more].concat();
    Start::new(BINARY).args(args).folder(&**folder).ready("Ctrl-C").start().await.unwrap()
}

fn key(process: &Process) -> String {
    let lines = process.stdout();
    let at = lines.iter().position(|line| line.starts_with("The sign-in key")).unwrap();
    lines[at + 1].trim().to_owned()
}

#[tokio::test]
async fn the_demo_calls_once_shows_what_to_paste_and_ends_when_told() {
    let folder = Folder::default();
    let mut demo = shown(&folder, &[]).await;
    let (first, said) = (key(&demo), demo.stdout().join("\n"));
    let url = folder.read("data/demo/cli.json")["gateway"].as_str().unwrap().to_owned();
    assert!(said.contains("\"sample__add\"") && said.contains("\"text\": \"42\""), "{said}");
    assert!(said.contains(&format!("claude mcp add --transport http gateway {url}/mcp --header")), "{said}");
    assert_eq!(
        said.matches(&format!("\"Authorization\": \"Bearer {first}\"")).count(),
        2,
        "VS Code and Cursor: {said}"
    );

    // The commands that it shows work where they are said to.
    let line = said.lines().find(|line| line.contains("servers call sample now")).unwrap();
    assert_eq!(line.trim(), "MREG_DATA_DIR=./data/demo mcp-gateway servers call sample now");
    let beside = [("MREG_DATA_DIR", "./data/demo")];
    run(&folder, &["servers", "call", "sample", "now"], &beside, "").await.expect(0);
    assert!(!folder.join("data/gateway.sqlite").exists(), "the data folder of `serve` is left alone");

    demo.signal(Signal::TERM).unwrap();
    assert!(demo.wait().await.unwrap().success());
    let mut again = shown(&folder, &[]).await;
    assert_eq!(key(&again), first, "the second run is as the first");
    again.stop(PATIENCE).await.unwrap();

    // Somebody moved the key away: the demo makes one of its own, and the next run ends the one before.
    let mut keys = Vec::new();
    for _ in 0..2 {
        std::fs::remove_file(folder.join("data/demo/cli.json")).unwrap();
        let mut demo = shown(&folder, &[]).await;
        assert!(demo.stdout().join("\n").contains("\"text\": \"42\""), "{}", demo.said());
        keys.push(key(&demo));
        demo.stop(PATIENCE).await.unwrap();
    }
    let mut demo = shown(&folder, &[]).await;
    let codes =
        [&first, &keys[0], &keys[1]].map(|key| {
            let (folder, key) = (&folder, key.clone());
            async move {
                run(folder, &["status"], &[("MREG_API_KEY", &key), ("MREG_DATA_DIR", "./data/demo")], "").await.code
            }
        });
    assert_eq!(futures_util::future::join_all(codes).await, [0, 1, 0]);
    demo.stop(PATIENCE).await.unwrap();
}

#[tokio::test]
async fn a_server_that_somebody_called_sample_is_not_touched() {
    let folder = Folder::default();
    let mut gateway = start(&folder, &["serve", "--port=0"]).await;
    run(&folder, &["servers", "add", "sample", "--title", "Mine", "--", BINARY, "sample-server"], &[], "")
        .await
        .expect(0);
    let before = run(&folder, &["servers", "show", "sample", "--json"], &[], "").await.expect(0).json();
    gateway.stop(PATIENCE).await.unwrap();

    for _ in 0..2 {
        let mut demo = shown(&folder, &["--data-dir=data"]).await;
        assert!(demo.stdout().join("\n").contains("\"sample-2__add\""), "{}", demo.said());
        let after = run(&folder, &["servers", "show", "sample", "--json"], &[], "").await.expect(0).json();
        assert_eq!((&after["title"], &after["revision"]), (&json!("Mine"), &before["revision"]));
        let list = run(&folder, &["servers", "list", "--json"], &[], "").await.expect(0).json();
        assert_eq!(list["items"].as_array().unwrap().len(), 2, "{list}");
        demo.stop(PATIENCE).await.unwrap();
    }
}

#[tokio::test]
async fn a_program_that_runs_the_demo_reads_json_alone() {
    let folder = Folder::default();
    let args = ["demo", "--port=0", "--json"];
    let mut demo = Start::new(BINARY).args(args).folder(&*folder).ready("claude_code").start().await.unwrap();
    let lines: Vec<Value> = demo.stdout().iter().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines.len(), 1);
    assert_eq!(lines[0]["call"]["result"]["structuredContent"], json!({"sum": 42}));
    assert_eq!(lines[0]["clients"]["cursor"]["mcpServers"]["gateway"]["url"], lines[0]["mcp"]);
    demo.stop(PATIENCE).await.unwrap();
}

#[tokio::test]
async fn a_taken_port_is_told_and_nothing_is_made() {
    let folder = Folder::default();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = format!("--port={}", taken.local_addr().unwrap().port());
    let refused = run(&folder, &["demo", &port, "--json"], &[], "").await.expect(1);
    assert!(refused.err.contains("Choose a port with --port"), "{}", refused.err);
    assert!(refused.json()["error"]["message"].as_str().unwrap().contains("cannot listen on"));
    assert!(!folder.join("data").exists());
}
