//! Signs the gateway's word about who calls, and the one by which it proves which client it is. The keys are rows that all processes
//! share, made and replaced by whoever is first; a new one is published for a while before it is signed with, and an old one for a
//! while after.

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use serde::Serialize;
use serde_json::{Value, json};
use time::OffsetDateTime;
use uuid::Uuid;

use crate::crypto::signing::SigningKey;
use crate::crypto::{CryptoError, Place, Sealer};
use crate::id::TenantId;
use crate::secret::Secret;
use crate::store::signing_keys::SigningKeyRow;
use crate::store::{Store, StoreError, at, micros, sealed};

/// Age at which a key is replaced.
const LIFE: Duration = Duration::from_hours(24 * 30);
/// How long a key is published before it is signed with: longer than anybody keeps the keys that were published before.
pub const AHEAD: Duration = Duration::from_hours(1);
/// How long a key is published after another took its place: longer than anything is good that it signed.
const AFTER: Duration = Duration::from_hours(24);

/// Why there is no key.
#[derive(Debug, thiserror::Error)]
pub enum SignerError {
    /// A key cannot be made, sealed or opened.
    #[error("a key that the gateway signs with: {0}")]
    Key(#[from] CryptoError),
    /// The database refused or failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// See the module. Cheap to clone; clones are one.
#[derive(Clone)]
pub struct Signer(Arc<Inner>);

struct Inner {
    store: Store,
    master: Sealer,
    keys: ArcSwap<Keys>,
}

#[derive(Default)]
struct Keys {
    /// Oldest first.
    all: Vec<(OffsetDateTime, Arc<SigningKey>)>,
}

impl Keys {
    /// The one to sign with: the newest that others had time to read, else the oldest.
    fn current(&self, now: OffsetDateTime) -> Option<&Arc<SigningKey>> {
        let known = self.all.iter().rev().find(|(made, _)| *made + AHEAD <= now);
        known.or(self.all.first()).map(|(_, key)| key)
    }
}

impl Signer {
    /// Knows no key yet.
    pub fn new(store: Store, master: Sealer) -> Self {
        Self(Arc::new(Inner { store, master, keys: ArcSwap::default() }))
    }

    /// Makes a key where there is none, or only old ones; forgets what is over; takes over what others made. At the start, and for a
    /// job.
    pub async fn follow(&self, now: OffsetDateTime) -> Result<(), SignerError> {
        let Inner { store, master, keys } = &*self.0;
        let mut all = self.read().await?;
        let newest = all.last().map(|(made, ..)| *made);
        if newest.is_none_or(|made| made + LIFE <= now) {
            let id = Uuid::now_v7();
            let sealed = master.seal(place(&id.to_string(), &TenantId::default_tenant()), &SigningKey::generate()?)?;
            // Where none opens, it is made whatever there is.
            let unless = if newest.is_some() { micros(now - LIFE) } else { i64::MAX };
            store.add_signing_key(&SigningKeyRow { id, sealed, created_at: micros(now) }, unless).await?;
            all = self.read().await?;
        }
        // Only by keys that open: one of a stranger to the master key takes nobody's place.
        let successor = all.iter().rposition(|(made, _, _)| *made + AHEAD + AFTER < now);
        for (_, id, _) in all.drain(..successor.unwrap_or_default()) {
            store.remove_signing_key(id).await?;
        }
        let all = all.into_iter().map(|(made, _, key)| (made, key)).collect();
        keys.store(Arc::new(Keys { all }));
        Ok(())
    }

    /// The keys that there are and that open.
    async fn read(&self) -> Result<Vec<(OffsetDateTime, Uuid, Arc<SigningKey>)>, SignerError> {
        let mut all = Vec::new();
        for row in self.0.store.signing_keys().await? {
            let opened = self.0.master.open(place(&row.id.to_string(), &TenantId::default_tenant()), &row.sealed);
            match opened.and_then(|plain| SigningKey::read(&plain)) {
                Ok(key) => all.push((at(row.created_at), row.id, Arc::new(key))),
                Err(error) => tracing::error!(key = %row.id, "a key that the gateway signs with is left out: {error}"),
            }
        }
        Ok(all)
    }

    /// A signed text of this type with these claims; none before a key is known.
    pub fn sign(&self, kind: &str, claims: &impl Serialize, now: OffsetDateTime) -> Option<Secret> {
        self.0.keys.load().current(now)?.sign(kind, claims).ok()
    }

    /// What it is verified with (RFC 7517 section 5).
    pub fn published(&self) -> Value {
        let keys = self.0.keys.load();
        let all: Vec<&Value> = keys.all.iter().map(|(_, key)| key.public()).collect();
        json!({ "keys": all })
    }
}

fn place<'a>(row: &'a str, tenant: &'a TenantId) -> Place<'a> {
    Place { table: sealed::SIGNING_KEYS.name, row, tenant, subject: None }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::MasterKey;

    #[tokio::test]
    async fn a_new_key_is_published_before_it_signs_and_an_old_one_after() {
        let folder = std::env::temp_dir().join(format!("mcp-gateway-signer-{}", Uuid::now_v7()));
        std::fs::create_dir_all(&folder).unwrap();
        let address = format!("sqlite://{}", folder.join("gateway.db").display());
        let store = Store::connect(&address, 1).await.unwrap();
        let sealer = Sealer::new(&MasterKey::generate());
        let [one, two] = [(); 2].map(|()| Signer::new(store.clone(), sealer.clone()));
        let begin = OffsetDateTime::from_unix_timestamp(1_800_000_000).unwrap();
        let kid = |signer: &Signer, now| {
            let signed = signer.sign("x+jwt", &json!({}), now).unwrap();
            jsonwebtoken::decode_header(signed.expose()).unwrap().kid.unwrap()
        };
        let kids = |signer: &Signer| {
            let all = signer.published();
            all["keys"]
                .as_array()
                .unwrap()
                .iter()
                .map(|key| key["kid"].as_str().unwrap().to_owned())
                .collect::<Vec<_>>()
        };
        assert!(one.sign("x+jwt", &json!({}), begin).is_none());
        one.follow(begin).await.unwrap();
        two.follow(begin).await.unwrap();
        let first = kid(&one, begin);
        assert_eq!(kid(&two, begin), first, "of two processes one made it");

        let later = begin + LIFE;
        two.follow(later).await.unwrap();
        one.follow(later).await.unwrap();
        assert_eq!(kids(&one).len(), 2);
        assert_eq!(kid(&one, later), first);
        let second = kid(&one, later + AHEAD);
        assert_ne!(second, first);

        one.follow(later + AHEAD + AFTER).await.unwrap();
        assert_eq!(kids(&one).len(), 2, "what the first signed last is not old enough");
        one.follow(later + AHEAD + AFTER + Duration::from_secs(1)).await.unwrap();
        assert_eq!(kids(&one), std::slice::from_ref(&second));

        let stranger = Signer::new(store.clone(), Sealer::new(&MasterKey::generate()));
        stranger.follow(later + AHEAD).await.unwrap();
        assert!(!kids(&stranger).contains(&second), "it is sealed");
        let much = later + AHEAD + AHEAD + AFTER + Duration::from_secs(9);
        stranger.follow(much).await.unwrap();
        one.follow(much).await.unwrap();
        assert_eq!(kids(&one), std::slice::from_ref(&second), "what does not open takes nobody's place");
        store.close().await;
        std::fs::remove_dir_all(&folder).unwrap();
    }
}
