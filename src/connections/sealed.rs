//! What is sealed, and where it opens.

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use uuid::Uuid;
use zeroize::Zeroizing;

use super::client::Way;
use super::{ConnectError, Connections};
use crate::crypto::{Place, Sealer};
use crate::id::TenantId;
use crate::idp::{Authority, CodeClient, CodeTokens, NamedBy, Sent};
use crate::store::connection_clients::ConnectionClientRow;
use crate::store::sealed::{CONNECTION_ATTEMPTS, CONNECTIONS};
use crate::vault::VaultError;

/// What was given for somebody.
#[derive(Clone, Serialize, Deserialize)]
pub(super) struct Kept {
    pub(super) tokens: CodeTokens,
    /// To which client; the secret of one that an administrator registered is not here.
    pub(super) client: CodeClient,
    pub(super) way: Way,
    /// For which resource.
    pub(super) resource: String,
    pub(super) named_by: NamedBy,
}

impl Kept {
    /// The secret of a client that an administrator registered is the server's, and of its tenant: it is not kept with what is a person's.
    pub(super) fn without_configured(mut self) -> Self {
        if self.way == Way::Configured {
            self.client.secret = None;
        }
        self
    }
}

/// Somebody on the way: to which authorization server, as it described itself then, and with what.
#[derive(Serialize, Deserialize)]
pub(super) struct Going {
    pub(super) authority: Authority,
    pub(super) named_by: NamedBy,
    pub(super) sent: Sent,
    pub(super) way: Way,
    /// Where the server was.
    pub(super) place: String,
}

fn written(value: &impl Serialize) -> Result<Zeroizing<Vec<u8>>, ConnectError> {
    serde_json::to_vec(value).map(Zeroizing::new).map_err(|error| ConnectError::Damaged(error.to_string()))
}

fn read<T: DeserializeOwned>(text: &[u8]) -> Result<T, ConnectError> {
    // The error of the parser would quote what it read.
    serde_json::from_slice(text).map_err(|error| ConnectError::Damaged(format!("{:?}", error.classify())))
}

impl Connections {
    pub(super) async fn seal(&self, place: Place<'_>, value: &impl Serialize) -> Result<Vec<u8>, ConnectError> {
        Ok(self.0.vault.seal(place, &written(value)?).await?)
    }

    pub(super) async fn open<T: DeserializeOwned>(&self, place: Place<'_>, sealed: &[u8]) -> Result<T, ConnectError> {
        read(&self.0.vault.open(place, sealed).await?)
    }

    /// A registration is no tenant's, and lasts as long as the authorization server knows the client.
    pub(super) fn seal_client(&self, row: &ConnectionClientRow, client: &CodeClient) -> Result<Vec<u8>, ConnectError> {
        let (name, tenant) = (name_of(row), TenantId::default_tenant());
        let sealed = self.0.vault.ids().seal(of_client(&name, &tenant), &written(client)?);
        Ok(sealed.map_err(VaultError::from)?)
    }

    pub(super) fn open_client(&self, row: &ConnectionClientRow, sealed: &[u8]) -> Result<CodeClient, ConnectError> {
        let (name, tenant) = (name_of(row), TenantId::default_tenant());
        read(&self.0.vault.ids().open(of_client(&name, &tenant), sealed).map_err(VaultError::from)?)
    }
}

/// The same with what was got before from the vault: the database is not asked.
pub(super) fn seal_with(sealer: &Sealer, place: Place<'_>, value: &impl Serialize) -> Result<Vec<u8>, ConnectError> {
    Ok(sealer.seal(place, &written(value)?).map_err(VaultError::from)?)
}

pub(super) fn of_connection<'a>(row: &'a str, tenant: &'a TenantId, user: Uuid) -> Place<'a> {
    Place { table: CONNECTIONS.name, row, tenant, subject: Some(user) }
}

pub(super) fn of_attempt<'a>(row: &'a str, tenant: &'a TenantId, user: Uuid) -> Place<'a> {
    Place { table: CONNECTION_ATTEMPTS.name, row, tenant, subject: Some(user) }
}

fn of_client<'a>(row: &'a str, tenant: &'a TenantId) -> Place<'a> {
    Place { table: "connection_clients.client", row, tenant, subject: None }
}

/// A registration, by what it is good for.
fn name_of(row: &ConnectionClientRow) -> String {
    format!("{} {}", row.server_id, row.issuer)
}

/// Whether what is kept is there and does not open, which no waiting mends.
pub(super) fn is_closed(error: &ConnectError) -> bool {
    matches!(error, ConnectError::Damaged(_) | ConnectError::Vault(VaultError::Value(_)))
}
