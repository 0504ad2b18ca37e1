//! Whether identity providers still vouch for the people behind sessions, and what follows. Only a provider's plain word ends a
//! session: one that cannot be reached, or that refuses the gateway's own credential, says nothing about anybody.

mod making_up;

use std::time::Duration;

use time::OffsetDateTime;
use uuid::Uuid;
use zeroize::Zeroizing;

use super::App;
use crate::grants::{
    End, EndReason, GivenTokens, Ids, Kind, LONGEST_PAUSE, Login, LoginState, NotVouched, OauthCode, RefreshResult,
    Refusal, Unanswered, luck,
};
use crate::id::TenantId;
use crate::idp::{Class, IdpError, Person, Provider, ProviderTokens, Renewed, Who};
use crate::store::{self, now};
use crate::telemetry::{Event, Status};

/// How long somebody who refreshes waits for the provider.
const PATIENCE: Duration = Duration::from_secs(8);
/// What a client is told whose person the provider wants to see again.
const SEE_AGAIN: &str = "the identity provider wants to see the person again; sign in again";
/// What Entra says of an account that an administrator disabled.
const DISABLED: &str = "AADSTS50057";
/// What Entra says of a token of which it says no more.
const NO_MORE_SAID: &str = "AADSTS70000";
/// For how long sessions go on whose provider may only refuse what it has replaced already, because a question was cut off: no longer
/// than an access token of its own would have been good.
const STRANDED: Duration = Duration::from_hours(1);

/// What became of a question.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Answer {
    /// There are new tokens, and the provider vouches.
    Good,
    /// The provider answered, and nothing came of it: its error code, or what was wrong in one word.
    Heard(String),
    /// It did not answer, or refused the gateway itself: the same.
    Unheard(String),
    /// It was not asked, or the question has become another's.
    NotAsked,
}

/// A provider's tokens that are not stored yet.
struct Kept {
    text: Zeroizing<Vec<u8>>,
    expires_at: OffsetDateTime,
}

impl Kept {
    fn given(&self) -> GivenTokens<'_> {
        GivenTokens { text: &self.text, expires_at: self.expires_at }
    }
}

impl App {
    /// `invalid_grant`, once, when a server that was called on this grant of a login wants to see the person.
    pub async fn ask_back(&self, tenant: &TenantId, login: Uuid, grant: Uuid) -> Result<(), Refusal> {
        if self.grants.wants_person(tenant, login, grant).await? {
            return Err(Refusal::new(OauthCode::InvalidGrant, "needs_interaction", SEE_AGAIN));
        }
        Ok(())
    }

    /// Asks the provider behind a login again, if that is due. `invalid_grant` when the person has to sign in again; then what
    /// rests on the login has ended. A provider that takes its time is not waited for: its word counts when it comes.
    pub async fn vouch(&self, tenant: &TenantId, login: Uuid, now: OffsetDateTime) -> Result<(), Refusal> {
        let Some(login) = self.grants.login_due(tenant, login, now).await? else { return Ok(()) };
        tokio::time::timeout(PATIENCE, self.asking(login, Kind::OnDemand))
            .await
            .map_or(Ok(()), |heard| heard.map(|_| ()))
    }

    /// Asks, on its own: what a provider gives in place of the old tokens is kept even if nobody waits any longer, and what the
    /// database did not take is made up for.
    pub(super) async fn asking(&self, mut login: Login, kind: Kind) -> Result<Answer, Refusal> {
        let (app, id) = (self.clone(), login.id);
        let asking = self.tasks.spawn(async move {
            let mut unkept = None;
            let heard = Box::pin(app.ask_again(&mut login, kind, &mut unkept, now())).await;
            if heard.as_ref().is_err_and(Refusal::is_of_database) {
                app.make_up(login, unkept);
            }
            heard
        });
        asking.await.unwrap_or_else(|error| {
            tracing::error!(login = %id, "asking a provider failed; this is a bug of the gateway: {error}");
            Ok(Answer::NotAsked)
        })
    }

    /// Whether people can sign in as far as the providers let the gateway; none that are set up is well.
    pub fn sign_in_status(&self) -> Status {
        let names = self.providers.names();
        let refused = |name| self.providers.get(name).is_some_and(|provider| provider.credential_refused().is_some());
        if names.iter().any(|provider| refused(provider.name)) { Status::Degraded } else { Status::Ok }
    }

