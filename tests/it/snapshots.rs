//! What others read and may have come to rely on, word for word: errors, metrics, settings, help. A change of any of it is seen
//! here first; `just accept` takes it over.

use std::fmt::Write as _;
use std::process::Command;

use axum::body::Body;
use http::Request;
use http_body_util::BodyExt as _;
use mcp_registry_gateway::router;
use serde_json::{Value, json};
use tower::ServiceExt as _;

use crate::store_databases::Database;
use crate::store_rest::{World, server};

#[tokio::test]
async fn problem_documents() {
    let database = Database::sqlite();
    let world = World::open(&database).await;
    world.call("POST /servers", server("files")).await.expect(201);
    let user = world.person("ada", "user", json!({"servers": "*"})).await;
    let mut text = String::new();
    for (key, call, body) in [
        ("", "GET /servers", Value::Null),
        ("mcpg_unknown", "GET /servers", Value::Null),
        (&user, "GET /users", Value::Null),
        (&user, "POST /servers", server("x")),
        (&world.admin, "GET /servers/none", Value::Null),
        (&world.admin, "GET /nothing", Value::Null),
        (&world.admin, "DELETE /me", Value::Null),
        (&world.admin, "POST /servers", server("files")),
        (&world.admin, "POST /servers", json!({"slug": "a", "replicas": [{"url": "ftp://a"}], "tags": []})),
        (&world.admin, "POST /servers", json!({"slug": "a", "sharing": "nobody"})),
        (&world.admin, "POST /apply", json!({"servers": [server("b"), {"slug": "c"}]})),
        (&user, "POST /apply", json!({"servers": [server("b")]})),
        (&world.admin, "PATCH /users/admin", json!({"role": "user"})),
    ] {
        let answer = world.with_key(key, call, body).await;
        let mut problem = answer.json();
        problem["request_id"] = "…".into();
        let _ = writeln!(text, "{call}\n{}\n", serde_json::to_string_pretty(&problem).unwrap());
    }
    insta::assert_snapshot!(text);
}

#[tokio::test]
async fn refusals_of_the_gateway() {
    let database = Database::sqlite();
    let world = World::open(&database).await;
    let router = router::routes(world.app.clone());
    let message = |method: &str, params: Value| {
        json!({"jsonrpc": "2.0", "id": 1, "method": method, "params": params}).to_string()
    };
    let modern = |version: &str| {
        json!({"name": "none__tool", "arguments": {}, "_meta": {
            "io.modelcontextprotocol/protocolVersion": version,
            "io.modelcontextprotocol/clientInfo": {"name": "t", "version": "1"},
            "io.modelcontextprotocol/clientCapabilities": {},
        }})
    };
    let mut text = String::new();
    for (what, path, headers, body) in [
        ("no JSON", "/mcp", vec![], "{".to_owned()),
        ("a member twice", "/mcp", vec![], r#"{"jsonrpc":"2.0","id":1,"id":2,"method":"ping"}"#.to_owned()),
        ("no message", "/mcp", vec![], "7".to_owned()),
        ("no such server", "/mcp/none", vec![], message("initialize", json!({}))),
        ("an unknown session", "/mcp", vec![("mcp-session-id", "none")], message("tools/list", json!({}))),
        ("no version", "/mcp", vec![], message("initialize", json!({}))),
        (
            "a version not spoken here",
            "/mcp",
            vec![("mcp-protocol-version", "2099-01-01"), ("mcp-method", "tools/call"), ("mcp-name", "none__tool")],
            message("tools/call", modern("2099-01-01")),
        ),
        (
            "an unknown tool",
            "/mcp",
            vec![("mcp-protocol-version", "2026-07-28"), ("mcp-method", "tools/call"), ("mcp-name", "none__tool")],
            message("tools/call", modern("2026-07-28")),
        ),
        (
            "headers that say something else",
            "/mcp",
            vec![("mcp-protocol-version", "2026-07-28"), ("mcp-method", "tools/list"), ("mcp-name", "none__tool")],
            message("tools/call", modern("2026-07-28")),
        ),
    ] {
        let mut request = Request::builder().method("POST").uri(path).header("content-type", "application/json");
        request = request.header("accept", "application/json, text/event-stream");
        request = request.header("authorization", format!("Bearer {}", world.admin));
        for (name, value) in headers {
            request = request.header(name, value);
        }
        let response = router.clone().oneshot(request.body(Body::from(body)).unwrap()).await.unwrap();
        let status = response.status();
        let bytes = response.into_body().collect().await.unwrap().to_bytes();
        let _ = writeln!(text, "{what}\n{status}\n{}\n", String::from_utf8_lossy(&bytes));
    }
    insta::assert_snapshot!(text);
}

#[test]
fn metrics() {
    // The list itself: what nobody has counted yet is not on the page.
    let source = include_str!("../../src/telemetry/metrics.rs");
    let list = source.split_once("\nlist! {").and_then(|(_, rest)| rest.split_once("\n}")).unwrap().0;
    let (mut text, mut help) = (String::new(), String::new());
    for line in list.lines().map(str::trim).filter(|line| !line.is_empty()) {
        if let Some(more) = line.strip_prefix("/// ") {
            help = format!("{help} {more}").trim().to_owned();
        } else {
            let (_, kind) = line.split_once(": ").unwrap();
            let (kind, name) = kind.split_once(" = \"").unwrap();
            let _ = writeln!(text, "{} {kind}\n  {}", name.split('"').next().unwrap(), std::mem::take(&mut help));
        }
    }
    insta::assert_snapshot!(text);
}

fn printed(args: &[&str]) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_mcp-gateway"))
        .args(args)
        .env_clear()
        .current_dir(std::env::temp_dir())
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn settings() {
    let all: Value = serde_json::from_str(&printed(&["config", "--json"])).unwrap();
    let mut text = String::new();
    for one in all["settings"].as_array().unwrap() {
        let said = |name: &str| one[name].as_str().unwrap_or("-").to_owned();
        let _ = writeln!(text, "{} {} {} = {}", said("variable"), said("flag"), said("unit"), said("default"));
        let _ = writeln!(text, "  {}", said("help"));
    }
    insta::assert_snapshot!(text);
}

#[test]
fn help() {
    insta::assert_snapshot!(printed(&["--help"]));
}

#[test]
fn help_of_apply() {
    insta::assert_snapshot!(printed(&["apply", "--help"]));
}
