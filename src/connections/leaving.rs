//! What goes with an account, a server or a tenant, or gives way to another, is given back behind it: as far as authorization servers
//! answer.

use std::time::Duration;

use futures_util::StreamExt as _;
use time::OffsetDateTime;
use uuid::Uuid;

use super::sealed::Kept;
use super::{ConnectError, Connections, Site};
use crate::id::{ServerId, TenantId};
use crate::store::connections::ConnectionRow;
use crate::store::tenants::tenant_of;

/// Most connections that are given back with one server or tenant, and how many at once. An account has one at each server at most.
const MOST: i64 = 1_000;
const AT_ONCE: usize = 8;
/// How long that takes at most.
const PATIENCE: Duration = Duration::from_mins(1);

/// What was read before it went, and opened: the keys of a tenant go with it.
#[derive(Default)]
pub struct Leaving(Vec<Held>);

/// Tokens of one person at one server.
struct Held {
    issuer: String,
    kept: Kept,
    /// The server, where that is known.
    site: Option<Site>,
}

impl Leaving {
    /// What both are of.
    pub fn extend(&mut self, other: Self) {
        self.0.extend(other.0);
    }
}

impl Connections {
    /// What an account has, which is about to go. `site_of` finds its servers.
    pub async fn of_account(
        &self,
        tenant: &TenantId,
        user: Uuid,
        site_of: impl Fn(ServerId) -> Option<Site>,
    ) -> Result<Leaving, ConnectError> {
        Ok(self.leaving(self.0.store.connections_of(tenant, user).await?, site_of).await)
    }

    /// What people have at a server, which is about to go.
    pub async fn of_server(&self, site: &Site) -> Result<Leaving, ConnectError> {
        let rows = self.0.store.connections_to(site.id.0, MOST).await?;
        Ok(self.leaving(rows, |_| Some(site.clone())).await)
    }

    /// What the people of a tenant have, and what others have at its servers, which is about to go.
    pub async fn of_tenant(
        &self,
        tenant: &TenantId,
        site_of: impl Fn(ServerId) -> Option<Site>,
    ) -> Result<Leaving, ConnectError> {
        Ok(self.leaving(self.0.store.connections_around(tenant, MOST).await?, site_of).await)
    }

    /// What can be opened of it.
    async fn leaving(&self, rows: Vec<ConnectionRow>, site_of: impl Fn(ServerId) -> Option<Site>) -> Leaving {
        let mut all = Vec::with_capacity(rows.len());
        for row in rows {
            let kept = match tenant_of(&row.tenant_id) {
                Ok(tenant) => self.kept_of(&tenant, &row).await,
                Err(error) => Err(error.into()),
            };
            match kept {
                Ok(None) => {}
                Ok(Some(kept)) => all.push(Held { kept, site: site_of(ServerId(row.server_id)), issuer: row.issuer }),
                Err(error) => tracing::warn!(issuer = row.issuer, "tokens cannot be given back: {error}"),
            }
        }
        Leaving(all)
    }

    /// It has gone; nobody waits for what becomes of it there.
    pub fn left(&self, leaving: Leaving, now: OffsetDateTime) {
        let this = self.clone();
        let giving = async move {
            let each = futures_util::stream::iter(leaving.0).for_each_concurrent(AT_ONCE, |held| {
                let this = this.clone();
                async move {
                    let Held { issuer, kept, site } = held;
                    if let Err(error) = this.revoke(site.as_ref(), &issuer, &kept, now).await {
                        tracing::warn!(issuer, "tokens could not be given back: {error}");
                    }
                }
            });
            if tokio::time::timeout(PATIENCE, each).await.is_err() {
                tracing::warn!("tokens were not given back in time, and are forgotten");
            }
        };
        self.0.tasks.spawn(giving);
    }

    /// What gave way to what another gave. What the same one gave before may be of one grant with the new, and is left.
    pub(super) async fn replaced(&self, site: &Site, row: ConnectionRow, now: OffsetDateTime) {
        let leaving = self.leaving(vec![row], |_| Some(site.clone())).await;
        self.left(leaving, now);
    }
}
