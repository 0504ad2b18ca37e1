//! ENGINE: which replica of a server gets a call, and what is known about each of them: calls under way, circuit breaker,
//! active health, how much of its places is used and what was measured at its connections. `order` says whom to try in which order, `enter` takes a place on one of them and returns the guard that
//! the call reports to and that gives the place back when it is dropped, however the call ends.
//!
//! Nothing here sends, or allocates on the way of a call that goes well; nothing waits but `enter_in_turn`, which looks at the
//! clock itself. Everywhere else the clock is passed in.

mod breaker;
mod figures;
mod line;
mod meter;
mod order;
mod pool;
mod room;
mod scaling;
mod sockets;

use std::sync::atomic::{AtomicBool, AtomicU8, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

pub use breaker::{BreakerState, LastFault};
pub use figures::{Figures, Tally, WINDOW};
pub use order::{MAX_REPLICAS, Order, stable_hash};
pub use pool::PoolStatus;
pub use room::Room;
pub use scaling::{Advice, Mode, Scaling, Why};
pub use sockets::{Dial, Sockets};

use crate::fault::{Fault, Kind, Retry};
use crate::id::Principal;
use crate::registry::model::{Policy, Replica};
use breaker::{Breaker, Outcome, Pass};
use pool::Ledger;
use room::Places;

/// The key of a caller for [`Replicas::order`], the same on every machine and after every start.
pub fn caller_key(principal: &Principal) -> u64 {
    stable_hash(&[&principal.issuer, &principal.subject])
}

/// What the last active check of a replica found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Health {
    /// Whether it answered as it should.
    pub healthy: bool,
    /// When it was checked.
    pub at: Instant,
    /// What was wrong, in one sentence for an administrator; empty when healthy.
    pub detail: String,
}

/// One replica, for status pages and metrics.
#[derive(Debug, Clone)]
pub struct ReplicaStatus {
    /// Its URL.
    pub url: Arc<str>,
    /// Its weight.
    pub weight: u32,
    /// Calls under way.
    pub in_flight: usize,
    /// Calls that wait for a place.
    pub waiting: usize,
    /// State of its breaker.
    pub breaker: BreakerState,
    /// Since when the breaker is in that state.
    pub since: Instant,
    /// The last failure that counted.
    pub last_fault: Option<LastFault>,
    /// The last active check, if there was one.
    pub health: Option<Health>,
}

/// What is known about one replica. It outlives a change of its server's settings as long as the URL stays.
#[derive(Debug)]
struct Known {
    url: Arc<str>,
    /// Which of the replicas with this same URL it is.
    occurrence: usize,
    hash: u64,
    places: Places,
    sockets: Arc<Sockets>,
    ledger: Ledger,
    breaker: Breaker,
    health: Mutex<Option<Health>>,
    /// `health`, for the hot path.
    unhealthy: AtomicBool,
}

#[derive(Debug)]
struct Member {
    known: Arc<Known>,
    weight: u32,
}

const POLICIES: [Policy; 5] =
    [Policy::RoundRobin, Policy::Weighted, Policy::LeastInFlight, Policy::Random, Policy::ConsistentHash];

fn place(policy: Policy) -> u8 {
    (0..).zip(POLICIES).find(|(_, known)| *known == policy).map_or(0, |(place, _)| place)
}

/// The replicas of one server.
#[derive(Debug)]
pub struct Replicas {
    /// Its place in [`POLICIES`].
    policy: AtomicU8,
    members: Box<[Member]>,
    turn: AtomicUsize,
    /// The running values of smooth weighted round robin; held for one pass over the members.
    weighted: Mutex<Box<[i64]>>,
}

