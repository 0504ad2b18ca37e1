//! How this process is, stored from time to time; that it is there, each minute; and what is too old, removed.

use std::collections::BTreeSet;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::{Duration, Instant};

use time::OffsetDateTime;

use super::App;
use crate::analytics::kpis;
use crate::balance::BreakerState;
use crate::store::rollups::Span;
use crate::store::samples::Sample;
use crate::store::{StoreError, micros};
use crate::telemetry::{Gauge, Histogram, Status, Usage};

/// An account seen within this time is active.
pub const ACTIVE: Duration = Duration::from_mins(5);
/// Steps of one removal of what is too old.
const STEPS: usize = 100;

/// What the last sample saw.
#[derive(Debug, Clone, Copy)]
struct Last {
    at: Instant,
    answered: u64,
    cpu_seconds: Option<f64>,
}

/// See the module.
#[derive(Debug)]
pub struct Sampler {
    began: Instant,
    last: Mutex<Last>,
}

impl Default for Sampler {
    fn default() -> Self {
        let began = Instant::now();
        Self { began, last: Mutex::new(Last { at: began, answered: 0, cpu_seconds: Usage::now().cpu_seconds }) }
    }
}

impl App {
    /// For how long this process has been there.
    pub fn uptime(&self) -> Duration {
        self.sampler.began.elapsed()
    }

    /// Operations that this process has answered.
    fn operations(&self) -> u64 {
        let mut sum = 0;
        self.recorder.metrics().request_duration.each(|_, times: &Histogram| sum += times.count());
        sum
    }

    /// Stores how this process is.
    pub async fn sample(&self, now: OffsetDateTime) -> Result<(), StoreError> {
        let active = self.store.active_accounts(micros(now - ACTIVE)).await?;
        let users = active.iter().map(|(_, count)| count).sum();
        self.store.add_sample(&self.seen(users, now)).await
    }

    fn seen(&self, users: i64, now: OffsetDateTime) -> Sample {
        let usage = Usage::now();
        let this = Last { at: Instant::now(), answered: self.operations(), cpu_seconds: usage.cpu_seconds };
        let last = {
            let mut last = self.sampler.last.lock().unwrap_or_else(PoisonError::into_inner);
            std::mem::replace(&mut *last, this)
        };
        let seconds = (this.at - last.at).as_secs_f64();
        let used = this.cpu_seconds.zip(last.cpu_seconds).filter(|_| seconds > 0.0);
        let (pool_in_use, pool_limit) = self.pools();
        let database = |wanted: &str| {
            let states = self.store.connections();
            states.iter().find(|(state, _)| *state == wanted).map_or(0, |(_, count)| whole(*count))
        };
        let mut connections = 0;
        self.recorder.metrics().active_connections.each(|[side, _], open: &Gauge| {
            if side == "client" {
                connections += open.get();
            }
        });
        let (fair, shares) = (self.limits.fair(), self.limits.settled());
        let told = fair.hears_all() || fair.is_alone();
        // What was answered by the last sample has had time to come to the trail.
        let recorded = self.analytics.own().min(last.answered);
        Sample {
            at: now.unix_timestamp(),
            instance: self.instance,
            seconds,
            requests: whole(this.answered.saturating_sub(last.answered)),
            users,
            sessions: whole(self.sessions.count()),
            sessions_limit: whole(self.settings.limits.max_sessions),
            connections,
            connections_limit: whole(self.settings.limits.max_connections),
            pool_in_use,
            pool_limit,
            database_in_use: database("in_use"),
            database_limit: database("limit"),
            memory: usage.memory.map(rounded),
            memory_limit: usage.memory_limit.map(rounded),
            cpu: used.map(|(now, before)| (now - before) / seconds),
            cpu_limit: usage.cpus,
            descriptors: usage.descriptors.map(rounded),
            descriptors_limit: usage.descriptors_limit.map(rounded),
            fairness: told.then(|| fair.closeness(shares.iter(), self.limits.now()).efficiency()).flatten(),
            answered: whole(last.answered),
            recorded: whole(recorded),
            unwell: self.unwell(),
        }
    }

    /// Requests in flight to all upstream replicas, and how many there may be.
    fn pools(&self) -> (i64, i64) {
        let (snapshot, now) = (self.registry.snapshot(), Instant::now());
        let pools =
            snapshot.entries().filter_map(|entry| entry.upstream.http()).flat_map(|http| http.balance().pools(now));
        pools.fold((0, 0), |(in_use, limit), pool| (in_use + whole(pool.in_flight), limit + whole(pool.limit)))
    }

    /// Components that are not well, and servers whose calls are held back.
    fn unwell(&self) -> String {
        let (_, parts) = self.health.look();
        let parts = parts.into_iter().filter(|(_, status)| *status != Status::Ok).map(|(name, _)| name.to_owned());
        let (snapshot, now) = (self.registry.snapshot(), Instant::now());
        let open = snapshot.entries().filter(|entry| {
            let statuses = entry.upstream.http().map(|http| http.balance().status(now)).unwrap_or_default();
            statuses.iter().any(|status| status.breaker == BreakerState::Open)
        });
        let open = open.map(|entry| format!("breaker {}", entry.slug()));
        parts.chain(open).collect::<BTreeSet<_>>().into_iter().take(20).collect::<Vec<_>>().join(",")
    }

    /// Says that a process is there to serve in this minute, if this one is.
    pub async fn beat(&self, now: OffsetDateTime) -> Result<(), StoreError> {
        if self.health.look().0 == Status::Failing {
            return Ok(());
        }
        self.store.beat(now.unix_timestamp().div_euclid(60)).await
    }

    /// Keeps the figures of the day before, and removes what is too old, some of it at a time.
    pub async fn tidy_analytics(&self, now: OffsetDateTime) -> Result<(), StoreError> {
        kpis::keep(&self.store, now).await?;
        let kept = &self.settings.analytics;
        let before = |kept: Duration| (now - kept).unix_timestamp();
        for (span, kept) in
            [(Span::Minute, kept.keep_minutes), (Span::Hour, kept.keep_hours), (Span::Day, kept.keep_days)]
        {
            for _ in 0..STEPS {
                if self.store.purge_rollups(span, before(kept)).await? == 0 {
                    break;
                }
            }
        }
        self.store.purge_samples(before(kept.keep_hours), before(kept.keep_days)).await.map(drop)
    }
}

/// As a column holds it.
fn whole<T: TryInto<i64>>(number: T) -> i64 {
    number.try_into().unwrap_or(i64::MAX)
}

#[expect(clippy::cast_possible_truncation, reason = "bytes and files, which are whole numbers")]
fn rounded(number: f64) -> i64 {
    number.round() as i64
}
