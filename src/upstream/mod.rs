//! ENGINE: the servers behind the gateway. One [`Upstream`] for each registered server holds its transport, what was learned
//! of the protocol it speaks, and the session that the gateway keeps with it for its own questions.

pub mod channel;
pub mod check;
pub mod credentials;
pub mod events;
pub mod http;
pub mod legacy_sse;
pub mod mux;
pub mod notices;
mod own;
pub mod peer;
pub mod pipe;
pub mod session;
pub mod stdio;
pub mod trip;
mod walk;
pub mod way;
pub mod wire;

use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::sync::{Notify, broadcast};
use tokio_util::task::TaskTracker;

use crate::access::Caller;
use crate::balance::{InFlight, caller_key};
use crate::fault::{Fault, Kind, Retry};
use crate::json;
use crate::net::Outbound;
use crate::protocol::era::{Era, MODERN};
use crate::protocol::message::{self, Message, Shape};
use crate::registry::model::{ProtocolPreference, Server, TransportKind};
use channel::{StdioServer, Who};
use credentials::Credentials;
use http::{HttpServer, Limits, Outgoing, garbage};
use legacy_sse::SseServer;
use mux::Mux;
pub use notices::Notice;
use peer::{Legacy, Peer};
use stdio::pool::{Link, Pool};
use trip::Trip;
use way::Way;

/// The key under which the gateway's own requests choose a replica.
const SELF: u64 = 0;

/// Doubts about what a server speaks are looked into at most this often: a client must not be able to make the gateway ask
/// again and again by sending what servers refuse.
const DOUBT: Duration = Duration::from_secs(5);

/// What all servers stand on.
pub struct Ground {
    /// Opens connections.
    pub outbound: Arc<Outbound>,
    /// Bounds on what comes back.
    pub limits: Limits,
    /// What is shown to servers.
    pub credentials: Credentials,
    /// Stdio children.
    pub children: Pool<Peer>,
    /// What servers say by themselves.
    pub notices: broadcast::Sender<Notice>,
    /// Tells whoever keeps memories that something was learned of a server, or forgotten.
    pub learned: Notify,
    /// Owns what runs in the background.
    pub tasks: TaskTracker,
}

/// A registered server at run time.
pub struct Upstream {
    /// What was registered.
    pub server: Arc<Server>,
    way: Arc<Way>,
}

/// How a server is reached.
pub enum Transport {
    /// Streamable HTTP.
    Http(HttpServer),
    /// A child process.
    Stdio(StdioServer),
    /// HTTP+SSE of 2024-11-05.
    Sse(SseServer),
}

/// A way to a server that several callers share, with its handshake done.
pub struct Channel {
    /// The way.
    pub mux: Mux,
    /// What the handshake told.
    pub peer: Peer,
    /// The era spoken on it.
    pub era: Era,
    /// The place on the replica behind it, where there are replicas: to be told how the call ends.
    pub attempt: Option<InFlight>,
    link: Option<Arc<Link<Peer>>>,
}

/// What the gateway's own request came back with.
pub enum Told {
    /// The result, as written.
    Result(Bytes),
    /// The server's error.
    Error(Message),
}

impl Upstream {
    /// Sets it up; nothing is contacted or started. What `previous` knew of the same addresses is kept.
    pub fn new(server: Arc<Server>, ground: &Arc<Ground>, previous: Option<&Self>) -> Result<Self, Fault> {
        let before = previous.and_then(|previous| match &previous.transport {
            Transport::Http(http) => Some(http),
            Transport::Sse(sse) => Some(sse.http()),
            Transport::Stdio(_) => None,
        });
        let transport = match server.spec.transport {
            TransportKind::StreamableHttp => Transport::Http(HttpServer::new(&server, ground, before)?),
            TransportKind::Stdio => Transport::Stdio(StdioServer::new(server.clone())),
            TransportKind::Sse => {
                let http = HttpServer::new(&server, ground, before)?;
                Transport::Sse(SseServer::new(server.clone(), http))
            }
        };
        let same = previous.filter(|previous| {
            let (old, new) = (&previous.server.spec, &server.spec);
            (&old.replicas, &old.command, &old.protocol) == (&new.replicas, &new.command, &new.protocol)
        });
        let peer = same.and_then(|previous| previous.peer.load_full());
        let replicas = server.spec.replicas.len();
        Ok(Self { server, way: Way::new(transport, ground.clone(), peer, replicas) })
    }

    /// What is remembered of the protocol it speaks.
    pub fn known(&self) -> Option<Arc<Peer>> {
        self.peer.load_full()
    }

    /// Takes over what an earlier process learned.
    pub fn remember(&self, peer: Peer) {
        self.peer.store(Some(Arc::new(peer)));
    }

