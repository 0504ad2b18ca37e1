//! The HTTP/1 listener under every stand-in: it accepts, hands each request over whole, and can cut connections off.
//!
//! Everything it spawns belongs to it. Dropping it closes the listener and all its connections, as a crash would.

use std::{
    convert::Infallible,
    future::Future,
    io,
    net::SocketAddr,
    pin::Pin,
    sync::{
        Arc, Mutex, OnceLock, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll},
    time::{Duration, Instant},
};

use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response};
use http_body::{Body, Frame};
use http_body_util::BodyExt as _;
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use serde_json::Value;
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{mpsc, watch},
    task::{AbortHandle, JoinSet},
};

use crate::pulse::Pulse;

/// A request as it arrived.
#[derive(Clone, Debug)]
pub struct Recorded {
    /// The HTTP method.
    pub method: Method,
    /// Path and query.
    pub path: String,
    /// All headers.
    pub headers: HeaderMap,
    /// The body, byte for byte.
    pub body: Bytes,
    /// The number of the connection it came over, from 1.
    pub connection: usize,
    took: Arc<OnceLock<Duration>>,
}

impl Recorded {
    /// The body as JSON; null when it is none.
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }

    /// The JSON-RPC method, or an empty text.
    pub fn rpc(&self) -> String {
        self.json()["method"].as_str().unwrap_or_default().to_owned()
    }

    /// How long it was worked on, from its last byte to the last one of its answer; `None` while it is.
    pub fn took(&self) -> Option<Duration> {
        self.took.get().copied()
    }

    /// A header, or an empty text.
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }
}

/// A body made of what is sent down a channel.
pub(crate) struct Pipe(pub mpsc::Receiver<io::Result<Bytes>>);

impl Body for Pipe {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        self.0.poll_recv(cx).map(|next| next.map(|bytes| bytes.map(Frame::data)))
    }
}

/// A body that says when it ends, or nobody wants it any more.
struct Timed<B> {
    body: B,
    began: Instant,
    took: Arc<OnceLock<Duration>>,
}

impl<B> Drop for Timed<B> {
    fn drop(&mut self) {
        _ = self.took.set(self.began.elapsed());
    }
}

impl<B: Body + Unpin> Body for Timed<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, Self::Error>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> http_body::SizeHint {
        self.body.size_hint()
    }
}

/// What a stand-in answers with: a known body, or one that is still being written.
pub(crate) type Reply = Response<http_body_util::Either<http_body_util::Full<Bytes>, Pipe>>;

/// An answer whose body is known.
pub(crate) fn reply(status: u16, kind: &str, body: impl Into<Bytes>) -> Reply {
    let mut response = Response::new(http_body_util::Either::Left(http_body_util::Full::new(body.into())));
    *response.status_mut() = http::StatusCode::from_u16(status).unwrap_or(http::StatusCode::IM_A_TEAPOT);
    if let Ok(kind) = kind.parse()
        && !matches!(status, 202 | 204)
    {
        response.headers_mut().insert(http::header::CONTENT_TYPE, kind);
    }
    response
}

/// An answer whose body is written by somebody else, a few pieces ahead of the reader at most.
pub(crate) fn piped(kind: &str) -> (mpsc::Sender<io::Result<Bytes>>, Reply) {
    let (sender, receiver) = mpsc::channel(4);
    let mut response = Response::new(http_body_util::Either::Right(Pipe(receiver)));
    if let Ok(kind) = kind.parse() {
        response.headers_mut().insert(http::header::CONTENT_TYPE, kind);
    }
    response.headers_mut().insert(http::header::CACHE_CONTROL, http::HeaderValue::from_static("no-store"));
    (sender, response)
}

/// How to end a connection.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Cut {
    /// Close it after this long, so that what was written before still goes out.
    Close(Duration),
    /// Reset it at once.
    Reset,
}

/// The connection a request came over.
#[derive(Clone)]
pub(crate) struct Wire(Arc<watch::Sender<Option<Cut>>>);

impl Wire {
    pub(crate) fn cut(&self, cut: Cut) {
        self.0.send_replace(Some(cut));
    }
}

#[derive(Default)]
struct Counts {
    accepted: AtomicUsize,
    open: AtomicUsize,
    requests: Mutex<Vec<Recorded>>,
    pulse: Pulse,
}

/// A listener with its connections.
pub struct Host {
    address: SocketAddr,
    accepting: AbortHandle,
    counts: Arc<Counts>,
    drops: watch::Sender<u64>,
}

impl Drop for Host {
    fn drop(&mut self) {
        // The accepting task owns the connections: they end with it.
        self.accepting.abort();
    }
}

