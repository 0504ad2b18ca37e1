//! Roles as values of flags, each with what it may.

use clap::builder::{PossibleValue, PossibleValuesParser};

use crate::access::Role;

/// Takes the name of a role.
pub fn parser() -> PossibleValuesParser {
    PossibleValuesParser::new(Role::ALL.map(|role| PossibleValue::new(role.as_str()).help(help(role))))
}

/// Their names in one line.
pub fn names() -> String {
    Role::ALL.map(Role::as_str).join(", ")
}

fn help(role: Role) -> &'static str {
    match role {
        Role::User => "sees and calls what is visible to it",
        Role::ServerOwner => "registers servers, and changes its own",
        Role::TenantAdmin => "administers one tenant: servers, users, keys",
        Role::Admin => "administers the gateway, and alone registers programs to start",
    }
}
