//! Tenants, as administrators make and change them. Those of the gateway see all; those of a tenant see their own and may call
//! it something else and say whether guests of theirs come in. To anybody else a tenant is not there.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use time::OffsetDateTime;
use uuid::Uuid;

use super::retention::{Retention, RetentionSaid};
use super::{AccessError, Admin, RoleMapping, invalid, role_mappings};
use crate::field::FieldError;
use crate::id::TenantId;
use crate::limit::Terms;
use crate::limit::terms::{Features, FeaturesSaid, RateLimits, RateLimitsSaid};
use crate::store::tenants::{Holdings, Tenant, TenantChange};
use crate::store::{Store, StoreError, micros};

/// Most directories of one tenant.
pub const MOST_DIRECTORIES: usize = 100;
/// Longest name for people, in characters.
const LONGEST_NAME: usize = 200;

/// A tenant as it may be read.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
#[schemars(rename = "Tenant")]
pub struct TenantView {
    /// Its id, a slug.
    pub tenant_id: TenantId,
    /// Its name for people.
    pub display_name: String,
    /// The directories of Entra whose people are its own.
    pub entra_tenant_ids: Vec<Uuid>,
    /// Whether guests of these directories come in too.
    pub guests: bool,
    /// Those of them that nobody named: they were written down when the first was named, and give no role above `user`.
    pub assumed_entra_tenant_ids: Vec<Uuid>,
    /// How much it may call.
    pub rate_limits: RateLimits,
    /// What is done for it beyond the rest.
    pub features: Features,
    /// What gives roles in it; when there is none, the rules of the settings do.
    pub role_mappings: Vec<RoleMapping>,
    /// For how long what is recorded of it is kept.
    pub retention: Retention,
    /// `active` or `suspended`.
    pub state: &'static str,
    /// When it was made.
    #[serde(with = "crate::clock::Moment")]
    pub created_at: OffsetDateTime,
    /// When it was last changed.
    #[serde(with = "crate::clock::Moment")]
    pub updated_at: OffsetDateTime,
}

/// Whether a tenant's people come in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum TenantState {
    /// They do.
    Active,
    /// Nobody of it comes in, and it keeps all that it has.
    Suspended,
}

/// A tenant as whoever makes it describes it, and as it stands in a file; what is none is as usual there, and stays here.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "as in `TenantEdit`")]
#[schemars(rename = "TenantOrder", example = serde_json::json!({ "tenant_id": "acme", "display_name": "Acme Ltd" }))]
pub struct TenantSaid {
    pub tenant_id: String,
    pub display_name: Option<String>,
    pub state: Option<TenantState>,
    pub entra_tenant_ids: Option<Vec<Uuid>>,
    pub guests: Option<bool>,
    pub role_mappings: Option<Vec<RoleMapping>>,
    pub rate_limits: Option<RateLimitsSaid>,
    pub features: Option<FeaturesSaid>,
    pub retention: Option<RetentionSaid>,
}

impl TenantSaid {
    /// Its id, and the rest.
    pub fn split(self) -> (String, TenantEdit) {
        let Self { tenant_id, display_name, state, entra_tenant_ids, guests, role_mappings, rate_limits, .. } = self;
        let (features, retention) = (self.features, self.retention);
        let edit = TenantEdit {
            display_name,
            entra_tenant_ids,
            guests,
            state,
            rate_limits,
            features,
            role_mappings,
            retention,
            expected: None,
        };
        (tenant_id, edit)
    }
}

/// What of a tenant is to change, or to be in one that is made; what is none stays, or is as usual.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
#[schemars(example = serde_json::json!({ "display_name": "Acme Ltd", "rate_limits": { "base_rpm": 6000 } }))]
pub struct TenantEdit {
    /// New name for people, 1 to 200 characters.
    pub display_name: Option<String>,
    /// All its directories from now on, 100 at most.
    pub entra_tenant_ids: Option<Vec<Uuid>>,
    /// Whether guests of its directories come in.
    pub guests: Option<bool>,
    /// Whether it is active.
    pub state: Option<TenantState>,
    /// How much it may call.
    pub rate_limits: Option<RateLimitsSaid>,
    /// What is done for it beyond the rest.
    pub features: Option<FeaturesSaid>,
    /// All that gives roles in it; when there is none, the rules of the settings do.
    pub role_mappings: Option<Vec<RoleMapping>>,
    /// For how long what is recorded of it is kept.
    pub retention: Option<RetentionSaid>,
    /// When it was last changed as the caller read it, microseconds since 1970; `Stale` if that was later.
    #[serde(skip)]
    pub expected: Option<i64>,
}

