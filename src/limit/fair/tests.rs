//! What the limiter promises, tried with clocks of the tests' own.

#![expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "counts and moments of some seconds"
)]

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use proptest::prelude::*;
use proptest::test_runner::RngSeed;

use super::super::board::{Asked, Board, Other, PERIOD};
use super::super::terms::Terms;
use super::super::water::{Claim, level};
use super::*;

const START: Nanos = 40_000 * SECOND;
const BURST: f64 = 1.5;
/// How long a request waits for capacity.
const PATIENCE: Nanos = SECOND / 2;

/// A request: when, whose, where, and until when it waits if it has begun to.
type Event = Reverse<(Nanos, usize, usize, Option<Nanos>)>;

/// Replicas, the board between them, and what they let through.
struct World {
    rules: Rules,
    fairs: Vec<Fair>,
    shares: Vec<Vec<Arc<Share>>>,
    board: Board,
    /// When nobody reaches it.
    away: std::ops::Range<Nanos>,
    /// When each replica comes to the board next; none: it is dead.
    next: Vec<Option<Nanos>>,
    passed: Vec<(Nanos, usize)>,
    wanted: Vec<u64>,
    refused: Vec<(Nanos, usize, Short)>,
    waiting: Vec<Event>,
}

impl World {
    fn new(capacity_rpm: u32, replicas: usize, terms: &[Terms]) -> Self {
        let rules = Rules { capacity_rpm, window: Duration::from_mins(5), fair: true };
        let share = |(key, terms): (Key, &Terms)| Arc::new(Share::simulated(key, terms, BURST));
        let shares = || (0..).zip(terms).map(share).collect();
        let fairs: Vec<Fair> = (0..replicas).map(|_| Fair::new(rules)).collect();
        if replicas > 1 {
            for fair in &fairs {
                fair.join(1, START);
            }
        }
        Self {
            rules,
            fairs,
            shares: (0..replicas).map(|_| shares()).collect(),
            board: Board::new(rules.capacity()),
            away: 0..0,
            next: (0..replicas as u64).map(|replica| Some(START + replica * PERIOD / replicas as u64)).collect(),
            passed: Vec::new(),
            wanted: vec![0; terms.len()],
            refused: Vec::new(),
            waiting: Vec::new(),
        }
    }

    /// All that is due by the clock happens, in its order.
    fn exchange_until(&mut self, now: Nanos) {
        if self.fairs.len() == 1 {
            return;
        }
        while let Some((replica, at)) =
            self.next.iter().enumerate().filter_map(|(i, at)| Some((i, (*at)?))).min_by_key(|(_, at)| *at)
            && at <= now
        {
            let (fair, shares) = (&self.fairs[replica], &self.shares[replica]);
            self.next[replica] = Some(at + PERIOD);
            if self.away.contains(&at) {
                fair.settle(at);
                continue;
            }
            let reply = self.board.exchange(fair.report(replica as u128, at), at);
            fair.hear(&reply, at, |key| shares.get(usize::try_from(key).ok()?).cloned());
        }
    }

    fn ask(&mut self, tenant: usize, replica: usize, now: Nanos) -> Result<(), Short> {
        self.exchange_until(now);
        let (fair, share) = (&self.fairs[replica], &self.shares[replica][tenant]);
        fair.wanted(share, now);
        self.wanted[tenant] += 1;
        self.again(tenant, replica, now)
    }

    /// One that has waited for capacity.
    fn again(&mut self, tenant: usize, replica: usize, now: Nanos) -> Result<(), Short> {
        self.exchange_until(now);
        let (fair, share) = (&self.fairs[replica], &self.shares[replica][tenant]);
        let wait = if share.goes_first() {
            fair.take_next(share, now, PATIENCE)?.0
        } else {
            fair.take(share, now).map(|_| 0)?
        };
        self.passed.push((now + wait, tenant));
        Ok(())
    }

