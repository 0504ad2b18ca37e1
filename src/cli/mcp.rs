//! A small MCP client over Streamable HTTP, enough to call one tool: version 2026-07-28 first (stateless, metadata in every
//! request), and the `initialize` handshake of earlier versions when the endpoint knows only those. Everything is bounded: the
//! wait for the whole call, the size of an answer, the number of events.

use std::time::{Duration, Instant};

use base64::Engine;
use http::header::{ACCEPT, CONTENT_TYPE};
use http::{HeaderName, HeaderValue, Method, StatusCode};
use serde_json::{Value, json};
use url::Url;

use super::failure::Failure;
use super::gateway::Gateway;
use super::http::{MAX_BODY, Opened, Request};

/// The version that is tried first.
pub const MODERN: &str = "2026-07-28";
/// The version that is offered in a handshake.
const LEGACY: &str = "2025-11-25";
/// JSON-RPC code for a version that the other side does not speak (2026-07-28, basic, error codes).
const UNSUPPORTED_VERSION: i64 = -32022;
/// JSON-RPC code for an unknown method; with status 404 only a modern server sends it.
const METHOD_NOT_FOUND: i64 = -32601;
/// Names the progress notifications of the call.
const PROGRESS_TOKEN: &str = "call-1";

/// A client of one endpoint.
pub struct Client<'a> {
    gateway: &'a Gateway,
    url: Url,
    authorization: Option<(HeaderName, HeaderValue)>,
    wait: Duration,
}

/// What is called.
#[derive(Debug)]
pub struct Asked<'a> {
    /// Name of the tool at the endpoint.
    pub name: &'a str,
    /// Its arguments, an object.
    pub arguments: &'a Value,
    /// The tool as its server describes it, if known: its schema says which arguments go into headers too.
    pub tool: Option<&'a Value>,
}

/// A finished call.
#[derive(Debug)]
pub struct Answered {
    /// The `result` of the answer.
    pub result: Value,
    /// The request as it was sent.
    pub request: Value,
    /// Protocol version that was spoken.
    pub version: String,
    /// From the request's first byte to the answer's last, handshake not counted.
    pub took: Duration,
}

/// What came back for one request.
struct Heard {
    status: StatusCode,
    session: Option<HeaderValue>,
    /// The JSON-RPC response, if there was one.
    message: Option<Value>,
    body: Vec<u8>,
}

impl<'a> Client<'a> {
    /// A client of the endpoint at `url` that waits at most `wait` for a call.
    pub fn new(gateway: &'a Gateway, url: Url, wait: Duration) -> anyhow::Result<Self> {
        Ok(Self { gateway, url, authorization: gateway.authorization()?, wait })
    }

    /// Calls a tool; `progress` is given the params of each progress notification.
    pub async fn call(&self, asked: &Asked<'_>, progress: impl FnMut(&Value)) -> anyhow::Result<Answered> {
        tokio::time::timeout(self.wait, self.call_unbounded(asked, progress)).await.unwrap_or_else(|_| {
            Err(Failure::new(format!("no answer within {} s", self.wait.as_secs()))
                .advise("give it longer with --timeout SECONDS")
                .into())
        })
    }

    async fn call_unbounded(&self, asked: &Asked<'_>, mut progress: impl FnMut(&Value)) -> anyhow::Result<Answered> {
        let meta = json!({
            "io.modelcontextprotocol/protocolVersion": MODERN,
            "io.modelcontextprotocol/clientInfo": { "name": "mcp-gateway-cli", "version": env!("CARGO_PKG_VERSION") },
            "io.modelcontextprotocol/clientCapabilities": {},
            "progressToken": PROGRESS_TOKEN,
        });
        let request = call_message(1, asked, &meta);
        let mut headers = vec![
            header("mcp-protocol-version", MODERN)?,
            header("mcp-method", "tools/call")?,
            header("mcp-name", &encode(asked.name))?,
        ];
        headers.extend(mirrored(asked)?);
        let start = Instant::now();
        let heard = self.post(&request, headers, &mut progress).await?;
        let took = start.elapsed();
        if is_legacy(&heard) {
            return self.call_after_handshake(asked, progress).await;
        }
        Ok(Answered { result: outcome(heard)?, request, version: MODERN.to_owned(), took })
    }

