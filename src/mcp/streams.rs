//! How many event streams are open to clients, and for how long each may be. A stream holds a seat from its first byte to its
//! drop; there are only so many seats, because a stream costs memory and a connection for as long as its client likes, and no
//! account takes all of them. None outlives the credential that it was opened with.

use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::mpsc;
use tokio::time::{Instant, Sleep, sleep};
use tokio_util::sync::WaitForCancellationFutureOwned;

use crate::access::Caller;
use crate::fault::{Fault, Kind};
pub use crate::limit::Seat;
use crate::limit::{NoSeat, Seats};
use crate::protocol::sse;

/// When it is worth trying again for a seat.
const TRY_AGAIN: Duration = Duration::from_secs(10);

/// All seats of this process.
#[derive(Debug)]
pub struct Streams(Seats);

impl Streams {
    /// At most `most` at once.
    pub fn new(most: usize) -> Self {
        Self(Seats::new(most))
    }

    /// How many are open.
    pub fn open(&self) -> usize {
        self.0.taken()
    }

    /// Takes a seat. When there is none the fault is [`Kind::Full`] and says when to come back.
    pub fn seat(&self, caller: &Caller) -> Result<Seat, Fault> {
        self.seat_of(caller.user_id().uuid().as_u128())
    }

    fn seat_of(&self, account: u128) -> Result<Seat, Fault> {
        self.0.take(account).map_err(|none| {
            let text = match none {
                NoSeat::All(open) => {
                    format!("{open} event streams are open, as many as may; close one or try again later")
                }
                NoSeat::Own(open) => format!(
                    "your account has {open} event streams open, as many as one may have while others need some; close one \
                     or try again later"
                ),
            };
            Fault { retry_after: Some(TRY_AGAIN), ..Fault::gateway(Kind::Full, text) }
        })
    }
}

/// The time that a stream has: until the credential it was opened with is revoked or expires, or its holder is disabled. It wakes the
/// stream by itself, also a quiet one.
#[derive(Debug)]
pub struct Tenure(Pin<Box<WaitForCancellationFutureOwned>>);

impl Tenure {
    /// What the client of a call is told whose time is over.
    pub const OVER: &str = "the credential that the request came with is no longer good";

    /// Under this caller's credential.
    pub fn new(caller: &Caller) -> Self {
        Self(Box::pin(caller.ended().clone().cancelled_owned()))
    }

    /// Ready once it is over.
    pub fn poll(&mut self, context: &mut Context<'_>) -> Poll<()> {
        self.0.as_mut().poll(context)
    }
}

/// What waits to be read on a stream, with a comment now and then where nothing does.
#[derive(Debug)]
pub struct Queue {
    receiver: mpsc::Receiver<Bytes>,
    keep_alive: Duration,
    timer: Pin<Box<Sleep>>,
}

impl Queue {
    /// Of what comes through `receiver`, with a comment after each `keep_alive` in which nothing did.
    pub fn new(receiver: mpsc::Receiver<Bytes>, keep_alive: Duration) -> Self {
        Self { receiver, keep_alive, timer: Box::pin(sleep(keep_alive)) }
    }

    /// The next frame, or a comment; `None` when nothing more can come.
    pub fn poll(&mut self, context: &mut Context<'_>) -> Poll<Option<Next>> {
        let next = match self.receiver.poll_recv(context) {
            Poll::Ready(frame) => frame.map(Next::Frame),
            Poll::Pending => {
                ready!(self.timer.as_mut().poll(context));
                Some(Next::Comment)
            }
        };
        self.timer.as_mut().reset(Instant::now() + self.keep_alive);
        Poll::Ready(next)
    }
}

/// What a [`Queue`] gives out.
#[derive(Debug)]
pub enum Next {
    /// Something to say.
    Frame(Bytes),
    /// Nothing, but that the stream is alive.
    Comment,
}

impl Next {
    /// As it goes out.
    pub fn into_bytes(self) -> Bytes {
        match self {
            Self::Frame(frame) => frame,
            Self::Comment => sse::KEEP_ALIVE,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_are_only_so_many_seats_and_a_dropped_one_is_free_again() {
        let streams = Streams::new(2);
        let first = streams.seat_of(1).unwrap();
        let _second = streams.seat_of(1).unwrap();
        let full = streams.seat_of(1).unwrap_err();
        assert_eq!((full.kind, full.retry_after, streams.open()), (Kind::Full, Some(TRY_AGAIN), 2));
        drop(first);
        assert!(streams.seat_of(1).is_ok());
        assert_eq!(streams.open(), 1);
    }

    #[test]
    fn who_has_too_many_is_told_so() {
        let streams = Streams::new(200);
        let held: Vec<_> = (0..100).map(|_| streams.seat_of(1).unwrap()).collect();
        let full = streams.seat_of(1).unwrap_err();
        assert!(full.detail.starts_with("your account has 100 event streams open"), "{full}");
        assert!(streams.seat_of(2).is_ok() && held.len() == 100);
    }
}
