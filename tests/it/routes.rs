//! Every route and method, and what it answers to nobody, to a user, to an owner of servers and to an administrator. The
//! routes are the router's own: a new one fails here until it is answered.

use std::collections::BTreeSet;

use axum::Router;
use axum::response::Response;
use http::{HeaderValue, StatusCode};
use http_body_util::BodyExt as _;
use mcp_registry_gateway::router;
use serde_json::{Value, json};
use tower::ServiceExt as _;

use crate::store_databases::Database;
use crate::store_rest::{World, request, server};

/// A call, its body, and the status for: nobody, a user, an owner of servers, an administrator.
pub type Row = (&'static str, Value, [u16; 4]);

/// The server `files` is the administrator's, visible to everybody and out of reach.
pub fn rows() -> Vec<Row> {
    let hello = || {
        let params =
            json!({"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "t", "version": "1"}});
        json!({"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": params})
    };
    let open = [200; 4];
    let signed_in = [401, 200, 200, 200];
    vec![
        ("GET /health", Value::Null, open),
        ("GET /health/live", Value::Null, open),
        ("GET /health/ready", Value::Null, open),
        // Nobody here is known to be on the machine.
        ("GET /metrics", Value::Null, [401, 403, 403, 200]),
        ("GET /.well-known/oauth-protected-resource", Value::Null, open),
        ("GET /.well-known/oauth-protected-resource/{*path}", Value::Null, open),
        ("GET /.well-known/oauth-authorization-server", Value::Null, open),
        ("GET /.well-known/oauth-authorization-server/{*path}", Value::Null, [404; 4]),
        ("GET /.well-known/openid-configuration", Value::Null, open),
        ("GET /.well-known/openid-configuration/{*path}", Value::Null, [404; 4]),
        ("GET /oauth/keys", Value::Null, open),
        ("POST /oauth/token", Value::Null, [400; 4]),
        ("POST /oauth/revoke", Value::Null, [400; 4]),
        ("POST /oauth/register", json!({"redirect_uris": ["https://a.example/cb"]}), [201; 4]),
        ("GET /mcp", Value::Null, [401, 400, 400, 400]),
        ("POST /mcp", hello(), signed_in),
        ("DELETE /mcp", Value::Null, [401, 400, 400, 400]),
        ("GET /mcp/{server}", Value::Null, [401, 400, 400, 400]),
        ("POST /mcp/{server}", hello(), signed_in),
        ("DELETE /mcp/{server}", Value::Null, [401, 400, 400, 400]),
        ("GET /sse", Value::Null, signed_in),
        ("GET /sse/{server}", Value::Null, signed_in),
        ("POST /messages", hello(), [401, 404, 404, 404]),
        // Pages: they know browsers by their cookies, and no key opens anything there.
        ("GET /oauth/authorize", Value::Null, [400; 4]),
        ("POST /oauth/consent", Value::Null, [400; 4]),
        ("GET /oauth/callback/{provider}", Value::Null, [404; 4]),
        ("GET /oauth/sign-in", Value::Null, open),
        ("POST /oauth/sign-in", Value::Null, [400; 4]),
        ("POST /oauth/sign-out", Value::Null, [400; 4]),
        ("GET /oauth/assets/{file}", Value::Null, [404; 4]),
        ("GET /access", Value::Null, [303; 4]),
        ("POST /access/revoke", Value::Null, [400; 4]),
        ("GET /connections", Value::Null, [303; 4]),
        ("GET /connections/{server}", Value::Null, [303; 4]),
        ("POST /connections/{server}", Value::Null, [400; 4]),
        ("GET /connections/callback/{key}", Value::Null, [403; 4]),
        ("GET /connections/client/{key}", Value::Null, [404; 4]),
        ("GET /api/openapi.json", Value::Null, open),
        ("GET /api/docs", Value::Null, open),
        ("GET /api/v1/servers", Value::Null, signed_in),
        ("POST /api/v1/servers", server("new"), [401, 403, 201, 409]),
        ("GET /api/v1/servers/{slug}", Value::Null, signed_in),
        ("PUT /api/v1/servers/{slug}", server("files"), [401, 403, 403, 200]),
        ("PATCH /api/v1/servers/{slug}", json!({"title": "x"}), [401, 403, 403, 200]),
        ("DELETE /api/v1/servers/{slug}", Value::Null, [401, 403, 403, 204]),
        ("POST /api/v1/servers/{slug}/enable", Value::Null, [401, 403, 403, 200]),
        ("POST /api/v1/servers/{slug}/disable", Value::Null, [401, 403, 403, 200]),
        ("POST /api/v1/servers/{slug}/refresh", Value::Null, [401, 403, 403, 200]),
        ("GET /api/v1/servers/{slug}/tools", Value::Null, signed_in),
        ("POST /api/v1/apply", json!({"servers": [server("new")]}), [401, 403, 200, 200]),
        ("GET /api/v1/keys", Value::Null, signed_in),
        ("POST /api/v1/keys", json!({"name": "x", "servers": []}), [401, 403, 201, 201]),
        ("DELETE /api/v1/keys/{id}", Value::Null, [401, 403, 404, 404]),
        ("GET /api/v1/users", Value::Null, [401, 403, 403, 200]),
        ("POST /api/v1/users", json!({"username": "new"}), [401, 403, 403, 201]),
        ("GET /api/v1/users/{id}", Value::Null, [401, 403, 403, 200]),
        ("PATCH /api/v1/users/{id}", json!({"role": "user"}), [401, 403, 403, 200]),
        ("DELETE /api/v1/users/{id}", Value::Null, [401, 403, 403, 204]),
        ("POST /api/v1/users/{id}/password", json!({"password": "a long pass phrase"}), [401, 403, 403, 204]),
        ("GET /api/v1/oauth-clients", Value::Null, [401, 403, 403, 200]),
        ("POST /api/v1/oauth-clients", service("new"), [401, 403, 403, 201]),
        ("GET /api/v1/oauth-clients/{id}", Value::Null, [401, 403, 403, 200]),
        ("PATCH /api/v1/oauth-clients/{id}", json!({"name": "x"}), [401, 403, 403, 200]),
        ("DELETE /api/v1/oauth-clients/{id}", Value::Null, [401, 403, 403, 204]),
        ("POST /api/v1/oauth-clients/{id}/secrets", Value::Null, [401, 403, 403, 201]),
        ("DELETE /api/v1/oauth-clients/{id}/secrets/{hint}", Value::Null, [401, 403, 403, 404]),
        ("GET /api/v1/trusted-issuers", Value::Null, [401, 403, 403, 200]),
        ("POST /api/v1/trusted-issuers", issuer("new"), [401, 403, 403, 201]),
        ("GET /api/v1/trusted-issuers/{name}", Value::Null, [401, 403, 403, 200]),
        ("DELETE /api/v1/trusted-issuers/{name}", Value::Null, [401, 403, 403, 204]),
        ("GET /api/v1/sign-ins", Value::Null, [401, 403, 403, 200]),
        ("GET /api/v1/sign-ins/{id}", Value::Null, [401, 403, 403, 404]),
        ("GET /api/v1/admin/tenants", Value::Null, [401, 403, 403, 200]),
        ("POST /api/v1/admin/tenants", json!({"tenant_id": "acme"}), [401, 403, 403, 201]),
        ("GET /api/v1/admin/tenants/{id}", Value::Null, [401, 403, 403, 200]),
        ("PATCH /api/v1/admin/tenants/{id}", json!({"display_name": "x"}), [401, 403, 403, 200]),
        ("DELETE /api/v1/admin/tenants/{id}", Value::Null, [401, 403, 403, 204]),
        ("GET /api/v1/admin/tenant-limits/{tenant_id}", Value::Null, [401, 403, 403, 200]),
        ("POST /api/v1/admin/tenant-limits/{tenant_id}", json!({"base_rpm": 60}), [401, 403, 403, 200]),
        ("GET /api/v1/admin/tenant-fairness/{tenant_id}", Value::Null, [401, 403, 403, 200]),
        ("GET /api/v1/admin/rate-limit-analytics", Value::Null, [401, 403, 403, 200]),
        ("GET /api/v1/admin/diagnostics/rate-limits", Value::Null, [401, 403, 403, 200]),
        ("GET /api/v1/admin/token-refresh-status", Value::Null, [401, 403, 403, 200]),
        ("GET /api/v1/admin/user-token-status/{user_id}", Value::Null, [401, 403, 403, 200]),
        ("POST /api/v1/admin/force-token-refresh/{user_id}", Value::Null, [401, 403, 403, 409]),
        ("GET /api/v1/admin/connection-pool-status", Value::Null, [401, 403, 403, 200]),
        ("GET /api/v1/admin/diagnostics/resources", Value::Null, [401, 403, 403, 200]),
        ("GET /api/v1/admin/diagnostics/network", Value::Null, [401, 403, 403, 200]),
        ("GET /api/v1/admin/multi-user-status", Value::Null, [401, 403, 403, 200]),
        ("GET /api/v1/admin/tenant-analytics/{tenant_id}", Value::Null, [401, 403, 403, 200]),
        ("GET /api/v1/admin/user-activity/{user_id}", Value::Null, [401, 403, 403, 200]),
        ("GET /api/v1/admin/capacity-status", Value::Null, [401, 403, 403, 200]),
        ("GET /api/v1/admin/daily-health-report", Value::Null, [401, 403, 403, 200]),
        ("GET /api/v1/admin/diagnostics/auth-failures", Value::Null, [401, 403, 403, 200]),
        ("GET /api/v1/admin/diagnostics/memory", Value::Null, [401, 403, 403, 200]),
        ("GET /api/v1/admin/audit", Value::Null, [401, 403, 403, 200]),
        ("GET /api/v1/admin/audit/chains", Value::Null, [401, 403, 403, 200]),
        ("GET /api/v1/admin/audit/{id}", Value::Null, [401, 403, 403, 404]),
        ("GET /api/v1/admin/bans", Value::Null, [401, 403, 403, 200]),
        ("POST /api/v1/admin/bans", json!({"address": "192.0.2.1", "note": "x"}), [401, 403, 403, 201]),
        ("GET /api/v1/admin/bans/{address}", Value::Null, [401, 403, 403, 404]),
        ("POST /api/v1/admin/bans/{address}/lift", json!({"reason": "wrong"}), [401, 403, 403, 404]),
        ("GET /api/v1/admin/sealing-keys", Value::Null, [401, 403, 403, 200]),
        ("GET /api/v1/admin/sealing-keys/{tenant_id}", Value::Null, [401, 403, 403, 200]),
        ("POST /api/v1/admin/rotate-sealing-keys", json!({"what": "data"}), [401, 403, 403, 202]),
        ("GET /api/v1/admin/policies/{tenant_id}", Value::Null, [401, 403, 403, 200]),
        ("PUT /api/v1/admin/policies/{tenant_id}", rules(), [401, 403, 403, 200]),
        ("GET /api/v1/admin/policies/{tenant_id}/versions", Value::Null, [401, 403, 403, 200]),
        ("GET /api/v1/admin/policies/{tenant_id}/versions/{version}", Value::Null, [401, 403, 403, 200]),
        (
            "POST /api/v1/admin/policies/{tenant_id}/explain",
            json!({"user": "target", "server": "files"}),
            [401, 403, 403, 200],
        ),
        ("POST /api/v1/admin/policies/{tenant_id}/dry-run", rules(), [401, 403, 403, 200]),
        ("POST /api/v1/login", json!({"username": "x", "password": "y"}), [401; 4]),
        ("POST /api/v1/logout", Value::Null, [401, 204, 204, 204]),
        ("GET /api/v1/me", Value::Null, signed_in),
        ("GET /api/v1/discovery/tools", Value::Null, signed_in),
        ("GET /api/v1/discovery/resources", Value::Null, signed_in),
    ]
}

fn rules() -> Value {
    json!({"text": "permit(principal, action, resource);"})
}

pub fn service(id: &str) -> Value {
    json!({"client_id": id, "name": id, "kind": "service"})
}

pub fn issuer(name: &str) -> Value {
    json!({"name": name, "issuer": format!("https://{name}.example"), "profiles": ["id_jag"], "role": "user"})
}

/// Something that is there, in place of what a path leaves open.
pub fn filled(path: &str) -> String {
    let id = match path {
        path if path.contains("/users/") || path.contains("{user_id}") => "target",
        path if path.contains("/oauth-clients/") => "bot",
        path if path.contains("/tenants/") => "other",
        _ => "00000000-0000-7000-8000-000000000000",
    };
    let tenant = if path.contains("/policies/") { "default" } else { "other" };
    path.replace("{slug}", "files")
        .replace("{server}", "files")
        .replace("{id}", id)
        .replace("{user_id}", id)
        .replace("{tenant_id}", tenant)
        .replace("{version}", "0")
        .replace("{hint}", "none")
        .replace("{name}", "corp")
        .replace("{*path}", "mcp")
        .replace("{provider}", "none")
        .replace("{key}", "none")
        .replace("{file}", "none")
        .replace("{address}", "192.0.2.9")
}

pub async fn send(router: &Router, method: &str, path: &str, key: &str, body: &Value) -> Response {
    let mut request = request(method, path, key, body);
    request.headers_mut().insert("host", HeaderValue::from_static("localhost"));
    request.headers_mut().insert("accept", HeaderValue::from_static("application/json, text/event-stream"));
    router.clone().oneshot(request).await.unwrap()
}

/// What the router takes at a path.
async fn methods(router: &Router, path: &str) -> Vec<String> {
    let answer = send(router, "PROBE", path, "", &Value::Null).await;
    assert_eq!(answer.status(), StatusCode::METHOD_NOT_ALLOWED, "{path}");
    let allow = answer.headers()["allow"].to_str().unwrap();
    // A HEAD is a GET whose body nobody sees.
    let methods = allow.split(',').map(str::trim).filter(|method| !method.is_empty() && *method != "HEAD");
    methods.map(str::to_owned).collect()
}

#[tokio::test]
async fn every_route_answers_each_role_as_it_should() {
    let rows = rows();
    let database = Database::sqlite();
    let router = router::routes(World::open(&database).await.app);
    let mut there = BTreeSet::new();
    for path in router::paths() {
        there.extend(methods(&router, &filled(&path)).await.iter().map(|method| format!("{method} {path}")));
    }
    let answered: BTreeSet<String> = rows.iter().map(|(call, ..)| (*call).to_owned()).collect();
    assert_eq!(there, answered, "each route of the router has a row here, and each row a route");

    let mut wrong = Vec::new();
    for (call, body, expected) in rows {
        let (method, path) = call.split_once(' ').unwrap();
        let database = Database::sqlite();
        let world = World::open(&database).await;
        world.call("POST /servers", server("files")).await.expect(201);
        world.call("POST /users", json!({"username": "target"})).await.expect(201);
        world.call("POST /oauth-clients", service("bot")).await.expect(201);
        world.call("POST /trusted-issuers", issuer("corp")).await.expect(201);
        world.call("POST /admin/tenants", json!({"tenant_id": "other"})).await.expect(201);
        let all = json!({"servers": "*"});
        let user = world.person("ada", "user", all.clone()).await;
        let owner = world.person("olga", "server_owner", all).await;
        let router = router::routes(world.app.clone());
        let mut got = [0; 4];
        for (status, key) in got.iter_mut().zip(["", &user, &owner, &world.admin]) {
            *status = send(&router, method, &filled(path), key, &body).await.status().as_u16();
        }
        if got != expected {
            wrong.push(format!("{call}: {got:?} instead of {expected:?}"));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[tokio::test]
async fn a_path_that_is_no_text_names_nothing_and_is_refused_in_the_form_of_its_surface() {
    let database = Database::sqlite();
    let world = World::open(&database).await;
    let router = router::routes(world.app.clone());
    let mut tried = 0;
    for path in router::paths().into_iter().filter(|path| path.contains('{')) {
        let (head, rest) = path.split_once('{').unwrap();
        let broken = format!("{head}%ff{}", rest.split_once('}').unwrap().1);
        // Metadata and pages are for everybody: nobody is asked who calls.
        if ["/oauth/", "/connections/", "/.well-known/"].iter().any(|open| path.starts_with(open)) {
            assert_eq!(send(&router, "GET", &broken, "", &Value::Null).await.status().as_u16(), 404, "{broken}");
            continue;
        }
        let (kind, member) = if path.starts_with("/api/") {
            ("application/problem+json", "detail")
        } else {
            ("application/json", "error")
        };
        let body = json!({"jsonrpc": "2.0", "id": 1, "method": "ping"});
        for method in methods(&router, &broken).await {
            for (key, status) in [("", 401), (world.admin.as_str(), 404)] {
                let answer = send(&router, &method, &broken, key, &body).await;
                assert_eq!(answer.status().as_u16(), status, "{method} {broken}");
                assert_eq!(answer.headers()["content-type"], kind, "{method} {broken}");
                let text = answer.into_body().collect().await.unwrap().to_bytes();
                let told: Value = serde_json::from_slice(&text).unwrap();
                assert!(!told[member].is_null(), "{method} {broken}: {told}");
                tried += 1;
            }
        }
    }
    assert!(tried >= 30, "{tried}");
    let twice = send(&router, "POST", "/messages?channel=a&channel=b", &world.admin, &json!({})).await;
    assert_eq!(
        (twice.status().as_u16(), &twice.headers()["content-type"]),
        (404, &HeaderValue::from_static("application/json"))
    );
}