    /// The way of versions up to 2025-11-25: handshake, call, goodbye.
    async fn call_after_handshake(
        &self,
        asked: &Asked<'_>,
        mut progress: impl FnMut(&Value),
    ) -> anyhow::Result<Answered> {
        let hello = json!({ "jsonrpc": "2.0", "id": 1, "method": "initialize", "params": {
            "protocolVersion": LEGACY, "capabilities": {},
            "clientInfo": { "name": "mcp-gateway-cli", "version": env!("CARGO_PKG_VERSION") },
        }});
        let heard = self.post(&hello, Vec::new(), &mut progress).await?;
        let session = heard.session.clone();
        let version = outcome(heard)?["protocolVersion"].as_str().unwrap_or(LEGACY).to_owned();
        let mut headers = vec![header("mcp-protocol-version", &version)?];
        headers.extend(session.clone().map(|session| (HeaderName::from_static("mcp-session-id"), session)));
        let ready = json!({ "jsonrpc": "2.0", "method": "notifications/initialized" });
        self.post(&ready, headers.clone(), &mut progress).await?;
        let request = call_message(2, asked, &json!({ "progressToken": PROGRESS_TOKEN }));
        let start = Instant::now();
        let heard = self.post(&request, headers.clone(), &mut progress).await;
        let took = start.elapsed();
        if session.is_some() {
            // The session ends by itself too; that the goodbye failed is not worth a word.
            let _ = self.send(Method::DELETE, Vec::new(), headers).await;
        }
        Ok(Answered { result: outcome(heard?)?, request, version, took })
    }

    async fn send(
        &self,
        method: Method,
        body: Vec<u8>,
        mut headers: Vec<(HeaderName, HeaderValue)>,
    ) -> anyhow::Result<Opened> {
        headers.extend(self.authorization.clone());
        headers.push((ACCEPT, HeaderValue::from_static("application/json, text/event-stream")));
        headers.push((CONTENT_TYPE, HeaderValue::from_static("application/json")));
        let request = Request { method, url: &self.url, headers, body: body.into(), wait: self.wait };
        self.gateway.http.open(request).await
    }

    async fn post(
        &self,
        message: &Value,
        headers: Vec<(HeaderName, HeaderValue)>,
        progress: &mut impl FnMut(&Value),
    ) -> anyhow::Result<Heard> {
        let mut opened = self.send(Method::POST, serde_json::to_vec(message)?, headers).await?;
        let kind = opened.headers.get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
        let streamed = kind.to_ascii_lowercase().starts_with("text/event-stream");
        let session = opened.headers.get("mcp-session-id").cloned();
        let status = opened.status;
        if !streamed {
            let body = opened.read(self.wait).await?.body;
            let message = serde_json::from_slice(&body).ok().filter(|message| is_response(message, 0));
            return Ok(Heard { status, session, message, body: body.into() });
        }
        let mut events = Events::default();
        while let Some(piece) = opened.piece().await? {
            for event in events.feed(&piece)? {
                let Ok(heard) = serde_json::from_str::<Value>(&event) else { continue };
                if heard["method"] == "notifications/progress" {
                    progress(&heard["params"]);
                } else if is_response(&heard, message["id"].as_i64().unwrap_or(0)) {
                    return Ok(Heard { status, session, message: Some(heard), body: Vec::new() });
                }
            }
        }
        Err(Failure::new("the gateway ended the answer before it was whole").into())
    }
}

/// Whether `message` answers the request `id`; any response when `id` is 0.
fn is_response(message: &Value, id: i64) -> bool {
    let answers = message.get("result").is_some() || message.get("error").is_some();
    answers && (id == 0 || message["id"] == id || message["id"].is_null())
}

/// Whether the endpoint knows only versions with a handshake (2026-07-28, Streamable HTTP, backward compatibility).
fn is_legacy(heard: &Heard) -> bool {
    let code = heard.message.as_ref().and_then(|message| message["error"]["code"].as_i64());
    match code {
        Some(UNSUPPORTED_VERSION) => {
            let supported = heard.message.as_ref().and_then(|message| message["error"]["data"]["supported"].as_array());
            supported.into_iter().flatten().filter_map(Value::as_str).all(|version| version < MODERN)
        }
        // Codes that only modern servers send.
        Some(-32099..=-32020) => false,
        Some(METHOD_NOT_FOUND) if heard.status == StatusCode::NOT_FOUND => false,
        _ => matches!(heard.status.as_u16(), 400 | 404 | 405) && !is_problem(&heard.body),
    }
}

