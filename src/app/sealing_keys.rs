//! The keys that seal secrets, for who administers the gateway: which there are, what still names an old one, and new ones in their place.

use std::collections::BTreeMap;

use ahash::AHashMap;
use schemars::JsonSchema;
use serde::Serialize;
use time::OffsetDateTime;

use super::App;
use super::resealing::Left;
use super::unreadable::Unreadable;
use crate::crypto::{SealKeyId, Sealer, is_of_tenant};
use crate::id::TenantId;
use crate::store::data_keys::DataKeyRow;
use crate::store::sealed::{self, Column, MarkCount, Old, Under};
use crate::store::{StoreError, at, at_opt, micros, now};
use crate::telemetry::Event;
use crate::vault::{SETTLED, VaultError};

/// Tenants that get their keys in one transaction.
const TOGETHER: usize = 200;
/// Most values that are named.
const NAMED: usize = 100;

/// All of them.
#[derive(Debug, Serialize, JsonSchema)]
pub struct SealingKeys {
    master: MasterKeys,
    data: DataKeys,
}

/// The master key.
#[derive(Debug, Serialize, JsonSchema)]
struct MasterKeys {
    /// The one that seals.
    key_id: SealKeyId,
    /// Those that open besides, as this process was told.
    previous: Vec<SealKeyId>,
    #[serde(flatten)]
    values: Counts,
    /// Whether it was asked for and is not finished.
    open: bool,
    /// When it was last asked that what older ones sealed be sealed anew; null: never.
    #[serde(with = "crate::clock::MaybeMoment")]
    asked_at: Option<OffsetDateTime>,
    /// When that was last finished; null: never.
    #[serde(with = "crate::clock::MaybeMoment")]
    resealed_at: Option<OffsetDateTime>,
}

/// How many values there are, and under which keys.
#[derive(Debug, Default, Serialize, JsonSchema)]
struct Counts {
    values: i64,
    /// Those that name an older key, and will be sealed anew.
    stale: i64,
    /// Those that name an older key, and are over within minutes.
    running_out: i64,
    /// Those that name a key which is not there, and do not open.
    lost: i64,
    /// Those that name an older key which is there, and do not open.
    unreadable: i64,
    /// These, as far as they are named.
    unreadable_values: Vec<Unreadable>,
}

impl Counts {
    /// `sealer` is what they are to be under; those under a master key have that besides. Says whether they are stale.
    fn add(&mut self, column: &Column, counted: &MarkCount, sealer: Option<&Sealer>, master: &Sealer) -> bool {
        let MarkCount { mark, count, .. } = counted;
        self.values += count;
        let opens = |sealer: &Sealer| sealer.check_key(mark).is_ok();
        match column.old {
            _ if sealer.is_some_and(|sealer| *mark == sealer.mark()) => {}
            _ if !sealer.is_some_and(opens) && !opens(master) => self.lost += count,
            Old::Resealed | Old::ResealedApart => {
                self.stale += count;
                return true;
            }
            Old::RunsOut => self.running_out += count,
        }
        false
    }

    /// These of the stale ones do not open.
    fn do_not_open(&mut self, found: Vec<Unreadable>) {
        let count = i64::try_from(found.len()).unwrap_or(i64::MAX);
        self.unreadable += count;
        // Since they were counted some may have come besides.
        self.stale = (self.stale - count).max(0);
        self.unreadable_values.extend(found);
        self.unreadable_values.truncate(NAMED);
    }
}

/// What is under keys of tenants, of all or one.
#[derive(Debug, Serialize, JsonSchema)]
struct UnderKeys {
    #[serde(flatten)]
    values: Counts,
    /// When one last took the place of another; null: never, as far as is known.
    #[serde(with = "crate::clock::MaybeMoment")]
    rotated_at: Option<OffsetDateTime>,
    /// When the last of the retired keys may go at the earliest; null: there is none.
    #[serde(with = "crate::clock::MaybeMoment")]
    retired_until: Option<OffsetDateTime>,
}

impl UnderKeys {
    fn new(values: Counts, keys: &[DataKeyRow]) -> Self {
        let rotated = keys.iter().filter(|key| key.generation > 1).filter_map(|key| key.created_at).max();
        let retired = keys.iter().filter_map(|key| key.retired_at).max();
        Self { values, rotated_at: at_opt(rotated), retired_until: retired.map(|retired| at(retired) + SETTLED) }
    }
}

