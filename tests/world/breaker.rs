//! What a circuit breaker hears: every way in which a server can fail a call is a failure, whatever came before it, and what
//! clients do is none. What it then does, as callers see it.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use testkit::client::{Client, Outcome};
use testkit::jsonrpc::MODERN;
use testkit::upstream::{Answer, Eras, Fault, Faulty, LegacySse, Plain};

use crate::world::{World, until, within};

const OLD: &str = "2025-11-25";
/// Failures in a row that open a breaker, and good calls that close it again.
const FAILURES: usize = 5;
const SUCCESSES: usize = 3;

async fn register(world: &World, url: &str, transport: &str, total: u64) {
    let spec = json!({
        "slug": "it", "transport": transport, "replicas": [{"url": url}], "timeouts": {"total_ms": total}
    });
    let server = world.register_as(&spec).await;
    assert_eq!(server["status"]["state"], "ready", "{server}");
}

async fn echo(client: &Client) -> Option<Outcome> {
    // What broke off half-way has no outcome.
    within(client.tool("echo", json!({"message": "x"}))).await.ok()
}

async fn breaker(world: &World) -> Value {
    world.server("it").await["status"]["replicas"][0]["breaker"].take()
}

/// The minute for which an open breaker lets nothing through is over.
fn a_minute_later(world: &World) {
    let snapshot = world.app().registry.snapshot();
    for entry in snapshot.entries() {
        entry.upstream.balance().unwrap().hasten(Instant::now());
    }
}

