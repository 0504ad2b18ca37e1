//! Answers that are held whole before they are passed on: where many share one stream, each goes out in one piece, and one that
//! breaks off is told as an error. All of them together are never more than a fixed number of bytes; what finds no room is
//! refused. Of one stream, only one that is not short is read at a time, and the next waits until it went out.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::fault::{Fault, Kind};
use crate::protocol::sse;

/// Bytes up to which an answer is short.
pub const SHORT: usize = 256 * 1024;

/// When it is worth trying again.
const TRY_AGAIN: Duration = Duration::from_secs(1);

/// The room of one process. Cheap to clone; clones are one room.
#[derive(Debug, Clone)]
pub struct Room {
    taken: Arc<AtomicUsize>,
    most: usize,
}

/// What one stream holds of it. Cheap to clone; clones are one stream's.
#[derive(Debug, Clone)]
pub struct Share {
    room: Room,
    /// Whose turn it is to be long.
    turn: Arc<Semaphore>,
}

/// What one answer holds of it; dropping it gives it back.
#[derive(Debug)]
pub struct Claim {
    share: Share,
    bytes: usize,
    turn: Option<OwnedSemaphorePermit>,
}

impl Room {
    /// Room for `most` bytes.
    pub fn new(most: usize) -> Self {
        Self { taken: Arc::default(), most }
    }

    /// Bytes that are held now.
    pub fn taken(&self) -> usize {
        self.taken.load(Relaxed)
    }

    /// The share of a new stream.
    pub fn share(&self) -> Share {
        Share { room: self.clone(), turn: Arc::new(Semaphore::new(1)) }
    }
}

impl Share {
    /// The claim of a new answer, of nothing yet.
    pub fn claim(&self) -> Claim {
        Claim { share: self.clone(), bytes: 0, turn: None }
    }
}

impl Claim {
    /// Room for more bytes of the answer, which have come; where there is none the fault is [`Kind::Full`]: to wait for others,
    /// who may wait for more room themselves, could last for ever. An answer that has become long waits here for its turn,
    /// and is not read meanwhile.
    pub async fn grow(&mut self, more: usize) -> Result<(), Fault> {
        let most = self.share.room.most;
        let fits = |taken: usize| taken.checked_add(more).filter(|taken| *taken <= most);
        if self.share.room.taken.fetch_update(Relaxed, Relaxed, fits).is_err() {
            let text = format!("answers of {most} bytes wait to be read, as many as may; read them or try again later");
            return Err(Fault { retry_after: Some(TRY_AGAIN), ..Fault::gateway(Kind::Full, text) });
        }
        self.bytes += more;
        if self.turn.is_none() && self.bytes > SHORT {
            self.turn = self.share.turn.clone().acquire_owned().await.ok();
        }
        Ok(())
    }

    /// `message` as an event that holds the room until it went out; and a claim of `rest` bytes, as many as had been claimed
    /// for what follows.
    pub fn frame(mut self, message: &[u8], rest: usize) -> (Bytes, Self) {
        let mut next = self.share.claim();
        next.bytes = rest.min(self.bytes);
        self.bytes -= next.bytes;
        (Bytes::from_owner(Framed { event: sse::frame(message, None, None), _claim: self }), next)
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        self.share.room.taken.fetch_sub(self.bytes, Relaxed);
    }
}

/// An event that holds its room until it went out.
struct Framed {
    event: Bytes,
    _claim: Claim,
}

impl AsRef<[u8]> for Framed {
    fn as_ref(&self) -> &[u8] {
        &self.event
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;

    fn grow(claim: &mut Claim, more: usize) -> Option<bool> {
        claim.grow(more).now_or_never().map(|grown| grown.is_ok())
    }

    #[test]
    fn there_is_never_more_than_the_room_and_what_went_out_makes_room() {
        let room = Room::new(10 * SHORT);
        let mut claims = Vec::new();
        // Streams by the dozen, each with a long answer and short ones.
        for _ in 0..12 {
            let share = room.share();
            for size in [3 * SHORT, SHORT, 1] {
                let mut claim = share.claim();
                let fits = room.taken() + size <= 10 * SHORT;
                assert_eq!(grow(&mut claim, size), Some(fits));
                claims.push(claim);
            }
            assert!(room.taken() <= 10 * SHORT);
        }
        let mut one_more = room.share().claim();
        let full = one_more.grow(2 * SHORT).now_or_never().unwrap().unwrap_err();
        assert_eq!((full.kind, full.retry_after), (Kind::Full, Some(TRY_AGAIN)));
        claims.clear();
        assert_eq!(room.taken(), 0);
        assert_eq!(grow(&mut one_more, 10 * SHORT), Some(true));
    }

    #[test]
    fn one_long_answer_of_a_stream_is_held_at_a_time_and_short_ones_pass() {
        let share = Room::new(100 * SHORT).share();
        let (mut first, mut second, mut short) = (share.claim(), share.claim(), share.claim());
        assert_eq!(grow(&mut first, 2 * SHORT), Some(true));
        assert_eq!(grow(&mut second, SHORT), Some(true));
        assert_eq!(grow(&mut second, 1), None, "it waits for its turn");
        assert_eq!(grow(&mut short, 10), Some(true));
        let (event, rest) = first.frame(b"{}", 5);
        drop(rest);
        let part = event.slice(..3);
        drop(event);
        assert_eq!(grow(&mut second, 1), None, "a part of it is still there");
        drop(part);
        assert_eq!(grow(&mut second, 1), Some(true));
        assert_eq!(share.room.taken(), SHORT + 13, "what has come counts, also while it waits");
    }
}
