//! Protocol versions and the two eras they fall into (2026-07-28, basic/versioning, "Terminology").

use std::fmt;

/// How two ends agree on what they speak.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Era {
    /// An `initialize` handshake and, over HTTP, sessions: 2025-11-25 and earlier.
    Legacy,
    /// Every request carries version and capabilities in `_meta`: 2026-07-28 and later.
    Modern,
}

impl Era {
    /// The label in logs and reports.
    pub fn label(self) -> &'static str {
        match self {
            Self::Legacy => "legacy",
            Self::Modern => "modern",
        }
    }
}

/// A protocol version that this gateway speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Version(&'static str);

/// The stateless version.
pub const MODERN: Version = Version("2026-07-28");
/// The newest version with a handshake.
pub const LEGACY: Version = Version("2025-11-25");
/// The version of a client that sends no `MCP-Protocol-Version` header (2025-06-18, basic/transports).
pub const UNSTATED: Version = Version("2025-03-26");

/// Every version spoken here, newest first.
pub const SPOKEN: [Version; 5] = [MODERN, LEGACY, Version("2025-06-18"), UNSTATED, Version("2024-11-05")];

impl Version {
    /// The version of this name, if it is spoken here.
    pub fn parse(text: &str) -> Option<Self> {
        SPOKEN.into_iter().find(|version| version.0 == text)
    }

    /// Its name, a date.
    pub fn as_str(self) -> &'static str {
        self.0
    }

    /// Its era.
    pub fn era(self) -> Era {
        if self >= MODERN { Era::Modern } else { Era::Legacy }
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

/// [`SPOKEN`] as a JSON array.
pub fn spoken_json() -> String {
    format!("[{}]", SPOKEN.map(|version| format!("\"{version}\"")).join(","))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_order_the_versions_and_split_the_eras() {
        assert!(SPOKEN.is_sorted_by(|a, b| a > b));
        assert_eq!(SPOKEN.map(Version::era), [Era::Modern, Era::Legacy, Era::Legacy, Era::Legacy, Era::Legacy]);
        assert_eq!(Version::parse("1900-01-01"), None);
        serde_json::from_str::<Vec<String>>(&spoken_json()).unwrap();
    }
}
