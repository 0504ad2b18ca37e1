//! How answers get onto a stream that many of them share: a batch's, and that of the oldest transport. Each message becomes one
//! event and goes out in one piece, so it is held whole until then, within the bounds of `held`.

use axum::body::{Body, BodyDataStream};
use axum::response::Response;
use bytes::Bytes;
use futures_util::StreamExt as _;
use http::header::{CONTENT_TYPE, HeaderValue};
use tokio::sync::mpsc;

use crate::app::App;
use crate::audit::{KeptBody, NotKept, kept};
use crate::fault::{Fault, Kind, Retry};
use crate::mcp::endpoint::unrecorded;
use crate::mcp::error::Refusal;
use crate::mcp::held::Share;
use crate::protocol::era::Era;
use crate::protocol::sse;

/// Where the answers on one stream go: its queue, and what it may hold of them.
#[derive(Clone)]
pub struct Lane {
    queue: mpsc::Sender<Bytes>,
    share: Share,
}

impl Lane {
    /// Of a stream whose queue is this one.
    pub fn new(app: &App, queue: mpsc::Sender<Bytes>) -> Self {
        Self { queue, share: app.held.share() }
    }
}

/// An answer once it is recorded: on a stream that many share, it alone is missing where that fails.
pub async fn recorded(serving: impl Future<Output = Response>) -> Response {
    kept(serving).await.unwrap_or_else(|NotKept| unrecorded())
}

/// Puts what an answer says into the queue, one event a message. Where a request is answered, an answer that breaks off, or that
/// finds no room, is an error that the client is told of.
pub async fn pump(app: &App, response: Response, lane: &Lane, request: Option<&[u8]>) {
    let streams = response.headers().get(CONTENT_TYPE).map(HeaderValue::as_bytes) == Some(b"text/event-stream");
    // A list of the gateway's own may be longer than one answer of a server.
    let limit = app.settings.limits.response_body.saturating_mul(2);
    let pieces = Body::new(KeptBody::new(response.into_body())).into_data_stream();
    let passed = if streams { pass_events(pieces, lane, limit).await } else { pass_whole(pieces, lane, limit).await };
    let Err(fault) = passed else { return };
    if request.is_some() {
        let error = Refusal::of(&fault, "gateway", Era::Legacy).message(request);
        let _ = lane.queue.send(sse::frame(&error, None, None)).await;
    }
}

/// One message that is the whole of an answer.
async fn pass_whole(mut pieces: BodyDataStream, lane: &Lane, limit: usize) -> Result<(), Fault> {
    let broken = || Fault::upstream(Kind::Dropped, Retry::MaybeSent, "the answer broke off");
    let (mut claim, mut text, mut length) = (lane.share.claim(), Vec::new(), 0);
    while let Some(piece) = pieces.next().await {
        let piece = piece.map_err(|_| broken())?;
        length += piece.len();
        if length > limit {
            return Err(broken());
        }
        claim.grow(piece.len()).await?;
        text.push(piece);
    }
    if length > 0 {
        let whole = text.concat();
        drop(text);
        let (event, _) = claim.frame(&whole, 0);
        drop(whole);
        let _ = lane.queue.send(event).await;
    }
    Ok(())
}

/// The messages of a stream. What is beside them, comments, ids, empty events, means nothing here.
async fn pass_events(mut pieces: BodyDataStream, lane: &Lane, limit: usize) -> Result<(), Fault> {
    let mut claim = lane.share.claim();
    let mut reader = sse::Reader::new(limit);
    while let Some(Ok(piece)) = pieces.next().await {
        claim.grow(piece.len()).await?;
        reader.feed(&piece);
        drop(piece);
        while let Ok(Some(event)) = reader.event() {
            let (framed, rest) = claim.frame(event.data.as_deref().unwrap_or_default(), reader.unfinished());
            claim = rest;
            if event.data.is_some_and(|data| !data.is_empty()) && lane.queue.send(framed).await.is_err() {
                return Ok(());
            }
        }
        if reader.unfinished() > limit {
            return Ok(());
        }
    }
    Ok(())
}
