//! HTTP/1.1 to one replica: connections kept open between calls, one call on each at a time.
//!
//! A connection is not a task of its own. It travels with the call that uses it and is driven by the same polls, so that
//! an answer needs no wake-up of a second task; at rest it lies in the pool and is looked at when it is taken out again.
//! Dropping a [`Reply`] before its end closes the connection, which is how HTTP says "cancelled".

use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{HeaderMap, Request, StatusCode};
use http_body::{Body as _, Frame, SizeHint};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::client::conn::http1::{self, Connection, SendRequest};
use hyper_util::rt::TokioIo;
use tokio::time::{Sleep, sleep};

use crate::balance::{Dial, Sockets};
use crate::fault::{Fault, Kind, Retry};
use crate::id;
use crate::net::{Outbound, Stream, Target};

/// How long a connection may rest when the server did not say: many servers close after five seconds.
const REST: Duration = Duration::from_secs(4);
/// What is taken off the rest that a server announces, for the way there.
const REST_MARGIN: Duration = Duration::from_secs(1);

/// Pieces up to this size are copied out of the read buffer.
const SMALL: usize = 2048;
/// How much is read of an answer that nobody needs, to keep its connection.
const LEFT_OVER: usize = 64 * 1024;
/// For how long.
const LEFT_OVER_TIME: Duration = Duration::from_millis(100);
/// Longer than any process runs.
const FOREVER: Duration = Duration::from_hours(8760);

/// Threads are told apart by this many places; two that share one only share its lock.
const SHARDS: usize = 16;

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// Connections to one replica.
pub struct Wire {
    target: Target,
    outbound: Arc<Outbound>,
    /// Milliseconds.
    connect_timeout: AtomicU64,
    /// Connections at rest, by the thread that opened them: its runtime is the one that hears of them.
    idle: [Mutex<Vec<Idle>>; SHARDS],
    most_idle: usize,
    /// Where what happens here is counted; of the replica, whose wire may be replaced.
    sockets: Arc<Sockets>,
}

struct Idle {
    link: Link,
    until: Instant,
}

struct Link {
    sender: SendRequest<Full<Bytes>>,
    driver: Pin<Box<Connection<TokioIo<Stream>, Full<Bytes>>>>,
    fresh: bool,
}

impl Wire {
    /// No connection is made before the first call.
    pub fn new(
        target: Target,
        outbound: Arc<Outbound>,
        connect_timeout: Duration,
        most_idle: usize,
        sockets: Arc<Sockets>,
    ) -> Self {
        let idle = std::array::from_fn(|_| Mutex::default());
        let connect_timeout = AtomicU64::new(millis(connect_timeout));
        Self { target, outbound, connect_timeout, idle, most_idle, sockets }
    }

    /// New connections may take this long from now on.
    pub fn connect_within(&self, connect_timeout: Duration) {
        self.connect_timeout.store(millis(connect_timeout), Relaxed);
    }

    /// Where it goes.
    pub fn target(&self) -> &Target {
        &self.target
    }

    /// Connections at rest.
    pub fn resting(&self) -> usize {
        self.idle.iter().map(|shard| shard.lock().unwrap_or_else(PoisonError::into_inner).len()).sum()
    }

    /// Closes connections that have rested too long to be used again. The thread that they belong to may not come by for long.
    pub fn sweep(&self, now: Instant) {
        for shard in &self.idle {
            let over: Vec<Idle> = {
                let mut idle = shard.lock().unwrap_or_else(PoisonError::into_inner);
                idle.extract_if(.., |one| one.until <= now).collect()
            };
            // Closing takes the kernel, and nobody waits for it.
            drop(over);
        }
    }

