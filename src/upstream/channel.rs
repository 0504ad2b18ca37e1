//! Servers reached over one channel that many callers share. Which child of a stdio server serves whom is decided here, and
//! the handshake is spoken that a fresh channel needs.

pub mod wanted;
mod wish;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio_util::task::TaskTracker;

use self::wanted::{ShareKey, Wanted};
pub use self::wish::Watcher;
use crate::fault::{Fault, Kind, Retry};
use crate::protocol::era::MODERN;
use crate::protocol::message::{self, Message, Shape};
use crate::registry::model::{ProtocolPreference, Server, Sharing};
use crate::upstream::Ground;
use crate::upstream::http::{garbage, read_message};
use crate::upstream::mux::{Call, Event, Mux, Origin};
use crate::upstream::notices::{Herald, LISTEN, LISTS, Voice};
use crate::upstream::peer::{self, Legacy, Peer, read_initialize, read_probe};
use crate::upstream::stdio::Launch;
use crate::upstream::stdio::pool::{Key, Link};

/// A server that does not answer the modern probe by then is a legacy one (2026-07-28, basic/transports/stdio).
const PROBE: Duration = Duration::from_secs(5);
/// How long a fresh child may take to agree to tell of changes before the first call goes to it.
const AGREEING: Duration = Duration::from_secs(1);
/// What a child is told its clients can do. Who really can is known per session; others decline for their client.
pub const CAPABILITIES: &str = r#"{"sampling":{},"elicitation":{"form":{},"url":{}},"roots":{"listChanged":true}}"#;
const GATEWAY: Origin = Origin::GATEWAY;

/// On whose behalf a channel is wanted.
#[derive(Debug, Clone, Default)]
pub struct Who {
    /// The caller, for policies that go by it.
    pub caller: u64,
    /// The user, for children that one user has for itself.
    pub user: Option<Arc<str>>,
    /// The session, for children that one session has for itself, with the parameters of its `initialize`.
    pub session: Option<(Arc<str>, Bytes)>,
}

impl Who {
    /// Whether it is the gateway itself, which asks on behalf of nobody.
    fn is_gateway(&self) -> bool {
        self.user.is_none() && self.session.is_none()
    }
}

/// A server that is started as a child.
pub struct StdioServer {
    server: Arc<Server>,
    pub(super) wanted: Arc<Wanted>,
}

impl StdioServer {
    /// Nothing is started.
    pub fn new(server: Arc<Server>) -> Self {
        Self { server, wanted: Arc::default() }
    }

    fn launch(&self) -> Launch {
        let spec = &self.server.spec;
        let command = spec.command.as_ref();
        Launch {
            program: command.map(|command| command.program.clone()).unwrap_or_default(),
            args: command.map(|command| command.args.clone()).unwrap_or_default(),
            cwd: command.and_then(|command| command.cwd.as_deref()).map(PathBuf::from),
            env: spec.env.clone(),
            name: spec.slug.as_str().into(),
        }
    }

    /// With whom `who` shares a child.
    pub(super) fn share(&self, who: &Who) -> ShareKey {
        match self.server.spec.sharing {
            Sharing::Shared => None,
            Sharing::PerUser => who.user.clone(),
            // Modern clients have no sessions: what belongs together is what one user does.
            Sharing::PerSession => who.session.as_ref().map(|(id, _)| id.clone()).or_else(|| who.user.clone()),
        }
    }

    /// Whether each session has a child of its own.
    pub(super) fn is_private(&self) -> bool {
        self.server.spec.sharing == Sharing::PerSession
    }

    fn key(&self, who: &Who, modern: bool) -> Key {
        Key { server: self.server.id, way: self.server.revision, share: self.share(who), modern }
    }

    /// The way to the child of this share that was begun with a handshake, if it is running.
    pub(super) fn running(&self, ground: &Ground, share: &ShareKey) -> Option<Mux> {
        let key = Key { server: self.server.id, way: self.server.revision, share: share.clone(), modern: false };
        ground.children.peek(&key).map(|link| link.mux.clone())
    }

    /// Whether the gateway's own questions go to the second child of a server of both eras: when that runs and the first does
    /// not.
    pub(super) fn prefers_second(&self, ground: &Ground) -> bool {
        let runs = |modern| ground.children.peek(&self.key(&Who::default(), modern)).is_some();
        runs(true) && !runs(false)
    }

