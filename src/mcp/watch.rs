//! Makes servers tell of resources that clients of the common endpoint watch. Where the server speaks the modern era it is one
//! subscription for each listener; in the legacy era it is the gateway's own session that subscribes, and again when the
//! server has forgotten that session. What a server says reaches every listener as a notice; who watches what is theirs to know.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::mpsc;
use tokio::time::sleep;

use crate::app::App;
use crate::fault::Fault;
use crate::json;
use crate::mcp::listen::REOPEN;
use crate::mcp::source::Source;
use crate::protocol::era::{Era, MODERN};
use crate::protocol::message::Shape;
use crate::upstream::channel::Who;
use crate::upstream::http::{Answer, Content, Outgoing, mirror};
use crate::upstream::mux::Origin;
use crate::upstream::{Notice, Transport, Upstream, peer};

/// Makes a server tell of these resources, as long as `outbox` is open.
pub async fn watch(app: App, upstream: Arc<Upstream>, uris: Vec<String>, outbox: mpsc::Sender<Bytes>) {
    let watching = async {
        let mut upstream = upstream;
        loop {
            let mut pause = REOPEN.mul_f64(rand::random_range(0.8..1.2));
            tokio::select! {
                result = once(&upstream, &uris) => if let Err(fault) = result {
                    tracing::debug!(server = %upstream.server.spec.slug, "watching its resources broke: {fault}");
                },
                () = upstream.closed() => {}
            }
            // It may be reached otherwise by now.
            if let Some(now) = app.registry.upstream(upstream.server.id)
                && !now.shares_way(&upstream)
            {
                (upstream, pause) = (now, Duration::ZERO);
            }
            sleep(pause).await;
        }
    };
    tokio::select! {
        () = outbox.closed() => {}
        // The stream ends when nobody can write into it any more.
        () = app.shutdown.cancelled() => {}
        () = watching => {}
    }
}

/// Until it is to be begun anew.
async fn once(upstream: &Arc<Upstream>, uris: &[String]) -> Result<(), Fault> {
    let peer = upstream.peer().await?;
    if peer.era_for(Era::Modern) == Era::Legacy {
        return in_own_session(upstream, uris).await;
    }
    let list: Vec<String> = uris.iter().map(|uri| json::quote(uri)).collect();
    let params = format!("{{\"notifications\":{{\"resourceSubscriptions\":[{}]}}}}", list.join(","));
    let message = peer::modern_request("mcpg-watch", "subscriptions/listen", &params);
    let mut source = match &upstream.transport {
        Transport::Http(server) => {
            let headers = mirror(Era::Modern, "subscriptions/listen", None);
            let outgoing = Outgoing { message, version: Some(MODERN), headers, ..Outgoing::default() };
            let Answer { content, mut attempt, .. } = server.post(0, true, &outgoing).await?;
            // It offers no such stream, and would not the next time.
            let Content::Events(mut body) = content else { return std::future::pending().await };
            body.be_patient();
            attempt.rest();
            Source::events(body, attempt, server.limits().message)
        }
        Transport::Stdio(_) | Transport::Sse(_) => {
            let Some(channel) = upstream.channel(&Who::default(), Era::Modern).await? else { return Ok(()) };
            Source::mux(channel.mux.call(message, Origin { session: 0, answers: false }).await?, None)
        }
    };
    while let Some(piece) = source.next().await {
        if let Some(message) = piece?.message.filter(|message| message.shape() == Shape::Notification) {
            let _ = upstream.ground.notices.send(Notice { server: upstream.server.id, session: None, message });
        }
    }
    Ok(())
}

async fn in_own_session(upstream: &Arc<Upstream>, uris: &[String]) -> Result<(), Fault> {
    let subscribe = async || {
        for uri in uris {
            upstream.ask("resources/subscribe", &format!("{{\"uri\":{}}}", json::quote(uri))).await?;
        }
        Ok::<(), Fault>(())
    };
    let Transport::Http(server) = &upstream.transport else {
        subscribe().await?;
        return std::future::pending().await;
    };
    // Asking may itself have found the session lost: what counts is the one it was asked in last.
    subscribe().await?;
    let session = upstream.own_session(server).await?;
    loop {
        sleep(REOPEN).await;
        if !Arc::ptr_eq(&session, &upstream.own_session(server).await?) {
            return Ok(());
        }
    }
}
