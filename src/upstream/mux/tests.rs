//! The mux against a peer that the test plays by hand, message by message.

use std::time::Duration;

use bytes::Bytes;
use serde_json::{Value, json};
use tokio_util::task::TaskTracker;

use super::{Call, Event, Limits, Mux, Origin};
use crate::fault::{Fault, Kind, Retry, Whose};
use crate::upstream::pipe::{FarEnd, pipe};

struct World {
    mux: Mux,
    peer: FarEnd,
}

fn world_with(limits: Limits) -> World {
    let (near, peer) = pipe(16);
    World { mux: Mux::new(near, limits, &TaskTracker::new()), peer }
}

fn world() -> World {
    world_with(Limits::default())
}

const ADA: Origin = Origin { session: 1, answers: true };
const BOB: Origin = Origin { session: 2, answers: true };

impl World {
    async fn call(&self, text: &str, origin: Origin) -> Call {
        self.mux.call(Bytes::copy_from_slice(text.as_bytes()), origin).await.unwrap()
    }

    /// What the peer reads next.
    async fn read(&mut self) -> Value {
        let message = within(self.peer.outgoing.recv()).await.expect("the gateway still writes");
        serde_json::from_slice(&message).unwrap()
    }

    /// Starts a call and returns it with the number the peer sees.
    async fn start(&mut self, text: &str, origin: Origin) -> (Call, u64) {
        let call = self.call(text, origin).await;
        let number = self.read().await["id"].as_u64().unwrap();
        (call, number)
    }

    async fn say(&self, text: impl Into<String>) {
        self.peer.incoming.send(Bytes::from(text.into())).await.unwrap();
    }

    async fn answer(&self, number: u64) {
        self.say(json!({"jsonrpc": "2.0", "id": number, "result": {"for": number}}).to_string()).await;
    }
}

/// A test that hangs should say where.
async fn within<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(20), future).await.expect("this should have happened by now")
}

async fn event(call: &mut Call) -> Event {
    within(call.next()).await.expect("an event").expect("no fault")
}

async fn fault(call: &mut Call) -> Fault {
    within(call.next()).await.expect("a fault").expect_err("no event")
}

fn text(event: &Event) -> &str {
    std::str::from_utf8(event.message()).unwrap()
}

