//! Local accounts signing in: passwords are hashed with argon2id, a few at once, away from the threads that serve
//! requests. A name that does not exist costs as much time as a wrong password and gets the same answer.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use argon2::Argon2;
use argon2::password_hash::phc::PasswordHash;
use argon2::password_hash::{PasswordHasher, PasswordVerifier};
use time::OffsetDateTime;
use tokio::sync::Semaphore;
use uuid::Uuid;

use super::keys::key_row;
use super::users::parse_username;
use super::{AccessError, Role, Scopes, UserId};
use crate::crypto::new_api_key;
use crate::id::TenantId;
use crate::secret::Secret;
use crate::store::Store;
use crate::store::tenants::tenant_of;
use crate::store::users::UserRow;

/// How long a key made by signing in is good.
pub const SIGN_IN_LASTS: Duration = Duration::from_hours(8);

/// Passwords hashed at once; each takes 19 MiB and some 20 ms of a core.
const AT_ONCE: usize = 2;
/// Passwords waiting to be hashed; more are told to come back.
const WAITING: usize = 64;
/// Wrong passwords in a row after which a name has to wait after each further one.
const PATIENCE: u32 = 10;
/// How long it then has to wait.
const PAUSE: Duration = Duration::from_mins(1);
/// Names whose wrong passwords are counted at once.
const COUNTED: usize = 4096;

/// Checked in place of a hash that does not exist, at the same cost. Nothing hashes to it.
const DECOY: &str = "$argon2id$v=19$m=19456,t=2,p=1$bm9ib2R5J3Mgc2FsdCE$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";

/// A key that signing in made; shown once.
#[derive(Debug)]
pub struct SignedIn {
    /// The key.
    pub key: Secret,
    /// When it ends.
    pub expires_at: OffsetDateTime,
    /// In which tenant.
    pub tenant: TenantId,
    /// Whose it is.
    pub user: UserId,
    /// The account's role.
    pub role: Role,
}

/// Counts a password against where it comes from before it is looked at, or says that it has to wait. What it gives takes that back,
/// and is called when the password was right.
pub type Count = Box<dyn FnOnce() -> Result<Box<dyn FnOnce() + Send>, AccessError> + Send>;

/// The door for passwords. Cheap to clone; clones share their bounds.
#[derive(Debug, Clone)]
pub struct Accounts(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    queue: Arc<Semaphore>,
    work: Arc<Semaphore>,
    failures: Mutex<HashMap<(TenantId, String), Failures>>,
}

#[derive(Debug, Clone, Copy)]
struct Failures {
    count: u32,
    last: OffsetDateTime,
}

impl Failures {
    fn waits(&self, now: OffsetDateTime) -> bool {
        self.count >= PATIENCE && now < self.last + PAUSE
    }
}

impl Default for Accounts {
    fn default() -> Self {
        Self(Arc::new(Inner {
            queue: Arc::new(Semaphore::new(AT_ONCE + WAITING)),
            work: Arc::new(Semaphore::new(AT_ONCE)),
            failures: Mutex::default(),
        }))
    }
}

impl Accounts {
    /// Hashes a new password to a PHC string.
    pub async fn hash_password(&self, password: Secret) -> Result<String, AccessError> {
        let hashed = self.at_work(move || {
            Argon2::default().hash_password(password.expose().as_bytes()).map(|hash: PasswordHash| hash.to_string())
        });
        hashed.await?.map_err(|error| AccessError::Hashing(error.to_string()))
    }

