//! Under which span a message comes, and under which it goes to its server, where traces are exported. What is sent is the client's
//! own bytes with one member of `_meta` put in (semantic conventions for MCP, "Context propagation"), and one header.

use std::borrow::Cow;

use http::{HeaderName, HeaderValue};

use crate::json;
use crate::mcp::exchange::Call;
use crate::mcp::headers::{MOST_TRACE, TRACE};
use crate::protocol::members::with_meta;
use crate::protocol::message::Message;
use crate::telemetry::TraceParent;

/// Longest id of a message that a span names, characters.
const MOST_ID: usize = 64;

/// Takes what the message itself says of its trace: that counts more than what its request says.
pub fn begin(call: &mut Call) {
    let Some(tracer) = call.app.recorder.tracer() else { return };
    let parent = parent_of(&call.message);
    let span = parent.map(|parent| {
        let mut span = tracer.begin(Some(parent));
        span.link = TraceParent::of(&call.headers).filter(|of_request| *of_request != parent);
        span
    });
    let id = call.message.id().and_then(named);
    call.finish.fill(|operation| {
        if let Some(span) = span {
            operation.trace_id = Some(span.trace);
            operation.span = Some(Box::new(span));
        }
        if let Some(span) = operation.span.as_mut().filter(|span| span.sampled) {
            span.message = id;
        }
    });
}

/// The message as it goes to its server, and the headers that go along: below the gateway's span.
pub fn below<'a>(call: &mut Call, sent: Cow<'a, Message>) -> Cow<'a, Message> {
    let Some(span) = call.finish.span() else { return sent };
    let [parent, state] = TRACE;
    let told = span.to_upstream().to_string();
    // What the client's own system keeps about its trace belongs to what named the trace.
    let kept = match parent_of(&sent) {
        Some(_) => text_of(&sent, state),
        None if span.parent.is_some() => {
            call.headers.get(state).and_then(|state| state.to_str().ok()).map(|state| state.to_owned().into())
        }
        None => None,
    };
    let kept = kept.filter(|kept| kept.len() <= MOST_TRACE).map(Cow::into_owned);
    let header = |text: &str| HeaderValue::from_str(text).ok();
    if let Some(told) = header(&told) {
        call.headers.insert(HeaderName::from_static(parent), told);
    }
    match kept.as_deref().and_then(header) {
        Some(kept) => _ = call.headers.insert(HeaderName::from_static(state), kept),
        None => _ = call.headers.remove(state),
    }
    if sent.body().is_some_and(|params| !params.starts_with(b"{")) {
        return sent;
    }
    let quoted = [json::quote(&told), json::quote(kept.as_deref().unwrap_or_default())];
    let mut said = vec![(parent, quoted[0].as_bytes())];
    if kept.is_some() {
        said.push((state, quoted[1].as_bytes()));
    }
    Message::parse(with_meta(&sent, &said)).map_or(sent, Cow::Owned)
}

fn parent_of(message: &Message) -> Option<TraceParent> {
    TraceParent::parse(&text_of(message, TRACE[0])?)
}

fn text_of<'a>(message: &'a Message, member: &str) -> Option<Cow<'a, str>> {
    json::text(message.meta(member)?)
}

/// An id as text; none of one that is longer than it need be.
fn named(id: &[u8]) -> Option<Box<str>> {
    let text = if id.starts_with(b"\"") { json::text(id)? } else { std::str::from_utf8(id).ok()?.into() };
    (text != "null" && text.len() <= MOST_ID).then(|| text.into())
}
