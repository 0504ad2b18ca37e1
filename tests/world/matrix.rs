//! Every sort of client with every sort of server: what each pair can do, and what an exchange between eras is told that
//! cannot be carried.

use serde_json::{Value, json};
use testkit::client::{Client, Outcome};
use testkit::jsonrpc::MODERN;
use testkit::upstream::{Cancelled, Eras, LegacySse, Plain, ReplyForm};

use crate::world::{VERSIONS, World, names, stdio_server, until, within};

/// The server in the middle of a matrix's row.
enum Behind {
    Http(Plain, ReplyForm),
    Sse(LegacySse),
    Stdio,
}

impl Behind {
    /// Whether every answer is a stream of events.
    fn streams(&self) -> bool {
        matches!(self, Self::Http(_, ReplyForm::Sse))
    }
}

/// One cell: a client of one version, and what tools are called where it looks.
struct Cell<'a> {
    client: Client,
    /// A second client of the same sort, to look at what became of the first one's calls.
    other: Client,
    prefix: &'a str,
    label: String,
    modern: bool,
}

impl Cell<'_> {
    fn name(&self, tool: &str) -> String {
        format!("{}{tool}", self.prefix)
    }

    async fn call(&self, tool: &str, arguments: Value) -> Outcome {
        let called = within(self.client.tool(&self.name(tool), arguments)).await;
        called.unwrap_or_else(|error| panic!("{}: {tool}: {error:#}", self.label))
    }
}

fn legacy() -> Eras {
    Eras::Legacy("2025-11-25".into())
}

async fn http(eras: Eras, form: ReplyForm) {
    let server = Plain::with(eras.clone()).await.unwrap();
    server.reply(form);
    let world = World::start().await;
    world.register("it", &server.url()).await;
    row(&world, &Behind::Http(server, form), &eras).await;
}