    /// The account of that name, if the password is its own and it may come in: `name` of the first tenant, `tenant/name` of
    /// another. Ten wrong passwords in a row make a name wait, and `count` where they come from.
    pub async fn check(
        &self,
        store: &Store,
        login: &str,
        password: Secret,
        count: Count,
        now: OffsetDateTime,
    ) -> Result<UserRow, AccessError> {
        let (tenant, username) = whose(login);
        let name = (tenant.clone(), username.chars().take(64).collect::<String>());
        self.check_patience(&name, now)?;
        let user = match parse_username(&username) {
            Ok(username) => store.user_named(&tenant, &username).await?,
            // The look-up takes no time beside the password; what is no name is told nothing either.
            Err(_) => None,
        };
        let stands = match &user {
            Some(user) => store.may_come_in(&tenant, user.id).await?,
            None => false,
        };
        let user = user.filter(|_| stands);
        let hash = user.as_ref().and_then(|user| user.password_hash.clone());
        self.prove(name, password, hash, count, now).await?;
        user.ok_or(AccessError::WrongPassword)
    }

    /// Fails with `WrongPassword` unless `password` is the one that was hashed; with no hash it never is, and takes as long. It is counted
    /// for the name, which may have to wait, and by `count`.
    pub(super) async fn prove(
        &self,
        name: (TenantId, String),
        password: Secret,
        hash: Option<String>,
        count: Count,
        now: OffsetDateTime,
    ) -> Result<(), AccessError> {
        let counting = self.clone();
        let looked = self.at_work(move || {
            // When its turn has come, and counted before it is known: whoever shows many at once has no more tries.
            counting.check_patience(&name, now)?;
            let take_back = count()?;
            counting.count_failure(name.clone(), now);
            if !fits(&password, hash.as_deref()) {
                return Err(AccessError::WrongPassword);
            }
            counting.failures().remove(&name);
            take_back();
            Ok(())
        });
        looked.await?
    }

    /// Checks name and password and makes a key for [`SIGN_IN_LASTS`].
    pub async fn sign_in(
        &self,
        store: &Store,
        login: &str,
        password: Secret,
        count: Count,
        now: OffsetDateTime,
    ) -> Result<SignedIn, AccessError> {
        let user = self.check(store, login, password, count, now).await?;
        let tenant = tenant_of(&user.tenant_id)?;
        let role = Role::parse(&user.role).unwrap_or(Role::User);
        let expires_at = now + SIGN_IN_LASTS;
        let key = new_api_key();
        let mut row = key_row(&tenant, user.id, "sign-in", &key, &Scopes::all(), role, now, Some(expires_at));
        "login".clone_into(&mut row.kind);
        store.insert_login(&tenant, &row).await?;
        Ok(SignedIn { key, expires_at, tenant, user: UserId(user.id), role })
    }

    /// Runs `job` on a thread for blocking work, when its turn comes.
    async fn at_work<T: Send + 'static>(&self, job: impl FnOnce() -> T + Send + 'static) -> Result<T, AccessError> {
        let place = Arc::clone(&self.0.queue).try_acquire_owned().map_err(|_| AccessError::Busy)?;
        let turn = Arc::clone(&self.0.work).acquire_owned().await.map_err(|_| AccessError::Busy)?;
        let done = tokio::task::spawn_blocking(move || {
            // Held here, not by the waiting request: one that goes away does not let another start beside this one.
            let _held = (place, turn);
            job()
        });
        done.await.map_err(|error| AccessError::Hashing(error.to_string()))
    }

    fn check_patience(&self, name: &(TenantId, String), now: OffsetDateTime) -> Result<(), AccessError> {
        match self.failures().get(name) {
            Some(seen) if seen.waits(now) => {
                let rest = seen.last + PAUSE - now;
                Err(AccessError::TooManyAttempts { retry_after: rest.try_into().unwrap_or(PAUSE) })
            }
            _ => Ok(()),
        }
    }

    fn count_failure(&self, name: (TenantId, String), now: OffsetDateTime) {
        let mut failures = self.failures();
        if failures.len() >= COUNTED && !failures.contains_key(&name) {
            // Whoever tries many names pushes out those that were tried least, and none that has to wait.
            let others = failures.iter().filter(|(_, seen)| !seen.waits(now));
            let Some(least) = others.min_by_key(|(_, seen)| (seen.count, seen.last)).map(|(name, _)| name.clone())
            else {
                return;
            };
            failures.remove(&least);
        }
        let seen = failures.entry(name).or_insert(Failures { count: 0, last: now });
        seen.count = seen.count.saturating_add(1);
        seen.last = now;
    }

    fn failures(&self) -> std::sync::MutexGuard<'_, HashMap<(TenantId, String), Failures>> {
        self.0.failures.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Says what is wrong with a new password, if anything: 12 to 1024 bytes, of some variety, and not the name.
