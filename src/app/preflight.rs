//! What must be right before a start writes anything. `build` refuses by these checks and `doctor` tells by the same ones, so
//! that the two cannot come to differ. They write nothing.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context as _;
use tokio::time::Instant;

use crate::access::bootstrap::check_supplied;
use crate::app::master_key;
use crate::config::{RateLimits, Settings};
use crate::crypto::{CryptoError, MasterKey, Sealer};
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

/// The keys that seal secrets.
#[derive(Debug)]
pub struct Sealing {
    /// The one that seals, or the file in which it is still to be made.
    pub current: Result<MasterKey, PathBuf>,
    /// Those that open what they sealed before.
    pub previous: Vec<MasterKey>,
}

impl Sealing {
    /// What seals and opens; makes the key that is still to be made.
    pub fn sealer(self) -> Result<Sealer, CryptoError> {
        let key = self.current.or_else(|file| MasterKey::load_or_create(&file))?;
        Ok(Sealer::with_previous(&key, &self.previous))
    }
}

/// The keys that seal secrets, checked against what the database holds, as far as that is known. A database in use without
/// its key is refused: a new key would open none of its secrets, and the old one could no longer be brought back.
pub async fn master_key(settings: &Settings, seen: Option<&Seen>) -> anyhow::Result<Sealing> {
    let (key, file) = master_key::current(&settings.access, &settings.data.data_dir).await?;
    let previous = master_key::previous(&settings.access).await?;
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
        return Ok(Sealing { current: Err(file), previous });
    };
    let sealer = Sealer::with_previous(&key, &previous);
    for mark in seen.into_iter().flat_map(Seen::marks) {
        sealer.check_key(mark).context("the key that seals secrets is not the one of this database")?;
    }
    Ok(Sealing { current: Ok(key), previous })
}

fn lost(seen: &Seen, file: &Path) -> String {
    let file = file.display();
    let anew = format!("`(umask 077; openssl rand -base64 32 > '{file}')`");
    match (seen.sealed.is_empty(), seen.own.is_empty()) {
        (true, true) => format!("nothing was sealed with it, so a new one does: {anew}"),
        (true, false) => format!(
            "nobody's secrets were sealed with it, only keys that the gateway makes anew; programs that registered themselves must do so \
             again. Empty the tables `id_keys` and `signing_keys` of the database, and make a new one: {anew}"
        ),
        (false, _) => "the sealed headers and environments cannot be read any more: begin with a new database, and register the servers \
                       anew"
            .to_owned(),
    }
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
        Seen { place: "SQLite in x".into(), exists: true, in_use, sealed, own: Vec::new() }
    }

    #[tokio::test]
    async fn a_database_in_use_is_refused_without_its_key_and_nothing_is_written() {
        let settings = settings(&[]);
        let sealing = master_key(&settings, Some(&seen(false, Vec::new()))).await.unwrap();
        assert!(sealing.current.unwrap_err().ends_with("master.key"));
        let error = format!("{:#}", master_key(&settings, Some(&seen(true, Vec::new()))).await.unwrap_err());
        assert!(error.contains("master.key") && error.contains("openssl rand"), "{error}");
        let error = format!("{:#}", master_key(&settings, Some(&seen(true, vec![vec![1; 5]]))).await.unwrap_err());
        assert!(error.contains("register the servers anew"), "{error}");
        let own = Seen { own: vec![vec![1; 5]], ..seen(true, Vec::new()) };
        let error = format!("{:#}", master_key(&settings, Some(&own)).await.unwrap_err());
        assert!(error.contains("`id_keys` and `signing_keys`") && error.contains("openssl rand"), "{error}");
        assert!(!settings.data.data_dir.exists());
    }

    #[tokio::test]
    async fn a_key_that_is_not_the_one_the_secrets_were_sealed_with_is_refused() {
        let tenant = TenantId::default_tenant();
        let place = Place { table: "t", row: "r", tenant: &tenant, subject: None };
        let mark = |key: &MasterKey| Sealer::new(key).seal(place, b"x").unwrap()[..crate::crypto::MARK].to_vec();
        let (before, now) =
            ("3q2+78r+uq2+7wEjRWeJq83vZyHa5LPh0vYsMRlZh8I=", "mQ4vJ7x0cK1rT9wZ2bN5yH8uE3fL6sA0dG4jP7kV1oI=");
        let own = settings(&["--master-key", before]);
        let marks = [MasterKey::from_text(before).unwrap(), MasterKey::generate()].map(|key| mark(&key));
        master_key(&own, Some(&seen(true, marks[..1].to_vec()))).await.unwrap();
        let changed = ["--master-key", now, "--previous-master-key", before];
        master_key(&settings(&changed), Some(&seen(true, marks[..1].to_vec()))).await.unwrap();
        for settings in [own, settings(&changed), settings(&changed[..2])] {
            let error = format!("{:#}", master_key(&settings, Some(&seen(true, marks.to_vec()))).await.unwrap_err());
            assert!(
                error.contains("another master key") && !error.contains("3q2") && !error.contains("mQ4"),
                "{error}"
            );
        }
        // The keys that the gateway made for itself count as well, until nobody needs them.
        let ids = Seen { own: marks[1..].to_vec(), ..seen(true, marks[..1].to_vec()) };
        let error = format!("{:#}", master_key(&settings(&changed), Some(&ids)).await.unwrap_err());
        assert!(error.contains("another master key"), "{error}");
    }

    #[tokio::test]
    async fn looking_makes_nothing() {
        let settings = settings(&[]);
        let seen = database(&settings).await.unwrap();
        assert!(!seen.exists && !seen.in_use && !settings.data.data_dir.exists());
    }
}
