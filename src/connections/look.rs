//! What an administrator sees of a server to which people connect, before anybody does: where they would be sent, and as which client.

use std::sync::PoisonError;

use schemars::JsonSchema;
use serde::Serialize;

use super::client::must_be_registered;
use super::{ConnectError, Connections, Site, Way};
use crate::id::ServerId;

/// Most servers of which it is remembered.
const MOST: usize = 10_000;

/// What was seen the last time.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, JsonSchema)]
#[schemars(rename = "ConnectLook")]
pub struct Look {
    /// The authorization server.
    pub issuer: Option<String>,
    /// For which resource tokens are asked for.
    pub resource: Option<String>,
    /// How the gateway is known there: `configured`, `client_id_metadata_document` or `registered`; absent where an administrator has to
    /// register it.
    pub client: Option<&'static str>,
    /// Where browsers come back; what an administrator registers.
    pub redirect_uri: Option<String>,
    /// Why nobody could connect.
    pub problem: Option<String>,
}

impl Connections {
    /// Looks now.
    pub async fn look(&self, site: &Site) -> Look {
        let mut look = Look::default();
        if let Err(error) = self.look_into(site, &mut look).await {
            look.problem = Some(error.to_string());
        }
        let mut looks = self.0.looks.lock().unwrap_or_else(PoisonError::into_inner);
        if looks.len() >= MOST {
            looks.clear();
        }
        looks.insert(site.id, look.clone());
        look
    }

    /// What was seen the last time, by this process.
    pub fn last_look(&self, server: ServerId) -> Option<Look> {
        self.0.looks.lock().unwrap_or_else(PoisonError::into_inner).get(&server).cloned()
    }

    async fn look_into(&self, site: &Site, look: &mut Look) -> Result<(), ConnectError> {
        let found = self.find(site).await?;
        (look.issuer, look.resource) = (Some(found.issuer.clone()), Some(found.resource));
        let (about, _) = self.0.authorities.of(&found.issuer, found.named_by).await?;
        about.must_lead_home(found.named_by)?;
        look.redirect_uri = Some(self.redirect_uri(&about.issuer));
        look.client = self.way(site, &about).map(Way::label);
        if look.client.is_none() {
            look.problem = Some(must_be_registered(&about.issuer, &self.redirect_uri(&about.issuer)));
        }
        Ok(())
    }
}
