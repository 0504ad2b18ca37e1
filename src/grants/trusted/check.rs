//! What can be wrong with trust in an issuer: everything at once, each mistake with its field.

use std::collections::BTreeMap;

use super::model::{Parts, Profile, Spec, TrustOrder};
use crate::access::Role;
use crate::config::is_guarded;
use crate::field::FieldError;
use crate::grants::assertion::ALGORITHMS;
use crate::grants::keys::KeySource;
use crate::grants::registered::read_scopes;
use crate::grants::scope::{Scope, ScopeSet};
use crate::id::Slug;

/// Longest issuer and longest audience, bytes.
const LONGEST_NAME: usize = 500;
/// Longest subject, bytes (OpenID Connect Core 1.0 section 2), and longest value that gives a role.
const LONGEST_SUBJECT: usize = 255;
/// Most values that give one role.
const MOST_VALUES: usize = 50;

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
    let mut wrong = |name: &str, message: &str| found.push(FieldError::new(name, message));
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
            if let Some(known) = ALGORITHMS.into_iter().find(|known| format!("{known:?}") == *name) {
                algorithms.push(known);
            } else {
                let known = ALGORITHMS.map(|known| format!("{known:?}")).join(", ");
                wrong(&format!("algorithms[{index}]"), &format!("there are {known}"));
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
    check_roles(order.role, order.roles_claim.as_deref(), &order.roles, people, &mut wrong);
    let scopes = order.scopes.map_or(ScopeSet::DEFAULT, |words| read_scopes(&words, &mut found));
    if scopes.has(Scope::OfflineAccess) {
        found.push(FieldError::new(
            "scopes",
            "who shows an assertion shows another one later, and gets no refresh token",
        ));
    } else if scopes.is_empty() && found.is_empty() {
        found.push(FieldError::new("scopes", "name mcp, admin or both"));
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
    Ok((order.name, order.issuer, Spec { parts, scopes, trusted_by: Role::TenantAdmin }))
}

fn check_roles(
    role: Option<Role>,
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
