//! The command line as people and scripts run it: the binary itself, against a small stand-in that answers as the REST API
//! and the MCP endpoint do. Every test has its own stand-in and its own folder.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test stops with a message")]
#![allow(missing_docs, reason = "a test binary")]

use std::collections::HashMap;
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::Bytes;
use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, Method, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use axum::routing::any;
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;

const KEY: &str = "mcpg_test";

/// What the stand-in holds and what it was asked.
#[derive(Default)]
struct World {
    servers: Vec<Value>,
    asked: Vec<(String, Value)>,
}

type Shared = Arc<Mutex<World>>;

fn problem(status: u16, code: &str, title: &str) -> Response {
    let body = json!({"type": "about:blank", "title": title, "status": status, "code": code, "request_id": "r-1"});
    let kind = [("content-type", "application/problem+json")];
    (StatusCode::from_u16(status).unwrap(), kind, body.to_string()).into_response()
}

fn answer(value: &Value) -> Response {
    let tag = format!("\"{}\"", value["revision"]);
    ([("content-type", "application/json"), ("etag", tag.as_str())], value.to_string()).into_response()
}

fn signed_in(headers: &HeaderMap) -> bool {
    headers.get("authorization").is_some_and(|value| value == &format!("Bearer {KEY}"))
}

/// RFC 7396.
fn merge(target: &mut Value, patch: &Value) {
    let Value::Object(patch) = patch else {
        *target = patch.clone();
        return;
    };
    if !target.is_object() {
        *target = json!({});
    }
    for (name, value) in patch {
        if value.is_null() {
            target.as_object_mut().unwrap().remove(name);
        } else {
            merge(&mut target[name.as_str()], value);
        }
    }
}

/// A server as the API shows it: secrets masked, status added. The true secrets stay in what is held.
fn view(held: &Value) -> Value {
    let mut view = held.clone();
    for field in ["headers", "env"] {
        for value in view[field].as_object_mut().into_iter().flat_map(|map| map.values_mut()) {
            *value = "***".into();
        }
        if view[field].is_null() {
            view[field] = json!({});
        }
    }
    let state = if held["enabled"] == false { "disabled" } else { "ready" };
    view["status"] = json!({"state": state, "version": "2026-07-28", "tools": 2, "resources": 0, "prompts": 0});
    view
}

async fn api(
    State(world): State<Shared>,
    method: Method,
    uri: Uri,
    Query(query): Query<HashMap<String, String>>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let mut world = world.lock().unwrap();
    let value: Value = serde_json::from_slice(&body).unwrap_or(Value::Null);
    world.asked.push((format!("{method} {}", uri.path()), value.clone()));
    if !signed_in(&headers) {
        return problem(401, "UNAUTHENTICATED", "A key is needed");
    }
    let path: Vec<&str> = uri.path().trim_start_matches("/api/v1/").split('/').collect();
    match (method.as_str(), &path[..]) {
        ("GET", ["me"]) => answer(&json!({"name": "ada", "role": "admin"})),
        ("GET", ["servers"]) => {
            // Pages of two, so that every longer list takes more than one.
            let from: usize = query.get("cursor").map_or(0, |cursor| cursor.parse().unwrap());
            let items: Vec<Value> = world.servers.iter().skip(from).take(2).map(view).collect();
            let next = (from + 2 < world.servers.len()).then(|| (from + 2).to_string());
            answer(&json!({"items": items, "next_cursor": next}))
        }
        ("POST", ["servers"]) => {
            if world.servers.iter().any(|server| server["slug"] == value["slug"]) {
                return problem(409, "SLUG_TAKEN", "There is a server of this name");
            }
            let mut held = value;
            held["revision"] = 1.into();
            world.servers.push(held.clone());
            (StatusCode::CREATED, answer(&view(&held))).into_response()
        }
        (verb, ["servers", slug, rest @ ..]) => match world.servers.iter().position(|server| server["slug"] == *slug) {
            Some(index) => one(&mut world.servers, index, verb, rest, &headers, &value),
            None => problem(404, "NOT_FOUND", "There is no such server"),
        },
        ("POST", ["keys"]) => answer(&json!({"id": "k1", "key": "mcpg_new", "name": value["name"]})),
        ("POST", ["users"]) => answer(&json!({"username": value["username"]})),
        _ => problem(404, "NOT_FOUND", "Nothing here"),
    }
}

