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

    /// What an account has connected, to be given back when it has gone. Nothing is kept for that: where it cannot be read, it goes.
    pub async fn leaving_with(&self, tenant: &TenantId, user: Uuid) -> Option<Leaving> {
        let site_of = |id| Site::of(&self.registry.upstream(id)?.server);
        read(self.connections().of_account(tenant, user, site_of).await)
    }

    /// The same of what people have at a server.
    pub async fn leaving_from(&self, server: &Server) -> Option<Leaving> {
        read(self.connections().of_server(&Site::of(server)?).await)
    }

    /// It has gone.
    pub fn left(&self, leaving: Option<Leaving>) {
        if let Some(leaving) = leaving {
            self.connections().left(leaving, now());
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

fn read(leaving: Result<Leaving, ConnectError>) -> Option<Leaving> {
    leaving.inspect_err(|error| tracing::warn!("what is to be given back could not be read: {error}")).ok()
}
