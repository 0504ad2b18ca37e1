//! Limits that follow the load, and what is told of connections, against what a server of the test's own saw of them.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use http::Method;
use serde_json::{Value, json};
use testkit::upstream::{Eras, Plain, Recorded};
use tokio::task::JoinSet;

use crate::world::World;

/// A limit that is hardly used stays for a minute.
const MINUTES: Duration = Duration::from_secs(100);

/// Callers who have one call under way each, until they are told to stop.
struct Load {
    callers: JoinSet<u64>,
    stop: Arc<AtomicBool>,
    /// How long all calls took together, nanoseconds.
    busy: Arc<AtomicU64>,
}

impl Load {
    fn start(world: &World, callers: usize, ms: u64) -> Self {
        let (stop, busy) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let mut set = JoinSet::new();
        for _ in 0..callers {
            let (client, stop, busy) = (world.client("/mcp/it"), stop.clone(), busy.clone());
            set.spawn(async move {
                let mut calls = 0;
                while !stop.load(Relaxed) {
                    let began = Instant::now();
                    let outcome = client.tool("slow", json!({ "ms": ms })).await.unwrap();
                    busy.fetch_add(u64::try_from(began.elapsed().as_nanos()).unwrap(), Relaxed);
                    assert_eq!(outcome.text(), "at last", "{outcome:?}");
                    calls += 1;
                }
                calls
            });
        }
        Self { callers: set, stop, busy }
    }

    /// Waits for what is under way; how many calls there were, and how long all took together.
    async fn end(self) -> (u64, Duration) {
        self.stop.store(true, Relaxed);
        let calls = self.callers.join_all().await.into_iter().sum();
        (calls, Duration::from_nanos(self.busy.load(Relaxed)))
    }
}

async fn report(world: &World, path: &str) -> Value {
    let (status, report) = world.rest(Method::GET, path, &Value::Null).await;
    assert_eq!(status, 200, "{report}");
    report
}

