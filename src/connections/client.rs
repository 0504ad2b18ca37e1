//! As which client the gateway comes to an authorization server: the one that an administrator registered; else one that is known by the
//! URL of its description; else one that registers itself, once for all.
//!
//! Each authorization server has an address of its own to which it sends browsers back, so that none answers for another.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use tokio::time::Instant;

use super::{ConnectError, Connections, PAGE, Site};
use crate::crypto::hash_token;
use crate::idp::{Authority, Class, CodeClient, Codes, IdpError, Registration, configured};
use crate::store::connection_clients::ConnectionClientRow;
use crate::store::{at, micros, now};

/// What people read at authorization servers.
const NAME: &str = "MCP Registry Gateway";
/// For how long whoever registers has it alone.
const ALONE: Duration = Duration::from_mins(1);
/// For how long others wait for that, and how often they look.
const PATIENCE: Duration = Duration::from_secs(12);
const LOOK: Duration = Duration::from_millis(100);
/// After a registration that failed, the next is tried when this is over.
const AFTER_FAILURE: Duration = Duration::from_secs(10);
/// A secret that ends sooner is as good as over.
const SPARE: Duration = Duration::from_mins(15);

/// How the gateway is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Way {
    /// An administrator registered it.
    Configured,
    /// By the URL of its description.
    Document,
    /// It registered itself.
    Registered,
}

impl Way {
    /// In one word.
    pub fn label(self) -> &'static str {
        match self {
            Self::Configured => "configured",
            Self::Document => "client_id_metadata_document",
            Self::Registered => "registered",
        }
    }
}

