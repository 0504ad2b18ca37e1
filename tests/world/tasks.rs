//! Tasks of a server that many share, and that itself takes everybody for one: whose a task is, only the gateway knows.

use http::Method;
use serde_json::{Value, json};
use testkit::client::Client;
use testkit::jsonrpc::MODERN;
use testkit::upstream::{Answer, Call, Eras, Plain};

use crate::world::{World, shake, within};

const LEGACY: &str = "2025-11-25";
const EXTENSION: &str = "io.modelcontextprotocol/tasks";
const RELATED: &str = "io.modelcontextprotocol/related-task";
/// The server's own id of the only task that it ever has.
const THEIRS: &str = "task-7";

/// A server `jobs` with a tool `work` that is done as a task.
async fn jobs(world: &World) -> Plain {
    let server = Plain::with(Eras::Dual).await.unwrap();
    server.set(|settings| {
        settings.capabilities["tasks"] = json!({"list": {}, "cancel": {}, "requests": {"tools": {"call": {}}}});
        settings.tools = vec![json!({"name": "work", "inputSchema": {"type": "object"}})];
    });
    let state = |status: &str| json!({"taskId": THEIRS, "status": status, "ttl": 60_000, "ttlMs": 60_000});
    server.script("work", move |call| {
        let mut task = state("working");
        if call.modern {
            task["resultType"] = json!("task");
        } else {
            task = json!({"task": task});
        }
        Answer::Result(task.to_string())
    });
    let known = |call: &Call, answer: Value| {
        let missing = || Answer::Error(-32602, "Task not found".to_owned(), None);
        if call.params["taskId"] == THEIRS { Answer::Result(answer.to_string()) } else { missing() }
    };
    for method in ["tasks/get", "tasks/cancel", "tasks/update"] {
        server.script(method, move |call| {
            let mut task = state("completed");
            task["resultType"] = json!("complete");
            known(call, task)
        });
    }
    server.script("tasks/result", move |call| {
        let related = json!({RELATED: {"taskId": THEIRS}});
        known(call, json!({"content": [{"type": "text", "text": "done"}], "_meta": related}))
    });
    server.script("tasks/list", move |_| Answer::Result(json!({"tasks": [state("working")]}).to_string()));
    world.register("jobs", &server.url()).await;
    server
}

async fn client(world: &World, key: &str, version: &str) -> Client {
    let client = world.client_of("/mcp/jobs", key).capabilities(json!({"extensions": {EXTENSION: {}}}));
    shake(client, version).await
}

/// The id under which the client knows a task that it has made.
async fn begin(client: &Client) -> String {
    let begun = within(client.call("tools/call", json!({"name": "work", "arguments": {}, "task": {}}))).await.unwrap();
    let result = begun.result();
    let task = if result["task"].is_object() { &result["task"] } else { result };
    task["taskId"].as_str().unwrap_or_else(|| panic!("{begun:?}")).to_owned()
}

