//! HTTP with SSE of 2024-11-05 (basic/transports, "HTTP with SSE"): one stream carries everything the server says, messages are
//! sent by POST to an address that the stream names first. A stream is a session, so each client session has one of its own, and
//! clients without sessions share one with each replica.
//!
//! That a replica takes a POST says nothing: its breaker hears of calls, which end with an answer on the stream or with none.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use ahash::AHashMap;
use bytes::Bytes;
use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use http::Method;
use http::uri::PathAndQuery;
use tokio::sync::OnceCell;

use crate::balance::InFlight;
use crate::fault::{Fault, Kind, Retry};
use crate::net::Target;
use crate::protocol::message::Message;
use crate::registry::model::Server;
use crate::upstream::Ground;
use crate::upstream::channel::wanted::{ShareKey, Wanted};
use crate::upstream::channel::{self, Who};
use crate::upstream::events::EventStream;
use crate::upstream::http::{Answer, Content, HttpServer, Outgoing, garbage};
use crate::upstream::mux::{Limits, Mux};
use crate::upstream::notices::{Herald, Voice};
use crate::upstream::peer::{self, Peer};
use crate::upstream::pipe::{FarEnd, pipe};
use crate::upstream::trip::Trip;

/// Messages under way in each direction of one stream.
const DEPTH: usize = 64;
/// POSTs under way for one stream.
const POSTS: usize = 32;
/// Streams of one server at one time.
const MOST: usize = 10_000;

/// An open stream whose handshake is done.
pub struct Link {
    /// The replica that holds it.
    pub replica: usize,
    /// The way over it.
    pub mux: Mux,
    /// What the handshake told.
    pub peer: Peer,
}

/// The place of a stream, open or being opened.
type Slot = Arc<OnceCell<Arc<Link>>>;

/// Whose a stream is.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Share {
    /// This client session's.
    Session(Arc<str>),
    /// Everybody's, with this replica.
    Replica(usize),
}

/// A server of the oldest transport.
pub struct SseServer {
    server: Arc<Server>,
    http: Arc<HttpServer>,
    links: Mutex<AHashMap<Share, Slot>>,
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

    /// The stream that serves `who`, opened if need be, with a place for one call on the replica that holds it.
    pub async fn link(&self, ground: &Ground, trip: &Trip, who: &Who) -> Result<(Arc<Link>, InFlight), Fault> {
        if let Some(link) = who.session.as_ref().and_then(|(id, _)| self.open_for(id)) {
            let place = self.http.place(trip, link.replica).await;
            let elsewhere =
                self.http.balance().len() > 1 && matches!(&place, Err(fault) if fault.kind == Kind::BreakerOpen);
            if !elsewhere {
                return Ok((link, place?));
            }
            // The replica is left alone for a while: the session is taken over by another.
            self.release(who);
        }
        let order = self.http.order(who.caller)?;
        // Opening a stream is no request of the client: it may be tried anywhere.
        self.http.walk(trip, order, true, |place| self.link_with(ground, trip, who, place)).await
    }

    async fn link_with(
        &self,
        ground: &Ground,
        trip: &Trip,
        who: &Who,
        place: InFlight,
    ) -> Result<(Arc<Link>, InFlight), Fault> {
        let replica = place.index();
        let share = who.session.as_ref().map_or(Share::Replica(replica), |(id, _)| Share::Session(id.clone()));
        let slot = self.slot(share)?;
        if let Some(link) = slot.get().filter(|link| link.replica == replica) {
            return Ok((link.clone(), place));
        }
        // Opening takes a place itself; whoever waits for it must hold none.
        drop(place);
        let link = slot.get_or_try_init(|| self.open(ground, trip, replica, who)).await?;
        Ok((link.clone(), self.http.place(&trip.beside(), link.replica).await?))
    }

    fn open_for(&self, session: &Arc<str>) -> Option<Arc<Link>> {
        let links = self.links.lock().unwrap_or_else(PoisonError::into_inner);
        let link = links.get(&Share::Session(session.clone()))?.get()?;
        (!link.mux.is_closed()).then(|| link.clone())
    }

    fn slot(&self, share: Share) -> Result<Slot, Fault> {
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
        Ok(cell.clone())
    }

    /// Opens a stream and shakes hands on it; the breaker hears how both went.
    async fn open(&self, ground: &Ground, trip: &Trip, replica: usize, who: &Who) -> Result<Arc<Link>, Fault> {
        let Answer { content, mut attempt, .. } =
            self.http.send(&trip.beside(), replica, Method::GET, &Outgoing::default()).await?;
        let opened = self.shake_hands(ground, replica, content, who).await;
        attempt.report(opened.as_ref().map(drop), Instant::now());
        opened
    }

