//! What an identity provider gave us for a person, sealed: to ask it again, from time to time, whether the person may still come
//! in. It is kept for as long as a live grant rests on it.

use std::time::Duration;

use time::OffsetDateTime;
use uuid::Uuid;
use zeroize::Zeroizing;

use super::{Grants, Refusal, damaged};
use crate::crypto::Place;
use crate::id::TenantId;
use crate::store::logins::LoginRow;
use crate::store::tenants::tenant_of;
use crate::store::{StoreError, at, micros};
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
    /// The provider's tokens, as bytes of the caller's making; sealed here.
    pub tokens: Option<&'a [u8]>,
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
    /// The same as they are stored: by them it is seen later whether others took their place.
    pub sealed: Option<Vec<u8>>,
    /// Whether the provider still vouches.
    pub state: LoginState,
    /// Why it does not: its error, never a token.
    pub reason: Option<String>,
    /// What it wants to see at the next sign-in.
    pub claims: Option<String>,
    /// When the provider last answered.
    pub checked_at: OffsetDateTime,
    /// Before when nobody else asks it: who does has the login alone, or it could not be asked.
    pub ask_after: OffsetDateTime,
}

/// For how long whoever asks about a login has it alone: longer than asking takes. Afterwards it is due again, whatever became
/// of who asked.
pub const ALONE: Duration = Duration::from_mins(5);
/// Longest error and claims of a provider that are kept, in characters.
const KEPT: usize = 8_000;
/// Longest claims that a server makes an address longer by, bytes.
const LONGEST_PARKED: usize = 2_000;