/// The keys of tenants.
#[derive(Debug, Serialize, JsonSchema)]
struct DataKeys {
    /// Tenants that have any.
    tenants: usize,
    keys: usize,
    /// Keys whose place another took, and which are still there.
    retired: usize,
    #[serde(flatten)]
    under: UnderKeys,
}

/// The keys of one tenant, the newest first.
#[derive(Debug, Serialize, JsonSchema)]
pub struct TenantKeys {
    tenant_id: TenantId,
    keys: Vec<TenantKey>,
    #[serde(flatten)]
    under: UnderKeys,
}

#[derive(Debug, Serialize, JsonSchema)]
struct TenantKey {
    /// Null: it does not open.
    key_id: Option<SealKeyId>,
    generation: i64,
    /// Null: it was made before this was noted.
    #[serde(with = "crate::clock::MaybeMoment")]
    created_at: Option<OffsetDateTime>,
    #[serde(with = "crate::clock::MaybeMoment")]
    retired_at: Option<OffsetDateTime>,
    values: i64,
}

/// There is no master key before the one in use, as far as this process was told.
#[derive(Debug)]
pub struct NothingBefore;

/// How values of a tenant begin in a column.
type InColumn = (&'static Column, MarkCount);
/// What seals for each tenant.
type Sealers = AHashMap<TenantId, Sealer>;

impl App {
    /// Of all tenants, and the master key's.
    pub async fn sealing_keys(&self) -> Result<SealingKeys, VaultError> {
        Ok(SealingKeys { master: self.master_keys().await?, data: self.data_keys().await? })
    }

    async fn master_keys(&self) -> Result<MasterKeys, VaultError> {
        let master = self.vault.master();
        let values = self.values_under_master(&sealed::ALL.each_ref()).await?;
        let asked = self.store.resealing_under_master().await?;
        Ok(MasterKeys {
            key_id: master.key_id(),
            previous: master.key_ids().skip(1).collect(),
            values,
            open: asked.is_open(),
            asked_at: at_opt(asked.asked_at),
            resealed_at: at_opt(asked.done_at),
        })
    }

    /// What is under master keys in these columns.
    async fn values_under_master(&self, columns: &[&'static Column]) -> Result<Counts, VaultError> {
        let master = self.vault.master();
        let (mut values, mut stale) = (Counts::default(), Vec::new());
        for column in columns {
            for counted in self.store.count_marks(column, None).await? {
                let is_ours = column.under == Under::Master || !is_of_tenant(&counted.mark);
                if is_ours && values.add(column, &counted, Some(master), master) {
                    stale.push((*column, counted.tenant()?));
                }
            }
        }
        let newest = self.vault.newest();
        let (apart, stale): (Vec<_>, Vec<_>) =
            stale.into_iter().partition(|(column, _)| column.old == Old::ResealedApart);
        for (column, tenant) in once_each(stale) {
            let sealer = if column.under == Under::Master { Some(master) } else { newest.get(&tenant) };
            let Some(sealer) = sealer else { continue };
            let mut found = self.unreadable_in(column, &tenant, sealer).await?;
            found.retain(|value| !value.is_of_tenant);
            values.do_not_open(found);
        }
        if !apart.is_empty() {
            values.do_not_open(self.unreadable_data_keys().await?);
        }
        Ok(values)
    }

    /// How many values need a previous master key for longer than minutes, and open.
    pub(super) async fn waiting_under_older_master(&self) -> Result<i64, VaultError> {
        Ok(self.values_under_master(&sealed::ALL.each_ref()).await?.stale)
    }

    /// What is the gateway's own, which is little, under older master keys.
    pub(super) async fn left_of_masters_own(&self) -> Result<Left, VaultError> {
        if self.vault.master().key_ids().nth(1).is_none() {
            return Ok(Left::default());
        }
        let Counts { stale, unreadable, .. } =
            self.values_under_master(&under(Under::Master).collect::<Vec<_>>()).await?;
        Ok(Left { waiting: stale, unreadable, sealed: 0 })
    }

    async fn data_keys(&self) -> Result<DataKeys, VaultError> {
        let (counted, sealers) = self.count(None).await?;
        let values = self.values_of_tenants(&counted, &sealers).await?;
        let rows = self.store.data_keys(None).await?;
        Ok(DataKeys {
            tenants: rows.chunk_by(|one, other| one.tenant_id == other.tenant_id).count(),
            keys: rows.len(),
            retired: rows.iter().filter(|row| row.retired_at.is_some()).count(),
            under: UnderKeys::new(values, &rows),
        })
    }

    async fn values_of_tenants(&self, counted: &[InColumn], sealers: &Sealers) -> Result<Counts, VaultError> {
        let (mut values, mut stale) = (Counts::default(), Vec::new());
        for (column, counted) in counted {
            let tenant = counted.tenant()?;
            if values.add(column, counted, sealers.get(&tenant), self.vault.master()) {
                stale.push((*column, tenant));
            }
        }
        for (column, tenant) in once_each(stale) {
            if let Some(sealer) = sealers.get(&tenant) {
                values.do_not_open(self.unreadable_in(column, &tenant, sealer).await?);
            }
        }
        Ok(values)
    }

    /// Of one tenant.
    pub async fn keys_of_tenant(&self, tenant: &TenantId) -> Result<TenantKeys, VaultError> {
        self.store.is_active_tenant(tenant).await?.ok_or(StoreError::Missing)?;
        let (counted, sealers) = self.count(Some(tenant)).await?;
        let values = self.values_of_tenants(&counted, &sealers).await?;
        let mut by_key = BTreeMap::<SealKeyId, i64>::new();
        for (_, counted) in &counted {
            if let Some(id) = SealKeyId::of(&counted.mark) {
                *by_key.entry(id).or_default() += counted.count;
            }
        }
        let stored = self.vault.keys_of(tenant);
        let rows: Vec<DataKeyRow> = stored.iter().map(|(row, _)| row.clone()).collect();
        let keys = stored.into_iter().map(|(row, key_id)| TenantKey {
            key_id,
            generation: row.generation,
            created_at: at_opt(row.created_at),
            retired_at: at_opt(row.retired_at),
            values: key_id.and_then(|id| by_key.get(&id).copied()).unwrap_or_default(),
        });
        Ok(TenantKeys { tenant_id: tenant.clone(), keys: keys.collect(), under: UnderKeys::new(values, &rows) })
    }

    /// How the values of tenants begin, and how they would begin now.
    async fn count(&self, tenant: Option<&TenantId>) -> Result<(Vec<InColumn>, Sealers), VaultError> {
        self.vault.load().await?;
        let mut all = Vec::new();
        for column in under(Under::Tenant) {
            all.extend(self.store.count_marks(column, tenant).await?.into_iter().map(|counted| (column, counted)));
        }
        Ok((all, self.vault.newest()))
    }

    /// Gives a tenant, or each that has one, a new key; says how many. What the others sealed is sealed anew from now on, in the background.
    pub async fn rotate_data_keys(&self, tenant: Option<&TenantId>) -> Result<u64, VaultError> {
        self.vault.load().await?;
        let tenants = if let Some(tenant) = tenant {
            self.store.is_active_tenant(tenant).await?.ok_or(StoreError::Missing)?;
            vec![tenant.clone()]
        } else {
            let mut all: Vec<TenantId> = self.vault.newest().into_keys().collect();
            // In the same order in every process, so that no two wait for each other.
            all.sort_unstable_by(|one, other| one.as_str().cmp(other.as_str()));
            all
        };
        let rotate = async {
            let mut made = 0;
            for some in tenants.chunks(TOGETHER) {
                made += self.vault.rotate(some, now()).await?;
            }
            Ok(made)
        };
        let made = rotate.await;
        let count = *made.as_ref().unwrap_or(&0);
        if count > 0 {
            let tenant = tenant.map(|tenant| tenant.as_str().into());
            self.recorder.tell(Event { tenant, count, ..Event::new("key.rotate", true) });
        }
        // Those that got a key before it came to nothing have one.
        self.begin_resealing();
        made
    }

    /// Has what older master keys sealed sealed under the newest, in the background.
    pub async fn reseal_under_master(&self) -> Result<Result<(), NothingBefore>, StoreError> {
        let master = self.vault.master();
        if master.key_ids().nth(1).is_none() {
            return Ok(Err(NothingBefore));
        }
        self.store.ask_to_reseal_under_master(&master.key_id().to_string(), micros(now())).await?;
        self.begin_resealing();
        Ok(Ok(()))
    }
}

fn under(key: Under) -> impl Iterator<Item = &'static Column> {
    sealed::ALL.iter().filter(move |column| column.under == key)
}

/// Each tenant of a column once, however its values begin.
fn once_each(mut all: Vec<(&'static Column, TenantId)>) -> Vec<(&'static Column, TenantId)> {
    all.dedup_by(|(column, tenant), (other, another)| column.name == other.name && tenant == another);
    all
}