    /// Forgets what it speaks, because an answer showed that the memory is wrong.
    pub fn forget(&self) {
        self.peer.store(None);
        self.ground.learned.notify_one();
    }

    fn learned(&self, peer: &Arc<Peer>) {
        self.peer.store(Some(peer.clone()));
        self.ground.learned.notify_one();
    }

    /// Asks anew what it speaks, while what an earlier process learned goes on being believed: capabilities may have changed
    /// since. Returns whether it speaks of itself differently now; nothing changes when it cannot be asked.
    pub async fn confirm(&self) -> bool {
        if let (Transport::Http(server), Some(before)) = (&self.transport, self.known())
            && let Ok(now) = self.ask_what_it_speaks(server, None).await
        {
            let asked = now.asked || before.asked;
            let legacy = now.legacy.or_else(|| before.legacy.clone().filter(|_| !now.asked));
            let now = Arc::new(Peer { legacy, modern: now.modern, asked });
            // Whoever found out more in the meantime knows better.
            let held = self.peer.compare_and_swap(&before, Some(now));
            if held.as_ref().is_some_and(|held| Arc::ptr_eq(held, &before)) {
                self.ground.learned.notify_one();
                return self.known().is_none_or(|known| *known != *before);
            }
        }
        false
    }

    /// An answer looked as if the server did not speak what `doubted` says. Finds out; returns what it speaks if a client of
    /// era `client` must be served otherwise than before.
    pub async fn relearn(&self, doubted: &Arc<Peer>, client: Era) -> Option<Arc<Peer>> {
        if !self.give_up(doubted) {
            return None;
        }
        let peer = self.peer_for(client, None).await.ok()?;
        peer.differs_for(client, doubted).then_some(peer)
    }

    /// Forgets what is doubted. `false` if it was looked into a moment ago and found true; whoever comes while somebody else
    /// finds out waits for what comes of it.
    fn give_up(&self, doubted: &Arc<Peer>) -> bool {
        let mut last = self.doubted.lock().unwrap_or_else(PoisonError::into_inner);
        if self.known().is_some_and(|known| Arc::ptr_eq(&known, doubted)) {
            if last.is_some_and(|last| last.elapsed() < DOUBT) {
                return false;
            }
            *last = Some(Instant::now());
            self.forget();
        }
        true
    }

    /// What it speaks: remembered, or found out now.
    pub async fn peer(&self) -> Result<Arc<Peer>, Fault> {
        self.peer_as(None).await
    }

    /// The same; a server that lets nobody in but people is asked in the name of this one.
    async fn peer_as(&self, whose: Option<&Caller>) -> Result<Arc<Peer>, Fault> {
        match self.peer.load_full() {
            Some(peer) => Ok(peer),
            // Boxed, as all that is seldom: a call's future is as large as the largest thing that it might wait for.
            None => Box::pin(self.learn(whose)).await,
        }
    }

    async fn learn(&self, whose: Option<&Caller>) -> Result<Arc<Peer>, Fault> {
        let _one = self.learning.lock().await;
        if let Some(peer) = self.peer.load_full() {
            return Ok(peer);
        }
        self.check_open()?;
        let peer = Arc::new(match &self.transport {
            Transport::Http(server) => match self.ask_what_it_speaks(server, None).await {
                Err(fault) if fault.kind == Kind::Refused && whose.is_some() && server.is_for_people_only() => {
                    self.ask_what_it_speaks(server, whose).await?.in_common()
                }
                asked => asked?,
            },
            Transport::Stdio(server) => server.link(&self.ground, &Who::default(), false).await?.handshake.clone(),
            Transport::Sse(server) => {
                server.link(&self.ground, &Trip::default(), &Who::default()).await?.0.peer.clone()
            }
        });
        self.learned(&peer);
        Ok(peer)
    }

    /// What it speaks, known well enough for a client of this era, in whose name it may be asked.
    pub async fn peer_for(&self, client: Era, whose: Option<&Caller>) -> Result<Arc<Peer>, Fault> {
        let peer = self.peer_as(whose).await?;
        let (Era::Legacy, false, Transport::Http(server)) = (client, peer.asked, &self.transport) else {
            return Ok(peer);
        };
        Box::pin(self.learn_legacy(server, &peer, whose)).await
    }

    async fn learn_legacy(&self, server: &HttpServer, peer: &Peer, whose: Option<&Caller>) -> Result<Arc<Peer>, Fault> {
        let _one = self.learning.lock().await;
        if let Some(peer) = self.peer.load_full().filter(|peer| peer.asked) {
            return Ok(peer);
        }
        let whose = whose.filter(|_| server.is_for_people_only());
        let mut legacy = self.probe_legacy(server, whose).await.ok();
        if whose.is_some() {
            legacy = legacy.map(Legacy::in_common);
        }
        let peer = Arc::new(Peer { legacy, modern: peer.modern.clone(), asked: true });
        self.learned(&peer);
        Ok(peer)
    }