    /// The child that serves `who`, started if need be. A server that speaks one era has one; one that speaks both has a second
    /// for the modern era, for a process that was begun with a handshake is spoken to in its session. Questions of the gateway
    /// itself are no use of a child that is running.
    pub async fn link(&self, ground: &Ground, who: &Who, second: bool) -> Result<Arc<Link<Peer>>, Fault> {
        let key = self.key(who, second);
        if who.is_gateway()
            && let Some(link) = ground.children.peek(&key)
        {
            return Ok(link);
        }
        let own = self.is_private();
        let params = match &who.session {
            // A child of its own is told the truth about its only client.
            Some((_, init)) if own => init.clone(),
            _ => peer::initialize_params(CAPABILITIES).into(),
        };
        let preference = self.server.spec.protocol.clone();
        let session = own.then(|| who.session.as_ref().map(|(id, _)| id.clone())).flatten();
        let herald = Herald { server: self.server.id, session, to: ground.notices.clone() };
        let (tasks, wanted, share) = (ground.tasks.clone(), self.wanted.clone(), key.share.clone());
        let init = move |mux: Mux| async move {
            tasks.spawn(herald.clone().hear(Voice::channel(mux.broadcasts())));
            let peer = shake_hands(&mux, second, &preference, &params).await?;
            let modern = second || peer.legacy.is_none();
            if !modern {
                wanted.tell(share, &mux, &peer).await?;
            } else if ["tools", "prompts", "resources"].iter().any(|kind| peer.can(&[kind, "listChanged"])) {
                subscribe(herald, mux, &tasks).await;
            }
            Ok(peer)
        };
        ground.children.get(&key, || self.launch(), init).await
    }

    /// Passes a notification on, if a child that speaks the legacy era runs for `who`. What one session says of its own roots is
    /// not passed to a child that others share: a question about roots goes to the session that caused it, each time.
    pub async fn tell(&self, ground: &Ground, who: &Who, notification: &Message) {
        let own = self.is_private();
        if !own && notification.method() == "notifications/roots/list_changed" {
            return;
        }
        if let Some(link) = ground.children.peek(&self.key(who, false)) {
            // It fails only when the child is gone, and then nobody is there to hear.
            let _ = link.mux.notify(notification.bytes().clone()).await;
        }
    }

    /// Ends every child of this description; those of one that took its place go on.
    pub async fn close(&self, ground: &Ground) {
        ground.children.stop(self.server.id, self.server.revision).await;
    }

    /// Ends the child that only this session used.
    pub async fn release(&self, ground: &Ground, who: &Who) {
        if self.is_private() && who.session.is_some() {
            for second in [false, true] {
                ground.children.release(&self.key(who, second)).await;
            }
        }
    }
}

/// In the modern era a child tells of changes only who subscribes to them; ends with the child. Waits until the child has
/// agreed, so that the first call misses no change that it makes, but not for long.
async fn subscribe(herald: Herald, mux: Mux, tasks: &TaskTracker) {
    let request = peer::modern_request(LISTEN.0, LISTEN.1, LISTS);
    let Ok(mut call) = mux.call(request, GATEWAY).await else { return };
    // The call alone keeps the way open as long as the child lives, and no child busy that nobody else calls.
    drop(mux);
    call.wait_at_rest();
    let _acknowledged = tokio::time::timeout(AGREEING, call.next()).await;
    tasks.spawn(herald.hear(Voice::Call(Box::new(call))));
}

/// Finds out what a fresh child speaks and, unless it is to be spoken to in the modern era, opens the legacy session.
async fn shake_hands(mux: &Mux, modern: bool, preference: &ProtocolPreference, params: &[u8]) -> Result<Peer, Fault> {
    let discover = if *preference == ProtocolPreference::Legacy { None } else { probe(mux).await? };
    if modern || *preference == ProtocolPreference::Modern {
        return match discover {
            Some(_) => Ok(Peer { legacy: None, modern: discover, asked: true }),
            None => Err(garbage(format!("the server does not speak {MODERN}, which its registration demands"))),
        };
    }
    match initialize(mux, params).await {
        Ok(legacy) => Ok(Peer { legacy: Some(legacy), modern: discover, asked: true }),
        Err(_) if discover.is_some() => Ok(Peer { legacy: None, modern: discover, asked: true }),
        Err(fault) => Err(fault),
    }
}

async fn probe(mux: &Mux) -> Result<Option<Bytes>, Fault> {
    let request = peer::modern_request("mcpg-discover", "server/discover", "{}");
    match tokio::time::timeout(PROBE, ask(mux, request)).await {
        Err(_) => Ok(None),
        Ok(Err(fault)) if fault.kind == Kind::Garbage => Ok(None),
        Ok(Err(fault)) => Err(fault),
        Ok(Ok(answer)) => read_probe(&answer).modern(),
    }
}

/// Opens the legacy session over a fresh channel.
pub async fn initialize(mux: &Mux, params: &[u8]) -> Result<Legacy, Fault> {
    let request = message::call(Some(b"\"mcpg-initialize\""), "initialize", params);
    let answer = ask(mux, request).await?;
    if answer.shape() == Shape::Error {
        return Err(peer::declined(&answer));
    }
    let legacy = read_initialize(answer.body().unwrap_or_default()).map_err(garbage)?;
    mux.notify(message::call(None, "notifications/initialized", b"{}")).await?;
    Ok(legacy)
}

/// A request of the gateway's own, which is no use of the channel.
pub async fn ask(mux: &Mux, request: Bytes) -> Result<Message, Fault> {
    let mut call = mux.call(request, GATEWAY).await?;
    call.wait_at_rest();
    read(call).await
}

/// The answer; notifications on the way are passed over.
async fn read(mut call: Call) -> Result<Message, Fault> {
    while let Some(event) = call.next().await {
        if let Event::Response(bytes) = event? {
            return read_message(bytes);
        }
    }
    Err(Fault::upstream(Kind::Dropped, Retry::MaybeSent, "the server ended before it answered"))
}
