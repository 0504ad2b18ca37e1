//! Calls shared among the replicas of one server: in what order, on to which next one, and how many at a time.

use serde_json::{Value, json};
use testkit::client::{Client, Outcome};
use testkit::jsonrpc::MODERN;
use testkit::upstream::{Eras, Fault, Faulty, LegacySse, Plain};

use crate::world::{World, shake, until, within};

const OLD: &str = "2025-11-25";

fn old() -> Eras {
    Eras::Legacy(OLD.to_owned())
}

async fn three(eras: &Eras) -> Vec<Plain> {
    let mut all = Vec::new();
    for _ in 0..3 {
        all.push(Plain::with(eras.clone()).await.unwrap());
    }
    all
}

async fn register(world: &World, slug: &str, policy: &str, urls: &[String], weights: &[u32]) {
    let replicas: Vec<Value> =
        urls.iter().zip(weights).map(|(url, weight)| json!({"url": url, "weight": weight})).collect();
    let transport = if urls[0].ends_with("/sse") { "sse" } else { "streamable_http" };
    let spec = json!({"slug": slug, "transport": transport, "balance": policy, "replicas": replicas});
    let server = world.register_as(&spec).await;
    assert_eq!(server["status"]["state"], "ready", "{server}");
}

fn urls(servers: &[Plain]) -> Vec<String> {
    servers.iter().map(Plain::url).collect()
}

fn counts(servers: &[Plain]) -> Vec<usize> {
    servers.iter().map(|server| server.calls("echo").len()).collect()
}

async fn echo(client: &Client, times: usize) {
    for _ in 0..times {
        let outcome = within(client.tool("echo", json!({}))).await.unwrap();
        assert!(outcome.result().is_object(), "{outcome:?}");
    }
}

/// The gateway's own questions take turns too, so that a share may be off by one.
fn near(counts: &[usize], wanted: [usize; 3]) -> bool {
    counts.iter().zip(wanted).all(|(count, wanted)| count.abs_diff(wanted) <= 1)
}