    async fn ask_what_it_speaks(&self, server: &HttpServer, whose: Option<&Caller>) -> Result<Peer, Fault> {
        let preference = &self.server.spec.protocol;
        let or_handshake = *preference != ProtocolPreference::Modern;
        let asked = match preference {
            ProtocolPreference::Legacy => Ok(None),
            ProtocolPreference::Auto | ProtocolPreference::Modern => probe_modern(server, or_handshake, whose).await,
        };
        let modern = match asked {
            // It broke over a question that it does not know. What is known of it is not given up for that.
            Err(fault) if or_handshake && stumbled(&fault) && self.known().is_none() => {
                let legacy = self.probe_legacy(server, whose).await.map_err(|other| Fault {
                    detail: format!("to server/discover: {fault}; to initialize: {other}"),
                    ..fault
                })?;
                return Ok(Peer { legacy: Some(legacy), modern: None, asked: true });
            }
            asked => asked?,
        };
        if !or_handshake {
            return match modern {
                Some(_) => Ok(Peer { legacy: None, modern, asked: true }),
                None => Err(garbage(format!("the server does not speak {MODERN}, which its registration demands"))),
            };
        }
        if modern.as_deref().is_some_and(|discover| !Peer::names_legacy(discover)) {
            return Ok(Peer { legacy: None, modern, asked: false });
        }
        match self.probe_legacy(server, whose).await {
            Ok(legacy) => Ok(Peer { legacy: Some(legacy), modern, asked: true }),
            Err(_) if modern.is_some() => Ok(Peer { legacy: None, modern, asked: true }),
            Err(fault) => Err(fault),
        }
    }

    async fn probe_legacy(&self, server: &HttpServer, whose: Option<&Caller>) -> Result<Legacy, Fault> {
        if let Some(caller) = whose {
            let (trip, order) = (Trip::default(), server.order(caller_key(caller.principal()))?);
            let opening = server.walk(&trip, order, true, |place| self.own_session_with(server, &trip, whose, place));
            return Ok(Box::pin(opening).await?.0.legacy.clone());
        }
        // What an older session said may be what is to be found wrong.
        self.own.lose_gateways();
        Ok(self.own_session(server).await?.legacy.clone())
    }

    /// The channel that serves `who`, for a client of era `client`; none for Streamable HTTP, which has no such thing.
    pub async fn channel(&self, trip: &Trip, who: &Who, client: Era) -> Result<Option<Channel>, Fault> {
        self.check_open()?;
        Ok(Some(match &self.transport {
            Transport::Http(_) => return Ok(None),
            Transport::Stdio(server) => {
                let peer = self.peer().await?;
                let second = peer.era_for(client) == Era::Modern && peer.legacy.is_some();
                let link = server.link(&self.ground, who, second).await?;
                // What this child was begun with, whatever an earlier one said.
                let era = if second || link.handshake.legacy.is_none() { Era::Modern } else { Era::Legacy };
                Channel { mux: link.mux.clone(), peer: link.handshake.clone(), era, attempt: None, link: Some(link) }
            }
            Transport::Sse(server) => {
                let (link, attempt) = server.link(&self.ground, trip, who).await?;
                let (mux, peer) = (link.mux.clone(), link.peer.clone());
                Channel { mux, peer, era: Era::Legacy, attempt: Some(attempt), link: None }
            }
        }))
    }

    /// Passes a notification of a legacy client on to the child or the stream that serves it, if there is one now.
    pub async fn tell(&self, who: &Who, notification: &Message) {
        match &self.transport {
            Transport::Http(_) => {}
            Transport::Stdio(server) => server.tell(&self.ground, who, notification).await,
            Transport::Sse(server) => server.tell(who, notification).await,
        }
    }

    /// Closes what belongs to one session of a client alone.
    pub async fn release(&self, who: &Who) {
        match &self.transport {
            Transport::Http(_) => {}
            Transport::Stdio(server) => server.release(&self.ground, who).await,
            Transport::Sse(server) => server.release(who),
        }
        // What was the session's own is gone by now; what it shared goes on without it.
        if let Some((session, _)) = &who.session {
            self.withdraw(session).await;
        }
    }

    /// Whether it is a program that nobody uses and that is not running: it is not started to be asked something.
    pub fn sleeps(&self) -> bool {
        matches!(self.transport, Transport::Stdio(_)) && !self.ground.children.runs(self.server.id)
    }

