//! ENGINE: the servers behind the gateway. One [`Upstream`] for each registered server holds its transport, what was learned
//! of the protocol it speaks, and the session that the gateway keeps with it for its own questions.

pub mod http;
pub mod mux;
pub mod peer;
pub mod pipe;
pub mod session;
pub mod wire;

use std::sync::Arc;

use arc_swap::ArcSwapOption;
use bytes::Bytes;

use crate::fault::{Fault, Kind, Retry};
use crate::net::Outbound;
use crate::protocol::era::{Era, MODERN};
use crate::protocol::message::{self, Message, Shape};
use crate::registry::model::{ProtocolPreference, Server, TransportKind};
use http::{Content, HttpServer, Limits, Outgoing, garbage, mirror};
use peer::{Legacy, Peer, Probe};
use session::{HttpSession, Opening};

/// The key under which the gateway's own requests choose a replica.
const SELF: u64 = 0;

/// A registered server at run time.
pub struct Upstream {
    /// What was registered.
    pub server: Arc<Server>,
    /// How it is reached.
    pub transport: Transport,
    peer: ArcSwapOption<Peer>,
    /// Held while the server is asked what it speaks, so that it is asked once.
    learning: tokio::sync::Mutex<()>,
    /// The gateway's own legacy session.
    own: tokio::sync::Mutex<Option<Arc<HttpSession>>>,
}

/// How a server is reached.
pub enum Transport {
    /// Streamable HTTP.
    Http(HttpServer),
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
    pub fn new(
        server: Arc<Server>,
        outbound: &Arc<Outbound>,
        limits: Limits,
        previous: Option<&Self>,
    ) -> Result<Self, Fault> {
        let transport = match server.spec.transport {
            TransportKind::StreamableHttp => {
                let before = previous.map(|previous| match &previous.transport {
                    Transport::Http(http) => http,
                });
                Transport::Http(HttpServer::new(&server, outbound, limits, before)?)
            }
            TransportKind::Sse | TransportKind::Stdio => {
                return Err(Fault::gateway(Kind::Setup, "this transport is not built in yet"));
            }
        };
        let same = previous.filter(|previous| {
            let (old, new) = (&previous.server.spec, &server.spec);
            (&old.replicas, &old.command, &old.protocol) == (&new.replicas, &new.command, &new.protocol)
        });
        let peer = ArcSwapOption::new(same.and_then(|previous| previous.peer.load_full()));
        Ok(Self { server, transport, peer, learning: tokio::sync::Mutex::default(), own: tokio::sync::Mutex::default() })
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
    }

    /// What it speaks: remembered, or found out now.
    pub async fn peer(&self) -> Result<Arc<Peer>, Fault> {
        if let Some(peer) = self.peer.load_full() {
            return Ok(peer);
        }
        let _one = self.learning.lock().await;
        if let Some(peer) = self.peer.load_full() {
            return Ok(peer);
        }
        let peer = Arc::new(self.ask_what_it_speaks().await?);
        self.peer.store(Some(peer.clone()));
        Ok(peer)
    }

    async fn ask_what_it_speaks(&self) -> Result<Peer, Fault> {
        let preference = &self.server.spec.protocol;
        let modern = if *preference == ProtocolPreference::Legacy { None } else { self.probe_modern().await? };
        if *preference == ProtocolPreference::Modern {
            return match modern {
                Some(_) => Ok(Peer { legacy: None, modern }),
                None => Err(garbage(format!("the server does not speak {MODERN}, which its registration demands"))),
            };
        }
        match self.probe_legacy().await {
            Ok(legacy) => Ok(Peer { legacy: Some(legacy), modern }),
            Err(_) if modern.is_some() => Ok(Peer { legacy: None, modern }),
            Err(fault) => Err(fault),
        }
    }

