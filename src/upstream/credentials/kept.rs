//! What was got to show servers, for whom: in memory, bounded, each behind a key that names everything that it was got for. It is
//! got by one at a time, and what failed is not tried again at once, however many want it.

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard, Weak};
use std::time::{Duration, Instant};

use ahash::{AHashMap, RandomState};
use arc_swap::{ArcSwap, ArcSwapOption};
use tokio::sync::Mutex;
use uuid::Uuid;

use super::plan::Plan;
use super::shown::Shown;
use crate::access::{Caller, Role};
use crate::connections::Change;
use crate::fault::{Fault, Kind};
use crate::id::TenantId;

/// Parts of the map, each with a lock of its own.
const SHARDS: usize = 16;
/// Most that are kept.
pub const MOST: usize = 100_000;
/// How long what failed for a while is not tried again, unless it says when: no sooner, however soon it says.
const AFTER_FAILURE: Duration = Duration::from_secs(10);
/// The same of what somebody must mend first.
const UNTIL_MENDED: Duration = Duration::from_mins(2);
/// However long it says.
const LONGEST: Duration = Duration::from_mins(5);
/// How long after something was got because a server refused what was there, it is not got for that reason again.
const AFTER_REFUSAL: Duration = Duration::from_secs(10);
/// The same of a server that goes on refusing what is got anew: twice as long each time, and no longer than this.
const AFTER_REFUSALS: Duration = Duration::from_mins(10);
/// How long what is not used any more is kept, after it was got.
const UNUSED: Duration = Duration::from_mins(10);

/// For whom something is.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Holder {
    /// The gateway, for what it asks itself; and for calls where these come with the same.
    Gateway,
    /// Whoever calls, where all come with the same and the gateway itself with another.
    Calls,
    /// One person, by one credential of theirs: what they are at another depends on both.
    Person {
        /// In which tenant.
        tenant: TenantId,
        /// The account.
        user: Uuid,
        /// The key or grant that was shown.
        credential: Uuid,
        /// In which role.
        role: Role,
    },
}

impl Holder {
    /// This caller.
    pub fn of(caller: &Caller) -> Self {
        Self::Person {
            tenant: caller.tenant().clone(),
            user: caller.user_id().uuid(),
            credential: caller.credential(),
            role: caller.role(),
        }
    }

    /// Whether both are one account, by whatever credential.
    pub fn is_of_account_of(&self, other: &Self) -> bool {
        let account = |holder: &Self| match holder {
            Self::Person { tenant, user, .. } => Some((tenant.clone(), *user)),
            Self::Gateway | Self::Calls => None,
        };
        account(self).is_some_and(|own| account(other) == Some(own))
    }
}

/// What something was got for: a server as it is set up, with everything that its description says of credentials; and for whom.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Key {
    /// Which plan: no two of a process have the same, also of the same server described anew.
    pub plan: u64,
    /// For whom.
    pub holder: Holder,
}

/// See the module.
pub struct Kept {
    shards: [RwLock<AHashMap<Key, Arc<Slot>>>; SHARDS],
    hasher: RandomState,
    held: AtomicUsize,
    shed: AtomicU64,
}

impl Default for Kept {
    fn default() -> Self {
        let shards = std::array::from_fn(|_| RwLock::default());
        Self { shards, hasher: RandomState::new(), held: AtomicUsize::new(0), shed: AtomicU64::new(0) }
    }
}

/// A place for what is got for one key.
pub struct Slot {
    plan: Weak<Plan>,
    /// Who it is for, as they came last; none for the gateway.
    caller: Option<ArcSwap<Caller>>,
    /// Whether it is for the gateway's own questions.
    own: bool,
    current: ArcSwapOption<Shown>,
    /// Whether it was used since it was got.
    used: AtomicBool,
    /// Whether it could not be got the last time until somebody mends something: it is not renewed ahead then, but when it is wanted.
    stuck: AtomicBool,
    made: Instant,
    /// When it was last got because a server refused what was there.
    forced: std::sync::Mutex<Option<Forced>>,
    turn: Mutex<Turn>,
}

/// That it was got because a server refused what was there.
struct Forced {
    at: Instant,
    /// What was refused.
    refused: Weak<Shown>,
    /// How long it is not got again for that reason.
    pause: Duration,
}

/// Held by who gets it.
#[derive(Default)]
struct Turn {
    failed: Option<(Instant, Fault)>,
}

