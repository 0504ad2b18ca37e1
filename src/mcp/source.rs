//! What comes back from a server for one request, whatever the transport: messages, one after the other.

use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Instant;

use bytes::Bytes;
use futures_util::Stream as _;

use crate::balance::InFlight;
use crate::fault::{Fault, Kind, Retry};
use crate::mcp::bridge::answer::Fix;
use crate::mcp::bridge::flow::Flow;
use crate::mcp::passage::WHOLE;
use crate::protocol::message::Message;
use crate::protocol::sse;
use crate::telemetry::Outcome;
use crate::upstream::http::{garbage, read_message};
use crate::upstream::mux;
use crate::upstream::wire::Body;

/// One piece of an answer.
pub struct Piece {
    /// The message; a stream also has events without one.
    pub message: Option<Message>,
    /// The event exactly as read, where it came as one.
    pub raw: Option<Bytes>,
    /// The event's id.
    pub id: Option<Bytes>,
    /// The event's `retry`, milliseconds.
    pub retry: Option<u64>,
    /// The token under which a request of a shared server is answered.
    pub token: Option<u64>,
    /// A part of a response that is too long to be read whole.
    pub part: Option<Part>,
}

/// A part of one long event with a result, changed as the client wants it.
pub struct Part {
    /// What stands before the data, as read, where it begins.
    pub head: Option<Bytes>,
    /// Data.
    pub data: Vec<Bytes>,
    /// What stands behind them, as read, where it ends, and how the call did.
    pub end: Option<(Bytes, Outcome)>,
}

impl Piece {
    /// A message that came without an event around it.
    pub fn bare(message: Message) -> Self {
        Self { message: Some(message), raw: None, id: None, retry: None, token: None, part: None }
    }

    fn part(part: Part) -> Self {
        Self { message: None, raw: None, id: None, retry: None, token: None, part: Some(part) }
    }
}

/// Where the pieces come from.
pub enum Source {
    /// A stream of events over HTTP.
    Events(Box<Events>),
    /// A call on a shared channel, and the place on the replica behind it where there is one.
    Mux(Box<mux::Call>, Option<InFlight>),
}

/// A stream of events over HTTP.
pub struct Events {
    body: Body,
    reader: sse::Reader,
    attempt: InFlight,
    /// What is to be changed in a response, where a long one may pass in parts.
    fix: Option<Fix>,
    /// The long response that is passing, and its length so far.
    long: Option<(Flow, usize)>,
    /// The event that is being read must be read whole.
    whole: bool,
    limit: usize,
}

impl Source {
    /// The events of a call; `attempt` learns how it ends.
    pub fn mux(call: mux::Call, attempt: Option<InFlight>) -> Self {
        Self::Mux(Box::new(call), attempt)
    }

    /// Reads `body` as events of at most `limit` bytes each; `attempt` learns how it ends.
    pub fn events(body: Body, attempt: InFlight, limit: usize) -> Self {
        let (reader, (fix, long, whole)) = (sse::Reader::new(limit), Default::default());
        Self::Events(Box::new(Events { body, reader, attempt, fix, long, whole, limit }))
    }

