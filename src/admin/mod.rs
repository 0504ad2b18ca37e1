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
pub mod reference;
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
use axum::middleware::from_fn;

use crate::access::Role;
use crate::app::App;
use crate::web::condition::unchanged;
use crate::web::describe::{Route, at, delete, get, patch, post, put};
use crate::web::problem::{no_such_method, no_such_path};

/// Where the surface is.
pub const BASE: &str = "/api/v1";

/// Every path of the surface below [`BASE`], with what answers there: heading, path, and for each call its name, what it does and its
/// handler, from whose types the rest of its description comes.
pub fn table() -> Vec<Route> {
    vec![
        at(
            "Servers",
            "/servers",
            [
                get("listServers", "The servers that the caller may see", servers::list),
                post("createServer", "Registers a server", servers::create).needs(Role::ServerOwner),
            ],
        ),
        at(
            "Servers",
            "/servers/{slug}",
            [
                get("getServer", "One server; where and how it is reached, only for who may change it", servers::read),
                put("replaceServer", "Describes a server anew", servers::replace).needs(Role::ServerOwner),
                patch("patchServer", "Changes some of a description (RFC 7396)", servers::patch)
                    .needs(Role::ServerOwner),
                delete("deleteServer", "Removes a server", servers::delete).needs(Role::ServerOwner),
            ],
        ),
        at(
            "Servers",
            "/servers/{slug}/enable",
            [post("enableServer", "Lets calls through", servers::enable).needs(Role::ServerOwner)],
        ),
        at(
            "Servers",
            "/servers/{slug}/disable",
            [post("disableServer", "Lets no more calls through", servers::disable).needs(Role::ServerOwner)],
        ),
        at(
            "Servers",
            "/servers/{slug}/refresh",
            [post("refreshServer", "Asks a server anew what it offers", servers::refresh).needs(Role::ServerOwner)],
        ),
        at(
            "Servers",
            "/servers/{slug}/tools",
            [get(
                "listServerTools",
                "The tools of a server that the caller may call, as it describes them",
                servers::tools,
            )],
        ),
        at(
            "Servers",
            "/apply",
            [post("apply", "Brings servers and tenants to what lists say, all of it or nothing", apply::apply)
                .needs(Role::ServerOwner)],
        ),
        at(
            "Keys",
            "/keys",
            [
                get("listKeys", "The caller's keys, or the tenant's", keys::list),
                post("createKey", "Makes a key, shown this once; takes the scope `admin`", keys::create),
            ],
        ),
        at("Keys", "/keys/{id}", [delete("revokeKey", "Ends a key", keys::revoke)]),
        at(
            "Users",
            "/users",
            [get("listUsers", "Accounts", users::list), post("createUser", "Makes an account", users::create)],
        ),
        at(
            "Users",
            "/users/{id}",
            [
                get("getUser", "One account, by id or name; another's takes the role `tenant_admin`", users::read),
                patch("patchUser", "Changes an account; another's takes the role `tenant_admin`", users::patch)
                    .may_fail(&[429]),
                delete("deleteUser", "Removes an account with its keys", users::delete),
            ],
        ),
        at(
            "Users",
            "/users/{id}/password",
            [post("setPassword", "Sets a password; another's takes the role `tenant_admin`", users::password)
                .may_fail(&[429])],
        ),
        at(
            "OAuth clients",
            "/oauth-clients",
            [
                get("listClients", "Registered clients", clients::list),
                post("createClient", "Registers a client; its secret is shown this once", clients::create),
            ],
        ),
        at(
            "OAuth clients",
            "/oauth-clients/{id}",
            [
                get("getClient", "One client", clients::read),
                patch("patchClient", "Changes a client", clients::patch),
                delete("deleteClient", "Removes a client and ends what was granted to it", clients::delete),
            ],
        ),
        at(
            "OAuth clients",
            "/oauth-clients/{id}/secrets",
            [post("addClientSecret", "Makes one more secret, shown this once", clients::add_secret)],
        ),
        at(
            "OAuth clients",
            "/oauth-clients/{id}/secrets/{hint}",
            [delete("removeClientSecret", "Ends a secret, by its first characters", clients::remove_secret)],
        ),
        at(
            "Trusted issuers",
            "/trusted-issuers",
            [
                get("listTrustedIssuers", "Issuers whose assertions are taken", trusted_issuers::list),
                post("createTrustedIssuer", "Trusts an issuer", trusted_issuers::create),
            ],
        ),
        at(
            "Trusted issuers",
            "/trusted-issuers/{name}",
            [
                get("getTrustedIssuer", "One issuer", trusted_issuers::read),
                delete("deleteTrustedIssuer", "Trusts an issuer no longer", trusted_issuers::delete),
            ],
        ),
        at("Sign-ins", "/sign-ins", [get("listSignIns", "Attempts to sign in, the newest first", sign_ins::list)]),
        at("Sign-ins", "/sign-ins/{id}", [get("getSignIn", "One attempt, step by step", sign_ins::read)]),
        at(
            "Tenants",
            "/admin/tenants",
            [
                get("listTenants", "Tenants: all of them, or one's own", tenants::list),
                post("createTenant", "Makes a tenant", tenants::create).needs(Role::Admin),
            ],
        ),
        at(
            "Tenants",
            "/admin/tenants/{id}",
            [
                get("getTenant", "One tenant", tenants::read),
                patch(
                    "patchTenant",
                    "Changes a tenant; its own administrators only its name, guests and roles",
                    tenants::patch,
                ),
                delete("deleteTenant", "Suspends a tenant, or erases it with all that is its own", tenants::delete)
                    .needs(Role::Admin),
            ],
        ),
        at(
            "Tenants",
            "/admin/tenant-limits/{tenant_id}",
            [
                get("getTenantLimits", "How much a tenant may call", tenant_limits::read),
                post("setTenantLimits", "Changes it, on every replica within a second", tenant_limits::set)
                    .needs(Role::Admin),
            ],
        ),
        at(
            "Access rules",
            "/admin/policies/{tenant_id}",
            [
                get("getRules", "The access rules in force", policies::read),
                put("replaceRules", "Puts other rules in force, or only checks them", policies::replace),
            ],
        ),
        at(
            "Access rules",
            "/admin/policies/{tenant_id}/versions",
            [get("listRulesVersions", "Versions, the newest first", policies::versions)],
        ),
        at(
            "Access rules",
            "/admin/policies/{tenant_id}/versions/{version}",
            [get("getRulesVersion", "One version", policies::version)],
        ),
        at(
            "Access rules",
            "/admin/policies/{tenant_id}/explain",
            [post("explainRules", "What the rules decide of one question, and why", policies::explain)],
        ),
        at(
            "Access rules",
            "/admin/policies/{tenant_id}/dry-run",
            [post("tryRules", "What other rules would have decided of what was called lately", policies::dry_run)],
        ),
        at(
            "Bans",
            "/admin/bans",
            [
                get("listBans", "Addresses and networks that are banned", bans::list).needs(Role::Admin),
                post("createBan", "Bans an address or a network", bans::create).needs(Role::Admin),
            ],
        ),
        at(
            "Bans",
            "/admin/bans/{address}",
            [get("getBan", "The last ban of an address", bans::read).needs(Role::Admin)],
        ),
        at("Bans", "/admin/bans/{address}/lift", [post("liftBan", "Takes a ban back", bans::lift).needs(Role::Admin)]),
        at(
            "Sealing keys",
            "/admin/sealing-keys",
            [get("getSealingKeys", "The keys that seal secrets, by name", sealing_keys::read).needs(Role::Admin)],
        ),
        at(
            "Sealing keys",
            "/admin/sealing-keys/{tenant_id}",
            [get("getTenantSealingKeys", "Those of a tenant", sealing_keys::read_tenant)],
        ),
        at(
            "Sealing keys",
            "/admin/rotate-sealing-keys",
            [post("rotateSealingKeys", "Makes new keys, or seals anew under the newest", sealing_keys::rotate)
                .needs(Role::Admin)
                .may_fail(&[404])],
        ),
        at(
            "Reports",
            "/admin/tenant-fairness/{tenant_id}",
            [get("getTenantFairness", "A tenant's share, and what it had of it", reports::fairness::read)],
        ),
        at(
            "Reports",
            "/admin/rate-limit-analytics",
            [get("getRateLimitAnalytics", "How fair limits were, and what they refused", reports::limits::analytics)
                .needs(Role::Admin)],
        ),
        at(
            "Reports",
            "/admin/diagnostics/rate-limits",
            [get("diagnoseRateLimits", "What limits say, and what to do", reports::limits::diagnostics)
                .needs(Role::Admin)],
        ),
        at(
            "Reports",
            "/admin/token-refresh-status",
            [get("getTokenRefreshStatus", "How well provider tokens are kept fresh", reports::tokens::status)],
        ),
        at(
            "Reports",
            "/admin/user-token-status/{user_id}",
            [get("getUserTokenStatus", "How one account's provider tokens stand", reports::tokens::of_user)],
        ),
        at(
            "Reports",
            "/admin/force-token-refresh/{user_id}",
            [post("forceTokenRefresh", "Refreshes them now", reports::tokens::force).may_fail(&[424])],
        ),
        at(
            "Reports",
            "/admin/connection-pool-status",
            [get("getConnectionPoolStatus", "Places and connections of every replica", reports::pools::read)],
        ),
        at(
            "Reports",
            "/admin/diagnostics/resources",
            [get("diagnoseResources", "What pools and database say, and what to do", reports::resources::read)],
        ),
        at(
            "Reports",
            "/admin/diagnostics/network",
            [get("diagnoseNetwork", "How fast connections come about", reports::network::read)],
        ),
        at(
            "Reports",
            "/admin/multi-user-status",
            [get("getMultiUserStatus", "Who is there, and what of the gateway is used", reports::status::read)],
        ),
        at(
            "Reports",
            "/admin/tenant-analytics/{tenant_id}",
            [get("getTenantAnalytics", "What a tenant did, and how well it went", reports::tenant::read)],
        ),
        at(
            "Reports",
            "/admin/user-activity/{user_id}",
            [get("getUserActivity", "What one account did", reports::user::read)],
        ),
        at(
            "Reports",
            "/admin/capacity-status",
            [get("getCapacityStatus", "What is used up first, and when", reports::capacity::read).needs(Role::Admin)],
        ),
        at(
            "Reports",
            "/admin/daily-health-report",
            [get("getDailyHealthReport", "The key figures of yesterday and today", reports::daily::read)
                .needs(Role::Admin)],
        ),
        at(
            "Reports",
            "/admin/diagnostics/auth-failures",
            [get("diagnoseAuthFailures", "Why people and programs were not let in", reports::auth_failures::read)],
        ),
        at(
            "Reports",
            "/admin/diagnostics/memory",
            [get("diagnoseMemory", "What is held in memory", reports::memory::read).needs(Role::Admin)],
        ),
        at(
            "Audit",
            "/admin/audit",
            [get("listAuditRecords", "Records of what was done, the newest first", audit::list).may_fail(&[404])],
        ),
        at("Audit", "/admin/audit/chains", [get("listAuditChains", "How far each chain of records is", audit::chains)]),
        at("Audit", "/admin/audit/{id}", [get("getAuditRecord", "One record", audit::read)]),
        at(
            "Session",
            "/login",
            [post("login", "A key of hours for name and password", session::login).may_fail(&[401, 429])],
        ),
        at("Session", "/logout", [post("logout", "Ends the key or session that is shown", session::logout)]),
        at("Session", "/me", [get("getMe", "Who the caller is", session::me)]),
        at("Discovery", "/discovery/tools", [get("findTools", "Which server has which tools", discovery::tools)]),
        at(
            "Discovery",
            "/discovery/resources",
            [get("findResources", "Which server has which resources", discovery::resources)],
        ),
    ]
}

/// The surface under its path, and what is said of it.
pub fn router(app: &App) -> Router<App> {
    let routes = table().into_iter().fold(Router::new(), |router, route| router.route(route.path, route.answers(app)));
    let routes = routes.route_layer(from_fn(unchanged));
    let surface = Router::new().nest(BASE, routes.fallback(no_such_path).method_not_allowed_fallback(no_such_method));
    reference::table().into_iter().fold(surface, |router, (path, answers)| router.route(path, answers))
}
