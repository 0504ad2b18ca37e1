//! A server that goes wrong on demand, in every way that was ever seen to bring a gateway down.
//!
//! Behind the faults is a [`Plain`](super::Plain)'s engine, so that whatever is not told to fail works.

use std::{
    io,
    sync::{Arc, Mutex},
    time::Duration,
};

use bytes::Bytes;
use http::Request;
use http_body_util::BodyExt as _;
use serde_json::{Value, json};
use tokio::task::JoinSet;

use super::{
    core::{Change, lock},
    engine::Engine,
    host::{Cut, Host, Recorded, Reply, Wire, piped, reply},
    tools::filler,
    words::{Eras, ReplyForm, Settings},
};
use crate::{jsonrpc, sse};

/// Long enough for what was written to leave, short enough not to be waited for.
const FLUSH: Duration = Duration::from_millis(30);

/// A way to fail.
#[derive(Clone, Debug, PartialEq)]
pub enum Fault {
    /// Begins to stream, and dies after half an event.
    DieMidStream,
    /// Streams this many whole progress notifications, and closes the stream in good order without an answer.
    EndWithoutAnswer(usize),
    /// Takes the request and never answers.
    Hang,
    /// Answers with the head of a stream and nothing after it.
    HangAfterHead,
    /// Answers with something that only begins like JSON.
    Garbage,
    /// Answers with JSON that is no JSON-RPC.
    NotJsonRpc,
    /// Answers 200 with a page of HTML.
    Html,
    /// Answers with a body of this many bytes.
    Huge(usize),
    /// Answers with an event stream whose one event has this many bytes.
    HugeEvent(usize),
    /// Answers with JSON that ends in the middle of a character.
    HalfUtf8,
    /// Answers with this status and a text.
    Status(u16),
    /// Answers 400 with a JSON-RPC error of this code.
    Refusal(i64),
    /// Answers 429 and says to come again after this many seconds.
    TooMany(u64),
    /// Answers 307 to another address.
    Redirect(String),
    /// Resets the connection instead of answering.
    Reset,
    /// Closes the connection instead of answering.
    Close,
    /// Answers well, then closes the connection without having said so.
    CloseIdle,
    /// Answers well, but a byte at a time with this pause between two.
    SlowDrip(Duration),
    /// Answers well, after this long.
    Late(Duration),
    /// Answers well, but to another id.
    WrongId,
    /// Answers twice, in one stream.
    TwoResponses,
    /// Answers well, with a content type that nobody knows.
    UnknownType,
    /// Answers 200 with no body.
    Empty,
    /// Answers with fewer bytes than it said.
    ShortBody,
    /// Begins to answer in JSON, and dies after this many bytes.
    BreakOff(usize),
    /// Answers with a session id that is not fit for a header of a request to come.
    Sessions(String),
}

struct Rule {
    fault: Fault,
    method: Option<String>,
    left: Option<usize>,
}

/// A server that goes wrong on demand.
pub struct Faulty {
    host: Host,
    engine: Arc<Engine>,
    rules: Arc<Mutex<Vec<Rule>>>,
}

impl Faulty {
    /// A server of both eras that works, for now. It answers in JSON.
    pub async fn start() -> io::Result<Self> {
        Self::with(Eras::Dual).await
    }

    /// A server of these eras that works, for now.
    pub async fn with(eras: Eras) -> io::Result<Self> {
        let engine = Arc::new(Engine::new(eras));
        *lock(&engine.form) = ReplyForm::Json;
        let rules = Arc::new(Mutex::new(Vec::new()));
        let (serving, ruling) = (Arc::clone(&engine), Arc::clone(&rules));
        let tasks = Arc::new(Mutex::new(JoinSet::new()));
        let host = Host::start(0, move |request: Request<Bytes>, wire| {
            let (engine, tasks) = (Arc::clone(&serving), Arc::clone(&tasks));
            let fault = pick(&ruling, request.body());
            async move {
                match fault {
                    Some(fault) => fail(&engine, request, wire, fault, &tasks).await,
                    None => engine.handle(request).await,
                }
            }
        })
        .await?;
        Ok(Self { host, engine, rules })
    }

    /// Where MCP is served.
    pub fn url(&self) -> String {
        format!("http://{}/mcp", self.host.address())
    }

    /// The listener: recorded requests, connections.
    pub fn host(&self) -> &Host {
        &self.host
    }

    /// Changes what is shown where nothing fails.
    pub fn set(&self, change: impl FnOnce(&mut Settings)) -> &Self {
        change(&mut lock(&self.engine.core.settings));
        self
    }

    /// Tells the listeners that the list of tools changed; says how many there were.
    pub fn tools_changed(&self) -> usize {
        self.engine.core.announce(&Change::Tools)
    }

