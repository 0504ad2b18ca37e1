//! `/admin/diagnostics/resources`: what the figures of upstream pools and of the database say, and what to do.

use axum::response::Json;
use serde::Serialize;

use super::envelope::{Asked, Report};
use super::finding::Finding;
use super::pools::Database;
use super::upstreams::{self, Measured, Recommendation, Seen};
use crate::access::Admin;
use crate::app::App;
use crate::balance::{Advice, Mode, Scaling, WINDOW};
use crate::web::json::Parameters;
use crate::web::problem::Problem;

/// Fewer requests say nothing of how connections are used again, and fewer dials nothing of how they end.
const ENOUGH: u64 = 20;

/// See `docs/operations.md`.
#[derive(Debug, Serialize)]
pub(in crate::admin) struct Resources {
    #[serde(flatten)]
    measured: Measured,
    scaling_recommendations: Vec<Recommendation>,
    findings: Vec<Finding>,
}

pub(in crate::admin) async fn read(
    app: App,
    admin: Admin,
    Parameters(asked): Parameters<Asked>,
) -> Result<Json<Report<Resources>>, Problem> {
    let seen = upstreams::seen(&app, &admin);
    let mode = Scaling::from(&app.settings.pools).mode;
    let mut findings: Vec<Finding> = seen.iter().flat_map(|seen| of_replica(seen, mode)).collect();
    if admin.administers_gateway() {
        findings.extend(of_database(&Database::of(&app)));
    }
    // The worst first; what is equally bad stays in the order of the servers.
    findings.sort_by_key(|finding| ["critical", "warning", "info"].iter().position(|word| *word == finding.severity));
    let measured = Measured::from(&upstreams::sum(&seen));
    let fields = Resources { measured, scaling_recommendations: Recommendation::all(&seen), findings };
    Ok(Json(measured.targets(Report::of_own(&app, &asked, WINDOW, fields))))
}

/// What there is to say of one replica.
fn of_replica(seen: &Seen, mode: Mode) -> Vec<Finding> {
    let (figures, measured) = (&seen.status.figures, Measured::from(&seen.status.figures));
    let name = format!("Replica {} of `{}`", seen.which.replica, seen.which.server);
    let (window, limit) = (WINDOW.as_secs(), seen.status.limit);
    let mut found = Vec::new();
    let mut say = |severity, what: &str, evidence: String, advice| {
        found.push(Finding { severity, what: format!("{name} {what}"), evidence, advice });
    };
    if figures.turned_away > 0 {
        say(
            "critical",
            "turned requests away because too many waited already",
            format!("{} in the last {window} seconds, at a limit of {limit} in flight", figures.turned_away),
            "add replicas, or raise MREG_FASTMCP_MAX_POOL_SIZE if the server can take more at once",
        );
    }
    if seen.status.advice.is_some_and(|advice| advice.is_at_most()) {
        say(
            "critical",
            "is as busy as it may be, and requests wait",
            format!("{limit} may be in flight, and {} waited in the last {window} seconds", figures.waited.count),
            "add replicas, or raise MREG_FASTMCP_MAX_POOL_SIZE if the server can take more at once",
        );
    } else if let Some(used) = measured.pool_utilization.filter(|used| *used >= 0.8) {
        say(
            "warning",
            "has little room left",
            format!("{:.0} % of its limit was in use over the last {window} seconds", used * 100.0),
            "see that the server answers as fast as it should; more replicas share the load",
        );
    }
    if let Some(wait) = measured.avg_connection_wait_time.filter(|wait| *wait >= 100.0) {
        say(
            "warning",
            "keeps requests waiting for their turn",
            format!("{wait:.0} ms on average, {} requests waited", figures.waited.count),
            "raise MREG_FASTMCP_MIN_POOL_SIZE if load comes in bursts, or add replicas if it stays",
        );
    }
    if let Some(advice) =
        seen.status.advice.as_ref().filter(|_| mode == Mode::Advise).filter(|advice| advice.to != advice.from)
    {
        say(
            "info",
            &should(advice),
            advice.reason(),
            "let limits follow: MREG_FASTMCP_CONNECTION_POOL_SCALING_ENABLED=true",
        );
    }
    of_connections(&mut say, seen, &measured);
    found
}

fn should(advice: &Advice) -> String {
    format!("should have {} requests in flight at most instead of {}", advice.to, advice.from)
}

/// What there is to say of its connections.
fn of_connections(say: &mut impl FnMut(&'static str, &str, String, &'static str), seen: &Seen, measured: &Measured) {
    let figures = &seen.status.figures;
    let dials = figures.dialled();
    if let Some(ratio) = measured.connection_timeouts.filter(|ratio| *ratio >= 0.01) {
        say(
            if ratio >= 0.5 { "critical" } else { "warning" },
            "cannot be connected to in time",
            format!("{:.0} % of {dials} attempts took longer than they may", ratio * 100.0),
            "look for a firewall that drops packets or a server that accepts too slowly; `timeouts.connect_ms` of the server is the bound",
        );
    }
    if figures.failed() > 0 {
        say(
            if figures.failed() == dials { "critical" } else { "warning" },
            "cannot be connected to",
            format!("{} of {dials} attempts failed", figures.failed()),
            "see that the server runs at this address, and that its certificate is good; `servers show` tells the last failure",
        );
    }
    if let Some(latency) = measured.avg_connection_latency.filter(|latency| *latency >= 50.0) {
        let tls = measured.ssl_handshake_time.map(|tls| format!(", {tls:.0} ms of TLS")).unwrap_or_default();
        say(
            "warning",
            "takes long to connect to",
            format!("{latency:.0} ms on average of {} connections{tls}", figures.connect.count),
            "bring gateway and server closer together, or see what makes the server slow to accept",
        );
    }
    let requests = figures.fresh + figures.reused;
    if let Some(rate) = measured.connection_reuse_rate.filter(|rate| *rate <= 0.9 && requests >= ENOUGH) {
        say(
            "warning",
            "seldom lets a connection be used again",
            format!("{:.0} % of {requests} requests went out on a connection that was open", rate * 100.0),
            "let the server keep connections open, and say for how long (Keep-Alive: timeout=60); calls that are cancelled close theirs",
        );
    }
}

/// What there is to say of the database's connections.
fn of_database(database: &Database) -> Option<Finding> {
    let wait = database.average_wait.filter(|wait| *wait >= 10.0)?;
    let longest = database.longest_wait.unwrap_or(wait);
    Some(Finding {
        severity: if wait >= 100.0 { "critical" } else { "warning" },
        what: "Connections to the database are waited for".into(),
        evidence: format!(
            "{wait:.0} ms on average, {longest:.0} ms at most; {} of {} are in use",
            database.in_use, database.limit
        ),
        advice: "raise MREG_DATABASE_POOL_SIZE if the database can take more, or see what makes it slow",
    })
}
