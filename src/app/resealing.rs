//! Seals anew what older keys sealed, a few values at a time beside everything else, and lets an old key go once nothing names it. It may
//! be cut off at any point and begun again, and several processes may be at it at once, though one is enough: a value is put in the
//! place of exactly the one that was read.

use std::time::Duration;

use time::OffsetDateTime;

use super::App;
use crate::crypto::{MARK, SealKeyId, Sealer};
use crate::id::TenantId;
use crate::store::resealings::Resealing;
use crate::store::sealed::{self, Column, Under};
use crate::store::{StoreError, at, at_opt, micros, now};
use crate::telemetry::Event;
use crate::vault::SETTLED;

/// Values that are read, and written, together.
const BATCH: usize = 50;
/// For how long one process has it alone, unless it says again that it is at it, as it does with each batch.
const ALONE: Duration = Duration::from_secs(15);
/// Until it is looked again whether everything is sealed anew: somebody was at work on a value, or another process is.
const AGAIN: Duration = Duration::from_secs(5);
/// The same where nothing was left, but perhaps keys that must not go yet.
const LOOK: Duration = Duration::from_mins(2);
/// Between two rounds of the job at least.
pub(super) const PAUSE: Duration = Duration::from_secs(1);

/// What came of one look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Pass {
    /// There was nothing to seal anew.
    Idle,
    /// There was something, perhaps something that somebody is at work on, or another process is at it.
    Busy,
}

/// What a look leaves under older keys.
#[derive(Debug, Default)]
pub(super) struct Left {
    /// What is sealed anew later.
    pub(super) waiting: i64,
    /// What does not open.
    pub(super) unreadable: i64,
    /// What was sealed anew.
    pub(super) sealed: u64,
}

impl App {
    /// Seals anew what there is, and removes the keys that nothing needs at `time`; says when to look again.
    pub async fn seal_anew(&self, time: OffsetDateTime) -> anyhow::Result<Duration> {
        // What comes to nothing with the one is no reason to leave the other.
        let (data, master) = (self.under_data_keys(time).await, self.under_master_key(time).await);
        let pass = data?.max(master?);
        self.note_left("master", &self.left_of_masters_own().await?);
        Ok(if pass == Pass::Busy { AGAIN } else { LOOK })
    }

    fn note_left(&self, key: &str, left: &Left) {
        let values = &self.recorder.metrics().stale_sealed_values;
        values.with([key, "waiting"]).set(left.waiting);
        values.with([key, "unreadable"]).set(left.unreadable);
    }

    /// The same as one round of a job, which ends when there is something to do again.
    pub(super) async fn seal_anew_in_turn(&self) -> anyhow::Result<()> {
        let done = self.seal_anew(now()).await;
        let wait = done.as_ref().map_or(AGAIN, |wait| *wait);
        // Whoever asks for it does not wait for the next look.
        let _ = tokio::time::timeout(wait, self.resealing.notified()).await;
        done.map(drop)
    }

    /// Has the job look now.
    pub(super) fn begin_resealing(&self) {
        self.resealing.notify_one();
    }

    /// What is under older keys of tenants, or was sealed by an older version.
    async fn under_data_keys(&self, time: OffsetDateTime) -> anyhow::Result<Pass> {
        let tenants = self.store.tenants_to_reseal().await?;
        let mut left = Left::default();
        if tenants.is_empty() {
            self.note_left("data", &left);
            return Ok(Pass::Idle);
        }
        self.vault.load().await?;
        let mut pass = Pass::Idle;
        for tenant in &tenants {
            if !self.holds(Resealing::Data).await? {
                return Ok(Pass::Busy);
            }
            let before = left.sealed;
            let done = self.under_keys_of(tenant, time, &mut left).await;
            self.sealed_anew_under("data", Some(tenant), left.sealed - before);
            match done {
                Ok(of_tenant) => pass = pass.max(of_tenant),
                // One that is damaged, or gone meanwhile, stands in nobody's way.
                Err(error) => tracing::error!(tenant_id = %tenant, "what older keys sealed is left for now: {error:#}"),
            }
        }
        self.store.leave_resealing(Resealing::Data, self.instance, None).await?;
        self.note_left("data", &left);
        Ok(pass)
    }

    async fn under_keys_of(&self, tenant: &TenantId, time: OffsetDateTime, left: &mut Left) -> anyhow::Result<Pass> {
        let sealer = self.vault.sealer_of(tenant).await?;
        let mut pass = Pass::Idle;
        for column in sealed::ALL.iter().filter(|column| column.is_resealed_under(Under::Tenant)) {
            pass = pass.max(self.reseal_column(Resealing::Data, column, tenant, &sealer, left).await?);
        }
        self.remove_old_keys(tenant, time).await?;
        Ok(pass)
    }

