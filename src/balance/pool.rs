//! What is told of the places of one replica and of its connections, and the look at them once a second: figures and metrics are
//! made of what was counted, and the limit follows.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use super::figures::{Figures, Window};
use super::scaling::{Advice, Judge, Mode, Scaling, Seen};
use super::{Known, Member, Replicas, Sockets};
use crate::telemetry::{Counter, Metrics};

/// The places of one replica, and its connections.
#[derive(Debug, Clone)]
pub struct PoolStatus {
    /// Its URL.
    pub url: Arc<str>,
    /// Requests that may be in flight.
    pub limit: usize,
    /// Requests in flight.
    pub in_flight: usize,
    /// Requests that wait.
    pub waiting: usize,
    /// Connections that carry a request.
    pub in_use: usize,
    /// What was measured over the window.
    pub figures: Figures,
    /// What should become of the limit; none before the first look.
    pub advice: Option<Advice>,
}

/// What was measured of one replica, and what was made of it.
#[derive(Debug)]
pub(super) struct Ledger(Mutex<(Window, Judge)>);

impl Ledger {
    pub(super) fn new(now: Instant) -> Self {
        Self(Mutex::new((Window::new(now), Judge::new())))
    }
}

impl Known {
    fn settle(&self, scaling: &Scaling, metrics: &Metrics, labels: [&str; 2], now: Instant) {
        let mut figures = Figures::default();
        let limit = self.places.most();
        let reading = self.places.empty_into(&mut figures, metrics, labels, now);
        self.sockets.empty_into(&mut figures, metrics, labels);
        let advice = {
            let mut ledger = self.ledger.0.lock().unwrap_or_else(PoisonError::into_inner);
            let (window, judge) = &mut *ledger;
            window.take_in(&figures, now);
            let utilization = figures.utilization().unwrap_or(f64::NAN);
            let seen = Seen { over: reading.over, limit, utilization, peak: reading.peak, waited: reading.waited };
            judge.judge(scaling, seen)
        };
        if scaling.mode == Mode::Adapt && advice.to != advice.from {
            self.places.resize(advice.to, now);
            metrics.upstream_resizes.on([labels[0], labels[1], advice.action()], Counter::inc);
        }
    }

    fn pool(&self, now: Instant) -> PoolStatus {
        let (figures, advice) = {
            let ledger = self.ledger.0.lock().unwrap_or_else(PoisonError::into_inner);
            (ledger.0.sum(now), ledger.1.last())
        };
        PoolStatus {
            url: Arc::clone(&self.url),
            limit: self.places.most(),
            in_flight: self.places.taken(),
            waiting: self.places.waiting(),
            in_use: self.sockets.in_use(),
            figures,
            advice,
        }
    }
}

impl Replicas {
    /// To be called once a second: what was measured since the last time is told in `metrics` under the name of the server and
    /// kept for a while, and limits follow the load as far as they are to.
    pub fn settle(&self, scaling: &Scaling, metrics: &Metrics, server: &str, now: Instant) {
        for (index, Member { known, .. }) in self.members.iter().enumerate() {
            known.settle(scaling, metrics, [server, &index.to_string()], now);
        }
    }

    /// The places and connections of every replica, in the order of the settings.
    pub fn pools(&self, now: Instant) -> Vec<PoolStatus> {
        self.members.iter().map(|member| member.known.pool(now)).collect()
    }

    /// Where what happens at the connections to a replica is counted.
    pub fn sockets(&self, index: usize) -> Arc<Sockets> {
        self.members.get(index).map(|member| Arc::clone(&member.known.sockets)).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::Room;
    use super::*;
    use crate::registry::model::{Policy, Replica};

    const SCALING: Scaling = Scaling { mode: Mode::Adapt, least: 2, most: 8, factor: 2.0, threshold: 0.8 };

    fn replicas(most: usize, previous: Option<&Replicas>, now: Instant) -> Replicas {
        let one = [Replica { url: "http://one/mcp".into(), weight: 1 }];
        let room = Room { most, queue: 9, patience: Duration::from_hours(1) };
        Replicas::new(&one, Policy::RoundRobin, room, previous, now)
    }

    #[tokio::test]
    async fn a_limit_grows_for_who_waits_shrinks_when_it_is_quiet_and_outlives_a_new_description() {
        let (start, second) = (Instant::now(), Duration::from_secs(1));
        let (replicas_, metrics) = (replicas(2, None, start), Metrics::new(100));
        let held: Vec<_> = (0..2).map(|_| replicas_.enter(0, start).unwrap()).collect();
        let mut waiting = Box::pin(replicas_.enter_in_turn(0, None));
        assert!(futures_util::poll!(&mut waiting).is_pending());
        // Whoever waits looks at the clock itself; the seconds here are after that.
        let mut now = Instant::now() + second;
        replicas_.settle(&SCALING, &metrics, "it", now);
        let pool = replicas_.pools(now).remove(0);
        assert_eq!((pool.limit, pool.in_flight, pool.waiting), (4, 3, 0), "{pool:?}");
        assert_eq!(pool.advice.map(|advice| advice.action()), Some("grow"));
        assert_eq!(metrics.upstream_resizes.with(["it", "0", "grow"]).get(), 1);
        drop(waiting.await.unwrap());

        let again = replicas(2, Some(&replicas_), now);
        assert_eq!((again.pools(now)[0].limit, again.pools(now)[0].in_flight), (4, 2));
        assert!(Arc::ptr_eq(&again.sockets(0), &replicas_.sockets(0)), "what old and new connections do is one count");
        drop(held);
        for _ in 0..62 {
            now += second;
            again.settle(&SCALING, &metrics, "it", now);
        }
        let pool = again.pools(now).remove(0);
        assert_eq!((pool.limit, pool.in_flight), (2, 0), "{pool:?}");
        assert_eq!(metrics.upstream_wait.with(["it", "0"]).count(), 3, "two did not wait, and one did");
        assert_eq!(pool.figures.waited.count, 1);
    }

    #[test]
    fn advice_alone_moves_no_limit() {
        let start = Instant::now();
        let (replicas, metrics) = (replicas(8, None, start), Metrics::new(100));
        let advise = Scaling { mode: Mode::Advise, ..SCALING };
        for second in 1..=70 {
            replicas.settle(&advise, &metrics, "it", start + Duration::from_secs(second));
        }
        let pool = replicas.pools(start + Duration::from_secs(70)).remove(0);
        let advice = pool.advice.unwrap();
        assert_eq!((pool.limit, advice.from, advice.to, advice.action()), (8, 8, 4, "shrink"));
        assert_eq!(pool.figures.utilization(), Some(0.0));
    }
}
