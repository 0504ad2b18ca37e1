//! Whose is what is shown: by every part of the key, in any order of coming.

use std::collections::HashMap;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use proptest::prelude::*;
use serde_json::{Value, json};
use time::OffsetDateTime;
use tokio::runtime::Runtime;
use tokio_util::task::TaskTracker;

use super::*;
use crate::access::{Direct, TokenRing};
use crate::connections::Connections;
use crate::crypto::{MasterKey, Sealer};
use crate::id::ServerId;
use crate::net::{AddressPolicy, Outbound};
use crate::registry::model::Server;
use crate::store::Store;
use crate::telemetry::Metrics;
use crate::upstream::credentials::{Credentials, signer::Signer};
use crate::vault::Vault;

struct World {
    runtime: Runtime,
    folder: std::path::PathBuf,
    store: Store,
    credentials: Credentials,
    plans: Vec<Arc<Plan>>,
    callers: Vec<Caller>,
    /// Callers end with it.
    _ring: TokenRing,
}

/// Somebody by the token of this number.
fn caller(ring: &TokenRing, token: usize, tenant: &str, user: u128, role: Role) -> Caller {
    let now = OffsetDateTime::now_utc();
    let who = Direct {
        issuer: "https://idp",
        subject: "s",
        provider: "idp",
        tenant: TenantId::parse(tenant).unwrap(),
        user: Uuid::from_u128(user),
        username: "n",
        role,
        memberships: &Arc::default(),
        expires_at: now + Duration::from_hours(1),
    };
    ring.admit(&format!("token {token}"), &who, now, ring.reloads()).unwrap()
}

impl World {
    fn new() -> Self {
        let runtime = Runtime::new().unwrap();
        let folder = std::env::temp_dir().join(format!("mcp-gateway-kept-{}", Uuid::now_v7()));
        std::fs::create_dir_all(&folder).unwrap();
        let url = format!("sqlite://{}", folder.join("gateway.db").display());
        let store = runtime.block_on(Store::connect(&url, 1)).unwrap();
        let sealer = Sealer::new(&MasterKey::generate());
        let signer = Signer::new(store.clone(), sealer.clone());
        runtime.block_on(signer.follow(OffsetDateTime::now_utc())).unwrap();
        let outbound = Outbound::new(AddressPolicy::ADMIN, None);
        let metrics = Arc::new(Metrics::new(10));
        let vault = Vault::new(store.clone(), sealer);
        let tasks = TaskTracker::new();
        let connections = Connections::new(store.clone(), vault, &outbound, "https://gateway", &metrics, &tasks);
        let credentials = Credentials::new(&outbound, signer, connections, "https://gateway", &metrics, &tasks);
        let ring = TokenRing::new("https://gateway", 1_000, OffsetDateTime::now_utc());
        let mut callers = Vec::new();
        for tenant in ["default", "acme"] {
            for user in [1, 2] {
                for role in [Role::User, Role::Admin] {
                    for _ in 0..2 {
                        callers.push(caller(&ring, callers.len(), tenant, user, role));
                    }
                }
            }
        }
        let mut world = Self { runtime, folder, store, credentials, plans: Vec::new(), callers, _ring: ring };
        for audience in ["https://a", "https://b", "https://b"] {
            world.add(audience);
        }
        world
    }

    fn add(&mut self, audience: &str) {
        let now = OffsetDateTime::now_utc();
        let auth = json!({"kind": "identity", "claims": ["role"], "audience": audience});
        let spec = json!({"slug": "a", "replicas": [{"url": "https://a/mcp"}], "auth": auth});
        let server = Server {
            id: ServerId::new(),
            tenant: TenantId::default_tenant(),
            spec: serde_json::from_value(spec).unwrap(),
            revision: 1,
            created_at: now,
            updated_at: now,
        };
        self.plans.push(Plan::of(&server, &self.credentials).unwrap().unwrap());
    }

