//! Tenants, as administrators make and change them. Those of the gateway see all; those of a tenant see their own and may call
//! it something else and say whether guests of theirs come in. To anybody else a tenant is not there.

use serde::Serialize;
use time::OffsetDateTime;
use uuid::Uuid;

use super::{AccessError, Admin, invalid};
use crate::field::FieldError;
use crate::id::TenantId;
use crate::store::tenants::{Holdings, Tenant, TenantChange};
use crate::store::{Store, StoreError, micros};

/// Most directories of one tenant.
pub const MOST_DIRECTORIES: usize = 100;
/// Longest name for people, in characters.
const LONGEST_NAME: usize = 200;

/// A tenant as it may be read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
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
    /// `active` or `suspended`.
    pub state: &'static str,
    /// When it was made.
    #[serde(with = "time::serde::rfc3339")]
    pub created_at: OffsetDateTime,
    /// When it was last changed.
    #[serde(with = "time::serde::rfc3339")]
    pub updated_at: OffsetDateTime,
}

/// A tenant that is asked for.
#[derive(Debug, Clone)]
pub struct TenantOrder {
    /// 1 to 64 of lower-case letters, digits and single hyphens.
    pub tenant_id: String,
    /// 1 to 200 characters.
    pub display_name: String,
    /// At most [`MOST_DIRECTORIES`].
    pub entra_tenant_ids: Vec<Uuid>,
    /// Whether guests of these directories come in too.
    pub guests: bool,
}

/// What of a tenant is to change; what is none stays.
#[derive(Debug, Clone, Default)]
pub struct TenantEdit {
    /// New name for people.
    pub display_name: Option<String>,
    /// All its directories from now on.
    pub entra_tenant_ids: Option<Vec<Uuid>>,
    /// Whether guests of its directories come in.
    pub guests: Option<bool>,
    /// Whether it is active.
    pub active: Option<bool>,
}

impl From<Tenant> for TenantView {
    fn from(tenant: Tenant) -> Self {
        Self {
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
        }
    }
}

/// Fails for whoever does not administer the gateway.
fn of_gateway(admin: &Admin) -> Result<(), AccessError> {
    if admin.administers_gateway() {
        return Ok(());
    }
    Err(AccessError::Forbidden(
        "only an administrator of the gateway makes, suspends and removes tenants and says whose directories are",
    ))
}

/// The id of a tenant that the caller may know of.
fn seen(admin: &Admin, id: &str) -> Result<TenantId, AccessError> {
    let id = TenantId::parse(id).map_err(|_| StoreError::Missing)?;
    if admin.administers_gateway() || id == *admin.tenant() { Ok(id) } else { Err(StoreError::Missing.into()) }
}

/// Makes a tenant.
pub async fn create(
    store: &Store,
    admin: &Admin,
    order: TenantOrder,
    now: OffsetDateTime,
) -> Result<TenantView, AccessError> {
    of_gateway(admin)?;
    let mut wrong = Vec::new();
    let id = TenantId::parse(&order.tenant_id);
    if let Err(error) = &id {
        wrong.push(FieldError::new("tenant_id", error.to_string()));
    }
    let name = display_name(&order.display_name, &mut wrong);
    let directories = directories(order.entra_tenant_ids, &mut wrong);
    let (Ok(id), true) = (id, wrong.is_empty()) else { return Err(AccessError::Invalid(wrong)) };
    store.insert_tenant(&id, &name, order.guests, &directories, micros(now)).await?;
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
    Ok(tenants.into_iter().map(TenantView::from).collect())
}

/// One tenant.
pub async fn get(store: &Store, admin: &Admin, id: &str) -> Result<TenantView, AccessError> {
    let id = seen(admin, id)?;
    Ok(store.tenant(&id).await?.ok_or(StoreError::Missing)?.into())
}

/// Changes a tenant. One that is suspended keeps all that it has, and nobody of it comes in.
pub async fn edit(
    store: &Store,
    admin: &Admin,
    id: &str,
    edit: TenantEdit,
    now: OffsetDateTime,
) -> Result<TenantView, AccessError> {
    let id = seen(admin, id)?;
    if edit.entra_tenant_ids.is_some() || edit.active.is_some() {
        of_gateway(admin)?;
    }
    if edit.active == Some(false) {
        may_go(&id)?;
    }
    let mut wrong = Vec::new();
    let name = edit.display_name.map(|name| display_name(&name, &mut wrong));
    let directories = edit.entra_tenant_ids.map(|ids| directories(ids, &mut wrong));
    if !wrong.is_empty() {
        return Err(AccessError::Invalid(wrong));
    }
    let change = TenantChange {
        display_name: name.as_deref(),
        active: edit.active,
        guests: edit.guests,
        directories: directories.as_deref(),
    };
    store.update_tenant(&id, change, micros(now)).await?;
    get(store, admin, id.as_str()).await
}

/// What [`purge`] would remove.
pub async fn holdings(store: &Store, admin: &Admin, id: &str) -> Result<Holdings, AccessError> {
    let id = removable(store, admin, id).await?;
    Ok(store.holdings(&id).await?)
}

/// Removes a tenant with all that is its own, for good.
pub async fn purge(store: &Store, admin: &Admin, id: &str) -> Result<(), AccessError> {
    let id = removable(store, admin, id).await?;
    Ok(store.purge_tenant(&id).await?)
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
fn may_go(id: &TenantId) -> Result<(), AccessError> {
    if id.is_default() {
        let text = "the tenant `default` is that of the gateway's administrators; it cannot be suspended or removed";
        return Err(invalid("tenant_id", text));
    }
    Ok(())
}

fn display_name(text: &str, wrong: &mut Vec<FieldError>) -> String {
    let name = text.trim();
    if name.is_empty() || name.chars().count() > LONGEST_NAME || name.contains(char::is_control) {
        wrong.push(FieldError::new(
            "display_name",
            format!("use 1 to {LONGEST_NAME} characters, none of them a control character"),
        ));
    }
    name.to_owned()
}

fn directories(mut ids: Vec<Uuid>, wrong: &mut Vec<FieldError>) -> Vec<Uuid> {
    ids.sort_unstable();
    ids.dedup();
    if ids.len() > MOST_DIRECTORIES {
        wrong.push(FieldError::new("entra_tenant_ids", format!("name at most {MOST_DIRECTORIES} directories")));
    }
    ids
}
