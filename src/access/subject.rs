//! What of a caller access rules may speak of, and nothing else: the account, its role, what its provider counts it among, and the
//! client that it came through.

use std::sync::Arc;

use sha2::{Digest as _, Sha256};
use uuid::Uuid;

use super::{Role, SessionType};
use crate::id::TenantId;

/// Most groups, and most app roles, that are kept of one person.
pub const MOST_MEMBERSHIPS: usize = 1_000;
/// Longest app role, bytes; Entra's bound is 250.
const LONGEST: usize = 250;

/// What a provider counted somebody among when it was last asked.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Memberships {
    /// Ids of groups, lower case.
    pub groups: Vec<Box<str>>,
    /// App roles, or the values of the roles claim, as they are written there.
    pub app_roles: Vec<Box<str>>,
    /// The provider has not said all: the person is in more groups than its token holds, or has not signed in since they are kept.
    pub unknown: bool,
}

impl Memberships {
    /// Of a provider's word, within bounds; what is over them is left out, and said to be unknown.
    pub fn new(groups: &[Uuid], app_roles: &[String], unknown: bool) -> Self {
        let fits = |role: &&String| role.len() <= LONGEST && !role.contains(char::is_control) && !role.is_empty();
        let mut groups: Vec<Box<str>> = groups.iter().map(|id| id.to_string().into()).collect();
        let mut roles: Vec<Box<str>> = app_roles.iter().filter(fits).map(|role| role.as_str().into()).collect();
        let unknown = unknown || groups.len().max(roles.len()) > MOST_MEMBERSHIPS || roles.len() < app_roles.len();
        for list in [&mut groups, &mut roles] {
            list.sort_unstable();
            list.dedup();
            list.truncate(MOST_MEMBERSHIPS);
        }
        Self { groups, app_roles: roles, unknown }
    }

    /// Of somebody of whom no provider has said anything yet.
    pub fn unheard() -> Self {
        Self { unknown: true, ..Self::default() }
    }

    /// As it is stored: a line for each.
    pub fn text(&self) -> String {
        let lines = self.groups.iter().map(|id| format!("g {id}\n"));
        let lines = lines.chain(self.app_roles.iter().map(|role| format!("r {role}\n")));
        lines.chain(self.unknown.then(|| "?\n".to_owned())).collect()
    }

    /// Of what is stored.
    pub fn read(text: &str) -> Self {
        let mut read = Self::default();
        for line in text.lines() {
            match line.split_once(' ') {
                Some(("g", id)) => read.groups.push(id.into()),
                Some(("r", role)) => read.app_roles.push(role.into()),
                _ => read.unknown = true,
            }
        }
        read
    }

    /// Of an account: `text` is what is stored, if anything; only a provider's people have any.
    pub(crate) fn of(text: Option<&str>, of_provider: bool) -> Self {
        match text {
            Some(text) => Self::read(text),
            None if of_provider => Self::unheard(),
            None => Self::default(),
        }
    }
}

/// See the module. Two with the same [`Subject::shape`] may the same.
#[derive(Debug, Clone)]
pub struct Subject {
    tenant: TenantId,
    user: Uuid,
    name: Option<Box<str>>,
    role: Role,
    client: Arc<str>,
    credential: &'static str,
    memberships: Arc<Memberships>,
    shape: [u8; 32],
}

impl Subject {
    /// Somebody. `name` is the one that an administrator gave the account; what a provider calls its people decides nothing.
    pub fn new(
        tenant: &TenantId,
        user: Uuid,
        name: Option<&str>,
        role: Role,
        client: &Arc<str>,
        session: SessionType,
        memberships: &Arc<Memberships>,
    ) -> Self {
        let credential = match session {
            SessionType::ApiKey => "api_key",
            SessionType::Login => "login",
            SessionType::OAuth => "oauth",
            SessionType::Service => "service",
        };
        let mut digest = Sha256::new();
        for part in [
            user.as_bytes().as_slice(),
            name.unwrap_or("\n").as_bytes(),
            role.as_str().as_bytes(),
            client.as_bytes(),
            credential.as_bytes(),
            memberships.text().as_bytes(),
        ] {
            digest.update((part.len() as u64).to_le_bytes());
            digest.update(part);
        }
        Self {
            tenant: tenant.clone(),
            user,
            name: name.map(Into::into),
            role,
            client: client.clone(),
            credential,
            memberships: memberships.clone(),
            shape: digest.finalize().into(),
        }
    }

    /// In which tenant.
    pub fn tenant(&self) -> &TenantId {
        &self.tenant
    }

    /// The account.
    pub fn user(&self) -> Uuid {
        self.user
    }

    /// Its name, where an administrator gave it.
    pub fn name(&self) -> Option<&str> {
        self.name.as_deref()
    }

    /// The lesser of the account's role and the credential's.
    pub fn role(&self) -> Role {
        self.role
    }

    /// The id of the OAuth client, or of the API key; `login` for a sign-in by password.
    pub fn client(&self) -> &str {
        &self.client
    }

    /// `api_key`, `login`, `oauth` or `service`.
    pub fn credential(&self) -> &'static str {
        self.credential
    }

    /// What its provider counts it among.
    pub fn memberships(&self) -> &Memberships {
        &self.memberships
    }

    /// A digest of all of it but the tenant.
    pub fn shape(&self) -> &[u8; 32] {
        &self.shape
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_stored_of_memberships_reads_as_it_was() {
        let some = Memberships::new(&[Uuid::nil(), Uuid::nil()], &["Mcp.Admin".to_owned()], false);
        assert_eq!((some.groups.len(), some.unknown), (1, false));
        assert_eq!(Memberships::read(&some.text()), some);
        let odd = Memberships::new(&[], &["a\nr Mcp.Admin".to_owned()], false);
        assert!(odd.app_roles.is_empty() && odd.unknown, "what cannot be written down is not known");
        assert_eq!(Memberships::read(&odd.text()), odd);
        assert!(Memberships::of(None, true).unknown && !Memberships::of(None, false).unknown);
    }

    #[test]
    fn more_than_is_kept_is_said_to_be_unknown() {
        let many: Vec<Uuid> = (0..=MOST_MEMBERSHIPS as u128).map(Uuid::from_u128).collect();
        let kept = Memberships::new(&many, &[], false);
        assert_eq!((kept.groups.len(), kept.unknown), (MOST_MEMBERSHIPS, true));
    }
}
