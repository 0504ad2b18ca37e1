//! Servers that go wrong in every way that was ever seen, and what their clients are told. A fault of one call leaves the next
//! one alone.

use std::time::Duration;

use http::Method;
use serde_json::{Value, json};
use testkit::client::{Client, Outcome};
use testkit::jsonrpc::MODERN;
use testkit::upstream::{Eras, Fault, Faulty, Plain, ReplyForm};

use crate::world::{World, names, until, within};

async fn register(world: &World, servers: &[&Faulty]) {
    let replicas: Vec<Value> = servers.iter().map(|server| json!({"url": server.url()})).collect();
    let spec = json!({"slug": "it", "replicas": replicas, "timeouts": {"idle_ms": 400, "connect_ms": 2000}});
    let server = world.register_as(&spec).await;
    assert_eq!(server["status"]["state"], "ready", "{server}");
}

trait Calls {
    fn calls(&self, tool: &str) -> usize;
}

impl Calls for Faulty {
    fn calls(&self, tool: &str) -> usize {
        self.host().requests().iter().filter(|request| request.json()["params"]["name"] == tool).count()
    }
}

async fn echo(client: &Client) -> Outcome {
    let params = json!({"name": "echo", "arguments": {"message": "x"}, "_meta": {"progressToken": 1}});
    within(client.call("tools/call", params)).await.unwrap()
}