#[tokio::test]
async fn clients_with_equal_ids_get_their_own_answers_byte_for_byte() {
    let mut world = world();
    let (mut ada, first) = world.start(r#"{"id":1,"method":"tools/call"}"#, ADA).await;
    let (mut bob, second) = world.start(r#"{"id":1.0,"method":"tools/call"}"#, BOB).await;
    let (mut eve, third) = world.start(r#"{"id":"1","method":"tools/call"}"#, BOB).await;
    world.say(format!(r#"{{"result":{{"big":9007199254740993, "e":"\u00e9"}},"id":{second}}}"#)).await;
    world.answer(third).await;
    world.say(format!(r#"{{"id":{first},"error":{{"code":-1,"message":""}},"extra":null}}"#)).await;
    assert_eq!(text(&event(&mut bob).await), r#"{"result":{"big":9007199254740993, "e":"\u00e9"},"id":1.0}"#);
    assert_eq!(text(&event(&mut ada).await), r#"{"id":1,"error":{"code":-1,"message":""},"extra":null}"#);
    assert!(text(&event(&mut eve).await).contains(r#""id":"1""#));
    assert!(within(ada.next()).await.is_none());
    drop((ada, bob, eve));
    assert_eq!(world.mux.in_flight(), 0);
}

#[tokio::test]
async fn progress_reaches_only_the_call_it_is_for_with_its_own_token() {
    let mut world = world();
    let with_token = r#"{"id":1,"method":"tools/call","params":{"_meta":{"progressToken":"t"},"name":"x"}}"#;
    let (mut ada, _) = world.start(with_token, ADA).await;
    let bob = world.call(with_token, BOB).await;
    let sent = world.read().await;
    assert_eq!(sent["id"], sent["params"]["_meta"]["progressToken"]);
    let number = sent["id"].as_u64().unwrap();
    world
        .say(format!(r#"{{"method":"notifications/progress","params":{{"progress":0.50,"progressToken":{number}}}}}"#))
        .await;
    world.answer(number).await;
    let mut bob = bob;
    let told = event(&mut bob).await;
    assert_eq!(text(&told), r#"{"method":"notifications/progress","params":{"progress":0.50,"progressToken":"t"}}"#);
    assert!(matches!(event(&mut bob).await, Event::Response(_)));
    // Ada's call saw nothing of it: the next thing it sees is its own answer.
    world.answer(number - 1).await;
    assert!(matches!(event(&mut ada).await, Event::Response(_)));
}

#[tokio::test]
async fn a_request_of_the_server_goes_to_the_one_session_that_can_have_caused_it_and_comes_back_once() {
    let mut world = world();
    let (_older, _) = world.start(r#"{"id":1,"method":"tools/call"}"#, ADA).await;
    let (mut newest, _) = world.start(r#"{"id":2,"method":"tools/call"}"#, ADA).await;
    world.say(r#"{"jsonrpc":"2.0","id":"ask-1","method":"sampling/createMessage","params":{"n":1.50}}"#).await;
    let Event::Request { token, message } = event(&mut newest).await else { panic!("a request") };
    assert_eq!(
        std::str::from_utf8(&message).unwrap(),
        format!(r#"{{"jsonrpc":"2.0","id":"mcpg-{token}","method":"sampling/createMessage","params":{{"n":1.50}}}}"#)
    );
    let reply = Bytes::from(format!(r#"{{"id":"mcpg-{token}","result":{{}}}}"#));
    assert_eq!(world.mux.reply(token ^ 1, reply.clone()).await.unwrap_err().whose, Whose::Client);
    world.mux.reply(token, reply.clone()).await.unwrap();
    assert_eq!(world.read().await, json!({"id": "ask-1", "result": {}}));
    assert_eq!(world.mux.reply(token, reply).await.unwrap_err().whose, Whose::Client);
}

#[tokio::test]
async fn a_request_of_the_server_with_a_doubtful_cause_goes_to_nobody() {
    let mut world = world();
    let ask = r#"{"jsonrpc":"2.0","id":7,"method":"elicitation/create"}"#;
    world.say(ask).await;
    assert_eq!(world.read().await["error"]["code"], -32603, "nobody is there");

    let (ada, first) = world.start(r#"{"id":1,"method":"tools/call"}"#, ADA).await;
    let (bob, _) = world.start(r#"{"id":1,"method":"tools/call"}"#, Origin { answers: false, ..BOB }).await;
    world.say(ask).await;
    let refused = world.read().await;
    assert_eq!((&refused["id"], &refused["error"]["code"]), (&json!(7), &json!(-32603)));
    assert!(refused["error"]["message"].as_str().unwrap().contains("per_session"), "{refused}");

    // A cancelled call may still be what the server works on.
    drop(ada);
    assert_eq!(world.read().await["params"]["requestId"], first);
    world.say(ask).await;
    assert!(world.read().await["error"]["message"].as_str().unwrap().contains("per_session"));
    // Its late answer ends the doubt; what remains is a client that cannot answer.
    world.answer(first).await;
    world.say(ask).await;
    assert!(world.read().await["error"]["message"].as_str().unwrap().contains("cannot answer"));
    drop(bob);
}

#[tokio::test]
async fn a_withdrawn_request_is_told_under_the_name_the_client_knows() {
    let mut world = world();
    let (mut ada, _) = world.start(r#"{"id":1,"method":"tools/call"}"#, ADA).await;
    world.say(r#"{"id":9,"method":"roots/list"}"#).await;
    let Event::Request { token, .. } = event(&mut ada).await else { panic!("a request") };
    world.say(r#"{"method":"notifications/cancelled","params":{"requestId":9}}"#).await;
    let told: Value = serde_json::from_slice(event(&mut ada).await.message()).unwrap();
    assert_eq!(told["params"]["requestId"], format!("mcpg-{token}"));
    let late = world.mux.reply(token, Bytes::from_static(br#"{"id":0,"result":{}}"#)).await;
    assert_eq!(late.unwrap_err().whose, Whose::Client);
}

#[tokio::test]
async fn a_call_that_is_dropped_is_cancelled_and_its_open_questions_are_closed() {
    let mut world = world();
    let (mut ada, number) = world.start(r#"{"id":1,"method":"tools/call"}"#, ADA).await;
    world.say(r#"{"id":"q","method":"roots/list"}"#).await;
    assert!(matches!(event(&mut ada).await, Event::Request { .. }));
    drop(ada);
    let refused = world.read().await;
    assert_eq!((&refused["id"], &refused["error"]["code"]), (&json!("q"), &json!(-32603)));
    let cancelled = world.read().await;
    assert_eq!(
        (&cancelled["method"], &cancelled["params"]["requestId"]),
        (&json!("notifications/cancelled"), &json!(number))
    );

    let (ada, number) = world.start(r#"{"id":2,"method":"tools/call"}"#, ADA).await;
    ada.cancel(Some("changed my mind")).await;
    let cancelled = world.read().await;
    assert_eq!(cancelled["params"], json!({"requestId": number, "reason": "changed my mind"}));

    // Answered calls and `initialize` are never cancelled: the next thing read is the next request.
    let (mut ada, number) = world.start(r#"{"id":3,"method":"tools/call"}"#, ADA).await;
    world.answer(number).await;
    event(&mut ada).await;
    drop(ada);
    drop(world.start(r#"{"id":4,"method":"initialize"}"#, ADA).await);
    world.start(r#"{"id":5,"method":"tools/list"}"#, ADA).await;
}

#[tokio::test]
async fn a_cancellation_is_told_even_when_the_peer_does_not_read_for_a_while() {
    let mut world = world();
    let mut calls = Vec::new();
    for _ in 0..16 {
        calls.push(world.call(r#"{"id":1,"method":"tools/call"}"#, ADA).await);
    }
    drop(calls);
    let mut cancelled = 0;
    while cancelled < 16 {
        cancelled += u32::from(world.read().await["method"] == "notifications/cancelled");
    }
    within(async {
        while world.mux.in_flight() > 0 {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

#[tokio::test]
async fn events_of_a_subscription_find_it_and_carry_its_id() {
    let mut world = world();
    let (mut listen, number) = world.start(r#"{"id":"l","method":"subscriptions/listen"}"#, ADA).await;
    let mut everybody = world.mux.broadcasts();
    let event_text = |id: &str| {
        format!(
            r#"{{"method":"notifications/tools/list_changed","params":{{"_meta":{{"io.modelcontextprotocol/subscriptionId":{id}}}}}}}"#
        )
    };
    world.say(event_text(&number.to_string())).await;
    world.say(event_text("4711")).await;
    assert_eq!(text(&event(&mut listen).await), event_text("\"l\""));
    // An open subscription is no cause of requests, nor of log messages.
    world.say(r#"{"method":"notifications/message","params":{"data":"x"}}"#).await;
    assert!(within(everybody.recv()).await.unwrap().ends_with(br#"{"data":"x"}}"#));
    world.say(format!(r#"{{"method":"notifications/cancelled","params":{{"requestId":{number}}}}}"#)).await;
    assert!(text(&event(&mut listen).await).contains(r#""requestId":"l""#));
    assert!(within(listen.next()).await.is_none(), "the peer ended it");
}

#[tokio::test]
async fn log_messages_go_to_the_only_session_at_work_and_otherwise_to_all() {
    let mut world = world();
    let mut everybody = world.mux.broadcasts();
    let (mut ada, _) = world.start(r#"{"id":1,"method":"tools/call"}"#, ADA).await;
    world.say(r#"{"method":"notifications/message","params":{"data":"hers"}}"#).await;
    assert!(text(&event(&mut ada).await).contains("hers"));
    let (_bob, _) = world.start(r#"{"id":1,"method":"tools/call"}"#, BOB).await;
    world.say(r#"{"method":"notifications/message","params":{"data":"whose"}}"#).await;
    world.say(r#"{"method":"notifications/tools/list_changed"}"#).await;
    assert!(within(everybody.recv()).await.unwrap().ends_with(br#""whose"}}"#));
    assert_eq!(&within(everybody.recv()).await.unwrap()[..], br#"{"method":"notifications/tools/list_changed"}"#);
}

#[tokio::test]
async fn a_ping_of_the_server_is_answered_here() {
    let mut world = world();
    world.say(r#"{"jsonrpc":"2.0","id":"p","method":"ping"}"#).await;
    assert_eq!(world.read().await, json!({"jsonrpc": "2.0", "id": "p", "result": {}}));
}

#[tokio::test]
async fn garbage_is_counted_and_survived_but_fails_the_call_it_was_meant_for() {
    let mut world = world();
    let (mut ada, first) = world.start(r#"{"id":1,"method":"tools/call"}"#, ADA).await;
    let (mut bob, second) = world.start(r#"{"id":1,"method":"tools/call"}"#, BOB).await;
    for text in ["Server started", "", "42", "\"x\"", "{", "{}", "[1]", r#"{"id":null,"result":{}}"#, r#"{"method":5}"#]
    {
        world.say(text).await;
    }
    world.say(format!(r#"{{"id":{first},"result":{{"a":1,"a":2}}}}"#)).await;
    world.say(format!(r#"[{{"id":{second},"result":{{}}}}]"#)).await;
    let refused = fault(&mut ada).await;
    assert_eq!((refused.kind, refused.retry), (Kind::Garbage, Retry::MaybeSent));
    assert_eq!(text(&event(&mut bob).await), r#"{"id":1,"result":{}}"#);
    assert_eq!(world.mux.garbage(), 10);
}

#[tokio::test]
async fn a_flood_of_garbage_is_held_back() {
    let world = world();
    // On this one thread the reader empties the pipe whenever we yield, unless it has chosen to wait.
    let mut taken = 0_u64;
    while world.peer.incoming.try_send(Bytes::from_static(b"y")).is_ok() {
        taken += 1;
        assert!(taken < 100_000, "the peer was never held back");
        tokio::task::yield_now().await;
    }
    assert!(taken > 1_000, "a banner is not held back, {taken}");
}

#[tokio::test]
async fn a_slow_caller_loses_its_own_call_and_no_other() {
    let mut world = world_with(Limits { queued: 4, patience: Duration::from_millis(20), ..Limits::default() });
    let with_token = r#"{"id":1,"method":"tools/call","params":{"_meta":{"progressToken":"t"}}}"#;
    let (mut slow, first) = world.start(with_token, ADA).await;
    let (mut quick, second) = world.start(with_token, BOB).await;
    for _ in 0..20 {
        world.say(format!(r#"{{"method":"notifications/progress","params":{{"progressToken":{first}}}}}"#)).await;
    }
    world.answer(second).await;
    assert!(matches!(event(&mut quick).await, Event::Response(_)));
    let full = fault(&mut slow).await;
    assert_eq!((full.whose, full.kind, full.retry), (Whose::Gateway, Kind::Full, Retry::MaybeSent));
    assert_eq!(world.read().await["params"]["requestId"], first, "the peer may stop working on it");
}

#[tokio::test]
async fn bytes_that_wait_for_all_callers_are_bounded_and_the_largest_heap_pays() {
    let limits = Limits { total_bytes: 10_000, patience: Duration::from_millis(20), ..Limits::default() };
    let mut world = world_with(limits);
    let with_token = r#"{"id":1,"method":"x","params":{"_meta":{"progressToken":"t"}}}"#;
    let (mut heap, first) = world.start(with_token, ADA).await;
    let (mut small, second) = world.start(with_token, BOB).await;
    let bulk = "x".repeat(6_000);
    let progress =
        format!(r#"{{"method":"notifications/progress","params":{{"progressToken":{first},"m":"{bulk}"}}}}"#);
    world.say(progress).await;
    world.say(format!(r#"{{"id":{second},"result":"{bulk}"}}"#)).await;
    let last = within(async {
        loop {
            match heap.queue.bytes() {
                0 if world.mux.0.shared.lock().flights.is_empty() => break heap.next().await,
                _ => tokio::task::yield_now().await,
            }
        }
    })
    .await;
    assert!(matches!(last, Some(Err(Fault { kind: Kind::Full, .. }))), "{last:?}");
    assert!(text(&event(&mut small).await).len() > 6_000);
}

#[tokio::test]
async fn callers_past_the_bound_are_told_so_at_once() {
    let mut world = world_with(Limits { in_flight: 2, ..Limits::default() });
    let (_a, _) = world.start(r#"{"id":1,"method":"x"}"#, ADA).await;
    let (b, number) = world.start(r#"{"id":1,"method":"x"}"#, ADA).await;
    let full = world.mux.call(Bytes::from_static(br#"{"id":1,"method":"x"}"#), BOB).await.unwrap_err();
    assert_eq!((full.kind, full.retry), (Kind::Full, Retry::NotSent));
    drop(b);
    assert_eq!(world.read().await["params"]["requestId"], number);
    world.start(r#"{"id":1,"method":"x"}"#, BOB).await;
}

#[tokio::test]
async fn when_the_peer_is_gone_every_call_hears_why_after_what_was_said() {
    let mut world = world();
    let (mut answered, first) = world.start(r#"{"id":1,"method":"x"}"#, ADA).await;
    let (mut open, _) = world.start(r#"{"id":1,"method":"x"}"#, ADA).await;
    world.answer(first).await;
    world.peer.closed.set(Fault::upstream(Kind::Dropped, Retry::NotSent, "exited with status 3"));
    drop(world.peer);
    assert!(matches!(event(&mut answered).await, Event::Response(_)));
    let dropped = fault(&mut open).await;
    assert_eq!(
        (dropped.kind, dropped.retry, &*dropped.detail),
        (Kind::Dropped, Retry::MaybeSent, "exited with status 3")
    );
    assert_eq!(within(world.mux.closed()).await.detail, "exited with status 3");
    let late = world.mux.call(Bytes::from_static(br#"{"id":1,"method":"x"}"#), ADA).await.unwrap_err();
    assert_eq!(late.retry, Retry::NotSent);
}

#[tokio::test]
async fn the_pipe_ends_with_the_last_holder_of_the_mux() {
    let World { mux, mut peer } = world();
    let call = mux.call(Bytes::from_static(br#"{"id":1,"method":"x"}"#), ADA).await.unwrap();
    drop(mux);
    assert!(within(peer.outgoing.recv()).await.is_some());
    drop(call);
    while within(peer.outgoing.recv()).await.is_some() {}
}

#[tokio::test]
async fn what_the_gateway_itself_asks_takes_nobodys_log_away_but_may_have_caused_a_question() {
    let mut world = world();
    let (mut ada, _) = world.start(r#"{"id":1,"method":"tools/call"}"#, ADA).await;
    let (_own, _) = world.start(r#"{"id":1,"method":"tools/list"}"#, Origin::GATEWAY).await;
    let log = r#"{"jsonrpc":"2.0","method":"notifications/message","params":{"level":"info"}}"#;
    world.say(log).await;
    assert_eq!(text(&event(&mut ada).await), log);
    world.say(r#"{"jsonrpc":"2.0","id":1,"method":"roots/list"}"#).await;
    assert_eq!(world.read().await["error"]["code"], -32603);
}
