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
pub use super::share::Permit;
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

    /// Waits until others of the tenant are done, then for the rest.
    async fn later(&self, share: &Arc<Share>) -> Result<(Option<Permit>, Spent), Refused> {
        let Ok(Room::Free(permit)) = tokio::time::timeout(LONGEST_QUEUE, share.queue()).await else {
            return Err(Refused { limit: Limit::Tenant, rpm: share.most_at_once().into(), wait: SOON, at_once: true });
        };
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
    async fn of_what_may_be_served_at_once_each_gateway_has_its_part_and_never_none() {
        let (limits, tenant) =
            limits(6000, Terms { max_concurrent_requests: Some(4), base_rpm: Some(600), ..Terms::default() });
        limits.part(2);
        let _first = limits.admit(who(&tenant, 1)).await.unwrap();
        let _second = limits.admit(who(&tenant, 2)).await.unwrap();
        let share = limits.share(&tenant).unwrap();
        assert!(matches!(share.enter(), Room::Full), "half of it is for here");
        share.have_own_here(0.75, limits.now());
        let Room::Free(third) = share.enter() else { panic!("more is asked for here than elsewhere") };
        assert!(matches!(share.enter(), Room::Full));
        drop((third, _first, _second));
        share.have_own_here(0.01, limits.now());
        let Room::Free(_only) = share.enter() else { panic!("one may be served wherever it is") };
        assert!(matches!(share.enter(), Room::Full));
    }

    #[tokio::test]
    async fn who_waits_for_others_to_end_hears_of_more_room() {
        let most = |count| Terms { max_concurrent_requests: count, ..Terms::default() };
        for more in [Some(4), None] {
            let (limits, tenant) = limits(6000, most(Some(2)));
            let _first = limits.admit(who(&tenant, 1)).await.unwrap();
            let _second = limits.admit(who(&tenant, 2)).await.unwrap();
            let (third, fourth, ()) =
                tokio::join!(limits.admit(who(&tenant, 3)), limits.admit(who(&tenant, 4)), async {
                    tokio::task::yield_now().await;
                    limits.agree([(tenant.clone(), most(more))]);
                });
            assert!(third.is_ok() && fourth.is_ok(), "{more:?}: {third:?}, {fourth:?}");
        }
    }

    #[tokio::test]
    async fn who_goes_first_passes_before_those_who_waited_already() {
        let (limits, _) = limits(600, Terms::default());
        let [one, first] = ["one", "first"].map(|name| TenantId::parse(name).unwrap());
        let terms = |priority_support| Terms { priority_support, ..Terms::default() };
        limits.agree([(one.clone(), terms(false)), (first.clone(), terms(true))]);
        let mut waiting = loop {
            while limits.fair.capacity.take(limits.fair.capacity_price(), limits.now()).is_ok() {}
            let mut waiting = Box::pin(limits.admit(Who { rpm: 1000, ..who(&one, 1) }));
            if futures_util::poll!(&mut waiting).is_pending() {
                break waiting;
            }
            // Some capacity came in between.
        };
        tokio::select! {
            biased;
            admitted = limits.admit(who(&first, 2)) => assert!(admitted.is_ok(), "{admitted:?}"),
            admitted = &mut waiting => panic!("it was not before: {admitted:?}"),
        }
        waiting.await.unwrap();
    }

    #[test]
    fn where_shares_are_not_fair_a_tenant_takes_what_is_there() {
        let limits = Limits::new(Rules { capacity_rpm: 6000, window: Duration::from_mins(5), fair: false }, 1.5);
        let [heavy, light] = ["heavy", "light"].map(|name| TenantId::parse(name).unwrap());
        let capped = Terms { weight: 1000.0, base_rpm: Some(60), ..Terms::default() };
        limits.agree([(heavy.clone(), capped), (light.clone(), Terms { weight: 0.01, ..Terms::default() })]);
        let [heavy, light] = [heavy, light].map(|tenant| limits.share(&tenant).unwrap());
        let (began, mut capped, mut taken) = (limits.now(), 0, 0);
        for step in 0..6000 {
            let now = began + step * SECOND / 100;
            for _ in 0..3 {
                match limits.pass(&light, now) {
                    Ok(_) => taken += 1,
                    Err(short) => {
                        assert!(matches!(short, Short::Capacity(_)), "{short:?}");
                        assert_eq!(limits.refuse(&light, short).limit, Limit::Global);
                    }
                }
            }
            match limits.pass(&heavy, now) {
                Ok(_) => capped += 1,
                Err(short @ Short::Own(_)) => assert_eq!(limits.refuse(&heavy, short).rpm, 60),
                Err(short) => assert!(matches!(short, Short::Capacity(_)), "{short:?}"),
            }
        }
        assert!(capped <= 120, "what it may hold, and what comes in a minute: {capped}");
        assert!((5900..=6000).contains(&(taken + capped)), "the capacity, and no more: {taken} and {capped}");
    }

    #[test]
    fn who_had_its_share_is_told_of_it_on_all_replicas() {
        let (limits, tenant) = limits(6000, Terms { burst_factor: Some(1.0), ..Terms::default() });
        let share = limits.share(&tenant).unwrap();
        let whole = limits.refuse(&share, Short::Share(SECOND)).rpm;
        share.here.set(0.25);
        assert_eq!((limits.refuse(&share, Short::Share(SECOND)).rpm, whole), (5985, 5985));
    }

    #[tokio::test]
    async fn who_gives_up_waiting_has_lost_nothing() {
        for first in [false, true] {
            let (limits, tenant) = limits(240, Terms { priority_support: first, ..Terms::default() });
            let (others, one) = (Who { rpm: 1000, ..who(&tenant, 1) }, who(&tenant, 7));
            let (share, mut others_given, mut given_up) = (limits.share(&tenant).unwrap(), 0, 0);
            while given_up < 9 {
                while limits.fair.capacity.wait(limits.fair.capacity_price(), limits.now()) == 0 {
                    others_given += u64::from(limits.admit(others).await.is_ok());
                }
                match futures_util::poll!(Box::pin(limits.admit(one))) {
                    std::task::Poll::Pending => given_up += 1,
                    // Some capacity came in between.
                    std::task::Poll::Ready(Ok(admitted)) => limits.undo(admitted),
                    std::task::Poll::Ready(Err(_)) => {}
                }
            }
            let in_vain = share.counted().given - others_given;
            assert!(in_vain <= 1, "those that were given up count for the next: {in_vain}");
            for _ in 0..3 {
                limits.admit_user(one).unwrap();
            }
            limits.admit_user(one).unwrap_err();
        }
    }

    #[tokio::test]
    async fn who_gives_up_waiting_for_others_to_end_has_lost_nothing() {
        let (limits, tenant) = limits(6000, Terms { max_concurrent_requests: Some(1), ..Terms::default() });
        let _first = limits.admit(who(&tenant, 1)).await.unwrap();
        for _ in 0..9 {
            assert!(futures_util::poll!(Box::pin(limits.admit(who(&tenant, 7)))).is_pending());
        }
        for _ in 0..3 {
            limits.admit_user(who(&tenant, 7)).unwrap();
        }
    }

    #[tokio::test]
    async fn who_has_had_everything_may_still_ask_whether_anybody_is_there() {
        let (limits, tenant) = limits(6000, Terms::default());
        for _ in 0..3 {
            limits.admit(who(&tenant, 8)).await.unwrap();
        }
        assert_eq!((0..99).filter(|_| limits.admit_ping(who(&tenant, 8))).count(), 12);
        for _ in 0..12 {
            assert!(limits.admit_ping(who(&tenant, 6)));
        }
        for _ in 0..3 {
            limits.admit_user(who(&tenant, 6)).unwrap();
        }
    }

    #[tokio::test]
    async fn what_is_undone_was_never_asked_for() {
        let (limits, tenant) = limits(6000, Terms { base_rpm: Some(1), ..Terms::default() });
        let share = limits.share(&tenant).unwrap();
        let counted = || (share.counted().wanted, share.counted().given);
        for _ in 0..9 {
            let admitted = limits.admit(who(&tenant, 7)).await.unwrap();
            limits.undo(admitted);
        }
        limits.admit(who(&tenant, 7)).await.unwrap();
        assert_eq!(counted(), (1, 1));
        assert_eq!(limits.admit(who(&tenant, 7)).await.unwrap_err().limit, Limit::Tenant);
        assert_eq!(counted(), (2, 1));
    }

    #[test]
    fn a_server_and_its_tools_take_so_many_and_a_refused_one_costs_nothing() {
        let (limits, _) = limits(6000, Terms::default());
        let rates = Rates::new(7, Some(4), [("search", 2)]).unwrap();
        for _ in 0..2 {
            limits.admit_at(&rates, Some("search")).unwrap();
        }
        for _ in 0..9 {
            let refused = limits.admit_at(&rates, Some("search")).unwrap_err();
            assert_eq!((refused.limit, refused.rpm), (Limit::Tool, 2));
            assert!(refused.wait > Duration::from_secs(29) && refused.wait <= Duration::from_secs(30), "{refused:?}");
        }
        for tool in [Some("fetch"), None] {
            limits.admit_at(&rates, tool).unwrap();
        }
        for tool in [Some("fetch"), None] {
            let refused = limits.admit_at(&rates, tool).unwrap_err();
            assert_eq!((refused.limit, refused.rpm), (Limit::Server, 4));
        }
        assert_eq!(limits.admit_at(&rates, Some("search")).unwrap_err().limit, Limit::Tool, "for which it is longer");
        limits.admit_at(&Rates::new(8, Some(4), []).unwrap(), None).unwrap();
    }

    #[test]
    fn while_the_server_has_none_left_its_tools_keep_theirs() {
        let (limits, _) = limits(6000, Terms::default());
        let rates = Rates::new(7, Some(1), [("search", 1)]).unwrap();
        limits.admit_at(&rates, None).unwrap();
        for _ in 0..9 {
            assert_eq!(limits.admit_at(&rates, Some("search")).unwrap_err().limit, Limit::Server);
        }
        limits.admit_at(&Rates::new(7, None, [("search", 1)]).unwrap(), Some("search")).unwrap();
    }

    #[tokio::test]
    async fn so_many_are_served_at_once_and_the_next_waits_for_one_to_end() {
        let (limits, tenant) = limits(6000, Terms { max_concurrent_requests: Some(1), ..Terms::default() });
        let first = limits.admit(who(&tenant, 1)).await.unwrap();
        assert!(first.permit.is_some());
        let (second, ()) = tokio::join!(limits.admit(who(&tenant, 2)), async {
            tokio::task::yield_now().await;
            let third = limits.admit(who(&tenant, 3)).await.unwrap_err();
            assert!(third.at_once, "as many wait as are served");
            drop(first);
        });
        drop(second.unwrap());
        assert!(limits.admit(who(&tenant, 4)).await.unwrap().permit.is_some());
        assert_eq!(limits.share(&tenant).unwrap().at_once(), 0);
    }
}
