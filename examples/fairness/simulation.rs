//! The limiter of each replica, a board between them, and requests that come at random moments to random replicas. Time is a number:
//! a minute of a thousand tenants takes some seconds.

use std::cmp::Reverse;
use std::collections::binary_heap::PeekMut;
use std::collections::{BinaryHeap, HashMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use mcp_registry_gateway::limit::board::{Board, Key, PERIOD};
use mcp_registry_gateway::limit::bucket::{Nanos, SECOND};
use mcp_registry_gateway::limit::fair::{Fair, Rules, Short};
use mcp_registry_gateway::limit::share::Share;
use mcp_registry_gateway::limit::terms::Terms;

use crate::dice::Dice;
use crate::judge::{Judge, WARM_UP};
use crate::scenario::{Plan, Tenant};

const START: Nanos = 40_000 * SECOND;
/// How many times its share a tenant may have.
const BURST: f64 = 1.5;
/// How long a request waits for capacity before it is refused.
const PATIENCE: Nanos = SECOND / 2;
/// Requests are let through in steps of this for those who watch.
pub const STEP: Nanos = SECOND / 10;
/// Decisions that are measured.
const DECISIONS: u32 = 200_000;

/// What happens next. Of what happens in the same moment, the end of a second comes first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    SecondEnds,
    WeightChanges { change: usize },
    Exchange { replica: usize },
    Asks { tenant: usize },
    AsksAgain { tenant: usize, replica: usize, until: Nanos },
}

/// What came of it.
pub struct Outcome {
    pub judge: Judge,
    /// Requests let through in the busiest 60 seconds, over the capacity; none if it was shorter.
    pub busiest_minute: Option<f64>,
    /// Seconds until lenders that came back had their share, if some did.
    pub convergence: Option<f64>,
    /// Nanoseconds a decision, with its part of finding the shares.
    pub decision: f64,
    /// Requests let through to each of the first tenants in each [`STEP`].
    pub steps: Vec<Vec<u32>>,
    pub tenants: Vec<Tenant>,
}

/// One replica.
struct Replica {
    fair: Fair,
    shares: Vec<Arc<Share>>,
    known: HashMap<Key, Arc<Share>>,
}

impl Replica {
    fn new(rules: Rules, tenants: &[Tenant]) -> Self {
        let share = |(key, tenant): (Key, &Tenant)| Arc::new(Share::simulated(key, &terms(tenant.weight), BURST));
        let shares: Vec<_> = (0..).zip(tenants).map(share).collect();
        let known = shares.iter().map(|share| (share.key(), share.clone())).collect();
        Self { fair: Fair::new(rules), shares, known }
    }
}

fn terms(weight: f64) -> Terms {
    Terms { weight, ..Terms::default() }
}

struct Simulation {
    plan: Plan,
    dice: Dice,
    events: BinaryHeap<Reverse<(Nanos, Event)>>,
    replicas: Vec<Replica>,
    board: Board,
    judge: Judge,
    minute: VecDeque<Nanos>,
    busiest: usize,
    steps: Vec<Vec<u32>>,
}

/// Runs it; the first `watched` tenants are watched closely.
pub fn run(plan: Plan, watched: usize, seed: u64) -> Outcome {
    let rules = Rules { capacity_rpm: plan.capacity_rpm, window: Duration::from_mins(5), fair: true };
    let watched = watched.max(plan.lenders.map_or(0, |(count, _)| count));
    let steps = (plan.seconds * SECOND / STEP) as usize;
    let mut simulation = Simulation {
        dice: Dice::new(seed ^ u64::MAX),
        events: BinaryHeap::new(),
        replicas: (0..plan.replicas).map(|_| Replica::new(rules, &plan.tenants)).collect(),
        board: Board::new(rules.capacity()),
        judge: Judge::new(rules, BURST, plan.tenants.len()),
        minute: VecDeque::new(),
        busiest: 0,
        steps: vec![vec![0; steps]; watched],
        plan,
    };
    simulation.begin();
    let end = START + simulation.plan.seconds * SECOND;
    while let Some((now, event)) = simulation.next_until(end) {
        simulation.happens(event, now);
    }
    let decision = simulation.measure(end);
    let Simulation { plan, judge, busiest, steps, .. } = simulation;
    Outcome {
        judge,
        busiest_minute: (plan.seconds >= 60).then(|| busiest as f64 / f64::from(plan.capacity_rpm)),
        convergence: convergence(&plan, &rules, &steps),
        decision,
        steps,
        tenants: plan.tenants,
    }
}

impl Simulation {
    fn begin(&mut self) {
        self.at(START + SECOND, Event::SecondEnds);
        for change in 0..self.plan.changes.len() {
            self.at(START + self.plan.changes[change].at, Event::WeightChanges { change });
        }
        for replica in 0..self.replicas.len() {
            if self.replicas.len() > 1 {
                self.replicas[replica].fair.join(1, START);
            }
            let offset = PERIOD * replica as u64 / self.replicas.len() as u64;
            self.at(START + offset, Event::Exchange { replica });
        }
        for tenant in 0..self.plan.tenants.len() {
            let next = START + self.plan.tenants[tenant].next(0, &mut self.dice);
            self.at(next, Event::Asks { tenant });
        }
    }

