//! Seals anew what older keys sealed, a few values at a time beside everything else, and lets an old key go once nothing names it. It may
//! be cut off at any point and begun again, and several processes may be at it at once, though one is enough: a value is put in the
//! place of exactly the one that was read.

use std::time::Duration;

use time::OffsetDateTime;

use super::App;
use crate::crypto::{MARK, Place, SealKeyId, Sealer};
use crate::id::TenantId;
use crate::registry::servers::sealed_for_stored;
use crate::store::data_keys::DataKeyRow;
use crate::store::resealings::Resealing;
use crate::store::sealed::{self, Column, SealedRow, Under};
use crate::store::{StoreError, at, at_opt, micros, now};
use crate::vault::SETTLED;

/// Values that are read, and written, together.
const BATCH: usize = 50;
/// For how long one process has it alone, unless it says again that it is at it.
const ALONE: Duration = Duration::from_secs(15);
/// Until it is looked again whether everything is sealed anew: somebody was at work on a value, or another process is.
const AGAIN: Duration = Duration::from_secs(5);
/// The same where nothing was left, but perhaps keys that must not go yet.
pub(super) const LOOK: Duration = Duration::from_mins(2);

/// What came of one look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Pass {
    /// There was nothing to seal anew.
    Idle,
    /// There was something, or another process is at it.
    Busy,
}

impl App {
    /// Seals anew what there is, and removes the keys that nothing needs at `time`; says when to look again.
    pub async fn seal_anew(&self, time: OffsetDateTime) -> anyhow::Result<Duration> {
        let done = [self.under_master_key(time).await?, self.under_data_keys(time).await?];
        Ok(if done.contains(&Pass::Busy) { AGAIN } else { LOOK })
    }

    /// The same from now on until nothing is left: nobody waits for the job that looks from time to time.
    pub(super) fn begin_resealing(&self) {
        let app = self.clone();
        let rounds = async move {
            loop {
                match app.seal_anew(now()).await {
                    Ok(wait) if wait < LOOK => tokio::time::sleep(wait).await,
                    Ok(_) => return,
                    Err(error) => return tracing::warn!("sealing anew came to nothing for now: {error:#}"),
                }
            }
        };
        let shutdown = self.shutdown.clone();
        self.tasks.spawn(async move { shutdown.run_until_cancelled(rounds).await });
    }

    /// What is under older keys of tenants.
    async fn under_data_keys(&self, time: OffsetDateTime) -> anyhow::Result<Pass> {
        let tenants = self.store.tenants_with_retired_keys().await?;
        if tenants.is_empty() {
            return Ok(Pass::Idle);
        }
        self.vault.load().await?;
        let mut resealed = 0;
        for tenant in &tenants {
            if !self.holds(Resealing::Data).await? {
                return Ok(Pass::Busy);
            }
            let sealer = self.vault.sealer_of(tenant).await?;
            for column in sealed::ALL.iter().filter(|column| column.is_resealed_under(Under::Tenant)) {
                resealed += self.reseal_column(column, tenant, &sealer).await?;
            }
            self.remove_old_keys(tenant, time).await?;
        }
        self.store.leave_resealing(Resealing::Data, self.instance, None).await?;
        Ok(if resealed > 0 { Pass::Busy } else { Pass::Idle })
    }

    /// What is under older master keys, where it was asked for under the one that this process has.
    async fn under_master_key(&self, time: OffsetDateTime) -> anyhow::Result<Pass> {
        let asked = self.store.resealing(Resealing::Master).await?;
        let master = self.vault.master();
        if !asked.is_open() || asked.key_id.as_deref() != Some(master.key_id().to_string().as_str()) {
            return Ok(Pass::Idle);
        }
        if !self.holds(Resealing::Master).await? {
            return Ok(Pass::Busy);
        }
        let keys = self.store.data_keys(None).await?;
        let old: Vec<DataKeyRow> = keys.into_iter().filter(|key| !key.sealed.starts_with(&master.mark())).collect();
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
        }
        for column in sealed::ALL.iter().filter(|column| column.is_resealed_under(Under::Master)) {
            self.reseal_column(column, &TenantId::default_tenant(), master).await?;
        }
        let done = asked.asked_at.map(|asked| (asked, micros(time)));
        self.store.leave_resealing(Resealing::Master, self.instance, done).await?;
        tracing::info!(key = %master.key_id(), "what older master keys sealed is sealed under the newest");
        Ok(Pass::Idle)
    }

    async fn holds(&self, what: Resealing) -> Result<bool, StoreError> {
        let time = now();
        self.store.hold_resealing(what, self.instance, micros(time), micros(time + ALONE)).await
    }

    /// Says how many values were sealed anew.
    async fn reseal_column(&self, column: &Column, tenant: &TenantId, sealer: &Sealer) -> anyhow::Result<u64> {
        let (mark, mut after, mut done) = (sealer.mark(), uuid::Uuid::nil(), 0);
        let limit = i64::try_from(BATCH)?;
        loop {
            let time = micros(now());
            let rows = self.store.to_reseal(column, tenant, &mark, after, time, limit).await?;
            let Some(last) = rows.last() else { return Ok(done) };
            after = last.id;
            let mut new = Vec::with_capacity(rows.len());
            for row in rows {
                match self.sealed_anew(column, tenant, sealer, &row).await {
                    Ok(sealed) => new.push((row, sealed)),
                    Err(error) => {
                        let column = column.name;
                        tracing::error!(tenant_id = %tenant, column, row = %row.id, "a value is left as it is: {error:#}");
                    }
                }
            }
            done += self.store.reseal(column, &new, micros(now())).await?;
        }
    }

    async fn sealed_anew(
        &self,
        column: &Column,
        tenant: &TenantId,
        sealer: &Sealer,
        row: &SealedRow,
    ) -> anyhow::Result<Vec<u8>> {
        let bound_to = match &row.about {
            Some(about) => sealed_for_stored(row.id, about.0.clone())?,
            None => row.id.to_string(),
        };
        let place = Place { table: column.name, row: &bound_to, tenant, subject: row.subject };
        let plain = self.vault.open(place, &row.sealed).await?;
        Ok(sealer.seal(place, &plain)?)
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
                let made = key.created_at.map(|made| at(made).to_string());
                tracing::info!(tenant_id = %tenant, generation = key.generation, made, "a tenant's old key is gone");
            }
        }
        Ok(())
    }
}
