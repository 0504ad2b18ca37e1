//! Where the authorization server of a server is: as its description says, or as the server itself says, found anew whenever somebody is
//! sent there.

use super::{ConnectError, Connections, Site, listed};
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

impl Connections {
    /// Looks for it now. Where another is found than before, what the former gave is used no more.
    pub async fn find(&self, site: &Site) -> Result<Found, ConnectError> {
        if let Some(said) = said(site) {
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

    /// As it was found the last time, if it was.
    pub async fn found(&self, site: &Site) -> Result<Option<Found>, ConnectError> {
        if let Some(said) = said(site) {
            return Ok(Some(said));
        }
        let row = self.0.store.connection_issuer(&site.tenant, site.id.0).await?;
        Ok(row.filter(|row| row.place == site.place).map(|row| of_row(site, row)))
    }
}

/// What the description says.
fn said(site: &Site) -> Option<Found> {
    let issuer = site.auth.issuer.clone()?;
    let scopes = site.auth.scopes.clone();
    Some(Found { issuer, resource: site.resource(), named_by: NamedBy::Administrator, scopes })
}

fn of_row(site: &Site, row: IssuerRow) -> Found {
    let scopes = if site.auth.scopes.is_empty() { listed(&row.scopes) } else { site.auth.scopes.clone() };
    let named_by = if row.named_by == word(NamedBy::Administrator) { NamedBy::Administrator } else { NamedBy::Server };
    Found { issuer: row.issuer, resource: row.resource, named_by, scopes }
}

fn word(named_by: NamedBy) -> &'static str {
    match named_by {
        NamedBy::Administrator => "administrator",
        NamedBy::Server => "server",
    }
}