    /// Each tenant asks so many times a second, evenly, at the replicas in turns; `each_second` is told of every whole second.
    fn run(&mut self, rates: &[f64], seconds: std::ops::Range<u64>, mut each_second: impl FnMut(&mut Self, u64)) {
        for second in seconds {
            each_second(self, second);
            let mut asks: Vec<(Nanos, usize, usize)> = Vec::new();
            for (tenant, rate) in rates.iter().enumerate() {
                // The first tenant asks a little earlier than the second, and so on, so that no order is always the same.
                let (first, last) = (rate * second as f64, rate * (second + 1) as f64);
                asks.extend((first.ceil() as u64..last.ceil() as u64).map(|number| {
                    let at = (number as f64 / rate * 1e9) as Nanos + tenant as Nanos * 1_234_567 % SECOND;
                    (START + at, tenant, number as usize % self.alive())
                }));
            }
            let first = |(now, tenant, replica)| Reverse((now, tenant, self.living(replica), None));
            let mut events: BinaryHeap<Event> = asks.into_iter().map(first).collect();
            events.extend(self.waiting.drain(..));
            let end = START + (second + 1) * SECOND;
            while let Some(Reverse((now, tenant, replica, until))) = events.pop() {
                if until.is_some() {
                    self.fairs[replica].waited();
                }
                let answer =
                    if until.is_some() { self.again(tenant, replica, now) } else { self.ask(tenant, replica, now) };
                let Err(short) = answer else { continue };
                let until = until.unwrap_or(now + PATIENCE);
                if let Short::Capacity(first) = short {
                    let again = now + self.fairs[replica].wait(first);
                    let event = Reverse((again, tenant, replica, Some(until)));
                    if again > until {
                        self.fairs[replica].waited();
                    } else if again < end {
                        events.push(event);
                        continue;
                    } else {
                        self.waiting.push(event);
                        continue;
                    }
                }
                self.refused.push((now, tenant, short));
            }
        }
    }

    fn alive(&self) -> usize {
        self.next.iter().flatten().count()
    }

    fn living(&self, number: usize) -> usize {
        self.next.iter().enumerate().filter(|(_, next)| next.is_some()).nth(number).map_or(0, |(replica, _)| replica)
    }

    fn agree(&self, tenant: usize, terms: &Terms) {
        self.shares.iter().for_each(|shares| shares[tenant].agree(terms, BURST));
    }

    fn given(&self, tenant: usize, seconds: std::ops::Range<u64>) -> f64 {
        let moments = START + seconds.start * SECOND..START + seconds.end * SECOND;
        self.passed.iter().filter(|(at, who)| *who == tenant && moments.contains(at)).count() as f64
    }

    /// The most that passed in any minute, both of its ends counted.
    fn busiest_minute(&mut self) -> usize {
        self.passed.sort_unstable();
        let (mut first, mut most) = (0, 0);
        for (i, (at, _)) in self.passed.iter().enumerate() {
            while at - self.passed[first].0 > 60 * SECOND {
                first += 1;
            }
            most = most.max(i - first + 1);
        }
        most
    }
}

fn weight(weight: f64) -> Terms {
    Terms { weight, ..Terms::default() }
}

fn some_terms() -> impl Strategy<Value = Terms> {
    (prop_oneof![Just(1.0), 0.1..20.0], prop::option::weighted(0.2, 1_u32..5000), prop::bool::weighted(0.2)).prop_map(
        |(weight, base_rpm, priority_support)| Terms { weight, base_rpm, priority_support, ..Terms::default() },
    )
}

/// Tenants with what each asks for, as a part of the capacity.
fn tenants(most: usize, demand: std::ops::Range<f64>) -> impl Strategy<Value = Vec<(f64, f64)>> {
    prop::collection::vec((prop_oneof![Just(1.0), 0.5..8.0], demand), 2..most)
}

