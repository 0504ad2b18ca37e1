//! Two processes on one database: what one changes holds in the other at once.

use std::time::Duration;

use serde_json::{Value, json};

use crate::store_databases::Database;
use crate::store_rest::{World, server};

/// Long enough for a loaded machine; nothing waits that long when it works.
const DEADLINE: Duration = Duration::from_secs(20);

/// Asks again until it is so.
async fn until<F: Future<Output = bool>>(what: &str, look: impl Fn() -> F) {
    let looking = async {
        while !look().await {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(DEADLINE, looking).await.unwrap_or_else(|_| panic!("it never came to be: {what}"));
}

#[tokio::test]
async fn a_change_by_one_process_is_heard_by_the_other_without_looking() {
    let Some(database) = Database::postgresql().await else { return };
    let one = World::open(&database).await;
    let two = one.beside(&database).await;
    // Nothing else of the other runs: it does not look by itself.
    let listener = two.app.clone();
    two.app.tasks.spawn(async move { listener.hear_changes().await });

    let made = one.call("POST /keys", json!({"name": "ci", "servers": "*"})).await.expect(201).json();
    let (key, id) = (made["key"].as_str().unwrap(), made["id"].as_str().unwrap());
    let me = async || two.with_key(key, "GET /me", Value::Null).await;
    until("the key is good", async || me().await.status == 200).await;
    one.call(&format!("DELETE /keys/{id}"), Value::Null).await.expect(204);
    until("the key is refused", async || me().await.status == 401).await;
    assert_eq!(me().await.json()["code"], "KEY_REVOKED");

    one.call("POST /servers", server("files")).await.expect(201);
    let row = one.app.servers().load_all().await.unwrap().remove(0);
    until("the server is there", async || two.app.registry.upstream(row.id).is_some()).await;
    one.call("POST /servers/files/disable", Value::Null).await.expect(200);
    until("the server is off", async || two.app.registry.upstream(row.id).is_none()).await;

    two.app.shutdown.cancel();
    two.app.tasks.close();
    tokio::time::timeout(DEADLINE, two.app.tasks.wait()).await.expect("the listener ends with the process");
}

on_both! {
    async fn what_another_process_changed_is_taken_over_when_it_is_looked_for(db) {
        let one = World::open(db).await;
        let two = one.beside(db).await;
        let made = one.call("POST /keys", json!({"name": "ci", "servers": "*"})).await.expect(201).json();
        let key = made["key"].as_str().unwrap();
        two.with_key(key, "GET /me", Value::Null).await.expect(401);
        // Many look at once, and none puts back what an earlier one read.
        let looks = futures_util::future::join_all((0..8).map(|_| two.app.changed())).await;
        assert!(looks.iter().all(Result::is_ok));
        two.with_key(key, "GET /me", Value::Null).await.expect(200);
    }
}
