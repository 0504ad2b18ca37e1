//! The rules of any other provider that speaks OpenID Connect: the issuer is exactly the configured one, and roles are read
//! from the claim that the operator named.

use jsonwebtoken::Algorithm;
use serde_json::Value;

use super::classify::shown;
use super::error::IdpError;
use super::jwt::{Claims, texts};
use super::roles::RoleMap;
use super::{Claimed, Person};
use crate::config::Oidc as Settings;

/// What is taken; never `none`, and never a secret that both ends know.
pub(super) const ALGORITHMS: &[Algorithm] = &[Algorithm::RS256, Algorithm::PS256, Algorithm::ES256, Algorithm::EdDSA];

/// See the module.
#[derive(Debug)]
pub(super) struct Oidc {
    pub(super) issuer: String,
    client: String,
    pub(super) scopes: String,
    roles_claim: Option<String>,
    roles: RoleMap,
}

impl Oidc {
    pub(super) fn new(settings: &Settings, issuer: String, client: String) -> Self {
        let roles =
            [&settings.role_admin, &settings.role_tenant_admin, &settings.role_server_owner, &settings.role_user];
        Self {
            issuer,
            client,
            scopes: settings.scopes.clone(),
            roles_claim: settings.roles_claim.clone(),
            roles: RoleMap::new(roles.map(Vec::as_slice), false, false),
        }
    }

    /// Refuses a discovery document of another issuer (OpenID Connect Discovery 1.0 section 4.3).
    pub(super) fn check_issuer(&self, found: &str) -> Result<(), IdpError> {
        if found == self.issuer {
            return Ok(());
        }
        let text = format!("the discovery document is of `{}`, MREG_OIDC_ISSUER says `{}`", shown(found), self.issuer);
        Err(IdpError::configuration(text))
    }

    /// Who an ID token, verified, is about.
    pub(super) fn of_id_token(&self, claims: &Claims) -> Result<Person, IdpError> {
        claims.is_made_for(&self.client)?;
        let subject = claims.text("sub").ok_or_else(|| IdpError::forged("the ID token names nobody (sub)"))?;
        let username = claims.text("preferred_username").or(claims.text("email")).unwrap_or(subject);
        Ok(Person {
            issuer: self.issuer.clone(),
            subject: subject.to_owned(),
            directory: None,
            username: username.to_owned(),
            display_name: claims.text("name").map(str::to_owned),
            role: self.roles.role(&self.names(claims), &[]),
            claimed: Claimed {
                names: self.names(claims).into_iter().map(str::to_owned).collect(),
                ..Claimed::default()
            },
            guest: false,
            app_only: false,
            authenticated_at: claims.time("auth_time"),
        })
    }

    /// The values of the roles claim. A claim of the whole name goes before a path: some names hold dots.
    fn names<'a>(&self, claims: &'a Claims) -> Vec<&'a str> {
        let Some(path) = &self.roles_claim else { return Vec::new() };
        let whole = claims.value(path);
        let found = whole.or_else(|| {
            let mut steps = path.split('.');
            let first = claims.value(steps.next()?)?;
            steps.try_fold(first, |value: &Value, step| value.get(step))
        });
        found.map(texts).unwrap_or_default()
    }
}