    /// The next piece; `None` at the end, of which only the reader knows whether it came too early.
    pub fn poll_next(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Piece, Fault>>> {
        let piece = match self {
            Self::Events(events) => ready!(events.poll_next(context)),
            Self::Mux(call, _) => ready!(Pin::new(&mut **call).poll_next(context)).map(|event| {
                let event = event?;
                let token = if let mux::Event::Request { token, .. } = &event { Some(*token) } else { None };
                let message = read_message(event.message().clone())?;
                Ok(Piece { token, ..Piece::bare(message) })
            }),
        };
        if let Some(Err(fault)) = &piece {
            self.failed(fault);
        }
        Poll::Ready(piece)
    }

    /// The next piece; `None` at the end.
    pub async fn next(&mut self) -> Option<Result<Piece, Fault>> {
        std::future::poll_fn(|context| self.poll_next(context)).await
    }

    /// Says that the replica did what it was asked, before the stream ends by itself.
    pub fn succeeded(&mut self) {
        self.report(Ok(()));
    }

    /// Says that it did not, or not in time.
    pub fn failed(&mut self, fault: &Fault) {
        self.report(Err(fault));
    }

    /// A long response may come in parts, changed like this.
    pub fn in_parts(&mut self, fix: &Fix) {
        if let Self::Events(events) = self {
            events.fix = Some(fix.clone());
        }
    }

    /// From now on the pieces are passed on as fast as the client reads them.
    pub fn begun(&mut self) {
        if let Some(attempt) = self.attempt() {
            attempt.begun();
        }
    }

    fn attempt(&mut self) -> Option<&mut InFlight> {
        match self {
            Self::Events(events) => Some(&mut events.attempt),
            Self::Mux(_, attempt) => attempt.as_mut(),
        }
    }

    fn report(&mut self, outcome: Result<(), &Fault>) {
        if let Some(attempt) = self.attempt() {
            attempt.report(outcome, Instant::now());
        }
    }
}

impl Events {
    fn poll_next(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Piece, Fault>>> {
        loop {
            let there = if self.long.is_some() { self.next_part() } else { self.next_event() };
            if let Some(piece) = there.transpose() {
                return Poll::Ready(Some(piece));
            }
            match ready!(self.body.poll_chunk(context)) {
                Some(Ok(chunk)) => self.reader.feed(&chunk),
                Some(Err(fault)) => return Poll::Ready(Some(Err(fault))),
                None if self.long.is_some() || self.reader.unfinished() > 0 && self.reader.has_data() => {
                    let text = "the stream ended in the middle of an event";
                    return Poll::Ready(Some(Err(Fault::upstream(Kind::Dropped, Retry::MaybeSent, text))));
                }
                None => return Poll::Ready(None),
            }
        }
    }

    fn next_event(&mut self) -> Result<Option<Piece>, Fault> {
        if let Some(event) = self.reader.event().map_err(|error| too_large(error.limit))? {
            self.whole = false;
            return piece_of(event).map(Some);
        }
        let Some(fix) = self.fix.as_ref().filter(|_| !self.whole && self.reader.unfinished() > WHOLE) else {
            return Ok(None);
        };
        // Whether it can pass in parts is seen from its beginning, once.
        self.whole = true;
        let Some(begun) = self.reader.long_data().map(Bytes::copy_from_slice) else { return Ok(None) };
        let (mut flow, mut data) = (Flow::new(fix.clone()), Vec::new());
        if flow.push(&begun, &mut data).is_err() {
            return Ok(None);
        }
        let sse::Long { head, id, retry } = self.reader.begin_long();
        self.long = Some((flow, begun.len()));
        Ok(Some(Piece { id, retry, ..Piece::part(Part { head: Some(head), data, end: None }) }))
    }

    fn next_part(&mut self) -> Result<Option<Piece>, Fault> {
        let Some((flow, length)) = &mut self.long else { return Ok(None) };
        let mut part = Part { head: None, data: Vec::new(), end: None };
        match self.reader.more().map_err(|error| too_large(error.limit))? {
            None => return Ok(None),
            Some(sse::More::Data(data)) => {
                *length += data.len();
                if *length > self.limit {
                    return Err(too_large(self.limit));
                }
                flow.push(&data, &mut part.data)?;
            }
            Some(sse::More::End(_, true)) => return Err(garbage("a long event has a second line of data")),
            Some(sse::More::End(end, false)) => {
                part.end = Some((end, flow.end()?));
                (self.long, self.whole) = (None, false);
            }
        }
        Ok(Some(Piece::part(part)))
    }
}

fn too_large(limit: usize) -> Fault {
    Fault::upstream(Kind::TooLarge, Retry::MaybeSent, format!("an event is larger than {limit} bytes"))
}

fn piece_of(event: sse::Event) -> Result<Piece, Fault> {
    // Only `message` events carry messages; an empty one only carries an id to come back with.
    let carries = event.name.as_deref().is_none_or(|name| name == b"message");
    let message = match event.data {
        Some(data) if carries && !data.is_empty() => Some(read_message(data)?),
        _ => None,
    };
    Ok(Piece { message, raw: Some(event.raw), id: event.id, retry: event.retry, token: None, part: None })
}
