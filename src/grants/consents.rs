//! What a person agreed to once and need not be asked again. Only for clients that an administrator registered; who calls sees
//! to that.

use time::OffsetDateTime;
use uuid::Uuid;

use super::{Grants, Refusal, ScopeSet, not_yet};
use crate::id::TenantId;

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

impl Grants {
    /// Remembers it; scopes agreed to before stay.
    pub async fn remember_consent(&self, consent: &Consent<'_>, now: OffsetDateTime) -> Result<(), Refusal> {
        let _ = (consent, now);
        not_yet()
    }

    /// Whether all of it was agreed to before.
    pub async fn has_consent(&self, consent: &Consent<'_>) -> Result<bool, Refusal> {
        let _ = consent;
        not_yet()
    }

    /// Forgets what an account agreed to for a client.
    pub async fn forget_consents(&self, tenant: &TenantId, user: Uuid, client_id: &str) -> Result<(), Refusal> {
        let _ = (tenant, user, client_id);
        not_yet()
    }
}
