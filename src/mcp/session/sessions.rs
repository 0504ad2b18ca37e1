//! All sessions of this process: opened, found again by whoever opened them, ended when nobody uses them. Their number is
//! bounded, and who looks for one waits for no more than its shard.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use ahash::AHashMap;
use bytes::Bytes;
use http::HeaderValue;

use super::{Reach, Session};
use crate::access::{SessionType, UserId};
use crate::fault::{Fault, Kind};
use crate::id::{Principal, TenantId};
use crate::limit::{NoSeat, Seat, Seats};
use crate::protocol::era::Version;

/// Sessions are spread over this many locks.
const SHARDS: usize = 32;

/// All sessions of this process.
pub struct Sessions {
    shards: [Mutex<AHashMap<Box<str>, Seated>>; SHARDS],
    hasher: ahash::RandomState,
    born: Instant,
    seats: Seats,
    numbers: AtomicU64,
    idle: Duration,
}

/// A session and the seat that it holds until it is ended.
struct Seated {
    session: Arc<Session>,
    _seat: Seat,
}

/// What a new session is made of.
pub struct Opening {
    /// For which account.
    pub account: UserId,
    /// Who opens it.
    pub principal: Principal,
    /// In which tenant.
    pub tenant: TenantId,
    /// What it reaches.
    pub reach: Reach,
    /// What was agreed.
    pub version: Version,
    /// The parameters of `initialize`.
    pub init: Bytes,
    /// Whether the client can answer requests of servers.
    pub answers: bool,
    /// With what kind of credential it is opened.
    pub credential: SessionType,
}

impl Sessions {
    /// None yet; at most `most`, each ended after `idle` without a request.
    pub fn new(most: usize, idle: Duration) -> Self {
        Self {
            shards: std::array::from_fn(|_| Mutex::default()),
            hasher: ahash::RandomState::new(),
            born: Instant::now(),
            seats: Seats::new(most),
            numbers: AtomicU64::new(1),
            idle,
        }
    }

    fn shard(&self, id: &str) -> MutexGuard<'_, AHashMap<Box<str>, Seated>> {
        #[expect(clippy::cast_possible_truncation, reason = "any bits will do")]
        let at = self.hasher.hash_one(id) as usize % SHARDS;
        self.shards[at].lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn now(&self) -> u64 {
        self.born.elapsed().as_secs()
    }

    /// How many are open.
    pub fn count(&self) -> usize {
        self.seats.taken()
    }

    /// Looks at each, with the time for which it was not used, to the second.
    pub fn each(&self, mut look: impl FnMut(&Session, Duration)) {
        let now = self.now();
        for shard in &self.shards {
            for Seated { session, .. } in shard.lock().unwrap_or_else(PoisonError::into_inner).values() {
                look(session, Duration::from_secs(now.saturating_sub(session.seen.load(Relaxed))));
            }
        }
    }

    /// Opens one. Its id is 128 random bits: it cannot be guessed, and is no secret for its owner alone.
    pub fn open(&self, opening: Opening) -> Result<Arc<Session>, Fault> {
        let seat = self.seats.take(opening.account.uuid().as_u128()).map_err(full)?;
        let id: Box<str> = format!("{:032x}", rand::random::<u128>()).into();
        let Opening { account, principal, tenant, reach, version, init, answers, credential } = opening;
        let number = self.numbers.fetch_add(1, Relaxed);
        let seen = AtomicU64::new(self.now());
        let state = Mutex::default();
        let session = Arc::new(Session {
            id: id.clone(),
            number,
            principal,
            tenant,
            account,
            reach,
            version,
            init,
            answers,
            credential,
            seen,
            holds: AtomicU64::new(0),
            errands: AtomicU64::new(0),
            state,
        });
        self.shard(&id).insert(id, Seated { session: session.clone(), _seat: seat });
        Ok(session)
    }

    /// The session of this id if it is this principal's; a session of somebody else is as one that is not there.
    pub fn get(&self, id: &HeaderValue, principal: &Principal, tenant: &TenantId) -> Option<Arc<Session>> {
        let id = id.to_str().ok()?;
        let session = self.shard(id).get(id)?.session.clone();
        if session.principal != *principal || session.tenant != *tenant {
            return None;
        }
        session.touch(self.now());
        Some(session)
    }

