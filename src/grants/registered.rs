//! Clients that an administrator registers: a public one, one with a secret or keys, or a service that acts for itself as an
//! account of its own. Secrets are shown once and kept as hashes; two may be good at a time, so that one can be exchanged
//! without a pause.

mod check;
mod model;

use time::OffsetDateTime;
use uuid::Uuid;

pub(super) use check::read_scopes;
use check::{check, parse_client_id, read_grants};
pub use model::{ClientEdit, ClientKind, ClientOrder, ClientView, MOST_SECRETS, SecretView};
use model::{Spec, view};

use super::client::{AuthMethod, Client, Known, Proof};
use super::keys::KeySource;
use super::redirect::{RedirectUri, Schemes};
use super::scope::{Scope, ScopeSet};
use crate::access::{AccessError, Admin, Role, UserId, invalid};
use crate::field::FieldError;
use crate::id::TenantId;
use crate::secret::Secret;
use crate::store::oauth_clients::ClientRow;
use crate::store::users::UserRow;
use crate::store::{Store, StoreError, micros};

/// Registers a client. A secret, if it has one, is returned here and never again.
pub async fn create(
    store: &Store,
    admin: &Admin,
    order: ClientOrder,
    schemes: &Schemes,
    now: OffsetDateTime,
) -> Result<(Option<Secret>, ClientView), AccessError> {
    admin.holds_all()?;
    let id = Uuid::now_v7();
    let mut found = Vec::new();
    let client_id = match &order.client_id {
        None => id.to_string(),
        Some(text) => parse_client_id(text).unwrap_or_else(|message| {
            found.push(FieldError::new("client_id", message));
            String::new()
        }),
    };
    let is_service = order.kind == ClientKind::Service;
    let usual = if is_service { ScopeSet::DEFAULT } else { ScopeSet::DEFAULT.with(Scope::OfflineAccess) };
    let mut spec = Spec {
        kind: order.kind,
        redirect_uris: order.redirect_uris,
        scopes: order.scopes.map_or(usual, |scopes| read_scopes(&scopes, &mut found)),
        secrets: Vec::new(),
        jwks: order.jwks,
        jwks_uri: order.jwks_uri,
        grant_types: order.grant_types.map(|names| read_grants(&names, &mut found)),
        workloads: order.workloads,
        dpop_bound_access_tokens: order.dpop_bound_access_tokens,
    };
    let name = order.name.trim().to_owned();
    check(&name, &spec, order.role, schemes, &mut found);
    if !found.is_empty() {
        return Err(AccessError::Invalid(found));
    }
    let role = order.role.unwrap_or(Role::User);
    admin.may_give(role)?;
    let secret = (spec.method() == AuthMethod::ClientSecretBasic).then(|| spec.add_secret(now));
    let account = is_service.then(|| UserRow {
        id: Uuid::now_v7(),
        tenant_id: admin.tenant().as_str().to_owned(),
        username: client_id.clone(),
        password_hash: None,
        issuer: None,
        subject: None,
        display_name: None,
        directory: None,
        guest: false,
        role: role.as_str().to_owned(),
        state: "active".to_owned(),
        created_at: micros(now),
        updated_at: micros(now),
    });
    let row = ClientRow {
        id,
        tenant_id: admin.tenant().as_str().to_owned(),
        client_id,
        name,
        spec: spec.json()?,
        user_id: account.as_ref().map(|account| account.id),
        created_at: micros(now),
        updated_at: micros(now),
        user_role: account.as_ref().map(|account| account.role.clone()),
        user_state: account.as_ref().map(|account| account.state.clone()),
    };
    store.insert_client(admin.tenant(), &row, account.as_ref()).await?;
    Ok((secret, view(row)?))
}

/// Up to `limit` clients of the tenant by id, those after `after`.
pub async fn list(store: &Store, admin: &Admin, after: &str, limit: u16) -> Result<Vec<ClientView>, AccessError> {
    let rows = store.clients(admin.tenant(), after, limit.into()).await?;
    Ok(rows.into_iter().map(view).collect::<Result<_, _>>()?)
}

