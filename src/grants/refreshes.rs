//! How refreshes of what providers gave come out, counted by hours for all processes on the database; which there are to do; and how
//! what is kept of one account stands, for people who look, without a token.

use std::sync::{Mutex, MutexGuard, PoisonError};

use ahash::AHashMap;
use schemars::JsonSchema;
use serde::Serialize;
use time::{Duration, OffsetDateTime};
use uuid::Uuid;

use super::logins::life_of;
use super::schedule::{Kind, RefreshResult, Schedule};
use super::{Grants, LoginState, Refusal, damaged};
use crate::id::TenantId;
use crate::store::logins::{LastRefresh, LoginRow};
use crate::store::refreshes::{RefreshCount, RefreshQueue, RefreshSum};
use crate::store::{at, at_opt, micros, now};

/// Whose grants nobody used for so long is not asked about until somebody does: who comes once a week is never sent back to sign in by
/// a provider whose refresh tokens end after days without use, and nobody is asked about who has gone.
const USED_WITHIN: Duration = Duration::days(7);
/// Logins of which it is looked in one transaction whether anybody used them.
const LOOKED_AT: i64 = 500;
/// Most logins of one account that are shown.
const MOST_SHOWN: i64 = 100;
/// How long counts are kept.
pub(super) const COUNTS_KEPT: Duration = Duration::days(35);
/// How many hours a process knows what it did itself.
const OWN_KEPT: i64 = 25;
const HOUR: i64 = 3_600_000_000;

type Of = (TenantId, i64, Kind, RefreshResult);

/// How often something came out, and with how many tries beyond the first. There are at most twelve entries for each tenant and hour.
type Counts = AHashMap<Of, (i64, i64)>;

/// What came out in this process.
#[derive(Debug, Default)]
pub(super) struct Tally {
    /// Since it was last written.
    unwritten: Mutex<Counts>,
    /// Held by who writes.
    writing: tokio::sync::Mutex<()>,
    /// In the last day.
    own: Mutex<Counts>,
}

fn lock(counts: &Mutex<Counts>) -> MutexGuard<'_, Counts> {
    counts.lock().unwrap_or_else(PoisonError::into_inner)
}

fn add(counts: &Mutex<Counts>, of: Of, (count, retries): (i64, i64)) {
    let mut counts = lock(counts);
    let entry = counts.entry(of).or_default();
    (entry.0, entry.1) = (entry.0 + count, entry.1 + retries);
}

impl Tally {
    /// What this process did from that hour on, by kind and result.
    fn sums(&self, tenant: Option<&TenantId>, from: i64) -> Vec<RefreshSum> {
        let own = lock(&self.own);
        let of = |(of, _): &(&Of, _)| of.1 >= from && tenant.is_none_or(|tenant| of.0 == *tenant);
        let sum = |(of, counts): (&Of, &(i64, i64))| RefreshSum {
            kind: of.2.as_str().to_owned(),
            result: of.3.as_str().to_owned(),
            count: counts.0,
            retries: counts.1,
        };
        own.iter().filter(of).map(sum).collect()
    }
}

/// The hour of a time, in hours since 1970.
pub(super) fn hour(time: OffsetDateTime) -> i64 {
    micros(time).div_euclid(HOUR)
}

/// How refreshes came out and what there is to do.
#[derive(Debug, Clone)]
pub struct Figures {
    /// Since when: the beginning of an hour.
    pub since: OffsetDateTime,
    /// By kind and result.
    pub sums: Vec<RefreshSum>,
    /// What there is to do.
    pub queue: RefreshQueue,
}

/// How what a provider gave for somebody stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum CredentialState {
    /// Good, and not due.
    Valid,
    /// To be refreshed.
    Due,
    /// Being refreshed.
    Refreshing,
    /// The person must come back.
    ReauthRequired,
    /// The provider gave nothing to ask with.
    None,
}

/// What is kept of one sign-in at a provider.
#[derive(Debug, Clone)]
pub struct Credential {
    /// Its id.
    pub id: Uuid,
    /// The provider's name.
    pub provider: String,
    /// How it stands.
    pub state: CredentialState,
    /// Whether the provider could not be asked, as often as it is tried, or a question was cut off; it is tried on.
    pub failing: bool,
    /// Before when not even an administrator has the provider asked.
    pub not_before: OffsetDateTime,
    /// When the access token ends.
    pub expires_at: Option<OffsetDateTime>,
    /// When it is refreshed.
    pub due_at: Option<OffsetDateTime>,
    /// How it was last refreshed.
    pub last: LastRefresh,
}

