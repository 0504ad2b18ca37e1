//! What trust in an issuer is made of: as it is asked for, as it is stored, as it may be read.

use std::collections::BTreeMap;

use jsonwebtoken::Algorithm;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use time::OffsetDateTime;

use crate::access::Role;
use crate::grants::assertion::Claims;
use crate::grants::keys::KeySource;
use crate::grants::scope::{Scope, ScopeSet};
use crate::store::trusted_issuers::TrustRow;
use crate::store::{Json, StoreError, at};

/// What an issuer may vouch for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Profile {
    /// People, to one client at a time (draft-ietf-oauth-identity-assertion-authz-grant).
    IdJag,
    /// Programs that run on its platform.
    Workload,
}

/// Which claim names the person, for good. No other is offered: what people can change themselves names nobody.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum SubjectClaim {
    /// As everywhere (RFC 7519 section 4.1.2).
    #[default]
    Sub,
    /// As in Entra, where `sub` is another for each application.
    Oid,
}

/// Trust that is asked for.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "TrustedIssuerOrder", example = serde_json::json!({ "name": "corp", "issuer": "https://login.example", "profiles": ["id_jag"], "role": "user" }))]
pub struct TrustOrder {
    /// A short name for people.
    pub name: String,
    /// The issuer, exactly as it writes itself (`iss`).
    pub issuer: String,
    /// What it may vouch for.
    pub profiles: Vec<Profile>,
    /// Whom assertions about programs are for (`aud`). Absent: this gateway's issuer, which those about people always are for.
    pub audience: Option<String>,
    /// How they may be signed. Absent: by everything asymmetric that is known here.
    pub algorithms: Option<Vec<String>>,
    /// Its public keys. Absent, and no `jwks_uri`: those that it publishes.
    pub jwks: Option<Value>,
    /// Where its keys are, if it does not say so itself.
    pub jwks_uri: Option<String>,
    /// Which claim names a person.
    #[serde(default)]
    pub subject_claim: SubjectClaim,
    /// The role of everybody for whom it vouches.
    pub role: Option<Role>,
    /// The claim whose values give roles.
    pub roles_claim: Option<String>,
    /// Which values of that claim give which role.
    #[serde(default)]
    pub roles: BTreeMap<Role, Vec<String>>,
    /// The most that a client gets by its word. Absent: `mcp`.
    pub scopes: Option<Vec<String>>,
}

/// Trust as it may be read.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
#[schemars(rename = "TrustedIssuer")]
pub struct TrustView {
    /// Its name for people.
    pub name: String,
    /// The issuer.
    pub issuer: String,
    #[serde(flatten)]
    parts: Parts,
    /// The most that a client gets by its word.
    pub scopes: Vec<&'static str>,
    /// Since when.
    #[serde(with = "crate::clock::Moment")]
    pub created_at: OffsetDateTime,
}

/// What is stored and shown alike.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub(super) struct Parts {
    pub(super) profiles: Vec<Profile>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) audience: Option<String>,
    #[schemars(with = "Vec<String>")]
    pub(super) algorithms: Vec<Algorithm>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) jwks: Option<Value>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) jwks_uri: Option<String>,
    pub(super) subject_claim: SubjectClaim,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) role: Option<Role>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) roles_claim: Option<String>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(super) roles: BTreeMap<Role, Vec<String>>,
}

/// What is stored of it as JSON.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Spec {
    #[serde(flatten)]
    pub(super) parts: Parts,
    pub(super) scopes: ScopeSet,
    /// The role of who said so: whoever decides whom to believe could speak in the issuer's name.
    #[serde(default = "least")]
    pub(super) trusted_by: Role,
}

/// The least role that says whom to trust.
fn least() -> Role {
    Role::TenantAdmin
}

impl Spec {
    pub(super) fn of(row: &TrustRow) -> Result<Self, StoreError> {
        serde_json::from_value(row.spec.0.clone())
            .map_err(|error| StoreError::Corrupt(format!("trusted issuer `{}`: {error}", row.name)))
    }

    pub(super) fn json(&self) -> Result<Json<Value>, StoreError> {
        serde_json::to_value(self).map(Json).map_err(|error| StoreError::Corrupt(error.to_string()))
    }

    /// Where the issuer's keys are.
    pub(super) fn keys(&self, row: &TrustRow) -> Result<KeySource, StoreError> {
        let Parts { jwks, jwks_uri, .. } = &self.parts;
        if !self.parts.has_own_keys() {
            return Ok(KeySource::Of(row.issuer.clone()));
        }
        KeySource::read(jwks.as_ref(), jwks_uri.as_deref(), true)
            .map_err(|(field, error)| StoreError::Corrupt(format!("trusted issuer `{}`: {field} {error}", row.name)))
    }
}

impl Parts {
    /// Whether somebody said which keys the issuer has; else it says so itself.
    pub(super) fn has_own_keys(&self) -> bool {
        self.jwks.is_some() || self.jwks_uri.is_some()
    }

    /// The greatest role that it can give.
    pub(super) fn greatest_role(&self) -> Option<Role> {
        self.roles.keys().copied().max().max(self.role)
    }

    /// The role of somebody about whom this is said; none is given to who is not let in.
    pub(super) fn role_of(&self, claims: &Claims) -> Option<Role> {
        let said = self.roles_claim.as_deref().map(|name| claims.texts(name)).unwrap_or_default();
        let named = self.roles.iter().filter(|(_, values)| values.iter().any(|value| said.contains(&value.as_str())));
        named.map(|(role, _)| *role).max().max(self.role)
    }
}

pub(super) fn view(row: TrustRow) -> Result<TrustView, StoreError> {
    let Spec { parts, scopes, .. } = Spec::of(&row)?;
    Ok(TrustView {
        name: row.name,
        issuer: row.issuer,
        parts,
        scopes: scopes.iter().map(Scope::as_str).collect(),
        created_at: at(row.created_at),
    })
}
