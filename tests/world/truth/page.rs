//! What `/metrics` must say of one life of a gateway: each series of the families that count what people do, and of the others between
//! which bounds they are.

use std::collections::{BTreeMap, BTreeSet};

use testkit::workload::{Deed, Door, End, Happening};

use super::compare::Expect;
use super::facts::{Facts, bounds, way_in};
use super::scene::Scene;

/// Series by name and labels, as they are written.
pub type Series = BTreeMap<String, f64>;

/// Reads the text form.
pub fn read(text: &str) -> Series {
    let samples = text.lines().filter(|line| !line.starts_with('#') && !line.is_empty());
    samples
        .map(|line| {
            let (series, value) = line.rsplit_once(' ').unwrap();
            (series.to_owned(), value.parse().unwrap_or_else(|_| panic!("{line}")))
        })
        .collect()
}

/// Families that say nothing of what people do, why, and between which bounds their values are.
const ELSEWHERE: &[(&str, &str, f64, f64)] = &[
    ("process_", "the process", 0.0, 1e15),
    ("mcp_job_runs_total", "time", 0.0, 1e5),
    ("mcp_database_connections", "the pool's own affair", 0.0, 1_000.0),
    ("mcp_limit_exchange", "time", 0.0, 1e6),
    ("mcp_limit_buckets", "who asked in the last minute", 0.0, 1e4),
    ("mcp_audit_journal_bytes", "what is not drained yet", 0.0, 1e7),
    ("mcp_audit_lag_seconds", "what is not drained yet", 0.0, 60.0),
    ("mcp_guard_entries", "addresses within an hour", 0.0, 100.0),
    ("mcp_token_cache_", "what is remembered", 0.0, 1e6),
    ("mcp_active_connections", "connections that rest", 0.0, 1e4),
    ("mcp_gateway_streams", "streams that end by and by", 0.0, 100.0),
    ("mcp_upstream_pool_connections", "connections that rest", 0.0, 1e4),
    ("mcp_upstream_requests_total", "the gateway asks for itself too", 0.0, 1e5),
    ("mcp_upstream_dials_total", "the gateway asks for itself too", 0.0, 1e5),
    ("mcp_upstream_connect_seconds", "the gateway asks for itself too", 0.0, 1e5),
    ("mcp_upstream_pool_wait_seconds", "the gateway asks for itself too", 0.0, 1e5),
    ("mcp_upstream_credentials", "none is needed", 0.0, 0.0),
    ("mcp_stale_sealed_values", "keys do not change", 0.0, 0.0),
    ("mcp_gateway_build_info", "the build", 1.0, 1.0),
    ("mcp_replicas", "who is there", 1.0, 2.0),
];

/// Families of which nothing may be counted: nothing is lost, refused or forgotten.
const NOTHING: &[&str] = &[
    "mcp_connections_cut_total",
    "mcp_requests_refused_total",
    "mcp_guard_shed_total",
    "mcp_sign_in_notes_dropped_total",
    "mcp_analytics_names_shed_total",
    "mcp_dpop_proofs_forgotten_total",
    "mcp_upstream_pool_turned_away_total",
    "mcp_upstream_pool_resizes_total",
    "mcp_upstream_tls_seconds",
    "mcp_upstream_connections_total",
    "mcp_metrics_series_dropped_total",
    "mcp_token_refresh_queue",
    "mcp_upstream_pool_requests",
    "mcp_upstream_breaker_state",
    "mcp_stdio_children",
];

/// What a series of a family is that says nothing of what people do, and why.
fn elsewhere(series: &str) -> Option<(Expect, &'static str)> {
    if NOTHING.iter().any(|family| series.starts_with(family)) {
        return Some((0.into(), "nothing of that sort may be"));
    }
    let known = ELSEWHERE.iter().find(|one| series.starts_with(one.0));
    known.map(|(_, why, least, most)| (Expect::Within(*least, *most), *why))
}

/// What each series must be.
#[derive(Default)]
struct Page(BTreeMap<String, Expect>);

/// Bounds of histograms, seconds.
const REQUEST: &[f64] = &[0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0, 60.0, 300.0];
const OVERHEAD: &[f64] = &[0.000_025, 0.00005, 0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.1];
const TOOL: &[f64] = &[0.1, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0];
const SESSION: &[f64] = &[60.0, 300.0, 900.0, 1800.0, 3600.0, 7200.0, 14400.0, 28800.0];

