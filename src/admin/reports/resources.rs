//! `/admin/diagnostics/resources`: what the figures of upstream pools and of the database say, and what to do.

use std::time::Duration;

use axum::response::Json;
use schemars::JsonSchema;
use serde::Serialize;

use super::envelope::{Asked, Report};
use super::finding::Finding;
use super::pools::Database;
use super::upstreams::{self, Measured, Recommendation, Seen};
use crate::access::Admin;
use crate::app::App;
use crate::balance::{Advice, Figures, Mode, Scaling, WINDOW};
use crate::web::json::Parameters;
use crate::web::problem::Problem;

/// Fewer requests in the window say nothing of how connections are used again: they may be further apart than these rest.
const ENOUGH: u64 = 100;
/// Fewer attempts to connect say nothing of the way there.
const ENOUGH_DIALS: u64 = 5;
/// A limit that was too low for longer than this was no passing load.
const PASSING: Duration = Duration::from_secs(30);

/// See `docs/operations.md`.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "ResourceDiagnostics")]
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
    let mut findings: Vec<Finding> =
        seen.iter().filter(|seen| seen.counted).flat_map(|seen| of_replica(seen, mode)).collect();
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
    if !figures.pressed.is_zero() {
        let (pressed, waited) = (figures.pressed.as_secs_f64(), figures.waited.count);
        say(
            if figures.pressed > PASSING { "critical" } else { "warning" },
            "was as busy as it may be, and requests waited",
            format!(
                "for {pressed:.0} of the last {window} seconds, in which {waited} waited; {limit} may be in flight"
            ),
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
    if dials >= ENOUGH_DIALS {
        of_dials(say, figures, measured);
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

/// What there is to say of attempts to connect.
fn of_dials(say: &mut impl FnMut(&'static str, &str, String, &'static str), figures: &Figures, measured: &Measured) {
    let dials = figures.dialled();
    if let Some(ratio) = measured.connection_timeouts.filter(|ratio| *ratio >= 0.01) {
        say(
            if ratio >= 0.5 { "critical" } else { "warning" },
            "cannot be connected to in time",
            format!("{:.0} % of {dials} attempts took longer than they may", ratio * 100.0),
            "look for a firewall that drops packets or a server that accepts too slowly; `timeouts.connect_ms` of the server is the bound, or what a call had left",
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

#[cfg(test)]
mod tests {
    use super::super::upstreams::Which;
    use super::*;
    use crate::balance::{PoolStatus, Tally, Why};

    fn seen(figures: Figures) -> Seen {
        let advice = Some(Advice { from: 100, to: 100, why: Why::Fits(0.1) });
        let (limit, in_flight, waiting, in_use) = (100, 0, 0, 0);
        let status = PoolStatus { url: "http://a/".into(), limit, in_flight, waiting, in_use, figures, advice };
        let which = Which { tenant_id: None, server: "files".into(), replica: 1, url: None };
        Seen { which, counted: true, status, idle: 0 }
    }

    /// How bad, and what, of each finding.
    fn found(figures: Figures) -> Vec<String> {
        let all = of_replica(&seen(figures), Mode::Adapt).into_iter();
        all.map(|finding| format!("{}: {} ({})", finding.severity, finding.what, finding.evidence)).collect()
    }

    fn times(count: u64, ms: u64) -> Tally {
        Tally { count, sum: Duration::from_millis(count * ms) }
    }

    #[test]
    fn nothing_is_found_where_nothing_is_measured_or_all_is_well() {
        assert_eq!(found(Figures::default()), Vec::<String>::new());
        let well = Figures {
            over: Duration::from_mins(5),
            held: 79.0,
            offered: 100.0,
            entered: 1000,
            waited: times(10, 90),
            fresh: 99,
            reused: 901,
            dials: [99, 0, 0, 9],
            connect: times(99, 24),
            tls: times(99, 25),
            ..Figures::default()
        };
        assert_eq!(found(well), Vec::<String>::new());
        let few = Figures { fresh: 99, dials: [1, 1, 2, 0], connect: times(1, 900), ..Figures::default() };
        assert_eq!(
            found(few),
            Vec::<String>::new(),
            "so few requests say nothing of reuse, and so few attempts nothing of the way"
        );
    }

    #[test]
    fn each_figure_out_of_line_is_found_with_what_it_rests_on() {
        let pressed = Duration::from_secs(31);
        let busy = Figures {
            held: 9.0,
            offered: 100.0,
            waited: times(50, 200),
            turned_away: 3,
            pressed,
            ..Figures::default()
        };
        assert_eq!(
            found(busy),
            [
                "critical: Replica 1 of `files` turned requests away because too many waited already (3 in the last 300 seconds, at a limit of 100 in flight)",
                "critical: Replica 1 of `files` was as busy as it may be, and requests waited (for 31 of the last 300 seconds, in which 50 waited; 100 may be in flight)",
                "warning: Replica 1 of `files` keeps requests waiting for their turn (200 ms on average, 50 requests waited)",
            ]
        );
        let passing = Figures { pressed: Duration::from_secs(30), ..Figures::default() };
        assert!(found(passing)[0].starts_with("warning: Replica 1 of `files` was as busy as it may be"));
        let full = Figures { held: 80.0, offered: 100.0, ..Figures::default() };
        assert_eq!(
            found(full),
            [
                "warning: Replica 1 of `files` has little room left (80 % of its limit was in use over the last 300 seconds)"
            ]
        );
        let far = Figures {
            fresh: 50,
            reused: 50,
            dials: [10, 6, 4, 0],
            connect: times(10, 20),
            tls: times(10, 60),
            ..Figures::default()
        };
        assert_eq!(
            found(far),
            [
                "warning: Replica 1 of `files` cannot be connected to in time (30 % of 20 attempts took longer than they may)",
                "warning: Replica 1 of `files` cannot be connected to (4 of 20 attempts failed)",
                "warning: Replica 1 of `files` takes long to connect to (80 ms on average of 10 connections, 60 ms of TLS)",
                "warning: Replica 1 of `files` seldom lets a connection be used again (50 % of 100 requests went out on a connection that was open)",
            ]
        );
        let gone = Figures { dials: [0, 0, 5, 0], ..Figures::default() };
        assert_eq!(found(gone), ["critical: Replica 1 of `files` cannot be connected to (5 of 5 attempts failed)"]);
    }

    #[test]
    fn connections_to_the_database_are_found_wanting_by_how_long_they_are_waited_for() {
        let database = |average_wait: Option<f64>| Database {
            size: 10,
            in_use: 10,
            idle: 0,
            limit: 10,
            average_wait,
            longest_wait: average_wait.map(|wait| wait * 2.0),
        };
        assert!(of_database(&database(None)).is_none() && of_database(&database(Some(9.9))).is_none());
        let found = of_database(&database(Some(150.0))).unwrap();
        assert_eq!(
            (found.severity, found.evidence.as_str()),
            ("critical", "150 ms on average, 300 ms at most; 10 of 10 are in use")
        );
        assert_eq!(of_database(&database(Some(10.0))).unwrap().severity, "warning");
    }
}
