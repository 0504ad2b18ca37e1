//! An administrator has what providers gave for an account refreshed now. For each account that is done once at a time, and whoever wants it
//! meanwhile is told what came of it.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use ahash::AHashMap;
use futures_util::FutureExt as _;
use futures_util::future::{BoxFuture, Shared};
use uuid::Uuid;
use zeroize::Zeroizing;

use super::App;
use super::vouching::Answer;
use crate::grants::{Credential, CredentialState, Kind, Refusal};
use crate::id::TenantId;
use crate::idp::ProviderTokens;
use crate::store::now;

/// What became of a refresh that an administrator wants.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Forced {
    /// The providers gave new tokens.
    Done,
    /// There is nothing to refresh.
    Nothing,
    /// Somebody else is at it.
    UnderWay,
    /// It was refreshed a moment ago, or the provider wants to be left alone about it: for so long.
    TooSoon(Duration),
    /// A provider wants to be left alone for so long.
    Paused(Duration),
    /// A provider did not give new ones: its error code, or what was wrong in one word.
    Failed(String),
}

type Joint = Shared<BoxFuture<'static, Result<Forced, Refusal>>>;

/// The accounts for which it is under way in this process; no more than administrators wait for, each for the time of some questions.
#[derive(Default)]
pub struct Forcing(Mutex<AHashMap<(TenantId, Uuid), Joint>>);

/// An account among them, until it is dropped.
struct Entry {
    app: App,
    of: (TenantId, Uuid),
}

impl Drop for Entry {
    fn drop(&mut self) {
        self.app.forcing.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.of);
    }
}

impl App {
    /// Refreshes what providers gave for an account, now, and waits for it, or for who began to before.
    pub async fn refresh_now(&self, tenant: &TenantId, user: Uuid) -> Result<Forced, Refusal> {
        let of = (tenant.clone(), user);
        let joint = {
            let mut all = self.forcing.0.lock().unwrap_or_else(PoisonError::into_inner);
            all.entry(of.clone()).or_insert_with(|| self.force(of)).clone()
        };
        joint.await
    }

    /// Does it on its own: whoever gives up waiting cuts off nobody else.
    fn force(&self, of: (TenantId, Uuid)) -> Joint {
        let entry = Entry { app: self.clone(), of };
        let forced = self.tasks.spawn(async move { entry.app.refresh_each(&entry.of.0, entry.of.1).await });
        forced
            .map(|outcome| {
                outcome.unwrap_or_else(|error| {
                    tracing::error!("a refresh failed; this is a bug of the gateway: {error}");
                    Ok(Forced::UnderWay)
                })
            })
            .boxed()
            .shared()
    }

    /// The first that fails is told; the others are asked about all the same, unless a provider does not answer or another process is at
    /// it.
    async fn refresh_each(&self, tenant: &TenantId, user: Uuid) -> Result<Forced, Refusal> {
        let live = |one: &Credential| !matches!(one.state, CredentialState::None | CredentialState::ReauthRequired);
        let (mut done, mut failed) = (0, None);
        let all = self.grants.credentials(tenant, user, now()).await?;
        if all.iter().any(|one| one.state == CredentialState::Refreshing) {
            return Ok(Forced::UnderWay);
        }
        for one in all.into_iter().filter(live) {
            let Some(provider) = self.providers.get(&one.provider) else { continue };
            if let Some(left) = provider.pause() {
                failed = failed.or(Some(Forced::Paused(left)));
                continue;
            }
            let wait = Duration::try_from(one.not_before - now()).unwrap_or_default();
            if !wait.is_zero() {
                failed = failed.or(Some(Forced::TooSoon(wait)));
                continue;
            }
            let Some(login) = self.grants.login_now(tenant, one.id, now()).await? else {
                failed = failed.or(Some(Forced::UnderWay));
                break;
            };
            match self.asking(login, Kind::Forced).await {
                Ok(Answer::Good) => done += 1,
                Ok(Answer::Heard(code)) => failed = failed.or(Some(Forced::Failed(code))),
                Ok(Answer::Unheard(code)) => {
                    failed = failed.or(Some(Forced::Failed(code)));
                    break;
                }
                Ok(Answer::NotAsked) => {
                    failed = failed.or(Some(provider.pause().map_or(Forced::UnderWay, Forced::Paused)));
                }
                Err(refusal) if refusal.is_of_database() => return Err(refusal),
                Err(refusal) => {
                    failed = failed.or(Some(Forced::Failed(self.code_of(tenant, user, one.id, &refusal).await?)));
                }
            }
        }
        Ok(failed.unwrap_or(if done > 0 { Forced::Done } else { Forced::Nothing }))
    }

    /// The provider's error code with which it ended what rested on a login.
    async fn code_of(&self, tenant: &TenantId, user: Uuid, login: Uuid, refusal: &Refusal) -> Result<String, Refusal> {
        let kept = self.grants.credentials(tenant, user, now()).await?.into_iter().find(|one| one.id == login);
        Ok(kept.and_then(|one| one.last.last_code).unwrap_or_else(|| refusal.reason.to_owned()))
    }

    /// What a provider gave at a sign-in, as far as it is kept and can be read. What it says itself of its end is so, whatever was guessed
    /// of what was kept before that was noted.
    pub async fn kept_of(&self, tenant: &TenantId, credential: &Credential) -> Result<Option<ProviderTokens>, Refusal> {
        let login = self.grants.login(tenant, credential.id).await?;
        let tokens = login.and_then(|login| login.tokens);
        let read = |text: Zeroizing<Vec<u8>>| serde_json::from_slice::<ProviderTokens>(&text).ok();
        Ok(tokens.and_then(read))
    }
}
