//! Every key's hash in memory, so that authenticating reads no database. The map is never changed but replaced, after each
//! change of keys or accounts; a request that holds a `Caller` keeps it.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use arc_swap::ArcSwap;
use time::OffsetDateTime;
use uuid::Uuid;

use super::{Caller, Identity, Memberships, Role, Scopes, SessionType, Shown, UserId};
use crate::crypto::dpop::BadProof;
use crate::crypto::{KEY_PREFIX, TokenKind, hash_token};
use crate::id::{Principal, TenantId};
use crate::store::keys::HeldKeyRow;
use crate::store::tenants::tenant_of;
use crate::store::{Store, StoreError, micros};

/// Why somebody was not let in. The texts are shown to the caller; none says more than the caller's own key does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
pub enum AuthError {
    /// No credential was shown.
    #[error("show an access token or an API key: `Authorization: Bearer …`")]
    Missing,
    /// None was shown, as so often before from the same address.
    #[error(
        "too many requests without a credential have come from this address; show one, or try again in {seconds} s"
    )]
    TooManyBare {
        /// How many a minute may come.
        rpm: u32,
        /// When it is worth trying again.
        seconds: u32,
    },
    /// What was shown is no credential of ours.
    #[error("the credential is no access token and no API key of this gateway (both begin with `mcpg_`)")]
    Malformed,
    /// No such key.
    #[error("the API key is not known here")]
    Unknown,
    /// Its time is over.
    #[error("the API key has expired; make a new one or sign in again")]
    Expired,
    /// It was ended.
    #[error("the API key was revoked")]
    Revoked,
    /// Its holder may not come in.
    #[error("the account is disabled")]
    Disabled,
    /// Its holder's tenant is suspended, or the holder's directory is no longer that tenant's.
    #[error("the account's organisation is suspended here or no longer let in; ask an administrator of this gateway")]
    Suspended,
    /// A credential of ours that is no access token, such as a refresh token.
    #[error("this credential is for the token endpoint, not for access")]
    WrongKind,
    /// No such token, or it has ended.
    #[error("the access token is not known here, has expired or was revoked; refresh it or sign in again")]
    EndedToken,
    /// A token that has ended because the identity provider wants to see its person.
    #[error("the access ended because the identity provider wants to see the person again: sign in again")]
    ComeBack,
    /// A token that has ended because the identity provider does not let its person in.
    #[error(
        "the access ended because the identity provider does not let the person in any longer: sign in again, or ask an administrator"
    )]
    Gone,
    /// A token for another resource (RFC 8707).
    #[error("the access token is for another resource of this gateway; ask for one for this URL")]
    WrongResource,
    /// A token for this resource that may be used for nothing there.
    #[error("the access token lacks the scope of this resource; ask for one with it")]
    LacksScope {
        /// Whether it is bound to a key, which was proved.
        bound: bool,
    },
    /// A token that is bound to a key, shown as if it were not (RFC 9449 section 7.2).
    #[error("the access token is bound to a key: show it as `Authorization: DPoP …`, with a proof in the header DPoP")]
    Bound,
    /// A credential that is bound to no key, shown as if it were.
    #[error("the credential is bound to no key: show it as `Authorization: Bearer …`")]
    NotBound,
    /// The proof that came with a token that is bound to a key.
    #[error("{0}")]
    Proof(BadProof),
    /// An identity provider's token that is not good here.
    #[error(
        "the identity provider's token is not good here: it must be an access token for this gateway's application"
    )]
    Foreign,
    /// An identity provider's token for a person, who signs in here instead.
    #[error(
        "the identity provider's token is a person's, and would outlast the person's being disabled: sign in through this \
         gateway, whose metadata says how; only programs on their own show theirs directly"
    )]
    OfPerson,
    /// The credential is good, but the identity provider gives its holder nothing here, or took back its word.
    #[error(
        "the credential is good, but by the identity provider's word its account may not come in; sign in again, or ask an administrator"
    )]
    NotLetIn,
    /// The identity provider cannot be asked for what its tokens are verified with.
    #[error("the identity provider cannot be reached to check its token; try again in a moment")]
    ProviderAway,
    /// The database did not say.
    #[error("the credential cannot be checked now; try again in a moment")]
    Unavailable,
}

impl AuthError {
    /// The label in metrics and logs.
    pub fn reason(self) -> &'static str {
        match self {
            Self::Missing => "missing",
            Self::TooManyBare { .. } => "too_many_bare",
            Self::Malformed => "malformed",
            Self::Unknown => "unknown",
            Self::Expired => "expired",
            Self::Revoked => "revoked",
            Self::Disabled => "disabled",
            Self::Suspended => "suspended",
            Self::WrongKind => "wrong_kind",
            Self::EndedToken => "ended_token",
            Self::ComeBack => "come_back",
            Self::Gone => "gone",
            Self::WrongResource => "wrong_resource",
            Self::LacksScope { .. } => "lacks_scope",
            Self::Bound => "bound_token",
            Self::NotBound => "not_bound",
            Self::Proof(bad) => bad.reason(),
            Self::Foreign => "foreign_token",
            Self::OfPerson => "of_person",
            Self::NotLetIn => "not_let_in",
            Self::ProviderAway => "provider_away",
            Self::Unavailable => "unavailable",
        }
    }
}