fn steady(tenants: &[(f64, f64)], capacity_rpm: u32, replicas: usize, seconds: u64) -> (World, Vec<f64>) {
    let terms: Vec<Terms> = tenants.iter().map(|(of_one, _)| weight(*of_one)).collect();
    let mut world = World::new(capacity_rpm, replicas, &terms);
    let rates: Vec<f64> = tenants.iter().map(|(_, part)| part * world.rules.capacity()).collect();
    world.run(&rates, 0..seconds, |_, _| {});
    (world, rates)
}

proptest! {
    // The same cases every time: the bounds are of what is usual, and chance finds what is not, some day, in somebody else's change.
    #![proptest_config(ProptestConfig {
        cases: 24, rng_seed: RngSeed::Fixed(1), failure_persistence: None, ..ProptestConfig::default()
    })]

    /// Whatever changes: weights, caps and who goes first, a replica that dies, a board that forgets everything or is away for some time.
    #[test]
    fn no_minute_has_more_than_the_capacity(
        capacity_rpm in prop_oneof![30_u32..200, 200_u32..6000],
        replicas in prop::sample::select(vec![1_usize, 3, 7]),
        terms in prop::collection::vec(some_terms(), 1..6),
        changes in prop::collection::vec((0_u64..70, any::<prop::sample::Index>(), some_terms()), 0..8),
        demands in prop::collection::vec(0.0..3.0, 6),
        dies in prop::option::of(5_u64..60),
        forgets in prop::option::of(5_u64..60),
        away in prop::option::of((5_u64..60, 1_u64..20)),
    ) {
        let mut world = World::new(capacity_rpm, replicas, &terms);
        let capacity = world.rules.capacity();
        let rates: Vec<f64> = terms.iter().zip(demands).map(|(_, part)| part * capacity + 0.01).collect();
        if let Some((from, long)) = away {
            world.away = START + from * SECOND..START + (from + long) * SECOND;
        }
        // Silence first: all that can be saved up is.
        world.exchange_until(START + SECOND);
        world.run(&rates, 1..75, |world, second| {
            for (_, which, terms) in changes.iter().filter(|(at, ..)| *at == second) {
                world.agree(which.index(rates.len()), terms);
            }
            if dies == Some(second) && replicas > 1 {
                world.next[1] = None;
            }
            if forgets == Some(second) {
                world.board = Board::new(capacity);
            }
        });
        let most = world.busiest_minute();
        prop_assert!(most <= capacity_rpm as usize, "{most} of {capacity_rpm}");
    }

    /// In a whole window its share, less a hundredth of the window's, and one request.
    #[test]
    fn who_asks_has_its_share(tenants in tenants(12, 0.001..2.0), replicas in prop::sample::select(vec![1_usize, 3])) {
        let (world, _) = steady(&tenants, 6_000, replicas, 300);
        let weights: f64 = tenants.iter().map(|(weight, _)| weight).sum();
        for (tenant, (weight, _)) in tenants.iter().enumerate() {
            let share = world.rules.capacity() * weight / weights;
            let due = (share * 300.0).min(world.wanted[tenant] as f64);
            let given = world.given(tenant, 0..301);
            prop_assert!(given >= due - share * 3.0 - 1.0, "tenant {tenant}: {given} of {due}, {tenants:?}");
        }
    }

    /// Steady demands are what a water-filling of the whole window can be compared with: within a hundredth, and two requests.
    #[test]
    fn steady_demands_have_what_water_filling_gives(tenants in tenants(10, 0.01..1.5)) {
        let (world, rates) = steady(&tenants, 30_000, 1, 60);
        let (from, to) = (30, 60);
        let capacity = world.rules.capacity();
        let weights: f64 = tenants.iter().map(|(weight, _)| weight).sum();
        let claims = tenants.iter().zip(&rates).map(|((weight, _), rate)| {
            Claim { weight: *weight, most: rate.min(capacity * weight / weights * BURST) }
        });
        let level = level(&claims.clone(), capacity);
        for (tenant, claim) in claims.enumerate() {
            let (exact, given) = (claim.part(level) * (to - from) as f64, world.given(tenant, from..to));
            // While there is enough for all, a tenant has its burst and what it saved up besides.
            let most = if level.is_finite() { 1.01 * exact + 2.0 } else { f64::INFINITY };
            prop_assert!((0.99 * exact - 2.0..=most).contains(&given), "tenant {tenant}: {given}, not {exact}, {tenants:?}");
        }
    }

    /// While somebody is refused for its share who is not at its burst, at most a twentieth of the capacity is left in four seconds.
    #[test]
    fn no_capacity_is_left_while_somebody_wants_some(
        tenants in tenants(10, 0.3..2.0),
        replicas in prop::sample::select(vec![1_usize, 3]),
    ) {
        let (world, _) = steady(&tenants, 60_000, replicas, 12);
        let capacity = world.rules.capacity();
        let weights: f64 = tenants.iter().map(|(weight, _)| weight).sum();
        for from in 2..=8 {
            let seconds = from..from + 4;
            let moments = START + from * SECOND..START + (from + 4) * SECOND;
            let below_burst = |tenant: usize| {
                world.given(tenant, seconds.clone()) < 0.95 * 4.0 * BURST * capacity * tenants[tenant].0 / weights
            };
            let refused = world.refused.iter().any(|(at, tenant, short)| {
                moments.contains(at) && matches!(short, Short::Share(_)) && below_burst(*tenant)
            });
            let used: f64 = (0..tenants.len()).map(|tenant| world.given(tenant, seconds.clone())).sum();
            prop_assert!(!refused || used >= 0.95 * 4.0 * capacity, "from {from}: {used} of 4 times {capacity}, {tenants:?}");
        }
    }

    #[test]
    fn a_heavier_weight_gives_no_less(tenants in tenants(8, 0.05..1.5), which in any::<prop::sample::Index>(), more in 1.0..5.0) {
        let which = which.index(tenants.len());
        let mut heavier = tenants.clone();
        heavier[which].0 *= more;
        let given = |tenants: &[(f64, f64)]| steady(tenants, 60_000, 1, 15).0.given(which, 3..15);
        let (before, after) = (given(&tenants), given(&heavier));
        prop_assert!(after >= before * 0.99 - 2.0, "{after} after {before}");
    }

    /// Beside attackers everybody has something within a second and the time of four requests of its share.
    #[test]
    fn nobody_starves(quiet in 1_usize..8, attackers in 1_usize..4, replicas in prop::sample::select(vec![1_usize, 3])) {
        let mut tenants = vec![(1.0, 0.5 / (quiet + attackers) as f64); quiet];
        tenants.extend(vec![(1.0, 20.0); attackers]);
        let (world, _) = steady(&tenants, 20_000, replicas, 6);
        for tenant in 0..tenants.len() {
            let share = world.rules.capacity() / tenants.len() as f64;
            let longest = ((4.0 / share + 1.0) * 1e9) as Nanos;
            let moments = world.passed.iter().filter(|(_, who)| *who == tenant).map(|(at, _)| *at);
            let mut moments: Vec<Nanos> = moments.chain([START + 6 * SECOND]).collect();
            moments.sort_unstable();
            let gaps = moments.windows(2).map(|pair| pair[1] - pair[0]);
            let gap = gaps.max().unwrap_or(Nanos::MAX);
            prop_assert!(gap <= longest, "tenant {tenant} had nothing for {gap} ns");
        }
    }

    /// What was there before a refusal is there after it; and a token comes when it is said, and not before.
    #[test]
    fn a_refusal_costs_nothing_and_its_wait_is_true(
        capacity_rpm in 10_u32..2000,
        base_rpm in prop::option::of(1_u32..500),
        steps in prop::collection::vec(0_u64..400_000_000, 1..300),
        others in 0_usize..3,
    ) {
        let terms: Vec<Terms> = std::iter::once(Terms { base_rpm, ..Terms::default() })
            .chain(std::iter::repeat_n(weight(1.0), others)).collect();
        let mut world = World::new(capacity_rpm, 1, &terms);
        let mut now = START;
        for step in steps {
            now += step;
            for tenant in 1..=others {
                _ = world.ask(tenant, 0, now);
            }
            world.fairs[0].wanted(&world.shares[0][0], now);
            let (fair, share) = (&world.fairs[0], &*world.shares[0][0]);
            let state = |now| {
                let own = share.own_price().map(|price| share.own.wait(price, now));
                let tokens = fair.capacity.tokens(fair.capacity_price(), now);
                (own, share.fair.wait(fair.price(share), now), share.fair.tokens(fair.price(share), now), tokens, share.given.load(Relaxed))
            };
            let before = state(now);
            if let Err(short) = fair.take(share, now) {
                prop_assert_eq!(state(now), before);
                let wait = short.wait();
                prop_assert!(wait > 0);
                // What is not left for others may come sooner: who has saved some up by then leaves none.
                let sooner = Some(wait) != before.0 && wait != before.1;
                prop_assert!(sooner || fair.take(share, now + wait - 1).is_err(), "{:?} came too early", short);
                prop_assert_eq!(fair.take(share, now + wait).map(drop), Ok(()));
                now += wait;
            }
        }
    }

    /// Its own cap: at most a minute's worth at once, and from then on as many as come, on all replicas together.
    #[test]
    fn nobody_goes_beyond_its_own_cap(base_rpm in 5_u32..3000, replicas in prop::sample::select(vec![1_usize, 3]), demand in 0.1..1.0) {
        let mut world = World::new(60_000, replicas, &[Terms { base_rpm: Some(base_rpm), burst_factor: Some(10.0), ..Terms::default() }]);
        let rate = demand * world.rules.capacity();
        world.exchange_until(START + SECOND / 2);
        world.run(&[rate], 0..70, |_, _| {});
        for seconds in [1_u64, 10, 30, 60, 70] {
            let allowed = f64::from(base_rpm) * (1.0 + seconds as f64 / 60.0) + 2.0 * replicas as f64;
            prop_assert!(world.given(0, 0..seconds) <= allowed, "{} in {seconds} s", world.given(0, 0..seconds));
        }
    }

    /// Whatever replicas ask for and whenever, dead ones among them.
    #[test]
    fn leases_are_never_more_than_the_capacity(
        asks in prop::collection::vec((0_u128..6, 0.0..150.0, 0_u64..300_000_000), 1..200),
    ) {
        let (mut board, mut now) = (Board::new(100.0), START);
        let mut leases = std::collections::HashMap::new();
        for (replica, rate, step) in asks {
            now += step;
            let reply = board.exchange(Report { replica, rate, ..Report::default() }, now);
            leases.insert(replica, (now, reply.lease));
            let live: f64 = leases.values().filter(|(at, _)| now < at + LEASE).map(|(_, lease)| lease).sum();
            prop_assert!(live <= 100.0 + 1e-6, "{live}");
        }
    }
}

