//! Reports of pools: what they say, and to whom.

use std::time::{Duration, Instant};

use http::Method;
use mcp_registry_gateway::config::{DotEnv, Settings};
use mcp_registry_gateway::crypto::new_api_key;
use mcp_registry_gateway::serve;
use serde_json::{Value, json};
use testkit::client::{Client, Request};
use testkit::settings::settings;
use testkit::upstream::Plain;

use crate::store_databases::Database;
use crate::store_rest::{World, server};

const REPORTS: [&str; 3] = ["connection-pool-status", "diagnostics/resources", "diagnostics/network"];

impl World {
    async fn report(&self, key: &str, path: &str) -> Value {
        self.with_key(key, &format!("GET /admin/{path}"), Value::Null).await.expect(200).json()
    }

    /// So many seconds pass, as far as pools go.
    fn seconds(&self, count: u64) {
        let now = Instant::now();
        (1..=count).for_each(|second| self.app.settle_pools(now + Duration::from_secs(second)));
    }
}

/// The servers of a list, in its order, and whether it says where they are.
fn servers(list: &Value) -> Vec<(String, bool)> {
    let one = |entry: &Value| (entry["server"].as_str().unwrap().to_owned(), entry.get("url").is_some());
    list.as_array().unwrap().iter().map(one).collect()
}

/// Whether numbers of requests are told of a replica.
fn counted(pool: &Value) -> bool {
    let counts = [
        "limit",
        "in_flight",
        "waiting",
        "in_use",
        "idle",
        "requests",
        "dials",
        "waited",
        "turned_away",
        "average_in_flight",
    ];
    let told = counts.map(|count| pool.get(count).is_some());
    assert!(told.iter().all(|one| *one == told[0]), "all or none: {pool}");
    told[0]
}

fn named(names: &[(&str, bool)]) -> Vec<(String, bool)> {
    names.iter().map(|(name, located)| ((*name).to_owned(), *located)).collect()
}

on_both! {
    async fn administrators_of_a_tenant_see_their_servers_and_those_offered_to_them_without_addresses(db) {
        let world = World::open(db).await;
        let eve = world.acme().await;
        let mut offered = server("offered");
        offered["offered_to"] = json!(["acme"]);
        world.call("POST /servers", offered).await.expect(201);
        world.call("POST /servers", server("hidden")).await.expect(201);
        world.with_key(&eve, "POST /servers", server("own")).await.expect(201);
        let status = world.report(&eve, REPORTS[0]).await;
        assert_eq!(servers(&status["pools"]), named(&[("offered", false), ("own", true)]), "{status}");
        assert_eq!(status.get("database"), None, "{status}");
        assert_eq!((counted(&status["pools"][0]), counted(&status["pools"][1])), (false, true), "{status}");
        assert_eq!(status["limit"], status["pools"][1]["limit"], "others' servers are not in the sum: {status}");
        let network = world.report(&eve, REPORTS[2]).await;
        assert_eq!(servers(&network["upstreams"]), named(&[("offered", false), ("own", true)]), "{network}");
        world.seconds(70);
        for path in REPORTS {
            let report = world.report(&eve, path).await;
            let text = report.to_string();
            assert!(!text.contains("hidden") && !text.contains("offered.example"), "{path}: {text}");
            for list in ["scaling_recommendations", "findings"] {
                assert!(!report[list].to_string().contains("offered"), "{path}: {text}");
            }
        }
        let all = world.report(&world.admin, REPORTS[0]).await;
        let known = named(&[("own", false), ("hidden", true), ("offered", true)]);
        assert_eq!(servers(&all["pools"]), known, "where a tenant's server is, its tenant knows: {all}");
        assert!(all["pools"].as_array().unwrap().iter().all(counted), "{all}");
        assert!(number(&all["database"]["limit"]) >= 1.0, "{all}");
        let all = world.report(&world.admin, REPORTS[2]).await;
        assert_eq!(all["upstreams"].as_array().unwrap().len(), 3, "{all}");
    }
}

on_both! {
    async fn who_administers_the_gateways_own_tenant_alone_does_not_see_where_offered_servers_are(db) {
        let world = World::open(db).await;
        let ann = world.person("ann", "tenant_admin", json!({"servers": "*", "tools": "*", "admin": true})).await;
        let mut offered = server("offered");
        offered["offered_to"] = json!(["acme"]);
        world.acme().await;
        world.call("POST /servers", offered).await.expect(201);
        world.call("POST /servers", server("own")).await.expect(201);
        let status = world.report(&ann, REPORTS[0]).await;
        assert_eq!(servers(&status["pools"]), named(&[("offered", false), ("own", true)]), "{status}");
        assert_eq!((counted(&status["pools"][0]), counted(&status["pools"][1])), (false, true), "{status}");
        assert_eq!(status.get("database"), None, "{status}");
        world.seconds(70);
        for path in REPORTS {
            let report = world.report(&ann, path).await.to_string();
            assert!(!report.contains("offered.example"), "{path}: {report}");
        }
    }
}

on_both! {
    async fn a_key_sees_the_servers_that_its_scopes_name(db) {
        let world = World::open(db).await;
        world.call("POST /servers", server("files")).await.expect(201);
        world.call("POST /servers", server("secret")).await.expect(201);
        world.seconds(70);
        for (name, role) in [("ann", "tenant_admin"), ("bob", "admin")] {
            let key = world.person(name, role, json!({"servers": ["files"], "tools": "*", "admin": true})).await;
            let status = world.report(&key, REPORTS[0]).await;
            assert_eq!(servers(&status["pools"]), named(&[("files", true)]), "{status}");
            assert_eq!(status["limit"], status["pools"][0]["limit"], "{status}");
            for path in REPORTS {
                let report = world.report(&key, path).await.to_string();
                assert!(!report.contains("secret"), "{path}: {report}");
            }
        }
    }
}

