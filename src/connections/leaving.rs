//! What goes with an account or a server, or gives way to another, is given back behind it: as far as authorization servers answer.

use std::time::Duration;

use futures_util::StreamExt as _;
use time::OffsetDateTime;
use uuid::Uuid;

use super::{ConnectError, Connections, Site};
use crate::id::{ServerId, TenantId};
use crate::store::connections::ConnectionRow;
use crate::store::tenants::tenant_of;

/// Most connections that are given back with one server, and how many at once. An account has one at each server at most.
const MOST: i64 = 1_000;
const AT_ONCE: usize = 8;
/// How long that takes at most.
const PATIENCE: Duration = Duration::from_mins(1);

/// What was read before it went, each with its server where that is known.
pub struct Leaving(Vec<(ConnectionRow, Option<Site>)>);

impl Connections {
    /// What an account has, which is about to go. `site_of` finds its servers.
    pub async fn of_account(
        &self,
        tenant: &TenantId,
        user: Uuid,
        site_of: impl Fn(ServerId) -> Option<Site>,
    ) -> Result<Leaving, ConnectError> {
        let rows = self.0.store.connections_of(tenant, user).await?;
        let with_site = |row: ConnectionRow| {
            let site = site_of(ServerId(row.server_id));
            (row, site)
        };
        Ok(Leaving(rows.into_iter().map(with_site).collect()))
    }

    /// What people have at a server, which is about to go.
    pub async fn of_server(&self, site: &Site) -> Result<Leaving, ConnectError> {
        let rows = self.0.store.connections_to(site.id.0, MOST).await?.into_iter();
        Ok(Leaving(rows.map(|row| (row, Some(site.clone()))).collect()))
    }

    /// It has gone; nobody waits for what becomes of it there.
    pub fn left(&self, leaving: Leaving, now: OffsetDateTime) {
        let this = self.clone();
        let giving = async move {
            let each = futures_util::stream::iter(leaving.0).for_each_concurrent(AT_ONCE, |(row, site)| {
                let this = this.clone();
                async move {
                    let given = match tenant_of(&row.tenant_id) {
                        Ok(tenant) => this.give_back(site.as_ref(), &tenant, &row, now).await,
                        Err(error) => Err(error.into()),
                    };
                    if let Err(error) = given {
                        tracing::warn!(issuer = row.issuer, "tokens could not be given back: {error}");
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
    pub(super) fn replaced(&self, site: &Site, row: ConnectionRow, now: OffsetDateTime) {
        self.left(Leaving(vec![(row, Some(site.clone()))]), now);
    }
}
