//! Active checks: the cheapest question that a replica must be able to answer, put to each replica of a server by itself. What
//! comes of it moves a replica in the order in which calls try them; breakers hear nothing of it and learn from calls only.

use std::time::{Duration, Instant};

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use http::Method;

use crate::balance::{ReplicaStatus, Replicas};
use crate::fault::Fault;
use crate::protocol::era::Era;
use crate::protocol::message::{self, Shape};
use crate::upstream::channel::CAPABILITIES;
use crate::upstream::http::{HttpServer, Outgoing, garbage};
use crate::upstream::peer::{self, read_initialize};
use crate::upstream::{Transport, Upstream};

impl Upstream {
    /// Every replica with what is known of it; empty for a child process.
    pub fn replicas(&self) -> Vec<ReplicaStatus> {
        self.balance().map(|balance| balance.status(Instant::now())).unwrap_or_default()
    }

    /// What is known of its replicas; none for a child process.
    pub fn balance(&self) -> Option<&Replicas> {
        self.http().map(HttpServer::balance)
    }

    /// How it is reached over HTTP; none for a child process.
    pub fn http(&self) -> Option<&HttpServer> {
        match &self.transport {
            Transport::Http(server) => Some(server),
            Transport::Sse(server) => Some(server.http()),
            Transport::Stdio(_) => None,
        }
    }

    /// Checks each replica, where there are several to choose from and it is known what they speak. A replica that has not
    /// answered within `patience` is not well.
    pub async fn check_replicas(&self, patience: Duration) {
        let Some(balance) = self.balance().filter(|balance| balance.len() > 1) else { return };
        let Some(peer) = self.known() else { return };
        let era = peer.era_for(Era::Modern);
        let mut checks: FuturesUnordered<_> =
            (0..balance.len()).map(|replica| check(&self.transport, replica, era, patience)).collect();
        while let Some((replica, found)) = checks.next().await {
            if let Err(reason) = &found {
                tracing::debug!(server = %self.server.spec.slug, replica, "a replica is not well: {reason}");
            }
            if found.is_err() {
                self.own.leave(replica);
            }
            balance.checked(replica, found, Instant::now());
        }
    }
}

/// What is wrong with a replica, if something is.
async fn check(to: &Transport, replica: usize, era: Era, patience: Duration) -> (usize, Result<(), String>) {
    let asking = async {
        match to {
            Transport::Http(server) => ask(server, replica, era).await,
            Transport::Sse(server) => server.check(replica).await,
            Transport::Stdio(_) => Ok(()),
        }
    };
    let found = match tokio::time::timeout(patience, asking).await {
        Ok(answer) => answer.map_err(|fault| fault.detail),
        Err(_) => Err(format!("no answer within {} ms", patience.as_millis())),
    };
    (replica, found)
}

async fn ask(server: &HttpServer, replica: usize, era: Era) -> Result<(), Fault> {
    let outgoing = match era {
        Era::Modern => Outgoing::modern("mcpg-check", "server/discover", "{}"),
        Era::Legacy => {
            let params = peer::initialize_params(CAPABILITIES);
            let message = message::call(Some(b"\"mcpg-check\""), "initialize", params.as_bytes());
            Outgoing { message, ..Outgoing::default() }
        }
    };
    let (response, session) = server.ask_one(replica, Method::POST, &outgoing).await?;
    let response = response.ok_or_else(|| garbage("an empty answer to a request"))?;
    let result = match response.shape() {
        Shape::Result => Ok(()),
        _ => Err(garbage(format!("it answers a check with: {}", response.text("message").unwrap_or_default()))),
    };
    if session.is_some() {
        // The session was for the question only.
        let version = read_initialize(response.body().unwrap_or_default()).ok().map(|legacy| legacy.version);
        let goodbye = Outgoing { version, session, ..Outgoing::default() };
        let _ = server.ask_one(replica, Method::DELETE, &goodbye).await;
    }
    result
}
