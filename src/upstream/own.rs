//! The legacy sessions that the gateway keeps with a server itself: one with each replica, opened when it is first wanted. Clients
//! without sessions, those of the modern era, share them as far as they come to the server with the same to show, in the order that the policy gives for each call; the gateway's own
//! questions stay with one of them, because a list is read page by page.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use ahash::AHashMap;
use arc_swap::ArcSwapOption;

use crate::access::Caller;
use crate::balance::InFlight;
use crate::fault::{Fault, Kind};
use crate::upstream::channel::CAPABILITIES;
use crate::upstream::credentials::Holder;
use crate::upstream::http::HttpServer;
use crate::upstream::session::HttpSession;
use crate::upstream::trip::Trip;
use crate::upstream::{SELF, Transport, Upstream, peer};

/// Most holders of sessions of their own with one server.
const MOST: usize = 1_000;

/// One place for each replica: for the gateway, and for everybody else who comes to the server with something else to show.
pub(super) struct OwnSessions {
    gateway: Places,
    others: Mutex<AHashMap<Holder, Used>>,
    uses: AtomicU64,
}

type Places = Arc<[Place]>;

/// Those of a holder, and when they were used last, in uses.
struct Used {
    places: Places,
    at: u64,
}

#[derive(Default)]
struct Place {
    open: ArcSwapOption<HttpSession>,
    /// Held while one is opened, so that one is.
    opening: tokio::sync::Mutex<()>,
}

fn places(replicas: usize) -> Places {
    (0..replicas).map(|_| Place::default()).collect()
}

impl OwnSessions {
    /// None is opened.
    pub(super) fn new(replicas: usize) -> Self {
        Self { gateway: places(replicas), others: Mutex::default(), uses: AtomicU64::new(0) }
    }

    fn lock(&self) -> MutexGuard<'_, AHashMap<Holder, Used>> {
        self.others.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Those of this holder, and those of whoever had to give way: who has not come for longest.
    fn of(&self, holder: &Holder) -> (Places, Option<Places>) {
        if *holder == Holder::Gateway {
            return (self.gateway.clone(), None);
        }
        let at = self.uses.fetch_add(1, Relaxed);
        let mut others = self.lock();
        if let Some(used) = others.get_mut(holder) {
            used.at = at;
            return (used.places.clone(), None);
        }
        let longest =
            (others.len() >= MOST).then(|| others.iter().min_by_key(|(_, used)| used.at).map(|(of, _)| of.clone()));
        let gone = longest.flatten().and_then(|longest| others.remove(&longest)).map(|used| used.places);
        let new = places(self.gateway.len());
        others.insert(holder.clone(), Used { places: new.clone(), at });
        (new, gone)
    }

    /// The session with a replica that is open for this holder.
    fn open(&self, holder: &Holder, replica: usize) -> Option<Arc<HttpSession>> {
        if *holder == Holder::Gateway {
            return self.gateway.get(replica)?.open.load_full();
        }
        let mut others = self.lock();
        let used = others.get_mut(holder)?;
        used.at = self.uses.fetch_add(1, Relaxed);
        used.places.get(replica)?.open.load_full()
    }

    fn all(&self) -> Vec<Places> {
        let others = self.lock();
        others.values().map(|used| used.places.clone()).chain([self.gateway.clone()]).collect()
    }

    /// Forgets the gateway's own; what was open is returned.
    pub(super) fn lose_gateways(&self) -> Vec<Arc<HttpSession>> {
        opened(&self.gateway)
    }

    /// Forgets all of them; what was open is returned.
    pub(super) fn lose_all(&self) -> Vec<Arc<HttpSession>> {
        let lost = self.all().iter().flat_map(opened).collect();
        self.lock().clear();
        lost
    }

    /// Forgets those with this replica.
    pub(super) fn leave(&self, replica: usize) {
        for places in self.all() {
            if let Some(place) = places.get(replica) {
                place.open.store(None);
            }
        }
    }
}

/// What was open of these, forgotten.
fn opened(places: &Places) -> Vec<Arc<HttpSession>> {
    places.iter().filter_map(|place| place.open.swap(None)).collect()
}