/// Whether the gateway itself said no, in its REST error form.
fn is_problem(body: &[u8]) -> bool {
    serde_json::from_slice::<Value>(body).is_ok_and(|body| body.get("code").is_some_and(Value::is_string))
}

/// The result, or the failure that the answer tells.
fn outcome(heard: Heard) -> anyhow::Result<Value> {
    let Some(mut message) = heard.message else {
        return Err(Failure::from_answer(heard.status.as_u16(), &heard.body).into());
    };
    if let Some(error) = message.get("error") {
        let what = error["message"].as_str().unwrap_or("no reason given");
        let mut failure = Failure::new(format!("the call was refused: {what}"));
        failure.code = error["code"].as_i64().map(|code| format!("JSON-RPC {code}").into());
        failure.status = Some(heard.status.as_u16()).filter(|status| *status >= 400);
        if let Some(data) = error.get("data").filter(|data| !data.is_null()) {
            failure.details.push(super::screen::shorten(&data.to_string(), 400));
        }
        if heard.status == StatusCode::UNAUTHORIZED {
            failure = failure.advise("give a valid key with --key or MREG_API_KEY");
        }
        return Err(failure.into());
    }
    let result = message["result"].take();
    if result["resultType"] == "input_required" {
        return Err(Failure::new("the tool asks for something that only a client with a person in front can give")
            .advise("call it from such a client")
            .into());
    }
    Ok(result)
}

fn call_message(id: u32, asked: &Asked<'_>, meta: &Value) -> Value {
    json!({ "jsonrpc": "2.0", "id": id, "method": "tools/call",
        "params": { "name": asked.name, "arguments": asked.arguments, "_meta": meta } })
}

fn header(name: &str, value: &str) -> anyhow::Result<(HeaderName, HeaderValue)> {
    let parts = (HeaderName::from_bytes(name.as_bytes()), HeaderValue::from_str(value));
    match parts {
        (Ok(name), Ok(value)) => Ok((name, value)),
        _ => Err(Failure::new(format!("the header {} cannot be sent", super::screen::clean(name))).into()),
    }
}

/// Arguments that the tool's schema wants in `Mcp-Param-*` headers too (2026-07-28, Streamable HTTP, custom headers). Only
/// top-level arguments of a primitive type are looked at, and those nested in objects below `properties`.
fn mirrored(asked: &Asked<'_>) -> anyhow::Result<Vec<(HeaderName, HeaderValue)>> {
    let mut headers = Vec::new();
    if let Some(tool) = asked.tool {
        collect(&tool["inputSchema"], asked.arguments, &mut headers, 0)?;
    }
    Ok(headers)
}

fn collect(
    schema: &Value,
    value: &Value,
    headers: &mut Vec<(HeaderName, HeaderValue)>,
    depth: usize,
) -> anyhow::Result<()> {
    for (name, property) in schema["properties"].as_object().into_iter().flatten() {
        let Some(value) = value.get(name) else { continue };
        let text = match value {
            Value::String(text) => text.clone(),
            Value::Bool(_) | Value::Number(_) => value.to_string(),
            Value::Object(_) if depth < 16 => {
                collect(property, value, headers, depth + 1)?;
                continue;
            }
            _ => continue,
        };
        if let Some(wanted) = property["x-mcp-header"].as_str() {
            headers.push(header(&format!("mcp-param-{wanted}"), &encode(&text))?);
        }
    }
    Ok(())
}

/// A value as a header may carry it (2026-07-28, Streamable HTTP, value encoding).
fn encode(text: &str) -> String {
    let plain = text.bytes().all(|byte| matches!(byte, b' '..=b'~' | b'\t'))
        && text.trim() == text
        && !(text.starts_with("=?base64?") && text.ends_with("?="));
    if plain {
        text.to_owned()
    } else {
        format!("=?base64?{}?=", base64::engine::general_purpose::STANDARD.encode(text))
    }
}

/// Reads server-sent events out of pieces (WHATWG HTML, section 9.2). Only `data` is kept.
#[derive(Default)]
struct Events {
    rest: Vec<u8>,
    data: String,
    /// The last piece ended in a carriage return; a line feed that follows belongs to it.
    carriage: bool,
}

