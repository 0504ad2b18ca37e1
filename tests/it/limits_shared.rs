//! Replicas that share their limits through Redis: the board there does what the one in memory does, and two gateways on one database are
//! together as strict as one, with Redis, without it and when it is back. Without Redis the tests print that they were skipped; with
//! `CI=true` they fail.

use std::path::{Path, PathBuf};
use std::time::Duration;

use http::StatusCode;
use mcp_registry_gateway::app::App;
use mcp_registry_gateway::config::{DotEnv, Settings};
use mcp_registry_gateway::crypto::new_api_key;
use mcp_registry_gateway::limit::board::redis::RedisBoard;
use mcp_registry_gateway::limit::board::{Asked, Board, Reply, Report, Taken};
use mcp_registry_gateway::limit::bucket::Price;
use mcp_registry_gateway::serve::{self, Running};
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::{RngSeed, TestRunner};
use serde_json::{Value, json};
use testkit::client::{Client, Request};
use testkit::process::{Process, Start};
use tokio::time::{Instant, sleep, timeout};

use crate::store_databases::Database;

/// Long enough for a loaded machine; nothing waits that long when it works.
const DEADLINE: Duration = Duration::from_secs(30);

/// A Redis of the test's own, behind a socket in a folder that goes with it.
struct Redis {
    process: Option<Process>,
    program: PathBuf,
    folder: PathBuf,
}

impl Redis {
    async fn start() -> Option<Self> {
        let programs = ["redis-server", "valkey-server"];
        let paths = std::env::var_os("PATH").unwrap_or_default();
        let found = std::env::split_paths(&paths)
            .flat_map(|folder| programs.map(|name| folder.join(name)))
            .find(|file| file.exists());
        let Some(program) = found else {
            assert!(std::env::var("CI").as_deref() != Ok("true"), "no Redis is installed");
            eprintln!("skipped: no Redis is installed (Debian: apt-get install redis-server)");
            return None;
        };
        let folder = std::env::temp_dir().join(format!("mcp-gateway-redis-{}", uuid::Uuid::now_v7().simple()));
        std::fs::create_dir_all(&folder).unwrap();
        let mut redis = Self { process: None, program, folder };
        redis.again().await;
        Some(redis)
    }

    /// Starts it anew, empty.
    async fn again(&mut self) {
        let start = Start::new(&self.program).args(["--port", "0", "--save", "", "--appendonly", "no", "--unixsocket"]);
        self.process = Some(
            start.arg(self.socket()).folder(&self.folder).ready("eady to accept connections").start().await.unwrap(),
        );
    }

