//! What people are told of a server that is not well: that it is not, and what kind of thing is wrong, to everybody; where it is
//! and what it wrote, to administrators alone.

use http::Method;
use serde_json::{Value, json};
use testkit::client::{Client, Request};
use testkit::upstream::{Fault, Faulty, Plain};

use crate::world::{World, names, until, within};

const PROBLEMS: &str = "io.mcp-registry-gateway/problems";

async fn health(client: &Client) -> Value {
    let reply = client.send(Request::get().path("/health")).await.unwrap();
    assert_eq!(reply.status, 200);
    serde_json::from_str(&reply.text().await.unwrap()).unwrap()
}

async fn user(world: &World, tools: Value) -> String {
    let name = format!("u{}", uuid::Uuid::now_v7().simple());
    world.user(&name).await;
    world.key(&name, json!(["*"]), tools).await
}

async fn list(client: &Client) -> (Vec<String>, Value) {
    let list = within(client.call("tools/list", json!({}))).await.unwrap();
    (names(&list, "tools"), list.result()["_meta"][PROBLEMS].clone())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_dies_under_its_callers_stays_listed_with_the_reason() {
    let server = Plain::start().await.unwrap();
    let url = server.url();
    let address = url.split('/').nth(2).unwrap().to_owned();
    let world = World::start().await;
    world.register("dies", &url).await;
    let (all, some) = (user(&world, json!(["*"])).await, user(&world, json!(["echo"])).await);
    assert_eq!(health(&world.client("/")).await["servers"], json!({"dies": {"state": "ready"}}));
    drop(server);
    for _ in 0..6 {
        let refused = within(world.client_of("/mcp/dies", &all).tool("echo", json!({}))).await.unwrap();
        let text = refused.response["error"]["message"].as_str().unwrap();
        assert!(refused.code().is_some() && !text.contains(&address), "{refused:?}");
    }
    let why =
        until(|| async { list(&world.client_of("/mcp", &all)).await.1[0]["problem"].as_str().map(str::to_owned) });
    let why = why.await;
    assert!(why.contains("cannot be reached") && !why.contains(&address), "{why}");
    let (tools, problems) = list(&world.client_of("/mcp", &all)).await;
    assert!(tools.contains(&"dies__echo".to_owned()), "{tools:?}");
    assert_eq!(problems[0]["server"], "dies");
    let (tools, problems) = list(&world.client_of("/mcp/dies", &some)).await;
    assert_eq!((tools, &problems[0]["server"]), (vec!["echo".to_owned()], &json!("dies")), "{problems}");

    let told = world.server("dies").await;
    assert_eq!(told["status"]["state"], "unreachable", "{told}");
    assert!(told["status"]["last_error"].as_str().unwrap().contains(&address), "{told}");
    until(|| async { (health(&world.client("/")).await["status"] == "degraded").then_some(()) }).await;
    let dead = &health(&world.client("/")).await["servers"]["dies"];
    assert_eq!(dead["state"], "unreachable");
    assert!(dead["reason"].as_str().unwrap().contains(&address), "{dead}");
    for key in [all.as_str(), "mcpg_nobody"] {
        let said = health(&world.client_of("/", key)).await;
        assert_eq!((&said["servers"], &said["components"]["upstreams"]), (&Value::Null, &json!("degraded")));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_hangs_from_the_first_is_named() {
    let server = Faulty::start().await.unwrap();
    server.fail(Fault::Hang);
    let world = World::start().await;
    let spec = json!({"slug": "hangs", "replicas": [{"url": server.url()}]});
    let registering = world.register_as(&spec);
    let looking = async {
        // At once, while it is asked for the first time.
        let problem =
            until(|| async { Some(list(&world.client("/mcp")).await.1).filter(|said| !said.is_null()) }).await;
        assert_eq!(problem[0]["server"], "hangs", "{problem}");
        assert!(problem[0]["problem"].as_str().unwrap().contains("not answer"), "{problem}");
    };
    let (registered, ()) = tokio::join!(registering, looking);
    assert_ne!(registered["status"]["state"], "ready", "{registered}");
    until(|| async { (health(&world.client("/")).await["status"] == "degraded").then_some(()) }).await;
    let said = health(&world.client("/")).await;
    assert_eq!(said["servers"]["hangs"]["state"], "unreachable", "{said}");
    let key = user(&world, json!(["echo"])).await;
    let (tools, problems) = list(&world.client_of("/mcp/hangs", &key)).await;
    assert!(tools.is_empty() && problems[0]["server"] == "hangs", "{problems}");
    server.heal();
    let (status, _) = world.rest(Method::POST, "/servers/hangs/disable", &Value::Null).await;
    assert_eq!(status, 200);
    let (status, _) = world.rest(Method::POST, "/servers/hangs/enable", &Value::Null).await;
    assert_eq!(status, 200);
    world.until_state("hangs", "ready").await;
    until(|| async { (health(&world.client("/")).await["status"] == "ok").then_some(()) }).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_child_wrote_before_it_died_is_for_administrators() {
    let mut world = World::process(&[]).await;
    let script = "echo 'cannot connect to postgres://app:hunter2pw@db.internal:5432/app' >&2; exit 3";
    let command = json!({"program": "/bin/sh", "args": ["-c", script]});
    let spec = json!({"slug": "child", "transport": "stdio", "command": command});
    let kept = world.register_as(&spec).await;
    assert!(kept["status"]["last_error"].as_str().unwrap().contains("db.internal"), "{kept}");
    let key = user(&world, json!(["*"])).await;
    for path in ["/mcp/child", "/mcp"] {
        let client = world.client_of(path, &key);
        let name = if path == "/mcp" { "child__anything" } else { "anything" };
        let refused = within(client.tool(name, json!({}))).await.unwrap();
        let error = refused.response["error"].to_string();
        assert_eq!(refused.response["error"]["data"]["whose"], "upstream", "{refused:?}");
        for leak in ["hunter2pw", "db.internal", "/bin/sh"] {
            assert!(!error.contains(leak), "{path}: {error}");
        }
        let request = refused.headers["x-request-id"].to_str().unwrap().to_owned();
        let logged = until(|| {
            let log = world.the_process().said();
            let line = log.lines().find(|line| line.contains(&request)).map(str::to_owned);
            async move { line }
        });
        assert!(logged.await.contains("db.internal"), "the log tells the operator");
    }
    let (_, problems) = list(&world.client_of("/mcp", &key)).await;
    assert!(problems.to_string().contains("child") && !problems.to_string().contains("db.internal"), "{problems}");
}