    /// What became of asking; the refusal when the provider does not vouch. `unkept` are new tokens as long as they are not
    /// stored.
    async fn ask_again(
        &self,
        login: &mut Login,
        kind: Kind,
        unkept: &mut Option<Kept>,
        now: OffsetDateTime,
    ) -> Result<Answer, Refusal> {
        let (Some(provider), Some(tokens)) = (self.providers.get(&login.provider), &login.tokens) else {
            self.grants.login_is_mute(login, now).await?;
            return Ok(Answer::NotAsked);
        };
        // Nobody is asked about then, so nobody's question has failed.
        if let Some(left) = provider.pause() {
            self.grants.ask_login_after(login, now + left).await?;
            return Ok(Answer::NotAsked);
        }
        let tokens: ProviderTokens = match serde_json::from_slice(tokens) {
            Ok(tokens) => tokens,
            Err(error) => {
                // As of a provider that gave no refresh token: who cannot be asked about stays to the end of the session.
                tracing::warn!(login = %login.id, "what is kept of a login cannot be asked with: {error}");
                self.grants.login_is_mute(login, now).await?;
                return Ok(Answer::NotAsked);
            }
        };
        if !self.grants.hold_login(login, now).await? {
            return Ok(Answer::NotAsked);
        }
        match provider.refresh(&tokens, now).await {
            Ok(renewed) => self.renewed(login, kind, provider, renewed, unkept, now).await,
            Err(error) => self.not_vouched(login, kind, &error, now).await,
        }
    }

    async fn renewed(
        &self,
        login: &mut Login,
        kind: Kind,
        provider: &Provider,
        mut renewed: Renewed,
        unkept: &mut Option<Kept>,
        now: OffsetDateTime,
    ) -> Result<Answer, Refusal> {
        // First of all: the old ones may be of no use any more, whatever follows.
        if !self.keep(login, &renewed.tokens, unkept, now).await? {
            return Ok(Answer::NotAsked);
        }
        let person = match provider.who(&renewed, now).await {
            Ok(Who::Unsaid) => Ok(None),
            Ok(Who::Person(person)) => Ok(Some(*person)),
            Ok(Who::LacksGroups(person)) => {
                let kept = renewed.tokens.refresh.clone();
                let token = provider.directory_token(&mut renewed.tokens, now).await;
                // That took another refresh, which may have replaced what was kept.
                if renewed.tokens.refresh.expose() != kept.expose()
                    && !self.keep(login, &renewed.tokens, unkept, now).await?
                {
                    return Ok(Answer::NotAsked);
                }
                match token {
                    Ok(token) => provider.with_groups(*person, &token, now).await.map(Some),
                    Err(error) => Err(error),
                }
            }
            Err(error) => Err(error),
        };
        match person {
            Ok(Some(person)) => {
                if !self.stands(login, kind, &person, now).await? {
                    return Ok(Answer::NotAsked);
                }
            }
            Ok(None) => {}
            // Its token endpoint has answered, whatever else is away.
            Err(error) => {
                return Ok(match self.not_vouched(login, kind, &error, now).await? {
                    Answer::Unheard(code) => Answer::Heard(code),
                    answer => answer,
                });
            }
        }
        if !self.grants.login_checked(login, kind, now).await? {
            return Ok(Answer::NotAsked);
        }
        self.came_out(login, kind, RefreshResult::Success, now);
        Ok(Answer::Good)
    }

    /// Stores new tokens; says whether. They are `unkept` until then.
    async fn keep(
        &self,
        login: &mut Login,
        tokens: &ProviderTokens,
        unkept: &mut Option<Kept>,
        now: OffsetDateTime,
    ) -> Result<bool, Refusal> {
        let text = Zeroizing::new(serde_json::to_vec(tokens).unwrap_or_default());
        let tokens = unkept.insert(Kept { text, expires_at: tokens.expires_at });
        let taken = self.grants.login_renewed(login, tokens.given(), now).await?;
        *unkept = None;
        Ok(taken)
    }

    /// What the provider says of a person is in force from now on; the refusal when it lets nobody in. Whether the login is still ours.
    async fn stands(
        &self,
        login: &mut Login,
        kind: Kind,
        person: &Person,
        now: OffsetDateTime,
    ) -> Result<bool, Refusal> {
        let gone = |code, reason| NotVouched { state: LoginState::Dead, reason, claims: None, kind, code };
        let known = match self.role_of(person).await {
            Ok(Some(role)) => self.account_of(person, role, now).await,
            Ok(None) => {
                return self.end_login(login, "no_role", &gone("no_role", "no role is left"), now).await;
            }
            Err(refusal) => Err(refusal),
        };
        match known {
            // Another role is in force before the next token goes out.
            Ok(_) => self.changed().await.map(|()| true).map_err(Into::into),
            Err(refusal) if refusal.code == OauthCode::AccessDenied => {
                let why = refusal.reason;
                self.end_login(login, why, &gone(why, refusal.text), now).await
            }
            Err(refusal) => Err(refusal),
        }
    }

