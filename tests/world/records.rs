//! What is seen from outside of what was done: each request, whoever sent it and however it ended, is one record, and the metrics
//! tell of it.

use http::Method;
use serde_json::{Value, json};
use testkit::client::Request;
use testkit::upstream::Plain;

use crate::world::{World, until};

/// The value of a series, given as it is printed; 0 when there is none.
async fn metric(world: &World, series: &str) -> u64 {
    let reply = world.client("/").send(Request::new(Method::GET, String::new().into()).path("/metrics")).await.unwrap();
    let text = reply.text().await.unwrap();
    let line = text.lines().find(|line| line.strip_prefix(series).is_some_and(|rest| rest.starts_with(' ')));
    line.map_or(0, |line| line.rsplit(' ').next().unwrap().parse().unwrap())
}

/// An operation is recorded when its last byte is gone, which its client may see a moment before.
async fn until_metric(world: &World, series: &str, value: u64) {
    until(|| async move { (metric(world, series).await == value).then_some(()) }).await;
}

fn durations(method: &str, tenant: &str, server: &str, status: &str) -> String {
    format!(
        "mcp_request_duration_seconds_count{{tenant_id=\"{tenant}\",method=\"{method}\",server=\"{server}\",status=\"{status}\"}}"
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn every_request_of_the_rest_api_is_one_record_under_its_route() {
    let world = World::start().await;
    world.user("ada").await;
    until_metric(&world, &durations("POST /api/v1/users", "default", "", "success"), 1).await;

    for slug in ["none-1", "none-2"] {
        assert_eq!(world.rest(Method::GET, &format!("/servers/{slug}"), &Value::Null).await.0, 404);
    }
    until_metric(&world, &durations("GET /api/v1/servers/{slug}", "default", "", "error"), 2).await;
    until_metric(&world, "mcp_errors_total{tenant_id=\"default\",error_type=\"not_found\",context=\"client\"}", 2)
        .await;

    let stranger = world.client_of("/", "mcpg_wrong");
    let path = Request::new(Method::GET, String::new().into()).path("/api/v1/users");
    assert_eq!(stranger.send(path).await.unwrap().status, 401);
    until_metric(&world, &durations("GET /api/v1/users", "", "", "denied"), 1).await;

    // A path of the client's making is no label.
    for path in ["/api/v1/made-up", "/made-up/too"] {
        let reply = world.client("/").send(Request::new(Method::GET, String::new().into()).path(path)).await.unwrap();
        assert_eq!(reply.status, 404, "{path}");
    }
    until_metric(&world, &durations("GET none", "", "", "error"), 2).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_method_that_a_client_made_up_is_no_label() {
    let world = World::start().await;
    for made_up in ["ZZQ1", "ZZQ2"] {
        let request = Request::new(Method::from_bytes(made_up.as_bytes()).unwrap(), String::new().into());
        let reply = world.client_of("/", "mcpg_wrong").send(request.path("/api/v1/servers")).await.unwrap();
        assert_eq!(reply.status, 405);
    }
    until_metric(&world, &durations("other /api/v1/servers", "", "", "error"), 2).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_problem_names_the_request_as_its_header_does() {
    let world = World::start().await;
    for path in ["/api/v1/servers/none", "/api/v1/none", "/nothing"] {
        let reply = world.client("/").send(Request::new(Method::GET, String::new().into()).path(path)).await.unwrap();
        assert_eq!(reply.headers["content-type"], "application/problem+json", "{path}");
        let id = reply.headers["x-request-id"].to_str().unwrap().to_owned();
        let body: Value = serde_json::from_str(&reply.text().await.unwrap()).unwrap();
        assert_eq!(body["request_id"], id, "{path}: {body}");
    }
    let wrong = Request::new(Method::DELETE, String::new().into()).path("/api/v1/me").header("x-request-id", "mine-7");
    let reply = world.client("/").send(wrong).await.unwrap();
    assert_eq!((reply.status.as_u16(), reply.headers["allow"].to_str().unwrap()), (405, "GET,HEAD"));
    let body: Value = serde_json::from_str(&reply.text().await.unwrap()).unwrap();
    assert_eq!((&body["request_id"], &body["code"]), (&json!("mine-7"), &json!("METHOD_NOT_ALLOWED")));
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_is_not_let_in_is_recorded_too() {
    let world = World::start().await;
    for path in ["/mcp", "/mcp/it", "/sse"] {
        let stranger = world.client_of(path, "mcpg_wrong");
        let request = match path {
            "/sse" => Request::new(Method::GET, String::new().into()).header("accept", "text/event-stream"),
            _ => stranger.request("1", "tools/list", json!({})),
        };
        assert_eq!(stranger.send(request).await.unwrap().status, 401, "{path}");
    }
    until_metric(&world, &durations("POST", "", "", "denied"), 2).await;
    until_metric(&world, &durations("GET", "", "", "denied"), 1).await;
    let none = world.client("/mcp/none");
    assert_eq!(none.send(none.request("1", "tools/list", json!({}))).await.unwrap().status, 404);
    until_metric(&world, &durations("POST", "default", "", "error"), 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_authentication_is_counted_with_its_outcome() {
    let world = World::start().await;
    let events = |method: &str, tenant: &str, result: &str, reason: &str| {
        format!(
            "mcp_auth_events_total{{tenant_id=\"{tenant}\",method=\"{method}\",result=\"{result}\",reason=\"{reason}\"}}"
        )
    };
    let ada = json!({"username": "ada", "password": "correct horse battery"});
    assert_eq!(world.rest(Method::POST, "/users", &ada).await.0, 201);
    assert_eq!(world.rest(Method::POST, "/login", &ada).await.0, 200);
    let wrong = json!({"username": "ada", "password": "wrong horse battery"});
    assert_eq!(world.rest(Method::POST, "/login", &wrong).await.0, 401);
    assert_eq!(
        world
            .client_of("/", "mcpg_wrong")
            .send(Request::new(Method::GET, String::new().into()).path("/api/v1/me"))
            .await
            .unwrap()
            .status,
        401
    );

    until_metric(&world, &events("api_key", "default", "success", ""), 1).await;
    until_metric(&world, &events("api_key", "", "failure", "malformed"), 1).await;
    until_metric(&world, &events("login", "default", "success", ""), 1).await;
    until_metric(&world, &events("login", "", "failure", "wrong_password"), 1).await;
    let hour = time::OffsetDateTime::now_utc().hour();
    let logins =
        |hour| format!("mcp_user_logins_total{{tenant_id=\"default\",login_method=\"local\",hour=\"{hour:02}\"}}");
    // The hour may have begun a moment ago.
    let counted = metric(&world, &logins(hour)).await + metric(&world, &logins((hour + 23) % 24)).await;
    assert_eq!(counted, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_are_counted_by_server_tool_and_outcome() {
    let server = Plain::start().await.unwrap();
    let world = World::start().await;
    world.register("it", &server.url()).await;
    world.user("ada").await;
    let narrow = world.key("ada", json!(["it"]), json!(["it/other"])).await;
    let call = json!({"name": "it__echo", "arguments": {"message": "x"}});
    world.client("/mcp").call("tools/call", call.clone()).await.unwrap();
    let denied = world.client_of("/mcp/it", &narrow);
    let call = json!({"name": "echo", "arguments": {"message": "x"}});
    denied.send(denied.request("1", "tools/call", call)).await.unwrap();

    let calls = |result: &str| {
        format!("mcp_tool_calls_total{{tenant_id=\"default\",server=\"it\",tool=\"echo\",result=\"{result}\"}}")
    };
    until_metric(&world, &calls("success"), 1).await;
    until_metric(&world, &calls("denied"), 1).await;
    until_metric(&world, &durations("tools/call", "default", "it", "success"), 1).await;
    let used = "mcp_tool_usage_duration_seconds_count{tenant_id=\"default\",server=\"it\",tool=\"echo\"}";
    until_metric(&world, used, 2).await;
    until_metric(&world, "mcp_gateway_overhead_seconds_count{tenant_id=\"default\",method=\"tools/call\"}", 2).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn each_tool_is_measured_apart_only_for_a_tenant_that_has_it_so() {
    let server = Plain::start().await.unwrap();
    let world = World::start().await;
    world.register("it", &server.url()).await;
    let used = |tool: &str| {
        format!("mcp_tool_usage_duration_seconds_count{{tenant_id=\"default\",server=\"it\",tool=\"{tool}\"}}")
    };
    for (apart, each, all) in [(true, 1, 0), (false, 1, 1), (true, 2, 1)] {
        let change = json!({"features": {"enhanced_monitoring": apart}});
        let (status, said) = world.rest(Method::PATCH, "/admin/tenants/default", &change).await;
        assert_eq!(status, 200, "{said}");
        let call = json!({"name": "echo", "arguments": {"message": "x"}});
        world.client("/mcp/it").call("tools/call", call).await.unwrap();
        until_metric(&world, &used("echo"), each).await;
        until_metric(&world, &used(""), all).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_let_in_but_may_not_is_told_so_by_the_challenge() {
    let world = World::start().await;
    for (name, role, scope) in [("ada", "user", false), ("bob", "tenant_admin", true)] {
        let (status, user) = world.rest(Method::POST, "/users", &json!({"username": name, "role": role})).await;
        assert_eq!(status, 201, "{user}");
        let order = json!({"name": "a key", "username": name, "role": role, "servers": [], "admin": false});
        let (status, made) = world.rest(Method::POST, "/keys", &order).await;
        assert_eq!(status, 201, "{made}");
        let key = made["key"].as_str().unwrap();
        let request = Request::new(Method::GET, String::new().into()).path("/api/v1/users");
        let reply = world.client_of("/", key).send(request).await.unwrap();
        assert_eq!(reply.status, 403);
        let challenge = reply.headers.get("www-authenticate").map_or("", |value| value.to_str().unwrap());
        // Only to whom another scope would open it.
        assert_eq!(challenge.contains("error=\"insufficient_scope\", scope=\"admin\""), scope, "{challenge}");
    }
}
