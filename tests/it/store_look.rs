//! A look at a database before a start: what is seen, and that nothing is made by looking.

use mcp_registry_gateway::access::bootstrap::bootstrap;
use mcp_registry_gateway::store::{Store, StoreError};
use serde_json::json;

use crate::store_databases::Database;
use crate::store_rest::{World, server};

on_both! {
    async fn a_look_tells_a_database_in_use_from_an_empty_one(db) {
        let before = Store::look(&db.url).await.unwrap();
        assert!(!before.in_use && before.sealed.is_empty());
        assert!(db.file().is_none_or(|file| !file.exists()), "looking makes no file");
        let store = db.open().await;
        assert!(!Store::look(&db.url).await.unwrap().in_use, "tables alone are no use");
        bootstrap(&store, None).await.unwrap();
        let seen = Store::look(&db.url).await.unwrap();
        assert!(seen.exists && seen.in_use && seen.sealed.is_empty());
        assert!(!format!("{seen:?}").contains("user="));
    }
}

on_both! {
    async fn a_look_tells_under_which_key_secrets_are_sealed(db) {
        let world = World::open(db).await;
        for slug in ["one", "two", "three"] {
            let mut spec = server(slug);
            if slug != "three" {
                spec["headers"] = json!({"x-key": "s3cret"});
            }
            world.call("POST /servers", spec).await.expect(201);
        }
        let seen = Store::look(&db.url).await.unwrap();
        assert_eq!(seen.sealed.len(), 1, "one key, one mark");
        world.app.sealer.check_key(&seen.sealed[0]).unwrap();
        assert_eq!(seen.sealed[0].len(), mcp_registry_gateway::crypto::MARK);
        for slug in ["one", "two"] {
            world.call(&format!("DELETE /servers/{slug}"), serde_json::Value::Null).await.expect(204);
        }
        let after = Store::look(&db.url).await.unwrap();
        assert_eq!(after.sealed, seen.sealed, "the key of the tenant is sealed under it too");
    }
}

#[tokio::test]
async fn a_server_that_answers_is_not_yet_a_database_that_can_be_used() {
    let Some(database) = Database::postgresql().await else { return };
    let (address, options) = database.url.split_once('?').unwrap();
    let (address, _) = address.rsplit_once('/').unwrap();
    let error = Store::look(&format!("{address}/none_such?{options}")).await.unwrap_err();
    assert!(matches!(&error, StoreError::Unusable { cause, .. } if cause.contains("none_such")), "{error}");
    let nobody = address.replace("postgres@", "nobody_such:s3cret@");
    let error = Store::look(&format!("{nobody}/postgres?{options}")).await.unwrap_err();
    assert!(matches!(error, StoreError::Unusable { .. }) && !error.to_string().contains("s3cret"), "{error}");
}
