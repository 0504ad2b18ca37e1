//! A caller's replica under consistent hashing, over calls and over a restart.

use http::Method;
use serde_json::{Value, json};
use testkit::jsonrpc::LEGACY;
use testkit::upstream::{Eras, Plain};

use crate::world::{World, within};

#[tokio::test]
async fn a_caller_keeps_its_replica_over_a_restart() {
    for eras in [Eras::Modern, Eras::Legacy(LEGACY[0].to_owned())] {
        let mut servers = Vec::new();
        for _ in 0..3 {
            servers.push(Plain::with(eras.clone()).await.unwrap());
        }
        let mut world = World::with(&[]).await;
        let replicas: Vec<Value> = servers.iter().map(|server| json!({ "url": server.url() })).collect();
        let spec = json!({ "slug": "it", "replicas": replicas, "balance": "consistent_hash" });
        world.rest(Method::POST, "/servers", &spec).await;
        let mut keys = Vec::new();
        for caller in 0..12 {
            let name = format!("caller{caller}");
            world.rest(Method::POST, "/users", &json!({ "username": name })).await;
            let key = json!({ "name": "a key", "username": name, "servers": ["*"], "tools": ["*"] });
            keys.push(world.rest(Method::POST, "/keys", &key).await["key"].as_str().unwrap().to_owned());
        }
        let mut before: Option<Vec<usize>> = None;
        for _ in 0..2 {
            let mut places = Vec::new();
            for key in &keys {
                for server in &servers {
                    server.host().forget();
                }
                for _ in 0..3 {
                    let client = world.client("/mcp/it").bearer(key);
                    assert!(within(client.tool("echo", json!({}))).await.unwrap().result().is_object());
                }
                let called: Vec<usize> = servers.iter().map(|server| server.calls("echo").len()).collect();
                let place = called.iter().position(|count| *count == 3);
                places.push(place.unwrap_or_else(|| panic!("a caller at several replicas: {called:?}")));
            }
            let first = places[0];
            assert!(places.iter().any(|place| *place != first), "all callers at one replica");
            match before.take() {
                None => before = Some(places),
                Some(before) => assert_eq!(before, places, "{eras:?}"),
            }
            world = world.restart(async |_| ()).await;
        }
    }
}
