//! `/admin/diagnostics/network`: how fast connections come about, and whether they are used again.

use axum::response::Json;
use schemars::JsonSchema;
use serde::Serialize;

use super::envelope::{Asked, Report, Target};
use super::upstreams::{self, Measured, Which};
use crate::access::Admin;
use crate::app::App;
use crate::balance::{Figures, WINDOW};
use crate::web::json::Parameters;
use crate::web::problem::Problem;

/// See `docs/operations.md`.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "NetworkDiagnostics")]
pub(in crate::admin) struct Network {
    /// What half of the questions to Entra's token endpoint took at most, milliseconds.
    azure_oauth_latency: Option<f64>,
    connection_reuse_rate: Option<f64>,
    ssl_handshake_time: Option<f64>,
    upstreams: Vec<Upstream>,
}

#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "UpstreamNetwork")]
struct Upstream {
    #[serde(flatten)]
    which: Which,
    connection_reuse_rate: Option<f64>,
    ssl_handshake_time: Option<f64>,
    avg_connection_latency: Option<f64>,
    connection_timeouts: Option<f64>,
}

impl Upstream {
    fn new(which: Which, figures: &Figures) -> Self {
        let Measured { connection_reuse_rate, ssl_handshake_time, avg_connection_latency, connection_timeouts, .. } =
            Measured::from(figures);
        Self { which, connection_reuse_rate, ssl_handshake_time, avg_connection_latency, connection_timeouts }
    }
}

pub(in crate::admin) async fn read(
    app: App,
    admin: Admin,
    Parameters(asked): Parameters<Asked>,
) -> Result<Json<Report<Network>>, Problem> {
    let seen = upstreams::seen(&app, &admin);
    let Measured { connection_reuse_rate, ssl_handshake_time, .. } = Measured::from(&upstreams::sum(&seen));
    let latency = app.providers.token_latency().map(|took| took.as_secs_f64() * 1e3);
    let fields = Network {
        azure_oauth_latency: latency,
        connection_reuse_rate,
        ssl_handshake_time,
        upstreams: seen.into_iter().map(|seen| Upstream::new(seen.which, &seen.status.figures)).collect(),
    };
    let report = Report::of_own(&app, &asked, WINDOW, fields)
        .with("azure_oauth_latency", Target::below("<200", 200.0, latency))
        .with("connection_reuse_rate", Target::above(">0.9", 0.9, connection_reuse_rate))
        .with("ssl_handshake_time", Target::below("<50", 50.0, ssl_handshake_time));
    Ok(Json(report))
}
