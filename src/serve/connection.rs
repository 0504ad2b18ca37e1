//! One connection: TLS where it is set, HTTP/1.1 or HTTP/2, and its end.

use std::convert::Infallible;
use std::future::poll_fn;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Instant;

use http::{Request, Response};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::Ground;
use super::reader::Answer;
use super::socket::{Showing, Socket};
use super::uptake::Slot;
use super::watch::{PREFACE, Pulse, Verdict};
use super::workers::Seat;
use crate::config::Limits;
use crate::reuse::{Reused, Shelf};
use crate::telemetry::{Counter, Gauge, Metrics};
use crate::web::{Door, Goodbye};

/// Requests at once on one HTTP/2 connection.
const STREAMS: u32 = 256;

thread_local!(static ANSWERS: Shelf<Result<Response<Answer>, Infallible>> = const { Shelf::new(Vec::new()) });

/// What connections share.
pub(super) struct Host {
    door: Door,
    pub(super) limits: Limits,
    metrics: Arc<Metrics>,
    open: Arc<Gauge>,
    acceptor: Option<TlsAcceptor>,
    /// For clients of which it is not known yet what they speak.
    http: auto::Builder<Tracked>,
    http_1: auto::Builder<Tracked>,
    pub(super) places: Arc<Semaphore>,
    pub(super) tasks: TaskTracker,
    pub(super) shutdown: CancellationToken,
    pub(super) cut: CancellationToken,
}

tokio::task_local! {
    /// Ends the task of one stream of HTTP/2, which resets the stream. hyper hands over the task but not the stream: this is
    /// how the answer within finds it.
    static RESET: CancellationToken;
}

/// Runs what HTTP/2 spawns, a task a stream, under the tracker, so that a stop waits for it.
#[derive(Clone)]
struct Tracked(TaskTracker);

impl<F> hyper::rt::Executor<F> for Tracked
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    fn execute(&self, future: F) {
        let reset = CancellationToken::new();
        let given_up = reset.clone();
        self.0.spawn(RESET.scope(reset, async move {
            tokio::select! {
                biased;
                () = given_up.cancelled() => {}
                _ = future => {}
            }
        }));
    }
}

impl Host {
    pub(super) fn new(ground: &Ground, door: Door, acceptor: Option<TlsAcceptor>, cut: CancellationToken) -> Self {
        let limits = ground.settings.limits.clone();
        let mut http = auto::Builder::new(Tracked(ground.tasks.clone()));
        let head = limits.head();
        // The head's time is ours to watch (`watch`): hyper's own would also end connections that only rest.
        http.http1().timer(TokioTimer::new()).header_read_timeout(None).max_buf_size(head);
        // Whether a client has gone away hyper finds out by reading ahead, which takes a second read buffer for each request that
        // runs. Without TLS it shows below (`socket`).
        http.http1().half_close(acceptor.is_none());
        http.http2()
            .timer(TokioTimer::new())
            .max_concurrent_streams(STREAMS)
            .max_header_list_size(u32::try_from(head).unwrap_or(u32::MAX));
        Self {
            door,
            metrics: Arc::clone(&ground.metrics),
            open: ground.metrics.active_connections.with(["client", ""]),
            acceptor,
            http_1: http.clone().http1_only(),
            http,
            places: Arc::new(Semaphore::new(limits.max_connections)),
            tasks: ground.tasks.clone(),
            shutdown: ground.shutdown.clone(),
            cut,
            limits,
        }
    }

    /// Whether `peer` may connect; else for how long not.
    pub(super) fn may_connect(&self, peer: SocketAddr) -> Result<(), std::time::Duration> {
        self.door.may_connect(peer)
    }

    pub(super) fn has_tls(&self) -> bool {
        self.acceptor.is_some()
    }

    pub(super) fn cut_for(&self, reason: &'static str) {
        self.metrics.connections_cut.on([reason], Counter::inc);
    }
}

/// Serves one accepted socket to its end. `place` is its place under the cap.
pub(super) async fn serve(
    host: Arc<Host>,
    stream: TcpStream,
    peer: SocketAddr,
    place: OwnedSemaphorePermit,
    seat: Seat,
) {
    let _place = place;
    let _open = host.open.hold();
    match &host.acceptor {
        None => {
            if let Some(only) = is_http_1(&host, &stream).await {
                http(&host, stream, peer, &seat, only).await;
            }
        }
        // Boxed, so that a connection without TLS does not carry the room for one with it.
        Some(acceptor) => Box::pin(https(&host, acceptor, stream, peer, &seat)).await,
    }
}

