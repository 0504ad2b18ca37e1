//! ENGINE: who is calling and what they may do. A [`Caller`] is made only here, from a key that the [`KeyRing`] knows, an
//! access token that the [`TokenRing`] knows or a password that [`accounts`] checked, so holding one is proof of having been
//! let in. Everything is denied unless a role, a scope and a server's visibility all allow it.

pub mod accounts;
mod at_pages;
pub mod bootstrap;
mod direct;
pub mod keyring;
pub mod keys;
mod opening;
mod proofs;
pub mod retention;
pub mod role;
pub mod role_mappings;
pub mod scopes;
mod shared;
pub mod subject;
pub mod tenant_limits;
pub mod tenant_plan;
pub mod tenants;
pub mod tokens;
pub mod users;
pub mod visibility;

use std::sync::{Arc, OnceLock};

use tokio_util::sync::CancellationToken;
use uuid::Uuid;

pub use accounts::Accounts;
pub use direct::Direct;
pub use keyring::{AuthError, KeyRing};
pub use opening::Opening;
pub use proofs::Proofs;
pub use role::Role;
pub use role_mappings::RoleMapping;
pub use scopes::{Allow, Scopes};
pub use subject::{Memberships, Subject};
pub use tokens::TokenRing;
pub use visibility::Visibility;

use crate::crypto::dpop::Thumbprint;
use crate::field::FieldError;
use crate::id::{Principal, TenantId};
use crate::store::StoreError;
use crate::telemetry::Actor;

/// Why accounts or keys were not changed.
#[derive(Debug, thiserror::Error)]
pub enum AccessError {
    /// The caller's role or key does not reach that far.
    #[error("{0}")]
    Forbidden(&'static str),
    /// The caller's role reaches that far, the credential lacks the scope `admin`: another one may do it.
    #[error("{0}")]
    Scope(&'static str),
    /// What was asked for cannot be made; every mistake is listed.
    #[error("{} field(s) are not valid", .0.len())]
    Invalid(Vec<FieldError>),
    /// Name or password is wrong, or the account cannot sign in; which, nobody is told.
    #[error("the user name or the password is wrong")]
    WrongPassword,
    /// Too many wrong passwords for this name.
    #[error("too many wrong passwords for this user name; try again later")]
    TooManyAttempts {
        /// When it is worth trying again.
        retry_after: std::time::Duration,
    },
    /// Too much that was wrong has come from one address.
    #[error("too much that was wrong has come from your address; try again later")]
    TooManyFromHere {
        /// When it is worth trying again.
        retry_after: std::time::Duration,
    },
    /// As many passwords are being checked as may be at once.
    #[error("too many people are signing in at this moment; try again in a second")]
    Busy,
    /// A password could not be hashed.
    #[error("the password could not be hashed: {0}")]
    Hashing(String),
    /// The database refused or failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl AccessError {
    /// The label in metrics and logs.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Forbidden(_) | Self::Scope(_) => "forbidden",
            Self::Invalid(_) => "invalid",
            Self::WrongPassword => "wrong_password",
            Self::TooManyAttempts { .. } => "too_many_attempts",
            Self::TooManyFromHere { .. } => "throttled",
            Self::Busy => "busy",
            Self::Hashing(_) => "internal",
            Self::Store(_) => "database",
        }
    }
}

/// One bad field.
pub(crate) fn invalid(field: &str, message: impl Into<String>) -> AccessError {
    AccessError::Invalid(vec![FieldError::new(field, message)])
}

/// A local account.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize, schemars::JsonSchema)]
#[serde(transparent)]
pub struct UserId(pub(crate) Uuid);

impl UserId {
    /// As it is stored.
    pub fn uuid(self) -> Uuid {
        self.0
    }
}

/// An API key, not its text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize, schemars::JsonSchema)]
#[serde(transparent)]
pub struct KeyId(pub(crate) Uuid);

impl std::fmt::Display for UserId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

impl std::fmt::Display for KeyId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

/// How the caller came by the credential.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum SessionType {
    /// A key made on purpose.
    ApiKey,
    /// A key of hours made by signing in with a password.
    Login,
    /// An access token that a person gave to a client.
    OAuth,
    /// An access token of a client that acts on its own.
    Service,
}

impl SessionType {
    /// The label in metrics; a sign-in by password shows an API key from then on.
    pub fn label(self) -> &'static str {
        match self {
            Self::ApiKey | Self::Login => "api_key",
            Self::OAuth => "oauth",
            Self::Service => "service",
        }
    }

    /// The word in records, which tell a sign-in by password apart.
    fn word(self) -> &'static str {
        if self == Self::Login { "password" } else { self.label() }
    }
}

