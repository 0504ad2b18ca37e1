//! What records of the audit trail say: what was read, when a stream is open and when it is over, whose affair it was; and that nothing
//! stands in them that a server or a caller wrote.

use http::Method;
use mcp_registry_gateway::audit::PLATFORM;
use mcp_registry_gateway::serve::own_key;
use serde_json::{Value, json};
use testkit::client::{Client, Reply, Request};
use testkit::jsonrpc::MODERN;
use testkit::upstream::{Answer, Eras, Fault, Faulty, Plain};

use crate::isolation::somebody;
use crate::world::{KEY, World, until};

const NOTE: &str = "stand-in://note";
/// What nobody but the two ends should read.
const WORD: &str = "a-word-of-the-payload";

async fn records(world: &World, query: &str) -> Vec<Value> {
    let (status, found) = world.rest(Method::GET, &format!("/admin/audit?limit=500{query}"), &Value::Null).await;
    assert_eq!(status, 200, "{found}");
    found["items"].as_array().unwrap().clone()
}

/// The records of a request, the newest first, once there are so many.
async fn of_request(world: &World, id: &str, count: usize) -> Vec<Value> {
    let query = format!("&request_id={id}");
    let all = until(|| async { Some(records(world, &query).await).filter(|all| all.len() >= count) }).await;
    assert_eq!(all.len(), count, "{all:?}");
    all.into_iter().map(|item| item["record"].clone()).collect()
}

fn id_of(reply: &Reply) -> String {
    reply.headers["x-request-id"].to_str().unwrap().to_owned()
}

/// Asks, whatever comes of it; the record.
async fn recorded(world: &World, client: &Client, method: &str, params: Value) -> Value {
    let (_, reply) = client.open(method, params).await.unwrap();
    let id = id_of(&reply);
    reply.text().await.unwrap();
    of_request(world, &id, 1).await.remove(0)
}