impl Page {
    fn series(name: &str, labels: &[(&str, &str)]) -> String {
        if labels.is_empty() {
            return name.to_owned();
        }
        let labels: Vec<String> = labels.iter().map(|(label, value)| format!("{label}=\"{value}\"")).collect();
        format!("{name}{{{}}}", labels.join(","))
    }

    /// One more of a counter, or so many.
    fn add(&mut self, name: &str, labels: &[(&str, &str)], more: i64) {
        let count = self.0.entry(Self::series(name, labels)).or_insert_with(|| 0.into());
        if let Expect::Is(value) = count {
            *value = (value.as_i64().unwrap_or_default() + more).into();
        }
    }

    fn set(&mut self, name: &str, labels: &[(&str, &str)], expect: impl Into<Expect>) {
        self.0.insert(Self::series(name, labels), expect.into());
    }

    /// A histogram of times between bounds, microseconds.
    fn times(&mut self, name: &str, labels: &[(&str, &str)], times: &[(u64, u64)], steps: &[f64]) {
        let seconds = |micros: u64| micros as f64 / 1e6;
        let sum = |of: fn(&(u64, u64)) -> u64| seconds(times.iter().map(of).sum());
        self.set(&format!("{name}_count"), labels, times.len());
        self.set(&format!("{name}_sum"), labels, Expect::Within(sum(|time| time.0) - 1e-6, sum(|time| time.1) + 1e-6));
        for step in steps {
            let within = |of: fn(&(u64, u64)) -> u64| times.iter().filter(|time| seconds(of(time)) <= *step).count();
            let (surely, possibly) = (within(|time| time.1), within(|time| time.0));
            let expect = Expect::Within(surely as f64, possibly as f64);
            self.set(&format!("{name}_bucket"), &bucket(labels, &format!("{step:?}")), expect);
        }
        self.set(&format!("{name}_bucket"), &bucket(labels, "+Inf"), times.len());
    }
}

fn bucket<'a>(labels: &[(&'a str, &'a str)], step: &'a str) -> Vec<(&'a str, &'a str)> {
    labels.iter().copied().chain([("le", step)]).collect()
}

fn tenant(deed: &Deed) -> &str {
    deed.who.as_ref().map_or("", |who| who.tenant.as_str())
}

