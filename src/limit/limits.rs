//! The limits of a process, in the order in which they are asked: the user's by role, the capacity that tenants share, the tenant's part
//! of it and its own cap, then how many requests of the tenant are served at once. All are kept by account and tenant, never by
//! session or token: who begins anew has what it had.
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
use super::fair::{Fair, Rules, Short};
pub use super::share::Permit;
use super::share::{Room, Share};
use super::terms::Terms;
use crate::id::TenantId;

/// How long a request waits for capacity.
const PATIENCE: Nanos = SECOND / 2;
/// How long it waits for others of its tenant to end.
const LONGEST_QUEUE: Duration = Duration::from_secs(5);
/// The process began so long ago by the clock of the buckets: more than any of them saves up.
const BEFORE: Nanos = 1 << 45;
/// Most users whose buckets are not full.
const MOST_USERS: usize = 1_000_000;
/// When to ask again where nobody knows when room will be.
const SOON: Duration = Duration::from_secs(1);

/// Which limit was reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Limit {
    /// The gateway's capacity.
    Global,
    /// The tenant's part of it, its own cap, or what it may have served at once.
    Tenant,
    /// The user's own.
    User,
}

impl Limit {
    /// The label `limit_type` of metrics, and the name in answers.
    pub fn label(self) -> &'static str {
        match self {
            Self::Global => "global",
            Self::Tenant => "tenant",
            Self::User => "user",
        }
    }
}

/// A request that is refused because a limit was reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Refused {
    /// Which.
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

