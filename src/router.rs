//! Every surface and layer, in order, on one page. What passes before any of this, the checks of host and origin, the bounds
//! of bodies, is `web::Door`.

use axum::extract::DefaultBodyLimit;
use axum::http::StatusCode;
use axum::routing::any;
use axum::{Json, Router};
use serde_json::{Value, json};

use crate::app::App;
use crate::ops;

/// All routes of one process.
pub fn routes(app: App) -> Router {
    Router::new()
        .merge(ops::router())
        .nest("/api/v1", Router::new().fallback(not_built))
        .route("/mcp", any(not_built))
        .route("/mcp/{server}", any(not_built))
        .route("/sse", any(not_built))
        .route("/messages", any(not_built))
        .fallback(not_found)
        .method_not_allowed_fallback(wrong_method)
        // The door bounds bodies for all routes alike; a second, smaller bound would only confuse.
        .layer(DefaultBodyLimit::disable())
        .with_state(app)
}

async fn not_built() -> (StatusCode, Json<Value>) {
    answer(StatusCode::NOT_IMPLEMENTED, "NOT_IMPLEMENTED", "this build does not serve that")
}

async fn not_found() -> (StatusCode, Json<Value>) {
    answer(StatusCode::NOT_FOUND, "NOT_FOUND", "there is nothing at this path; the gateway is at /mcp")
}

async fn wrong_method() -> (StatusCode, Json<Value>) {
    answer(StatusCode::METHOD_NOT_ALLOWED, "METHOD_NOT_ALLOWED", "this path does not take that method")
}

fn answer(status: StatusCode, code: &str, detail: &str) -> (StatusCode, Json<Value>) {
    let title = status.canonical_reason();
    let body =
        json!({ "type": "about:blank", "title": title, "status": status.as_u16(), "detail": detail, "code": code });
    (status, Json(body))
}
