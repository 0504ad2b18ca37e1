//! The access tokens that were shown to this process lately, so that authenticating reads no database. What is not here is
//! read once and kept until it ends; the store decides, this is its memory.
//!
//! A token stops being good when it expires, when its grant ends, or when its account is disabled. The first is seen here; of
//! the others the store is asked every half second ([`TokenRing::forget_ended`]) and after each change of accounts
//! ([`TokenRing::reload`]).

use std::collections::{HashMap, HashSet};
use std::convert::Infallible;
use std::sync::atomic::{AtomicI64, AtomicU64, AtomicUsize, Ordering::Relaxed, Ordering::SeqCst};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::Duration;

use time::OffsetDateTime;
use tokio::sync::Semaphore;
use uuid::Uuid;

use super::keyring::{barred, ended};
use super::shared::Shared;
use super::{Allow, AuthError, Caller, Identity, Memberships, Role, Scopes, SessionType, Shown, UserId};
use crate::crypto::{TokenKind, hash_token, is_token};
use crate::id::{Principal, TenantId};
use crate::store::live_tokens::{LiveTokenRow, StandingRow};
use crate::store::tenants::tenant_of;
use crate::store::{Store, StoreError, micros};

/// Parts of the map, each with a lock of its own.
const SHARDS: usize = 16;
/// Unknown tokens that are remembered, so that whoever repeats one does not reach the database each time.
const MOST_UNKNOWN: usize = 8192;
/// For how long: microseconds. A token cannot become good later, but memory is bounded.
const UNKNOWN_FOR: i64 = 30_000_000;
/// Tokens that are read from the database at once; more wait.
const READERS: usize = 8;
/// Uses closer together than this (microseconds) are one.
const SAME_USE: i64 = 1_000_000;
/// How far back it is asked which grants have ended (microseconds): what was committed late, or by a process whose clock is
/// behind, is still seen.
const LOOK_BACK: i64 = 60_000_000;
/// How often a token is read whose account or grant changes just then.
const TRIES: usize = 5;
/// Most ended grants that one question brings.
const ENDED_AT_ONCE: i64 = 10_000;
/// Most ended grants that are remembered; some 30 bytes each.
const MOST_ENDED: usize = 100_000;

type Hash = [u8; 32];
type Shard = HashMap<Hash, Entry, ahash::RandomState>;

/// See the module. Cheap to clone; clones are one ring.
#[derive(Debug, Clone)]
pub struct TokenRing(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    /// What resources begin with: the issuer, without a slash at its end.
    issuer: Box<str>,
    shards: [RwLock<Shard>; SHARDS],
    most: usize,
    held: AtomicUsize,
    /// Until when they are remembered, and what is told of them.
    unknown: Mutex<HashMap<Hash, (i64, AuthError), ahash::RandomState>>,
    texts: Shared<Arc<str>>,
    tenants: Shared<TenantId>,
    scopes: Shared<Arc<Scopes>>,
    memberships: Shared<Arc<Memberships>>,
    readers: Semaphore,
    /// When it was last asked, by the own clock, which grants have ended; microseconds since 1970.
    asked_at: AtomicI64,
    /// Grants of whose end was heard lately, and when.
    ended: Mutex<HashMap<Uuid, i64, ahash::RandomState>>,
    /// Held by who ends tokens, until they are ended.
    ending: Mutex<()>,
    /// How often what was read before became unsure: accounts were taken over anew, or ended grants forgotten.
    reloads: AtomicU64,
    /// How often the database was asked about a token.
    misses: AtomicUsize,
}

#[derive(Debug)]
struct Entry {
    caller: Caller,
    /// Microseconds since 1970.
    expires_at: i64,
    /// [`TokenRing::reloads`] when it was read.
    read_at: u64,
    /// When it was last shown, and up to when that is stored.
    used: AtomicI64,
    stored: AtomicI64,
}

impl Drop for Entry {
    /// What is held open under it ends with it: in no shard, it would not hear that its grant has ended.
    fn drop(&mut self) {
        self.caller.ended().cancel();
    }
}

