//! SURFACE: `/health`, `/health/live`, `/health/ready`, `/metrics`. Public, and therefore terse: a status for each part and
//! nothing about servers, users or reasons.

mod gauges;

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodRouter, get};
use http::header::{ACCEPT, CONTENT_TYPE, VARY};
use http::{HeaderMap, StatusCode};
use serde_json::json;

use crate::app::App;
use crate::telemetry::{Format, Status};

/// Every path of the surface, with what answers there.
pub fn table() -> Vec<(&'static str, MethodRouter<App>)> {
    vec![
        ("/health", get(health)),
        ("/health/live", get(live)),
        ("/health/ready", get(ready)),
        ("/metrics", get(metrics)),
    ]
}

async fn health(State(app): State<App>) -> Response {
    let (whole, each) = app.health.look();
    let status = if whole == Status::Failing { StatusCode::SERVICE_UNAVAILABLE } else { StatusCode::OK };
    (status, Json(json!({ "status": whole, "components": each }))).into_response()
}

/// The process answers: that is all an orchestrator should restart it for.
async fn live() -> Response {
    Json(json!({ "status": "ok" })).into_response()
}

/// Whether to send requests here: not while it stops, nor while it cannot do its work.
async fn ready(State(app): State<App>) -> Response {
    let stopping = app.shutdown.is_cancelled();
    if stopping || app.health.look().0 == Status::Failing {
        let status = if stopping { "stopping" } else { "failing" };
        return (StatusCode::SERVICE_UNAVAILABLE, Json(json!({ "status": status }))).into_response();
    }
    Json(json!({ "status": "ok" })).into_response()
}

async fn metrics(State(app): State<App>, headers: HeaderMap) -> Response {
    if !app.settings.metrics.enabled {
        return StatusCode::NOT_FOUND.into_response();
    }
    let format = Format::negotiate(headers.get(ACCEPT).and_then(|accept| accept.to_str().ok()));
    gauges::collect(&app);
    let text = app.recorder.metrics().render(format);
    ([(CONTENT_TYPE, format.content_type()), (VARY, "accept")], text).into_response()
}