impl TenantEdit {
    /// Names each directory once.
    pub(super) fn sort(&mut self) {
        if let Some(ids) = &mut self.entra_tenant_ids {
            ids.sort_unstable();
            ids.dedup();
        }
    }

    /// Whether only an administrator of the gateway may say it.
    fn takes_gateway(&self) -> bool {
        self.entra_tenant_ids.is_some()
            || self.state.is_some()
            || self.rate_limits.is_some()
            || self.features.is_some()
            || self.retention.is_some()
    }

    /// What of the row is to change, if nothing of it is wrong; `wrong` may hold mistakes already. With the column of what gives roles
    /// goes the one by which it was decided that it may change.
    pub(super) fn checked<'a>(
        &'a self,
        (mappings, held): (Option<&'a Value>, Option<&'a Value>),
        mut wrong: Vec<FieldError>,
    ) -> Result<TenantChange<'a>, AccessError> {
        let display_name = self.display_name.as_deref().map(|name| display_name(name, &mut wrong));
        if self.entra_tenant_ids.as_ref().is_some_and(|ids| ids.len() > MOST_DIRECTORIES) {
            wrong.push(FieldError::new("entra_tenant_ids", format!("name at most {MOST_DIRECTORIES} directories")));
        }
        let limits = self.rate_limits.as_ref().map(|said| said.read("rate_limits.", &mut wrong)).unwrap_or_default();
        let retention = self.retention.as_ref().map(|said| said.read(&mut wrong)).unwrap_or_default();
        let terms = self.features.unwrap_or_default().read(limits);
        if !wrong.is_empty() {
            return Err(AccessError::Invalid(wrong));
        }
        let directories = self.entra_tenant_ids.as_deref();
        let (active, guests) = (self.state.map(|state| state == TenantState::Active), self.guests);
        let (role_mappings, held_role_mappings) = (mappings, held);
        Ok(TenantChange {
            display_name,
            active,
            guests,
            directories,
            terms,
            role_mappings,
            held_role_mappings,
            retention,
            expected: self.expected,
        })
    }

    /// The column of what gives roles, if that is to change.
    pub(super) fn mappings(&self) -> Result<Option<Value>, StoreError> {
        let Some(mut mappings) = self.role_mappings.clone() else { return Ok(None) };
        mappings.sort_unstable();
        mappings.dedup();
        Ok(Some(serde_json::to_value(&mappings).map_err(|error| StoreError::Corrupt(error.to_string()))?))
    }
}

impl TryFrom<Tenant> for TenantView {
    type Error = StoreError;

    fn try_from(tenant: Tenant) -> Result<Self, StoreError> {
        let terms = Terms::from(tenant.terms);
        Ok(Self {
            role_mappings: role_mappings::read(tenant.role_mappings)?,
            retention: Retention { audit_days: tenant.audit_days, analytics_days: tenant.analytics_days },
            rate_limits: terms.rate_limits(),
            features: terms.features(),
            tenant_id: tenant.id,
            display_name: tenant.display_name,
            entra_tenant_ids: tenant.directories.iter().map(|directory| directory.id).collect(),
            assumed_entra_tenant_ids: tenant
                .directories
                .iter()
                .filter(|directory| directory.assumed)
                .map(|directory| directory.id)
                .collect(),
            guests: tenant.guests,
            state: if tenant.active { "active" } else { "suspended" },
            created_at: tenant.created_at,
            updated_at: tenant.updated_at,
        })
    }
}

/// Fails for whoever does not administer the gateway.
pub(super) fn of_gateway(admin: &Admin) -> Result<(), AccessError> {
    if admin.administers_gateway() {
        return Ok(());
    }
    Err(AccessError::Forbidden(
        "only an administrator of the gateway makes, suspends and removes tenants and says whose directories are and what is \
         granted to whom and kept of them",
    ))
}

/// The id of a tenant that the caller may know of.
pub(super) fn seen(admin: &Admin, id: &str) -> Result<TenantId, AccessError> {
    let id = TenantId::parse(id).map_err(|_| StoreError::Missing)?;
    if admin.administers_gateway() || id == *admin.tenant() { Ok(id) } else { Err(StoreError::Missing.into()) }
}

