//! Two tenants on one gateway: every method of the protocol, in both eras and at both endpoints, asked by people of `beta` for what the
//! server of `kestrel` has. A new method fails here until it is said what it would ask for.

use std::collections::BTreeSet;

use http::Method;
use mcp_registry_gateway::protocol::meta::REQUESTS;
use serde_json::{Value, json};
use testkit::client::{Client, Reply, Request};
use testkit::jsonrpc;
use testkit::upstream::{Eras, Plain};

use crate::world::{World, shake, within};

const PASSWORD: &str = "a long pass phrase";
const LEGACY: &str = "2025-11-25";
const NOTE: &str = "stand-in://note";
/// Words of the server and of its tenant. None of them is said by who asks, but for the first two.
const WORDS: [&str; 5] = ["kestrel", "stand-in", "Returns what it is given", "Says hello", "A note"];

/// Somebody of a tenant, by the name of the role; a key.
pub async fn somebody(world: &World, tenant: &str, role: &str) -> String {
    world.rest(Method::POST, "/admin/tenants", &json!({"tenant_id": tenant})).await;
    let user = json!({"username": role, "tenant_id": tenant, "role": role, "password": PASSWORD});
    let (status, made) = world.rest(Method::POST, "/users", &user).await;
    assert_eq!(status, 201, "{made}");
    let login = json!({"username": format!("{tenant}/{role}"), "password": PASSWORD});
    world.rest(Method::POST, "/login", &login).await.1["key"].as_str().unwrap().to_owned()
}

async fn register(world: &World, key: &str, slug: &str, server: &Plain) {
    let spec = json!({"slug": slug, "replicas": [{"url": server.url()}]});
    let request = Request::post(spec.to_string()).path("/api/v1/servers");
    let reply = world.client_of("/", key).send(request).await.unwrap();
    let status = reply.status;
    assert_eq!(status, 201, "{}", reply.text().await.unwrap());
}

/// What a method asks for of the other's server; `prefix` stands before names.
fn asked_for(method: &str, prefix: &str) -> Value {
    let all = json!({"toolsListChanged": true, "promptsListChanged": true, "resourcesListChanged": true,
        "resourceSubscriptions": [NOTE]});
    match method {
        "tools/call" => json!({"name": format!("{prefix}echo"), "arguments": {"message": "x"}}),
        "prompts/get" => json!({"name": format!("{prefix}greet"), "arguments": {"who": "x"}}),
        "resources/read" | "resources/subscribe" | "resources/unsubscribe" => json!({"uri": NOTE}),
        "completion/complete" => {
            let named = json!({"type": "ref/prompt", "name": format!("{prefix}greet")});
            json!({"ref": named, "argument": {"name": "who", "value": "x"}})
        }
        "subscriptions/listen" => json!({"notifications": all}),
        "logging/setLevel" => json!({"level": "debug"}),
        "tasks/get" | "tasks/result" | "tasks/cancel" | "tasks/update" => json!({"taskId": "1"}),
        "initialize" => {
            json!({"protocolVersion": LEGACY, "capabilities": {}, "clientInfo": {"name": "t", "version": "1"}})
        }
        "ping"
        | "server/discover"
        | "tools/list"
        | "resources/list"
        | "resources/templates/list"
        | "prompts/list"
        | "tasks/list"
        | "sampling/createMessage"
        | "elicitation/create"
        | "roots/list" => json!({}),
        other => panic!("say what `{other}` would ask for of another tenant's server"),
    }
}

/// A request of the legacy era in this session, or in none.
fn legacy(method: &str, params: &Value, session: Option<&str>) -> Request {
    let request = Request::post(jsonrpc::request("1", method, params)).header("mcp-protocol-version", LEGACY);
    match session {
        Some(session) => request.header("mcp-session-id", session),
        None => request,
    }
}

/// What is answered first, and its status.
async fn first(client: &Client, request: Request) -> (u16, String) {
    let mut reply = within(client.send(request)).await.unwrap();
    let status = reply.status.as_u16();
    if reply.is_stream() {
        return (status, within(reply.message()).await.unwrap().unwrap_or_default().to_string());
    }
    (status, within(reply.text()).await.unwrap())
}

/// Whether a text tells of the other tenant what the request did not say.
fn tells(text: &str, said: &str) -> bool {
    WORDS.iter().any(|word| text.contains(word) && !said.contains(word))
}