    /// Sends `request` and returns the answer once its head is there. `patience` bounds the wait for the head and then for
    /// each further piece of the body; whoever sends it waits `until` then and may simply stop waiting. The request is lent, and
    /// taken: a future has room for its arguments twice.
    pub async fn send(
        self: &Arc<Self>,
        request: &mut Option<Request<Full<Bytes>>>,
        patience: Duration,
        until: Option<Instant>,
    ) -> Result<Reply, Fault> {
        // A resting connection may have been closed from the other side just now. As long as not a byte of the request was
        // written, the next one is tried; each turn uses up one connection, so this ends.
        loop {
            let mut link = match self.take() {
                Some(link) => link,
                None => Box::pin(self.connect(until)).await?,
            };
            let fresh = link.fresh;
            let mut in_use = InUse::new(self, fresh);
            match tokio::time::timeout(patience, link.round_trip(request)).await {
                Err(_) => {
                    let text = format!("no answer within {} ms", patience.as_millis());
                    return Err(Fault::upstream(Kind::Timeout, Retry::MaybeSent, text));
                }
                Ok(Ok(response)) => {
                    let (head, incoming) = response.into_parts();
                    let rest = rest_of(&head.headers);
                    let body = Body { incoming, link: Some(link), in_use, patience, timer: None, rest };
                    return Ok(Reply { status: head.status, headers: head.headers, body });
                }
                Ok(Err(_)) if !fresh && request.is_some() => in_use.unsent(),
                Ok(Err(error)) => {
                    if request.is_some() {
                        in_use.unsent();
                    }
                    let retry = if request.is_some() { Retry::NotSent } else { Retry::MaybeSent };
                    return Err(Fault::upstream(
                        Kind::Dropped,
                        retry,
                        error.as_ref().map(describe).unwrap_or_default(),
                    ));
                }
            }
        }
    }

    /// The resting connections of this thread.
    fn mine(&self) -> MutexGuard<'_, Vec<Idle>> {
        self.idle[id::thread() % SHARDS].lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take(&self) -> Option<Link> {
        let now = Instant::now();
        loop {
            let idle = self.mine().pop()?;
            // The most recently used lies on top; below it they are only older.
            if idle.until <= now {
                self.mine().clear();
                return None;
            }
            let mut link = idle.link;
            if link.is_open() {
                return Some(link);
            }
        }
    }

    async fn connect(&self, until: Option<Instant>) -> Result<Link, Fault> {
        let within = Duration::from_millis(self.connect_timeout.load(Relaxed));
        let outcome = Some(Dial::GivenUp);
        let mut dialling = Dialling { sockets: &self.sockets, began: Instant::now(), until, outcome };
        let connected = self.outbound.connect(&self.target, within).await;
        let connected = connected.inspect_err(|fault| dialling.failed(fault, within))?;
        dialling.outcome = Some(Dial::Connected);
        self.sockets.opened(connected.connect_time, connected.tls_time);
        let (sender, driver) = http1::Builder::new()
            .handshake(TokioIo::new(connected.stream))
            .await
            .map_err(|error| Fault::upstream(Kind::Unreachable, Retry::NotSent, describe(&error)))?;
        Ok(Link { sender, driver: Box::pin(driver), fresh: true })
    }

    fn give_back(&self, mut link: Link, rest: Duration) {
        link.fresh = false;
        let mut idle = self.mine();
        if idle.len() < self.most_idle {
            idle.push(Idle { link, until: Instant::now() + rest });
        }
    }
}

impl Link {
    /// Whether the other side has closed it, as far as is known here.
    fn is_open(&mut self) -> bool {
        let mut context = Context::from_waker(std::task::Waker::noop());
        self.driver.as_mut().poll(&mut context).is_pending() && self.sender.is_ready()
    }