#[tokio::test(flavor = "multi_thread")]
async fn each_policy_shares_calls_as_its_name_says() {
    for eras in [Eras::Modern, old()] {
        let (servers, world) = (three(&eras).await, World::start().await);
        let urls = urls(&servers);
        let fresh = || {
            for server in &servers {
                server.host().forget();
            }
        };

        register(&world, "turns", "round_robin", &urls, &[1, 1, 1]).await;
        echo(&world.client("/mcp/turns"), 30).await;
        assert!(near(&counts(&servers), [10, 10, 10]), "{eras:?} {:?}", counts(&servers));

        fresh();
        register(&world, "weights", "weighted", &urls, &[1, 2, 3]).await;
        echo(&world.client("/mcp/weights"), 30).await;
        assert!(near(&counts(&servers), [5, 10, 15]), "{eras:?} {:?}", counts(&servers));

        fresh();
        register(&world, "any", "random", &urls, &[1, 1, 1]).await;
        echo(&world.client("/mcp/any"), 60).await;
        assert!(counts(&servers).iter().all(|count| *count > 0), "{eras:?} {:?}", counts(&servers));

        fresh();
        register(&world, "least", "least_in_flight", &urls, &[1, 1, 1]).await;
        let client = world.client("/mcp/least");
        let mut held = Vec::new();
        for count in 1..=2 {
            let client = world.client("/mcp/least");
            held.push(tokio::spawn(async move { client.tool("gate", json!({})).await }));
            let busy = || servers.iter().filter(|server| server.in_flight() == 1).count();
            until(|| async { (busy() == count).then_some(()) }).await;
        }
        echo(&client, 10).await;
        let idle = servers.iter().position(|server| server.in_flight() == 0).unwrap();
        assert_eq!(counts(&servers)[idle], 10, "{eras:?} {:?}", counts(&servers));
        for server in &servers {
            server.open_gate(true);
        }
        for call in held {
            assert!(within(call).await.unwrap().unwrap().result().is_object());
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_sessions_of_old_clients_are_shared_out() {
    let (servers, world) = (three(&old()).await, World::start().await);
    register(&world, "it", "round_robin", &urls(&servers), &[1, 1, 1]).await;
    for _ in 0..12 {
        echo(&world.client_at("/mcp/it", OLD).await, 1).await;
    }
    assert!(near(&counts(&servers), [4, 4, 4]), "{:?}", counts(&servers));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_without_a_session_goes_on_to_the_next_old_replica() {
    let (mut servers, world) = (three(&old()).await, World::start().await);
    register(&world, "it", "round_robin", &urls(&servers), &[1, 1, 1]).await;
    let client = world.client("/mcp/it");
    echo(&client, 6).await;
    servers.remove(0);
    for server in &servers {
        server.host().forget();
    }
    echo(&client, 12).await;
    assert_eq!(counts(&servers).iter().sum::<usize>(), 12);
    assert!(counts(&servers).iter().all(|count| *count >= 4), "{:?}", counts(&servers));
    servers[0].forget_sessions();
    echo(&client, 4).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_nobody_knows_to_be_harmless_runs_once() {
    for eras in [Eras::Modern, old()] {
        let (a, b) = (Faulty::with(eras.clone()).await.unwrap(), Faulty::with(eras.clone()).await.unwrap());
        let world = World::start().await;
        register(&world, "it", "round_robin", &[a.url(), b.url()], &[1, 1]).await;
        let client = world.client("/mcp/it");
        for (method, params, runs) in [
            ("vendor/charge", json!({"amount": 1}), 1),
            ("tools/call", json!({"name": "echo", "arguments": {}}), 1),
            ("prompts/get", json!({"name": "greet", "arguments": {}}), 2),
            ("resources/read", json!({"uri": "stand-in://note"}), 2),
        ] {
            a.fail_on(method, Fault::Status(500));
            b.fail_on(method, Fault::Status(500));
            let failed = within(client.call(method, params)).await.unwrap();
            assert_eq!(failed.code(), Some(-31006), "{method}: {failed:?}");
            assert_eq!(a.asked(method).len() + b.asked(method).len(), runs, "{method} on {eras:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn each_caller_has_its_own_replica_of_the_oldest_transport() {
    let mut servers = Vec::new();
    for _ in 0..3 {
        servers.push(LegacySse::start().await.unwrap());
    }
    let world = World::start().await;
    let urls: Vec<String> = servers.iter().map(LegacySse::url).collect();
    register(&world, "it", "consistent_hash", &urls, &[1, 1, 1]).await;
    let mut used = [false; 3];
    for caller in 0..12 {
        let name = format!("caller{caller}");
        world.user(&name).await;
        let key = world.key(&name, json!(["*"]), json!(["*"])).await;
        for server in &servers {
            server.host().forget();
        }
        for version in [MODERN, OLD] {
            for _ in 0..2 {
                let client = shake(world.client_of("/mcp/it", &key), version).await;
                echo(&client, 1).await;
            }
        }
        let called: Vec<usize> = servers.iter().map(|server| server.asked("tools/call").len()).collect();
        let place = called.iter().position(|count| *count == 4);
        assert!(place.is_some(), "caller {caller}: {called:?}");
        used[place.unwrap()] = true;
    }
    assert!(used.iter().filter(|used| **used).count() > 1, "all callers at one replica");
}

#[tokio::test(flavor = "multi_thread")]
async fn replicas_of_the_oldest_transport_are_checked() {
    let (gone, well) = (LegacySse::start().await.unwrap(), LegacySse::start().await.unwrap());
    let world = World::with(&["--health-check-interval=50ms"]).await;
    register(&world, "it", "round_robin", &[gone.url(), well.url()], &[1, 1]).await;
    let healthy = async || {
        let replicas = world.server("it").await["status"]["replicas"].take();
        (replicas[0]["healthy"].clone(), replicas[1]["healthy"].clone())
    };
    until(|| async { (healthy().await == (json!(true), json!(true))).then_some(()) }).await;
    drop(gone);
    until(|| async { (healthy().await == (json!(false), json!(true))).then_some(()) }).await;
    echo(&world.client("/mcp/it"), 4).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_has_only_so_many_calls_at_a_time_and_a_queue_that_ends() {
    let server = Plain::start().await.unwrap();
    let world = World::with(&["--min-pool-size=1", "--max-pool-size=1"]).await;
    register(&world, "it", "round_robin", &[server.url()], &[1]).await;
    let hold = || {
        let client = world.client("/mcp/it");
        tokio::spawn(async move { client.tool("gate", json!({})).await })
    };
    let first = hold();
    assert!(server.wait_in_flight(1).await);
    let queue: Vec<_> = (0..10).map(|_| hold()).collect();
    until(|| async { (world.server("it").await["status"]["replicas"][0]["waiting"] == 10).then_some(()) }).await;
    let full = within(world.client("/mcp/it").tool("echo", json!({}))).await.unwrap();
    assert_eq!((full.code(), full.status.as_u16()), (Some(-31009), 503), "{full:?}");
    let data = &full.response["error"]["data"];
    assert_eq!((&data["kind"], &data["whose"]), (&json!("full"), &json!("gateway")), "{full:?}");
    assert!(full.headers.contains_key("retry-after"), "{full:?}");
    assert_eq!(server.in_flight(), 1, "one at a time");
    server.open_gate(true);
    for call in queue.into_iter().chain([first]) {
        assert!(within(call).await.unwrap().unwrap().result().is_object());
    }
    echo(&world.client("/mcp/it"), 1).await;
}

/// Waits until so many calls are under way and so many wait; more must not wait on the way there.
async fn until_load(world: &World, under_way: u64, waiting: u64) {
    until(|| async {
        let replicas = world.server("it").await["status"]["replicas"].take();
        let sum = |what: &str| replicas.as_array().unwrap().iter().map(|one| one[what].as_u64().unwrap()).sum::<u64>();
        assert!(sum("waiting") <= waiting, "{replicas}");
        ((sum("in_flight"), sum("waiting")) == (under_way, waiting)).then_some(())
    })
    .await;
}

fn hold(world: &World, version: &'static str) -> tokio::task::JoinHandle<Outcome> {
    let client = world.client("/mcp/it");
    tokio::spawn(async move { shake(client, version).await.tool("gate", json!({})).await.unwrap() })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_replica_is_passed_over_whatever_the_server_speaks() {
    for (eras, version) in [(Some(Eras::Modern), MODERN), (Some(old()), MODERN), (None, MODERN), (None, OLD)] {
        let (mut http, mut oldest) = (Vec::new(), Vec::new());
        match &eras {
            Some(eras) => http = three(eras).await,
            None => {
                for _ in 0..3 {
                    oldest.push(LegacySse::start().await.unwrap());
                }
            }
        }
        let urls: Vec<String> = http.iter().map(Plain::url).chain(oldest.iter().map(LegacySse::url)).collect();
        let world = World::with(&["--min-pool-size=1", "--max-pool-size=1"]).await;
        // One caller, so that the first choice is always the same.
        register(&world, "it", "consistent_hash", &urls, &[1, 1, 1]).await;
        let mut held = Vec::new();
        for (under_way, waiting) in [(1, 0), (2, 0), (3, 0), (3, 1)] {
            held.push(hold(&world, version));
            until_load(&world, under_way, waiting).await;
        }
        for server in &http {
            server.open_gate(true);
        }
        for server in &oldest {
            server.open_gate(true);
        }
        for call in held {
            let outcome = within(call).await.unwrap();
            assert!(outcome.result().is_object(), "{eras:?} to {version}: {outcome:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_replica_is_waited_for_where_the_others_fail() {
    for eras in [Eras::Modern, old()] {
        let well = Plain::with(eras.clone()).await.unwrap();
        let gone = format!("http://127.0.0.1:{}/mcp", testkit::process::free_port().unwrap());
        let world = World::with(&["--min-pool-size=1", "--max-pool-size=1"]).await;
        register(&world, "it", "round_robin", &[gone, well.url()], &[1, 1]).await;
        let first = hold(&world, MODERN);
        until_load(&world, 1, 0).await;
        let second = hold(&world, MODERN);
        until_load(&world, 1, 1).await;
        well.open_gate(true);
        for call in [first, second] {
            let outcome = within(call).await.unwrap();
            assert!(outcome.result().is_object(), "{eras:?}: {outcome:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_record_says_how_many_replicas_were_tried() {
    let well = Plain::start().await.unwrap();
    let gone = format!("http://127.0.0.1:{}/mcp", testkit::process::free_port().unwrap());
    let mut world = World::process(&["--log=operation=debug", "--log-format=json"]).await;
    register(&world, "it", "round_robin", &[gone, well.url()], &[1, 1]).await;
    let client = world.client("/mcp/it");
    echo(&client, 4).await;
    assert!(within(world.client("/mcp").call("tools/list", json!({}))).await.unwrap().result().is_object());
    let tried = |said: &str, method: &str| -> Vec<u64> {
        let lines = said.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        lines.filter(|line| line["method"] == method).map(|line| line["attempts"].as_u64().unwrap()).collect()
    };
    until(|| {
        let said = world.the_process().said();
        async move { (tried(&said, "tools/call").len() == 4 && tried(&said, "tools/list").len() == 1).then_some(()) }
    })
    .await;
    let said = world.the_process().said();
    let mut calls = tried(&said, "tools/call");
    calls.sort_unstable();
    assert_eq!((calls.first(), calls.last()), (Some(&1), Some(&2)), "{calls:?}");
    assert_eq!(tried(&said, "tools/list"), [0], "the gateway answers lists itself");
}