    /// What is shown: got, or there already.
    fn shown(&self, plan: &Arc<Plan>, caller: Option<&Caller>) -> Arc<Shown> {
        match plan.ready(caller) {
            Ok(shown) => shown.unwrap(),
            Err(key) => self.runtime.block_on(plan.get(key, caller)).unwrap(),
        }
    }
}

impl Drop for World {
    fn drop(&mut self) {
        self.runtime.block_on(self.store.close());
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

fn claims(shown: &Shown) -> Value {
    let word = shown.headers[0].1.to_str().unwrap();
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(word.split('.').nth(1).unwrap()).unwrap()).unwrap()
}

#[test]
fn nobody_is_ever_shown_as_another_whatever_of_them_is_the_same() {
    let world = World::new();
    let (plans, callers) = (world.plans.len(), world.callers.len());
    let steps = prop::collection::vec((0..plans, prop::option::of(0..callers)), 1..200);
    proptest!(ProptestConfig::with_cases(40), |(steps in steps)| {
        let mut seen: HashMap<*const Shown, (usize, Option<usize>)> = HashMap::new();
        let mut held = Vec::new();
        for (plan, who) in steps {
            let caller = who.map(|who| &world.callers[who]);
            let shown = world.shown(&world.plans[plan], caller);
            let claims = claims(&shown);
            let subject = caller.map_or("gateway".to_owned(), |caller| caller.user_id().to_string());
            prop_assert_eq!(claims["sub"].as_str(), Some(&*subject));
            prop_assert_eq!(claims["tenant"].as_str(), Some(caller.map_or("default", |caller| caller.tenant().as_str())));
            prop_assert_eq!(claims["role"].as_str(), caller.map(|caller| caller.role().as_str()));
            prop_assert_eq!(claims["aud"].as_str(), Some(["https://a", "https://b", "https://b"][plan]));
            // Two credentials of one person in one role share nothing, nor do two servers that want the same.
            prop_assert_eq!(*seen.entry(Arc::as_ptr(&shown)).or_insert((plan, who)), (plan, who));
            held.push(shown);
        }
    });
    assert!(world.credentials.kept().len() <= plans * (callers + 1));
}

#[test]
fn what_is_for_a_server_or_a_session_that_is_gone_is_forgotten() {
    let mut world = World::new();
    let caller = world.callers[0].clone();
    for plan in world.plans.clone() {
        world.shown(&plan, Some(&caller));
        world.shown(&plan, None);
    }
    let kept = world.credentials.kept();
    assert_eq!(kept.len(), 6);
    assert!(kept.due(Instant::now()).is_empty() && kept.len() == 6, "nothing ends soon");
    let soon = Instant::now() + Duration::from_secs(280);
    assert!(kept.due(soon).is_empty(), "nothing of it was used");
    for plan in &world.plans {
        assert!(plan.ready(Some(&caller)).is_ok());
    }
    assert_eq!(kept.due(soon).len(), 3);
    for shard in &kept.shards {
        shard.read().unwrap().values().for_each(|slot| slot.stuck.store(true, Relaxed));
    }
    assert!(kept.due(soon).is_empty(), "what somebody must mend is not asked for ahead");
    world.plans.truncate(1);
    world.credentials.kept().due(Instant::now());
    assert_eq!(world.credentials.kept().len(), 2, "of the server that is there");
    caller.ended().cancel();
    world.credentials.kept().due(Instant::now());
    assert_eq!(world.credentials.kept().len(), 1, "the gateway's own");
}

fn slot() -> Slot {
    Slot {
        plan: Weak::new(),
        caller: None,
        own: true,
        current: ArcSwapOption::empty(),
        used: AtomicBool::new(false),
        stuck: AtomicBool::new(false),
        made: Instant::now(),
        forced: std::sync::Mutex::default(),
        turn: Mutex::default(),
    }
}

#[tokio::test]
async fn what_failed_waits_longer_when_somebody_must_mend_it_and_is_not_renewed_ahead() {
    for (said, least, stuck) in [
        (Some(Duration::ZERO), AFTER_FAILURE, false),
        (Some(Duration::from_mins(1)), Duration::from_mins(1), false),
        (Some(Duration::from_hours(9)), LONGEST, false),
        (None, UNTIL_MENDED, true),
    ] {
        let (slot, begun) = (slot(), Instant::now());
        let fault = Fault { retry_after: said, ..Fault::gateway(crate::fault::Kind::NoCredential, "no") };
        assert!(slot.get(None, std::future::ready(Err(fault))).await.is_err());
        let until = slot.turn.lock().await.failed.as_ref().unwrap().0;
        assert!(until >= begun + least && until <= Instant::now() + least, "{said:?}");
        assert_eq!(slot.stuck.load(Relaxed), stuck, "{said:?}");
        slot.turn.lock().await.failed = None;
        let give = std::future::ready(Ok(Shown::fixed(Vec::new())));
        assert!(slot.get(None, give).await.is_ok() && !slot.stuck.load(Relaxed));
    }
}

#[tokio::test]
async fn one_gets_it_for_all_and_what_failed_is_not_tried_again_at_once() {
    let slot = slot();
    let asked = AtomicU64::new(0);
    let fail = || async {
        asked.fetch_add(1, Relaxed);
        Err(Fault::gateway(crate::fault::Kind::NoCredential, "no"))
    };
    for _ in 0..50 {
        assert!(slot.get(None, fail()).await.is_err());
    }
    assert_eq!(asked.load(Relaxed), 1);
    slot.turn.lock().await.failed = None;
    let give = || async {
        asked.fetch_add(1, Relaxed);
        tokio::task::yield_now().await;
        Ok(Shown::fixed(Vec::new()).lasting(Duration::from_mins(5), Instant::now()))
    };
    let all = futures_util::future::join_all((0..50).map(|_| slot.get(None, give()))).await;
    let first = all[0].as_ref().unwrap();
    assert!(all.iter().all(|shown| Arc::ptr_eq(shown.as_ref().unwrap(), first)));
    assert_eq!(asked.load(Relaxed), 2);
    // Of fifty to whom it was refused, one gets another for all.
    let all = futures_util::future::join_all((0..50).map(|_| slot.get(Some(first), give()))).await;
    assert!(all.iter().all(|shown| !Arc::ptr_eq(shown.as_ref().unwrap(), first)));
    assert_eq!(asked.load(Relaxed), 3);

    let (second, now) = (slot.good(Instant::now()).unwrap(), Instant::now());
    assert!(slot.may_replace(first, now), "somebody has got another already");
    assert!(
        slot.may_replace(&second, now) && slot.may_replace(&second, now),
        "whoever else it was refused to waits for it"
    );
    let third = slot.get(Some(&second), give()).await.unwrap();
    assert!(!slot.may_replace(&third, now + AFTER_REFUSAL / 2), "not again and again");
    assert!(slot.may_replace(&third, now + AFTER_REFUSAL));
}

#[tokio::test]
async fn a_server_that_goes_on_refusing_is_got_something_for_less_and_less_often() {
    let (slot, mut now) = (slot(), Instant::now());
    let mut refused = slot.get(None, std::future::ready(Ok(Shown::fixed(Vec::new())))).await.unwrap();
    let mut pauses = Vec::new();
    for _ in 0..9 {
        assert!(slot.may_replace(&refused, now));
        refused = slot.get(Some(&refused), std::future::ready(Ok(Shown::fixed(Vec::new())))).await.unwrap();
        let pause = slot.forced.lock().unwrap().as_ref().unwrap().pause;
        assert!(!slot.may_replace(&refused, now + pause.saturating_sub(Duration::from_millis(1))));
        now += pause;
        pauses.push(pause.as_secs());
    }
    assert_eq!(pauses, [10, 20, 40, 80, 160, 320, 600, 600, 600]);
    assert!(slot.may_replace(&refused, now + AFTER_REFUSALS), "it was content for long");
    assert_eq!(slot.forced.lock().unwrap().as_ref().unwrap().pause, AFTER_REFUSAL);
}