impl Replicas {
    /// The replicas of a server: at most [`MAX_REPLICAS`], more are left out; each has so much `room`. What `previous` knew about a replica with the
    /// same URL is kept: calls under way, breaker, health, its limit and figures.
    pub fn new(replicas: &[Replica], policy: Policy, room: Room, previous: Option<&Self>, now: Instant) -> Self {
        let mut members: Vec<Member> = Vec::with_capacity(replicas.len().min(MAX_REPLICAS));
        for replica in replicas.iter().take(MAX_REPLICAS) {
            let occurrence = members.iter().filter(|member| *member.known.url == *replica.url).count();
            let same = |member: &&Member| *member.known.url == *replica.url && member.known.occurrence == occurrence;
            let known = match previous.and_then(|previous| previous.members.iter().find(same)) {
                Some(member) => Arc::clone(&member.known),
                None => Arc::new(Known::new(&replica.url, occurrence, room, now)),
            };
            members.push(Member { known, weight: replica.weight.max(1) });
        }
        let weighted = Mutex::new(vec![0; members.len()].into_boxed_slice());
        Self {
            policy: AtomicU8::new(place(policy)),
            members: members.into_boxed_slice(),
            turn: AtomicUsize::new(0),
            weighted,
        }
    }

    /// Shares calls in this way from now on.
    pub fn follow(&self, policy: Policy) {
        self.policy.store(place(policy), Ordering::Relaxed);
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.members.len()
    }

    /// Whether there is none (a stdio server).
    pub fn is_empty(&self) -> bool {
        self.members.is_empty()
    }

    /// The URL of a replica; empty when there is no such replica.
    pub fn url(&self, index: usize) -> &str {
        self.members.get(index).map_or("", |member| &member.known.url)
    }

    /// Whom to try, first choice first: replicas whose breaker lets a call through, those that failed their last active check
    /// behind the others. `key` says who calls ([`caller_key`]); only consistent hashing reads it, only random reads `rng`.
    /// When every breaker is open, the fault says when to come back.
    pub fn order(&self, key: u64, rng: &mut impl rand::Rng, now: Instant) -> Result<Order, Fault> {
        let mut order = Order::empty();
        for (index, member) in self.members.iter().enumerate() {
            if member.known.breaker.wait(now).is_zero() {
                order.push(index);
            }
        }
        match order.len() {
            0 => return Err(self.none_left(now)),
            1 => return Ok(order),
            _ => {}
        }
        // First who is well: a policy then shares the calls among those only, so that the neighbour of a sick replica does
        // not carry its whole load.
        let sick = |index: u8| self.members[usize::from(index)].known.unhealthy.load(Ordering::Relaxed);
        let all = order.as_mut_slice();
        order::insertion_sort(all, |a, b| sick(*a) && !sick(*b));
        let well = all.iter().take_while(|index| !sick(**index)).count();
        let (well, sick) = all.split_at_mut(well);
        self.apply(if well.is_empty() { sick } else { well }, key, rng);
        Ok(order)
    }

    fn apply(&self, order: &mut [u8], key: u64, rng: &mut impl rand::Rng) {
        match POLICIES[usize::from(self.policy.load(Ordering::Relaxed))] {
            Policy::RoundRobin => self.rotate(order),
            Policy::Weighted => {
                let mut current = self.weighted.lock().unwrap_or_else(PoisonError::into_inner);
                order::smooth_weighted(order, &mut current, |index| self.members[index].weight);
            }
            Policy::LeastInFlight => {
                // Turning first, so that idle replicas share what comes one by one.
                self.rotate(order);
                #[expect(clippy::cast_precision_loss, reason = "calls under way are far fewer than 2^53")]
                order::sort_by_score(order, |index| self.members[index].known.places.taken() as f64);
            }
            Policy::Random => {
                for last in (1..order.len()).rev() {
                    // The bias of a modulus of at most 64 under 2^64 cannot be measured.
                    let other = rng.next_u64() % (last as u64 + 1);
                    order.swap(last, usize::try_from(other).unwrap_or(last));
                }
            }
            Policy::ConsistentHash => order::sort_by_score(order, |index| {
                let member = &self.members[index];
                order::rendezvous(key, member.known.hash, member.weight)
            }),
        }
    }

    fn rotate(&self, order: &mut [u8]) {
        let turn = self.turn.fetch_add(1, Ordering::Relaxed) % order.len().max(1);
        order.rotate_left(turn);
    }

    /// Takes a place on a replica, at once or not at all. `None` when its breaker lets nothing through now, or as many calls
    /// are under way as may: go on with the next one.
    pub fn enter(&self, index: usize, now: Instant) -> Option<InFlight> {
        let known = &self.members.get(index)?.known;
        known.places.take(now).then(|| InFlight::new(known, index)).and_then(|place| place.admitted(now))
    }

