//! The oldest transport: HTTP with server-sent events, of version 2024-11-05.
//!
//! `GET /sse` opens a stream whose first event, `endpoint`, says where to post; everything the server says comes over
//! that stream, and the posts themselves are only acknowledged.

use std::{
    collections::HashMap,
    io,
    sync::{Arc, Mutex},
};

use bytes::Bytes;
use http::{Method, Request};
use tokio::{
    sync::{mpsc, watch},
    task::JoinSet,
};

use super::{
    core::{Change, Core, Exchange, Listener, Message, lock},
    engine::write,
    host::{Host, Recorded, Reply, piped, reply},
    words::{Answer, Call, Cancelled, Eras, Settings},
};
use crate::jsonrpc::{self, Envelope};

/// A server of version 2024-11-05.
pub struct LegacySse {
    host: Host,
    engine: Arc<Engine>,
}

struct Engine {
    core: Arc<Core>,
    streams: Mutex<HashMap<String, mpsc::UnboundedSender<Message>>>,
    endpoint: Mutex<Option<String>>,
    cuts: watch::Sender<u64>,
    tasks: Mutex<JoinSet<()>>,
}

impl LegacySse {
    /// Starts on a free port.
    pub async fn start() -> io::Result<Self> {
        let engine = Arc::new(Engine {
            core: Arc::new(Core::new(Eras::Legacy("2024-11-05".to_owned()))),
            streams: Mutex::default(),
            endpoint: Mutex::default(),
            cuts: watch::Sender::new(0),
            tasks: Mutex::default(),
        });
        let serving = Arc::clone(&engine);
        let host = Host::start(0, move |request, _| {
            let engine = Arc::clone(&serving);
            async move { engine.handle(&request) }
        })
        .await?;
        Ok(Self { host, engine })
    }

    /// Where the stream is opened.
    pub fn url(&self) -> String {
        format!("http://{}/sse", self.host.address())
    }

    /// The listener: recorded requests, connections.
    pub fn host(&self) -> &Host {
        &self.host
    }

    /// Changes what is shown; nobody is told.
    pub fn set(&self, change: impl FnOnce(&mut Settings)) -> &Self {
        change(&mut lock(&self.engine.core.settings));
        self
    }

    /// Names this address in `endpoint` instead of its own: another origin, say, which no client may follow.
    pub fn endpoint(&self, uri: &str) -> &Self {
        *lock(&self.engine.endpoint) = Some(uri.to_owned());
        self
    }

    /// Lets a test answer the calls of one tool.
    pub fn script(&self, tool: &str, answer: impl Fn(&Call) -> Answer + Send + Sync + 'static) -> &Self {
        lock(&self.engine.core.scripts).insert(tool.to_owned(), Arc::new(answer));
        self
    }

    /// Tells every stream that the list of tools changed; says how many there were.
    pub fn tools_changed(&self) -> usize {
        self.engine.core.announce(&Change::Tools)
    }

    /// How many streams are open.
    pub fn streams(&self) -> usize {
        self.engine.core.listeners()
    }

    /// Waits until this many streams are open.
    pub async fn wait_streams(&self, count: usize) -> bool {
        self.engine.core.pulse.until(|| (self.streams() == count).then_some(())).await.is_some()
    }

    /// Breaks every stream off, as a lost connection does. POSTs go over connections of their own and are still answered,
    /// and what they asked for goes on.
    pub fn cut_streams(&self) {
        self.engine.cuts.send_modify(|count| *count += 1);
    }

    /// Waits until exactly this many calls of a tool are under way: their POSTs found their streams, and nothing but an
    /// answer to the POST can follow.
    pub async fn wait_running(&self, tool: &str, count: usize) -> bool {
        self.engine.core.pulse.until(|| (self.engine.core.running(tool) == count).then_some(())).await.is_some()
    }

    /// Lets the calls of `gate` through (`true`), or holds the next ones (`false`).
    pub fn open_gate(&self, open: bool) {
        self.engine.core.gate.send_replace(open);
    }

