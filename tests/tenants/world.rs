//! A gateway that is a process, with sixty tenants made over its REST API: each has an administrator, a server of the same name as that of
//! every other, and ten users with a key each.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use futures_util::future::join_all;
use http::Method;
use serde_json::{Value, json};
use testkit::client::{Client, Request};
use testkit::process::{Process, Start};
use testkit::settings::roomy;
use testkit::upstream::{Answer, Eras, Plain};

use crate::theory::Claim;

/// The administrator's key.
const KEY: &str = "mcpg_9b1d4e7703c2f58a6e0b97d12f4c86a35e7d0941bb82c6f30a5d19e847f2c6a1";
const PASSWORD: &str = "a long pass phrase";
const PATIENCE: Duration = Duration::from_secs(30);

pub const TENANTS: usize = 60;
pub const USERS: usize = 10;

/// How a tenant behaves and what it is granted.
#[derive(Debug, Clone, Copy)]
pub struct Terms {
    pub weight: f64,
    pub base_rpm: Option<u32>,
    pub burst: f64,
    /// How many times its share it asks for.
    pub asks: f64,
}

/// A tenant that is there.
pub struct Tenant {
    pub name: String,
    pub terms: Terms,
    pub keys: Vec<String>,
    /// Ends with it.
    _server: Plain,
    /// Calls that its server got; and those of them that were not of its own users.
    calls: Arc<AtomicU64>,
    foreign: Arc<AtomicU64>,
}

impl Tenant {
    /// Its claim for this long; with a minute's worth of its cap besides, where it has not yet used what may come at once.
    pub fn claim(&self, sent: f64, time: Duration, anew: bool) -> Claim {
        let minutes = time.as_secs_f64() / 60.0 + f64::from(u8::from(anew));
        let cap = self.terms.base_rpm.map_or(f64::INFINITY, |rpm| f64::from(rpm) * minutes);
        Claim { weight: self.terms.weight, sent, cap, burst: self.terms.burst }
    }

    pub fn calls(&self) -> u64 {
        self.calls.load(Relaxed)
    }

    pub fn foreign(&self) -> u64 {
        self.foreign.load(Relaxed)
    }
}

pub struct World {
    pub url: String,
    process: Process,
    folder: PathBuf,
    args: Vec<String>,
}

impl World {
    pub async fn start(args: &[&str]) -> Self {
        let folder = std::env::temp_dir().join(format!("mcp-gateway-tenants-{}", uuid::Uuid::now_v7()));
        let args = roomy(args);
        let process = Self::process(&folder, &args, 0).await;
        Self { url: process.url().unwrap().to_owned(), process, folder, args }
    }

    async fn process(folder: &std::path::Path, args: &[String], port: u16) -> Process {
        Start::new(env!("CARGO_BIN_EXE_mcp-gateway"))
            .arg("serve")
            .arg(format!("--port={port}"))
            .arg(format!("--data-dir={}", folder.display()))
            .args(args)
            .env("MREG_BOOTSTRAP_ADMIN_KEY", KEY)
            .ready("listening on")
            .start()
            .await
            .unwrap()
    }

    /// Stops the process.
    pub async fn stop(&mut self) {
        let ended = self.process.stop(PATIENCE).await.unwrap();
        assert!(ended.success(), "{ended}: {}", self.process.said());
    }

    /// Starts another on the same data and port.
    pub async fn start_again(&mut self) {
        let port = self.url.rsplit(':').next().unwrap().trim_end_matches('/').parse().unwrap();
        self.process = Self::process(&self.folder, &self.args, port).await;
    }

    pub async fn rest(&self, key: &str, method: Method, path: &str, body: Value) -> Value {
        let text = if body.is_null() { String::new() } else { body.to_string() };
        let request = Request::new(method, text.into()).header("content-type", "application/json");
        let client = Client::new(&format!("{}/api/v1{path}", self.url)).bearer(key);
        let reply = tokio::time::timeout(PATIENCE, client.send(request)).await.expect("no answer").unwrap();
        let status = reply.status;
        let answer = reply.text().await.unwrap();
        assert!(status.is_success(), "{path}: {status} {answer}");
        serde_json::from_str(&answer).unwrap()
    }

