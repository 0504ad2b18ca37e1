//! What an MCP server says, whatever it is carried over: lists, calls, changes, questions to the client.
//!
//! The transports ([`super::Plain`], [`super::LegacySse`]) decide how a message travels; this decides which one. Nothing
//! here is validated for its own sake: what the protocol demands of a message's envelope is the transport's to check.

use std::{
    collections::{HashMap, HashSet},
    future::Future,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
};

use bytes::Bytes;
use http::HeaderMap;
use serde_json::{Value, json};
use tokio::sync::{Notify, mpsc, oneshot, watch};

use super::{
    tools,
    words::{Cancelled, Eras, How, Script, Settings},
};
use crate::{
    jsonrpc::{self, LEGACY, META_SERVER, META_SUBSCRIPTION},
    pulse::Pulse,
};

/// One message on its way out: a text with, maybe, a long filling in the middle.
#[derive(Clone, Debug)]
pub(crate) struct Message {
    pub head: Bytes,
    pub fill: usize,
    pub tail: Bytes,
}

impl From<String> for Message {
    fn from(text: String) -> Self {
        Self { head: text.into(), fill: 0, tail: Bytes::new() }
    }
}

/// A request, and where what precedes its answer goes.
#[derive(Clone)]
pub(crate) struct Exchange {
    /// The id, as it was written.
    pub id: String,
    pub method: String,
    pub params: Value,
    pub modern: bool,
    pub session: Option<String>,
    pub headers: HeaderMap,
    pub out: mpsc::UnboundedSender<Message>,
}

impl Exchange {
    pub(crate) fn send(&self, message: String) {
        _ = self.out.send(message.into());
    }
}

/// Somebody who wants to hear of changes.
pub(crate) struct Listener {
    pub out: mpsc::UnboundedSender<Message>,
    /// In the stateless era: the id of the request that listens, and what it asked for.
    pub wants: Option<(String, Value)>,
    pub session: Option<String>,
}

/// A change that may be announced.
#[derive(Clone, Debug)]
pub(crate) enum Change {
    Tools,
    Prompts,
    Resources,
    Resource(String),
    Other(String, Value),
}

/// A legacy session.
#[derive(Clone, Debug, Default)]
pub(crate) struct Session {
    pub version: String,
    pub capabilities: Value,
    pub subscribed: HashSet<String>,
}

struct Running {
    tool: Option<String>,
    stop: Arc<Notify>,
}

/// The server itself.
pub(crate) struct Core {
    pub settings: Mutex<Settings>,
    pub eras: Mutex<Eras>,
    pub scripts: Mutex<HashMap<String, Script>>,
    pub sessions: Mutex<HashMap<String, Session>>,
    pub pulse: Pulse,
    pub gate: watch::Sender<bool>,
    pub sent: AtomicU64,
    cancelled: Mutex<Vec<Cancelled>>,
    listeners: Mutex<HashMap<u64, Listener>>,
    running: Mutex<HashMap<(Option<String>, String), Running>>,
    calls: AtomicUsize,
    asked: Mutex<HashMap<String, oneshot::Sender<Value>>>,
    next: AtomicU64,
}

pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Core {
    pub(crate) fn new(eras: Eras) -> Self {
        Self {
            settings: Mutex::default(),
            eras: Mutex::new(eras),
            scripts: Mutex::default(),
            sessions: Mutex::default(),
            pulse: Pulse::default(),
            gate: watch::Sender::new(false),
            sent: AtomicU64::new(0),
            cancelled: Mutex::default(),
            listeners: Mutex::default(),
            running: Mutex::default(),
            calls: AtomicUsize::new(0),
            asked: Mutex::default(),
            next: AtomicU64::new(0),
        }
    }

    pub(crate) fn number(&self) -> u64 {
        self.next.fetch_add(1, Ordering::Relaxed)
    }

    pub(crate) fn cancellations(&self) -> Vec<Cancelled> {
        lock(&self.cancelled).clone()
    }

    pub(crate) fn in_flight(&self) -> usize {
        self.calls.load(Ordering::Relaxed)
    }

    /// How many calls of this tool have been taken and not answered.
    pub(crate) fn running(&self, tool: &str) -> usize {
        lock(&self.running).values().filter(|running| running.tool.as_deref() == Some(tool)).count()
    }

    pub(crate) fn listeners(&self) -> usize {
        lock(&self.listeners).len()
    }

    /// A notification came; a cancellation stops what it names.
    pub(crate) fn notified(&self, method: &str, params: &Value, session: Option<&str>) {
        if method == "notifications/cancelled" {
            let id = params["requestId"].to_string();
            let running = lock(&self.running).remove(&(session.map(str::to_owned), id.clone()));
            let tool = running.as_ref().and_then(|running| running.tool.clone());
            lock(&self.cancelled).push(Cancelled { id, tool, how: How::Notification });
            if let Some(running) = running {
                running.stop.notify_one();
            }
        }
        self.pulse.tick();
    }

    /// A response came to something that was asked.
    pub(crate) fn answered(&self, id: &str, answer: Value) -> bool {
        lock(&self.asked).remove(id).is_some_and(|waiting| waiting.send(answer).is_ok())
    }

    /// Asks a legacy client over the stream of a call, and waits for its response.
    pub(crate) async fn ask(&self, exchange: &Exchange, method: &str, params: &Value) -> Value {
        let id = self.number().to_string();
        let (sender, receiver) = oneshot::channel();
        lock(&self.asked).insert(id.clone(), sender);
        exchange.send(jsonrpc::request(&id, method, params));
        self.pulse.tick();
        receiver.await.unwrap_or_default()
    }

    /// Starts to listen; ends when the guard is dropped.
    pub(crate) fn listen(self: &Arc<Self>, listener: Listener) -> Listening {
        let number = self.number();
        lock(&self.listeners).insert(number, listener);
        self.pulse.tick();
        Listening { core: Arc::clone(self), number }
    }

    /// Tells all who want to hear of it, and says how many that were.
    pub(crate) fn announce(&self, change: &Change) -> usize {
        let (method, wish, params) = match change {
            Change::Tools => ("notifications/tools/list_changed", "toolsListChanged", json!({})),
            Change::Prompts => ("notifications/prompts/list_changed", "promptsListChanged", json!({})),
            Change::Resources => ("notifications/resources/list_changed", "resourcesListChanged", json!({})),
            Change::Resource(uri) => ("notifications/resources/updated", "", json!({ "uri": uri })),
            Change::Other(method, params) => (method.as_str(), "", params.clone()),
        };
        let sessions = lock(&self.sessions);
        let wanted = |listener: &Listener| match (&listener.wants, change) {
            (None, Change::Resource(uri)) => listener
                .session
                .as_ref()
                .and_then(|id| sessions.get(id))
                .is_none_or(|session| session.subscribed.contains(uri)),
            (None, _) | (Some(_), Change::Other(..)) => true,
            (Some((_, wants)), Change::Resource(uri)) => {
                wants["resourceSubscriptions"].as_array().is_some_and(|all| all.iter().any(|one| one == uri))
            }
            (Some((_, wants)), _) => wants[wish] == true,
        };
        let mut told = 0;
        for listener in lock(&self.listeners).values().filter(|listener| wanted(listener)) {
            let mut params = params.clone();
            if let Some((id, _)) = &listener.wants {
                params["_meta"][META_SUBSCRIPTION] = serde_json::from_str(id).unwrap_or_default();
            }
            told += usize::from(listener.out.send(jsonrpc::notification(method, &params).into()).is_ok());
        }
        told
    }

    /// Ends every subscription of the stateless era as a server does that shuts down.
    pub(crate) fn close_subscriptions(&self) {
        for listener in lock(&self.listeners).values() {
            if let Some((id, _)) = &listener.wants {
                let subscription: Value = serde_json::from_str(id).unwrap_or_default();
                let end = json!({ "resultType": "complete", "_meta": { META_SUBSCRIPTION: subscription } });
                _ = listener.out.send(jsonrpc::result(id, &end.to_string()).into());
            }
        }
        lock(&self.listeners).clear();
    }

    /// Answers one request. Dropping the future means that the client has gone.
    pub(crate) async fn answer(self: &Arc<Self>, exchange: Exchange) -> Option<Message> {
        let stop = Arc::new(Notify::new());
        let key = (exchange.session.clone(), exchange.id.clone());
        let tool =
            (exchange.method == "tools/call").then(|| exchange.params["name"].as_str().map(str::to_owned)).flatten();
        lock(&self.running).insert(key.clone(), Running { tool: tool.clone(), stop: Arc::clone(&stop) });
        self.calls.fetch_add(1, Ordering::Relaxed);
        self.pulse.tick();
        let mut leaving = Leaving { core: Arc::clone(self), key, done: false };
        let answer = tokio::select! {
            answer = self.dispatch(&exchange) => answer,
            () = stop.notified() => None,
        };
        leaving.done = true;
        answer
    }

    fn dispatch(self: &Arc<Self>, exchange: &Exchange) -> impl Future<Output = Option<Message>> + Send {
        let (core, exchange) = (Arc::clone(self), exchange.clone());
        async move {
            let delay = lock(&core.settings).delay;
            if !delay.is_zero() {
                tokio::time::sleep(delay).await;
            }
            let outcome = match exchange.method.as_str() {
                "tools/call" => match tools::call(&core, &exchange).await {
                    Ok(message) => return message,
                    Err(error) => Err(error),
                },
                method => match tools::scripted(&core, &exchange, method).await {
                    Some(Ok(message)) => return message,
                    Some(Err(error)) => Err(error),
                    None => core.simple(&exchange),
                },
            };
            Some(match outcome {
                Ok(result) => jsonrpc::result(&exchange.id, &result.to_string()).into(),
                Err((code, text, data)) => jsonrpc::error(&exchange.id, code, &text, data.as_ref()).into(),
            })
        }
    }

    fn simple(&self, exchange: &Exchange) -> Result<Value, RpcError> {
        let settings = lock(&self.settings).clone();
        let params = &exchange.params;
        let mut cacheable = true;
        let mut result = match exchange.method.as_str() {
            "tools/list" => page("tools", &settings.tools, settings.page, params)?,
            "prompts/list" => page("prompts", &settings.prompts, settings.page, params)?,
            "resources/list" => page("resources", &settings.resources, settings.page, params)?,
            "resources/templates/list" => page("resourceTemplates", &settings.templates, settings.page, params)?,
            "resources/read" => {
                let uri = params["uri"].as_str().unwrap_or_default();
                if !settings.resources.iter().any(|one| one["uri"] == uri) && !uri.starts_with("stand-in://notes/") {
                    let code = if exchange.modern { -32602 } else { -32002 };
                    return Err((code, "Resource not found".to_owned(), Some(json!({ "uri": uri }))));
                }
                json!({ "contents": [{ "uri": uri, "mimeType": "text/plain", "text": format!("content of {uri}") }] })
            }
            "server/discover" if exchange.modern => json!({
                "supportedVersions": lock(&self.eras).versions(), "capabilities": settings.capabilities,
            }),
            method => {
                cacheable = false;
                match method {
                    "prompts/get" => {
                        let name = params["name"].as_str().unwrap_or_default();
                        if !settings.prompts.iter().any(|one| one["name"] == name) {
                            return Err((-32602, format!("Unknown prompt: {name}"), None));
                        }
                        let text = format!("{name} {}", params["arguments"]);
                        json!({ "messages": [{ "role": "user", "content": { "type": "text", "text": text } }] })
                    }
                    "completion/complete" => json!({ "completion": { "values": ["one", "two"], "hasMore": false } }),
                    "ping" | "logging/setLevel" if !exchange.modern => json!({}),
                    "resources/subscribe" | "resources/unsubscribe" if !exchange.modern => {
                        let uri = params["uri"].as_str().unwrap_or_default().to_owned();
                        if let Some(session) = exchange.session.as_ref()
                            && let Some(session) = lock(&self.sessions).get_mut(session)
                        {
                            if method == "resources/subscribe" {
                                session.subscribed.insert(uri);
                            } else {
                                session.subscribed.remove(&uri);
                            }
                        }
                        json!({})
                    }
                    other => return Err((-32601, format!("Method not found: {other}"), None)),
                }
            }
        };
        if exchange.method == "server/discover"
            && let Some(instructions) = &settings.instructions
        {
            result["instructions"] = instructions.as_str().into();
        }
        if exchange.modern {
            result["resultType"] = "complete".into();
            result["_meta"] = json!({ META_SERVER: { "name": settings.name, "version": "1.0.0" } });
            if cacheable {
                result["ttlMs"] = settings.ttl_ms.into();
                result["cacheScope"] = "private".into();
            }
        }
        Ok(result)
    }

    /// The answer to `initialize`, and the version agreed on.
    pub(crate) fn handshake(&self, params: &Value) -> (Value, Session) {
        let settings = lock(&self.settings).clone();
        let wanted = params["protocolVersion"].as_str().unwrap_or_default();
        let version = match &*lock(&self.eras) {
            Eras::Legacy(version) => version.clone(),
            _ => LEGACY.iter().find(|known| **known == wanted).unwrap_or(&LEGACY[0]).to_string(),
        };
        let mut result = json!({
            "protocolVersion": version,
            "capabilities": settings.capabilities,
            "serverInfo": { "name": settings.name, "version": "1.0.0" },
        });
        if let Some(instructions) = settings.instructions {
            result["instructions"] = instructions.into();
        }
        (result, Session { version, capabilities: params["capabilities"].clone(), ..Session::default() })
    }
}

