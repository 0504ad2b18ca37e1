//! The limits of a process, in the order in which they are asked: the user's by role, the capacity that tenants share, the tenant's part
//! of it and its own cap, how many requests of the tenant are served at once; and when it is known where a request goes, what that
//! server and tool take. All are kept by account, tenant and server, never by session or token: who begins anew has what it had.
//!
//! A request that only finds the capacity used up in this moment, within its tenant's part, waits a little for its turn; those of
//! tenants that go first are before the others.

use std::sync::Arc;
use std::time::{Duration, Instant};

use ahash::AHashMap;
use arc_swap::ArcSwap;

use super::board::{Key, Reply, Report};
use super::bucket::{Nanos, Price, SECOND};
use super::buckets::{BucketKey, Buckets};
use super::fair::{Fair, Rules, Short, Spent};
use super::rates::{Rate, Rates};
pub use super::share::{Absent, Permit};
use super::share::{Room, Share};
use super::terms::Terms;
use super::whose::Limit;
use crate::id::TenantId;

/// How long a request waits for capacity.
const PATIENCE: Nanos = SECOND / 2;
/// How long it waits for others of its tenant to end.
const LONGEST_QUEUE: Duration = Duration::from_secs(5);
/// The process began so long ago by the clock of the buckets: more than any of them saves up.
const BEFORE: Nanos = 1 << 45;
/// Most users, servers and tools whose buckets are not full.
const MOST_BUCKETS: usize = 1_000_000;
/// So many times a minute each may ask whether anybody is there.
const FREE_PINGS: u32 = 12;
/// What tells the bucket of a user's pings from the user's own; ids are random.
const PINGS: BucketKey = 1;
/// When to ask again where nobody knows when room will be.
const SOON: Duration = Duration::from_secs(1);

/// A request that is refused because a limit was reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Refused {
    /// Whose.
    pub limit: Limit,
    /// How many requests a minute it lets through.
    pub rpm: u64,
    /// After how long one may pass.
    pub wait: Duration,
    /// Whether it is not requests a minute that are counted, but those served at once.
    pub at_once: bool,
}

impl Refused {
    /// The wait in whole seconds, at least 1, as `Retry-After` says it.
    pub fn seconds(&self) -> u64 {
        (self.wait.as_secs() + u64::from(self.wait.subsec_nanos() > 0)).max(1)
    }
}

/// Who asks.
#[derive(Debug, Clone, Copy)]
pub struct Who<'a> {
    /// In which tenant.
    pub tenant: &'a TenantId,
    /// Which account.
    pub user: BucketKey,
    /// How many requests a minute it may make.
    pub rpm: u32,
}

/// What is kept of the tenants there are.
#[derive(Debug, Default)]
struct Tenants {
    shares: AHashMap<TenantId, Arc<Share>>,
    /// The same by their names on the board.
    by_key: AHashMap<Key, Arc<Share>>,
}

/// The name on the board of all tenants that were made a moment ago.
const NEWCOMERS: Key = 0;

/// A request that was let through: what it took, so that [`Limits::undo`] can give it back.
#[derive(Debug)]
pub struct Admitted {
    user: BucketKey,
    price: Price,
    share: Arc<Share>,
    spent: Spent,
    /// To be kept until the request is over.
    pub permit: Option<Permit>,
}

impl Admitted {
    /// Whether each tool of its tenant is measured apart.
    pub fn measures_tools(&self) -> bool {
        self.share.measures_tools()
    }

    /// Whether records of its tenant show what tools are called with.
    pub fn shows_arguments(&self) -> bool {
        self.share.shows_arguments()
    }
}

/// Does something when it is dropped, unless it is called off.
struct Unless<F: FnOnce()>(Option<F>);

impl<F: FnOnce()> Unless<F> {
    fn new(what: F) -> Self {
        Self(Some(what))
    }

    fn call_off(mut self) {
        self.0 = None;
    }
}

impl<F: FnOnce()> Drop for Unless<F> {
    fn drop(&mut self) {
        if let Some(what) = self.0.take() {
            what();
        }
    }
}

/// See the module.
#[derive(Debug)]
pub struct Limits {
    began: Instant,
    burst: f64,
    fair: Fair,
    buckets: Buckets,
    tenants: ArcSwap<Tenants>,
    /// That of all tenants that were made a moment ago, until the database is looked at again.
    newcomers: Arc<Share>,
}

impl Limits {
    /// With all of it free. `burst` is the burst factor of tenants whose terms name none.
    pub fn new(rules: Rules, burst: f64) -> Self {
        Self {
            began: Instant::now(),
            burst,
            fair: Fair::new(rules),
            buckets: Buckets::new(MOST_BUCKETS),
            tenants: ArcSwap::default(),
            newcomers: Arc::new(Share::simulated(NEWCOMERS, &Terms::default(), burst)),
        }
    }

    /// The fair limiter.
    pub fn fair(&self) -> &Fair {
        &self.fair
    }

