//! The gateway's word about who calls: a signed text (RFC 7519) for one server, good for minutes.

use std::sync::Arc;
use std::time::{Duration, Instant};

use http::header::{AUTHORIZATION, HeaderName};
use serde::Serialize;
use time::OffsetDateTime;
use uuid::Uuid;

use super::Credentials;
use super::refused::SOON;
use super::shown::{Shown, sensitive};
use crate::access::Caller;
use crate::fault::{Fault, Kind};
use crate::id::TenantId;
use crate::protocol::oauth::ID_JAG;
use crate::registry::model::{Auth, IdentityClaim, Server};
use crate::secret::Secret;

/// How long it is good.
pub(super) const LIFE: Duration = Duration::from_mins(5);
/// What it says that it is.
const TYPE: &str = "mcp-identity+jwt";
/// The member of `_meta` that holds it.
pub const META: &str = "io.mcp-registry-gateway/identity";
/// Who the gateway itself is; accounts are UUIDs.
const OURSELVES: &str = "gateway";

/// How a server wants it.
pub(super) struct Word {
    audience: Box<str>,
    /// The tenant whose server it is, in which the gateway itself asks.
    tenant: TenantId,
    claims: Arc<[IdentityClaim]>,
    /// None: in `_meta`.
    header: Option<HeaderName>,
}

/// What it says (RFC 7519 section 4.1, and claims of our own).
#[derive(Serialize)]
struct Claims<'a> {
    iss: &'a str,
    sub: &'a str,
    aud: &'a str,
    iat: i64,
    exp: i64,
    jti: String,
    tenant: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    role: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    preferred_username: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    principal: Option<Principal<'a>>,
    #[serde(flatten)]
    grant: Option<Grant<'a>>,
}

/// What somebody is vouched for to get: a token for this resource, of this client, with these scopes.
#[derive(Clone, Copy, Serialize)]
pub(super) struct Grant<'a> {
    pub(super) client_id: &'a str,
    pub(super) resource: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) scope: Option<&'a str>,
}

/// Who somebody is at the provider that signed them in.
#[derive(Serialize)]
struct Principal<'a> {
    iss: &'a str,
    sub: &'a str,
}

impl Word {
    pub(super) fn new(server: &Server, auth: &Auth) -> Result<Self, Fault> {
        let header = auth.header.as_deref().map(|name| HeaderName::from_bytes(name.as_bytes())).transpose();
        let header = header.map_err(|_| Fault::gateway(Kind::Setup, "the header of `auth` cannot be sent"))?;
        Ok(Self {
            audience: auth.audience.as_deref().or(server.spec.word_is_for()).unwrap_or_default().into(),
            tenant: server.tenant.clone(),
            claims: auth.claims.iter().copied().collect(),
            header: (!auth.meta).then_some(header.unwrap_or(AUTHORIZATION)),
        })
    }

    /// The word about the caller, or about the gateway itself.
    pub(super) fn shown(
        &self,
        engine: &Credentials,
        caller: Option<&Caller>,
        now: OffsetDateTime,
    ) -> Result<Shown, Fault> {
        let signed = self.says(engine, TYPE, caller, &self.audience, None, now)?;
        let (mut headers, mut meta) = (Vec::new(), None);
        match &self.header {
            Some(name) if *name == AUTHORIZATION => {
                headers.push((name.clone(), sensitive(&format!("Bearer {}", signed.expose()))?));
            }
            Some(name) => headers.push((name.clone(), sensitive(signed.expose())?)),
            None => meta = Some((META, crate::json::quote(signed.expose()).into())),
        }
        let mut shown = Shown::fixed(headers);
        shown.meta = meta;
        Ok(shown.lasting(LIFE, Instant::now()))
    }

    /// The word about the caller for another reader, as it is.
    pub(super) fn sign(
        &self,
        engine: &Credentials,
        caller: &Caller,
        audience: &str,
        now: OffsetDateTime,
    ) -> Result<Secret, Fault> {
        self.says(engine, TYPE, Some(caller), audience, None, now)
    }

    /// Vouches for the caller to this authorization server.
    pub(super) fn vouch(
        &self,
        engine: &Credentials,
        caller: &Caller,
        audience: &str,
        grant: Grant<'_>,
        now: OffsetDateTime,
    ) -> Result<Secret, Fault> {
        self.says(engine, ID_JAG, Some(caller), audience, Some(grant), now)
    }

    fn says(
        &self,
        engine: &Credentials,
        kind: &str,
        caller: Option<&Caller>,
        audience: &str,
        grant: Option<Grant<'_>>,
        now: OffsetDateTime,
    ) -> Result<Secret, Fault> {
        let says = |claim| caller.filter(|_| self.claims.contains(&claim));
        let user = caller.map(|caller| caller.user_id().to_string());
        let issued = now.unix_timestamp();
        let claims = Claims {
            iss: &engine.0.issuer,
            sub: user.as_deref().unwrap_or(OURSELVES),
            aud: audience,
            iat: issued,
            exp: issued + LIFE.as_secs().cast_signed(),
            jti: Uuid::from_bytes(crate::crypto::random_bytes()).to_string(),
            tenant: caller.map_or(&self.tenant, Caller::tenant).as_str(),
            role: says(IdentityClaim::Role).map(|caller| caller.role().as_str()),
            preferred_username: says(IdentityClaim::Name).map(Caller::username),
            principal: says(IdentityClaim::Principal)
                .map(Caller::principal)
                .map(|principal| Principal { iss: &principal.issuer, sub: &principal.subject }),
            grant,
        };
        let none = || {
            let fault = Fault::gateway(Kind::NoCredential, "the gateway has no key to sign with; see its log");
            Fault { retry_after: Some(SOON), ..fault }
        };
        engine.0.signer.sign(kind, &claims, now).ok_or_else(none)
    }
}
