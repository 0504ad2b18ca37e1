//! What clients do wrong: for each mistake the status, the code and words that say what to do, and nothing half done behind it.

use http::Method;
use serde_json::{Value, json};
use testkit::client::{Client, Reply, Request};
use testkit::jsonrpc::{META_CAPABILITIES, META_VERSION, MODERN};
use testkit::upstream::{Eras, Plain, Recorded};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::world::{World, names, within};

/// Sends it; the answer must be this error.
async fn refused(client: &Client, request: Request, status: u16, code: i64, words: &str, label: &str) -> Value {
    let reply = within(client.send(request)).await.unwrap();
    error_of(reply, status, code, words, label).await
}

async fn error_of(reply: Reply, status: u16, code: i64, words: &str, label: &str) -> Value {
    let was = reply.status.as_u16();
    let text = reply.text().await.unwrap();
    assert_eq!(was, status, "{label}: {text}");
    let said: Value = serde_json::from_str(&text).unwrap_or_else(|_| panic!("{label}: no JSON: {text}"));
    assert_eq!(said["jsonrpc"], "2.0", "{label}: {said}");
    assert_eq!(said["error"]["code"], code, "{label}: {said}");
    assert!(said["error"]["message"].as_str().unwrap().contains(words), "{label}: {said}");
    said
}

/// What came to the server, but for the gateway's own listening.
fn disturbed(server: &Plain) -> Vec<String> {
    let methods = server.host().requests().into_iter().map(|request| request.rpc());
    methods.filter(|method| !method.is_empty() && method != "subscriptions/listen").collect()
}

