//! A call whose server has not begun to answer within the keep-alive interval: the client, and whatever stands between, would
//! see not a byte for as long as it takes. It then gets the head of an event stream and comments, and later the answer as an
//! event, whatever form the server gave it. The status is 200 by then; an error is told by its JSON-RPC code alone.
//!
//! Only for clients that say that they read event streams. A call that begins in time is not touched.

use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::body::{Body, BodyDataStream};
use axum::response::Response;
use bytes::Bytes;
use futures_util::Stream as _;
use http::header::{ACCEPT, CONTENT_TYPE, HeaderValue};
use http_body::Frame;
use tokio::time::{Instant, Sleep, sleep, timeout};

use crate::fault::{Fault, Kind};
use crate::mcp::error::Refusal;
use crate::mcp::exchange::{Call, exchange, stream_response};
use crate::mcp::streams::Tenure;
use crate::protocol::era::Era;
use crate::protocol::sse;
use crate::reuse::{Reused, Shelf};

thread_local!(static CALLS: Shelf<Response> = const { Shelf::new(Vec::new()) });

/// Serves one request; as a stream that begins before its answer does, if that takes long.
pub async fn answer(call: Box<Call>) -> Response {
    let keep_alive = call.app.settings.limits.sse_keep_alive;
    let (caller, id) = (call.caller.clone(), call.message.id_bytes());
    let era = if call.session.is_some() { Era::Legacy } else { Era::Modern };
    // The endpoint asks of a client that says what it reads that it reads streams.
    let reads = call.headers.contains_key(ACCEPT);
    let mut serving = Reused::new(&CALLS, exchange(call));
    if !reads {
        return serving.await;
    }
    match timeout(keep_alive, &mut serving).await {
        Ok(response) => {
            // The others whose servers have answered come first: answers that go out together wake their reader once.
            tokio::task::yield_now().await;
            response
        }
        Err(_) => stream_response(Body::new(Early {
            state: State::Waiting(serving),
            tenure: Tenure::new(&caller),
            keep_alive,
            timer: Box::pin(sleep(Duration::ZERO)),
            era,
            id,
        })),
    }
}

/// The stream.
struct Early {
    state: State,
    tenure: Tenure,
    keep_alive: Duration,
    timer: Pin<Box<Sleep>>,
    era: Era,
    id: Option<Bytes>,
}

enum State {
    /// For the beginning of the answer. Dropped with the stream, which takes the request back.
    Waiting(Reused<Response>),
    /// The answer is a stream itself.
    Events(BodyDataStream),
    /// The answer is one text, of which nothing has been passed on, or something.
    Text(BodyDataStream, bool),
    Done,
}

impl State {
    fn of(response: Response) -> Self {
        let streams = response.headers().get(CONTENT_TYPE).map(HeaderValue::as_bytes) == Some(b"text/event-stream");
        let body = response.into_body().into_data_stream();
        if streams { Self::Events(body) } else { Self::Text(body, false) }
    }
}

impl http_body::Body for Early {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let piece = loop {
            match &mut self.state {
                State::Waiting(serving) => {
                    if let Poll::Ready(response) = Pin::new(serving).poll(context) {
                        self.state = State::of(response);
                        continue;
                    }
                    if self.tenure.poll(context).is_ready() {
                        self.state = State::Done;
                        let fault = Fault::client(Kind::Cancelled, Tenure::OVER);
                        let error = Refusal::of(&fault, "gateway", self.era).message(self.id.as_deref());
                        break Some(Ok(sse::frame(&error, None, None)));
                    }
                    ready!(self.timer.as_mut().poll(context));
                    let next = Instant::now() + self.keep_alive;
                    self.timer.as_mut().reset(next);
                    break Some(Ok(sse::KEEP_ALIVE));
                }
                State::Events(body) => break ready!(Pin::new(body).poll_next(context)),
                State::Text(body, begun) => match ready!(Pin::new(body).poll_next(context)) {
                    Some(Ok(piece)) => {
                        let begins = !std::mem::replace(begun, true);
                        break Some(Ok(in_one_line(piece, begins)));
                    }
                    None if *begun => {
                        self.state = State::Done;
                        break Some(Ok(Bytes::from_static(b"\n\n")));
                    }
                    broken_or_nothing => break broken_or_nothing,
                },
                State::Done => break None,
            }
        };
        Poll::Ready(piece.map(|piece| piece.map(Frame::data)))
    }
}

/// A piece of a JSON text as part of one `data` line: line breaks in it can only stand between its tokens.
fn in_one_line(piece: Bytes, begins: bool) -> Bytes {
    let broken = memchr::memchr2(b'\n', b'\r', &piece).is_some();
    if !begins && !broken {
        return piece;
    }
    let head: &[u8] = if begins { b"event: message\ndata: " } else { b"" };
    let mut line = Vec::with_capacity(head.len() + piece.len());
    line.extend_from_slice(head);
    line.extend(piece.iter().map(|byte| if matches!(byte, b'\n' | b'\r') { b' ' } else { *byte }));
    line.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_of_several_lines_and_pieces_is_one_event() {
        let pieces = ["{\"a\":\r\n", "\"b\\n\",", "\n\"c\":1}"];
        let mut text = Vec::new();
        for (at, piece) in pieces.iter().enumerate() {
            text.extend_from_slice(&in_one_line(Bytes::from_static(piece.as_bytes()), at == 0));
        }
        text.extend_from_slice(b"\n\n");
        let mut reader = sse::Reader::new(1000);
        reader.feed(&text);
        let event = reader.event().unwrap().unwrap();
        assert_eq!(event.data.unwrap(), &b"{\"a\":  \"b\\n\", \"c\":1}"[..]);
    }
}