    /// Takes a place on this replica and no other, waiting for its turn if need be. `until` is when the call must have been
    /// answered. Fails when the queue is full, the wait ends, or the breaker lets nothing through.
    pub async fn enter_in_turn(&self, index: usize, until: Option<Instant>) -> Result<InFlight, Fault> {
        let Some(Member { known, .. }) = self.members.get(index) else { return Err(self.none_left(Instant::now())) };
        if !known.breaker.wait(Instant::now()).is_zero() {
            return Err(self.none_left(Instant::now()));
        }
        known.places.take_in_turn(until).await?;
        let now = Instant::now();
        InFlight::new(known, index).admitted(now).ok_or_else(|| self.none_left(now))
    }

    /// What is wrong with a server that calls do not get through to: the breaker of every replica has opened, and nothing went
    /// well since.
    pub fn trouble(&self) -> Option<Fault> {
        let mut last: Option<LastFault> = None;
        for member in &self.members {
            let fault = member.known.breaker.failing()?;
            last = last.filter(|before| before.at > fault.at).or(Some(fault));
        }
        let LastFault { kind, detail, .. } = last?;
        let detail = format!("every replica of this server failed several times in a row, the last time so: {detail}");
        Some(Fault::upstream(kind, Retry::NotSent, detail))
    }

    /// Whether a call would be let through now, to learn whether a replica is back.
    pub fn may_probe(&self, now: Instant) -> bool {
        self.members.iter().any(|member| member.known.breaker.wait(now).is_zero())
    }

    /// Lets a probe through where a breaker is open, as if its time had come: for who asks rarely, at times of its own, and
    /// wants to know whether the server is back.
    pub fn hasten(&self, now: Instant) {
        for member in &self.members {
            member.known.breaker.hasten(now);
        }
    }

    /// The fault of a call for which no replica is left, with the time after which one may be tried again.
    pub fn none_left(&self, now: Instant) -> Fault {
        if self.members.is_empty() {
            return Fault::gateway(Kind::Setup, "this server has no replica; register one");
        }
        let soonest = self.members.iter().map(|member| member.known.breaker.wait(now)).min().unwrap_or_default();
        let wait =
            Duration::from_secs(soonest.as_secs() + u64::from(soonest.subsec_nanos() > 0)).max(Duration::from_secs(1));
        let last = self.members.iter().filter_map(|member| member.known.breaker.status(now).last_fault);
        let last = last.max_by_key(|fault| fault.at).map_or("unknown".to_owned(), |fault| fault.detail);
        let detail = format!(
            "every replica of this server failed several times in a row; the next try is allowed in {} s; the last failure: {last}",
            wait.as_secs()
        );
        let mut fault = Fault::upstream(Kind::BreakerOpen, Retry::NotSent, detail);
        fault.retry_after = Some(wait);
        fault
    }

    /// Notes what an active check found. It moves a replica to the end of the order or back; breakers learn from calls only.
    pub fn checked(&self, index: usize, result: Result<(), String>, now: Instant) {
        if let Some(Member { known, .. }) = self.members.get(index) {
            let healthy = result.is_ok();
            let detail = result.err().unwrap_or_default();
            *known.health.lock().unwrap_or_else(PoisonError::into_inner) = Some(Health { healthy, at: now, detail });
            known.unhealthy.store(!healthy, Ordering::Relaxed);
        }
    }

    /// Every replica, in the order of the settings.
    pub fn status(&self, now: Instant) -> Vec<ReplicaStatus> {
        let one = |member: &Member| {
            let breaker = member.known.breaker.status(now);
            ReplicaStatus {
                url: Arc::clone(&member.known.url),
                weight: member.weight,
                in_flight: member.known.places.taken(),
                waiting: member.known.places.waiting(),
                breaker: breaker.state,
                since: breaker.since,
                last_fault: breaker.last_fault,
                health: member.known.health.lock().unwrap_or_else(PoisonError::into_inner).clone(),
            }
        };
        self.members.iter().map(one).collect()
    }
}

