//! ENGINE: the authorization server's core, without HTTP. It keeps authorizations under way, makes grants, gives codes and tokens
//! for them, and ends them; who the person is, an identity provider or a password has said before. Whatever may happen once
//! happens once in the database, not in memory, so that several gateways on one database are one authorization server.
//!
//! Texts that we give out are stored as SHA-256 only. Time comes as an argument everywhere.

mod assertion;
mod assertions;
pub mod attempts;
pub mod authenticate;
mod authorizations;
mod bearer;
pub mod client;
mod codes;
mod consents;
pub mod document;
pub mod dynamic;
mod ending;
mod error;
mod exchange;
mod families;
mod fetch;
mod kept;
mod keys;
mod logins;
mod metadata;
mod people;
mod possession;
mod preludes;
pub mod rate;
pub mod redirect;
mod refreshes;
pub mod registered;
mod request;
pub mod resource;
mod schedule;
pub mod scope;
mod sessions;
mod sweep;
mod traces;
pub mod trusted;

use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use time::OffsetDateTime;
use uuid::Uuid;

pub use authorizations::{AUTHORIZATION_LASTS, Begun, UnderWay};
pub use bearer::{Introduced, Vouched, no_good as bad_assertion};
pub use codes::{CODE_LASTS, CodeTerms, Redemption, challenge_of};
pub use consents::Consent;
pub use ending::{End, EndReason, Ended, Ids, MOST_AT_ONCE, MOST_GRANTS, MOST_IN_BROWSERS};
pub use error::{DETAILS, OauthCode, Refusal};
pub use exchange::{Exchangeable, bad_subject};
pub use families::{Issue, REFRESH_GRACE, Refresh, Tokens};
pub use logins::{ALONE, GivenTokens, Login, LoginState, NewLogin, NotVouched, Unanswered};
pub use people::{Account, Home, LAPSED, Person};
pub use possession::Possession;
pub use preludes::Preludes;
pub use refreshes::{Credential, CredentialState, Figures};
pub use request::{Arrived, Leg, Prompt, Request};
pub use schedule::{Kind, LONGEST_PAUSE, Life, RefreshResult, Schedule, luck};
pub use scope::{BadScope, Scope, ScopeSet};
pub use sessions::{BROWSER_SESSION_LASTS, BrowserSession};
pub use sweep::Swept;
pub use traces::{Awaited, Outcome, Step, Trace, TraceFilter, TraceNote, awaited, redact, shown_client};

use refreshes::Tally;
use traces::Unwritten;

use crate::config::{Refresh as RefreshSettings, SignIn};
use crate::crypto::new_api_key;
use crate::id::TenantId;
use crate::secret::Secret;
use crate::store::grants::GrantRow;
pub use crate::store::grants::Made;
use crate::store::{Store, StoreError, at, micros};
use crate::telemetry::Metrics;
use crate::vault::Vault;

/// Most addresses whose attempts are counted, for each limit; some 40 bytes each.
const SOURCES: usize = 100_000;

/// How long what we give is good.
#[derive(Debug, Clone, Copy)]
pub struct Terms {
    /// An access token.
    pub access_token: Duration,
    /// A grant, whatever its use.
    pub grant: Duration,
    /// A grant that nobody uses.
    pub grant_idle: Duration,
    /// The provider's word for a person, and its tokens, before it is asked again.
    pub schedule: Schedule,
}

impl Terms {
    /// As the settings say.
    pub fn new(settings: &SignIn, refresh: &RefreshSettings) -> Self {
        Self {
            access_token: settings.access_token_lifetime,
            grant: settings.grant_lifetime,
            grant_idle: settings.grant_idle_timeout,
            schedule: Schedule::new(settings, refresh),
        }
    }
}

/// The authorization server's core. Cheap to clone; clones are one.
#[derive(Debug, Clone)]
pub struct Grants(Arc<Parts>);

#[derive(Debug)]
struct Parts {
    store: Store,
    vault: Vault,
    terms: Terms,
    preludes: Preludes,
    unwritten: Unwritten,
    refreshes: Tally,
}

impl Grants {
    /// Over `store`, sealing with `vault`. What cannot be noted of sign-ins is counted in `metrics`.
    pub fn new(store: Store, vault: Vault, terms: Terms, metrics: &Metrics) -> Self {
        let unwritten = Unwritten::new(metrics);
        Self(Arc::new(Parts {
            store,
            vault,
            terms,
            preludes: Preludes::default(),
            unwritten,
            refreshes: Tally::default(),
        }))
    }

