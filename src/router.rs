//! Every surface and layer, in order, on one page. What passes before any of this, the checks of host and origin, the bounds
//! of bodies, is `web::Door`.

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::middleware::from_fn_with_state;
use axum::routing::{get, post};

use crate::admin;
use crate::app::App;
use crate::mcp::endpoint::{self, ALL, ONE};
use crate::mcp::legacy_sse;
use crate::ops;
use crate::web::problem::{no_such_method, no_such_path};
use crate::web::record::record;

/// All routes of one process.
pub fn routes(app: App) -> Router {
    Router::new()
        .merge(recorded(app.clone()))
        .merge(ops::router())
        .route(ALL, get(endpoint::get_all).post(endpoint::post_all).delete(endpoint::delete_all))
        .route(ONE, get(endpoint::get_one).post(endpoint::post_one).delete(endpoint::delete_one))
        .route(legacy_sse::ALL, get(legacy_sse::open_all))
        .route(legacy_sse::ONE, get(legacy_sse::open_one))
        .route(legacy_sse::MESSAGES, post(legacy_sse::message))
        // The door bounds bodies for all routes alike; a second, smaller bound would only confuse.
        .layer(DefaultBodyLimit::disable())
        .with_state(app)
}

/// The routes whose requests the layer records: all but those of MCP, which record what it cannot know, and those that are
/// asked every few seconds by machines.
pub fn recorded(app: App) -> Router<App> {
    Router::new()
        .merge(admin::router())
        .fallback(no_such_path)
        .method_not_allowed_fallback(no_such_method)
        .layer(from_fn_with_state(app, record))
}