    /// The buckets of users, servers and tools.
    pub fn buckets(&self) -> &Buckets {
        &self.buckets
    }

    /// Forgets what is as if it had never been used. For a job, every minute or so.
    pub fn sweep(&self) {
        self.buckets.sweep(Price::a_minute(1).saved, self.now());
    }

    /// Now, by the clock of the buckets.
    pub fn now(&self) -> Nanos {
        BEFORE + u64::try_from(self.began.elapsed().as_nanos()).unwrap_or(u64::MAX / 2)
    }

    /// Takes over which tenants there are, and on what terms; they hold for the next request.
    pub fn agree(&self, terms: impl IntoIterator<Item = (TenantId, Terms)>) {
        let old = self.tenants.load();
        let mut new = Tenants::default();
        for (tenant, terms) in terms {
            let share = match old.shares.get(&tenant) {
                Some(share) => {
                    share.agree(&terms, self.burst);
                    share.clone()
                }
                None => Arc::new(Share::new(tenant.clone(), &terms, self.burst)),
            };
            new.by_key.insert(share.key(), share.clone());
            new.shares.insert(tenant, share);
        }
        new.by_key.insert(NEWCOMERS, self.newcomers.clone());
        self.tenants.store(Arc::new(new));
    }

    /// What is kept of a tenant.
    pub fn share(&self, tenant: &TenantId) -> Option<Arc<Share>> {
        self.tenants.load().shares.get(tenant).cloned()
    }

    /// What is kept of all, with figures up to the last whole second.
    pub fn settled(&self) -> Vec<Arc<Share>> {
        self.fair.settle(self.now());
        self.tenants.load().shares.values().cloned().collect()
    }

    /// This process is one of so many replicas, itself among them, and will hear the others on a board.
    pub fn join(&self, replicas: u32) {
        self.fair.join(replicas, self.now());
        self.buckets.share_among(replicas, self.now());
    }

    /// What this process writes on the board, and when it goes there.
    pub fn report(&self, replica: u128) -> (Report, Nanos) {
        let now = self.now();
        (Report { taken: self.buckets.report(), ..self.fair.report(replica, now) }, now)
    }

    /// What it read there, having gone there at `sent` with this report.
    pub fn hear(&self, report: &Report, reply: &Reply, sent: Nanos) {
        let tenants = self.tenants.load();
        self.fair.hear(reply, sent, |key| tenants.by_key.get(&key).cloned());
        self.buckets.share_among(self.fair.replicas(), sent);
        self.buckets.hear(&report.taken, &reply.spent, sent);
    }

    /// It came there with this report and read nothing. Returns whether it still goes by what it read last; if not, it goes on with its
    /// part of everything.
    pub fn miss(&self, report: &Report) -> bool {
        self.fair.settle(self.now());
        let on_board = self.fair.is_on_board();
        if on_board {
            self.buckets.keep(&report.taken);
        } else {
            self.buckets.part(self.fair.replicas());
        }
        on_board
    }

    /// This process is one of so many replicas that have no board: it has its part of everything.
    pub fn part(&self, replicas: u32) {
        self.fair.go_on_alone(replicas);
        self.buckets.part(replicas);
    }

    /// Lets a request through, perhaps after a short wait, or says which limit it has reached. What is given up while it waits costs
    /// nothing.
    pub async fn admit(&self, who: Who<'_>) -> Result<Admitted, Refused> {
        let now = self.now();
        let price = self.take_user(who, now)?;
        let back = Unless::new(|| self.buckets.give_back(who.user, price));
        let share = self.share(who.tenant).unwrap_or_else(|| self.newcomers.clone());
        let (permit, spent) = match share.enter() {
            Room::Free(permit) => match self.pass(&share, now) {
                Ok(spent) => (permit, spent),
                Err(Short::Capacity(first)) => (permit, Box::pin(self.turn(&share, first, now)).await?),
                Err(short) => return Err(self.refuse(&share, short)),
            },
            Room::Full => Box::pin(self.later(&share)).await?,
        };
        back.call_off();
        Ok(Admitted { user: who.user, price, share, spent, permit })
    }

    /// Gives back all that a request took which was let through and comes to nothing.
    pub fn undo(&self, admitted: Admitted) {
        let Admitted { user, price, share, spent, .. } = admitted;
        self.buckets.give_back(user, price);
        self.fair.undo(&share, spent);
    }

    /// The same for what is no part of what tenants share: only the user's own limit counts.
    pub fn admit_user(&self, who: Who<'_>) -> Result<(), Refused> {
        self.take_user(who, self.now()).map(drop)
    }

    /// Lets through a question whether anybody is there, of which everybody may ask some whatever else they had. One of more than these is
    /// a request like others.
    pub fn admit_ping(&self, who: Who<'_>) -> bool {
        self.buckets.take(who.user ^ PINGS, Price::a_minute(FREE_PINGS), self.now()).is_ok()
    }

