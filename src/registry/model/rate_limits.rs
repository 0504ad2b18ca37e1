//! How much a server takes, of all who call it and of all tenants that it is offered to.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::field::FieldError;
use crate::id::ServerId;
use crate::limit::Rates;

/// Requests a minute.
const RPM: RangeInclusive<u32> = 1..=10_000_000;
/// Most tools that have a limit of their own.
const MOST_TOOLS: usize = 256;
/// Longest name of one of them, bytes: as long as a call may name.
const LONGEST_NAME: usize = 1_024;

/// Limits of a server, each optional.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(rename = "ServerRateLimits")]
pub struct RateLimits {
    /// Requests a minute, all together: 1 to 10 000 000.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rpm: Option<u32>,
    /// Calls a minute of single tools, by the names that the server gives them; it need not have them yet.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub tools: BTreeMap<String, u32>,
}

impl RateLimits {
    /// Whether nothing is limited.
    pub fn is_empty(&self) -> bool {
        self.rpm.is_none() && self.tools.is_empty()
    }

    /// Every mistake; `at` is the field that holds it.
    pub(super) fn check(&self, at: &str) -> Vec<FieldError> {
        let range = format!("must be {} to {} a minute", RPM.start(), RPM.end());
        let mut found = Vec::new();
        if self.rpm.is_some_and(|rpm| !RPM.contains(&rpm)) {
            found.push(FieldError::new(format!("{at}.rpm"), range.clone()));
        }
        if self.tools.len() > MOST_TOOLS {
            found.push(FieldError::new(format!("{at}.tools"), format!("at most {MOST_TOOLS} tools")));
        }
        for (name, rpm) in self.tools.iter().take(MOST_TOOLS) {
            if name.is_empty() || name.len() > LONGEST_NAME {
                let message = format!("a tool's name has 1 to {LONGEST_NAME} bytes");
                found.push(FieldError::new(format!("{at}.tools"), message));
            } else if name.contains('\0') {
                found.push(FieldError::new(format!("{at}.tools"), "a tool's name holds a NUL character"));
            } else if !RPM.contains(rpm) {
                found.push(FieldError::new(format!("{at}.tools.{name}"), range.clone()));
            }
        }
        found
    }

    /// For the limiter; `None` where nothing is limited.
    pub(super) fn rates(&self, server: ServerId) -> Option<Rates> {
        Rates::new(server.0.as_u128(), self.rpm, self.tools.iter().map(|(name, rpm)| (name.as_str(), *rpm)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limits(rpm: Option<u32>, tools: &[(&str, u32)]) -> RateLimits {
        RateLimits { rpm, tools: tools.iter().map(|(name, rpm)| ((*name).to_owned(), *rpm)).collect() }
    }

    #[test]
    fn every_mistake_is_told_with_its_place() {
        assert_eq!(limits(Some(1), &[("search", 10_000_000)]).check("rate_limits"), []);
        let wrong = limits(Some(0), &[("", 1), ("a\0", 1), ("fetch", 0), ("search", 10_000_001)]).check("rate_limits");
        let fields: Vec<&str> = wrong.iter().map(|wrong| wrong.field.as_str()).collect();
        let expected = ["rpm", "tools", "tools", "tools.fetch", "tools.search"];
        assert_eq!(fields, expected.map(|field| format!("rate_limits.{field}")));
        let names: Vec<String> = (0..=MOST_TOOLS).map(|n| n.to_string()).collect();
        let many: Vec<(&str, u32)> = names.iter().map(|name| (name.as_str(), 1)).collect();
        assert_eq!(limits(None, &many[1..]).check("rate_limits"), []);
        assert_eq!(limits(None, &many).check("rate_limits")[0].message, "at most 256 tools");
    }

    #[test]
    fn what_is_not_limited_is_not_written() {
        assert_eq!(serde_json::to_string(&limits(Some(5), &[])).unwrap(), r#"{"rpm":5}"#);
        serde_json::from_str::<RateLimits>(r#"{"rpm":5,"burst":1}"#).unwrap_err();
        assert!(serde_json::from_str::<RateLimits>("{}").unwrap().is_empty());
    }
}
