//! One connection: TLS where it is set, HTTP/1.1 or HTTP/2, its timer, and the end of both.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;

use http::Request;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, sleep, timeout};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::Ground;
use super::reader::Answer;
use super::watch::{Hanging, PREFACE, Pulse, Verdict, Watched, pace};
use crate::config::Limits;
use crate::telemetry::{Counter, Gauge, Metrics};
use crate::web::Door;

/// Requests at once on one HTTP/2 connection.
const STREAMS: u32 = 256;
/// The smallest buffer that hyper works with.
const LEAST_BUFFER: usize = 8 * 1024;

/// What connections share.
pub(super) struct Host {
    door: Door,
    limits: Limits,
    metrics: Arc<Metrics>,
    open: Arc<Gauge>,
    acceptor: Option<TlsAcceptor>,
    /// For clients of which it is not known yet what they speak.
    http: auto::Builder<Tracked>,
    http_1: auto::Builder<Tracked>,
    pub(super) places: Arc<Semaphore>,
    pub(super) tasks: TaskTracker,
    pub(super) shutdown: CancellationToken,
    cut: CancellationToken,
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
        let head = limits.header_size.max(LEAST_BUFFER);
        // The head's time is ours to watch (`watch`): hyper's own would also end connections that only rest.
        http.http1().timer(TokioTimer::new()).header_read_timeout(None).max_buf_size(head);
        // Whether a client has gone away hyper finds out by reading ahead, which takes a second read buffer for each request that
        // runs. Without TLS it shows below (`watch`).
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

    pub(super) fn has_tls(&self) -> bool {
        self.acceptor.is_some()
    }

    pub(super) fn cut_for(&self, reason: &'static str) {
        self.metrics.connections_cut.on([reason], Counter::inc);
    }
}

/// Serves one accepted socket to its end. `place` is its place under the cap.
pub(super) async fn serve(host: Arc<Host>, stream: TcpStream, peer: SocketAddr, place: OwnedSemaphorePermit) {
    let _place = place;
    let _open = host.open.hold();
    match &host.acceptor {
        None => {
            let pulse = Pulse::new();
            if let Some(only) = is_http_1(&host, &stream).await {
                http(&host, stream, peer, pulse, only).await;
            }
        }
        // Boxed, so that a connection without TLS does not carry the room for one with it.
        Some(acceptor) => Box::pin(https(&host, acceptor, stream, peer)).await,
    }
}

async fn https(host: &Arc<Host>, acceptor: &TlsAcceptor, stream: TcpStream, peer: SocketAddr) {
    let handshake = timeout(host.limits.header_read_timeout, acceptor.accept(stream));
    let shaken = tokio::select! {
        () = host.shutdown.cancelled() => return,
        shaken = handshake => shaken,
    };
    match shaken {
        Ok(Ok(stream)) => {
            let only = stream.get_ref().1.alpn_protocol() == Some(&b"http/1.1"[..]);
            http(host, stream, peer, Pulse::new(), only).await;
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

async fn http<T>(host: &Arc<Host>, stream: T, peer: SocketAddr, pulse: Arc<Pulse>, only_http_1: bool)
where
    T: AsyncRead + AsyncWrite + Hanging + Unpin + Send + 'static,
{
    let io = TokioIo::new(Watched { stream, pulse: Arc::clone(&pulse) });
    let service = {
        let (door, pulse) = (host.door.clone(), Arc::clone(&pulse));
        service_fn(move |request: Request<Incoming>| {
            let (door, running) = (door.clone(), pulse.run());
            async move {
                let response = door.answer(peer, request).await;
                let reset = RESET.try_with(CancellationToken::clone).ok();
                Ok::<_, Infallible>(response.map(|body| Answer::new(body, running, reset)))
            }
        })
    };
    let builder = if only_http_1 { &host.http_1 } else { &host.http };
    let mut connection = pin!(builder.serve_connection(io, service));
    let mut timer = pin!(sleep(pace(&host.limits)));
    // Children of the tokens: looking at one takes a lock, which must not be every connection's.
    let (stop, cut) = (host.shutdown.child_token(), host.cut.child_token());
    let (mut stop, mut cut) = (pin!(stop.cancelled()), pin!(cut.cancelled()));
    // Told to close when it next rests: because the process stops, or because it rested too long.
    let (mut stopping, mut rested) = (false, false);
    loop {
        tokio::select! {
            biased;
            ended = connection.as_mut() => {
                if let Err(error) = ended {
                    tracing::debug!(%peer, error, "connection");
                }
                return;
            }
            () = stop.as_mut(), if !stopping => {
                stopping = true;
                connection.as_mut().graceful_shutdown();
            }
            () = cut.as_mut(), if stopping => return,
            () = timer.as_mut() => {
                for _ in 0..pulse.reset_slow(&host.limits) {
                    tracing::debug!(%peer, "stream reset: its reader makes no room");
                    host.cut_for("slow_reader");
                }
                match pulse.verdict(&host.limits) {
                    Verdict::Wait(left) => timer.as_mut().reset(Instant::now() + left),
                    Verdict::Idle if !rested => {
                        rested = true;
                        connection.as_mut().graceful_shutdown();
                        timer.as_mut().reset(Instant::now() + host.limits.header_read_timeout);
                    }
                    Verdict::Idle => return,
                    Verdict::Cut(reason) => {
                        tracing::debug!(%peer, reason, "connection cut off");
                        return host.cut_for(reason);
                    }
                }
            }
        }
    }
}
