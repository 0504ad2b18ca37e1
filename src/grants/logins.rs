//! What an identity provider gave us for a person, sealed: to ask it again, from time to time, whether the person may still come
//! in. It is kept for as long as a live grant rests on it.

use std::time::Duration;

use time::OffsetDateTime;
use uuid::Uuid;
use zeroize::Zeroizing;

use super::schedule::{Kind, Life, RefreshResult, luck};
use super::{Grants, Refusal, damaged};
use crate::crypto::Place;
use crate::id::TenantId;
use crate::store::logins::{Claim, LastRefresh, LifeColumns, LoginRow};
use crate::store::tenants::tenant_of;
use crate::store::{StoreError, at, at_opt, micros, sealed};
use crate::vault::VaultError;

/// Whether a provider still vouches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LoginState {
    /// As far as we know.
    Active,
    /// The person has to sign in again.
    NeedsInteraction,
    /// It does not.
    Dead,
}

impl LoginState {
    /// The stored word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::NeedsInteraction => "needs_interaction",
            Self::Dead => "dead",
        }
    }

    fn parse(text: &str) -> Option<Self> {
        [Self::Active, Self::NeedsInteraction, Self::Dead].into_iter().find(|state| state.as_str() == text)
    }
}

/// A login to keep.
#[derive(Debug)]
pub struct NewLogin<'a> {
    /// Whose.
    pub tenant: &'a TenantId,
    /// Of which account.
    pub user: Uuid,
    /// The provider's name.
    pub provider: &'a str,
    /// The provider's tokens.
    pub tokens: Option<GivenTokens<'a>>,
}

/// What a provider gave.
#[derive(Debug, Clone, Copy)]
pub struct GivenTokens<'a> {
    /// As bytes of the caller's making; sealed here.
    pub text: &'a [u8],
    /// When the access token among them ends.
    pub expires_at: OffsetDateTime,
}

impl GivenTokens<'_> {
    /// How long they live that came at this time.
    fn life(&self, issued_at: OffsetDateTime) -> LifeColumns {
        LifeColumns { issued_at: micros(issued_at), expires_at: micros(self.expires_at.max(issued_at)) }
    }
}

/// A login as it is kept.
#[derive(Debug)]
pub struct Login {
    /// Its id.
    pub id: Uuid,
    /// Whose.
    pub tenant: TenantId,
    /// Of which account.
    pub user: Uuid,
    /// The provider's name.
    pub provider: String,
    /// The provider's tokens.
    pub tokens: Option<Zeroizing<Vec<u8>>>,
    /// The same as they are stored: by them, and by `until`, it is seen later whether somebody else got it since.
    pub sealed: Option<Vec<u8>>,
    /// Until when who got it to ask about has it alone; or before when nobody asks, because it could not be asked.
    pub until: OffsetDateTime,
    /// Whether the provider still vouches.
    pub state: LoginState,
    /// Why it does not: its error, never a token.
    pub reason: Option<String>,
    /// What it wants to see at the next sign-in.
    pub claims: Option<String>,
    /// When the provider last answered.
    pub checked_at: OffsetDateTime,
    /// How long the tokens live.
    pub life: Life,
    /// Questions in a row that came to nothing.
    pub failures: u32,
    /// Whether the refresh counts as failed by them.
    pub has_failed: bool,
    /// When it was seen that a question was cut off, if the provider has not answered well since.
    pub cut_off_at: Option<OffsetDateTime>,
}

impl Login {
    fn claim(&self) -> Claim<'_> {
        Claim { until: micros(self.until), tokens: self.sealed.as_deref() }
    }
}

/// What a provider said that does not vouch.
#[derive(Debug, Clone, Copy)]
pub struct NotVouched<'a> {
    /// How the login stands now.
    pub state: LoginState,
    /// Why, in the provider's words.
    pub reason: &'a str,
    /// What it wants to see at the next sign-in.
    pub claims: Option<&'a str>,
    /// Why it was asked.
    pub kind: Kind,
    /// Its error code.
    pub code: &'a str,
}