    /// Looks whether this replica opens a stream as it should.
    pub async fn check(&self, replica: usize) -> Result<(), Fault> {
        let content = self.http.send_beside(replica, Method::GET, &Outgoing::default()).await?;
        self.endpoint(&mut self.events(content)?, replica).await.map(drop)
    }

    fn events(&self, content: Content) -> Result<EventStream, Fault> {
        match content {
            Content::Events(body) => Ok(EventStream::new(body, self.http.limits().message)),
            _ => Err(garbage("the server opened no stream of events; is it `streamable_http`?")),
        }
    }

    /// Waits for the first event, which names where to POST. Only an address of the server's own origin is taken.
    async fn endpoint(&self, events: &mut EventStream, replica: usize) -> Result<PathAndQuery, Fault> {
        while let Some(event) = events.event().await {
            let event = event?;
            if event.name.as_deref() != Some(b"endpoint") {
                continue;
            }
            let (Some(target), Some(base)) = (self.http.target(replica), self.http.path(replica)) else { break };
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
        Err(garbage("the stream ended before the server named an endpoint"))
    }

    async fn shake_hands(
        &self,
        ground: &Ground,
        replica: usize,
        content: Content,
        who: &Who,
    ) -> Result<Arc<Link>, Fault> {
        let params = match &who.session {
            Some((_, init)) => init.clone(),
            None => peer::initialize_params(channel::CAPABILITIES).into(),
        };
        let mut events = self.events(content)?;
        let path = self.endpoint(&mut events, replica).await?;
        events.be_patient();
        let (near, far) = pipe(DEPTH);
        ground.tasks.spawn(carry(self.http.clone(), replica, path, events, far));
        let mux = Mux::new(near, Limits::default(), &ground.tasks);
        let session = who.session.as_ref().map(|(id, _)| id.clone());
        let herald = Herald { server: self.server.id, session, to: ground.notices.clone() };
        ground.tasks.spawn(herald.hear(Voice::channel(mux.broadcasts())));
        let legacy = channel::initialize(&mux, &params).await?;
        let peer = Peer { legacy: Some(legacy), modern: None, asked: true };
        self.wanted.tell(who.session.as_ref().map(|(id, _)| id.clone()), &mux, &peer).await?;
        Ok(Arc::new(Link { replica, mux, peer }))
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
        let open = |slot: &Slot| slot.get().filter(|link| !link.mux.is_closed()).map(|link| link.mux.clone());
        match share {
            Some(session) => open(links.get(&Share::Session(session.clone()))?),
            None => links.iter().filter(|(of, _)| matches!(of, Share::Replica(_))).find_map(|(_, slot)| open(slot)),
        }
    }

    /// Closes the stream of this session.
    pub fn release(&self, who: &Who) {
        if let Some((id, _)) = &who.session {
            self.links.lock().unwrap_or_else(PoisonError::into_inner).remove(&Share::Session(id.clone()));
        }
    }

    /// Closes every stream.
    pub fn close(&self) {
        self.links.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }
}

/// Carries messages between the stream and the pipe until either ends.
async fn carry(http: Arc<HttpServer>, replica: usize, path: PathAndQuery, mut events: EventStream, mut far: FarEnd) {
    let dropped = |text: &str| Fault::upstream(Kind::Dropped, Retry::MaybeSent, text);
    let mut posts = FuturesUnordered::new();
    let fault = loop {
        tokio::select! {
            message = far.outgoing.recv(), if posts.len() < POSTS => match message {
                None => break dropped("the stream was closed"),
                Some(message) => posts.push(post(&http, replica, &path, message)),
            },
            Some(result) = posts.next(), if !posts.is_empty() => if let Err(fault) = result {
                break fault;
            },
            data = events.data() => match data {
                None => break dropped("the server closed the stream"),
                Some(Err(fault)) => break fault,
                Some(Ok(data)) => if far.incoming.send(data).await.is_err() {
                    break dropped("the stream was closed");
                },
            },
        }
    };
    far.closed.set(fault);
}

async fn post(http: &HttpServer, replica: usize, path: &PathAndQuery, message: Bytes) -> Result<(), Fault> {
    let outgoing = Outgoing { message, path: Some(path.clone()), ..Outgoing::default() };
    match http.send_beside(replica, Method::POST, &outgoing).await {
        Ok(_) => Ok(()),
        // Some servers say "Accepted" in plain text.
        Err(fault) if fault.kind == Kind::Garbage => Ok(()),
        Err(fault) => Err(fault),
    }
}
