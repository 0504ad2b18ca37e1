//! What a legacy client sends that wants no answer: notifications, and its answers to requests of servers.

use std::sync::Arc;

use axum::response::Response;
use bytes::Bytes;

use crate::mcp::error::Refusal;
use crate::mcp::exchange::{Call, accepted};
use crate::mcp::session::{Reach, Way};
use crate::protocol::meta;
use crate::telemetry::Outcome;
use crate::upstream::session::HttpSession;
use crate::upstream::{Transport, Upstream};

/// Takes a notification. One that means nothing here is taken all the same: nobody waits for an answer.
pub async fn notification(mut call: Call) -> Response {
    let Some(session) = call.session.clone() else { return accepted() };
    match call.message.method().as_ref() {
        "notifications/cancelled" => {
            if let Some(cancel) = call.message.member("requestId").and_then(|id| session.find(id)) {
                // A server over HTTP hears it first and then sees the stream go; should it end the stream itself, that is
                // no fault of its own.
                cancel.mark();
                if let Some((upstream, link)) = cancel.forward() {
                    pass_on(&upstream, &link, call.message.bytes().clone()).await;
                }
                cancel.cancel();
            }
        }
        // The handshake with servers is confirmed when it is made, but for the one that the client made itself.
        "notifications/initialized" => {
            if let Reach::One(_) = call.reach {
                to_links(&call, |_| true).await;
            }
        }
        "notifications/progress" | "notifications/roots/list_changed" => to_links(&call, |_| true).await,
        _ => {
            if let Reach::One(_) = call.reach {
                to_links(&call, |_| true).await;
            }
        }
    }
    call.finish.end(Outcome::Success);
    accepted()
}

/// Passes the notification on to every session with a server that this client has.
async fn to_links(call: &Call, wanted: impl Fn(&HttpSession) -> bool) {
    let Some(session) = &call.session else { return };
    let snapshot = call.app.registry.snapshot();
    let Some(tenant) = snapshot.tenant(call.caller.tenant()) else { return };
    for (id, link) in session.links() {
        if let Some(entry) = tenant.entry_by_id(&call.caller, id)
            && wanted(&link)
        {
            pass_on(&entry.upstream, &link, call.message.bytes().clone()).await;
        }
    }
}

async fn pass_on(upstream: &Arc<Upstream>, link: &Arc<HttpSession>, message: Bytes) {
    if let Transport::Http(server) = &upstream.transport {
        let _ = link.post(server, message, Vec::new()).await;
    }
}

/// Takes the client's answer to a request of a server and passes it on, once, to the one that asked.
pub async fn answer(mut call: Call) -> Response {
    let asked = call.session.as_ref().and_then(|session| session.answer(call.message.id()?));
    let Some(asked) = asked else {
        let refusal =
            Refusal::bad(meta::INVALID_REQUEST, "no server asked a question with this id, or it was answered");
        call.finish.note(&refusal.text);
        call.finish.end(Outcome::Error { whose: crate::fault::Whose::Client, kind: "bad_request" });
        return refusal.respond(None);
    };
    call.finish.fill(|operation| operation.server = Some(asked.upstream.server.spec.slug.clone()));
    match asked.way {
        Way::Http(link) => pass_on(&asked.upstream, &link, call.message.with_id(&asked.id)).await,
        Way::Mux(mux, token) => {
            if let Err(fault) = mux.reply(token, call.message.bytes().clone()).await {
                call.finish.fail(&fault);
            }
        }
    }
    call.finish.end(Outcome::Success);
    accepted()
}
