//! ENGINE: identity providers, Microsoft Entra ID and any other that speaks OpenID Connect. It sends people there, verifies
//! what comes back and says who it is and with which role; it knows nothing of the tokens that this gateway gives, and keeps
//! nothing of anybody. Whatever is not plainly right is an [`IdpError`], whose class says what to do.

pub mod aadsts;
mod authority;
pub mod check;
mod classify;
mod client;
mod code;
mod credential;
mod discovery;
mod endpoint;
mod entra;
mod error;
mod graph;
mod http;
mod jwt;
mod kept;
mod keys;
mod latency;
mod oidc;
mod pause;
mod protected;
mod provider;
mod roles;
#[cfg(test)]
pub(crate) mod tests;

use std::sync::Arc;
use std::time::{Duration, Instant};

use ahash::AHashMap;
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use url::Url;
use uuid::Uuid;

pub use authority::{Authorities, Authority, NamedBy};
pub use client::{Client, Endpoint, Place as ClientPlace};
pub use code::{
    CodeClient, CodeTokens, Codes, Registration, Sent, UNSAID, configured, refused_at_callback, with_offline,
};
pub use credential::Sign;
pub use error::{Class, IdpError};
pub use protected::{Protected, is_scope};
pub use provider::Provider;

use crate::access::{Role, RoleMapping};
use crate::config::{Azure, Oidc};
use crate::net::Outbound;
use crate::secret::Secret;
use credential::Credential;
use http::Http;
use provider::Rules;
use roles::{RoleMap, is_group};

/// Name of the provider that is Microsoft Entra ID.
pub const ENTRA: &str = "entra";
/// Name of the provider that speaks OpenID Connect.
pub const OIDC: &str = "oidc";

/// The providers that are set up. Cheap to clone.
#[derive(Clone)]
pub struct Providers(Arc<[Provider]>);

/// A provider, for a page on which somebody chooses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProviderInfo {
    /// Its name in paths and records: [`ENTRA`] or [`OIDC`].
    pub name: &'static str,
    /// What people call it.
    pub title: String,
}

impl Providers {
    /// The providers that the settings, checked before, name. None is asked anything yet.
    pub fn new(azure: &Azure, oidc: &Oidc, outbound: &Outbound) -> Result<Self, IdpError> {
        Self::over(azure, oidc, &Http::new(outbound))
    }

    fn over(azure: &Azure, oidc: &Oidc, http: &Http) -> Result<Self, IdpError> {
        let mut providers = Vec::new();
        if let (Some(tenant), Some(client)) = (&azure.tenant_id, azure.client_id) {
            let rules = Rules::Entra(entra::Entra::new(azure, tenant.clone(), client));
            let credential = match (&azure.client_certificate, &azure.federated_token_file) {
                (Some(file), _) => Credential::Certificate(file.clone()),
                (None, Some(file)) => Credential::Federated(file.clone()),
                (None, None) => {
                    Credential::secrets(azure.client_secret.iter().chain(&azure.client_secret_next).cloned())
                }
            };
            let title = "Microsoft Entra ID".to_owned();
            providers.push(Provider::new(ENTRA, title, http.apart(), client.to_string(), credential, rules)?);
        }
        if let (Some(issuer), Some(client)) = (&oidc.issuer, &oidc.client_id) {
            let rules = Rules::Oidc(oidc::Oidc::new(oidc, issuer.clone(), client.clone()));
            let credential = match &oidc.client_secret {
                Some(secret) => Credential::secrets([secret.clone()]),
                None => Credential::Nothing,
            };
            providers.push(Provider::new(OIDC, oidc.name.clone(), http.apart(), client.clone(), credential, rules)?);
        }
        Ok(Self(providers.into()))
    }

    /// Each of them, in the order in which they are offered.
    pub fn names(&self) -> Vec<ProviderInfo> {
        let each = self.0.iter().map(Provider::inner);
        each.map(|provider| ProviderInfo { name: provider.name, title: provider.title.clone() }).collect()
    }

    /// What half of the questions to Entra's token endpoint took at most, over the last five minutes; none where none was asked.
    pub fn token_latency(&self) -> Option<Duration> {
        self.get(ENTRA)?.inner().http.token_latency(Instant::now())
    }

    /// The provider of that name.
    pub fn get(&self, name: &str) -> Option<&Provider> {
        self.0.iter().find(|provider| provider.inner().name == name)
    }

    /// Takes over which tenants have rules of their own.
    pub fn follow(&self, rules: OwnRules) {
        if let Some(provider) = self.get(ENTRA) {
            provider.follow(rules);
        }
    }

    /// Whether people of this issuer sign in here: then a provider says which role they have.
    pub fn sign_in(&self, issuer: &str) -> bool {
        self.0.iter().any(|provider| provider.inner().is_of(issuer))
    }

    /// Looks at the keys of each again, to be called about once an hour; fails with the first failure, after all were asked.
    pub async fn refresh_keys(&self) -> Result<(), IdpError> {
        let mut outcome = Ok(());
        for provider in &*self.0 {
            let one = provider.refresh_keys().await;
            outcome = outcome.and(one);
        }
        outcome
    }
}

