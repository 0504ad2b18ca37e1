//! Makes servers tell of resources that clients of the common endpoint watch. Where the server speaks the modern era it is one
//! subscription for each listener; in the legacy era it is the gateway's own session that subscribes, and again when the
//! server has forgotten that session. What a server says reaches every listener as a notice; who watches what is theirs to know.
//!
//! A session that shares a child with others wishes for what it wants: see `upstream::channel`.

use std::sync::Arc;
use std::time::Duration;

use axum::response::Response;
use tokio::sync::mpsc;
use tokio::time::timeout;

use crate::app::App;
use crate::fault::{Fault, Kind};
use crate::json;
use crate::mcp::answers;
use crate::mcp::error::{Refusal, json_response};
use crate::mcp::exchange::Call;
use crate::mcp::reach::who;
use crate::mcp::session::Session;
use crate::protocol::era::Era;
use crate::protocol::message::{Message, Shape};
use crate::registry::snapshot::Entry;
use crate::upstream::channel::Watcher;
use crate::upstream::mux::Origin;
use crate::upstream::notices::pause;
use crate::upstream::{Transport, Upstream};

/// How long servers may take to say whether they will tell.
const SAYING: Duration = Duration::from_secs(5);

/// Resources of one server that a listener watches.
pub struct Watch {
    upstream: Arc<Upstream>,
    /// Which.
    pub uris: Vec<String>,
    /// In the legacy era it is a wish, given up with the watch.
    watcher: Watcher,
}

impl Watch {
    /// Nothing is asked of the server yet.
    pub fn new(upstream: Arc<Upstream>, uris: Vec<String>) -> Self {
        Self { watcher: Watcher::new(&upstream), upstream, uris }
    }

    /// Leaves out what the server will not tell of: all of it, if it has no such thing, and what a legacy one declines. One
    /// that cannot be asked now is asked again later.
    pub async fn begin(upstream: Arc<Upstream>, uris: Vec<String>) -> Self {
        let mut watch = Self::new(upstream, uris);
        let Some(peer) = watch.upstream.known() else { return watch };
        if !peer.can(&["resources", "subscribe"]) {
            watch.uris.clear();
        } else if peer.era_for(Era::Modern) == Era::Legacy {
            let mut declined = Vec::new();
            let asking = async {
                for uri in &watch.uris {
                    if watch.watcher.watch(uri).await.is_ok_and(|agreed| !agreed) {
                        declined.push(uri.clone());
                    }
                }
            };
            let _ = timeout(SAYING, asking).await;
            watch.uris.retain(|uri| !declined.contains(uri));
        }
        watch
    }

    /// Makes the server tell, as long as `outbox` is open.
    pub async fn keep(mut self, app: App, outbox: mpsc::Sender<bytes::Bytes>) {
        if self.uris.is_empty() {
            return;
        }
        let watching = async {
            loop {
                tokio::select! {
                    result = self.once() => if let Err(fault) = result {
                        tracing::debug!(server = %self.upstream.server.spec.slug, "watching its resources broke: {fault}");
                    },
                    () = self.upstream.closed() => {}
                }
                // It may be reached otherwise by now.
                if let Some(now) = app.registry.upstream(self.upstream.server.id)
                    && !now.shares_way(&self.upstream)
                {
                    self = Self::new(now, self.uris);
                } else {
                    pause().await;
                }
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
    async fn once(&self) -> Result<(), Fault> {
        let upstream = &self.upstream;
        let peer = upstream.peer().await?;
        if peer.era_for(Era::Modern) == Era::Legacy {
            return self.in_own_session().await;
        }
        let list: Vec<String> = self.uris.iter().map(|uri| json::quote(uri)).collect();
        let params = format!("{{\"notifications\":{{\"resourceSubscriptions\":[{}]}}}}", list.join(","));
        match upstream.subscribe(&params).await? {
            Some(voice) => upstream.herald().hear(voice).await,
            // It offers no such stream, and would not the next time.
            None => std::future::pending().await,
        }
    }

    async fn in_own_session(&self) -> Result<(), Fault> {
        for uri in &self.uris {
            if !self.watcher.watch(uri).await? {
                tracing::warn!(server = %self.upstream.server.spec.slug, "it no longer tells of `{uri}`, which is watched");
            }
        }
        let Transport::Http(server) = &self.upstream.transport else {
            // A channel that breaks is opened anew for the sake of the wish.
            return std::future::pending().await;
        };
        // Asking may itself have found the session lost: what counts is the one it was asked in last.
        let session = self.upstream.own_session(server).await?;
        loop {
            pause().await;
            if !Arc::ptr_eq(&session, &self.upstream.own_session(server).await?) {
                return Ok(());
            }
        }
    }
}

/// Makes a modern server tell of these resources as long as this legacy client listens.
pub fn watch_for(app: &App, session: &Session, upstream: &Arc<Upstream>, uris: Vec<String>) {
    if let Some(outbox) = session.outbox() {
        app.tasks.spawn(Watch::new(upstream.clone(), uris).keep(app.clone(), outbox));
    }
}

/// Notes in a session that it watches the resource that `message` names, or no more.
pub fn note(session: &Session, entry: &Entry, message: &Message) -> Result<(), Refusal> {
    let begins = match message.method().as_ref() {
        "resources/subscribe" => true,
        "resources/unsubscribe" => false,
        _ => return Ok(()),
    };
    if message.text("uri").is_none_or(|uri| session.watch(&uri, begins)) {
        return Ok(());
    }
    let fault = Fault::gateway(Kind::Full, "this session watches as many resources as it may");
    Err(Refusal::of(&fault, entry.slug(), Era::Legacy))
}

/// Does what a legacy session wants of a server: over a channel, or by watching for it; `None` where the request is the server's own to
/// answer.
pub async fn wish(call: &Call, entry: &Entry, message: &Message) -> Result<Option<Response>, Refusal> {
    let Some(session) = &call.session else { return Ok(None) };
    note(session, entry, message)?;
    if let Some(uri) = message.text("uri") {
        let peer = entry.upstream.peer_for(Era::Legacy, Some(&call.caller)).await;
        let peer = peer.map_err(|fault| Refusal::of(&fault, entry.slug(), Era::Legacy))?;
        // A modern server knows no such request: the gateway watches there itself, as long as the client listens.
        if peer.era_for(Era::Legacy) == Era::Modern {
            if message.method() == "resources/subscribe" {
                watch_for(&call.app, session, &entry.upstream, vec![uri.into_owned()]);
            }
            return Ok(Some(answers::here(message, "{}")));
        }
    }
    let who = who(&call.caller, Some(session));
    let origin = Origin { session: session.number, answers: session.answers };
    let answer = entry.upstream.wish(&who, &Arc::from(&*session.id), origin, message).await;
    let answer = answer.map_err(|fault| Refusal::of(&fault, entry.slug(), Era::Legacy))?;
    if let Some(uri) = message.text("uri")
        && answer.as_ref().is_some_and(|answer| answer.shape() == Shape::Error)
        && message.method() == "resources/subscribe"
    {
        session.watch(&uri, false);
    }
    Ok(answer.map(|answer| json_response(http::StatusCode::OK, answer.into_bytes())))
}
