//! Making, listing and ending API keys. Nobody makes a key that may do more than the one it is made with.

use schemars::JsonSchema;
use serde::Serialize;
use serde_json::Value;
use time::{Duration, OffsetDateTime};
use uuid::Uuid;

use super::accounts::new_id;
use super::bootstrap::SUPPLIED;
use super::users::parse_username;
use super::{AccessError, Caller, KeyId, Role, Scopes, invalid};
use crate::crypto::{hash_token, new_api_key};
use crate::field::FieldError;
use crate::id::TenantId;
use crate::secret::Secret;
use crate::store::keys::{HeldKeyRow, KeyRow};
use crate::store::{Json, Store, StoreError, at, at_opt, micros};

/// A key that is asked for.
#[derive(Debug, Clone)]
pub struct KeyOrder {
    /// What to call it, 1 to 100 characters.
    pub name: String,
    /// What it may be used for.
    pub scopes: Scopes,
    /// The most it may be used as.
    pub role: Role,
    /// Whose it is to be; the caller's own when none. Lower case does not matter.
    pub username: Option<String>,
    /// When it ends; never when none.
    pub expires_at: Option<OffsetDateTime>,
}

/// A key as it may be read: never its text.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
#[schemars(rename = "Key")]
pub struct KeyView {
    /// Its id.
    pub id: KeyId,
    /// What it is called.
    pub name: String,
    /// Its first characters.
    pub hint: String,
    /// Who holds it.
    pub username: String,
    /// The most it may be used as.
    pub role: Role,
    /// What it may be used for.
    #[serde(flatten)]
    pub scopes: Scopes,
    /// `active`, `expired`, `revoked`, or `disabled` with its holder.
    pub state: &'static str,
    /// When it was made.
    #[serde(with = "crate::clock::Moment")]
    pub created_at: OffsetDateTime,
    /// When it ends.
    #[serde(with = "crate::clock::MaybeMoment")]
    pub expires_at: Option<OffsetDateTime>,
    /// When it was last used, some minutes late.
    #[serde(with = "crate::clock::MaybeMoment")]
    pub last_used_at: Option<OffsetDateTime>,
    /// When it was ended.
    #[serde(with = "crate::clock::MaybeMoment")]
    pub revoked_at: Option<OffsetDateTime>,
}

impl KeyOrder {
    fn holder(&self, caller: &Caller) -> String {
        self.username.as_deref().map_or_else(|| caller.username().to_owned(), |name| name.trim().to_lowercase())
    }
}

/// What somebody is told who reaches for the keys of an account above.
const ABOVE: &str = "the key's holder has a role above the caller's own";

/// Fails for whoever may make no key at all. Asked before what is ordered is read.
pub fn may_make(caller: &Caller) -> Result<(), AccessError> {
    if caller.may_manage() {
        return Ok(());
    }
    Err(AccessError::Scope("making keys takes a key with the scope `admin`, or signing in"))
}

/// Fails for whoever may not make this one, as far as that shows without knowing its holder. Asked before its mistakes are
/// told.
pub fn may_order(caller: &Caller, order: &KeyOrder) -> Result<(), AccessError> {
    may_make(caller)?;
    if !caller.scopes().covers(&order.scopes) {
        return Err(AccessError::Forbidden("a key cannot get scopes that the key it is made with lacks"));
    }
    if order.role > caller.role() {
        return Err(AccessError::Forbidden("a key cannot get a role above the caller's own"));
    }
    if order.holder(caller) != caller.username() && !caller.administers_tenant() {
        return Err(AccessError::Forbidden("only an administrator makes keys for others"));
    }
    Ok(())
}

/// Makes a key. The text is returned here and never again. Nobody makes one for an account above.
pub async fn create(
    store: &Store,
    caller: &Caller,
    order: KeyOrder,
    now: OffsetDateTime,
) -> Result<(Secret, KeyView), AccessError> {
    may_order(caller, &order)?;
    let mut found = order.scopes.check();
    let mut say = |field: &str, message: &str| {
        found.push(FieldError::new(field, message));
    };
    if order.name.trim().is_empty() || order.name.len() > 100 || order.name.contains(char::is_control) {
        say("name", "a name has 1 to 100 bytes and no control characters");
    }
    if order.expires_at.is_some_and(|end| end <= now) {
        say("expires_at", "must be in the future");
    }
    if !found.is_empty() {
        return Err(AccessError::Invalid(found));
    }
    let username = order.holder(caller);
    let user = match parse_username(&username) {
        Ok(name) => store.user_named(caller.tenant(), &name).await?,
        Err(_) => None,
    };
    let Some(user) = user else { return Err(invalid("username", "there is no such user")) };
    let held = Role::parse(&user.role).ok_or_else(|| StoreError::Corrupt(format!("role `{}`", user.role)))?;
    if held > caller.role() && username != caller.username() {
        return Err(AccessError::Forbidden(ABOVE));
    }
    let role = order.role;
    if role > held {
        return Err(invalid("role", format!("{username} has the role {}; a key cannot have more", held.as_str())));
    }
    let key = new_api_key();
    let row = key_row(caller.tenant(), user.id, order.name.trim(), &key, &order.scopes, role, now, order.expires_at);
    store.insert_key(caller.tenant(), &row).await?;
    let (issuer, user_role, user_state) = (user.issuer, user.role, user.state);
    let held = HeldKeyRow { key: row, username, issuer, user_role, user_state, memberships: None };
    Ok((key, view(held, now)?))
}

