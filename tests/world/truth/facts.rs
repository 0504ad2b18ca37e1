//! What follows from a ledger, by the definitions of the manual: counts, patterns, bounds of times.

use std::collections::{BTreeMap, BTreeSet};

use testkit::workload::{Deed, Door, End, Event, Happening, Ledger, Who};

use super::compare::Expect;

/// What a quantile may be off by.
const ERROR: f64 = 1.0 / 64.0;
/// Two clocks measure, microseconds.
const SLACK: u64 = 500;

/// What a credential is counted as.
pub fn way_in(who: &Who) -> &'static str {
    if who.kind == "oauth" { "validate" } else { "api_key" }
}

/// Of one ledger, and of one life of one gateway or of all.
#[derive(Clone, Copy)]
pub struct Facts<'a> {
    pub ledger: &'a Ledger,
    pub gateway: Option<usize>,
}

impl<'a> Facts<'a> {
    pub fn deeds(self) -> impl Iterator<Item = &'a Deed> {
        self.ledger.deeds.iter().filter(move |deed| self.gateway.is_none_or(|gateway| deed.gateway == gateway))
    }

    pub fn events(self) -> impl Iterator<Item = &'a Event> {
        self.ledger.events.iter().filter(move |event| self.gateway.is_none_or(|gateway| event.gateway == gateway))
    }

    /// What people of a tenant asked for.
    pub fn of(self, tenant: &str) -> impl Iterator<Item = &'a Deed> {
        self.deeds().filter(move |deed| deed.who.as_ref().is_some_and(|who| who.tenant == tenant))
    }

    /// The tenants of which somebody did something.
    pub fn tenants(self) -> BTreeSet<&'a str> {
        self.deeds().filter_map(|deed| Some(deed.who.as_ref()?.tenant.as_str())).collect()
    }

    /// The accounts of a tenant that did something.
    pub fn accounts(self, tenant: &str) -> BTreeSet<&'a str> {
        let did = self.of(tenant).filter_map(|deed| Some(deed.who.as_ref()?.user.as_str()));
        let came =
            self.sign_ins().filter(|sign_in| sign_in.0 == tenant && sign_in.3.is_none()).map(|sign_in| sign_in.1);
        did.chain(came).collect()
    }

    /// Tenant, account, method, why not, and the event.
    pub fn sign_ins(self) -> impl Iterator<Item = (&'a str, &'a str, &'static str, Option<&'static str>, &'a Event)> {
        self.events().filter_map(|event| match &event.what {
            Happening::SignIn { tenant, user, method, refused } => {
                Some((tenant.as_str(), user.as_str(), *method, *refused, event))
            }
            _ => None,
        })
    }

    /// How often each pattern was, by tenant and account.
    pub fn patterns(self) -> BTreeMap<(&'a str, &'a str, &'static str), i64> {
        let mut sessions: BTreeMap<_, Vec<Option<(&str, &str)>>> = BTreeMap::new();
        let mut all = BTreeMap::new();
        for deed in self.deeds().filter(|deed| deed.door == Door::Mcp) {
            let Some(who) = &deed.who else { continue };
            let step = match deed.action.as_str() {
                "tools/call" if !deed.name.is_empty() => Some((deed.server.as_str(), deed.name.as_str())),
                "tools/list" | "resources/list" | "prompts/list" => None,
                _ => continue,
            };
            let session = deed.session.as_deref().unwrap_or(&who.credential);
            let steps = sessions.entry((deed.gateway, who.tenant.as_str(), session)).or_default();
            steps.push(step);
            if let ([.., first, second, third], Some(_)) = (steps.as_slice(), step) {
                let pattern = pattern([*first, *second, *third]);
                *all.entry((who.tenant.as_str(), who.user.as_str(), pattern)).or_default() += 1;
            }
        }
        all
    }

    /// Authentications by tenant, how, whether, why not; and when the last was, between these times.
    #[expect(clippy::type_complexity, reason = "what is counted, and by what")]
    pub fn authentications(self) -> BTreeMap<(&'a str, &'static str, bool, &'a str), (i64, u64, u64)> {
        let mut all: BTreeMap<_, (i64, u64, u64)> = BTreeMap::new();
        let mut count = |tenant, how, good, why, time: testkit::workload::Time| {
            let of: &mut (i64, u64, u64) = all.entry((tenant, how, good, why)).or_default();
            *of = (of.0 + 1, of.1.max(time.began), of.2.max(time.ended));
        };
        for deed in self.deeds() {
            match (&deed.who, &deed.end) {
                (_, end) if deed.action == "POST /oauth/token" => {
                    let why = if let End::Error { kind, .. } = end { kind } else { "" };
                    count("", "token", *end == End::Success, why, deed.time);
                }
                (Some(who), _) => count(&who.tenant, way_in(who), true, "", deed.time),
                (None, End::Denied(why)) if !["missing", "unauthenticated"].contains(&why.as_str()) => {
                    count("", "api_key", false, why, deed.time);
                }
                _ => {}
            }
        }
        for (tenant, _, _, refused, event) in self.sign_ins() {
            count(tenant, "login", refused.is_none(), refused.unwrap_or_default(), event.time);
        }
        all
    }

    /// What administrators of a tenant asked for of another one, and how much of that was refused.
    pub fn abroad(self) -> (i64, i64) {
        let asked = self.deeds().filter(|deed| {
            let Some(who) = deed.who.as_ref().filter(|who| who.role != "admin") else { return false };
            deed.door == Door::Rest && tenant_in(deed).is_some_and(|tenant| tenant != who.tenant)
        });
        asked.fold((0, 0), |(refused, all), deed| (refused + i64::from(deed.end != End::Success), all + 1))
    }

    /// How often a limit was reached, by tenant and whose it was.
    pub fn throttled(self) -> BTreeMap<(&'a str, &'a str), i64> {
        let mut all = BTreeMap::new();
        for event in self.events() {
            if let Happening::Throttled { tenant, limit } = &event.what {
                *all.entry((tenant.as_str(), limit.as_str())).or_default() += 1;
            }
        }
        all
    }

    /// How often something of this sort happened.
    pub fn count(self, is: impl Fn(&Happening) -> bool) -> i64 {
        self.events().filter(|event| is(&event.what)).count() as i64
    }
}