/// What is to be renewed.
pub struct Due {
    plan: Arc<Plan>,
    slot: Arc<Slot>,
}

impl Due {
    /// Gets it anew. What is there stays as long as it is good.
    pub async fn renew(self) {
        let before = self.slot.current.load_full();
        if let Err(fault) = self.plan.renew(&self.slot, before.as_ref()).await {
            tracing::warn!(server = %self.plan.slug(), "what is shown to the server could not be renewed: {fault}");
        }
    }
}

impl Slot {
    /// Who it is for; none for the gateway.
    pub(super) fn caller(&self) -> Option<Caller> {
        self.caller.as_ref().map(|caller| Caller::clone(&caller.load()))
    }

    /// Whether it is for the gateway's own questions.
    pub(super) fn is_own(&self) -> bool {
        self.own
    }

    /// Whether the last time somebody had to mend something first.
    pub(super) fn is_stuck(&self) -> bool {
        self.stuck.load(Relaxed)
    }

    /// What was got last, good or not.
    pub(super) fn last(&self) -> Option<Arc<Shown>> {
        self.current.load_full()
    }

    /// What is there and good.
    pub(super) fn good(&self, now: Instant) -> Option<Arc<Shown>> {
        self.current.load_full().filter(|shown| shown.is_good(now))
    }

    /// Whether something may be got in the place of what a server refused: once for all whom it refuses, and not again and again.
    pub(super) fn may_replace(&self, refused: &Arc<Shown>, now: Instant) -> bool {
        if self.current.load().as_ref().is_none_or(|current| !Arc::ptr_eq(current, refused)) {
            return true;
        }
        let mut forced = self.forced.lock().unwrap_or_else(PoisonError::into_inner);
        let pause = match &*forced {
            // Somebody is at it: what they get is for all.
            Some(last) if std::ptr::eq(last.refused.as_ptr(), Arc::as_ptr(refused)) => return true,
            Some(last) if now.duration_since(last.at) < last.pause => return false,
            Some(last) if now.duration_since(last.at) < last.pause * 2 => (last.pause * 2).min(AFTER_REFUSALS),
            _ => AFTER_REFUSAL,
        };
        *forced = Some(Forced { at: now, refused: Arc::downgrade(refused), pause });
        true
    }

    /// What is got by one at a time: another than `refused`, if somebody got that meanwhile, else what `get` gives. A failure is
    /// repeated for a while, and not tried again.
    pub(super) async fn get(
        &self,
        refused: Option<&Arc<Shown>>,
        get: impl Future<Output = Result<Shown, Fault>>,
    ) -> Result<Arc<Shown>, Fault> {
        let mut turn = self.turn.lock().await;
        let now = Instant::now();
        let other = |shown: &Arc<Shown>| refused.is_none_or(|refused| !Arc::ptr_eq(shown, refused));
        if let Some(shown) = self.good(now).filter(other) {
            return Ok(shown);
        }
        if let Some((_, fault)) = turn.failed.as_ref().filter(|(until, _)| now < *until) {
            return Err(fault.clone());
        }
        match get.await {
            Ok(shown) => {
                let shown = Arc::new(shown);
                self.current.store(Some(Arc::clone(&shown)));
                self.used.store(false, Relaxed);
                self.stuck.store(false, Relaxed);
                turn.failed = None;
                Ok(shown)
            }
            // Whoever has connected comes again at once.
            Err(fault) if fault.kind == Kind::Connect => {
                self.stuck.store(true, Relaxed);
                turn.failed = None;
                Err(fault)
            }
            Err(fault) => {
                let pause = fault.retry_after.unwrap_or(UNTIL_MENDED).clamp(AFTER_FAILURE, LONGEST);
                self.stuck.store(fault.retry_after.is_none(), Relaxed);
                turn.failed = Some((Instant::now() + pause, fault.clone()));
                Err(fault)
            }
        }
    }

    /// Whether it is of no use any more.
    fn is_over(&self, now: Instant) -> bool {
        let gone = |caller: &ArcSwap<Caller>| caller.load().has_ended();
        let unused = || now.duration_since(self.made) > UNUSED && self.good(now).is_none();
        self.plan.strong_count() == 0 || self.caller.as_ref().is_some_and(gone) || unused()
    }
}