/// Up to `limit` keys by id, those after `after`: the tenant's for its administrators, else the caller's own. Keys that
/// signing in made are left out.
pub async fn list(
    store: &Store,
    caller: &Caller,
    after: Option<Uuid>,
    limit: u16,
    now: OffsetDateTime,
) -> Result<Vec<KeyView>, AccessError> {
    let user = (!caller.administers_tenant()).then_some(caller.user_id().0);
    let rows = store.keys(caller.tenant(), user, after.unwrap_or(Uuid::nil()), limit.into()).await?;
    Ok(rows.into_iter().map(|row| view(row, now)).collect::<Result<_, _>>()?)
}

/// Ends a key for good: an administrator any of the tenant whose holder is not above, others their own, and every key itself.
pub async fn revoke(store: &Store, caller: &Caller, id: Uuid, now: OffsetDateTime) -> Result<(), AccessError> {
    if !caller.may_manage() && caller.key_id().is_none_or(|own| own.0 != id) {
        return Err(AccessError::Scope("ending other keys takes a key with the scope `admin`, or signing in"));
    }
    let user = (!caller.administers_tenant()).then_some(caller.user_id().0);
    let holder = store.key_holder(caller.tenant(), id).await?.ok_or(StoreError::Missing)?;
    if user.is_none()
        && holder.id != caller.user_id().0
        && Role::parse(&holder.role).is_none_or(|role| role > caller.role())
    {
        return Err(AccessError::Forbidden(ABOVE));
    }
    Ok(store.revoke_key(caller.tenant(), id, user, micros(now)).await?)
}

/// How long a key is kept after its end: whoever still shows it is told that it was revoked or has expired, and the list
/// says who could do what; a month covers the time in which somebody asks.
const KEPT: Duration = Duration::days(30);

/// Keys removed in one transaction: what waits for the database beside it waits for milliseconds.
const AT_ONCE: i64 = 500;

/// Removes keys that ended long enough ago, and says how many. A key that was supplied at a start stays: were it gone, the
/// next start with it would take it for a new one, revoked or not. For a job, every hour or so.
pub async fn purge_ended(store: &Store, now: OffsetDateTime) -> Result<u64, StoreError> {
    let mut purged = 0;
    loop {
        let batch = store.purge_keys(micros(now - KEPT), SUPPLIED, AT_ONCE).await?;
        purged += batch;
        if batch < AT_ONCE.unsigned_abs() {
            return Ok(purged);
        }
    }
}

/// Ends the key that the caller shows; false when it shows none.
pub async fn revoke_own(store: &Store, caller: &Caller, now: OffsetDateTime) -> Result<bool, AccessError> {
    let Some(key) = caller.key_id() else { return Ok(false) };
    revoke(store, caller, key.0, now).await.map(|()| true)
}

/// The row of a new key.
#[expect(clippy::too_many_arguments, reason = "each is a column")]
pub(super) fn key_row(
    tenant: &TenantId,
    user: Uuid,
    name: &str,
    key: &Secret,
    scopes: &Scopes,
    role: Role,
    now: OffsetDateTime,
    expires_at: Option<OffsetDateTime>,
) -> KeyRow {
    KeyRow {
        id: new_id(),
        tenant_id: tenant.as_str().to_owned(),
        user_id: user,
        name: name.to_owned(),
        kind: "key".to_owned(),
        hint: key.expose().chars().take(9).collect(),
        hash: hash_token(key.expose()).to_vec(),
        scopes: Json(serde_json::to_value(scopes).unwrap_or_else(|_| Value::Object(serde_json::Map::new()))),
        role: role.as_str().to_owned(),
        created_at: micros(now),
        expires_at: expires_at.map(micros),
        last_used_at: None,
        revoked_at: None,
    }
}

fn view(row: HeldKeyRow, now: OffsetDateTime) -> Result<KeyView, StoreError> {
    let HeldKeyRow { key, username, user_state, .. } = row;
    let state = if key.revoked_at.is_some() {
        "revoked"
    } else if key.expires_at.is_some_and(|end| end <= micros(now)) {
        "expired"
    } else if user_state != "active" {
        "disabled"
    } else {
        "active"
    };
    Ok(KeyView {
        id: KeyId(key.id),
        name: key.name,
        hint: key.hint,
        username,
        role: Role::parse(&key.role).ok_or_else(|| StoreError::Corrupt(format!("role `{}`", key.role)))?,
        scopes: serde_json::from_value(key.scopes.0)
            .map_err(|error| StoreError::Corrupt(format!("scopes: {error}")))?,
        state,
        created_at: at(key.created_at),
        expires_at: at_opt(key.expires_at),
        last_used_at: at_opt(key.last_used_at),
        revoked_at: at_opt(key.revoked_at),
    })
}
