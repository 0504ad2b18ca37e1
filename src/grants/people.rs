//! The accounts of people whom a provider vouches for. An account belongs to one issuer and subject from its first sign-in and is
//! never found by name, so that nobody comes into an account by being called like it.

use time::OffsetDateTime;
use uuid::Uuid;

use super::{Grants, Refusal, not_yet};
use crate::access::Role;
use crate::id::TenantId;

/// Somebody as a provider described them.
#[derive(Debug, Clone, Copy)]
pub struct Person<'a> {
    /// Who vouches.
    pub issuer: &'a str,
    /// The name there that never changes.
    pub subject: &'a str,
    /// The name that people know; the account's, if it can be.
    pub username: &'a str,
    /// For pages.
    pub display_name: Option<&'a str>,
    /// What the provider's roles or groups give.
    pub role: Role,
}

/// An account that may come in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Account {
    /// Whose.
    pub tenant: TenantId,
    /// Its id.
    pub id: Uuid,
    /// Its name here.
    pub username: String,
    /// For pages.
    pub display_name: Option<String>,
    /// Its role.
    pub role: Role,
    /// Whether this sign-in made it.
    pub is_new: bool,
}

impl Grants {
    /// The account of `person` in `tenant`; made at the first sign-in, brought up to date at others. `access_denied` when it is
    /// disabled, or belongs to another tenant.
    pub async fn account_for(
        &self,
        tenant: &TenantId,
        person: &Person<'_>,
        now: OffsetDateTime,
    ) -> Result<Account, Refusal> {
        let _ = (tenant, person, now);
        not_yet()
    }
}
