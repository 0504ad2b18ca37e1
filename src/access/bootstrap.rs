//! The first administrator: made at the first start, with a key that is shown once or that the operator supplied.

use super::accounts::new_id;
use super::keyring::is_plausible;
use super::keys::key_row;
use super::{Role, Scopes};
use crate::crypto::{KEY_PREFIX, hash_token, looks_made_up, new_api_key};
use crate::id::TenantId;
use crate::secret::Secret;
use crate::store::users::UserRow;
use crate::store::{Store, StoreError, micros, now};

/// Why there is no first administrator.
#[derive(Debug, thiserror::Error)]
pub enum BootstrapError {
    /// The supplied key can be guessed or is no key.
    #[error(
        "the supplied admin key is refused: it must be `mcpg_` and then 32 to 251 random letters, digits, `-` or `_`; make one with `echo mcpg_$(openssl rand -hex 32)`"
    )]
    WeakKey,
    /// The database refused or failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Makes the user `admin` and its first key when there is no administrator, and returns the key if it was made here. A
/// supplied key is used instead; where an administrator exists already it is added to the oldest one's, unless it is
/// known, revoked or not. Safe when several processes start at once.
pub async fn bootstrap(store: &Store, supplied: Option<&Secret>) -> Result<Option<Secret>, BootstrapError> {
    if supplied.is_some_and(|key| !is_strong(key.expose())) {
        return Err(BootstrapError::WeakKey);
    }
    let existing = store.first_admin().await?;
    let tenant = TenantId::default_tenant();
    let now = now();
    let name = if supplied.is_some() { "supplied at start" } else { "first key" };
    let key = supplied.cloned().unwrap_or_else(new_api_key);
    let row = |user| key_row(&tenant, user, name, &key, &Scopes::all(), Role::Admin, now, None);
    if existing.is_none() {
        let user = UserRow {
            id: new_id(),
            tenant_id: tenant.as_str().to_owned(),
            username: "admin".to_owned(),
            // Without a password until the administrator sets one.
            password_hash: None,
            role: Role::Admin.as_str().to_owned(),
            state: "active".to_owned(),
            created_at: micros(now),
            updated_at: micros(now),
        };
        if store.insert_first_admin(&tenant, &user, &row(user.id)).await? {
            return Ok(supplied.is_none().then_some(key));
        }
    }
    if supplied.is_some() && !store.key_exists(&hash_token(key.expose())).await? {
        let Some(admin) = store.first_admin().await? else { return Ok(None) };
        match store.insert_key(&tenant, &row(admin.id)).await {
            Ok(()) | Err(StoreError::Taken) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(None)
}

fn is_strong(key: &str) -> bool {
    is_plausible(key) && !looks_made_up(&key.as_bytes()[KEY_PREFIX.len()..], 8)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_supplied_key_must_be_long_and_random() {
        for _ in 0..2_000 {
            assert!(is_strong(new_api_key().expose()));
            let hex = crate::crypto::random_bytes::<16>().iter().fold(String::new(), |s, b| s + &format!("{b:02x}"));
            assert!(is_strong(&format!("mcpg_{hex}")), "{hex}");
        }
        for weak in [
            "",
            "mcpg_",
            "mcpg_change-me",
            "mcpg_aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
            "mcpg_abcdefghijklmnopqrstuvwxyz0123456789",
            "mcpg_passwordpasswordpasswordpasswordpassword",
            "mcpg_01234567890123456789012345678901",
            "sk-A8d7fG6hJ5kL4zX3cV2bN1mQ9wE8rT7yU6iO5pA4s",
            "mcpg_A8d7fG6hJ5kL4zX3cV2bN1mQ9wE8rT7yU6iO5pA4s with a space",
        ] {
            assert!(!is_strong(weak), "{weak}");
        }
    }
}