fn kind(outcome: &Outcome) -> &str {
    outcome.response["error"]["data"]["kind"].as_str().unwrap_or_default()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_fault_has_a_name_and_ends_with_its_call() {
    let server = Faulty::start().await.unwrap();
    let world = World::start().await;
    register(&world, &[&server]).await;
    let clients = [
        world.client_at("/mcp/it", MODERN).await,
        world.client_at("/mcp/it", "2025-11-25").await,
        world.client_at("/mcp/it", "2025-03-26").await,
    ];
    for (fault, code, label, status, words) in [
        (Fault::DieMidStream, -31002, "dropped", 200, "broke off"),
        (Fault::EndWithoutAnswer(2), -31002, "dropped", 200, "before its answer was whole"),
        (Fault::Hang, -31003, "timeout", 504, "in time"),
        (Fault::HangAfterHead, -31003, "timeout", 200, "in time"),
        (Fault::Garbage, -31004, "garbage", 502, "no valid MCP message"),
        (Fault::NotJsonRpc, -31004, "garbage", 502, "no valid MCP message"),
        (Fault::Html, -31004, "garbage", 502, "no valid MCP message"),
        (Fault::HalfUtf8, -31004, "garbage", 502, "no valid MCP message"),
        (Fault::UnknownType, -31004, "garbage", 502, "no valid MCP message"),
        (Fault::WrongId, -31004, "garbage", 502, "no valid MCP message"),
        (Fault::Empty, -31004, "garbage", 502, "no valid MCP message"),
        (Fault::ShortBody, -31002, "dropped", 502, "broke off"),
        (Fault::Status(500), -31006, "status", 502, "HTTP 500"),
        (Fault::Status(503), -31006, "status", 502, "HTTP 503"),
        (Fault::TooMany(7), -31006, "status", 503, "HTTP 429"),
        (Fault::Redirect("http://127.0.0.1:1/".into()), -31006, "status", 502, "final URL"),
        (Fault::Status(401), -31007, "refused", 502, "credential"),
        (Fault::Reset, -31002, "dropped", 502, "broke off"),
        (Fault::Close, -31002, "dropped", 502, "broke off"),
    ] {
        for (client, modern) in clients.iter().zip([true, false, false]) {
            server.fail_on("tools/call", fault.clone());
            let outcome = echo(client).await;
            let said = format!("{fault:?}, modern {modern}: {outcome:?}");
            assert_eq!(outcome.code(), Some(code), "{said}");
            assert_eq!(kind(&outcome), label, "{said}");
            let error = &outcome.response["error"];
            assert_eq!(
                (&error["data"]["server"], &error["data"]["whose"]),
                (&json!("it"), &json!("upstream")),
                "{said}"
            );
            let text = error["message"].as_str().unwrap();
            assert!(text.contains(words), "{said}");
            for leak in ["127.0.0.1", "sign in", "text/html", "vnd.unknown", "somebody else's"] {
                assert!(!text.contains(leak), "an address, or what the server wrote: {said}");
            }
            assert_eq!(outcome.status.as_u16(), if modern { status } else { 200 }, "{said}");
            if let Fault::TooMany(_) = fault {
                assert_eq!(outcome.headers["retry-after"], "7", "{said}");
                assert_eq!(error["data"]["retryAfterMs"], 7000, "{said}");
            }
            server.heal();
            assert_eq!(echo(client).await.result()["structuredContent"], json!({"message": "x"}), "after {said}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_says_nothing_of_itself_but_nonsense_is_named_at_registration() {
    let world = World::start().await;
    for (fault, words) in [
        (Fault::Html, "text/html"),
        (Fault::Status(401), "credential"),
        (Fault::Status(500), "HTTP 500"),
        (Fault::Redirect("http://127.0.0.1:1/".into()), "redirect"),
        (Fault::Garbage, ""),
        (Fault::Empty, ""),
    ] {
        let server = Faulty::start().await.unwrap();
        server.fail(fault.clone());
        let slug = format!("s{}", server.host().address().port());
        let kept = world.register_as(&json!({"slug": slug, "replicas": [{"url": server.url()}]})).await;
        assert_eq!(kept["status"]["state"], "unreachable", "{fault:?}: {kept}");
        assert!(kept["status"]["last_error"].as_str().unwrap().contains(words), "{fault:?}: {kept}");
        server.heal();
        let (status, healed) = world.rest(Method::POST, &format!("/servers/{slug}/refresh"), &Value::Null).await;
        assert_eq!((status, &healed["status"]["state"]), (200, &json!("ready")), "{fault:?}: {healed}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_answers_the_first_counts() {
    let server = Faulty::start().await.unwrap();
    let world = World::start().await;
    register(&world, &[&server]).await;
    for version in [MODERN, "2025-11-25"] {
        let client = world.client_at("/mcp/it", version).await;
        server.fail_times("tools/call", 1, Fault::TwoResponses);
        let id = client.next_id();
        let params = json!({"name": "echo", "arguments": {}});
        let mut reply = client.send(client.request(&id, "tools/call", params)).await.unwrap();
        assert!(reply.message().await.unwrap().unwrap()["result"].is_object());
        assert_eq!(reply.message().await.unwrap(), None, "{version}: one request, one answer");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_answer_is_an_answer() {
    let server = Faulty::start().await.unwrap();
    let world = World::start().await;
    register(&world, &[&server]).await;
    let client = world.client("/mcp/it");
    // Each byte comes in time, all of them together take longer than the wait for one.
    server.fail_times("tools/call", 1, Fault::SlowDrip(Duration::from_millis(5)));
    assert_eq!(echo(&client).await.result()["structuredContent"], json!({"message": "x"}));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_closed_at_rest_is_nobodys_error() {
    let server = Faulty::start().await.unwrap();
    let world = World::start().await;
    register(&world, &[&server]).await;
    // The gateway listens on one connection as long as the server is there.
    for version in [MODERN, "2025-11-25"] {
        let client = world.client_at("/mcp/it", version).await;
        let before = server.host().accepted();
        for _ in 0..5 {
            server.fail_times("tools/call", 1, Fault::CloseIdle);
            assert!(echo(&client).await.result().is_object());
            server.heal();
            assert!(echo(&client).await.result().is_object());
            server.host().disconnect_all();
            assert!(server.host().wait_open(0).await);
            assert!(echo(&client).await.result().is_object());
        }
        assert!(server.host().accepted() >= before + 5);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn five_failures_in_a_row_keep_calls_away_from_a_server() {
    let server = Faulty::start().await.unwrap();
    let world = World::start().await;
    register(&world, &[&server]).await;
    let modern = world.client("/mcp/it");
    server.fail_on("tools/call", Fault::Status(500));
    for _ in 0..4 {
        assert_eq!(echo(&modern).await.code(), Some(-31006));
    }
    server.heal();
    assert!(echo(&modern).await.result().is_object(), "four are not enough, and a success forgets them");
    server.fail_on("tools/call", Fault::Status(500));
    for _ in 0..5 {
        assert_eq!(echo(&modern).await.code(), Some(-31006));
    }
    server.heal();
    let seen = server.calls("echo");
    let refused = echo(&modern).await;
    assert_eq!((refused.code(), refused.status.as_u16()), (Some(-31008), 503), "{refused:?}");
    assert_eq!(kind(&refused), "breaker_open");
    let wait: u64 = refused.headers["retry-after"].to_str().unwrap().parse().unwrap();
    assert!((50..=60).contains(&wait), "{wait}");
    assert_eq!(server.calls("echo"), seen, "the server was left alone");
    let refused = echo(&world.client_at("/mcp", "2025-11-25").await).await;
    assert_eq!(refused.code(), Some(-32602), "`echo` is no name at the common endpoint");
    let legacy = world.client_at("/mcp", "2025-11-25").await;
    let refused = within(legacy.tool("it__echo", json!({}))).await.unwrap();
    assert_eq!((refused.code(), refused.status.as_u16()), (Some(-31008), 200), "{refused:?}");
    let list = legacy.call("tools/list", json!({})).await.unwrap();
    assert!(names(&list, "tools").contains(&"it__echo".to_owned()), "what is known is still listed");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_tool_does_wrong_is_not_the_servers_failure() {
    let server = Faulty::start().await.unwrap();
    let world = World::start().await;
    register(&world, &[&server]).await;
    let client = world.client("/mcp/it");
    for _ in 0..7 {
        assert_eq!(client.tool("fail", json!({})).await.unwrap().result()["isError"], true);
        assert_eq!(client.tool("error", json!({"code": -5})).await.unwrap().code(), Some(-5));
        server.fail_times("tools/call", 1, Fault::TooMany(1));
        assert_eq!(echo(&client).await.code(), Some(-31006));
    }
    assert!(echo(&client).await.result().is_object());
}

#[tokio::test(flavor = "multi_thread")]
async fn another_replica_is_tried_only_where_that_is_safe() {
    let (sick, well) = (Faulty::start().await.unwrap(), Faulty::start().await.unwrap());
    for server in [&sick, &well] {
        server.set(|shown| {
            for (name, hints) in [("echo", json!({})), ("slow", json!({"idempotentHint": true}))] {
                let tool = shown.tools.iter_mut().find(|tool| tool["name"] == name).unwrap();
                tool["annotations"] = hints;
            }
        });
    }
    let world = World::start().await;
    register(&world, &[&sick, &well]).await;
    let client = world.client("/mcp/it");
    // It may have acted on it before it failed: only the tool that says it does not matter is called again.
    for fault in [Fault::Status(500), Fault::Close] {
        sick.fail_on("tools/call", fault);
        let (mut good, mut bad) = (0, 0);
        while bad < 2 {
            match echo(&client).await.code() {
                None => good += 1,
                Some(_) => bad += 1,
            }
            // In turn, but the gateway's own questions take turns too.
            assert!(good < 8, "{good} to {bad}");
        }
        sick.heal();
        for _ in 0..2 {
            assert!(echo(&client).await.result().is_object());
        }
        sick.fail_on("tools/call", Fault::Status(500));
        for _ in 0..4 {
            assert_eq!(client.tool("slow", json!({})).await.unwrap().text(), "at last");
        }
        sick.heal();
        for _ in 0..2 {
            assert!(echo(&client).await.result().is_object());
        }
    }
    // Throttled, nothing was done: anybody may be asked instead.
    sick.fail_on("tools/call", Fault::TooMany(1));
    for _ in 0..4 {
        assert!(echo(&client).await.result().is_object());
    }
    // Gone, nothing was sent.
    drop(sick);
    for _ in 0..8 {
        assert!(echo(&client).await.result().is_object());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_moves_when_its_replica_is_gone() {
    let mut replicas = Vec::new();
    for _ in 0..2 {
        replicas.push(Plain::with(Eras::Legacy("2025-11-25".into())).await.unwrap());
    }
    let world = World::start().await;
    let urls: Vec<Value> = replicas.iter().map(|server| json!({"url": server.url()})).collect();
    world.register_as(&json!({"slug": "it", "replicas": urls})).await;
    for (path, tool) in [("/mcp", "it__echo"), ("/mcp/it", "echo")] {
        let clients =
            [world.client_at(path, "2025-11-25").await, world.client_at(path, "2025-11-25").await, world.client(path)];
        for client in &clients {
            assert!(within(client.tool(tool, json!({}))).await.unwrap().result().is_object());
        }
        if replicas.len() == 2 {
            replicas.remove(0);
        }
        for client in &clients {
            let answer = within(client.tool(tool, json!({}))).await.unwrap();
            assert!(answer.result().is_object(), "{path}: {answer:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_dead_server_neither_empties_nor_blocks_the_list() {
    let world = World::start().await;
    let port = testkit::process::free_port().unwrap();
    let living = Plain::start().await.unwrap();
    world.register("living", &living.url()).await;
    let late = json!({"slug": "late", "replicas": [{"url": format!("http://127.0.0.1:{port}/mcp")}]});
    let kept = world.register_as(&late).await;
    assert_eq!(kept["status"]["state"], "unreachable", "{kept}");
    assert!(kept["status"]["last_error"].as_str().unwrap().contains("127.0.0.1"), "{kept}");

    for version in [MODERN, "2025-11-25"] {
        let client = world.client_at("/mcp", version).await;
        let list = within(client.call("tools/list", json!({}))).await.unwrap();
        assert!(names(&list, "tools").contains(&"living__echo".to_owned()), "{list:?}");
        let problems = &list.result()["_meta"]["io.mcp-registry-gateway/problems"];
        assert_eq!(problems[0]["server"], "late", "{list:?}");
        let refused = within(client.tool("late__echo", json!({}))).await.unwrap();
        assert_eq!(refused.code(), Some(-31001), "{refused:?}");
    }
    let health = async || {
        let reply = world.client("/health").send(testkit::client::Request::get().path("/health")).await.unwrap();
        let status = reply.status.as_u16();
        (status, serde_json::from_str::<Value>(&reply.text().await.unwrap()).unwrap())
    };
    until(|| async {
        let (status, said) = health().await;
        assert_eq!(status, 200, "partly is enough to be asked");
        (said["status"] == "degraded").then_some(())
    })
    .await;

    // It comes up, and nobody has to say so.
    let _late = Plain::on(Eras::Dual, port).await.unwrap();
    world.until_state("late", "ready").await;
    let list = world.client("/mcp").call("tools/list", json!({})).await.unwrap();
    assert!(names(&list, "tools").contains(&"late__echo".to_owned()));
    assert_eq!(list.result()["_meta"]["io.mcp-registry-gateway/problems"], Value::Null, "{list:?}");
    until(|| async { (health().await.1["status"] == "ok").then_some(()) }).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_changes_what_it_speaks_is_asked_anew() {
    let server = Plain::with(Eras::Legacy("2025-11-25".into())).await.unwrap();
    let world = World::start().await;
    let seen = world.register("it", &server.url()).await;
    assert_eq!(seen["status"]["era"], "legacy");
    let client = world.client("/mcp/it");
    assert!(echo(&client).await.result().is_object());
    server.eras(Eras::Modern).forget_sessions();
    // One call may find out; after it, all is well.
    until(|| async { echo(&client).await.result().is_object().then_some(()) }).await;
    let old = world.client_at("/mcp/it", "2025-06-18").await;
    until(|| async { echo(&old).await.result().is_object().then_some(()) }).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hundred_megabytes_are_refused_in_little_memory() {
    let server = Faulty::start().await.unwrap();
    let old = Faulty::with(Eras::Legacy("2025-11-25".into())).await.unwrap();
    let mut world = World::process(&["--response-limit=8MiB"]).await;
    register(&world, &[&server]).await;
    world.register("old", &old.url()).await;
    let (modern, legacy) = (world.client("/mcp/it"), world.client_at("/mcp/it", "2025-11-25").await);
    let crossing = world.client("/mcp/old");
    assert!(echo(&modern).await.result().is_object());
    let before = world.the_process().rss().unwrap();
    let clients = [(&server, &modern), (&server, &legacy), (&old, &crossing)];
    for (server, client) in clients {
        // What began as an answer cannot become an error: the connection breaks, and nothing half passes for a whole.
        for huge in [Fault::HugeEvent(100 << 20), Fault::Huge(100 << 20)] {
            server.fail_times("tools/call", 1, huge.clone());
            let params = json!({"name": "echo", "arguments": {}});
            let broken = within(client.call("tools/call", params)).await;
            assert!(broken.is_err(), "{huge:?}: {broken:?}");
        }
        assert!(echo(client).await.result().is_object());
    }
    old.fail_times("tools/list", 1, Fault::Huge(100 << 20));
    let (_, listed) = world.rest(Method::POST, "/servers/old/refresh", &Value::Null).await;
    assert_eq!(listed["status"]["state"], "unreachable", "{listed}");
    let peak = world.the_process().peak_rss().unwrap();
    assert!(peak < before + (40 << 20), "from {before} to {peak}");
}

#[tokio::test(flavor = "multi_thread")]
async fn fifty_megabytes_pass_in_little_memory_whatever_their_form_and_the_two_eras() {
    for (eras, version) in [
        (Eras::Modern, MODERN),
        (Eras::Legacy("2025-11-25".into()), "2025-11-25"),
        (Eras::Legacy("2025-11-25".into()), MODERN),
        (Eras::Modern, "2025-11-25"),
    ] {
        let server = Faulty::with(eras.clone()).await.unwrap();
        let mut world = World::process(&[]).await;
        world.register("it", &server.url()).await;
        for path in ["/mcp/it", "/mcp"] {
            let client = world.client_at(path, version).await;
            let name = if path == "/mcp" { "it__echo" } else { "echo" };
            assert!(within(client.tool(name, json!({}))).await.unwrap().result().is_object());
            let before = world.the_process().rss().unwrap();
            for form in [Fault::HugeEvent(50 << 20), Fault::Huge(50 << 20)] {
                server.fail_times("tools/call", 1, form.clone());
                let params = json!({"name": name, "arguments": {}});
                let said = format!("{form:?} of {eras:?} to {version} at {path}");
                let answer = client.call("tools/call", params).await.unwrap_or_else(|error| panic!("{said}: {error}"));
                assert_eq!(answer.text().len(), 50 << 20, "{said}");
                let completed = version == MODERN && eras != Eras::Modern;
                assert_eq!(completed, answer.result()["resultType"] == "complete", "{said}");
                let peak = world.the_process().peak_rss().unwrap();
                assert!(peak < before + (12 << 20), "{said}: from {before} to {peak}");
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_long_answer_does_not_outlive_the_key_that_asked_for_it() {
    for version in [MODERN, "2025-11-25"] {
        for form in [Fault::Huge(50 << 20), Fault::HugeEvent(50 << 20)] {
            let server = Faulty::start().await.unwrap();
            let world = World::start().await;
            world.register("it", &server.url()).await;
            let key = world.person("ada", "user").await;
            let client = crate::world::shake(world.client_of("/mcp/it", &key), version).await;
            server.fail_times("tools/call", 1, form.clone());
            let params = json!({"name": "echo", "arguments": {}});
            let mut reply = within(client.send(client.request("7", "tools/call", params))).await.unwrap();
            assert!(within(reply.piece()).await.unwrap().is_some(), "{version} {form:?}");
            let (status, _) = world.rest(Method::PATCH, "/users/ada", &json!({"state": "disabled"})).await;
            assert_eq!(status, 200);
            let mut came = 0;
            let ended = loop {
                match within(reply.piece()).await {
                    Ok(Some(piece)) => came += piece.len(),
                    Ok(None) => break "in good order",
                    Err(_) => break "broken off",
                }
            };
            assert!(came < 50 << 20, "{version} {form:?}: all of it came, and it ended {ended}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_streaming_server_says_before_it_dies_is_not_lost() {
    let server = Plain::start().await.unwrap();
    server.reply(ReplyForm::Sse);
    let world = World::start().await;
    world.register("it", &server.url()).await;
    for version in [MODERN, "2025-11-25"] {
        let client = world.client_at("/mcp/it", version).await;
        let params =
            json!({"name": "progress", "arguments": {"steps": 100_000, "ms": 1}, "_meta": {"progressToken": 1}});
        let id = client.next_id();
        let mut reply = client.send(client.request(&id, "tools/call", params)).await.unwrap();
        assert_eq!(reply.message().await.unwrap().unwrap()["method"], "notifications/progress");
        server.host().disconnect_all();
        let outcome = within(reply.finish(&id)).await.unwrap();
        assert_eq!(outcome.code(), Some(-31002), "{outcome:?}");
    }
}