impl Known {
    fn new(url: &str, occurrence: usize, room: Room, now: Instant) -> Self {
        Self {
            url: url.into(),
            occurrence,
            hash: stable_hash(&[url, &occurrence.to_string()]),
            places: Places::new(room, now),
            sockets: Arc::default(),
            ledger: Ledger::new(now),
            breaker: Breaker::new(now),
            health: Mutex::new(None),
            unhealthy: AtomicBool::new(false),
        }
    }
}

/// A call's place on a replica. Keep it until the last byte of the answer has been passed on; dropping it gives the place
/// back, and the place of the probe if it was one. A drop without a report is a cancelled call and counts for nothing, unless
/// the call was [due](Self::due_by) and its answer had not begun.
#[derive(Debug)]
pub struct InFlight {
    known: Arc<Known>,
    index: usize,
    pass: Option<Pass>,
    due: Option<Instant>,
    placed: bool,
}

impl InFlight {
    fn new(known: &Arc<Known>, index: usize) -> Self {
        Self { known: Arc::clone(known), index, pass: None, due: None, placed: true }
    }

    fn admitted(mut self, now: Instant) -> Option<Self> {
        self.pass = Some(self.known.breaker.admit(now)?);
        Some(self)
    }

    /// Which replica.
    pub fn index(&self) -> usize {
        self.index
    }

    /// The replica's URL.
    pub fn url(&self) -> &str {
        &self.known.url
    }

    /// Whether the breaker lets this call through to learn whether the replica is back.
    #[cfg(test)]
    fn is_probe(&self) -> bool {
        self.pass.is_some_and(|pass| pass.probe)
    }

    /// The answer is due by then. Whoever waits for it may simply stop waiting: a drop after that time without a report is a
    /// timeout of the replica.
    pub fn due_by(&mut self, until: Option<Instant>) {
        self.due = until;
    }

    /// When the answer is due.
    pub fn due(&self) -> Option<Instant> {
        self.due
    }

    /// The answer has begun, and is passed on as fast as the client reads: from now on being late must be reported, because it
    /// may be the client who is slow.
    pub fn begun(&mut self) {
        self.due = None;
    }

    /// Gives the place back before the end: for a stream that lasts, which is no load.
    pub fn rest(&mut self) {
        self.give_back(Instant::now());
    }

    /// Gives the place back for as long as somebody else is waited for; [`resume`](Self::resume) with the answer. A call that is given up
    /// meanwhile says nothing about the replica, however late it is.
    pub fn pause(&mut self) -> Option<Instant> {
        self.rest();
        self.due.take()
    }

    /// Takes a place again, in turn, for a call that must be answered by `due`.
    pub async fn resume(&mut self, due: Option<Instant>) -> Result<(), Fault> {
        self.known.places.take_in_turn(due).await?;
        self.placed = true;
        self.due = due;
        Ok(())
    }

    fn give_back(&mut self, now: Instant) {
        if std::mem::replace(&mut self.placed, false) {
            self.known.places.free(now);
        }
    }

    /// Says how the call ended; the first report counts. A tool's own error is a success: the replica answered. That a
    /// notification was taken is none, because nothing was answered: it needs no report.
    pub fn report(&mut self, outcome: Result<(), &Fault>, now: Instant) {
        if let Some(pass) = self.pass.take() {
            match outcome {
                Ok(()) => self.known.breaker.settle(pass, Outcome::Good, now),
                Err(fault) if fault.counts_against_replica() => {
                    self.known.breaker.settle(pass, Outcome::Bad(fault), now);
                }
                // Throttled, refused, cancelled: says nothing about the replica.
                Err(_) => self.known.breaker.cancel(pass),
            }
        }
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        let now = Instant::now();
        self.give_back(now);
        if self.due.is_some_and(|due| due <= now) {
            let fault =
                Fault::upstream(Kind::Timeout, Retry::MaybeSent, "no answer within the server's bound for one call");
            self.report(Err(&fault), now);
        }
        if let Some(pass) = self.pass.take() {
            self.known.breaker.cancel(pass);
        }
    }
}

#[cfg(test)]
mod tests;
