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
/// Most of them that are of one account: many keys of one push out nobody else.
const MOST_OF_ACCOUNT: usize = 20;

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

impl Used {
    /// Whether nobody opens or uses one of them now. It stays so while the map is held.
    fn is_idle(&self) -> bool {
        // The one in its place, and the one that is looked at here.
        let idle = |place: &Place| place.open.load_full().is_none_or(|open| Arc::strong_count(&open) == 2);
        Arc::strong_count(&self.places) == 1 && self.places.iter().all(idle)
    }
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

    /// Those of this holder, and those of whoever had to give way: of the same account, if that has as many as it may, else of all, who
    /// has not come for longest and is not served now.
    fn of(&self, holder: &Holder) -> Result<(Places, Option<Places>), Fault> {
        if *holder == Holder::Gateway {
            return Ok((self.gateway.clone(), None));
        }
        let at = self.uses.fetch_add(1, Relaxed);
        let mut others = self.lock();
        if let Some(used) = others.get_mut(holder) {
            used.at = at;
            return Ok((used.places.clone(), None));
        }
        let own = others.keys().filter(|other| other.is_of_account_of(holder)).count() >= MOST_OF_ACCOUNT;
        let gone = if own || others.len() >= MOST {
            let may = |other: &Holder, used: &Used| (!own || other.is_of_account_of(holder)) && used.is_idle();
            let idle = others.iter().filter(|(other, used)| may(other, used));
            let longest = idle.min_by_key(|(_, used)| used.at).map(|(other, _)| other.clone());
            let longest = longest.ok_or_else(|| {
                let whose = if own { "your account has" } else { "the gateway has" };
                Fault::gateway(Kind::Full, format!("{whose} as many sessions with the server as may be; try again"))
            })?;
            others.remove(&longest).map(|used| used.places)
        } else {
            None
        };
        let new = places(self.gateway.len());
        others.insert(holder.clone(), Used { places: new.clone(), at });
        Ok((new, gone))
    }

    /// Those of this holder, if there are any; that is no use of them.
    fn known(&self, holder: &Holder) -> Option<Places> {
        if *holder == Holder::Gateway {
            return Some(self.gateway.clone());
        }
        self.lock().get(holder).map(|used| used.places.clone())
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
        server.prepare(None).await?;
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
        let (places, given_up) = self.own.of(holder)?;
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
        let places = self.own.known(&lost.holder);
        if let Some(place) = places.as_ref().and_then(|places| places.get(lost.replica)) {
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

    fn person(user: usize, credential: usize) -> Holder {
        Holder::Person {
            tenant: TenantId::default_tenant(),
            user: Uuid::from_u128(user as u128),
            credential: Uuid::from_u128(credential as u128),
            role: Role::User,
        }
    }

    /// Whether there was room, and somebody gave way.
    fn came(own: &OwnSessions, holder: &Holder) -> Option<bool> {
        own.of(holder).ok().map(|(_, gone)| gone.is_some())
    }

    #[test]
    fn where_there_is_no_room_for_another_who_has_not_come_for_longest_gives_way() {
        let own = OwnSessions::new(2);
        assert!((0..MOST).all(|number| came(&own, &person(number, 0)) == Some(false)));
        assert!(own.open(&person(0, 0), 0).is_none(), "that is a use, whether something is open or not");
        assert_eq!(came(&own, &person(MOST, 0)), Some(true));
        assert!(own.lock().contains_key(&person(0, 0)) && !own.lock().contains_key(&person(1, 0)));
        assert_eq!(came(&own, &Holder::Gateway), Some(false));
        assert!(own.known(&person(1, 0)).is_none() && own.lock().len() == MOST, "who is looked for takes no room");
    }

    #[test]
    fn one_account_pushes_out_nobody_but_itself_and_who_is_served_stays() {
        let own = OwnSessions::new(1);
        assert_eq!(came(&own, &person(0, 0)), Some(false));
        assert!((0..MOST_OF_ACCOUNT).all(|number| came(&own, &person(1, number)) == Some(false)));
        let served = own.known(&person(1, 0));
        assert_eq!(came(&own, &person(1, 100)), Some(true));
        assert!(own.lock().contains_key(&person(0, 0)), "of somebody else, and older");
        assert!(own.lock().contains_key(&person(1, 0)) && !own.lock().contains_key(&person(1, 1)));
        drop(served);
        let held: Vec<_> = own.lock().values().map(|used| used.places.clone()).collect();
        assert_eq!(came(&own, &person(1, 101)), None, "all of them are in use");
        assert_eq!(came(&own, &person(2, 0)), Some(false), "others have room");
        drop(held);
        assert_eq!(came(&own, &person(1, 101)), Some(true));
    }
}
