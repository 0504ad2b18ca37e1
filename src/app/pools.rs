//! The places and connections of every upstream, looked at once a second, and how long a connection to the database is waited for.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use ahash::AHashMap;

use super::App;
use crate::balance::WINDOW;
use crate::telemetry::OTHER;

/// Most waits that are remembered: one a second.
const MOST: usize = 300;

/// How long connections to the database were waited for, lately. The pool counts no waits, so the gateway asks it for a
/// connection once a second and waits like anybody else.
#[derive(Debug, Default)]
pub struct DatabaseWaits(Mutex<VecDeque<(Instant, Duration)>>);

impl DatabaseWaits {
    fn note(&self, wait: Duration, now: Instant) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if all.len() == MOST {
            all.pop_front();
        }
        all.push_back((now, wait));
    }

    /// The average and the longest, milliseconds; none without one.
    pub fn sum(&self, now: Instant) -> Option<(f64, f64)> {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let recent = all.iter().filter(|(at, _)| now.saturating_duration_since(*at) < WINDOW);
        let (mut count, mut sum, mut longest) = (0, Duration::ZERO, Duration::ZERO);
        for (_, wait) in recent {
            (count, sum, longest) = (count + 1, sum + *wait, longest.max(*wait));
        }
        let ms = |time: Duration| time.as_secs_f64() * 1e3;
        (count > 0).then(|| (ms(sum) / f64::from(count), ms(longest)))
    }
}

impl App {
    /// To be called once a second: what was measured is told, and limits follow the load. What was counted of a replica that is gone
    /// goes with it.
    pub fn settle_pools(&self, now: Instant) {
        let (metrics, snapshot) = (self.recorder.metrics(), self.registry.snapshot());
        // Two tenants may call a server the same.
        let mut replicas: AHashMap<&str, usize> = AHashMap::new();
        for entry in snapshot.entries() {
            if let Some(http) = entry.upstream.http() {
                http.settle(entry.slug(), metrics, now);
                let most = replicas.entry(entry.slug()).or_default();
                *most = http.balance().len().max(*most);
            }
        }
        let gone = |server: &str, replica: &str| {
            let there =
                || replicas.get(server).zip(replica.parse().ok()).is_some_and(|(most, at): (_, usize)| at < *most);
            server != OTHER && !there()
        };
        for family in [&metrics.upstream_wait, &metrics.upstream_connect, &metrics.upstream_tls] {
            family.forget(|[server, replica]| gone(server, replica));
        }
        for family in [&metrics.upstream_requests, &metrics.upstream_dials, &metrics.upstream_resizes] {
            family.forget(|[server, replica, _]| gone(server, replica));
        }
        metrics.upstream_turned_away.forget(|[server, replica]| gone(server, replica));
    }

    /// To be called once a second.
    pub async fn wait_for_database(&self) {
        let wait = self.store.wait_for_connection().await;
        self.database_waits.note(wait, Instant::now());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_are_of_the_last_minutes() {
        let (start, waits) = (Instant::now(), DatabaseWaits::default());
        assert_eq!(waits.sum(start), None);
        for ms in [1, 3, 8] {
            waits.note(Duration::from_millis(ms), start);
        }
        assert_eq!(waits.sum(start), Some((4.0, 8.0)));
        assert_eq!(waits.sum(start + WINDOW), None);
    }
}
