//! Providers are asked again about everybody for whom that is due: for each a pool of questions that is filled as answers come, so that
//! none waits for a slow one; and of several processes one asks about each (the lease is in the database, `grants::logins_due`).

mod patience;

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use futures_util::StreamExt as _;
use time::OffsetDateTime;

use self::patience::Patience;
use super::App;
use super::vouching::Answer;
use crate::grants::{ALONE, Login, Refusal};
use crate::id::TenantId;
use crate::idp::Provider;
use crate::store::now;

/// Logins that are taken at a time.
const TAKEN: u16 = 64;
/// How long tenants are left alone where somebody is due all the time.
const LEFT_ALONE_FOR: Duration = Duration::from_mins(1);
/// How often it is looked whether somebody is due while answers are waited for.
const LOOK: Duration = Duration::from_secs(1);
/// When it is looked again where nobody is due.
const LATER: Duration = Duration::from_mins(1);

/// Questions to one provider.
struct Run<'a> {
    name: &'a str,
    provider: &'a Provider,
    patience: Patience,
    /// Since when those who are left alone are.
    forgiven_at: Instant,
    /// Who was taken, and when, and is not asked about yet.
    waiting: VecDeque<Login>,
    taken_at: OffsetDateTime,
    /// When nobody was due.
    nobody_at: Option<Instant>,
    /// What the database did not take.
    lost: Option<Refusal>,
}

impl<'a> Run<'a> {
    fn new(name: &'a str, provider: &'a Provider) -> Self {
        Self {
            name,
            provider,
            patience: Patience::default(),
            forgiven_at: Instant::now(),
            waiting: VecDeque::new(),
            taken_at: now(),
            nobody_at: None,
            lost: None,
        }
    }

    fn note(&mut self, tenant: TenantId, answer: Result<Answer, Refusal>) {
        match answer {
            Ok(Answer::Good | Answer::Heard(_)) => self.patience.heard(&tenant),
            Ok(Answer::Unheard(_)) => self.patience.unheard(tenant),
            Ok(Answer::NotAsked) => {}
            Err(lost) => self.lost = Some(lost),
        }
    }

    /// Whether nobody else is asked about.
    fn is_over(&self) -> bool {
        self.lost.is_some() || self.patience.is_over() || self.provider.pause().is_some()
    }

    fn forgive(&mut self) {
        if self.forgiven_at.elapsed() >= LEFT_ALONE_FOR {
            (self.forgiven_at, self.nobody_at) = (Instant::now(), None);
            self.patience.forgive();
        }
    }

    /// Whether it was seen a moment ago that nobody is due.
    fn is_idle(&self) -> bool {
        self.nobody_at.is_some_and(|at| at.elapsed() < LOOK)
    }
}

impl App {
    /// Asks every provider again about everybody for whom that is due and whose sessions were used in the last days; says when somebody
    /// is due again.
    pub async fn refresh_all(&self) -> Result<Duration, Refusal> {
        let providers = self.providers.names();
        let runs =
            futures_util::future::join_all(providers.iter().map(|provider| self.refresh_at(provider.name))).await;
        runs.into_iter().try_fold(LATER, |wait, next| Ok(wait.min(next?)))
    }

    /// The same of one provider. For a job: none waits for another that is slow.
    pub(super) async fn refresh_at(&self, name: &str) -> Result<Duration, Refusal> {
        self.count_due().await?;
        let Some(provider) = self.providers.get(name) else { return Ok(LATER) };
        let (mut run, mut asked) = (Run::new(name, provider), futures_util::stream::FuturesUnordered::new());
        loop {
            while asked.len() < run.patience.at_once()
                && let Some(login) = self.next_due(&mut run).await
            {
                asked.push(self.refresh_one(login));
            }
            match tokio::time::timeout(LOOK, asked.next()).await {
                Ok(Some((tenant, answer))) => run.note(tenant, answer),
                Ok(None) => break,
                Err(_) => {}
            }
        }
        for login in run.waiting.drain(..) {
            // Nobody is asked about whose answer could not be written.
            if run.lost.is_some() { self.give_back_later(login) } else { self.give_back(login).await }
        }
        if let Some(lost) = run.lost {
            return Err(lost);
        }
        if run.is_over() || !run.patience.left_alone().is_empty() {
            return Ok(LATER);
        }
        let next = self.grants.next_due(name).await?;
        Ok(next.map_or(LATER, |next| (next - now()).try_into().unwrap_or_default()))
    }

    /// Shows how many are due.
    async fn count_due(&self) -> Result<(), Refusal> {
        let mut due = 0;
        for provider in &self.providers.names() {
            due += self.grants.count_due(provider.name, now()).await?;
        }
        self.recorder.metrics().token_refresh_queue.with([]).set(due);
        Ok(())
    }

    /// Who is to be asked about next; none when nobody is.
    async fn next_due(&self, run: &mut Run<'_>) -> Option<Login> {
        run.forgive();
        while !run.is_over() && !self.shutdown.is_cancelled() {
            match run.waiting.pop_front() {
                Some(login) if !run.patience.leaves_alone(&login.tenant) && now() - run.taken_at <= ALONE / 2 => {
                    return Some(login);
                }
                Some(login) => self.give_back(login).await,
                None if run.is_idle() => return None,
                None => match self.take_due(run).await {
                    Ok(due) => run.waiting = due.into(),
                    Err(lost) => run.lost = Some(lost),
                },
            }
        }
        None
    }

    async fn take_due(&self, run: &mut Run<'_>) -> Result<Vec<Login>, Refusal> {
        let now = now();
        self.grants.rest_unused(run.name, now).await?;
        // Until it is known whether it answers, nobody is taken who may not be asked about.
        let most = if run.patience.at_once() > 1 { TAKEN } else { 1 };
        let due = self.grants.logins_due(run.name, &run.patience.left_alone(), most, now).await?;
        run.taken_at = now;
        run.nobody_at = due.is_empty().then(Instant::now);
        Ok(due)
    }

    /// Whose question it was and what became of it; an error of the database.
    async fn refresh_one(&self, login: Login) -> (TenantId, Result<Answer, Refusal>) {
        let tenant = login.tenant.clone();
        let (id, kind) = (login.id, self.grants.terms().schedule.kind(login.life, now()));
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