#[test]
fn what_was_lent_is_back_within_a_second() {
    for replicas in [1, 3] {
        let mut world = World::new(60_000, replicas, &[weight(1.0), weight(1.0), weight(1.0), weight(1.0)]);
        world.run(&[0.001, 600.0, 600.0, 600.0], 0..10, |_, _| {});
        assert!(world.given(1, 5..10) > 1.2 * 5.0 * 250.0, "it was lent");
        world.run(&[600.0, 600.0, 600.0, 600.0], 10..15, |_, _| {});
        // Within the first second, and from then on.
        for second in 10..15 {
            let given = world.given(0, second..second + 1);
            assert!(given >= 0.95 * world.rules.capacity() / 4.0, "{given} in second {second} with {replicas}");
        }
    }
}

#[test]
fn what_a_tenant_leaves_of_its_share_is_saved_up_and_not_what_it_was_lent() {
    let mut world = World::new(60_000, 1, &[weight(1.0), weight(1.0), weight(1.0)]);
    let share = world.rules.capacity() / 3.0;
    world.run(&[0.5 * share, 1.2 * share, 9.0 * share], 0..20, |_, _| {});
    let (fair, shares) = (&world.fairs[0], &world.shares[0]);
    let tokens = |tenant: usize| {
        let share = &shares[tenant];
        share.fair.tokens(fair.price(share), START + 20 * SECOND) as f64
    };
    assert!(tokens(0) > 2.5 * share, "{} of {share}", tokens(0));
    assert!(tokens(1) < 0.5 * share, "{} of {share}", tokens(1));
}