impl TokenRing {
    /// A ring that holds at most `most` tokens for resources of `issuer` and knows none yet. `now` is the time from which on
    /// it must hear of grants that end.
    pub fn new(issuer: &str, most: usize, now: OffsetDateTime) -> Self {
        Self(Arc::new(Inner {
            issuer: issuer.trim_end_matches('/').into(),
            shards: std::array::from_fn(|_| RwLock::default()),
            most: most.max(SHARDS),
            held: AtomicUsize::new(0),
            unknown: Mutex::default(),
            texts: Shared::default(),
            tenants: Shared::default(),
            scopes: Shared::default(),
            memberships: Shared::default(),
            readers: Semaphore::new(READERS),
            asked_at: AtomicI64::new(micros(now)),
            ended: Mutex::default(),
            ending: Mutex::default(),
            reloads: AtomicU64::new(0),
            misses: AtomicUsize::new(0),
        }))
    }

    /// Who shows `token` at `now`, if this process knows it. Reads no database and allocates nothing.
    pub fn known(&self, token: &str, now: OffsetDateTime) -> Option<Caller> {
        let hash = hash_token(token);
        let now = micros(now);
        let shard = self.read(&hash);
        let entry = shard.get(&hash).filter(|entry| entry.expires_at > now && !entry.caller.has_ended())?;
        if now - entry.used.load(Relaxed) >= SAME_USE {
            entry.used.fetch_max(now, Relaxed);
        }
        Some(entry.caller.clone())
    }

    /// Who shows `token` at `now`, read from the store where this process does not know.
    pub async fn find(&self, store: &Store, token: &str, now: OffsetDateTime) -> Result<Caller, AuthError> {
        if !is_token(TokenKind::Access, token) {
            return Err(AuthError::Malformed);
        }
        let hash = hash_token(token);
        let at = micros(now);
        if let Some((_, error)) = self.unknown().get(&hash).filter(|(until, _)| *until > at) {
            return Err(*error);
        }
        let Ok(_turn) = self.0.readers.acquire().await else { return Err(AuthError::Unavailable) };
        // Somebody before in the queue may have read the same.
        if let Some(caller) = self.known(token, now) {
            return Ok(caller);
        }
        self.0.misses.fetch_add(1, Relaxed);
        for _ in 0..TRIES {
            let reloads = self.reloads();
            let row = store.show_access_token(&hash, at).await.map_err(|error| {
                tracing::error!(%error, "an access token could not be looked up");
                AuthError::Unavailable
            })?;
            let Some(row) = row else {
                let end = store.end_of_access_token(&hash, at).await.map_err(|error| {
                    tracing::error!(%error, "why an access token ended could not be looked up");
                    AuthError::Unavailable
                })?;
                let error = end.map_or(AuthError::EndedToken, |(reason, detail)| ended(&reason, &detail));
                self.remember_unknown(hash, at, error);
                return Err(error);
            };
            if let Some(error) = barred(&row.state) {
                return Err(error);
            }
            let expires_at = row.expires_at;
            let caller = self.caller(row).map_err(|error| {
                tracing::error!(%error, "an access token is left out");
                AuthError::Unavailable
            })?;
            let (used, stored) = (AtomicI64::new(at), AtomicI64::new(0));
            if let Some(caller) = self.keep(hash, Entry { caller, expires_at, read_at: reloads, used, stored }, at) {
                return Ok(caller);
            }
        }
        Err(AuthError::Unavailable)
    }

    /// How often what was read before became unsure. To be asked before an account is read of which a caller is to be made
    /// ([`TokenRing::admit`]).
    pub fn reloads(&self) -> u64 {
        self.0.reloads.load(SeqCst)
    }

    /// Takes over which grants have ended since the last time: their tokens are no longer good from now on. For a job, every
    /// half second, and for whoever hears that a grant ended.
    pub async fn forget_ended(&self, store: &Store) -> Result<(), StoreError> {
        let now = micros(OffsetDateTime::now_utc());
        // Never by the times in the rows: another process' clock may be ahead, and what others end meanwhile would be missed.
        let mut seen = (self.0.asked_at.load(Relaxed).min(now) - LOOK_BACK, Uuid::nil());
        loop {
            let ended = store.grants_ended_since(seen.0, seen.1, ENDED_AT_ONCE).await?;
            let Some(last) = ended.last().copied() else { break };
            seen = last;
            self.end_grants(&ended.into_iter().map(|(_, grant)| grant).collect());
        }
        self.0.asked_at.store(now, Relaxed);
        Ok(())
    }