    /// What clients gave up so far.
    pub fn cancelled(&self) -> Vec<Cancelled> {
        self.engine.core.cancellations()
    }

    /// Waits until a client gives something up.
    pub async fn wait_cancelled(&self) -> Option<Cancelled> {
        self.engine.core.pulse.until(|| self.cancelled().pop()).await
    }

    /// The requests with this JSON-RPC method, oldest first.
    pub fn asked(&self, method: &str) -> Vec<Recorded> {
        self.host.requests().into_iter().filter(|request| request.rpc() == method).collect()
    }
}

impl Engine {
    fn handle(self: &Arc<Self>, request: &Request<Bytes>) -> Reply {
        match (request.method(), request.uri().path()) {
            (&Method::GET, "/sse") => self.open(),
            (&Method::POST, "/messages") => self.post(request),
            (_, "/sse" | "/messages") => reply(405, "text/plain", "not in this way"),
            _ => reply(404, "text/plain", "not here"),
        }
    }

    fn open(self: &Arc<Self>) -> Reply {
        let session = format!("stream-{}", self.core.number());
        let endpoint = lock(&self.endpoint).clone().unwrap_or_else(|| format!("/messages?session_id={session}"));
        let (out, mut received) = mpsc::unbounded_channel::<Message>();
        lock(&self.streams).insert(session.clone(), out.clone());
        let listening = self.core.listen(Listener { out, wants: None, session: Some(session.clone()) });
        let (sender, response) = piped("text/event-stream");
        let (engine, mut cuts) = (Arc::clone(self), self.cuts.subscribe());
        lock(&self.tasks).spawn(async move {
            let first = format!("event: endpoint\ndata: {endpoint}\n\n");
            if sender.send(Ok(first.into())).await.is_ok() {
                loop {
                    tokio::select! {
                        Some(message) = received.recv() => {
                            if write(&engine.core, &sender, &message, true).await.is_none() {
                                break;
                            }
                        }
                        () = sender.closed() => break,
                        Ok(()) = cuts.changed() => {
                            _ = sender.send(Err(io::Error::other("cut off"))).await;
                            break;
                        }
                    }
                }
            }
            lock(&engine.streams).remove(&session);
            lock(&engine.core.sessions).remove(&session);
            drop(listening);
        });
        response
    }

    fn post(self: &Arc<Self>, request: &Request<Bytes>) -> Reply {
        let query = request.uri().query().unwrap_or_default();
        let session = query.strip_prefix("session_id=").unwrap_or_default().to_owned();
        let Some(out) = lock(&self.streams).get(&session).cloned() else {
            return reply(404, "text/plain", "Could not find session");
        };
        let Ok(envelope) = serde_json::from_slice::<Envelope>(request.body()) else {
            return reply(400, "text/plain", "Could not parse message");
        };
        let id = envelope.id.map(|id| id.get().to_owned());
        let accepted = || reply(202, "", Bytes::new());
        let (Some(method), Some(id)) = (envelope.method.clone(), id.clone()) else {
            match (envelope.method, id, envelope.result.or(envelope.error)) {
                (Some(method), None, _) => self.core.notified(&method, &envelope.params, Some(&session)),
                (None, Some(id), Some(answer)) => _ = self.core.answered(&id, answer),
                _ => return reply(400, "text/plain", "Could not parse message"),
            }
            return accepted();
        };
        if method == "initialize" {
            let (result, known) = self.core.handshake(&envelope.params);
            lock(&self.core.sessions).insert(session, known);
            _ = out.send(jsonrpc::result(&id, &result.to_string()).into());
            return accepted();
        }
        let exchange = Exchange {
            id,
            method,
            params: envelope.params,
            modern: false,
            session: Some(session),
            headers: request.headers().clone(),
            out: out.clone(),
        };
        let core = Arc::clone(&self.core);
        lock(&self.tasks).spawn(async move {
            if let Some(answer) = core.answer(exchange).await {
                _ = out.send(answer);
            }
        });
        accepted()
    }
}