/// Too seldom to be named on the board all the time.
#[test]
fn the_parts_of_tenants_that_ask_each_replica_seldom_are_one_together() {
    let (tenants, replicas) = (100, 5);
    let mut world = World::new(6000, replicas, &vec![weight(1.0); tenants]);
    for number in 0..20 * 2 * tenants {
        let at = START + number as Nanos * SECOND / (2 * tenants as Nanos);
        // Anywhere, but the same each time.
        let replica = number.wrapping_mul(0x9e37_79b9) >> 16;
        _ = world.ask(number % tenants, replica % replicas, at);
    }
    let parts = world.shares.iter().flatten().map(|share| share.own_here.get());
    let mean = parts.sum::<f64>() / tenants as f64;
    assert!((0.95..1.05).contains(&mean), "{mean}");
}

#[test]
fn a_dead_replica_s_part_is_free_after_its_lease() {
    let mut world = World::new(60_000, 3, &[weight(1.0), weight(1.0)]);
    let rates = [1500.0, 1500.0];
    world.run(&rates, 0..5, |_, _| {});
    world.next[2] = None;
    world.run(&rates, 5..10, |_, _| {});
    let whole: f64 = (0..2).map(|tenant| world.given(tenant, 7..10)).sum();
    assert!(whole >= 0.95 * 3.0 * world.rules.capacity(), "{whole}");
}

