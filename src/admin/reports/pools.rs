//! `/admin/connection-pool-status`: the places and connections of every upstream replica, and of the database.

use std::time::Instant;

use axum::response::Json;
use schemars::JsonSchema;
use serde::Serialize;

use super::envelope::{Asked, Report};
use super::upstreams::{self, Measured, Recommendation, Seen, Which};
use crate::access::Admin;
use crate::app::App;
use crate::balance::{Scaling, WINDOW};
use crate::web::json::Parameters;
use crate::web::problem::Problem;

/// See `docs/operations.md`.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "ConnectionPoolStatus")]
pub(in crate::admin) struct Status {
    /// Whether limits follow the load: `fixed`, `advise` or `adapt`.
    mode: &'static str,
    #[serde(flatten)]
    load: Load,
    #[serde(flatten)]
    measured: Measured,
    scaling_recommendations: Vec<Recommendation>,
    pools: Vec<Pool>,
    /// Of the gateway, so only for its administrators.
    #[serde(skip_serializing_if = "Option::is_none")]
    database: Option<Database>,
}

/// What is there now.
#[derive(Debug, Default, Serialize, JsonSchema)]
struct Load {
    /// Requests that may be in flight.
    limit: usize,
    in_flight: usize,
    waiting: usize,
    /// Connections that carry a request.
    in_use: usize,
    /// Connections at rest.
    idle: usize,
}

/// Of one replica.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "ReplicaPool")]
struct Pool {
    #[serde(flatten)]
    which: Which,
    /// How much of the window was measured.
    measured_seconds: f64,
    /// Absent where other tenants' requests are among them.
    #[serde(flatten)]
    counts: Option<Counts>,
    #[serde(flatten)]
    measured: Measured,
}

/// Numbers of requests and connections.
#[derive(Debug, Serialize, JsonSchema)]
struct Counts {
    #[serde(flatten)]
    load: Load,
    average_in_flight: Option<f64>,
    /// Requests whose answer has ended, or that got none; streams from their beginning.
    requests: u64,
    /// Connections that were to be opened for them.
    dials: u64,
    /// Requests that waited for their turn.
    waited: u64,
    /// Requests that found no room to wait.
    turned_away: u64,
}

/// Of the database.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "DatabasePool")]
pub(super) struct Database {
    pub(super) size: usize,
    pub(super) in_use: usize,
    pub(super) idle: usize,
    pub(super) limit: usize,
    /// Of a request for a connection that the gateway makes once a second, milliseconds.
    pub(super) average_wait: Option<f64>,
    pub(super) longest_wait: Option<f64>,
}

impl Database {
    pub(super) fn of(app: &App) -> Self {
        let of = |wanted: &str| {
            let states = app.store.connections();
            states.iter().find(|(state, _)| *state == wanted).map_or(0, |(_, count)| *count)
        };
        let (in_use, idle, waits) = (of("in_use"), of("idle"), app.database_waits.sum(Instant::now()));
        let (average_wait, longest_wait) = (waits.map(|(average, _)| average), waits.map(|(_, longest)| longest));
        Self { size: in_use + idle, in_use, idle, limit: of("limit"), average_wait, longest_wait }
    }
}

impl From<&Seen> for Load {
    fn from(Seen { status, idle, .. }: &Seen) -> Self {
        let (limit, in_flight, waiting, in_use) = (status.limit, status.in_flight, status.waiting, status.in_use);
        Self { limit, in_flight, waiting, in_use, idle: *idle }
    }
}

impl From<&Seen> for Counts {
    fn from(seen: &Seen) -> Self {
        let figures = &seen.status.figures;
        Self {
            load: Load::from(seen),
            average_in_flight: figures.average_in_flight(),
            requests: figures.fresh + figures.reused,
            dials: figures.dialled(),
            waited: figures.waited.count,
            turned_away: figures.turned_away,
        }
    }
}

impl From<&Seen> for Pool {
    fn from(seen: &Seen) -> Self {
        let figures = &seen.status.figures;
        Self {
            which: seen.which.clone(),
            measured_seconds: figures.over.as_secs_f64(),
            counts: seen.counted.then(|| Counts::from(seen)),
            measured: Measured::from(figures),
        }
    }
}

pub(in crate::admin) async fn read(
    app: App,
    admin: Admin,
    Parameters(asked): Parameters<Asked>,
) -> Result<Json<Report<Status>>, Problem> {
    let seen = upstreams::seen(&app, &admin);
    let mut load = Load::default();
    for one in seen.iter().filter(|seen| seen.counted).map(Load::from) {
        load.limit += one.limit;
        load.in_flight += one.in_flight;
        load.waiting += one.waiting;
        load.in_use += one.in_use;
        load.idle += one.idle;
    }
    let measured = Measured::from(&upstreams::sum(&seen));
    let fields = Status {
        mode: Scaling::from(&app.settings.pools).mode.label(),
        load,
        measured,
        scaling_recommendations: Recommendation::all(&seen),
        pools: seen.iter().map(Pool::from).collect(),
        database: admin.administers_gateway().then(|| Database::of(&app)),
    };
    Ok(Json(measured.targets(Report::of_own(&app, &asked, WINDOW, fields))))
}