impl Credential {
    fn of(row: &LoginRow, schedule: &Schedule, now: OffsetDateTime) -> Self {
        let asks = row.asking && row.ask_after > micros(now);
        let failures = u32::try_from(row.failures).unwrap_or_default();
        let state = if row.state != LoginState::Active.as_str() {
            CredentialState::ReauthRequired
        } else if row.tokens.is_none() {
            CredentialState::None
        } else if asks {
            CredentialState::Refreshing
        } else if row.due_at.is_some_and(|due| due <= micros(now))
            || schedule.kind(life_of(row.issued_at, row.expires_at), now) == Kind::Emergency
        {
            CredentialState::Due
        } else {
            CredentialState::Valid
        };
        let has_tokens = row.tokens.is_some();
        Self {
            id: row.id,
            provider: row.provider.clone(),
            state,
            failing: has_tokens && (schedule.is_given_up(failures) || row.cut_off_at.is_some()),
            not_before: at(row.not_before),
            expires_at: has_tokens.then(|| at(row.expires_at)),
            // While somebody asks it is when another would.
            due_at: at_opt(row.due_at.filter(|_| has_tokens && !asks)),
            last: row.last.clone(),
        }
    }
}

impl Grants {
    /// Of those who have been due at a provider for longest nobody is left afterwards who did not use anything for days. For a job.
    pub async fn rest_unused(&self, provider: &str, now: OffsetDateTime) -> Result<(), Refusal> {
        let since = micros(now - USED_WITHIN);
        while self.0.store.rest_unused_logins(provider, since, micros(now), LOOKED_AT).await? > 0 {}
        Ok(())
    }

    /// When somebody is due at a provider.
    pub async fn next_due(&self, provider: &str) -> Result<Option<OffsetDateTime>, Refusal> {
        Ok(at_opt(self.0.store.next_login_due(provider).await?))
    }

    /// How many are due at a provider.
    pub async fn count_due(&self, provider: &str, now: OffsetDateTime) -> Result<i64, Refusal> {
        Ok(self.0.store.count_due_logins(provider, micros(now)).await?)
    }

    /// Counts how a refresh came out, with its tries beyond the first.
    pub fn count_refresh(
        &self,
        tenant: &TenantId,
        kind: Kind,
        result: RefreshResult,
        retries: u32,
        now: OffsetDateTime,
    ) {
        let (of, one) = ((tenant.clone(), hour(now), kind, result), (1, retries.into()));
        add(&self.0.refreshes.own, of.clone(), one);
        add(&self.0.refreshes.unwritten, of, one);
    }

    /// Writes what was counted. What the database does not take is written the next time. It is written to the end also if nobody waits
    /// any longer, or it would not be known whether it is.
    pub async fn flush_refreshes(&self) -> Result<(), Refusal> {
        let grants = self.clone();
        let written = tokio::spawn(async move { grants.write_refreshes().await }).await;
        written.unwrap_or_else(|error| Err(damaged("counts of refreshes", &error)))
    }

    async fn write_refreshes(&self) -> Result<(), Refusal> {
        let tally = &self.0.refreshes;
        let _turn = tally.writing.lock().await;
        let oldest = hour(now()) - OWN_KEPT;
        lock(&tally.own).retain(|of, _| of.1 >= oldest);
        let taken = std::mem::take(&mut *lock(&tally.unwritten));
        if taken.is_empty() {
            return Ok(());
        }
        let row = |((tenant, hour, kind, result), (count, retries)): (&Of, &(i64, i64))| RefreshCount {
            tenant_id: tenant.as_str().to_owned(),
            hour: *hour,
            kind: kind.as_str().to_owned(),
            result: result.as_str().to_owned(),
            count: *count,
            retries: *retries,
        };
        let mut rows: Vec<RefreshCount> = taken.iter().map(row).collect();
        // In one order, so that two processes that write the same rows do not wait for each other.
        rows.sort_by(|a, b| {
            (&a.tenant_id, a.hour, &a.kind, &a.result).cmp(&(&b.tenant_id, b.hour, &b.kind, &b.result))
        });
        if let Err(error) = self.0.store.count_refreshes(&rows).await {
            for (of, counts) in taken {
                add(&tally.unwritten, of, counts);
            }
            return Err(error.into());
        }
        Ok(())
    }

    /// How refreshes came out in the last `hours` hours and the part of this one, and what there is to do: of one tenant or of all, and
    /// in this process or in all.
    pub async fn refresh_figures(
        &self,
        tenant: Option<&TenantId>,
        here: bool,
        hours: i64,
        now: OffsetDateTime,
    ) -> Result<Figures, Refusal> {
        self.flush_refreshes().await?;
        let from = hour(now) - hours;
        let sums =
            if here { self.0.refreshes.sums(tenant, from) } else { self.0.store.refresh_sums(tenant, from).await? };
        let queue = self.0.store.refresh_queue(tenant, micros(now)).await?;
        Ok(Figures { since: at(from * HOUR), sums, queue })
    }

    /// What is kept of an account's sign-ins at providers, the newest first.
    pub async fn credentials(
        &self,
        tenant: &TenantId,
        user: Uuid,
        now: OffsetDateTime,
    ) -> Result<Vec<Credential>, Refusal> {
        let rows = self.0.store.logins_of(tenant, user, MOST_SHOWN).await?;
        Ok(rows.iter().map(|row| Credential::of(row, &self.0.terms.schedule, now)).collect())
    }
}
