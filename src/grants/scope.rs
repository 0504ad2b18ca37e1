//! Scopes: what a client may ask for in the name of an account (RFC 6749 section 3.3). There are three words; what somebody may
//! do within one is decided by role and visibility, as for everybody.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Most bytes of a list of scopes.
const LONGEST: usize = 1_000;

/// One scope.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Scope {
    /// See and call what the account may.
    Mcp,
    /// Manage, within the account's role; only at the REST API.
    Admin,
    /// Keep access while the person is away: a refresh token.
    OfflineAccess,
}

impl Scope {
    /// Each of them, in the order in which a set is written.
    pub const ALL: [Self; 3] = [Self::Mcp, Self::Admin, Self::OfflineAccess];

    /// Its word.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Mcp => "mcp",
            Self::Admin => "admin",
            Self::OfflineAccess => "offline_access",
        }
    }

    /// The scope of that word.
    pub fn named(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|scope| scope.as_str() == word)
    }

    fn bit(self) -> u8 {
        1 << self as u8
    }
}

/// Why a list of scopes cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadScope {
    /// Not what RFC 6749 calls a scope.
    #[error("a scope is a list of words separated by single spaces, of at most {LONGEST} bytes")]
    Syntax,
    /// A word that means nothing here.
    #[error("`{0}` is no scope; there are mcp, admin and offline_access")]
    Unknown(String),
    /// No word that means something here.
    #[error("none of these scopes is known; there are mcp, admin and offline_access")]
    None,
}

/// A set of scopes. Written as its words in one order, separated by spaces.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct ScopeSet(u8);

impl ScopeSet {
    /// No scope.
    pub const EMPTY: Self = Self(0);
    /// What is meant where none is named: `mcp`.
    pub const DEFAULT: Self = Self(1);
    /// All there are.
    pub const ALL: Self = Self(0b111);

    /// Reads a list; every word must be known. An empty text is the empty set.
    pub fn parse(text: &str) -> Result<Self, BadScope> {
        words(text)?.try_fold(Self::EMPTY, |set, word| match Scope::named(word) {
            Some(scope) => Ok(set.with(scope)),
            None => Err(BadScope::Unknown(word.to_owned())),
        })
    }

    /// Reads what a client asks for: absent or empty is [`Self::DEFAULT`], and words that are not known are left out, as the
    /// answer will tell the client (RFC 6749 section 3.3); one must remain.
    pub fn asked(text: Option<&str>) -> Result<Self, BadScope> {
        let text = text.unwrap_or_default();
        if text.is_empty() {
            return Ok(Self::DEFAULT);
        }
        let known: Self = words(text)?.filter_map(Scope::named).collect();
        if known.is_empty() { Err(BadScope::None) } else { Ok(known) }
    }

    /// The set with one scope more.
    #[must_use]
    pub fn with(self, scope: Scope) -> Self {
        Self(self.0 | scope.bit())
    }

    /// The set without one scope.
    #[must_use]
    pub fn without(self, scope: Scope) -> Self {
        Self(self.0 & !scope.bit())
    }

    /// What is in both.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    /// What is in either.
    #[must_use]
    pub fn or(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Whether the scope is in it.
    pub fn has(self, scope: Scope) -> bool {
        self.0 & scope.bit() != 0
    }

    /// Whether all of `other` is in it.
    pub fn covers(self, other: Self) -> bool {
        self.or(other) == self
    }

    /// Whether nothing is in it.
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Its scopes, in order.
    pub fn iter(self) -> impl Iterator<Item = Scope> {
        Scope::ALL.into_iter().filter(move |scope| self.has(*scope))
    }
}

/// The words of a list, checked for their characters: printable ASCII but quote and backslash.
fn words(text: &str) -> Result<impl Iterator<Item = &str>, BadScope> {
    let good = |byte: u8| matches!(byte, b' ' | 0x21 | 0x23..=0x5b | 0x5d..=0x7e);
    let spaced = !text.starts_with(' ') && !text.ends_with(' ') && !text.contains("  ");
    if text.len() > LONGEST || !spaced || !text.bytes().all(good) {
        return Err(BadScope::Syntax);
    }
    Ok(text.split(' ').filter(|word| !word.is_empty()))
}

impl FromIterator<Scope> for ScopeSet {
    fn from_iter<I: IntoIterator<Item = Scope>>(scopes: I) -> Self {
        scopes.into_iter().fold(Self::EMPTY, Self::with)
    }
}

impl fmt::Display for ScopeSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, scope) in self.iter().enumerate() {
            if index > 0 {
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

impl Serialize for ScopeSet {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for ScopeSet {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::parse(&String::deserialize(deserializer)?).map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_is_read_in_any_order_and_written_in_one() {
        let set = ScopeSet::parse("offline_access mcp mcp").unwrap();
        assert_eq!(set.to_string(), "mcp offline_access");
        assert_eq!(serde_json::to_string(&set).unwrap(), "\"mcp offline_access\"");
        assert_eq!(serde_json::from_str::<ScopeSet>("\"mcp offline_access\"").unwrap(), set);
        assert_eq!(ScopeSet::parse(&ScopeSet::ALL.to_string()), Ok(ScopeSet::ALL));
        assert_eq!(ScopeSet::parse(""), Ok(ScopeSet::EMPTY));
        assert_eq!(ScopeSet::parse("mcp openid"), Err(BadScope::Unknown("openid".into())));
    }

    #[test]
    fn what_a_client_asks_for_may_hold_words_that_mean_nothing_here() {
        assert_eq!(ScopeSet::asked(None), Ok(ScopeSet::DEFAULT));
        assert_eq!(ScopeSet::asked(Some("")), Ok(ScopeSet::DEFAULT));
        let asked = ScopeSet::asked(Some("openid mcp profile offline_access")).unwrap();
        assert_eq!(asked.to_string(), "mcp offline_access");
        assert_eq!(ScopeSet::asked(Some("openid profile")), Err(BadScope::None));
        for bad in [" mcp", "mcp ", "mcp  admin", "mcp\tadmin", "mc\"p", "mc\\p", "mçp", &"a".repeat(1_001)] {
            assert_eq!(ScopeSet::asked(Some(bad)), Err(BadScope::Syntax), "{bad}");
        }
    }

    #[test]
    fn sets_are_compared_as_sets() {
        let few = ScopeSet::DEFAULT;
        let more = few.with(Scope::OfflineAccess);
        assert!(more.covers(few) && !few.covers(more) && more.covers(ScopeSet::EMPTY));
        assert_eq!((more.and(few), few.or(more), more.without(Scope::OfflineAccess)), (few, more, few));
        assert!(ScopeSet::ALL.covers(more) && ScopeSet::ALL.has(Scope::Admin) && !more.has(Scope::Admin));
    }
}