    fn at(&mut self, moment: Nanos, event: Event) {
        self.events.push(Reverse((moment, event)));
    }

    /// What happens next, if it is not after the end. A tenant that asks will ask again, which takes the place of what it asks now: that
    /// moves the heap once instead of twice.
    fn next_until(&mut self, end: Nanos) -> Option<(Nanos, Event)> {
        let mut first = self.events.peek_mut()?;
        let Reverse((now, event)) = *first;
        if now > end {
            return None;
        }
        if let Event::Asks { tenant } = event {
            let next = START + self.plan.tenants[tenant].next(now - START, &mut self.dice);
            *first = Reverse((next, event));
        } else {
            PeekMut::pop(first);
        }
        Some((now, event))
    }

    fn happens(&mut self, event: Event, now: Nanos) {
        match event {
            Event::SecondEnds => {
                self.judge.second(&self.plan.tenants);
                self.at(now + SECOND, Event::SecondEnds);
            }
            Event::WeightChanges { change } => {
                let change = self.plan.changes[change];
                self.plan.tenants[change.tenant].weight = change.weight;
                for replica in &self.replicas {
                    replica.shares[change.tenant].agree(&terms(change.weight), BURST);
                }
            }
            Event::Exchange { replica } => {
                self.exchange(replica, now);
                self.at(now + PERIOD, Event::Exchange { replica });
            }
            Event::Asks { tenant } => {
                let replica = self.dice.below(self.replicas.len());
                self.judge.wanted(tenant);
                let Replica { fair, shares, .. } = &self.replicas[replica];
                fair.wanted(&shares[tenant], now);
                self.decide(tenant, replica, now, now + PATIENCE);
            }
            Event::AsksAgain { tenant, replica, until } => {
                self.replicas[replica].fair.waited();
                self.decide(tenant, replica, now, until);
            }
        }
    }

    fn exchange(&mut self, number: usize, now: Nanos) {
        if self.replicas.len() == 1 {
            return;
        }
        if self.plan.away.is_some_and(|away| now >= START + away) {
            return;
        }
        let replica = &self.replicas[number];
        let reply = self.board.exchange(replica.fair.report(number as u128, now), now);
        replica.fair.hear(&reply, now, |key| replica.known.get(&key).cloned());
    }

    fn decide(&mut self, tenant: usize, replica: usize, now: Nanos, until: Nanos) {
        let Replica { fair, shares, .. } = &self.replicas[replica];
        match fair.take(&shares[tenant], now) {
            Ok(_) => self.passes(tenant, now),
            Err(Short::Capacity(first)) => {
                let again = now + fair.wait(first);
                if again <= until {
                    self.at(again, Event::AsksAgain { tenant, replica, until });
                } else {
                    fair.waited();
                    fair.refuse(Short::Capacity(first));
                }
            }
            Err(short) => fair.refuse(short),
        }
    }

    fn passes(&mut self, tenant: usize, now: Nanos) {
        self.judge.given(tenant);
        self.minute.push_back(now);
        while self.minute.front().is_some_and(|first| now - first > 60 * SECOND) {
            self.minute.pop_front();
        }
        self.busiest = self.busiest.max(self.minute.len());
        if let Some(steps) = self.steps.get_mut(tenant)
            && let Some(step) = steps.get_mut(((now - START) / STEP) as usize)
        {
            *step += 1;
        }
    }

    /// What a decision costs in the state that it has come to, at the pace of the requests.
    fn measure(&self, mut now: Nanos) -> f64 {
        let Replica { fair, shares, .. } = &self.replicas[0];
        let rate: f64 = self.plan.tenants.iter().map(|tenant| tenant.rate).sum();
        let step = (1e9 * self.replicas.len() as f64 / rate) as Nanos;
        let began = Instant::now();
        for share in shares.iter().cycle().take(DECISIONS as usize) {
            now += step;
            fair.wanted(share, now);
            _ = std::hint::black_box(fair.take(share, now));
        }
        began.elapsed().as_nanos() as f64 / f64::from(DECISIONS)
    }
}

/// Seconds from the return of the lenders to the end of the first step in which they had their share, and after which they had it for
/// a second.
fn convergence(plan: &Plan, rules: &Rules, steps: &[Vec<u32>]) -> Option<f64> {
    let (lenders, back) = plan.lenders?;
    let share = rules.capacity() * lenders as f64 / plan.tenants.len() as f64;
    let first = (back / STEP) as usize;
    let had =
        |from: usize, to: usize| f64::from(steps.iter().map(|steps| steps[from..to].iter().sum::<u32>()).sum::<u32>());
    let a_second = (SECOND / STEP) as usize;
    let seconds = |steps: usize| steps as f64 * STEP as f64 / 1e9;
    let has_it = |step: &usize| {
        let after = first + step + 1;
        had(after - 1, after) >= 0.9 * share * seconds(1) && had(after, after + a_second) >= 0.95 * share
    };
    Some((0..5 * a_second).find(has_it).map_or(f64::INFINITY, |step| seconds(step + 1)))
}

const _: () = assert!(WARM_UP < 20, "lenders lend after the warm-up");
