//! Whether identity providers still vouch for the people behind sessions, and what follows. Only a provider's plain word ends a
//! session: one that cannot be reached, or that refuses the gateway's own credential, says nothing about anybody.

mod making_up;

use std::time::Duration;

use time::OffsetDateTime;
use uuid::Uuid;
use zeroize::Zeroizing;

use super::App;
use crate::grants::{ALONE, End, EndReason, Ids, Login, LoginState, OauthCode, Refusal};
use crate::id::TenantId;
use crate::idp::{Class, IdpError, Person, ProviderTokens, Rechecked};
use crate::store::now;
use crate::telemetry::Status;

/// Logins that the job asks about at a time.
const AT_ONCE: u16 = 20;
/// When somebody is asked about again who could not be asked about, unless the provider says when; and the latest.
const SOON: Duration = Duration::from_secs(30);
const LATEST: Duration = Duration::from_mins(15);
/// How long somebody who refreshes waits for the provider.
const PATIENCE: Duration = Duration::from_secs(8);
/// A provider's tokens, as they are sealed.
type Kept = Zeroizing<Vec<u8>>;
/// What a client is told whose person the provider wants to see again.
const SEE_AGAIN: &str = "the identity provider wants to see the person again; sign in again";
/// What Entra says of an account that an administrator disabled.
const DISABLED: &str = "AADSTS50057";

impl App {
    /// Asks the provider behind a login again, if that is due. `invalid_grant` when the person has to sign in again; then what
    /// rests on the login has ended. A provider that takes its time is not waited for: its word counts when it comes.
    pub async fn vouch(&self, tenant: &TenantId, login: Uuid, now: OffsetDateTime) -> Result<(), Refusal> {
        if self.grants.wants_person(tenant, login).await? {
            return Err(Refusal::new(OauthCode::InvalidGrant, "needs_interaction", SEE_AGAIN));
        }
        let Some(login) = self.grants.login_due(tenant, login, now).await? else { return Ok(()) };
        tokio::time::timeout(PATIENCE, self.asking(login)).await.map_or(Ok(()), |heard| heard.map(|_| ()))
    }

    /// Asks again about everybody for whom that is due and whose sessions were used since. For a job.
    pub async fn vouch_for_all(&self) -> Result<(), Refusal> {
        for provider in self.providers.names() {
            while self.vouch_for_some(provider.name).await? {}
        }
        Ok(())
    }

    /// Asks one provider about some of them. `false` when nobody is left, or it cannot be asked now.
    async fn vouch_for_some(&self, name: &str) -> Result<bool, Refusal> {
        let begun = now();
        let away = || self.providers.get(name).is_none_or(|provider| provider.pause().is_some());
        if away() {
            return Ok(false);
        }
        let due = self.grants.logins_due(name, AT_ONCE, begun).await?;
        // It goes on while a batch is full and something comes of it: what fails is due again later, behind the others.
        let (full, mut heard) = (due.len() >= usize::from(AT_ONCE), due.is_empty());
        let mut lost = None;
        for login in due {
            let id = login.id;
            // Those that it was not asked about are due as before; nobody is asked about whose answer could not be written.
            if lost.is_some() {
                self.make_up(login, None);
                continue;
            }
            if away() || now() - begun > ALONE / 2 {
                heard = false;
                self.give_back(login).await;
                continue;
            }
            match self.asking(login).await {
                Ok(said) => heard |= said,
                Err(refusal) if refusal.is_of_database() => lost = Some(refusal),
                Err(refusal) => {
                    heard = true;
                    tracing::info!(login = %id, reason = refusal.reason, detail = refusal.detail, "sessions ended");
                }
            }
        }
        lost.map_or(Ok(full && heard), Err)
    }

    /// Asks, on its own: what a provider gives in place of the old tokens is kept even if nobody waits any longer, and what the
    /// database did not take is made up for.
    pub(super) async fn asking(&self, login: Login) -> Result<bool, Refusal> {
        let (app, id) = (self.clone(), login.id);
        let asking = self.tasks.spawn(async move {
            let mut unkept = None;
            let heard = Box::pin(app.ask_again(&login, &mut unkept, now())).await;
            if heard.as_ref().is_err_and(Refusal::is_of_database) {
                app.make_up(login, unkept);
            }
            heard
        });
        asking.await.unwrap_or_else(|error| {
            tracing::error!(login = %id, "asking a provider failed; this is a bug of the gateway: {error}");
            Ok(false)
        })
    }

    /// Whether people can sign in as far as the providers let the gateway; none that are set up is well.
    pub fn sign_in_status(&self) -> Status {
        let names = self.providers.names();
        let refused = |name| self.providers.get(name).is_some_and(|provider| provider.credential_refused().is_some());
        if names.iter().any(|provider| refused(provider.name)) { Status::Degraded } else { Status::Ok }
    }

