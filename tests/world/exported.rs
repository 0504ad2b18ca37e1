//! What a collector of OpenTelemetry gets: spans of calls, metrics. And what a call notices of it: nothing.

use std::collections::BTreeMap;

use http::Method;
use serde_json::{Value, json};
use testkit::client::Request;
use testkit::collector::{Answer, Collector, LogSeen, SpanSeen};
use testkit::upstream::{Eras, Plain, ReplyForm};

use crate::world::{DEADLINE, KEY, World, stdio_server, until, within};

const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
const PARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
const OTHER: &str = "00-11111111111111111111111111111111-2222222222222222-01";

async fn world(collector: &Collector, args: &[&str]) -> World {
    let endpoint = format!("--otlp-endpoint={}", collector.endpoint());
    World::with(&[&[endpoint.as_str(), "--otel-bsp-schedule-delay=5"], args].concat()).await
}

fn legacy() -> Eras {
    Eras::Legacy("2025-11-25".into())
}

/// The pair of spans of the only call of a tool.
async fn pair(collector: &Collector, name: &str) -> (SpanSeen, SpanSeen) {
    let mut found = collector.wait_spans(2, |span| span.name == name).await;
    found.sort_by_key(|span| span.kind == "CLIENT");
    let [server, client] = found.try_into().unwrap_or_else(|found| panic!("{name}: {found:?}"));
    assert_eq!((server.kind, client.kind), ("SERVER", "CLIENT"));
    assert_eq!((&client.trace, &client.parent), (&server.trace, &server.id));
    assert!(
        server.times.0 <= client.times.0 && client.times.0 <= client.times.1,
        "{:?} {:?}",
        server.times,
        client.times
    );
    (server, client)
}

fn said<'a>(span: &'a SpanSeen, names: &[&str]) -> Vec<&'a str> {
    names.iter().map(|name| span.said.get(*name).map_or("-", String::as_str)).collect()
}

