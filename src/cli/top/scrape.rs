//! What `/metrics` says of calls: how many, how they ended and how long they took, by tenant, server and tool. Calls of the REST API are left
//! out, those of whoever looks among them.

use std::collections::{BTreeMap, BTreeSet};

/// Calls of one kind since the process began.
#[derive(Debug, Default, Clone, PartialEq)]
pub(super) struct Calls {
    pub(super) all: f64,
    /// That broke: not what tools answered, nor what was refused.
    pub(super) errors: f64,
    /// That a limit refused.
    pub(super) limited: f64,
    /// How many took no longer than so many seconds, ascending.
    pub(super) times: Vec<(f64, f64)>,
}

impl Calls {
    /// Those that came after `before`.
    pub(super) fn since(&self, before: &Self) -> Self {
        let less = |bound: f64| {
            before.times.iter().find(|(other, _)| other.total_cmp(&bound).is_eq()).map_or(0.0, |one| one.1)
        };
        Self {
            all: (self.all - before.all).max(0.0),
            errors: (self.errors - before.errors).max(0.0),
            limited: (self.limited - before.limited).max(0.0),
            times: self.times.iter().map(|(bound, count)| (*bound, (count - less(*bound)).max(0.0))).collect(),
        }
    }

    /// The time in seconds that this part of them took at most, between the bounds that are counted; the last bound for what took longer.
    pub(super) fn quantile(&self, part: f64) -> Option<f64> {
        let all = self.times.last().map(|(_, count)| *count).filter(|count| *count > 0.0)?;
        let (wanted, mut lower, mut below) = (part * all, 0.0, 0.0);
        for (bound, count) in &self.times {
            if *count >= wanted {
                let within = *count - below;
                let share = if within > 0.0 { (wanted - below) / within } else { 1.0 };
                return Some(if bound.is_finite() { lower + (bound - lower) * share } else { lower });
            }
            (lower, below) = (*bound, *count);
        }
        None
    }

    fn took(&mut self, bound: Option<f64>, count: f64) {
        let Some(bound) = bound else { return };
        let at = self.times.partition_point(|(other, _)| *other < bound);
        match self.times.get_mut(at) {
            Some((other, sum)) if other.total_cmp(&bound).is_eq() => *sum += count,
            _ => self.times.insert(at, (bound, count)),
        }
    }
}

/// What one process has counted.
#[derive(Debug, Default, Clone)]
pub(super) struct Scrape {
    /// Tells the process from others: when it began.
    pub(super) process: String,
    pub(super) tenants: BTreeMap<String, Calls>,
    pub(super) servers: BTreeMap<String, Calls>,
    /// By server and tool.
    pub(super) tools: BTreeMap<(String, String), Calls>,
}

impl Scrape {
    /// Reads the text form of Prometheus, of these tenants alone if some are named. What is not understood is passed over.
    pub(super) fn read(text: &str, only: Option<&BTreeSet<String>>) -> Self {
        let mut scrape = Self::default();
        for line in text.lines().filter(|line| !line.starts_with('#')) {
            let Some((name, labels, value)) = sample(line) else { continue };
            if name == "process_start_time_seconds" {
                line.rsplit(' ').next().unwrap_or_default().clone_into(&mut scrape.process);
            }
            let label = |wanted: &str| labels.iter().find(|(name, _)| *name == wanted).map_or("", |(_, value)| value);
            if only.is_some_and(|only| !only.contains(label("tenant_id"))) {
                continue;
            }
            let bound = || label("le").parse().ok();
            let (tenant, server, tool) = (label("tenant_id"), label("server"), label("tool"));
            // A method with a space is a route of the REST API.
            let called = name.strip_prefix("mcp_request_duration_seconds").filter(|_| !label("method").contains(' '));
            if let Some(part) = called {
                let places = [Some((&mut scrape.tenants, tenant)), Some((&mut scrape.servers, server))];
                for (place, key) in places.into_iter().flatten().filter(|(_, key)| !key.is_empty()) {
                    let calls = place.entry(key.to_owned()).or_default();
                    match part {
                        "_bucket" => calls.took(bound(), value),
                        "_count" => count(calls, label("status"), value),
                        _ => {}
                    }
                }
            } else if name == "mcp_tool_calls_total" {
                let calls = scrape.tools.entry((server.to_owned(), tool.to_owned())).or_default();
                count(calls, label("result"), value);
            } else if name == "mcp_tool_usage_duration_seconds_bucket" && !tool.is_empty() {
                let calls = scrape.tools.entry((server.to_owned(), tool.to_owned())).or_default();
                calls.took(bound(), value);
            }
        }
        scrape
    }
}

