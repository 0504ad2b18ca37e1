//! Streamable HTTP of both eras: envelope, headers, sessions, streams.
//!
//! Which era a request belongs to is decided by what it carries, as the protocol says: per-request metadata makes it
//! one of the stateless era, whose work ends with its connection; anything else belongs to the era of sessions, whose
//! work goes on until it is cancelled by name.

use std::{
    collections::HashMap,
    future::Future,
    io,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
};

use bytes::Bytes;
use http::{HeaderMap, Method, Request};
use serde_json::{Value, json};
use tokio::{
    sync::mpsc::{self, UnboundedReceiver},
    task::JoinSet,
};

use super::{
    core::{Core, Exchange, Listener, Message, RpcError, lock},
    host::{Reply, piped, reply},
    words::{Eras, ReplyForm},
};
use crate::jsonrpc::{self, Envelope, META_CAPABILITIES, META_SUBSCRIPTION, META_VERSION, MODERN};

/// Looks at the headers of a request: `WWW-Authenticate` of the refusal, or none for who may come in.
pub(crate) type Door = Arc<dyn Fn(&http::HeaderMap) -> Option<String> + Send + Sync>;

/// The transport: envelope, headers, sessions, streams.
pub(crate) struct Engine {
    pub(crate) core: Arc<Core>,
    pub(crate) form: Mutex<ReplyForm>,
    pub(crate) sessions: AtomicBool,
    pub(crate) bearer: Mutex<Option<String>>,
    pub(crate) door: Mutex<Option<Door>>,
    /// What it says of the authorization servers whose tokens it takes (RFC 9728).
    pub(crate) described: Mutex<Option<Value>>,
    /// Streams that were closed before their answer, by the id of their last event.
    parked: Mutex<HashMap<String, UnboundedReceiver<Message>>>,
    /// Calls that outlive the connection they came over: the legacy era's.
    tasks: Mutex<JoinSet<()>>,
}

impl Engine {
    pub(crate) fn new(eras: Eras) -> Self {
        Self {
            core: Arc::new(Core::new(eras)),
            form: Mutex::default(),
            sessions: AtomicBool::new(true),
            bearer: Mutex::default(),
            door: Mutex::default(),
            described: Mutex::default(),
            parked: Mutex::default(),
            tasks: Mutex::default(),
        }
    }

    pub(crate) async fn handle(self: &Arc<Self>, request: Request<Bytes>) -> Reply {
        let (head, body) = request.into_parts();
        if head.uri.path() == "/.well-known/oauth-protected-resource/mcp"
            && let Some(description) = &*lock(&self.described)
        {
            return reply(200, "application/json", description.to_string());
        }
        if head.uri.path() != "/mcp" {
            return reply(404, "text/plain", "not here");
        }
        let door = lock(&self.door).clone();
        if let Some(challenge) = door.and_then(|door| door(&head.headers)) {
            let status = if challenge.contains("insufficient_scope") { 403 } else { 401 };
            let mut refused = reply(status, "text/plain", "who are you?");
            if let Ok(challenge) = challenge.parse() {
                refused.headers_mut().insert(http::header::WWW_AUTHENTICATE, challenge);
            }
            return refused;
        }
        let token = lock(&self.bearer).clone();
        if let Some(token) = token
            && header(&head.headers, "authorization") != format!("Bearer {token}")
        {
            let mut refused = reply(401, "text/plain", "who are you?");
            let challenge = http::HeaderValue::from_static("Bearer error=\"invalid_token\"");
            refused.headers_mut().insert(http::header::WWW_AUTHENTICATE, challenge);
            return refused;
        }
        let legacy = lock(&self.core.eras).legacy();
        match head.method {
            Method::POST => self.post(&head.headers, &body).await,
            Method::GET if legacy => self.get(&head.headers),
            Method::DELETE if legacy => self.delete(&head.headers),
            _ => {
                let mut refused = reply(405, "text/plain", "POST is what is served here");
                refused.headers_mut().insert(http::header::ALLOW, http::HeaderValue::from_static("POST"));
                refused
            }
        }
    }

    async fn post(self: &Arc<Self>, headers: &HeaderMap, body: &Bytes) -> Reply {
        if !header(headers, "content-type").starts_with("application/json") {
            return reply(415, "text/plain", "application/json is what is read here");
        }
        let accept = header(headers, "accept");
        if !accept.contains("application/json") || !accept.contains("text/event-stream") {
            return refuse(406, "null", -32600, "Accept must list application/json and text/event-stream", None);
        }
        let Ok(envelope) = serde_json::from_slice::<Envelope>(body) else {
            return refuse(400, "null", -32700, "Parse error", None);
        };
        let id = envelope.id.as_ref().map(|id| id.get().to_owned());
        let eras = lock(&self.core.eras).clone();
        let version = header(headers, "mcp-protocol-version");
        let Some(method) = envelope.method else {
            let answer = id.zip(envelope.result.or(envelope.error));
            return if answer.is_some_and(|(id, answer)| self.core.answered(&id, answer)) {
                reply(202, "", Bytes::new())
            } else {
                refuse(400, "null", -32600, "Invalid request", None)
            };
        };
        let modern = !envelope.params["_meta"][META_VERSION].is_null() || version >= MODERN;
        if modern && eras.modern() || !eras.legacy() {
            return self.modern(headers, id, method, envelope.params).await;
        }
        self.legacy(headers, id, method, envelope.params).await
    }

