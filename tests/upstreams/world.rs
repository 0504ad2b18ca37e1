//! A gateway inside the test, on a free port, that can be stopped and started again on the same data folder.

use std::path::PathBuf;
use std::time::Duration;

use http::Method;
use mcp_registry_gateway::app::App;
use mcp_registry_gateway::config::{DotEnv, Settings};
use mcp_registry_gateway::serve::{self, Running, Stopped};
use serde_json::{Value, json};
use testkit::client::{Client, Request};
use testkit::settings::settings;

/// Long enough for a loaded machine; nothing waits that long when it works.
pub const DEADLINE: Duration = Duration::from_secs(20);

/// The administrator's key.
const KEY: &str = "mcpg_3f9ad17c5be240c8b8a2d9e07f4116c35d8a90be6f17c24d05be93a1c7f2608d";

pub struct World {
    pub app: App,
    running: Running,
    folder: PathBuf,
    args: Vec<String>,
}

impl World {
    pub async fn with(args: &[&str]) -> Self {
        let folder = std::env::temp_dir().join(format!("mcp-gateway-upstreams-{}", uuid::Uuid::now_v7()));
        Self::on(folder, args.iter().map(|arg| (*arg).to_owned()).collect()).await
    }

    async fn on(folder: PathBuf, args: Vec<String>) -> Self {
        let all = settings(&folder, KEY, &args);
        let (app, running) = serve::start(Settings::from_args(all, &DotEnv::default()).unwrap()).await.unwrap();
        Self { app, running, folder, args }
    }

    /// Stops it, lets `meanwhile` happen, and starts it again on what it kept.
    pub async fn restart(self, meanwhile: impl AsyncFnOnce(&App)) -> Self {
        let Self { app, running, folder, args } = self;
        let stop = running.stop(std::future::pending());
        assert_eq!(tokio::time::timeout(DEADLINE, stop).await.unwrap(), Stopped::Clean);
        app.registry.close().await;
        meanwhile(&app).await;
        Self::on(folder, args).await
    }

    pub fn client(&self, path: &str) -> Client {
        Client::new(&format!("{}{path}", self.running.url())).bearer(KEY)
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

    /// How a server is, as REST shows it.
    pub async fn status(&self, slug: &str) -> Value {
        self.rest(Method::GET, &format!("/servers/{slug}"), &Value::Null).await["status"].take()
    }

    /// The eras that are kept in the database, in no order.
    pub async fn kept(&self) -> Vec<String> {
        self.app.store.memory_of_all_tenants().await.unwrap().into_iter().map(|row| row.era).collect()
    }
}

/// Whatever it is, within the deadline.
pub async fn within<T>(what: impl Future<Output = T>) -> T {
    tokio::time::timeout(DEADLINE, what).await.expect("it did not happen within the deadline")
}

/// Waits until `what` holds.
pub async fn until(mut what: impl AsyncFnMut() -> bool) {
    within(async {
        while !what().await {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
}