    /// Whether the provider could be asked; the refusal when it does not vouch. `unkept` are new tokens as long as they are not
    /// stored.
    async fn ask_again(&self, login: &Login, unkept: &mut Option<Kept>, now: OffsetDateTime) -> Result<bool, Refusal> {
        let (Some(provider), Some(tokens)) = (self.providers.get(&login.provider), &login.tokens) else {
            return Ok(true);
        };
        let tokens: ProviderTokens = match serde_json::from_slice(tokens) {
            Ok(tokens) => tokens,
            Err(error) => {
                // As of a provider that gave no refresh token: who cannot be asked about stays to the end of the session.
                tracing::warn!(login = %login.id, "what is kept of a login cannot be asked with: {error}");
                self.grants.login_checked(&login.tenant, login.id, now).await?;
                return Ok(true);
            }
        };
        match provider.recheck(&tokens, now).await {
            Ok(vouched) => self.vouched(login, vouched, unkept, now).await,
            Err(error) => self.not_vouched(login, error, now).await,
        }
    }

    async fn vouched(
        &self,
        login: &Login,
        vouched: Rechecked,
        unkept: &mut Option<Kept>,
        now: OffsetDateTime,
    ) -> Result<bool, Refusal> {
        let tokens = unkept.insert(Zeroizing::new(serde_json::to_vec(&vouched.tokens).unwrap_or_default()));
        // First of all: the old ones may be of no use any more, whatever follows.
        self.grants.login_renewed(&login.tenant, login.id, tokens).await?;
        *unkept = None;
        match vouched.person {
            Ok(Some(person)) => self.stands(login, &person, now).await?,
            Ok(None) => {}
            Err(error) => return self.not_vouched(login, error, now).await,
        }
        self.grants.login_checked(&login.tenant, login.id, now).await?;
        Ok(true)
    }

    /// What the provider says of a person is in force from now on; the refusal when it lets nobody in.
    async fn stands(&self, login: &Login, person: &Person, now: OffsetDateTime) -> Result<(), Refusal> {
        let known = match self.role_of(person).await {
            Ok(Some(role)) => self.account_of(person, role, now).await,
            Ok(None) => {
                return Err(self.end_login(login, LoginState::Dead, "no_role", "no role is left", None, now).await?);
            }
            Err(refusal) => Err(refusal),
        };
        match known {
            // Another role is in force before the next token goes out.
            Ok(_) => Ok(self.changed().await?),
            Err(refusal) if refusal.code == OauthCode::AccessDenied => {
                let why = refusal.reason;
                Err(self.end_login(login, LoginState::Dead, why, refusal.text, None, now).await?)
            }
            Err(refusal) => Err(refusal),
        }
    }

    async fn not_vouched(&self, login: &Login, error: IdpError, now: OffsetDateTime) -> Result<bool, Refusal> {
        let (class, code, trace) = (error.class.label(), error.code.as_deref(), error.trace_id.as_deref());
        let (state, claims) = match &error.class {
            Class::Temporary { retry_after } => {
                tracing::warn!(class, code, trace, login = %login.id, "a provider cannot be asked: {error}");
                return self.ask_later(login, retry_after.unwrap_or(SOON)).await.map(|()| false);
            }
            Class::Loop => {
                tracing::warn!(class, code, trace, login = %login.id, "a provider was asked too often: {error}");
                return self.ask_later(login, LATEST).await.map(|()| true);
            }
            Class::OurCredential | Class::Configuration => {
                tracing::error!(class, code, trace, login = %login.id, "a provider does not answer us: {error}");
                return self.ask_later(login, SOON).await.map(|()| false);
            }
            Class::NeedsInteraction { claims } => (LoginState::NeedsInteraction, claims.as_deref()),
            Class::ConsentMissing | Class::Forged => (LoginState::NeedsInteraction, None),
            Class::Dead | Class::Refused => (LoginState::Dead, None),
        };
        tracing::info!(class, code, trace, login = %login.id, "a provider does not vouch any longer: {error}");
        let detail = if code == Some(DISABLED) { "disabled" } else { class };
        let reason = format!("{} {error}", error.code.as_deref().unwrap_or(class));
        Err(self.end_login(login, state, detail, &reason, claims, now).await?)
    }

    async fn ask_later(&self, login: &Login, wait: Duration) -> Result<(), Refusal> {
        self.grants.ask_login_after(&login.tenant, login.id, now() + wait.clamp(SOON, LATEST)).await
    }

    /// Ends what rests on a login, and of somebody who may not come in at all, everything; and notes the provider's word. What
    /// the client is told.
    async fn end_login(
        &self,
        login: &Login,
        state: LoginState,
        detail: &'static str,
        reason: &str,
        claims: Option<&str>,
        now: OffsetDateTime,
    ) -> Result<Refusal, Refusal> {
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
        self.grants.login_refused(&login.tenant, login.id, state, reason, claims, now).await?;
        let text = if state == LoginState::NeedsInteraction {
            SEE_AGAIN
        } else {
            "the identity provider does not let the person in any longer; sign in again"
        };
        Ok(Refusal::new(OauthCode::InvalidGrant, detail, text).because(reason))
    }
}
