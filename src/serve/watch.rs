//! The pulse of one connection: whether a request runs, since when nothing does, how long a head has been coming in or an
//! answer going nowhere. One timer a connection reads it; requests only set marks, so none of them arms a timer.
//!
//! Over HTTP/1.1 bytes that come while nothing runs are a head, and an answer that nobody reads blocks the socket. HTTP/2
//! differs in both: pings and windows come at any time, and each answer waits for a window of its own (`reader`).

use std::io::{Error, ErrorKind, IoSlice};
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::server::TlsStream;

use super::reader::Turn;
use crate::config::Limits;

/// How a client begins HTTP/2 (RFC 9113, section 3.4).
pub(super) const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// What came first was something else.
const OTHER: usize = usize::MAX;

/// Marks, in milliseconds since the connection was accepted.
pub(super) struct Pulse {
    began: Instant,
    running: AtomicUsize,
    /// With nothing running: whether bytes of a head have come.
    heading: AtomicBool,
    /// With nothing running: since when nothing does, or since when the head has been coming.
    since: AtomicU64,
    /// Since when the socket has taken no byte of what waits; plus one, 0 for not at all.
    blocked: AtomicU64,
    /// How much of the preface has come, or [`OTHER`].
    preface: AtomicUsize,
    /// The answers that wait for windows of their own.
    turns: Mutex<Vec<Weak<Turn>>>,
}

/// What the timer is to do.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Look again after so long.
    Wait(Duration),
    /// Unused for as long as it may be.
    Idle,
    /// Too slow; the word is a metric label.
    Cut(&'static str),
}

impl Pulse {
    /// A new connection owes us a head.
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self {
            began: Instant::now(),
            running: AtomicUsize::new(0),
            heading: AtomicBool::new(true),
            since: AtomicU64::new(0),
            blocked: AtomicU64::new(0),
            preface: AtomicUsize::new(0),
            turns: Mutex::default(),
        })
    }

    pub(super) fn now(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX - 1)
    }

    fn heard(&self, bytes: &[u8]) {
        if !self.is_http_2(bytes) && self.running.load(Relaxed) == 0 && !self.heading.swap(true, Relaxed) {
            self.since.store(self.now(), Relaxed);
        }
    }

    /// Whether the connection speaks HTTP/2, these being its next bytes. It then owes no head: it rests from its preface on.
    fn is_http_2(&self, bytes: &[u8]) -> bool {
        let seen = self.preface.load(Relaxed);
        if seen >= PREFACE.len() {
            return seen != OTHER;
        }
        let rest = &PREFACE[seen..];
        let part = rest.len().min(bytes.len());
        if bytes[..part] != rest[..part] {
            self.preface.store(OTHER, Relaxed);
            return false;
        }
        let whole = part == rest.len();
        if whole {
            self.since.store(self.now(), Relaxed);
            self.heading.store(false, Relaxed);
        }
        self.preface.store(seen + part, Relaxed);
        whole
    }

    /// Looks after an answer that waits for a window of its own.
    pub(super) fn look_after(&self, turn: &Arc<Turn>) {
        let mut turns = self.turns.lock().unwrap_or_else(PoisonError::into_inner);
        if turns.len() == turns.capacity() {
            turns.retain(|turn| turn.strong_count() > 0);
        }
        turns.push(Arc::downgrade(turn));
    }

    /// Resets the answers whose readers have made no room for too long; how many.
    pub(super) fn reset_slow(&self, limits: &Limits) -> usize {
        let patience = u64::try_from(limits.write_timeout.as_millis()).unwrap_or(u64::MAX);
        let before = self.now().checked_sub(patience);
        let mut turns = self.turns.lock().unwrap_or_else(PoisonError::into_inner);
        turns.retain(|turn| turn.strong_count() > 0);
        let late = |turn: &&Weak<Turn>| {
            turn.upgrade().is_some_and(|turn| before.is_some_and(|before| turn.reset_if_waiting_since(before)))
        };
        turns.iter().filter(late).count()
    }

    fn wrote(&self, done: bool) {
        let blocked = self.blocked.load(Relaxed) != 0;
        if done && blocked {
            self.blocked.store(0, Relaxed);
        } else if !done && !blocked {
            self.blocked.store(self.now() + 1, Relaxed);
        }
    }

    /// A request runs until the guard is dropped.
    pub(super) fn run(self: &Arc<Self>) -> Running {
        self.running.fetch_add(1, Relaxed);
        Running(Arc::clone(self))
    }

    /// What is due, and if nothing is, when to look again: never later than the shortest of the times, so that what begins
    /// right after this look is found before it is due.
    pub(super) fn verdict(&self, limits: &Limits) -> Verdict {
        let now = self.now();
        let (since, most, due) = match self.blocked.load(Relaxed) {
            0 if self.running.load(Relaxed) > 0 => return Verdict::Wait(pace(limits)),
            0 if self.heading.load(Relaxed) => {
                (self.since.load(Relaxed), limits.header_read_timeout, Verdict::Cut("slow_head"))
            }
            0 => (self.since.load(Relaxed), limits.keep_alive, Verdict::Idle),
            blocked => (blocked - 1, limits.write_timeout, Verdict::Cut("slow_reader")),
        };
        let left = most.saturating_sub(Duration::from_millis(now.saturating_sub(since)));
        if left.is_zero() { due } else { Verdict::Wait(left.min(pace(limits))) }
    }
}