impl Grants {
    /// Keeps a login.
    pub async fn keep_login(&self, login: &NewLogin<'_>, now: OffsetDateTime) -> Result<Uuid, Refusal> {
        let id = Uuid::now_v7();
        let tokens = match login.tokens {
            Some(tokens) => Some(self.seal_login(login.tenant, id, tokens).await?),
            None => None,
        };
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
        };
        self.0.store.insert_login_row(login.tenant, &row).await?;
        Ok(id)
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
        let (tenant, id) = (&login.tenant, login.id);
        let (seen, until) = (micros(login.checked_at), micros(now + ALONE));
        if !self.0.store.claim_login(tenant, id, seen, micros(now), until).await? {
            return Ok(None);
        }
        self.login(tenant, id).await
    }

    /// Something behind the gateway wants to see of the person what the next sign-in brings. The login goes on, and its sessions.
    pub async fn park_claims(&self, login: &Login, claims: &str) -> Result<(), Refusal> {
        // Cut claims would be no claims, and an address that is too long none either.
        if claims.len() <= LONGEST_PARKED {
            self.0.store.park_claims(&login.tenant, login.id, claims).await?;
        }
        Ok(())
    }

    /// Whether the person is to sign in again before anything is given anew on this login. Said once of each thing that is wanted: who
    /// does not come, or cannot show it, goes on without.
    pub async fn wants_person(&self, tenant: &TenantId, id: Uuid) -> Result<bool, Refusal> {
        let wanted = self.0.store.login_row(tenant, id).await?.is_some_and(|row| row.claims.is_some());
        Ok(wanted && self.0.store.tell_of_claims(tenant, id).await?)
    }

    /// The provider is asked now for what a server wants to see of an account.
    pub async fn claims_are_tried(&self, tenant: &TenantId, user: Uuid, provider: &str) -> Result<(), Refusal> {
        Ok(self.0.store.try_claims(tenant, user, provider).await?)
    }

    /// These tokens take the place of the ones that were kept. It is due as before.
    pub async fn login_renewed(&self, tenant: &TenantId, id: Uuid, tokens: &[u8]) -> Result<(), Refusal> {
        let sealed = self.seal_login(tenant, id, tokens).await?;
        Ok(self.0.store.renew_login(tenant, id, &sealed).await?)
    }

    /// The same, late: of a login as it was read before the provider was asked. Nothing changes when others took the place of its
    /// tokens meanwhile, or it has ended; says whether.
    pub async fn login_renewed_late(&self, login: &Login, tokens: &[u8]) -> Result<bool, Refusal> {
        let Some(old) = &login.sealed else { return Ok(false) };
        let sealed = self.seal_login(&login.tenant, login.id, tokens).await?;
        Ok(self.0.store.renew_login_from(&login.tenant, login.id, old, &sealed).await?)
    }

    /// The provider vouched again. What it or another wants to see at the next sign-in stays.
    pub async fn login_checked(&self, tenant: &TenantId, id: Uuid, now: OffsetDateTime) -> Result<(), Refusal> {
        let mut row = self.login_row(tenant, id).await?;
        LoginState::Active.as_str().clone_into(&mut row.state);
        (row.checked_at, row.ask_after) = (micros(now), 0);
        row.reason = row.reason.filter(|_| row.claims.is_some());
        Ok(self.0.store.update_login_row(tenant, &row).await?)
    }

    /// The provider could not be asked: the login is due again at `then`, and not before.
    pub async fn ask_login_after(&self, tenant: &TenantId, id: Uuid, then: OffsetDateTime) -> Result<(), Refusal> {
        Ok(self.0.store.ask_login_after(tenant, id, micros(then)).await?)
    }

    /// The provider wants the person back, or does not vouch any longer. The tokens are of no use any more and go.
    pub async fn login_refused(
        &self,
        tenant: &TenantId,
        id: Uuid,
        state: LoginState,
        reason: &str,
        claims: Option<&str>,
        now: OffsetDateTime,
    ) -> Result<(), Refusal> {
        let mut row = self.login_row(tenant, id).await?;
        if state != LoginState::Active {
            row.tokens = None;
        }
        state.as_str().clone_into(&mut row.state);
        row.reason = Some(reason.chars().take(KEPT).collect());
        // Cut claims would be no claims.
        row.claims = claims.filter(|claims| claims.len() <= KEPT).map(ToOwned::to_owned);
        row.checked_at = micros(now);
        Ok(self.0.store.update_login_row(tenant, &row).await?)
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

    /// A login if it was not checked within the time of the terms. For five minutes nobody else gets it ([`ALONE`]).
    pub async fn login_due(&self, tenant: &TenantId, id: Uuid, now: OffsetDateTime) -> Result<Option<Login>, Refusal> {
        let row = self.0.store.login_row(tenant, id).await?;
        let before = micros(now - self.0.terms.recheck);
        let due = |row: &LoginRow| {
            row.state == LoginState::Active.as_str() && row.tokens.is_some() && row.checked_at < before
        };
        let Some(row) = row.filter(due) else { return Ok(None) };
        if !self.0.store.claim_login(tenant, id, row.checked_at, micros(now), micros(now + ALONE)).await? {
            return Ok(None);
        }
        self.open_login(row).await.map(Some)
    }

    /// Up to `limit` logins at a provider that were not checked within the time of the terms and whose grants were used since. For
    /// five minutes nobody else gets them ([`ALONE`]). One that cannot be opened is left out and logged.
    pub async fn logins_due(&self, provider: &str, limit: u16, now: OffsetDateTime) -> Result<Vec<Login>, Refusal> {
        let (before, until) = (micros(now - self.0.terms.recheck), micros(now + ALONE));
        let rows = self.0.store.claim_due_logins(provider, before, micros(now), until, limit.into()).await?;
        let mut logins = Vec::with_capacity(rows.len());
        for row in rows {
            let id = row.id;
            match self.open_login(row).await {
                Ok(login) => logins.push(login),
                Err(error) => tracing::error!(login = %id, error = error.detail, "left out"),
            }
        }
        Ok(logins)
    }

    async fn login_row(&self, tenant: &TenantId, id: Uuid) -> Result<LoginRow, Refusal> {
        Ok(self.0.store.login_row(tenant, id).await?.ok_or(StoreError::Missing)?)
    }

    async fn seal_login(&self, tenant: &TenantId, id: Uuid, tokens: &[u8]) -> Result<Vec<u8>, Refusal> {
        let row = id.to_string();
        self.0.vault.seal(place(&row, tenant), tokens).await.map_err(unsealed)
    }

    async fn open_login(&self, row: LoginRow) -> Result<Login, Refusal> {
        let tenant = tenant_of(&row.tenant_id)?;
        let id = row.id.to_string();
        let tokens = match &row.tokens {
            Some(sealed) => Some(self.0.vault.open(place(&id, &tenant), sealed).await.map_err(unsealed)?),
            None => None,
        };
        Ok(Login {
            id: row.id,
            user: row.user_id,
            provider: row.provider,
            tokens,
            sealed: row.tokens,
            state: LoginState::parse(&row.state).ok_or_else(|| damaged("a login's state", &row.state))?,
            reason: row.reason,
            claims: row.claims,
            checked_at: at(row.checked_at),
            ask_after: at(row.ask_after),
            tenant,
        })
    }
}

fn place<'a>(row: &'a str, tenant: &'a TenantId) -> Place<'a> {
    Place { table: "logins.tokens", row, tenant }
}

fn unsealed(error: VaultError) -> Refusal {
    match error {
        VaultError::Store(error) => error.into(),
        other => damaged("a login", &other),
    }
}
