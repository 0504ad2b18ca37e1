//! What a legacy client sends that wants no answer: notifications, and its answers to requests of servers. Each counts as one of the
//! user's requests; taking back what is under way counts as none the first time, and is then never refused.
//!
//! No server is waited for that does not answer: what a notification sets in motion here happens at once, and servers are told
//! beside it, several at a time. A client is held up for a moment only, so that a server which does answer hears the
//! client's messages in their order.

use std::sync::Arc;
use std::time::Duration;

use axum::response::Response;
use bytes::Bytes;
use futures_util::StreamExt as _;
use tokio::time::timeout;

use crate::mcp::admit::admit_note;
use crate::mcp::error::Refusal;
use crate::mcp::exchange::{Call, accepted};
use crate::mcp::reach::who;
use crate::mcp::session::{Reach, Session, Way};
use crate::mcp::tasks;
use crate::policy::What;
use crate::protocol::meta;
use crate::telemetry::Outcome;
use crate::upstream::session::HttpSession;
use crate::upstream::{Transport, Upstream};

/// How long a server may take to take a notification.
const TAKING: Duration = Duration::from_secs(10);
/// For how long the client waits for that.
const MOMENT: Duration = Duration::from_secs(1);
/// Servers that are told at the same time.
const AT_ONCE: usize = 16;

/// Takes a notification. One that means nothing here is taken all the same: nobody waits for an answer.
pub async fn notification(mut call: Box<Call>) -> Response {
    let Some(session) = call.session.clone() else { return accepted() };
    let under_way = if call.message.method() == "notifications/cancelled" {
        call.message.member("requestId").and_then(|id| session.find(id))
    } else {
        None
    };
    // Should the server end the stream now, that is no fault of its own.
    let taken_back = under_way.filter(|cancel| cancel.cancel());
    if taken_back.is_none()
        && let Err(refusal) = admit_note(&mut call)
    {
        return refusal.respond(None);
    }
    let own_endpoint = matches!(call.reach, Reach::One(_));
    let Some(message) = tasks::heard(&call) else {
        call.finish.end(Outcome::Success);
        return accepted();
    };
    call.message = message;
    match call.message.method().as_ref() {
        "notifications/cancelled" => {
            if let Some((upstream, link)) = taken_back.and_then(|cancel| cancel.forward())
                && let Some(errand) = session.errand()
            {
                let message = call.message.bytes().clone();
                call.app.tasks.spawn(async move {
                    let _errand = errand;
                    pass_on(&upstream, &link, message).await;
                });
            }
        }
        // The handshake with servers is confirmed when it is made, but for the one that the client made itself.
        "notifications/initialized" if own_endpoint => tell(&call, &session, false).await,
        "notifications/initialized" => {}
        "notifications/progress" | "notifications/roots/list_changed" => tell(&call, &session, true).await,
        _ if may_say_anything(&call) => tell(&call, &session, true).await,
        _ => {}
    }
    call.finish.end(Outcome::Success);
    accepted()
}

/// Whether the caller may send the server of its endpoint what no version knows: that could be anything, and takes the server as a
/// whole.
fn may_say_anything(call: &Call) -> bool {
    let Reach::One(id) = call.reach else { return false };
    let snapshot = call.app.registry.snapshot();
    let Some(tenant) = snapshot.tenant(call.caller.tenant()) else { return false };
    tenant.entry_by_id(&call.caller, id).is_some_and(|entry| tenant.permits(&call.caller, entry, What::Server))
}

/// Passes the notification on to every session with a server that this client has, and with `channels` to the children and
/// streams that serve it.
async fn tell(call: &Call, session: &Arc<Session>, channels: bool) {
    let Some(errand) = session.errand() else { return };
    let snapshot = call.app.registry.snapshot();
    let Some(tenant) = snapshot.tenant(call.caller.tenant()) else { return };
    let mut all: Vec<(Arc<Upstream>, Option<Arc<HttpSession>>)> = Vec::new();
    for (id, link) in session.links() {
        let entry = tenant.entry_by_id(&call.caller, id);
        all.extend(entry.map(|entry| (entry.upstream.clone(), Some(link))));
    }
    if channels {
        let reached = |id| call.reach == Reach::All || call.reach == Reach::One(id);
        let of_channels = tenant.entries().iter().map(|entry| &entry.upstream).filter(|upstream| {
            !matches!(upstream.transport, Transport::Http(_))
                && reached(upstream.server.id)
                && tenant.entry_by_id(&call.caller, upstream.server.id).is_some()
        });
        all.extend(of_channels.map(|upstream| (upstream.clone(), None)));
    }
    if all.is_empty() {
        return;
    }
    let (message, who) = (call.message.clone(), who(&call.caller, Some(session)));
    let telling = call.app.tasks.spawn(async move {
        let _errand = errand;
        let (message, who) = (&message, &who);
        futures_util::stream::iter(all)
            .for_each_concurrent(AT_ONCE, async |(upstream, link)| match link {
                Some(link) => pass_on(&upstream, &link, message.bytes().clone()).await,
                None => drop(timeout(TAKING, upstream.tell(who, message)).await),
            })
            .await;
    });
    // It goes on when nobody waits any more.
    let _ = timeout(MOMENT, telling).await;
}

async fn pass_on(upstream: &Arc<Upstream>, link: &Arc<HttpSession>, message: Bytes) {
    let _ = timeout(TAKING, link.tell(upstream, message)).await;
}

/// Takes the client's answer to a request of a server and passes it on, once, to the one that asked.
pub async fn answer(mut call: Box<Call>) -> Response {
    // Before it is taken from those that are waited for: a client that comes again later still finds the question.
    if let Err(refusal) = admit_note(&mut call) {
        return refusal.respond(None);
    }
    let asked = call.session.as_ref().and_then(|session| session.answer(call.message.id()?));
    let answer = asked.as_ref().and_then(|asked| tasks::answered(&call.message, asked.task.as_ref()));
    let Some((asked, answer)) = asked.zip(answer) else {
        let refusal =
            Refusal::bad(meta::INVALID_REQUEST, "no server asked a question with this id, or it was answered");
        call.finish.note(&refusal);
        call.finish.end(Outcome::Error { whose: crate::fault::Whose::Client, kind: "bad_request" });
        return refusal.respond(None);
    };
    call.finish.fill(|operation| operation.server = Some(asked.upstream.server.spec.slug.clone()));
    match asked.way {
        Way::Http(link) => pass_on(&asked.upstream, &link, answer.with_id(&asked.id)).await,
        Way::Mux(mux, token) => {
            if let Err(fault) = mux.reply(token, answer.into_bytes()).await {
                call.finish.fail(&fault);
            }
        }
    }
    call.finish.end(Outcome::Success);
    accepted()
}