    async fn probe_modern(&self) -> Result<Option<Bytes>, Fault> {
        let message = peer::modern_request("mcpg-discover", "server/discover", "{}");
        let Transport::Http(server) = &self.transport;
        let outgoing = Outgoing {
            message,
            version: Some(MODERN),
            session: None,
            headers: mirror(Era::Modern, "server/discover", None),
        };
        let answer = match server.post(SELF, true, &outgoing).await {
            Ok(answer) => server.response(answer).await,
            Err(fault) => Err(fault),
        };
        let probe = match answer {
            Ok(message) => peer::read_probe(&message),
            // Anything that came back as an answer, however odd, is a server that does not know the question.
            Err(fault) => match fault.kind {
                Kind::Garbage => Probe::Legacy,
                Kind::Status(status) if status < 500 && status != 429 => Probe::Legacy,
                _ => return Err(fault),
            },
        };
        match probe {
            Probe::Modern(result) => Ok(Some(result)),
            Probe::Legacy => Ok(None),
            Probe::Strange(versions) => {
                Err(garbage(format!("the server speaks only {versions}, which this gateway does not")))
            }
        }
    }

    async fn probe_legacy(&self) -> Result<Legacy, Fault> {
        let session = self.own_session().await?;
        Ok(session.legacy.clone())
    }

    /// The session that the gateway keeps with the server for its own questions and for modern clients; opened when there
    /// is none.
    pub async fn own_session(&self) -> Result<Arc<HttpSession>, Fault> {
        let Transport::Http(server) = &self.transport;
        let mut own = self.own.lock().await;
        if let Some(session) = &*own {
            return Ok(session.clone());
        }
        let session = match HttpSession::open(server, SELF, peer::initialize_params("{}").as_bytes()).await? {
            Opening::Open(session) => Arc::from(session),
            Opening::Declined(error) => {
                let text = error.text("message").unwrap_or_default().into_owned();
                return Err(Fault::upstream(Kind::Garbage, Retry::NotSent, format!("the server declines: {text}")));
            }
        };
        session.confirm(server).await?;
        *own = Some(session.clone());
        Ok(session)
    }

    /// Drops the gateway's own session if it is still this one: the server does not know it any more.
    pub async fn lose_own_session(&self, lost: &Arc<HttpSession>) {
        let mut own = self.own.lock().await;
        if own.as_ref().is_some_and(|session| Arc::ptr_eq(session, lost)) {
            *own = None;
        }
    }

    /// A question of the gateway itself, in the newest era the server speaks. `params` is a JSON object without `_meta`.
    pub async fn ask(&self, method: &str, params: &str) -> Result<Told, Fault> {
        let Transport::Http(server) = &self.transport;
        let response = match self.peer().await?.era_for(Era::Modern) {
            Era::Modern => {
                let message = peer::modern_request(&format!("mcpg-{method}"), method, params);
                let outgoing =
                    Outgoing { message, version: Some(MODERN), session: None, headers: mirror(Era::Modern, method, None) };
                server.response(server.post(SELF, true, &outgoing).await?).await?
            }
            Era::Legacy => self.ask_in_session(server, method, params).await?,
        };
        Ok(match response.shape() {
            Shape::Error => Told::Error(response),
            _ => Told::Result(response.body().map(Bytes::copy_from_slice).unwrap_or_default()),
        })
    }

    async fn ask_in_session(&self, server: &HttpServer, method: &str, params: &str) -> Result<Message, Fault> {
        let mut again = true;
        loop {
            let session = self.own_session().await?;
            let id = session.number().to_string();
            let message = message::call(Some(id.as_bytes()), method, params.as_bytes());
            let answer = session.post(server, message, Vec::new()).await;
            let lost = match &answer {
                Ok(answer) => answer.status.as_u16() == 404,
                Err(fault) => fault.kind == Kind::Status(404),
            };
            if lost && again {
                // The server forgot the session, perhaps in a restart; nothing was done with the request.
                self.lose_own_session(&session).await;
                again = false;
                continue;
            }
            return server.response(answer?).await;
        }
    }

    /// Ends what the gateway holds with the server.
    pub async fn close(&self) {
        let Transport::Http(server) = &self.transport;
        if let Some(session) = self.own.lock().await.take() {
            session.close(server).await;
        }
    }
}

/// Whether this content is a stream.
pub fn is_stream(content: &Content) -> bool {
    matches!(content, Content::Events(_))
}
