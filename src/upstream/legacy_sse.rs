//! HTTP with SSE of 2024-11-05 (basic/transports, "HTTP with SSE"): one stream carries everything the server says, messages are
//! sent by POST to an address that the stream names first. A stream is a session, so each client session has one of its own, and
//! clients without sessions share one.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use ahash::AHashMap;
use bytes::Bytes;
use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use http::Method;
use http::uri::PathAndQuery;
use tokio::sync::OnceCell;

use crate::fault::{Fault, Kind, Retry};
use crate::net::Target;
use crate::protocol::message::Message;
use crate::protocol::sse;
use crate::registry::model::Server;
use crate::upstream::Ground;
use crate::upstream::channel::wanted::{ShareKey, Wanted};
use crate::upstream::channel::{self, Who};
use crate::upstream::http::{Answer, Content, HttpServer, Outgoing, garbage};
use crate::upstream::mux::{Limits, Mux};
use crate::upstream::peer::{self, Peer};
use crate::upstream::pipe::{FarEnd, pipe};
use crate::upstream::wire::Body;

/// Messages under way in each direction of one stream.
const DEPTH: usize = 64;
/// POSTs under way for one stream.
const POSTS: usize = 32;
/// Streams of one server at one time.
const MOST: usize = 10_000;

/// An open stream whose handshake is done.
pub struct Link {
    /// The way over it.
    pub mux: Mux,
    /// What the handshake told.
    pub peer: Peer,
}

/// The place of a stream, open or being opened.
type Slot = Arc<OnceCell<Arc<Link>>>;

/// A server of the oldest transport.
pub struct SseServer {
    server: Arc<Server>,
    http: Arc<HttpServer>,
    links: Mutex<AHashMap<ShareKey, Slot>>,
    pub(super) wanted: Arc<Wanted>,
}

impl SseServer {
    /// Nothing is contacted.
    pub fn new(server: Arc<Server>, http: HttpServer) -> Self {
        Self { server, http: Arc::new(http), links: Mutex::default(), wanted: Arc::default() }
    }

    /// Replicas, for status pages.
    pub fn http(&self) -> &HttpServer {
        &self.http
    }

    /// The stream that serves `who`, opened if need be.
    pub async fn link(&self, ground: &Ground, who: &Who) -> Result<Arc<Link>, Fault> {
        let share = who.session.as_ref().map(|(id, _)| id.clone());
        let cell = {
            let mut links = self.links.lock().unwrap_or_else(PoisonError::into_inner);
            if links.len() >= MOST {
                links.retain(|_, cell| cell.get().is_none_or(|link| !link.mux.is_closed()));
            }
            if links.len() >= MOST && !links.contains_key(&share) {
                return Err(Fault::gateway(Kind::Full, format!("{MOST} streams to this server are open")));
            }
            let cell = links.entry(share).or_default();
            if cell.get().is_some_and(|link| link.mux.is_closed()) {
                *cell = Arc::default();
            }
            cell.clone()
        };
        cell.get_or_try_init(|| self.open(ground, who)).await.cloned()
    }

    async fn open(&self, ground: &Ground, who: &Who) -> Result<Arc<Link>, Fault> {
        let params = match &who.session {
            Some((_, init)) => init.clone(),
            None => peer::initialize_params(channel::CAPABILITIES).into(),
        };
        let Answer { content, mut attempt, replica, .. } = self.http.get(0).await?;
        let Content::Events(mut body) = content else {
            return Err(garbage("the server opened no stream of events; is it `streamable_http`?"));
        };
        attempt.report(Ok(()), Instant::now());
        let mut reader = sse::Reader::new(self.http.limits().message);
        let path = endpoint(&mut body, &mut reader, self.http.target(replica), self.http.path(replica)).await?;
        body.be_patient();
        let (near, far) = pipe(DEPTH);
        ground.tasks.spawn(carry(self.http.clone(), replica, path, body, reader, far));
        let mux = Mux::new(near, Limits::default(), &ground.tasks);
        let session = who.session.as_ref().map(|(id, _)| id.clone());
        let notices = ground.notices.clone();
        ground.tasks.spawn(channel::pass_notices_on(self.server.id, session, mux.broadcasts(), notices));
        let legacy = channel::initialize(&mux, &params).await?;
        let peer = Peer { legacy: Some(legacy), modern: None, asked: true };
        self.wanted.tell(who.session.as_ref().map(|(id, _)| id.clone()), &mux, &peer).await?;
        Ok(Arc::new(Link { mux, peer }))
    }

