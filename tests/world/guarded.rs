//! What the guard of addresses hears of calls: what was refused to somebody, also among other answers on one stream.

use serde_json::{Value, json};
use testkit::client::{Client, Request};
use testkit::upstream::{Answer, Eras, Plain};

use crate::world::{World, within};

/// Who connects is a proxy; so many refusals are too many, and ten times as many of an address where somebody is known.
async fn guarded(threshold: u32, args: &[&str]) -> World {
    World::with(&[&["--behind-proxy", &format!("--ddos-detection-threshold={threshold}")], args].concat()).await
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
    let world = guarded(5, &["--rate-limit-admin-rpm=10"]).await;
    let client = from(&world, "/mcp", "192.0.2.1");
    client.initialize("2025-03-26").await.unwrap();
    let batch: Vec<Value> = (0..70).map(|id| json!({"jsonrpc": "2.0", "id": id, "method": "tools/list"})).collect();
    let request = Request::post(json!(batch).to_string()).header("mcp-session-id", &client.session().unwrap());
    let reply = within(client.send(request)).await.unwrap();
    assert_eq!(reply.status, 200, "each has its own answer");
    reply.text().await.unwrap();
    assert!(is_banned(&world, "192.0.2.1") && !is_banned(&world, "192.0.2.2"));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_server_says_of_a_request_does_not_count_against_who_sent_it() {
    let server = Plain::with(Eras::Modern).await.unwrap();
    server.script("echo", |_| Answer::Error(-32601, "there is no such thing".to_owned(), None));
    let world = guarded(1, &[]).await;
    world.register("it", &server.url()).await;
    let client = from(&world, "/mcp/it", "192.0.2.1");
    for _ in 0..110 {
        let answer = within(client.tool("echo", json!({}))).await.unwrap();
        assert_eq!((answer.status.as_u16(), answer.code()), (404, Some(-32601)), "{answer:?}");
    }
    assert!(!is_banned(&world, "192.0.2.1"));
    // What the gateway itself has not got counts a tenth.
    let client = from(&world, "/mcp/nothing", "192.0.2.1");
    for _ in 0..100 {
        assert_eq!(within(client.tool("echo", json!({}))).await.unwrap().status, 404);
    }
    assert!(is_banned(&world, "192.0.2.1"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_is_announced_too_large_counts_against_who_sent_it() {
    let world = guarded(1, &["--request-body-limit=1000"]).await;
    let client = Client::new(&format!("{}/mcp", world.url())).header("x-forwarded-for", "192.0.2.1");
    for _ in 0..10 {
        let reply = within(client.send(Request::post("x".repeat(1001)))).await.unwrap();
        assert_eq!(reply.status, 413);
    }
    assert!(is_banned(&world, "192.0.2.1"));
}
