//! Who sees a server: by role and by name, at the common endpoint and at the server's own, and what of its troubles.

use http::Method;
use serde_json::{Value, json};
use testkit::jsonrpc::MODERN;
use testkit::upstream::{Eras, Plain};

use crate::world::{World, names, within};

#[tokio::test(flavor = "multi_thread")]
async fn a_server_is_there_for_those_it_is_visible_to_and_for_nobody_else() {
    let server = Plain::with(Eras::Dual).await.unwrap();
    let world = World::start().await;
    let people = [
        ("user", world.person("ada", "user").await),
        ("named", world.person("bob", "user").await),
        ("owner", world.person("olga", "server_owner").await),
        ("head", world.person("head", "tenant_admin").await),
    ];
    for (slug, visibility, sees) in [
        ("all", json!({}), "user named owner head"),
        ("by-user", json!({"everyone": false, "roles": ["user"]}), "user named owner head"),
        ("by-owner", json!({"everyone": false, "roles": ["server_owner"]}), "owner head"),
        ("by-head", json!({"everyone": false, "roles": ["tenant_admin"]}), "head"),
        ("by-name", json!({"everyone": false, "users": ["BOB"]}), "named head"),
        ("either", json!({"everyone": false, "roles": ["server_owner"], "users": ["bob"]}), "named owner head"),
        ("admins", json!({"everyone": false}), "head"),
    ] {
        let mut spec = json!({"slug": slug, "replicas": [{"url": server.url()}]});
        if visibility != json!({}) {
            spec["visibility"] = visibility;
        }
        world.register_as(&spec).await;
        for (who, key) in &people {
            let may = sees.split(' ').any(|one| one == *who);
            for version in [MODERN, "2025-11-25"] {
                let label = format!("{slug} for {who} at {version}");
                let all = crate::world::shake(world.client_of("/mcp", key), version).await;
                let list = within(all.call("tools/list", json!({}))).await.unwrap();
                let name = format!("{slug}__echo");
                assert_eq!(names(&list, "tools").contains(&name), may, "{label}");
                let called = within(all.tool(&name, json!({}))).await.unwrap();
                assert_eq!(called.code(), (!may).then_some(-32602), "{label}: {called:?}");
                let own = world.client_of(&format!("/mcp/{slug}"), key);
                if version == MODERN {
                    let called = within(own.tool("echo", json!({}))).await.unwrap();
                    assert_eq!((called.status == 404, called.code().is_some()), (!may, !may), "{label}: {called:?}");
                } else {
                    assert_eq!(within(own.initialize(version)).await.is_ok(), may, "{label}");
                }
            }
        }
    }
    // Who loses sight of it loses it at once, in sessions that are open too.
    let (_, bob) = &people[1];
    let open = crate::world::shake(world.client_of("/mcp/all", bob), "2025-11-25").await;
    assert!(open.tool("echo", json!({})).await.unwrap().result().is_object());
    let (status, _) = world.rest(Method::PATCH, "/servers/all", &json!({"visibility": {"everyone": false}})).await;
    assert_eq!(status, 200);
    let gone = within(open.tool("echo", json!({}))).await.unwrap();
    assert!(gone.code().is_some(), "{gone:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn addresses_of_servers_are_for_administrators_alone() {
    let world = World::start().await;
    let port = testkit::process::free_port().unwrap();
    let url = format!("http://127.0.0.1:{port}/mcp");
    world.register_as(&json!({"slug": "gone", "replicas": [{"url": url}]})).await;
    let ada = world.person("ada", "user").await;
    for version in [MODERN, "2025-11-25"] {
        let mut seen = Vec::new();
        for key in [&ada, crate::world::KEY] {
            let client = crate::world::shake(world.client_of("/mcp", key), version).await;
            let list = within(client.call("tools/list", json!({}))).await.unwrap();
            let problem = list.result()["_meta"]["io.mcp-registry-gateway/problems"][0].clone();
            assert_eq!(problem["server"], "gone", "{list:?}");
            seen.push(problem["problem"].as_str().unwrap().to_owned());
        }
        assert_eq!(seen, ["the server cannot be reached"; 2]);
        let client = crate::world::shake(world.client_of("/mcp", &ada), version).await;
        let refused = within(client.tool("gone__echo", json!({}))).await.unwrap();
        let (code, text) = (refused.code(), refused.response.to_string());
        assert!(code == Some(-31001) && !text.contains("127.0.0.1"), "{text}");
    }
    let (_, seen) = world.rest(Method::GET, "/servers/gone", &Value::Null).await;
    assert!(seen["status"]["last_error"].as_str().unwrap().contains("127.0.0.1"), "{seen}");
}
