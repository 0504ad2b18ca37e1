//! What must be right before a start writes anything. `build` refuses by these checks and `doctor` tells by the same ones, so
//! that the two cannot come to differ. They write nothing.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context as _;
use tokio::time::Instant;

use crate::access::bootstrap::check_supplied;
use crate::config::{RateLimits, Settings};
use crate::crypto::{MasterKey, Sealer};
use crate::limit::board::redis::RedisBoard;
use crate::limit::fair::Rules;
use crate::secret::Secret;
use crate::store::look::Seen;
use crate::store::{Store, StoreError};

/// How long a start waits for a database that does not answer: it may be starting too.
const PATIENCE: Duration = Duration::from_secs(10);
const PAUSE: Duration = Duration::from_millis(250);

/// The database's address: as set, or the file in the data folder.
pub fn database_url(settings: &Settings) -> Secret {
    let own = || Secret::new(format!("sqlite://{}", settings.data.data_dir.join("gateway.sqlite").display()));
    settings.data.database_url.clone().unwrap_or_else(own)
}

/// Refuses a first administrator's key that is none, or can be guessed.
pub fn admin_key(settings: &Settings) -> anyhow::Result<()> {
    let supplied = settings.access.bootstrap_admin_key.as_ref();
    supplied.map_or(Ok(()), check_supplied).context("MREG_BOOTSTRAP_ADMIN_KEY")
}

/// Looks at the database once.
pub async fn database(settings: &Settings) -> Result<Seen, StoreError> {
    Store::look(database_url(settings).expose()).await
}

/// Looks at the database, for a while again and again when it cannot be reached, and says so at once.
pub(super) async fn database_in_time(settings: &Settings) -> Result<Seen, StoreError> {
    let end = Instant::now() + PATIENCE;
    let mut told = false;
    loop {
        match database(settings).await {
            Err(error @ StoreError::Unreachable { .. }) if Instant::now() < end => {
                if !std::mem::replace(&mut told, true) {
                    tracing::warn!("{error}; it is tried again for {} s", PATIENCE.as_secs());
                }
                tokio::time::sleep(PAUSE).await;
            }
            done => return done,
        }
    }
}

/// What all tenants live under.
pub(super) fn rules(settings: &RateLimits) -> Rules {
    Rules {
        capacity_rpm: settings.global_rpm,
        window: Duration::from_secs(settings.fairness_window_seconds.into()),
        fair: settings.fairness,
    }
}

/// The Redis through which replicas share their limits, where one is named. Connects to nothing.
pub fn redis(settings: &Settings) -> anyhow::Result<Option<RedisBoard>> {
    let Some(url) = &settings.data.redis_url else { return Ok(None) };
    let (extra_ca, capacity) = (settings.pools.extra_ca_file.as_deref(), rules(&settings.rate_limits).capacity());
    RedisBoard::open(url.expose(), extra_ca, capacity).map(Some).context("MREG_REDIS_URL")
}

/// The key that seals secrets.
#[derive(Debug)]
pub enum Sealing {
    /// It is there, and opens what is sealed.
    Known(MasterKey),
    /// It is still to be made, in this file.
    New(PathBuf),
}

/// The key that seals secrets, checked against what the database holds, as far as that is known. A database in use without
/// its key is refused: a new key would open none of its secrets, and the old one could no longer be brought back.
pub fn master_key(settings: &Settings, seen: Option<&Seen>) -> anyhow::Result<Sealing> {
    let read = |file: &Path| MasterKey::load(file).with_context(|| "the key that seals secrets");
    let (key, file) = match (&settings.access.master_key, &settings.access.master_key_file) {
        (Some(text), _) => (Some(MasterKey::from_text(text.expose()).context("MREG_MASTER_KEY")?), None),
        (None, Some(file)) => (read(file)?, Some(file.clone())),
        (None, None) => {
            let file = settings.data.data_dir.join("master.key");
            (read(&file)?, Some(file))
        }
    };
    let Some(key) = key else {
        let file = file.unwrap_or_default();
        if let Some(seen) = seen.filter(|seen| seen.in_use) {
            anyhow::bail!(
                "{} is in use, but the key that seals its secrets is not there: {}. Bring the file back from its backup, or \
                 give the key with MREG_MASTER_KEY. If it is lost, {}",
                seen.place,
                file.display(),
                lost(seen, &file)
            );
        }
        return Ok(Sealing::New(file));
    };
    let sealer = Sealer::new(&key);
    for mark in seen.into_iter().flat_map(|seen| &seen.sealed) {
        sealer.check_key(mark).context("the key that seals secrets is not the one of this database")?;
    }
    Ok(Sealing::Known(key))
}

fn lost(seen: &Seen, file: &Path) -> String {
    if seen.sealed.is_empty() {
        let file = file.display();
        return format!(
            "nothing was sealed with it, so a new one does: `(umask 077; openssl rand -base64 32 > '{file}')`"
        );
    }
    "the sealed headers and environments cannot be read any more: begin with a new database, and register the servers anew"
        .to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::DotEnv;
    use crate::crypto::Place;
    use crate::id::TenantId;

    fn settings(more: &[&str]) -> Settings {
        let folder = std::env::temp_dir().join(format!("preflight-{}", uuid::Uuid::now_v7()));
        let own = format!("--data-dir={}", folder.display());
        let args = std::iter::once(own).chain(more.iter().map(|arg| (*arg).to_owned()));
        Settings::from_args(args.collect::<Vec<_>>(), &DotEnv::default()).unwrap()
    }

    fn seen(in_use: bool, sealed: Vec<Vec<u8>>) -> Seen {
        Seen { place: "SQLite in x".into(), exists: true, in_use, sealed }
    }

    #[test]
    fn a_database_in_use_is_refused_without_its_key_and_nothing_is_written() {
        let settings = settings(&[]);
        assert!(matches!(master_key(&settings, Some(&seen(false, Vec::new()))), Ok(Sealing::New(_))));
        let error = format!("{:#}", master_key(&settings, Some(&seen(true, Vec::new()))).unwrap_err());
        assert!(error.contains("master.key") && error.contains("openssl rand"), "{error}");
        let error = format!("{:#}", master_key(&settings, Some(&seen(true, vec![vec![1; 5]]))).unwrap_err());
        assert!(error.contains("register the servers anew"), "{error}");
        assert!(!settings.data.data_dir.exists());
    }

    #[test]
    fn a_key_that_is_not_the_one_the_secrets_were_sealed_with_is_refused() {
        let tenant = TenantId::default_tenant();
        let place = Place { table: "t", row: "r", tenant: &tenant };
        let mark = |key: &MasterKey| Sealer::new(key).seal(place, b"x").unwrap()[..crate::crypto::MARK].to_vec();
        let settings = settings(&["--master-key", "3q2+78r+uq2+7wEjRWeJq83vZyHa5LPh0vYsMRlZh8I="]);
        let Ok(Sealing::Known(own)) = master_key(&settings, None) else { panic!("a good key") };
        master_key(&settings, Some(&seen(true, vec![mark(&own)]))).unwrap();
        let other = MasterKey::generate();
        let error = format!("{:#}", master_key(&settings, Some(&seen(true, vec![mark(&other)]))).unwrap_err());
        assert!(error.contains("another master key") && !error.contains("3q2"), "{error}");
    }

    #[tokio::test]
    async fn looking_makes_nothing() {
        let settings = settings(&[]);
        let seen = database(&settings).await.unwrap();
        assert!(!seen.exists && !seen.in_use && !settings.data.data_dir.exists());
    }
}