    /// Waits until this many listen for changes.
    pub async fn wait_listeners(&self, count: usize) -> bool {
        let core = &self.engine.core;
        core.pulse.until(|| (core.listeners() == count).then_some(())).await.is_some()
    }

    /// Fails every POST in this way from now on.
    pub fn fail(&self, fault: Fault) -> &Self {
        *lock(&self.rules) = vec![Rule { fault, method: None, left: None }];
        self
    }

    /// Fails requests with this JSON-RPC method in this way from now on; others as before.
    pub fn fail_on(&self, method: &str, fault: Fault) -> &Self {
        lock(&self.rules).insert(0, Rule { fault, method: Some(method.to_owned()), left: None });
        self
    }

    /// Fails the next `times` requests with this JSON-RPC method, and works again.
    pub fn fail_times(&self, method: &str, times: usize, fault: Fault) -> &Self {
        lock(&self.rules).insert(0, Rule { fault, method: Some(method.to_owned()), left: Some(times) });
        self
    }

    /// Works from now on.
    pub fn heal(&self) -> &Self {
        lock(&self.rules).clear();
        self
    }

    /// The requests with this JSON-RPC method, oldest first.
    pub fn asked(&self, method: &str) -> Vec<Recorded> {
        self.host.requests().into_iter().filter(|request| request.rpc() == method).collect()
    }
}

fn pick(rules: &Mutex<Vec<Rule>>, body: &Bytes) -> Option<Fault> {
    let mut rules = lock(rules);
    if rules.is_empty() || body.is_empty() {
        return None;
    }
    let message: Value = serde_json::from_slice(body).unwrap_or_default();
    let method = message["method"].as_str();
    let rule = rules
        .iter_mut()
        .find(|rule| rule.left != Some(0) && rule.method.as_deref().is_none_or(|wanted| Some(wanted) == method))?;
    if let Some(left) = &mut rule.left {
        *left -= 1;
    }
    Some(rule.fault.clone())
}

