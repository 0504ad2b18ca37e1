//! What people connected at servers' own authorization servers, as the whole process has it: what is kept in memory of it follows what
//! they do at whichever process.

use uuid::Uuid;

use super::App;
use crate::access::Caller;
use crate::connections::{ConnectError, Connections, Leaving, Site};
use crate::id::{ServerId, TenantId};
use crate::mcp::connect;
use crate::policy::What;
use crate::registry::model::Server;
use crate::store::now;

/// What goes, and with it what people connected.
#[derive(Debug)]
pub enum Goes<'a> {
    /// An account of the tenant.
    Account(&'a TenantId, Uuid),
    /// These.
    Servers(Vec<&'a Server>),
    /// With its people and its servers.
    Tenant(&'a TenantId),
}

impl App {
    /// What people connected.
    pub fn connections(&self) -> &Connections {
        self.registry.ground.credentials.connections()
    }

    /// Takes over who connected and who disconnected. For a job, and before the answer to who did.
    pub async fn follow_connections(&self) -> Result<(), ConnectError> {
        for change in self.connections().changes().await? {
            self.registry.ground.credentials.kept().forget(&change);
            if change.connected {
                self.sessions.each(|session, _| {
                    if session.account.uuid() == change.user && session.tenant == change.tenant {
                        connect::tell(session, change.server);
                    }
                });
            }
            self.connections().tell(change);
        }
        Ok(())
    }

    /// Does what something goes by, and gives back behind it what people connected there. Nothing is kept for that: where it cannot be
    /// read, it goes all the same.
    pub async fn giving_back<T, E>(&self, goes: Goes<'_>, doing: impl Future<Output = Result<T, E>>) -> Result<T, E> {
        let leaving = self.leaving(goes).await.inspect_err(|error| {
            tracing::warn!("what is to be given back could not be read: {error}");
        });
        let done = doing.await?;
        self.connections().left(leaving.unwrap_or_default(), now());
        Ok(done)
    }

    async fn leaving(&self, goes: Goes<'_>) -> Result<Leaving, ConnectError> {
        let site_of = |id| Site::of(&self.registry.upstream(id)?.server);
        match goes {
            Goes::Account(tenant, user) => self.connections().of_account(tenant, user, site_of).await,
            Goes::Tenant(tenant) => self.connections().of_tenant(tenant, site_of).await,
            Goes::Servers(servers) => {
                let mut leaving = Leaving::default();
                for site in servers.into_iter().filter_map(Site::of) {
                    leaving.extend(self.connections().of_server(&site).await?);
                }
                Ok(leaving)
            }
        }
    }

    /// The servers to which the caller may connect, by slug.
    pub fn sites(&self, caller: &Caller) -> Vec<Site> {
        let snapshot = self.registry.snapshot();
        let Some(tenant) = snapshot.tenant(caller.tenant()) else { return Vec::new() };
        let seen = tenant.entries().iter().filter_map(|entry| tenant.entry(caller, entry.slug()));
        let seen = seen.filter(|entry| tenant.permits(caller, entry, What::Server));
        seen.filter_map(|entry| Site::of(&entry.upstream.server)).collect()
    }

    /// The one of this id, if it is one of them.
    pub fn site(&self, caller: &Caller, id: ServerId) -> Option<Site> {
        self.sites(caller).into_iter().find(|site| site.id == id)
    }
}
