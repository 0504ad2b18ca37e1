//! What the common endpoint lists: pages, names that fit, things that two servers offer, and what is not a tool.

use http::Method;
use serde_json::{Value, json};
use testkit::client::{Client, Request};
use testkit::jsonrpc::MODERN;
use testkit::upstream::{Answer, Plain};

use crate::world::{World, names, until};

async fn pages(client: &Client) -> (Vec<String>, usize) {
    let (mut all, mut count, mut cursor) = (Vec::new(), 0, Value::Null);
    loop {
        let params = if cursor.is_null() { json!({}) } else { json!({"cursor": cursor}) };
        let page = client.call("tools/list", params).await.unwrap();
        all.extend(names(&page, "tools"));
        count += 1;
        cursor = page.result()["nextCursor"].clone();
        if cursor.is_null() {
            return (all, count);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn twelve_hundred_tools_come_in_pages_and_an_old_cursor_is_refused() {
    let world = World::start().await;
    let mut servers = Vec::new();
    for slug in ["a", "b", "c"] {
        let server = Plain::start().await.unwrap();
        server.set(|shown| {
            shown.page = Some(100);
            shown.tools =
                (0..400).map(|n| json!({"name": format!("t{n}"), "inputSchema": {"type": "object"}})).collect();
        });
        world.register(slug, &server.url()).await;
        servers.push(server);
    }
    for version in [MODERN, "2025-11-25"] {
        let client = world.client_at("/mcp", version).await;
        let (mut all, count) = pages(&client).await;
        assert!(count > 1, "one page is not enough");
        assert_eq!((all.len(), &*all[0], &*all[1199]), (1200, "a__t0", "c__t399"));
        all.sort();
        all.dedup();
        assert_eq!(all.len(), 1200);
    }
    let client = world.client("/mcp");
    let old = client.call("tools/list", json!({})).await.unwrap().result()["nextCursor"].clone();
    let foreign = client.call("prompts/list", json!({"cursor": old})).await.unwrap();
    assert_eq!(foreign.code(), Some(-32602), "{foreign:?}");
    servers[1].set(|shown| shown.tools.truncate(399));
    let (status, _) = world.rest(Method::POST, "/servers/b/refresh", &Value::Null).await;
    assert_eq!(status, 200);
    let stale = client.call("tools/list", json!({"cursor": old})).await.unwrap();
    assert_eq!(stale.code(), Some(-32602), "{stale:?}");
    assert!(stale.response["error"]["message"].as_str().unwrap().contains("without a cursor"), "{stale:?}");
    assert_eq!(pages(&client).await.0.len(), 1199);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_long_name_is_shortened_and_still_finds_its_tool() {
    let server = Plain::start().await.unwrap();
    let long: Vec<String> = ["x", "y"].iter().map(|end| format!("{}{end}", "very_long_name_".repeat(8))).collect();
    let odd = ["ünïcode", "with space", "a/b", "__", "quote\"d"];
    server.set(|shown| {
        let all = long.iter().map(String::as_str).chain(odd);
        shown.tools = all.map(|name| json!({"name": name, "inputSchema": {"type": "object"}})).collect();
    });
    for name in long.iter().map(String::as_str).chain(odd) {
        let told = name.to_owned();
        server.script(name, move |_| Answer::text(&told));
    }
    let world = World::start().await;
    world.register("a-server-with-a-name", &server.url()).await;
    for version in [MODERN, "2025-11-25"] {
        let client = world.client_at("/mcp", version).await;
        let listed = names(&client.call("tools/list", json!({})).await.unwrap(), "tools");
        assert_eq!(listed.len(), 7, "{listed:?}");
        for (exposed, name) in listed.iter().zip(long.iter().map(String::as_str).chain(odd)) {
            assert!(exposed.chars().count() <= 64, "{exposed}");
            assert!(exposed.starts_with("a-server-with-a-name__"), "{exposed}");
            let answer = client.tool(exposed, json!({})).await.unwrap();
            assert_eq!(answer.text(), name, "{answer:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_that_is_the_short_form_of_another_is_listed_once_and_a_note_says_so() {
    let long = "very_long_name_".repeat(8);
    let server = Plain::start().await.unwrap();
    let tool = |name: &str| json!({"name": name, "inputSchema": {"type": "object"}});
    server.set(|shown| shown.tools = vec![tool(&long)]);
    let world = World::start().await;
    world.register("it", &server.url()).await;
    let client = world.client("/mcp");
    let short = names(&client.call("tools/list", json!({})).await.unwrap(), "tools").remove(0);
    let literal = short.strip_prefix("it__").unwrap();
    server.set(|shown| shown.tools = vec![tool(&long), tool(literal), tool("other")]);
    for name in [long.as_str(), literal] {
        let told = name.to_owned();
        server.script(name, move |_| Answer::text(&told));
    }
    world.rest(Method::POST, "/servers/it/refresh", &Value::Null).await;

    let list = client.call("tools/list", json!({})).await.unwrap();
    assert_eq!(names(&list, "tools"), [short.as_str(), "it__other"]);
    let problems = list.result()["_meta"]["io.mcp-registry-gateway/problems"].to_string();
    assert!(problems.contains(literal) && problems.contains("left out"), "{problems}");
    assert!(world.server("it").await["status"]["problems"].to_string().contains(literal));
    world.user("ada").await;
    for (tools, all) in [(json!(["it/other"]), false), (json!(["it/o*"]), false), (json!(["it/*"]), true)] {
        let key = world.key("ada", json!("*"), tools.clone()).await;
        let (mcp, rest) = (world.client_of("/mcp", &key), world.client_of("/api/v1/servers/it", &key));
        let list = mcp.call("tools/list", json!({})).await.unwrap();
        assert_eq!(list.result().to_string().contains(literal), all, "{tools}: {list:?}");
        let view = rest.send(Request::get()).await.unwrap().text().await.unwrap();
        assert!(view.contains("\"slug\":\"it\"") && view.contains(literal) == all, "{tools}: {view}");
    }
    assert_eq!(client.tool(&short, json!({})).await.unwrap().text(), long, "it is whose it was");
    let own = world.client("/mcp/it");
    assert_eq!(names(&own.call("tools/list", json!({})).await.unwrap(), "tools").len(), 3);
    assert_eq!(own.tool(literal, json!({})).await.unwrap().text(), literal);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_resource_of_two_servers_has_one_owner_and_a_note_says_so() {
    let (first, second) = (Plain::start().await.unwrap(), Plain::start().await.unwrap());
    let world = World::start().await;
    // Whoever comes later takes nothing over, however low its slug.
    world.register("fs", &first.url()).await;
    world.register("a0", &second.url()).await;
    for version in [MODERN, "2025-11-25"] {
        let client = world.client_at("/mcp", version).await;
        let list = client.call("resources/list", json!({})).await.unwrap();
        assert_eq!(list.result()["resources"].as_array().unwrap().len(), 2, "nothing is dropped silently");
        let problems = &list.result()["_meta"]["io.mcp-registry-gateway/problems"];
        let text = "`stand-in://note` is also offered by `fs`, which answers for it";
        assert!(problems.as_array().unwrap().contains(&json!({"server": "a0", "problem": text})), "{problems}");
        first.host().forget();
        second.host().forget();
        let read = client.call("resources/read", json!({"uri": "stand-in://note"})).await.unwrap();
        assert_eq!(read.result()["contents"][0]["text"], "content of stand-in://note", "{read:?}");
        assert_eq!((first.asked("resources/read").len(), second.asked("resources/read").len()), (1, 0));
        let templates = client.call("resources/templates/list", json!({})).await.unwrap();
        assert_eq!(templates.result()["resourceTemplates"].as_array().unwrap().len(), 2);
        let read = client.call("resources/read", json!({"uri": "stand-in://notes/42"})).await.unwrap();
        assert_eq!(read.result()["contents"][0]["uri"], "stand-in://notes/42", "a template finds it: {read:?}");
        assert_eq!((first.asked("resources/read").len(), second.asked("resources/read").len()), (2, 0));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn prompts_and_completions_find_their_server() {
    let (first, second) = (Plain::start().await.unwrap(), Plain::start().await.unwrap());
    let world = World::start().await;
    world.register("first", &first.url()).await;
    world.register("second", &second.url()).await;
    for version in [MODERN, "2025-11-25"] {
        let client = world.client_at("/mcp", version).await;
        second.host().forget();
        let list = client.call("prompts/list", json!({})).await.unwrap();
        assert_eq!(names(&list, "prompts"), ["first__greet", "second__greet"]);
        let params = json!({"name": "second__greet", "arguments": {"who": "Ada"}});
        let got = client.call("prompts/get", params).await.unwrap();
        assert_eq!(got.result()["messages"][0]["content"]["text"], "greet {\"who\":\"Ada\"}", "{got:?}");
        let argument = json!({"name": "who", "value": "A"});
        let params = json!({"ref": {"type": "ref/prompt", "name": "second__greet"}, "argument": argument});
        let done = client.call("completion/complete", params).await.unwrap();
        assert_eq!(done.result()["completion"]["values"], json!(["one", "two"]), "{done:?}");
        let asked = second.asked("completion/complete").pop().unwrap().json();
        assert_eq!(asked["params"]["ref"]["name"], "greet", "{asked}");
        let params = json!({"ref": {"type": "ref/resource", "uri": "stand-in://notes/{id}"}, "argument": argument});
        let done = client.call("completion/complete", params).await.unwrap();
        assert!(done.result()["completion"].is_object(), "{done:?}");
        let missing = client.call("prompts/get", json!({"name": "second__nothing"})).await.unwrap();
        assert_eq!(missing.code(), Some(-32602), "{missing:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_list_that_changes_in_silence_is_found_when_it_is_old() {
    let server = Plain::start().await.unwrap();
    let world = World::with(&["--catalogue-ttl=200ms"]).await;
    world.register("it", &server.url()).await;
    let client = world.client("/mcp");
    for name in ["one", "two"] {
        server.set(|shown| shown.tools.push(json!({"name": name, "inputSchema": {"type": "object"}})));
        until(|| async {
            let list = client.call("tools/list", json!({})).await.unwrap();
            names(&list, "tools").contains(&format!("it__{name}")).then_some(())
        })
        .await;
    }
}
