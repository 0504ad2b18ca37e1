//! The way to a server, apart from its description: a change of title, tags or timeouts makes a new [`Upstream`] on the same
//! way, with its connections, sessions and children. A change of how the server is reached makes a new way; calls that began
//! on the old one finish there before it is closed, and a closed way opens nothing any more.

use std::ops::Deref;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use arc_swap::ArcSwapOption;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tokio_util::task::task_tracker::TaskTrackerToken;

use super::own::OwnSessions;
use super::peer::Peer;
use super::{Ground, Transport, Upstream};
use crate::fault::{Fault, Kind};
use crate::registry::model::{Server, ServerSpec};

/// How a server is reached, what was learned of it, and what is held with it.
pub struct Way {
    /// The transport.
    pub transport: Transport,
    /// What it stands on.
    pub ground: Arc<Ground>,
    pub(super) peer: ArcSwapOption<Peer>,
    /// Held while the server is asked what it speaks, so that it is asked once.
    pub(super) learning: tokio::sync::Mutex<()>,
    /// When it was last looked into whether what is remembered still holds.
    pub(super) doubted: Mutex<Option<Instant>>,
    /// The gateway's own legacy sessions.
    pub(super) own: OwnSessions,
    /// Calls under way, and snapshots from which a call may still begin.
    users: TaskTracker,
    closed: CancellationToken,
}

/// Keeps a way open.
#[derive(Debug, Clone)]
pub struct User(#[expect(dead_code, reason = "its drop is what counts")] TaskTrackerToken);

impl Way {
    pub(super) fn new(
        transport: Transport,
        ground: Arc<Ground>,
        peer: Option<Arc<Peer>>,
        replicas: usize,
    ) -> Arc<Self> {
        let (learning, doubted) = Default::default();
        let own = OwnSessions::new(replicas);
        let peer = ArcSwapOption::new(peer);
        let (users, closed) = (TaskTracker::new(), CancellationToken::new());
        Arc::new(Self { transport, ground, peer, learning, doubted, own, users, closed })
    }

    /// Keeps it open, for a call or for a snapshot from which calls begin, until dropped.
    pub fn user(&self) -> User {
        User(self.users.token())
    }

    /// Waits until it is closed: for what lasts and is no call.
    pub fn closed(&self) -> impl Future<Output = ()> + Send + 'static {
        self.closed.clone().cancelled_owned()
    }

    /// Fails once it is closed.
    pub(super) fn check_open(&self) -> Result<(), Fault> {
        if self.closed.is_cancelled() {
            return Err(Fault::gateway(Kind::Unreachable, "the server was changed or removed just now; try again"));
        }
        Ok(())
    }
}

impl Deref for Upstream {
    type Target = Way;

    fn deref(&self) -> &Way {
        &self.way
    }
}

impl Upstream {
    /// The server under a new description that reaches it alike: on the same way.
    #[must_use]
    pub fn redescribed(&self, server: Arc<Server>) -> Self {
        match &self.transport {
            Transport::Http(http) => http.retune(&server.spec),
            Transport::Sse(sse) => sse.http().retune(&server.spec),
            Transport::Stdio(_) => {}
        }
        Self { server, way: self.way.clone() }
    }

    /// Whether both stand on one way.
    pub fn shares_way(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.way, &other.way)
    }

    /// Closes the way when the calls on it have finished, at the latest when the longest that one may take is over or `hurry`
    /// is cancelled.
    pub async fn retire(&self, hurry: CancellationToken) {
        self.users.close();
        let longest = Duration::from_millis(self.server.spec.timeouts.total_ms);
        tokio::select! {
            _ = tokio::time::timeout(longest, self.users.wait()) => {}
            () = hurry.cancelled() => {}
        }
        self.close().await;
    }

    /// Ends what the gateway holds with the server.
    pub async fn close(&self) {
        self.closed.cancel();
        self.forget_wishes();
        match &self.transport {
            Transport::Http(server) => {
                for session in self.own.lose_all() {
                    session.close(server).await;
                }
            }
            Transport::Stdio(server) => server.close(&self.ground).await,
            Transport::Sse(server) => server.close(),
        }
    }
}

/// Whether both descriptions reach a server in the same way: everything but names, audience, timeouts and policy.
pub fn reach_alike(one: &ServerSpec, other: &ServerSpec) -> bool {
    let way = |spec: &ServerSpec| {
        let ServerSpec { transport, replicas, command, sharing, headers, env, auth, discovery_auth, protocol, .. } =
            spec.clone();
        (transport, replicas, command, sharing, (headers, env), (auth, discovery_auth), protocol)
    };
    way(one) == way(other)
}
