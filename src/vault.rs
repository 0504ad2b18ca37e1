//! ENGINE: seals what belongs to tenants, each under a key of its own, made when it is first needed. The keys are rows,
//! sealed under the master key; here they are held open. What is no tenant's is sealed under the master key.

use std::sync::Arc;

use ahash::AHashMap;
use arc_swap::ArcSwap;
use zeroize::Zeroizing;

use crate::crypto::{CryptoError, Place, Sealer, is_of_tenant};
use crate::id::TenantId;
use crate::store::{Store, StoreError};

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

/// The keys. Cheap to clone; clones are one. It holds as many as there are tenants.
#[derive(Debug, Clone)]
pub struct Vault(Arc<Parts>);

#[derive(Debug)]
struct Parts {
    store: Store,
    master: Sealer,
    known: ArcSwap<AHashMap<TenantId, Known>>,
}

/// A key as it is stored, and open.
#[derive(Debug, Clone)]
struct Known {
    stored: Arc<[u8]>,
    sealer: Sealer,
}

impl Vault {
    /// Over `store`, whose keys are sealed by `master`. None is known yet.
    pub fn new(store: Store, master: Sealer) -> Self {
        Self(Arc::new(Parts { store, master, known: ArcSwap::default() }))
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
        let stored = self.0.store.data_keys().await?;
        let known = self.0.known.load();
        let mut next = AHashMap::with_capacity(stored.len());
        for (tenant, key) in stored {
            match known.get(&tenant).filter(|known| *known.stored == *key).cloned() {
                Some(same) => _ = next.insert(tenant, same),
                None => match self.open_key(&tenant, &key) {
                    Ok(new) => _ = next.insert(tenant, new),
                    Err(error) if error.is_of_other_key() => return Err(error),
                    Err(error) => tracing::error!("{error}"),
                },
            }
        }
        self.0.known.store(Arc::new(next));
        Ok(())
    }

    /// Seals for a place of its tenant, whose key is made now if there is none. `Missing` when there is no such tenant.
    pub async fn seal(&self, place: Place<'_>, plain: &[u8]) -> Result<Vec<u8>, VaultError> {
        let sealer = if let Some(sealer) = self.look_up(place.tenant).await? {
            sealer
        } else {
            let new = self.0.master.new_data_key(place.tenant)?;
            // Of several at once, one is first.
            self.0.store.set_data_key(place.tenant, &new).await?;
            self.look_up(place.tenant).await?.ok_or(StoreError::Missing)?
        };
        Ok(sealer.seal(place, plain)?)
    }

    /// Opens what was sealed for the place, under the tenant's key or, before there was one, the master key.
    pub async fn open(&self, place: Place<'_>, sealed: &[u8]) -> Result<Zeroizing<Vec<u8>>, VaultError> {
        match self.open_at_once(place, sealed) {
            // Another process made the key a moment ago, or the tenant anew.
            Err(CryptoError::NoTenantKey | CryptoError::OtherKey { .. }) if is_of_tenant(sealed) => {
                let sealer = self.look_up(place.tenant).await?.ok_or(CryptoError::NoTenantKey)?;
                // Under whichever key it was: the master key is the right one.
                sealer.open(place, sealed).map_err(|_| VaultError::Value(CryptoError::Damaged))
            }
            outcome => Ok(outcome?),
        }
    }

    /// Seals as [`Self::seal`] does, where nobody can wait: under the master key when the tenant's is not known here.
    pub fn seal_at_once(&self, place: Place<'_>, plain: &[u8]) -> Result<Vec<u8>, CryptoError> {
        self.known(place.tenant).as_ref().unwrap_or(&self.0.master).seal(place, plain)
    }

    /// Opens as [`Self::open`] does, where nobody can wait: `NoTenantKey` when the tenant's is not known here.
    pub fn open_at_once(&self, place: Place<'_>, sealed: &[u8]) -> Result<Zeroizing<Vec<u8>>, CryptoError> {
        if !is_of_tenant(sealed) {
            return self.0.master.open(place, sealed);
        }
        self.known(place.tenant).ok_or(CryptoError::NoTenantKey)?.open(place, sealed)
    }

    fn known(&self, tenant: &TenantId) -> Option<Sealer> {
        self.0.known.load().get(tenant).map(|known| known.sealer.clone())
    }

    /// What seals for the tenant, as the database has it now: a tenant that was removed and made again has another key.
    async fn look_up(&self, tenant: &TenantId) -> Result<Option<Sealer>, VaultError> {
        let Some(stored) = self.0.store.data_key(tenant).await? else { return Ok(None) };
        if let Some(known) = self.0.known.load().get(tenant).filter(|known| *known.stored == *stored) {
            return Ok(Some(known.sealer.clone()));
        }
        let new = self.open_key(tenant, &stored)?;
        self.0.known.rcu(|known| {
            let mut next = AHashMap::clone(known);
            next.insert(tenant.clone(), new.clone());
            next
        });
        Ok(Some(new.sealer))
    }

    fn open_key(&self, tenant: &TenantId, stored: &[u8]) -> Result<Known, VaultError> {
        let sealer = self.0.master.of_tenant(tenant, stored).map_err(|cause| wrong(tenant, cause))?;
        Ok(Known { stored: stored.into(), sealer })
    }
}

fn wrong(tenant: &TenantId, cause: CryptoError) -> VaultError {
    VaultError::Key { tenant: tenant.clone(), cause }
}
