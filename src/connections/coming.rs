//! Somebody goes to connect while a call of theirs waits.

use std::sync::PoisonError;

use ahash::AHashMap;
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::RecvError;
use uuid::Uuid;

use super::{Change, Connections};
use crate::id::{ServerId, TenantId};

/// Most calls that wait at once, of those the most of one tenant, and of one account: each holds its message.
const MOST: usize = 10_000;
const OF_TENANT: usize = 1_000;
const OF_ACCOUNT: usize = 8;

/// Hears of who connects from when it is made.
pub struct Coming {
    connections: Connections,
    changes: Receiver<Change>,
    tenant: TenantId,
    user: Uuid,
    server: ServerId,
}

/// What was heard.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Came {
    /// They have connected.
    Through,
    /// So many have at once that it is not known who.
    Unknown,
}

/// The calls that wait.
#[derive(Default)]
pub(super) struct Waiting {
    all: usize,
    tenants: AHashMap<TenantId, usize>,
    accounts: AHashMap<(TenantId, Uuid), usize>,
}

impl Waiting {
    fn enter(&mut self, tenant: &TenantId, user: Uuid) -> bool {
        let account = (tenant.clone(), user);
        let of_tenant = self.tenants.get(tenant).copied().unwrap_or_default();
        let of_account = self.accounts.get(&account).copied().unwrap_or_default();
        if self.all >= MOST || of_tenant >= OF_TENANT || of_account >= OF_ACCOUNT {
            return false;
        }
        self.all += 1;
        self.tenants.insert(tenant.clone(), of_tenant + 1);
        self.accounts.insert(account, of_account + 1);
        true
    }

    fn leave(&mut self, tenant: &TenantId, user: Uuid) {
        self.all = self.all.saturating_sub(1);
        one_less(&mut self.tenants, tenant);
        one_less(&mut self.accounts, &(tenant.clone(), user));
    }
}

fn one_less<K: Eq + std::hash::Hash>(counts: &mut AHashMap<K, usize>, key: &K) {
    if let Some(count) = counts.get_mut(key) {
        *count = count.saturating_sub(1);
        if *count == 0 {
            counts.remove(key);
        }
    }
}

/// Held by a call that waits.
pub struct Place {
    connections: Connections,
    tenant: TenantId,
    user: Uuid,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.connections.with_waiting(|all| all.leave(&self.tenant, self.user));
    }
}

impl Connections {
    /// For this account at this server.
    pub fn coming(&self, tenant: &TenantId, user: Uuid, server: ServerId) -> Coming {
        Coming { connections: self.clone(), changes: self.0.came.subscribe(), tenant: tenant.clone(), user, server }
    }

    /// How many wait.
    pub fn waiting(&self) -> usize {
        self.with_waiting(|all| all.all)
    }

    fn with_waiting<T>(&self, act: impl FnOnce(&mut Waiting) -> T) -> T {
        act(&mut self.0.waiting.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Who waits hears of somebody who connected. What was kept of it is forgotten by then.
    pub fn tell(&self, change: Change) {
        if change.connected {
            // Nobody need wait.
            let _ = self.0.came.send(change);
        }
    }
}

impl Coming {
    /// A place to wait; none where too many have one.
    pub fn place(&self) -> Option<Place> {
        let (tenant, user) = (self.tenant.clone(), self.user);
        let is_in = self.connections.with_waiting(|all| all.enter(&tenant, user));
        is_in.then(|| Place { connections: self.connections.clone(), tenant, user })
    }

    /// Comes back when they have connected, or may have.
    pub async fn through(&mut self) -> Came {
        loop {
            match self.changes.recv().await {
                Ok(change)
                    if change.user == self.user && change.server == self.server && change.tenant == self.tenant =>
                {
                    return Came::Through;
                }
                Ok(_) => {}
                Err(RecvError::Lagged(_)) => return Came::Unknown,
                // The sender is kept with the connections, which are here.
                Err(RecvError::Closed) => std::future::pending().await,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::tenants::tenant_of;

    #[test]
    fn neither_an_account_nor_a_tenant_takes_all_places_and_each_is_given_back() {
        let (one, other) = (TenantId::default_tenant(), tenant_of("other").unwrap());
        let mut all = Waiting::default();
        let ann = Uuid::now_v7();
        assert_eq!((0..=OF_ACCOUNT).filter(|_| all.enter(&one, ann)).count(), OF_ACCOUNT);
        let many = (0..OF_TENANT).map(|_| Uuid::now_v7()).filter(|user| all.enter(&one, *user)).count();
        assert_eq!(many, OF_TENANT - OF_ACCOUNT);
        assert!(all.enter(&other, ann), "another tenant's people wait");
        (0..OF_ACCOUNT).for_each(|_| all.leave(&one, ann));
        assert!(all.enter(&one, ann));
        assert_eq!(all.all, OF_TENANT - OF_ACCOUNT + 2);
        assert_eq!(all.accounts.len(), many + 2);
    }
}
