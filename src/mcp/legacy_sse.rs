//! Clients of HTTP with SSE (2024-11-05, basic/transports, "HTTP with SSE"): one stream carries everything the gateway says, and
//! messages come by POST to an address that the stream names first. Behind the two doors a session is a session like any
//! other: requests go through `exchange`, what they answer is put into the stream's queue.
//!
//! A channel belongs to who opened it and lives as long as its stream; with the stream go the session and every request
//! under way. A channel holds a seat among the streams, so there are never more channels than streams may be.

use std::borrow::Cow;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use ahash::AHashMap;
use axum::Extension;
use axum::body::Body;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::response::Response;
use bytes::Bytes;
use http::{HeaderMap, Request, StatusCode};
use http_body::Frame;
use serde::Deserialize;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

use crate::access::{Caller, Opening};
use crate::app::App;
use crate::fault::{Fault, Kind};
use crate::id::{Principal, TenantId};
use crate::mcp::endpoint::{Entered, accepts, enter, let_in, read_json};
use crate::mcp::error::Refusal;
use crate::mcp::exchange::{Call, accepted, exchange, stream_response};
use crate::mcp::lane::{Lane, pump, recorded};
use crate::mcp::record::Finish;
use crate::mcp::session::{Hold, Reach, Session};
use crate::mcp::streams::{Next, Queue, Seat, Tenure};
use crate::mcp::{handshake, listen, notices};
use crate::protocol::message::{Message, Shape};
use crate::protocol::meta;
use crate::telemetry::SessionTag;
use crate::upstream::notices::pause;
use crate::web::Visit;
use crate::web::path::Named;

/// The stream of everything the caller sees.
pub const ALL: &str = "/sse";
/// The stream of one server.
pub const ONE: &str = "/sse/{server}";
/// Where messages of both go.
pub const MESSAGES: &str = "/messages";

/// Messages that wait for a slow reader before those who send them wait too.
const WAITING: usize = 64;
/// Most requests of one channel under way.
const MOST_UNDER_WAY: usize = 256;

/// The open channels, by the name that only their owners know.
#[derive(Default)]
pub struct Channels(Mutex<AHashMap<Box<str>, Arc<Channel>>>);

/// One open stream, as POSTs see it.
struct Channel {
    principal: Principal,
    tenant: TenantId,
    /// The server that its path named.
    server: Option<Box<str>>,
    reach: Reach,
    state: Mutex<Inner>,
    places: Arc<Semaphore>,
    /// Cancelled when the stream is gone.
    gone: CancellationToken,
}

#[derive(Default)]
struct Inner {
    /// The way into the stream, while new requests are taken.
    lane: Option<Lane>,
    session: Option<(Arc<Session>, Hold)>,
    opening: bool,
    listening: bool,
}

impl Channels {
    fn lock(&self) -> MutexGuard<'_, AHashMap<Box<str>, Arc<Channel>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The server that the path of the channel of this name named.
    fn server_of(&self, name: &str) -> Option<Box<str>> {
        self.lock().get(name)?.server.clone()
    }

    /// The channel of this name if it is this caller's; somebody else's is as one that is not there.
    fn get(&self, name: &str, caller: &Caller) -> Option<Arc<Channel>> {
        let channel = self.lock().get(name).cloned()?;
        (channel.principal == *caller.principal() && channel.tenant == *caller.tenant()).then_some(channel)
    }
}