/// Code, message and data of a JSON-RPC error.
pub(crate) type RpcError = (i64, String, Option<Value>);

fn page(key: &str, items: &[Value], size: Option<usize>, params: &Value) -> Result<Value, RpcError> {
    let invalid = || (-32602, "Invalid cursor".to_owned(), None);
    let from: usize = match params["cursor"].as_str() {
        Some(cursor) => cursor.strip_prefix("from-").and_then(|at| at.parse().ok()).ok_or_else(invalid)?,
        None => 0,
    };
    let rest = items.get(from..).ok_or_else(invalid)?;
    let size = size.unwrap_or(usize::MAX).min(rest.len());
    let mut result = json!({ key: &rest[..size] });
    if size < rest.len() {
        result["nextCursor"] = format!("from-{}", from + size).into();
    }
    Ok(result)
}

/// A listener's place; dropping it gives the place up.
pub(crate) struct Listening {
    core: Arc<Core>,
    number: u64,
}

impl Drop for Listening {
    fn drop(&mut self) {
        lock(&self.core.listeners).remove(&self.number);
        self.core.pulse.tick();
    }
}

/// Notices when a request is dropped before it was answered.
struct Leaving {
    core: Arc<Core>,
    key: (Option<String>, String),
    done: bool,
}

impl Drop for Leaving {
    fn drop(&mut self) {
        let running = lock(&self.core.running).remove(&self.key);
        if !self.done {
            let tool = running.and_then(|running| running.tool);
            lock(&self.core.cancelled).push(Cancelled { id: self.key.1.clone(), tool, how: How::Disconnect });
        }
        self.core.calls.fetch_sub(1, Ordering::Relaxed);
        self.core.pulse.tick();
    }
}
