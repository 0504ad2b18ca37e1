//! An upstream that costs as little as an HTTP server can, so that what is measured is what stands in front of it.
//!
//! It keeps no session and validates nothing. A call of the tool `echo` is answered with its arguments as a text, any
//! other tool with a text of 100 bytes; lists and handshakes are made once, at the start.
#![expect(clippy::print_stdout, reason = "a test server tells its starter over standard output where it listens")]

use std::{borrow::Cow, convert::Infallible, sync::Arc, time::Duration};

use bytes::Bytes;
use clap::Parser;
use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt as _, Full};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use serde::Deserialize;
use serde_json::{json, value::RawValue};
use testkit::{
    jsonrpc::{LEGACY, META_SERVER, MODERN},
    upstream::filler,
};
use tokio::net::TcpListener;

/// A raw MCP upstream for load tests.
#[derive(Parser)]
struct Args {
    /// Port on 127.0.0.1; 0 takes a free one.
    #[arg(long, default_value_t = 0)]
    port: u16,
    /// How many tools `tools/list` shows.
    #[arg(long, default_value_t = 10)]
    tools: usize,
    /// Answer requests as an event stream.
    #[arg(long)]
    sse: bool,
    /// How long each answer takes, in milliseconds.
    #[arg(long, default_value_t = 0)]
    delay: u64,
    /// Worker threads.
    #[arg(long, default_value_t = 1)]
    threads: usize,
}

#[derive(Deserialize)]
struct Envelope<'a> {
    #[serde(borrow)]
    id: Option<&'a RawValue>,
    #[serde(borrow)]
    method: Option<Cow<'a, str>>,
    #[serde(borrow)]
    params: Option<&'a RawValue>,
}

#[derive(Default, Deserialize)]
struct Params<'a> {
    #[serde(borrow, default)]
    name: Cow<'a, str>,
    #[serde(borrow)]
    arguments: Option<&'a RawValue>,
    #[serde(borrow, rename = "protocolVersion")]
    version: Option<Cow<'a, str>>,
}

struct Answers {
    sse: bool,
    list: String,
    discover: String,
    call: String,
}

impl Answers {
    fn new(args: &Args) -> Self {
        let schema = json!({
            "type": "object",
            "properties": { "message": { "type": "string", "description": "Any text" } },
            "required": ["message"],
        });
        let tools: Vec<_> = std::iter::once("echo".to_owned())
            .chain((1..args.tools).map(|number| format!("tool_{number}")))
            .take(args.tools)
            .map(|name| json!({ "name": name, "description": format!("Does what {name} does"), "inputSchema": schema }))
            .collect();
        let meta = json!({ META_SERVER: { "name": "bench", "version": "1.0.0" } });
        let cached = json!({ "resultType": "complete", "ttlMs": 60_000, "cacheScope": "public", "_meta": meta });
        let with = |key: &str, value: serde_json::Value| {
            let mut result = cached.clone();
            result[key] = value;
            result
        };
        let mut discover = with("capabilities", json!({ "tools": {} }));
        discover["supportedVersions"] = std::iter::once(MODERN).chain(LEGACY).collect();
        let call = json!({ "resultType": "complete", "content": [{ "type": "text", "text": filler(100) }] });
        Self {
            sse: args.sse,
            list: with("tools", tools.into()).to_string(),
            discover: discover.to_string(),
            call: call.to_string(),
        }
    }

    fn answer(&self, method: &Method, body: &[u8]) -> Response<Full<Bytes>> {
        if *method != Method::POST {
            return empty(StatusCode::METHOD_NOT_ALLOWED);
        }
        let Ok(envelope) = serde_json::from_slice::<Envelope>(body) else { return empty(StatusCode::BAD_REQUEST) };
        let (Some(id), Some(method)) = (envelope.id, envelope.method) else { return empty(StatusCode::ACCEPTED) };
        let params =
            || envelope.params.and_then(|params| serde_json::from_str::<Params>(params.get()).ok()).unwrap_or_default();
        let result: Cow<str> = match method.as_ref() {
            "tools/call" => match params() {
                Params { name, arguments: Some(arguments), .. } if name == "echo" => {
                    let text = serde_json::to_string(arguments.get()).unwrap_or_default();
                    format!(r#"{{"resultType":"complete","content":[{{"type":"text","text":{text}}}]}}"#).into()
                }
                _ => (&*self.call).into(),
            },
            "tools/list" => (&*self.list).into(),
            "server/discover" => (&*self.discover).into(),
            "initialize" => {
                let params = params();
                let version = params.version.filter(|version| LEGACY.contains(&version.as_ref()));
                let version = version.as_deref().unwrap_or(LEGACY[0]);
                json!({
                    "protocolVersion": version,
                    "capabilities": { "tools": {} },
                    "serverInfo": { "name": "bench", "version": "1.0.0" },
                })
                .to_string()
                .into()
            }
            "ping" => "{}".into(),
            _ => return self.found(id, r#""error":{"code":-32601,"message":"Method not found"}"#),
        };
        let mut member = String::with_capacity(result.len() + 9);
        member.push_str(r#""result":"#);
        member.push_str(&result);
        self.found(id, &member)
    }

    fn found(&self, id: &RawValue, member: &str) -> Response<Full<Bytes>> {
        let id = id.get();
        let mut body = String::with_capacity(member.len() + id.len() + 64);
        if self.sse {
            body.push_str("event: message\ndata: ");
        }
        for part in [r#"{"jsonrpc":"2.0","id":"#, id, ",", member, "}"] {
            body.push_str(part);
        }
        if self.sse {
            body.push_str("\n\n");
        }
        let mut response = Response::new(Full::new(body.into()));
        let kind = if self.sse { "text/event-stream" } else { "application/json" };
        response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
        response
    }
}

fn empty(status: StatusCode) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::default());
    *response.status_mut() = status;
    response
}

fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(args.threads.max(1)).enable_all().build()?;
    runtime.block_on(serve(&args))
}

async fn serve(args: &Args) -> anyhow::Result<()> {
    let (answers, delay) = (Arc::new(Answers::new(args)), Duration::from_millis(args.delay));
    let listener = TcpListener::bind(("127.0.0.1", args.port)).await?;
    println!("listening on http://{}/mcp", listener.local_addr()?);
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        let answers = Arc::clone(&answers);
        tokio::spawn(async move {
            let service = service_fn(|request: Request<Incoming>| {
                let answers = Arc::clone(&answers);
                async move {
                    let (head, body) = request.into_parts();
                    let body = body.collect().await.map(http_body_util::Collected::to_bytes).unwrap_or_default();
                    if !delay.is_zero() {
                        tokio::time::sleep(delay).await;
                    }
                    Ok::<_, Infallible>(answers.answer(&head.method, &body))
                }
            });
            _ = http1::Builder::new().pipeline_flush(true).serve_connection(TokioIo::new(stream), service).await;
        });
    }
}
