//! One request to a collector, and what comes of it (OTLP specification, "OTLP/HTTP"). What may be tried again is, so often and no more;
//! a collector that is away costs the memory of what waits for it, which is bounded.

use std::io::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use http::header::{ACCEPT_ENCODING, CONTENT_ENCODING, CONTENT_TYPE, HeaderValue, USER_AGENT};
use http::{Method, Request, StatusCode};
use prost::Message;
use rand::RngExt as _;
use tokio_util::sync::CancellationToken;

use super::proto::Answer;
use crate::config::Collector;
use crate::net::{Bounds, Outbound};
use crate::telemetry::Metrics;

/// Largest answer of a collector that is read.
const ANSWER: usize = 64 << 10;
/// How often the same is sent.
const TRIES: u32 = 6;
/// The first pause between two of them; each is twice the one before, half as long or half as much again.
const PAUSE: Duration = Duration::from_secs(1);
/// Longest pause, whatever the collector says.
const LONGEST: Duration = Duration::from_secs(30);
/// Longest text of a collector's that goes into a log line, characters.
const SHOWN: usize = 200;

/// Sends one signal to its collector.
pub struct Poster {
    outbound: Outbound,
    to: Collector,
    signal: &'static str,
    metrics: Arc<Metrics>,
    pause: Duration,
    failing: AtomicBool,
}

/// Why something did not arrive.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text}")]
pub struct Lost {
    /// A label of metrics: `refused`, `given_up`.
    pub reason: &'static str,
    text: String,
}

impl Lost {
    /// The process stops before it could be sent.
    pub(super) fn stopping() -> Self {
        Self { reason: "given_up", text: "the gateway is stopping".to_owned() }
    }

    /// Whether the collector is there, and will not have this.
    pub(crate) fn is_refusal(&self) -> bool {
        self.reason == "refused"
    }
}

/// What one try came to.
enum Tried {
    Taken,
    /// It may be taken later, at the earliest after so long.
    Later(Option<Duration>, String),
    Refused(String),
}

impl Poster {
    pub(super) fn new(outbound: &Outbound, to: Collector, signal: &'static str, metrics: &Arc<Metrics>) -> Self {
        let (outbound, metrics) = (outbound.clone(), Arc::clone(metrics));
        Self { outbound, to, signal, metrics, pause: PAUSE, failing: AtomicBool::new(false) }
    }

    /// A body, and how much is in it. Made aside: it may take milliseconds, in which a thread serves others.
    pub(super) async fn encode<M: Message + 'static>(
        &self,
        make: impl FnOnce() -> (u64, M) + Send + 'static,
    ) -> Option<(u64, Bytes)> {
        let gzip = self.to.gzip;
        let made = tokio::task::spawn_blocking(move || {
            let (count, message) = make();
            let body = message.encode_to_vec();
            (count, if gzip { compressed(&body) } else { body.into() })
        });
        made.await.ok()
    }

    /// Sends it, and again while that may help and the process goes on.
    pub(super) async fn send_again(&self, body: Bytes, count: u64, last: &CancellationToken) -> Result<(), Lost> {
        let mut pause = self.pause;
        for attempt in 1..=TRIES {
            let (wait, text) = match self.try_once(&body, count, self.to.timeout).await {
                Tried::Taken => {
                    self.works();
                    return Ok(());
                }
                Tried::Refused(text) => return Err(self.fails("refused", text)),
                Tried::Later(wait, text) => (wait, text),
            };
            let lost = self.fails("given_up", text);
            let wait = wait.unwrap_or_else(|| pause.mul_f64(rand::rng().random_range(0.5..1.5))).min(LONGEST);
            if attempt == TRIES || last.run_until_cancelled(tokio::time::sleep(wait)).await.is_none() {
                return Err(lost);
            }
            pause *= 2;
        }
        Ok(())
    }

    /// Sends it once, in no more time than that.
    pub(super) async fn send(&self, body: &Bytes, count: u64, within: Duration) -> Result<(), Lost> {
        match self.try_once(body, count, within.min(self.to.timeout)).await {
            Tried::Taken => {
                self.works();
                Ok(())
            }
            Tried::Refused(text) => Err(self.fails("refused", text)),
            Tried::Later(_, text) => Err(self.fails("given_up", text)),
        }
    }

    async fn try_once(&self, body: &Bytes, count: u64, time: Duration) -> Tried {
        let mut request = Request::new(body.clone());
        *request.method_mut() = Method::POST;
        let headers = request.headers_mut();
        headers.insert(USER_AGENT, HeaderValue::from_static(concat!("mcp-gateway/", env!("CARGO_PKG_VERSION"))));
        headers.extend(self.to.headers.clone());
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/x-protobuf"));
        headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        if self.to.gzip {
            headers.insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
        }
        let bounds = Bounds { body: ANSWER, time };
        let answer = match self.outbound.fetch(&self.to.url, request, bounds).await {
            Ok(answer) => answer,
            Err(fault) => return Tried::Later(None, fault.to_string()),
        };
        let said = || format!("it answers HTTP {}", answer.status.as_u16());
        match answer.status {
            status if status.is_success() => {
                self.count(count, &answer.body);
                Tried::Taken
            }
            StatusCode::TOO_MANY_REQUESTS
            | StatusCode::BAD_GATEWAY
            | StatusCode::SERVICE_UNAVAILABLE
            | StatusCode::GATEWAY_TIMEOUT => Tried::Later(answer.retry_after(time::OffsetDateTime::now_utc()), said()),
            _ => Tried::Refused(said()),
        }
    }

    /// Counts what was taken. What a collector rejects of something that it took is not to be sent again.
    fn count(&self, count: u64, body: &[u8]) {
        let partial = Answer::decode(body).ok().and_then(|answer| answer.partial).unwrap_or_default();
        let rejected = u64::try_from(partial.rejected).unwrap_or_default().min(count);
        self.metrics.otlp_sent.on([self.signal], |all| all.add(count - rejected));
        if rejected > 0 {
            self.dropped("refused", rejected);
            let why: String = partial.why.chars().take(SHOWN).collect();
            tracing::warn!(
                signal = self.signal,
                rejected,
                why,
                "the collector of OpenTelemetry does not take all that it is sent"
            );
        }
    }

    /// So much does not arrive.
    pub(super) fn dropped(&self, reason: &'static str, count: u64) {
        self.metrics.otlp_dropped.on([self.signal, reason], |all| all.add(count));
    }

    fn works(&self) {
        if self.failing.swap(false, Ordering::Relaxed) {
            tracing::info!(signal = self.signal, "the collector of OpenTelemetry takes what it is sent again");
        }
    }

    /// Said once, until it works again.
    fn fails(&self, reason: &'static str, text: String) -> Lost {
        if !self.failing.swap(true, Ordering::Relaxed) {
            tracing::warn!(
                signal = self.signal,
                "the collector of OpenTelemetry does not take what it is sent: {text}"
            );
        }
        Lost { reason, text }
    }
}

/// Fast rather than small: it is mostly names, over and over.
fn compressed(body: &[u8]) -> Bytes {
    let mut encoder = GzEncoder::new(Vec::with_capacity(body.len() / 4), Compression::fast());
    // Writing into memory cannot fail.
    _ = encoder.write_all(body);
    encoder.finish().unwrap_or_default().into()
}