async fn https(host: &Arc<Host>, acceptor: &TlsAcceptor, stream: TcpStream, peer: SocketAddr, seat: &Seat) {
    let handshake = timeout(host.limits.header_read_timeout, acceptor.accept(stream));
    let shaken = tokio::select! {
        () = host.shutdown.cancelled() => return,
        shaken = handshake => shaken,
    };
    match shaken {
        Ok(Ok(stream)) => {
            let only = stream.get_ref().1.alpn_protocol() == Some(&b"http/1.1"[..]);
            http(host, stream, peer, seat, only).await;
        }
        Ok(Err(error)) => {
            tracing::debug!(%peer, %error, "TLS handshake");
            host.cut_for("tls");
        }
        Err(_) => host.cut_for("slow_tls"),
    }
}

/// Whether a client that has just come speaks HTTP/1.1 and nothing else, by the first bytes that it sends; they stay to be read.
/// hyper finds that out too, but by reading, and has a buffer twice as large from then on. `None` if nothing comes.
async fn is_http_1(host: &Host, stream: &TcpStream) -> Option<bool> {
    let mut first = [0; 3];
    let peeked = timeout(host.limits.header_read_timeout, stream.peek(&mut first));
    let peeked = tokio::select! {
        () = host.shutdown.cancelled() => return None,
        peeked = peeked => peeked,
    };
    match peeked {
        Ok(Ok(0) | Err(_)) => None,
        Ok(Ok(some)) => Some(!PREFACE.starts_with(&first[..some])),
        Err(_) => {
            host.cut_for("slow_head");
            None
        }
    }
}

async fn http<T>(host: &Arc<Host>, stream: T, peer: SocketAddr, seat: &Seat, only_http_1: bool)
where
    T: AsyncRead + AsyncWrite + Showing + Unpin + Send + 'static,
{
    let pulse = Pulse::new();
    let slot = Slot::new(Arc::clone(&seat.uptake));
    let io = TokioIo::new(Socket { stream, pulse: Arc::clone(&pulse), slot });
    let service = {
        let (door, pulse) = (host.door.clone(), Arc::clone(&pulse));
        service_fn(move |request: Request<Incoming>| {
            let (door, running) = (door.clone(), pulse.run());
            Reused::new(&ANSWERS, async move {
                let response = door.answer(peer, request).await;
                if response.extensions().get::<Goodbye>().is_some() {
                    running.pulse().dismiss();
                }
                let reset = RESET.try_with(CancellationToken::clone).ok();
                Ok::<_, Infallible>(response.map(|body| Answer::new(body, running, reset)))
            })
        })
    };
    let builder = if only_http_1 { &host.http_1 } else { &host.http };
    let mut connection = pin!(builder.serve_connection(io, service));
    seat.rounds.include(&pulse);
    if host.shutdown.is_cancelled() {
        // Its thread may have told all others already.
        pulse.call();
    }
    // Since when it is to close as soon as it rests: because the process stops, or because it rested too long.
    let mut closing = None;
    poll_fn(|cx| {
        loop {
            if let Poll::Ready(ended) = connection.as_mut().poll(cx) {
                if let Err(error) = ended {
                    tracing::debug!(%peer, error, "connection");
                }
                return Poll::Ready(());
            }
            if !pulse.is_called(cx) {
                return Poll::Pending;
            }
            let verdict = pulse.verdict(&host.limits);
            if host.cut.is_cancelled() {
                return Poll::Ready(());
            }
            if let Verdict::Cut(reason) = verdict {
                tracing::debug!(%peer, reason, "connection cut off");
                host.cut_for(reason);
                return Poll::Ready(());
            }
            match closing {
                None if verdict == Verdict::Idle || pulse.is_dismissed() || host.shutdown.is_cancelled() => {
                    closing = Some(Instant::now());
                    connection.as_mut().graceful_shutdown();
                }
                Some(since) if pulse.rests() && since.elapsed() >= host.limits.header_read_timeout => {
                    return Poll::Ready(());
                }
                _ => {}
            }
        }
    })
    .await;
}
