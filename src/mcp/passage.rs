//! A long JSON answer on its way to the client, passed on piece by piece in constant memory. It was not read whole, so what
//! it says is not known here; that it ends where it should, and not too late, is.

use std::future::Future as _;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::Frame;
use tokio::time::{Instant, Sleep, sleep_until};

use crate::balance::InFlight;
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
    attempt: InFlight,
    finish: Finish,
    /// When all of it must have come; it bounds the server, not a client that reads slowly.
    deadline: Option<Pin<Box<Sleep>>>,
}

impl Passage {
    /// Passes on `head` and then `body`, together at most `limit` bytes and before `deadline`.
    pub fn new(
        head: Bytes,
        body: Body,
        limit: usize,
        mut attempt: InFlight,
        finish: Finish,
        deadline: Option<Instant>,
    ) -> Self {
        attempt.begun();
        let deadline = deadline.map(|deadline| Box::pin(sleep_until(deadline)));
        Self { head: Some(head), body, left: limit, last: 0, attempt, finish, deadline }
    }

    fn broken(&mut self, fault: Fault) -> Poll<Option<Result<Frame<Bytes>, Fault>>> {
        self.attempt.report(Err(&fault), std::time::Instant::now());
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
            None => match self.body.poll_chunk(context) {
                Poll::Ready(piece) => piece,
                Poll::Pending => {
                    let Some(deadline) = &mut self.deadline else { return Poll::Pending };
                    ready!(deadline.as_mut().poll(context));
                    return self.broken(Fault::upstream(
                        Kind::Timeout,
                        Retry::MaybeSent,
                        "the answer did not end in time",
                    ));
                }
            },
        };
        match piece {
            None if self.last == b'}' => {
                self.attempt.report(Ok(()), std::time::Instant::now());
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