/// Looks at the one pool until it is as it should be.
async fn until_pool(world: &World, most: Duration, fits: impl Fn(&Value) -> bool) -> Value {
    let began = Instant::now();
    loop {
        let pool = report(world, "/admin/connection-pool-status").await["pools"][0].take();
        if fits(&pool) {
            return pool;
        }
        assert!(began.elapsed() < most, "it does not come to that: {pool}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Sum and count of a histogram of the one replica.
async fn histogram(world: &World, name: &str) -> (f64, f64) {
    let reply = world.client("/").send(testkit::client::Request::get().path("/metrics")).await.unwrap();
    let text = reply.text().await.unwrap();
    let of = |part: &str| {
        let start = format!("{name}_{part}{{server=\"it\",replica=\"0\"}} ");
        let line = text.lines().find_map(|line| line.strip_prefix(&start)).unwrap_or_else(|| panic!("{start}: {text}"));
        line.parse::<f64>().unwrap()
    };
    (of("sum"), of("count"))
}

/// What the server saw: requests, connections, and how long it worked on all of what takes a place.
fn seen(server: &Plain) -> (usize, usize, Duration) {
    let requests = server.host().requests();
    let took = |request: &Recorded| (request.rpc() != "subscriptions/listen").then(|| request.took()).flatten();
    (requests.len(), server.host().accepted(), requests.iter().filter_map(took).sum())
}

fn number(value: &Value) -> f64 {
    value.as_f64().unwrap_or_else(|| panic!("no number: {value}"))
}

/// Seconds for which places were taken.
fn held(pool: &Value) -> f64 {
    number(&pool["average_in_flight"]) * number(&pool["measured_seconds"])
}

/// What is told of requests and connections is what the server saw.
fn agrees(pool: &Value, server: &Plain) {
    let (requests, connections, busy) = seen(server);
    assert_eq!((&pool["requests"], &pool["dials"]), (&json!(requests), &json!(connections)), "{pool}");
    #[expect(clippy::cast_precision_loss, reason = "small numbers")]
    let reuse = 1.0 - connections as f64 / requests as f64;
    assert!((number(&pool["connection_reuse_rate"]) - reuse).abs() < 1e-9, "{pool}, not {reuse}");
    assert!(held(pool) >= busy.as_secs_f64(), "a place is held for as long as the server works: {pool}, {busy:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_step_of_load_up_and_down_is_followed_without_an_error() {
    let server = Plain::with(Eras::Modern).await.unwrap();
    let world = World::process(&["--min-pool-size=10", "--max-pool-size=300"]).await;
    world.register("it", &server.url()).await;
    let one = Load::start(&world, 1, 100);
    let pool = until_pool(&world, MINUTES, |pool| number(&pool["measured_seconds"]) > 2.0).await;
    assert_eq!((&pool["limit"], &pool["waited"]), (&json!(10), &json!(0)), "{pool}");
    assert!(one.end().await.0 > 0);

    let many = Load::start(&world, 200, 400);
    until_pool(&world, MINUTES, |pool| number(&pool["limit"]) >= 200.0).await;
    // Who waited before it was so is served; from then on nobody has to.
    until_pool(&world, MINUTES, |pool| pool["waiting"] == 0).await;
    let settled = |pool: &Value| number(&pool["measured_seconds"]);
    let now = settled(&until_pool(&world, MINUTES, |_| true).await);
    until_pool(&world, MINUTES, |pool| settled(pool) > now + 1.5).await;
    let before = histogram(&world, "mcp_upstream_pool_wait_seconds").await;
    let limit = until_pool(&world, MINUTES, |pool| settled(pool) > now + 5.0).await["limit"].clone();
    let after = histogram(&world, "mcp_upstream_pool_wait_seconds").await;
    let wait = (after.0 - before.0) / (after.1 - before.1);
    assert!(after.1 > before.1 + 100.0 && wait < 0.1, "{wait} s on average at a limit of {limit}");
    many.end().await;

    let one = Load::start(&world, 1, 100);
    until_pool(&world, MINUTES, |pool| number(&pool["limit"]) < number(&limit)).await;
    one.end().await;
    let requests = server.host().requests().len();
    let pool = until_pool(&world, MINUTES, |pool| pool["requests"] == requests && pool["in_flight"] == 0).await;
    agrees(&pool, &server);
    assert_eq!(pool["turned_away"], 0, "{pool}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_told_of_a_pool_is_what_the_server_saw() {
    let server = Plain::with(Eras::Modern).await.unwrap();
    let world = World::process(&["--adaptive-pools=false", "--min-pool-size=10", "--max-pool-size=40"]).await;
    world.register("it", &server.url()).await;
    let load = Load::start(&world, 20, 250);
    until_pool(&world, MINUTES, |pool| number(&pool["measured_seconds"]) > 4.0).await;
    let (calls, busy) = load.end().await;
    let requests = server.host().requests().len();
    assert!(requests as u64 >= calls);
    let fits = |pool: &Value| pool["requests"] == requests && pool["in_flight"] == 0;
    let pool = until_pool(&world, MINUTES, fits).await;
    agrees(&pool, &server);
    let rest: Duration = server
        .host()
        .requests()
        .iter()
        .filter(|request| request.rpc() != "tools/call")
        .filter_map(Recorded::took)
        .sum();
    // The callers waited for a little more than the places were held, and asked for nothing besides.
    let most = busy.as_secs_f64() + rest.as_secs_f64() + 0.5;
    assert!(held(&pool) <= most, "{} of {most}: {pool}", held(&pool));
    let utilization = held(&pool) / (40.0 * number(&pool["measured_seconds"]));
    assert!((number(&pool["pool_utilization"]) - utilization).abs() < 0.001, "{pool}, not {utilization}");
    assert_eq!((&pool["limit"], &pool["waited"]), (&json!(40), &json!(0)), "{pool}");
    assert!(pool["avg_connection_latency"].is_number() && pool["ssl_handshake_time"].is_null(), "{pool}");

    let network = report(&world, "/admin/diagnostics/network").await;
    assert_eq!(network["upstreams"][0]["connection_reuse_rate"], pool["connection_reuse_rate"], "{network}");
    assert_eq!(network["targets"]["ssl_handshake_time"], json!({"target": "<50", "met": null}), "{network}");
}