#[test]
fn counters_that_begin_again_at_0_go_on() {
    let fair = Fair::new(Rules { capacity_rpm: 600, window: Duration::from_mins(5), fair: true });
    let share = Arc::new(Share::simulated(7, &Terms::default(), BURST));
    let hear = |wanted, given| {
        let asked = Asked { tenant: 7, rate: 1.0, long: 1.0, wanted, given };
        let other = Other { replica: 1, asked: vec![asked], ..Other::default() };
        fair.hear(&Reply { others: vec![other], lease: 1.0, ..Reply::default() }, START, |_| Some(share.clone()));
    };
    hear(u32::MAX - 1, u32::MAX);
    let counted = || (share.counted().wanted, share.counted().given);
    assert_eq!(counted(), (0, 0), "what was counted before is not of now");
    hear(3, 1);
    assert_eq!(counted(), (5, 2));
    hear(1, 0);
    assert_eq!(counted(), (5, 2), "of a tenant that was made anew");
}

#[test]
fn without_a_lease_a_wait_is_one_that_a_clock_can_be_set_by() {
    let fair = Fair::new(Rules { capacity_rpm: 600, window: Duration::from_mins(5), fair: true });
    let share = Arc::new(Share::simulated(7, &Terms::default(), BURST));
    fair.hear(&Reply::default(), START, |_| None);
    let short = fair.take(&share, START).unwrap_err();
    assert_eq!(short, Short::Capacity(LEASE));
    for _ in 0..10 {
        assert!(START.checked_add(fair.wait(short.wait())).is_some());
    }
}