    /// How long what it gives is good.
    pub fn terms(&self) -> Terms {
        self.0.terms
    }
}

/// What kind of session a grant is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum GrantKind {
    /// A person through a client.
    Client,
    /// A client on its own, by its credential (RFC 6749 section 4.4) or by the word of its platform (RFC 7523).
    Service,
    /// A person at our own pages.
    Browser,
}

impl GrantKind {
    /// The stored word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Client => "client",
            Self::Service => "service",
            Self::Browser => "browser",
        }
    }
}

/// What is to be granted.
#[derive(Debug, Clone)]
pub struct Order {
    /// Whose it is.
    pub tenant: TenantId,
    /// For which account.
    pub user: Uuid,
    /// To which client.
    pub client_id: String,
    /// What the client calls itself; shown as text only.
    pub client_name: Option<String>,
    /// The one resource that its tokens are good for (RFC 8707), canonical.
    pub resource: String,
    /// The most that its tokens may be used for.
    pub scopes: ScopeSet,
    /// `local`, or the identity provider's name.
    pub login_method: String,
    /// What the provider gave us for the person, if it is kept.
    pub login: Option<Uuid>,
}

impl Order {
    fn row(&self, kind: GrantKind, now: OffsetDateTime, expires_at: OffsetDateTime) -> GrantRow {
        GrantRow {
            id: Uuid::now_v7(),
            tenant_id: self.tenant.as_str().to_owned(),
            user_id: self.user,
            kind: kind.as_str().to_owned(),
            client_id: Some(self.client_id.clone()),
            client_name: self.client_name.clone(),
            resource: Some(self.resource.clone()),
            scopes: self.scopes.to_string(),
            login_method: self.login_method.clone(),
            login_id: self.login,
            created_at: micros(now),
            last_used_at: micros(now),
            expires_at: micros(expires_at),
            ended_at: None,
            end_reason: None,
            end_detail: None,
            parent_id: None,
            jkt: None,
        }
    }
}

/// A grant that waits for its code to be shown.
#[derive(Debug)]
pub struct Granted {
    /// The grant.
    pub id: Uuid,
    /// For the client's redirect, once.
    pub code: Secret,
    /// Grants of the account that gave way, because it has [`MOST_GRANTS`].
    pub ended: Vec<Ended>,
}

/// A live grant as its account may see it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct GrantView {
    /// Its id.
    pub id: Uuid,
    /// What kind it is.
    pub kind: String,
    /// To which client.
    pub client_id: Option<String>,
    /// What the client calls itself.
    pub client_name: Option<String>,
    /// What its tokens are good for.
    pub resource: Option<String>,
    /// Separated by spaces.
    pub scopes: String,
    /// `local`, or the identity provider's name.
    pub login_method: String,
    /// When it began.
    #[serde(with = "crate::clock::Moment")]
    pub created_at: OffsetDateTime,
    /// When it was last used, a moment late.
    #[serde(with = "crate::clock::Moment")]
    pub last_used_at: OffsetDateTime,
    /// When it ends at the latest.
    #[serde(with = "crate::clock::Moment")]
    pub expires_at: OffsetDateTime,
}

impl GrantView {
    fn of(row: GrantRow) -> Self {
        Self {
            id: row.id,
            kind: row.kind,
            client_id: row.client_id,
            client_name: row.client_name,
            resource: row.resource,
            scopes: row.scopes,
            login_method: row.login_method,
            created_at: at(row.created_at),
            last_used_at: at(row.last_used_at),
            expires_at: at(row.expires_at),
        }
    }
}

/// What is kept of a value that could not be opened or read: its row, never its text.
fn damaged(what: &str, error: &impl std::fmt::Display) -> Refusal {
    Refusal::from(StoreError::Corrupt(format!("{what}: {error}")))
}

/// What a secret of a client begins with.
pub const CLIENT_SECRET_PREFIX: &str = "mcpg_cs_";

/// A new secret of a client: the prefix and 43 characters that carry 256 random bits.
pub(crate) fn new_client_secret() -> Secret {
    let key = new_api_key();
    Secret::new(format!("{CLIENT_SECRET_PREFIX}{}", &key.expose()[crate::crypto::KEY_PREFIX.len()..][..43]))
}
