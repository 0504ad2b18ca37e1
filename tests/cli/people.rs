//! Users and keys on a real gateway.

use serde_json::{Value, json};

use crate::real::{Real, find};

#[tokio::test]
async fn a_user_comes_is_changed_and_goes() {
    let gateway = Real::start().await;
    let made = gateway.run(&["users", "add", "ada", "--json"]).await.expect(0).json();
    assert_eq!((&made["role"], made["password"].as_str().unwrap().len()), (&json!("user"), 24));
    let refused = gateway.run(&["users", "add", "bob", "--role", "king"]).await.expect(2);
    assert!(refused.err.contains("server_owner") && refused.err.contains("tenant_admin"), "{}", refused.err);
    let once = gateway.run(&["users", "add", "a b"]).await.expect(1).err;
    assert_eq!(once.matches("use 1 to 64 letters").count(), 1, "{once}");

    gateway.run(&["users", "role", "ada", "server_owner"]).await.expect(0);
    gateway.run(&["users", "password", "ada"]).await.expect(0);
    let key = gateway.run(&["keys", "create", "laptop", "--user", "ada"]).await.expect(0).out;
    let me = async || gateway.run_as(key.trim(), &["status", "--json"]).await;
    let is = me().await.expect(0).json()["me"].clone();
    assert!(is.to_string().contains("ada"), "{is}");
    gateway.run(&["users", "disable", "ada"]).await.expect(0);
    assert!(me().await.expect(1).err.contains("401"));
    gateway.run(&["users", "enable", "ada"]).await.expect(0);
    me().await.expect(0);
    let ada = find(&gateway.run(&["users", "list", "--json"]).await.json(), "username", "ada");
    assert_eq!((&ada["role"], &ada["state"]), (&json!("server_owner"), &json!("active")));

    gateway.run(&["users", "remove", "ada"]).await.expect(0);
    assert!(me().await.expect(1).err.contains("401"), "the key went with its holder");
    let gone = gateway.run(&["users", "remove", "ada"]).await.expect(1);
    assert!(gone.err.contains("there is no user `ada`"), "{}", gone.err);
    let last = gateway.run(&["users", "remove", "admin"]).await.expect(1);
    assert!(last.err.contains("last active administrator"), "{}", last.err);
}

#[tokio::test]
async fn keys_are_made_for_others_listed_with_their_state_and_ended() {
    let gateway = Real::start().await;
    gateway.sample("tools").await;
    gateway.run(&["users", "add", "ada"]).await.expect(0);
    let args =
        ["keys", "create", "ci", "--user", "ada", "--server", "tools", "--tool", "add", "--expires-in-days", "9"];
    let key = gateway.run(&args).await.expect(0).out.trim().to_owned();
    assert!(key.starts_with("mcpg_"), "{key}");
    let called = gateway.run_as(&key, &["servers", "call", "tools", "add", "a=1", "b=2"]).await.expect(0);
    assert_eq!(called.out, "3\n");
    gateway.run_as(&key, &["servers", "call", "tools", "echo", "text=x"]).await.expect(1);
    let refused = gateway.run_as(&key, &["users", "list"]).await.expect(1).err;
    assert!(refused.contains("403") && !refused.contains("--role admin"), "{refused}");

    let list: Value = gateway.run(&["keys", "list", "--json"]).await.expect(0).json();
    let one = find(&list, "name", "ci");
    assert_eq!((&one["username"], &one["state"], &one["tools"]), (&json!("ada"), &json!("active"), &json!(["*/add"])));
    gateway.run(&["keys", "revoke", one["id"].as_str().unwrap()]).await.expect(0);
    let table = gateway.run(&["keys", "list"]).await.expect(0).out;
    let row: Vec<&str> = table.lines().find(|line| line.contains(" ci ")).unwrap().split_whitespace().collect();
    assert_eq!(row[1..7], ["ci", "ada", "user", "tools", "*/add", "revoked"], "{table}");
    assert!(gateway.run_as(&key, &["status"]).await.expect(1).err.contains("401"));
}

#[tokio::test]
async fn of_somebody_without_a_provider_there_is_nothing_to_show_or_refresh() {
    let gateway = Real::start().await;
    gateway.run(&["users", "add", "ada"]).await.expect(0);
    let shown = gateway.run(&["users", "tokens", "ada"]).await.expect(0).out;
    assert!(shown.contains("no identity provider gave anything"), "{shown}");
    let shown = gateway.run(&["users", "tokens", "ada", "--json"]).await.expect(0).json();
    assert_eq!((&shown["credentials"], &shown["tenant_id"]), (&json!([]), &json!("default")));
    let refused = gateway.run(&["users", "refresh", "ada"]).await.expect(1).err;
    assert!(refused.contains("the person has to sign in"), "{refused}");
    let unknown = gateway.run(&["users", "tokens", "bob"]).await.expect(1).err;
    assert!(unknown.contains("there is no user `bob`"), "{unknown}");
}
