//! To whom a server is visible, as people write it.

use serde::{Deserialize, Serialize};

use super::Role;

/// Who may see and call a server. Administrators of the tenant always may.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub struct Visibility {
    /// Everybody who is signed in to the tenant.
    #[serde(default)]
    pub everyone: bool,
    /// Roles that may; each stands for the greater ones too.
    #[serde(default)]
    pub roles: Vec<String>,
    /// User names that may.
    #[serde(default)]
    pub users: Vec<String>,
}

impl Default for Visibility {
    fn default() -> Self {
        Self { everyone: true, roles: Vec::new(), users: Vec::new() }
    }
}

impl Visibility {
    /// Whether somebody of this name and role is among those who may. Allocates nothing.
    pub fn includes(&self, username: &str, role: Role) -> bool {
        self.everyone
            || self.roles.iter().any(|least| Role::parse(least).is_some_and(|least| role >= least))
            || self.users.iter().any(|user| user.eq_ignore_ascii_case(username))
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
                assert_eq!(of_role(least).includes("ada", held), held >= least, "{least:?} {held:?}");
            }
        }
        let nobody = Visibility { everyone: false, roles: vec!["king".to_owned()], users: vec!["Ada".to_owned()] };
        assert!(!nobody.includes("bob", Role::Admin) && nobody.includes("ada", Role::User));
    }
}