    /// Ends the tokens of these grants here and now: none of them is good when this returns. Those of whose end was heard before
    /// cost nothing.
    pub fn end_grants(&self, grants: &HashSet<Uuid>) {
        // Whoever heard of the same end a moment before may still be at it.
        let _turn = self.0.ending.lock().unwrap_or_else(PoisonError::into_inner);
        let fresh = self.note_ended(grants, micros(OffsetDateTime::now_utc()));
        if !fresh.is_empty() {
            self.retain(|entry| !fresh.contains(&entry.caller.credential()));
        }
    }

    /// Takes over how the accounts behind the tokens stand by now: after each change of accounts.
    pub async fn reload(&self, store: &Store) -> Result<(), StoreError> {
        let (before, users) = self.unsure();
        let standing = store.standing_of(&users).await?;
        self.judge(before, standing);
        Ok(())
    }

    /// From now on what was read before is not kept any more. What is kept by now is to be judged ([`TokenRing::judge`]): whose it is.
    fn unsure(&self) -> (u64, Vec<Uuid>) {
        let before = self.0.reloads.fetch_add(1, SeqCst) + 1;
        let mut users = HashSet::new();
        self.each(|entry| {
            if entry.read_at < before {
                users.insert(entry.caller.user_id().0);
            }
        });
        (before, users.into_iter().collect())
    }

    /// Ends what was read before that and is not so any more. What was read since knows as much, or more.
    fn judge(&self, before: u64, standing: Vec<StandingRow>) {
        let standing: HashMap<Uuid, StandingRow> = standing.into_iter().map(|row| (row.id, row)).collect();
        self.retain(|entry| {
            if entry.read_at >= before {
                return true;
            }
            let caller = &entry.caller;
            // Another authority ends it too; the next request reads it anew.
            standing.get(&caller.user_id().0).is_some_and(|row| {
                row.state == "active"
                    && row.role == caller.role().as_str()
                    && row.username == caller.username()
                    && Memberships::of(row.memberships.as_deref(), row.issuer.is_some()) == *caller.0.memberships
            })
        });
    }

    /// Ends what is held open under tokens that have expired by `now`. For a job, every second or so.
    pub fn end_expired(&self, now: OffsetDateTime) {
        let now = micros(now);
        self.retain(|entry| {
            let good = entry.expires_at > now;
            // Its last use must still be stored.
            if !good {
                entry.caller.ended().cancel();
            }
            good || entry.used.load(Relaxed) > entry.stored.load(Relaxed)
        });
    }

    /// Writes to the store when grants were last used, as far as it is not written yet; says how many. For a job, every half
    /// minute or so, and for the graceful stop.
    pub async fn flush_used(&self, store: &Store, recheck: Duration) -> Result<usize, StoreError> {
        let mut due: Vec<(Hash, (Uuid, i64))> = Vec::new();
        for shard in &self.0.shards {
            let shard = shard.read().unwrap_or_else(PoisonError::into_inner);
            due.extend(shard.iter().filter_map(|(hash, entry)| {
                let used = entry.used.load(Relaxed);
                (used > entry.stored.load(Relaxed)).then(|| (*hash, (entry.caller.credential(), used)))
            }));
        }
        for some in due.chunks(500) {
            let rows: Vec<(Uuid, i64)> = some.iter().map(|(_, row)| *row).collect();
            store.touch_grants(&rows, recheck).await?;
            for (hash, (_, used)) in some {
                if let Some(entry) = self.read(hash).get(hash) {
                    entry.stored.fetch_max(*used, Relaxed);
                }
            }
        }
        Ok(due.len())
    }

    /// Adds who showed a token within this time.
    pub fn users_within(&self, time: Duration, seen: &mut HashSet<(TenantId, UserId)>) {
        let since = micros(OffsetDateTime::now_utc() - time);
        self.each(|entry| {
            if entry.used.load(Relaxed) > since {
                seen.insert((entry.caller.tenant().clone(), entry.caller.user_id()));
            }
        });
    }

