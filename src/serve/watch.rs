//! The pulse of one connection: whether a request runs, since when nothing does, how long a head has been coming in or an
//! answer going nowhere. Requests and the socket only set marks, none of them arms a timer; the thread's round (`rounds`) reads
//! them now and then.
//!
//! Over HTTP/1.1 bytes that come while nothing runs are a head, and an answer that nobody reads blocks the socket. HTTP/2
//! differs in both: pings and windows come at any time, and each answer waits for a window of its own (`reader`).

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::task::Context;
use std::time::{Duration, Instant};

use Ordering::Relaxed;
use futures_util::task::AtomicWaker;

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
    /// Whether it is to close as soon as it rests, whatever it rests for.
    dismissed: AtomicBool,
    /// Whether the connection is to look at its state.
    called: AtomicBool,
    /// Its task.
    task: AtomicWaker,
}

/// What is to be done with a connection.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Nothing yet.
    Wait,
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
            dismissed: AtomicBool::new(false),
            called: AtomicBool::new(false),
            task: AtomicWaker::new(),
        })
    }

    pub(super) fn now(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX - 1)
    }

    /// Bytes have come.
    pub(super) fn heard(&self, bytes: &[u8]) {
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

    /// The socket took something, or would not.
    pub(super) fn wrote(&self, done: bool) {
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

    /// What is due.
    pub(super) fn verdict(&self, limits: &Limits) -> Verdict {
        let (since, most, due) = match self.blocked.load(Relaxed) {
            0 if self.running.load(Relaxed) > 0 => return Verdict::Wait,
            0 if self.heading.load(Relaxed) => {
                (self.since.load(Relaxed), limits.header_read_timeout, Verdict::Cut("slow_head"))
            }
            0 => (self.since.load(Relaxed), limits.keep_alive, Verdict::Idle),
            blocked => (blocked - 1, limits.write_timeout, Verdict::Cut("slow_reader")),
        };
        let past = Duration::from_millis(self.now().saturating_sub(since));
        if past >= most { due } else { Verdict::Wait }
    }

    /// Has the connection look at its state.
    pub(super) fn call(&self) {
        self.called.store(true, Ordering::Release);
        self.task.wake();
    }

    /// Has the connection close when it rests.
    pub(super) fn dismiss(&self) {
        self.dismissed.store(true, Relaxed);
        self.call();
    }

    /// Whether it was told to.
    pub(super) fn is_dismissed(&self) -> bool {
        self.dismissed.load(Relaxed)
    }

    /// Whether it was called since the last look; wakes the task when it is.
    pub(super) fn is_called(&self, cx: &Context<'_>) -> bool {
        self.task.register(cx.waker());
        self.called.load(Relaxed) && self.called.swap(false, Ordering::Acquire)
    }

    /// Whether nothing runs, and nothing waits to be written.
    pub(super) fn rests(&self) -> bool {
        !self.is_running() && self.blocked.load(Relaxed) == 0
    }

    /// Whether a request runs.
    pub(super) fn is_running(&self) -> bool {
        self.running.load(Relaxed) > 0
    }
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
        assert!(matches!(pulse.verdict(&limits), Verdict::Wait));
        assert_eq!(later(pulse, 2).verdict(&limits), Verdict::Cut("slow_head"));

        let pulse = Pulse::new();
        drop(pulse.run());
        let pulse = later(pulse, 70);
        assert!(matches!(pulse.verdict(&limits), Verdict::Wait));
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
        assert!(matches!(pulse.verdict(&limits), Verdict::Wait));
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
        assert!(matches!(pulse.verdict(&limits), Verdict::Wait));
        pulse.wrote(false);
        let pulse = later(pulse, 59);
        assert!(matches!(pulse.verdict(&limits), Verdict::Wait));
        pulse.wrote(false);
        let pulse = later(pulse, 2);
        assert_eq!(pulse.verdict(&limits), Verdict::Cut("slow_reader"));
        pulse.wrote(true);
        assert!(matches!(pulse.verdict(&limits), Verdict::Wait));
    }
}