/// One client.
pub async fn get(store: &Store, admin: &Admin, client_id: &str) -> Result<ClientView, AccessError> {
    Ok(view(row(store, admin, client_id).await?)?)
}

/// Changes a client. Its kind stays.
pub async fn edit(
    store: &Store,
    admin: &Admin,
    client_id: &str,
    edit: ClientEdit,
    schemes: &Schemes,
    now: OffsetDateTime,
) -> Result<ClientView, AccessError> {
    admin.holds_all()?;
    let (mut row, mut spec) = reachable(store, admin, client_id).await?;
    as_read(&row, edit.expected)?;
    let mut found = Vec::new();
    if let Some(name) = edit.name {
        name.trim().clone_into(&mut row.name);
    }
    if let Some(uris) = edit.redirect_uris {
        spec.redirect_uris = uris;
    }
    if let Some(scopes) = edit.scopes {
        spec.scopes = read_scopes(&scopes, &mut found);
    }
    if edit.jwks.is_some() || edit.jwks_uri.is_some() {
        (spec.jwks, spec.jwks_uri) = (edit.jwks, edit.jwks_uri);
        spec.secrets.clear();
        spec.workloads.clear();
    }
    if let Some(workloads) = edit.workloads {
        if !workloads.is_empty() {
            spec.secrets.clear();
            (spec.jwks, spec.jwks_uri) = (None, None);
        }
        spec.workloads = workloads;
    }
    if let Some(bound) = edit.dpop_bound_access_tokens {
        spec.dpop_bound_access_tokens = bound;
    }
    spec.grant_types = match edit.grant_types {
        Some(names) => Some(read_grants(&names, &mut found)),
        // Those that were named, as far as the scopes of now leave them; the answer says which.
        None => spec.grant_types.is_some().then(|| spec.grants()),
    };
    check(&row.name, &spec, edit.role, schemes, &mut found);
    if !found.is_empty() {
        return Err(AccessError::Invalid(found));
    }
    admin.may_give(edit.role.unwrap_or(Role::User))?;
    write(store, admin, row, &spec, edit.role, now).await
}

/// Removes a client: what was granted to it ends, and the account of a service goes with it.
/// `Stale` if it was changed after `expected`.
pub async fn remove(
    store: &Store,
    admin: &Admin,
    client_id: &str,
    expected: Option<i64>,
    now: OffsetDateTime,
) -> Result<(), AccessError> {
    let (row, _) = reachable(store, admin, client_id).await?;
    Ok(store.delete_client(admin.tenant(), row.id, expected, micros(now)).await?)
}

/// Fails unless the row is the one that the caller read; who writes it fails if it is another by then.
fn as_read(row: &ClientRow, expected: Option<i64>) -> Result<(), StoreError> {
    if expected.is_none_or(|expected| expected == row.updated_at) { Ok(()) } else { Err(StoreError::Stale) }
}

/// Makes one more secret, while the one before is still good. It is returned here and never again.
pub async fn add_secret(
    store: &Store,
    admin: &Admin,
    client_id: &str,
    expected: Option<i64>,
    now: OffsetDateTime,
) -> Result<(Secret, ClientView), AccessError> {
    admin.holds_all()?;
    let (row, mut spec) = reachable(store, admin, client_id).await?;
    as_read(&row, expected)?;
    if spec.method() != AuthMethod::ClientSecretBasic {
        return Err(invalid("client_id", "this client shows no secret: it is public, or signs with keys"));
    }
    if spec.secrets.len() >= MOST_SECRETS {
        return Err(invalid("secrets", "two secrets are good already; remove one first"));
    }
    let secret = spec.add_secret(now);
    Ok((secret, write(store, admin, row, &spec, None, now).await?))
}

