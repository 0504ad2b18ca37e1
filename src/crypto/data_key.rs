//! The key of one tenant: 256 random bits, kept sealed under the master key and bound to the tenant. What it seals says by its first
//! byte that it is a tenant's, so that what was sealed under the master key before stays readable.

use chacha20poly1305::{KeyInit as _, XChaCha20Poly1305};
use zeroize::Zeroizing;

use super::{CryptoError, MasterKey, OF_TENANT, Place, Sealer};
use crate::id::TenantId;

impl Sealer {
    /// A new key for the tenant, sealed.
    pub fn new_data_key(&self, tenant: &TenantId) -> Result<Vec<u8>, CryptoError> {
        self.seal(place(tenant), &*MasterKey::generate().0)
    }

    /// What seals for the tenant, by its sealed key.
    pub fn of_tenant(&self, tenant: &TenantId, sealed: &[u8]) -> Result<Self, CryptoError> {
        let plain = self.open(place(tenant), sealed)?;
        let key = Zeroizing::new(<[u8; 32]>::try_from(plain.as_slice()).map_err(|_| CryptoError::Damaged)?);
        let key = MasterKey(key);
        Ok(Self { cipher: XChaCha20Poly1305::new((&*key.0).into()), key_id: key.id(), format: OF_TENANT })
    }
}

/// Whether a value was sealed under a tenant's key, by its beginning.
pub fn is_of_tenant(sealed: &[u8]) -> bool {
    sealed.first() == Some(&OF_TENANT)
}

fn place(tenant: &TenantId) -> Place<'_> {
    Place { table: "tenants.data_key", row: tenant.as_str(), tenant }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tenants_key_opens_what_it_sealed_and_nothing_else_does() {
        let master = Sealer::new(&MasterKey::generate());
        let (acme, other) = (TenantId::parse("acme").unwrap(), TenantId::parse("other").unwrap());
        let key = master.new_data_key(&acme).unwrap();
        assert!(!is_of_tenant(&key));
        let sealer = master.of_tenant(&acme, &key).unwrap();
        let at = Place { table: "servers.secrets", row: "1", tenant: &acme };
        let sealed = sealer.seal(at, b"s3cret").unwrap();
        assert!(is_of_tenant(&sealed) && !sealed.windows(6).any(|part| part == b"s3cret"));
        assert_eq!(**master.of_tenant(&acme, &key).unwrap().open(at, &sealed).unwrap(), *b"s3cret");

        assert!(matches!(master.open(at, &sealed), Err(CryptoError::Damaged)), "the master key does not");
        assert!(sealer.open(at, &master.seal(at, b"x").unwrap()).is_err(), "nor the other way round");
        assert!(matches!(master.of_tenant(&other, &key), Err(CryptoError::Damaged)), "it is bound to its tenant");
        let theirs = master.of_tenant(&other, &master.new_data_key(&other).unwrap()).unwrap();
        assert!(matches!(theirs.open(at, &sealed), Err(CryptoError::OtherKey { .. })));
        let stranger = Sealer::new(&MasterKey::generate());
        assert!(matches!(stranger.of_tenant(&acme, &key), Err(CryptoError::OtherKey { .. })));
    }
}