#[tokio::test(flavor = "multi_thread")]
async fn no_method_reaches_the_server_of_another_tenant() {
    for eras in [Eras::Legacy(LEGACY.into()), Eras::Dual] {
        let server = Plain::with(eras.clone()).await.unwrap();
        let world = World::start().await;
        let theirs = somebody(&world, "kestrel", "tenant_admin").await;
        register(&world, &theirs, "kestrel-files", &server).await;
        let own = shake(world.client_of("/mcp", &theirs), LEGACY).await;
        let at_home = own.call("tools/list", json!({})).await.unwrap().response.to_string();
        assert!(tells(&at_home, ""), "it is there for its own: {at_home}");
        own.tool("kestrel-files__echo", json!({})).await.unwrap();
        let of_theirs = own.session().unwrap();
        let sessions = || server.session_ids().into_iter().collect::<BTreeSet<_>>();
        let before = sessions();
        server.host().forget();

        let mut wrong = Vec::new();
        for role in ["tenant_admin", "server_owner", "user"] {
            let key = somebody(&world, "beta", role).await;
            let session = shake(world.client_of("/mcp", &key), LEGACY).await.session().unwrap();
            for method in REQUESTS {
                for (path, prefix) in [("/mcp", "kestrel-files__"), ("/mcp/kestrel-files", "")] {
                    let client = world.client_of(path, &key);
                    let params = asked_for(method, prefix);
                    let modern = client.request("1", method, params.clone());
                    for (way, request) in [
                        ("modern", modern),
                        ("without a session", legacy(method, &params, None)),
                        ("in the own session", legacy(method, &params, Some(&session))),
                        ("in a session of theirs", legacy(method, &params, Some(&of_theirs))),
                    ] {
                        let (status, text) = first(&client, request).await;
                        let hidden = path != "/mcp" || way == "in a session of theirs";
                        // A handshake begins a session, whichever was named.
                        if tells(&text, &format!("{path} {params}"))
                            || (hidden && status != 404 && !(path == "/mcp" && method == "initialize"))
                        {
                            wrong.push(format!("{eras:?} {role} {method} {path} {way}: {status} {text}"));
                        }
                    }
                }
            }
            for path in ["/mcp", "/mcp/kestrel-files"] {
                for request in
                    [Request::get(), Request::get().header("last-event-id", "kestrel-files/1"), Request::delete()]
                {
                    let request = request.header("mcp-protocol-version", LEGACY).header("mcp-session-id", &of_theirs);
                    let (status, text) = first(&world.client_of(path, &key), request).await;
                    if status != 404 || tells(&text, path) {
                        wrong.push(format!("{role}: {path}, a session of theirs: {status} {text}"));
                    }
                }
            }
            let channel = world.client_of("/", &key).send(Request::get().path("/sse/kestrel-files")).await.unwrap();
            assert_eq!(channel.status, 404);
        }
        assert!(wrong.is_empty(), "{wrong:#?}");
        let asked: BTreeSet<String> = server.host().requests().iter().map(testkit::upstream::Recorded::rpc).collect();
        let of_the_gateway =
            ["", "ping", "server/discover", "initialize", "notifications/initialized", "subscriptions/listen"];
        let unasked = |method: &String| !of_the_gateway.contains(&method.as_str()) && !method.ends_with("/list");
        assert_eq!(asked.into_iter().filter(unasked).collect::<Vec<_>>(), [""; 0], "{eras:?}: what came to the server");
        assert_eq!(sessions(), before, "nor was a session begun or ended there");
        let still = own.tool("kestrel-files__echo", json!({"message": "here"})).await.unwrap();
        assert_eq!(still.result()["structuredContent"]["message"], "here", "theirs goes on");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_that_a_server_says_or_asks_comes_to_another_tenant() {
    let server = Plain::with(Eras::Legacy(LEGACY.into())).await.unwrap();
    let other = Plain::start().await.unwrap();
    let world = World::start().await;
    let theirs = somebody(&world, "kestrel", "tenant_admin").await;
    register(&world, &theirs, "kestrel-files", &server).await;
    let key = somebody(&world, "beta", "tenant_admin").await;

    // Who listens hears of the own tenant's changes only.
    let wanted = asked_for("subscriptions/listen", "")["notifications"].clone();
    let mut modern = world.client_of("/mcp", &key).subscribe(wanted.clone()).await.unwrap().1;
    let agreed = within(modern.message()).await.unwrap().unwrap();
    assert!(!agreed.to_string().contains(NOTE), "{agreed}");
    let mine = shake(world.client_of("/mcp", &key), LEGACY).await;
    mine.call("resources/subscribe", json!({"uri": NOTE})).await.unwrap();
    let mut old = mine.listen(Some("kestrel-files/1")).await.unwrap();
    let mut witness = world.client_of("/mcp", &theirs).subscribe(wanted).await.unwrap().1;
    let hears = async |stream: &mut Reply, method: &str| {
        let mut before = Vec::new();
        loop {
            let said = within(stream.message()).await.unwrap().unwrap();
            if said["method"] == method {
                return before;
            }
            before.push(said);
        }
    };
    hears(&mut witness, "notifications/subscriptions/acknowledged").await;
    assert!(server.wait_listeners(1).await);
    for (tell, method) in [
        (&(|| server.tools_changed()) as &dyn Fn() -> usize, "notifications/tools/list_changed"),
        (&|| server.prompts_changed(), "notifications/prompts/list_changed"),
        (&|| server.resource_changed(NOTE), "notifications/resources/updated"),
    ] {
        assert!(tell() > 0);
        hears(&mut witness, method).await;
    }

    // Nor are calls of others cancelled, or their questions answered.
    let owner = shake(world.client_of("/mcp", &theirs).capabilities(json!({"elicitation": {}})), LEGACY).await;
    let (id, mut asking) = owner
        .open("tools/call", json!({"name": "kestrel-files__ask", "arguments": {"kind": "elicitation"}}))
        .await
        .unwrap();
    let question = within(asking.message()).await.unwrap().unwrap();
    let of_theirs = owner.session().unwrap();
    let cancel = json!({"requestId": serde_json::from_str::<Value>(&id).unwrap()});
    assert_eq!(mine.notify("notifications/cancelled", cancel.clone()).await.unwrap(), 202);
    mine.respond(&question, &json!({"action": "decline"})).await.unwrap();
    let messages = [
        jsonrpc::notification("notifications/cancelled", &cancel),
        jsonrpc::result(&question["id"].to_string(), r#"{"action":"decline"}"#),
    ];
    for message in messages {
        let request =
            Request::post(message).header("mcp-protocol-version", LEGACY).header("mcp-session-id", &of_theirs);
        assert_eq!(first(&world.client_of("/mcp", &key), request).await.0, 404);
    }
    let accepted = json!({"action": "accept", "content": {"name": "their own"}});
    assert_eq!(owner.respond(&question, &accepted).await.unwrap(), 202);
    let answer = within(asking.finish(&id)).await.unwrap();
    assert!(answer.text().contains("their own"), "{answer:?}");

    // Nor does anybody speak on the channel of another.
    let mut channel = world.client_of("/", &theirs).send(Request::get().path("/sse")).await.unwrap();
    let place = within(channel.event()).await.unwrap().unwrap().data;
    let hello = jsonrpc::request("1", "initialize", &asked_for("initialize", ""));
    for (who, status) in [(&key, 404), (&theirs, 202)] {
        let request = Request::post(hello.clone()).path(&place);
        assert_eq!(first(&world.client_of("/", who), request).await.0, status, "{place}");
    }

    // What was said until now has come before what is told of a server of their own.
    register(&world, &key, "own", &other).await;
    for stream in [&mut modern, &mut old] {
        let before = hears(stream, "notifications/tools/list_changed").await;
        assert!(before.is_empty(), "{before:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tenant_that_is_suspended_or_erased_is_cut_off_at_once() {
    let server = Plain::with(Eras::Dual).await.unwrap();
    let world = World::start().await;
    let key = somebody(&world, "kestrel", "tenant_admin").await;
    register(&world, &key, "files", &server).await;
    let other = somebody(&world, "beta", "tenant_admin").await;
    register(&world, &other, "files", &server).await;
    let change = async |method: Method, path: &str, body: Value| world.rest(method, path, &body).await.0;
    for (ending, status) in
        [("/admin/tenants/kestrel", 204), ("/admin/tenants/kestrel?purge=true&confirm=kestrel", 204)]
    {
        let own = shake(world.client_of("/mcp/files", &key), LEGACY).await;
        let modern = world.client_of("/mcp", &key);
        let mut stream = within(own.listen(None)).await.unwrap();
        assert_eq!((stream.status.as_u16(), own.tool("echo", json!({})).await.unwrap().code()), (200, None));
        server.open_gate(false);
        let held = async {
            let gate = own.request("9", "tools/call", json!({"name": "gate", "arguments": {}}));
            within(own.send(gate)).await.map(|reply| reply.status.as_u16())
        };
        let story = async {
            server.wait_in_flight(1).await;
            assert_eq!(change(Method::DELETE, ending, Value::Null).await, status);
            while let Ok(Some(_)) = within(stream.message()).await {}
            server.host().forget();
            let calls =
                [own.tool("echo", json!({})).await.unwrap(), modern.tool("files__echo", json!({})).await.unwrap()];
            assert!(calls.iter().all(|call| call.status == 401), "{calls:?}");
            assert_eq!(world.client_of("/mcp/files", &other).tool("echo", json!({})).await.unwrap().code(), None);
            assert_eq!(server.calls("echo").len(), 1, "that of the other tenant");
            server.open_gate(true);
        };
        let (held, ()) = within(Box::pin(async { tokio::join!(held, story) })).await;
        assert_eq!(held.unwrap(), 200, "what had begun");
        change(Method::PATCH, "/admin/tenants/kestrel", json!({"state": "active"})).await;
    }
    assert_eq!(world.client_of("/mcp", &key).call("tools/list", json!({})).await.unwrap().status, 401);
}