/// Groups by what `key` says.
fn by<'a, K: Ord>(deeds: impl Iterator<Item = &'a Deed>, key: impl Fn(&'a Deed) -> K) -> BTreeMap<K, Vec<&'a Deed>> {
    let mut all: BTreeMap<K, Vec<&Deed>> = BTreeMap::new();
    deeds.for_each(|deed| all.entry(key(deed)).or_default().push(deed));
    all
}

fn of_requests(page: &mut Page, scene: &Scene<'_>) {
    let own = scene.own;
    for ((tenant, method, server, status), deeds) in
        by(own.deeds(), |deed| (tenant(deed), deed.action.as_str(), deed.server.as_str(), deed.end.label()))
    {
        let labels = [("tenant_id", tenant), ("method", method), ("server", server), ("status", status)];
        page.times("mcp_request_duration_seconds", &labels, &bounds(deeds.into_iter()), REQUEST);
    }
    for ((tenant, method), deeds) in by(own.deeds(), |deed| (tenant(deed), deed.action.as_str())) {
        let times: Vec<(u64, u64)> =
            deeds.iter().map(|deed| (0, deed.time.took().saturating_sub(deed.waited) + 500)).collect();
        page.times("mcp_gateway_overhead_seconds", &[("tenant_id", tenant), ("method", method)], &times, OVERHEAD);
    }
    let calls = || own.deeds().filter(|deed| deed.action == "tools/call");
    for deed in calls() {
        let labels =
            [("tenant_id", tenant(deed)), ("server", &deed.server), ("tool", &deed.name), ("result", deed.end.label())];
        page.add("mcp_tool_calls_total", &labels, 1);
    }
    // Whether a tenant is watched closely is known once it is let through.
    let monitored = |deed: &Deed| {
        let of = scene.workload.tenants.iter().find(|one| one.id == tenant(deed));
        of.is_some_and(|of| of.monitored) && deed.end != End::RateLimited
    };
    for ((tenant, server, tool), deeds) in
        by(calls(), |deed| (tenant(deed), deed.server.as_str(), if monitored(deed) { deed.name.as_str() } else { "" }))
    {
        let labels = [("tenant_id", tenant), ("server", server), ("tool", tool)];
        page.times("mcp_tool_usage_duration_seconds", &labels, &bounds(deeds.into_iter()), TOOL);
    }
    for deed in own.deeds() {
        if let End::Error { kind, whose } = deed.end {
            page.add("mcp_errors_total", &[("tenant_id", tenant(deed)), ("error_type", kind), ("context", whose)], 1);
        }
    }
}

fn of_sign_ins(page: &mut Page, scene: &Scene<'_>) {
    let auth = |page: &mut Page, tenant: &str, method: &str, refused: Option<&str>| {
        let result = if refused.is_none() { "success" } else { "failure" };
        let reason = refused.unwrap_or_default();
        let labels = [("tenant_id", tenant), ("method", method), ("result", result), ("reason", reason)];
        page.add("mcp_auth_events_total", &labels, 1);
    };
    for deed in scene.own.deeds().filter(|deed| deed.door != Door::Oauth) {
        match (&deed.who, &deed.end) {
            (Some(who), _) => auth(page, &who.tenant, way_in(who), None),
            (None, End::Denied(why)) if why != "unauthenticated" => auth(page, "", "api_key", Some(why)),
            _ => {}
        }
    }
    for event in scene.own.events() {
        match &event.what {
            Happening::SignIn { tenant, method, refused, .. } => {
                auth(page, tenant, "login", *refused);
                if refused.is_none() {
                    let hour = format!("{:02}", event.time.ended / 3_600_000_000 % 24);
                    let labels = [("tenant_id", tenant.as_str()), ("login_method", *method), ("hour", &hour)];
                    page.add("mcp_user_logins_total", &labels, 1);
                }
            }
            Happening::Token { tenant, method, refused } => auth(page, tenant, method, *refused),
            Happening::Throttled { tenant, limit } => {
                let labels = [("tenant_id", tenant.as_str()), ("limit_type", limit), ("action", "throttled")];
                page.add("mcp_rate_limit_hits_total", &labels, 1);
            }
            Happening::Barred => {
                let labels = [("tenant_id", ""), ("limit_type", "ddos"), ("action", "banned")];
                page.add("mcp_rate_limit_hits_total", &labels, 1);
            }
            Happening::Refresh { tenant, kind, result } => {
                let labels = [("tenant_id", tenant.as_str()), ("kind", *kind), ("result", *result)];
                page.add("mcp_token_refresh_total", &labels, 1);
            }
            _ => {}
        }
    }
    let mut ended: BTreeMap<(&str, &str), Vec<(u64, u64)>> = BTreeMap::new();
    for event in scene.own.events() {
        if let Happening::SessionEnd { tenant, reason, lasted } = &event.what {
            ended.entry((tenant, reason)).or_default().push(*lasted);
        }
    }
    for ((tenant, reason), times) in ended {
        let labels = [("tenant_id", tenant), ("end_reason", reason)];
        page.times("mcp_session_duration_seconds", &labels, &times, SESSION);
    }
}

/// What is counted of the trail, by the process that drained it.
fn of_the_trail(page: &mut Page, drained: usize, of: Facts<'_>) {
    page.set("mcp_analytics_records_total", &[], drained);
    page.set("mcp_audit_records_total", &[("result", "drained")], drained);
    for nothing in ["lost", "unsigned"] {
        page.set("mcp_audit_records_total", &[("result", nothing)], 0);
    }
    for ((tenant, _, pattern), count) in of.patterns() {
        page.add("mcp_user_behavior_patterns_total", &[("tenant_id", tenant), ("pattern", pattern)], count);
    }
    let mut activity = |tenant: &str, activity: &str, about: &str| {
        let labels = [("tenant_id", tenant), ("activity", activity), ("resource_type", about)];
        page.add("mcp_tenant_activity_total", &labels, 1);
    };
    for deed in of.deeds() {
        let Some(who) = &deed.who else { continue };
        match (deed.door, deed.action.as_str()) {
            (Door::Mcp, "tools/call") => activity(&who.tenant, "tool_call", "tool"),
            (Door::Mcp, "resources/read") => activity(&who.tenant, "resource_read", "resource"),
            (Door::Mcp, "prompts/get") => activity(&who.tenant, "prompt_get", "prompt"),
            (Door::Rest, route) => {
                let path = route.split_once("/api/v1/").map_or("", |(_, path)| path);
                let about = path.strip_prefix("admin/").unwrap_or(path).split('/').next().unwrap_or_default();
                activity(&who.tenant, "admin", about);
            }
            _ => {}
        }
    }
    for event in of.events() {
        match &event.what {
            Happening::SignIn { tenant, refused: None, .. } => activity(tenant, "login", "session"),
            Happening::SessionEnd { tenant, reason: "logout", .. } => activity(tenant, "logout", "session"),
            _ => {}
        }
    }
}

fn of_what_is_there(page: &mut Page, scene: &Scene<'_>) {
    let mut sessions = 0;
    for tenant in scene.facts.tenants() {
        let open = scene.open(tenant);
        sessions += open;
        let mut put = |kind: &str, count: usize| {
            let labels = |activity| [("tenant_id", tenant), ("session_type", kind), ("activity", activity)];
            if count > 0 {
                page.set("mcp_user_sessions_active", &labels("active"), count);
                page.set("mcp_user_sessions_active", &labels("idle"), 0);
            }
        };
        put("api_key", open);
        put("oauth", scene.signed_in(tenant, None));
    }
    page.set("mcp_gateway_sessions", &[], sessions);
    // When somebody showed a key is known to those that come later too, as far as it was written.
    let users = |of: Facts<'_>, tenant: &str| {
        let users = of.of(tenant).filter_map(|deed| Some(deed.who.as_ref()?.user.clone()));
        users.collect::<BTreeSet<_>>().len() as f64
    };
    for tenant in scene.facts.tenants() {
        let expect = Expect::Within(users(scene.own, tenant), users(scene.facts, tenant));
        page.set("mcp_concurrent_users", &[("tenant_id", tenant)], expect);
    }
    let banned = scene.facts.count(|what| matches!(what, Happening::Ban { .. }))
        - scene.facts.count(|what| matches!(what, Happening::Lift { .. }));
    page.set("mcp_guard_bans", &[], banned);
    let mut limits: BTreeMap<&str, usize> = BTreeMap::new();
    for tenant in &scene.workload.tenants {
        *limits.entry(&tenant.slug).or_default() += 100;
    }
    for (slug, limit) in limits {
        page.set("mcp_upstream_pool_limit", &[("server", slug), ("replica", "0")], limit);
    }
}