impl Events {
    /// Takes a piece and returns the data of every event that is whole.
    fn feed(&mut self, piece: &[u8]) -> anyhow::Result<Vec<String>> {
        let mut whole = Vec::new();
        for &byte in piece {
            let joined = std::mem::replace(&mut self.carriage, byte == b'\r');
            match byte {
                b'\n' if joined => {}
                b'\n' | b'\r' => {
                    let line = std::mem::take(&mut self.rest);
                    whole.extend(self.line(&String::from_utf8_lossy(&line)));
                }
                byte => self.rest.push(byte),
            }
            if self.rest.len() + self.data.len() > MAX_BODY {
                return Err(Failure::new(format!("the answer is larger than {} MiB", MAX_BODY >> 20)).into());
            }
        }
        Ok(whole)
    }

    fn line(&mut self, line: &str) -> Option<String> {
        if line.is_empty() {
            return Some(std::mem::take(&mut self.data)).filter(|data| !data.is_empty());
        }
        if let Some(data) = line.strip_prefix("data:") {
            if !self.data.is_empty() {
                self.data.push('\n');
            }
            self.data.push_str(data.strip_prefix(' ').unwrap_or(data));
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_read_wherever_the_pieces_are_cut() {
        let text =
            "\u{feff}:hi\r\nevent: message\r\ndata: {\"a\":\r\ndata: 1}\r\n\r\nid: 7\ndata:é\n\ndata: never ended";
        for step in 1..text.len() {
            let mut events = Events::default();
            let mut seen = Vec::new();
            for piece in text.as_bytes().chunks(step) {
                seen.extend(events.feed(piece).unwrap());
            }
            assert_eq!(seen, ["{\"a\":\n1}", "é"], "pieces of {step}");
        }
    }

    #[test]
    fn only_an_answer_that_no_modern_server_gives_means_legacy() {
        let heard = |status: u16, body: Value| {
            let text = body.to_string().into_bytes();
            Heard {
                status: StatusCode::from_u16(status).unwrap(),
                session: None,
                message: Some(body).filter(|body| is_response(body, 0)),
                body: text,
            }
        };
        let error = |code: i64, data: Value| json!({"jsonrpc": "2.0", "id": 1, "error": {"code": code, "message": "m", "data": data}});
        assert!(is_legacy(&heard(400, json!("Bad Request"))));
        assert!(is_legacy(&heard(400, error(-32000, Value::Null))));
        assert!(is_legacy(&heard(400, error(-32022, json!({"supported": ["2025-11-25"]})))));
        assert!(!is_legacy(&heard(400, error(-32022, json!({"supported": ["2025-11-25", "2026-07-28"]})))));
        assert!(!is_legacy(&heard(400, error(-32020, Value::Null))));
        assert!(!is_legacy(&heard(404, error(-32601, Value::Null))));
        assert!(!is_legacy(&heard(404, json!({"title": "Not found", "code": "NOT_FOUND"}))));
        assert!(!is_legacy(&heard(401, json!({}))));
    }

    #[test]
    fn arguments_are_mirrored_into_headers_where_the_schema_says_so() {
        let tool = json!({"inputSchema": {"properties": {
            "region": {"type": "string", "x-mcp-header": "Region"},
            "inner": {"type": "object", "properties": {"n": {"type": "integer", "x-mcp-header": "N"}}},
            "free": {"type": "string"}, "absent": {"type": "string", "x-mcp-header": "Absent"}}}});
        let arguments = json!({"region": "Zürich", "inner": {"n": 7}, "free": "x"});
        let asked = Asked { name: "t", arguments: &arguments, tool: Some(&tool) };
        let mut headers: Vec<_> =
            mirrored(&asked).unwrap().into_iter().map(|(n, v)| format!("{n}={}", v.to_str().unwrap())).collect();
        headers.sort();
        assert_eq!(headers, ["mcp-param-n=7", "mcp-param-region==?base64?WsO8cmljaA==?="]);
    }

    #[test]
    fn values_that_no_header_may_hold_are_encoded() {
        assert_eq!(encode("us-west1"), "us-west1");
        assert_eq!(encode(" padded "), "=?base64?IHBhZGRlZCA=?=");
        assert_eq!(encode("=?base64?literal?="), "=?base64?PT9iYXNlNjQ/bGl0ZXJhbD89?=");
    }
}
