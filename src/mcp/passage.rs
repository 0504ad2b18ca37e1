//! A long JSON answer on its way to the client, passed on piece by piece in constant memory, changed as a [`Flow`] does. That it
//! ends where it should, and not too late, is seen to here.

use std::collections::VecDeque;
use std::future::Future as _;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Bytes, BytesMut};
use http_body::Frame;
use tokio::time::{Instant, Sleep, sleep_until};

use crate::balance::InFlight;
use crate::fault::{Fault, Kind, Retry, Whose};
use crate::mcp::bridge::flow::Flow;
use crate::mcp::record::Finish;
use crate::mcp::session::InFlight as Request;
use crate::mcp::streams::Tenure;
use crate::upstream::way::User;
use crate::upstream::wire::Body;

/// An answer up to this size is read whole and checked; a longer one is passed on as it comes.
pub const WHOLE: usize = 256 << 10;

/// The beginning of a JSON answer.
pub enum Began {
    /// All of it.
    Whole(Bytes),
    /// More than is read whole: the beginning, and where the rest comes from.
    Longer(Bytes, Body),
}

/// Reads an answer whole if it is not too long for that.
pub async fn read_whole(mut body: Body) -> Result<Began, Fault> {
    let mut head = match body.chunk().await {
        None => return Ok(Began::Whole(Bytes::new())),
        Some(piece) => piece?,
    };
    while head.len() <= WHOLE {
        match body.chunk().await {
            None => return Ok(Began::Whole(head)),
            Some(piece) => {
                let mut joined = BytesMut::from(head);
                joined.extend_from_slice(&piece?);
                head = joined.freeze();
            }
        }
    }
    Ok(Began::Longer(head, body))
}

/// Reads the rest of a long answer, which is to be at most `limit` bytes.
pub async fn read_rest(head: Bytes, mut body: Body, limit: usize) -> Result<Bytes, Fault> {
    let mut whole = BytesMut::from(head);
    while let Some(piece) = body.chunk().await {
        whole.extend_from_slice(&piece?);
        if whole.len() > limit {
            let text = format!("the answer is larger than {limit} bytes");
            return Err(Fault::upstream(Kind::TooLarge, Retry::MaybeSent, text));
        }
    }
    Ok(whole.freeze())
}

/// What a call holds until the last byte of its answer is gone.
pub struct Course {
    /// Keeps the way to the server open.
    pub user: User,
    /// The account of the replica.
    pub attempt: InFlight,
    /// The request on its session's list.
    pub in_flight: Option<Request>,
    /// Records the operation.
    pub finish: Finish,
    /// Until when it may go on.
    pub tenure: Tenure,
}

/// The rest of an answer.
pub struct Passage {
    flow: Flow,
    /// What is to go out.
    out: VecDeque<Bytes>,
    body: Body,
    left: usize,
    course: Course,
    /// When all of it must have come; it bounds the server, not a client that reads slowly.
    deadline: Option<Pin<Box<Sleep>>>,
}

impl Passage {
    /// Passes on `out`, what `flow` has made of the beginning, and then `body`, of which `left` bytes may come before `deadline`.
    pub fn new(
        flow: Flow,
        out: Vec<Bytes>,
        body: Body,
        left: usize,
        mut course: Course,
        deadline: Option<Instant>,
    ) -> Self {
        course.attempt.begun();
        let deadline = deadline.map(|deadline| Box::pin(sleep_until(deadline)));
        Self { flow, out: out.into(), body, left, course, deadline }
    }

    fn broken(&mut self, fault: Fault) -> Poll<Option<Result<Frame<Bytes>, Fault>>> {
        self.course.attempt.report(Err(&fault), std::time::Instant::now());
        self.course.finish.fail(&fault);
        self.course.finish.close();
        // An error here closes the client's connection: it cannot take half an answer for a whole one.
        Poll::Ready(Some(Err(fault)))
    }
}

impl http_body::Body for Passage {
    type Data = Bytes;
    type Error = Fault;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Fault>>> {
        if self.course.in_flight.as_ref().is_some_and(|request| request.cancel.poll(context).is_ready()) {
            self.course.finish.cancelled(Whose::Client);
            self.course.finish.close();
            let text = "the client took its request back in the middle of the answer";
            return Poll::Ready(Some(Err(Fault::client(Kind::Cancelled, text))));
        }
        if self.course.tenure.poll(context).is_ready() {
            return self.broken(Fault::client(Kind::Cancelled, Tenure::OVER));
        }
        loop {
            if let Some(piece) = self.out.pop_front() {
                self.course.finish.sent(piece.len());
                return Poll::Ready(Some(Ok(Frame::data(piece))));
            }
            match self.body.poll_chunk(context) {
                Poll::Pending => {
                    let Some(deadline) = &mut self.deadline else { return Poll::Pending };
                    ready!(deadline.as_mut().poll(context));
                    let text = "the answer did not end in time";
                    return self.broken(Fault::upstream(Kind::Timeout, Retry::MaybeSent, text));
                }
                Poll::Ready(None) => match self.flow.end() {
                    Ok(outcome) => {
                        self.course.attempt.report(Ok(()), std::time::Instant::now());
                        self.course.finish.end(outcome);
                        self.course.finish.close();
                        return Poll::Ready(None);
                    }
                    Err(fault) => return self.broken(fault),
                },
                Poll::Ready(Some(Err(fault))) => return self.broken(fault),
                Poll::Ready(Some(Ok(piece))) => {
                    let Some(left) = self.left.checked_sub(piece.len()) else {
                        return self.broken(Fault::upstream(
                            Kind::TooLarge,
                            Retry::MaybeSent,
                            "the answer is too large",
                        ));
                    };
                    self.left = left;
                    let mut out = Vec::new();
                    if let Err(fault) = self.flow.push(&piece, &mut out) {
                        return self.broken(fault);
                    }
                    self.out.extend(out);
                }
            }
        }
    }
}
