//! The legacy sessions that the gateway keeps with a server itself: one with each replica, opened when it is first wanted. Clients
//! without sessions, those of the modern era, share them, in the order that the policy gives for each call; the gateway's own
//! questions stay with one of them, because a list is read page by page.

use std::sync::Arc;

use arc_swap::ArcSwapOption;

use crate::balance::InFlight;
use crate::fault::{Fault, Kind};
use crate::upstream::channel::CAPABILITIES;
use crate::upstream::http::HttpServer;
use crate::upstream::session::HttpSession;
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

    fn open(&self, replica: usize) -> Option<Arc<HttpSession>> {
        self.0.get(replica)?.open.load_full()
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
        let open = order.clone().filter_map(|replica| self.own.open(replica));
        // Not the policy's choice but always the same.
        if let Some(session) = open.min_by_key(|session| session.replica) {
            return Ok(session);
        }
        let trip = Trip::default();
        Box::pin(server.walk(&trip, order, true, |place| self.own_session_with(server, &trip, place)))
            .await
            .map(|own| own.0)
    }

    /// The session with the replica on which this is a place, and the place.
    pub async fn own_session_with(
        &self,
        server: &HttpServer,
        trip: &Trip,
        place: InFlight,
    ) -> Result<(Arc<HttpSession>, InFlight), Fault> {
        let replica = place.index();
        if let Some(session) = self.own.open(replica) {
            return Ok((session, place));
        }
        // Opening takes places itself; whoever waits for it must hold none.
        drop(place);
        let session = Box::pin(self.open_own_session(server, trip, replica)).await?;
        Ok((session, Box::pin(server.place(&trip.beside(), replica)).await?))
    }

    async fn open_own_session(
        &self,
        server: &HttpServer,
        trip: &Trip,
        replica: usize,
    ) -> Result<Arc<HttpSession>, Fault> {
        let gone = || Fault::gateway(Kind::Setup, "the replica is gone");
        let place = self.own.0.get(replica).ok_or_else(gone)?;
        let _one = place.opening.lock().await;
        if let Some(session) = place.open.load_full() {
            return Ok(session);
        }
        self.check_open()?;
        let params = peer::initialize_params(CAPABILITIES);
        let opening = HttpSession::open_at(server, &trip.beside(), replica, params.as_bytes()).await?;
        let session = opening.session()?;
        session.confirm(server).await?;
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
