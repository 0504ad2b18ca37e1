//! ENGINE: seals what belongs to tenants, each under a key of its own, made when it is first needed. The keys are rows,
//! sealed under the master key; here they are held open. A tenant's key may be replaced: the newest seals, and the older ones open what
//! they sealed until that was sealed anew. What is no tenant's is sealed under the master key.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use ahash::AHashMap;
use arc_swap::ArcSwap;
use time::OffsetDateTime;
use zeroize::Zeroizing;

use crate::crypto::{CryptoError, DataKey, Ids, Place, SealKeyId, Sealer, is_of_tenant};
use crate::id::TenantId;
use crate::store::data_keys::{DataKeyRow, NewDataKey};
use crate::store::id_keys::ID_KEY;
use crate::store::{Store, StoreError, micros, sealed};

/// Longest that a process seals under a key of which it has not seen that it is still the newest. Much less than what passes until an
/// older one goes ([`SETTLED`]).
const FRESH: Duration = Duration::from_mins(1);
/// A key whose place another took is kept for so long at least: by then nobody seals under it, and what was sealed under it is stored.
pub const SETTLED: Duration = Duration::from_mins(10);
/// Most keys that a tenant has at a time.
pub const MOST_KEYS: usize = 8;

/// Why something is not sealed or opened.
#[derive(Debug, thiserror::Error)]
pub enum VaultError {
    /// The key of the tenant does not open.
    #[error("the key of the tenant `{tenant}` cannot be opened: {cause}")]
    Key {
        /// Whose.
        tenant: TenantId,
        /// Why.
        cause: CryptoError,
    },
    /// The value cannot be sealed, or does not open.
    #[error(transparent)]
    Value(#[from] CryptoError),
    /// The database refused or failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl VaultError {
    /// Whether the master key is not the one that was sealed with: then nothing works.
    pub fn is_of_other_key(&self) -> bool {
        matches!(
            self,
            Self::Key { cause: CryptoError::OtherKey { .. }, .. } | Self::Value(CryptoError::OtherKey { .. })
        )
    }
}

/// The keys. Cheap to clone; clones are one. It holds as many as there are tenants, and their older ones.
#[derive(Debug, Clone)]
pub struct Vault(Arc<Parts>);

#[derive(Debug)]
struct Parts {
    store: Store,
    master: Sealer,
    ids: Ids,
    known: ArcSwap<AHashMap<TenantId, Known>>,
    /// The revision of the keys that were last read whole, and when they were known to be the newest.
    read: Mutex<Option<(i64, Instant)>>,
}

/// The keys of a tenant as they are stored, and open.
#[derive(Debug, Clone)]
struct Known {
    stored: Arc<[DataKeyRow]>,
    sealer: Sealer,
    read_at: Instant,
}

impl Known {
    /// Orders the keys of a tenant by when the newest came; those of one that was removed and made again behind the others.
    fn age(&self) -> Option<(Option<i64>, i64)> {
        self.stored.first().map(|newest| (newest.created_at, newest.generation))
    }
}

impl Vault {
    /// Over `store`, whose keys are sealed by `master`. None is known yet.
    pub fn new(store: Store, master: Sealer) -> Self {
        let ids = Ids::under(&master);
        Self(Arc::new(Parts { store, master, ids, known: ArcSwap::default(), read: Mutex::default() }))
    }

    /// What seals that which only programs keep, and is known by it later.
    pub fn ids(&self) -> &Ids {
        &self.0.ids
    }

    /// Makes known what seals the ids that programs keep, and makes it where it was not made before, or is damaged: nothing opens the ids
    /// of before then.
    ///
    /// # Errors
    ///
    /// When it was sealed under another master key: the ids would be unknown for no good reason.
    pub async fn know_ids(&self) -> Result<(), VaultError> {
        let (row, tenant) = (ID_KEY.to_string(), TenantId::default_tenant());
        let place = Place { table: sealed::ID_KEYS.name, row: &row, tenant: &tenant, subject: None };
        let Parts { store, ids, .. } = &*self.0;
        // Of several processes one is first; each takes what that one made.
        for _ in 0..3 {
            if ids.are_known() {
                return Ok(());
            }
            let Some(key) = store.id_key().await? else {
                store.add_id_key(&ids.new_key(place)?, micros(crate::store::now())).await?;
                continue;
            };
            match ids.know(place, &key) {
                Err(CryptoError::Damaged) => {
                    tracing::error!(
                        "clients that registered themselves are not known any more: the key of their ids is damaged"
                    );
                    store.replace_id_key(&key, &ids.new_key(place)?).await?;
                }
                known => known?,
            }
        }
        if ids.are_known() { Ok(()) } else { Err(StoreError::Missing.into()) }
    }

    /// What seals under the master key, for what is no tenant's.
    pub fn master(&self) -> &Sealer {
        &self.0.master
    }

