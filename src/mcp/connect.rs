//! Somebody has to connect their account at a server before they can call it. A client that can bring its user to an address is asked to,
//! as its version says: with an error that holds the address (2025-11-25, client/elicitation, "URL Elicitation Required Error"), or with
//! a result that wants input (2026-07-28, basic/patterns/mrtr). Every other reads in an error where to go.

use std::borrow::Cow;

use bytes::Bytes;
use http::StatusCode;

use crate::fault::{Fault, Kind};
use crate::json;
use crate::mcp::bridge::answer::URL_ELICITATION;
use crate::mcp::error::Refusal;
use crate::mcp::exchange::Call;
use crate::mcp::session::Session;
use crate::protocol::era::{Era, LEGACY};
use crate::protocol::members::put;
use crate::protocol::message::{self, Message};
use crate::protocol::{meta, sse};
use crate::registry::model::AuthKind;
use crate::registry::snapshot::Entry;

/// What the gateway's own question is called among those of a server.
const KEY: &str = "io.mcp-registry-gateway/connect";
/// The requests that may be answered with a wish for input.
const ASKING: [&str; 3] = ["tools/call", "resources/read", "prompts/get"];

/// How the client is asked to bring its user to the page where they connect, if the fault is that, and the client can.
pub fn asked(call: &Call, fault: &Fault, entry: &Entry) -> Option<Refusal> {
    if fault.kind != Kind::Connect {
        return None;
    }
    let url = json::quote(&call.app.connections().link(&entry.upstream.server.spec.slug));
    let plain = Refusal::of(fault, entry.slug(), call.era());
    let text = json::quote(&plain.text);
    if let Some(session) = &call.session {
        if session.version != LEGACY || !can(json::path(&session.init, &["capabilities", "elicitation", "url"])) {
            return None;
        }
        let id = session.elicit(entry.upstream.server.id);
        let asked = format!(r#"{{"mode":"url","elicitationId":"{id}","url":{url},"message":{text}}}"#);
        let data = Some(format!(r#"{{"elicitations":[{asked}]}}"#));
        return Some(Refusal { code: URL_ELICITATION, data, ..plain });
    }
    let capabilities = call.message.meta(meta::CLIENT_CAPABILITIES)?;
    if !ASKING.contains(&call.message.method().as_ref())
        || !can(json::path(capabilities, &["elicitation", "url"]))
        || has_declined(&call.message)
    {
        return None;
    }
    let asked = format!(r#"{{"method":"elicitation/create","params":{{"mode":"url","url":{url},"message":{text}}}}}"#);
    let data = Some(format!(r#"{{"resultType":"input_required","inputRequests":{{"{KEY}":{asked}}}}}"#));
    Some(Refusal { status: StatusCode::OK, data, is_question: true, ..plain })
}

fn can(declared: Option<&[u8]>) -> bool {
    declared.is_some_and(|declared| declared.starts_with(b"{"))
}

/// What the client says of the gateway's own question.
fn answer(message: &Message) -> Option<&[u8]> {
    json::get(message.member("inputResponses")?, KEY)
}

/// Whether the user did not want to go there: they are not asked in a circle.
fn has_declined(message: &Message) -> bool {
    answer(message).is_some_and(|answer| json::get_text(answer, "action").as_deref() != Some("accept"))
}

/// The request as the server gets it: without the answer to what it did not ask.
pub fn without_answer<'a>(entry: &Entry, era: Era, message: Cow<'a, Message>) -> Cow<'a, Message> {
    if era != Era::Modern || entry.upstream.server.spec.auth.kind != AuthKind::AuthorizationCode {
        return message;
    }
    let taken = taken_out(&message);
    taken.map_or(message, Cow::Owned)
}

fn taken_out(message: &Message) -> Option<Message> {
    answer(message)?;
    let params = message.body()?;
    let mut members = Vec::with_capacity(params.len());
    for (name, value) in json::members(params) {
        if !json::is_name(name, "inputResponses") {
            put(&mut members, name, value);
            continue;
        }
        let mut others = Vec::new();
        json::members(value)
            .filter(|(name, _)| !json::is_name(name, KEY))
            .for_each(|(name, value)| put(&mut others, name, value));
        if !others.is_empty() {
            put(&mut members, name, &[b"{", &others[..], b"}"].concat());
        }
    }
    let params_without = [b"{", &members[..], b"}"].concat();
    Message::parse(message.splice(&[(params, &params_without)])).ok()
}

/// Tells a client that was asked that its user came through, if it listens.
pub fn tell(session: &Session, elicitation: &str) {
    let params = format!("{{\"elicitationId\":{}}}", json::quote(elicitation));
    let told: Bytes = message::call(None, "notifications/elicitation/complete", params.as_bytes());
    if let Some(outbox) = session.outbox() {
        let _ = outbox.try_send(sse::frame(&told, None, None));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(params: &str) -> Message {
        let text = format!(r#"{{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{params}}}"#);
        Message::parse(Bytes::from(text)).unwrap()
    }

    #[test]
    fn an_answer_to_the_gateway_goes_no_further_and_a_no_is_heard() {
        let accepted = format!(r#"{{"{KEY}":{{"action":"accept"}}}}"#);
        let taken = taken_out(&message(&format!(r#"{{"name":"a","inputResponses":{accepted},"x":1.0}}"#))).unwrap();
        assert_eq!(taken.body(), Some(&br#"{"name":"a","x":1.0}"#[..]));
        let both = format!(r#"{{"inputResponses":{{"theirs":{{"action":"accept"}},"{KEY}":{{"action":"cancel"}}}}}}"#);
        let taken = taken_out(&message(&both)).unwrap();
        assert_eq!(taken.body(), Some(&br#"{"inputResponses":{"theirs":{"action":"accept"}}}"#[..]));
        assert!(taken_out(&message(r#"{"inputResponses":{"theirs":{}}}"#)).is_none());
        assert!(
            has_declined(&message(&both)) && !has_declined(&message(&format!(r#"{{"inputResponses":{accepted}}}"#)))
        );
        assert!(!has_declined(&message("{}")));
    }
}
