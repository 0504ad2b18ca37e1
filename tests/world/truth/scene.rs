//! What a report is read in: the ledger as it was, the gateway that tells, and what of the workload is still there.

use std::collections::BTreeMap;

use testkit::workload::{Happening, Time, Workload};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::compare::{Expect, Expected};
use super::facts::Facts;

/// See the module.
pub struct Scene<'a> {
    pub workload: &'a Workload,
    /// Of all gateways.
    pub facts: Facts<'a>,
    /// Of the one that tells.
    pub own: Facts<'a>,
    /// Which that is.
    pub gateway: usize,
    /// When it was read.
    pub read: Time,
    /// The id of its process.
    pub instance: &'a str,
}

/// Whether a text is a time.
pub fn is_time(text: &str) -> bool {
    OffsetDateTime::parse(text, &Rfc3339).is_ok()
}

impl Scene<'_> {
    /// What every report carries, with these targets; whether they are met is looked at apart.
    pub fn envelope(&self, scope: &str, targets: &[&str]) -> Expected {
        let mut all: Expected = BTreeMap::from([
            ("generated_at".to_owned(), Expect::Text(is_time)),
            ("scope".to_owned(), scope.into()),
            ("instance_id".to_owned(), self.instance.into()),
        ]);
        if targets.is_empty() {
            all.insert("targets".into(), serde_json::json!({}).into());
        }
        for target in targets {
            let is_bound: fn(&str) -> bool = |text| text.starts_with(['<', '>']);
            all.insert(format!("targets.{target}.target"), Expect::Text(is_bound));
        }
        all
    }

    /// MCP sessions of a tenant that are open at the gateway.
    pub fn open(&self, tenant: &str) -> usize {
        self.workload.open_sessions(tenant, self.gateway)
    }

    /// For how many programs people of a tenant are signed in, or one account of it is.
    pub fn signed_in(&self, tenant: &str, user: Option<&str>) -> usize {
        let own = |who: &&testkit::workload::Who| who.tenant == tenant && user.is_none_or(|user| who.user == user);
        self.workload.signed_in().filter(own).count()
    }

    /// Refreshes that succeeded, and that did not.
    pub fn refreshes(&self) -> (i64, i64) {
        let all = self.facts.count(|what| matches!(what, Happening::Refresh { .. }));
        let good = self.facts.count(|what| matches!(what, Happening::Refresh { result: "success", .. }));
        (good, all - good)
    }

    /// Refusals by whose limit it was, at this gateway.
    pub fn hits(&self, at: &str) -> Expected {
        let throttled = self.own.throttled();
        let of = |limit: &str| {
            if limit == "ddos" {
                return self.own.count(|what| *what == Happening::Barred);
            }
            throttled.iter().filter(|((_, whose), _)| *whose == limit).map(|(_, count)| count).sum()
        };
        let all = ["global", "tenant", "user", "ip", "ddos", "server", "tool"];
        all.into_iter().map(|limit| (format!("{at}.{limit}"), of(limit).into())).collect()
    }

    /// Whether all of it was on the day on which it is told.
    pub fn is_of_one_day(&self) -> bool {
        const DAY: u64 = 86_400_000_000;
        self.facts.deeds().all(|deed| deed.time.began / DAY == self.read.ended / DAY)
    }
}
