//! The pulse of one connection: whether a request runs, since when nothing does, how long a head has been coming in or an
//! answer going nowhere. One timer a connection reads it; requests only set marks, so none of them arms a timer.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use axum::body::Body;
use bytes::Bytes;
use http_body::{Frame, SizeHint};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::config::Limits;

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
        })
    }

    fn now(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX - 1)
    }

    fn heard(&self) {
        if self.running.load(Relaxed) == 0 && !self.heading.swap(true, Relaxed) {
            self.since.store(self.now(), Relaxed);
        }
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

impl Drop for Running {
    fn drop(&mut self) {
        // Marks first: a look in between must not see an old one.
        self.0.heading.store(false, Relaxed);
        self.0.since.store(self.0.now(), Relaxed);
        self.0.running.fetch_sub(1, Relaxed);
    }
}

/// A body whose request counts as running until the body is gone.
pub(super) struct Answer {
    pub(super) body: Body,
    pub(super) _running: Running,
}

impl http_body::Body for Answer {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// A connection whose reads and writes set the marks.
pub(super) struct Watched<T> {
    pub(super) stream: T,
    pub(super) pulse: Arc<Pulse>,
}

impl<T: AsyncRead + Unpin> AsyncRead for Watched<T> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<std::io::Result<()>> {
        let before = buf.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(cx, buf);
        if buf.filled().len() > before {
            self.pulse.heard();
        }
        read
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Watched<T> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<std::io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.pulse.wrote(written.is_ready());
        written
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[std::io::IoSlice<'_>],
    ) -> Poll<std::io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(cx, parts);
        self.pulse.wrote(written.is_ready());
        written
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        let flushed = Pin::new(&mut self.stream).poll_flush(cx);
        if flushed.is_pending() {
            self.pulse.wrote(false);
        }
        flushed
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
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
        pulse.heard();
        let pulse = later(pulse, 11);
        assert_eq!(pulse.verdict(&limits), Verdict::Cut("slow_head"), "the second head is as bounded as the first");

        let pulse = Pulse::new();
        drop(pulse.run());
        assert_eq!(later(pulse, 76).verdict(&limits), Verdict::Idle);
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
