//! What a server says in the session that a client of the common endpoint has with it: its stream is kept open, and opened again,
//! for as long as the client listens. What changed in lists is not passed on, because the gateway tells that itself.

use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::mpsc;

use crate::access::Caller;
use crate::app::App;
use crate::fault::{Fault, Kind};
use crate::id::ServerId;
use crate::mcp::allow::may_hear;
use crate::mcp::relay::note_request;
use crate::mcp::session::{Asked, Reach, Session, Way};
use crate::mcp::source::Source;
use crate::mcp::{reach, tasks};
use crate::protocol::message::{Message, Shape};
use crate::protocol::sse;
use crate::upstream::http::{Answer, Content};
use crate::upstream::notices::pause;
use crate::upstream::session::HttpSession;
use crate::upstream::trip::Trip;
use crate::upstream::{Transport, Upstream};

/// Passes on what a server says in the session that belongs to a client of the common endpoint, while the client listens.
pub fn hear_link(app: &App, caller: &Caller, session: &Arc<Session>, server: ServerId, link: Arc<HttpSession>) {
    let Some(outbox) = session.outbox() else { return };
    let snapshot = app.registry.snapshot();
    let entry = snapshot.tenant(caller.tenant()).and_then(|tenant| tenant.entry_by_id(caller, server));
    let Some(upstream) = entry.map(|entry| entry.upstream.clone()) else { return };
    let (app, caller, session) = (app.clone(), caller.clone(), session.clone());
    app.tasks.clone().spawn(async move {
        let hearing = async {
            loop {
                match hear(&app, &caller, &upstream, &session, &link, &outbox).await {
                    Ok(Heard::NotOffered) => return,
                    Ok(Heard::Lost) => {
                        session.lose(server, &link);
                        if let Transport::Http(place) = &upstream.transport
                            && reach::link(&app, &Trip::default(), &caller, &session, &upstream, place).await.is_ok()
                        {
                            // The new session is listened to in its own right.
                            return;
                        }
                    }
                    Ok(Heard::Ended) => {}
                    Err(fault) => {
                        tracing::debug!(server = %upstream.server.spec.slug, "the server's stream broke: {fault}");
                    }
                }
                pause().await;
            }
        };
        tokio::select! {
            () = outbox.closed() => {}
            () = app.shutdown.cancelled() => {}
            // The next call opens a session where the server is reached now, which is listened to in its own right.
            () = upstream.closed() => {}
            () = app.registry.unseen(&caller, server) => {}
            () = hearing => {}
        }
    });
}

/// How a server's stream came to its end.
enum Heard {
    /// It offers none.
    NotOffered,
    /// It does not know the session any more.
    Lost,
    /// It closed the stream.
    Ended,
}

async fn hear(
    app: &App,
    caller: &Caller,
    upstream: &Arc<Upstream>,
    session: &Arc<Session>,
    link: &Arc<HttpSession>,
    outbox: &mpsc::Sender<Bytes>,
) -> Result<Heard, Fault> {
    let Transport::Http(server): &Transport = &upstream.transport else { return Ok(Heard::NotOffered) };
    let answer = link.listen(server, None).await;
    if link.is_lost(&answer) {
        return Ok(Heard::Lost);
    }
    let Answer { content, attempt, .. } = match answer {
        Err(fault) if matches!(fault.kind, Kind::Status(400..500)) => return Ok(Heard::NotOffered),
        answer => answer?,
    };
    let Content::Events(mut body) = content else { return Ok(Heard::NotOffered) };
    body.be_patient();
    let mut source = Source::events(body, attempt, server.limits().message);
    while let Some(piece) = source.next().await {
        let Some(message) = piece?.message else { continue };
        let bytes = match message.shape() {
            Shape::Request => {
                let id = message.id_bytes().unwrap_or_default();
                let task = tasks::related(&message).map(Bytes::copy_from_slice);
                let asked = Asked { upstream: upstream.clone(), way: Way::Http(link.clone()), id, cause: None, task };
                note_request(app, session, &message, asked, true)
            }
            Shape::Notification if !may_hear(app, caller, upstream.server.id, &message) => None,
            Shape::Notification => told(session, link, &message),
            Shape::Result | Shape::Error => None,
        };
        if let Some(bytes) = bytes {
            let _ = outbox.send(sse::frame(&bytes, None, None)).await;
        }
    }
    Ok(Heard::Ended)
}

/// What a server says, as the client should hear it; `None` if it should not. Other servers speak on the same stream: what is said
/// of a resource or of a question must be of this session's own. Whose a token of progress is only the client knows.
pub(super) fn told(session: &Session, link: &Arc<HttpSession>, message: &Message) -> Option<Bytes> {
    match message.method().as_ref() {
        // The gateway itself tells what changed in its lists; at a server's own endpoint they are the server's.
        method if method.ends_with("/list_changed") && session.reach == Reach::All => None,
        method if tasks::is_news(method) => None,
        "notifications/resources/updated" if !session.watches(&message.text("uri")?) => None,
        "notifications/cancelled" => {
            // The client was asked under another id.
            let theirs = message.member("requestId")?;
            let ours = session.take_back(link, theirs)?;
            Some(message.splice(&[(theirs, &ours)]))
        }
        _ => Some(message.bytes().clone()),
    }
}
