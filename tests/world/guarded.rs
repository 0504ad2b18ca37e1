//! What the guard of addresses hears of calls: what was refused to somebody, also among other answers on one stream.

use serde_json::{Value, json};
use testkit::client::{Client, Request};

use crate::world::{World, within};

/// Who connects is a proxy; five refusals are too many, and of an address where somebody is known fifty.
const GUARDED: &[&str] = &["--behind-proxy", "--ddos-detection-threshold=5"];

async fn guarded(args: &[&str]) -> World {
    World::with(&[GUARDED, args].concat()).await
}

/// The administrator's client, at an address of its own.
fn from(world: &World, path: &str, address: &str) -> Client {
    world.client(path).header("x-forwarded-for", address)
}

fn is_banned(world: &World, address: &str) -> bool {
    world.app().guard.ban_of(address.parse().unwrap(), mcp_registry_gateway::store::now()).is_some()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_refused_within_a_batch_counts_against_its_address() {
    let world = guarded(&["--rate-limit-admin-rpm=10"]).await;
    let client = from(&world, "/mcp", "192.0.2.1");
    client.initialize("2025-03-26").await.unwrap();
    let batch: Vec<Value> = (0..70).map(|id| json!({"jsonrpc": "2.0", "id": id, "method": "tools/list"})).collect();
    let request = Request::post(json!(batch).to_string()).header("mcp-session-id", &client.session().unwrap());
    let reply = within(client.send(request)).await.unwrap();
    assert_eq!(reply.status, 200, "each has its own answer");
    assert!(!is_banned(&world, "192.0.2.1"));
    reply.text().await.unwrap();
    assert!(is_banned(&world, "192.0.2.1") && !is_banned(&world, "192.0.2.2"));
}
