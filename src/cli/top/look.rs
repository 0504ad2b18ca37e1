//! One look at the gateway, and what comes of it behind others.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::{Duration, Instant};

use http::Method;
use serde_json::Value;

use super::super::failure::Failure;
use super::super::gateway::Gateway;
use super::figures::Figures;
use super::scrape::{Calls, Scrape};

/// The time that rates are of.
const SPAN: Duration = Duration::from_secs(10);
/// Processes whose counts are remembered: behind one address there may be several.
const MOST: usize = 8;

/// What was seen at one time.
pub(super) struct Look {
    at: Instant,
    pub(super) status: Value,
    pub(super) pools: Value,
    /// Or why nothing is known of calls.
    scrape: Result<Scrape, String>,
}

impl Look {
    /// Looks. Who may read the reports may look; of calls only who may read the metrics learns.
    pub(super) async fn at(gateway: &Gateway) -> anyhow::Result<Self> {
        let status = gateway.get(&["admin", "multi-user-status"]).await?.value;
        let pools = gateway.get(&["admin", "connection-pool-status"]).await?.value;
        let metrics = gateway.raw(Method::GET, &gateway.url(&["metrics"]), None, None).await?;
        let scrape = if metrics.status.is_success() {
            // Who administers a tenant watches that: on the machine of the gateway metrics of others are to be had too.
            let own = status["resource_utilization"].is_null().then(|| tenants(&status));
            Ok(Scrape::read(&String::from_utf8_lossy(&metrics.body), own.as_ref()))
        } else {
            let said = Failure::from_answer(metrics.status.as_u16(), &metrics.body);
            Err(format!(
                "rates are not known, {}: /metrics {}",
                metrics.status.as_u16(),
                said.details.first().unwrap_or(&said.what)
            ))
        };
        Ok(Self { at: Instant::now(), status, pools, scrape })
    }
}

fn tenants(status: &Value) -> BTreeSet<String> {
    let all = status["tenants"].as_array().into_iter().flatten();
    all.filter_map(|tenant| tenant["tenant_id"].as_str()).map(str::to_owned).collect()
}

/// What was seen before, by process.
#[derive(Default)]
pub(super) struct Watch(VecDeque<(String, VecDeque<(Instant, Scrape)>)>);

/// Calls of the time between two looks.
#[derive(Debug, Default)]
pub(super) struct Lately {
    pub(super) seconds: f64,
    pub(super) tenants: BTreeMap<String, Calls>,
    pub(super) servers: BTreeMap<String, Calls>,
    pub(super) tools: BTreeMap<(String, String), Calls>,
}

impl Watch {
    /// What this look says, with those before it.
    pub(super) fn take(&mut self, look: Look) -> Figures {
        let Look { at, status, pools, scrape } = look;
        match scrape {
            Ok(scrape) => Figures::of(&status, &pools, self.lately(at, scrape).as_ref(), None),
            Err(why) => Figures::of(&status, &pools, None, Some(why)),
        }
    }

    fn lately(&mut self, at: Instant, scrape: Scrape) -> Option<Lately> {
        let found = self.0.iter().position(|(process, _)| *process == scrape.process);
        let (process, mut looks) =
            found.and_then(|found| self.0.remove(found)).unwrap_or_else(|| (scrape.process.clone(), VecDeque::new()));
        // The newest that is as old as the span stays, as what the rates are counted from.
        while looks.get(1).is_some_and(|(then, _)| at.duration_since(*then) >= SPAN) {
            looks.pop_front();
        }
        let lately = looks.front().map(|(then, before)| Lately {
            seconds: at.duration_since(*then).as_secs_f64(),
            tenants: since(&scrape.tenants, &before.tenants),
            servers: since(&scrape.servers, &before.servers),
            tools: since(&scrape.tools, &before.tools),
        });
        looks.push_back((at, scrape));
        self.0.push_back((process, looks));
        if self.0.len() > MOST {
            self.0.pop_front();
        }
        lately.filter(|lately| lately.seconds > 0.0)
    }
}

fn since<K: Ord + Clone>(now: &BTreeMap<K, Calls>, before: &BTreeMap<K, Calls>) -> BTreeMap<K, Calls> {
    let nothing = Calls::default();
    now.iter().map(|(key, calls)| (key.clone(), calls.since(before.get(key).unwrap_or(&nothing)))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scrape(process: &str, all: f64) -> Scrape {
        let calls = Calls { all, ..Calls::default() };
        Scrape { process: process.into(), tenants: [("acme".to_owned(), calls)].into(), ..Scrape::default() }
    }

    #[test]
    fn rates_are_of_the_last_seconds_of_one_process() {
        let (mut watch, start) = (Watch::default(), Instant::now());
        let mut look = |second: u64, process: &str, all: f64| {
            let lately = watch.lately(start + Duration::from_secs(second), scrape(process, all));
            lately.map(|lately| (lately.seconds, lately.tenants["acme"].all))
        };
        assert_eq!(look(0, "a", 100.0), None);
        assert_eq!(look(2, "a", 110.0), Some((2.0, 10.0)));
        assert_eq!(look(3, "b", 5.0), None, "another process counts for itself");
        assert_eq!(look(12, "a", 130.0), Some((10.0, 20.0)));
        assert_eq!(look(13, "b", 9.0), Some((10.0, 4.0)));
        assert_eq!(look(40, "a", 131.0), Some((28.0, 1.0)));
    }

    #[test]
    fn processes_and_looks_that_are_remembered_have_a_bound() {
        let (mut watch, start) = (Watch::default(), Instant::now());
        for process in 0..100 {
            watch.lately(start, scrape(&process.to_string(), 1.0));
        }
        assert_eq!(watch.0.len(), MOST);
        for second in 0..100 {
            watch.lately(start + Duration::from_secs(second), scrape("a", 1.0));
        }
        assert!(watch.0.back().is_some_and(|(_, looks)| looks.len() <= 12));
    }
}
