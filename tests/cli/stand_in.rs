//! A small stand-in that answers as the REST API and the MCP endpoint do, and remembers what it was asked.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::Bytes;
use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, Method, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use axum::routing::any;
use serde_json::{Value, json};
use testkit::command::Ran;

use crate::run;

pub const KEY: &str = "mcpg_test";
/// A server that is never done being registered.
pub const SLOW: &str = "slow";
/// A server of which not everything is taken over.
pub const ODD: &str = "odd";

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
    let problems = if held["slug"] == ODD { vec!["tool `bad` is left out: its header has no name"] } else { vec![] };
    view["status"] = json!({
        "state": state, "version": "2026-07-28", "tools": 2, "resources": 0, "prompts": 0, "problems": problems
    });
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
    let value: Value = serde_json::from_slice(&body).unwrap_or(Value::Null);
    if value["slug"] == SLOW {
        std::future::pending::<()>().await;
    }
    let mut world = world.lock().unwrap();
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

pub struct Gateway {
    pub url: String,
    world: Shared,
    pub folder: PathBuf,
    server: tokio::task::JoinHandle<()>,
}

impl Drop for Gateway {
    fn drop(&mut self) {
        self.server.abort();
        std::fs::remove_dir_all(&self.folder).ok();
    }
}

impl Gateway {
    pub async fn start() -> Self {
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

    pub fn write(&self, name: &str, text: &str) {
        std::fs::write(self.folder.join(name), text).unwrap();
    }

    /// Runs the binary in the test's folder with gateway and key in the environment.
    pub async fn run(&self, args: &[&str]) -> Ran {
        self.run_with(args, &[("MREG_GATEWAY_URL", &self.url), ("MREG_API_KEY", KEY)], "").await
    }

    pub async fn run_with(&self, args: &[&str], env: &[(&str, &str)], input: &str) -> Ran {
        run(&self.folder, args, env, input).await
    }

    pub fn held(&self) -> Vec<Value> {
        self.world.lock().unwrap().servers.clone()
    }

    pub fn asked(&self, what: &str) -> Vec<Value> {
        let world = self.world.lock().unwrap();
        world.asked.iter().filter(|(line, _)| line == what).map(|(_, body)| body.clone()).collect()
    }
}
