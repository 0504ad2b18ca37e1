//! SURFACE: the REST API, `/api/v1`: servers, keys, accounts, signing in, finding tools. One file per resource. Every
//! error is a problem document; every change is in force on this replica before its answer goes out.

mod discovery;
mod keys;
mod servers;
mod session;
mod users;

use axum::Router;
use axum::routing::{get, post};

use crate::app::App;
use crate::web::problem::{no_such_method, no_such_path};

/// Every path of the surface, to be nested under `/api/v1`.
pub fn routes() -> Router<App> {
    Router::new()
        .route("/servers", get(servers::list).post(servers::create))
        .route(
            "/servers/{slug}",
            get(servers::read).put(servers::replace).patch(servers::patch).delete(servers::delete),
        )
        .route("/servers/{slug}/enable", post(servers::enable))
        .route("/servers/{slug}/disable", post(servers::disable))
        .route("/servers/{slug}/refresh", post(servers::refresh))
        .route("/servers/{slug}/tools", get(servers::tools))
        .route("/keys", get(keys::list).post(keys::create))
        .route("/keys/{id}", axum::routing::delete(keys::revoke))
        .route("/users", get(users::list).post(users::create))
        .route("/users/{id}", get(users::read).patch(users::patch).delete(users::delete))
        .route("/users/{id}/password", post(users::password))
        .route("/login", post(session::login))
        .route("/logout", post(session::logout))
        .route("/me", get(session::me))
        .route("/discovery/tools", get(discovery::tools))
        .route("/discovery/resources", get(discovery::resources))
        .fallback(no_such_path)
        .method_not_allowed_fallback(no_such_method)
}

/// The surface under its path.
pub fn router() -> Router<App> {
    Router::new().nest("/api/v1", routes())
}