    /// Passes a notification on, if a stream is open for this session.
    pub async fn tell(&self, who: &Who, notification: &Message) {
        let share = who.session.as_ref().map(|(id, _)| id.clone());
        if let Some(mux) = self.running(&share) {
            // It fails only when the stream is gone, and then nobody is there to hear.
            let _ = mux.notify(notification.bytes().clone()).await;
        }
    }

    /// The way over the stream of this session, if it is open.
    pub(super) fn running(&self, share: &ShareKey) -> Option<Mux> {
        let links = self.links.lock().unwrap_or_else(PoisonError::into_inner);
        links.get(share)?.get().filter(|link| !link.mux.is_closed()).map(|link| link.mux.clone())
    }

    /// Closes the stream of this session.
    pub fn release(&self, who: &Who) {
        let share = who.session.as_ref().map(|(id, _)| id.clone());
        if share.is_some() {
            self.links.lock().unwrap_or_else(PoisonError::into_inner).remove(&share);
        }
    }

    /// Closes every stream.
    pub fn close(&self) {
        self.links.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }
}

/// Waits for the first event, which names where to POST. Only an address of the server's own origin is taken.
async fn endpoint(
    body: &mut Body,
    reader: &mut sse::Reader,
    target: Option<&Target>,
    base: Option<&PathAndQuery>,
) -> Result<PathAndQuery, Fault> {
    while let Some(piece) = body.chunk().await {
        reader.feed(&piece?);
        while let Some(event) = reader.event().map_err(|error| garbage(error.to_string()))? {
            if event.name.as_deref() != Some(b"endpoint") {
                continue;
            }
            let (Some(target), Some(base)) = (target, base) else { break };
            let data = event.data.unwrap_or_default();
            let scheme = if target.tls { "https" } else { "http" };
            let base = format!("{scheme}://{}{base}", target.authority());
            let url = url::Url::parse(&base).and_then(|base| base.join(String::from_utf8_lossy(&data).trim()));
            let url = url.map_err(|error| garbage(format!("the endpoint that the server names is no URL: {error}")))?;
            if Target::of(&url)? != *target {
                return Err(garbage("the endpoint that the server names is at another origin"));
            }
            return url[url::Position::BeforePath..url::Position::AfterQuery]
                .parse()
                .map_err(|_| garbage("the endpoint that the server names has no path"));
        }
    }
    Err(garbage("the stream ended before the server named an endpoint"))
}

/// Carries messages between the stream and the pipe until either ends.
async fn carry(
    http: Arc<HttpServer>,
    replica: usize,
    path: PathAndQuery,
    mut body: Body,
    mut reader: sse::Reader,
    mut far: FarEnd,
) {
    let dropped = |text: &str| Fault::upstream(Kind::Dropped, Retry::MaybeSent, text);
    let mut posts = FuturesUnordered::new();
    let fault = 'open: loop {
        tokio::select! {
            message = far.outgoing.recv(), if posts.len() < POSTS => match message {
                None => break dropped("the stream was closed"),
                Some(message) => posts.push(post(&http, replica, &path, message)),
            },
            Some(result) = posts.next(), if !posts.is_empty() => if let Err(fault) = result {
                break fault;
            },
            piece = body.chunk() => match piece {
                None => break dropped("the server closed the stream"),
                Some(Err(fault)) => break fault,
                Some(Ok(piece)) => {
                    reader.feed(&piece);
                    loop {
                        match reader.event() {
                            Ok(None) => break,
                            Ok(Some(event)) => {
                                if let Some(data) = event.data.filter(|data| !data.is_empty())
                                    && far.incoming.send(data).await.is_err()
                                {
                                    break 'open dropped("the stream was closed");
                                }
                            }
                            Err(error) => break 'open garbage(error.to_string()),
                        }
                    }
                }
            },
        }
    };
    far.closed.set(fault);
}

async fn post(http: &HttpServer, replica: usize, path: &PathAndQuery, message: Bytes) -> Result<(), Fault> {
    let outgoing = Outgoing { message, path: Some(path.clone()), ..Outgoing::default() };
    match http.send(replica, Method::POST, &outgoing).await {
        Ok(mut answer) => {
            answer.attempt.report(Ok(()), Instant::now());
            Ok(())
        }
        // Some servers say "Accepted" in plain text.
        Err(fault) if fault.kind == Kind::Garbage => Ok(()),
        Err(fault) => Err(fault),
    }
}
