//! Where the authorization server of a server is: as its description says, or as the server itself says, found anew whenever somebody is
//! sent there.

use std::collections::BTreeSet;
use std::sync::PoisonError;
use std::time::Duration;

use ahash::AHashMap;
use tokio::time::Instant;

use super::renewing::same;
use super::{ConnectError, Connections, Site, listed};
use crate::id::TenantId;
use crate::idp::NamedBy;
use crate::store::connections::IssuerRow;
use crate::store::{micros, now};

/// What was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// The authorization server.
    pub issuer: String,
    /// What tokens must be for.
    pub resource: String,
    /// Who says where it is.
    pub(super) named_by: NamedBy,
    /// What is to be asked for.
    pub(super) scopes: Vec<String>,
}

/// How long a server has to say what it wants, where nobody is lost without that.
const PATIENCE: Duration = Duration::from_secs(3);
/// How long a server is not asked again because it refused something.
const LATER: Duration = Duration::from_mins(10);

impl Connections {
    /// What was given is refused: the server may believe another authorization server by now. It is asked behind the answer, and not each
    /// time.
    pub(super) fn look_again(&self, site: &Site) {
        if site.auth.issuer.is_some() {
            return;
        }
        let now = Instant::now();
        {
            let mut looked = self.0.looked.lock().unwrap_or_else(PoisonError::into_inner);
            looked.retain(|_, at| now.duration_since(*at) < LATER);
            if looked.contains_key(&site.id) {
                return;
            }
            looked.insert(site.id, now);
        }
        let (this, site) = (self.clone(), site.clone());
        self.0.tasks.spawn(async move {
            if let Err(error) = this.find(&site).await {
                tracing::info!(server = %site.slug, "the server does not say whom it believes: {error}");
            }
        });
    }

    /// Looks for it now. Where another is found than before, what the former gave is used no more.
    pub async fn find(&self, site: &Site) -> Result<Found, ConnectError> {
        if let Some(mut said) = said(site) {
            if said.scopes.is_empty() {
                said.scopes = self.wanted_by(site, &said.issuer).await;
            }
            return Ok(said);
        }
        let seen = self.0.authorities.protecting(&site.url).await?;
        let row = IssuerRow {
            tenant_id: site.tenant.as_str().to_owned(),
            server_id: site.id.0,
            issuer: seen.issuer,
            named_by: word(seen.named_by).to_owned(),
            resource: site.auth.resource.clone().unwrap_or(seen.resource),
            scopes: seen.scopes.join(" "),
            place: site.place.clone(),
            found_at: micros(now()),
        };
        if let Some(before) = self.0.store.connection_issuer(&site.tenant, site.id.0).await?
            && before.issuer != row.issuer
        {
            tracing::warn!(
                server = %site.slug, before = before.issuer, now = row.issuer,
                "the server names another authorization server: whoever connected has to connect again"
            );
        }
        self.0.store.set_connection_issuer(&site.tenant, &row).await?;
        Ok(of_row(site, row))
    }

    /// The scopes that the server wants to see in tokens of the authorization server that an administrator named, as far as it says.
    async fn wanted_by(&self, site: &Site, issuer: &str) -> Vec<String> {
        match tokio::time::timeout(PATIENCE, self.0.authorities.protecting(&site.url)).await {
            Ok(Ok(seen)) if seen.others.iter().chain([&seen.issuer]).any(|named| same(named, issuer)) => seen.scopes,
            _ => Vec::new(),
        }
    }

    /// As it was found the last time, if it was.
    pub async fn found(&self, site: &Site) -> Result<Option<Found>, ConnectError> {
        if let Some(said) = said(site) {
            return Ok(Some(said));
        }
        let row = self.0.store.connection_issuer(&site.tenant, site.id.0).await?;
        Ok(row.and_then(|row| found_there(site, &row)))
    }

    /// The same of several, in their order.
    pub(super) async fn found_all(&self, sites: &[Site]) -> Result<Vec<Option<Found>>, ConnectError> {
        let tenants: BTreeSet<&TenantId> =
            sites.iter().filter(|site| site.auth.issuer.is_none()).map(|site| &site.tenant).collect();
        let mut rows = AHashMap::new();
        for tenant in tenants {
            let found = self.0.store.connection_issuers(tenant).await?;
            rows.extend(found.into_iter().map(|row| (row.server_id, row)));
        }
        let found = |site: &Site| said(site).or_else(|| found_there(site, rows.get(&site.id.0)?));
        Ok(sites.iter().map(found).collect())
    }
}

/// What was found, unless the server was elsewhere then.
fn found_there(site: &Site, row: &IssuerRow) -> Option<Found> {
    (row.place == site.place).then(|| of_row(site, row.clone()))
}

/// What the description says.
fn said(site: &Site) -> Option<Found> {
    let issuer = site.auth.issuer.clone()?;
    let scopes = site.auth.scopes.clone();
    Some(Found { issuer, resource: site.resource(), named_by: NamedBy::Administrator, scopes })
}

fn of_row(site: &Site, row: IssuerRow) -> Found {
    let scopes = if site.auth.scopes.is_empty() { listed(&row.scopes) } else { site.auth.scopes.clone() };
    let all = [NamedBy::Administrator, NamedBy::Neighbour];
    let named_by = all.into_iter().find(|known| word(*known) == row.named_by).unwrap_or(NamedBy::Server);
    Found { issuer: row.issuer, resource: row.resource, named_by, scopes }
}

fn word(named_by: NamedBy) -> &'static str {
    match named_by {
        NamedBy::Administrator => "administrator",
        NamedBy::Server => "server",
        NamedBy::Neighbour => "neighbour",
    }
}
