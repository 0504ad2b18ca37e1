//! Access rules in front of a server: what is listed, what is called, by every method and at every door.

use http::Method;
use mcp_registry_gateway::id::TenantId;
use mcp_registry_gateway::store::access_rules::RulesRow;
use serde_json::{Value, json};
use testkit::client::Client;
use testkit::jsonrpc::MODERN;
use testkit::upstream::{Eras, Plain};

use crate::world::{World, names, shake, until, within};

/// Puts rules in force.
async fn rule(world: &World, text: &str) {
    let (status, said) = world.rest(Method::PUT, "/admin/policies/default", &json!({"text": text})).await;
    assert_eq!(status, 200, "{said}");
}

/// A server `one` whose tools are `look`, which only reads, and `drop`.
async fn one(world: &World) -> Plain {
    let server = Plain::with(Eras::Dual).await.unwrap();
    server.set(|settings| {
        let schema = json!({"type": "object"});
        settings.tools = vec![
            json!({"name": "look", "inputSchema": schema, "annotations": {"readOnlyHint": true}}),
            json!({"name": "drop", "inputSchema": schema}),
        ];
    });
    for tool in ["look", "drop"] {
        server.script(tool, |_| testkit::upstream::Answer::text("done"));
    }
    world.register("one", &server.url()).await;
    server
}

