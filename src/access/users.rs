//! Making and changing accounts. An administrator of a tenant never touches an account above the own role.

use schemars::JsonSchema;
use serde::Serialize;
use time::OffsetDateTime;
use uuid::Uuid;

use super::accounts::{Count, check_password, new_id};
use super::{AccessError, Accounts, Admin, Caller, Role, UserId, invalid, tenants};
use crate::id::TenantId;
use crate::secret::Secret;
use crate::store::users::{UserChange, UserRow};
use crate::store::{Store, StoreError, at, micros};

/// An account as it may be read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
#[schemars(rename = "User")]
pub struct UserView {
    /// Its id.
    pub id: UserId,
    /// Its name, lower case.
    pub username: String,
    /// What it may at most.
    pub role: Role,
    /// `active` or `disabled`.
    pub state: String,
    /// Whether it can sign in by password.
    pub has_password: bool,
    /// When it was made.
    #[serde(with = "crate::clock::Moment")]
    pub created_at: OffsetDateTime,
    /// When it was last changed.
    #[serde(with = "crate::clock::Moment")]
    pub updated_at: OffsetDateTime,
}

/// What of an account is to change; what is none stays.
#[derive(Debug, Clone, Default)]
pub struct UserEdit {
    /// New role.
    pub role: Option<Role>,
    /// Whether it may come in.
    pub active: Option<bool>,
    /// New password.
    pub password: Option<NewPassword>,
    /// When it was last changed as the caller read it, microseconds since 1970; `Stale` if that was later.
    pub expected: Option<i64>,
}

/// A password in place of another one.
#[derive(Debug, Clone)]
pub struct NewPassword {
    /// The new one.
    pub new: Secret,
    /// The one before, from whoever changes the own.
    pub current: Option<Secret>,
}

/// An account that is asked for.
#[derive(Debug)]
pub struct UserOrder {
    /// Its name.
    pub username: String,
    /// With none it can only be used through keys.
    pub password: Option<Secret>,
    /// What it may at most.
    pub role: Role,
    /// Another tenant than the own, for administrators of the gateway.
    pub tenant: Option<String>,
}

/// Makes an account.
pub async fn create(
    store: &Store,
    accounts: &Accounts,
    admin: &Admin,
    order: UserOrder,
    now: OffsetDateTime,
) -> Result<UserView, AccessError> {
    let UserOrder { username, password, role, tenant } = order;
    admin.may_give(role)?;
    let tenant = match tenant {
        None => admin.tenant().clone(),
        Some(id) => tenants::known(store, admin, &id).await?,
    };
    if role == Role::Admin && !tenant.is_default() {
        return Err(invalid("role", "the gateway's administrators are of the tenant `default`; give tenant_admin"));
    }
    let username = parse_username(&username)?;
    let password_hash = match password {
        Some(password) => {
            admin.holds_all()?;
            check_password(&password, &username)?;
            Some(accounts.hash_password(password).await?)
        }
        None => None,
    };
    let row = UserRow {
        id: new_id(),
        tenant_id: tenant.as_str().to_owned(),
        username,
        password_hash,
        role: role.as_str().to_owned(),
        state: "active".to_owned(),
        issuer: None,
        subject: None,
        display_name: None,
        directory: None,
        guest: false,
        created_at: micros(now),
        updated_at: micros(now),
    };
    store.insert_user(&tenant, &row).await?;
    Ok(view(row)?)
}

/// Up to `limit` accounts of the tenant by name, those after `after`. For the tenant's administrators.
pub async fn list(store: &Store, admin: &Admin, after: &str, limit: u16) -> Result<Vec<UserView>, AccessError> {
    let rows = store.users(admin.tenant(), after, limit.into()).await?;
    Ok(rows.into_iter().map(view).collect::<Result<_, _>>()?)
}

/// The id of an account, by id or name: for the tenant's administrators, and each for itself.
pub async fn find(store: &Store, caller: &Caller, id_or_name: &str) -> Result<Uuid, AccessError> {
    let name = id_or_name.to_lowercase();
    if name == caller.username() {
        return Ok(caller.user_id().0);
    }
    if let Ok(id) = Uuid::parse_str(&name) {
        return Ok(id);
    }
    Admin::prove(caller)?;
    let name = parse_username(&name).map_err(|_| StoreError::Missing)?;
    Ok(store.user_named(caller.tenant(), &name).await?.ok_or(StoreError::Missing)?.id)
}

/// Where an account is, by id or name: of the administrator's own tenant, and by id of any for who administers the gateway. Nobody else
/// learns that there is one.
pub async fn place(store: &Store, admin: &Admin, id_or_name: &str) -> Result<(TenantId, Uuid), AccessError> {
    let id = find(store, admin, id_or_name).await?;
    let tenant = match store.user(admin.tenant(), id).await? {
        Some(_) => Some(admin.tenant().clone()),
        None if admin.administers_gateway() => store.tenant_of_user(id).await?,
        None => None,
    };
    Ok((tenant.ok_or(StoreError::Missing)?, id))
}

/// One account: for the tenant's administrators, and each for itself.
pub async fn get(store: &Store, caller: &Caller, id: Uuid) -> Result<UserView, AccessError> {
    if caller.user_id().0 != id {
        Admin::prove(caller)?;
    }
    Ok(view(store.user(caller.tenant(), id).await?.ok_or(StoreError::Missing)?)?)
}

