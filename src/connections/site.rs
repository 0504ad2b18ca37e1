//! What of a server's description matters to connections.

use std::collections::BTreeSet;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::json;
use url::Url;

use crate::crypto::hash_token;
use crate::id::{ServerId, Slug, TenantId};
use crate::registry::model::{Auth, AuthKind, Server};

/// A server to which people connect.
#[derive(Debug, Clone)]
pub struct Site {
    /// The server.
    pub id: ServerId,
    /// Whose it is.
    pub tenant: TenantId,
    /// What it is called.
    pub slug: Slug,
    /// What people call it.
    pub title: String,
    /// Where it is; its first replica.
    pub url: Url,
    /// What its description says.
    pub(super) auth: Auth,
    /// Where its tokens go, and who gives them: those that were given for another place are not used.
    pub(super) place: String,
}

impl Site {
    /// Of a server, if people connect to it.
    pub fn of(server: &Server) -> Option<Self> {
        let (spec, auth) = (&server.spec, &server.spec.auth);
        if auth.kind != AuthKind::AuthorizationCode {
            return None;
        }
        let replicas = || spec.replicas.iter().filter_map(|replica| Url::parse(&replica.url).ok());
        let mut url = replicas().next()?;
        url.set_fragment(None);
        // Others may live behind the same host.
        let places: BTreeSet<String> = replicas().map(|url| bare(url).into()).collect();
        let place = json!([server.id, places, auth.issuer, auth.client_id, auth.resource]).to_string();
        Some(Self {
            id: server.id,
            tenant: server.tenant.clone(),
            slug: spec.slug.clone(),
            title: spec.title.clone(),
            url,
            auth: auth.clone(),
            place: URL_SAFE_NO_PAD.encode(hash_token(&place)),
        })
    }

    /// The canonical URI of the server (RFC 8707 section 2), where nothing else is said.
    pub(super) fn resource(&self) -> String {
        self.auth.resource.clone().unwrap_or_else(|| {
            let (url, is_origin) = (bare(self.url.clone()), self.url.path() == "/");
            // A slash that only the form of a URL adds says nothing.
            if is_origin { url.as_str().trim_end_matches('/') } else { url.as_str() }.to_owned()
        })
    }
}

/// Without what may be a secret of the gateway's, and is nothing to browsers and authorization servers.
fn bare(mut url: Url) -> Url {
    url.set_query(None);
    url.set_fragment(None);
    url
}
