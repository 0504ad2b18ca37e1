//! What each tenant is due, found anew from the words of the specification and not with the product's own code: weighted max-min
//! fairness. And the bound that no stretch of time may exceed.

use std::time::Duration;

use crate::load::Asked;

/// What is known of a tenant for some stretch of time.
#[derive(Debug, Clone, Copy)]
pub struct Claim {
    pub weight: f64,
    /// Requests that it really sent.
    pub sent: f64,
    /// Its own cap, in requests.
    pub cap: f64,
    pub burst: f64,
}

/// How many of `capacity` requests each is due: as many as it sent, within its cap and `burst` times its share; where that is more than
/// there is, all who want more have the same for their weight.
pub fn fair(claims: &[Claim], capacity: f64) -> Vec<f64> {
    let weights: f64 = claims.iter().filter(|claim| claim.sent > 0.0).map(|claim| claim.weight).sum();
    let most = |claim: &Claim| claim.sent.min(claim.cap).min(claim.burst * capacity * claim.weight / weights);
    let given = |level: f64| claims.iter().map(move |claim| most(claim).min(level * claim.weight));
    let (mut low, mut high) = (0.0, capacity);
    for _ in 0..100 {
        let level = f64::midpoint(low, high);
        if given(level).sum::<f64>() > capacity {
            high = level;
        } else {
            low = level;
        }
    }
    given(high).collect()
}

/// The most that were let through in any stretch of `span`, as a part of what may be: the gateway promises no more than its capacity in
/// any 60 s, so it lets a little come at once (a 400th of a minute's) and the rest evenly. A request was let through between its
/// sending and its answer; only those are counted of which both are in the stretch, however late the machine is.
pub fn fullest(given: &[Asked], span: Duration, rpm: f64) -> f64 {
    let at_once = rpm / 400.0;
    let may = at_once + (rpm - at_once) / 60.0 * span.as_secs_f64() + 1.0;
    let mut by_start: Vec<_> = given.iter().map(|asked| (asked.sent, asked.answered)).collect();
    by_start.sort_unstable();
    let inside = |from: usize| {
        let until = by_start[from].0 + span;
        by_start[from..].iter().take_while(|(sent, _)| *sent <= until).filter(|(_, end)| *end <= until).count()
    };
    (0..by_start.len()).step_by(20).map(|from| inside(from) as f64 / may).fold(0.0, f64::max)
}