/// Changes an account, all that is asked for or nothing. Role and state are an administrator's affair; a password is set by
/// an administrator for anybody who is not above, by others for themselves if they know the current one. A disabled
/// account's keys stop at once; its sign-ins do not come back with it, and a new password ends them too. The current password is
/// counted by `count` and for the name, as one at a sign-in: whoever has somebody's session does not guess it.
pub async fn edit(
    store: &Store,
    accounts: &Accounts,
    caller: &Caller,
    id: Uuid,
    edit: UserEdit,
    count: Count,
    now: OffsetDateTime,
) -> Result<UserView, AccessError> {
    if edit.role.is_some() || edit.active.is_some() {
        Admin::prove(caller)?.may_give(edit.role.unwrap_or(Role::User))?;
    }
    let user = may_edit(store, caller, id).await?;
    if edit.role.is_none() && edit.active.is_none() && edit.password.is_none() {
        return if edit.expected.is_none_or(|at| at == user.updated_at) {
            Ok(view(user)?)
        } else {
            Err(StoreError::Stale.into())
        };
    }
    let hash = match edit.password {
        Some(_) if store.is_clients_account(caller.tenant(), id).await? => {
            let text = "a client acts as this account; it shows its own credential and has no password";
            return Err(invalid("password", text));
        }
        Some(password) => Some(hash_new(accounts, caller, &user, password, count, now).await?),
        None => None,
    };
    let change = UserChange {
        password_hash: hash.as_deref(),
        role: edit.role.map(Role::as_str),
        state: edit.active.map(|active| if active { "active" } else { "disabled" }),
        expected: edit.expected,
    };
    let end_sessions = edit.active == Some(false) || hash.is_some();
    store.update_user(caller.tenant(), id, change, end_sessions, micros(now)).await?;
    Ok(view(store.user(caller.tenant(), id).await?.ok_or(StoreError::Missing)?)?)
}

/// The account, for whoever may change anything of it: its holder, and an administrator who is not below it. Asked before
/// what is to change is read.
pub async fn may_edit(store: &Store, caller: &Caller, id: Uuid) -> Result<UserRow, AccessError> {
    if caller.user_id().0 != id {
        Admin::prove(caller)?;
    }
    reachable(store, caller, id).await
}

/// The hash of a new password of `user`, if the caller knows what it takes to set it.
async fn hash_new(
    accounts: &Accounts,
    caller: &Caller,
    user: &UserRow,
    password: NewPassword,
    count: Count,
    now: OffsetDateTime,
) -> Result<String, AccessError> {
    let NewPassword { new, current } = password;
    check_password(&new, &user.username)?;
    // An account without a password proves nothing by one: its key, with the scope to manage, is the proof.
    if caller.user_id().0 == user.id && (user.password_hash.is_some() || !caller.may_manage()) {
        let Some(current) = current else { return Err(invalid("current_password", "give the current password")) };
        let name = (caller.tenant().clone(), user.username.clone());
        accounts.prove(name, current, user.password_hash.clone(), count, now).await.map_err(|error| match error {
            AccessError::WrongPassword => invalid("current_password", "this is not the current password"),
            error => error,
        })?;
    } else {
        caller.holds_all()?;
    }
    accounts.hash_password(new).await
}

/// Removes an account with its keys and sign-ins; the servers that it registered stay, without an owner.
/// `Stale` if it was changed after `expected`.
pub async fn remove(store: &Store, admin: &Admin, id: Uuid, expected: Option<i64>) -> Result<(), AccessError> {
    let user = reachable(store, admin, id).await?;
    Ok(store.delete_user(admin.tenant(), user.id, expected).await?)
}

async fn reachable(store: &Store, caller: &Caller, id: Uuid) -> Result<UserRow, AccessError> {
    let user = store.user(caller.tenant(), id).await?.ok_or(StoreError::Missing)?;
    if Role::parse(&user.role).is_none_or(|role| role > caller.role()) {
        return Err(AccessError::Forbidden("the account has a role above the caller's own"));
    }
    Ok(user)
}

/// Lower case; 1 to 64 of letters, digits, `.`, `_`, `-`, `@`, `+`, beginning with a letter or digit.
pub(crate) fn parse_username(text: &str) -> Result<String, AccessError> {
    let name = text.trim().to_lowercase();
    let good = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    if (1..=64).contains(&name.len())
        && name.starts_with(good)
        && name.chars().all(|c| good(c) || matches!(c, '.' | '_' | '-' | '@' | '+'))
    {
        Ok(name)
    } else {
        Err(invalid("username", "use 1 to 64 letters, digits or . _ - @ +, beginning with a letter or digit"))
    }
}

fn view(row: UserRow) -> Result<UserView, StoreError> {
    Ok(UserView {
        id: UserId(row.id),
        username: row.username,
        role: Role::parse(&row.role).ok_or_else(|| StoreError::Corrupt(format!("role `{}`", row.role)))?,
        state: row.state,
        has_password: row.password_hash.is_some(),
        created_at: at(row.created_at),
        updated_at: at(row.updated_at),
    })
}
