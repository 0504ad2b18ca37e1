//! The first administrator: made at the first start, with a key that is shown once or that the operator supplied.

use super::accounts::new_id;
use super::keyring::is_plausible;
use super::keys::key_row;
use super::{Role, Scopes};
use uuid::Uuid;

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
    /// A key that was made could not be kept, and so does not count.
    #[error("the first key cannot be written: {0}")]
    Keep(std::io::Error),
    /// The database refused or failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Refuses a supplied key that can be guessed or is no key.
pub fn check_supplied(key: &Secret) -> Result<(), BootstrapError> {
    if is_strong(key.expose()) { Ok(()) } else { Err(BootstrapError::WeakKey) }
}

/// What a key is called that was supplied at a start.
pub const SUPPLIED: &str = "supplied at start";

/// What a start made so that somebody may come in.
#[derive(Debug)]
pub struct Admitted<K> {
    /// The key, if it was made here, with what keeps it.
    pub key: Option<(Secret, K)>,
    /// Whose key was made, and the key's id; none: there was nothing to make.
    pub made: Option<(Uuid, Uuid)>,
    /// Whether the account was made with it.
    pub is_first: bool,
}

/// [`bootstrap_kept`] for a caller that has no place to keep the key in.
pub async fn bootstrap(store: &Store, supplied: Option<&Secret>) -> Result<Option<Secret>, BootstrapError> {
    Ok(bootstrap_kept(store, supplied, |_| Ok(())).await?.key.map(|(key, ())| key))
}

/// Makes the user `admin` and its first key when there is no administrator, and says what it made. A
/// supplied key is used instead; where an administrator exists already it is added to the oldest one's, unless it is
/// known, revoked or not. Safe when several processes start at once.
///
/// A key that is made here is given to `keep` before it counts: were it the other way round, a key could count that nobody
/// has. What `keep` gives back comes with the key, and is dropped where another process was first.
pub async fn bootstrap_kept<K>(
    store: &Store,
    supplied: Option<&Secret>,
    keep: impl FnOnce(&Secret) -> std::io::Result<K>,
) -> Result<Admitted<K>, BootstrapError> {
    supplied.map_or(Ok(()), check_supplied)?;
    let existing = store.first_admin().await?;
    let tenant = TenantId::default_tenant();
    let now = now();
    let name = if supplied.is_some() { SUPPLIED } else { "first key" };
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
            issuer: None,
            subject: None,
            display_name: None,
            directory: None,
            guest: false,
            created_at: micros(now),
            updated_at: micros(now),
        };
        let kept = if supplied.is_none() { Some(keep(&key).map_err(BootstrapError::Keep)?) } else { None };
        let first = row(user.id);
        if store.insert_first_admin(&tenant, &user, &first).await? {
            let key = kept.map(|kept| (key, kept));
            return Ok(Admitted { key, made: Some((user.id, first.id)), is_first: true });
        }
    }
    let mut made = None;
    if supplied.is_some()
        && !store.key_exists(&hash_token(key.expose())).await?
        && let Some(admin) = store.first_admin().await?
    {
        let own = row(admin.id);
        match store.insert_key(&tenant, &own).await {
            Ok(()) => made = Some((admin.id, own.id)),
            Err(StoreError::Taken) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(Admitted { key: None, made, is_first: false })
}

/// A new key of the oldest administrator under `name`, in place of those of that name. For whoever may open the database and
/// has no other way in; nothing is made when there is no administrator.
pub async fn fresh_key(store: &Store, name: &str) -> Result<Admitted<()>, StoreError> {
    let Some(admin) = store.first_admin().await? else {
        return Ok(Admitted { key: None, made: None, is_first: false });
    };
    let (tenant, key) = (TenantId::default_tenant(), new_api_key());
    let row = key_row(&tenant, admin.id, name, &key, &Scopes::all(), Role::Admin, now(), None);
    store.replace_key(&tenant, &row).await?;
    Ok(Admitted { key: Some((key, ())), made: Some((admin.id, row.id)), is_first: false })
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
            "mcpg_at_A8d7fG6hJ5kL4zX3cV2bN1mQ9wE8rT7yU6iO5pA4s",
            "mcpg_rt_A8d7fG6hJ5kL4zX3cV2bN1mQ9wE8rT7yU6iO5pA4s",
            "mcpg_ac_A8d7fG6hJ5kL4zX3cV2bN1mQ9wE8rT7yU6iO5pA4s",
        ] {
            assert!(!is_strong(weak), "{weak}");
        }
    }
}
