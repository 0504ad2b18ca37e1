//! SURFACE: `/health`, `/health/live`, `/health/ready`, `/metrics`. Health is public, and therefore terse: a status for each part
//! and nothing about servers, users or reasons. Only an administrator is told which server is not well, and why. Metrics are not
//! public: [`reader`].

mod reader;

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodRouter, get};
use http::header::{ACCEPT, CONTENT_TYPE, VARY};
use http::{HeaderMap, StatusCode};
use serde_json::{Value, json};

use crate::access::{Caller, Opening};
use crate::app::App;
use crate::registry::snapshot::Entry;
use crate::telemetry::{Format, Status};
use crate::web::Source;
use crate::web::caller::authenticate;
use crate::web::proof::Sent;

/// Every path of the surface, with what answers there.
pub fn table() -> Vec<(&'static str, MethodRouter<App>)> {
    vec![
        ("/health", get(health)),
        ("/health/live", get(live)),
        ("/health/ready", get(ready)),
        ("/metrics", get(metrics)),
    ]
}

/// Whether a path is one of those that machines ask every few seconds.
pub fn is_of_machines(path: &str) -> bool {
    let below = |rest: &str| rest.is_empty() || rest.starts_with('/');
    path == "/metrics" || path.strip_prefix("/health").is_some_and(below)
}

async fn health(State(app): State<App>, headers: HeaderMap) -> Response {
    let (whole, each) = app.health.look();
    let status = if whole == Status::Failing { StatusCode::SERVICE_UNAVAILABLE } else { StatusCode::OK };
    let mut said = json!({ "status": whole, "components": each });
    // A credential that is no good is none here: a probe must not fail because its key has expired.
    let caller = authenticate(&app, &headers, Opening::Api, Sent::new("GET", "/health")).await.ok();
    if let Some(caller) = caller.filter(Caller::administers_tenant) {
        said["servers"] = servers(&app, &caller);
    }
    ([(VARY, "authorization")], (status, Json(said))).into_response()
}

/// How each server that the caller sees is doing, by slug, and why if not well.
fn servers(app: &App, caller: &Caller) -> Value {
    let snapshot = app.registry.snapshot();
    let entries = snapshot.tenant(caller.tenant()).map(|tenant| tenant.entries()).unwrap_or_default();
    let seen = entries.iter().filter(|entry| entry.upstream.server.may_be_used_by(caller));
    let one = |entry: &Entry| {
        let (state, trouble) = entry.standing();
        let said = match trouble {
            // The whole reason quotes addresses, which concern only whose the server is.
            Some(trouble) if entry.upstream.server.tenant != *caller.tenant() => {
                json!({ "state": state, "reason": trouble.public() })
            }
            Some(trouble) => json!({ "state": state, "reason": trouble.detail }),
            None => json!({ "state": state }),
        };
        (entry.slug().to_owned(), said)
    };
    Value::Object(seen.map(one).collect())
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

async fn metrics(State(app): State<App>, source: Source, headers: HeaderMap) -> Response {
    if !app.settings.metrics.enabled {
        return StatusCode::NOT_FOUND.into_response();
    }
    if let Err(problem) = reader::may_read(&app, source, &headers).await {
        return problem.into_response();
    }
    let format = Format::negotiate(headers.get(ACCEPT).and_then(|accept| accept.to_str().ok()));
    app.gauge().await;
    let text = app.recorder.metrics().render(format);
    ([(CONTENT_TYPE, format.content_type()), (VARY, "accept")], text).into_response()
}
