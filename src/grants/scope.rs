//! The scopes that clients ask for, as a set. Three of them are fixed words; what somebody may do within one is decided by role
//! and visibility, as for everybody.

use std::fmt;

use super::{OauthCode, Refusal};

/// One scope.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// See and call what the account may.
    Mcp,
    /// Manage, within the account's role.
    Admin,
    /// Keep access while the person is away: a refresh token (`OpenID` Connect Core section 11).
    OfflineAccess,
}

impl Scope {
    /// Each of them, in the order in which sets are written.
    pub const ALL: [Self; 3] = [Self::Mcp, Self::Admin, Self::OfflineAccess];

    /// The word on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Mcp => "mcp",
            Self::Admin => "admin",
            Self::OfflineAccess => "offline_access",
        }
    }

    fn bit(self) -> u8 {
        match self {
            Self::Mcp => 1,
            Self::Admin => 2,
            Self::OfflineAccess => 4,
        }
    }
}

/// A set of scopes; written as words separated by spaces, each once, in one order.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct ScopeSet(u8);

impl ScopeSet {
    /// What is meant where no scope is asked for.
    pub const DEFAULT: Self = Self(1);

    /// Reads a list as it comes on the wire, at most 1,000 bytes (RFC 6749 section 3.3). A word that we do not know is
    /// refused, and so is an empty list.
    pub fn parse(text: &str) -> Result<Self, Refusal> {
        let refuse = |reason, text| Err(Refusal::new(OauthCode::InvalidScope, reason, text));
        if text.len() > 1_000 {
            return refuse("scope_length", "the list of scopes is too long");
        }
        let mut set = Self::default();
        for word in text.split(' ').filter(|word| !word.is_empty()) {
            match Scope::ALL.into_iter().find(|scope| scope.as_str() == word) {
                Some(scope) => set = set.with(scope),
                None => return refuse("scope_unknown", "an unknown scope; there are mcp, admin, offline_access"),
            }
        }
        if set.is_empty() { refuse("scope_empty", "name a scope, or leave the parameter out") } else { Ok(set) }
    }

    /// With one more.
    #[must_use]
    pub fn with(self, scope: Scope) -> Self {
        Self(self.0 | scope.bit())
    }

    /// Without one.
    #[must_use]
    pub fn without(self, scope: Scope) -> Self {
        Self(self.0 & !scope.bit())
    }

    /// Whether it holds `scope`.
    pub fn has(self, scope: Scope) -> bool {
        self.0 & scope.bit() != 0
    }

    /// Whether it holds all of `other`.
    pub fn covers(self, other: Self) -> bool {
        other.0 & !self.0 == 0
    }

    /// Whether it holds none.
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Its members, in order.
    pub fn iter(self) -> impl Iterator<Item = Scope> {
        Scope::ALL.into_iter().filter(move |scope| self.has(*scope))
    }
}

impl fmt::Display for ScopeSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, scope) in self.iter().enumerate() {
            if at > 0 {
                f.write_str(" ")?;
            }
            f.write_str(scope.as_str())?;
        }
        Ok(())
    }
}

impl fmt::Debug for ScopeSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ScopeSet({self})")
    }
}

impl serde::Serialize for ScopeSet {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> serde::Deserialize<'de> for ScopeSet {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::parse(&text).map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_is_read_whatever_its_order_and_written_in_one() {
        let set = ScopeSet::parse("offline_access  mcp mcp").unwrap();
        assert_eq!(set.to_string(), "mcp offline_access");
        assert!(set.covers(ScopeSet::DEFAULT) && !ScopeSet::DEFAULT.covers(set));
        assert_eq!(set.without(Scope::OfflineAccess), ScopeSet::DEFAULT);
        assert_eq!(serde_json::from_str::<ScopeSet>(&serde_json::to_string(&set).unwrap()).unwrap(), set);
        for wrong in ["", " ", "MCP", "mcp openid", "mcp\tadmin", &"mcp ".repeat(300)] {
            assert_eq!(ScopeSet::parse(wrong).unwrap_err().code, OauthCode::InvalidScope, "{wrong}");
        }
    }
}