impl Channel {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Takes the channel away when its stream is dropped, and ends what belongs to it.
struct Guard {
    app: App,
    name: Box<str>,
    channel: Arc<Channel>,
}

impl Drop for Guard {
    fn drop(&mut self) {
        self.app.channels.lock().remove(&self.name);
        self.channel.gone.cancel();
        let session = {
            let mut inner = self.channel.lock();
            inner.lane = None;
            inner.session.take()
        };
        if let Some((session, _)) = session {
            end(&self.app, &session);
        }
    }
}

fn end(app: &App, session: &Session) {
    if let Some(session) = app.sessions.end(&session.id) {
        handshake::close_behind(app, session);
    }
}

/// `GET /sse`.
pub async fn open_all(State(app): State<App>, headers: HeaderMap, visit: Option<Extension<Visit>>) -> Response {
    open(app, None, headers, visit.as_deref()).await
}

/// `GET /sse/{server}`.
pub async fn open_one(
    State(app): State<App>,
    Named(server): Named,
    headers: HeaderMap,
    visit: Option<Extension<Visit>>,
) -> Response {
    open(app, Some(&server), headers, visit.as_deref()).await
}

async fn open(app: App, server: Option<&str>, headers: HeaderMap, visit: Option<&Visit>) -> Response {
    let mut entered = match enter(app, "GET", [ALL, ONE], server, headers, visit).await {
        Ok(entered) => entered,
        Err(refusal) => return refusal.respond(None),
    };
    if !accepts(&entered.headers, &["text/event-stream"]) {
        let text = "this URL answers with `text/event-stream` only";
        return entered.refuse(&Refusal::new(StatusCode::NOT_ACCEPTABLE, meta::INVALID_REQUEST, text), None);
    }
    if let Err(refusal) = entered.admit_user() {
        return entered.refuse(&refusal, None);
    }
    let Entered { app, caller, reach, mut finish, .. } = entered;
    let seat = match app.streams.seat(&caller) {
        Ok(seat) => seat,
        Err(fault) => {
            finish.fail(&fault);
            return Refusal::full(&fault).respond(None);
        }
    };
    // 128 random bits: the address is no credential, but nobody else can find it either.
    let name: Box<str> = format!("{:032x}", rand::random::<u128>()).into();
    let (queue, receiver) = mpsc::channel(WAITING);
    let _ = queue.try_send(format!("event: endpoint\ndata: {MESSAGES}?channel={name}\n\n").into());
    let channel = Arc::new(Channel {
        principal: caller.principal().clone(),
        tenant: caller.tenant().clone(),
        server: server.map(Into::into),
        reach,
        state: Mutex::new(Inner { lane: Some(Lane::new(&app, queue)), ..Inner::default() }),
        places: Arc::new(Semaphore::new(MOST_UNDER_WAY)),
        gone: CancellationToken::new(),
    });
    app.channels.lock().insert(name.clone(), channel.clone());
    let waiting = Queue::new(receiver, app.settings.limits.sse_keep_alive);
    let stop = Some(Box::pin(app.shutdown.clone().cancelled_owned()));
    let tenure = Tenure::new(&caller);
    let guard = Guard { app, name, channel };
    finish.opened();
    stream_response(Body::new(Stream { waiting, guard, tenure, stop, finish, _seat: seat }))
}

/// The client's stream.
struct Stream {
    waiting: Queue,
    guard: Guard,
    tenure: Tenure,
    stop: Option<Pin<Box<WaitForCancellationFutureOwned>>>,
    finish: Finish,
    _seat: Seat,
}

impl http_body::Body for Stream {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        // A key that was revoked, or has expired, keeps nothing open.
        if self.tenure.poll(context).is_ready() {
            return Poll::Ready(None);
        }
        if self.stop.as_mut().is_some_and(|stop| stop.as_mut().poll(context).is_ready()) {
            // Nothing new is taken; what is under way still answers, and then the queue has no end to write into.
            self.stop = None;
            self.guard.channel.lock().lane = None;
        }
        let frame = ready!(self.waiting.poll(context)).map(Next::into_bytes);
        if let Some(frame) = &frame {
            self.finish.sent(frame.len());
        }
        Poll::Ready(frame.map(|frame| Ok(Frame::data(frame))))
    }
}

/// The query of a POST.
#[derive(Default, Deserialize)]
pub struct Address {
    #[serde(default)]
    channel: String,
}

/// `POST /messages`: takes one message. What there is to say to it is said on the stream.
pub async fn message(
    State(app): State<App>,
    address: Result<Query<Address>, QueryRejection>,
    request: Request<Body>,
) -> Response {
    // A query that cannot be read names no channel.
    let Query(address) = address.unwrap_or_default();
    let (parts, body) = request.into_parts();
    let visit = parts.extensions.get::<Visit>().cloned();
    // A name that nobody can guess says which resource it is; without one it is as if for all.
    let named = app.channels.server_of(&address.channel);
    let what = Opening::of(named.as_deref());
    let mut entered = match let_in(app, "POST", MESSAGES, what, parts.headers, visit.as_ref()).await {
        Ok(entered) => entered,
        Err(refusal) => return refusal.respond(None),
    };
    let Some(channel) = entered.app.channels.get(&address.channel, &entered.caller) else {
        return entered.refuse(&no_channel(), None);
    };
    entered.reach = channel.reach;
    let message = match read_json(&entered.headers, body).await {
        Ok(message) => message,
        Err(refusal) => return entered.refuse(&refusal, None),
    };
    entered.finish.fill(|operation| {
        operation.sizes.request = message.bytes().len() as u64;
        operation.method = Cow::Owned(message.method().into_owned());
    });
    take(channel, entered, message).await
}

fn no_channel() -> Refusal {
    let text = "there is no such channel: its stream has ended, or it is not yours. Open a stream and use the address it names";
    Refusal::new(StatusCode::NOT_FOUND, meta::INVALID_REQUEST, text)
}

