//! What a running gateway counts of what is really called, from the answer to the report.

use http::Method;
use serde_json::{Value, json};
use testkit::client::Request;
use testkit::upstream::Plain;

use crate::world::{World, until};

async fn report(world: &World, path: &str) -> Value {
    let (status, told) = world.rest(Method::GET, &format!("/admin/{path}"), &Value::Null).await;
    assert_eq!(status, 200, "{told}");
    told
}

/// The calls of a tool, once the report tells of so many.
async fn until_calls(world: &World, tool: &str, calls: i64) -> Value {
    until(|| async move {
        let told = report(world, "tenant-analytics/default").await;
        let tools = told["top_tools"].as_array().unwrap();
        tools.iter().find(|one| one["tool"] == tool && one["calls"] == calls).cloned()
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_errors_and_sign_ins_are_told_as_often_as_they_were() {
    let server = Plain::start().await.unwrap();
    let world = World::start().await;
    world.register("it", &server.url()).await;
    let ada = json!({"username": "ada", "password": "correct horse battery"});
    assert_eq!(world.rest(Method::POST, "/users", &ada).await.0, 201);
    assert_eq!(world.rest(Method::POST, "/login", &ada).await.0, 200);
    let wrong = json!({"username": "ada", "password": "wrong horse battery"});
    assert_eq!(world.rest(Method::POST, "/login", &wrong).await.0, 401);
    let key = world.key("ada", json!("*"), json!("*")).await;
    let client = world.client_of("/mcp/it", &key);
    for _ in 0..5 {
        let call = json!({"name": "echo", "arguments": {"message": "x"}});
        client.call("tools/call", call).await.unwrap();
    }
    let stranger = world.client_of("/mcp/it", "mcpg_wrong");
    assert_eq!(stranger.send(stranger.request("1", "tools/list", json!({}))).await.unwrap().status, 401);

    let echo = until_calls(&world, "echo", 5).await;
    assert_eq!((&echo["server"], &echo["error_rate"]), (&json!("it"), &json!(0.0)), "{echo}");
    assert!(echo["mean"].as_f64().unwrap() > 0.0 && echo["p95"].as_f64().unwrap() > 0.0, "{echo}");

    let me = report(&world, "user-activity/ada").await;
    assert_eq!((&me["tool_calls"], &me["username"]), (&json!(5), &json!("ada")), "{me}");
    assert_eq!(me["tools"], json!([{"server": "it", "tool": "echo", "calls": 5}]), "{me}");
    assert_eq!(me["behavior_patterns"], json!({"repetitive_usage": 3}), "{me}");
    let logins =
        |told: &Value| told["logins_by_hour"].as_array().unwrap().iter().map(|n| n.as_i64().unwrap()).sum::<i64>();
    assert_eq!(logins(&me), 1, "{me}");
    let all = report(&world, "tenant-analytics/default").await;
    assert_eq!(logins(&all), 1, "{all}");
    assert_eq!(all["active_users"], 2, "ada and the administrator: {all}");

    let failures = until(|| async {
        let told = report(&world, "diagnostics/auth-failures").await;
        (told["invalid_token_errors"] == 1).then_some(told)
    })
    .await;
    let codes: Vec<&str> =
        failures["by_reason"].as_array().unwrap().iter().map(|one| one["code"].as_str().unwrap()).collect();
    assert_eq!(codes, ["malformed", "wrong_password"], "{failures}");
    let status = report(&world, "multi-user-status").await;
    assert_eq!(status["tenants"][0]["active_users"], 2, "{status}");

    let metrics =
        world.client("/").send(Request::new(Method::GET, String::new().into()).path("/metrics")).await.unwrap();
    let text = metrics.text().await.unwrap();
    for line in [
        "mcp_user_behavior_patterns_total{tenant_id=\"default\",pattern=\"repetitive_usage\"} 3",
        "mcp_tenant_activity_total{tenant_id=\"default\",activity=\"tool_call\",resource_type=\"tool\"} 5",
        "mcp_tenant_activity_total{tenant_id=\"default\",activity=\"login\",resource_type=\"session\"} 1",
    ] {
        assert!(text.contains(line), "{line} is missing");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_asks_for_another_tenant_is_counted_as_refused() {
    let world = World::start().await;
    let (status, made) = world.rest(Method::POST, "/admin/tenants", &json!({"tenant_id": "acme"})).await;
    assert_eq!(status, 201, "{made}");
    let eve = world.person("eve", "tenant_admin").await;
    let eve = world.client_of("/", &eve);
    for path in ["/api/v1/admin/tenants/acme", "/api/v1/admin/tenant-analytics/acme"] {
        let reply = eve.send(Request::new(Method::GET, String::new().into()).path(path)).await.unwrap();
        assert!([403, 404].contains(&reply.status.as_u16()), "{path}: {}", reply.status);
    }
    until(|| async {
        let told = report(&world, "daily-health-report").await;
        let kpis = told["kpis"].as_array().unwrap();
        let isolation = kpis.iter().find(|kpi| kpi["name"] == "tenant_isolation").unwrap();
        // The day may have begun a moment ago.
        let days = [&isolation["today"], &isolation["yesterday"]];
        days.iter().any(|day| day["value"] == 1.0 && day["met"] == true).then_some(())
    })
    .await;
}