#[tokio::test(flavor = "multi_thread")]
async fn what_servers_and_callers_wrote_stands_in_no_record() {
    let (server, sick) = (Plain::with(Eras::Dual).await.unwrap(), Faulty::start().await.unwrap());
    server.script("error", |_| Answer::Error(-32_603, format!("it holds {WORD}"), None));
    let world = World::start().await;
    world.register("it", &server.url()).await;
    world.register("sick", &sick.url()).await;
    let command = json!({"program": "/bin/sh", "args": ["-c", format!("echo {WORD} >&2; exit 3")]});
    let spec = json!({"slug": "child", "transport": "stdio", "command": command});
    let (status, made) = world.rest(Method::POST, "/servers", &spec).await;
    assert_eq!(status, 201, "{made}");
    sick.fail_on("tools/call", Fault::Status(500));

    let all = world.client_at("/mcp", MODERN).await;
    let it = world.client_at("/mcp/it", MODERN).await;
    let named = json!({"name": WORD, "arguments": {"x": WORD}});
    let record = recorded(&world, &all, "tools/call", named).await;
    assert_eq!(record["detail"], "the parameters do not fit, or name what is not there for the caller", "{record}");
    let uri = format!("nowhere://root:{WORD}@db.example/x?key={WORD}");
    let record = recorded(&world, &all, "resources/read", json!({"uri": uri})).await;
    assert_eq!((&record["outcome"], record.get("name")), (&json!("error"), None), "{record}");
    recorded(&world, &it, "tools/call", json!({"name": "error", "arguments": {}})).await;
    let gone = world.client_at("/mcp/sick", MODERN).await;
    let record = recorded(&world, &gone, "tools/call", json!({"name": "echo", "arguments": {}})).await;
    assert_eq!((&record["reason"], &record["detail"]), (&json!("status"), &json!("the server failed")), "{record}");
    let child = world.client_at("/mcp/child", MODERN).await;
    let record = recorded(&world, &child, "tools/call", json!({"name": "echo", "arguments": {"x": WORD}})).await;
    assert_eq!(record["outcome"], "error", "{record}");
    let order = json!({"slug": format!("{WORD} is no slug"), "replicas": []});
    assert_eq!(world.rest(Method::POST, "/servers", &order).await.0, 422);
    let refused = until(|| async { records(&world, "&action=POST%20/api/v1/servers&outcome=error").await.pop() }).await;
    assert_eq!(refused["record"]["detail"], "INVALID_FIELDS", "{refused}");

    let all = records(&world, "").await;
    let found: Vec<_> = all.iter().filter(|item| item.to_string().contains(WORD)).collect();
    assert!(!all.is_empty() && found.is_empty(), "{found:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_read_is_named_without_what_its_address_carries_besides() {
    let server = Plain::with(Eras::Dual).await.unwrap();
    let world = World::start().await;
    world.register("it", &server.url()).await;
    let one = world.client_at("/mcp/it", MODERN).await;
    let all = world.client_at("/mcp", MODERN).await;
    let odd = format!("https://root:{WORD}@db.example/rows?key={WORD}");
    for (client, method, params, name) in [
        (&all, "resources/read", json!({"uri": NOTE}), NOTE),
        (&one, "resources/read", json!({"uri": odd}), "https://db.example/rows"),
        (&all, "prompts/get", json!({"name": "it__greet", "arguments": {"who": WORD}}), "greet"),
        (&one, "prompts/get", json!({"name": "greet", "arguments": {"who": WORD}}), "greet"),
    ] {
        let record = recorded(&world, client, method, params).await;
        assert_eq!((&record["action"], &record["name"]), (&json!(method), &json!(name)), "{record}");
    }
}

/// The record of a stream that is open, and what is told of its end when it is dropped.
async fn opens_and_ends(world: &World, stream: Reply, action: &str, reasons: &[&str]) {
    assert_eq!(stream.status, 200, "{action}");
    let id = id_of(&stream);
    let opened = of_request(world, &id, 1).await.remove(0);
    assert_eq!((&opened["action"], &opened["outcome"]), (&json!(action), &json!("success")), "{opened}");
    assert_eq!(opened["username"], "ada", "{opened}");
    drop(stream);
    let ended = of_request(world, &id, 2).await;
    let ended = ended.iter().find(|record| record["action"] == "stream.end").unwrap();
    assert_eq!((&ended["name"], &ended["username"]), (&json!(action), &json!("ada")), "{ended}");
    assert!(reasons.contains(&ended["reason"].as_str().unwrap()), "{ended}");
    assert!(ended["total_us"].as_u64().unwrap() > 0 && ended["outcome"] == "success", "{ended}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_is_recorded_when_it_opens_and_told_of_when_it_ends() {
    for eras in [Eras::Modern, Eras::Legacy("2025-06-18".into())] {
        let server = Plain::with(eras).await.unwrap();
        let world = World::start().await;
        world.register("it", &server.url()).await;
        let ada = world.person("ada", "user").await;
        for path in ["/mcp", "/mcp/it"] {
            let legacy = crate::world::shake(world.client_of(path, &ada), "2025-06-18").await;
            opens_and_ends(&world, legacy.listen(None).await.unwrap(), "GET", &["closed"]).await;
            let modern = world.client_of(path, &ada);
            // What is wished for of tasks the gateway answers itself, at a server's own endpoint too.
            for wishes in [json!({"toolsListChanged": true}), json!({"taskIds": ["one"]})] {
                let (_, stream) = modern.subscribe(wishes).await.unwrap();
                opens_and_ends(&world, stream, "subscriptions/listen", &["closed", "cancelled"]).await;
            }
        }
        let old = world.client_of("/sse/it", &ada);
        let open = || old.send(Request::get().path("/sse/it"));
        opens_and_ends(&world, open().await.unwrap(), "GET", &["closed"]).await;

        // What is taken here is answered on the stream; that it was taken is recorded before.
        let mut stream = open().await.unwrap();
        let address = stream.event().await.unwrap().unwrap().data;
        let info = json!({ "name": "old", "version": "1" });
        let params = json!({ "protocolVersion": "2024-11-05", "capabilities": {}, "clientInfo": info });
        let message = json!({ "jsonrpc": "2.0", "id": 0, "method": "initialize", "params": params });
        let taken = old.send(Request::post(message.to_string()).without("accept").path(&address)).await.unwrap();
        assert_eq!(taken.status, 202);
        let records = of_request(&world, &id_of(&taken), 2).await;
        let accepted = records.iter().find(|record| record["action"] == "message.accept").unwrap();
        assert_eq!((&accepted["name"], &accepted["username"]), (&json!("initialize"), &json!("ada")), "{accepted}");
        assert!(records.iter().any(|record| record["action"] == "initialize"), "{records:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_an_administrator_of_the_gateway_does_stands_in_the_trail_of_whom_it_concerns() {
    let world = World::start().await;
    let acme = somebody(&world, "acme", "tenant_admin").await;
    let own = json!({"username": "own", "role": "tenant_admin", "password": "a long pass phrase of the tenant"});
    assert_eq!(world.rest(Method::POST, "/users", &own).await.0, 201);
    let login = json!({"username": "own", "password": "a long pass phrase of the tenant"});
    let (_, login) = world.rest(Method::POST, "/login", &login).await;
    let own = login["key"].as_str().unwrap().to_owned();

    let ask = async |method: Method, path: &str, body: &Value| {
        let request = Request::new(method, body.to_string().into()).path(&format!("/api/v1{path}"));
        let reply = world.client_of("/", KEY).send(request.header("content-type", "application/json")).await.unwrap();
        let (status, id) = (reply.status.as_u16(), id_of(&reply));
        reply.text().await.unwrap();
        (status, id)
    };
    let seen = async |key: &str, id: &str| {
        let path = format!("/api/v1/admin/audit?request_id={id}");
        let reply = world.client_of("/", key).send(Request::get().path(&path)).await.unwrap();
        let found: Value = serde_json::from_str(&reply.text().await.unwrap()).unwrap();
        found["items"].as_array().unwrap().len()
    };
    let name = json!({"display_name": "Acme"});
    let user = json!({"username": "bo", "tenant_id": "acme"});
    for (method, path, body, status, chain) in [
        (Method::PATCH, "/admin/tenants/acme", &name, 200, "acme"),
        (Method::GET, "/admin/tenant-limits/acme", &Value::Null, 200, "acme"),
        (Method::POST, "/users", &user, 201, "acme"),
        (Method::GET, "/admin/tenants/nobody", &Value::Null, 404, PLATFORM),
        (Method::GET, "/admin/tenants", &Value::Null, 200, PLATFORM),
        (Method::GET, "/admin/bans", &Value::Null, 200, PLATFORM),
        (Method::GET, "/users", &Value::Null, 200, "default"),
        (Method::GET, "/admin/tenants/default", &Value::Null, 200, "default"),
    ] {
        let (answered, id) = ask(method, path, body).await;
        assert_eq!(answered, status, "{path}");
        let query = format!("&request_id={id}");
        let item = until(|| async { records(&world, &query).await.pop() }).await;
        assert_eq!((&item["chain"], &item["record"]["tenant"]), (&json!(chain), &json!("default")), "{path}: {item}");
        assert_eq!(seen(&acme, &id).await, usize::from(chain == "acme"), "{path}");
        assert_eq!(seen(&own, &id).await, usize::from(chain == "default"), "{path}");
    }
    assert!(records(&world, &format!("&tenant={PLATFORM}")).await.iter().all(|item| item["chain"] == PLATFORM));
    // What the tenant's own administrators do stays there, whatever they name.
    let path = Request::get().path("/api/v1/admin/tenants/acme");
    let reply = world.client_of("/", &own).send(path).await.unwrap();
    assert_eq!((reply.status.as_u16(), of_request(&world, &id_of(&reply), 1).await[0].get("chain")), (404, None));
}

#[tokio::test(flavor = "multi_thread")]
async fn who_may_come_in_though_no_administrator_let_them_is_recorded() {
    let world = World::start().await;
    let of = async |action: &str| {
        until(|| async { records(&world, &format!("&action={action}")).await.pop() }).await["record"].clone()
    };
    let first = of("admin.bootstrap").await;
    assert_eq!((&first["surface"], &first["reason"]), (&json!("background"), &json!("supplied")), "{first}");
    assert!(
        first["user"].is_string() && first["credential"].is_string() && !first.to_string().contains(KEY),
        "{first}"
    );
    std::fs::remove_file(world.app().settings.data.data_dir.join("cli.json")).unwrap();
    let made = own_key(world.app(), world.url(), "a command").await.unwrap();
    let second = of("admin.key").await;
    assert_eq!((&second["surface"], &second["user"]), (&json!("cli"), &first["user"]), "{second}");
    assert!(second["credential"] != first["credential"] && !second.to_string().contains(made.expose()), "{second}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tenant_may_have_arguments_recorded_without_what_looks_like_a_secret() {
    let server = Plain::with(Eras::Dual).await.unwrap();
    let world = World::start().await;
    world.register("it", &server.url()).await;
    let client = world.client_at("/mcp/it", MODERN).await;
    let arguments = json!({"message": "a word", "password": WORD, "note": format!("Bearer {WORD}"), "own": KEY});
    let call = || recorded(&world, &client, "tools/call", json!({"name": "echo", "arguments": arguments}));
    assert_eq!(call().await.get("arguments"), None);
    let on = json!({"features": {"recorded_arguments": true}});
    assert_eq!(world.rest(Method::PATCH, "/admin/tenants/default", &on).await.0, 200);
    let record = until(|| async { Some(call().await).filter(|record| record.get("arguments").is_some()) }).await;
    let shown = &record["arguments"];
    assert_eq!(
        (&shown["message"], &shown["password"], &shown["note"]),
        (&json!("a word"), &json!("[left out]"), &json!("[left out]"))
    );
    assert!(!record.to_string().contains(WORD) && !record.to_string().contains(KEY), "{record}");
    let got = server.calls("echo").pop().unwrap();
    assert_eq!(got.json()["params"]["arguments"], arguments, "the server gets them as they were sent");
    let record = recorded(&world, &client, "tools/list", json!({})).await;
    assert_eq!(record.get("arguments"), None, "{record}");
}