    /// Lets a request on to a server that takes so many, and perhaps so many calls of this tool. Where one of both has none left, the
    /// other's is not taken.
    pub fn admit_at(&self, rates: &Rates, tool: Option<&str>) -> Result<(), Refused> {
        let now = self.now();
        let (whole, tool) = (rates.whole(), tool.and_then(|tool| rates.tool(tool)));
        let take = |rate: Option<Rate>| rate.map_or(Ok(()), |rate| self.buckets.take(rate.key, rate.price(), now));
        let give_back = |rate: Option<Rate>| rate.inspect(|rate| self.buckets.give_back(rate.key, rate.price()));
        let told = |limit, rate: Option<Rate>, wait| refused(limit, rate.map_or(0, |rate| rate.rpm).into(), wait);
        match (take(whole), take(tool)) {
            (Ok(()), Ok(())) => Ok(()),
            (Err(wait), Err(longer)) if longer > wait => Err(told(Limit::Tool, tool, longer)),
            (Err(wait), taken) => {
                taken.is_ok().then(|| give_back(tool));
                Err(told(Limit::Server, whole, wait))
            }
            (Ok(()), Err(wait)) => {
                give_back(whole);
                Err(told(Limit::Tool, tool, wait))
            }
        }
    }

    /// Takes one of the user's own; returns at what price.
    fn take_user(&self, who: Who<'_>, now: Nanos) -> Result<Price, Refused> {
        let price = Price::a_minute(who.rpm);
        self.buckets.take(who.user, price, now).map_err(|wait| refused(Limit::User, who.rpm.into(), wait))?;
        Ok(price)
    }

    fn pass(&self, share: &Arc<Share>, now: Nanos) -> Result<Spent, Short> {
        self.fair.wanted(share, now);
        self.fair.take(share, now)
    }

    /// Lets in again who has left for a while. It was counted when it came.
    pub async fn admit_again(&self, absent: Absent) -> Result<Option<Permit>, Refused> {
        room(absent.share()).await
    }

    /// Waits until others of the tenant are done, then for the rest.
    async fn later(&self, share: &Arc<Share>) -> Result<(Option<Permit>, Spent), Refused> {
        let permit = room(share).await?;
        let now = self.now();
        match self.pass(share, now) {
            Ok(spent) => Ok((permit, spent)),
            Err(Short::Capacity(first)) => Ok((permit, self.turn(share, first, now).await?)),
            Err(short) => Err(self.refuse(share, short)),
        }
    }

    /// Waits for the turn of a request to which nothing but capacity is wanting; it is there for the first in line in this time.
    async fn turn(&self, share: &Share, mut first: Nanos, since: Nanos) -> Result<Spent, Refused> {
        let until = since + PATIENCE;
        loop {
            let short = if share.goes_first() {
                match self.fair.take_next(share, self.now(), PATIENCE) {
                    Ok((wait, spent)) => {
                        let back = Unless::new(|| self.fair.undo(share, spent));
                        tokio::time::sleep(Duration::from_nanos(wait)).await;
                        back.call_off();
                        return Ok(spent);
                    }
                    Err(short) => short,
                }
            } else {
                let line = self.fair.line_up(first);
                if self.now() + line.wait > until {
                    return Err(self.refuse(share, Short::Capacity(line.wait)));
                }
                tokio::time::sleep(Duration::from_nanos(line.wait)).await;
                drop(line);
                match self.fair.take(share, self.now()) {
                    Ok(spent) => return Ok(spent),
                    Err(Short::Capacity(next)) => {
                        first = next;
                        continue;
                    }
                    Err(short) => short,
                }
            };
            return Err(self.refuse(share, short));
        }
    }

    fn refuse(&self, share: &Share, short: Short) -> Refused {
        self.fair.refuse(short);
        match short {
            Short::Capacity(wait) => refused(Limit::Global, self.fair.rules().capacity_rpm.into(), wait),
            Short::Own(wait) => refused(Limit::Tenant, share.base_rpm().unwrap_or_default().into(), wait),
            #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a rate, at least 0")]
            Short::Share(wait) => refused(Limit::Tenant, (self.fair.part_everywhere(share) * 60.0) as u64, wait),
        }
    }
}

/// Waits for room among what a tenant has served at once.
async fn room(share: &Arc<Share>) -> Result<Option<Permit>, Refused> {
    match tokio::time::timeout(LONGEST_QUEUE, share.queue()).await {
        Ok(Room::Free(permit)) => Ok(permit),
        _ => Err(Refused { limit: Limit::Tenant, rpm: share.most_at_once().into(), wait: SOON, at_once: true }),
    }
}

fn refused(limit: Limit, rpm: u64, wait: Nanos) -> Refused {
    Refused { limit, rpm, wait: Duration::from_nanos(wait), at_once: false }
}

#[cfg(test)]
mod tests;
