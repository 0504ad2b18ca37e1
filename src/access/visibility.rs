//! To whom a server is visible, as people write it.
//!
//! A name counts only where an administrator gave it: of accounts of this gateway. What a provider's people are called, the provider
//! says, and often they themselves; a name that was free yesterday may be somebody else's today. They are meant by the account's id.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use uuid::Uuid;

use super::Role;

/// Who may see and call a server. Administrators of the tenant always may.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub struct Visibility {
    /// Everybody who is signed in to the tenant.
    #[serde(default)]
    pub everyone: bool,
    /// Roles that may; each stands for the greater ones too.
    #[serde(default)]
    pub roles: Vec<String>,
    /// Who may besides: the id of any account, or the name of one of this gateway's own.
    #[serde(default)]
    pub users: Vec<String>,
}

impl Default for Visibility {
    fn default() -> Self {
        Self { everyone: true, roles: Vec::new(), users: Vec::new() }
    }
}

impl Visibility {
    /// Whether the account of this id and role is among those who may; `name` is the one that an administrator gave it. Allocates
    /// nothing.
    pub fn includes(&self, id: Uuid, name: Option<&str>, role: Role) -> bool {
        let is_meant = || {
            let mut text = Uuid::encode_buffer();
            let id: &str = id.hyphenated().encode_lower(&mut text);
            let called = [Some(id), name];
            self.users.iter().any(|user| called.into_iter().flatten().any(|called| user.eq_ignore_ascii_case(called)))
        };
        self.everyone
            || self.roles.iter().any(|least| Role::parse(least).is_some_and(|least| role >= least))
            || (!self.users.is_empty() && is_meant())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_role_stands_for_the_greater_ones_too() {
        let of_role =
            |role: Role| Visibility { everyone: false, roles: vec![role.as_str().to_owned()], users: Vec::new() };
        for least in Role::ALL {
            for held in Role::ALL {
                assert_eq!(
                    of_role(least).includes(Uuid::nil(), Some("ada"), held),
                    held >= least,
                    "{least:?} {held:?}"
                );
            }
        }
        let nobody = Visibility { everyone: false, roles: vec!["king".to_owned()], users: Vec::new() };
        assert!(!nobody.includes(Uuid::nil(), Some("king"), Role::Admin));
    }

    #[test]
    fn a_name_means_only_who_has_it_from_an_administrator_and_an_id_whoever_has_it() {
        let (ada, eve) = (Uuid::now_v7(), Uuid::now_v7());
        let users = vec!["Ada".to_owned(), ada.to_string().to_uppercase()];
        let some = Visibility { everyone: false, roles: Vec::new(), users };
        assert!(some.includes(eve, Some("ada"), Role::User) && some.includes(ada, None, Role::User));
        assert!(!some.includes(eve, None, Role::User) && !some.includes(eve, Some("eve"), Role::User));
    }
}
