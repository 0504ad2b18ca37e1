//! The keys of one tenant: 256 random bits each, kept sealed under the master key and bound to the tenant. What they seal says by its
//! first byte that it is a tenant's, so that what was sealed under the master key before stays readable.

use zeroize::Zeroizing;

use super::sealer::{Key, OF_SUBJECT};
use super::{CryptoError, MasterKey, Place, SealKeyId, Sealer};
use crate::id::TenantId;

/// Where a tenant's keys are sealed for. From when there was one for each tenant, in its row.
const TABLE: &str = "tenants.data_key";

/// One of a tenant's keys, open.
#[derive(Clone)]
pub struct DataKey(Key);

impl std::fmt::Debug for DataKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "DataKey({})", self.id())
    }
}

impl DataKey {
    /// What names it in what it seals.
    pub fn id(&self) -> SealKeyId {
        self.0.id()
    }
}

impl Sealer {
    /// A new key for the tenant, sealed.
    pub fn new_data_key(&self, tenant: &TenantId) -> Result<Vec<u8>, CryptoError> {
        self.seal(place(tenant), &*MasterKey::generate().0)
    }

    /// A key of the tenant, as it was sealed.
    pub fn data_key(&self, tenant: &TenantId, sealed: &[u8]) -> Result<DataKey, CryptoError> {
        let plain = self.open(place(tenant), sealed)?;
        let key = Zeroizing::new(<[u8; 32]>::try_from(plain.as_slice()).map_err(|_| CryptoError::Damaged)?);
        Ok(DataKey(Key::new(&MasterKey(key), OF_SUBJECT)))
    }

    /// The same key of the tenant, sealed under the newest master key.
    pub fn reseal_data_key(&self, tenant: &TenantId, sealed: &[u8]) -> Result<Vec<u8>, CryptoError> {
        self.seal(place(tenant), &self.open(place(tenant), sealed)?)
    }

    /// What seals for a tenant under its newest key, and opens with the older ones too.
    pub fn of_tenant(newest: DataKey, older: Vec<DataKey>) -> Self {
        Self::of_keys(newest.0, older.into_iter().map(|key| key.0))
    }
}

fn place(tenant: &TenantId) -> Place<'_> {
    Place { table: TABLE, row: tenant.as_str(), tenant, subject: None }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;
    use crate::crypto::is_of_tenant;

    fn sealer(master: &Sealer, tenant: &TenantId, key: &[u8]) -> Result<Sealer, CryptoError> {
        Ok(Sealer::of_tenant(master.data_key(tenant, key)?, Vec::new()))
    }

    #[test]
    fn a_tenants_key_opens_what_it_sealed_and_nothing_else_does() {
        let master = Sealer::new(&MasterKey::generate());
        let (acme, other) = (TenantId::parse("acme").unwrap(), TenantId::parse("other").unwrap());
        let key = master.new_data_key(&acme).unwrap();
        assert!(!is_of_tenant(&key));
        let own = sealer(&master, &acme, &key).unwrap();
        let at = Place { table: "servers.secrets", row: "1", tenant: &acme, subject: None };
        let sealed = own.seal(at, b"s3cret").unwrap();
        assert!(is_of_tenant(&sealed) && !sealed.windows(6).any(|part| part == b"s3cret"));
        assert_eq!(**sealer(&master, &acme, &key).unwrap().open(at, &sealed).unwrap(), *b"s3cret");

        assert!(matches!(master.open(at, &sealed), Err(CryptoError::Damaged)), "the master key does not");
        assert!(own.open(at, &master.seal(at, b"x").unwrap()).is_err(), "nor the other way round");
        assert!(matches!(master.data_key(&other, &key), Err(CryptoError::Damaged)), "it is bound to its tenant");
        let theirs = sealer(&master, &other, &master.new_data_key(&other).unwrap()).unwrap();
        assert!(matches!(theirs.open(at, &sealed), Err(CryptoError::OtherKey { .. })));
        let stranger = Sealer::new(&MasterKey::generate());
        assert!(matches!(stranger.data_key(&acme, &key), Err(CryptoError::OtherKey { .. })));
    }

    #[test]
    fn what_is_one_persons_opens_as_nobody_elses() {
        let master = Sealer::new(&MasterKey::generate());
        let acme = TenantId::parse("acme").unwrap();
        let own = sealer(&master, &acme, &master.new_data_key(&acme).unwrap()).unwrap();
        let of = |subject| Place { table: "logins.tokens", row: "1", tenant: &acme, subject };
        let [ann, bob] = [(); 2].map(|()| Some(Uuid::now_v7()));
        for owner in [ann, bob, None] {
            let sealed = own.seal(of(owner), b"token").unwrap();
            for who in [ann, bob, None] {
                assert_eq!(own.open(of(who), &sealed).is_ok(), who == owner);
            }
        }
    }

    #[test]
    fn a_tenants_older_key_still_opens_and_all_of_them_outlast_the_master_key() {
        let [first, second] = [(); 2].map(|()| MasterKey::generate());
        let master = Sealer::new(&first);
        let acme = TenantId::parse("acme").unwrap();
        let keys = [(); 2].map(|()| master.new_data_key(&acme).unwrap());
        let at = Place { table: "servers.secrets", row: "1", tenant: &acme, subject: None };
        let old = sealer(&master, &acme, &keys[0]).unwrap().seal(at, b"x").unwrap();

        let changed = Sealer::with_previous(&second, &[first]);
        let keys = keys.map(|key| changed.reseal_data_key(&acme, &key).unwrap());
        let master = Sealer::new(&second);
        let [older, newest] = keys.map(|key| master.data_key(&acme, &key).unwrap());
        let own = Sealer::of_tenant(newest.clone(), vec![older]);
        assert_eq!(**own.open(at, &old).unwrap(), *b"x");
        assert_eq!(SealKeyId::of(&own.seal(at, b"x").unwrap()), Some(newest.id()));
    }
}
