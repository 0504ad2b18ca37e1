//! People at our own pages, whom a browser's session shows: a page tells them what they may see, as a call would.

use std::sync::{Arc, OnceLock};

use uuid::Uuid;

use super::{Allow, Caller, Identity, Memberships, Role, Scopes, SessionType, Shown, UserId};
use crate::id::{Principal, TenantId};
use crate::store::{Store, StoreError};

impl Caller {
    /// The account whose browser is signed in here in this session; none where it is gone or disabled. Nothing is managed so.
    pub async fn at_pages(
        store: &Store,
        tenant: &TenantId,
        user: Uuid,
        session: Uuid,
    ) -> Result<Option<Self>, StoreError> {
        let found = store.user(tenant, user).await?.filter(|found| found.state == "active");
        let Some(found) = found else { return Ok(None) };
        let memberships = store.memberships(tenant, user).await?;
        let role = Role::parse(&found.role).ok_or_else(|| StoreError::Corrupt(format!("role `{}`", found.role)))?;
        let called_by_provider = found.issuer.is_some();
        let principal = Principal {
            issuer: found.issuer.as_deref().unwrap_or("local").into(),
            subject: found.subject.unwrap_or_else(|| user.to_string()).into(),
        };
        let shown = Shown {
            kind: SessionType::Login,
            id: session,
            name: "browser".into(),
            client: "login".into(),
            resource: None,
            key: None,
        };
        Ok(Some(Self(Arc::new(Identity {
            actor: shown.by(tenant.clone(), principal, user, found.username.into(), role),
            user: UserId(user),
            called_by_provider,
            role,
            memberships: Arc::new(Memberships::of(memberships.as_deref(), called_by_provider)),
            scopes: Arc::new(Scopes { servers: Allow::All, tools: Allow::All, admin: false }),
            shown,
            subject: OnceLock::new(),
            ended: OnceLock::new(),
        }))))
    }
}
