//! Gauges that are read off the parts when somebody looks, rather than kept up to date all the time. What is no longer there,
//! a server that was removed, a tenant without sessions, has no series any more.

use std::collections::{BTreeMap, HashSet};
use std::time::{Duration, Instant};

use crate::app::{App, SignedIn};
use crate::balance::BreakerState;
use crate::telemetry::{Family, Gauge};

/// A session or user seen within this time is active.
const ACTIVE: Duration = Duration::from_mins(5);

/// The values of one family, by label values. Servers of two tenants may share a slug; their values are added.
struct Values<const N: usize>(BTreeMap<[String; N], i64>);

impl<const N: usize> Values<N> {
    fn new() -> Self {
        Self(BTreeMap::new())
    }

    fn at(&mut self, labels: [&str; N]) -> &mut i64 {
        self.0.entry(labels.map(str::to_owned)).or_default()
    }

    fn add(&mut self, labels: [&str; N], value: usize) {
        *self.at(labels) += i64::try_from(value).unwrap_or(i64::MAX);
    }

    fn has(&self, labels: [&str; N]) -> bool {
        self.0.contains_key(&labels.map(str::to_owned))
    }

    /// Shows these values and no other series of those that are `ours` to set.
    fn show(&self, family: &Family<Gauge, N>, ours: impl Fn([&str; N]) -> bool) {
        for (labels, value) in &self.0 {
            family.with(std::array::from_fn(|at| labels[at].as_str())).set(*value);
        }
        family.forget(|labels| ours(labels) && !self.has(labels));
    }
}

impl App {
    /// Sets every gauge that is not kept by whoever it counts.
    pub async fn gauge(&self) {
        collect(self).await;
    }
}

async fn collect(app: &App) {
    let signed_in = app.signed_in(ACTIVE).await;
    of_clients(app, &signed_in);
    of_servers(app);
    let (metrics, now) = (app.recorder.metrics(), time::OffsetDateTime::now_utc());
    metrics.guard_bans.with([]).set(i64::try_from(app.guard.banned(now)).unwrap_or(i64::MAX));
    metrics.guard_entries.with([]).set(i64::try_from(app.guard.entries()).unwrap_or(i64::MAX));
    let buckets = app.limits.buckets();
    metrics.limit_buckets.with([]).set(i64::try_from(buckets.len()).unwrap_or(i64::MAX));
    metrics.limit_buckets_shed.with([]).follow(buckets.shed());
    let credentials = app.registry.ground.credentials.kept();
    metrics.upstream_credentials.with([]).set(i64::try_from(credentials.len()).unwrap_or(i64::MAX));
    metrics.upstream_credentials_shed.with([]).follow(credentials.shed());
    let database = &app.recorder.metrics().database_connections;
    for (state, count) in app.store.connections() {
        database.with([state]).set(i64::try_from(count).unwrap_or(i64::MAX));
    }
}

fn of_clients(app: &App, signed_in: &[SignedIn]) {
    let metrics = app.recorder.metrics();
    metrics.sessions.with([]).set(i64::try_from(app.sessions.count()).unwrap_or(i64::MAX));
    metrics.streams.with([]).set(i64::try_from(app.streams.open()).unwrap_or(i64::MAX));

    let mut sessions = Values::new();
    app.sessions.each(|session, unused| {
        let (tenant, kind) = (session.tenant.as_str(), session.credential.label());
        // Who signed in is counted below, once, however many MCP sessions that opened.
        if kind != "api_key" {
            return;
        }
        let (now, other) = if unused < ACTIVE { ("active", "idle") } else { ("idle", "active") };
        sessions.add([tenant, kind, now], 1);
        sessions.add([tenant, kind, other], 0);
    });
    for SignedIn { tenant, service, live, active } in signed_in {
        let kind = if *service { "service" } else { "oauth" };
        sessions.add([tenant, kind, "active"], *active);
        sessions.add([tenant, kind, "idle"], live.saturating_sub(*active));
    }
    sessions.show(&metrics.user_sessions, |_| true);
    let (held, most) = app.tokens.held();
    metrics.token_cache.with([]).set(i64::try_from(held).unwrap_or(i64::MAX));
    metrics.token_cache_limit.with([]).set(i64::try_from(most).unwrap_or(i64::MAX));

    let mut users = Values::new();
    let mut seen = HashSet::new();
    app.keyring.users_within(ACTIVE, &mut seen);
    app.tokens.users_within(ACTIVE, &mut seen);
    for (tenant, _) in seen {
        users.add([tenant.as_str()], 1);
    }
    users.show(&metrics.concurrent_users, |_| true);
}

fn of_servers(app: &App) {
    let (metrics, snapshot) = (app.recorder.metrics(), app.registry.snapshot());
    let running = app.registry.ground.children.by_server();
    let (mut connections, mut pool) = (Values::new(), Values::new());
    let (mut limits, mut load) = (Values::new(), Values::new());
    let (mut breakers, mut children) = (Values::new(), Values::new());
    for entry in snapshot.entries() {
        let slug = entry.slug();
        let Some(http) = entry.upstream.http() else {
            children.add([slug], running.get(&entry.upstream.server.id).copied().unwrap_or_default());
            continue;
        };
        for (replica, (status, wire)) in http.balance().pools(Instant::now()).iter().zip(http.wires()).enumerate() {
            let (replica, in_use, idle) = (replica.to_string(), status.in_use, wire.resting());
            connections.add(["upstream", slug], in_use + idle);
            pool.add([slug, &replica, "in_use"], in_use);
            pool.add([slug, &replica, "idle"], idle);
            limits.add([slug, &replica], status.limit);
            load.add([slug, &replica, "in_flight"], status.in_flight);
            load.add([slug, &replica, "waiting"], status.waiting);
        }
        for (replica, status) in http.balance().status(Instant::now()).iter().enumerate() {
            let state = match status.breaker {
                BreakerState::Closed => 0,
                BreakerState::HalfOpen => 1,
                BreakerState::Open => 2,
            };
            let worst = breakers.at([slug, &replica.to_string()]);
            *worst = state.max(*worst);
        }
    }
    // Those of clients are counted by the listener.
    connections.show(&metrics.active_connections, |[side, _]| side == "upstream");
    pool.show(&metrics.upstream_pool, |_| true);
    limits.show(&metrics.upstream_limit, |_| true);
    load.show(&metrics.upstream_load, |_| true);
    breakers.show(&metrics.breaker_state, |_| true);
    children.show(&metrics.stdio_children, |_| true);
}
