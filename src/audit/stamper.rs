//! Signs the heads and checkpoints of chains. The key is a row that all processes share, sealed under the master key: whoever can
//! write the database but has not that key can forge no head.

use std::sync::Arc;

use arc_swap::ArcSwapOption;
use uuid::Uuid;

use crate::crypto::stamp::StampKey;
use crate::crypto::{CryptoError, Place, Sealer};
use crate::id::TenantId;
use crate::store::audit::AuditKeyRow;
use crate::store::{Store, StoreError, micros, now, sealed};

/// Why nothing can be signed.
#[derive(Debug, thiserror::Error)]
pub enum StampError {
    /// A key cannot be made, sealed or opened.
    #[error("the key that signs the audit trail: {0}")]
    Key(#[from] CryptoError),
    /// The database refused or failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// The key that signs, and those that did: all of which the master key opens.
pub(super) struct Keys {
    /// Names the one that signs.
    pub(super) id: Uuid,
    key: StampKey,
    publics: Vec<(Uuid, Vec<u8>)>,
}

impl Keys {
    /// Signs.
    pub(super) fn sign(&self, text: &[u8]) -> Vec<u8> {
        self.key.sign(text)
    }

    /// What verifies what the key of this name signed.
    pub(super) fn public(&self, id: Uuid) -> Option<&[u8]> {
        self.publics.iter().find(|(known, _)| *known == id).map(|(_, public)| &public[..])
    }
}

/// See the module.
pub struct Stamper {
    store: Store,
    master: Sealer,
    known: ArcSwapOption<Keys>,
}

impl Stamper {
    /// Knows no key yet.
    pub(super) fn new(store: Store, master: Sealer) -> Self {
        Self { store, master, known: ArcSwapOption::empty() }
    }

    /// The key to sign with, the newest that opens, made where there is none; and the others.
    pub(super) async fn keys(&self) -> Result<Arc<Keys>, StampError> {
        if let Some(known) = self.known.load_full() {
            return Ok(known);
        }
        let mut rows = self.store.audit_keys().await?;
        if !rows.iter().any(|row| self.open(row).is_ok()) {
            let id = Uuid::now_v7();
            let made = StampKey::generate()?;
            let public = StampKey::read(&made)?.public();
            let sealed = self.master.seal(place(&id.to_string(), &TenantId::default_tenant()), &made)?;
            let row = AuditKeyRow { id, public, sealed, created_at: micros(now()) };
            self.store.add_audit_key(&row, i64::try_from(rows.len()).unwrap_or(i64::MAX)).await?;
            rows = self.store.audit_keys().await?;
        }
        let mut opened: Vec<_> = rows.iter().filter_map(|row| Some((row.id, self.open(row).ok()?))).collect();
        let publics = opened.iter().map(|(id, key)| (*id, key.public())).collect();
        let (id, key) = opened.pop().ok_or(CryptoError::Damaged)?;
        let found = Arc::new(Keys { id, key, publics });
        self.known.store(Some(Arc::clone(&found)));
        Ok(found)
    }

    /// Asks for the keys anew: another process may have made one.
    pub(super) async fn look_again(&self) -> Result<Arc<Keys>, StampError> {
        self.known.store(None);
        self.keys().await
    }

    fn open(&self, row: &AuditKeyRow) -> Result<StampKey, CryptoError> {
        open(&self.master, row)
    }
}

/// The key of a row, if the master key opens it; what it is said to verify with must be its own.
pub(super) fn open(master: &Sealer, row: &AuditKeyRow) -> Result<StampKey, CryptoError> {
    let opened = master.open(place(&row.id.to_string(), &TenantId::default_tenant()), &row.sealed)?;
    let key = StampKey::read(&opened)?;
    if key.public() == row.public { Ok(key) } else { Err(CryptoError::Damaged) }
}

fn place<'a>(row: &'a str, tenant: &'a TenantId) -> Place<'a> {
    Place { table: sealed::AUDIT_KEYS.name, row, tenant, subject: None }
}
