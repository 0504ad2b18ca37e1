//! An OAuth client, however it is known: registered by an administrator, by a metadata document at its id (a URL), or by an id
//! that holds its sealed registration. The form of the id alone says which; there is no falling through from one to another.

use std::net::IpAddr;
use std::sync::Arc;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

use super::document::Documents;
use super::dynamic::{Dynamic, PREFIX};
use super::fetch::{FetchError, Fetcher};
use super::keys::{KeySource, Keys};
use super::rate::Exceeded;
use super::redirect::{RedirectUri, Schemes};
use super::registered;
use super::scope::{Scope, ScopeSet};
use crate::access::UserId;
use crate::config;
use crate::crypto::Ids;
use crate::id::TenantId;
use crate::net::Outbound;
use crate::protocol::oauth::{JWT_BEARER, TOKEN_EXCHANGE};
use crate::store::{Store, StoreError};

/// How a client proves who it is at the token endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum AuthMethod {
    /// Not at all: a public client.
    None,
    /// By a secret in the `Authorization` header (RFC 6749 section 2.3.1).
    ClientSecretBasic,
    /// By a secret in the form.
    ClientSecretPost,
    /// By an assertion signed with its key (RFC 7523 section 2.2).
    PrivateKeyJwt,
}

impl AuthMethod {
    /// Each of them.
    pub const ALL: [Self; 4] = [Self::None, Self::ClientSecretBasic, Self::ClientSecretPost, Self::PrivateKeyJwt];

    /// Its name on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::ClientSecretBasic => "client_secret_basic",
            Self::ClientSecretPost => "client_secret_post",
            Self::PrivateKeyJwt => "private_key_jwt",
        }
    }

    /// The method of that name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|method| method.as_str() == name)
    }

    /// Whether it takes a secret.
    pub fn is_secret(self) -> bool {
        matches!(self, Self::ClientSecretBasic | Self::ClientSecretPost)
    }
}

/// What a client may exchange for tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum GrantType {
    /// A code that a person's browser brought.
    AuthorizationCode,
    /// A refresh token.
    RefreshToken,
    /// Its own credential: it acts for nobody but itself.
    ClientCredentials,
    /// An assertion of a trusted issuer (RFC 7523 section 2.1).
    #[serde(rename = "urn:ietf:params:oauth:grant-type:jwt-bearer")]
    JwtBearer,
    /// A token that somebody has, for one that may less (RFC 8693).
    #[serde(rename = "urn:ietf:params:oauth:grant-type:token-exchange")]
    TokenExchange,
}

impl GrantType {
    /// Each of them.
    pub const ALL: [Self; 5] =
        [Self::AuthorizationCode, Self::RefreshToken, Self::ClientCredentials, Self::JwtBearer, Self::TokenExchange];

    /// Its name on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::AuthorizationCode => "authorization_code",
            Self::RefreshToken => "refresh_token",
            Self::ClientCredentials => "client_credentials",
            Self::JwtBearer => JWT_BEARER,
            Self::TokenExchange => TOKEN_EXCHANGE,
        }
    }

    /// The one of that name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|grant| grant.as_str() == name)
    }
}

/// A program on a platform, by the platform's word: what a service may show in place of a secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Workload {
    /// Who vouches (`iss`); trusted besides.
    pub issuer: String,
    /// Its name there (`sub`), exactly.
    pub subject: String,
}

/// A secret as it is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SecretHash {
    /// SHA-256.
    pub hash: [u8; 32],
    /// When it ends; never when none.
    pub expires_at: Option<OffsetDateTime>,
}

/// What a client shows to prove who it is.
#[derive(Debug, Clone)]
pub enum Proof {
    /// Nothing.
    None,
    /// One of these secrets, in the header or in the form.
    Secret(Vec<SecretHash>),
    /// A signature of one of these keys.
    Keys(KeySource),
    /// Nothing but the assertion itself that it shows for a token, about one of these.
    Workload(Vec<Workload>),
}

/// By what a client is known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Known {
    /// An administrator of the tenant registered it; what was agreed to once may be remembered.
    Registered {
        /// Whose it is: only the tenant's people use it.
        tenant: TenantId,
        /// The account as which it acts on its own.
        service: Option<UserId>,
    },
    /// By the document at its id.
    Document,
    /// By an id that we sealed.
    Dynamic {
        /// When.
        issued_at: OffsetDateTime,
    },
}

/// A client.
#[derive(Debug, Clone)]
pub struct Client {
    /// Its id.
    pub id: Arc<str>,
    /// What it calls itself. Unless it is registered nobody checked that, and people are told so.
    pub name: Arc<str>,
    /// By what it is known.
    pub known: Known,
    /// What it shows to prove who it is.
    pub proof: Proof,
    /// Where it may be answered.
    pub redirects: Vec<RedirectUri>,
    /// What it may exchange for tokens.
    pub grants: Vec<GrantType>,
    /// The most it may ask for.
    pub scopes: ScopeSet,
    /// Whether it gets only tokens that are bound to a key of its own (RFC 9449 section 5.2).
    pub bound: bool,
}

impl Client {
    /// The redirect URI of it that `asked` is, if it is one.
    pub fn redirect(&self, asked: &str) -> Option<&RedirectUri> {
        self.redirects.iter().find(|uri| uri.matches(asked))
    }

