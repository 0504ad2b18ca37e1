//! SURFACE: the REST API, `/api/v1`: servers, keys, accounts, OAuth clients, trusted issuers, tenants, access rules, bans, signing in and what came of
//! it, finding tools. One file per resource. Every error is a problem document; every change is in force on this replica before
//! its answer goes out.

mod apply;
mod audit;
mod bans;
mod clients;
mod discovery;
mod keys;
mod policies;
mod reports;
mod sealing_keys;
mod servers;
mod session;
mod sign_ins;
mod tenant_limits;
mod tenants;
mod trusted_issuers;
mod users;

use axum::Router;
use axum::extract::{MatchedPath, Request};
use axum::middleware::{Next, from_fn};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{MethodRouter, delete, get, post};
use http::Method;

use crate::app::App;
use crate::web::problem::{Problem, no_such_method, no_such_path};

/// Where the surface is.
pub const BASE: &str = "/api/v1";

/// Every path of the surface below [`BASE`], with what answers there.
pub fn table() -> Vec<(&'static str, MethodRouter<App>)> {
    let server = get(servers::read).put(servers::replace).patch(servers::patch).delete(servers::delete);
    vec![
        ("/servers", get(servers::list).post(servers::create)),
        ("/servers/{slug}", server),
        ("/servers/{slug}/enable", post(servers::enable)),
        ("/servers/{slug}/disable", post(servers::disable)),
        ("/servers/{slug}/refresh", post(servers::refresh)),
        ("/servers/{slug}/tools", get(servers::tools)),
        ("/apply", post(apply::apply)),
        ("/keys", get(keys::list).post(keys::create)),
        ("/keys/{id}", delete(keys::revoke)),
        ("/users", get(users::list).post(users::create)),
        ("/users/{id}", get(users::read).patch(users::patch).delete(users::delete)),
        ("/users/{id}/password", post(users::password)),
        ("/oauth-clients", get(clients::list).post(clients::create)),
        ("/oauth-clients/{id}", get(clients::read).patch(clients::patch).delete(clients::delete)),
        ("/oauth-clients/{id}/secrets", post(clients::add_secret)),
        ("/oauth-clients/{id}/secrets/{hint}", delete(clients::remove_secret)),
        ("/trusted-issuers", get(trusted_issuers::list).post(trusted_issuers::create)),
        ("/trusted-issuers/{name}", get(trusted_issuers::read).delete(trusted_issuers::delete)),
        ("/sign-ins", get(sign_ins::list)),
        ("/sign-ins/{id}", get(sign_ins::read)),
        ("/admin/tenants", get(tenants::list).post(tenants::create)),
        ("/admin/tenants/{id}", get(tenants::read).patch(tenants::patch).delete(tenants::delete)),
        ("/admin/tenant-limits/{tenant_id}", get(tenant_limits::read).post(tenant_limits::set)),
        ("/admin/tenant-fairness/{tenant_id}", get(reports::fairness::read)),
        ("/admin/rate-limit-analytics", get(reports::limits::analytics)),
        ("/admin/diagnostics/rate-limits", get(reports::limits::diagnostics)),
        ("/admin/token-refresh-status", get(reports::tokens::status)),
        ("/admin/user-token-status/{user_id}", get(reports::tokens::of_user)),
        ("/admin/force-token-refresh/{user_id}", post(reports::tokens::force)),
        ("/admin/connection-pool-status", get(reports::pools::read)),
        ("/admin/diagnostics/resources", get(reports::resources::read)),
        ("/admin/diagnostics/network", get(reports::network::read)),
        ("/admin/multi-user-status", get(reports::status::read)),
        ("/admin/tenant-analytics/{tenant_id}", get(reports::tenant::read)),
        ("/admin/user-activity/{user_id}", get(reports::user::read)),
        ("/admin/capacity-status", get(reports::capacity::read)),
        ("/admin/daily-health-report", get(reports::daily::read)),
        ("/admin/diagnostics/auth-failures", get(reports::auth_failures::read)),
        ("/admin/diagnostics/memory", get(reports::memory::read)),
        ("/admin/audit", get(audit::list)),
        ("/admin/audit/{id}", get(audit::read)),
        ("/admin/bans", get(bans::list).post(bans::create)),
        ("/admin/bans/{address}", get(bans::read)),
        ("/admin/bans/{address}/lift", post(bans::lift)),
        ("/admin/sealing-keys", get(sealing_keys::read)),
        ("/admin/sealing-keys/{tenant_id}", get(sealing_keys::read_tenant)),
        ("/admin/rotate-sealing-keys", post(sealing_keys::rotate)),
        ("/admin/policies/{tenant_id}", get(policies::read).put(policies::replace)),
        ("/admin/policies/{tenant_id}/versions", get(policies::versions)),
        ("/admin/policies/{tenant_id}/versions/{version}", get(policies::version)),
        ("/admin/policies/{tenant_id}/explain", post(policies::explain)),
        ("/admin/policies/{tenant_id}/dry-run", post(policies::dry_run)),
        ("/login", post(session::login)),
        ("/logout", post(session::logout)),
        ("/me", get(session::me)),
        ("/discovery/tools", get(discovery::tools)),
        ("/discovery/resources", get(discovery::resources)),
    ]
}

/// The surface under its path.
pub fn router() -> Router<App> {
    let routes = table().into_iter().fold(Router::new(), |router, (path, answers)| router.route(path, answers));
    let routes = routes.route_layer(from_fn(without_stray_query));
    Router::new().nest(BASE, routes.fallback(no_such_path).method_not_allowed_fallback(no_such_method))
}

/// Nothing is changed for who asks for something that the path does not know, such as a dry run. What is read takes parameters,
/// and says itself which; so do the removal of a tenant and a change of its
/// access rules.
async fn without_stray_query(request: Request, next: Next) -> Response {
    let path = request.extensions().get::<MatchedPath>().map(MatchedPath::as_str).unwrap_or_default();
    let takes = match *request.method() {
        Method::GET | Method::HEAD => true,
        Method::DELETE => path.ends_with("/admin/tenants/{id}"),
        Method::PUT => path.ends_with("/admin/policies/{tenant_id}"),
        _ => false,
    };
    let query = request.uri().query().filter(|query| !query.is_empty() && !takes);
    match query.map(|query| url::form_urlencoded::parse(query.as_bytes()).next()) {
        None => next.run(request).await,
        Some(first) => {
            let name = first.map(|(name, _)| name.chars().take(100).collect::<String>()).unwrap_or_default();
            Problem::field(name, "this path takes no parameters in its URL; nothing was changed").into_response()
        }
    }
}