    /// Notes that a session is used.
    pub fn touch(&self, session: &Session) {
        session.touch(self.now());
    }

    /// Ends one; returns it for what must be closed behind it.
    pub fn end(&self, id: &str) -> Option<Arc<Session>> {
        let seated = self.shard(id).remove(id)?;
        Some(seated.session)
    }

    /// Takes out every session that nobody used for the idle time, and has no stream open.
    pub fn sweep(&self) -> Vec<Arc<Session>> {
        let now = self.now();
        let mut ended = Vec::new();
        for shard in &self.shards {
            shard.lock().unwrap_or_else(PoisonError::into_inner).retain(|_, Seated { session, .. }| {
                let idle = now.saturating_sub(session.seen.load(Relaxed)) > self.idle.as_secs();
                let state = session.lock();
                let quiet = session.holds.load(Relaxed) == 0
                    && state.in_flight.is_empty()
                    && state.outbox.as_ref().is_none_or(|(_, outbox)| outbox.is_closed());
                drop(state);
                if idle && quiet {
                    ended.push(session.clone());
                }
                !(idle && quiet)
            });
        }
        ended
    }

    /// Takes out all of them, at the end of the process.
    pub fn drain(&self) -> Vec<Arc<Session>> {
        let all = self.shards.iter();
        let all = all
            .flat_map(|shard| std::mem::take(&mut *shard.lock().unwrap_or_else(PoisonError::into_inner)).into_values());
        all.map(|seated| seated.session).collect()
    }
}

fn full(none: NoSeat) -> Fault {
    let text = match none {
        NoSeat::All(open) => format!("the gateway already holds {open} sessions; end one or try again later"),
        NoSeat::Own(open) => format!(
            "your account holds {open} sessions, as many as one may have while others need some; end one (DELETE with its \
             Mcp-Session-Id) or try again later"
        ),
    };
    Fault { retry_after: Some(Duration::from_secs(10)), ..Fault::gateway(Kind::Full, text) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::era::LEGACY;

    fn ada() -> Principal {
        Principal { issuer: "local".into(), subject: "ada".into() }
    }

    fn open(sessions: &Sessions) -> Result<Arc<Session>, Fault> {
        sessions.open(Opening {
            account: UserId(uuid::Uuid::nil()),
            principal: ada(),
            tenant: TenantId::default_tenant(),
            reach: Reach::All,
            version: LEGACY,
            init: Bytes::from_static(b"{}"),
            answers: false,
            credential: SessionType::ApiKey,
        })
    }

    #[test]
    fn a_session_is_found_by_its_owner_alone() {
        let sessions = Sessions::new(2, Duration::from_mins(1));
        let id = HeaderValue::from_str(&open(&sessions).unwrap().id).unwrap();
        let tenant = TenantId::default_tenant();
        assert!(sessions.get(&id, &ada(), &tenant).is_some());
        let other_subject = Principal { issuer: "local".into(), subject: "bob".into() };
        let other_issuer = Principal { issuer: "https://other.example".into(), subject: "ada".into() };
        assert!(sessions.get(&id, &other_subject, &tenant).is_none());
        assert!(sessions.get(&id, &other_issuer, &tenant).is_none());
        assert!(sessions.get(&id, &ada(), &TenantId::parse("other").unwrap()).is_none());
        assert!(sessions.end(id.to_str().unwrap()).is_some());
        assert!(sessions.get(&id, &ada(), &tenant).is_none());
        assert_eq!(sessions.count(), 0);
    }

    #[test]
    fn there_are_never_more_sessions_than_allowed() {
        let sessions = Sessions::new(2, Duration::ZERO);
        let first = open(&sessions).unwrap();
        open(&sessions).unwrap();
        assert_eq!(open(&sessions).err().map(|fault| fault.kind), Some(Kind::Full));
        sessions.end(&first.id);
        open(&sessions).unwrap();
    }

    #[test]
    fn a_request_leaves_the_list_when_it_is_dropped() {
        let sessions = Sessions::new(2, Duration::ZERO);
        let session = open(&sessions).unwrap();
        let request = session.begin(Bytes::from_static(b"1")).unwrap();
        assert!(session.find(b"1").is_some());
        assert!(session.find(b"1").unwrap().cancel());
        assert!(request.cancel.is_set());
        drop(request);
        assert!(session.find(b"1").is_none());
    }
}
