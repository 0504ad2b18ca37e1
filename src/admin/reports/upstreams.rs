//! The places and connections of upstream replicas, as far as an administrator may see them: an administrator of the gateway all,
//! one of a tenant those of its tenant. Of a server that is used by other tenants too it sees ratios and times only: numbers of
//! requests would tell what the others do. The scopes of the key hold for everybody.

use std::sync::Arc;
use std::time::Instant;

use schemars::JsonSchema;
use serde::Serialize;

use super::envelope::{Report, Target};
use crate::access::Admin;
use crate::app::App;
use crate::balance::{Advice, Figures, PoolStatus};
use crate::id::TenantId;
use crate::registry::snapshot::Entry;

/// Which replica something is of.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub(super) struct Which {
    /// Absent for one that is offered from elsewhere.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) tenant_id: Option<TenantId>,
    /// Its short name.
    pub(super) server: String,
    /// Its place in the description of the server.
    pub(super) replica: usize,
    /// Only for who may read the description of the server.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) url: Option<Arc<str>>,
}

/// One replica.
pub(super) struct Seen {
    pub(super) which: Which,
    /// Whether numbers of requests may be told, and what is made of them.
    pub(super) counted: bool,
    pub(super) status: PoolStatus,
    /// Connections at rest.
    pub(super) idle: usize,
}

/// All that the administrator may see, by server.
pub(super) fn seen(app: &App, admin: &Admin) -> Vec<Seen> {
    let (snapshot, now) = (app.registry.snapshot(), Instant::now());
    let mut all = Vec::new();
    let take = |entry: &Entry| {
        let Some(http) = entry.upstream.http() else { return };
        let server = &entry.upstream.server;
        let (own, above) = (server.tenant == *admin.tenant(), admin.administers_gateway());
        let counted = above || (own && server.spec.offered_to.is_empty());
        for (replica, (status, wire)) in http.balance().pools(now).into_iter().zip(http.wires()).enumerate() {
            let which = Which {
                tenant_id: (own || above).then(|| server.tenant.clone()),
                server: entry.slug().to_owned(),
                replica,
                url: (own && counted).then(|| Arc::clone(&status.url)),
            };
            all.push(Seen { which, counted, status, idle: wire.resting() });
        }
    };
    if admin.administers_gateway() {
        snapshot.entries().filter(|entry| admin.scopes().allows_server(entry.slug())).for_each(take);
    } else {
        let entries = snapshot.tenant(admin.tenant()).map(|tenant| tenant.entries()).unwrap_or_default();
        entries.iter().filter(|entry| entry.upstream.server.may_be_used_by(admin)).for_each(take);
    }
    all.sort_by(|one, other| {
        let key = |seen: &Seen| (seen.which.tenant_id.clone(), seen.which.server.clone(), seen.which.replica);
        key(one).cmp(&key(other))
    });
    all
}

/// The sum of all figures that may be counted.
pub(super) fn sum(all: &[Seen]) -> Figures {
    let mut sum = Figures::default();
    for seen in all.iter().filter(|seen| seen.counted) {
        sum += &seen.status.figures;
    }
    sum
}

/// What was measured, as it is told.
#[derive(Debug, Clone, Copy, Serialize, JsonSchema)]
pub(super) struct Measured {
    pub(super) pool_utilization: Option<f64>,
    pub(super) avg_connection_latency: Option<f64>,
    pub(super) avg_connection_wait_time: Option<f64>,
    pub(super) connection_timeouts: Option<f64>,
    pub(super) connection_reuse_rate: Option<f64>,
    pub(super) ssl_handshake_time: Option<f64>,
}

impl From<&Figures> for Measured {
    fn from(figures: &Figures) -> Self {
        Self {
            pool_utilization: figures.utilization(),
            avg_connection_latency: figures.connection_latency(),
            avg_connection_wait_time: figures.connection_wait(),
            connection_timeouts: figures.connection_timeouts(),
            connection_reuse_rate: figures.reuse_rate(),
            ssl_handshake_time: figures.handshake(),
        }
    }
}

impl Measured {
    /// The report with what each of these should be.
    pub(super) fn targets<T>(&self, report: Report<T>) -> Report<T> {
        report
            .with("pool_utilization", Target::below("<0.8", 0.8, self.pool_utilization))
            .with("avg_connection_latency", Target::below("<50", 50.0, self.avg_connection_latency))
            .with("avg_connection_wait_time", Target::below("<100", 100.0, self.avg_connection_wait_time))
            .with("connection_timeouts", Target::below("<0.01", 0.01, self.connection_timeouts))
            .with("connection_reuse_rate", Target::above(">0.9", 0.9, self.connection_reuse_rate))
            .with("ssl_handshake_time", Target::below("<50", 50.0, self.ssl_handshake_time))
    }
}

/// What should become of a limit, as it is told.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub(super) struct Recommendation {
    #[serde(flatten)]
    which: Which,
    action: &'static str,
    from: usize,
    to: usize,
    reason: String,
}

impl Recommendation {
    fn new(which: &Which, advice: &Advice) -> Self {
        let (action, reason) = (advice.action(), advice.reason());
        Self { which: which.clone(), action, from: advice.from, to: advice.to, reason }
    }

    /// For each replica that was looked at and may be counted.
    pub(super) fn all(seen: &[Seen]) -> Vec<Self> {
        let counted = seen.iter().filter(|seen| seen.counted);
        counted.filter_map(|seen| Some(Self::new(&seen.which, seen.status.advice.as_ref()?))).collect()
    }
}
