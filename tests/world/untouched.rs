//! What is not known here passes as it is, byte for byte, and what is long passes in little memory.

use serde_json::{Value, json};
use testkit::client::{Client, Request};
use testkit::jsonrpc::{META_CAPABILITIES, META_SUBSCRIPTION, META_VERSION, MODERN};
use testkit::upstream::{Answer, Eras, Plain, ReplyForm};

use crate::world::{World, until, within};

/// Numbers that no machine type holds, escapes that another writer would not write, members that nobody knows.
const ODD: &str = r#"{"n":12345678901234567890123.450,"e":1E40,"z":-0.0,"f":1.0,"u":"\u00e9\ud83d\ude00é","s":"\/","x":null,"deep":[[],{},[{"a":[1, 2 ,3]}]],"":0}"#;

fn hand_written(client: &Client, method: &str, name: &str, params: &str) -> Request {
    let (meta, headers): (String, Vec<(&str, String)>) = match client.version() {
        Some(version) => (
            "\"x.y/z\":1.50".into(),
            vec![("mcp-session-id", client.session().unwrap()), ("mcp-protocol-version", version)],
        ),
        None => (
            format!(r#""x.y/z":1.50,"{META_VERSION}":"{MODERN}","{META_CAPABILITIES}":{{}}"#),
            vec![("mcp-protocol-version", MODERN.into()), ("mcp-method", method.into()), ("mcp-name", name.into())],
        ),
    };
    let text = format!(
        r#"{{"jsonrpc":"2.0","extra":{ODD},"id":"o\u0064d","method":"{method}","params":{{{params},"_meta":{{{meta}}}}}}}"#
    );
    headers.into_iter().fold(Request::post(text), |request, (name, value)| request.header(name, &value))
}

fn contains(whole: &[u8], part: &str) -> bool {
    String::from_utf8_lossy(whole).contains(part)
}

#[tokio::test(flavor = "multi_thread")]
async fn arguments_and_results_pass_byte_for_byte() {
    for eras in [Eras::Dual, Eras::Modern, Eras::Legacy("2025-11-25".into())] {
        for form in [ReplyForm::Auto, ReplyForm::Sse] {
            let server = Plain::with(eras.clone()).await.unwrap();
            let result = format!(
                r#"{{"resultType":"complete","content":[],"unknown":{ODD},"huge":1E400,"structuredContent":{ODD}}}"#
            );
            let told = result.clone();
            server.reply(form).script("odd", move |_| Answer::Result(told.clone()));
            server.script("wrong", |_| Answer::Error(-7, "ü\u{1f600}".into(), Some(json!({"big": 1e300}))));
            let world = World::start().await;
            world.register("it", &server.url()).await;
            for (path, prefix) in [("/mcp", "it__"), ("/mcp/it", "")] {
                for version in [MODERN, "2025-11-25", "2025-03-26"] {
                    let label = format!("{eras:?} {form:?} {version} {path}");
                    let client = world.client_at(path, version).await;
                    server.host().forget();
                    let name = format!("{prefix}odd");
                    let params = format!(r#""arguments":{ODD},"name":"{name}","unknown":{ODD}"#);
                    let reply = within(client.send(hand_written(&client, "tools/call", &name, &params))).await.unwrap();
                    let body = within(reply.bytes()).await.unwrap();
                    assert!(contains(&body, &result), "{label}: {}", String::from_utf8_lossy(&body));
                    assert!(contains(&body, r#""id":"o\u0064d""#), "{label}: {}", String::from_utf8_lossy(&body));
                    let asked = server.calls("odd").pop().unwrap().body;
                    for part in [
                        &format!(r#""arguments":{ODD}"#),
                        &format!(r#""unknown":{ODD}"#),
                        &format!(r#""extra":{ODD}"#),
                        r#""x.y/z":1.50"#,
                    ] {
                        assert!(contains(&asked, part), "{label}: {part} of {}", String::from_utf8_lossy(&asked));
                    }
                    let wrong = client.tool(&format!("{prefix}wrong"), json!({})).await.unwrap();
                    assert_eq!(
                        wrong.response["error"],
                        json!({"code": -7, "message": "ü\u{1f600}", "data": {"big": 1e300}})
                    );
                }
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn methods_and_notifications_that_nobody_knows_reach_the_one_server() {
    for eras in [Eras::Dual, Eras::Modern, Eras::Legacy("2025-11-25".into())] {
        let server = Plain::with(eras.clone()).await.unwrap();
        let world = World::start().await;
        world.register("it", &server.url()).await;
        assert!(server.wait_listeners(1).await);
        for version in [MODERN, "2025-11-25"] {
            let label = format!("{eras:?} {version}");
            let client = world.client_at("/mcp/it", version).await;
            server.host().forget();
            let params = format!(r#""what":{ODD}"#);
            let reply = client.send(hand_written(&client, "x/unknown", "", &params)).await.unwrap();
            let said: Value = serde_json::from_str(&reply.text().await.unwrap()).unwrap();
            assert_eq!(said["error"]["code"], -32601, "{label}: {said}");
            let asked = server.asked("x/unknown").pop().unwrap().body;
            assert!(contains(&asked, &params), "{label}: {}", String::from_utf8_lossy(&asked));
        }
        // A notification of a client with a session reaches a server with sessions.
        if eras.legacy() {
            let client = world.client_at("/mcp/it", "2025-11-25").await;
            server.host().forget();
            assert_eq!(client.notify("notifications/x", json!({"a": 1})).await.unwrap(), 202);
            let heard = server.wait_asked("notifications/x").await.expect("it is passed on");
            assert_eq!(heard.json()["params"], json!({"a": 1}));
        }
        // What a server says to everybody reaches its listeners at its own endpoint.
        for version in [MODERN, "2025-11-25"] {
            if version == MODERN && !eras.modern() || version != MODERN && !eras.legacy() {
                continue;
            }
            assert!(server.wait_listeners(1).await, "only the gateway itself listens");
            let client = world.client_at("/mcp/it", version).await;
            let (id, mut reply) = if version == MODERN {
                client.subscribe(json!({"toolsListChanged": true, "x": true})).await.unwrap()
            } else {
                ("null".to_owned(), client.listen(None).await.unwrap())
            };
            until(|| async { (server.listeners() > 1).then_some(()) }).await;
            server.notify("notifications/x/said", json!({"odd": [1.5, null, "é"]}));
            let message = within(async {
                loop {
                    let message = reply.message().await.unwrap().unwrap();
                    if message["method"] == "notifications/x/said" {
                        return message;
                    }
                }
            })
            .await;
            assert_eq!(message["params"]["odd"], json!([1.5, null, "é"]), "{eras:?} {version}");
            assert_eq!(message["params"]["_meta"][META_SUBSCRIPTION].to_string(), id, "{eras:?} {version}");
        }
    }
}

const BIG: usize = 50 << 20;

#[tokio::test(flavor = "multi_thread")]
async fn fifty_megabytes_pass_in_little_memory() {
    let server = Plain::start().await.unwrap();
    let mut world = World::process(&[]).await;
    world.register("it", &server.url()).await;
    for version in [MODERN, "2025-11-25"] {
        let client = world.client_at("/mcp/it", version).await;
        assert!(client.tool("echo", json!({})).await.unwrap().result().is_object());
        let before = world.the_process().rss().unwrap();

        let params = json!({"name": "big", "arguments": {"bytes": BIG}});
        let (_, mut reply) = client.open("tools/call", params).await.unwrap();
        let mut count = 0;
        while let Some(piece) = reply.piece().await.unwrap() {
            count += piece.len();
        }
        assert!(count > BIG && count < BIG + 1000, "{count}");
        let after = world.the_process().peak_rss().unwrap();
        assert!(after < before + (16 << 20), "{version}, one text: from {before} to {after}");

        // Each event repeats a long token: many events, each of middling size.
        let token = "t".repeat(100_000);
        let steps = BIG / token.len();
        let params = json!({"name": "progress", "arguments": {"steps": steps}, "_meta": {"progressToken": token}});
        let (_, mut reply) = client.open("tools/call", params).await.unwrap();
        let mut count = 0;
        while let Some(piece) = reply.piece().await.unwrap() {
            count += piece.len();
        }
        assert!(count > steps * token.len(), "{count}");
        let after = world.the_process().peak_rss().unwrap();
        assert!(after < before + (32 << 20), "{version}, many events: from {before} to {after}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_that_sleeps_makes_the_server_wait() {
    let server = Plain::start().await.unwrap();
    let mut world = World::process(&[]).await;
    world.register("it", &server.url()).await;
    for form in [ReplyForm::Auto, ReplyForm::Sse] {
        server.reply(form);
        let client = world.client("/mcp/it");
        let before = world.the_process().rss().unwrap();
        let sent = server.sent();
        let params = json!({"name": "big", "arguments": {"bytes": 60 << 20}});
        let (_, mut reply) = client.open("tools/call", params).await.unwrap();
        if form == ReplyForm::Auto {
            reply.piece().await.unwrap().unwrap();
            // Others are served meanwhile.
            for _ in 0..50 {
                assert!(client.tool("echo", json!({})).await.unwrap().result().is_object());
            }
            assert!(server.sent() - sent < (30 << 20), "{}", server.sent());
            let after = world.the_process().rss().unwrap();
            assert!(after < before + (16 << 20), "from {before} to {after}");
        }
        drop(reply);
        until(|| async { (server.in_flight() == 0).then_some(()) }).await;
    }
}