    /// How many tokens are held here, and how many may be.
    pub fn held(&self) -> (usize, usize) {
        (self.0.held.load(Relaxed), self.0.most)
    }

    /// How often the database was asked about a token that was shown.
    pub fn misses(&self) -> usize {
        self.0.misses.load(Relaxed)
    }

    /// What the map and who is in it take, without texts that many share.
    pub fn bytes(&self) -> usize {
        let shard = |shard: &RwLock<Shard>| {
            let shard = shard.read().unwrap_or_else(PoisonError::into_inner);
            shard.capacity() * size_of::<(Hash, Entry)>() + shard.len() * size_of::<Identity>()
        };
        self.0.shards.iter().map(shard).sum()
    }

    fn caller(&self, row: LiveTokenRow) -> Result<Caller, StoreError> {
        let role = Role::parse(&row.role).ok_or_else(|| StoreError::Corrupt(format!("role `{}`", row.role)))?;
        let shared = |text: &str| self.0.texts.get(text, |text| Ok::<_, StoreError>(text.into()));
        let called_by_provider = row.issuer.is_some();
        let issuer = shared(row.issuer.as_deref().unwrap_or("local"))?;
        let subject: Arc<str> = row.subject.map_or_else(|| row.user_id.to_string().into(), Into::into);
        let key = row.jkt.map(|jkt| jkt.try_into().map(Box::new));
        let key = key.transpose().map_err(|_| StoreError::Corrupt("a key's thumbprint".to_owned()))?;
        // A token of another public URL opens nothing under this one; neither does one without a resource.
        let resource = row.resource.as_deref().and_then(|uri| uri.strip_prefix(&*self.0.issuer)).unwrap_or_default();
        let tenant = self.0.tenants.get(&row.tenant_id, tenant_of)?;
        let shown = Shown {
            kind: if row.kind == "service" { SessionType::Service } else { SessionType::OAuth },
            id: row.grant_id,
            name: shared(row.client_name.as_deref().unwrap_or_default())?,
            client: shared(row.client_id.as_deref().unwrap_or_default())?,
            resource: Some(shared(resource)?),
            key,
        };
        Ok(Caller(Arc::new(Identity {
            actor: shown.by(tenant, Principal { issuer, subject }, row.user_id, row.username.into(), role),
            user: UserId(row.user_id),
            called_by_provider,
            role,
            memberships: self.memberships(row.memberships.as_deref(), called_by_provider),
            scopes: self.0.scopes.get(&row.scopes, |text| Ok::<_, StoreError>(Arc::new(scopes(text))))?,
            shown,
            subject: OnceLock::new(),
            ended: OnceLock::new(),
        })))
    }

    /// What an account's provider counts it among; people of one department share it.
    fn memberships(&self, text: Option<&str>, of_provider: bool) -> Arc<Memberships> {
        let read = |text: Option<&str>| Arc::new(Memberships::of(text, of_provider));
        match text {
            Some(text) => match self.0.memberships.get(text, |text| Ok::<_, Infallible>(read(Some(text)))) {
                Ok(memberships) => memberships,
                Err(never) => match never {},
            },
            None => read(None),
        }
    }

    /// Knows from now on, and until `expires_at`, who shows `token`: the caller to go on with ([`TokenRing::keep`]). None when
    /// accounts were taken over anew since `reloads`.
    pub(super) fn remember(
        &self,
        token: &str,
        caller: Caller,
        expires_at: OffsetDateTime,
        now: OffsetDateTime,
        reloads: u64,
    ) -> Option<Caller> {
        let at = micros(now);
        // No grant stands behind it whose use would be stored.
        let (used, stored) = (AtomicI64::new(at), AtomicI64::new(i64::MAX));
        self.keep(
            hash_token(token),
            Entry { caller, expires_at: micros(expires_at), read_at: reloads, used, stored },
            at,
        )
    }

