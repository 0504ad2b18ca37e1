//! Who connected or disconnected at whichever process: what the others keep of it is got anew.

use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use time::OffsetDateTime;
use uuid::Uuid;

use super::{ConnectError, Connections};
use crate::id::{ServerId, TenantId};
use crate::store::micros;
use crate::store::tenants::tenant_of;

/// Most changes that are taken over at once.
const AT_ONCE: i64 = 1_000;
/// For how long changes are kept: longer than a process that lives can be without the database.
const KEPT: Duration = Duration::from_hours(24);

/// One of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// In which tenant.
    pub tenant: TenantId,
    /// The account.
    pub user: Uuid,
    /// At which server.
    pub server: ServerId,
    /// Whether they connected; else they disconnected.
    pub connected: bool,
}

impl Connections {
    /// Nothing is kept yet: what was changed before does not matter.
    pub async fn forget_changes(&self) -> Result<(), ConnectError> {
        self.0.seen.store(self.0.store.last_connection_change().await?, Relaxed);
        Ok(())
    }

    /// What has changed since this was last asked.
    pub async fn changes(&self) -> Result<Vec<Change>, ConnectError> {
        let rows = self.0.store.connection_changes(self.0.seen.load(Relaxed), AT_ONCE).await?;
        if let Some(last) = rows.last() {
            self.0.seen.fetch_max(last.number, Relaxed);
        }
        let change = |row: crate::store::connections::ChangeRow| {
            Ok(Change {
                tenant: tenant_of(&row.tenant_id)?,
                user: row.user_id,
                server: ServerId(row.server_id),
                connected: row.connected,
            })
        };
        rows.into_iter().map(change).collect()
    }

    /// Forgets what is over.
    pub async fn sweep(&self, now: OffsetDateTime) -> Result<(), ConnectError> {
        while self.0.store.purge_connecting(micros(now), micros(now - KEPT)).await? >= 1_000 {}
        Ok(())
    }
}
