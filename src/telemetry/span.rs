//! To which trace an operation belongs (W3C Trace Context, level 1), whether it is told to a collector, and the way there, which nobody
//! waits for.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use http::HeaderMap;
use tokio::sync::mpsc::{self, error::TrySendError};

use super::{Counter, Metrics, Operation};
use crate::config::SamplerKind;

/// What a `traceparent` says: whose part something is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TraceParent {
    /// The trace.
    pub trace: u128,
    /// The span in it that asks.
    pub span: u64,
    /// Whether whoever asks tells of it.
    pub sampled: bool,
}

impl TraceParent {
    /// Reads one; a version to come is read as far as it is known here.
    pub fn parse(text: &str) -> Option<Self> {
        let hex = |range: std::ops::Range<usize>| {
            let part = text.get(range).filter(|part| part.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')))?;
            u128::from_str_radix(part, 16).ok()
        };
        let dashes = [2, 35, 52].iter().all(|at| text.as_bytes().get(*at) == Some(&b'-'));
        let ends = match hex(0..2)? {
            0 => text.len() == 55,
            0xff => false,
            _ => text.len() == 55 || text.as_bytes().get(55) == Some(&b'-'),
        };
        let (trace, span, flags) = (hex(3..35)?, u64::try_from(hex(36..52)?).ok()?, hex(53..55)?);
        (dashes && ends && trace != 0 && span != 0).then_some(Self { trace, span, sampled: flags & 1 == 1 })
    }

    /// That of a request, if it has exactly one.
    pub fn of(headers: &HeaderMap) -> Option<Self> {
        let mut values = headers.get_all("traceparent").iter();
        let value = values.next().filter(|_| values.next().is_none())?;
        Self::parse(value.to_str().ok()?)
    }
}

impl std::fmt::Display for TraceParent {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "00-{:032x}-{:016x}-{:02x}", self.trace, self.span, u8::from(self.sampled))
    }
}

/// The spans of one operation: the gateway's own, and below it the one of its time at the server.
#[derive(Debug, Clone)]
pub struct Span {
    /// The trace.
    pub trace: u128,
    /// The caller's span.
    pub parent: Option<u64>,
    /// What the request that brought the message says, where the message says otherwise.
    pub link: Option<TraceParent>,
    /// The gateway's.
    pub own: u64,
    /// That at the server.
    pub upstream: u64,
    /// Whether a collector is told.
    pub sampled: bool,
    /// When it went to the server, since the operation began.
    pub sent: Option<Duration>,
    /// When the server had answered.
    pub answered: Option<Duration>,
    /// The id of the message, as the client wrote it.
    pub message: Option<Box<str>>,
}

impl Span {
    /// What the server is told.
    pub fn to_upstream(&self) -> TraceParent {
        TraceParent { trace: self.trace, span: self.upstream, sampled: self.sampled }
    }

    /// It goes to the server now; `since`: the operation began.
    pub fn send(&mut self, since: Duration) {
        self.sent.get_or_insert(since);
    }

    /// The server has answered, or begun to.
    pub fn answer(&mut self, since: Duration) {
        if self.sent.is_some() {
            self.answered = Some(since);
        }
    }
}

/// A finished operation on its way to the collector.
pub(super) struct Finished {
    pub(super) operation: Operation,
    pub(super) began: SystemTime,
}

/// Decides which operations are told, and takes them. Cheap to clone.
#[derive(Clone)]
pub struct Tracer {
    sampler: SamplerKind,
    queue: mpsc::Sender<Box<Finished>>,
    metrics: Arc<Metrics>,
}

impl Tracer {
    /// One whose operations wait for whoever has the other end, so many at most.
    pub(super) fn new(
        sampler: SamplerKind,
        most: usize,
        metrics: Arc<Metrics>,
    ) -> (Self, mpsc::Receiver<Box<Finished>>) {
        let (queue, waiting) = mpsc::channel(most);
        (Self { sampler, queue, metrics }, waiting)
    }

    /// The spans of an operation that begins, as part of this.
    pub fn begin(&self, parent: Option<TraceParent>) -> Span {
        let trace = parent.map_or_else(|| rand::random_range(1..=u128::MAX), |parent| parent.trace);
        let id = || rand::random_range(1..=u64::MAX);
        Span {
            trace,
            parent: parent.map(|parent| parent.span),
            link: None,
            own: id(),
            upstream: id(),
            sampled: self.takes(trace, parent),
            sent: None,
            answered: None,
            message: None,
        }
    }

    fn takes(&self, trace: u128, parent: Option<TraceParent>) -> bool {
        match parent {
            Some(parent) if self.sampler.by_parent => parent.sampled,
            _ => within(trace, self.sampler.ratio),
        }
    }

