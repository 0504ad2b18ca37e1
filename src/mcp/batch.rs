//! Several messages in one POST (2025-03-26, basic/transports, "Sending Messages to the Server"): the one version that has
//! batches says that a server must be able to receive them. In a session of any other they are refused, whole.
//!
//! Nothing of a batch is done before all of it was read. Each request is a call like any other; their answers come on one
//! stream, each as soon as it is there. Dropping the stream takes back what is not answered.

use std::pin::Pin;
use std::task::{Context, Poll};

use ahash::AHashSet;
use axum::body::Body;
use axum::response::Response;
use bytes::Bytes;
use futures_util::StreamExt as _;
use http::StatusCode;
use http_body::Frame;
use tokio::sync::mpsc;

use crate::json;
use crate::mcp::endpoint::{Entered, again, legacy_version, session_of};
use crate::mcp::error::Refusal;
use crate::mcp::exchange::{accepted, exchange, stream_response};
use crate::mcp::headers::era_of;
use crate::mcp::lane::{Lane, pump, recorded};
use crate::mcp::notices;
use crate::mcp::streams::{Queue, Seat, Tenure};
use crate::protocol::era::{Era, UNSTATED};
use crate::protocol::message::{Message, NoMessage, Shape};
use crate::protocol::meta;
use crate::telemetry::SessionTag;
use crate::web::{Unjudged, Visit};

/// Most messages in one batch.
const MOST: usize = 100;
/// Requests of one batch that are under way at a time: each answer is held whole before it is passed on, as `held` bounds it.
const AT_ONCE: usize = 8;
/// Answers that wait for a slow reader.
const WAITING: usize = 16;

/// Whether a text is a batch, if it is anything.
pub fn is_batch(text: &[u8]) -> bool {
    text.trim_ascii_start().starts_with(b"[")
}

/// Takes one.
pub(super) async fn take(entered: Entered, text: Bytes, endpoint: &'static str, visit: Option<Visit>) -> Response {
    // Checked as a whole first: only then do the elements stand where they seem to.
    if let Err(problem) = json::check(&text) {
        return entered.refuse(&NoMessage::from(problem).into(), None);
    }
    let session = match session_of(&entered) {
        Ok(session) if session.version == UNSTATED => session,
        Err(refusal) if entered.headers.contains_key(&meta::SESSION_HEADER) => return entered.refuse(&refusal, None),
        Ok(_) | Err(_) => return entered.refuse(&no_batches(), None),
    };
    let messages = match legacy_version(&entered.headers).and_then(|_| read(&text)) {
        Ok(messages) => messages,
        Err(refusal) => return entered.refuse(&refusal, None),
    };
    if messages.iter().any(|message| era_of(&entered.headers, message) == Era::Modern) {
        return entered.refuse(&no_batches(), None);
    }
    let (app, caller) = (entered.app.clone(), entered.caller.clone());
    let seat = match app.streams.seat(&caller) {
        Ok(seat) => seat,
        Err(fault) => return entered.refuse(&Refusal::full(&fault), None),
    };
    // The record of the POST serves its first message.
    let more = (1..messages.len()).map(|_| again(&entered, endpoint, visit.as_ref())).collect::<Vec<_>>();
    let (mut requests, mut refused) = (Vec::new(), None);
    for (message, mut entered) in messages.into_iter().zip(std::iter::once(entered).chain(more)) {
        entered.finish.fill(|operation| {
            operation.sizes.request = message.bytes().len() as u64;
            operation.set_method(&message.method());
            operation.session = Some(SessionTag::of(&session.id));
            operation.client_version = Some(session.version.as_str());
        });
        let shape = message.shape();
        let mut call = entered.into_call(message, Some(session.clone()));
        call.carried = true;
        match shape {
            Shape::Request => requests.push(call),
            Shape::Notification => refused = refusal(notices::notification(call).await).or(refused),
            Shape::Result | Shape::Error => refused = refusal(notices::answer(call).await).or(refused),
        }
    }
    if requests.is_empty() {
        return refused.unwrap_or_else(accepted);
    }
    let (queue, receiver) = mpsc::channel(WAITING);
    let tenure = Tenure::new(&caller);
    let keep_alive = app.settings.limits.sse_keep_alive;
    let lane = Lane::new(&app, queue);
    let work = async move {
        let (app, lane) = (&app, &lane);
        let each = futures_util::stream::iter(requests).for_each_concurrent(AT_ONCE, async |call| {
            let id = call.message.id_bytes().unwrap_or_default();
            pump(app, Box::pin(recorded(exchange(call))).await, lane, Some(&id)).await;
        });
        each.await;
    };
    let queue = Queue::new(receiver, keep_alive);
    let answers = Answers { work: Some(Box::pin(work)), queue, tenure, _seat: seat };
    stream_response(Body::new(answers))
}

/// The answer to a message that a limit refused, of which the guard of addresses was told.
fn refusal(mut response: Response) -> Option<Response> {
    response.extensions_mut().insert(Unjudged);
    (response.status() == StatusCode::TOO_MANY_REQUESTS).then_some(response)
}

fn no_batches() -> Refusal {
    let text =
        "Invalid request: batches are part of protocol 2025-03-26 alone, in its sessions; send each message by itself";
    Refusal::bad(meta::INVALID_REQUEST, text)
}

/// The messages of a batch, which is checked JSON; none, if one of them is none.
fn read(text: &Bytes) -> Result<Vec<Message>, Refusal> {
    let invalid = |text: String| Refusal::bad(meta::INVALID_REQUEST, format!("Invalid request: {text}"));
    let parts: Vec<&[u8]> = json::elements(text).take(MOST + 1).collect();
    match parts.len() {
        0 => return Err(invalid("the batch is empty".to_owned())),
        1..=MOST => {}
        _ => return Err(invalid(format!("a batch holds at most {MOST} messages"))),
    }
    let messages = parts.into_iter().map(|part| Ok::<_, Refusal>(Message::of_client(text.slice_ref(part))?));
    let messages = messages.collect::<Result<Vec<_>, _>>()?;
    if messages.iter().any(|message| message.method() == "initialize") {
        return Err(invalid("`initialize` is no part of a batch".to_owned()));
    }
    let mut ids = AHashSet::new();
    if !messages.iter().filter(|message| message.shape() == Shape::Request).all(|message| ids.insert(message.id())) {
        return Err(invalid("two requests of the batch have one id".to_owned()));
    }
    drop(ids);
    Ok(messages)
}

/// The stream of the answers.
struct Answers {
    /// Puts them into the queue; gone when all are there.
    work: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
    queue: Queue,
    tenure: Tenure,
    _seat: Seat,
}

impl http_body::Body for Answers {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        if self.tenure.poll(context).is_ready() {
            return Poll::Ready(None);
        }
        if self.work.as_mut().is_some_and(|work| work.as_mut().poll(context).is_ready()) {
            self.work = None;
        }
        self.queue.poll(context).map(|next| next.map(|next| Ok(Frame::data(next.into_bytes()))))
    }
}