/// The longest pause between two looks.
pub(super) fn pace(limits: &Limits) -> Duration {
    limits.header_read_timeout.min(limits.keep_alive).min(limits.write_timeout)
}

/// A request that runs, its answer included.
pub(super) struct Running(Arc<Pulse>);

impl Running {
    /// Of its connection.
    pub(super) fn pulse(&self) -> &Pulse {
        &self.0
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Marks first: a look in between must not see an old one.
        self.0.heading.store(false, Relaxed);
        self.0.since.store(self.0.now(), Relaxed);
        self.0.running.fetch_sub(1, Relaxed);
    }
}

/// What may tell that the client has gone away while its request runs.
pub(super) trait Hanging {
    /// Whether the client is seen to send nothing more. Wakes the task when that changes.
    fn hung_up(&self, cx: &mut Context<'_>) -> bool;
}

impl Hanging for TcpStream {
    fn hung_up(&self, cx: &mut Context<'_>) -> bool {
        // Most of the time nothing has come since the request, which is known without asking the kernel.
        if self.poll_read_ready(cx).is_pending() {
            return false;
        }
        let ready = pin!(self.ready(Interest::READABLE));
        matches!(ready.poll(cx), Poll::Ready(Ok(ready)) if ready.is_read_closed())
    }
}

impl Hanging for TlsStream<TcpStream> {
    fn hung_up(&self, _: &mut Context<'_>) -> bool {
        false
    }
}

/// A connection whose reads and writes set the marks.
pub(super) struct Watched<T> {
    pub(super) stream: T,
    pub(super) pulse: Arc<Pulse>,
}

impl<T: AsyncRead + Unpin> AsyncRead for Watched<T> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<Result<(), Error>> {
        let before = buf.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(cx, buf);
        if buf.filled().len() > before {
            self.pulse.heard(&buf.filled()[before..]);
        }
        read
    }
}

impl<T: AsyncWrite + Hanging + Unpin> AsyncWrite for Watched<T> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<Result<usize, Error>> {
        let written = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.pulse.wrote(written.is_ready());
        written
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<Result<usize, Error>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(cx, parts);
        self.pulse.wrote(written.is_ready());
        written
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    /// Called at each look at the connection, whether there is something to flush or not.
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        if self.pulse.running.load(Relaxed) > 0 && self.stream.hung_up(cx) {
            return Poll::Ready(Err(ErrorKind::ConnectionAborted.into()));
        }
        let flushed = Pin::new(&mut self.stream).poll_flush(cx);
        if flushed.is_pending() {
            self.pulse.wrote(false);
        }
        flushed
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{DotEnv, Settings};

    fn limits(args: &[&str]) -> Limits {
        Settings::from_args(args, &DotEnv::default()).unwrap().limits
    }

    /// Lets `seconds` pass by moving the beginning back.
    fn later(pulse: Arc<Pulse>, seconds: u64) -> Arc<Pulse> {
        let mut pulse = Arc::into_inner(pulse).expect("nothing runs");
        pulse.began -= Duration::from_secs(seconds);
        Arc::new(pulse)
    }

    #[test]
    fn a_head_has_ten_seconds_and_an_unused_connection_longer() {
        let limits = limits(&[]);
        let pulse = later(Pulse::new(), 9);
        assert!(matches!(pulse.verdict(&limits), Verdict::Wait(_)));
        assert_eq!(later(pulse, 2).verdict(&limits), Verdict::Cut("slow_head"));

        let pulse = Pulse::new();
        drop(pulse.run());
        let pulse = later(pulse, 70);
        assert!(matches!(pulse.verdict(&limits), Verdict::Wait(_)));
        pulse.heard(b"G");
        let pulse = later(pulse, 11);
        assert_eq!(pulse.verdict(&limits), Verdict::Cut("slow_head"), "the second head is as bounded as the first");

        let pulse = Pulse::new();
        drop(pulse.run());
        assert_eq!(later(pulse, 76).verdict(&limits), Verdict::Idle);
    }

    #[test]
    fn a_connection_of_http_2_owes_no_head_once_it_has_begun() {
        let limits = limits(&[]);
        let pulse = Pulse::new();
        let (first, second) = PREFACE.split_at(9);
        pulse.heard(first);
        assert_eq!(later(pulse, 11).verdict(&limits), Verdict::Cut("slow_head"), "half a preface is half a head");

        let pulse = later(Pulse::new(), 9);
        pulse.heard(first);
        pulse.heard(second);
        let pulse = later(pulse, 70);
        pulse.heard(b"a ping");
        assert!(matches!(pulse.verdict(&limits), Verdict::Wait(_)));
        let pulse = later(pulse, 6);
        pulse.heard(b"a ping");
        assert_eq!(pulse.verdict(&limits), Verdict::Idle, "a ping is no use");
    }

    #[test]
    fn a_running_request_may_take_its_time_unless_its_reader_sleeps() {
        let limits = limits(&[]);
        let pulse = Pulse::new();
        pulse.running.fetch_add(1, Relaxed);
        let pulse = later(pulse, 3600);
        assert!(matches!(pulse.verdict(&limits), Verdict::Wait(_)));
        pulse.wrote(false);
        let pulse = later(pulse, 59);
        assert!(matches!(pulse.verdict(&limits), Verdict::Wait(_)));
        pulse.wrote(false);
        let pulse = later(pulse, 2);
        assert_eq!(pulse.verdict(&limits), Verdict::Cut("slow_reader"));
        pulse.wrote(true);
        assert!(matches!(pulse.verdict(&limits), Verdict::Wait(_)));
    }
}
