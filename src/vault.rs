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
        let known = self.0.known.load_full();
        let stored = self.0.store.data_keys().await?;
        self.take(&known, stored)
    }

    /// Takes over what was read when `known` was what is known.
    fn take(&self, known: &AHashMap<TenantId, Known>, stored: Vec<(TenantId, Vec<u8>)>) -> Result<(), VaultError> {
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
        self.0.known.rcu(|now| {
            let mut next = next.clone();
            // What was looked up since then is newer than what was read.
            let is_new =
                |tenant: &TenantId, now: &Known| known.get(tenant).is_none_or(|known| known.stored != now.stored);
            let new = now.iter().filter(|(tenant, now)| is_new(tenant, now));
            next.extend(new.map(|(tenant, now)| (tenant.clone(), now.clone())));
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

    async fn sealer_of(&self, tenant: &TenantId) -> Result<Sealer, VaultError> {
        if let Some(sealer) = self.look_up(tenant).await? {
            return Ok(sealer);
        }
        let new = self.0.master.new_data_key(tenant)?;
        // Of several at once, one is first.
        self.0.store.set_data_key(tenant, &new).await?;
        Ok(self.look_up(tenant).await?.ok_or(StoreError::Missing)?)
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

    /// Seals as [`Self::seal`] does, where nobody can wait: `NoTenantKey` when the tenant's is not known here. Nothing of a tenant is
    /// sealed under the master key, which would outlast the tenant.
    pub fn seal_at_once(&self, place: Place<'_>, plain: &[u8]) -> Result<Vec<u8>, CryptoError> {
        self.known(place.tenant).ok_or(CryptoError::NoTenantKey)?.seal(place, plain)
    }

    /// Opens as [`Self::open`] does, where nobody can wait: `NoTenantKey` when the tenant's is not known here.
    pub fn open_at_once(&self, place: Place<'_>, sealed: &[u8]) -> Result<Zeroizing<Vec<u8>>, CryptoError> {
        if !is_of_tenant(sealed) {
            return self.0.master.open(place, sealed);
        }
        self.known(place.tenant).ok_or(CryptoError::NoTenantKey)?.open(place, sealed)
    }

    /// Whether what seals for the tenant is known here.
    pub fn knows(&self, tenant: &TenantId) -> bool {
        self.0.known.load().contains_key(tenant)
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
        let key = self.0.master.data_key(tenant, stored).map_err(|cause| wrong(tenant, cause))?;
        Ok(Known { stored: stored.into(), sealer: Sealer::of_tenant(key, Vec::new()) })
    }
}

fn wrong(tenant: &TenantId, cause: CryptoError) -> VaultError {
    VaultError::Key { tenant: tenant.clone(), cause }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::MasterKey;

    #[tokio::test]
    async fn a_key_that_comes_while_keys_are_read_stays_and_nothing_is_sealed_under_another() {
        let folder = std::env::temp_dir().join(format!("mcp-gateway-vault-{}", uuid::Uuid::now_v7()));
        std::fs::create_dir_all(&folder).unwrap();
        let address = format!("sqlite://{}", folder.join("gateway.db").display());
        let store = Store::connect(&address, 1).await.unwrap();
        let vault = Vault::new(store.clone(), Sealer::new(&MasterKey::generate()));
        let tenant = TenantId::default_tenant();
        let place = Place { table: "t", row: "r", tenant: &tenant, subject: None };
        assert!(matches!(vault.seal_at_once(place, b"x"), Err(CryptoError::NoTenantKey)), "never under the master key");

        let (known, stored) = (vault.0.known.load_full(), store.data_keys().await.unwrap());
        vault.prepare(&tenant).await.unwrap();
        vault.take(&known, stored).unwrap();
        let sealed = vault.seal_at_once(place, b"x").unwrap();
        assert!(is_of_tenant(&sealed));

        // The key of a tenant that is gone goes, too.
        let known = vault.0.known.load_full();
        vault.take(&known, Vec::new()).unwrap();
        assert!(matches!(vault.open_at_once(place, &sealed), Err(CryptoError::NoTenantKey)));
        vault.load().await.unwrap();
        assert_eq!(**vault.open_at_once(place, &sealed).unwrap(), *b"x");
        store.close().await;
        std::fs::remove_dir_all(&folder).unwrap();
    }
}