/// Why tokens are no good of a grant that ended so: what an identity provider said of the person is told, and everything else is one.
pub(super) fn ended(reason: &str, detail: &str) -> AuthError {
    match (reason, detail) {
        ("error", "needs_interaction" | "consent_missing" | "forged" | "dead") => AuthError::ComeBack,
        ("error", "disabled" | "no_role" | "refused" | "other_tenant" | "unknown_directory" | "guest") => {
            AuthError::Gone
        }
        _ => AuthError::EndedToken,
    }
}

/// Why an account that stands like this does not come in; none for one that does.
pub(super) fn barred(state: &str) -> Option<AuthError> {
    match state {
        "active" => None,
        "disabled" => Some(AuthError::Disabled),
        "lapsed" | "guest" => Some(AuthError::NotLetIn),
        _ => Some(AuthError::Suspended),
    }
}

type Keys = HashMap<[u8; 32], Entry, ahash::RandomState>;

/// The keys of every tenant, as of the last [`KeyRing::reload`]. Cheap to clone; clones are one ring.
#[derive(Debug, Clone, Default)]
pub struct KeyRing {
    keys: Arc<ArcSwap<Keys>>,
    /// Held from reading the rows to replacing the map: an older reading never takes the place of a newer one.
    reloading: Arc<tokio::sync::Mutex<()>>,
}

#[derive(Debug)]
struct Entry {
    caller: Caller,
    /// Microseconds since 1970; `i64::MAX`: it does not expire.
    expires_at: i64,
    revoked: bool,
    /// Why its holder does not come in.
    barred: Option<AuthError>,
    used: Arc<Used>,
}

/// When a key was last shown, and up to when that is stored; both in microseconds since 1970. It outlives reloads.
#[derive(Debug)]
struct Used {
    key: Uuid,
    last: AtomicI64,
    stored: AtomicI64,
}

/// Uses closer together than this (microseconds) are one: a busy key does not bounce a cache line between cores.
const SAME_USE: i64 = 1_000_000;

impl KeyRing {
    /// A ring that knows nobody.
    pub fn empty() -> Self {
        Self::default()
    }

    /// Reads every key; replaces what the ring knew, at once and whole. What cannot be read is left out and logged: one
    /// bad row locks nobody else out.
    pub async fn reload(&self, store: &Store) -> Result<(), StoreError> {
        let _one = self.reloading.lock().await;
        let rows = store.keys_of_all_tenants().await?;
        let before = self.keys.load_full();
        let mut keys = Keys::with_capacity_and_hasher(rows.len(), ahash::RandomState::new());
        for row in rows {
            let id = row.key.id;
            let Ok(hash) = <[u8; 32]>::try_from(row.key.hash.as_slice()) else {
                tracing::error!(key = %id, "an API key is left out: its stored hash is not 32 bytes");
                continue;
            };
            match Entry::read(row, before.get(&hash)) {
                Ok(entry) => drop(keys.insert(hash, entry)),
                Err(error) => tracing::error!(key = %id, %error, "an API key is left out"),
            }
        }
        self.keys.store(Arc::new(keys));
        // Behind the replacement: whoever asks from now on asks the new map.
        let now = micros(OffsetDateTime::now_utc());
        let keys = self.keys.load();
        for (hash, entry) in &*before {
            // Another authority ends it too: whoever comes again comes under the new one.
            let goes_on = |after: &Entry| after.is_good(now) && after.caller.may_the_same(&entry.caller);
            if !keys.get(hash).is_some_and(goes_on) {
                entry.caller.ended().cancel();
            }
        }
        Ok(())
    }

    /// Who shows `token` at `now`. Reads no database and allocates nothing.
    pub fn authenticate(&self, token: &str, now: OffsetDateTime) -> Result<Caller, AuthError> {
        if token.is_empty() {
            return Err(AuthError::Missing);
        }
        if !is_plausible(token) {
            return Err(AuthError::Malformed);
        }
        let keys = self.keys.load();
        // Comparing hashes in variable time tells nothing about a token of 256 bits.
        let entry = keys.get(&hash_token(token)).ok_or(AuthError::Unknown)?;
        let now = micros(now);
        if entry.revoked {
            return Err(AuthError::Revoked);
        }
        if let Some(error) = entry.barred {
            return Err(error);
        }
        if entry.expires_at <= now {
            return Err(AuthError::Expired);
        }
        if now - entry.used.last.load(Ordering::Relaxed) >= SAME_USE {
            entry.used.last.fetch_max(now, Ordering::Relaxed);
        }
        Ok(entry.caller.clone())
    }

    /// Ends what is held open under keys that have expired by `now`. For a job, every second or so: nobody says when a key
    /// expires.
    pub fn end_expired(&self, now: OffsetDateTime) {
        let now = micros(now);
        for entry in self.keys.load().values().filter(|entry| entry.expires_at <= now) {
            entry.caller.ended().cancel();
        }
    }