fn one(servers: &mut Vec<Value>, at: usize, verb: &str, rest: &[&str], headers: &HeaderMap, patch: &Value) -> Response {
    match (verb, rest) {
        ("GET", []) => answer(&view(&servers[at])),
        ("DELETE", []) => {
            servers.remove(at);
            StatusCode::NO_CONTENT.into_response()
        }
        ("PATCH", []) => {
            let before = servers[at].clone();
            let tag = format!("\"{}\"", before["revision"]);
            if headers.get("if-match").is_some_and(|wanted| wanted != tag.as_str()) {
                return problem(412, "CHANGED", "It was changed meanwhile");
            }
            merge(&mut servers[at], patch);
            if servers[at] != before {
                servers[at]["revision"] = (before["revision"].as_i64().unwrap() + 1).into();
            }
            answer(&view(&servers[at]))
        }
        ("POST", [action]) => {
            if *action != "refresh" {
                servers[at]["enabled"] = (*action == "enable").into();
            }
            answer(&view(&servers[at]))
        }
        _ => answer(&json!({"items": [{"name": "add", "description": "Adds \u{1b}[31mtwo", "inputSchema": {
            "properties": {"a": {"type": "integer", "x-mcp-header": "A"}, "b": {"type": "integer"}},
            "required": ["a", "b"]}}]})),
    }
}

async fn health() -> Response {
    answer(&json!({"status": "ok", "components": {"database": "ok"}}))
}

/// `/mcp/legacy` knows only versions with a handshake; every other name answers as an event stream, statelessly.
async fn mcp(
    State(world): State<Shared>,
    Path(slug): Path<String>,
    method: Method,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let message: Value = serde_json::from_slice(&body).unwrap_or(Value::Null);
    let line = format!("{method} mcp {}", message["method"].as_str().unwrap_or("-"));
    world.lock().unwrap().asked.push((line, message.clone()));
    if !signed_in(&headers) {
        return problem(401, "UNAUTHENTICATED", "A key is needed");
    }
    let header = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or("-").to_owned();
    let arguments = &message["params"]["arguments"];
    let result = || {
        let sum = arguments["a"].as_i64().unwrap() + arguments["b"].as_i64().unwrap();
        let text = format!("{sum} by {}", header("mcp-protocol-version"));
        json!({"jsonrpc": "2.0", "id": message["id"], "result": {
            "content": [{"type": "text", "text": text}], "isError": sum < 0}})
    };
    if slug == "legacy" {
        return match message["method"].as_str() {
            Some("initialize") => {
                let hello = json!({"jsonrpc": "2.0", "id": message["id"], "result": {"protocolVersion": "2025-06-18"}});
                ([("mcp-session-id", "s-1"), ("content-type", "application/json")], hello.to_string()).into_response()
            }
            _ if header("mcp-session-id") != "s-1" => (StatusCode::BAD_REQUEST, "no session").into_response(),
            Some("notifications/initialized") => StatusCode::ACCEPTED.into_response(),
            Some("tools/call") => answer(&result()),
            _ => StatusCode::NO_CONTENT.into_response(),
        };
    }
    let wanted = ["tools/call".to_owned(), "add".to_owned(), arguments["a"].to_string()];
    if [header("mcp-method"), header("mcp-name"), header("mcp-param-a")] != wanted {
        let error =
            json!({"jsonrpc": "2.0", "id": message["id"], "error": {"code": -32020, "message": "header mismatch"}});
        return (StatusCode::BAD_REQUEST, [("content-type", "application/json")], error.to_string()).into_response();
    }
    let progress = json!({"jsonrpc": "2.0", "method": "notifications/progress", "params": {"progress": 1}});
    let events = format!(": hi\n\ndata: {progress}\n\nevent: message\ndata: {}\n\n", result());
    ([("content-type", "text/event-stream")], events).into_response()
}

