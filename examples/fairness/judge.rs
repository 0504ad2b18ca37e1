//! Somebody who sees everything: all that is asked for and let through on all replicas.

use mcp_registry_gateway::limit::exact::{Comparison, Second, Standing};
use mcp_registry_gateway::limit::fair::Rules;
use mcp_registry_gateway::limit::figures::{Closeness, Sums};
use mcp_registry_gateway::limit::water::{Claim, level};

use crate::scenario::Tenant;

/// The first seconds count for nothing: everybody begins at once and with all that can be saved up.
pub const WARM_UP: u64 = 10;

/// What it saw.
pub struct Judge {
    rules: Rules,
    burst: f64,
    comparison: Comparison,
    seconds: u64,
    counted: Vec<(u64, u64)>,
    standings: Vec<Standing>,
    sums: Vec<Sums>,
    violations: u64,
}

impl Judge {
    pub fn new(rules: Rules, burst: f64, tenants: usize) -> Self {
        Self {
            rules,
            burst,
            comparison: Comparison::default(),
            seconds: 0,
            counted: vec![(0, 0); tenants],
            standings: vec![Standing::default(); tenants],
            sums: vec![Sums::default(); tenants],
            violations: 0,
        }
    }

    pub fn wanted(&mut self, tenant: usize) {
        self.counted[tenant].0 += 1;
    }

    pub fn given(&mut self, tenant: usize) {
        self.counted[tenant].1 += 1;
    }

    /// A second is over.
    pub fn second(&mut self, tenants: &[Tenant]) {
        let seconds = tenants.iter().zip(&mut self.counted).map(|(tenant, counted)| {
            let (wanted, given) = std::mem::take(counted);
            Second { weight: tenant.weight, burst: self.burst, own: None, wanted, given }
        });
        let mut seconds: Vec<_> = seconds.zip(&mut self.standings).collect();
        let (sums, violations) = self.comparison.second(&self.rules, &mut seconds);
        self.seconds += 1;
        if self.seconds > WARM_UP {
            self.violations += violations;
            for (all, more) in self.sums.iter_mut().zip(sums) {
                *all += more;
            }
        }
    }

    pub fn violations(&self) -> u64 {
        self.violations
    }

    /// How close it came to what is exact second by second.
    pub fn closeness(&self) -> Closeness {
        closeness(self.sums.iter().copied())
    }

    /// The same for one water-filling of all that was asked for, as if a request could wait until the end.
    pub fn closeness_to_whole(&self, tenants: &[Tenant]) -> Closeness {
        let capacity = self.rules.capacity() * (self.seconds - WARM_UP) as f64;
        let claims = tenants.iter().zip(&self.sums);
        let claims = claims.map(|(tenant, sums)| Claim { weight: tenant.weight, most: sums.wanted as f64 });
        let level = level(&claims.clone(), capacity);
        closeness(claims.zip(&self.sums).map(|(claim, sums)| Sums { fair: claim.part(level), ..*sums }))
    }
}

fn closeness(sums: impl Iterator<Item = Sums>) -> Closeness {
    let mut closeness = Closeness::default();
    sums.for_each(|sums| closeness.take_in(&sums));
    closeness
}