    /// What is under older master keys, where it was asked for under the one that this process has.
    async fn under_master_key(&self, time: OffsetDateTime) -> anyhow::Result<Pass> {
        let asked = self.store.resealing_under_master().await?;
        let master = self.vault.master();
        if !asked.is_open() || asked.key_id.as_deref() != Some(master.key_id().to_string().as_str()) {
            return Ok(Pass::Idle);
        }
        let (mut pass, mut left) = (Pass::Idle, Left::default());
        let resealed = async {
            for column in sealed::ALL.iter().filter(|column| column.is_resealed_under(Under::Master)) {
                let tenant = TenantId::default_tenant();
                pass = pass.max(self.reseal_column(Resealing::Master, column, &tenant, master, &mut left).await?);
            }
            pass = pass.max(self.reseal_data_keys(&mut left).await?);
            anyhow::Ok(())
        };
        let resealed = resealed.await;
        self.sealed_anew_under("master", None, left.sealed);
        resealed?;
        let waiting = self.waiting_under_older_master().await?;
        if waiting > 0 {
            tracing::warn!(waiting, key = %master.key_id(), "not everything is sealed under the newest master key yet");
            return Ok(pass);
        }
        let done = asked.asked_at.map(|asked| (asked, micros(time)));
        self.store.leave_resealing(Resealing::Master, self.instance, done).await?;
        self.recorder
            .tell(Event { name: Some(master.key_id().to_string().into()), ..Event::new("key.resealed", true) });
        tracing::info!(key = %master.key_id(), "what older master keys sealed is sealed under the newest");
        Ok(Pass::Idle)
    }

    /// Has it recorded that so many values are under the newest key of a tenant, or the newest master key.
    fn sealed_anew_under(&self, key: &'static str, tenant: Option<&TenantId>, count: u64) {
        if count > 0 {
            let (tenant, reason) = (tenant.map(|tenant| tenant.as_str().into()), Some(key.into()));
            self.recorder.tell(Event { tenant, reason, count, ..Event::new("key.reseal", true) });
        }
    }

    async fn reseal_data_keys(&self, left: &mut Left) -> anyhow::Result<Pass> {
        let master = self.vault.master();
        let old = self.old_data_keys().await?;
        for some in old.chunks(BATCH) {
            if !self.holds(Resealing::Master).await? {
                return Ok(Pass::Busy);
            }
            let mut new = Vec::with_capacity(some.len());
            for key in some {
                match master.reseal_data_key(&key.tenant()?, &key.sealed) {
                    Ok(sealed) => new.push((key.clone(), sealed)),
                    Err(error) => {
                        tracing::error!(tenant_id = key.tenant_id, "a tenant's key is left as it is: {error}");
                    }
                }
            }
            self.store.reseal_data_keys(&new).await?;
            left.sealed += new.len() as u64;
        }
        Ok(if old.is_empty() { Pass::Idle } else { Pass::Busy })
    }

    async fn holds(&self, what: Resealing) -> Result<bool, StoreError> {
        let time = now();
        self.store.hold_resealing(what, self.instance, micros(time), micros(time + ALONE)).await
    }

    async fn reseal_column(
        &self,
        what: Resealing,
        column: &Column,
        tenant: &TenantId,
        sealer: &Sealer,
        left: &mut Left,
    ) -> anyhow::Result<Pass> {
        let (mark, mut after, mut pass) = (sealer.mark(), uuid::Uuid::nil(), Pass::Idle);
        let limit = i64::try_from(BATCH)?;
        loop {
            if !self.holds(what).await? {
                return Ok(Pass::Busy);
            }
            let rows = self.store.to_reseal(column, tenant, &mark, after, micros(now()), limit).await?;
            let Some(last) = rows.last() else { return Ok(pass) };
            after = last.id;
            let mut new = Vec::with_capacity(rows.len());
            for row in rows {
                if !row.idle {
                    pass = Pass::Busy;
                    left.waiting += 1;
                    continue;
                }
                match self.sealed_anew(column, tenant, sealer, &row).await {
                    Ok(sealed) => new.push((row, sealed)),
                    Err(error) => {
                        if self.is_unreadable(&error, sealer, &row.sealed) {
                            left.unreadable += 1;
                        } else {
                            left.waiting += 1;
                        }
                        let column = column.name;
                        tracing::error!(tenant_id = %tenant, column, row = %row.id, "a value is left as it is: {error}");
                    }
                }
            }
            if !new.is_empty() {
                let done = self.store.reseal(column, &new, micros(now())).await?;
                left.sealed += done;
                left.waiting += i64::try_from(new.len())?.saturating_sub_unsigned(done);
                pass = Pass::Busy;
            }
        }
    }

    /// Removes the keys of a tenant that were retired long enough ago and that nothing names.
    async fn remove_old_keys(&self, tenant: &TenantId, time: OffsetDateTime) -> anyhow::Result<()> {
        let before = time - SETTLED;
        for (key, id) in self.vault.keys_of(tenant).into_iter().skip(1) {
            let settled = at_opt(key.retired_at).is_some_and(|retired| retired <= before);
            let marks: Option<[[u8; MARK]; 2]> = id.filter(|_| settled).map(SealKeyId::marks_of_tenant);
            let gone = match marks {
                Some(marks) => self.store.remove_data_key(&key, &marks, micros(before)).await?,
                None => false,
            };
            if gone {
                let name = Some(format!("generation {}", key.generation).into());
                let of = Some(tenant.as_str().into());
                self.recorder.tell(Event { tenant: of, name, ..Event::new("key.remove", true) });
                let made = key.created_at.map(|made| at(made).to_string());
                tracing::info!(tenant_id = %tenant, generation = key.generation, made, "a tenant's old key is gone");
            }
        }
        Ok(())
    }
}
