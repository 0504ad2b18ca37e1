//! What is sealed, and where it opens.

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::client::Way;
use super::{ConnectError, Connections};
use crate::crypto::Place;
use crate::id::TenantId;
use crate::idp::{Authority, CodeClient, CodeTokens, NamedBy, Sent};
use crate::vault::VaultError;

/// What was given for somebody.
#[derive(Serialize, Deserialize)]
pub(super) struct Kept {
    pub(super) tokens: CodeTokens,
    /// To which client.
    pub(super) client_id: String,
    pub(super) way: Way,
    /// For which resource.
    pub(super) resource: String,
    pub(super) named_by: NamedBy,
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

    /// A registration is no tenant's.
    pub(super) fn seal_client(&self, issuer: &str, client: &CodeClient) -> Result<Vec<u8>, ConnectError> {
        let tenant = TenantId::default_tenant();
        let sealed = self.0.vault.master().seal(of_client(issuer, &tenant), &written(client)?);
        Ok(sealed.map_err(VaultError::from)?)
    }

    pub(super) fn open_client(&self, issuer: &str, sealed: &[u8]) -> Result<CodeClient, ConnectError> {
        let tenant = TenantId::default_tenant();
        read(&self.0.vault.master().open(of_client(issuer, &tenant), sealed).map_err(VaultError::from)?)
    }
}

pub(super) fn of_connection<'a>(row: &'a str, tenant: &'a TenantId) -> Place<'a> {
    Place { table: "connections.tokens", row, tenant, subject: None }
}

pub(super) fn of_attempt<'a>(row: &'a str, tenant: &'a TenantId) -> Place<'a> {
    Place { table: "connection_attempts.sent", row, tenant, subject: None }
}

fn of_client<'a>(issuer: &'a str, tenant: &'a TenantId) -> Place<'a> {
    Place { table: "connection_clients.client", row: issuer, tenant, subject: None }
}