    /// The tenant whose administrator registered it.
    pub fn tenant(&self) -> Option<&TenantId> {
        match &self.known {
            Known::Registered { tenant, .. } => Some(tenant),
            Known::Document | Known::Dynamic { .. } => None,
        }
    }

    /// Whether it may exchange that for tokens.
    pub fn may(&self, grant: GrantType) -> bool {
        self.grants.contains(&grant)
    }

    /// What it gets of `asked`, the scopes that it asks for and that are offered. A client that exchanges refresh tokens gets one
    /// without asking for `offline_access`, which only OpenID Connect knows: whether there is one, the authorization server decides
    /// (RFC 6749 section 1.5, MCP 2026-07-28 "Refresh Tokens"). One that does not exchange them gets none, whatever it asks for.
    pub fn scopes_of(&self, asked: ScopeSet) -> ScopeSet {
        let own = asked.and(self.scopes);
        if self.may(GrantType::RefreshToken) && !own.is_empty() {
            own.with(Scope::OfflineAccess)
        } else {
            own.without(Scope::OfflineAccess)
        }
    }

    /// Whether an administrator registered it.
    pub fn is_registered(&self) -> bool {
        matches!(self.known, Known::Registered { .. })
    }
}

/// Why there is no client.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// None of that id.
    #[error("there is no such client")]
    Unknown,
    /// What its document says cannot be taken; its maker may read why.
    #[error("the client's metadata document cannot be used: {0}")]
    Invalid(String),
    /// Its document cannot be had at present; why is for the log only.
    #[error("the client's metadata document cannot be fetched")]
    Unreachable {
        /// Whether another try in a minute may do.
        temporary: bool,
        /// For the log.
        detail: String,
    },
    /// Too many documents are being fetched.
    #[error("too many clients are being looked up at this moment; try again in a second")]
    Busy,
    /// The address that asks has made us fetch too many.
    #[error("too many clients were looked up for this address; wait before the next request")]
    TooMany(Exceeded),
    /// The database failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl From<FetchError> for ClientError {
    fn from(error: FetchError) -> Self {
        match error {
            FetchError::Busy => Self::Busy,
            FetchError::TooMany(exceeded) => Self::TooMany(exceeded),
            FetchError::Away(detail) => Self::Unreachable { temporary: true, detail },
            FetchError::Wrong(detail) => Self::Unreachable { temporary: false, detail },
        }
    }
}

impl ClientError {
    /// The label in metrics and logs.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Unknown => "unknown_client",
            Self::Invalid(_) => "invalid_document",
            Self::Unreachable { .. } => "document_unreachable",
            Self::Busy => "busy",
            Self::TooMany(_) => "throttled",
            Self::Store(_) => "database",
        }
    }
}

/// All clients. Cheap to clone.
#[derive(Clone)]
pub struct Clients(pub(super) Arc<Parts>);

pub(super) struct Parts {
    pub(super) store: Store,
    pub(super) documents: Documents,
    pub(super) dynamic: Dynamic,
    pub(super) keys: Keys,
    schemes: Schemes,
}

impl std::fmt::Debug for Clients {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Clients")
    }
}

impl Clients {
    /// The clients of a gateway. `outbound` is asked with a policy for strangers, whatever its own.
    pub fn new(settings: &config::Clients, store: &Store, ids: &Ids, outbound: &Outbound) -> Self {
        let schemes = Schemes::with(&settings.allowed_redirect_schemes);
        let fetcher = Arc::new(Fetcher::new(outbound, settings.metadata_hosts.clone()));
        Self(Arc::new(Parts {
            store: store.clone(),
            documents: Documents::new(Arc::clone(&fetcher), schemes.clone()),
            dynamic: Dynamic::new(settings, ids, schemes.clone()),
            keys: Keys::new(fetcher),
            schemes,
        }))
    }

    /// The client of that id, for a new authorization that begins `from` there: what its document says now.
    pub async fn find(&self, id: &str, from: IpAddr, now: OffsetDateTime) -> Result<Arc<Client>, ClientError> {
        self.look_up(id, from, now, false).await
    }

    /// The client of that id, for what was granted before: while its document cannot be had, what it said last is good
    /// enough.
    pub async fn recall(&self, id: &str, from: IpAddr, now: OffsetDateTime) -> Result<Arc<Client>, ClientError> {
        self.look_up(id, from, now, true).await
    }

    /// Whether finding the client of that id makes us fetch a document that was never read before.
    pub(super) fn is_news(&self, id: &str) -> bool {
        id.contains("://") && !self.0.documents.remember(id)
    }

    async fn look_up(
        &self,
        id: &str,
        from: IpAddr,
        now: OffsetDateTime,
        stale: bool,
    ) -> Result<Arc<Client>, ClientError> {
        if id.contains("://") {
            self.0.documents.get(id, from, stale, now).await
        } else if id.starts_with(PREFIX) {
            self.0.dynamic.open(id).map(Arc::new).ok_or(ClientError::Unknown)
        } else {
            registered::client(&self.0.store, id, &self.0.schemes).await?.map(Arc::new).ok_or(ClientError::Unknown)
        }
    }

    /// Registrations that clients make of themselves.
    pub fn dynamic(&self) -> &Dynamic {
        &self.0.dynamic
    }

    /// The schemes of programs to which answers may be sent.
    pub fn schemes(&self) -> &Schemes {
        &self.0.schemes
    }
}
