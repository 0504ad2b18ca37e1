//! Every surface and layer, in order, on one page. What passes before any of this, the checks of host and origin, the bounds
//! of bodies, is `web::Door`.

use axum::extract::DefaultBodyLimit;
use axum::http::StatusCode;
use axum::routing::{MethodRouter, get, post};
use axum::{Json, Router};
use serde_json::{Value, json};

use crate::admin;
use crate::app::App;
use crate::mcp::endpoint::{self, ALL, ONE};
use crate::mcp::legacy_sse;
use crate::ops;

/// Every path that is not [`admin`]'s, with what answers there.
fn table() -> Vec<(&'static str, MethodRouter<App>)> {
    let mut table = ops::table();
    table.extend([
        (ALL, get(endpoint::get_all).post(endpoint::post_all).delete(endpoint::delete_all)),
        (ONE, get(endpoint::get_one).post(endpoint::post_one).delete(endpoint::delete_one)),
        (legacy_sse::ALL, get(legacy_sse::open_all)),
        (legacy_sse::ONE, get(legacy_sse::open_one)),
        (legacy_sse::MESSAGES, post(legacy_sse::message)),
    ]);
    table
}

/// All routes of one process.
pub fn routes(app: App) -> Router {
    let routes = table().into_iter().fold(admin::router(), |router, (path, answers)| router.route(path, answers));
    routes
        .fallback(not_found)
        .method_not_allowed_fallback(wrong_method)
        // The door bounds bodies for all routes alike; a second, smaller bound would only confuse.
        .layer(DefaultBodyLimit::disable())
        .with_state(app)
}

/// Every path of one process, as it is written in the router: for who goes through all of them.
pub fn paths() -> Vec<String> {
    let rest = table().into_iter().map(|(path, _)| path.to_owned());
    rest.chain(admin::table().into_iter().map(|(path, _)| format!("{}{path}", admin::BASE))).collect()
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
