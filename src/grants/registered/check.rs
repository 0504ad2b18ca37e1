//! What can be wrong with a client that an administrator registers: everything at once, each mistake with its field.

use super::model::{ClientKind, Spec};
use crate::access::Role;
use crate::access::users::parse_username;
use crate::crypto::KEY_PREFIX;
use crate::field::FieldError;
use crate::grants::client::GrantType;
use crate::grants::keys::KeySource;
use crate::grants::metadata::{MOST_REDIRECTS, check_name};
use crate::grants::redirect::{RedirectUri, Schemes};
use crate::grants::scope::{Scope, ScopeSet};
use crate::grants::trusted::{check_issuer, check_subject};

/// Most programs that a service is.
const MOST_WORKLOADS: usize = 10;

/// As user names are, since a service's account is called so; never like an id of another form.
pub(super) fn parse_client_id(text: &str) -> Result<String, &'static str> {
    match parse_username(text) {
        Ok(id) if !id.starts_with(KEY_PREFIX) => Ok(id),
        _ => Err("use 1 to 64 letters, digits or . _ - @ +, beginning with a letter or digit, and not with `mcpg_`"),
    }
}

pub(in crate::grants) fn read_scopes(words: &[String], found: &mut Vec<FieldError>) -> ScopeSet {
    let read = words.iter().enumerate().filter_map(|(index, word)| {
        let scope = Scope::named(word);
        if scope.is_none() {
            found.push(FieldError::new(format!("scopes[{index}]"), "there are mcp, admin and offline_access"));
        }
        scope
    });
    read.collect()
}

pub(super) fn read_grants(names: &[String], found: &mut Vec<FieldError>) -> Vec<GrantType> {
    let mut grants = Vec::new();
    for (index, name) in names.iter().enumerate() {
        match GrantType::named(name) {
            Some(grant) if !grants.contains(&grant) => grants.push(grant),
            Some(_) => {}
            None => {
                let known = GrantType::ALL.map(GrantType::as_str).join(", ");
                found.push(FieldError::new(format!("grant_types[{index}]"), format!("there are {known}")));
            }
        }
    }
    grants
}

/// What is wrong with what a client is to exchange, and with the programs that it is.
fn check_grants(spec: &Spec, found: &mut Vec<FieldError>) {
    let grants = spec.grants();
    if let Some(bad) = grants.iter().find(|grant| !spec.possible().contains(grant)) {
        let possible: Vec<_> = spec.possible().iter().map(|grant| grant.as_str()).collect();
        let text = format!("`{}` is not for such a client; it may have {}", bad.as_str(), possible.join(", "));
        found.push(FieldError::new("grant_types", text));
    } else if grants.is_empty() && !found.iter().any(|one| one.field.starts_with("grant_types")) {
        found.push(FieldError::new("grant_types", "name at least one"));
    } else if spec.names(GrantType::RefreshToken) && !spec.scopes.has(Scope::OfflineAccess) {
        let text =
            "refresh_token takes the scope offline_access: name that among the scopes, or leave refresh_token out";
        found.push(FieldError::new("grant_types", text));
    } else if grants.contains(&GrantType::RefreshToken) && !grants.contains(&GrantType::AuthorizationCode) {
        found.push(FieldError::new("grant_types", "refresh tokens come with codes: name authorization_code too"));
    }
    if spec.workloads.is_empty() {
        return;
    }
    if spec.kind != ClientKind::Service {
        found.push(FieldError::new("workloads", "only a service is a program that acts for itself"));
    } else if spec.jwks.is_some() || spec.jwks_uri.is_some() {
        found.push(FieldError::new("workloads", "give these or keys of its own, not both"));
    } else if spec.workloads.len() > MOST_WORKLOADS {
        found.push(FieldError::new("workloads", format!("at most {MOST_WORKLOADS}")));
    }
    for (index, workload) in spec.workloads.iter().enumerate() {
        if let Err(message) = check_issuer(&workload.issuer) {
            found.push(FieldError::new(format!("workloads[{index}].issuer"), message));
        }
        if let Err(message) = check_subject(&workload.subject) {
            found.push(FieldError::new(format!("workloads[{index}].subject"), message));
        }
    }
}

/// Everything that is wrong with a client.
pub(super) fn check(name: &str, spec: &Spec, role: Option<Role>, schemes: &Schemes, found: &mut Vec<FieldError>) {
    if let Err(message) = check_name(name) {
        found.push(FieldError::new("name", message));
    }
    let is_service = spec.kind == ClientKind::Service;
    match (is_service, spec.redirect_uris.len()) {
        (true, 1..) => found.push(FieldError::new("redirect_uris", "a service acts for nobody who could be sent back")),
        (false, 0) if spec.grants().contains(&GrantType::AuthorizationCode) => {
            found.push(FieldError::new("redirect_uris", "give at least one"));
        }
        (_, count) if count > MOST_REDIRECTS => {
            found.push(FieldError::new("redirect_uris", format!("at most {MOST_REDIRECTS}")));
        }
        _ => {}
    }
    for (index, uri) in spec.redirect_uris.iter().enumerate() {
        if let Err(error) = RedirectUri::parse(uri, schemes) {
            found.push(FieldError::new(format!("redirect_uris[{index}]"), error.to_string()));
        }
    }
    if spec.scopes.without(Scope::OfflineAccess).is_empty() && !found.iter().any(|one| one.field.starts_with("scopes"))
    {
        found.push(FieldError::new("scopes", "name mcp, admin or both"));
    }
    if is_service && spec.scopes.has(Scope::OfflineAccess) {
        found.push(FieldError::new("scopes", "a service shows its credential again and gets no refresh token"));
    }
    check_grants(spec, found);
    if role.is_some() && !is_service {
        found.push(FieldError::new("role", "only a service has a role; others have that of whom they act for"));
    }
    if spec.jwks.is_some() || spec.jwks_uri.is_some() {
        if spec.kind == ClientKind::Public {
            found.push(FieldError::new("jwks", "a public client proves nothing; give the keys to a confidential one"));
        } else if let Err((name, message)) = KeySource::read(spec.jwks.as_ref(), spec.jwks_uri.as_deref(), true) {
            found.push(FieldError::new(name, message));
        }
    }
}