/// A tool call with these members in `_meta` and these headers.
async fn call(world: &World, path: &str, modern: bool, tool: &str, meta: &Value, headers: &[(&str, &str)]) {
    let client = if modern { world.client(path) } else { world.client_at(path, "2025-11-25").await };
    let mut params = json!({"name": tool, "arguments": {"text": "hush-payload"}});
    if meta.is_object() {
        params["_meta"] = meta.clone();
    }
    let mut request = client.request("\"id-7\"", "tools/call", params);
    for (name, value) in headers {
        request = request.header(name, value);
    }
    let reply = client.send(request).await.unwrap();
    _ = reply.finish("\"id-7\"").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_is_two_spans_and_the_server_is_below_them() {
    for (eras, modern, form) in [
        (Eras::Modern, true, ReplyForm::Json),
        (Eras::Modern, false, ReplyForm::Sse),
        (legacy(), true, ReplyForm::Sse),
        (legacy(), false, ReplyForm::Json),
    ] {
        let (collector, server) = (Collector::start().await.unwrap(), Plain::with(eras.clone()).await.unwrap());
        server.reply(form);
        let world = world(&collector, &["--otel-resource-attributes=deployment.environment=a%20test"]).await;
        world.register("it", &server.url()).await;
        call(&world, "/mcp/it", modern, "echo", &Value::Null, &[("traceparent", PARENT), ("tracestate", "a=1")]).await;
        let label = format!("{eras:?} {modern}");
        let (own, upstream) = pair(&collector, "tools/call echo").await;
        assert_eq!((own.trace.as_str(), own.parent.as_str()), (TRACE, "b7ad6b7169203331"), "{label}");
        assert_eq!((own.flags, upstream.flags), (0x301, 0x101), "{label}");
        let version = if modern { "2026-07-28" } else { "2025-11-25" };
        let names = [
            "mcp.method.name",
            "gen_ai.tool.name",
            "gen_ai.operation.name",
            "mcp.protocol.version",
            "jsonrpc.request.id",
            "http.route",
            "network.protocol.name",
            "mcp_gateway.server",
            "mcp_gateway.tenant",
            "mcp_gateway.outcome",
            "error.type",
        ];
        let expected = [
            "tools/call",
            "echo",
            "execute_tool",
            version,
            "id-7",
            "/mcp/{server}",
            "http",
            "it",
            "default",
            "success",
            "-",
        ];
        assert_eq!(said(&own, &names), expected, "{label}");
        assert_eq!((own.said.contains_key("mcp.session.id"), &own.error), (!modern, &None), "{label}");
        let names = [
            "mcp.method.name",
            "gen_ai.tool.name",
            "mcp_gateway.server",
            "mcp_gateway.replica",
            "mcp_gateway.attempts",
        ];
        assert_eq!(said(&upstream, &names), ["tools/call", "echo", "it", "0", "1"], "{label}");
        let who = ["service.name", "deployment.environment", "service.version"];
        let who: Vec<_> = who.iter().map(|name| own.resource[*name].as_str()).collect();
        assert_eq!(who, ["mcp-gateway", "a test", env!("CARGO_PKG_VERSION")], "{label}");
        assert_eq!(own.resource["service.instance.id"], world.app().instance.to_string(), "{label}");

        let [called] = server.calls("echo").try_into().unwrap();
        let below = format!("00-{TRACE}-{}-01", upstream.id);
        assert_eq!((called.header("traceparent"), called.header("tracestate")), (below.as_str(), "a=1"), "{label}");
        let meta = &called.json()["params"]["_meta"];
        assert_eq!((&meta["traceparent"], &meta["tracestate"]), (&json!(below), &json!("a=1")), "{label}");
        assert_eq!(called.json()["params"]["arguments"], json!({"text": "hush-payload"}), "{label}");

        // Who called, from where and with what is nobody's business there.
        let me = world.rest(Method::GET, "/me", &Value::Null).await.1;
        let (name, id) = (me["name"].as_str().unwrap(), me["user_id"].as_str().unwrap());
        for request in collector.requests("traces") {
            let text = String::from_utf8_lossy(&request.body);
            for secret in [KEY, "hush-payload", "127.0.0.1", name, id] {
                assert!(!text.contains(secret), "{secret} is in a span");
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_message_says_of_its_trace_counts_more_than_its_request() {
    let (collector, server) = (Collector::start().await.unwrap(), Plain::start().await.unwrap());
    let world = world(&collector, &[]).await;
    world.register("it", &server.url()).await;
    let meta = json!({"traceparent": PARENT, "tracestate": "m=1", "x": 1});
    call(&world, "/mcp/it", true, "echo", &meta, &[("traceparent", OTHER), ("tracestate", "h=1")]).await;
    let (own, upstream) = pair(&collector, "tools/call echo").await;
    assert_eq!((own.trace.as_str(), own.parent.as_str()), (TRACE, "b7ad6b7169203331"));
    assert_eq!(own.links, [("1".repeat(32), "2".repeat(16))]);
    let [called] = server.calls("echo").try_into().unwrap();
    let below = format!("00-{TRACE}-{}-01", upstream.id);
    assert_eq!((called.header("traceparent"), called.header("tracestate")), (below.as_str(), "m=1"));
    let meta = &called.json()["params"]["_meta"];
    assert_eq!((&meta["traceparent"], &meta["tracestate"], &meta["x"]), (&json!(below), &json!("m=1"), &json!(1)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_child_process_takes_a_call_with_a_trace() {
    let collector = Collector::start().await.unwrap();
    let endpoint = format!("--otlp-endpoint={}", collector.endpoint());
    let world = World::process(&[&endpoint, "--otel-bsp-schedule-delay=5"]).await;
    for (slug, args) in [("modern", json!(["--modern"])), ("legacy", json!(["--legacy", "2025-11-25"]))] {
        world
            .register_as(
                &json!({"slug": slug, "transport": "stdio", "command": {"program": stdio_server(), "args": args}}),
            )
            .await;
        for modern in [true, false] {
            call(&world, &format!("/mcp/{slug}"), modern, "echo", &Value::Null, &[("traceparent", PARENT)]).await;
        }
    }
    let spans = collector.wait_spans(8, |span| span.name == "tools/call echo").await;
    assert_eq!(spans.iter().filter(|span| span.trace == TRACE && span.error.is_none()).count(), 8, "{spans:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn how_a_call_failed_is_said_in_a_word() {
    let (collector, server) = (Collector::start().await.unwrap(), Plain::start().await.unwrap());
    let world = world(&collector, &[]).await;
    world.register("it", &server.url()).await;
    call(&world, "/mcp/it", true, "fail", &Value::Null, &[]).await;
    let (own, upstream) = pair(&collector, "tools/call fail").await;
    assert_eq!(said(&own, &["error.type", "mcp_gateway.outcome"]), ["tool_error", "tool_error"]);
    assert_eq!(said(&upstream, &["error.type"]), ["tool_error"]);
    assert!(own.error.is_some() && upstream.error.is_some() && own.parent.is_empty());

    // What goes to no server has no span there.
    world.user("ada").await;
    let narrow = world.key("ada", json!(["it"]), json!(["it/other"])).await;
    let client = world.client_of("/mcp/it", &narrow);
    let request = client.request("1", "tools/call", json!({"name": "echo", "arguments": {}}));
    client.send(request).await.unwrap();
    let [denied] = collector.wait_spans(1, |span| span.name == "tools/call echo").await.try_into().unwrap();
    assert_eq!((said(&denied, &["error.type"]), denied.kind), (vec!["scope"], "SERVER"));
    // In words of the gateway's own: what the caller sent is not quoted.
    assert!(denied.error.is_some_and(|error| !error.contains("echo")));

    // The REST API is told of by route.
    world.rest(Method::GET, "/servers/none", &Value::Null).await;
    let name = "GET /api/v1/servers/{slug}";
    let [rest] = collector.wait_spans(1, |span| span.name == name).await.try_into().unwrap();
    let names = ["http.request.method", "http.route", "error.type", "mcp.method.name"];
    assert_eq!(said(&rest, &names), ["GET", "/api/v1/servers/{slug}", "not_found", "-"]);
    let odd = world.client("/mcp/it");
    odd.send(odd.request("1", "made/up", json!({}))).await.ok();
    let stranger = world.client_of("/mcp", "mcpg_wrong");
    stranger.send(stranger.request("1", "tools/list", json!({}))).await.unwrap();
    let [refused] = collector.wait_spans(1, |span| span.name == "POST /mcp").await.try_into().unwrap();
    assert_eq!(said(&refused, &["error.type", "mcp_gateway.tenant"]), ["malformed", "-"]);
    let names: Vec<_> = collector.spans().into_iter().map(|span| span.name).collect();
    assert!(!names.iter().any(|name| name.contains("made/up")), "{names:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_sampled_is_not_told_and_the_server_hears_so() {
    let (collector, server) = (Collector::start().await.unwrap(), Plain::start().await.unwrap());
    let world = world(&collector, &["--otel-traces-sampler=parentbased_always_off"]).await;
    world.register("it", &server.url()).await;
    let quiet = PARENT.replace("-01", "-00");
    call(&world, "/mcp/it", true, "echo", &Value::Null, &[("traceparent", &quiet)]).await;
    call(&world, "/mcp/it", true, "echo", &Value::Null, &[]).await;
    // A caller who is told of is told of.
    call(&world, "/mcp/it", true, "echo", &Value::Null, &[("traceparent", PARENT)]).await;
    pair(&collector, "tools/call echo").await;
    let parents: Vec<_> = server.calls("echo").iter().map(|called| called.header("traceparent").to_owned()).collect();
    assert!(parents[0].starts_with(&format!("00-{TRACE}-")) && parents[0].ends_with("-00"), "{parents:?}");
    assert!(parents[1].len() == 55 && !parents[1].contains(TRACE) && parents[1].ends_with("-00"), "{parents:?}");
    assert!(parents[2].ends_with("-01"), "{parents:?}");
    assert_eq!(collector.spans().len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn metrics_are_those_that_prometheus_reads() {
    let (collector, server) = (Collector::start().await.unwrap(), Plain::start().await.unwrap());
    let world = world(&collector, &["--otlp-compression=gzip"]).await;
    world.register("it", &server.url()).await;
    for tool in ["echo", "fail", "echo"] {
        call(&world, "/mcp/it", true, tool, &Value::Null, &[]).await;
    }
    pair(&collector, "tools/call fail").await;
    let before = scraped(&world).await;
    world.app().push_metrics().await;
    let after = scraped(&world).await;
    let (sent, families) = (collector.series(), collector.families());
    // What did not move between two looks, but for what may go up and come down between: what the kernel counts, and who looks.
    let moves = ["process_", "mcp_active_connections{side=\"client\""];
    let still = before.iter().filter(|(series, value)| after.get(*series) == Some(value));
    let still: Vec<_> = still.filter(|(series, _)| !moves.iter().any(|moves| series.starts_with(moves))).collect();
    for (series, value) in &still {
        assert_eq!(sent.get(*series), Some(*value), "{series}");
    }
    for series in [
        "mcp_tool_calls_total{tenant_id=\"default\",server=\"it\",tool=\"echo\",result=\"success\"}",
        "mcp_tool_usage_duration_seconds_bucket{tenant_id=\"default\",server=\"it\",tool=\"echo\",le=\"60.0\"}",
        "mcp_upstream_breaker_state{server=\"it\",replica=\"0\"}",
    ] {
        assert!(still.iter().any(|(name, _)| name.as_str() == series), "{series} is not among {still:?}");
    }
    let missing: Vec<_> = before.keys().filter(|series| !sent.contains_key(*series)).collect();
    assert!(missing.is_empty(), "{missing:?}");
    for (name, (kind, unit, timed)) in &families {
        assert!(timed, "{name} has a point without its times");
        let expected = match name.as_str() {
            name if name.ends_with("_seconds") || name.ends_with("_seconds_total") => "s",
            name if name.ends_with("_bytes") || name.ends_with("_bytes_total") => "By",
            _ => "",
        };
        assert_eq!((unit.as_str(), name.ends_with("_total")), (expected, *kind == "counter"), "{name}");
    }
    let request = &collector.requests("metrics")[0];
    assert_eq!(
        (request.header("content-encoding"), request.header("content-type")),
        ("gzip", "application/x-protobuf")
    );
}

async fn scraped(world: &World) -> BTreeMap<String, f64> {
    let reply = world.client("/").send(Request::new(Method::GET, String::new().into()).path("/metrics")).await.unwrap();
    let text = reply.text().await.unwrap();
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    lines
        .map(|line| line.rsplit_once(' ').map(|(name, value)| (name.to_owned(), value.parse().unwrap())).unwrap())
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_collector_that_is_busy_gets_the_same_again() {
    let (collector, server) = (Collector::start().await.unwrap(), Plain::start().await.unwrap());
    let world = world(&collector, &["--otlp-headers=authorization=Bearer%20hush-key,x-tenant=a"]).await;
    collector.answer([Answer::Busy("0"), Answer::Busy("0")]);
    world.register("it", &server.url()).await;
    let told = until(|| async { (collector.requests("traces").len() > 2).then(|| collector.requests("traces")) }).await;
    assert_eq!((&told[0].body, &told[1].body), (&told[1].body, &told[2].body));
    assert_eq!((told[0].header("authorization"), told[0].header("x-tenant")), ("Bearer hush-key", "a"));
    let dropped = &world.app().recorder.metrics().otlp_dropped;
    assert_eq!(dropped.with(["traces", "given_up"]).get() + dropped.with(["traces", "refused"]).get(), 0);

    // What it will never take is not sent again, and counted.
    until(|| async { (world.app().recorder.metrics().otlp_sent.with(["traces"]).get() > 0).then_some(()) }).await;
    collector.answer([Answer::Status(400), Answer::Rejects(1)]);
    for number in 1..3 {
        call(&world, "/mcp/it", true, "echo", &Value::Null, &[]).await;
        until(|| async { (dropped.with(["traces", "refused"]).get() > number).then_some(()) }).await;
    }
    assert_eq!(dropped.with(["traces", "refused"]).get(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_collector_that_is_away_holds_up_no_call_and_costs_no_more_than_its_bound() {
    let collector = Collector::start().await.unwrap();
    let endpoint = collector.endpoint();
    drop(collector);
    let server = Plain::start().await.unwrap();
    let args = [&format!("--otlp-endpoint={endpoint}"), "--otel-bsp-schedule-delay=5", "--otel-bsp-max-queue-size=4"];
    let mut world = World::with(&args).await;
    world.register("it", &server.url()).await;
    let client = world.client("/mcp/it");
    for _ in 0..40 {
        let answer = client.tool("echo", json!({"text": "x"})).await.unwrap();
        assert_eq!(answer.code(), None, "{}", answer.response);
    }
    let metrics = world.app().recorder.metrics().clone();
    // Of 41 operations one batch of 4 at most is under way and 4 wait.
    let dropped = metrics.otlp_dropped.with(["traces", "queue_full"]).get();
    assert!(dropped >= 2 * 32, "{dropped} spans were dropped");
    assert_eq!(metrics.otlp_sent.with(["traces"]).get(), 0);
    // Nor does it hold up the end.
    let app = world.app().clone();
    within(world.take_running().stop(std::future::pending())).await;
    app.end_trail().await;
    within(app.end_exporting()).await;
    let given_up = metrics.otlp_dropped.with(["traces", "given_up"]).get();
    assert!(given_up > 0 && metrics.otlp_dropped.with(["metrics", "given_up"]).get() > 0);
    assert_eq!(dropped + given_up, 1 + 2 * 40, "every span is accounted for");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_last_is_sent_before_the_end() {
    let (collector, server) = (Collector::start().await.unwrap(), Plain::start().await.unwrap());
    let endpoint = format!("--otlp-endpoint={}", collector.endpoint());
    let mut world = World::process(&[&endpoint, "--otel-bsp-schedule-delay=600000"]).await;
    world.register("it", &server.url()).await;
    call(&world, "/mcp/it", true, "echo", &Value::Null, &[]).await;
    assert!(collector.host().requests().is_empty());
    assert!(world.the_process().stop(DEADLINE).await.unwrap().success());
    pair(&collector, "tools/call echo").await;
    let calls = "mcp_tool_calls_total{tenant_id=\"default\",server=\"it\",tool=\"echo\",result=\"success\"}";
    assert!((collector.series()[calls] - 1.0).abs() < f64::EPSILON);
}

#[tokio::test(flavor = "multi_thread")]
async fn audit_records_arrive_all_and_in_order() {
    let (collector, server) = (Collector::start().await.unwrap(), Plain::start().await.unwrap());
    collector.answer([Answer::Busy("0"), Answer::Status(400)]);
    let quiet = ["--audit-otlp=true", "--otel-traces-exporter=none", "--otel-metrics-exporter=none"];
    let world = world(&collector, &quiet).await;
    world.register("it", &server.url()).await;
    for tool in ["echo", "fail", "echo"] {
        call(&world, "/mcp/it", true, tool, &Value::Null, &[("traceparent", PARENT)]).await;
    }
    let calls = || {
        let placed = collector.logs().into_iter();
        let placed = placed.map(|log| ((said_of(&log, "chain"), said_of(&log, "seq").parse::<usize>().unwrap()), log));
        let all: BTreeMap<_, _> = placed.collect();
        let calls: Vec<_> = all.values().filter(|log| log.event == "mcp_gateway.audit.tools/call").cloned().collect();
        (all, calls)
    };
    let (all, calls) = until(|| async { Some(calls()).filter(|(_, calls)| calls.len() == 3) }).await;
    assert_eq!(calls.iter().map(|log| log.severity).collect::<Vec<_>>(), [9, 13, 9]);
    for log in &calls {
        let record: Value = serde_json::from_str(&log.body).unwrap();
        assert_eq!((&record["action"], &record["server"]), (&json!("tools/call"), &json!("it")));
        assert_eq!((log.trace.as_str(), log.time / 1000), (TRACE, record["at"].as_u64().unwrap()));
        assert!(!log.body.contains("hush-payload") && !log.body.contains(KEY));
    }
    let chain: Vec<_> = all.keys().filter(|(chain, _)| chain == "default").map(|(_, seq)| *seq).collect();
    assert_eq!(chain, (1..=chain.len()).collect::<Vec<_>>(), "none is left out");
    // Nothing of it is kept from servers: without traces they get what the client sent.
    assert!(server.calls("echo").iter().all(|called| called.header("traceparent") == PARENT));
}

fn said_of(log: &LogSeen, name: &str) -> String {
    log.said[&format!("mcp_gateway.audit.{name}")].clone()
}
