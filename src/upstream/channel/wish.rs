//! What a session wants of a server over a channel that it may share: `resources/subscribe`, `resources/unsubscribe` and
//! `logging/setLevel`. The server is told what that changes for all who share (`wanted`), and its own word is the answer; where
//! nothing changes the gateway answers. As long as anything is watched, a channel is kept open and opened anew when it breaks.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio_util::sync::CancellationToken;

use super::wanted::{Holder, Share, ShareKey, Wanted};
use super::{GATEWAY, Who, ask, read};
use crate::fault::{Fault, Kind, Retry};
use crate::json;
use crate::protocol::era::Era;
use crate::protocol::level::Level;
use crate::protocol::message::{self, Message, Shape};
use crate::upstream::http::read_message;
use crate::upstream::mux::{Call, Mux, Origin};
use crate::upstream::notices::pause;
use crate::upstream::peer::Peer;
use crate::upstream::session::GOODBYE;
use crate::upstream::trip::Trip;
use crate::upstream::{Channel, Told, Transport, Upstream};

impl Upstream {
    fn wanted(&self) -> &Wanted {
        match &self.transport {
            Transport::Http(server) => &server.wanted,
            Transport::Stdio(server) => &server.wanted,
            Transport::Sse(server) => &server.wanted,
        }
    }

    /// Whether a session shares its channel with nobody.
    pub fn is_private(&self) -> bool {
        match &self.transport {
            Transport::Stdio(server) => server.is_private(),
            Transport::Http(_) | Transport::Sse(_) => true,
        }
    }

    fn share_of(&self, who: &Who) -> ShareKey {
        match &self.transport {
            Transport::Stdio(server) => server.share(who),
            Transport::Http(_) | Transport::Sse(_) => who.session.as_ref().map(|(id, _)| id.clone()),
        }
    }

    /// The legacy channel of this share, if it is open.
    fn open_channel(&self, share: &ShareKey) -> Option<Mux> {
        match &self.transport {
            Transport::Http(_) => None,
            Transport::Stdio(server) => server.running(&self.ground, share),
            Transport::Sse(server) => server.running(share),
        }
    }

    /// Does what `request` wants for `holder`; the answer has the request's own id. `None` where it is not for this to do:
    /// the server has no channel, or the era spoken on it knows no such request.
    pub async fn wish(
        self: &Arc<Self>,
        who: &Who,
        holder: &Holder,
        origin: Origin,
        request: &Message,
    ) -> Result<Option<Message>, Fault> {
        let wanted = self.wanted();
        let Some(channel) =
            self.channel(&Trip::default(), who, Era::Legacy).await?.filter(|channel| channel.era == Era::Legacy)
        else {
            return Ok(None);
        };
        let method = request.method();
        let uri = request.text("uri").unwrap_or_default();
        let key = self.share_of(who);
        let shared = wanted.share(key.clone());
        let asked = {
            let mut share = shared.lock().await;
            let sent = match method.as_ref() {
                "resources/subscribe" => share.watch(&uri, holder).then(|| request.bytes().clone()),
                "resources/unsubscribe" => share.unwatch(&uri, holder).then(|| request.bytes().clone()),
                "logging/setLevel" => {
                    let Some((written, level)) = level_of(request) else { return Ok(None) };
                    let level = share.set_level(holder, level);
                    level.map(|level| request.with_text(written, level.as_str()).into_bytes())
                }
                _ => return Ok(None),
            };
            match sent {
                None => None,
                Some(bytes) => match self.send_in_time(&channel.mux, bytes, origin).await {
                    Ok(call) => Some(call),
                    Err(fault) => {
                        undo(&mut share, &method, &uri, holder);
                        return Err(fault);
                    }
                },
            }
        };
        let answer = if let Some(call) = asked {
            self.read_in_time(call, &method).await
        } else {
            read_message(message::result(request.id().unwrap_or(b"null"), b"{}"))
        };
        let mut share = shared.lock().await;
        match &answer {
            Ok(answer) if answer.shape() == Shape::Result => {
                if method == "resources/subscribe" {
                    share.agreed(&uri, holder, true);
                    self.sit_for(&mut share, who);
                }
            }
            _ => undo(&mut share, &method, &uri, holder),
        }
        drop(share);
        drop(shared);
        wanted.tidy(&key);
        answer.map(Some)
    }

