//! Issuers whose assertions a tenant takes (RFC 7523 section 2.1): an identity provider that vouches for people, a platform that
//! vouches for the programs on it. An administrator says whom to trust, for what, and which role that gives; nobody else is
//! believed. To change it, remove it and add it anew.

mod check;
mod model;

use time::OffsetDateTime;
use uuid::Uuid;

use check::read;
pub(super) use check::{check_issuer, check_subject};
pub use model::{Profile, SubjectClaim, TrustOrder, TrustView};
use model::{Spec, view};

use super::assertion::Claims;
use super::keys::KeySource;
use super::scope::ScopeSet;
use crate::access::{AccessError, Admin, Role};
use crate::id::TenantId;
use crate::store::trusted_issuers::TrustRow;
use crate::store::{Store, StoreError, micros};

/// Trusts an issuer.
pub async fn create(
    store: &Store,
    admin: &Admin,
    order: TrustOrder,
    now: OffsetDateTime,
) -> Result<TrustView, AccessError> {
    admin.holds_all()?;
    let (name, issuer, spec) = read(order).map_err(AccessError::Invalid)?;
    let spec = Spec { trusted_by: admin.role(), ..spec };
    may_have(admin, &spec)?;
    // Whoever says which keys an issuer has speaks in its name, and people of it may be above.
    if spec.parts.profiles.contains(&Profile::IdJag) && spec.parts.has_own_keys() && admin.role() < Role::Admin {
        let why = "only an administrator of the gateway says which keys vouch for people; leave out jwks and jwks_uri, and \
                   those count that the issuer publishes";
        return Err(AccessError::Forbidden(why));
    }
    let row = TrustRow {
        id: Uuid::now_v7(),
        tenant_id: admin.tenant().as_str().to_owned(),
        name,
        issuer,
        spec: spec.json()?,
        created_at: micros(now),
    };
    store.insert_trusted_issuer(admin.tenant(), &row).await?;
    Ok(view(row)?)
}

/// Up to `limit` of the tenant's trusted issuers by name, those after `after`.
pub async fn list(store: &Store, admin: &Admin, after: &str, limit: u16) -> Result<Vec<TrustView>, AccessError> {
    let rows = store.trusted_issuers(admin.tenant(), after, limit.into()).await?;
    Ok(rows.into_iter().map(view).collect::<Result<_, _>>()?)
}

/// One of them.
pub async fn get(store: &Store, admin: &Admin, name: &str) -> Result<TrustView, AccessError> {
    Ok(view(row(store, admin, name).await?)?)
}

/// Trusts an issuer no longer: what was granted by its word ends. `Stale` if it is not the one that was made at `expected`.
pub async fn remove(
    store: &Store,
    admin: &Admin,
    name: &str,
    expected: Option<i64>,
    now: OffsetDateTime,
) -> Result<(), AccessError> {
    may_have(admin, &Spec::of(&row(store, admin, name).await?)?)?;
    Ok(store.delete_trusted_issuer(admin.tenant(), name, &login_method(name), expected, micros(now)).await?)
}

/// As what sessions are known that an issuer of this name vouched for; no provider is called so.
pub fn login_method(name: &str) -> String {
    format!("issuer:{name}")
}

/// Trust in one issuer, as it is used.
pub(super) struct Trust {
    pub(super) name: String,
    pub(super) keys: KeySource,
    pub(super) scopes: ScopeSet,
    /// The role of who said so: no program gets a greater one by it.
    pub(super) trusted_by: Role,
    parts: model::Parts,
}

impl Trust {
    /// What the tenant trusts of that issuer for this, if it does.
    pub(super) async fn of(
        store: &Store,
        tenant: &TenantId,
        issuer: &str,
        profile: Profile,
    ) -> Result<Option<Self>, StoreError> {
        let Some(row) = store.trust_in(tenant, issuer).await? else { return Ok(None) };
        let spec = Spec::of(&row)?;
        if !spec.parts.profiles.contains(&profile) {
            return Ok(None);
        }
        let keys = spec.keys(&row)?;
        Ok(Some(Self { keys, name: row.name, scopes: spec.scopes, trusted_by: spec.trusted_by, parts: spec.parts }))
    }

    /// How its assertions may be signed.
    pub(super) fn algorithms(&self) -> &[jsonwebtoken::Algorithm] {
        &self.parts.algorithms
    }

    /// Whom assertions about programs are for, if not for us by our own name.
    pub(super) fn audience(&self) -> Option<&str> {
        self.parts.audience.as_deref()
    }

    /// The name of the person that is spoken of, if it is one that never changes hands.
    pub(super) fn subject<'a>(&self, claims: &'a Claims) -> Option<&'a str> {
        let subject = match self.parts.subject_claim {
            SubjectClaim::Sub => Some(claims.sub.as_str()),
            SubjectClaim::Oid => claims.text("oid"),
        };
        subject.filter(|subject| check_subject(subject).is_ok())
    }

    /// The role of somebody about whom this is said; none is given to who is not let in.
    pub(super) fn role(&self, claims: &Claims) -> Option<Role> {
        self.parts.role_of(claims)
    }
}

async fn row(store: &Store, admin: &Admin, name: &str) -> Result<TrustRow, AccessError> {
    Ok(store.trusted_issuer(admin.tenant(), name).await?.ok_or(StoreError::Missing)?)
}

/// Fails for trust that gives a role above the administrator's own, or that somebody above decided.
fn may_have(admin: &Admin, spec: &Spec) -> Result<(), AccessError> {
    admin.may_give(spec.parts.greatest_role().unwrap_or(Role::User).max(spec.trusted_by))
}
