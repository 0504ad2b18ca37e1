//! What a person agreed to once and need not be asked again. Only for clients that an administrator registered; who calls sees
//! to that.

use time::OffsetDateTime;
use uuid::Uuid;

use super::{Grants, Refusal, ScopeSet};
use crate::id::TenantId;
use crate::store::consents::{ConsentRow, NamedConsentRow};
use crate::store::micros;

/// What is agreed to, and by whom.
#[derive(Debug, Clone, Copy)]
pub struct Consent<'a> {
    /// Whose.
    pub tenant: &'a TenantId,
    /// By which account.
    pub user: Uuid,
    /// For which client.
    pub client_id: &'a str,
    /// Sent where.
    pub redirect_uri: &'a str,
    /// For which resource.
    pub resource: &'a str,
    /// For how much.
    pub scopes: ScopeSet,
}

/// Most that are told at once.
const MOST_SHOWN: i64 = 500;

impl Grants {
    /// Remembers it, in place of what was agreed to before for the same client, address and resource.
    pub async fn remember_consent(&self, consent: &Consent<'_>, now: OffsetDateTime) -> Result<(), Refusal> {
        let row = ConsentRow {
            tenant_id: consent.tenant.as_str().to_owned(),
            user_id: consent.user,
            client_id: consent.client_id.to_owned(),
            redirect_uri: consent.redirect_uri.to_owned(),
            resource: consent.resource.to_owned(),
            scopes: consent.scopes.to_string(),
            given_at: micros(now),
        };
        Ok(self.0.store.put_consent(consent.tenant, &row).await?)
    }

    /// Whether all of it was agreed to before.
    pub async fn has_consent(&self, consent: &Consent<'_>) -> Result<bool, Refusal> {
        let Consent { tenant, user, client_id, redirect_uri, resource, scopes } = *consent;
        let row = self.0.store.consent(tenant, user, client_id, redirect_uri, resource).await?;
        Ok(row.is_some_and(|row| ScopeSet::parse(&row.scopes).is_ok_and(|given| given.covers(scopes))))
    }

    /// What an account agreed to and is not asked again, the latest first, at most 500.
    pub async fn consents_of(&self, tenant: &TenantId, user: Uuid) -> Result<Vec<NamedConsentRow>, Refusal> {
        Ok(self.0.store.consents_of(tenant, user, MOST_SHOWN).await?)
    }

    /// Forgets what an account agreed to for a client, or for every one.
    pub async fn forget_consents(&self, tenant: &TenantId, user: Uuid, client_id: Option<&str>) -> Result<(), Refusal> {
        Ok(self.0.store.delete_consents(tenant, user, client_id).await?)
    }
}