fn tenant_in(deed: &Deed) -> Option<&str> {
    let (_, route) = deed.action.split_once(' ')?;
    let parts = || route.split('/');
    let open = |(before, part): (&str, &str)| part == "{tenant_id}" || (before == "tenants" && part == "{id}");
    deed.path.split('/').nth(parts().zip(parts().skip(1)).position(open)? + 1)
}

/// What three steps look like; none is a listing.
fn pattern([first, second, third]: [Option<(&str, &str)>; 3]) -> &'static str {
    let browsed = |one: Option<_>, next: Option<_>| one.is_none() && next.is_some();
    if first == second && second == third {
        "repetitive_usage"
    } else if browsed(first, second) || browsed(second, third) {
        "browse_then_action"
    } else if first != second && second != third && first != third {
        "diverse_exploration"
    } else {
        "standard_workflow"
    }
}

/// The least and the most that each of these took, microseconds.
pub fn bounds<'a>(deeds: impl Iterator<Item = &'a Deed>) -> Vec<(u64, u64)> {
    deeds.map(|deed| (deed.waited, deed.time.took() + SLACK)).collect()
}

/// A quantile of times of which bounds are known, milliseconds; null of nothing.
pub fn quantile(times: &[(u64, u64)], part: f64) -> Expect {
    if times.is_empty() {
        return Expect::Is(serde_json::Value::Null);
    }
    let rank = ((part * times.len() as f64).ceil() as usize).max(1);
    let of = |mut all: Vec<u64>| {
        all.sort_unstable();
        all[rank - 1] as f64 / 1e3
    };
    let (low, high) = times.iter().copied().unzip();
    Expect::Within(of(low) * (1.0 - ERROR), of(high) * (1.0 + ERROR))
}

/// Their mean, milliseconds.
pub fn mean(times: &[(u64, u64)]) -> Expect {
    if times.is_empty() {
        return Expect::Is(serde_json::Value::Null);
    }
    let (low, high) = times.iter().fold((0, 0), |(low, high), time| (low + time.0, high + time.1));
    let count = times.len() as f64 * 1e3;
    Expect::Within(low as f64 / count, high as f64 / count)
}

/// How many of these times are surely, and possibly, within bounds that are given in microseconds.
pub fn between<'a>(times: impl Iterator<Item = &'a testkit::workload::Time>, from: u64, until: u64) -> Expect {
    let (surely, possibly) = times.fold((0_u32, 0_u32), |(surely, possibly), time| {
        let within = from <= time.began && time.ended < until;
        let touches = time.ended >= from && time.began < until;
        (surely + u32::from(within), possibly + u32::from(touches))
    });
    Expect::Within(surely.into(), possibly.into())
}