impl Upstream {
    /// The session for the gateway's own questions: one that is open with a replica in order, else a new one.
    pub async fn own_session(&self, server: &HttpServer) -> Result<Arc<HttpSession>, Fault> {
        let order = server.order(SELF)?;
        let open = order.clone().filter_map(|replica| self.own.open(&Holder::Gateway, replica));
        // Not the policy's choice but always the same.
        if let Some(session) = open.min_by_key(|session| session.replica) {
            return Ok(session);
        }
        let trip = Trip::default();
        Box::pin(server.walk(&trip, order, true, |place| self.own_session_with(server, &trip, None, place)))
            .await
            .map(|own| own.0)
    }

    /// The session with the replica on which this is a place, and the place: that of the gateway, or of whoever calls where they come
    /// with something of their own to show.
    pub async fn own_session_with(
        &self,
        server: &HttpServer,
        trip: &Trip,
        whose: Option<&Caller>,
        place: InFlight,
    ) -> Result<(Arc<HttpSession>, InFlight), Fault> {
        let (replica, holder) = (place.index(), server.holder(whose));
        if let Some(session) = self.own.open(&holder, replica) {
            return Ok((session, place));
        }
        // Opening takes places itself; whoever waits for it must hold none.
        drop(place);
        let whose = whose.filter(|_| holder != Holder::Gateway);
        let session = Box::pin(self.open_own_session(server, trip, (&holder, whose), replica)).await?;
        Ok((session, Box::pin(server.place(&trip.beside(), replica)).await?))
    }

    async fn open_own_session(
        &self,
        server: &HttpServer,
        trip: &Trip,
        (holder, whose): (&Holder, Option<&Caller>),
        replica: usize,
    ) -> Result<Arc<HttpSession>, Fault> {
        let gone = || Fault::gateway(Kind::Setup, "the replica is gone");
        let (places, given_up) = self.own.of(holder);
        if let Some(given_up) = given_up {
            self.close_behind(given_up);
        }
        let place = places.get(replica).ok_or_else(gone)?;
        let _one = place.opening.lock().await;
        if let Some(session) = place.open.load_full() {
            return Ok(session);
        }
        self.check_open()?;
        let params = peer::initialize_params(CAPABILITIES);
        let opening = HttpSession::open_at(server, &trip.beside(), replica, whose, params.as_bytes()).await?;
        let session = opening.session()?;
        session.confirm(server).await?;
        place.open.store(Some(session.clone()));
        Ok(session)
    }

    /// Drops this one of the gateway's own sessions: the server does not know it any more.
    pub fn lose_own_session(&self, lost: &Arc<HttpSession>) {
        if let Some(place) = self.own.of(&lost.holder).0.get(lost.replica) {
            let held = place.open.load();
            if held.as_ref().is_some_and(|session| Arc::ptr_eq(session, lost)) {
                place.open.compare_and_swap(&*held, None);
            }
        }
    }

    /// Ends a session that nobody gets any more, unless it is in use still: then the server forgets it in its own time.
    pub fn end_unless_used(&self, session: Arc<HttpSession>) {
        if Arc::strong_count(&session) == 1 {
            let place = Place { open: ArcSwapOption::new(Some(session)), ..Place::default() };
            self.close_behind([place].into());
        }
    }

    /// Ends sessions for which there is no room any more.
    fn close_behind(&self, places: Places) {
        let way = self.way.clone();
        self.ground.tasks.spawn(async move {
            if let Transport::Http(server) = &way.transport {
                for session in opened(&places) {
                    session.close(server).await;
                }
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;
    use crate::access::Role;
    use crate::id::TenantId;

    #[test]
    fn where_there_is_no_room_for_another_who_has_not_come_for_longest_gives_way() {
        let person = |number: usize| Holder::Person {
            tenant: TenantId::default_tenant(),
            user: Uuid::from_u128(number as u128),
            credential: Uuid::nil(),
            role: Role::User,
        };
        let own = OwnSessions::new(2);
        assert!((0..MOST).all(|number| own.of(&person(number)).1.is_none()));
        assert!(own.open(&person(0), 0).is_none(), "that is a use, whether something is open or not");
        assert!(own.of(&person(MOST)).1.is_some_and(|places| places.len() == 2));
        assert!(own.lock().contains_key(&person(0)) && !own.lock().contains_key(&person(1)));
        assert!(own.of(&Holder::Gateway).1.is_none() && own.lock().len() == MOST);
    }
}