/// How the gateway describes itself to authorization servers that look (client id metadata documents).
#[derive(Debug, Serialize)]
pub struct Description {
    client_id: String,
    client_name: &'static str,
    client_uri: String,
    redirect_uris: [String; 1],
    grant_types: [&'static str; 2],
    response_types: [&'static str; 1],
    token_endpoint_auth_method: &'static str,
}

/// The part of addresses that is an authorization server's own.
pub(super) fn key_of(issuer: &str) -> String {
    URL_SAFE_NO_PAD.encode(&hash_token(issuer)[..16])
}

fn is_key(text: &str) -> bool {
    URL_SAFE_NO_PAD.decode(text).is_ok_and(|bytes| bytes.len() == 16)
}

/// Where the description is that is an authorization server's own.
pub fn client_id_of(home: &str, key: &str) -> String {
    format!("{home}{PAGE}/client/{key}")
}

impl Connections {
    /// Where an authorization server sends browsers back.
    pub fn redirect_uri(&self, issuer: &str) -> String {
        self.redirect_uri_of(&key_of(issuer))
    }

    fn redirect_uri_of(&self, key: &str) -> String {
        format!("{}{PAGE}/callback/{key}", self.0.home)
    }

    /// The description at an address, if it is one of ours.
    pub fn description(&self, key: &str) -> Option<Description> {
        is_key(key).then(|| Description {
            client_id: client_id_of(&self.0.home, key),
            client_name: NAME,
            client_uri: self.0.home.to_string(),
            redirect_uris: [self.redirect_uri_of(key)],
            grant_types: ["authorization_code", "refresh_token"],
            response_types: ["code"],
            token_endpoint_auth_method: "none",
        })
    }

    /// How the gateway would be known there; none where an administrator has to register it.
    pub fn way(&self, site: &Site, about: &Authority) -> Option<Way> {
        if site.auth.client_id.is_some() {
            Some(Way::Configured)
        } else if about.client_id_metadata_document_supported && self.0.home.starts_with("https://") {
            Some(Way::Document)
        } else {
            about.registration_endpoint.as_ref().map(|_| Way::Registered)
        }
    }

    /// As which client somebody is sent there.
    pub(super) async fn client(
        &self,
        site: &Site,
        about: &Authority,
        codes: &Codes,
    ) -> Result<(CodeClient, Way), ConnectError> {
        let issuer = about.issuer.as_str();
        let way = self.way(site, about).ok_or_else(|| {
            let text = must_be_registered(issuer, &self.redirect_uri(issuer));
            IdpError::new(Class::Configuration, text)
        })?;
        let client = match way {
            Way::Configured => configured_at(site, about),
            Way::Document => described(&self.0.home, issuer),
            Way::Registered => self.registered(about, codes).await?,
        };
        Ok((client, way))
    }

    /// The client of this id, to which something was given; none where it is not known any more.
    pub(super) async fn client_again(
        &self,
        site: &Site,
        (way, id): (Way, &str),
        about: &Authority,
    ) -> Result<Option<CodeClient>, ConnectError> {
        let issuer = about.issuer.as_str();
        let client = match way {
            Way::Configured if site.auth.client_id.is_some() => Some(configured_at(site, about)),
            Way::Configured => None,
            Way::Document => Some(described(&self.0.home, issuer)),
            Way::Registered => {
                let row = self.0.store.connection_client(issuer).await?;
                row.and_then(|row| row.client).map(|sealed| self.open_client(issuer, &sealed)).transpose()?
            }
        };
        Ok(client.filter(|client| client.id == id))
    }

    /// The authorization server does not know this client any more: the gateway registers anew when somebody is next sent there.
    pub(super) async fn client_is_unknown(&self, issuer: &str, id: &str) -> Result<(), ConnectError> {
        let Some(row) = self.0.store.connection_client(issuer).await? else { return Ok(()) };
        let same = row.client.as_deref().map(|sealed| self.open_client(issuer, sealed)).transpose()?;
        if same.is_some_and(|client| client.id == id) {
            tracing::warn!(issuer, "the authorization server does not know the gateway any more, which registers anew");
            self.0.store.forget_connection_client(&row, 0).await?;
        }
        Ok(())
    }

    /// The registration that there is, or a new one; of all processes one makes it.
    async fn registered(&self, about: &Authority, codes: &Codes) -> Result<CodeClient, ConnectError> {
        let issuer = about.issuer.as_str();
        let began = Instant::now();
        loop {
            let row = self.0.store.connection_client(issuer).await?;
            let time = now();
            let good = |row: &ConnectionClientRow| row.expires_at.is_none_or(|end| at(end) > time + SPARE);
            if let Some(sealed) = row.as_ref().filter(|row| good(row)).and_then(|row| row.client.as_deref()) {
                return self.open_client(issuer, sealed);
            }
            let version = row.as_ref().map(|row| row.version);
            let until = micros(time + ALONE);
            if let Some(claimed) = self.0.store.claim_connection_client(issuer, version, micros(time), until).await? {
                return self.register(&claimed, about, codes).await;
            }
            if began.elapsed() > PATIENCE {
                let text = format!("the gateway could not be registered at {issuer} a moment ago");
                return Err(IdpError::new(Class::Temporary { retry_after: Some(AFTER_FAILURE) }, text).into());
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    async fn register(
        &self,
        claimed: &ConnectionClientRow,
        about: &Authority,
        codes: &Codes,
    ) -> Result<CodeClient, ConnectError> {
        let issuer = about.issuer.as_str();
        let redirect_uri = self.redirect_uri(issuer);
        let registration = Registration { name: NAME, home: &self.0.home, redirect_uri: &redirect_uri };
        let (client, ends): (CodeClient, Option<OffsetDateTime>) =
            match codes.register(about, &registration, now()).await {
                Ok(registered) => registered,
                Err(error) => {
                    let until = micros(now() + AFTER_FAILURE);
                    self.0.store.forget_connection_client(claimed, until).await?;
                    return Err(error.into());
                }
            };
        let sealed = self.seal_client(issuer, &client)?;
        self.0.store.keep_connection_client(claimed, &sealed, ends.map(micros)).await?;
        tracing::info!(issuer, client_id = client.id, "the gateway registered itself at the authorization server");
        Ok(client)
    }
}

pub(super) fn must_be_registered(issuer: &str, redirect_uri: &str) -> String {
    format!(
        "{issuer} lets no client register itself: register the gateway there with the redirect URI {redirect_uri}, and say `issuer` and \
         `client_id` in `auth` of the server"
    )
}

fn configured_at(site: &Site, about: &Authority) -> CodeClient {
    let auth = &site.auth;
    let in_body = auth.client_auth.map(|how| how == crate::registry::model::ClientAuth::Post);
    configured(auth.client_id.as_deref().unwrap_or_default(), auth.client_secret.as_ref(), in_body, about)
}

fn described(home: &str, issuer: &str) -> CodeClient {
    CodeClient { id: client_id_of(home, &key_of(issuer)), secret: None, secret_in_body: false }
}
