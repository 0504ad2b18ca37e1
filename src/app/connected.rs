//! What people connected at servers' own authorization servers, as the whole process has it: what is kept in memory of it follows what
//! they do at whichever process.

use super::App;
use crate::access::Caller;
use crate::connections::{ConnectError, Connections, Site};
use crate::id::ServerId;
use crate::mcp::connect;
use crate::policy::What;

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