fn count(calls: &mut Calls, outcome: &str, value: f64) {
    calls.all += value;
    match outcome {
        "error" => calls.errors += value,
        "rate_limited" => calls.limited += value,
        _ => {}
    }
}

type Sample<'a> = (&'a str, Vec<(&'a str, String)>, f64);

/// Name, labels and value of a line.
fn sample(line: &str) -> Option<Sample<'_>> {
    let end = line.find(['{', ' '])?;
    let (name, mut rest) = line.split_at(end);
    let mut labels = Vec::new();
    if let Some(inner) = rest.strip_prefix('{') {
        rest = inner;
        while !rest.starts_with('}') {
            let (label, after) = rest.trim_start_matches(',').split_once("=\"")?;
            let (value, after) = quoted(after)?;
            labels.push((label, value));
            rest = after;
        }
        rest = &rest[1..];
    }
    let value = rest.split_whitespace().next()?.parse().ok()?;
    Some((name, labels, value))
}

/// A text up to its quotation mark, without its escapes, and what follows.
fn quoted(text: &str) -> Option<(String, &str)> {
    let (mut value, mut chars) = (String::new(), text.char_indices());
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return Some((value, &text[at + 1..])),
            '\\' => value.push(match chars.next()?.1 {
                'n' => '\n',
                other => other,
            }),
            other => value.push(other),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = r#"# HELP mcp_request_duration_seconds x
mcp_request_duration_seconds_bucket{tenant_id="acme",method="tools/call",server="files",status="success",le="0.1"} 90
mcp_request_duration_seconds_bucket{tenant_id="acme",method="tools/call",server="files",status="success",le="1.0"} 100
mcp_request_duration_seconds_bucket{tenant_id="acme",method="tools/call",server="files",status="success",le="+Inf"} 100
mcp_request_duration_seconds_count{tenant_id="acme",method="tools/call",server="files",status="success"} 100
mcp_request_duration_seconds_count{tenant_id="acme",method="tools/call",server="files",status="error"} 3
mcp_request_duration_seconds_count{tenant_id="acme",method="GET /api/v1/me",server="",status="success"} 50
mcp_request_duration_seconds_count{tenant_id="other",method="tools/list",server="files",status="rate_limited"} 7
mcp_tool_calls_total{tenant_id="acme",server="files",tool="a\"b\\",result="success"} 5
process_start_time_seconds 1767225600.25
nonsense{
"#;

    #[test]
    fn calls_are_counted_by_tenant_server_and_tool() {
        let scrape = Scrape::read(TEXT, None);
        let of = |calls: &Calls| (calls.all, calls.errors, calls.limited);
        assert_eq!((of(&scrape.tenants["acme"]), of(&scrape.tenants["other"])), ((103.0, 3.0, 0.0), (7.0, 0.0, 7.0)));
        assert_eq!(of(&scrape.servers["files"]), (110.0, 3.0, 7.0));
        assert_eq!(of(&scrape.tools[&("files".to_owned(), "a\"b\\".to_owned())]), (5.0, 0.0, 0.0));
        assert_eq!(scrape.process, "1767225600.25");
        let own = Scrape::read(TEXT, Some(&BTreeSet::from(["other".to_owned()])));
        assert_eq!((own.tenants.len(), of(&own.servers["files"]), own.tools.len()), (1, (7.0, 0.0, 7.0), 0));
        assert_eq!(own.process, "1767225600.25");
    }

    #[test]
    fn a_quantile_lies_between_bounds_and_nothing_has_none() {
        let calls = &Scrape::read(TEXT, None).tenants["acme"];
        assert!((calls.quantile(0.95).unwrap() - 0.55).abs() < 1e-9);
        assert_eq!(Calls::default().quantile(0.95), None);
        assert_eq!(calls.since(calls).quantile(0.95), None);
        let slow = Calls { times: vec![(1.0, 0.0), (f64::INFINITY, 4.0)], ..Calls::default() };
        assert_eq!(slow.quantile(0.95), Some(1.0));
    }

    #[test]
    fn what_came_since_is_never_less_than_nothing() {
        let (now, before) = (Calls { all: 3.0, ..Calls::default() }, Calls { all: 5.0, ..Calls::default() });
        assert_eq!((now.since(&before).all, before.since(&now).all), (0.0, 2.0));
    }
}