    async fn kill(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.kill_and_wait().await.unwrap();
        }
    }

    fn socket(&self) -> PathBuf {
        self.folder.join("redis.sock")
    }

    fn url(&self) -> String {
        format!("redis+unix://{}", self.socket().display())
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        self.process = None;
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

/// The clock of Redis, in nanoseconds.
async fn clock(connection: &mut redis::aio::MultiplexedConnection) -> u64 {
    let (seconds, micros): (u64, u64) = redis::cmd("TIME").query_async(connection).await.unwrap();
    (seconds * 1_000_000 + micros) * 1000
}

fn report() -> impl Strategy<Value = (Report, bool)> {
    let asked = (0_u64..5, 0_f32..100.0, any::<u32>()).prop_map(|(tenant, rate, wanted)| Asked {
        tenant,
        rate,
        long: rate / 2.0,
        wanted,
        given: wanted / 2,
    });
    let taken = (0_u128..3, -2_i32..6, 1_u32..600).prop_map(|(bucket, count, rpm)| Taken {
        bucket,
        count,
        price: Price::a_minute(rpm),
    });
    let parts = (
        0_u128..4,
        0.0..150.0,
        prop::collection::vec(asked, 0..4),
        prop::collection::vec(taken, 0..3),
        prop::collection::vec(any::<u64>(), 0..3),
        any::<bool>(),
        prop::bool::weighted(0.05),
    );
    parts.prop_map(|(replica, rate, asked, taken, counts, exhausted, pause)| {
        (Report { replica, asked, rate, taken, exhausted, counts }, pause)
    })
}

/// What is compared: all but the moments, which are measured by two clocks; sums of leases have no order.
fn of(mut reply: Reply) -> (Vec<mcp_registry_gateway::limit::board::Other>, f64) {
    reply.others.sort_by_key(|other| other.replica);
    (reply.others, (reply.lease * 1e6).round())
}

#[tokio::test]
async fn the_board_in_redis_does_what_the_one_in_memory_does() {
    let Some(redis) = Redis::start().await else { return };
    let mut board = RedisBoard::open(&redis.url(), None, 100.0).unwrap();
    let mut watch = redis::Client::open(redis.url()).unwrap().get_multiplexed_async_connection().await.unwrap();
    // As if Redis had done it at the first moment that it may have, and at the last.
    let (mut early, mut late) = (Board::new(100.0), Board::new(100.0));
    let config = ProptestConfig { rng_seed: RngSeed::Fixed(7), ..ProptestConfig::default() };
    let mut runner = TestRunner::new(config);
    let mut compared = 0;
    for _ in 0..400 {
        let (report, pause) = report().new_tree(&mut runner).unwrap().current();
        if pause {
            sleep(Duration::from_millis(400)).await;
        }
        let before = clock(&mut watch).await;
        let reply = board.exchange(&report).await.unwrap();
        let after = clock(&mut watch).await;
        let (first, last) = (early.exchange(report.clone(), before), late.exchange(report, after));
        assert_eq!(reply.spent.len(), last.spent.len());
        if of(first.clone()) == of(last.clone()) {
            compared += 1;
            for ((spent, first), last) in reply.spent.iter().zip(&first.spent).zip(&last.spent) {
                let unsure = i64::try_from(after - before).unwrap() + 10_000_000;
                assert!(
                    (first.min(last) - unsure..=first.max(last) + unsure).contains(spent),
                    "{spent}: {first} to {last}"
                );
            }
            assert_eq!(of(reply), of(first));
        } else {
            // A lease ended in between, or ended for one of them: they begin anew together.
            redis::cmd("FLUSHALL").exec_async(&mut watch).await.unwrap();
            (early, late) = (Board::new(100.0), Board::new(100.0));
        }
    }
    assert!(compared > 300, "{compared}");
}

#[tokio::test]
#[expect(clippy::cast_precision_loss, reason = "a moment of today in microseconds")]
async fn what_others_write_into_redis_breaks_nothing() {
    let Some(redis) = Redis::start().await else { return };
    let mut board = RedisBoard::open(&redis.url(), None, 100.0).unwrap();
    let report = Report { replica: 1, rate: 50.0, ..Report::default() };
    board.exchange(&report).await.unwrap();
    let mut other = redis::Client::open(redis.url()).unwrap().get_multiplexed_async_connection().await.unwrap();
    let (soon, never) = (clock(&mut other).await as f64 / 1000.0 + 900_000.0, f64::MAX);
    let lease = |until: f64, rate: f64, rest: &[u8]| [&until.to_be_bytes()[..], &rate.to_be_bytes(), rest].concat();
    for (field, value) in [
        ("x", b"y".to_vec()),
        ("2", lease(soon, 10.0, b"\x63whatever")),
        ("not a number", lease(soon, 20.0, b"")),
        ("for ever", lease(never, 100.0, b"")),
        ("less than nothing", lease(soon, -50.0, b"")),
        ("no number", lease(soon, f64::NAN, b"")),
    ] {
        redis::cmd("HSET").arg("{mcp-gateway}:board").arg(field).arg(value).exec_async(&mut other).await.unwrap();
    }
    redis::cmd("SET")
        .arg(format!("{{mcp-gateway}}:bucket:{:032x}", 9))
        .arg("nonsense")
        .exec_async(&mut other)
        .await
        .unwrap();
    let taken = vec![Taken { bucket: 9, count: 1, price: Price::a_minute(60) }];
    let reply = board.exchange(&Report { rate: 100.0, taken, ..report }).await.unwrap();
    // Leases count whoever holds them; what cannot be read is not.
    assert_eq!((reply.lease, reply.others.len()), (70.0, 1));
    assert!(reply.others[0].asked.is_empty());
    assert!((-59_000_100_000..-58_900_000_000).contains(&reply.spent[0]), "one of a full bucket: {:?}", reply.spent);
}

#[test]
fn what_is_no_address_is_refused_before_anything_is_written() {
    let folder = std::env::temp_dir().join(format!("mcp-gateway-test-{}", uuid::Uuid::now_v7()));
    let args =
        [format!("--data-dir={}", folder.display()), "--port=0".into(), "--redis-url=http://user:secret@host".into()];
    let settings = Settings::from_args(args, &DotEnv::default()).unwrap();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let error = format!("{:#}", runtime.block_on(serve::start(settings)).err().unwrap());
    assert!(error.contains("MREG_REDIS_URL") && error.contains("rediss://") && !error.contains("secret"), "{error}");
    assert!(!folder.exists());
}

/// A gateway of two.
struct Gateway {
    app: App,
    running: Running,
    client: Client,
    key: String,
}

impl Gateway {
    async fn start(database: &Database, folder: &Path, key: &str, args: &[&str]) -> Self {
        let own =
            ["--port=0".to_owned(), format!("--data-dir={}", folder.display()), format!("--bootstrap-admin-key={key}")];
        let master = "--master-key=3q2+78r+uq2+7wEjRWeJq83vZyHa5LPh0vYsMRlZh8I=".to_owned();
        let more = args.iter().map(|arg| (*arg).to_owned());
        let args = own.into_iter().chain([master, format!("--database-url={}", database.url)]).chain(more);
        let settings = Settings::from_args(args.collect::<Vec<_>>(), &DotEnv::default()).unwrap();
        let (app, running) = serve::start(settings).await.unwrap();
        let client = Client::new(&format!("http://{}/mcp", running.address())).bearer(key);
        Self { app, running, client, key: key.to_owned() }
    }

    /// Whether one request passes; else the error.
    async fn ask(&self) -> Result<(), Value> {
        let outcome = self.client.call("tools/list", json!({})).await.unwrap();
        if outcome.status == StatusCode::OK { Ok(()) } else { Err(outcome.response["error"].clone()) }
    }

    /// The status that `/health` shows for Redis.
    async fn health(&self) -> Value {
        let client = Client::new(&format!("http://{}/health", self.running.address()));
        let reply = client.send(Request::get()).await.unwrap();
        serde_json::from_slice::<Value>(&reply.bytes().await.unwrap()).unwrap()
    }

    /// A report of an administrator.
    async fn report(&self, path: &str) -> Value {
        self.rest("GET", path, Value::Null).await
    }

    async fn rest(&self, method: &str, path: &str, body: Value) -> Value {
        let client = Client::new(&format!("http://{}/api/v1/admin/{path}", self.running.address())).bearer(&self.key);
        let body = if body.is_null() { String::new() } else { body.to_string() };
        let request = Request::new(method.parse().unwrap(), body.into()).header("content-type", "application/json");
        let reply = client.send(request).await.unwrap();
        serde_json::from_slice::<Value>(&reply.bytes().await.unwrap()).unwrap()
    }

    async fn until(&self, what: &str, is: impl Fn(&App) -> bool) {
        let looking = async {
            while !is(&self.app) {
                sleep(Duration::from_millis(20)).await;
            }
        };
        timeout(DEADLINE, looking).await.unwrap_or_else(|_| panic!("it never came to be: {what}"));
    }
}

struct Two {
    redis: Redis,
    one: Gateway,
    other: Gateway,
    folder: PathBuf,
    _database: Database,
}

impl Two {
    async fn start(args: &[&str]) -> Option<Self> {
        let (database, redis) = (Database::postgresql().await?, Redis::start().await?);
        let folder = std::env::temp_dir().join(format!("mcp-gateway-test-{}", uuid::Uuid::now_v7()));
        let key = new_api_key();
        let url = format!("--redis-url={}", redis.url());
        let args: Vec<&str> = args.iter().copied().chain([url.as_str()]).collect();
        let one = Gateway::start(&database, &folder.join("one"), key.expose(), &args).await;
        let other = Gateway::start(&database, &folder.join("other"), key.expose(), &args).await;
        for gateway in [&one, &other] {
            gateway.until("both know of each other", |app| app.limits.fair().replicas() == 2).await;
        }
        Some(Self { redis, one, other, folder, _database: database })
    }

    fn each(&self) -> [&Gateway; 2] {
        [&self.one, &self.other]
    }

    async fn press(&self, time: Duration) -> Pressed {
        press(self.each(), time).await
    }
}

/// What came of asking for some time.
#[derive(Debug, Clone, Copy)]
struct Pressed {
    asked: f64,
    passed: f64,
    seconds: f64,
}

/// Asks both, four at once each, as fast as they answer, for so long and so often.
async fn press(both: [&Gateway; 2], time: Duration) -> Pressed {
    let (began, mut pressed) = (Instant::now(), Pressed { asked: 0.0, passed: 0.0, seconds: 0.0 });
    while began.elapsed() < time || pressed.asked < 80.0 {
        let asks = both.iter().flat_map(|gateway| (0..4).map(|_| gateway.ask()));
        for answer in futures_util::future::join_all(asks).await {
            pressed.asked += 1.0;
            pressed.passed += f64::from(u8::from(answer.is_ok()));
        }
    }
    Pressed { seconds: began.elapsed().as_secs_f64(), ..pressed }
}

/// That two gateways let through about as much as one.
fn as_much_as_one(pressed: Pressed, when: &str) {
    let Pressed { asked, passed, seconds } = pressed;
    let due = 20.0 * seconds;
    assert!(passed <= due + 8.0 && passed >= 0.8 * due.min(asked) - 4.0, "{pressed:?} {when}");
}

impl Drop for Two {
    fn drop(&mut self) {
        self.each().iter().for_each(|gateway| gateway.app.shutdown.cancel());
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

/// 1,200 requests a minute: 20 a second, and 4 at once.
const CAPACITY: &[&str] = &["--rate-limit-global-rpm=1200", "--rate-limit-admin-rpm=1000000"];

#[tokio::test]
async fn two_gateways_let_through_as_much_as_one_with_redis_and_without() {
    let Some(mut two) = Two::start(CAPACITY).await else { return };
    as_much_as_one(two.press(Duration::from_secs(4)).await, "with Redis");
    let health = two.one.health().await;
    assert_eq!((&health["status"], &health["components"]["redis"]), (&json!("ok"), &json!("ok")), "{health}");

    two.redis.kill().await;
    for gateway in two.each() {
        gateway.until("it goes on by itself", |app| !app.limits.fair().is_on_board()).await;
        assert_eq!(gateway.app.limits.fair().replicas(), 2);
    }
    as_much_as_one(two.press(Duration::from_secs(4)).await, "without Redis");
    two.one
        .until("health says so", |app| app.health.look().1["redis"] != mcp_registry_gateway::telemetry::Status::Ok)
        .await;
    let health = two.one.health().await;
    assert_eq!(
        (&health["status"], &health["components"]["redis"]),
        (&json!("degraded"), &json!("degraded")),
        "{health}"
    );

    two.redis.again().await;
    for gateway in two.each() {
        gateway
            .until("it is on the board again", |app| {
                app.limits.fair().is_on_board() && app.limits.fair().replicas() == 2
            })
            .await;
    }
    as_much_as_one(two.press(Duration::from_secs(4)).await, "when Redis is back");
    two.one
        .until("health says so", |app| app.health.look().1["redis"] == mcp_registry_gateway::telemetry::Status::Ok)
        .await;
}

/// A way to a socket that can be cut while the socket stays.
fn way_to(socket: PathBuf, at: &Path) -> tokio::task::JoinHandle<()> {
    let listener = tokio::net::UnixListener::bind(at).unwrap();
    tokio::spawn(async move {
        let mut open = tokio::task::JoinSet::new();
        while let Ok((mut near, _)) = listener.accept().await {
            let mut far = tokio::net::UnixStream::connect(&socket).await.unwrap();
            open.spawn(async move { tokio::io::copy_bidirectional(&mut near, &mut far).await });
        }
    })
}

#[tokio::test]
async fn who_alone_loses_redis_takes_its_part_and_the_others_leave_it() {
    let (Some(database), Some(redis)) = (Database::postgresql().await, Redis::start().await) else { return };
    let folder = std::env::temp_dir().join(format!("mcp-gateway-test-{}", uuid::Uuid::now_v7()));
    std::fs::create_dir_all(&folder).unwrap();
    let key = new_api_key();
    let way = way_to(redis.socket(), &folder.join("way.sock"));
    let through = format!("--redis-url=redis+unix://{}", folder.join("way.sock").display());
    let straight = format!("--redis-url={}", redis.url());
    let start = async |name, url: &str| {
        Gateway::start(&database, &folder.join(name), key.expose(), &[CAPACITY, &[url]].concat()).await
    };
    let (one, other) = (start("one", &straight).await, start("other", &through).await);
    for gateway in [&one, &other] {
        gateway.until("both know of each other", |app| app.limits.fair().replicas() == 2).await;
    }
    one.until("nobody is missed", |app| app.limits.fair().hears_all()).await;

    way.abort();
    other.until("it goes on by itself", |app| !app.limits.fair().is_on_board()).await;
    one.until("the other is missed", |app| app.limits.fair().replicas() == 1 && !app.limits.fair().hears_all()).await;
    assert!(one.app.limits.fair().is_on_board());
    as_much_as_one(press([&one, &other], Duration::from_secs(4)).await, "while one has lost its way to Redis");
    assert_eq!(one.report("rate-limit-analytics").await["scope"], "replica");

    other.app.shutdown.cancel();
    other.app.tasks.close();
    timeout(DEADLINE, other.app.tasks.wait()).await.expect("everything ends with the process");
    one.until("all of it is for the one", |app| app.limits.fair().is_alone()).await;
    one.app.shutdown.cancel();
    let _ = std::fs::remove_dir_all(&folder);
}

#[tokio::test]
async fn what_an_account_used_at_one_gateway_is_used_at_the_other() {
    let Some(two) = Two::start(&["--rate-limit-global-rpm=1000000", "--rate-limit-admin-rpm=60"]).await else { return };
    // Each by itself would let 60 through at once, and one a second.
    let pressed = two.press(Duration::from_secs(3)).await;
    assert!((58.0..=60.0 + 30.0 + pressed.seconds).contains(&pressed.passed), "{pressed:?}");
    for gateway in two.each() {
        let error = gateway.ask().await.unwrap_err();
        assert_eq!(error["data"]["limit"], "user", "{error}");
    }
    sleep(Duration::from_millis(300)).await;
    let hits =
        two.each().map(|gateway| gateway.app.guard.figures_of_all(time::OffsetDateTime::now_utc()).hits_by_type.user);
    assert!(hits[0] > 2 && hits[0] == hits[1], "each knows what both refused: {hits:?}");
}

#[tokio::test]
async fn without_redis_from_the_start_each_has_its_part() {
    let Some(database) = Database::postgresql().await else { return };
    let folder = std::env::temp_dir().join(format!("mcp-gateway-test-{}", uuid::Uuid::now_v7()));
    let key = new_api_key();
    // One knows of Redis, which is not there; the other does not.
    let away = format!("--redis-url=redis+unix://{}/nothing.sock", folder.display());
    let one = Gateway::start(&database, &folder.join("one"), key.expose(), &[CAPACITY[0], CAPACITY[1], &away]).await;
    let other = Gateway::start(&database, &folder.join("other"), key.expose(), CAPACITY).await;
    for gateway in [&one, &other] {
        gateway.until("both know of each other", |app| app.limits.fair().replicas() == 2).await;
        assert!(!gateway.app.limits.fair().is_on_board());
    }
    as_much_as_one(press([&one, &other], Duration::from_secs(4)).await, "without Redis from the start");
    assert_eq!(one.health().await["components"]["redis"], "degraded");
    one.app.shutdown.cancel();
    one.app.tasks.close();
    timeout(DEADLINE, one.app.tasks.wait()).await.expect("everything ends with the process");
    other.until("it is alone", |app| app.limits.fair().replicas() == 1).await;
    other.app.shutdown.cancel();
    let _ = std::fs::remove_dir_all(&folder);
}

#[tokio::test]
async fn reports_are_of_both_or_of_one_and_what_one_is_told_holds_at_the_other() {
    let Some(two) = Two::start(CAPACITY).await else { return };
    let passed = two.press(Duration::from_secs(3)).await.passed;
    let mut refused = 0;
    for gateway in two.each() {
        // What is told is up to the last whole second in which both were heard.
        let (begun, mut fairness) = (Instant::now(), Value::Null);
        while fairness["usage"]["requests"].as_f64() != Some(passed) {
            assert!(begun.elapsed() < DEADLINE, "{passed} passed: {fairness}");
            sleep(Duration::from_millis(100)).await;
            fairness = gateway.report("tenant-fairness/default").await;
        }
        assert_eq!(fairness["scope"], "cluster", "{fairness}");
        let analytics = gateway.report("rate-limit-analytics").await;
        assert!(analytics["fairness_efficiency"].as_f64() > Some(0.8), "{analytics}");
        refused = analytics["top_throttled_tenants"][0]["refused"].as_u64().unwrap();
        let diagnostics = gateway.report("diagnostics/rate-limits").await;
        assert_eq!(
            (&diagnostics["scope"], &diagnostics["tenant_fairness_violations"]),
            (&json!("cluster"), &json!(0)),
            "{diagnostics}"
        );
        assert!(diagnostics["global_quota_exhaustion"].as_u64() > Some(0), "{diagnostics}");
    }
    let (mut given, mut hits) = (0.0, 0);
    for gateway in two.each() {
        let fairness = gateway.report("tenant-fairness/default?scope=replica").await;
        assert_eq!((&fairness["scope"], &fairness["usage"]["quota"]), (&json!("replica"), &Value::Null), "{fairness}");
        given += fairness["usage"]["requests"].as_f64().unwrap();
        let analytics = gateway.report("rate-limit-analytics?scope=replica").await;
        assert_eq!(analytics["fairness_efficiency"], Value::Null, "{analytics}");
        hits += analytics["top_throttled_tenants"][0]["refused"].as_u64().unwrap_or_default();
        let diagnostics = gateway.report("diagnostics/rate-limits?scope=replica").await;
        assert_eq!(diagnostics["tenant_fairness_violations"], Value::Null, "{diagnostics}");
    }
    assert_eq!((given, hits), (passed, refused), "both together are all");

    let said = two.one.rest("POST", "tenant-limits/default", json!({"base_rpm": 77})).await;
    assert_eq!(said["limits"]["base_rpm"], 77, "{said}");
    let tenant = mcp_registry_gateway::id::TenantId::default_tenant();
    two.other
        .until("the cap holds at the other", |app| app.limits.share(&tenant).unwrap().base_rpm() == Some(77))
        .await;
}

on_both! {
    async fn who_is_there_is_counted_until_it_leaves_or_is_silent(db) {
        let store = db.open().await;
        let [one, other] = [1, 2].map(uuid::Uuid::from_u128);
        let (long, short) = (Duration::from_mins(10), Duration::from_millis(20));
        assert_eq!(store.is_here(one, long).await.unwrap(), 1);
        assert_eq!(store.is_here(other, long).await.unwrap(), 2);
        sleep(2 * short).await;
        assert_eq!(store.is_here(other, short).await.unwrap(), 1, "the first has been silent");
        assert_eq!(store.is_here(one, long).await.unwrap(), 2);
        store.leaves(other).await.unwrap();
        assert_eq!(store.is_here(one, long).await.unwrap(), 1);
    }
}