async fn opens(world: &World, client: &Client, what: &str) {
    for call in 0..FAILURES {
        assert_eq!(breaker(world).await, "closed", "{what}: before failure {call}");
        let outcome = echo(client).await;
        assert!(outcome.as_ref().is_none_or(|outcome| outcome.code().is_some()), "{what}: {outcome:?}");
    }
    // The last word about an answer that is passed on may come after its last byte.
    until(|| async { (breaker(world).await == "open").then_some(()) }).await;
    let refused = echo(client).await.unwrap();
    assert_eq!(refused.code(), Some(-31008), "{what}: {refused:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn every_way_to_fail_a_call_opens_it() {
    let old = || Eras::Legacy(OLD.to_owned());
    for (eras, version) in [(Eras::Modern, MODERN), (Eras::Dual, OLD), (old(), MODERN), (Eras::Modern, OLD)] {
        for (fault, total) in [
            (Fault::Hang, 150),
            (Fault::HangAfterHead, 150),
            (Fault::EndWithoutAnswer(2), 60_000),
            (Fault::BreakOff(600 << 10), 60_000),
            (Fault::ShortBody, 60_000),
            (Fault::WrongId, 60_000),
            (Fault::Empty, 60_000),
            (Fault::Garbage, 60_000),
            (Fault::Status(500), 60_000),
        ] {
            let server = Faulty::with(eras.clone()).await.unwrap();
            let world = World::start().await;
            register(&world, &server.url(), "streamable_http", total).await;
            let client = world.client_at("/mcp/it", version).await;
            server.fail_on("tools/call", fault.clone());
            opens(&world, &client, &format!("{fault:?} of {eras:?} to {version}")).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_old_server_that_takes_every_post_and_answers_none_opens_it() {
    for version in [MODERN, OLD] {
        let server = LegacySse::start().await.unwrap();
        let world = World::start().await;
        register(&world, &server.url(), "sse", 150).await;
        let client = world.client_at("/mcp/it", version).await;
        assert!(echo(&client).await.unwrap().result().is_object());
        server.script("echo", |_| Answer::Nothing);
        opens(&world, &client, version).await;
        server.script("echo", |_| Answer::text("back"));
        a_minute_later(&world);
        for _ in 0..SUCCESSES {
            assert_eq!(echo(&client).await.unwrap().text(), "back", "{version}");
        }
        assert_eq!(breaker(&world).await, "closed", "{version}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_goes_away_says_nothing_about_the_server() {
    let server = Plain::start().await.unwrap();
    let world = World::start().await;
    register(&world, &server.url(), "streamable_http", 60_000).await;
    let (modern, legacy) = (world.client("/mcp/it"), world.client_at("/mcp/it", OLD).await);
    for turn in 0..FAILURES + 2 {
        let gone = async {
            let params = json!({"name": "gate", "arguments": {}});
            let _ = modern.call("tools/call", params).await;
        };
        let before = server.cancelled().len();
        let seen = async || until(|| async { (server.in_flight() > 0).then_some(()) }).await;
        tokio::select! {
            () = gone => panic!("the gate is closed"),
            () = seen() => {}
        }
        until(|| async { (server.cancelled().len() > before && server.in_flight() == 0).then_some(()) }).await;
        let id = format!("\"turn {turn}\"");
        let request = legacy.request(&id, "tools/call", json!({"name": "gate", "arguments": {}}));
        let call = async { legacy.send(request).await.unwrap().finish(&id).await };
        let take_back = async {
            seen().await;
            legacy.notify("notifications/cancelled", json!({"requestId": format!("turn {turn}")})).await.unwrap();
        };
        let _ = tokio::join!(within(call), take_back);
        until(|| async { (server.in_flight() == 0).then_some(()) }).await;
    }
    assert_eq!(breaker(&world).await, "closed");
    assert!(echo(&modern).await.unwrap().result().is_object());
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_minute_three_good_calls_one_at_a_time_close_it() {
    let server = Faulty::start().await.unwrap();
    let world = World::start().await;
    register(&world, &server.url(), "streamable_http", 60_000).await;
    let client = world.client("/mcp/it");
    server.fail_on("tools/call", Fault::Status(500));
    opens(&world, &client, "at first").await;

    a_minute_later(&world);
    assert_eq!(breaker(&world).await, "half_open");
    assert_eq!(echo(&client).await.unwrap().code(), Some(-31006), "the probe fails");
    assert_eq!(breaker(&world).await, "open");
    assert_eq!(echo(&client).await.unwrap().code(), Some(-31008));

    a_minute_later(&world);
    server.heal();
    server.fail_times("tools/call", 1, Fault::Late(Duration::from_secs(3)));
    let asked = server.asked("tools/call").len();
    let slow = async { echo(&client).await.unwrap() };
    let meanwhile = async {
        until(|| async { (server.asked("tools/call").len() > asked).then_some(()) }).await;
        echo(&client).await.unwrap()
    };
    let (slow, meanwhile) = tokio::join!(slow, meanwhile);
    assert!(slow.result().is_object(), "{slow:?}");
    assert_eq!(meanwhile.code(), Some(-31008), "one probe at a time: {meanwhile:?}");
    assert_eq!(breaker(&world).await, "half_open");
    assert!(echo(&client).await.unwrap().result().is_object());
    assert_eq!(breaker(&world).await, "half_open");
    assert!(echo(&client).await.unwrap().result().is_object());
    assert_eq!(breaker(&world).await, "closed");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_answers_the_question_what_it_speaks_with_anything_at_all_is_found_again() {
    let probe = "server/discover";
    for fault in [Fault::Status(202), Fault::Empty, Fault::NotJsonRpc, Fault::Html, Fault::Status(500)] {
        let server = Faulty::with(Eras::Legacy(OLD.to_owned())).await.unwrap();
        server.fail_on(probe, fault.clone());
        let world = World::start().await;
        register(&world, &server.url(), "streamable_http", 60_000).await;
        assert_eq!(world.server("it").await["status"]["version"], OLD, "{fault:?}");
        let ask_anew = async || world.rest(http::Method::POST, "/servers/it/refresh", &Value::Null).await;
        server.fail(Fault::Status(502));
        until(|| async {
            ask_anew().await;
            (breaker(&world).await == "open").then_some(())
        })
        .await;
        let refused = echo(&world.client("/mcp/it")).await.unwrap();
        assert_eq!(refused.code(), Some(-31008), "{fault:?}: {refused:?}");
        // It is back, as it was.
        server.heal().fail_on(probe, fault.clone());
        let seen = until(|| async {
            let (_, seen) = ask_anew().await;
            (seen["status"]["state"] == "ready").then_some(seen)
        });
        let found = seen.await;
        assert_eq!(found["status"]["version"], OLD, "{fault:?}: {found}");
    }
}
