//! What trust in an issuer is made of: as it is asked for, as it is stored, as it may be read, and what can be wrong with it.

use std::collections::BTreeMap;

use jsonwebtoken::Algorithm;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use time::OffsetDateTime;

use crate::access::Role;
use crate::config::is_guarded;
use crate::field::FieldError;
use crate::grants::assertion::{ALGORITHMS, Claims};
use crate::grants::keys::KeySource;
use crate::grants::registered::{field, read_scopes};
use crate::grants::scope::{Scope, ScopeSet};
use crate::id::Slug;
use crate::store::trusted_issuers::TrustRow;
use crate::store::{Json, StoreError, at};

/// Longest issuer and longest audience, bytes.
const LONGEST_NAME: usize = 500;
/// Longest subject, bytes (OpenID Connect Core 1.0 section 2), and longest value that gives a role.
const LONGEST_SUBJECT: usize = 255;
/// Most values that give one role.
const MOST_VALUES: usize = 50;

/// What an issuer may vouch for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Profile {
    /// People, to one client at a time (draft-ietf-oauth-identity-assertion-authz-grant).
    IdJag,
    /// Programs that run on its platform.
    Workload,
}

/// Which claim names the person, for good. No other is offered: what people can change themselves names nobody.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SubjectClaim {
    /// As everywhere (RFC 7519 section 4.1.2).
    #[default]
    Sub,
    /// As in Entra, where `sub` is another for each application.
    Oid,
}

/// Trust that is asked for.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
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
#[derive(Debug, Clone, PartialEq, Serialize)]
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
    #[serde(with = "time::serde::rfc3339")]
    pub created_at: OffsetDateTime,
}

/// What is stored and shown alike.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Parts {
    pub(super) profiles: Vec<Profile>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) audience: Option<String>,
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

/// An issuer as one may be named: an https URL, as it writes itself.
pub(in crate::grants) fn check_issuer(text: &str) -> Result<(), &'static str> {
    let url = url::Url::parse(text).map_err(|_| "is no URL; give the issuer exactly as it writes itself")?;
    if text.len() > LONGEST_NAME || text.chars().any(|c| c.is_whitespace() || c.is_control()) {
        return Err("has at most 500 bytes and no spaces");
    }
    if !is_guarded(&url) {
        return Err("must be an https URL (http only on a loopback address)");
    }
    if !url.username().is_empty() || url.password().is_some() || url.query().is_some() || url.fragment().is_some() {
        return Err("must have no user name, query or fragment");
    }
    Ok(())
}

/// A name that an issuer gives to somebody.
pub(in crate::grants) fn check_subject(text: &str) -> Result<(), &'static str> {
    if text.is_empty() || text.len() > LONGEST_SUBJECT || text.chars().any(char::is_control) {
        return Err("has 1 to 255 bytes and no control characters");
    }
    Ok(())
}

/// Reads what is asked for, with everything that is wrong with it.
pub(super) fn read(order: TrustOrder) -> Result<(String, String, Spec), Vec<FieldError>> {
    let mut found = Vec::new();
    let mut wrong = |name: &str, message: &str| found.push(field(name, message));
    if let Err(error) = Slug::parse(&order.name) {
        wrong("name", &error.to_string());
    }
    if let Err(message) = check_issuer(&order.issuer) {
        wrong("issuer", message);
    }
    let mut profiles: Vec<Profile> = Vec::new();
    order.profiles.into_iter().for_each(|profile| {
        if !profiles.contains(&profile) {
            profiles.push(profile);
        }
    });
    let (people, programs) = (profiles.contains(&Profile::IdJag), profiles.contains(&Profile::Workload));
    if profiles.is_empty() {
        wrong("profiles", "name id_jag, workload or both");
    }
    if let Some(audience) = &order.audience {
        if audience.is_empty() || audience.len() > LONGEST_NAME || audience.chars().any(char::is_control) {
            wrong("audience", "has 1 to 500 bytes and no control characters");
        } else if !programs {
            wrong("audience", "is for the profile workload: assertions about people are for this gateway's issuer");
        }
    }
    let mut algorithms = ALGORITHMS.to_vec();
    if let Some(names) = order.algorithms {
        algorithms.clear();
        for (index, name) in names.iter().enumerate() {
            match ALGORITHMS.into_iter().find(|known| format!("{known:?}") == *name) {
                Some(known) => algorithms.push(known),
                None => {
                    let known = ALGORITHMS.map(|known| format!("{known:?}")).join(", ");
                    wrong(&format!("algorithms[{index}]"), &format!("there are {known}"));
                }
            }
        }
        if names.is_empty() {
            wrong("algorithms", "name at least one, or leave it out");
        }
    }
    if (order.jwks.is_some() || order.jwks_uri.is_some())
        && let Err((name, message)) = KeySource::read(order.jwks.as_ref(), order.jwks_uri.as_deref(), true)
    {
        wrong(name, &message);
    }
    check_roles(&order.role, order.roles_claim.as_deref(), &order.roles, people, &mut wrong);
    let scopes = order.scopes.map_or(ScopeSet::DEFAULT, |words| read_scopes(&words, &mut found));
    if scopes.has(Scope::OfflineAccess) {
        found.push(field("scopes", "who shows an assertion shows another one later, and gets no refresh token"));
    } else if scopes.is_empty() && found.is_empty() {
        found.push(field("scopes", "name mcp, admin or both"));
    }
    if !found.is_empty() {
        return Err(found);
    }
    let parts = Parts {
        profiles,
        audience: order.audience,
        algorithms,
        jwks: order.jwks,
        jwks_uri: order.jwks_uri,
        subject_claim: order.subject_claim,
        role: order.role,
        roles_claim: order.roles_claim,
        roles: order.roles,
    };
    Ok((order.name, order.issuer, Spec { parts, scopes }))
}

fn check_roles(
    role: &Option<Role>,
    claim: Option<&str>,
    roles: &BTreeMap<Role, Vec<String>>,
    people: bool,
    wrong: &mut impl FnMut(&str, &str),
) {
    if people && role.is_none() && roles.is_empty() {
        wrong("role", "nobody would be let in: give a role for everybody, or `roles_claim` and `roles`");
    }
    if !people && (role.is_some() || claim.is_some() || !roles.is_empty()) {
        wrong("role", "is for the profile id_jag: a program has the role of the service that it is");
    }
    if claim.is_some() == roles.is_empty() {
        wrong("roles_claim", "goes together with `roles`");
    } else if claim.is_some_and(|claim| check_subject(claim).is_err()) {
        wrong("roles_claim", "has 1 to 255 bytes and no control characters");
    }
    for (role, values) in roles {
        if values.is_empty() || values.len() > MOST_VALUES || values.iter().any(|value| check_subject(value).is_err()) {
            wrong(&format!("roles.{}", role.as_str()), "give 1 to 50 values of 1 to 255 bytes");
        }
    }
}

pub(super) fn view(row: TrustRow) -> Result<TrustView, StoreError> {
    let Spec { parts, scopes } = Spec::of(&row)?;
    Ok(TrustView {
        name: row.name,
        issuer: row.issuer,
        parts,
        scopes: scopes.iter().map(Scope::as_str).collect(),
        created_at: at(row.created_at),
    })
}
