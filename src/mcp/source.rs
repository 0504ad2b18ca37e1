//! What comes back from a server for one request, whatever the transport: messages, one after the other.

use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Instant;

use bytes::Bytes;
use futures_util::Stream as _;

use crate::balance::InFlight;
use crate::fault::{Fault, Kind, Retry};
use crate::protocol::message::Message;
use crate::protocol::sse;
use crate::upstream::http::read_message;
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
}

impl Piece {
    /// A message that came without an event around it.
    pub fn bare(message: Message) -> Self {
        Self { message: Some(message), raw: None, id: None, retry: None, token: None }
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
}

impl Source {
    /// The events of a call; `attempt` learns how it ends.
    pub fn mux(call: mux::Call, attempt: Option<InFlight>) -> Self {
        Self::Mux(Box::new(call), attempt)
    }

    /// Reads `body` as events of at most `limit` bytes each; `attempt` learns how it ends.
    pub fn events(body: Body, attempt: InFlight, limit: usize) -> Self {
        Self::Events(Box::new(Events { body, reader: sse::Reader::new(limit), attempt }))
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
            match self.reader.event() {
                Err(error) => {
                    let fault = Fault::upstream(Kind::TooLarge, Retry::MaybeSent, error.to_string());
                    return Poll::Ready(Some(Err(fault)));
                }
                Ok(Some(event)) => return Poll::Ready(Some(piece_of(event))),
                Ok(None) => {}
            }
            match ready!(self.body.poll_chunk(context)) {
                Some(Ok(chunk)) => self.reader.feed(&chunk),
                Some(Err(fault)) => return Poll::Ready(Some(Err(fault))),
                None if self.reader.unfinished() > 0 && self.reader.has_data() => {
                    let text = "the stream ended in the middle of an event";
                    return Poll::Ready(Some(Err(Fault::upstream(Kind::Dropped, Retry::MaybeSent, text))));
                }
                None => return Poll::Ready(None),
            }
        }
    }
}

fn piece_of(event: sse::Event) -> Result<Piece, Fault> {
    // Only `message` events carry messages; an empty one only carries an id to come back with.
    let carries = event.name.as_deref().is_none_or(|name| name == b"message");
    let message = match event.data {
        Some(data) if carries && !data.is_empty() => Some(read_message(data)?),
        _ => None,
    };
    Ok(Piece { message, raw: Some(event.raw), id: event.id, retry: event.retry, token: None })
}