async fn ask(client: &Client, method: &str, id: &str) -> testkit::client::Outcome {
    within(client.call(method, json!({"taskId": id}))).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_task_is_there_for_who_had_it_made_and_for_nobody_else() {
    let world = World::start().await;
    let server = jobs(&world).await;
    let (ada, bob) = (world.person("ada", "user").await, world.person("bob", "user").await);
    let admin = world.person("head", "admin").await;
    for version in [MODERN, LEGACY] {
        let (own, other, head) = (
            client(&world, &ada, version).await,
            client(&world, &bob, version).await,
            client(&world, &admin, version).await,
        );
        let ours = begin(&own).await;
        assert_ne!(ours, THEIRS, "{version}");
        assert_eq!(ask(&own, "tasks/get", &ours).await.result()["taskId"], json!(ours), "{version}");
        let methods = if version == MODERN {
            ["tasks/get", "tasks/update", "tasks/cancel"]
        } else {
            ["tasks/get", "tasks/result", "tasks/cancel"]
        };
        let text = |said: &testkit::client::Outcome| said.response["error"]["message"].as_str().unwrap().to_owned();
        for method in methods {
            server.host().forget();
            for somebody in [&other, &head] {
                let never = ask(somebody, method, "never-was").await;
                assert_eq!(never.code(), Some(-32602), "{version} {method}: {never:?}");
                for id in [&*ours, THEIRS] {
                    let refused = ask(somebody, method, id).await;
                    assert_eq!(refused.code(), Some(-32602), "{version} {method} {id}: {refused:?}");
                    assert_eq!(text(&refused).replace(id, "never-was"), text(&never), "{version} {method}");
                }
            }
            let raw = ask(&own, method, THEIRS).await;
            assert_eq!(raw.code(), Some(-32602), "nor is the server's own id good: {raw:?}");
            assert!(server.asked(method).is_empty(), "{version} {method}: the server never heard of them");
            let done = ask(&own, method, &ours).await;
            assert!(done.code().is_none(), "{version} {method}: {done:?}");
            assert!(!done.response.to_string().contains(THEIRS), "{version} {method}: {done:?}");
        }
        // From another key of the account, of another era, and after a restart the account's task is its own.
        let again = client(&world, &ada, if version == MODERN { LEGACY } else { MODERN }).await;
        assert!(ask(&again, "tasks/get", &ours).await.code().is_none(), "{version}");

        let listed = within(own.call("tasks/list", json!({}))).await.unwrap();
        assert_eq!(listed.code(), Some(-32601), "{version}: a list of everybody's is nobody's: {listed:?}");
        let disguised = within(own.call("tasks/get", json!({"taskId": ours, "TaskID": THEIRS}))).await.unwrap();
        assert_eq!(disguised.code(), Some(-32600), "{version}: {disguised:?}");
        let params = json!({"name": "work", "arguments": {}, "_meta": {RELATED: {"taskId": THEIRS}}});
        let related = within(own.call("tools/call", params)).await.unwrap();
        assert_eq!(related.code(), Some(-32602), "{version}: nor does a call join a task of others: {related:?}");
    }
    let (_, stream) = client(&world, &bob, MODERN)
        .await
        .subscribe(json!({"taskIds": [THEIRS], "toolsListChanged": true}))
        .await
        .unwrap();
    let mut stream = stream;
    let first: Value = within(stream.message()).await.unwrap().unwrap();
    assert_eq!(first["params"]["notifications"], json!({"toolsListChanged": true}), "{first}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_long_result_does_not_tell_the_server_s_own_id_of_its_task() {
    let world = World::start().await;
    let server = jobs(&world).await;
    let long = "x".repeat(400 << 10);
    let content = json!([{"type": "text", "text": long}]);
    let of_legacy = content.clone();
    server.script("tasks/result", move |_| {
        Answer::Result(json!({"content": of_legacy, "_meta": {RELATED: {"taskId": THEIRS}}}).to_string())
    });
    server.script("tasks/get", move |_| {
        let task =
            json!({"taskId": THEIRS, "status": "completed", "resultType": "complete", "result": {"content": content}});
        Answer::Result(task.to_string())
    });
    let ada = world.person("ada", "user").await;
    for (version, method) in [(LEGACY, "tasks/result"), (MODERN, "tasks/get")] {
        let own = client(&world, &ada, version).await;
        let ours = begin(&own).await;
        let done = ask(&own, method, &ours).await;
        let told = done.response.to_string();
        assert!(told.contains(&long) && told.contains(&ours) && !told.contains(THEIRS), "{method}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_task_goes_with_the_tool_that_made_it() {
    let world = World::start().await;
    let _server = jobs(&world).await;
    let ada = world.person("ada", "user").await;
    let own = client(&world, &ada, LEGACY).await;
    let ours = begin(&own).await;
    let rule = async |text: &str| {
        let (status, said) = world.rest(Method::PUT, "/admin/policies/default", &json!({"text": text})).await;
        assert_eq!(status, 200, "{said}");
    };
    rule(r#"permit(principal, action, resource); forbid(principal, action, resource == Tool::"jobs/work");"#).await;
    for method in ["tasks/get", "tasks/result", "tasks/cancel"] {
        let gone = ask(&own, method, &ours).await;
        assert_eq!(gone.code(), Some(-32602), "{method}: {gone:?}");
    }
    rule("permit(principal, action, resource);").await;
    assert!(ask(&own, "tasks/result", &ours).await.code().is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_said_of_tasks_on_other_streams_is_not_passed_on() {
    let world = World::start().await;
    let server = jobs(&world).await;
    let ada = world.person("ada", "user").await;
    let own = client(&world, &ada, LEGACY).await;
    let mut stream = own.listen(None).await.unwrap();
    assert!(server.notify("notifications/tasks/status", json!({"taskId": "of-somebody", "status": "completed"})) > 0);
    assert!(server.notify("notifications/message", json!({"level": "info", "data": "afterwards"})) > 0);
    let first: Value = within(stream.message()).await.unwrap().unwrap();
    assert_eq!(first["params"]["data"], "afterwards", "{first}");
    let said = within(world.client_of("/mcp/jobs", &ada).initialize(LEGACY)).await.unwrap();
    assert_eq!(said.result()["capabilities"]["tasks"]["list"], Value::Null, "{said:?}");
    assert_eq!(said.result()["capabilities"]["tasks"]["cancel"], json!({}), "{said:?}");
}