/// Somebody who was let in: proof, since only `access` can make one. Cloning copies a pointer.
#[derive(Debug, Clone)]
pub struct Caller(Arc<Identity>);

#[derive(Debug)]
struct Identity {
    /// Who it is, as records say it.
    actor: Arc<Actor>,
    user: UserId,
    /// Whether a provider says what the account is called; else an administrator gave the name.
    called_by_provider: bool,
    role: Role,
    memberships: Arc<Memberships>,
    scopes: Arc<Scopes>,
    shown: Shown,
    /// Made when rules are first asked about it.
    subject: OnceLock<Subject>,
    /// Cancelled when the credential stops being good; made for the first who wants to hear of it.
    ended: OnceLock<CancellationToken>,
}

/// The credential that was shown.
#[derive(Debug)]
struct Shown {
    kind: SessionType,
    /// The key, or the grant that the token belongs to.
    id: Uuid,
    /// What its holder calls the key, or the name of the client that holds the token.
    name: Arc<str>,
    /// The OAuth client by the id that nobody chooses for another, or the key by its id.
    client: Arc<str>,
    /// The path of the only resource that it opens; none: every one.
    resource: Option<Arc<str>>,
    /// The key that must be proved with it; none: whoever shows it is let in.
    key: Option<Box<Thumbprint>>,
}

impl Shown {
    /// Who shows it, as records say it.
    fn by(&self, tenant: TenantId, principal: Principal, user: Uuid, username: Arc<str>, role: Role) -> Arc<Actor> {
        let through = matches!(self.kind, SessionType::OAuth | SessionType::Service);
        Arc::new(Actor {
            tenant,
            principal,
            user,
            username,
            role: role.as_str(),
            session_type: self.kind.word(),
            credential: self.id,
            client: through.then(|| Arc::clone(&self.client)),
        })
    }
}

impl Caller {
    /// Whether both may the same: what is held open for one is as good for the other.
    fn may_the_same(&self, other: &Self) -> bool {
        (self.0.role, &self.0.scopes, &self.0.memberships) == (other.0.role, &other.0.scopes, &other.0.memberships)
    }

    /// Whether both came by the same credential, read at the same time.
    pub fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    /// Who it is, as records say it.
    pub fn actor(&self) -> &Arc<Actor> {
        &self.0.actor
    }

    /// Who it is, whatever the credential; sessions are bound to this.
    pub fn principal(&self) -> &Principal {
        &self.0.actor.principal
    }

    /// In which tenant.
    pub fn tenant(&self) -> &TenantId {
        &self.0.actor.tenant
    }

    /// The account.
    pub fn user_id(&self) -> UserId {
        self.0.user
    }

    /// The account's name, lower case.
    pub fn username(&self) -> &str {
        &self.0.actor.username
    }

    /// The lesser of the account's role and the key's.
    pub fn role(&self) -> Role {
        self.0.role
    }

    /// What the key may be used for.
    pub fn scopes(&self) -> &Scopes {
        &self.0.scopes
    }

    /// The key that was shown, if it was one.
    pub fn key_id(&self) -> Option<KeyId> {
        matches!(self.0.shown.kind, SessionType::ApiKey | SessionType::Login).then_some(KeyId(self.0.shown.id))
    }

    /// The grant that the token shown belongs to, if it was one.
    pub fn grant_id(&self) -> Option<Uuid> {
        matches!(self.0.shown.kind, SessionType::OAuth | SessionType::Service).then_some(self.0.shown.id)
    }

    /// The id of the key or of the token's grant: callers with the same one, in the same role, see the same.
    pub fn credential(&self) -> Uuid {
        self.0.shown.id
    }

    /// By what a repeat of the caller's is known: by its credential, or its account where that shows tokens of its provider, which are
    /// others every hour.
    pub fn repeats_as(&self) -> Uuid {
        let shows_providers = self.0.called_by_provider && self.0.shown.kind == SessionType::Service;
        if shows_providers { self.0.user.0 } else { self.0.shown.id }
    }

    /// What its holder calls the key, or the name of the client that holds the token.
    pub fn credential_name(&self) -> &str {
        &self.0.shown.name
    }

    /// How the caller came by it.
    pub fn session_type(&self) -> SessionType {
        self.0.shown.kind
    }

    /// Whether the credential opens this resource: a token the one that it was asked for (RFC 8707), a key every one.
    pub fn opens(&self, what: Opening<'_>) -> bool {
        self.0.shown.resource.as_deref().is_none_or(|own| what.is(own))
    }

    /// The key that the token is bound to, if it is (RFC 9449): who shows it must prove to have that key.
    pub fn key(&self) -> Option<&Thumbprint> {
        self.0.shown.key.as_deref()
    }