/// A question that came to nothing.
#[derive(Debug, Clone, Copy)]
pub struct Unanswered<'a> {
    /// How many in a row it makes.
    pub failures: u32,
    /// When it is put again, and not before.
    pub again_at: OffsetDateTime,
    /// Whether an administrator does not have it put before either.
    pub is_firm: bool,
    /// Why it was put.
    pub kind: Kind,
    /// The provider's error code, or what was wrong in one word.
    pub code: &'a str,
}

/// For how long whoever asks about a login has it alone: longer than asking takes. Afterwards it is due again, whatever became
/// of who asked.
pub const ALONE: Duration = Duration::from_mins(5);
/// An administrator does not have a provider asked about a login more often than this.
const BETWEEN_FORCED: Duration = Duration::from_secs(30);
/// Longest error and claims of a provider that are kept, in characters.
const KEPT: usize = 8_000;
/// The same of an error code.
const KEPT_CODE: usize = 100;
/// Longest claims that a server makes an address longer by, bytes.
const LONGEST_PARKED: usize = 2_000;

impl Grants {
    /// Keeps a login. Sessions of the account that rest on what the same provider gave before, and that may be lost because a question
    /// was cut off, rest on this one from now on.
    pub async fn keep_login(&self, login: &NewLogin<'_>, now: OffsetDateTime) -> Result<Uuid, Refusal> {
        let id = Uuid::now_v7();
        let tokens = match login.tokens {
            Some(tokens) => Some(self.seal_login(login.tenant, (id, login.user), tokens.text).await?),
            None => None,
        };
        let life = login.tokens.map(|tokens| tokens.life(now));
        let row = LoginRow {
            id,
            tenant_id: login.tenant.as_str().to_owned(),
            user_id: login.user,
            provider: login.provider.to_owned(),
            tokens,
            state: LoginState::Active.as_str().to_owned(),
            reason: None,
            claims: None,
            created_at: micros(now),
            checked_at: micros(now),
            ask_after: 0,
            issued_at: life.map_or(micros(now), |life| life.issued_at),
            expires_at: life.map_or(0, |life| life.expires_at),
            due_at: life.map(|life| self.due(life)),
            asking: false,
            sent: false,
            cut_off_at: None,
            not_before: 0,
            failures: 0,
            last: LastRefresh::default(),
        };
        self.0.store.insert_login_row(login.tenant, &row).await?;
        if row.tokens.is_some() {
            self.0.store.adopt_grants(login.tenant, &row).await?;
        }
        Ok(id)
    }

    /// When tokens of this life are due, with luck.
    fn due(&self, life: LifeColumns) -> i64 {
        micros(self.0.terms.schedule.due(life_of(life.issued_at, life.expires_at), luck()))
    }

    /// A login, whatever its state.
    pub async fn login(&self, tenant: &TenantId, id: Uuid) -> Result<Option<Login>, Refusal> {
        match self.0.store.login_row(tenant, id).await? {
            Some(row) => self.open_login(row).await.map(Some),
            None => Ok(None),
        }
    }

    /// The login that a live grant rests on.
    pub async fn login_of_grant(&self, tenant: &TenantId, grant: Uuid) -> Result<Option<Login>, Refusal> {
        match self.0.store.login_row_of_grant(tenant, grant).await? {
            Some(row) => self.open_login(row).await.map(Some),
            None => Ok(None),
        }
    }

    /// The login for who asks the provider about it now, whenever it was last asked; none while another asks. For five minutes nobody
    /// else gets it ([`ALONE`]).
    pub async fn login_to_ask(&self, login: &Login, now: OffsetDateTime) -> Result<Option<Login>, Refusal> {
        self.claim_login(&login.tenant, login.id, Some(micros(login.checked_at)), now).await
    }

