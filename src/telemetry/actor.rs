//! Who did something, as records say it. Made once for each credential that is known, so that an operation names it by a pointer.

use std::sync::Arc;

use uuid::Uuid;

use crate::id::{Principal, TenantId};

/// See the module.
#[derive(Debug)]
pub struct Actor {
    /// In which tenant.
    pub tenant: TenantId,
    /// Who, whatever the credential.
    pub principal: Principal,
    /// The account.
    pub user: Uuid,
    /// What the account is called.
    pub username: Arc<str>,
    /// The lesser of the account's role and the credential's.
    pub role: &'static str,
    /// How it came: `api_key`, `oauth`, `service`, `password`.
    pub session_type: &'static str,
    /// The key, or the grant of the token.
    pub credential: Uuid,
    /// The OAuth client, if it came through one.
    pub client: Option<Arc<str>>,
}
