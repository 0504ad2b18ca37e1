//! Replicas are looked after without a call: what a check finds is shown, and calls keep away from the sick.

use http::Method;
use mcp_registry_gateway::upstream::Transport;
use serde_json::{Value, json};
use testkit::upstream::{Eras, Plain};

use crate::world::{DEADLINE, World, until};

async fn replicas(world: &World) -> Vec<Value> {
    let server = world.rest(Method::GET, "/servers/pair", &Value::Null).await;
    server["status"]["replicas"].as_array().cloned().unwrap_or_else(|| panic!("{server}"))
}

async fn healthy(world: &World) -> Vec<Value> {
    replicas(world).await.iter().map(|replica| replica["healthy"].clone()).collect()
}

#[tokio::test]
async fn a_replica_that_is_gone_is_seen_avoided_and_seen_again() {
    for eras in [Eras::Modern, Eras::Legacy("2025-11-25".to_owned())] {
        let mut both = [Plain::with(eras.clone()).await.unwrap(), Plain::with(eras.clone()).await.unwrap()].map(Some);
        let world = World::with(&["--health-check-interval=20ms"]).await;
        let urls: Vec<String> = both.iter().flatten().map(Plain::url).collect();
        world.register("pair", &urls).await;
        until(async || healthy(&world).await == [true, true]).await;

        let snapshot = world.app.registry.snapshot();
        let upstream = snapshot.entries().next().unwrap().upstream.clone();
        let Transport::Http(server) = &upstream.transport else { panic!("it was registered by URL") };
        // The one that holds the session which the gateway has with a server of the legacy era.
        let gone = upstream.own_session(server).await.map_or(0, |session| session.replica);
        let address = both[gone].take().unwrap().host().address();
        until(async || healthy(&world).await == [gone != 0, gone != 1]).await;
        let sick = replicas(&world).await.remove(gone);
        assert_eq!(sick["url"], urls[gone]);
        assert_eq!((&sick["weight"], &sick["in_flight"]), (&json!(1), &json!(0)), "{sick}");
        assert!(sick["health_detail"].is_string(), "{sick}");

        for _ in 0..20 {
            let tool = json!({ "name": "echo", "arguments": {} });
            let said = world.client("/mcp/pair").call("tools/call", tool).await.unwrap();
            assert!(said.result()["content"].is_array(), "{eras:?}: {}", said.response);
        }
        for _ in 0..20 {
            upstream.check_replicas(DEADLINE).await;
        }
        let sick = replicas(&world).await.remove(gone);
        assert_eq!(sick["breaker"], "closed", "breakers learn from calls only: {sick}");

        let _back = Plain::on(eras, address.port()).await.unwrap();
        until(async || healthy(&world).await == [true, true]).await;
    }
}

#[tokio::test]
async fn who_may_not_change_a_server_does_not_see_where_it_is() {
    let (one, two) = (Plain::start().await.unwrap(), Plain::start().await.unwrap());
    let world = World::with(&[]).await;
    world.register("pair", &[one.url(), two.url()]).await;
    let bob = world.user("bob").await;
    let request = testkit::client::Request::new(Method::GET, "".into()).path("/api/v1/servers/pair");
    let text = world.client_of("/", &bob).send(request).await.unwrap().text().await.unwrap();
    assert!(text.contains("\"state\":\"ready\"") && !text.contains("127.0.0.1"), "{text}");
}
