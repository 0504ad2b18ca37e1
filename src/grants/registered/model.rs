//! What a registered client is made of: as it is asked for, as it is stored, as it may be read.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use time::OffsetDateTime;

use crate::access::{Role, UserId};
use crate::crypto::hash_token;
use crate::grants::client::{AuthMethod, GrantType, SecretHash, Workload};
use crate::grants::new_client_secret;
use crate::grants::scope::{Scope, ScopeSet};
use crate::secret::Secret;
use crate::store::oauth_clients::ClientRow;
use crate::store::{Json, StoreError, at, micros};

/// Most secrets of a client that are good at a time.
pub const MOST_SECRETS: usize = 2;
/// Characters of a secret by which it is told from the other: the prefix and four more.
const HINT: usize = 12;

/// What kind of client it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ClientKind {
    /// It acts for people and can keep no secret: a program on their machines.
    Public,
    /// It acts for people and can: a web application.
    Confidential,
    /// It acts for itself.
    Service,
}

/// A client that is asked for.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(example = serde_json::json!({ "client_id": "nightly", "name": "Nightly job", "kind": "service" }))]
pub struct ClientOrder {
    /// What it calls itself by; made when absent. For a service also the name of its account.
    pub client_id: Option<String>,
    /// What people call it.
    pub name: String,
    /// What kind it is.
    pub kind: ClientKind,
    /// Where it may be answered; for a service none.
    #[serde(default)]
    pub redirect_uris: Vec<String>,
    /// The most it may ask for. Absent: `mcp`, and `offline_access` for a client of people.
    pub scopes: Option<Vec<String>>,
    /// What a service may at most. Absent: `user`.
    pub role: Option<Role>,
    /// What it may exchange for tokens. Absent: what is usual for its kind.
    pub grant_types: Option<Vec<String>>,
    /// Public keys it signs with, instead of a secret.
    pub jwks: Option<Value>,
    /// Where they are found.
    pub jwks_uri: Option<String>,
    /// Which programs on a platform a service is, instead of a secret.
    #[serde(default)]
    pub workloads: Vec<Workload>,
    /// Whether it gets only tokens that are bound to a key of its own (RFC 9449 section 5.2).
    #[serde(default)]
    pub dpop_bound_access_tokens: bool,
}

/// What of a client is to change; what is absent stays.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(example = serde_json::json!({ "name": "Nightly job" }))]
pub struct ClientEdit {
    /// New name.
    pub name: Option<String>,
    /// New redirect URIs, all of them.
    pub redirect_uris: Option<Vec<String>>,
    /// New scopes, all of them.
    pub scopes: Option<Vec<String>>,
    /// New role of a service.
    pub role: Option<Role>,
    /// What it may exchange for tokens from now on, all of it.
    pub grant_types: Option<Vec<String>>,
    /// New keys; secrets and workloads end.
    pub jwks: Option<Value>,
    /// New place of the keys; secrets and workloads end.
    pub jwks_uri: Option<String>,
    /// New workloads, all of them; secrets and keys end.
    pub workloads: Option<Vec<Workload>>,
    /// Whether it gets only tokens that are bound to a key from now on.
    pub dpop_bound_access_tokens: Option<bool>,
    /// When it was last changed as the caller read it, microseconds since 1970; `Stale` if that was later.
    #[serde(skip)]
    pub expected: Option<i64>,
}

/// A secret as it may be read: never its text.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
#[schemars(rename = "ClientSecret")]
pub struct SecretView {
    /// Its first characters.
    pub hint: String,
    /// When it was made.
    #[serde(with = "crate::clock::Moment")]
    pub created_at: OffsetDateTime,
}

/// A client as it may be read.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
#[schemars(rename = "Client")]
pub struct ClientView {
    /// What it calls itself by.
    pub client_id: String,
    /// What people call it.
    pub name: String,
    /// What kind it is.
    pub kind: ClientKind,
    /// How it proves who it is; a secret may be shown in the form as well.
    pub token_endpoint_auth_method: AuthMethod,
    /// Where it may be answered.
    pub redirect_uris: Vec<String>,
    /// The most it may ask for.
    pub scopes: Vec<&'static str>,
    /// What it may exchange for tokens.
    pub grant_types: Vec<GrantType>,
    /// What a service may at most.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub role: Option<Role>,
    /// The account of a service.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user_id: Option<UserId>,
    /// Its secrets that are good.
    pub secrets: Vec<SecretView>,
    /// Its public keys.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub jwks: Option<Value>,
    /// Where they are found.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub jwks_uri: Option<String>,
    /// Which programs on a platform it is.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub workloads: Vec<Workload>,
    /// Whether it gets only tokens that are bound to a key.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub dpop_bound_access_tokens: bool,
    /// When it was registered.
    #[serde(with = "crate::clock::Moment")]
    pub created_at: OffsetDateTime,
    /// When it was last changed.
    #[serde(with = "crate::clock::Moment")]
    pub updated_at: OffsetDateTime,
}

