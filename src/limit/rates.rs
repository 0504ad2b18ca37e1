//! What a server takes, whoever asks and in whatever tenant: requests a minute of it as a whole, calls a minute of single tools. The
//! same in every process; put together when the server is described, so that a call only looks up and takes.

use ahash::AHashMap;
use sha2::{Digest as _, Sha256};

use super::bucket::Price;
use super::buckets::BucketKey;

/// One of its limits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    /// Of which bucket.
    pub key: BucketKey,
    /// How many a minute.
    pub rpm: u32,
}

impl Rate {
    /// What one costs.
    pub fn price(self) -> Price {
        Price::a_minute(self.rpm)
    }
}

/// The limits of a server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rates {
    whole: Option<Rate>,
    tools: AHashMap<Box<str>, Rate>,
}

impl Rates {
    /// Those of the server with this id, of which tools go by their own names; `None` where nothing is limited.
    pub fn new<'a>(server: u128, whole: Option<u32>, tools: impl IntoIterator<Item = (&'a str, u32)>) -> Option<Self> {
        let whole = whole.map(|rpm| Rate { key: key(server, None), rpm });
        let rate = |(name, rpm): (&'a str, u32)| (name.into(), Rate { key: key(server, Some(name)), rpm });
        let tools: AHashMap<_, _> = tools.into_iter().map(rate).collect();
        (whole.is_some() || !tools.is_empty()).then_some(Self { whole, tools })
    }

    /// Of the server as a whole.
    pub fn whole(&self) -> Option<Rate> {
        self.whole
    }

    /// Of one tool, by the name that the server gives it.
    pub fn tool(&self, name: &str) -> Option<Rate> {
        self.tools.get(name).copied()
    }

    /// Whether any tool has a limit of its own.
    pub fn any_tool(&self) -> bool {
        !self.tools.is_empty()
    }
}

/// The first bytes of a digest: as hard to meet twice as a random id.
fn key(server: u128, tool: Option<&str>) -> BucketKey {
    let digest = Sha256::new().chain_update(server.to_be_bytes()).chain_update([u8::from(tool.is_some())]);
    let digest = digest.chain_update(tool.unwrap_or_default()).finalize();
    digest.iter().take(16).fold(0, |key, byte| key << 8 | BucketKey::from(*byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_server_and_tool_has_a_bucket_of_its_own_that_stays_when_the_rest_changes() {
        let one = Rates::new(7, Some(60), [("search", 5), ("", 6)]).unwrap();
        let other = Rates::new(8, Some(60), [("search", 5)]).unwrap();
        let keys = [one.whole(), one.tool("search"), one.tool(""), other.whole(), other.tool("search")];
        let different: std::collections::HashSet<_> = keys.iter().map(|rate| rate.unwrap().key).collect();
        assert_eq!(different.len(), keys.len());
        let later = Rates::new(7, None, [("search", 50)]).unwrap();
        assert_eq!(later.tool("search").unwrap().key, one.tool("search").unwrap().key);
        assert_eq!((later.whole(), later.tool("fetch")), (None, None));
    }

    #[test]
    fn nothing_is_kept_of_a_server_without_limits() {
        assert_eq!(Rates::new(7, None, []), None);
    }
}