pub(super) fn check_password(password: &Secret, username: &str) -> Result<(), AccessError> {
    let text = password.expose();
    let message = if text.len() < 12 {
        "use at least 12 characters"
    } else if text.len() > 1024 {
        "use at most 1024 bytes"
    } else if text.eq_ignore_ascii_case(username) {
        "do not use the user name as password"
    } else if text.chars().collect::<std::collections::HashSet<_>>().len() < 5 {
        "use more than four different characters"
    } else {
        return Ok(());
    };
    Err(super::invalid("password", message))
}

/// Whether `password` is the one that was hashed. Takes as long when there is no hash.
fn fits(password: &Secret, hash: Option<&str>) -> bool {
    let real = hash.and_then(|text| PasswordHash::new(text).ok());
    let known = real.is_some();
    let hash = real.map_or_else(|| PasswordHash::new(DECOY), Ok);
    let fits = hash.is_ok_and(|hash| Argon2::default().verify_password(password.expose().as_bytes(), &hash).is_ok());
    known && fits
}

/// Tenant and name, lower case, of what somebody typed. No name of an account holds a slash.
fn whose(login: &str) -> (TenantId, String) {
    let login = login.trim().to_lowercase();
    match login.split_once('/').map(|(tenant, name)| (TenantId::parse(tenant), name)) {
        Some((Ok(tenant), name)) => (tenant, name.to_owned()),
        // A tenant that cannot be leaves a name that nobody has.
        _ => (TenantId::default_tenant(), login),
    }
}

/// A new row's id.
pub(super) fn new_id() -> Uuid {
    Uuid::now_v7()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn only_the_right_password_fits_and_no_hash_fits_none() {
        let password = Secret::new("a long pass phrase");
        let hash = Accounts::default().hash_password(password.clone()).await.unwrap();
        assert!(hash.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"), "{hash}");
        assert!(fits(&password, Some(&hash)) && !fits(&Secret::new("another phrase"), Some(&hash)));
        assert!(!fits(&password, None) && !fits(&password, Some("damaged")));
    }

    #[test]
    fn names_without_end_neither_stop_the_counting_nor_let_anybody_off() {
        let (accounts, now) = (Accounts::default(), OffsetDateTime::UNIX_EPOCH);
        let name = |text: &str| (TenantId::default_tenant(), text.to_owned());
        let wrong = |text: &str, times| (0..times).for_each(|_| accounts.count_failure(name(text), now));
        wrong("locked", 10);
        wrong("nearly", 9);
        (0..2 * COUNTED).for_each(|n| wrong(&n.to_string(), 1));
        assert_eq!(accounts.failures().len(), COUNTED);
        let waits = |text| accounts.check_patience(&name(text), now).is_err();
        assert!(waits("locked") && !waits("nearly"));
        wrong("nearly", 1);
        wrong("new", 10);
        assert!(waits("locked") && waits("nearly") && waits("new"));
    }

    #[test]
    fn the_decoy_costs_what_a_real_hash_costs() {
        let decoy = PasswordHash::new(DECOY).unwrap();
        let real: PasswordHash = Argon2::default().hash_password(b"x").unwrap();
        assert_eq!((decoy.algorithm, decoy.version), (real.algorithm, real.version));
        assert_eq!(decoy.params.to_string(), real.params.to_string());
        assert_eq!(decoy.hash.unwrap().len(), real.hash.unwrap().len());
    }
}