    /// Takes the request; the head of the answer, or the error, and the request is there again if none of it was sent.
    async fn round_trip(
        &mut self,
        request: &mut Option<Request<Full<Bytes>>>,
    ) -> Result<http::Response<Incoming>, Option<hyper::Error>> {
        let Self { sender, driver, .. } = self;
        let mut answer = std::pin::pin!(sender.try_send_request(request.take().ok_or(None::<hyper::Error>)?));
        let mut ended = false;
        std::future::poll_fn(|context| {
            if !ended {
                ended = driver.as_mut().poll(context).is_ready();
            }
            answer.as_mut().poll(context)
        })
        .await
        .map_err(|mut error| {
            *request = error.take_message();
            Some(error.into_error())
        })
    }
}

/// Seconds of rest that the server announced (`Keep-Alive: timeout=5`), less a margin.
fn rest_of(headers: &HeaderMap) -> Duration {
    let announced = headers
        .get("keep-alive")
        .and_then(|value| value.to_str().ok())
        .and_then(|value| value.split(',').find_map(|part| part.trim().strip_prefix("timeout=")?.parse::<u64>().ok()));
    match announced {
        Some(seconds) => Duration::from_secs(seconds.min(300)).saturating_sub(REST_MARGIN),
        None => REST,
    }
}

fn describe(error: &hyper::Error) -> String {
    let mut text = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(inner) = source {
        text = format!("{text}: {inner}");
        source = inner.source();
    }
    text
}

/// An attempt to open a connection, counted by how it ended when that is known or nobody waits for it any more.
struct Dialling<'a> {
    sockets: &'a Sockets,
    began: Instant,
    /// Nobody waits for it longer.
    until: Option<Instant>,
    /// None where there was nothing to attempt: an address that this gateway does not call says nothing of the network.
    outcome: Option<Dial>,
}

impl Dialling<'_> {
    /// Nothing else takes as long as it may than that it may not take longer.
    fn failed(&mut self, fault: &Fault, within: Duration) {
        let late = self.began.elapsed() >= within;
        self.outcome = match fault.kind {
            Kind::Setup => None,
            _ if late => Some(Dial::TimedOut),
            _ => Some(Dial::Failed),
        };
    }
}

impl Drop for Dialling<'_> {
    fn drop(&mut self) {
        let Some(outcome) = self.outcome else { return };
        let late = outcome == Dial::GivenUp && self.until.is_some_and(|until| until <= Instant::now());
        self.sockets.dialled(if late { Dial::TimedOut } else { outcome });
    }
}

/// Counts a connection as in use until dropped, and then the request that went out on it if it was not counted before.
struct InUse {
    wire: Arc<Wire>,
    fresh: bool,
    counts: bool,
}

impl InUse {
    fn new(wire: &Arc<Wire>, fresh: bool) -> Self {
        wire.sockets.enter();
        Self { wire: Arc::clone(wire), fresh, counts: true }
    }

    /// Not a byte of it was.
    fn unsent(&mut self) {
        self.counts = false;
    }

    fn count(&mut self) {
        if std::mem::take(&mut self.counts) {
            self.wire.sockets.sent(self.fresh);
        }
    }
}

impl Drop for InUse {
    fn drop(&mut self) {
        // Also one that was given up, or not answered in time: the other side has it all the same.
        self.count();
        self.wire.sockets.leave();
    }
}

/// An answer whose head is there.
pub struct Reply {
    /// HTTP status.
    pub status: StatusCode,
    /// HTTP headers.
    pub headers: HeaderMap,
    /// What follows.
    pub body: Body,
}

/// The body of an answer. It drives its connection, and gives it back to the pool at its end.
pub struct Body {
    incoming: Incoming,
    link: Option<Link>,
    in_use: InUse,
    patience: Duration,
    timer: Option<Pin<Box<Sleep>>>,
    rest: Duration,
}

impl Body {
    /// From now on it may stay silent for as long as it likes; nobody waits for its end to count it.
    pub fn be_patient(&mut self) {
        self.in_use.count();
        self.patience = FOREVER;
        self.timer = None;
    }