    /// Writes to the store when keys were last used, as far as it is not written yet; says how many keys. For a job, every
    /// minute or so, and for the graceful stop.
    pub async fn flush_used(&self, store: &Store, recheck: Duration) -> Result<usize, StoreError> {
        let due: Vec<(Arc<Used>, i64)> = self
            .keys
            .load()
            .values()
            .map(|entry| (Arc::clone(&entry.used), entry.used.last.load(Ordering::Relaxed)))
            .filter(|(used, last)| *last > used.stored.load(Ordering::Relaxed))
            .collect();
        for batch in due.chunks(500) {
            let rows: Vec<(Uuid, i64)> = batch.iter().map(|(used, last)| (used.key, *last)).collect();
            store.touch_keys(&rows, recheck).await?;
            for (used, last) in batch {
                used.stored.fetch_max(*last, Ordering::Relaxed);
            }
        }
        Ok(due.len())
    }

    /// Adds who showed a key within this time.
    pub fn users_within(&self, time: Duration, seen: &mut HashSet<(TenantId, UserId)>) {
        let since = micros(OffsetDateTime::now_utc() - time);
        let keys = self.keys.load();
        let lately = keys.values().filter(|entry| entry.used.last.load(Ordering::Relaxed) > since);
        seen.extend(lately.map(|entry| (entry.caller.tenant().clone(), entry.caller.user_id())));
    }

    /// How many keys the ring knows, good or not.
    pub fn len(&self) -> usize {
        self.keys.load().len()
    }

    /// What the map and who is in it take, without texts that many share.
    pub fn bytes(&self) -> usize {
        let keys = self.keys.load();
        keys.capacity() * size_of::<([u8; 32], Entry)>() + keys.len() * size_of::<Identity>()
    }

    /// Whether it knows none.
    pub fn is_empty(&self) -> bool {
        self.keys.load().is_empty()
    }
}

/// A key made here, or one supplied for the first administrator: the prefix, then 32 to 251 characters of base64url. What
/// begins like a token of the authorization server is none.
pub(super) fn is_plausible(token: &str) -> bool {
    TokenKind::of(token) == Some(TokenKind::ApiKey)
        && token.strip_prefix(KEY_PREFIX).is_some_and(|rest| {
            (32..=251).contains(&rest.len())
                && rest.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
        })
}

impl Entry {
    fn is_good(&self, now: i64) -> bool {
        !self.revoked && self.barred.is_none() && self.expires_at > now
    }

    fn read(row: HeldKeyRow, before: Option<&Self>) -> Result<Self, StoreError> {
        let HeldKeyRow { key, username, issuer, user_role, user_state, memberships } = row;
        let role = |text: &str| Role::parse(text).ok_or_else(|| StoreError::Corrupt(format!("role `{text}`")));
        let scopes: Scopes =
            serde_json::from_value(key.scopes.0).map_err(|error| StoreError::Corrupt(format!("scopes: {error}")))?;
        let stored = key.last_used_at.unwrap_or(0);
        let (key_id, revoked) = (key.id, key.revoked_at.is_some());
        // An account that lost a role takes it from its keys too.
        let role = role(&key.role)?.min(role(&user_role)?);
        let memberships = Arc::new(Memberships::of(memberships.as_deref(), issuer.is_some()));
        let same = before.filter(|entry| {
            (entry.caller.role(), entry.caller.scopes(), &entry.caller.0.memberships) == (role, &scopes, &memberships)
        });
        let client = if key.kind == "login" { Arc::from("login") } else { Arc::from(key.id.to_string()) };
        let principal = Principal { issuer: "local".into(), subject: key.user_id.to_string().into() };
        let shown = Shown {
            kind: if key.kind == "login" { SessionType::Login } else { SessionType::ApiKey },
            id: key.id,
            name: key.name.into(),
            client,
            resource: None,
            key: None,
        };
        let caller = Caller(Arc::new(Identity {
            actor: shown.by(tenant_of(&key.tenant_id)?, principal, key.user_id, username.into(), role),
            user: UserId(key.user_id),
            called_by_provider: issuer.is_some(),
            role,
            memberships,
            scopes: Arc::new(scopes),
            shown,
            subject: OnceLock::new(),
            // It outlives reloads for as long as the key is good. A key that is good again, such as that of an account enabled
            // anew, begins anew; so does one of another role.
            ended: same
                .map(|entry| entry.caller.ended().clone())
                .filter(|ended| !ended.is_cancelled())
                .unwrap_or_default()
                .into(),
        }));
        Ok(Self {
            caller,
            expires_at: key.expires_at.unwrap_or(i64::MAX),
            revoked,
            barred: barred(&user_state),
            used: before.map_or_else(
                || Arc::new(Used { key: key_id, last: AtomicI64::new(stored), stored: AtomicI64::new(stored) }),
                |entry| Arc::clone(&entry.used),
            ),
        })
    }
}
