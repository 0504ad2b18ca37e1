//! What a thread has in hand at once keeps nobody out.

use serde_json::json;
use testkit::upstream::Plain;

use crate::world::{World, within};

#[tokio::test(flavor = "multi_thread")]
async fn calls_that_wait_for_a_slow_server_keep_no_other_call_waiting() {
    let (slow, quick) = (Plain::start().await.unwrap(), Plain::start().await.unwrap());
    let world = World::with(&["--worker-threads=1"]).await;
    world.register("slow", &slow.url()).await;
    world.register("quick", &quick.url()).await;
    let held: Vec<_> = (0..90)
        .map(|_| {
            let client = world.client("/mcp/slow");
            tokio::spawn(async move { client.tool("gate", json!({})).await })
        })
        .collect();
    assert!(slow.wait_in_flight(90).await, "all are under way at once: {}", slow.in_flight());
    let outcome = within(world.client("/mcp/quick").tool("echo", json!({}))).await.unwrap();
    assert!(outcome.result().is_object(), "{outcome:?}");
    slow.open_gate(true);
    for call in held {
        assert!(within(call).await.unwrap().unwrap().result().is_object());
    }
}