/// What goes along to the provider with a sign-in.
#[derive(Debug, Clone, Default)]
pub struct Hints {
    /// Who is expected to sign in.
    pub login_hint: Option<String>,
    /// How the provider is to behave, `select_account` for instance (OpenID Connect Core 1.0 section 3.1.2.1).
    pub prompt: Option<String>,
    /// A claims challenge from an earlier [`Class::NeedsInteraction`].
    pub claims: Option<String>,
}

/// A browser's way to the provider and back. All but the URL is to be kept sealed and bound to the browser.
#[derive(Debug)]
pub struct Leg {
    /// Where to send the browser.
    pub url: Url,
    /// What the callback must bring.
    pub state: Secret,
    /// What the ID token must say.
    pub nonce: Secret,
    /// What redeems the code (RFC 7636).
    pub verifier: Secret,
}

/// Somebody, by the word of a provider.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Person {
    /// Who vouches: with `subject` the key of a person, for good.
    pub issuer: String,
    /// The person's id there.
    pub subject: String,
    /// Entra's directory.
    pub directory: Option<Uuid>,
    /// What the person is called when signing in: to be shown, never to decide by, since it changes hands.
    pub username: String,
    /// The person's name.
    pub display_name: Option<String>,
    /// The role by the rules of the settings; none is given to who is not let in.
    pub role: Option<Role>,
    /// What the provider said that rules go by.
    pub claimed: Claimed,
    /// Whether the person is a guest of the directory, at home in another.
    pub guest: bool,
    /// Whether it is an application on its own and no person.
    pub app_only: bool,
    /// When the person last proved who it is, if the provider says so (`auth_time`).
    pub authenticated_at: Option<OffsetDateTime>,
}

/// What a provider says of somebody that roles and access rules go by.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Claimed {
    /// App roles, or the values of the roles claim.
    pub names: Vec<String>,
    /// Groups that the provider counts the person among.
    pub groups: Vec<Uuid>,
    /// There are more groups than the provider said, and nobody asked for the rest.
    pub groups_missing: bool,
    /// Whether the settings let everybody in.
    pub everybody: bool,
}

impl Claimed {
    /// The role by the rules of a tenant, which take the place of the settings' but for whether everybody is a user. That, rules
    /// for users decide where there are any.
    pub fn role_by(&self, rules: &[RoleMapping]) -> Option<Role> {
        let values =
            |role| rules.iter().filter(|rule| rule.role == role).map(|rule| rule.value.clone()).collect::<Vec<_>>();
        let of = [Role::Admin, Role::TenantAdmin, Role::ServerOwner, Role::User].map(values);
        let names: Vec<&str> = self.names.iter().map(String::as_str).collect();
        RoleMap::new(of.each_ref().map(Vec::as_slice), true, self.everybody).role(&names, &self.groups)
    }
}

/// For people of which directories groups are asked for that a token leaves out, where tenants have rules of their own.
#[derive(Debug, Default)]
pub struct OwnRules {
    /// Whether a group gives a role, by directory whose tenant has rules.
    pub of: AHashMap<Uuid, bool>,
    /// The same for those of whom no tenant is known; none where the settings say so.
    pub others: Option<bool>,
}

impl OwnRules {
    /// Whether some of the rules goes by groups.
    pub fn go_by_groups(rules: &[RoleMapping]) -> bool {
        rules.iter().any(|rule| is_group(&rule.value))
    }
}

/// Somebody who signed in.
#[derive(Debug)]
pub struct SignedIn {
    /// Who.
    pub person: Person,
    /// What the provider can be asked again with; none where it gave no refresh token. Then nobody asks it again.
    pub tokens: Option<ProviderTokens>,
}

/// What a provider answered to a refresh.
#[derive(Debug)]
pub struct Renewed {
    /// What takes the place of the old tokens.
    pub tokens: ProviderTokens,
    /// What says who it is.
    pub(super) id_token: Option<Secret>,
}

/// What an answer to a refresh says of who it is about.
#[derive(Debug)]
pub enum Who {
    /// Nothing: the provider did not say.
    Unsaid,
    /// Who it is, with the role of now.
    Person(Box<Person>),
    /// Who it is, but not in which groups, by which the role goes: the directory is asked for them, with a token that another refresh gives.
    LacksGroups(Box<Person>),
}

/// The same, and who it is.
#[derive(Debug)]
pub struct Rechecked {
    /// What takes the place of the old tokens, also where it could not be found out who it is.
    pub tokens: ProviderTokens,
    /// Who it is now, with the role of now; none if the provider did not say.
    pub person: Result<Option<Person>, IdpError>,
}

/// An access token and when it ends.
#[derive(Debug, Clone)]
pub struct AccessToken {
    /// It: opaque, whatever it looks like.
    pub token: Secret,
    /// When it ends.
    pub expires_at: OffsetDateTime,
}

/// A provider's tokens for a person. Serialising writes them: the caller seals that.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ProviderTokens {
    /// The access token: opaque, whatever it looks like.
    pub access: Option<Secret>,
    /// The refresh token.
    pub refresh: Secret,
    /// When the access token ends.
    #[serde(with = "time::serde::timestamp")]
    pub expires_at: OffsetDateTime,
    /// What they are good for.
    pub scopes: Vec<String>,
    /// Whose they are: [`Person::subject`].
    pub subject: String,
}
