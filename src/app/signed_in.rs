//! How many sessions of people and services are live, for metrics: counted in the database when somebody looks, at most every ten
//! seconds. A database that does not answer in time leaves the last count standing; a scrape does not wait for it.

use std::time::{Duration, Instant};

use tokio::sync::Mutex;

use super::App;
use crate::grants::GrantKind;
use crate::store::{micros, now};

/// How long a count is good.
const GOOD_FOR: Duration = Duration::from_secs(10);
/// How long counting may take.
const PATIENCE: Duration = Duration::from_secs(2);

/// Live sessions of a tenant and kind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignedIn {
    /// Whose.
    pub tenant: String,
    /// Whether they are of services; else of people.
    pub service: bool,
    /// How many.
    pub live: usize,
    /// How many of them were used of late.
    pub active: usize,
}

/// The last count.
#[derive(Debug, Default)]
pub struct Counted(Mutex<(Option<Instant>, Vec<SignedIn>)>);

impl App {
    /// Live sessions by tenant and kind; those are active that were used within `active`.
    pub async fn signed_in(&self, active: Duration) -> Vec<SignedIn> {
        let mut counted = self.counted.0.lock().await;
        if counted.0.is_none_or(|at| at.elapsed() >= GOOD_FOR) {
            let now = now();
            let counting = self.store.count_live_grants(micros(now), micros(now - active));
            match tokio::time::timeout(PATIENCE, counting).await {
                Ok(Ok(rows)) => counted.1 = rows.into_iter().map(SignedIn::of).collect(),
                Ok(Err(error)) => tracing::warn!("sessions could not be counted: {error}"),
                Err(_) => tracing::warn!("sessions could not be counted in time"),
            }
            counted.0 = Some(Instant::now());
        }
        counted.1.clone()
    }
}

impl SignedIn {
    fn of((tenant, kind, live, active): (String, String, i64, i64)) -> Self {
        let count = |number: i64| usize::try_from(number).unwrap_or_default();
        Self { tenant, service: kind == GrantKind::Service.as_str(), live: count(live), active: count(active) }
    }
}