    /// Takes a finished operation that is to be told; drops it if too many wait.
    pub(super) fn take(&self, operation: &Operation) {
        let Some(span) = operation.span.as_ref().filter(|span| span.sampled) else { return };
        let began = SystemTime::now().checked_sub(operation.started.elapsed()).unwrap_or(SystemTime::UNIX_EPOCH);
        let finished =
            self.queue.try_reserve().map(|room| room.send(Box::new(Finished { operation: operation.clone(), began })));
        let reason = match finished {
            Ok(()) => return,
            Err(TrySendError::Full(())) => "queue_full",
            Err(TrySendError::Closed(())) => "given_up",
        };
        let spans = 1 + u64::from(span.sent.is_some());
        self.metrics.otlp_dropped.on(["traces", reason], |all: &Counter| all.add(spans));
    }
}

/// Whether a trace is among this part of all, as the ratio samplers of the OpenTelemetry SDKs see it: by the last 63 of 64 bits.
#[expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    reason = "the last 64 bits, and not to the last of them"
)]
fn within(trace: u128, ratio: f64) -> bool {
    let place = ((trace as u64) >> 1) as f64;
    ratio >= 1.0 || place < ratio * (1_u64 << 63) as f64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::{Outcome, RequestId};

    const GOOD: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    fn tracer(by_parent: bool, ratio: f64) -> (Tracer, mpsc::Receiver<Box<Finished>>) {
        Tracer::new(SamplerKind { by_parent, ratio }, 2, Arc::new(Metrics::new(10)))
    }

    #[test]
    fn a_parent_is_read_as_it_is_written() {
        let parent = TraceParent::parse(GOOD).unwrap();
        assert_eq!((parent.span, parent.sampled, parent.to_string().as_str()), (0xb7ad_6b71_6920_3331, true, GOOD));
        assert!(!TraceParent::parse(&GOOD.replace("-01", "-02")).unwrap().sampled);
        assert!(TraceParent::parse(&format!("{}-later", GOOD.replace("00-0", "01-0"))).is_some());
        for bad in [
            "",
            "x",
            &GOOD[..54],
            &format!("{GOOD}-"),
            &format!("ff{}", &GOOD[2..]),
            &GOOD.to_uppercase(),
            &GOOD.replace("b7ad6b7169203331", "0000000000000000"),
            &GOOD.replace("0af7651916cd43dd8448eb211c80319c", &"0".repeat(32)),
            &GOOD.replace("c-b", "c_b"),
            &GOOD.replace("0af", "+af"),
            &format!("01{}x", &GOOD[2..]),
            "00-0af7651916cd43dd8448eb211c80319é-b7ad6b7169203331-01",
        ] {
            assert_eq!(TraceParent::parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn a_callers_word_counts_where_it_is_to() {
        let told = TraceParent::parse(GOOD);
        let quiet = TraceParent::parse(&GOOD.replace("-01", "-00"));
        for (by_parent, ratio, sampled) in [
            (true, 0.0, [true, false, false]),
            (true, 1.0, [true, false, true]),
            (false, 0.0, [false, false, false]),
            (false, 1.0, [true, true, true]),
        ] {
            let (tracer, _waiting) = tracer(by_parent, ratio);
            let of = [told, quiet, None].map(|parent| tracer.begin(parent).sampled);
            assert_eq!(of, sampled, "{by_parent} {ratio}");
        }
        let span = tracer(true, 1.0).0.begin(told);
        assert_eq!((span.trace, span.parent), (told.unwrap().trace, Some(told.unwrap().span)));
        assert!(span.own != span.upstream && ![span.own, span.upstream].contains(&span.parent.unwrap()));
    }

    #[test]
    fn a_ratio_takes_its_part_of_traces() {
        let tracer = tracer(true, 0.25).0;
        let taken = (0..4000).filter(|_| tracer.begin(None).sampled).count();
        assert!((800..1200).contains(&taken), "{taken} of 4000");
        // The same for everybody who sees the trace.
        assert!(within(u128::from(u64::MAX >> 3), 0.25) && !within(u128::from(u64::MAX >> 1), 0.25));
    }

    #[test]
    fn what_finds_no_room_is_dropped_and_counted() {
        let (tracer, mut waiting) = tracer(true, 1.0);
        for _ in 0..5 {
            let mut operation = Operation::start(RequestId::new(), "/mcp");
            operation.span = Some(Box::new(tracer.begin(None)));
            operation.finish(Outcome::Success);
            tracer.take(&operation);
        }
        assert_eq!(tracer.metrics.otlp_dropped.with(["traces", "queue_full"]).get(), 3);
        assert!(waiting.try_recv().is_ok() && waiting.try_recv().is_ok() && waiting.try_recv().is_err());
    }
}