/// Makes a tenant of the id, 1 to 64 of lower-case letters, digits and single hyphens.
pub async fn create(
    store: &Store,
    admin: &Admin,
    id: &str,
    mut about: TenantEdit,
    now: OffsetDateTime,
) -> Result<TenantView, AccessError> {
    of_gateway(admin)?;
    about.sort();
    let id = TenantId::parse(id).map_err(|error| FieldError::new("tenant_id", error.to_string()));
    let mut wrong: Vec<FieldError> = id.as_ref().err().cloned().into_iter().collect();
    if let (Ok(id), Some(wanted)) = (&id, &about.role_mappings) {
        role_mappings::check(wanted, id, &mut wrong);
        role_mappings::may_set(admin, &[], wanted)?;
    }
    let mappings = about.mappings()?;
    let checked = about.checked((mappings.as_ref(), None), wrong);
    let (Ok(id), change) = (id, checked?) else { return Err(StoreError::Missing.into()) };
    store.insert_tenant(&id, change, micros(now)).await?;
    get(store, admin, id.as_str()).await
}

/// Up to `limit` tenants by id, those after `after`: all of them for an administrator of the gateway, else the own.
pub async fn list(store: &Store, admin: &Admin, after: &str, limit: u16) -> Result<Vec<TenantView>, AccessError> {
    let tenants = if admin.administers_gateway() {
        store.tenants(after, limit.into()).await?
    } else {
        let own = store.tenant(admin.tenant()).await?;
        own.into_iter().filter(|own| own.id.as_str() > after).collect()
    };
    Ok(tenants.into_iter().map(TenantView::try_from).collect::<Result<_, _>>()?)
}

/// One tenant.
pub async fn get(store: &Store, admin: &Admin, id: &str) -> Result<TenantView, AccessError> {
    let id = seen(admin, id)?;
    Ok(store.tenant(&id).await?.ok_or(StoreError::Missing)?.try_into()?)
}

/// Changes a tenant. One that is suspended keeps all that it has, and nobody of it comes in.
pub async fn edit(
    store: &Store,
    admin: &Admin,
    id: &str,
    mut edit: TenantEdit,
    now: OffsetDateTime,
) -> Result<TenantView, AccessError> {
    let id = seen(admin, id)?;
    if edit.takes_gateway() {
        of_gateway(admin)?;
    }
    if edit.state == Some(TenantState::Suspended) {
        may_go(&id)?;
    }
    edit.sort();
    let mut wrong = Vec::new();
    let mut held = None;
    if let Some(wanted) = &edit.role_mappings {
        role_mappings::check(wanted, &id, &mut wrong);
        held = store.role_mappings(&id).await?;
        role_mappings::may_set(admin, &role_mappings::read(held.clone())?, wanted)?;
    }
    let mappings = edit.mappings()?;
    let change = edit.checked((mappings.as_ref(), held.as_ref()), wrong)?;
    store.update_tenant(&id, change, micros(now)).await?;
    get(store, admin, id.as_str()).await
}

/// What [`purge`] would remove.
pub async fn holdings(store: &Store, admin: &Admin, id: &str) -> Result<Holdings, AccessError> {
    let id = removable(store, admin, id).await?;
    Ok(store.holdings(&id).await?)
}

/// Removes a tenant with all that is its own, for good. `Stale` if it was changed after `expected`.
pub async fn purge(store: &Store, admin: &Admin, id: &str, expected: Option<i64>) -> Result<(), AccessError> {
    let id = removable(store, admin, id).await?;
    Ok(store.purge_tenant(&id, expected).await?)
}

/// The tenant of that id, as a value to work in, for administrators who may know of it.
pub(super) async fn known(store: &Store, admin: &Admin, id: &str) -> Result<TenantId, AccessError> {
    let nobody = || invalid("tenant_id", "there is no such tenant");
    let id = seen(admin, id).map_err(|_| nobody())?;
    if store.is_active_tenant(&id).await?.is_some() { Ok(id) } else { Err(nobody()) }
}

async fn removable(store: &Store, admin: &Admin, id: &str) -> Result<TenantId, AccessError> {
    let id = seen(admin, id)?;
    of_gateway(admin)?;
    may_go(&id)?;
    if store.is_active_tenant(&id).await?.is_none() {
        return Err(StoreError::Missing.into());
    }
    Ok(id)
}

/// The tenant of the gateway's administrators stays.
pub(super) fn may_go(id: &TenantId) -> Result<(), AccessError> {
    if id.is_default() {
        let text = "the tenant `default` is that of the gateway's administrators; it cannot be suspended or removed";
        return Err(invalid("tenant_id", text));
    }
    Ok(())
}

fn display_name<'a>(text: &'a str, wrong: &mut Vec<FieldError>) -> &'a str {
    let name = text.trim();
    if name.is_empty() || name.chars().count() > LONGEST_NAME || name.contains(char::is_control) {
        wrong.push(FieldError::new(
            "display_name",
            format!("use 1 to {LONGEST_NAME} characters, none of them a control character"),
        ));
    }
    name
}