    async fn claim_login(
        &self,
        tenant: &TenantId,
        id: Uuid,
        seen: Option<i64>,
        now: OffsetDateTime,
    ) -> Result<Option<Login>, Refusal> {
        match self.0.store.claim_login(tenant, id, seen, micros(now), micros(now + ALONE)).await? {
            Some(row) => self.open_login(row).await.map(Some),
            None => Ok(None),
        }
    }

    /// Something behind the gateway, called on this grant, wants to see of the person what the next sign-in brings. The login goes on, and
    /// its sessions.
    pub async fn park_claims(&self, login: &Login, grant: Uuid, claims: &str) -> Result<(), Refusal> {
        // Cut claims would be no claims, and an address that is too long none either.
        if claims.len() <= LONGEST_PARKED {
            self.0.store.park_claims(&login.tenant, login.id, grant, claims).await?;
        }
        Ok(())
    }

    /// Whether the person is to sign in again before anything is given anew on this grant of a login, because of what a call on it came
    /// to. Said once of each thing that is wanted: who does not come, or cannot show it, goes on without.
    pub async fn wants_person(&self, tenant: &TenantId, id: Uuid, grant: Uuid) -> Result<bool, Refusal> {
        let wanted = self.0.store.login_row(tenant, id).await?.is_some_and(|row| row.claims.is_some());
        Ok(wanted && self.0.store.tell_of_claims(tenant, id, grant).await?)
    }

    /// The provider is asked now for what a server wants to see of an account.
    pub async fn claims_are_tried(&self, tenant: &TenantId, user: Uuid, provider: &str) -> Result<(), Refusal> {
        Ok(self.0.store.try_claims(tenant, user, provider).await?)
    }

    /// Whoever got a login to ask about asks now, or ends what rests on it, and has it for five more minutes ([`ALONE`]); says whether.
    /// Somebody else may have got it since.
    pub async fn hold_login(&self, login: &mut Login, now: OffsetDateTime) -> Result<bool, Refusal> {
        let (was, until) = (micros(login.until), now + ALONE);
        let held = self.0.store.hold_login(&login.tenant, login.id, was, micros(until)).await?;
        if held {
            login.until = at(micros(until));
        }
        Ok(held)
    }

    /// These tokens take the place of the ones that were kept, and it is due as before; says whether. Nothing changes when somebody else
    /// got the login since and others took their place, or it has ended.
    pub async fn login_renewed(
        &self,
        login: &mut Login,
        tokens: GivenTokens<'_>,
        now: OffsetDateTime,
    ) -> Result<bool, Refusal> {
        let sealed = self.seal_login(&login.tenant, (login.id, login.user), tokens.text).await?;
        let life = tokens.life(now);
        let taken = self.0.store.renew_login(&login.tenant, login.id, login.claim(), &sealed, life).await?;
        if taken {
            login.sealed = Some(sealed);
        }
        Ok(taken)
    }

    /// The provider vouched again. What it or another wants to see at the next sign-in stays. Says whether: somebody else may have got the
    /// login since.
    pub async fn login_checked(&self, login: &Login, kind: Kind, now: OffsetDateTime) -> Result<bool, Refusal> {
        let mut row = self.login_row(&login.tenant, login.id).await?;
        LoginState::Active.as_str().clone_into(&mut row.state);
        (row.checked_at, row.ask_after) = (micros(now), 0);
        (row.reason, row.failures, row.cut_off_at) = (None, 0, None);
        row.not_before = micros(now + BETWEEN_FORCED);
        row.due_at = Some(self.due(LifeColumns { issued_at: row.issued_at, expires_at: row.expires_at }));
        row.last = last(kind, RefreshResult::Success, None, now);
        Ok(self.0.store.update_login_row(&login.tenant, &row, login.claim()).await?)
    }

    /// The provider cannot be asked with what is kept: nobody asks before somebody uses what rests on it, once its word is old.
    pub async fn login_is_mute(&self, login: &Login, now: OffsetDateTime) -> Result<(), Refusal> {
        self.mute(self.login_row(&login.tenant, login.id).await?, login.claim(), now).await
    }