    /// Reads what is left although nobody needs it, because a connection with an unread answer can only be closed. A server that
    /// takes long over it, or says much, loses the connection.
    pub async fn finish(mut self) {
        let read = async {
            let mut left = LEFT_OVER;
            while let Some(Ok(piece)) = self.chunk().await {
                match left.checked_sub(piece.len()) {
                    Some(less) => left = less,
                    None => return,
                }
            }
        };
        // Nothing is lost but the connection.
        _ = tokio::time::timeout(LEFT_OVER_TIME, read).await;
    }

    /// The whole body, at most `limit` bytes of it.
    pub async fn collect(mut self, limit: usize) -> Result<Bytes, Fault> {
        let mut first: Option<Bytes> = None;
        let mut rest: Vec<u8> = Vec::new();
        while let Some(piece) = self.chunk().await {
            let piece = piece?;
            if first.as_ref().map_or(0, Bytes::len) + rest.len() + piece.len() > limit {
                return Err(too_large(limit));
            }
            // Most answers come in one piece and are not copied.
            match &first {
                None => first = Some(piece),
                Some(head) => {
                    if rest.is_empty() {
                        rest.reserve(head.len() + piece.len());
                        rest.extend_from_slice(head);
                        first = Some(Bytes::new());
                    }
                    rest.extend_from_slice(&piece);
                }
            }
        }
        Ok(if rest.is_empty() { first.unwrap_or_default() } else { rest.into() })
    }

    /// The next piece.
    pub async fn chunk(&mut self) -> Option<Result<Bytes, Fault>> {
        std::future::poll_fn(|context| self.poll_chunk(context)).await
    }

    /// The next piece.
    pub fn poll_chunk(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Bytes, Fault>>> {
        loop {
            let ended = match &mut self.link {
                Some(link) => link.driver.as_mut().poll(context).is_ready(),
                None => return Poll::Ready(None),
            };
            match Pin::new(&mut self.incoming).poll_frame(context) {
                Poll::Ready(Some(Ok(frame))) => {
                    let Ok(data) = frame.into_data() else { continue };
                    self.timer = None;
                    return Poll::Ready(Some(Ok(kept(data))));
                }
                Poll::Ready(Some(Err(error))) => {
                    self.link = None;
                    let text = format!("the answer broke off: {}", describe(&error));
                    return Poll::Ready(Some(Err(Fault::upstream(Kind::Dropped, Retry::MaybeSent, text))));
                }
                Poll::Ready(None) => {
                    if let Some(mut link) = self.link.take()
                        && !ended
                        && link.driver.as_mut().poll(context).is_pending()
                        && link.sender.is_ready()
                    {
                        self.in_use.wire.give_back(link, self.rest);
                    }
                    return Poll::Ready(None);
                }
                Poll::Pending => {
                    let patience = self.patience;
                    let timer = self.timer.get_or_insert_with(|| Box::pin(sleep(patience)));
                    ready!(timer.as_mut().poll(context));
                    self.link = None;
                    let text = format!("no further byte of the answer within {} ms", patience.as_millis());
                    return Poll::Ready(Some(Err(Fault::upstream(Kind::Timeout, Retry::MaybeSent, text))));
                }
            }
        }
    }
}

/// A small piece on its own: a slice of the read buffer would keep the whole of it, and each read would need a new one.
fn kept(piece: Bytes) -> Bytes {
    if piece.len() <= SMALL { Bytes::copy_from_slice(&piece) } else { piece }
}

fn too_large(limit: usize) -> Fault {
    Fault::upstream(Kind::TooLarge, Retry::MaybeSent, format!("the answer is larger than {limit} bytes"))
}

impl http_body::Body for Body {
    type Data = Bytes;
    type Error = Fault;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Fault>>> {
        self.poll_chunk(context).map(|piece| piece.map(|piece| piece.map(Frame::data)))
    }

    fn size_hint(&self) -> SizeHint {
        self.incoming.size_hint()
    }
}

#[cfg(test)]
mod tests;
