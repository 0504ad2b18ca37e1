//! Somebody goes to connect while a call of theirs waits.

use tokio::sync::broadcast::Receiver;
use uuid::Uuid;

use super::{Change, Connections};
use crate::id::{ServerId, TenantId};

/// Most calls that wait at once.
const MOST: usize = 10_000;

/// Hears of who connects from when it is made.
pub struct Coming {
    changes: Receiver<Change>,
    tenant: TenantId,
    user: Uuid,
    server: ServerId,
}

impl Connections {
    /// For this account at this server; none where too many wait.
    pub fn coming(&self, tenant: &TenantId, user: Uuid, server: ServerId) -> Option<Coming> {
        let is_room = self.waiting() < MOST;
        is_room.then(|| Coming { changes: self.0.came.subscribe(), tenant: tenant.clone(), user, server })
    }

    /// How many wait.
    pub fn waiting(&self) -> usize {
        self.0.came.receiver_count()
    }

    /// Who waits hears of a change. What was kept of it is forgotten by then.
    pub fn tell(&self, change: Change) {
        // Nobody need wait.
        let _ = self.0.came.send(change);
    }
}

impl Coming {
    /// Comes back when they have connected; also when so many have at once that it is not known who.
    pub async fn through(mut self) {
        while let Ok(change) = self.changes.recv().await {
            if change.connected
                && change.user == self.user
                && change.server == self.server
                && change.tenant == self.tenant
            {
                return;
            }
        }
    }
}