/// See the module.
#[derive(Debug)]
pub struct Limits {
    began: Instant,
    burst: f64,
    fair: Fair,
    users: Buckets,
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
            users: Buckets::new(MOST_USERS),
            tenants: ArcSwap::default(),
            newcomers: Arc::new(Share::simulated(NEWCOMERS, &Terms::default(), burst)),
        }
    }

    /// The fair limiter.
    pub fn fair(&self) -> &Fair {
        &self.fair
    }

    /// The users' buckets.
    pub fn users(&self) -> &Buckets {
        &self.users
    }

    /// Forgets what is as if it had never been used. For a job, every minute or so.
    pub fn sweep(&self) {
        self.users.sweep(Price::a_minute(1).saved, self.now());
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
        self.users.share_among(replicas);
    }

    /// What this process writes on the board, and when it goes there.
    pub fn report(&self, replica: u128) -> (Report, Nanos) {
        let now = self.now();
        (Report { taken: self.users.report(), ..self.fair.report(replica, now) }, now)
    }

    /// What it read there, having gone there at `sent` with this report.
    pub fn hear(&self, report: &Report, reply: &Reply, sent: Nanos) {
        let tenants = self.tenants.load();
        self.fair.hear(reply, sent, |key| tenants.by_key.get(&key).cloned());
        self.users.share_among(self.fair.replicas());
        self.users.hear(&report.taken, &reply.spent, sent);
    }

    /// It could not read there. Returns whether it still goes by what it read last; if not, it goes on with its part of everything.
    pub fn miss(&self) -> bool {
        self.fair.settle(self.now());
        let on_board = self.fair.is_on_board();
        if !on_board {
            self.users.part(self.fair.replicas());
        }
        on_board
    }

    /// This process is one of so many replicas that have no board: it has its part of everything.
    pub fn part(&self, replicas: u32) {
        self.fair.go_on_alone(replicas);
        self.users.part(replicas);
    }

    /// Lets a request through, perhaps after a short wait, or says which limit it has reached. What is returned is to be kept until
    /// the request is over.
    pub async fn admit(&self, who: Who<'_>) -> Result<Option<Permit>, Refused> {
        let now = self.now();
        let price = self.take_user(who, now)?;
        let share = self.share(who.tenant).unwrap_or_else(|| self.newcomers.clone());
        let passed = match share.enter() {
            Room::Free(permit) => match self.pass(&share, now) {
                Ok(()) => Ok(permit),
                Err(Short::Capacity(first)) => Box::pin(self.turn(&share, first, now)).await.map(|()| permit),
                Err(short) => Err(self.refuse(&share, short)),
            },
            Room::Full => Box::pin(self.later(&share)).await,
        };
        if passed.is_err() {
            self.users.give_back(who.user, price);
        }
        passed
    }

    /// The same for what is no part of what tenants share: only the user's own limit counts.
    pub fn admit_user(&self, who: Who<'_>) -> Result<(), Refused> {
        self.take_user(who, self.now()).map(drop)
    }

    /// Takes one of the user's own; returns at what price.
    fn take_user(&self, who: Who<'_>, now: Nanos) -> Result<Price, Refused> {
        let price = Price::a_minute(who.rpm);
        self.users.take(who.user, price, now).map_err(|wait| refused(Limit::User, who.rpm.into(), wait))?;
        Ok(price)
    }

    fn pass(&self, share: &Arc<Share>, now: Nanos) -> Result<(), Short> {
        self.fair.wanted(share, now);
        self.fair.take(share, now)
    }

    /// Waits until others of the tenant are done, then for the rest.
    async fn later(&self, share: &Arc<Share>) -> Result<Option<Permit>, Refused> {
        let Ok(Room::Free(permit)) = tokio::time::timeout(LONGEST_QUEUE, share.queue()).await else {
            return Err(Refused { limit: Limit::Tenant, rpm: share.most_at_once().into(), wait: SOON, at_once: true });
        };
        let now = self.now();
        match self.pass(share, now) {
            Ok(()) => {}
            Err(Short::Capacity(first)) => self.turn(share, first, now).await?,
            Err(short) => return Err(self.refuse(share, short)),
        }
        Ok(permit)
    }

    /// Waits for the turn of a request to which nothing but capacity is wanting; it is there for the first in line in this time.
    async fn turn(&self, share: &Share, mut first: Nanos, since: Nanos) -> Result<(), Refused> {
        let until = since + PATIENCE;
        loop {
            let short = if share.goes_first() {
                match self.fair.take_next(share, self.now(), PATIENCE) {
                    Ok(wait) => {
                        tokio::time::sleep(Duration::from_nanos(wait)).await;
                        return Ok(());
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
                    Ok(()) => return Ok(()),
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
            Short::Share(wait) => refused(Limit::Tenant, (self.fair.part(share) * 60.0) as u64, wait),
        }
    }
}

fn refused(limit: Limit, rpm: u64, wait: Nanos) -> Refused {
    Refused { limit, rpm, wait: Duration::from_nanos(wait), at_once: false }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limits(capacity_rpm: u32, terms: Terms) -> (Limits, TenantId) {
        let limits = Limits::new(Rules { capacity_rpm, window: Duration::from_mins(5), fair: true }, 1.5);
        let tenant = TenantId::default_tenant();
        limits.agree([(tenant.clone(), terms)]);
        (limits, tenant)
    }

    fn who(tenant: &TenantId, user: BucketKey) -> Who<'_> {
        Who { tenant, user, rpm: 3 }
    }

    #[tokio::test]
    async fn a_user_has_a_limit_of_its_own_whatever_it_comes_with() {
        let (limits, tenant) = limits(6000, Terms::default());
        for _ in 0..3 {
            limits.admit(who(&tenant, 7)).await.unwrap();
        }
        let refused = limits.admit(who(&tenant, 7)).await.unwrap_err();
        assert_eq!((refused.limit, refused.rpm), (Limit::User, 3));
        assert!(refused.wait > Duration::from_secs(19) && refused.wait <= Duration::from_secs(20), "{refused:?}");
        limits.admit(who(&tenant, 8)).await.unwrap();
    }

    #[tokio::test]
    async fn a_tenant_s_refusal_costs_its_user_nothing() {
        let (limits, tenant) = limits(6000, Terms { base_rpm: Some(1), ..Terms::default() });
        limits.admit(who(&tenant, 7)).await.unwrap();
        for _ in 0..9 {
            let refused = limits.admit(who(&tenant, 7)).await.unwrap_err();
            assert_eq!((refused.limit, refused.rpm, refused.at_once), (Limit::Tenant, 1, false));
        }
    }

    #[tokio::test]
    async fn so_many_are_served_at_once_and_the_next_waits_for_one_to_end() {
        let (limits, tenant) = limits(6000, Terms { max_concurrent_requests: Some(1), ..Terms::default() });
        let first = limits.admit(who(&tenant, 1)).await.unwrap();
        assert!(first.is_some());
        let (second, ()) = tokio::join!(limits.admit(who(&tenant, 2)), async {
            tokio::task::yield_now().await;
            let third = limits.admit(who(&tenant, 3)).await.unwrap_err();
            assert!(third.at_once, "as many wait as are served");
            drop(first);
        });
        drop(second.unwrap());
        assert!(limits.admit(who(&tenant, 4)).await.unwrap().is_some());
        assert_eq!(limits.share(&tenant).unwrap().at_once(), 0);
    }
}