/// What is wrong with the page of a life that brought so many records into the trail; none: nobody knows which of those before it did what.
pub fn faults(series: &Series, scene: &Scene<'_>, drained: Option<usize>) -> Vec<String> {
    let mut page = Page::default();
    of_requests(&mut page, scene);
    of_sign_ins(&mut page, scene);
    if let Some(drained) = drained {
        of_the_trail(&mut page, drained, scene.own);
    } else {
        let mut most = Page::default();
        of_the_trail(&mut most, scene.facts.ledger.records(), scene.facts);
        let loose = |expect: Expect| {
            if let Expect::Is(count) = expect {
                Expect::Within(0.0, count.as_f64().unwrap_or_default())
            } else {
                expect
            }
        };
        page.0.extend(most.0.into_iter().map(|(series, expect)| (series, loose(expect))));
    }
    of_what_is_there(&mut page, scene);
    let mut wrong = Vec::new();
    for (name, value) in series {
        let number = serde_json::Value::from(*value);
        let told = page.0.get(name).map(|expect| (expect.clone(), "of what was done"));
        match told.or_else(|| elsewhere(name)) {
            None => wrong.push(format!("{name} {value}: nobody says what it must be")),
            Some((expect, why)) if !expect.holds(&number) => {
                wrong.push(format!("{name} {value}, which must be {expect:?} ({why})"));
            }
            Some(_) => {}
        }
    }
    // What was never counted has no series.
    let missing = page.0.iter().filter(|(name, expect)| !series.contains_key(*name) && !expect.holds(&0.into()));
    wrong.extend(missing.map(|(name, expect)| format!("{name} is missing, which must be {expect:?}")));
    wrong
}
