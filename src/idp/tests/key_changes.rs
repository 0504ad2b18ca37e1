//! Keys that come and go, and who asks how often.

use std::sync::Arc;
use std::time::{Duration, Instant};

use jsonwebtoken::Algorithm;
use serde_json::{Value, json};
use url::Url;

use super::super::error::{Class, IdpError};
use super::super::http::Http;
use super::super::kept::LEAST;
use super::super::keys::KeyStore;
use super::fake::{Fake, Reply};
use super::world::{Signer, World, now};
use crate::crypto::jwk::PublicKey;
use crate::net::{AddressPolicy, Outbound};

/// A store of keys over a stand-in, and a clock that a test moves.
struct Keys {
    fake: Fake,
    store: KeyStore,
    http: Http,
    now: Instant,
    jwk: Value,
}

impl Keys {
    async fn publishing(ids: &[&str]) -> Self {
        let outbound = Outbound::new(AddressPolicy::STRANGER, None);
        let jwk = Signer::rsa("any").published(None);
        let keys = Self {
            fake: Fake::start().await,
            store: KeyStore::default(),
            http: Http::new(&outbound),
            now: Instant::now(),
            jwk,
        };
        keys.publish(ids);
        keys
    }

    fn publish(&self, ids: &[&str]) {
        let one = |id: &&str| {
            let mut jwk = self.jwk.clone();
            jwk["kid"] = (*id).into();
            jwk
        };
        let keys: Vec<_> = ids.iter().map(one).collect();
        self.fake.always("/keys", Reply::json(200, &json!({"keys": keys})));
    }

    fn url(&self) -> Url {
        Url::parse(&format!("{}/keys", self.fake.base)).unwrap()
    }

    /// The key of this id, if it is published; an error when that cannot be told.
    async fn look(&self, id: &str) -> Result<Option<Arc<PublicKey>>, IdpError> {
        self.store.find(&self.http, &self.url(), Some(id), Algorithm::RS256, self.now).await
    }

    async fn knows(&self, id: &str) -> bool {
        self.look(id).await.unwrap().is_some()
    }

    async fn refresh(&self) -> Result<(), IdpError> {
        self.store.refresh(&self.http, &self.url(), self.now).await
    }

    fn fetches(&self) -> usize {
        self.fake.asked("/keys").len()
    }
}

#[tokio::test]
async fn a_key_published_before_it_signs_is_known_when_it_does() {
    let mut keys = Keys::publishing(&["old"]).await;
    assert!(keys.knows("old").await);
    keys.publish(&["old", "new"]);
    keys.now += Duration::from_hours(1);
    keys.refresh().await.unwrap();
    assert!(keys.knows("new").await);
    assert!(keys.knows("old").await);
    assert_eq!(keys.fetches(), 2);
}

#[tokio::test]
async fn a_key_that_signs_at_once_is_looked_for() {
    let mut keys = Keys::publishing(&["old"]).await;
    assert!(keys.knows("old").await);
    keys.publish(&["old", "new"]);
    keys.now += LEAST;
    assert!(keys.knows("new").await);
    assert_eq!(keys.fetches(), 2);
}

#[tokio::test]
async fn a_key_that_is_taken_back_goes_with_the_next_look() {
    let mut keys = Keys::publishing(&["old", "new"]).await;
    assert!(keys.knows("old").await);
    keys.publish(&["new"]);
    assert!(keys.knows("old").await, "nothing looked again yet");
    keys.refresh().await.unwrap();
    keys.now += LEAST;
    assert!(!keys.knows("old").await);
}

#[tokio::test]
async fn in_an_emergency_all_keys_are_replaced_at_once() {
    let mut keys = Keys::publishing(&["one", "two"]).await;
    assert!(keys.knows("one").await);
    keys.publish(&["three"]);
    keys.now += LEAST;
    assert!(keys.knows("three").await);
    keys.now += LEAST;
    assert!(!keys.knows("one").await);
}

#[tokio::test]
async fn a_flood_of_unknown_keys_makes_one_fetch_in_five_minutes() {
    let mut keys = Keys::publishing(&["good"]).await;
    assert!(keys.knows("good").await);
    keys.now += LEAST;
    let many: Vec<_> = (0..100).map(|n| format!("unknown-{n}")).collect();
    let outcomes = futures_util::future::join_all(many.iter().map(|id| keys.knows(id))).await;
    assert!(outcomes.into_iter().all(|known| !known));
    assert_eq!(keys.fetches(), 2);
    let at_once = keys.now;
    keys.now = at_once + Duration::from_secs(299);
    assert!(!keys.knows("unknown").await);
    assert_eq!(keys.fetches(), 2);
    keys.now = at_once + LEAST;
    assert!(!keys.knows("unknown").await);
    assert_eq!(keys.fetches(), 3);
}

