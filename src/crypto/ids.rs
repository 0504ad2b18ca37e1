//! What seals that which only programs keep, such as the ids of clients that registered themselves: nobody can seal it anew for them, so
//! that it is under a key of its own, which a change of the master key leaves as it is.

use std::ops::Deref;
use std::sync::{Arc, OnceLock};

use zeroize::Zeroizing;

use super::sealer::{Key, OF_IDS};
use super::{CryptoError, MasterKey, Place, Sealer};

/// Cheap to clone; clones are one.
#[derive(Debug, Clone)]
pub struct Ids(Arc<Parts>);

#[derive(Debug)]
struct Parts {
    master: Sealer,
    own: OnceLock<Sealer>,
}

impl Ids {
    /// Seals under the master key until the own one is known, and opens what was sealed under it afterwards too.
    pub fn under(master: &Sealer) -> Self {
        Self(Arc::new(Parts { master: master.clone(), own: OnceLock::new() }))
    }

    /// Whether the own one is known.
    pub fn are_known(&self) -> bool {
        self.0.own.get().is_some()
    }

    /// A new key of its own, sealed for its place.
    pub fn new_key(&self, place: Place<'_>) -> Result<Vec<u8>, CryptoError> {
        self.0.master.seal(place, &*MasterKey::generate().0)
    }

    /// Seals under this key from now on, which was sealed for the place.
    pub fn know(&self, place: Place<'_>, sealed: &[u8]) -> Result<(), CryptoError> {
        let plain = self.0.master.open(place, sealed)?;
        let key = Zeroizing::new(<[u8; 32]>::try_from(plain.as_slice()).map_err(|_| CryptoError::Damaged)?);
        let _ = self.0.own.set(self.0.master.behind(Key::new(&MasterKey(key), OF_IDS)));
        Ok(())
    }
}

impl Deref for Ids {
    type Target = Sealer;

    fn deref(&self) -> &Sealer {
        self.0.own.get().unwrap_or(&self.0.master)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::TenantId;

    #[test]
    fn an_id_outlasts_the_master_key_and_one_from_before_opens_as_long_as_that_is_there() {
        let tenant = TenantId::default_tenant();
        let place = |table| Place { table, row: "", tenant: &tenant, subject: None };
        let [first, second] = [(); 2].map(|()| MasterKey::generate());
        let ids = Ids::under(&Sealer::new(&first));
        let before = ids.seal(place("ids"), b"x").unwrap();
        let key = ids.new_key(place("key")).unwrap();
        ids.know(place("key"), &key).unwrap();
        let after = ids.seal(place("ids"), b"x").unwrap();
        assert!(ids.open(place("ids"), &before).is_ok() && ids.open(place("ids"), &after).is_ok());

        let master = Sealer::with_previous(&second, &[first]);
        let plain = master.open(place("key"), &key).unwrap();
        let key = master.seal(place("key"), &plain).unwrap();
        let ids = Ids::under(&Sealer::new(&second));
        assert!(matches!(ids.open(place("ids"), &after), Err(CryptoError::Damaged | CryptoError::OtherKey { .. })));
        ids.know(place("key"), &key).unwrap();
        assert!(ids.open(place("ids"), &after).is_ok() && ids.open(place("ids"), &before).is_err());
        assert!(ids.know(place("ids"), &key).is_err(), "it is bound to its place");
        assert!(Sealer::new(&second).open(place("ids"), &after).is_err(), "the master key is another one");
    }
}
