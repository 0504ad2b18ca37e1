//! What a server and its tools take, of all who call them, and how who comes after that is told.

use http::Method;
use mcp_registry_gateway::id::TenantId;
use serde_json::{Value, json};
use testkit::client::{Client, Outcome, Request};
use testkit::jsonrpc::MODERN;
use testkit::upstream::{Eras, LegacySse, Plain};

use crate::world::{World, shake, within};

/// A server `it` whose tools are `look` and `find`, of which so much may be asked.
async fn limited(world: &World, limits: &Value) -> Plain {
    let server = Plain::with(Eras::Dual).await.unwrap();
    server.set(|settings| {
        let tool = |name| json!({"name": name, "inputSchema": {"type": "object"}});
        settings.tools = vec![tool("look"), tool("find")];
    });
    for tool in ["look", "find"] {
        server.script(tool, |_| testkit::upstream::Answer::text("done"));
    }
    let spec = json!({"slug": "it", "replicas": [{"url": server.url()}], "rate_limits": limits});
    let made = world.register_as(&spec).await;
    assert_eq!(made["rate_limits"], *limits, "{made}");
    server
}

async fn call(client: &Client, tool: &str) -> Outcome {
    within(client.tool(tool, json!({}))).await.unwrap()
}

/// The call is refused because so many a minute were made.
async fn refused(client: &Client, tool: &str, limit: &str, rpm: u64) {
    let request = client.request("7", "tools/call", json!({"name": tool, "arguments": {}}));
    let reply = within(client.send(request)).await.unwrap();
    assert_eq!(reply.status, 429);
    let wait: u64 = reply.header("retry-after").parse().unwrap();
    assert!((1..=60).contains(&wait), "{wait}");
    assert_eq!(reply.header("ratelimit-policy").to_owned(), format!("\"{limit}\";q={rpm};w=60"));
    let said: Value = serde_json::from_str(&reply.text().await.unwrap()).unwrap();
    assert_eq!(said["error"]["code"], -31014, "{said}");
    assert_eq!((&said["error"]["data"]["limit"], &said["error"]["data"]["rpm"]), (&json!(limit), &json!(rpm)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_and_its_tools_take_so_many_of_all_who_call_them() {
    let world = World::start().await;
    let _server = limited(&world, &json!({"rpm": 5, "tools": {"find": 2, "not there yet": 1}})).await;
    let ann = world.client_of("/mcp/it", &world.person("ann", "user").await);
    let bob = shake(world.client_of("/mcp", &world.person("bob", "user").await), "2025-11-25").await;
    for (client, tool) in [(&ann, "find"), (&bob, "it__find")] {
        assert_eq!(call(client, tool).await.code(), None);
    }
    refused(&ann, "find", "tool", 2).await;
    refused(&bob, "it__find", "tool", 2).await;
    for (client, tool) in [(&ann, "look"), (&bob, "it__look")] {
        assert_eq!(call(client, tool).await.code(), None);
    }
    assert!(
        within(ann.call("tools/list", json!({}))).await.unwrap().code().is_none(),
        "at its own endpoint it is asked"
    );
    refused(&bob, "it__look", "server", 5).await;

    let own = shake(world.client("/mcp/it"), "2025-11-25").await;
    for _ in 0..9 {
        assert_eq!(within(own.call("ping", json!({}))).await.unwrap().code(), None, "whoever asks lives");
    }
    let metrics = within(world.client("/metrics").send(Request::get())).await.unwrap().text().await.unwrap();
    for (limit, times) in [("tool", 2), ("server", 1)] {
        let line = format!(
            r#"mcp_rate_limit_hits_total{{tenant_id="default",limit_type="{limit}",action="throttled"}} {times}"#
        );
        assert!(metrics.contains(&line), "{metrics}");
    }
    // Taking the limits away holds from the answer on.
    let (status, said) =
        world.rest(Method::PATCH, "/servers/it", &json!({"rate_limits": {"rpm": null, "tools": {"find": null}}})).await;
    assert_eq!((status, &said["rate_limits"]), (200, &json!({"tools": {"not there yet": 1}})), "{said}");
    assert_eq!(call(&ann, "find").await.code(), None);
    let (_, said) = world.rest(Method::PATCH, "/servers/it", &json!({"rate_limits": null})).await;
    assert_eq!(said["rate_limits"], Value::Null, "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_server_refuses_costs_neither_user_nor_tenant_anything() {
    let world = World::with(&["--rate-limit-user-rpm=4"]).await;
    let _server = limited(&world, &json!({"tools": {"find": 1}})).await;
    let (status, _) = world.rest(Method::POST, "/admin/tenant-limits/default", &json!({"base_rpm": 4})).await;
    assert_eq!(status, 200);
    let ann = world.client_of("/mcp/it", &world.person("ann", "user").await);
    assert_eq!(call(&ann, "find").await.code(), None);
    for _ in 0..9 {
        refused(&ann, "find", "tool", 1).await;
    }
    let share = world.app().limits.share(&TenantId::default_tenant()).unwrap();
    assert_eq!(share.at_once(), 0);
    for _ in 0..3 {
        assert_eq!(call(&ann, "look").await.code(), None);
    }
    refused(&ann, "look", "user", 4).await;
    refused(&world.client("/mcp/it"), "look", "tenant", 4).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_limit_that_is_reached_shows_nothing_of_what_is_hidden() {
    let world = World::start().await;
    let _server = limited(&world, &json!({"rpm": 1})).await;
    let ann = world.person("ann", "user").await;
    let rule =
        json!({"text": r#"permit(principal, action, resource) when { resource is Tool && resource.name == "look" };"#});
    let (status, said) = world.rest(Method::PUT, "/admin/policies/default", &rule).await;
    assert_eq!(status, 200, "{said}");
    for version in [MODERN, "2025-11-25"] {
        let all = shake(world.client_of("/mcp", &ann), version).await;
        if version == MODERN {
            assert_eq!(call(&all, "it__look").await.code(), None);
        }
        refused(&all, "it__look", "server", 1).await;
        let (hidden, nothing) = (call(&all, "it__find").await, call(&all, "it__nowhere").await);
        assert_eq!((hidden.code(), hidden.status), (Some(-32602), nothing.status), "{hidden:?}");
    }
    let shown = within(world.client_of("/api/v1/servers/it", &ann).send(Request::get())).await.unwrap();
    assert!(!shown.text().await.unwrap().contains("rate_limits"), "its limits name tools");
}

#[tokio::test(flavor = "multi_thread")]
async fn limits_that_are_none_are_told_by_field() {
    let world = World::start().await;
    let spec =
        |limits: Value| json!({"slug": "it", "replicas": [{"url": "http://127.0.0.1:9"}], "rate_limits": limits});
    let wrong = json!({"rpm": 0, "tools": {"find": 10_000_001}});
    let (status, said) = world.rest(Method::POST, "/servers", &spec(wrong)).await;
    let fields: Vec<&str> = said["errors"].as_array().unwrap().iter().map(|e| e["field"].as_str().unwrap()).collect();
    assert_eq!((status, fields), (422, vec!["rate_limits.rpm", "rate_limits.tools.find"]), "{said}");
    let (status, said) = world.rest(Method::POST, "/servers", &spec(json!({"burst": 3}))).await;
    assert_eq!((status, &said["errors"][0]["field"]), (422, &json!("rate_limits.burst")), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_wanted_over_a_shared_channel_counts_like_every_request() {
    let world = World::start().await;
    let server = LegacySse::start().await.unwrap();
    let spec =
        json!({"slug": "it", "transport": "sse", "replicas": [{"url": server.url()}], "rate_limits": {"rpm": 2}});
    world.register_as(&spec).await;
    let client = shake(world.client("/mcp/it"), "2025-11-25").await;
    let count = || server.asked("resources/subscribe").len() + server.asked("logging/setLevel").len();
    let before = count();
    let mut codes = Vec::new();
    for number in 0..5 {
        let (method, params) = match number % 2 {
            0 => ("resources/subscribe", json!({"uri": format!("stand-in://notes/{number}")})),
            _ => ("logging/setLevel", json!({"level": if number == 1 { "info" } else { "error" }})),
        };
        codes.push(within(client.call(method, params)).await.unwrap().code());
    }
    assert!(codes.iter().filter(|code| **code != Some(-31014)).count() <= 2, "{codes:?}");
    assert_eq!(codes.last(), Some(&Some(-31014)), "{codes:?}");
    assert!(count() - before <= 2, "the server never heard of the others");
}