fn echo() -> Value {
    json!({"name": "echo", "arguments": {"message": "x"}})
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_message_reaches_nobody() {
    let server = Plain::start().await.unwrap();
    let world = World::start().await;
    world.register("it", &server.url()).await;
    let deep =
        format!(r#"{{"jsonrpc":"2.0","id":1,"method":"m","params":{{"a":{}1{}}}}}"#, "[".repeat(500), "]".repeat(500));
    let call = r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"echo","arguments":{}}}"#;
    let texts: Vec<(&str, Vec<u8>, i64, &str)> = vec![
        ("half an object", br#"{"jsonrpc":"2.0","#.to_vec(), -32700, "Parse error"),
        ("nothing", Vec::new(), -32700, "Parse error"),
        ("half a character", b"{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"m\xc3\"}".to_vec(), -32700, "Parse error"),
        ("two texts", format!("{call}{call}").into_bytes(), -32700, "Parse error"),
        ("a batch", format!("[{call},{call}]").into_bytes(), -32600, "batches"),
        ("an empty batch", b"[]".to_vec(), -32600, "batches"),
        ("a string", b"\"tools/call\"".to_vec(), -32600, "object"),
        ("a name twice", call.replace("\"arguments\"", "\"name\"").into_bytes(), -32600, "name"),
        ("a method twice", call.replace("\"id\":1", "\"id\":1,\"method\":\"ping\"").into_bytes(), -32600, "method"),
        ("a disguised name", call.replace("\"method\"", "\"Method\"").into_bytes(), -32600, "lower case"),
        ("too deep", deep.into_bytes(), -32600, "deep"),
        ("no version", call.replace("\"jsonrpc\":\"2.0\",", "").into_bytes(), -32600, "jsonrpc"),
        ("no id that is one", call.replace("\"id\":1", "\"id\":null").into_bytes(), -32600, "id"),
        ("an id in a list", call.replace("\"id\":1", "\"id\":[1]").into_bytes(), -32600, "id"),
        ("no method", br#"{"jsonrpc":"2.0","id":1}"#.to_vec(), -32600, "method"),
        ("positions", br#"{"jsonrpc":"2.0","id":1,"method":"m","params":[1]}"#.to_vec(), -32602, "object"),
        ("no name", call.replace("\"name\"", "\"Name\"").into_bytes(), -32600, "read as `name`"),
        (
            "a name for others",
            call.replace("\"arguments\"", "\"n\u{e5}me\":1,\"NAME\"").into_bytes(),
            -32600,
            "read as `name`",
        ),
        ("others' parameters", call.replace("\"id\"", "\"param\u{17f}\":{},\"id\"").into_bytes(), -32600, "lower case"),
        ("no `_meta` that is one", call.replace("\"arguments\":{}", "\"_meta\":null").into_bytes(), -32602, "`_meta`"),
        ("`_meta` in a list", call.replace("\"arguments\":{}", "\"_meta\":[]").into_bytes(), -32602, "`_meta`"),
        ("a request without an id", call.replace("\"id\":1,", "").into_bytes(), -32600, "needs an `id`"),
        ("two things at once", br#"{"jsonrpc":"2.0","id":1,"method":"m","result":{}}"#.to_vec(), -32600, "only one"),
    ];
    for path in ["/mcp", "/mcp/it"] {
        let legacy = world.client_at(path, "2025-11-25").await;
        let modern = world.client(path);
        server.host().forget();
        for (label, text, code, words) in &texts {
            let session = legacy.session().unwrap();
            let old = Request::post(text.clone())
                .header("mcp-session-id", &session)
                .header("mcp-protocol-version", "2025-11-25");
            refused(&legacy, old, 400, *code, words, label).await;
            let new =
                Request::post(text.clone()).header("mcp-protocol-version", MODERN).header("mcp-method", "tools/call");
            refused(&modern, new, 400, *code, words, label).await;
        }
        for (client, label) in [(&legacy, "legacy"), (&modern, "modern")] {
            let good = || client.request("7", "tools/call", echo());
            let plain = good().header("content-type", "text/plain");
            refused(client, plain, 415, -32600, "application/json", label).await;
            refused(client, good().without("content-type"), 415, -32600, "application/json", label).await;
            for accept in ["application/json", "text/event-stream", "text/html", "image/*"] {
                refused(client, good().header("accept", accept), 406, -32600, "accept", label).await;
            }
        }
        assert_eq!(disturbed(&server), [""; 0], "{path}");
        assert!(
            legacy
                .tool(if path == "/mcp" { "it__echo" } else { "echo" }, json!({}))
                .await
                .unwrap()
                .result()
                .is_object()
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_or_uri_that_is_too_long_is_looked_up_nowhere() {
    let server = Plain::start().await.unwrap();
    let world = World::start().await;
    world.register("it", &server.url()).await;
    for (path, prefix) in [("/mcp", "it__"), ("/mcp/it", "")] {
        let client = world.client_at(path, "2025-11-25").await;
        server.host().forget();
        let name = format!("{prefix}{}", "\u{e9}".repeat(512 - prefix.len()));
        let (long, longer) = (format!("{name}{}", "a".repeat(prefix.len())), format!("{name}{}", "a".repeat(5)));
        let uri = format!("test://{}", "a".repeat(8_185));
        let longer_uri = format!("{uri}a");
        for (method, fits, params, member) in [
            ("tools/call", json!({"name": long}), json!({"name": longer}), "`name`"),
            ("prompts/get", json!({"name": long}), json!({"name": longer}), "`name`"),
            ("resources/read", json!({"uri": uri}), json!({"uri": longer_uri}), "`uri`"),
            ("resources/subscribe", json!({"uri": uri}), json!({"uri": longer_uri}), "`uri`"),
            ("completion/complete", json!({"ref": {"name": long}}), json!({"ref": {"name": longer}}), "`ref.name`"),
            ("completion/complete", json!({"ref": {"uri": uri}}), json!({"ref": {"uri": longer_uri}}), "`ref.uri`"),
        ] {
            let said = within(client.call(method, params)).await.unwrap();
            assert_eq!(said.code(), Some(-32602), "{path} {method}: {said:?}");
            let words = said.response["error"]["message"].as_str().unwrap();
            assert!(words.contains(member) && words.contains("longer than"), "{path} {method}: {words}");
            assert_eq!(disturbed(&server), [""; 0], "{path} {method}");
            let said = within(client.call(method, fits)).await.unwrap();
            assert!(!said.response.to_string().contains("longer than"), "{path} {method}: {said:?}");
            server.host().forget();
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_is_one_that_was_opened_here_by_who_uses_it() {
    let server = Plain::start().await.unwrap();
    let world = World::start().await;
    world.register("it", &server.url()).await;
    world.user("bob").await;
    let bob = world.key("bob", json!("*"), json!("*")).await;
    let mine = world.client_at("/mcp/it", "2025-11-25").await;
    let session = mine.session().unwrap();
    let good = || mine.request("1", "tools/call", echo());
    let other = world.client_of("/mcp/it", &bob);
    server.host().forget();

    refused(&mine, good().without("mcp-session-id"), 400, -32600, "initialize", "none").await;
    for id in ["nobody", "", "0123456789abcdef0123456789abcdef"] {
        refused(&mine, good().header("mcp-session-id", id), 404, -32600, "Unknown session", id).await;
    }
    refused(&other, good(), 404, -32600, "Unknown session", "another's").await;
    refused(&mine, good().path("/mcp"), 404, -32600, "Unknown session", "another endpoint").await;
    let get = || Request::get().header("mcp-session-id", &session).header("mcp-protocol-version", "2025-11-25");
    refused(&other, get(), 404, -32600, "Unknown session", "another's stream").await;
    refused(&mine, get().header("accept", "application/json"), 406, -32600, "text/event-stream", "a GET for JSON")
        .await;
    refused(&mine, get().without("mcp-session-id"), 400, -32600, "initialize", "a GET without one").await;
    let delete = || Request::delete().header("mcp-session-id", &session).header("mcp-protocol-version", "2025-11-25");
    refused(&other, delete(), 404, -32600, "Unknown session", "another ends it").await;
    assert_eq!(disturbed(&server), [""; 0]);
    assert!(mine.tool("echo", json!({})).await.unwrap().result().is_object(), "it is still there");

    for version in ["1999-01-01", "2031-01-01", "latest", ""] {
        let said =
            refused(&mine, good().header("mcp-protocol-version", version), 400, -32022, "Unsupported", version).await;
        assert!(said["error"]["data"]["supported"].as_array().unwrap().contains(&json!("2025-11-25")), "{said}");
    }

    assert_eq!(mine.end().await.unwrap(), 200);
    refused(&mine, good(), 404, -32600, "Unknown session", "ended").await;
    refused(&mine, get(), 404, -32600, "Unknown session", "ended").await;
    refused(&mine, delete(), 404, -32600, "Unknown session", "ended twice").await;
    assert_eq!(world.app().sessions.count(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_handshake_without_what_it_needs_opens_nothing() {
    let server = Plain::start().await.unwrap();
    let world = World::start().await;
    world.register("it", &server.url()).await;
    for path in ["/mcp", "/mcp/it"] {
        let client = world.client(path);
        for params in ["{}", r#"{"protocolVersion":7}"#, r#"{"protocolVersion":null}"#] {
            let text = format!(r#"{{"jsonrpc":"2.0","id":1,"method":"initialize","params":{params}}}"#);
            refused(&client, Request::post(text), 200, -32602, "protocolVersion", params).await;
        }
        let much = json!({"protocolVersion": "2025-11-25", "capabilities": {}, "x": "y".repeat(100_000)});
        let text = json!({"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": much}).to_string();
        refused(&client, Request::post(text), 200, -32602, "larger than", "much").await;
    }
    assert_eq!(world.app().sessions.count(), 0);
    // A version that nobody knows is answered with one that the gateway speaks.
    let client = world.client("/mcp");
    let answer = client.initialize("2019-01-01").await.unwrap();
    assert_eq!(answer.result()["protocolVersion"], "2025-11-25");
}

#[tokio::test(flavor = "multi_thread")]
async fn headers_and_body_of_a_modern_request_say_the_same() {
    let server = Plain::start().await.unwrap();
    server.set(|shown| {
        shown.tools.push(json!({"name": "where", "inputSchema": {"type": "object", "properties": {
            "region": {"type": "string", "x-mcp-header": "Region"}}}}));
    });
    let world = World::start().await;
    world.register("it", &server.url()).await;
    for (path, echo_name, where_name) in [("/mcp", "it__echo", "it__where"), ("/mcp/it", "echo", "where")] {
        let client = world.client(path);
        server.host().forget();
        let good = || client.request("1", "tools/call", json!({"name": echo_name, "arguments": {}}));
        for (label, request, words) in [
            ("no version", good().without("mcp-protocol-version"), "MCP-Protocol-Version"),
            ("another version", good().header("mcp-protocol-version", "2025-11-25"), "MCP-Protocol-Version"),
            ("no method", good().without("mcp-method"), "Mcp-Method"),
            ("another method", good().header("mcp-method", "tools/list"), "Mcp-Method"),
            ("no name", good().without("mcp-name"), "Mcp-Name"),
            ("another name", good().header("mcp-name", "rm"), "Mcp-Name"),
            ("a broken name", good().header("mcp-name", "=?base64?!?="), "Mcp-Name"),
        ] {
            let said = refused(&client, request, 400, -32020, words, label).await;
            assert_eq!(said["id"], 1, "{label}: {said}");
        }
        let params = json!({"name": where_name, "arguments": {"region": "eu"}});
        let region = || client.request("1", "tools/call", params.clone());
        refused(&client, region(), 400, -32020, "mcp-param-region", "no parameter").await;
        let wrong = region().header("mcp-param-region", "us");
        refused(&client, wrong, 400, -32020, "mcp-param-region", "another parameter").await;
        let none = client.request("1", "tools/call", json!({"name": where_name, "arguments": {}}));
        let none = none.header("mcp-param-region", "us");
        refused(&client, none, 400, -32020, "mcp-param-region", "a parameter that is not there").await;
        assert_eq!(disturbed(&server), [""; 0], "{path}");

        let without = |key: &str| {
            let mut meta = json!({META_VERSION: MODERN, META_CAPABILITIES: {}});
            meta.as_object_mut().unwrap().remove(key);
            let body = json!({"jsonrpc": "2.0", "id": 1, "method": "tools/list", "params": {"_meta": meta}});
            Request::post(body.to_string()).header("mcp-protocol-version", MODERN).header("mcp-method", "tools/list")
        };
        refused(&client, without(META_VERSION), 400, -32602, META_VERSION, "no version in the body").await;
        refused(&client, without(META_CAPABILITIES), 400, -32602, META_CAPABILITIES, "no capabilities").await;
        let bare = Request::post(r#"{"jsonrpc":"2.0","id":1,"method":"tools/list"}"#)
            .header("mcp-protocol-version", MODERN)
            .header("mcp-method", "tools/list");
        refused(&client, bare, 400, -32602, "_meta", "no parameters").await;

        let strange = json!({META_VERSION: "2031-01-01", META_CAPABILITIES: {}});
        let body = json!({"jsonrpc": "2.0", "id": 1, "method": "tools/list", "params": {"_meta": strange}});
        let strange = Request::post(body.to_string())
            .header("mcp-protocol-version", "2031-01-01")
            .header("mcp-method", "tools/list");
        let said = refused(&client, strange, 400, -32022, "2031-01-01", "an unknown version").await;
        assert_eq!(said["error"]["data"]["requested"], "2031-01-01");
        assert!(said["error"]["data"]["supported"].as_array().unwrap().contains(&json!(MODERN)));

        for method in ["initialize", "ping", "logging/setLevel", "resources/subscribe", "resources/unsubscribe"] {
            let mut request = client.request("1", method, json!({"uri": "a:b", "level": "info"}));
            for (name, value) in [("mcp-protocol-version", MODERN), ("mcp-method", method)] {
                request = request.header(name, value);
            }
            refused(&client, request, 404, -32601, method, method).await;
        }
        let answer = Request::post(r#"{"jsonrpc":"2.0","id":1,"result":{}}"#).header("mcp-protocol-version", MODERN);
        refused(&client, answer, 400, -32600, "responses", "an answer").await;
        assert_eq!(server.calls("echo").len() + server.calls("where").len(), 0);

        let get = Request::get().header("mcp-protocol-version", MODERN);
        let reply = client.send(get).await.unwrap();
        assert_eq!((reply.status.as_u16(), reply.header("allow")), (405, "POST"), "{path}");
        let delete = Request::delete().header("mcp-protocol-version", MODERN);
        assert_eq!(client.send(delete).await.unwrap().status, 405, "{path}");
        let put = Request::new(Method::PUT, "{}".into());
        assert_eq!(client.send(put).await.unwrap().status, 405, "{path}");

        let right = region().header("mcp-param-region", "eu");
        let reply = client.send(right).await.unwrap().finish("1").await.unwrap();
        assert_eq!(reply.code(), Some(-32602), "the stand-in has no such tool, and was asked: {reply:?}");
        assert_eq!(server.calls("where").len(), 1);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_there_is_said_so() {
    let server = Plain::start().await.unwrap();
    let world = World::start().await;
    world.register("it", &server.url()).await;
    for version in [MODERN, "2025-11-25"] {
        let client = world.client_at("/mcp", version).await;
        server.host().forget();
        for name in ["echo", "it_echo", "no__echo", "__echo", "it__", ""] {
            let answer = client.tool(name, json!({})).await.unwrap();
            assert_eq!(answer.code(), Some(-32602), "{name}: {answer:?}");
            assert!(answer.response["error"]["message"].as_str().unwrap().contains("Unknown tool"), "{answer:?}");
        }
        let answer = client.call("prompts/get", json!({"name": "no__greet"})).await.unwrap();
        assert_eq!(answer.code(), Some(-32602), "{answer:?}");
        let answer = client.call("resources/read", json!({"uri": "no://where"})).await.unwrap();
        assert_eq!(answer.code(), Some(if version == MODERN { -32602 } else { -32002 }), "{answer:?}");
        assert_eq!(answer.response["error"]["data"]["uri"], "no://where");
        for (method, params) in [
            ("tools/call", json!({"arguments": {}})),
            ("tools/call", json!({"name": 7})),
            ("prompts/get", json!({})),
            ("resources/read", json!({})),
            ("completion/complete", json!({})),
            ("completion/complete", json!({"ref": {"type": "ref/prompt"}})),
        ] {
            let request = client.request("1", method, params).header("mcp-name", "");
            let answer = client.send(request).await.unwrap().finish("1").await.unwrap();
            assert_eq!(answer.code(), Some(-32602), "{version} {method}: {answer:?}");
        }
        for kind in ["tools", "prompts", "resources", "resources/templates"] {
            for cursor in ["x", "0.0", "1.0", "9999999999999999999999.1", ""] {
                let answer = client.call(&format!("{kind}/list"), json!({"cursor": cursor})).await.unwrap();
                assert_eq!(answer.code(), Some(-32602), "{kind} {cursor}: {answer:?}");
            }
        }
        assert_eq!(disturbed(&server), [""; 0], "all of it is known here");
    }
    let client = world.client("/mcp/no-such");
    let request = client.request("1", "tools/list", json!({}));
    refused(&client, request, 404, -32600, "no-such", "no server").await;
}

/// What comes back to a body that does not say how long it is.
async fn in_one_chunk(world: &World, body: &str) -> String {
    let address = world.url().trim_start_matches("http://").to_owned();
    let mut stream = TcpStream::connect(&address).await.unwrap();
    let request = format!(
        "POST /mcp/it HTTP/1.1\r\nhost: {address}\r\nauthorization: Bearer {}\r\ncontent-type: application/json\r\n\
         connection: close\r\ntransfer-encoding: chunked\r\n\r\n{:x}\r\n{body}\r\n0\r\n\r\n",
        crate::world::KEY,
        body.len()
    );
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    // The connection may end before everything was read; what was said is there all the same.
    let _ = within(stream.read_to_end(&mut answer)).await;
    String::from_utf8_lossy(&answer).into_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn bodies_and_heads_are_bounded() {
    let server = Plain::start().await.unwrap();
    let world = World::with(&["--request-body-limit=64KiB", "--header-size-limit=8KiB"]).await;
    world.register("it", &server.url()).await;
    let client = world.client("/mcp/it");
    server.host().forget();
    let much = json!({"name": "echo", "arguments": {"message": "x".repeat(65 << 10)}});
    for path in ["/mcp/it", "/mcp", "/messages?channel=x"] {
        let request = client.request("1", "tools/call", much.clone()).path(path);
        refused(&client, request, 413, -32600, "MREG_REQUEST_BODY_LIMIT", path).await;
    }
    let chunked = in_one_chunk(&world, &much.to_string()).await;
    assert!(chunked.starts_with("HTTP/1.1 413 ") && chunked.contains("-32600"), "{chunked}");
    assert!(chunked.contains("MREG_REQUEST_BODY_LIMIT"), "{chunked}");
    let wide = client.request("1", "tools/call", echo()).header("x-wide", &"y".repeat(20_000));
    let reply = client.send(wide).await;
    assert!(reply.is_err() || reply.unwrap().status == 431);
    // In one write, as in many.
    let many = (0..16).fold(client.request("1", "tools/call", echo()), |request, at| {
        request.header(&format!("x-wide-{at}"), &"y".repeat(510))
    });
    assert_eq!(client.send(many).await.unwrap().status, 431);
    assert_eq!(disturbed(&server), [""; 0]);
    let enough = json!({"name": "echo", "arguments": {"message": "x".repeat(60 << 10)}});
    assert!(client.call("tools/call", enough).await.unwrap().result().is_object());
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_comes_in_without_a_credential() {
    let server = Plain::start().await.unwrap();
    let world = World::start().await;
    world.register("it", &server.url()).await;
    server.host().forget();
    for path in ["/mcp", "/mcp/it", "/mcp/no-such"] {
        let client = world.client(path);
        for good in [client.request("1", "tools/list", json!({})), Request::get(), Request::delete()] {
            let reply = client.send(good.clone().without("authorization")).await.unwrap();
            let metadata = format!("{}/.well-known/oauth-protected-resource{path}", world.url());
            let bearer = format!("Bearer realm=\"mcp-gateway\", resource_metadata=\"{metadata}\", scope=\"mcp\"");
            let way = format!("{bearer}, DPoP algs=\"ES256 EdDSA PS256 RS256\"");
            assert_eq!(reply.header("www-authenticate"), way, "{path}");
            error_of(reply, 401, -32600, "Unauthorized", path).await;
            for bad in ["Bearer nobody", "Basic YTpi", &format!("Bearer {}x", crate::world::KEY)] {
                let reply = client.send(good.clone().header("authorization", bad)).await.unwrap();
                assert!(reply.header("www-authenticate").starts_with("Bearer realm="), "{bad}");
                error_of(reply, 401, -32600, "Unauthorized", bad).await;
            }
        }
        let inside = format!("{path}?access_token={}&key={}", crate::world::KEY, crate::world::KEY);
        let request = client.request("1", "tools/list", json!({})).without("authorization").path(&inside);
        assert_eq!(client.send(request).await.unwrap().status, 401, "a URL holds no credential");
    }
    assert_eq!(disturbed(&server), [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_opens_what_it_names_and_hides_the_rest() {
    let (open, shut) = (Plain::start().await.unwrap(), Plain::start().await.unwrap());
    let world = World::start().await;
    world.register("open", &open.url()).await;
    world.register("shut", &shut.url()).await;
    world.user("bob").await;
    let key = world.key("bob", json!(["open"]), json!(["open/echo", "shut/*"])).await;
    for server in [&open, &shut] {
        server.host().forget();
    }
    for version in [MODERN, "2025-11-25"] {
        let all = crate::world::shake(world.client_of("/mcp", &key), version).await;
        let list = all.call("tools/list", json!({})).await.unwrap();
        assert_eq!(names(&list, "tools"), ["open__echo"], "{version}");
        assert!(all.tool("open__echo", json!({})).await.unwrap().result().is_object());
        for name in ["open__gate", "shut__echo", "open__nothing"] {
            let answer = all.tool(name, json!({})).await.unwrap();
            assert_eq!(answer.code(), Some(-32602), "{version} {name}: {answer:?}");
            let text = answer.response["error"]["message"].as_str().unwrap();
            assert_eq!(text, format!("Unknown tool: {name}"), "as if it were not there");
        }
        let resources = all.call("resources/list", json!({})).await.unwrap();
        assert_eq!(resources.result()["resources"].as_array().unwrap().len(), 1, "{resources:?}");

        let one = crate::world::shake(world.client_of("/mcp/open", &key), version).await;
        let list = one.call("tools/list", json!({})).await.unwrap();
        assert_eq!(names(&list, "tools"), ["echo"], "{version}: what may not be called is not listed");
        let answer = one.tool("gate", json!({})).await.unwrap();
        assert_eq!(answer.code(), Some(-32602), "{version}: {answer:?}");
        let client = world.client_of("/mcp/shut", &key);
        let request = client.request("1", "tools/list", json!({}));
        let hidden = refused(&client, request, 404, -32600, "shut", "hidden").await;
        let client = world.client_of("/mcp/none", &key);
        let request = client.request("1", "tools/list", json!({}));
        let missing = refused(&client, request, 404, -32600, "none", "missing").await;
        assert_eq!(
            hidden["error"]["message"].as_str().unwrap().replace("shut", "none"),
            missing["error"]["message"],
            "nobody can tell one from the other"
        );
    }
    assert!(open.calls("gate").is_empty() && disturbed(&shut).is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn foreign_names_and_pages_are_turned_away() {
    let server = Plain::start().await.unwrap();
    let world = World::start().await;
    world.register("it", &server.url()).await;
    server.host().forget();
    let client = world.client("/mcp/it");
    let good = || client.request("1", "tools/call", echo());
    for request in [
        good().header("origin", "https://evil.example"),
        good().header("origin", "null"),
        good().header("host", "evil.example"),
        Request::get().header("origin", "https://evil.example"),
    ] {
        let status = client.send(request).await.unwrap().status.as_u16();
        assert!(matches!(status, 403 | 421), "{status}");
    }
    assert_eq!(disturbed(&server), [""; 0]);
    let own = good().header("origin", world.url());
    assert_eq!(client.send(own).await.unwrap().status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_level_of_logging_that_there_is_not_is_refused_and_not_kept() {
    let server = Plain::with(Eras::Modern).await.unwrap();
    let world = World::start().await;
    world.register("it", &server.url()).await;
    for (path, tool) in [("/mcp", "it__echo"), ("/mcp/it", "echo")] {
        let client = world.client_at(path, "2025-11-25").await;
        for level in [json!("foo"), json!("Info"), json!(7), json!(null)] {
            let answer = client.call("logging/setLevel", json!({"level": level})).await.unwrap();
            assert_eq!(answer.code(), Some(-32602), "{path} {level}: {answer:?}");
            let text = answer.response["error"]["message"].as_str().unwrap();
            assert!(!level.is_string() || text.contains("debug, info, notice, warning, error, critical"), "{text}");
        }
        server.host().forget();
        assert!(client.tool(tool, json!({"message": "x"})).await.unwrap().result().is_object(), "{path}");
        let asked = server.host().requests().iter().map(Recorded::json).collect::<Vec<_>>();
        assert!(!json!(asked).to_string().contains("logLevel"), "{path}: {asked:?}");
    }
}
