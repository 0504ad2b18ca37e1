//! A gateway inside the test, on a free port with a data folder of its own, and its administrator's clients.

use std::time::Duration;

use http::Method;
use mcp_registry_gateway::app::App;
use mcp_registry_gateway::config::{DotEnv, Settings};
use mcp_registry_gateway::serve::{self, Running};
use serde_json::{Value, json};
use testkit::client::{Client, Request};
use testkit::settings::settings;

/// Long enough for a loaded machine; nothing waits that long when it works.
pub const DEADLINE: Duration = Duration::from_secs(20);

/// The administrator's key.
pub const KEY: &str = "mcpg_3f9ad17c5be240c8b8a2d9e07f4116c35d8a90be6f17c24d05be93a1c7f2608d";

pub struct World {
    pub app: App,
    pub running: Running,
}

impl World {
    pub async fn with(args: &[&str]) -> Self {
        let folder = std::env::temp_dir().join(format!("mcp-gateway-streams-{}", uuid::Uuid::now_v7()));
        let args = settings(&folder, KEY, args);
        let (app, running) = serve::start(Settings::from_args(args, &DotEnv::default()).unwrap()).await.unwrap();
        Self { app, running }
    }

    pub fn client(&self, path: &str) -> Client {
        self.client_of(path, KEY)
    }

    pub fn client_of(&self, path: &str, key: &str) -> Client {
        Client::new(&format!("{}{path}", self.running.url())).bearer(key)
    }

    /// One call of the REST API, which must go well.
    pub async fn rest(&self, method: Method, path: &str, body: &Value) -> Value {
        let body = if body.is_null() { String::new() } else { body.to_string() };
        let request = Request::new(method, body.into())
            .header("content-type", "application/json")
            .path(&format!("/api/v1{path}"));
        let reply = self.client("/").send(request).await.unwrap();
        let status = reply.status;
        let text = reply.text().await.unwrap();
        assert!(status.is_success(), "{status}: {text}");
        if text.is_empty() { Value::Null } else { serde_json::from_str(&text).unwrap() }
    }

    /// Registers a server of Streamable HTTP, one replica a URL.
    pub async fn register(&self, slug: &str, urls: &[String]) {
        let replicas: Vec<Value> = urls.iter().map(|url| json!({ "url": url })).collect();
        let server = self.rest(Method::POST, "/servers", &json!({ "slug": slug, "replicas": replicas })).await;
        assert_eq!(server["status"]["state"], "ready", "{server}");
    }

    /// The key of a new user who may see everything.
    pub async fn user(&self, name: &str) -> String {
        self.rest(Method::POST, "/users", &json!({ "username": name })).await;
        let order = json!({ "name": "a key", "username": name, "servers": ["*"], "tools": ["*"] });
        let key = self.rest(Method::POST, "/keys", &order).await;
        key["key"].as_str().unwrap_or_else(|| panic!("{key}")).to_owned()
    }

    /// What `/metrics` shows.
    pub async fn metrics(&self) -> String {
        self.client("/metrics").send(Request::new(Method::GET, "".into())).await.unwrap().text().await.unwrap()
    }
}

/// Waits until `what` holds.
pub async fn until(mut what: impl AsyncFnMut() -> bool) {
    let waiting = async {
        while !what().await {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(DEADLINE, waiting).await.expect("it did not come to hold within the deadline");
}