    /// Whether the credential may be used at MCP at all.
    pub fn may_use_mcp(&self) -> bool {
        self.0.shown.resource.is_none() || self.0.scopes.servers == Allow::All
    }

    /// Cancelled when the credential stops being good: revoked, expired, or its holder disabled. For what is held open longer
    /// than a request.
    pub fn ended(&self) -> &CancellationToken {
        self.0.ended.get_or_init(CancellationToken::new)
    }

    /// Whether it has stopped being good.
    pub fn has_ended(&self) -> bool {
        self.0.ended.get().is_some_and(CancellationToken::is_cancelled)
    }

    /// Whether the key may be used to manage, which each call then bounds by role.
    pub fn may_manage(&self) -> bool {
        self.0.scopes.admin
    }

    /// For whoever gives out what no scope narrows: a password, a client's credential, the word of an issuer. Only who holds
    /// everything that the role may hands on as much.
    ///
    /// # Errors
    ///
    /// [`AccessError::Forbidden`] for who came with less.
    pub fn holds_all(&self) -> Result<(), AccessError> {
        if self.0.scopes.covers(&Scopes::all()) {
            return Ok(());
        }
        Err(AccessError::Forbidden(
            "this opens everything that the account may; a key with narrower scopes cannot give it out",
        ))
    }

    /// Whether the caller administers the tenant: by role and by the key's scope.
    pub fn administers_tenant(&self) -> bool {
        self.0.role >= Role::TenantAdmin && self.may_manage()
    }

    /// Whether the caller administers the gateway: by role and by the key's scope.
    pub fn administers_gateway(&self) -> bool {
        self.0.role >= Role::Admin && self.may_manage()
    }

    /// What of the caller access rules may speak of.
    pub fn subject(&self) -> &Subject {
        let Identity { actor, user, role, memberships, shown, .. } = &*self.0;
        let of =
            || Subject::new(&actor.tenant, user.0, self.given_name(), *role, &shown.client, shown.kind, memberships);
        self.0.subject.get_or_init(of)
    }

    /// The account's name where an administrator gave it, so that it means this account and no other.
    fn given_name(&self) -> Option<&str> {
        (!self.0.called_by_provider).then_some(&*self.0.actor.username)
    }

    /// Whether the caller may see and call a server of its own or another tenant: the tenant is the same, the key's scopes
    /// name the server, and the server is visible to the caller (to the tenant's administrators every server is).
    /// Allocates nothing.
    pub fn may_use_server(&self, tenant: &TenantId, slug: &str, visibility: &Visibility) -> bool {
        *tenant == self.0.actor.tenant
            && self.0.scopes.allows_server(slug)
            && (self.0.role >= Role::TenantAdmin || visibility.includes(self.0.user.0, self.given_name(), self.0.role))
    }

    /// The same of a server that another tenant offers to the caller's: nobody administers it here, and names of accounts there mean
    /// nobody here.
    pub fn may_use_offered(&self, slug: &str, visibility: &Visibility) -> bool {
        self.0.scopes.allows_server(slug) && visibility.includes(self.0.user.0, None, self.0.role)
    }

    /// Whether the key's scopes name the tool; the server must have been allowed by [`Caller::may_use_server`].
    pub fn may_call_tool(&self, slug: &str, tool: &str) -> bool {
        self.0.scopes.allows_tool(slug, tool)
    }

    /// Whether the key's scopes name every tool that the server has or may get. Errs towards no.
    pub fn may_call_all_tools(&self, slug: &str) -> bool {
        // Only a pattern that takes any name takes a `*`, which none can hold as itself.
        self.may_call_tool(slug, "*")
    }
}

/// Somebody who administers the tenant, by role and by the key's scope: proof, as a [`Caller`] is of having been let in.
#[derive(Debug, Clone)]
pub struct Admin(Caller);

impl Admin {
    /// The caller as an administrator, if it is one.
    pub fn prove(caller: &Caller) -> Result<Self, AccessError> {
        if caller.administers_tenant() {
            return Ok(Self(caller.clone()));
        }
        let why = "only an administrator, with a key of the scope `admin`, may do this";
        Err(if caller.role() >= Role::TenantAdmin { AccessError::Scope(why) } else { AccessError::Forbidden(why) })
    }

    /// Fails for a role above the own, which nobody gives.
    pub(crate) fn may_give(&self, role: Role) -> Result<(), AccessError> {
        if role > self.role() {
            return Err(AccessError::Forbidden("nobody gives a role above the own"));
        }
        Ok(())
    }
}

impl std::ops::Deref for Admin {
    type Target = Caller;

    fn deref(&self) -> &Caller {
        &self.0
    }
}
