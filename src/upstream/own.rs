//! The legacy sessions that the gateway keeps with a server itself: one with each replica, opened when it is first wanted. Clients
//! without sessions, those of the modern era, share them, in the order that the policy gives for each call; the gateway's own
//! questions stay with one of them, because a list is read page by page.

use std::sync::Arc;

use arc_swap::ArcSwapOption;

use crate::fault::{Fault, Kind, Retry};
use crate::upstream::channel::CAPABILITIES;
use crate::upstream::http::HttpServer;
use crate::upstream::session::{HttpSession, Opening};
use crate::upstream::trip::Trip;
use crate::upstream::{SELF, Upstream, peer};

/// One place for each replica.
pub(super) struct OwnSessions(Box<[Place]>);

#[derive(Default)]
struct Place {
    open: ArcSwapOption<HttpSession>,
    /// Held while one is opened, so that one is.
    opening: tokio::sync::Mutex<()>,
}

impl OwnSessions {
    /// None is opened.
    pub(super) fn new(replicas: usize) -> Self {
        Self((0..replicas).map(|_| Place::default()).collect())
    }

    /// Forgets all of them; what was open is returned.
    pub(super) fn lose_all(&self) -> Vec<Arc<HttpSession>> {
        self.0.iter().filter_map(|place| place.open.swap(None)).collect()
    }

    /// Forgets the one with this replica.
    pub(super) fn leave(&self, replica: usize) {
        if let Some(place) = self.0.get(replica) {
            place.open.store(None);
        }
    }
}

impl Upstream {
    /// The session for the gateway's own questions: one that is open with a replica in order, else a new one.
    pub async fn own_session(&self, server: &HttpServer) -> Result<Arc<HttpSession>, Fault> {
        let order = server.order(SELF)?;
        let open = order.clone().filter_map(|replica| self.own.0.get(replica)?.open.load_full());
        // Not the policy's choice but always the same.
        if let Some(session) = open.min_by_key(|session| session.replica) {
            return Ok(session);
        }
        let mut last = None;
        for replica in order {
            match Box::pin(self.own_session_at(server, &Trip::default(), replica)).await {
                Ok(session) => return Ok(session),
                Err(fault) => {
                    let next = fault.may_go_on(true);
                    last = Some(fault);
                    if !next {
                        break;
                    }
                }
            }
        }
        Err(last.unwrap_or_else(|| server.balance().none_left(std::time::Instant::now())))
    }

    /// The session with this replica.
    pub async fn own_session_at(
        &self,
        server: &HttpServer,
        trip: &Trip,
        replica: usize,
    ) -> Result<Arc<HttpSession>, Fault> {
        let gone = || Fault::gateway(Kind::Setup, "the replica is gone");
        let place = self.own.0.get(replica).ok_or_else(gone)?;
        if let Some(session) = place.open.load_full() {
            return Ok(session);
        }
        let _one = place.opening.lock().await;
        if let Some(session) = place.open.load_full() {
            return Ok(session);
        }
        self.check_open()?;
        let session = Box::pin(open(server, &trip.beside(), replica)).await.inspect_err(|_| trip.tries())?;
        place.open.store(Some(session.clone()));
        Ok(session)
    }

    /// Drops this one of the gateway's own sessions: the server does not know it any more.
    pub fn lose_own_session(&self, lost: &Arc<HttpSession>) {
        if let Some(place) = self.own.0.get(lost.replica) {
            let held = place.open.load();
            if held.as_ref().is_some_and(|session| Arc::ptr_eq(session, lost)) {
                place.open.compare_and_swap(&*held, None);
            }
        }
    }
}

async fn open(server: &HttpServer, trip: &Trip, replica: usize) -> Result<Arc<HttpSession>, Fault> {
    let params = peer::initialize_params(CAPABILITIES);
    let session: Arc<HttpSession> = match HttpSession::open_at(server, trip, replica, params.as_bytes()).await? {
        Opening::Open(session) => Arc::from(session),
        Opening::Declined(error) => {
            let text = error.text("message").unwrap_or_default().into_owned();
            return Err(Fault::upstream(Kind::Garbage, Retry::NotSent, format!("the server declines: {text}")));
        }
    };
    session.confirm(server).await?;
    Ok(session)
}
