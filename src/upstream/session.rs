//! A legacy session with one replica over HTTP (2025-11-25, basic/transports, "Session Management"): a client's own, or the
//! one that the gateway keeps for itself and for clients of the modern era.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use arc_swap::ArcSwap;
use bytes::Bytes;
use http::{HeaderName, HeaderValue, Method};

use crate::access::Caller;
use crate::balance::caller_key;
use crate::fault::{Fault, Kind, Retry};
use crate::protocol::era::Version;
use crate::protocol::message::{self, Message, Shape};
use crate::upstream::credentials::Holder;
use crate::upstream::http::{Answer, HttpServer, Outgoing, garbage};
use crate::upstream::peer::{Legacy, declined, read_initialize};
use crate::upstream::trip::Trip;
use crate::upstream::{Transport, Upstream};

/// How long a goodbye may take.
pub const GOODBYE: Duration = Duration::from_secs(5);

/// An open session.
#[derive(Debug)]
pub struct HttpSession {
    /// The replica that holds it.
    pub replica: usize,
    /// Its id, if the server gave one.
    pub id: Option<HeaderValue>,
    /// What was agreed.
    pub legacy: Legacy,
    /// For whom it was opened: for nobody else is anything sent in it.
    pub holder: Holder,
    /// In whose name, as they came last; none for the gateway.
    whose: Option<ArcSwap<Caller>>,
    /// Numbers for requests, where several clients share the session.
    next: AtomicU64,
}

/// What came of an `initialize`.
pub enum Opening {
    /// A session.
    Open(Arc<HttpSession>),
    /// The server's own error, for the client to see.
    Declined(Message),
}

impl Opening {
    /// The session; a server that declines is at fault.
    pub fn session(self) -> Result<Arc<HttpSession>, Fault> {
        match self {
            Self::Open(session) => Ok(session),
            Self::Declined(error) => Err(declined(&error)),
        }
    }
}

impl HttpSession {
    /// Sends `initialize` with these parameters to a replica of the caller's order.
    pub async fn open(server: &HttpServer, trip: &Trip, caller: &Caller, params: &[u8]) -> Result<Opening, Fault> {
        let hello = Self::hello(params, Some(caller));
        let answer = server.post(trip, caller_key(caller.principal()), true, &hello).await?;
        Self::opened(server, answer, hello.whose).await
    }

    /// The same with this replica and no other, for a caller or for the gateway itself.
    pub async fn open_at(
        server: &HttpServer,
        trip: &Trip,
        replica: usize,
        whose: Option<&Caller>,
        params: &[u8],
    ) -> Result<Opening, Fault> {
        let hello = Self::hello(params, whose);
        let answer = server.send(trip, replica, Method::POST, &hello).await?;
        Self::opened(server, answer, hello.whose).await
    }

    fn hello(params: &[u8], whose: Option<&Caller>) -> Outgoing {
        let message = message::call(Some(b"\"mcpg-initialize\""), "initialize", params);
        Outgoing { message, whose: whose.cloned(), ..Outgoing::default() }
    }

    async fn opened(server: &HttpServer, answer: Answer, whose: Option<Caller>) -> Result<Opening, Fault> {
        let (replica, id) = (answer.attempt.index(), answer.session.clone());
        let response = server.response(answer).await?;
        if response.shape() == Shape::Error {
            return Ok(Opening::Declined(response));
        }
        let legacy = read_initialize(response.body().unwrap_or_default()).map_err(garbage)?;
        let holder = server.holder(whose.as_ref());
        let (whose, next) = (whose.map(ArcSwap::from_pointee), AtomicU64::new(1));
        Ok(Opening::Open(Arc::new(Self { replica, id, legacy, holder, whose, next })))
    }

    /// Notes who uses it: what is sent in it later and by nobody in particular goes in their name.
    pub fn used_by(&self, caller: &Caller) {
        if let Some(whose) = self.whose.as_ref().filter(|whose| !whose.load().is(caller)) {
            whose.store(Arc::new(caller.clone()));
        }
    }

    /// Tells the server that the handshake is done.
    pub async fn confirm(&self, server: &HttpServer) -> Result<(), Fault> {
        let message = message::call(None, "notifications/initialized", b"{}");
        self.post(&Trip::default(), server, message, Vec::new()).await.map(drop)
    }

    /// A number that no other request of this session has.
    pub fn number(&self) -> u64 {
        self.next.fetch_add(1, Relaxed)
    }

    /// The version agreed.
    pub fn version(&self) -> Version {
        self.legacy.version
    }

    /// POSTs one message.
    pub async fn post(
        &self,
        trip: &Trip,
        server: &HttpServer,
        message: Bytes,
        headers: Vec<(HeaderName, HeaderValue)>,
    ) -> Result<Answer, Fault> {
        server.send(trip, self.replica, Method::POST, &self.outgoing(message, headers)).await
    }

    /// Asks something of the gateway's own.
    pub async fn ask(&self, server: &HttpServer, message: Bytes) -> Result<Message, Fault> {
        server.response(self.post(&Trip::default(), server, message, Vec::new()).await?).await
    }

    /// POSTs a message for which nobody waits.
    pub async fn tell(&self, upstream: &Upstream, message: Bytes) {
        if let Transport::Http(server) = &upstream.transport {
            let _ = self.post(&Trip::default(), server, message, Vec::new()).await;
        }
    }

    /// Whether the server knows it no more: nothing was acted on.
    pub fn is_lost(&self, answer: &Result<Answer, Fault>) -> bool {
        let status = answer.as_ref().map_or_else(|fault| fault.kind, |answer| Kind::Status(answer.status.as_u16()));
        self.id.is_some() && status == Kind::Status(404)
    }

    /// Whether another one is to take its place: it is lost, or the replica that holds it is out of reach, nothing was sent, and
    /// there are others.
    pub fn is_over(&self, answer: &Result<Answer, Fault>, server: &HttpServer) -> bool {
        let gone = |fault: &Fault| {
            fault.retry == Retry::NotSent && matches!(fault.kind, Kind::Unreachable | Kind::BreakerOpen)
        };
        self.is_lost(answer) || server.balance().len() > 1 && answer.as_ref().is_err_and(gone)
    }

    /// Opens the stream for what the server says by itself, or takes up a broken one behind `last_event`.
    pub async fn listen(&self, server: &HttpServer, last_event: Option<HeaderValue>) -> Result<Answer, Fault> {
        let headers = last_event.map(|id| (crate::protocol::meta::LAST_EVENT_ID.clone(), id)).into_iter().collect();
        let mut answer =
            server.send(&Trip::default(), self.replica, Method::GET, &self.outgoing(Bytes::new(), headers)).await?;
        // It lasts, and is no load.
        answer.attempt.rest();
        Ok(answer)
    }

    /// Ends the session; a server that keeps none, or does not answer, is left alone.
    pub async fn close(&self, server: &HttpServer) {
        if self.id.is_some() {
            let outgoing = self.outgoing(Bytes::new(), Vec::new());
            let trip = Trip::default();
            let goodbye = server.send(&trip, self.replica, Method::DELETE, &outgoing);
            let _ = tokio::time::timeout(GOODBYE, goodbye).await;
        }
    }

    /// A message in this session.
    pub fn outgoing(&self, message: Bytes, headers: Vec<(HeaderName, HeaderValue)>) -> Outgoing {
        let whose = self.whose.as_ref().map(|whose| Caller::clone(&whose.load()));
        let version = Some(self.legacy.version);
        Outgoing { message, version, session: self.id.clone(), headers, path: None, whose }
    }
}