    async fn modern(self: &Arc<Self>, headers: &HeaderMap, id: Option<String>, method: String, params: Value) -> Reply {
        let Some(id) = id else {
            self.core.notified(&method, &params, None);
            return reply(202, "", Bytes::new());
        };
        if let Err((code, text, data)) = self.check_modern(headers, &method, &params) {
            return refuse(400, &id, code, &text, data.as_ref());
        }
        let (out, received) = mpsc::unbounded_channel();
        let exchange =
            Exchange { id, method, params, modern: true, session: None, headers: headers.clone(), out: out.clone() };
        if exchange.method == "subscriptions/listen" {
            return self.subscribe(exchange, received);
        }
        // The answer is worked out inside the body, so that a client that goes away stops the work.
        self.respond(exchange, received, None).await
    }

    fn check_modern(&self, headers: &HeaderMap, method: &str, params: &Value) -> Result<(), RpcError> {
        let mismatch = |what: &str| Err((-32020, format!("Header mismatch: {what}"), None));
        let (version, meta) = (header(headers, "mcp-protocol-version"), &params["_meta"]);
        if version.is_empty() {
            let supported = json!({ "supported": lock(&self.core.eras).versions() });
            return Err((-32020, "Header mismatch: MCP-Protocol-Version is missing".to_owned(), Some(supported)));
        }
        if !meta[META_VERSION].is_string() || !meta[META_CAPABILITIES].is_object() {
            return Err((-32602, "_meta lacks what every request must carry".to_owned(), None));
        }
        if meta[META_VERSION] != version {
            return mismatch("MCP-Protocol-Version");
        }
        if version != MODERN {
            let data = json!({ "supported": lock(&self.core.eras).versions(), "requested": version });
            return Err((-32022, "Unsupported protocol version".to_owned(), Some(data)));
        }
        if header(headers, "mcp-method") != method {
            return mismatch("Mcp-Method");
        }
        if let Some(name) = jsonrpc::name_of(method, params)
            && jsonrpc::decode_header_value(header(headers, "mcp-name")).as_deref() != Some(name)
        {
            return mismatch("Mcp-Name");
        }
        if method == "tools/call" {
            let settings = lock(&self.core.settings);
            let tool = settings.tools.iter().find(|tool| tool["name"] == params["name"]);
            let expected = tool.map(|tool| jsonrpc::param_headers(&tool["inputSchema"], &params["arguments"]));
            for (name, value) in expected.unwrap_or_default() {
                if jsonrpc::decode_header_value(header(headers, &name)).as_deref() != Some(value.as_str())
                    || !headers.contains_key(&name)
                {
                    return mismatch(&name);
                }
            }
        }
        Ok(())
    }

    fn subscribe(self: &Arc<Self>, exchange: Exchange, received: UnboundedReceiver<Message>) -> Reply {
        let subscription: Value = serde_json::from_str(&exchange.id).unwrap_or_default();
        let wants = exchange.params["notifications"].clone();
        let acknowledged = json!({ "notifications": wants, "_meta": { META_SUBSCRIPTION: subscription } });
        exchange.send(jsonrpc::notification("notifications/subscriptions/acknowledged", &acknowledged));
        let listener = Listener { out: exchange.out.clone(), wants: Some((exchange.id.clone(), wants)), session: None };
        let listening = self.core.listen(listener);
        drop(exchange);
        self.stream(received, listening)
    }

