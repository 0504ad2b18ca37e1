//! A long JSON answer on its way to the client, passed on piece by piece in constant memory. It was not read whole, so what
//! it says is not known here; that it ends where it should, and not too late, is.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::Frame;

use crate::fault::{Fault, Kind, Retry};
use crate::mcp::record::Finish;
use crate::telemetry::Outcome;
use crate::upstream::wire::Body;

/// The rest of an answer.
pub struct Passage {
    head: Option<Bytes>,
    body: Body,
    left: usize,
    last: u8,
    finish: Finish,
}

impl Passage {
    /// Passes on `head` and then `body`, together at most `limit` bytes.
    pub fn new(head: Bytes, body: Body, limit: usize, finish: Finish) -> Self {
        Self { head: Some(head), body, left: limit, last: 0, finish }
    }

    fn broken(&mut self, fault: Fault) -> Poll<Option<Result<Frame<Bytes>, Fault>>> {
        self.finish.fail(&fault);
        // An error here closes the client's connection: it cannot take half an answer for a whole one.
        Poll::Ready(Some(Err(fault)))
    }
}

impl http_body::Body for Passage {
    type Data = Bytes;
    type Error = Fault;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Fault>>> {
        let piece = match self.head.take() {
            Some(head) => Some(Ok(head)),
            None => ready!(self.body.poll_chunk(context)),
        };
        match piece {
            None if self.last == b'}' => {
                self.finish.end(Outcome::Success);
                Poll::Ready(None)
            }
            None => self.broken(Fault::upstream(Kind::Dropped, Retry::MaybeSent, "the answer ended half-way")),
            Some(Err(fault)) => self.broken(fault),
            Some(Ok(piece)) => {
                let Some(left) = self.left.checked_sub(piece.len()) else {
                    return self.broken(Fault::upstream(Kind::TooLarge, Retry::MaybeSent, "the answer is too large"));
                };
                self.left = left;
                self.last = piece.iter().rfind(|byte| !byte.is_ascii_whitespace()).copied().unwrap_or(self.last);
                self.finish.sent(piece.len());
                Poll::Ready(Some(Ok(Frame::data(piece))))
            }
        }
    }
}