    async fn mute(&self, mut row: LoginRow, claim: Claim<'_>, now: OffsetDateTime) -> Result<(), Refusal> {
        (row.checked_at, row.ask_after, row.due_at) = (micros(now), 0, None);
        self.0.store.update_login_row(&tenant_of(&row.tenant_id)?, &row, claim).await?;
        Ok(())
    }

    /// Nobody asks, and the login is due again at `then`, and not before.
    pub async fn ask_login_after(&self, login: &Login, then: OffsetDateTime) -> Result<(), Refusal> {
        let was = micros(login.until);
        Ok(self.0.store.ask_login_after(&login.tenant, login.id, was, micros(then)).await?)
    }

    /// The provider could not be asked. Says whether that was noted: somebody else may have got the login since.
    pub async fn login_unanswered(
        &self,
        login: &Login,
        unanswered: &Unanswered<'_>,
        now: OffsetDateTime,
    ) -> Result<bool, Refusal> {
        let mut row = self.login_row(&login.tenant, login.id).await?;
        row.failures = unanswered.failures.into();
        row.ask_after = micros(unanswered.again_at);
        row.due_at = Some(row.ask_after);
        row.not_before = if unanswered.is_firm { row.ask_after } else { micros(now + BETWEEN_FORCED) };
        row.last = last(unanswered.kind, RefreshResult::Failure, Some(unanswered.code), now);
        Ok(self.0.store.update_login_row(&login.tenant, &row, login.claim()).await?)
    }

    /// The provider wants the person back, or does not vouch any longer. The tokens are of no use any more and go. Says whether: somebody
    /// else may have got the login since, or other tokens.
    pub async fn login_refused(
        &self,
        login: &Login,
        said: &NotVouched<'_>,
        now: OffsetDateTime,
    ) -> Result<bool, Refusal> {
        let mut row = self.login_row(&login.tenant, login.id).await?;
        if said.state != LoginState::Active {
            row.due_at = None;
        }
        said.state.as_str().clone_into(&mut row.state);
        row.reason = Some(said.reason.chars().take(KEPT).collect());
        // Cut claims would be no claims.
        row.claims = said.claims.filter(|claims| claims.len() <= KEPT).map(ToOwned::to_owned);
        row.checked_at = micros(now);
        row.last = last(said.kind, RefreshResult::ReauthRequired, Some(said.code), now);
        Ok(self.0.store.update_login_row(&login.tenant, &row, login.claim()).await?)
    }

    /// What a provider wants to see of an account at its next sign-in there.
    pub async fn parked_claims(
        &self,
        tenant: &TenantId,
        user: Uuid,
        provider: &str,
    ) -> Result<Option<String>, Refusal> {
        Ok(self.0.store.parked_claims(tenant, user, provider).await?)
    }

    /// The provider has seen it.
    pub async fn claims_were_met(&self, tenant: &TenantId, user: Uuid, provider: &str) -> Result<(), Refusal> {
        Ok(self.0.store.clear_claims(tenant, user, provider).await?)
    }

    /// A login that somebody uses, if its provider's word is older than the terms allow, or its tokens are to be refreshed. For five
    /// minutes nobody else gets it ([`ALONE`]).
    pub async fn login_due(&self, tenant: &TenantId, id: Uuid, now: OffsetDateTime) -> Result<Option<Login>, Refusal> {
        let row = self.0.store.login_row(tenant, id).await?;
        let schedule = self.0.terms.schedule;
        let due = |row: &LoginRow| {
            row.state == LoginState::Active.as_str()
                && row.tokens.is_some()
                && schedule.is_due_when_used(life_of(row.issued_at, row.expires_at), at(row.checked_at), now)
        };
        let Some(row) = row.filter(due) else { return Ok(None) };
        self.claim_login(tenant, id, Some(row.checked_at), now).await
    }

    /// A login, whether or not it is due; none while another asks about it, within half a minute of the last question, before the time
    /// that a provider named, or if nobody can ask.
    pub async fn login_now(&self, tenant: &TenantId, id: Uuid, now: OffsetDateTime) -> Result<Option<Login>, Refusal> {
        self.claim_login(tenant, id, None, now).await
    }