    /// From now on `holder` wants this logged; told to the server now if a channel is open, else when one is.
    pub async fn log_for(&self, who: &Who, holder: &Holder, level: Level) {
        let (wanted, key) = (self.wanted(), self.share_of(who));
        let shared = wanted.share(key.clone());
        let mut share = shared.lock().await;
        let Some(level) = share.set_level(holder, level) else { return };
        let Some(mux) = self.open_channel(&key) else { return };
        if let Ok(call) = self.send_in_time(&mux, set_level(level), GATEWAY).await {
            // Answered before another is sent, if it is answered soon: a server may take up two at once, and keep the first.
            let _ = tokio::time::timeout(GOODBYE, self.read_in_time(call, "logging/setLevel")).await;
        }
    }

    /// Forgets what `holder` wanted; the server is told what nobody wants any more. No channel is opened for that.
    pub async fn withdraw(&self, holder: &Holder) {
        let wanted = self.wanted();
        for (key, shared) in wanted.shares_of(holder, self.is_private()) {
            let mut share = shared.lock().await;
            let (given_up, level) = share.leave(holder);
            let mut calls = Vec::new();
            if let Transport::Http(_) = &self.transport {
                for uri in &given_up {
                    // Whatever it says to that.
                    let _ = tokio::time::timeout(GOODBYE, self.ask("resources/unsubscribe", &naming(uri))).await;
                }
            }
            if let Some(mux) = self.open_channel(&key) {
                let all = given_up.iter().map(|uri| about("resources/unsubscribe", uri)).chain(level.map(set_level));
                for message in all {
                    let Ok(mut call) = self.send_in_time(&mux, message, GATEWAY).await else { break };
                    call.wait_at_rest();
                    calls.push(call);
                }
            }
            // The answers change nothing, but a request that nobody waits for would be cancelled; and a level must not be
            // overtaken by the next one.
            let reading = calls.into_iter().map(|call| self.read_in_time(call, "a goodbye"));
            let _ = tokio::time::timeout(GOODBYE, futures_util::future::join_all(reading)).await;
            drop(share);
            drop(shared);
            wanted.tidy(&key);
        }
    }

    /// Forgets what everybody wanted.
    pub fn forget_wishes(&self) {
        self.wanted().clear();
    }

    /// Sends on a channel; a server that reads nothing for as long as it may be silent must not hold up everybody who shares it.
    pub async fn send_in_time(&self, mux: &Mux, message: Bytes, origin: Origin) -> Result<Call, Fault> {
        let patience = Duration::from_millis(self.server.spec.timeouts.idle_ms);
        tokio::time::timeout(patience, mux.call(message, origin)).await.unwrap_or_else(|_| {
            let text = format!("the server has read nothing for {} ms", patience.as_millis());
            Err(Fault::upstream(Kind::Timeout, Retry::NotSent, text))
        })
    }

    async fn read_in_time(&self, call: Call, what: &str) -> Result<Message, Fault> {
        let patience = Duration::from_millis(self.server.spec.timeouts.idle_ms);
        tokio::time::timeout(patience, read(call)).await.unwrap_or_else(|_| {
            let text = format!("no answer to {what} within {} ms", patience.as_millis());
            Err(Fault::upstream(Kind::Timeout, Retry::MaybeSent, text))
        })
    }

    /// Keeps a channel open from now on, until nothing is watched over it.
    fn sit_for(self: &Arc<Self>, share: &mut Share, who: &Who) {
        if share.sitting.is_some() || !share.watches() {
            return;
        }
        let stop = CancellationToken::new();
        share.sitting = Some(stop.clone().drop_guard());
        let (upstream, who) = (self.clone(), who.clone());
        self.ground.tasks.spawn(async move {
            tokio::select! {
                () = stop.cancelled() => {}
                () = upstream.sit(&who) => {}
            }
        });
    }

