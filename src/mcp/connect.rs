//! Somebody has to connect their account at a server before they can call it. A client that can bring its user to an address is asked to,
//! as its version says: with an error that holds the address (2025-11-25, client/elicitation, "URL Elicitation Required Error"), or with
//! a result that wants input (2026-07-28, basic/patterns/mrtr). Every other reads in an error where to go.

use std::borrow::Cow;
use std::time::Duration;

use bytes::Bytes;
use http::StatusCode;
use tokio::time::Instant;

use crate::connections::{Came, Coming};
use crate::fault::{Fault, Kind};
use crate::id::ServerId;
use crate::json;
use crate::mcp::answers;
use crate::mcp::bridge::answer::URL_ELICITATION;
use crate::mcp::error::Refusal;
use crate::mcp::exchange::Call;
use crate::mcp::listen::list_changed;
use crate::mcp::session::{Reach, Session};
use crate::protocol::era::{Era, LEGACY, Version};
use crate::protocol::members::put;
use crate::protocol::message::{self, Message};
use crate::protocol::{meta, sse};
use crate::registry::catalog::Kind as ListKind;
use crate::registry::model::AuthKind;
use crate::registry::snapshot::Entry;
use crate::upstream::Upstream;

/// What the gateway's own question is called among those of a server.
const KEY: &str = "io.mcp-registry-gateway/connect";
/// What a server that asks gives the client to keep.
const STATE: &str = "requestState";
/// How long a call waits for its user who goes there: shorter than clients wait for an answer.
const PATIENCE: Duration = Duration::from_secs(50);
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
        if !brings(session.version, &session.init) {
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
        || answer(&call.message).is_some()
    {
        return None;
    }
    let asked = format!(r#"{{"method":"elicitation/create","params":{{"mode":"url","url":{url},"message":{text}}}}}"#);
    let data = Some(question(&call.message, &asked));
    Some(Refusal { status: StatusCode::OK, data, is_question: true, ..plain })
}

/// The result that asks. What the server gave to keep comes back with the answer: the way of its own question is not lost.
fn question(message: &Message, asked: &str) -> String {
    let state = message.member(STATE).map(|state| format!(r#","{STATE}":{}"#, String::from_utf8_lossy(state)));
    let state = state.unwrap_or_default();
    format!(r#"{{"resultType":"input_required","inputRequests":{{"{KEY}":{asked}}}{state}}}"#)
}

/// A call whose user has gone there, as the client says.
pub struct Waiting {
    coming: Coming,
    /// How long it waits, from when it first does.
    until: Option<Instant>,
}

/// What came of waiting for a user.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Waited {
    /// They came through.
    Came,
    /// They may have: so many came through at once that it is not known who.
    Perhaps,
    /// They did not in time, or there is no room to wait.
    Not,
    /// The credential of the call is no longer good.
    Ended,
}

/// What waits for the user, if they have gone there. From now on it is heard when they come through.
pub fn waiting(call: &Call, entry: &Entry) -> Option<Waiting> {
    if call.session.is_some()
        || !is_connected_to(entry)
        || !ASKING.contains(&call.message.method().as_ref())
        || !has_accepted(&call.message)
    {
        return None;
    }
    let (caller, server) = (&call.caller, entry.upstream.server.id);
    let coming = call.app.connections().coming(caller.tenant(), caller.user_id().uuid(), server);
    Some(Waiting { coming, until: None })
}

impl Waiting {
    /// Whether the user comes through, while there is time also for the call itself.
    pub async fn came(&mut self, call: &Call, deadline: Option<Instant>) -> Waited {
        let Some(_place) = self.coming.place() else { return Waited::Not };
        let now = Instant::now();
        let left = deadline.map_or(PATIENCE, |deadline| deadline.saturating_duration_since(now) / 2);
        let until = *self.until.get_or_insert(now + left.min(PATIENCE));
        tokio::select! {
            biased;
            () = call.caller.ended().cancelled() => Waited::Ended,
            came = self.coming.through() => match came {
                Came::Through => Waited::Came,
                Came::Unknown => Waited::Perhaps,
            },
            () = tokio::time::sleep_until(until) => Waited::Not,
            () = call.app.shutdown.cancelled() => Waited::Not,
        }
    }
}

fn is_connected_to(entry: &Entry) -> bool {
    entry.upstream.server.spec.auth.kind == AuthKind::AuthorizationCode
}

/// Whether a client may open a session with a server although the fault is that its user has to connect first: it can bring them there,
/// and is asked to when it calls.
pub fn may_come_in(fault: &Fault, version: Version, init: &[u8]) -> bool {
    fault.kind == Kind::Connect && brings(version, init)
}

/// Whether a client is in a session of which the server does not know yet: its user has not connected.
pub fn is_early(session: &Session, entry: &Entry) -> bool {
    is_connected_to(entry) && session.links().is_empty()
}

/// Whether a client of a version with sessions brings its user to an address that an error holds.
fn brings(version: Version, init: &[u8]) -> bool {
    version == LEGACY && can(json::path(init, &["capabilities", "elicitation", "url"]))
}

/// What a client is told that comes in so: what is known of the server.
pub fn met(upstream: &Upstream, version: Version) -> String {
    let spec = &upstream.server.spec;
    match upstream.known() {
        Some(peer) => answers::initialize_for(&peer, spec, version),
        None => answers::initialize_unseen(spec, version),
    }
}

fn can(declared: Option<&[u8]>) -> bool {
    declared.is_some_and(|declared| declared.starts_with(b"{"))
}

/// What the client says of the gateway's own question.
fn answer(message: &Message) -> Option<&[u8]> {
    json::get(message.member("inputResponses")?, KEY)
}

/// Whether the user goes there. Whoever does not, or came from there without having connected, is not asked in a circle.
fn has_accepted(message: &Message) -> bool {
    answer(message).is_some_and(|answer| json::get_text(answer, "action").as_deref() == Some("accept"))
}

/// The request as the server gets it: without the answer to what it did not ask.
pub fn without_answer<'a>(entry: &Entry, era: Era, message: Cow<'a, Message>) -> Cow<'a, Message> {
    if era != Era::Modern || !is_connected_to(entry) {
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

/// Tells a client whose user came through to a server, if it listens: that what it was asked for is done, and where it came in before, that
/// there are lists now.
pub fn tell(session: &Session, server: ServerId) {
    let done = session.came_through(server);
    let Some(outbox) = session.outbox() else { return };
    let send = |method: &str, params: &str| {
        let told: Bytes = message::call(None, method, params.as_bytes());
        let _ = outbox.try_send(sse::frame(&told, None, None));
    };
    if let Some(id) = done {
        send("notifications/elicitation/complete", &format!(r#"{{"elicitationId":{}}}"#, json::quote(&id)));
    }
    if session.reach == Reach::One(server) && session.links().is_empty() {
        for kind in [ListKind::Tools, ListKind::Prompts, ListKind::Resources] {
            send(list_changed(kind), "{}");
        }
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
            !has_accepted(&message(&both)) && has_accepted(&message(&format!(r#"{{"inputResponses":{accepted}}}"#)))
        );
        assert!(!has_accepted(&message("{}")));
    }

    #[test]
    fn what_a_server_gave_to_keep_comes_back_as_it_is() {
        let asked = |params| question(&message(params), "{}");
        let with = r#"{"resultType":"input_required","inputRequests":{"io.mcp-registry-gateway/connect":{}},"requestState":"\u0041\"ü"}"#;
        assert_eq!(asked(r#"{"requestState":"\u0041\"ü","inputResponses":{"theirs":{}}}"#), with);
        let without = r#"{"resultType":"input_required","inputRequests":{"io.mcp-registry-gateway/connect":{}}}"#;
        assert_eq!(asked("{}"), without);
    }
}