    /// Up to `limit` logins at a provider that are due, but of tenants that are left out; none only if nobody is. For five minutes nobody
    /// else gets them ([`ALONE`]). One that cannot be opened is logged and not asked about.
    pub async fn logins_due(
        &self,
        provider: &str,
        left_out: &[TenantId],
        limit: u16,
        now: OffsetDateTime,
    ) -> Result<Vec<Login>, Refusal> {
        let until = micros(now + ALONE);
        loop {
            let rows = self.0.store.claim_due_logins(provider, left_out, micros(now), until, limit.into()).await?;
            let (taken, mut logins) = (rows.len(), Vec::with_capacity(rows.len()));
            for row in rows {
                match self.open_login(row.clone()).await {
                    Ok(login) => logins.push(login),
                    Err(error) if error.is_of_database() => {
                        tracing::warn!(login = %row.id, error = error.detail, "left out");
                    }
                    Err(error) => {
                        tracing::error!(login = %row.id, error = error.detail, "nobody asks about what cannot be opened");
                        let (until, tokens) = (row.ask_after, row.tokens.clone());
                        self.mute(row, Claim { until, tokens: tokens.as_deref() }, now).await?;
                    }
                }
            }
            if taken == 0 || !logins.is_empty() {
                return Ok(logins);
            }
        }
    }

    async fn login_row(&self, tenant: &TenantId, id: Uuid) -> Result<LoginRow, Refusal> {
        Ok(self.0.store.login_row(tenant, id).await?.ok_or(StoreError::Missing)?)
    }

    async fn seal_login(&self, tenant: &TenantId, (id, user): (Uuid, Uuid), tokens: &[u8]) -> Result<Vec<u8>, Refusal> {
        self.0.vault.seal(place(&id.to_string(), tenant, user), tokens).await.map_err(unsealed)
    }

    async fn open_login(&self, row: LoginRow) -> Result<Login, Refusal> {
        let tenant = tenant_of(&row.tenant_id)?;
        let id = row.id.to_string();
        let tokens = match &row.tokens {
            Some(sealed) => Some(self.0.vault.open(place(&id, &tenant, row.user_id), sealed).await.map_err(unsealed)?),
            None => None,
        };
        let (life, failures) =
            (life_of(row.issued_at, row.expires_at), u32::try_from(row.failures).unwrap_or_default());
        let last_at = at(row.last.last_at.unwrap_or_default());
        Ok(Login {
            id: row.id,
            user: row.user_id,
            provider: row.provider,
            tokens,
            sealed: row.tokens,
            until: at(row.ask_after),
            state: LoginState::parse(&row.state).ok_or_else(|| damaged("a login's state", &row.state))?,
            reason: row.reason,
            claims: row.claims,
            checked_at: at(row.checked_at),
            life,
            failures,
            has_failed: self.0.terms.schedule.has_failed(failures, life, last_at),
            cut_off_at: at_opt(row.cut_off_at),
            tenant,
        })
    }
}

pub(super) fn life_of(issued_at: i64, expires_at: i64) -> Life {
    Life { issued_at: at(issued_at), expires_at: at(expires_at) }
}

fn last(kind: Kind, result: RefreshResult, code: Option<&str>, now: OffsetDateTime) -> LastRefresh {
    LastRefresh {
        last_at: Some(micros(now)),
        last_kind: Some(kind.as_str().to_owned()),
        last_result: Some(result.as_str().to_owned()),
        last_code: code.map(|code| code.chars().take(KEPT_CODE).collect()),
    }
}

fn place<'a>(row: &'a str, tenant: &'a TenantId, user: Uuid) -> Place<'a> {
    Place { table: sealed::LOGINS.name, row, tenant, subject: Some(user) }
}

fn unsealed(error: VaultError) -> Refusal {
    match error {
        VaultError::Store(error) => error.into(),
        other => damaged("a login", &other),
    }
}