struct Gateway {
    url: String,
    world: Shared,
    folder: PathBuf,
    server: tokio::task::JoinHandle<()>,
}

impl Drop for Gateway {
    fn drop(&mut self) {
        self.server.abort();
        std::fs::remove_dir_all(&self.folder).ok();
    }
}

struct Ran {
    code: i32,
    out: String,
    err: String,
}

impl Ran {
    fn json(&self) -> Value {
        serde_json::from_str(&self.out).unwrap_or_else(|error| panic!("{error}: {}\n{}", self.out, self.err))
    }
}

impl Gateway {
    async fn start() -> Self {
        let world = Shared::default();
        let app = Router::new()
            .route("/api/v1/{*path}", any(api))
            .route("/health", any(health))
            .route("/mcp/{slug}", any(mcp))
            .with_state(world.clone());
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let server = tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
        let folder = std::env::temp_dir().join(format!("cli-{}", uuid::Uuid::now_v7()));
        std::fs::create_dir(&folder).unwrap();
        Self { url, world, folder, server }
    }

    fn write(&self, name: &str, text: &str) {
        std::fs::write(self.folder.join(name), text).unwrap();
    }

    /// Runs the binary in the test's folder with gateway and key in the environment.
    async fn run(&self, args: &[&str]) -> Ran {
        self.run_with(args, &[("MREG_GATEWAY_URL", &self.url), ("MREG_API_KEY", KEY)], "").await
    }

    async fn run_with(&self, args: &[&str], env: &[(&str, &str)], input: &str) -> Ran {
        let mut child = tokio::process::Command::new(env!("CARGO_BIN_EXE_mcp-gateway"))
            .args(args)
            .env_clear()
            .env("PATH", "/usr/bin:/bin")
            .envs(env.iter().copied())
            .current_dir(&self.folder)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let mut stdin = child.stdin.take().unwrap();
        // A command that does not read its input may be gone already.
        stdin.write_all(input.as_bytes()).await.ok();
        drop(stdin);
        let output = child.wait_with_output().await.unwrap();
        Ran {
            code: output.status.code().unwrap(),
            out: String::from_utf8(output.stdout).unwrap(),
            err: String::from_utf8(output.stderr).unwrap(),
        }
    }

    fn held(&self) -> Vec<Value> {
        self.world.lock().unwrap().servers.clone()
    }

    fn asked(&self, what: &str) -> Vec<Value> {
        let world = self.world.lock().unwrap();
        world.asked.iter().filter(|(line, _)| line == what).map(|(_, body)| body.clone()).collect()
    }
}

#[tokio::test]
async fn a_server_is_added_shown_changed_and_removed() {
    let gateway = Gateway::start().await;
    let url = "https://example.com/mcp";
    let ran =
        gateway.run(&["servers", "add", "search", "--url", url, "--header", "Authorization: Bearer s3cret"]).await;
    assert_eq!((ran.code, ran.err.as_str()), (0, ""), "{}", ran.out);
    assert!(ran.out.contains("registered search: ready"), "{}", ran.out);
    assert_eq!(gateway.held()[0]["headers"]["Authorization"], "Bearer s3cret");

    let ran = gateway.run(&["servers", "add", "files", "--env", "A=b=c", "--json", "--", "npx", "-y", "--flag"]).await;
    assert_eq!(ran.json()["slug"], "files");
    let files = &gateway.held()[1];
    assert_eq!((&files["command"]["args"], &files["env"]["A"]), (&json!(["-y", "--flag"]), &json!("b=c")));

    let ran = gateway.run(&["servers", "show", "search"]).await;
    assert!(ran.out.contains("Authorization: ***") && !ran.out.contains("s3cret"), "{}", ran.out);

    let ran = gateway.run(&["servers", "edit", "search", "--title", "New", "--remove-header", "Authorization"]).await;
    assert_eq!(ran.code, 0, "{}", ran.err);
    assert_eq!((&gateway.held()[0]["title"], &gateway.held()[0]["headers"]), (&json!("New"), &json!({})));

    let ran = gateway.run(&["servers", "disable", "search", "none", "--json"]).await;
    let results: Vec<Value> =
        ran.json()["items"].as_array().unwrap().iter().map(|item| item["result"].clone()).collect();
    assert_eq!((ran.code, results), (1, vec![json!("disabled"), json!("failed")]));

    let ran = gateway.run(&["servers", "remove", "search", "files"]).await;
    assert_eq!((ran.code, gateway.held().len()), (0, 0), "{}", ran.err);
}

