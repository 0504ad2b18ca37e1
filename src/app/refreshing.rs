//! Providers are asked again about everybody for whom that is due: one job for all, several questions at a time, and of several
//! processes one asks about each (the lease is in the database, `grants::logins_due`).

use std::collections::HashMap;
use std::time::{Duration, Instant};

use futures_util::StreamExt as _;
use time::OffsetDateTime;
use uuid::Uuid;
use zeroize::Zeroizing;

use super::App;
use super::vouching::Answer;
use crate::grants::{ALONE, Credential, CredentialState, Kind, Login, Refusal};
use crate::id::TenantId;
use crate::idp::{Provider, ProviderTokens};
use crate::store::now;

/// Questions that a provider is asked at the same time.
const AT_ONCE: usize = 16;
/// Logins that are taken at a time: enough that one slow answer keeps nobody else waiting.
const TAKEN: u16 = 64;
/// Questions without an answer after which a tenant is left alone till the next run: one alone may have been unlucky.
const UNHEARD: usize = 2;
/// The same of all tenants, in a row: what is wrong is not some tenants' own.
const UNHEARD_OF_ALL: usize = 8;
/// Most tenants that are left alone in one run.
const LEFT_ALONE: usize = 32;
/// How long a run lasts where somebody is due all the time: after it, those who were left alone are tried again.
const RUN: Duration = Duration::from_mins(1);
/// When it is looked again where nobody is due.
const LATER: Duration = Duration::from_mins(1);

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

/// How a batch went.
#[derive(Default)]
struct Batch {
    taken: usize,
    /// Whose questions were answered, and whose were not.
    heard: Vec<TenantId>,
    unheard: Vec<TenantId>,
    /// What the database did not take.
    lost: Option<Refusal>,
}

/// With whom a run still has patience. One question first, and if it is answered, all: a provider that is ill, that throttles or that
/// refuses the gateway itself is not pressed by everybody who is due. A tenant whose questions alone come to nothing, because of its own
/// directory or how that is set up, stops nobody else's.
#[derive(Default)]
struct Patience {
    /// Questions in a row that were not answered: of each tenant, and of all.
    unheard: HashMap<TenantId, usize>,
    in_a_row: usize,
    left_alone: Vec<TenantId>,
    was_heard: bool,
}

impl Patience {
    fn note(&mut self, batch: &Batch) {
        self.was_heard = !batch.heard.is_empty();
        self.in_a_row = if self.was_heard { 0 } else { self.in_a_row + batch.unheard.len() };
        for tenant in &batch.unheard {
            *self.unheard.entry(tenant.clone()).or_default() += 1;
        }
        for tenant in &batch.heard {
            self.unheard.remove(tenant);
        }
        let given_up = |(tenant, unheard): (&TenantId, &usize)| (*unheard >= UNHEARD).then(|| tenant.clone());
        self.left_alone = self.unheard.iter().filter_map(given_up).collect();
    }

    fn limit(&self) -> u16 {
        if self.was_heard { TAKEN } else { 1 }
    }

    fn is_over(&self) -> bool {
        self.in_a_row >= UNHEARD_OF_ALL || self.left_alone.len() > LEFT_ALONE
    }
}

impl App {
    /// Asks again about everybody for whom that is due and whose sessions were used in the last days; says when somebody is due
    /// again. For a job.
    pub async fn refresh_all(&self) -> Result<Duration, Refusal> {
        let (providers, mut due) = (self.providers.names(), 0);
        for provider in &providers {
            due += self.grants.count_due(provider.name, now()).await?;
        }
        self.recorder.metrics().token_refresh_queue.with([]).set(due);
        // None waits for another that is slow.
        let runs =
            futures_util::future::join_all(providers.iter().map(|provider| self.refresh_at(provider.name))).await;
        runs.into_iter().try_fold(LATER, |wait, next| Ok(wait.min(next?)))
    }

    /// Asks one provider about those who are due; says when somebody is again.
    async fn refresh_at(&self, name: &str) -> Result<Duration, Refusal> {
        let Some(provider) = self.providers.get(name) else { return Ok(LATER) };
        let (begun, mut patience) = (Instant::now(), Patience::default());
        while !patience.is_over() && provider.pause().is_none() && !self.shutdown.is_cancelled() {
            let batch = self.refresh_some(provider, name, &patience).await;
            if let Some(lost) = batch.lost {
                return Err(lost);
            }
            if begun.elapsed() >= RUN {
                return Ok(Duration::ZERO);
            }
            if batch.taken == 0 && patience.left_alone.is_empty() {
                let next = self.grants.next_due(name).await?;
                return Ok(next.map_or(LATER, |next| (next - now()).try_into().unwrap_or_default()));
            }
            if batch.taken == 0 {
                break;
            }
            patience.note(&batch);
        }
        Ok(LATER)
    }

    async fn refresh_some(&self, provider: &Provider, name: &str, patience: &Patience) -> Batch {
        let begun = now();
        let due = match self.grants.rest_unused(name, begun).await {
            Ok(()) => self.grants.logins_due(name, &patience.left_alone, patience.limit(), begun).await,
            Err(lost) => Err(lost),
        };
        let due = match due {
            Ok(due) => due,
            Err(lost) => return Batch { lost: Some(lost), ..Batch::default() },
        };
        let mut batch = Batch { taken: due.len(), ..Batch::default() };
        let mut waiting = due.into_iter();
        let mut asked = futures_util::stream::FuturesUnordered::new();
        loop {
            while asked.len() < AT_ONCE
                && let Some(login) = waiting.next()
            {
                // Those whom it is not asked about are due as before; nobody is asked about whose answer could not be written.
                if batch.lost.is_some() {
                    self.give_back_later(login);
                } else if provider.pause().is_some() || now() - begun > ALONE / 2 || self.shutdown.is_cancelled() {
                    self.give_back(login).await;
                } else {
                    asked.push(self.refresh_one(login, begun));
                }
            }
            match asked.next().await {
                Some((tenant, Ok(Answer::Good | Answer::Heard(_)))) => batch.heard.push(tenant),
                Some((tenant, Ok(Answer::Unheard(_)))) => batch.unheard.push(tenant),
                Some((_, Ok(Answer::NotAsked))) => {}
                Some((_, Err(lost))) => batch.lost = Some(lost),
                None => return batch,
            }
        }
    }

    /// Refreshes what providers gave for an account, now, and waits for it. The first that fails is told; the others are asked about all
    /// the same, unless a provider does not answer.
    pub async fn refresh_now(&self, tenant: &TenantId, user: Uuid) -> Result<Forced, Refusal> {
        let live = |one: &Credential| !matches!(one.state, CredentialState::None | CredentialState::ReauthRequired);
        let (mut done, mut failed) = (0, None);
        let all = self.grants.credentials(tenant, user, now()).await?;
        // One at a time for each account.
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
                continue;
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

    /// Whose question it was and what became of it; an error of the database.
    async fn refresh_one(&self, login: Login, now: OffsetDateTime) -> (TenantId, Result<Answer, Refusal>) {
        let tenant = login.tenant.clone();
        let (id, kind) = (login.id, self.grants.terms().schedule.kind(login.life, now));
        let answer = match self.asking(login, kind).await {
            Err(refusal) if !refusal.is_of_database() => {
                tracing::info!(login = %id, reason = refusal.reason, detail = refusal.detail, "sessions ended");
                Ok(Answer::Heard(refusal.reason.to_owned()))
            }
            answer => answer,
        };
        (tenant, answer)
    }
}
