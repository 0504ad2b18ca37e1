//! What people connected to servers that they cannot use any more: it stays theirs to end.

use time::OffsetDateTime;
use uuid::Uuid;

use super::going::Person;
use super::{ConnectError, Connections, Site};
use crate::id::{ServerId, TenantId};
use crate::store::at;

/// One of them. What the server is called is not theirs to know any more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lost {
    /// Which connection.
    pub id: Uuid,
    /// Who gave something for them.
    pub issuer: String,
    /// Since when.
    pub since: OffsetDateTime,
}

impl Connections {
    /// Those of an account that are to none of these servers.
    pub async fn lost(&self, tenant: &TenantId, user: Uuid, sites: &[Site]) -> Result<Vec<Lost>, ConnectError> {
        let rows = self.0.store.connections_of(tenant, user).await?;
        let lost = rows.into_iter().filter(|row| sites.iter().all(|site| site.id.0 != row.server_id));
        Ok(lost.map(|row| Lost { id: row.id, issuer: row.issuer, since: at(row.created_at) }).collect())
    }

    /// Ends the one of this id, if it is the account's; also where the server is not to be seen.
    pub async fn give_up(&self, who: Person<'_>, id: Uuid, now: OffsetDateTime) -> Result<(), ConnectError> {
        let rows = self.0.store.connections_of(who.tenant, who.user).await?;
        let Some(row) = rows.into_iter().find(|row| row.id == id) else { return Ok(()) };
        self.end(None, ServerId(row.server_id), who, now).await
    }
}