    /// Sets limits of a tenant, and holds them against what is asked for.
    pub async fn limit(&self, tenant: &mut Tenant, limits: Value) {
        let path = format!("/admin/tenant-limits/{}", tenant.name);
        let told = self.rest(KEY, Method::POST, &path, limits).await["limits"].clone();
        tenant.terms.weight = told["fairness_weight"].as_f64().unwrap();
        tenant.terms.base_rpm = told["base_rpm"].as_u64().map(|rpm| u32::try_from(rpm).unwrap());
    }

    pub async fn limits(&self, tenant: &Tenant) -> Value {
        self.rest(KEY, Method::GET, &format!("/admin/tenant-limits/{}", tenant.name), Value::Null).await["limits"]
            .clone()
    }

    pub async fn tenants(&self, terms: impl Iterator<Item = Terms>) -> Vec<Tenant> {
        join_all(terms.enumerate().map(|(number, terms)| self.tenant(number, terms))).await
    }

    async fn tenant(&self, number: usize, terms: Terms) -> Tenant {
        let name = format!("tenant-{number:02}");
        let mut limits = json!({"fairness_weight": terms.weight, "burst_factor": terms.burst});
        limits["base_rpm"] = terms.base_rpm.into();
        let made =
            self.rest(KEY, Method::POST, "/admin/tenants", json!({"tenant_id": name, "rate_limits": limits})).await;
        assert_eq!(made["rate_limits"]["fairness_weight"], terms.weight, "{made}");
        let boss = json!({"username": "boss", "password": PASSWORD, "role": "tenant_admin", "tenant_id": name});
        self.rest(KEY, Method::POST, "/users", boss).await;
        let login = json!({"username": format!("{name}/boss"), "password": PASSWORD});
        let login = self.rest("", Method::POST, "/login", login).await;
        let boss = login["key"].as_str().unwrap();

        let (calls, foreign) = (Arc::new(AtomicU64::default()), Arc::new(AtomicU64::default()));
        let server = server(&name, &calls, &foreign).await;
        let spec = json!({"slug": "it", "replicas": [{"url": server.url()}]});
        let made = self.rest(boss, Method::POST, "/servers", spec).await;
        assert_eq!(made["slug"], "it", "{made}");
        let user = async |number: usize| {
            let user = format!("user{number}");
            self.rest(boss, Method::POST, "/users", json!({"username": user})).await;
            let order = json!({"name": "key", "username": user, "servers": "*"});
            self.rest(boss, Method::POST, "/keys", order).await["key"].as_str().unwrap().to_owned()
        };
        let keys = join_all((0..USERS).map(user)).await;
        Tenant { name, terms, keys, _server: server, calls, foreign }
    }
}

impl Drop for World {
    fn drop(&mut self) {
        self.process.kill();
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

/// A server that says whose it is in everything it says, and counts who comes.
async fn server(name: &str, calls: &Arc<AtomicU64>, foreign: &Arc<AtomicU64>) -> Plain {
    let server = Plain::with(Eras::Modern).await.unwrap();
    let description = format!("Says that it is {name}");
    server.set(|settings| {
        settings.tools = vec![json!({"name": "whose", "description": description, "inputSchema": {"type": "object"}})];
    });
    let (own, calls, foreign) = (name.to_owned(), calls.clone(), foreign.clone());
    server.script("whose", move |call| {
        calls.fetch_add(1, Relaxed);
        let arguments = &call.params["arguments"];
        foreign.fetch_add(u64::from(arguments["tenant"] != own.as_str()), Relaxed);
        let text = format!("{own} answers {}.", arguments["call"]);
        let answer = json!({"content": [{"type": "text", "text": text}], "resultType": "complete"});
        Answer::Result(answer.to_string())
    });
    server
}
