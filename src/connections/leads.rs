//! Where somebody goes who connects, for the page that tells them before anything goes out.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::json;
use url::Url;

use super::found::Found;
use super::going::Person;
use super::renewing::same;
use super::{ConnectError, Connections, Site, listed, of, unite};
use crate::crypto::hash_token;
use crate::idp::{Authority, Codes, NamedBy, with_offline};

/// Most scopes that are asked for.
const MOST_SCOPES: usize = 128;

/// What the person is to know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Leads {
    /// The authorization server.
    pub issuer: String,
    /// Where the browser goes.
    pub at: Url,
    /// What tokens are asked for.
    pub resource: String,
    /// What is asked for.
    pub scopes: Vec<String>,
}

impl Leads {
    /// What the form of the page says of what the page showed.
    pub fn mark(&self) -> String {
        let all = json!([self.issuer, self.at, self.resource, self.scopes]).to_string();
        URL_SAFE_NO_PAD.encode(hash_token(&all))
    }

    /// Whether tokens are good for more than the server.
    pub fn is_wider(&self, site: &Site) -> bool {
        self.resource.trim_end_matches('/') != site.resource().trim_end_matches('/')
    }
}

/// The same with whom the gateway asks there.
pub(super) struct There {
    pub(super) leads: Leads,
    pub(super) named_by: NamedBy,
    pub(super) about: Arc<Authority>,
    pub(super) codes: Codes,
}

impl Connections {
    /// Where somebody goes who connects now.
    pub async fn leads(&self, site: &Site, who: Person<'_>) -> Result<Leads, ConnectError> {
        let found = self.find(site).await?;
        Ok(self.way_of(site, found, who).await?.leads)
    }

    pub(super) async fn way_of(&self, site: &Site, found: Found, who: Person<'_>) -> Result<There, ConnectError> {
        let Found { issuer, resource, named_by, mut scopes } = found;
        let (about, codes) = self.0.authorities.of(&issuer, named_by).await?;
        about.must_lead_home(named_by)?;
        // What somebody allowed here is asked for again, and with it what the server wanted besides: neither takes the other's place.
        if let Some(row) = self.0.store.connection(who.tenant, of(who.user, site.id)).await?
            && row.place == site.place
            && same(&row.issuer, &about.issuer)
        {
            unite(&mut scopes, listed(&row.scopes).into_iter().chain(listed(&row.wanted)), MOST_SCOPES);
        }
        let scopes = with_offline(scopes, &about);
        let (issuer, at) = (about.issuer.clone(), about.authorization_endpoint.clone());
        Ok(There { leads: Leads { issuer, at, resource, scopes }, named_by, about, codes })
    }
}