async fn take(channel: Arc<Channel>, mut entered: Entered, message: Message) -> Response {
    let is_request = message.shape() == Shape::Request;
    let opens = is_request && message.method() == "initialize";
    let (lane, session) = {
        let mut inner = channel.lock();
        let Some(lane) = inner.lane.clone() else {
            drop(inner);
            return entered.refuse(&no_channel(), message.id());
        };
        let session = inner.session.as_ref().map(|(session, _)| session.clone());
        let wrong = match (&session, opens) {
            (None, false) => Some("send `initialize` first, and wait for its answer"),
            (Some(_), true) => Some("this stream has its session; open another for a second one"),
            (None, true) if inner.opening => Some("`initialize` is under way"),
            _ => None,
        };
        if let Some(text) = wrong {
            drop(inner);
            return entered.refuse(&Refusal::bad(meta::INVALID_REQUEST, text), message.id());
        }
        inner.opening = opens;
        (lane, session)
    };
    if let Some(session) = &session {
        entered.app.sessions.touch(session);
        entered.finish.fill(|operation| {
            operation.session = Some(SessionTag::of(&session.id));
            operation.client_version = Some(session.version.as_str());
        });
    }
    let Ok(place) = channel.places.clone().try_acquire_owned() else {
        return full(&channel, entered, opens, message.id());
    };
    let shape = message.shape();
    let initialized = message.method() == "notifications/initialized";
    let mut call = entered.into_call(message, session.clone());
    call.carried = is_request;
    match shape {
        Shape::Request => {
            call.finish.accepted();
            let tasks = call.app.tasks.clone();
            tasks.spawn(answer(channel, call, lane, opens, place));
            accepted()
        }
        // In order: the next request may rely on it.
        Shape::Notification => {
            let (app, caller) = (call.app.clone(), call.caller.clone());
            let response = notices::notification(call).await;
            if let Some(session) =
                session.filter(|_| initialized && !std::mem::replace(&mut channel.lock().listening, true))
            {
                app.tasks.clone().spawn(hear(channel, app, caller, session));
            }
            response
        }
        Shape::Result | Shape::Error => notices::answer(call).await,
    }
}

fn full(channel: &Channel, mut entered: Entered, opens: bool, id: Option<&[u8]>) -> Response {
    if opens {
        channel.lock().opening = false;
    }
    let text = format!("this stream already has {MOST_UNDER_WAY} requests under way");
    let fault = Fault { retry_after: Some(Duration::from_secs(1)), ..Fault::gateway(Kind::Full, text) };
    entered.finish.fail(&fault);
    Refusal::full(&fault).respond(id)
}

/// Serves one request and puts the answer into the queue; given up when the stream is gone.
async fn answer(channel: Arc<Channel>, call: Box<Call>, lane: Lane, opens: bool, _place: OwnedSemaphorePermit) {
    let (app, id) = (call.app.clone(), call.message.id_bytes().unwrap_or_default());
    let served = async {
        if !opens {
            return pump(&app, Box::pin(recorded(exchange(call))).await, &lane, Some(&id)).await;
        }
        let response = Box::pin(recorded(handshake::initialize(call))).await;
        // From here to the next await nothing can come between: a session is adopted, or ended at once.
        adopt(&app, &channel, &response);
        pump(&app, response, &lane, Some(&id)).await;
    };
    tokio::select! {
        biased;
        () = channel.gone.cancelled() => {}
        () = served => {}
    }
}

fn adopt(app: &App, channel: &Channel, response: &Response) {
    let opened = response.headers().get(&meta::SESSION_HEADER);
    let session = opened.and_then(|id| app.sessions.get(id, &channel.principal, &channel.tenant));
    let mut inner = channel.lock();
    inner.opening = false;
    let Some(session) = session else { return };
    if channel.gone.is_cancelled() {
        drop(inner);
        return end(app, &session);
    }
    inner.session = Some((session.clone(), Hold::new(&session)));
}

/// Puts what belongs to no request into the queue, as `GET` gives it to newer clients, as long as the stream is there.
async fn hear(channel: Arc<Channel>, app: App, caller: Caller, session: Arc<Session>) {
    let hearing = async {
        loop {
            let Some(lane) = channel.lock().lane.clone() else { return };
            let nothing = Finish::nothing(&app.recorder);
            let none = HeaderMap::new();
            let response = listen::stream(app.clone(), caller.clone(), session.clone(), &none, nothing, None).await;
            // The server has no such stream.
            if response.status() == StatusCode::METHOD_NOT_ALLOWED {
                return;
            }
            if response.status() == StatusCode::OK {
                pump(&app, response, &lane, None).await;
            }
            drop(lane);
            pause().await;
        }
    };
    tokio::select! {
        () = channel.gone.cancelled() => {}
        () = app.shutdown.cancelled() => {}
        () = hearing => {}
    }
}