    /// Keeps an entry, unless another has read the same token meanwhile: the caller of the one that is kept, since only what is
    /// held open under that one ends with it. None when accounts were taken over anew since it was read, or the grant has ended:
    /// it may not be true any more.
    fn keep(&self, hash: Hash, entry: Entry, now: i64) -> Option<Caller> {
        let most = self.0.most / SHARDS;
        let mut shard = self.write(&hash);
        // With the shard in hand: whoever ends or takes over later than this looks at the shard later, too.
        if self.reloads() != entry.read_at || self.ended().contains_key(&entry.caller.credential()) {
            return None;
        }
        let as_good =
            |held: &&Entry| held.read_at == entry.read_at && held.expires_at > now && !held.caller.has_ended();
        if let Some(held) = shard.get(&hash).filter(as_good) {
            held.used.fetch_max(now, Relaxed);
            return Some(held.caller.clone());
        }
        if shard.len() >= most && !shard.contains_key(&hash) {
            shard.retain(|_, entry| entry.expires_at > now);
            // Whichever gives way is read again when it is shown again; rather one under which nothing is held open.
            while shard.len() >= most {
                let idle = shard.iter().find(|(_, entry)| entry.caller.0.ended.get().is_none());
                let Some(hash) = idle.or_else(|| shard.iter().next()).map(|(hash, _)| *hash) else { break };
                shard.remove(&hash);
            }
        }
        let before = shard.len();
        let caller = entry.caller.clone();
        shard.insert(hash, entry);
        let after = shard.len();
        self.0.held.fetch_add(after.wrapping_sub(before), Relaxed);
        Some(caller)
    }

    fn retain(&self, mut good: impl FnMut(&Entry) -> bool) {
        let mut held = 0;
        for shard in &self.0.shards {
            let mut shard = shard.write().unwrap_or_else(PoisonError::into_inner);
            shard.retain(|_, entry| good(entry));
            held += shard.len();
        }
        self.0.held.store(held, Relaxed);
    }

    fn each(&self, mut look: impl FnMut(&Entry)) {
        for shard in &self.0.shards {
            shard.read().unwrap_or_else(PoisonError::into_inner).values().for_each(&mut look);
        }
    }

    /// Those of the grants of whose end was not heard yet. Each is remembered for as long as it is asked about, and a while longer.
    fn note_ended(&self, grants: &HashSet<Uuid>, now: i64) -> HashSet<Uuid> {
        let mut ended = self.ended();
        ended.retain(|_, heard| *heard > now - LOOK_BACK);
        let fresh: HashSet<Uuid> = grants.iter().copied().filter(|grant| !ended.contains_key(grant)).collect();
        if ended.len() + fresh.len() > MOST_ENDED {
            // What was read before one of those ended is not kept either.
            self.0.reloads.fetch_add(1, SeqCst);
            ended.clear();
        }
        ended.extend(fresh.iter().take(MOST_ENDED).map(|grant| (*grant, now)));
        fresh
    }

    fn ended(&self) -> MutexGuard<'_, HashMap<Uuid, i64, ahash::RandomState>> {
        self.0.ended.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn remember_unknown(&self, hash: Hash, now: i64, error: AuthError) {
        let mut unknown = self.unknown();
        if unknown.len() >= MOST_UNKNOWN {
            unknown.retain(|_, (until, _)| *until > now);
            if unknown.len() >= MOST_UNKNOWN {
                unknown.clear();
            }
        }
        unknown.insert(hash, (now + UNKNOWN_FOR, error));
    }

    fn unknown(&self) -> MutexGuard<'_, HashMap<Hash, (i64, AuthError), ahash::RandomState>> {
        self.0.unknown.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn read(&self, hash: &Hash) -> RwLockReadGuard<'_, Shard> {
        self.0.shards[usize::from(hash[0]) % SHARDS].read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self, hash: &Hash) -> RwLockWriteGuard<'_, Shard> {
        self.0.shards[usize::from(hash[0]) % SHARDS].write().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a token's scopes allow: `mcp` to see and call what the account may, `admin` to manage.
fn scopes(text: &str) -> Scopes {
    let has = |name: &str| text.split(' ').any(|scope| scope == name);
    let all = || if has("mcp") { Allow::All } else { Allow::default() };
    Scopes { servers: all(), tools: all(), admin: has("admin") }
}

#[cfg(test)]
mod tests;