#[tokio::test]
async fn while_the_provider_is_ill_the_last_good_keys_serve() {
    let mut keys = Keys::publishing(&["good"]).await;
    assert!(keys.knows("good").await);
    for reply in [
        Reply::json(503, &json!({})),
        Reply::json(200, &json!({"keys": []})),
        Reply::json(200, &json!({"keys": [{"kty": "oct", "k": "c2VjcmV0", "kid": "good"}]})),
        Reply::Answer { status: 200, headers: Vec::new(), body: "<html>".to_owned() },
        Reply::Answer { status: 200, headers: Vec::new(), body: " ".repeat(600 << 10) },
        Reply::Drop,
    ] {
        keys.fake.always("/keys", reply);
        keys.now += Duration::from_hours(1);
        assert!(matches!(keys.refresh().await.unwrap_err().class, Class::Temporary { .. }));
        assert!(keys.knows("good").await);
        let fetches = keys.fetches();
        let unknown = keys.look("unknown").await.err().unwrap();
        assert!(matches!(unknown.class, Class::Temporary { .. }), "whether it is forged cannot be told: {unknown:?}");
        assert_eq!(keys.fetches(), fetches);
    }
}

#[tokio::test]
async fn a_provider_without_keys_is_asked_again_soon() {
    let mut keys = Keys::publishing(&["good"]).await;
    keys.fake.always("/keys", Reply::json(503, &json!({})));
    assert!(keys.look("good").await.is_err());
    assert!(keys.look("good").await.is_err());
    assert_eq!(keys.fetches(), 1);
    keys.publish(&["good"]);
    keys.now += Duration::from_secs(10);
    assert!(keys.knows("good").await);
}

#[tokio::test]
async fn keys_that_are_for_something_else_are_left_out() {
    let keys = Keys::publishing(&[]).await;
    let one = |changes: Value| super::world::with(keys.jwk.clone(), changes);
    let set = [
        one(json!({"kid": "encrypts", "use": "enc"})),
        one(json!({"kid": "signs", "use": null, "key_ops": ["sign"]})),
        one(json!({"kid": "other", "alg": "RS512"})),
        one(json!({"kid": "broken", "n": "!"})),
        json!(7),
        one(json!({"kid": "good", "use": null, "key_ops": ["verify"], "alg": "RS256"})),
    ];
    keys.fake.always("/keys", Reply::json(200, &json!({"keys": set})));
    assert!(keys.knows("good").await);
    for id in ["encrypts", "signs", "broken"] {
        assert!(!keys.knows(id).await, "{id}");
    }
    assert_eq!(keys.look("other").await.unwrap_err().class, Class::Forged, "it signs in another way");
}

#[tokio::test]
async fn a_flood_at_the_door_makes_one_fetch() {
    let world = World::entra().await;
    let mut header = world.signer.header();
    for n in 0..20 {
        header.kid = Some(format!("unknown-{n}"));
        let token = world.signer.sign_as(&header, &world.access_claims());
        let refused = world.provider().verify_access_token(&token, now()).await.unwrap_err();
        assert_eq!(refused.class, Class::Forged);
    }
    assert_eq!(world.fake.asked(&world.keys_path()).len(), 1);
}

#[tokio::test]
async fn a_key_that_the_provider_itself_uses_is_new_and_not_forged() {
    let world = World::entra().await;
    world.sign_in(&world.signer.sign(&world.id_claims())).await.unwrap();
    // It signs with another one at once, and five minutes have not passed.
    let next = Signer::rsa("next");
    world.publish(&[next.published(Some(&world.issuer(super::world::TENANT)))]);
    let by_next = next.sign(&world.id_claims());
    let refused = world.sign_in(&by_next).await.unwrap_err();
    assert!(matches!(refused.class, Class::Temporary { .. }), "nobody's session ends for it: {refused:?}");
    let shown = world.provider().verify_access_token(&next.sign(&world.access_claims()), now()).await;
    assert_eq!(shown.unwrap_err().class, Class::Forged, "at the door anybody may name a key");
    world.provider().refresh_keys().await.unwrap();
    world.sign_in(&by_next).await.unwrap();
}