#[tokio::test]
async fn figures_of_one_of_several_replicas_say_so() {
    let world = World::open(&Database::sqlite()).await;
    assert_eq!(world.report(&world.admin, REPORTS[0]).await["scope"], "cluster");
    // One that serves beside it and is not heard.
    world.app.limits.fair().miss(1);
    for path in REPORTS {
        assert_eq!(world.report(&world.admin, path).await["scope"], "replica", "{path}");
    }
}

fn number(value: &Value) -> f64 {
    value.as_f64().unwrap_or_else(|| panic!("no number: {value}"))
}

#[tokio::test]
async fn what_was_not_measured_is_null_and_what_is_advised_has_a_reason() {
    let database = Database::sqlite();
    let world = World::with(&database, &["--pool-scaling=false"]).await;
    world.call("POST /servers", server("files")).await.expect(201);
    for path in REPORTS {
        for scope in ["", "?scope=cluster", "?scope=replica"] {
            let report = world.report(&world.admin, &format!("{path}{scope}")).await;
            let of = if scope.ends_with("replica") { "replica" } else { "cluster" };
            assert_eq!((&report["scope"], &report["window_seconds"]), (&json!(of), &json!(300)), "one is all there is");
            for field in ["pool_utilization", "connection_reuse_rate", "ssl_handshake_time", "azure_oauth_latency"] {
                assert!(report[field].is_null(), "{path}: {report}");
            }
            assert_eq!(report["targets"]["connection_reuse_rate"], json!({"target": ">0.9", "met": null}));
        }
        world.with_key(&world.admin, &format!("GET /admin/{path}?window=9"), Value::Null).await.expect(422);
    }
    let first = world.report(&world.admin, REPORTS[0]).await;
    assert_eq!((&first["mode"], &first["limit"]), (&json!("advise"), &json!(100)), "{first}");
    assert_eq!(first["scaling_recommendations"], json!([]), "nothing was looked at yet");
    world.seconds(70);
    let report = world.report(&world.admin, REPORTS[1]).await;
    let advice = &report["scaling_recommendations"][0];
    assert_eq!((&advice["server"], &advice["action"]), (&json!("files"), &json!("shrink")), "{report}");
    assert_eq!((&advice["from"], &advice["to"]), (&json!(100), &json!(66)), "{report}");
    assert!(advice["reason"].as_str().is_some_and(|reason| reason.contains("under 30 %")), "{report}");
    assert!(number(&report["pool_utilization"]) < 0.3, "{report}");
    // That nobody is there to be connected to may be found besides.
    let finding = report["findings"].as_array().unwrap().iter().find(|finding| finding["severity"] == "info").unwrap();
    assert!(finding["what"].as_str().is_some_and(|what| what.contains("`files`") && what.contains("66")), "{report}");
    assert_eq!(world.report(&world.admin, REPORTS[0]).await["limit"], 100, "advice alone moves nothing");
}

on_both! {
    async fn no_connection_to_the_database_is_held_while_a_server_is_waited_for(db) {
        let upstream = Plain::start().await.unwrap();
        let folder = std::env::temp_dir().join(format!("mcp-gateway-pools-{}", uuid::Uuid::now_v7()));
        let key = new_api_key().expose().to_owned();
        // One is all there is: whoever waited with it in hand would keep everybody else from it.
        let args = settings(&folder, &key, &["--database-pool-size=1".to_owned(), format!("--database-url={}", db.url)]);
        let (_app, running) = serve::start(Settings::from_args(args, &DotEnv::default()).unwrap()).await.unwrap();
        let client = |path: &str, key: &str| Client::new(&format!("{}{path}", running.url())).bearer(key);
        let rest = async |method: Method, path: &str, body: Value| {
            let body = if body.is_null() { String::new() } else { body.to_string() };
            let request = Request::new(method, body.into()).header("content-type", "application/json");
            let reply = client(&format!("/api/v1{path}"), &key).send(request).await.unwrap();
            assert!(reply.status.is_success(), "{path}: {}", reply.status);
            serde_json::from_slice::<Value>(&reply.bytes().await.unwrap()).unwrap()
        };
        rest(Method::POST, "/servers", json!({"slug": "it", "replicas": [{"url": upstream.url()}]})).await;
        let held: Vec<_> = (0..20)
            .map(|_| {
                let client = client("/mcp/it", &key);
                tokio::spawn(async move { client.tool("gate", json!({})).await.unwrap() })
            })
            .collect();
        assert!(upstream.wait_in_flight(20).await);
        for round in 0..5 {
            let name = format!("user{round}");
            rest(Method::POST, "/users", json!({"username": name})).await;
            let order = json!({"name": "a key", "username": name, "servers": ["it"], "tools": ["*"]});
            let made = rest(Method::POST, "/keys", order).await;
            let called = client("/mcp/it", made["key"].as_str().unwrap()).tool("echo", json!({})).await.unwrap();
            assert!(called.result().is_object(), "{called:?}");
        }
        assert_eq!(upstream.in_flight(), 20);
        let database = rest(Method::GET, "/admin/connection-pool-status", Value::Null).await["database"].take();
        // SQLite has one besides that writes.
        let all = if db.url.starts_with("sqlite") { 2 } else { 1 };
        assert_eq!((&database["limit"], &database["size"]), (&json!(all), &json!(all)), "{database}");
        upstream.open_gate(true);
        for call in held {
            assert!(call.await.unwrap().result().is_object());
        }
        let _ = std::fs::remove_dir_all(&folder);
    }
}