    async fn legacy(self: &Arc<Self>, headers: &HeaderMap, id: Option<String>, method: String, params: Value) -> Reply {
        let with_sessions = self.sessions.load(Ordering::Relaxed);
        let shown = id.as_deref().unwrap_or("null");
        if method == "initialize"
            && let Some(id) = &id
        {
            let (result, session) = self.core.handshake(&params);
            let mut response = self.finished(jsonrpc::result(id, &result.to_string()));
            if with_sessions {
                let name = format!("session-{}-{}", self.core.number(), std::process::id());
                if let Ok(value) = name.parse() {
                    response.headers_mut().insert("mcp-session-id", value);
                }
                lock(&self.core.sessions).insert(name, session);
            }
            return response;
        }
        let session = match self.session(headers) {
            Ok(session) => session,
            Err(refused) => return *refused,
        };
        let (version, eras) = (header(headers, "mcp-protocol-version"), lock(&self.core.eras).clone());
        if !version.is_empty() && !eras.versions().iter().any(|known| known == version) {
            return refuse(400, shown, -32000, "Bad Request: Unsupported protocol version", None);
        }
        let agreed = session.as_ref().and_then(|id| Some(lock(&self.core.sessions).get(id)?.version.clone()));
        if !version.is_empty() && agreed.is_some_and(|agreed| agreed != version) {
            return refuse(400, shown, -32000, "Bad Request: not the protocol version agreed on", None);
        }
        let Some(id) = id else {
            self.core.notified(&method, &params, session.as_deref());
            return reply(202, "", Bytes::new());
        };
        let (out, received) = mpsc::unbounded_channel();
        let exchange = Exchange { id, method, params, modern: false, session, headers: headers.clone(), out };
        if exchange.method == "tools/call" && exchange.params["name"] == "reconnect" {
            return self.park(exchange, received);
        }
        // A legacy client that loses its connection may come back: the call goes on without it.
        let (sender, finished) = mpsc::unbounded_channel();
        let core = Arc::clone(&self.core);
        let working = exchange.clone();
        self.spawn(async move {
            if let Some(answer) = core.answer(working).await {
                _ = sender.send(answer);
            }
        });
        self.respond(exchange, received, Some(finished)).await
    }

    fn session(&self, headers: &HeaderMap) -> Result<Option<String>, Box<Reply>> {
        if !self.sessions.load(Ordering::Relaxed) {
            return Ok(None);
        }
        let id = header(headers, "mcp-session-id");
        if id.is_empty() {
            return Err(Box::new(refuse(400, "null", -32000, "Bad Request: Mcp-Session-Id header is required", None)));
        }
        if !lock(&self.core.sessions).contains_key(id) {
            return Err(Box::new(refuse(404, "null", -32001, "Session not found", None)));
        }
        Ok(Some(id.to_owned()))
    }

    /// Streams a first event and no more; the answer waits for whoever resumes the stream.
    fn park(self: &Arc<Self>, exchange: Exchange, received: UnboundedReceiver<Message>) -> Reply {
        let event = format!("stream-{}/0", self.core.number());
        let (answers, parked) = mpsc::unbounded_channel();
        drop(received);
        lock(&self.parked).insert(event.clone(), parked);
        let core = Arc::clone(&self.core);
        self.spawn(async move {
            if let Some(answer) = core.answer(exchange).await {
                _ = answers.send(answer);
            }
        });
        reply(200, "text/event-stream", format!("id: {event}\nretry: 10\ndata:\n\n"))
    }

    fn get(self: &Arc<Self>, headers: &HeaderMap) -> Reply {
        let session = match self.session(headers) {
            Ok(session) => session,
            Err(refused) => return *refused,
        };
        if !header(headers, "accept").contains("text/event-stream") {
            return reply(406, "text/plain", "text/event-stream is what is served here");
        }
        let resumed = lock(&self.parked).remove(header(headers, "last-event-id"));
        if let Some(parked) = resumed {
            return self.stream(parked, ());
        }
        let (out, received) = mpsc::unbounded_channel();
        let listening = self.core.listen(Listener { out, wants: None, session });
        self.stream(received, listening)
    }

    fn delete(&self, headers: &HeaderMap) -> Reply {
        match self.session(headers) {
            Ok(Some(id)) => {
                lock(&self.core.sessions).remove(&id);
                reply(204, "", Bytes::new())
            }
            Ok(None) => reply(405, "text/plain", "there are no sessions"),
            Err(refused) => *refused,
        }
    }

    /// A known answer in the form that is wanted.
    fn finished(&self, text: String) -> Reply {
        match *lock(&self.form) {
            ReplyForm::Sse => reply(200, "text/event-stream", crate::sse::message(&text)),
            ReplyForm::Auto | ReplyForm::Json => reply(200, "application/json", text),
        }
    }