/// Ends a secret, by its first characters.
pub async fn remove_secret(
    store: &Store,
    admin: &Admin,
    client_id: &str,
    hint: &str,
    expected: Option<i64>,
    now: OffsetDateTime,
) -> Result<(), AccessError> {
    let (row, mut spec) = reachable(store, admin, client_id).await?;
    as_read(&row, expected)?;
    let before = spec.secrets.len();
    spec.secrets.retain(|secret| secret.hint != hint);
    if spec.secrets.len() == before {
        return Err(StoreError::Missing.into());
    }
    write(store, admin, row, &spec, None, now).await.map(drop)
}

/// The client that introduces itself by this id, if it is registered and its account may come in.
pub(super) async fn client(store: &Store, client_id: &str, schemes: &Schemes) -> Result<Option<Client>, StoreError> {
    if parse_client_id(client_id).as_deref() != Ok(client_id) {
        return Ok(None);
    }
    let Some(row) = store.client_of_any_tenant(client_id).await? else { return Ok(None) };
    let spec = Spec::of(&row)?;
    let service = match (spec.kind, row.user_id, row.user_state.as_deref()) {
        (ClientKind::Service, Some(account), Some("active")) => Some(UserId(account)),
        (ClientKind::Service, ..) => return Ok(None),
        _ => None,
    };
    let corrupt = |what: String| StoreError::Corrupt(format!("client `{client_id}`: {what}"));
    let proof = match spec.method() {
        AuthMethod::None if spec.kind == ClientKind::Service => Proof::Workload(spec.workloads.clone()),
        AuthMethod::None => Proof::None,
        AuthMethod::PrivateKeyJwt => {
            let keys = KeySource::read(spec.jwks.as_ref(), spec.jwks_uri.as_deref(), true);
            Proof::Keys(keys.map_err(|(field, error)| corrupt(format!("{field} {error}")))?)
        }
        _ => Proof::Secret(spec.hashes().ok_or_else(|| corrupt("a hash".to_owned()))?),
    };
    let tenant = TenantId::parse(&row.tenant_id).map_err(|error| corrupt(error.to_string()))?;
    let redirects = spec.redirect_uris.iter().filter_map(|uri| RedirectUri::parse(uri, schemes).ok());
    Ok(Some(Client {
        id: row.client_id.into(),
        name: row.name.into(),
        known: Known::Registered { tenant, service },
        proof,
        redirects: redirects.collect(),
        grants: spec.grants(),
        scopes: spec.scopes,
        bound: spec.dpop_bound_access_tokens,
    }))
}

async fn row(store: &Store, admin: &Admin, client_id: &str) -> Result<ClientRow, AccessError> {
    let id = parse_client_id(client_id).map_err(|_| StoreError::Missing)?;
    Ok(store.client(admin.tenant(), &id).await?.ok_or(StoreError::Missing)?)
}

/// A client that the administrator may change: not a service of a role above the own.
async fn reachable(store: &Store, admin: &Admin, client_id: &str) -> Result<(ClientRow, Spec), AccessError> {
    let row = row(store, admin, client_id).await?;
    if row.user_role.as_deref().is_some_and(|role| Role::parse(role).is_none_or(|role| role > admin.role())) {
        return Err(AccessError::Forbidden("the client acts with a role above the caller's own"));
    }
    let spec = Spec::of(&row)?;
    Ok((row, spec))
}

async fn write(
    store: &Store,
    admin: &Admin,
    mut row: ClientRow,
    spec: &Spec,
    role: Option<Role>,
    now: OffsetDateTime,
) -> Result<ClientView, AccessError> {
    row.spec = spec.json()?;
    // Greater than before, whatever the clock says: it is how another change is noticed.
    let now = micros(now).max(row.updated_at + 1);
    store.update_client(admin.tenant(), &row, role.map(Role::as_str), now).await?;
    row.updated_at = now;
    if let Some(role) = role {
        row.user_role = Some(role.as_str().to_owned());
    }
    Ok(view(row)?)
}