#[tokio::test]
async fn a_list_of_many_pages_is_whole_and_plain_in_a_pipe() {
    let gateway = Gateway::start().await;
    for slug in ["a", "b", "c", "d", "e"] {
        gateway.run(&["servers", "add", slug, "--url", "https://example.com/mcp"]).await;
    }
    let ran = gateway.run(&["servers", "list"]).await;
    assert_eq!(ran.out.lines().count(), 6, "{}", ran.out);
    assert!(!ran.out.contains('\u{1b}'), "no colours in a pipe: {}", ran.out);
    assert_eq!(gateway.run(&["servers", "list", "--json"]).await.json()["items"].as_array().unwrap().len(), 5);
    let ran = gateway.run(&["servers", "tools", "a"]).await;
    assert!(ran.out.contains("a, b") && !ran.out.contains('\u{1b}'), "{}", ran.out);
}

#[tokio::test]
async fn mistakes_say_what_to_do_and_have_their_exit_code() {
    let gateway = Gateway::start().await;
    let ran = gateway.run(&["servers", "add", "x", "--url", "ftp://example.com", "--timeout-connect", "1ms"]).await;
    assert_eq!(ran.code, 2);
    assert!(ran.err.contains("replicas[0].url: only http") && ran.err.contains("timeouts.connect_ms"), "{}", ran.err);
    assert_eq!(gateway.run(&["servers", "add", "Bad_Name", "--url", "https://x"]).await.code, 2);
    assert_eq!(gateway.run(&["servers", "add", "x"]).await.code, 2);
    assert!(gateway.asked("POST /api/v1/servers").is_empty(), "nothing was sent");

    gateway.run(&["servers", "add", "files", "--url", "https://example.com/mcp"]).await;
    let ran = gateway.run(&["servers", "show", "file"]).await;
    assert_eq!((ran.code, ran.out.as_str()), (1, ""));
    assert!(ran.err.contains("there is no server `file`") && ran.err.contains("did you mean `files`?"), "{}", ran.err);
    let ran = gateway.run(&["servers", "add", "files", "--url", "https://example.com/mcp", "--json"]).await;
    assert_eq!((ran.code, &ran.json()["error"]["code"]), (1, &json!("SLUG_TAKEN")));

    let ran = gateway.run_with(&["servers", "list", "--gateway", &gateway.url, "--key", "wr0ng"], &[], "").await;
    assert_eq!(ran.code, 1);
    assert!(ran.err.contains("401") && ran.err.contains("MREG_API_KEY") && !ran.err.contains("wr0ng"), "{}", ran.err);

    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let ran = gateway.run(&["servers", "list", "--gateway", &format!("http://{closed}")]).await;
    assert!(ran.code == 1 && ran.err.contains("mcp-gateway serve"), "{}", ran.err);
}

#[tokio::test]
async fn the_key_of_the_data_folder_goes_to_its_own_gateway_only() {
    let (own, other) = (Gateway::start().await, Gateway::start().await);
    std::fs::create_dir(own.folder.join("data")).unwrap();
    own.write("data/cli.json", &json!({"gateway": own.url, "key": KEY}).to_string());
    let ran = own.run_with(&["servers", "list"], &[], "").await;
    assert_eq!(ran.code, 0, "{}", ran.err);
    let ran = own.run_with(&["servers", "list", "--gateway", &other.url], &[], "").await;
    assert!(ran.code == 1 && ran.err.contains("401"), "{}", ran.err);
    assert_eq!(own.run_with(&["servers", "list", "--gateway", &own.url], &[], "").await.code, 0);
}

