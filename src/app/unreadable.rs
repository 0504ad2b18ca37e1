//! Values whose key is there and that do not open all the same: damaged, or bound to something that was changed by hand. Nothing seals them
//! anew, so they are told apart from what only waits for that, by table and row.

use schemars::JsonSchema;
use serde::Serialize;
use uuid::Uuid;

use super::App;
use crate::crypto::{CryptoError, Place, Sealer, is_of_tenant};
use crate::id::TenantId;
use crate::registry::servers::sealed_for_stored;
use crate::store::data_keys::DataKeyRow;
use crate::store::sealed::{Column, DATA_KEYS, SealedRow};
use crate::store::{StoreError, micros, now};
use crate::vault::VaultError;

/// Most values of one tenant in one column that are tried when somebody looks: while more wait, most of them open.
const TRIED: i64 = 1_000;

/// One of them.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Unreadable {
    /// Table and column.
    column: &'static str,
    /// The id of the row; of a tenant's key its generation.
    row: String,
    tenant_id: String,
    /// Whether it is under a tenant's key.
    #[serde(skip)]
    pub(super) is_of_tenant: bool,
}

impl App {
    /// The value of a row, sealed under the newest key.
    pub(super) async fn sealed_anew(
        &self,
        column: &Column,
        tenant: &TenantId,
        sealer: &Sealer,
        row: &SealedRow,
    ) -> Result<Vec<u8>, VaultError> {
        let bound_to = match &row.about {
            Some(about) => sealed_for_stored(row.id, about.0.clone())?,
            None => row.id.to_string(),
        };
        let place = Place { table: column.name, row: &bound_to, tenant, subject: row.subject };
        let plain = self.vault.open(place, &row.sealed).await?;
        Ok(sealer.seal(place, &plain)?)
    }

    /// Whether a value that does not open for this reason never will: the key that it names is one of `sealer`, or a master key.
    pub(super) fn is_unreadable(&self, error: &VaultError, sealer: &Sealer, sealed: &[u8]) -> bool {
        let has = |sealer: &Sealer| sealer.check_key(sealed).is_ok();
        matches!(error, VaultError::Value(CryptoError::Damaged)) && (has(sealer) || has(self.vault.master()))
    }

    /// Those of a tenant in one column among the values that are not under the newest key.
    pub(super) async fn unreadable_in(
        &self,
        column: &'static Column,
        tenant: &TenantId,
        sealer: &Sealer,
    ) -> Result<Vec<Unreadable>, VaultError> {
        let mut found = Vec::new();
        for row in self.store.to_reseal(column, tenant, &sealer.mark(), Uuid::nil(), micros(now()), TRIED).await? {
            match self.sealed_anew(column, tenant, sealer, &row).await {
                Err(error) if self.is_unreadable(&error, sealer, &row.sealed) => found.push(Unreadable {
                    column: column.name,
                    row: row.id.to_string(),
                    tenant_id: tenant.as_str().to_owned(),
                    is_of_tenant: is_of_tenant(&row.sealed),
                }),
                // What another version described may well open there.
                Err(VaultError::Store(StoreError::Corrupt(_))) => {}
                Err(error @ VaultError::Store(_)) => return Err(error),
                _ => {}
            }
        }
        Ok(found)
    }

    /// The keys of tenants that are not under the newest master key.
    pub(super) async fn old_data_keys(&self) -> Result<Vec<DataKeyRow>, StoreError> {
        let mut keys = self.store.data_keys(None).await?;
        keys.retain(|key| !key.sealed.starts_with(&self.vault.master().mark()));
        Ok(keys)
    }

    /// Those among them.
    pub(super) async fn unreadable_data_keys(&self) -> Result<Vec<Unreadable>, VaultError> {
        let master = self.vault.master();
        let mut found = Vec::new();
        for key in self.old_data_keys().await? {
            if let Err(error) = master.reseal_data_key(&key.tenant()?, &key.sealed)
                && self.is_unreadable(&error.into(), master, &key.sealed)
            {
                let row = key.generation.to_string();
                found.push(Unreadable { column: DATA_KEYS.name, row, tenant_id: key.tenant_id, is_of_tenant: false });
            }
        }
        Ok(found)
    }
}
