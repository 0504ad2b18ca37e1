//! The four roles, in order of privilege.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What somebody may do at most. A greater role may all that a lesser one may.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Sees and calls what is visible.
    User,
    /// Registers servers and changes those of its own.
    ServerOwner,
    /// Administers one tenant.
    TenantAdmin,
    /// Administers the gateway; alone may register programs to start.
    Admin,
}

impl Role {
    /// Each of them, least first.
    pub const ALL: [Self; 4] = [Self::User, Self::ServerOwner, Self::TenantAdmin, Self::Admin];

    /// The stored name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::User => "user",
            Self::ServerOwner => "server_owner",
            Self::TenantAdmin => "tenant_admin",
            Self::Admin => "admin",
        }
    }

    /// The role of that name.
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|role| role.as_str() == text)
    }
}
