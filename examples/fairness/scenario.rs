//! Who asks for how much, and when.

use mcp_registry_gateway::limit::bucket::{Nanos, SECOND};

use crate::dice::Dice;

/// Mean time for which a tenant asks, or does not, when it comes and goes.
const COMES_AND_GOES: f64 = 20e9;
/// When lenders go and come back.
const LEND: (Nanos, Nanos) = (20 * SECOND, 30 * SECOND);
/// How often weights change.
const NEW_WEIGHTS: Nanos = 5 * SECOND;

/// What is special about a scenario.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, clap::ValueEnum)]
pub enum Kind {
    /// Demand with a heavy tail, three times the capacity.
    Heavy,
    /// The same, but tenants come and go.
    OnOff,
    /// The same, but weights change.
    Weights,
    /// One tenant asks for 100 times its share; the others for nine tenths of the capacity.
    Attack,
    /// Demand with a heavy tail, seven tenths of the capacity.
    Slack,
    /// All ask for twice their share; a tenth of them lends it and comes back.
    Return,
}

impl Kind {
    pub const ALL: [Self; 6] = [Self::Heavy, Self::OnOff, Self::Weights, Self::Attack, Self::Slack, Self::Return];

    pub fn name(self) -> &'static str {
        match self {
            Self::Heavy => "heavy tail",
            Self::OnOff => "on and off",
            Self::Weights => "new weights",
            Self::Attack => "attacker",
            Self::Slack => "slack",
            Self::Return => "lenders return",
        }
    }
}

/// When a tenant asks.
#[derive(Debug, Clone, Copy)]
pub enum Pattern {
    Always,
    From(Nanos),
    /// Not between these moments.
    Except(Nanos, Nanos),
    /// For a while, then not; until when.
    OnOff(bool, Nanos),
}

/// One tenant.
#[derive(Debug, Clone, Copy)]
pub struct Tenant {
    pub weight: f64,
    /// Requests a second while it asks.
    pub rate: f64,
    pub pattern: Pattern,
}

impl Tenant {
    pub fn always(weight: f64, rate: f64) -> Self {
        Self { weight, rate, pattern: Pattern::Always }
    }

    /// When it asks next, after `now`.
    pub fn next(&mut self, now: Nanos, dice: &mut Dice) -> Nanos {
        let mean = 1e9 / self.rate;
        let mut next = now + dice.wait(mean);
        match &mut self.pattern {
            Pattern::From(start) if next < *start => next = *start + dice.wait(mean),
            Pattern::Except(from, until) if (*from..*until).contains(&next) => next = *until + dice.wait(mean),
            Pattern::Always | Pattern::From(_) | Pattern::Except(..) => {}
            Pattern::OnOff(on, until) => {
                while next >= *until {
                    let turn = *until;
                    *on = !*on;
                    *until = turn + dice.wait(COMES_AND_GOES);
                    next = if *on { turn + dice.wait(mean) } else { *until };
                }
            }
        }
        next
    }
}

/// A tenant's new weight.
#[derive(Debug, Clone, Copy)]
pub struct Change {
    pub at: Nanos,
    pub tenant: usize,
    pub weight: f64,
}

/// What happens in a simulation. Moments count from its start.
#[derive(Debug, Clone, Default)]
pub struct Plan {
    pub capacity_rpm: u32,
    pub seconds: u64,
    pub replicas: usize,
    /// When the board goes away.
    pub away: Option<Nanos>,
    pub tenants: Vec<Tenant>,
    pub changes: Vec<Change>,
    /// The first so many tenants lend their share and come back at this moment.
    pub lenders: Option<(usize, Nanos)>,
}

/// One line of the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Case {
    pub kind: Kind,
    pub tenants: usize,
    pub replicas: usize,
    pub away: bool,
}

impl Case {
    /// About how long it takes to simulate, in no unit.
    pub fn effort(&self) -> usize {
        self.tenants * self.replicas * if self.away || self.replicas == 1 { 1 } else { 3 }
    }

    /// Whether it takes minutes: thousands of tenants on many replicas that all hear of one another.
    pub fn takes_long(&self) -> bool {
        self.effort() > 50_000 && self.kind != Kind::Heavy
    }

    /// How long it lasts in the simulation.
    pub fn seconds(&self) -> u64 {
        match self.effort() {
            0..5_000 => 130,
            5_000..=100_000 => 62,
            _ if self.kind == Kind::Return => 120,
            _ => 25,
        }
    }

    pub fn plan(&self, seconds: u64, seed: u64) -> Plan {
        let mut dice = Dice::new(seed);
        let count = self.tenants;
        let capacity_rpm = u32::try_from(count * 600).unwrap_or(u32::MAX).max(60_000);
        let capacity = f64::from(capacity_rpm) / 60.0;
        let each = capacity / count as f64;
        let of_capacity = match self.kind {
            Kind::Heavy | Kind::OnOff | Kind::Weights => 3.0,
            Kind::Attack => 0.9,
            Kind::Slack => 0.7,
            Kind::Return => 2.0,
        };
        let equal = self.kind == Kind::Return;
        let sizes: Vec<f64> = (0..count).map(|_| if equal { 1.0 } else { dice.pareto(1.3) }).collect();
        let whole: f64 = sizes.iter().sum();
        let mut tenants: Vec<Tenant> = (0..count)
            .map(|i| Tenant {
                weight: if equal { 1.0 } else { [1.0, 1.0, 1.0, 2.0, 4.0][i % 5] },
                rate: sizes[i] * capacity * of_capacity / whole,
                pattern: match self.kind {
                    Kind::OnOff => Pattern::OnOff(i % 2 == 0, dice.wait(COMES_AND_GOES)),
                    _ => Pattern::Always,
                },
            })
            .collect();
        let lenders = (self.kind == Kind::Return).then(|| (count.div_ceil(10), LEND.1));
        for tenant in tenants.iter_mut().take(lenders.map_or(0, |(count, _)| count)) {
            tenant.pattern = Pattern::Except(LEND.0, LEND.1);
        }
        if self.kind == Kind::Attack {
            tenants[0].rate = 100.0 * each;
        }
        let mut changes = Vec::new();
        if self.kind == Kind::Weights {
            for round in 1..=seconds * SECOND / NEW_WEIGHTS {
                changes.extend((0..count.div_ceil(10)).map(|_| Change {
                    at: round * NEW_WEIGHTS,
                    tenant: dice.below(count),
                    weight: [0.5, 1.0, 2.0, 4.0, 8.0][dice.below(5)],
                }));
            }
        }
        let away = self.away.then_some(10 * SECOND);
        Plan { capacity_rpm, seconds, replicas: self.replicas, away, tenants, changes, lenders }
    }
}