    /// Takes over the keys that there are by now, and forgets those of tenants that are gone. One that is damaged is left out and
    /// logged: what it sealed cannot be read.
    ///
    /// # Errors
    ///
    /// When one was sealed under another master key: nothing would work, and nobody would know why.
    pub async fn load(&self) -> Result<(), VaultError> {
        let known = self.0.known.load_full();
        // Read before the rest: what changes meanwhile is looked at again.
        let began = Instant::now();
        let revision = self.0.store.data_keys_revision().await?;
        if self.read().is_none_or(|(read, _)| read != revision) {
            let stored = self.0.store.data_keys(None).await?;
            self.take(&known, &stored)?;
        }
        *self.0.read.lock().unwrap_or_else(PoisonError::into_inner) = Some((revision, began));
        Ok(())
    }

    fn read(&self) -> Option<(i64, Instant)> {
        *self.0.read.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes over what was read when `known` was what is known.
    fn take(&self, known: &AHashMap<TenantId, Known>, stored: &[DataKeyRow]) -> Result<(), VaultError> {
        let mut next = AHashMap::new();
        for keys in stored.chunk_by(|one, other| one.tenant_id == other.tenant_id) {
            let tenant = keys[0].tenant()?;
            match known.get(&tenant).filter(|known| *known.stored == *keys).cloned() {
                Some(same) => _ = next.insert(tenant, same),
                None => match self.open_keys(&tenant, keys) {
                    Ok(new) => _ = next.insert(tenant, new),
                    Err(error) if error.is_of_other_key() => return Err(error),
                    Err(error) => tracing::error!("{error}"),
                },
            }
        }
        self.0.known.rcu(|now| {
            let mut next = next.clone();
            // What was looked up since then is newer than what was read, unless a newer key was read.
            for (tenant, now) in now.iter() {
                let is_new = known.get(tenant).is_none_or(|known| known.stored != now.stored);
                if is_new && next.get(tenant).is_none_or(|next| next.age() <= now.age()) {
                    next.insert(tenant.clone(), now.clone());
                }
            }
            next
        });
        Ok(())
    }

    /// Seals for a place of its tenant, whose key is made now if there is none. `Missing` when there is no such tenant.
    pub async fn seal(&self, place: Place<'_>, plain: &[u8]) -> Result<Vec<u8>, VaultError> {
        Ok(self.sealer_of(place.tenant).await?.seal(place, plain)?)
    }

    /// Makes known here what seals for the tenant, for [`Self::seal_at_once`]. `Missing` as for [`Self::seal`].
    pub async fn prepare(&self, tenant: &TenantId) -> Result<(), VaultError> {
        self.sealer_of(tenant).await.map(drop)
    }

    /// What seals for the tenant as the database has it now, and opens.
    pub async fn sealer_of(&self, tenant: &TenantId) -> Result<Sealer, VaultError> {
        if let Some(known) = self.look_up(tenant).await? {
            return Ok(known.sealer);
        }
        // Of several at once, one is first. Seldom needed, and what seals should not carry it.
        Box::pin(self.add_keys(&[(tenant.clone(), 0)], crate::store::now())).await?;
        Ok(self.look_up(tenant).await?.ok_or(StoreError::Missing)?.sealer)
    }

    /// Gives each of these tenants a new key, unless it got one since or has none that could be replaced, or too many; says how many
    /// did. From now on that seals here, and within moments everywhere.
    pub async fn rotate(&self, tenants: &[TenantId], now: OffsetDateTime) -> Result<u64, VaultError> {
        self.load().await?;
        let known = self.0.known.load_full();
        let of = |tenant: &TenantId| {
            let stored = &known.get(tenant)?.stored;
            if stored.len() >= MOST_KEYS {
                tracing::warn!(tenant_id = %tenant, "it has as many keys as it may, and gets no new one before an old one goes");
                return None;
            }
            Some((tenant.clone(), stored.first()?.generation))
        };
        let made = self.add_keys(&tenants.iter().filter_map(of).collect::<Vec<_>>(), now).await?;
        self.load().await?;
        Ok(made)
    }

    async fn add_keys(&self, tenants: &[(TenantId, i64)], now: OffsetDateTime) -> Result<u64, VaultError> {
        let new = |(tenant, after): &(TenantId, i64)| {
            let sealed = self.new_key(tenant)?;
            Ok(NewDataKey { tenant: tenant.clone(), after: *after, sealed })
        };
        let keys: Vec<NewDataKey> = tenants.iter().map(new).collect::<Result<_, CryptoError>>()?;
        Ok(self.0.store.add_data_keys(&keys, micros(now)).await?)
    }

    /// A new key, sealed; one that is named otherwise than those that the tenant has.
    fn new_key(&self, tenant: &TenantId) -> Result<Vec<u8>, CryptoError> {
        let known = self.known(tenant);
        loop {
            let new = self.0.master.new_data_key(tenant)?;
            let id = self.0.master.data_key(tenant, &new)?.id();
            if known.as_ref().is_none_or(|known| !known.sealer.key_ids().any(|known| known == id)) {
                return Ok(new);
            }
        }
    }

    /// Opens what was sealed for the place, under one of the tenant's keys or, before there was one, the master key.
    pub async fn open(&self, place: Place<'_>, sealed: &[u8]) -> Result<Zeroizing<Vec<u8>>, VaultError> {
        match self.open_at_once(place, sealed) {
            // Another process made the key a moment ago, or the tenant anew.
            Err(CryptoError::NoTenantKey | CryptoError::OtherKey { .. }) if is_of_tenant(sealed) => {
                let known = Box::pin(self.look_up(place.tenant)).await?.ok_or(CryptoError::NoTenantKey)?;
                // Under whichever key it was: the master key is the right one.
                known.sealer.open(place, sealed).map_err(|_| VaultError::Value(CryptoError::Damaged))
            }
            outcome => Ok(outcome?),
        }
    }

    /// Seals as [`Self::seal`] does, where nobody can wait: `NoTenantKey` when it is not known here which key is the tenant's newest.
    /// Nothing of a tenant is sealed under the master key, which would outlast the tenant.
    pub fn seal_at_once(&self, place: Place<'_>, plain: &[u8]) -> Result<Vec<u8>, CryptoError> {
        let known = self.known(place.tenant).filter(|known| self.is_fresh(known));
        known.ok_or(CryptoError::NoTenantKey)?.sealer.seal(place, plain)
    }

    /// Opens as [`Self::open`] does, where nobody can wait: `NoTenantKey` or `OtherKey` when the tenant's is not known here.
    pub fn open_at_once(&self, place: Place<'_>, sealed: &[u8]) -> Result<Zeroizing<Vec<u8>>, CryptoError> {
        if !is_of_tenant(sealed) {
            return self.0.master.open(place, sealed);
        }
        self.known(place.tenant).ok_or(CryptoError::NoTenantKey)?.sealer.open(place, sealed)
    }

    /// Whether what seals for the tenant is known here, and what opens this value of it, if there is one.
    pub fn is_ready(&self, tenant: &TenantId, sealed: Option<&[u8]>) -> bool {
        let sealed = sealed.filter(|sealed| is_of_tenant(sealed));
        let opens = |known: &Known| sealed.is_none_or(|sealed| known.sealer.check_key(sealed).is_ok());
        self.known(tenant).is_some_and(|known| self.is_fresh(&known) && opens(&known))
    }

    /// The keys of a tenant that open, as they are stored; the newest first. None known: none.
    pub fn keys_of(&self, tenant: &TenantId) -> Vec<(DataKeyRow, Option<SealKeyId>)> {
        let Some(known) = self.known(tenant) else { return Vec::new() };
        let id = |row: &DataKeyRow| self.0.master.data_key(tenant, &row.sealed).ok().map(|key| key.id());
        known.stored.iter().map(|row| (row.clone(), id(row))).collect()
    }

    /// The key under which each tenant's values are sealed.
    pub fn newest(&self) -> AHashMap<TenantId, Sealer> {
        self.0.known.load().iter().map(|(tenant, known)| (tenant.clone(), known.sealer.clone())).collect()
    }

    fn known(&self, tenant: &TenantId) -> Option<Known> {
        self.0.known.load().get(tenant).cloned()
    }

    fn is_fresh(&self, known: &Known) -> bool {
        known.read_at.elapsed() < FRESH || self.read().is_some_and(|(_, read_at)| read_at.elapsed() < FRESH)
    }

    /// The keys of the tenant, as the database has them now: a tenant that was removed and made again has others.
    async fn look_up(&self, tenant: &TenantId) -> Result<Option<Known>, VaultError> {
        let stored = self.0.store.data_keys(Some(tenant)).await?;
        if stored.is_empty() {
            return Ok(None);
        }
        let same = self.known(tenant).filter(|known| *known.stored == *stored);
        if let Some(known) = same.as_ref().filter(|known| self.is_fresh(known)) {
            return Ok(Some(known.clone()));
        }
        let new = match same {
            Some(known) => Known { read_at: Instant::now(), ..known },
            None => self.open_keys(tenant, &stored)?,
        };
        self.0.known.rcu(|known| {
            let mut next = AHashMap::clone(known);
            // Somebody who looked later may be here sooner.
            if known.get(tenant).is_none_or(|known| known.age() <= new.age()) {
                next.insert(tenant.clone(), new.clone());
            }
            next
        });
        Ok(Some(new))
    }

    /// Opens the keys of a tenant, the newest first. An older one that is damaged is left out and logged.
    fn open_keys(&self, tenant: &TenantId, stored: &[DataKeyRow]) -> Result<Known, VaultError> {
        let open = |row: &DataKeyRow| {
            let wrong = |cause| VaultError::Key { tenant: tenant.clone(), cause };
            self.0.master.data_key(tenant, &row.sealed).map_err(wrong)
        };
        let (newest, older) = stored.split_first().ok_or(CryptoError::NoTenantKey)?;
        let newest = open(newest)?;
        let mut others: Vec<DataKey> = Vec::new();
        for row in older {
            match open(row) {
                Ok(key) => others.push(key),
                Err(error) if error.is_of_other_key() => return Err(error),
                Err(error) => tracing::error!(generation = row.generation, "{error}"),
            }
        }
        Ok(Known { stored: stored.into(), sealer: Sealer::of_tenant(newest, others), read_at: Instant::now() })
    }
}

#[cfg(test)]
mod tests;
