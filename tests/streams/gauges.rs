//! What `/metrics` says of sessions, streams and servers.

use http::Method;
use serde_json::{Value, json};
use testkit::upstream::Plain;

use crate::world::{World, until};

#[tokio::test]
async fn gauges_tell_what_is_there_and_nothing_of_what_is_gone() {
    let (one, two) = (Plain::start().await.unwrap(), Plain::start().await.unwrap());
    let world = World::with(&[]).await;
    world.register("pair", &[one.url(), two.url()]).await;
    let client = world.client("/mcp");
    client.initialize("2025-11-25").await.unwrap();
    let stream = client.listen(None).await.unwrap();

    let text = world.metrics().await;
    for line in [
        "mcp_gateway_sessions 1\n",
        "mcp_gateway_streams 1\n",
        "mcp_user_sessions_active{tenant_id=\"default\",session_type=\"api_key\",activity=\"active\"} 1\n",
        "mcp_user_sessions_active{tenant_id=\"default\",session_type=\"api_key\",activity=\"idle\"} 0\n",
        "mcp_concurrent_users{tenant_id=\"default\"} 1\n",
        "mcp_upstream_breaker_state{server=\"pair\",replica=\"0\"} 0\n",
        "mcp_upstream_breaker_state{server=\"pair\",replica=\"1\"} 0\n",
        "mcp_upstream_pool_connections{server=\"pair\",replica=\"1\",state=\"idle\"}",
    ] {
        assert!(text.contains(line), "{line} is missing in {text}");
    }
    let upstream =
        text.lines().find(|line| line.starts_with("mcp_active_connections{side=\"upstream\",server=\"pair\"}"));
    assert!(upstream.is_some_and(|line| !line.ends_with(" 0")), "{upstream:?}");

    drop(stream);
    client.end().await.unwrap();
    world.user("bob").await;
    world.rest(Method::DELETE, "/servers/pair", &Value::Null).await;
    let script = json!({ "slug": "script", "transport": "stdio", "command": { "program": "cat" } });
    world.rest(Method::POST, "/servers", &script).await;
    until(async || world.app.streams.open() == 0).await;
    let text = world.metrics().await;
    assert!(text.contains("mcp_gateway_sessions 0\n") && text.contains("mcp_gateway_streams 0\n"), "{text}");
    assert!(text.contains("mcp_stdio_children{server=\"script\"}"), "{text}");
    assert!(!text.contains("mcp_user_sessions_active{"), "{text}");
    let gauges = ["mcp_upstream", "mcp_active_connections"];
    let stale = text.lines().find(|line| line.contains("\"pair\"") && gauges.iter().any(|name| line.starts_with(name)));
    assert_eq!(stale, None);
}