    async fn sit(self: &Arc<Self>, who: &Who) {
        loop {
            if let Ok(Some(channel)) = self.channel(&Trip::default(), who, Era::Legacy).await {
                let _hold = channel.hold();
                channel.mux.closed().await;
            }
            pause().await;
        }
    }
}

/// Somebody without a session who watches resources. Dropping it gives them up.
pub struct Watcher {
    upstream: Arc<Upstream>,
    holder: Holder,
}

impl Watcher {
    /// Nothing is watched yet.
    pub fn new(upstream: &Arc<Upstream>) -> Self {
        Self { upstream: upstream.clone(), holder: format!("listener-{:032x}", rand::random::<u128>()).into() }
    }

    /// Watches a resource over the channel, or in the session, that the gateway itself uses; whether the server agrees. In a
    /// session it is asked each time: the session may be another one than before.
    pub async fn watch(&self, uri: &str) -> Result<bool, Fault> {
        if let Transport::Http(server) = &self.upstream.transport {
            let shared = server.wanted.share(None);
            let mut share = shared.lock().await;
            let agreed = matches!(self.upstream.ask("resources/subscribe", &naming(uri)).await?, Told::Result(_));
            if agreed {
                share.watch(uri, &self.holder);
            }
            return Ok(agreed);
        }
        let request = read_message(about("resources/subscribe", uri))?;
        let answer = self.upstream.wish(&Who::default(), &self.holder, GATEWAY, &request).await?;
        Ok(answer.is_none_or(|answer| answer.shape() == Shape::Result))
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        let (upstream, holder) = (self.upstream.clone(), self.holder.clone());
        let tasks = upstream.ground.tasks.clone();
        tasks.spawn(async move { upstream.withdraw(&holder).await });
    }
}

impl Wanted {
    /// Tells a fresh channel what is wanted over it. What the server declines now it may have agreed to before; nobody can be
    /// told of that.
    pub async fn tell(&self, key: ShareKey, mux: &Mux, peer: &Peer) -> Result<(), Fault> {
        let (watched, level) = self.share(key.clone()).lock().await.everything();
        self.tidy(&key);
        if let Some(level) = level.filter(|_| peer.can(&["logging"])) {
            ask(mux, set_level(level)).await?;
        }
        for uri in watched {
            ask(mux, about("resources/subscribe", &uri)).await?;
        }
        Ok(())
    }
}

impl Channel {
    /// Keeps it from being stopped as idle while the value lives.
    fn hold(&self) -> Option<crate::upstream::stdio::Hold<Peer>> {
        self.link.as_ref().map(crate::upstream::stdio::Link::hold)
    }
}

fn undo(share: &mut Share, method: &str, uri: &str, holder: &Holder) {
    match method {
        "resources/subscribe" => share.agreed(uri, holder, false),
        "logging/setLevel" => share.declined_level(holder),
        // Whoever wants to hear of it no more does not, whatever the server says.
        _ => {}
    }
}

/// The level that a `logging/setLevel` names, and where.
fn level_of(request: &Message) -> Option<(&[u8], Level)> {
    let written = request.member("level")?;
    Some((written, Level::parse(&json::text(written)?)?))
}

fn about(method: &str, uri: &str) -> Bytes {
    message::call(Some(b"\"mcpg-watch\""), method, naming(uri).as_bytes())
}

/// The parameters that name a resource.
fn naming(uri: &str) -> String {
    format!("{{\"uri\":{}}}", json::quote(uri))
}

fn set_level(level: Level) -> Bytes {
    let params = format!("{{\"level\":\"{}\"}}", level.as_str());
    message::call(Some(b"\"mcpg-level\""), "logging/setLevel", params.as_bytes())
}