async fn stdio(eras: Eras) {
    let world = World::process(&[]).await;
    let args = match &eras {
        Eras::Legacy(version) => json!(["--legacy", version]),
        Eras::Modern => json!(["--modern"]),
        Eras::Dual => json!([]),
    };
    let spec = json!({"slug": "it", "transport": "stdio", "command": {"program": stdio_server(), "args": args}});
    let server = world.register_as(&spec).await;
    assert_eq!(server["status"]["state"], "ready", "{server}");
    row(&world, &Behind::Stdio, &eras).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn json_of_a_legacy_server() {
    http(legacy(), ReplyForm::Auto).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn json_of_a_modern_server() {
    http(Eras::Modern, ReplyForm::Auto).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn json_of_a_server_of_both_eras() {
    http(Eras::Dual, ReplyForm::Auto).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn events_of_a_legacy_server() {
    http(legacy(), ReplyForm::Sse).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn events_of_a_modern_server() {
    http(Eras::Modern, ReplyForm::Sse).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn events_of_a_server_of_both_eras() {
    http(Eras::Dual, ReplyForm::Sse).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn json_of_a_server_of_an_older_version() {
    http(Eras::Legacy("2025-03-26".into()), ReplyForm::Auto).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_stream_of_the_oldest_transport() {
    let server = LegacySse::start().await.unwrap();
    let world = World::start().await;
    let spec = json!({"slug": "it", "transport": "sse", "replicas": [{"url": server.url()}]});
    let registered = world.register_as(&spec).await;
    assert_eq!(registered["status"]["state"], "ready", "{registered}");
    row(&world, &Behind::Sse(server), &Eras::Legacy("2024-11-05".into())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_pipe_of_a_legacy_child() {
    stdio(legacy()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_pipe_of_a_modern_child() {
    stdio(Eras::Modern).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_pipe_of_a_child_of_both_eras() {
    stdio(Eras::Dual).await;
}

/// One server, seen by every client at both endpoints.
async fn row(world: &World, behind: &Behind, eras: &Eras) {
    let neighbour = Plain::start().await.unwrap();
    world.register("neighbour", &neighbour.url()).await;
    let mut cells = Vec::new();
    for (path, prefix) in [("/mcp/it", ""), ("/mcp", "it__")] {
        for version in VERSIONS {
            let cell = Cell {
                client: world.answering(path, version).await,
                other: world.client_at(path, version).await,
                prefix,
                label: format!("{version} at {path}"),
                modern: version == MODERN,
            };
            lists_and_calls(&cell).await;
            refusals(&cell, behind.streams() && prefix.is_empty()).await;
            progress(&cell).await;
            questions(&cell, behind, eras).await;
            if !matches!(behind, Behind::Stdio) {
                errors(&cell).await;
                logging(&cell, eras).await;
            }
            cells.push(cell);
        }
    }
    // Last, because a child that many share may still act for a call that was given up: for a while it asks nobody.
    for cell in &cells {
        cancellation(cell, behind).await;
    }
}

async fn lists_and_calls(cell: &Cell<'_>) {
    let list = cell.client.call("tools/list", json!({})).await.unwrap();
    let listed = names(&list, "tools");
    assert!(listed.contains(&cell.name("echo")), "{}: {listed:?}", cell.label);
    assert_eq!(listed.contains(&"neighbour__echo".to_owned()), !cell.prefix.is_empty(), "{}", cell.label);
    if cell.modern {
        assert_eq!(list.result()["resultType"], "complete", "{}: {}", cell.label, list.response);
        assert!(list.result()["ttlMs"].is_number(), "{}: {}", cell.label, list.response);
    }
    let answer = cell.call("echo", json!({"message": "grüße", "none": null})).await;
    assert_eq!(answer.status, 200, "{}", cell.label);
    let told: Value = serde_json::from_str(answer.text()).unwrap_or_else(|_| panic!("{}: {answer:?}", cell.label));
    assert_eq!(told, json!({"message": "grüße", "none": null}), "{}", cell.label);
    if cell.modern {
        assert_eq!(answer.result()["resultType"], "complete", "{}", cell.label);
    }
}

async fn refusals(cell: &Cell<'_>, streams: bool) {
    let unknown = cell.call("nothing", json!({})).await;
    assert_eq!(unknown.code(), Some(-32602), "{}: {}", cell.label, unknown.response);
    let unknown = cell.client.call("no/such/method", json!({})).await.unwrap();
    assert_eq!(unknown.code(), Some(-32601), "{}: {}", cell.label, unknown.response);
    // A modern client learns it from the status too, unless the server began a stream to say so.
    let status = if cell.modern && !streams { 404 } else { 200 };
    assert_eq!(unknown.status.as_u16(), status, "{}", cell.label);
}

async fn progress(cell: &Cell<'_>) {
    let params =
        json!({"name": cell.name("progress"), "arguments": {"steps": 3}, "_meta": {"progressToken": "a token"}});
    let answer = within(cell.client.call("tools/call", params)).await.unwrap();
    let steps: Vec<(&Value, &Value)> = answer
        .before
        .iter()
        .filter(|message| message["method"] == "notifications/progress")
        .map(|message| (&message["params"]["progressToken"], &message["params"]["progress"]))
        .collect();
    let (token, one, two, three) = (json!("a token"), json!(1), json!(2), json!(3));
    assert_eq!(steps, [(&token, &one), (&token, &two), (&token, &three)], "{}: {answer:?}", cell.label);
    assert_eq!(answer.text(), "done", "{}", cell.label);
}

async fn errors(cell: &Cell<'_>) {
    let failed = cell.call("fail", json!({})).await;
    assert_eq!(failed.result()["isError"], true, "{}: {}", cell.label, failed.response);
    let error = cell.call("error", json!({"code": -1234})).await;
    assert_eq!(error.code(), Some(-1234), "{}: {}", cell.label, error.response);
    assert_eq!(error.response["error"]["data"], json!({"asked": true}), "{}", cell.label);
}

async fn logging(cell: &Cell<'_>, eras: &Eras) {
    let logged =
        |answer: &Outcome| answer.before.iter().filter(|message| message["method"] == "notifications/message").count();
    if cell.modern {
        let at = |level: &str| {
            let meta = json!({"io.modelcontextprotocol/logLevel": level});
            json!({"name": cell.name("log"), "arguments": {"count": 2}, "_meta": meta})
        };
        let heard = within(cell.client.call("tools/call", at("info"))).await.unwrap();
        assert_eq!(logged(&heard), 2, "{}: {heard:?}", cell.label);
        if !eras.modern() {
            // A server with sessions knows no level of one request: the gateway keeps what was not asked for away.
            let silent = within(cell.client.call("tools/call", at("error"))).await.unwrap();
            assert_eq!(logged(&silent), 0, "{}: {silent:?}", cell.label);
            assert_eq!(logged(&cell.call("log", json!({"count": 2})).await), 0, "{}", cell.label);
        }
        return;
    }
    let set = cell.client.call("logging/setLevel", json!({"level": "info"})).await.unwrap();
    assert!(set.result().is_object(), "{}: {}", cell.label, set.response);
    let heard = cell.call("log", json!({"count": 2})).await;
    assert_eq!(logged(&heard), 2, "{}: {heard:?}", cell.label);
}

/// The client gives a call up, and the server hears of it.
async fn cancellation(cell: &Cell<'_>, behind: &Behind) {
    let tool = if matches!(behind, Behind::Stdio) { "sleep" } else { "gate" };
    let params = json!({"name": cell.name(tool), "arguments": {"ms": 60_000}});
    let id = "\"to be given up\"";
    let before = given_up(cell, behind).await;
    let asked = if let Behind::Stdio = behind { stats(cell).await["requests"].as_u64().unwrap() } else { 0 };
    let call = async {
        let reply = cell.client.send(cell.client.request(id, "tools/call", params)).await.unwrap();
        reply.finish(id).await.unwrap()
    };
    let give_up = async {
        under_way(cell, behind, asked).await;
        if !cell.modern {
            let params = json!({"requestId": "to be given up", "reason": "a test"});
            let status = cell.client.notify("notifications/cancelled", params).await.unwrap();
            assert_eq!(status, 202, "{}", cell.label);
        }
    };
    if cell.modern {
        // Whichever is first drops the other: the client goes away.
        tokio::select! {
            outcome = within(call) => panic!("{}: answered: {outcome:?}", cell.label),
            () = give_up => {}
        }
    } else {
        let (outcome, ()) = tokio::join!(within(call), give_up);
        assert_eq!(outcome.response, Value::Null, "{}: a cancelled call is not answered", cell.label);
    }
    until(|| async { (given_up(cell, behind).await > before).then_some(()) }).await;
}

async fn under_way(cell: &Cell<'_>, behind: &Behind, mut asked: u64) {
    match behind {
        Behind::Http(server, _) => {
            until(|| async { (!server.calls("gate").is_empty() && server.in_flight() > 0).then_some(()) }).await;
            server.host().forget();
        }
        Behind::Sse(server) => {
            let gate = |call: &testkit::upstream::Recorded| call.json()["params"]["name"] == "gate";
            until(|| async { server.asked("tools/call").iter().any(gate).then_some(()) }).await;
            server.host().forget();
        }
        Behind::Stdio => {
            // Each look is a request too; one more than the looks is the call.
            loop {
                asked += 1;
                if stats(cell).await["requests"].as_u64().unwrap() > asked {
                    return;
                }
            }
        }
    }
}

async fn given_up(cell: &Cell<'_>, behind: &Behind) -> u64 {
    let of =
        |cancelled: Vec<Cancelled>| cancelled.iter().filter(|one| one.tool.as_deref() == Some("gate")).count() as u64;
    match behind {
        Behind::Http(server, _) => of(server.cancelled()),
        Behind::Sse(server) => of(server.cancelled()),
        Behind::Stdio => stats(cell).await["cancellations"].as_u64().unwrap(),
    }
}

async fn stats(cell: &Cell<'_>) -> Value {
    let told = within(cell.other.tool(&cell.name("stats"), json!({}))).await.unwrap();
    serde_json::from_str(told.text()).unwrap_or_else(|_| panic!("{}: {told:?}", cell.label))
}

/// The server asks the client: within one era it is answered, between eras both are told why not.
async fn questions(cell: &Cell<'_>, behind: &Behind, eras: &Eras) {
    let id = "\"asks\"";
    let params = json!({"name": cell.name("ask"), "arguments": {"kind": "elicitation"}});
    let request = cell.client.request(id, "tools/call", params.clone());
    let mut reply = within(cell.client.send(request)).await.unwrap();
    match (cell.modern, eras) {
        (false, Eras::Modern) => {
            let outcome = reply.finish(id).await.unwrap();
            assert_eq!(outcome.code(), Some(-31011), "{}: {}", cell.label, outcome.response);
            assert_eq!(outcome.response["error"]["data"]["kind"], "era", "{}", cell.label);
        }
        (false, _) => {
            let question = reply.message().await.unwrap().unwrap();
            assert_eq!(question["method"], "elicitation/create", "{}: {question}", cell.label);
            let result = json!({"action": "accept", "content": {"name": "Ada"}});
            let status = cell.client.respond(&question, &result).await.unwrap();
            assert_eq!(status, 202, "{}", cell.label);
            let outcome = reply.finish(id).await.unwrap();
            assert!(outcome.text().contains("Ada"), "{}: {}", cell.label, outcome.response);
        }
        (true, Eras::Legacy(_)) => {
            let outcome = reply.finish(id).await.unwrap();
            assert!(outcome.before.is_empty(), "{}: {outcome:?}", cell.label);
            let told = outcome.response.to_string();
            if matches!(behind, Behind::Http(..)) {
                assert!(told.contains("-31011"), "{}: {told}", cell.label);
            }
            assert!(told.contains("client"), "{}: {told}", cell.label);
        }
        (true, _) => {
            let outcome = reply.finish(id).await.unwrap();
            let result = outcome.result();
            assert_eq!(result["resultType"], "input_required", "{}: {}", cell.label, outcome.response);
            let mut again = params;
            again["inputResponses"] = json!({"question": {"action": "accept", "content": {"name": "Ada"}}});
            again["requestState"] = result["requestState"].clone();
            let outcome = within(cell.client.call("tools/call", again)).await.unwrap();
            assert!(outcome.text().contains("Ada"), "{}: {}", cell.label, outcome.response);
        }
    }
}
