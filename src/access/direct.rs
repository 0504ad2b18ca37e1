//! Applications that show an identity provider's own access token, verified before. No grant of ours stands behind it: it opens the
//! whole gateway, as its audience is the whole gateway, and is believed for minutes before it is verified again.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use time::OffsetDateTime;
use uuid::Uuid;

use super::{Allow, Caller, Identity, Memberships, Role, Scopes, SessionType, Shown, TokenRing, UserId};
use crate::crypto::hash_token;
use crate::id::{Principal, TenantId};

/// For how long a verified token is believed.
const BELIEVED: Duration = Duration::from_mins(5);

/// The application that shows a token of an identity provider, and the account that is its own here.
#[derive(Debug)]
pub struct Direct<'a> {
    /// Who vouches.
    pub issuer: &'a str,
    /// The name there that never changes.
    pub subject: &'a str,
    /// What people call the provider.
    pub provider: &'a str,
    /// The account's tenant.
    pub tenant: TenantId,
    /// The account.
    pub user: Uuid,
    /// Its name.
    pub username: &'a str,
    /// Its role.
    pub role: Role,
    /// What the provider counts it among.
    pub memberships: &'a Arc<Memberships>,
    /// When the token ends.
    pub expires_at: OffsetDateTime,
}

impl TokenRing {
    /// Lets in whoever shows `token`, which was verified at `now`, and remembers it for five minutes or until it ends. What is
    /// held open under it ends then, too. None when accounts were taken over anew since `reloads` ([`TokenRing::reloads`]), so
    /// that `who` may not be true any more.
    pub fn admit(&self, token: &str, who: &Direct<'_>, now: OffsetDateTime, reloads: u64) -> Option<Caller> {
        // One credential for the life of the token, whichever process sees it.
        let hash = hash_token(token);
        let id = Uuid::from_bytes(std::array::from_fn(|at| hash[at]));
        let principal = Principal { issuer: who.issuer.into(), subject: who.subject.into() };
        let shown = Shown {
            kind: SessionType::Service,
            id,
            name: who.provider.into(),
            client: who.subject.into(),
            resource: None,
            key: None,
        };
        let caller = Caller(Arc::new(Identity {
            actor: shown.by(who.tenant.clone(), principal, who.user, who.username.into(), who.role),
            user: UserId(who.user),
            called_by_provider: true,
            role: who.role,
            memberships: Arc::clone(who.memberships),
            scopes: Arc::new(Scopes { servers: Allow::All, tools: Allow::All, admin: true }),
            shown,
            subject: OnceLock::new(),
            ended: OnceLock::new(),
        }));
        self.remember(token, caller, who.expires_at.min(now + BELIEVED), now, reloads)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_repeat_is_known_by_the_account_and_not_by_the_token_that_is_new_each_hour() {
        let now = OffsetDateTime::now_utc();
        let ring = TokenRing::new("https://gateway", 1_000, now);
        let shown = |token: &str, user: u128| {
            let who = Direct {
                issuer: "https://idp",
                subject: "s",
                provider: "idp",
                tenant: TenantId::default_tenant(),
                user: Uuid::from_u128(user),
                username: "n",
                role: Role::User,
                memberships: &Arc::default(),
                expires_at: now + Duration::from_hours(1),
            };
            ring.admit(token, &who, now, ring.reloads()).unwrap()
        };
        let (first, second) = (shown("first", 1), shown("second", 1));
        assert_ne!(first.credential(), second.credential());
        assert_eq!(first.repeats_as(), second.repeats_as());
        assert_ne!(first.repeats_as(), shown("third", 2).repeats_as());
    }
}