    /// A question of the gateway itself, in the newest era the server speaks. `params` is a JSON object without `_meta`.
    pub async fn ask(&self, method: &str, params: &str) -> Result<Told, Fault> {
        let peer = self.peer().await?;
        let response = match &self.transport {
            Transport::Http(server) => {
                let era = peer.era_for(Era::Modern);
                let told = self.ask_over_http(server, era, method, params).await;
                let came = told.as_ref().map(|(status, message)| (*status, message.error_code()));
                match if peer::contradicts(era, came) { self.relearn(&peer, Era::Modern).await } else { None } {
                    Some(now) => self.ask_over_http(server, now.era_for(Era::Modern), method, params).await?.1,
                    None => told?.1,
                }
            }
            Transport::Stdio(_) | Transport::Sse(_) => self.ask_on_channel(method, params).await?,
        };
        Ok(match response.shape() {
            Shape::Error => Told::Error(response),
            _ => Told::Result(response.body().map(Bytes::copy_from_slice).unwrap_or_default()),
        })
    }

    async fn ask_over_http(
        &self,
        server: &HttpServer,
        era: Era,
        method: &str,
        params: &str,
    ) -> Result<(u16, Message), Fault> {
        if era == Era::Legacy {
            return self.ask_in_session(server, method, params).await;
        }
        let outgoing = Outgoing::modern(&format!("mcpg-{method}"), method, params);
        let answer = server.post(&Trip::default(), SELF, true, &outgoing).await?;
        Ok((answer.status.as_u16(), server.response(answer).await?))
    }

    async fn ask_on_channel(&self, method: &str, params: &str) -> Result<Message, Fault> {
        // A server that speaks both eras is asked where it runs: a question alone starts no second child.
        let client = match &self.transport {
            Transport::Stdio(server) if !server.prefers_second(&self.ground) => Era::Legacy,
            _ => Era::Modern,
        };
        let Some(channel) = self.channel(&Trip::default(), &Who::default(), client).await? else {
            return Err(Fault::gateway(Kind::Setup, "the server has no channel"));
        };
        let id = format!("mcpg-{method}");
        let message = match channel.era {
            Era::Modern => peer::modern_request(&id, method, params),
            Era::Legacy => message::call(Some(json::quote(&id).as_bytes()), method, params.as_bytes()),
        };
        let patience = Duration::from_millis(self.server.spec.timeouts.idle_ms);
        let asked = tokio::time::timeout(patience, channel::ask(&channel.mux, message)).await.unwrap_or_else(|_| {
            let text = format!("no answer to {method} within {} ms", patience.as_millis());
            Err(Fault::upstream(Kind::Timeout, Retry::MaybeSent, text))
        });
        if let Some(mut attempt) = channel.attempt {
            attempt.report(asked.as_ref().map(drop), Instant::now());
        }
        asked
    }

    async fn ask_in_session(&self, server: &HttpServer, method: &str, params: &str) -> Result<(u16, Message), Fault> {
        let mut again = true;
        loop {
            let session = self.own_session(server).await?;
            let id = session.number().to_string();
            let message = message::call(Some(id.as_bytes()), method, params.as_bytes());
            let answer = session.post(&Trip::default(), server, message, Vec::new()).await;
            if again && session.is_over(&answer, server) {
                self.lose_own_session(&session);
                again = false;
                continue;
            }
            let answer = answer?;
            return Ok((answer.status.as_u16(), server.response(answer).await?));
        }
    }
}

/// Asks whether it is modern. Where a handshake is to come if it is not, the breaker hears nothing of an answer, however odd,
/// that says no more than that.
async fn probe_modern(server: &HttpServer, or_handshake: bool, whose: Option<&Caller>) -> Result<Option<Bytes>, Fault> {
    let outgoing = Outgoing { whose: whose.cloned(), ..Outgoing::modern("mcpg-discover", "server/discover", "{}") };
    let beside_the_point = |fault: &Fault| or_handshake && (no_such_question(fault) || stumbled(fault));
    match server.sound(SELF, &outgoing, beside_the_point).await {
        Ok(message) => peer::read_probe(&message).modern(),
        Err(fault) if no_such_question(&fault) => Ok(None),
        Err(fault) => Err(fault),
    }
}

/// Anything that came back as an answer, however odd, is a server that does not know the question.
fn no_such_question(fault: &Fault) -> bool {
    match fault.kind {
        Kind::Garbage => true,
        Kind::Status(status) => status < 500 && status != 429,
        _ => false,
    }
}

/// Whether the server's own code broke or gave up, as some do over a method that they do not know. Other failures are those of
/// what stands in front of a server.
fn stumbled(fault: &Fault) -> bool {
    matches!(fault.kind, Kind::Status(500 | 501))
}
