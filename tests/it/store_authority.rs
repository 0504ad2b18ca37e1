//! Who may not is told so before anything else, and nothing of what was asked for is done.

use serde_json::{Value, json};

use crate::store_databases::Database;
use crate::store_rest::{World, server};

#[tokio::test]
async fn who_may_not_does_not_hear_what_is_wrong_with_the_request() {
    let database = Database::sqlite();
    let world = World::open(&database).await;
    world.call("POST /servers", server("files")).await.expect(201);
    world.call("POST /users", json!({"username": "target"})).await.expect(201);
    let user = world.person("ada", "user", json!({"servers": "*"})).await;
    let owner = world.person("olga", "server_owner", json!({"servers": "*", "admin": true})).await;
    for (call, wrong, whose) in [
        ("POST /servers", json!({"slug": "Not a slug"}), &user),
        ("PUT /servers/files", json!({"slug": 5}), &owner),
        ("PUT /servers/files", json!({"slug": "files", "headers": {"x-key": "***"}}), &owner),
        ("PATCH /servers/files", json!({"title": 5}), &owner),
        ("PATCH /servers/files", json!({"replicas": []}), &user),
        ("POST /apply", json!({"servers": 1}), &user),
        ("POST /keys", json!({"servers": 1}), &user),
        ("POST /users", json!({"username": 5}), &owner),
        ("PATCH /users/target", json!({"state": "gone"}), &owner),
        ("PATCH /users/admin", json!({"password": "short"}), &user),
        ("POST /users/target/password", json!({"password": 5}), &owner),
    ] {
        let told = world.with_key(whose, call, wrong.clone()).await.expect(403);
        assert_eq!(told.json()["code"], "FORBIDDEN", "{call}");
        // Another key would do for making keys; of the rest, the role is in the way.
        let scope = told.header("www-authenticate").contains("error=\"insufficient_scope\", scope=\"admin\"");
        assert_eq!(scope, call == "POST /keys", "{call}");
        world.call(call, wrong).await.expect(422);
    }
}

#[tokio::test]
async fn what_a_key_may_not_order_is_told_before_the_mistakes_of_the_order() {
    let database = Database::sqlite();
    let world = World::open(&database).await;
    let deputy = world.person("bob", "tenant_admin", json!({"servers": ["git"], "admin": true})).await;
    let owner = world.person("olga", "server_owner", json!({"servers": "*", "admin": true})).await;
    for (more, whose) in [
        (json!({"servers": ["files"]}), &deputy),
        (json!({"servers": [], "role": "admin"}), &deputy),
        (json!({"servers": [], "username": "bob"}), &owner),
    ] {
        let mut order = json!({"name": "", "expires_in_days": 0});
        order.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        world.with_key(whose, "POST /keys", order.clone()).await.expect(403);
        world.call("POST /keys", order).await.expect(422);
    }
}

#[tokio::test]
async fn only_who_may_register_a_program_starts_it() {
    let database = Database::sqlite();
    let world = World::open(&database).await;
    let program = json!({"slug": "tool", "transport": "stdio", "command": {"program": "true"}, "enabled": false});
    world.call("POST /servers", program.clone()).await.expect(201);
    let deputy = world.person("bob", "tenant_admin", json!({"servers": "*", "admin": true})).await;
    let mut started = program.clone();
    started["enabled"] = json!(true);
    for (call, body) in [
        ("POST /servers/tool/enable", Value::Null),
        ("PATCH /servers/tool", json!({"enabled": true})),
        ("PATCH /servers/tool", json!({"enabled": 5})),
        ("PUT /servers/tool", started.clone()),
        ("POST /apply", json!({"servers": [started]})),
    ] {
        let told = world.with_key(&deputy, call, body).await.expect(403);
        assert!(told.text.contains("a stdio server runs a program"), "{call}: {}", told.text);
    }
    let unchanged = world.with_key(&deputy, "POST /apply", json!({"servers": [program]})).await.expect(200).json();
    assert_eq!(unchanged["unchanged"], 1, "saying what is so already takes nothing");
    world.with_key(&deputy, "POST /servers/tool/disable", Value::Null).await.expect(200);
    let left = world.call("GET /servers/tool", Value::Null).await.expect(200).json();
    assert_eq!((&left["enabled"], &left["revision"]), (&json!(false), &json!(1)));
}

on_both! {
    async fn of_a_change_of_an_account_all_is_done_or_nothing(db) {
        let world = World::open(db).await;
        world.call("POST /users", json!({"username": "ada", "password": "a long pass phrase"})).await.expect(201);
        let sign_in = async || {
            let answer = world.with_key("", "POST /login", json!({"username": "ada", "password": "a long pass phrase"})).await;
            answer.expect(200).json()["key"].as_str().unwrap().to_owned()
        };
        let key = sign_in().await;
        let more = json!({"password": "a new pass phrase", "current_password": "a long pass phrase", "role": "admin"});
        world.with_key(&key, "PATCH /users/ada", more).await.expect(403);
        sign_in().await;
        let last = world.call("PATCH /users/admin", json!({"password": "a new pass phrase", "state": "disabled"})).await;
        assert_eq!(last.expect(409).json()["code"], "LAST_ADMIN");
        assert_eq!(world.call("GET /users/admin", Value::Null).await.json()["has_password"], false);
        let both = json!({"password": "a new pass phrase", "state": "disabled"});
        let done = world.call("PATCH /users/ada", both).await.expect(200).json();
        assert_eq!(done["state"], "disabled");
        world.with_key(&key, "GET /me", Value::Null).await.expect(401);
    }
}

#[tokio::test]
async fn a_deputy_reaches_for_no_key_of_who_is_above() {
    let database = Database::sqlite();
    let world = World::open(&database).await;
    let deputy = world.person("bob", "tenant_admin", json!({"servers": "*", "admin": true})).await;
    let id = world.call("GET /me", Value::Null).await.json()["credential_id"].as_str().unwrap().to_owned();
    let order = json!({"name": "as the admin", "servers": [], "username": "admin"});
    world.with_key(&deputy, "POST /keys", order).await.expect(403);
    world.with_key(&deputy, &format!("DELETE /keys/{id}"), Value::Null).await.expect(403);
    world.call("GET /me", Value::Null).await.expect(200);
}
