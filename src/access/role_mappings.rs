//! Which app roles and groups of a tenant's directories give which role in it. Where a tenant has some, they take the place of the
//! rules of the settings. What they may give at most is bounded where accounts are made, whatever stands here.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use uuid::Uuid;

use super::{AccessError, Admin, Role};
use crate::field::FieldError;
use crate::id::TenantId;
use crate::store::{Store, StoreError};

/// Most of one tenant.
pub const MOST: usize = 200;
/// Longest value, in characters.
const LONGEST: usize = 256;

/// One of them.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RoleMapping {
    /// The name of an app role, the id of a group, or `*` for everybody (with the role `user`).
    pub value: String,
    /// What it gives.
    pub role: Role,
}

/// Adds what is wrong with those that a tenant is to have.
pub(super) fn check(wanted: &[RoleMapping], tenant: &TenantId, wrong: &mut Vec<FieldError>) {
    if wanted.len() > MOST {
        wrong.push(FieldError::new("role_mappings", format!("give at most {MOST}")));
        return;
    }
    for (index, RoleMapping { value, role }) in wanted.iter().enumerate() {
        let mut told = |name: &str, text: String| {
            wrong.push(FieldError::new(format!("role_mappings[{index}].{name}"), text));
        };
        if value.trim() != value
            || value.is_empty()
            || value.chars().count() > LONGEST
            || value.contains(char::is_control)
        {
            let text = "give the name of an app role or the id of a group";
            told("value", format!("{text}: 1 to {LONGEST} characters, without spaces around them"));
        }
        if value == "*" && *role != Role::User {
            told("value", "`*` stands for everybody and gives the role `user` only".to_owned());
        }
        if *role == Role::Admin && !tenant.is_default() {
            let text =
                "a directory makes administrators of the gateway in the tenant `default` only; give tenant_admin";
            told("role", text.to_owned());
        }
    }
}

/// Fails for who may not put `wanted` in the place of `before`: nobody gives a role above the own, or takes such a rule away.
pub(super) fn may_set(admin: &Admin, before: &[RoleMapping], wanted: &[RoleMapping]) -> Result<(), AccessError> {
    // What a directory says of somebody gives all that the role may.
    admin.holds_all()?;
    // There a directory makes administrators of the gateway, by these rules or, where there are none, by those of the settings.
    if admin.tenant().is_default() && before != wanted && !admin.administers_gateway() {
        return Err(AccessError::Forbidden("only an administrator of the gateway says who is one"));
    }
    let above = |all: &[RoleMapping]| {
        let mut above: Vec<_> = all.iter().filter(|mapping| mapping.role > admin.role()).cloned().collect();
        above.sort_unstable();
        above
    };
    if above(before) == above(wanted) {
        return Ok(());
    }
    Err(AccessError::Forbidden("nobody gives a role above the own, or takes away what gives it"))
}

/// Those in a column.
pub(super) fn read(stored: Option<Value>) -> Result<Vec<RoleMapping>, StoreError> {
    let read =
        |value| serde_json::from_value(value).map_err(|error| StoreError::Corrupt(format!("role mappings: {error}")));
    stored.map_or_else(|| Ok(Vec::new()), read)
}

/// Those of a tenant; none: the rules of the settings hold.
pub async fn of(store: &Store, tenant: &TenantId) -> Result<Vec<RoleMapping>, StoreError> {
    read(store.role_mappings(tenant).await?)
}

/// Those of every tenant that has some, with its directories.
pub async fn of_all(store: &Store) -> Result<Vec<(TenantId, Vec<Uuid>, Vec<RoleMapping>)>, StoreError> {
    let all = store.all_role_mappings().await?.into_iter();
    all.map(|(tenant, stored, directories)| Ok((tenant, directories, read(Some(stored))?))).collect()
}