#[tokio::test]
async fn a_tool_is_called_in_either_era() {
    let gateway = Gateway::start().await;
    for slug in ["sample", "legacy"] {
        gateway.run(&["servers", "add", slug, "--url", "https://example.com/mcp"]).await;
    }
    let ran = gateway.run(&["servers", "call", "sample", "add", "a=2", "b=40"]).await;
    assert_eq!((ran.code, ran.out.as_str()), (0, "42 by 2026-07-28\n"), "{}", ran.err);
    let ran = gateway.run(&["servers", "call", "legacy", "add", "--args", r#"{"a": 2, "b": 40}"#, "--json"]).await;
    assert_eq!(ran.json()["result"]["content"][0]["text"], "42 by 2025-06-18", "{}", ran.err);
    assert_eq!(gateway.asked("DELETE mcp -").len(), 1, "the session is ended");
    let ran = gateway.run(&["servers", "call", "sample", "add", "a=-2", "b=1"]).await;
    assert_eq!((ran.code, ran.out.as_str()), (1, "-1 by 2026-07-28\n"), "{}", ran.err);
    assert!(ran.err.contains("the tool reports an error"), "{}", ran.err);
    let ran = gateway.run(&["servers", "call", "sample", "add", "a=x"]).await;
    assert!(ran.code == 2 && ran.err.contains("a must be integer"), "{}", ran.err);
}

const MANIFEST: &str = "\
servers:
  - slug: search
    replicas: [{url: https://example.com/mcp}]
    headers: {Authorization: 'Bearer ${TOKEN}'}
  - slug: files
    transport: stdio
    command: {program: npx, args: [-y, x]}
";

#[tokio::test]
async fn a_broken_file_is_told_with_its_place_and_nothing_is_half_written() {
    let gateway = Gateway::start().await;
    gateway.write("gateway.yaml", &format!("{MANIFEST}  - slug: third\n    replicsa: []\n"));
    let ran = gateway.run(&["apply", "-f", "gateway.yaml"]).await;
    assert_eq!(ran.code, 1);
    assert!(ran.err.contains("gateway.yaml:9:5: unknown field `replicsa`; did you mean `replicas`?"), "{}", ran.err);
    gateway.write("gateway.yaml", MANIFEST);
    let ran = gateway.run(&["apply", "-f", "gateway.yaml"]).await;
    assert!(ran.err.contains("gateway.yaml:4:30: the environment variable TOKEN is not set"), "{}", ran.err);
    assert!(gateway.held().is_empty());
}

#[tokio::test]
async fn a_clients_file_is_imported_and_what_is_there_is_left_alone() {
    let gateway = Gateway::start().await;
    let file = r#"{ // from VS Code
        "inputs": [{"id": "k"}],
        "servers": {
            "Web": {"type": "http", "url": "https://example.com/mcp"},
            "Ask": {"type": "http", "url": "https://example.com/mcp", "headers": {"K": "${input:k}"}},
        } }"#;
    gateway.write("mcp.json", file);
    let results = |ran: &Ran| -> Vec<(Value, Value)> {
        let document = ran.json();
        let items = document["items"].as_array().unwrap().iter();
        items.map(|item| (item["name"].clone(), item["result"].clone())).collect()
    };
    let dry = gateway.run(&["import", "mcp.json", "--dry-run", "--json"]).await;
    assert!(results(&dry).contains(&(json!("Web"), json!("would_register"))), "{}", dry.out);
    assert!(gateway.held().is_empty());
    let ran = gateway.run(&["import", "mcp.json"]).await;
    assert_eq!(ran.code, 1, "one could not be taken over");
    assert!(ran.out.contains("asks a person for the input `k`"), "{}", ran.out);
    assert_eq!((gateway.held().len(), &gateway.held()[0]["slug"]), (1, &json!("web")));
    let again = gateway.run(&["import", "mcp.json", "--json"]).await;
    assert!(results(&again).contains(&(json!("Web"), json!("exists"))), "{}", again.out);
}

#[tokio::test]
async fn keys_and_users_show_their_secret_once_and_take_none_from_the_command_line() {
    let gateway = Gateway::start().await;
    let ran = gateway.run(&["keys", "create", "ci", "--server", "files", "--expires-in-days", "9"]).await;
    assert_eq!(ran.out, "mcpg_new\n", "only the key, for scripts");
    let sent = &gateway.asked("POST /api/v1/keys")[0];
    assert_eq!(*sent, json!({"name": "ci", "servers": ["files"], "expires_in_days": 9}));
    let made = gateway.run(&["users", "add", "ada", "--json"]).await.json();
    assert_eq!(made["password"].as_str().unwrap().len(), 24);
    let env = [("MREG_GATEWAY_URL", gateway.url.as_str()), ("MREG_API_KEY", KEY)];
    let ran = gateway.run_with(&["users", "add", "bob", "--password-stdin"], &env, "from stdin\n").await;
    assert!(!ran.out.contains("from stdin"), "{}", ran.out);
    assert_eq!(gateway.asked("POST /api/v1/users")[1]["password"], "from stdin");
}

#[tokio::test]
async fn status_and_doctor_say_how_it_is() {
    let gateway = Gateway::start().await;
    gateway.run(&["servers", "add", "files", "--", "no-such-program-here"]).await;
    let ran = gateway.run(&["status"]).await;
    assert!(ran.code == 0 && ran.out.contains("1 ready") && ran.out.contains("ada (admin)"), "{}{}", ran.out, ran.err);
    let checks = gateway.run(&["doctor", "--json"]).await.json();
    let result = |name: &str| -> Vec<Value> {
        let all = checks["checks"].as_array().unwrap().iter().filter(|check| check["check"] == name);
        all.map(|check| check["result"].clone()).collect()
    };
    assert_eq!(
        (result("gateway"), result("server files")),
        (vec![json!("ok")], vec![json!("ok"), json!("warn")]),
        "{checks}"
    );

    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    // It takes connections, says nothing that is HTTP, and stays until the test ends.
    std::thread::spawn(move || taken.incoming().for_each(drop));
    let ran = gateway.run_with(&["doctor", "--port", &port], &[("MREG_PROT", "1")], "").await;
    assert_eq!(ran.code, 1);
    assert!(ran.out.contains("is taken by something that is no gateway"), "{}", ran.out);
    assert!(ran.out.contains("did you mean MREG_PORT?"), "{}", ran.out);
}

#[tokio::test]
async fn settings_completions_and_manual_are_printed_without_a_gateway() {
    let gateway = Gateway::start().await;
    let ran =
        gateway.run_with(&["config", "--json"], &[("MREG_PORT", "9000"), ("MREG_MASTER_KEY", "s3cret")], "").await;
    let settings = ran.json()["settings"].as_array().unwrap().clone();
    let port = settings.iter().find(|one| one["variable"] == "MREG_PORT").unwrap();
    assert_eq!((&port["value"], &port["origin"]), (&json!("9000"), &json!("variable")));
    assert!(!ran.out.contains("s3cret"), "{}", ran.out);
    assert!(gateway.run_with(&["completions", "bash"], &[], "").await.out.contains("_mcp__gateway()"));
    assert!(gateway.run_with(&["man"], &[], "").await.out.contains(".TH mcp-gateway"));
    assert_eq!(gateway.run_with(&["nonsense"], &[], "").await.code, 2);
    let help = gateway.run_with(&["servers", "add", "--help"], &[("MREG_API_KEY", "s3cret")], "").await;
    assert!(help.code == 0 && help.out.contains("Examples:") && !help.out.contains("s3cret"), "{}", help.out);
}

#[tokio::test]
async fn the_sample_server_talks_over_its_standard_streams() {
    let gateway = Gateway::start().await;
    let hello = json!({"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": {"protocolVersion": "2025-11-25"}});
    let call = json!({"jsonrpc": "2.0", "id": 2, "method": "tools/call", "params": {"name": "echo", "arguments": {"text": "hi"}}});
    let ran = gateway.run_with(&["sample-server"], &[], &format!("{hello}\n{call}\n")).await;
    let lines: Vec<Value> = ran.out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!((ran.code, &lines[1]["result"]["content"][0]["text"]), (0, &json!("hi")), "{}", ran.err);
}