/// What is stored of it as JSON.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Spec {
    pub(super) kind: ClientKind,
    pub(super) redirect_uris: Vec<String>,
    pub(super) scopes: ScopeSet,
    #[serde(default)]
    pub(super) secrets: Vec<KeptSecret>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) jwks: Option<Value>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) jwks_uri: Option<String>,
    /// Absent: what is usual for its kind.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) grant_types: Option<Vec<GrantType>>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) workloads: Vec<Workload>,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(super) dpop_bound_access_tokens: bool,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct KeptSecret {
    pub(super) hint: String,
    /// SHA-256 in base64url.
    hash: String,
    /// Microseconds since 1970.
    created_at: i64,
}

impl Spec {
    pub(super) fn of(row: &ClientRow) -> Result<Self, StoreError> {
        serde_json::from_value(row.spec.0.clone())
            .map_err(|error| StoreError::Corrupt(format!("client `{}`: {error}", row.client_id)))
    }

    pub(super) fn json(&self) -> Result<Json<Value>, StoreError> {
        serde_json::to_value(self).map(Json).map_err(|error| StoreError::Corrupt(error.to_string()))
    }

    pub(super) fn method(&self) -> AuthMethod {
        match (self.kind, self.jwks.is_some() || self.jwks_uri.is_some()) {
            (ClientKind::Public, _) => AuthMethod::None,
            (ClientKind::Service, false) if !self.workloads.is_empty() => AuthMethod::None,
            (_, true) => AuthMethod::PrivateKeyJwt,
            (_, false) => AuthMethod::ClientSecretBasic,
        }
    }

    /// What it may exchange for tokens; refresh tokens only where an administrator allows `offline_access`.
    pub(super) fn grants(&self) -> Vec<GrantType> {
        let mut grants = self.grant_types.clone().unwrap_or_else(|| match self.possible() {
            [first @ GrantType::AuthorizationCode, second, ..] => vec![*first, *second],
            possible => possible.iter().take(1).copied().collect(),
        });
        if !self.scopes.has(Scope::OfflineAccess) {
            grants.retain(|grant| *grant != GrantType::RefreshToken);
        }
        grants
    }

    /// Whether a grant is among those that are named for it, and not only usual.
    pub(super) fn names(&self, grant: GrantType) -> bool {
        self.grant_types.as_ref().is_some_and(|named| named.contains(&grant))
    }

    /// What a client of its kind could; what is usual comes first.
    pub(super) fn possible(&self) -> &'static [GrantType] {
        use GrantType::{AuthorizationCode, ClientCredentials, JwtBearer, RefreshToken, TokenExchange};
        match self.kind {
            ClientKind::Public => &[AuthorizationCode, RefreshToken],
            ClientKind::Confidential => &[AuthorizationCode, RefreshToken, JwtBearer, TokenExchange],
            // It shows nothing else: the assertion is its proof and its grant.
            ClientKind::Service if !self.workloads.is_empty() => &[JwtBearer],
            ClientKind::Service => &[ClientCredentials, TokenExchange],
        }
    }

    pub(super) fn add_secret(&mut self, now: OffsetDateTime) -> Secret {
        loop {
            let secret = new_client_secret();
            let hint: String = secret.expose().chars().take(HINT).collect();
            if self.secrets.iter().all(|other| other.hint != hint) {
                let hash = URL_SAFE_NO_PAD.encode(hash_token(secret.expose()));
                self.secrets.push(KeptSecret { hint, hash, created_at: micros(now) });
                return secret;
            }
        }
    }

    pub(super) fn hashes(&self) -> Option<Vec<SecretHash>> {
        let hash = |secret: &KeptSecret| URL_SAFE_NO_PAD.decode(&secret.hash).ok()?.try_into().ok();
        self.secrets.iter().map(|secret| Some(SecretHash { hash: hash(secret)?, expires_at: None })).collect()
    }
}

pub(super) fn view(row: ClientRow) -> Result<ClientView, StoreError> {
    let spec = Spec::of(&row)?;
    let secrets = spec.secrets.iter();
    Ok(ClientView {
        token_endpoint_auth_method: spec.method(),
        grant_types: spec.grants(),
        secrets: secrets
            .map(|secret| SecretView { hint: secret.hint.clone(), created_at: at(secret.created_at) })
            .collect(),
        client_id: row.client_id,
        name: row.name,
        kind: spec.kind,
        redirect_uris: spec.redirect_uris,
        scopes: spec.scopes.iter().map(Scope::as_str).collect(),
        role: row.user_role.as_deref().and_then(Role::parse),
        user_id: row.user_id.map(UserId),
        jwks: spec.jwks,
        jwks_uri: spec.jwks_uri,
        workloads: spec.workloads,
        dpop_bound_access_tokens: spec.dpop_bound_access_tokens,
        created_at: at(row.created_at),
        updated_at: at(row.updated_at),
    })
}