    /// Answers in one object or as events, whichever is wanted or needed.
    ///
    /// `finished` carries the answer where somebody else works it out; without it, it is worked out here.
    async fn respond(
        self: &Arc<Self>,
        exchange: Exchange,
        mut received: UnboundedReceiver<Message>,
        finished: Option<UnboundedReceiver<Message>>,
    ) -> Reply {
        let form = *lock(&self.form);
        let (core, modern) = (Arc::clone(&self.core), exchange.modern);
        let mut work: std::pin::Pin<Box<dyn Future<Output = Option<Message>> + Send>> = match finished {
            Some(mut finished) => {
                drop(exchange);
                Box::pin(async move { finished.recv().await })
            }
            None => Box::pin(async move { core.answer(exchange).await }),
        };
        let (mut early, mut done) = (Vec::new(), None);
        if form != ReplyForm::Sse {
            loop {
                tokio::select! {
                    biased;
                    Some(message) = received.recv() => early.push(message),
                    answer = &mut work => done = Some(answer),
                }
                if done.is_some() {
                    // What was said before the answer may have come in at the same moment.
                    early.extend(std::iter::from_fn(|| received.try_recv().ok()));
                }
                if form == ReplyForm::Auto && !early.is_empty() {
                    break;
                }
                if let Some(answer) = done.take() {
                    return self.object(answer, modern);
                }
            }
        }
        let (sender, response) = piped("text/event-stream");
        let core = Arc::clone(&self.core);
        self.spawn(async move {
            let relay = async {
                for message in &early {
                    write(&core, &sender, message, true).await?;
                }
                while done.is_none() {
                    tokio::select! {
                        biased;
                        Some(message) = received.recv() => write(&core, &sender, &message, true).await?,
                        answer = &mut work => done = Some(answer),
                    }
                }
                while let Ok(message) = received.try_recv() {
                    write(&core, &sender, &message, true).await?;
                }
                write(&core, &sender, &done.flatten()?, true).await
            };
            // The client closing its side drops `work` here: in the stateless era, that is the cancellation.
            tokio::select! {
                _ = relay => {}
                () = sender.closed() => {}
            }
        });
        response
    }

    /// Runs a task that ends with the server at the latest.
    fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        let mut tasks = lock(&self.tasks);
        while tasks.try_join_next().is_some() {}
        tasks.spawn(task);
    }

    fn object(&self, answer: Option<Message>, modern: bool) -> Reply {
        // A cancelled call has no answer: its stream just ends.
        let Some(answer) = answer else { return reply(200, "text/event-stream", Bytes::new()) };
        if answer.fill == 0 {
            let status = if modern { status_of(&answer.head) } else { 200 };
            return reply(status, "application/json", answer.head);
        }
        let (sender, response) = piped("application/json");
        let core = Arc::clone(&self.core);
        self.spawn(async move { _ = write(&core, &sender, &answer, false).await });
        response
    }

    /// Events as they come, until nobody can send any more.
    fn stream(&self, mut received: UnboundedReceiver<Message>, held: impl Send + 'static) -> Reply {
        let (sender, response) = piped("text/event-stream");
        let core = Arc::clone(&self.core);
        self.spawn(async move {
            let _held = held;
            // A first comment shows that the stream is open.
            if sender.send(Ok(Bytes::from_static(b": open\n\n"))).await.is_err() {
                return;
            }
            loop {
                tokio::select! {
                    message = received.recv() => match message {
                        Some(message) if write(&core, &sender, &message, true).await.is_some() => {}
                        _ => return,
                    },
                    () = sender.closed() => return,
                }
            }
        });
        response
    }
}

/// Writes one message a piece at a time, no faster than it is read; `None` when nobody reads any more.
pub(crate) async fn write(
    core: &Core,
    sender: &mpsc::Sender<io::Result<Bytes>>,
    message: &Message,
    event: bool,
) -> Option<()> {
    const PIECE: usize = 26 * 630;
    if message.fill == 0 {
        let text = String::from_utf8_lossy(&message.head);
        let bytes = if event { crate::sse::message(&text).into() } else { message.head.clone() };
        return sender.send(Ok(bytes)).await.ok();
    }
    let put = async |bytes: Bytes| {
        let length = bytes.len() as u64;
        sender.send(Ok(bytes)).await.ok()?;
        core.sent.fetch_add(length, Ordering::Relaxed);
        Some(())
    };
    if event {
        put(Bytes::from_static(b"event: message\ndata: ")).await?;
    }
    put(message.head.clone()).await?;
    let piece = Bytes::from(super::tools::filler(PIECE.min(message.fill)));
    let mut left = message.fill;
    while left > 0 {
        let next = piece.slice(..piece.len().min(left));
        left -= next.len();
        put(next).await?;
    }
    put(message.tail.clone()).await?;
    if event {
        put(Bytes::from_static(b"\n\n")).await?;
    }
    Some(())
}

/// The HTTP status that the stateless era wants with an error.
fn status_of(message: &[u8]) -> u16 {
    if !message.windows(8).any(|part| part == b"\"error\":") {
        return 200;
    }
    let message: Value = serde_json::from_slice(message).unwrap_or_default();
    match message["error"]["code"].as_i64() {
        Some(-32601) => 404,
        Some(-32022..=-32020) => 400,
        _ => 200,
    }
}

fn header<'a>(headers: &'a HeaderMap, name: &str) -> &'a str {
    headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
}

fn refuse(status: u16, id: &str, code: i64, message: &str, data: Option<&Value>) -> Reply {
    reply(status, "application/json", jsonrpc::error(id, code, message, data))
}