async fn fail(
    engine: &Arc<Engine>,
    request: Request<Bytes>,
    wire: Wire,
    fault: Fault,
    tasks: &Mutex<JoinSet<()>>,
) -> Reply {
    let message: Value = serde_json::from_slice(request.body()).unwrap_or_default();
    let id = message["id"].to_string();
    let token = message["params"]["_meta"]["progressToken"].clone();
    let progress = |step: usize| {
        let params = json!({ "progressToken": token, "progress": step });
        sse::message(&jsonrpc::notification("notifications/progress", &params))
    };
    let text = |text: &str| jsonrpc::result(&id, &json!({ "content": [{ "type": "text", "text": text }] }).to_string());
    match fault {
        Fault::DieMidStream => {
            let half = format!("{}event: message\ndata: {{\"jsonrpc\":\"2.0\",\"id\":{id},\"res", progress(1));
            held(tasks, "text/event-stream", half.into(), Some((wire, Cut::Close(FLUSH))))
        }
        Fault::EndWithoutAnswer(count) => {
            let events: String = (1..=count).map(progress).collect();
            reply(200, "text/event-stream", events)
        }
        Fault::Hang => std::future::pending().await,
        Fault::HangAfterHead => held(tasks, "text/event-stream", Bytes::from_static(b": open\n\n"), None),
        Fault::Garbage => reply(200, "application/json", format!("{{\"jsonrpc\":\"2.0\",\"id\":{id},\"result\":{{]]")),
        Fault::Refusal(code) => {
            let error = format!("{{\"jsonrpc\":\"2.0\",\"id\":{id},\"error\":{{\"code\":{code},\"message\":\"no\"}}}}");
            reply(400, "application/json", error)
        }
        Fault::NotJsonRpc => reply(200, "application/json", r#"{"message":"hello"}"#),
        Fault::Html => reply(200, "text/html; charset=utf-8", "<!doctype html><title>Sign in</title><p>Please sign in"),
        Fault::Huge(bytes) => flood(tasks, "application/json", text("\u{1}"), bytes),
        Fault::HugeEvent(bytes) => flood(tasks, "text/event-stream", format!("data: {}\n\n", text("\u{1}")), bytes),
        Fault::HalfUtf8 => {
            let mut body = text("é").into_bytes();
            let at = body.iter().position(|byte| *byte == 0xc3).unwrap_or(0);
            body.truncate(at + 1);
            reply(200, "application/json", body)
        }
        Fault::Status(status) => reply(status, "text/plain", "something is wrong here"),
        Fault::TooMany(seconds) => {
            let mut refused = reply(429, "text/plain", "too many");
            refused.headers_mut().insert(http::header::RETRY_AFTER, seconds.into());
            refused
        }
        Fault::Redirect(location) => {
            let mut moved = reply(307, "text/plain", "over there");
            if let Ok(location) = location.parse() {
                moved.headers_mut().insert(http::header::LOCATION, location);
            }
            moved
        }
        Fault::Reset => {
            wire.cut(Cut::Reset);
            std::future::pending().await
        }
        Fault::Close => {
            wire.cut(Cut::Close(Duration::ZERO));
            std::future::pending().await
        }
        Fault::Empty => reply(200, "application/json", Bytes::new()),
        Fault::ShortBody => {
            let body = text("short");
            let length = body.len() + 10;
            let mut cut = held(tasks, "application/json", body.into(), Some((wire, Cut::Close(FLUSH))));
            cut.headers_mut().insert(http::header::CONTENT_LENGTH, length.into());
            cut
        }
        Fault::BreakOff(bytes) => {
            let mut half = text("").into_bytes();
            half.truncate(half.len().saturating_sub("\"}]}}".len()));
            half.extend_from_slice(filler(bytes).as_bytes());
            held(tasks, "application/json", half.into(), Some((wire, Cut::Close(FLUSH))))
        }
        Fault::Late(pause) => {
            tokio::time::sleep(pause).await;
            engine.handle(request).await
        }
        Fault::Sessions(session) => {
            let mut response = engine.handle(request).await;
            if let Ok(session) = http::HeaderValue::from_bytes(session.as_bytes()) {
                response.headers_mut().insert("mcp-session-id", session);
            }
            response
        }
        Fault::CloseIdle => {
            let good = engine.handle(request).await;
            wire.cut(Cut::Close(FLUSH));
            good
        }
        Fault::SlowDrip(pause) => {
            let (head, body) = whole(engine, request).await;
            let (sender, dripping) = piped("application/json");
            lock(tasks).spawn(async move {
                for byte in body {
                    tokio::time::sleep(pause).await;
                    if sender.send(Ok(vec![byte].into())).await.is_err() {
                        return;
                    }
                }
            });
            with_head(dripping, &head)
        }
        Fault::WrongId => {
            let (head, body) = whole(engine, request).await;
            let mut message: Value = serde_json::from_slice(&body).unwrap_or_default();
            message["id"] = json!("somebody else's");
            with_head(reply(200, "application/json", message.to_string()), &head)
        }
        Fault::TwoResponses => {
            let (_, body) = whole(engine, request).await;
            let event = sse::message(&String::from_utf8_lossy(&body));
            reply(200, "text/event-stream", event.repeat(2))
        }
        Fault::UnknownType => {
            let (head, body) = whole(engine, request).await;
            with_head(reply(200, "application/vnd.unknown", body), &head)
        }
    }
}

/// What a good answer would have been.
async fn whole(engine: &Arc<Engine>, request: Request<Bytes>) -> (http::HeaderMap, Bytes) {
    let (head, body) = engine.handle(request).await.into_parts();
    let body = body.collect().await.map(http_body_util::Collected::to_bytes).unwrap_or_default();
    (head.headers, body)
}

fn with_head(mut reply: Reply, good: &http::HeaderMap) -> Reply {
    if let Some(session) = good.get("mcp-session-id") {
        reply.headers_mut().insert("mcp-session-id", session.clone());
    }
    reply
}

/// Sends one piece and keeps the body open, until the connection is cut or the client leaves.
fn held(tasks: &Mutex<JoinSet<()>>, kind: &str, piece: Bytes, cut: Option<(Wire, Cut)>) -> Reply {
    let (sender, response) = piped(kind);
    lock(tasks).spawn(async move {
        if sender.send(Ok(piece)).await.is_ok() {
            if let Some((wire, how)) = cut {
                wire.cut(how);
            }
            sender.closed().await;
        }
    });
    response
}

/// Sends `frame`, with the control character in it replaced by this many letters.
fn flood(tasks: &Mutex<JoinSet<()>>, kind: &str, frame: String, bytes: usize) -> Reply {
    let (sender, response) = piped(kind);
    lock(tasks).spawn(async move {
        let (head, tail) = frame.split_once("\\u0001").unwrap_or((&frame, ""));
        let piece = Bytes::from(filler(26 * 2520));
        let put = async |bytes: Bytes| sender.send(Ok(bytes)).await.ok();
        if put(head.to_owned().into()).await.is_none() {
            return;
        }
        let mut left = bytes;
        while left > 0 {
            let next = piece.slice(..piece.len().min(left));
            left -= next.len();
            if put(next).await.is_none() {
                return;
            }
        }
        _ = put(tail.to_owned().into()).await;
    });
    response
}
