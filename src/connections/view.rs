//! How somebody's connections stand, for their own eyes.

use time::OffsetDateTime;
use uuid::Uuid;

use super::renewing::{is_stuck, same};
use super::sealed::{Kept, is_closed, of_connection};
use super::{ConnectError, Connections, Site};
use crate::id::TenantId;
use crate::store::connections::ConnectionRow;
use crate::store::{at, now};

/// The stored word of what can be used.
pub(super) const ACTIVE: &str = "active";

/// How one stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// There is none.
    None,
    /// It is used.
    Connected,
    /// The person has to connect again.
    NeedsPerson,
    /// It is used, and the server wants more.
    WantsMore,
}

/// One of them.
#[derive(Debug, Clone)]
pub struct View {
    /// How it stands.
    pub state: State,
    /// Since when.
    pub since: Option<OffsetDateTime>,
    /// Who the person is there, as far as is known.
    pub person: Option<String>,
    /// What was granted.
    pub scopes: String,
    /// What the server wants besides.
    pub wanted: String,
    /// When it ends, where nothing can be renewed.
    pub ends: Option<OffsetDateTime>,
    /// The authorization server, as it was last found.
    pub issuer: Option<String>,
}

impl Connections {
    /// How the account's connections to these servers stand, in their order.
    pub async fn views(&self, tenant: &TenantId, user: Uuid, sites: &[Site]) -> Result<Vec<View>, ConnectError> {
        let rows = self.0.store.connections_of(tenant, user).await?;
        let mut views = Vec::with_capacity(sites.len());
        for (site, found) in sites.iter().zip(self.found_all(sites).await?) {
            let row = rows.iter().find(|row| row.server_id == site.id.0);
            views.push(self.view(tenant, site, row, found.map(|found| found.issuer)).await?);
        }
        Ok(views)
    }

    async fn view(
        &self,
        tenant: &TenantId,
        site: &Site,
        row: Option<&ConnectionRow>,
        issuer: Option<String>,
    ) -> Result<View, ConnectError> {
        let none = View {
            state: State::None,
            since: None,
            person: None,
            scopes: String::new(),
            wanted: String::new(),
            ends: None,
            issuer: issuer.clone(),
        };
        let Some(row) = row else { return Ok(none) };
        let moved = row.place != site.place || issuer.as_deref().is_some_and(|found| !same(found, &row.issuer));
        let over = View { state: State::NeedsPerson, since: Some(at(row.created_at)), ..none.clone() };
        let Some(sealed) = row.tokens.as_deref().filter(|_| row.state == ACTIVE && !moved) else { return Ok(over) };
        let kept: Kept = match self.open(of_connection(&row.id.to_string(), tenant, row.user_id), sealed).await {
            // The page goes on, with which it is made anew.
            Err(error) if is_closed(&error) => return Ok(over),
            outcome => outcome?,
        };
        let ends = row.expires_at.map(at).filter(|_| kept.tokens.refresh.is_none());
        let has_ended = row.expires_at.is_some_and(|end| at(end) <= now());
        if has_ended && (kept.tokens.refresh.is_none() || is_stuck(row, &kept)) {
            return Ok(over);
        }
        Ok(View {
            state: if row.wanted.is_empty() { State::Connected } else { State::WantsMore },
            since: Some(at(row.created_at)),
            person: kept.tokens.person,
            scopes: row.scopes.clone(),
            wanted: row.wanted.clone(),
            ends,
            issuer,
        })
    }
}
