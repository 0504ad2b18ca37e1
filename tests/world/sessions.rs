//! Sessions of clients and sessions with servers: how they end, how many there are, whose they are, and what a client notices
//! when a server forgets one, which is nothing.

use serde_json::json;
use testkit::client::Request;
use testkit::jsonrpc::MODERN;
use testkit::upstream::{Eras, Plain};

use crate::world::{VERSIONS, World, shake, until, within};

fn legacy() -> Eras {
    Eras::Legacy("2025-11-25".into())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_nobody_uses_ends_and_takes_the_servers_session_along() {
    let server = Plain::with(legacy()).await.unwrap();
    let world = World::with(&["--session-idle-timeout=1s"]).await;
    world.register("it", &server.url()).await;
    let before = server.session_ids().len();
    let idle = world.client_at("/mcp/it", "2025-11-25").await;
    let listening = world.client_at("/mcp", "2025-11-25").await;
    let _stream = listening.listen(None).await.unwrap();
    assert_eq!(server.session_ids().len(), before + 1);
    assert_eq!(world.app().sessions.count(), 2);
    until(|| async {
        let gone = world.app().sessions.sweep();
        for session in gone {
            mcp_registry_gateway::mcp::handshake::close_behind(world.app(), session);
        }
        (world.app().sessions.count() < 2).then_some(())
    })
    .await;
    assert_eq!(world.app().sessions.count(), 1, "who listens is not idle");
    let gone = idle.tool("echo", json!({})).await.unwrap();
    assert_eq!((gone.status.as_u16(), gone.code()), (404, Some(-32600)), "{gone:?}");
    until(|| async { (server.session_ids().len() == before).then_some(()) }).await;
    assert!(listening.call("ping", json!({})).await.unwrap().result().is_object());
}

#[tokio::test(flavor = "multi_thread")]
async fn there_are_no_more_sessions_than_allowed() {
    let world = World::with(&["--max-sessions=2"]).await;
    let first = world.client_at("/mcp", "2025-11-25").await;
    let _second = world.client_at("/mcp", "2025-11-25").await;
    let third = world.client("/mcp");
    let text = r#"{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"protocolVersion":"2025-11-25","capabilities":{},"clientInfo":{"name":"x","version":"1"}}}"#;
    let refused = third.send(Request::post(text)).await.unwrap().finish("1").await.unwrap();
    assert_eq!((refused.status.as_u16(), refused.code()), (503, Some(-31009)), "{refused:?}");
    assert_eq!(refused.headers["retry-after"], "10");
    assert_eq!(refused.headers.get("mcp-session-id"), None);
    assert!(third.call("tools/list", json!({})).await.unwrap().result().is_object(), "without a session all is well");
    first.end().await.unwrap();
    third.initialize("2025-11-25").await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn one_account_leaves_sessions_to_others() {
    let world = World::with(&["--max-sessions=128"]).await;
    let (ann, bob) = (world.person("ann", "user").await, world.person("bob", "user").await);
    let mut open = Vec::new();
    for _ in 0..64 {
        open.push(shake(world.client_of("/mcp", &ann), "2025-11-25").await);
    }
    let one_more = async || {
        let client = world.client_of("/mcp", &ann);
        let info = json!({"name": "x", "version": "1"});
        let params = json!({"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": info});
        let message = json!({"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": params});
        within(client.send(Request::post(message.to_string()))).await.unwrap().finish("1").await.unwrap()
    };
    let refused = one_more().await;
    assert_eq!((refused.status.as_u16(), refused.code()), (503, Some(-31009)), "{refused:?}");
    assert!(refused.response.to_string().contains("your account holds 64 sessions"), "{refused:?}");
    shake(world.client_of("/mcp", &bob), "2025-11-25").await;
    // Bob's is beyond the half, of which she has had her part.
    for client in open.drain(..2) {
        client.end().await.unwrap();
    }
    assert_eq!(one_more().await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_belongs_to_the_person_and_not_to_the_key() {
    let server = Plain::start().await.unwrap();
    let world = World::start().await;
    world.register("it", &server.url()).await;
    for name in ["ada", "bob"] {
        world.user(name).await;
    }
    let (one, two) = (world.key("ada", json!("*"), json!("*")).await, world.key("ada", json!("*"), json!("*")).await);
    let narrow = world.key("ada", json!("*"), json!(["it/gate"])).await;
    let bobs = world.key("bob", json!("*"), json!("*")).await;
    for (path, tool) in [("/mcp", "it__echo"), ("/mcp/it", "echo")] {
        let client = shake(world.client_of(path, &one), "2025-11-25").await;
        let good = || client.request("1", "tools/call", json!({"name": tool, "arguments": {}}));
        let with = async |key: &str| {
            let request = good().header("authorization", &format!("Bearer {key}"));
            within(client.send(request)).await.unwrap().finish("1").await.unwrap()
        };
        assert!(with(&two).await.result().is_object(), "{path}: her other key");
        assert_eq!(
            with(&narrow).await.code(),
            Some(-32602),
            "{path}: what that key may not, it may not in any session"
        );
        assert_eq!(with(&bobs).await.status, 404, "{path}: another's key");
        assert_eq!(with(crate::world::KEY).await.status, 404, "{path}: not even the administrator's");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_forgets_its_sessions_is_asked_in_new_ones() {
    for eras in [legacy(), Eras::Dual] {
        let server = Plain::with(eras.clone()).await.unwrap();
        let world = World::start().await;
        world.register("it", &server.url()).await;
        for (path, tool) in [("/mcp", "it__echo"), ("/mcp/it", "echo")] {
            for version in VERSIONS {
                let client = world.client_at(path, version).await;
                if version != MODERN {
                    client.call("logging/setLevel", json!({"level": "error"})).await.unwrap();
                }
                assert!(client.tool(tool, json!({})).await.unwrap().result().is_object());
                server.forget_sessions();
                server.host().forget();
                let answer = within(client.tool(tool, json!({"message": "again"}))).await.unwrap();
                assert_eq!(answer.result()["structuredContent"]["message"], "again", "{eras:?} {version} {path}");
                if version != MODERN {
                    let level = server.asked("logging/setLevel").pop().expect("the new session has the old level");
                    assert_eq!(level.json()["params"]["level"], "error");
                }
                assert!(client.tool(tool, json!({})).await.unwrap().result().is_object());
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_client_listens_for_outlives_a_restart_of_the_server() {
    const NOTE: &str = "stand-in://note";
    let server = Plain::with(legacy()).await.unwrap();
    let world = World::start().await;
    world.register("it", &server.url()).await;
    for path in ["/mcp", "/mcp/it"] {
        let client = world.client_at(path, "2025-11-25").await;
        client.call("resources/subscribe", json!({"uri": NOTE})).await.unwrap();
        let mut stream = client.listen(None).await.unwrap();
        // Nobody says when a stream is in place: told again until it is heard.
        let updated = async |stream: &mut testkit::client::Reply| {
            within(async {
                loop {
                    server.resource_changed(NOTE);
                    let heard = tokio::time::timeout(std::time::Duration::from_millis(200), stream.message()).await;
                    match heard {
                        Ok(Ok(Some(message))) if message["method"] == "notifications/resources/updated" => return true,
                        Ok(Ok(Some(_))) | Err(_) => {}
                        Ok(Ok(None) | Err(_)) => return false,
                    }
                }
            })
            .await
        };
        assert!(updated(&mut stream).await, "{path}");
        server.forget_sessions();
        server.host().disconnect_all();
        assert!(server.wait_listeners(0).await, "{path}");
        if path == "/mcp/it" {
            // At the server's own endpoint its stream is the client's, who comes back when it ends.
            let to_its_end = async { while let Ok(Some(_)) = stream.message().await {} };
            within(to_its_end).await;
            stream = client.listen(None).await.unwrap();
            assert_eq!(stream.status, 200, "{path}");
        }
        // The gateway itself listens, and the client's session does.
        assert!(server.wait_listeners(2).await, "{path}");
        server.notify("notifications/marker", json!({}));
        within(async {
            while stream.message().await.unwrap().expect("the stream goes on")["method"] != "notifications/marker" {}
        })
        .await;
        assert!(updated(&mut stream).await, "{path}: after the restart");
        server.set(|shown| shown.tools.push(json!({"name": path, "inputSchema": {"type": "object"}})));
        until(|| async {
            server.tools_changed();
            let list = world.client("/mcp").call("tools/list", json!({})).await.unwrap();
            crate::world::names(&list, "tools").contains(&format!("it__{path}")).then_some(())
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_modern_client_watches_outlives_a_restart_of_the_server() {
    const NOTE: &str = "stand-in://note";
    for eras in [legacy(), Eras::Modern] {
        let server = Plain::with(eras.clone()).await.unwrap();
        let world = World::start().await;
        world.register("it", &server.url()).await;
        let (_, mut stream) = world.client("/mcp").subscribe(json!({"resourceSubscriptions": [NOTE]})).await.unwrap();
        within(stream.message()).await.unwrap().unwrap();
        let updated = async |stream: &mut testkit::client::Reply| {
            within(async {
                loop {
                    server.resource_changed(NOTE);
                    let heard = tokio::time::timeout(std::time::Duration::from_millis(200), stream.message()).await;
                    if let Ok(heard) = heard {
                        assert_eq!(heard.unwrap().unwrap()["method"], "notifications/resources/updated");
                        return;
                    }
                }
            })
            .await;
        };
        updated(&mut stream).await;
        server.forget_sessions();
        server.host().disconnect_all();
        assert!(server.wait_listeners(0).await, "{eras:?}");
        // What was told before is read first.
        while let Ok(heard) = tokio::time::timeout(std::time::Duration::from_millis(200), stream.message()).await {
            assert!(heard.unwrap().is_some(), "the gateway's own stream goes on");
        }
        updated(&mut stream).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_without_sessions_serves_clients_that_have_them() {
    let server = Plain::with(legacy()).await.unwrap();
    server.sessions(false);
    let world = World::start().await;
    world.register("it", &server.url()).await;
    for (path, tool) in [("/mcp", "it__echo"), ("/mcp/it", "echo")] {
        for version in VERSIONS {
            let client = world.client_at(path, version).await;
            let answer = client.tool(tool, json!({"message": "x"})).await.unwrap();
            assert_eq!(answer.result()["structuredContent"]["message"], "x", "{version} {path}: {answer:?}");
            if version != MODERN {
                assert_eq!(client.end().await.unwrap(), 200);
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_that_is_ended_ends_the_servers_too() {
    let server = Plain::with(legacy()).await.unwrap();
    let world = World::start().await;
    world.register("it", &server.url()).await;
    let own = server.session_ids();
    for (path, tool) in [("/mcp", "it__echo"), ("/mcp/it", "echo")] {
        let client = world.client_at(path, "2025-11-25").await;
        client.tool(tool, json!({})).await.unwrap();
        assert_eq!(server.session_ids().len(), own.len() + 1, "{path}");
        client.end().await.unwrap();
        until(|| async { (server.session_ids() == own).then_some(()) }).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_breaks_off_is_taken_up_again() {
    let server = Plain::with(legacy()).await.unwrap();
    let world = World::start().await;
    world.register("it", &server.url()).await;
    for (path, tool) in [("/mcp", "it__reconnect"), ("/mcp/it", "reconnect")] {
        let client = world.client_at(path, "2025-11-25").await;
        let (id, mut reply) = client.open("tools/call", json!({"name": tool, "arguments": {}})).await.unwrap();
        let first = within(reply.event()).await.unwrap().unwrap();
        let last = first.id.expect("an id to come back with");
        assert_eq!(within(reply.event()).await.unwrap(), None, "{path}: the server closes the stream");
        let resumed = client.listen(Some(&last)).await.unwrap();
        assert_eq!(resumed.status, 200, "{path}");
        let answer = within(resumed.finish(&id)).await.unwrap();
        assert_eq!(answer.text(), "resumed", "{path}: {answer:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_one_session_gives_up_another_keeps() {
    // Both use the same request id, at one server, at once.
    for eras in [legacy(), Eras::Modern] {
        let server = Plain::with(eras).await.unwrap();
        let world = World::start().await;
        world.register("it", &server.url()).await;
        let (left, right) =
            (world.client_at("/mcp/it", "2025-11-25").await, world.client_at("/mcp/it", "2025-11-25").await);
        let params = json!({"name": "gate", "arguments": {}});
        let call = async |client: &testkit::client::Client| {
            client.send(client.request("7", "tools/call", params.clone())).await.unwrap().finish("7").await.unwrap()
        };
        let story = async {
            until(|| async { (server.calls("gate").len() == 2).then_some(()) }).await;
            left.notify("notifications/cancelled", json!({"requestId": 7})).await.unwrap();
            assert!(server.wait_cancelled().await.is_some());
            server.open_gate(true);
        };
        let (gone, kept, ()) = within(async { tokio::join!(call(&left), call(&right), story) }).await;
        assert!(gone.response.is_null(), "{gone:?}");
        assert_eq!(kept.text(), "let through", "{kept:?}");
    }
}