impl Host {
    /// Listens on a port of 127.0.0.1 (0 takes a free one) and answers with `handler`.
    pub(crate) async fn start<H, F>(port: u16, handler: H) -> io::Result<Self>
    where
        H: Fn(Request<Bytes>, Wire) -> F + Send + Sync + 'static,
        F: Future<Output = Reply> + Send + 'static,
    {
        let listener = TcpListener::bind(("127.0.0.1", port)).await?;
        let address = listener.local_addr()?;
        let (counts, drops) = (Arc::new(Counts::default()), watch::Sender::new(0));
        let (handler, inner, dropped) = (Arc::new(handler), Arc::clone(&counts), drops.subscribe());
        let accepting = tokio::spawn(async move {
            let mut connections = JoinSet::new();
            loop {
                tokio::select! {
                    Some(_) = connections.join_next() => {}
                    Ok((stream, _)) = listener.accept() => {
                        let number = inner.accepted.fetch_add(1, Ordering::Relaxed) + 1;
                        let mut dropped = dropped.clone();
                        dropped.mark_unchanged();
                        let connection = serve(stream, number, Arc::clone(&inner), Arc::clone(&handler), dropped);
                        connections.spawn(connection);
                    }
                }
            }
        });
        Ok(Self { address, accepting: accepting.abort_handle(), counts, drops })
    }

    /// Listens on a free port of 127.0.0.1 and answers with JSON.
    pub(crate) async fn serve(
        answer: impl Fn(&Request<Bytes>) -> (u16, Value) + Send + Sync + 'static,
    ) -> io::Result<Self> {
        Self::start(0, move |request, _| {
            let (status, body) = answer(&request);
            std::future::ready(reply(status, "application/json", body.to_string()))
        })
        .await
    }

    /// The address it listens on.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Every request so far, oldest first.
    pub fn requests(&self) -> Vec<Recorded> {
        self.counts.requests.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Forgets the requests so far.
    pub fn forget(&self) {
        self.counts.requests.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    /// Waits for a request that fits, past or coming; `None` if none comes.
    pub async fn wait_for(&self, fits: impl Fn(&Recorded) -> bool) -> Option<Recorded> {
        self.counts.pulse.until(|| self.requests().into_iter().find(|request| fits(request))).await
    }

    /// How many connections were ever accepted.
    pub fn accepted(&self) -> usize {
        self.counts.accepted.load(Ordering::Relaxed)
    }

    /// How many connections are open now.
    pub fn open(&self) -> usize {
        self.counts.open.load(Ordering::Relaxed)
    }

    /// Waits until exactly this many connections are open; `false` if that never comes.
    pub async fn wait_open(&self, count: usize) -> bool {
        self.counts.pulse.until(|| (self.open() == count).then_some(())).await.is_some()
    }

    /// Closes every open connection, and goes on listening.
    pub fn disconnect_all(&self) {
        self.drops.send_modify(|count| *count += 1);
    }
}

struct Open(Arc<Counts>);

impl Drop for Open {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Ordering::Relaxed);
        self.0.pulse.tick();
    }
}

async fn serve<H, F>(
    stream: TcpStream,
    number: usize,
    counts: Arc<Counts>,
    handler: Arc<H>,
    mut dropped: watch::Receiver<u64>,
) where
    H: Fn(Request<Bytes>, Wire) -> F + Send + Sync + 'static,
    F: Future<Output = Reply> + Send + 'static,
{
    _ = stream.set_nodelay(true);
    counts.open.fetch_add(1, Ordering::Relaxed);
    counts.pulse.tick();
    let open = Open(Arc::clone(&counts));
    let (cut, mut cuts) = watch::channel(None);
    let wire = Wire(Arc::new(cut));
    let service = service_fn(move |request: Request<Incoming>| {
        let (counts, handler, wire) = (Arc::clone(&counts), Arc::clone(&handler), wire.clone());
        async move {
            let (head, body) = request.into_parts();
            let body = body.collect().await.map(http_body_util::Collected::to_bytes).unwrap_or_default();
            let (began, took) = (Instant::now(), Arc::default());
            counts.requests.lock().unwrap_or_else(PoisonError::into_inner).push(Recorded {
                method: head.method.clone(),
                path: head.uri.path_and_query().map(ToString::to_string).unwrap_or_default(),
                headers: head.headers.clone(),
                body: body.clone(),
                connection: number,
                took: Arc::clone(&took),
            });
            counts.pulse.tick();
            let reply = handler(Request::from_parts(head, body), wire).await;
            Ok::<_, Infallible>(reply.map(|body| Timed { body, began, took }))
        }
    });
    let mut connection = http1::Builder::new().timer(TokioTimer::new()).serve_connection(TokioIo::new(stream), service);
    let cut = tokio::select! {
        _ = Pin::new(&mut connection) => None,
        _ = dropped.changed() => None,
        cut = cuts.wait_for(Option::is_some) => cut.ok().and_then(|cut| *cut),
    };
    match cut {
        Some(Cut::Close(after)) => _ = tokio::time::timeout(after, Pin::new(&mut connection)).await,
        Some(Cut::Reset) => _ = connection.into_parts().io.into_inner().set_zero_linger(),
        None => {}
    }
    drop(open);
}