    async fn not_vouched(
        &self,
        login: &mut Login,
        kind: Kind,
        error: &IdpError,
        now: OffsetDateTime,
    ) -> Result<Answer, Refusal> {
        let (class, number, trace) = (error.class.label(), error.code.as_deref(), error.trace_id.as_deref());
        let code = number.unwrap_or(class);
        let schedule = self.grants.terms().schedule;
        let again =
            |failures, wait, is_firm| Unanswered { failures, again_at: store::now() + wait, is_firm, kind, code };
        let (state, claims) = match &error.class {
            Class::Temporary { .. } | Class::OurCredential | Class::Configuration => {
                let asked = match error.class {
                    Class::Temporary { retry_after } => retry_after,
                    _ => None,
                };
                tracing::warn!(class, code, trace, login = %login.id, "a provider cannot be asked: {error}");
                let failures = login.failures.saturating_add(1);
                let unanswered = again(failures, schedule.pause(failures, asked, luck()), asked.is_some());
                let noted = self.grants.login_unanswered(login, &unanswered, now).await?;
                if noted && !login.has_failed && schedule.has_failed(failures, login.life, now) {
                    self.came_out(login, kind, RefreshResult::Failure, now);
                }
                return Ok(Answer::Unheard(code.to_owned()));
            }
            Class::Loop => {
                tracing::warn!(class, code, trace, login = %login.id, "a provider was asked too often: {error}");
                let unanswered = again(login.failures, LONGEST_PAUSE, true);
                if self.grants.login_unanswered(login, &unanswered, now).await? {
                    self.came_out(login, kind, RefreshResult::Failure, now);
                }
                return Ok(Answer::Heard(code.to_owned()));
            }
            Class::NeedsInteraction { claims: None } | Class::Dead if may_be_our_fault(login, number, now) => {
                tracing::warn!(
                    class, code, trace, login = %login.id,
                    "a provider may have replaced what is kept of a login when a question was cut off; its sessions go on for an hour"
                );
                let until = login.cut_off_at.unwrap_or(now) + STRANDED;
                let unanswered = Unanswered { failures: login.failures, again_at: until, is_firm: true, kind, code };
                self.grants.login_unanswered(login, &unanswered, now).await?;
                return Ok(Answer::Heard(code.to_owned()));
            }
            Class::NeedsInteraction { claims } => (LoginState::NeedsInteraction, claims.as_deref()),
            Class::ConsentMissing | Class::Forged => (LoginState::NeedsInteraction, None),
            Class::Dead | Class::Refused => (LoginState::Dead, None),
        };
        tracing::info!(class, code, trace, login = %login.id, "a provider does not vouch any longer: {error}");
        let detail = if number == Some(DISABLED) { "disabled" } else { class };
        let reason = format!("{code} {error}");
        let said = NotVouched { state, reason: &reason, claims, kind, code };
        self.end_login(login, detail, &said, now).await.map(|_| Answer::NotAsked)
    }

    /// Counts how a refresh came out, with the tries that it took. Those of one that has failed before were counted with that.
    fn came_out(&self, login: &Login, kind: Kind, result: RefreshResult, now: OffsetDateTime) {
        let retries = if login.has_failed { 0 } else { login.failures };
        self.grants.count_refresh(&login.tenant, kind, result, retries, now);
        let event = Event {
            tenant: Some(login.tenant.as_str().into()),
            user: Some(login.user),
            name: Some(login.provider.as_str().into()),
            ..Event::new("token.refresh", result == RefreshResult::Success)
        };
        self.recorder.refreshed(kind.as_str(), result.as_str(), event);
    }

    /// Ends what rests on a login, and of somebody who may not come in at all, everything; and notes the provider's word: the refusal of
    /// which the client is told. None, and `false`, when somebody else got the login since: then it is that one's to say.
    async fn end_login(
        &self,
        login: &mut Login,
        detail: &'static str,
        said: &NotVouched<'_>,
        now: OffsetDateTime,
    ) -> Result<bool, Refusal> {
        if !self.grants.hold_login(login, store::now()).await? {
            return Ok(false);
        }
        let all = matches!(detail, "disabled" | "no_role" | "refused" | "other_tenant" | "unknown_directory" | "guest");
        let which = if all { Ids::User(login.user) } else { Ids::Login(login.id) };
        // Keys are no sessions, and what a provider says of a person holds for them too.
        if matches!(detail, "disabled" | "no_role" | "refused") {
            self.store.set_lapsed(&login.tenant, login.user, true).await?;
        }
        // That somebody is a guest was written before it was refused.
        if all {
            self.changed().await?;
        }
        self.end_sessions(&login.tenant, which, End { reason: EndReason::Error, detail }).await?;
        // Last of all: if something fails before, the login is due again, and the provider says the same again.
        self.grants.login_refused(login, said, now).await?;
        self.came_out(login, said.kind, RefreshResult::ReauthRequired, now);
        let text = if said.state == LoginState::NeedsInteraction {
            SEE_AGAIN
        } else {
            "the identity provider does not let the person in any longer; sign in again"
        };
        Err(Refusal::new(OauthCode::InvalidGrant, detail, text).because(said.reason))
    }
}

/// Whether a refusal that says no more than that the token is no good may be because a question was cut off before its answer was
/// stored, and the provider takes each token once.
fn may_be_our_fault(login: &Login, number: Option<&str>, now: OffsetDateTime) -> bool {
    number.is_none_or(|number| number == NO_MORE_SAID) && login.cut_off_at.is_some_and(|at| now < at + STRANDED)
}
