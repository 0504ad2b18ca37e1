//! What goes through one child: many sessions, progress, questions of the server, cancellation, floods.

use std::time::Duration;

use mcp_registry_gateway::fault::{Kind, Retry};
use mcp_registry_gateway::upstream::mux::{Event, Limits, Origin};
use mcp_registry_gateway::upstream::stdio::Settings;
use serde_json::{Value, json};

use crate::world::{
    ADA, BOB, call, event, fault, key, launch, nothing_left, response, settings, until, value, world, world_with,
};

#[tokio::test]
async fn sessions_with_equal_ids_share_one_process() {
    let world = world();
    let link = world.get(&key(), world.python()).await.unwrap();
    assert_eq!(link.handshake, "shaken");
    let mut calls = Vec::new();
    for session in 0..50 {
        let origin = Origin { session, answers: true };
        calls.push((session, call(&link.mux, json!({"name": "echo", "of": session}), origin).await));
    }
    for (session, mut call) in calls {
        let answer = response(&mut call).await;
        assert_eq!((&answer["id"], &answer["result"]["echo"]["of"]), (&json!(1), &json!(session)));
    }
    assert_eq!((link.mux.in_flight(), world.pool.running()), (0, 1));
    world.end().await;
}

#[tokio::test]
async fn progress_comes_before_the_answer_with_the_clients_token() {
    let world = world();
    let link = world.get(&key(), world.python()).await.unwrap();
    let mut asked = call(&link.mux, json!({"name": "progress", "_meta": {"progressToken": "mine"}}), ADA).await;
    for step in 0..3 {
        let told = value(&event(&mut asked).await);
        assert_eq!(told["params"], json!({"progressToken": "mine", "progress": step}));
    }
    assert_eq!(response(&mut asked).await["result"], json!({"steps": 3}));
    world.end().await;
}

#[tokio::test]
async fn a_servers_question_reaches_its_session_and_nobody_when_two_are_at_work() {
    let world = world();
    let link = world.get(&key(), world.python()).await.unwrap();
    let mut asked = call(&link.mux, json!({"name": "ask"}), ADA).await;
    let question = event(&mut asked).await;
    let Event::Request { token, .. } = question else { panic!("a request") };
    let asks = value(&question);
    assert_eq!((&asks["id"], &asks["method"]), (&json!(format!("mcpg-{token}")), &json!("roots/list")));
    let reply = json!({"jsonrpc": "2.0", "id": asks["id"], "result": {"roots": []}}).to_string();
    link.mux.reply(token, reply.into()).await.unwrap();
    assert_eq!(response(&mut asked).await["result"]["heard"], json!({"roots": []}));

    let _bob = call(&link.mux, json!({"name": "gate"}), BOB).await;
    let mut asked = call(&link.mux, json!({"name": "ask"}), ADA).await;
    let answer = response(&mut asked).await;
    assert_eq!(answer["result"]["heard"]["code"], -32603, "the question went to nobody: {answer}");
    world.end().await;
}

#[tokio::test]
async fn a_dropped_call_is_cancelled_at_the_server() {
    let world = world();
    let key = key();
    let link = world.get(&key, world.python()).await.unwrap();
    drop(call(&link.mux, json!({"name": "gate"}), ADA).await);
    until("the server hears of it", || world.status(&key).stderr == ["cancelled 1"]).await;
    assert_eq!(link.mux.in_flight(), 0);
    world.end().await;
}

#[tokio::test]
async fn a_child_gets_the_declared_environment_and_little_else() {
    let world = world();
    let mut launch = world.python();
    launch.cwd = Some("/".into());
    let link = world.get(&key(), launch).await.unwrap();
    let answer = response(&mut call(&link.mux, json!({"name": "environment"}), ADA).await).await;
    assert_eq!(answer["result"]["cwd"], "/");
    let names: Vec<&str> = answer["result"]["names"].as_array().unwrap().iter().filter_map(Value::as_str).collect();
    assert!(names.contains(&"TEST_MARK") && names.contains(&"PATH"), "{names:?}");
    // What runs this test has set many of these; a launcher of Python in PATH may add names of its own.
    assert!(std::env::var_os("CARGO_MANIFEST_DIR").is_some());
    assert!(!names.iter().any(|name| name.starts_with("CARGO")), "{names:?}");
    world.end().await;
}

#[tokio::test]
async fn a_line_past_the_cap_ends_the_child_with_a_reason() {
    let world = world_with(Settings { line_bytes: 100_000, ..settings() });
    let link = world.get(&key(), world.python()).await.unwrap();
    let mut long = call(&link.mux, json!({"name": "long", "bytes": 200_000}), ADA).await;
    let refused = fault(&mut long).await;
    assert_eq!((refused.kind, refused.retry), (Kind::TooLarge, Retry::MaybeSent));
    nothing_left(&world.mark).await;
    world.end().await;
}

/// Resident memory of this process in bytes.
fn resident() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<usize>().unwrap() * 1024
}

#[tokio::test]
async fn floods_are_held_back_and_memory_stays_bounded() {
    let mux = Limits { queued_bytes: 1 << 20, patience: Duration::from_mins(1), ..Limits::default() };
    let world = world_with(Settings { mux, ..settings() });
    let yes = world.get(&key(), launch(&world.mark, "yes", &[])).await.unwrap();
    let link = world.get(&key(), world.python()).await.unwrap();
    let before = resident();
    // 90 MB for a caller who does not take them: the server is held back …
    let params = json!({"name": "flood", "lines": 1500, "_meta": {"progressToken": 1}});
    let mut flood = call(&link.mux, params, ADA).await;
    until("garbage arrives", || yes.mux.garbage() > 2_000).await;
    let while_held = resident();
    // … and nothing is lost once it is read.
    let mut lines = 0;
    while let Event::Notification(_) = event(&mut flood).await {
        lines += 1;
    }
    assert_eq!(lines, 1500);
    let grown = resident().max(while_held).saturating_sub(before);
    assert!(grown < 48 << 20, "grew by {} MiB", grown >> 20);
    world.end().await;
}