/// The two doors of a version: at which the names are, with what they begin there.
async fn doors(world: &World, key: &str, version: &str) -> [(Client, &'static str); 2] {
    let all = shake(world.client_of("/mcp", key), version).await;
    [(all, "one__"), (shake(world.client_of("/mcp/one", key), version).await, "")]
}

const ADAS: &str = r#"
@id("ada reads")
permit(principal, action, resource) when { principal has name && principal.name == "ada" && resource is Tool && resource.readOnlyHint };
@id("the note")
permit(principal, action, resource == Resource::"one/stand-in://note");
@id("notes")
permit(principal, action, resource is Resource) when { resource.uri like "stand-in://notes/*" };
@id("no seventh")
forbid(principal, action, resource == Resource::"one/stand-in://notes/7");
"#;

#[tokio::test(flavor = "multi_thread")]
async fn every_method_goes_by_the_rules_and_what_is_hidden_is_not_there() {
    let world = World::start().await;
    let _server = one(&world).await;
    let ada = world.person("ada", "user").await;
    rule(&world, ADAS).await;
    for version in [MODERN, "2025-11-25"] {
        for (client, prefix) in doors(&world, &ada, version).await {
            let label = format!("{version} at {prefix}");
            let list = within(client.call("tools/list", json!({}))).await.unwrap();
            assert_eq!(names(&list, "tools"), [format!("{prefix}look")], "{label}");
            let list = within(client.call("prompts/list", json!({}))).await.unwrap();
            assert!(names(&list, "prompts").is_empty(), "{label}");
            let list = within(client.call("resources/list", json!({}))).await.unwrap();
            assert_eq!(list.result()["resources"].as_array().unwrap().len(), 1, "{label}");
            let list = within(client.call("resources/templates/list", json!({}))).await.unwrap();
            assert_eq!(list.result()["resourceTemplates"].as_array().unwrap().len(), 1, "{label}");

            let called = within(client.tool(&format!("{prefix}look"), json!({}))).await.unwrap();
            assert!(called.code().is_none(), "{label}: {called:?}");
            let hidden = within(client.tool(&format!("{prefix}drop"), json!({}))).await.unwrap();
            let nothing = within(client.tool(&format!("{prefix}nowhere"), json!({}))).await.unwrap();
            let text = |answer: &testkit::client::Outcome| answer.response["error"]["message"].to_string();
            assert_eq!(hidden.code(), Some(-32602), "{label}: {hidden:?}");
            assert_eq!(text(&hidden).replace("drop", "nowhere"), text(&nothing), "{label}: as what is not there");

            let prompt = json!({"name": format!("{prefix}greet"), "arguments": {"who": "x"}});
            let refused = within(client.call("prompts/get", prompt)).await.unwrap();
            assert_eq!(refused.code(), Some(-32602), "{label}: {refused:?}");
            let reference = json!({"type": "ref/prompt", "name": format!("{prefix}greet")});
            let ask = json!({"ref": reference, "argument": {"name": "who", "value": "x"}});
            let refused = within(client.call("completion/complete", ask)).await.unwrap();
            assert_eq!(refused.code(), Some(-32602), "{label}: {refused:?}");
            let unfound = if version == MODERN { -32602 } else { -32002 };
            for (uri, may) in [("stand-in://note", true), ("stand-in://notes/1", true), ("stand-in://notes/7", false)] {
                let read = within(client.call("resources/read", json!({"uri": uri}))).await.unwrap();
                assert_eq!(read.code(), (!may).then_some(unfound), "{label} {uri}: {read:?}");
            }
            if version != MODERN {
                let watched = within(client.call("resources/subscribe", json!({"uri": "stand-in://notes/7"}))).await;
                assert_eq!(watched.unwrap().code(), Some(unfound), "{label}");
            }
        }
    }
    // Whom no rule permits anything at a server, to them it is not there at all.
    rule(&world, r#"permit(principal in Role::"tenant_admin", action, resource);"#).await;
    let own = world.client_of("/mcp/one", &ada);
    assert_eq!(within(own.tool("look", json!({}))).await.unwrap().status, 404);
    for path in ["/servers", "/discovery/tools"] {
        assert_eq!(read_as(&world, &ada, path).await.1["items"], json!([]), "{path}");
    }
    assert_eq!(read_as(&world, &ada, "/servers/one").await.0, 404);
    assert_eq!(world.server("one").await["slug"], "one", "who administers manages all the same");
}

async fn read_as(world: &World, key: &str, path: &str) -> (u16, Value) {
    let request = testkit::client::Request::get().path(&format!("/api/v1{path}"));
    let reply = world.client_of("/", key).send(request).await.unwrap();
    let status = reply.status.as_u16();
    (status, serde_json::from_str(&reply.text().await.unwrap()).unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn rules_never_widen_what_visibility_and_scopes_leave() {
    let world = World::start().await;
    let server = Plain::with(Eras::Dual).await.unwrap();
    let spec = json!({"slug": "hidden", "replicas": [{"url": server.url()}], "visibility": {"everyone": false}});
    world.register_as(&spec).await;
    world.register("one", &server.url()).await;
    let ada = world.person("ada", "user").await;
    let narrow = world.key("ada", json!(["one"]), json!(["one/echo"])).await;
    for text in [
        "permit(principal, action, resource);",
        r#"permit(principal, action, resource); permit(principal, action, resource in Server::"hidden");
           forbid(principal, action, resource == Tool::"one/nothing");"#,
    ] {
        rule(&world, text).await;
        let client = world.client_of("/mcp", &ada);
        assert!(within(client.tool("hidden__echo", json!({}))).await.unwrap().code().is_some(), "{text}");
        let client = world.client_of("/mcp", &narrow);
        let list = within(client.call("tools/list", json!({}))).await.unwrap();
        assert_eq!(names(&list, "tools"), ["one__echo"], "{text}");
        assert!(within(client.tool("one__add", json!({"a": 1, "b": 2}))).await.unwrap().code().is_some(), "{text}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_that_its_arguments_forbid_is_refused_by_the_name_of_the_rule_and_never_sent() {
    let world = World::start().await;
    let server = one(&world).await;
    let ada = world.person("ada", "user").await;
    rule(
        &world,
        r#"permit(principal, action, resource);
           @id("not prod") @message("ask the owner of prod")
           forbid(principal, action, resource == Tool::"one/drop")
           when { context.text.hasTag("table") && context.text.getTag("table") like "prod*" };"#,
    )
    .await;
    for version in [MODERN, "2025-11-25"] {
        for (client, prefix) in doors(&world, &ada, version).await {
            let name = format!("{prefix}drop");
            let list = within(client.call("tools/list", json!({}))).await.unwrap();
            assert!(names(&list, "tools").contains(&name), "{version}");
            let fine = within(client.tool(&name, json!({"table": "test"}))).await.unwrap();
            assert!(fine.code().is_none(), "{version}: {fine:?}");
            server.host().forget();
            for table in [json!("prod-1"), json!(["prod-1"])] {
                let refused = within(client.tool(&name, json!({"table": table}))).await.unwrap();
                let error = &refused.response["error"];
                assert_eq!((&error["code"], &error["data"]["rule"]), (&json!(-31013), &json!("not prod")), "{error}");
            }
            let refused = within(client.tool(&name, json!({"table": "prod-1"}))).await.unwrap();
            let text = refused.response["error"]["message"].as_str().unwrap();
            assert!(text.contains("`not prod`") && text.contains("ask the owner of prod"), "{text}");
            let called = server.host().requests().iter().filter(|request| request.rpc() == "tools/call").count();
            assert_eq!(called, 0, "the server never heard of them");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_is_in_force_with_its_answer_and_bad_rules_change_nothing() {
    let world = World::start().await;
    let _server = one(&world).await;
    let ada = world.person("ada", "user").await;
    let client = shake(world.client_of("/mcp", &ada), "2025-11-25").await;
    let may = async || within(client.tool("one__drop", json!({}))).await.unwrap().code().is_none();
    assert!(may().await, "the set that a tenant begins with changes nothing");
    let (_, first) = world.rest(Method::GET, "/admin/policies/default", &Value::Null).await;
    assert!(first["version"] == 0 && first["text"].as_str().unwrap().contains("permit(principal"), "{first}");
    for round in 0..5 {
        rule(
            &world,
            r#"permit(principal, action, resource); forbid(principal, action, resource == Tool::"one/drop");"#,
        )
        .await;
        assert!(!may().await, "round {round}");
        let list = within(client.call("tools/list", json!({}))).await.unwrap();
        assert_eq!(names(&list, "tools"), ["one__look"], "round {round}");
        rule(&world, &format!("// {round}\npermit(principal, action, resource);")).await;
        assert!(may().await, "round {round}");
    }
    let bad =
        json!({"text": "permit(principal, action, resource);\npermit(principal == User::\"ada\", action, resource);"});
    let (status, told) = world.rest(Method::PUT, "/admin/policies/default", &bad).await;
    assert_eq!((status, &told["errors"][0]["field"]), (422, &json!("text:2:21")), "{told}");
    assert!(may().await, "what was in force is");
    let denying = json!({"text": ""});
    let (status, said) = world.rest(Method::PUT, "/admin/policies/default?dry_run=true", &denying).await;
    assert_eq!((status, &said["version"]), (200, &json!(10)), "{said}");
    assert!(may().await, "a dry run changes nothing");
    rule(&world, "").await;
    assert!(!may().await, "what nothing permits is denied");
    let (_, versions) = world.rest(Method::GET, "/admin/policies/default/versions", &Value::Null).await;
    assert_eq!(versions["items"].as_array().unwrap().len(), 11, "{versions}");
    assert_eq!((&versions["items"][0]["username"], &versions["items"][0]["in_force"]), (&json!("admin"), &json!(true)));
    let (_, tenth) = world.rest(Method::GET, "/admin/policies/default/versions/10", &Value::Null).await;
    rule(&world, tenth["text"].as_str().unwrap()).await;
    assert!(may().await, "an older version is put in force again");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_set_that_cannot_be_read_denies_and_says_so() {
    let world = World::start().await;
    let _server = one(&world).await;
    let ada = world.person("ada", "user").await;
    let row = RulesRow {
        tenant_id: String::new(),
        version: 0,
        text: "permit(".to_owned(),
        author: "somebody with a database shell".to_owned(),
        author_id: uuid::Uuid::nil(),
        created_at: 0,
    };
    world.app().store.put_rules(&TenantId::default_tenant(), &row, None).await.unwrap();
    world.app().changed().await.unwrap();
    let client = world.client_of("/mcp", &ada);
    assert!(within(client.tool("one__look", json!({}))).await.unwrap().code().is_some());
    let list = within(client.call("tools/list", json!({}))).await.unwrap();
    assert!(names(&list, "tools").is_empty());
    until(async || {
        let reply = world.client("/").send(testkit::client::Request::get().path("/health")).await.unwrap();
        let health: Value = serde_json::from_str(&reply.text().await.unwrap()).unwrap();
        (health["components"]["access rules"] == "degraded").then_some(())
    })
    .await;
    let (_, told) = world.rest(Method::GET, "/admin/policies/default", &Value::Null).await;
    assert!(told["trouble"].as_str().unwrap().contains("line 1"), "{told}");
    rule(&world, "permit(principal, action, resource);").await;
    assert!(within(client.tool("one__look", json!({}))).await.unwrap().code().is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_trial_foretells_what_comes_true_and_an_explanation_says_why() {
    let world = World::start().await;
    let _server = one(&world).await;
    let (ada, bob) = (world.person("ada", "user").await, world.person("bob", "user").await);
    let call = async |key: &str, tool: &str| {
        within(world.client_of("/mcp", key).tool(&format!("one__{tool}"), json!({}))).await.unwrap().code().is_none()
    };
    for _ in 0..3 {
        assert!(call(&ada, "drop").await);
    }
    assert!(call(&ada, "look").await && call(&bob, "drop").await);
    let text = r#"@id("read") permit(principal, action, resource is Tool) when { resource.readOnlyHint };
        @id("bob") permit(principal, action, resource) when { principal has name && principal.name == "bob" };"#;
    let (status, trial) =
        world.rest(Method::POST, "/admin/policies/default/dry-run", &json!({"text": text, "days": 1})).await;
    assert_eq!((status, &trial["operations"], &trial["unchanged"]), (200, &json!(3), &json!(2)), "{trial}");
    let change = &trial["changes"][0];
    assert_eq!(
        [&change["user"], &change["name"], &change["now"], &change["then"], &change["count"]],
        [&json!("ada"), &json!("drop"), &json!("allowed"), &json!("denied"), &json!(3)],
        "{trial}"
    );
    assert!(call(&ada, "drop").await, "a trial changes nothing");
    let ask = async |question: Value| world.rest(Method::POST, "/admin/policies/default/explain", &question).await.1;
    rule(&world, text).await;
    for (key, name, tool) in [(&ada, "ada", "drop"), (&ada, "ada", "look"), (&bob, "bob", "drop")] {
        let told = ask(json!({"user": name, "server": "one", "tool": tool})).await;
        let may = call(key, tool).await;
        assert_eq!(told["decision"], if may { "allowed" } else { "denied" }, "{name} {tool}: {told}");
    }
    let told = ask(json!({"user": "bob", "server": "one", "tool": "look"})).await;
    assert_eq!((&told["rules"], &told["hints"]["readOnlyHint"]), (&json!(["bob", "read"]), &json!(true)), "{told}");
    let (status, told) =
        world.rest(Method::POST, "/admin/policies/default/explain", &json!({"user": "eve", "server": "one"})).await;
    assert_eq!((status, &told["errors"][0]["field"]), (422, &json!("user")), "{told}");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_listens_is_told_of_other_rules_and_of_nothing_that_they_hide() {
    let world = World::start().await;
    let _server = one(&world).await;
    let ada = world.person("ada", "user").await;
    rule(&world, ADAS).await;
    for path in ["/mcp", "/mcp/one"] {
        let uris = json!(["stand-in://notes/7", "stand-in://note"]);
        let wants = json!({"toolsListChanged": true, "resourceSubscriptions": uris});
        let (_, mut stream) = world.client_of(path, &ada).subscribe(wants).await.unwrap();
        let first = within(stream.message()).await.unwrap().unwrap();
        assert_eq!(first["params"]["notifications"]["resourceSubscriptions"], json!(["stand-in://note"]), "{path}");
        // It may begin to look a moment after it said so: then the next change is told.
        let changing = async {
            for round in 0.. {
                rule(&world, &format!("{ADAS}// {path} {round}")).await;
                tokio::task::yield_now().await;
            }
        };
        let told = tokio::select! {
            () = changing => None,
            told = within(stream.message()) => told.unwrap(),
        };
        assert_eq!(told.unwrap()["method"], "notifications/tools/list_changed", "{path}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn another_spelling_of_what_a_rule_names_is_not_there() {
    let world = World::start().await;
    let server = one(&world).await;
    let ada = world.person("ada", "user").await;
    let all = "permit(principal, action, resource);";
    rule(&world, &format!("{all} forbid(principal, action, resource == Resource::\"one/stand-in://notes/7\");")).await;
    server.script("Look", |_| testkit::upstream::Answer::text("done"));
    server.script("l o o k", |_| testkit::upstream::Answer::text("done"));
    server.script("peek", |_| testkit::upstream::Answer::text("done"));
    for version in [MODERN, "2025-11-25"] {
        for (client, prefix) in doors(&world, &ada, version).await {
            let label = format!("{version} at {prefix}");
            server.host().forget();
            for (uri, may) in [
                ("stand-in://notes/8", true),
                ("stand-in://notes/7", false),
                ("stand-in://notes/%37", false),
                ("stand-in://notes/./7", false),
                ("stand-in://notes/8/../7", false),
                ("stand-in://notes//7", false),
                ("STAND-IN://notes/7", false),
                ("stand-in://NOTES/7", false),
                ("stand-in://notes/7#x", false),
                ("stand-in://notes/7?", false),
                ("stand-in://notes/7?x=1", false),
                ("stand-in://notes/7/", false),
                ("stand-in://notes/7/?x=1", false),
            ] {
                let read = within(client.call("resources/read", json!({"uri": uri}))).await.unwrap();
                assert_eq!(read.code().is_none(), may, "{label} {uri}: {read:?}");
            }
            for (tool, may) in [("look", true), ("peek", true), ("Look", false), ("l o o k", false)] {
                let called = within(client.tool(&format!("{prefix}{tool}"), json!({}))).await.unwrap();
                assert_eq!(called.code().is_none(), may, "{label} {tool}: {called:?}");
            }
            let sent = server.asked("resources/read").len() + server.asked("tools/call").len();
            assert_eq!(sent, 3, "{label}: the server never heard of the others");
        }
    }
    for uri in ["stand-in://notes/%37", "stand-in://notes/7?x=1"] {
        let ask = json!({"user": "ada", "server": "one", "resource": uri});
        let (_, told) = world.rest(Method::POST, "/admin/policies/default/explain", &ask).await;
        assert_eq!((&told["decision"], &told["known"]), (&json!("denied"), &json!(false)), "{told}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_narrowed_key_writes_no_rules() {
    let world = World::start().await;
    world.user("head").await;
    let role = json!({"role": "tenant_admin"});
    let (status, said) = world.rest(Method::PATCH, "/users/head", &role).await;
    assert_eq!(status, 200, "{said}");
    for (scopes, expected) in [
        (json!({"servers": ["one"]}), 403),
        (json!({"servers": "*", "tools": ["one/look"]}), 403),
        (json!({"servers": "*"}), 200),
    ] {
        let mut order = json!({"name": "a key", "username": "head", "role": "tenant_admin", "admin": true});
        order.as_object_mut().unwrap().extend(scopes.as_object().unwrap().clone());
        let (status, made) = world.rest(Method::POST, "/keys", &order).await;
        assert_eq!(status, 201, "{made}");
        let key = made["key"].as_str().unwrap();
        let put = |query: &str| {
            testkit::client::Request::new(
                Method::PUT,
                json!({"text": "permit(principal, action, resource);"}).to_string().into(),
            )
            .header("content-type", "application/json")
            .path(&format!("/api/v1/admin/policies/default{query}"))
        };
        let reply = world.client_of("/", key).send(put("")).await.unwrap();
        assert_eq!(reply.status.as_u16(), expected, "{scopes}: {}", reply.text().await.unwrap());
        let reply = world.client_of("/", key).send(put("?dry_run=true")).await.unwrap();
        assert_eq!(reply.status, 200, "{scopes}: reading them is no writing");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_notification_that_nobody_knows_takes_the_server_as_a_whole() {
    let world = World::start().await;
    let server = one(&world).await;
    let ada = world.person("ada", "user").await;
    let client = shake(world.client_of("/mcp/one", &ada), "2025-11-25").await;
    let [permitting, narrowing] = [
        "permit(principal, action, resource); forbid(principal, action, resource == Tool::\"one/nothing\");",
        "permit(principal, action, resource == Tool::\"one/look\");",
    ];
    for text in [narrowing, permitting] {
        rule(&world, text).await;
        for method in ["notifications/of/tomorrow", "notifications/roots/list_changed"] {
            assert_eq!(within(client.notify(method, json!({}))).await.unwrap(), 202, "{method}");
        }
        // It is told in the order in which it was said.
        server.wait_asked("notifications/roots/list_changed").await.unwrap();
        let heard = server.asked("notifications/of/tomorrow").len();
        assert_eq!(heard, usize::from(text == permitting), "{text}");
        server.host().forget();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_was_open_before_tells_nothing_that_other_rules_hide() {
    let world = World::start().await;
    let server = one(&world).await;
    let ada = world.person("ada", "user").await;
    let (note, secret) = ("stand-in://note", "stand-in://notes/7");
    let wants = json!({"resourceSubscriptions": [note, secret]});
    let mut streams = Vec::new();
    for path in ["/mcp", "/mcp/one"] {
        let (_, mut stream) = world.client_of(path, &ada).subscribe(wants.clone()).await.unwrap();
        within(stream.message()).await.unwrap().unwrap();
        streams.push((format!("modern at {path}"), stream));
        let client = shake(world.client_of(path, &ada), "2025-11-25").await;
        for uri in [note, secret] {
            assert!(within(client.call("resources/subscribe", json!({"uri": uri}))).await.unwrap().code().is_none());
        }
        streams.push((format!("legacy at {path}"), client.listen(None).await.unwrap()));
    }
    // All of them hear of both.
    for uri in [note, secret] {
        for (_, stream) in &mut streams {
            let telling = async {
                loop {
                    server.resource_changed(uri);
                    tokio::time::sleep(std::time::Duration::from_millis(20)).await;
                }
            };
            let hearing = async { while within(stream.message()).await.unwrap().unwrap()["params"]["uri"] != uri {} };
            tokio::select! { () = telling => {}, () = hearing => {} }
        }
    }
    rule(
        &world,
        &format!(
            "permit(principal, action, resource); forbid(principal, action, resource == Resource::\"one/{secret}\");"
        ),
    )
    .await;
    for (label, stream) in &mut streams {
        let telling = async {
            loop {
                server.resource_changed(secret);
                server.resource_changed(note);
                tokio::time::sleep(std::time::Duration::from_millis(20)).await;
            }
        };
        // What had been said before may still be on its way; then it is only of the other one.
        let hearing = async {
            let (mut in_a_row, mut hidden) = (0, 0);
            while in_a_row < 5 {
                let said = within(stream.message()).await.unwrap().unwrap();
                let is_hidden = said["params"]["uri"] == secret;
                in_a_row = if is_hidden { 0 } else { in_a_row + 1 };
                hidden += usize::from(is_hidden);
                assert!(hidden < 300, "{label}");
            }
        };
        tokio::select! { () = telling => {}, () = hearing => {} }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_watched_again_after_a_lost_session_is_what_may_still_be_seen() {
    let world = World::start().await;
    let server = Plain::with(Eras::Legacy("2025-11-25".into())).await.unwrap();
    world.register("one", &server.url()).await;
    let ada = world.person("ada", "user").await;
    let client = shake(world.client_of("/mcp/one", &ada), "2025-11-25").await;
    let (note, secret) = ("stand-in://note", "stand-in://notes/7");
    for uri in [note, secret] {
        assert!(within(client.call("resources/subscribe", json!({"uri": uri}))).await.unwrap().code().is_none());
    }
    rule(
        &world,
        &format!(
            "permit(principal, action, resource); forbid(principal, action, resource == Resource::\"one/{secret}\");"
        ),
    )
    .await;
    server.host().forget();
    server.forget_sessions();
    assert!(within(client.tool("echo", json!({}))).await.unwrap().code().is_none());
    let again: Vec<Value> =
        server.asked("resources/subscribe").iter().map(|asked| asked.json()["params"]["uri"].clone()).collect();
    assert_eq!(again, [json!(note)]);
}
