//! As which client the gateway comes to an authorization server: the one that an administrator registered; else one that is known by the
//! URL of its description; else one that registers itself, once for each server.
//!
//! Each authorization server has an address of its own to which it sends browsers back, so that none answers for another.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use tokio::time::Instant;
use uuid::Uuid;

use super::renewing::same;
use super::sealed::Kept;
use super::{ConnectError, Connections, PAGE, Site};
use crate::crypto::hash_token;
use crate::id::ServerId;
use crate::idp::{Authority, Class, CodeClient, Codes, IdpError, Registration, configured};
use crate::store::connection_clients::ConnectionClientRow;
use crate::store::{at, micros, now};

/// What people read at authorization servers.
const NAME: &str = "MCP Registry Gateway";
/// Bytes of an authorization server's key.
const KEY: usize = 16;
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
    URL_SAFE_NO_PAD.encode(&hash_token(issuer)[..KEY])
}

/// Where the description is that is one server's at its authorization server: its key, and the server. Who allows one server something
/// there has allowed no other.
fn client_id_of(home: &str, issuer: &str, server: ServerId) -> String {
    let key = [&hash_token(issuer)[..KEY], server.0.as_bytes()].concat();
    format!("{home}{PAGE}/client/{}", URL_SAFE_NO_PAD.encode(key))
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
        let bytes = URL_SAFE_NO_PAD.decode(key).ok().filter(|bytes| bytes.len() == KEY + size_of::<Uuid>())?;
        Some(Description {
            client_id: format!("{}{PAGE}/client/{key}", self.0.home),
            client_name: NAME,
            client_uri: self.0.home.to_string(),
            redirect_uris: [self.redirect_uri_of(&URL_SAFE_NO_PAD.encode(&bytes[..KEY]))],
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
            Way::Document => {
                CodeClient { id: client_id_of(&self.0.home, issuer, site.id), secret: None, secret_in_body: false }
            }
            Way::Registered => self.registered(site, about, codes).await?,
        };
        Ok((client, way))
    }

    /// The client to which something was given; none where an administrator names another by now, or another authorization server, to which
    /// the secret belongs, or where the server is not there.
    pub(super) fn client_again(site: Option<&Site>, kept: &Kept, about: &Authority) -> Option<CodeClient> {
        match kept.way {
            Way::Configured => {
                let is_its = |site: &&Site| {
                    let is_there = site.auth.issuer.as_deref().is_some_and(|issuer| same(issuer, &about.issuer));
                    is_there && site.auth.client_id.as_ref() == Some(&kept.client.id)
                };
                site.filter(is_its).map(|site| configured_at(site, about))
            }
            Way::Document | Way::Registered => Some(kept.client.clone()),
        }
    }

    /// The authorization server does not know this client: who is next sent there is sent as another. Others' connections are judged by
    /// what is said of them.
    pub(super) async fn client_is_unknown(&self, site: &Site, client: &CodeClient) -> Result<(), ConnectError> {
        let Some(row) = self.0.store.connection_client(site.id.0).await? else { return Ok(()) };
        if self.opened(&row)?.is_some_and(|own| own.id == client.id) {
            let issuer = row.issuer.as_str();
            tracing::warn!(server = %site.slug, issuer, "the authorization server does not know the gateway, which registers anew");
            self.0.store.forget_connection_client(&row).await?;
        }
        Ok(())
    }

    /// The registration that there is, or a new one; of all processes one makes it.
    async fn registered(&self, site: &Site, about: &Authority, codes: &Codes) -> Result<CodeClient, ConnectError> {
        let issuer = about.issuer.as_str();
        let began = Instant::now();
        loop {
            let row = self.0.store.connection_client(site.id.0).await?;
            let time = now();
            let good_for = |spare: Duration| {
                let own = row.as_ref().filter(|row| row.issuer == issuer && ends_after(row, time + spare));
                own.map_or(Ok(None), |row| self.opened(row))
            };
            if let Some(client) = good_for(SPARE)? {
                return Ok(client);
            }
            let (version, until) = (row.as_ref().map(|row| row.version), micros(time + ALONE));
            let claimed = self.0.store.claim_connection_client(site.id.0, issuer, version, micros(time), until).await?;
            // Its secret ends soon, and is good until then.
            let last = good_for(Duration::ZERO)?;
            match (claimed, last) {
                (Some(claimed), last) => {
                    let new = self.register(site, &claimed, about, codes).await;
                    return match (new, last) {
                        (Err(_), Some(last)) => Ok(last),
                        (new, _) => new,
                    };
                }
                (None, Some(last)) => return Ok(last),
                (None, None) if began.elapsed() > PATIENCE => {
                    let text = format!("the gateway could not be registered at {issuer} a moment ago");
                    return Err(IdpError::new(Class::Temporary { retry_after: Some(AFTER_FAILURE) }, text).into());
                }
                (None, None) => tokio::time::sleep(LOOK).await,
            }
        }
    }

    async fn register(
        &self,
        site: &Site,
        claimed: &ConnectionClientRow,
        about: &Authority,
        codes: &Codes,
    ) -> Result<CodeClient, ConnectError> {
        let issuer = about.issuer.as_str();
        let redirect_uri = self.redirect_uri(issuer);
        let name = format!("{NAME}: {}", site.slug);
        let registration = Registration { name: &name, home: &self.0.home, redirect_uri: &redirect_uri };
        let (client, ends): (CodeClient, Option<OffsetDateTime>) =
            match codes.register(about, &registration, now()).await {
                Ok(registered) => registered,
                Err(error) => {
                    tracing::warn!(server = %site.slug, issuer, "the gateway could not be registered: {error}");
                    self.0.store.release_connection_client(claimed, micros(now() + AFTER_FAILURE)).await?;
                    return Err(error.into());
                }
            };
        let sealed = self.seal_client(claimed, &client)?;
        self.0.store.keep_connection_client(claimed, &sealed, ends.map(micros)).await?;
        tracing::info!(server = %site.slug, issuer, client_id = client.id, "the gateway registered itself");
        Ok(client)
    }

    fn opened(&self, row: &ConnectionClientRow) -> Result<Option<CodeClient>, ConnectError> {
        row.client.as_deref().map(|sealed| self.open_client(row, sealed)).transpose()
    }
}

fn ends_after(row: &ConnectionClientRow, time: OffsetDateTime) -> bool {
    row.expires_at.is_none_or(|end| at(end) > time)
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