impl Kept {
    /// Somebody connected or disconnected: what was kept of that is got anew.
    pub fn forget(&self, change: &Change) {
        let is_of = |key: &Key, slot: &Slot| {
            let Holder::Person { tenant, user, .. } = &key.holder else { return false };
            let plan = || slot.plan.upgrade();
            *tenant == change.tenant
                && *user == change.user
                && plan().is_some_and(|plan| plan.connects_to(change.server))
        };
        for shard in &self.shards {
            shard.write().unwrap_or_else(PoisonError::into_inner).retain(|key, slot| !is_of(key, slot));
        }
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.held.load(Relaxed)
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many gave way to others.
    pub fn shed(&self) -> u64 {
        self.shed.load(Relaxed)
    }

    /// What is there for the key and good.
    pub fn good(&self, key: &Key, caller: Option<&Caller>, now: Instant) -> Option<Arc<Shown>> {
        let slot = self.read(key).get(key)?.clone();
        let shown = slot.good(now)?;
        if !slot.used.load(Relaxed) {
            slot.used.store(true, Relaxed);
        }
        slot.came(caller);
        Some(shown)
    }

    /// The place for the key, made if there is none.
    pub fn slot(&self, key: &Key, plan: &Arc<Plan>, caller: Option<&Caller>) -> Arc<Slot> {
        if let Some(slot) = self.read(key).get(key) {
            slot.came(caller);
            return slot.clone();
        }
        let now = Instant::now();
        let mut shard = self.write(key);
        let before = shard.len();
        if before >= MOST / SHARDS && !shard.contains_key(key) {
            shard.retain(|_, slot| !slot.is_over(now) && slot.good(now).is_some());
            // Whichever gives way is got again when it is wanted again.
            while shard.len() >= MOST / SHARDS {
                let Some(some) = shard.keys().next().cloned() else { break };
                shard.remove(&some);
                self.shed.fetch_add(1, Relaxed);
            }
        }
        let new = || {
            Arc::new(Slot {
                plan: Arc::downgrade(plan),
                caller: caller.cloned().map(ArcSwap::from_pointee),
                own: key.holder == Holder::Gateway,
                current: ArcSwapOption::empty(),
                used: AtomicBool::new(false),
                stuck: AtomicBool::new(false),
                made: now,
                forced: std::sync::Mutex::default(),
                turn: Mutex::default(),
            })
        };
        let slot = shard.entry(key.clone()).or_insert_with(new).clone();
        self.held.fetch_add(shard.len().wrapping_sub(before), Relaxed);
        slot
    }

    /// What is to be renewed: it ends soon, was used since it was got, and is for somebody who may come in still. Forgets what is of
    /// no use any more.
    pub fn due(&self, now: Instant) -> Vec<Due> {
        let (mut due, mut held) = (Vec::new(), 0);
        for shard in &self.shards {
            let mut shard = shard.write().unwrap_or_else(PoisonError::into_inner);
            shard.retain(|_, slot| !slot.is_over(now));
            held += shard.len();
            let ends = |slot: &&Arc<Slot>| {
                let wanted = slot.used.load(Relaxed) && !slot.stuck.load(Relaxed);
                wanted && slot.current.load().as_ref().is_some_and(|shown| shown.is_due(now))
            };
            due.extend(
                shard
                    .values()
                    .filter(ends)
                    .filter_map(|slot| Some(Due { plan: slot.plan.upgrade()?, slot: slot.clone() })),
            );
        }
        self.held.store(held, Relaxed);
        due
    }

    fn shard(&self, key: &Key) -> &RwLock<AHashMap<Key, Arc<Slot>>> {
        #[expect(clippy::cast_possible_truncation, reason = "any part of a hash is as good")]
        let at = self.hasher.hash_one(key) as usize % SHARDS;
        &self.shards[at]
    }

    fn read(&self, key: &Key) -> RwLockReadGuard<'_, AHashMap<Key, Arc<Slot>>> {
        self.shard(key).read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self, key: &Key) -> RwLockWriteGuard<'_, AHashMap<Key, Arc<Slot>>> {
        self.shard(key).write().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Slot {
    /// Takes over who comes: their next access token is another, and lasts longer.
    fn came(&self, caller: Option<&Caller>) {
        if let (Some(held), Some(caller)) = (&self.caller, caller)
            && !held.load().is(caller)
        {
            held.store(Arc::new(caller.clone()));
        }
    }
}

#[cfg(test)]
mod tests;
