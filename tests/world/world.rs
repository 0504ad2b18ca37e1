//! A gateway on a free port with a data folder of its own, its administrator's key, and words for what tests do with it.
//!
//! It runs inside the test, or as a process where the process itself is looked at or servers are children.

use std::path::{Path, PathBuf};
use std::time::Duration;

use http::Method;
use mcp_registry_gateway::app::App;
use mcp_registry_gateway::config::{DotEnv, Settings};
use mcp_registry_gateway::serve::{self, Running};
use serde_json::{Value, json};
use testkit::client::{Client, Outcome, Request};
use testkit::jsonrpc::MODERN;
use testkit::process::{Process, Start};
use testkit::settings::{roomy, settings};

/// Long enough for a loaded machine; nothing waits that long when it works.
pub const DEADLINE: Duration = Duration::from_secs(20);

/// The administrator's key.
pub const KEY: &str = "mcpg_477d1ef6afc6e9d9d366ef5661f5e58465016ea4471a7b43dba8dac6d1512cd5";

/// Every version that clients speak, newest last.
pub const VERSIONS: [&str; 4] = ["2025-03-26", "2025-06-18", "2025-11-25", MODERN];

pub struct World {
    url: String,
    inside: Option<(App, Running)>,
    process: Option<Process>,
    folder: PathBuf,
}

fn folder() -> PathBuf {
    std::env::temp_dir().join(format!("mcp-gateway-world-{}", uuid::Uuid::now_v7()))
}

/// A gateway on this data folder, as a process.
pub async fn process_on(folder: &Path, args: &[&str]) -> Process {
    Start::new(env!("CARGO_BIN_EXE_mcp-gateway"))
        .args(["serve", "--port=0"])
        .arg(format!("--data-dir={}", folder.display()))
        .args(roomy(args))
        .env("MREG_BOOTSTRAP_ADMIN_KEY", KEY)
        .ready("listening on")
        .start()
        .await
        .unwrap()
}

impl World {
    /// A gateway with settings that nobody changed.
    pub async fn start() -> Self {
        Self::with(&[]).await
    }

    /// A gateway with these settings.
    pub async fn with(args: &[&str]) -> Self {
        let folder = folder();
        let args = settings(&folder, KEY, args);
        let settings = Settings::from_args(args, &DotEnv::default()).unwrap();
        let (app, running) = serve::start(settings).await.unwrap();
        Self { url: running.url(), inside: Some((app, running)), process: None, folder }
    }

    /// A gateway that is a process.
    pub async fn process(args: &[&str]) -> Self {
        let folder = folder();
        let process = process_on(&folder, args).await;
        let url = process.url().unwrap().to_owned();
        Self { url, inside: None, process: Some(process), folder }
    }

    /// The parts of a gateway that runs inside the test.
    pub fn app(&self) -> &App {
        &self.inside.as_ref().expect("it is a process").0
    }

    /// The listener, to stop it. What is left serves no more.
    #[allow(dead_code, reason = "for tests of stopping")]
    pub fn take_running(&mut self) -> Running {
        self.inside.take().expect("it is a process").1
    }

    /// The process.
    pub fn the_process(&mut self) -> &mut Process {
        self.process.as_mut().expect("it runs inside the test")
    }

    pub fn url(&self) -> &str {
        &self.url
    }

    /// The administrator's client of a path; of the stateless era until it shakes hands.
    pub fn client(&self, path: &str) -> Client {
        self.client_of(path, KEY)
    }

    /// A client with this key.
    pub fn client_of(&self, path: &str, key: &str) -> Client {
        Client::new(&format!("{}{path}", self.url)).bearer(key)
    }

    /// The administrator's client of this version, hands shaken.
    pub async fn client_at(&self, path: &str, version: &str) -> Client {
        shake(self.client(path), version).await
    }

    /// The same with capabilities of a client that can be asked.
    pub async fn answering(&self, path: &str, version: &str) -> Client {
        shake(self.client(path).capabilities(json!({"elicitation": {}, "sampling": {}, "roots": {}})), version).await
    }

    /// One call of the REST API.
    pub async fn rest(&self, method: Method, path: &str, body: &Value) -> (u16, Value) {
        let body = if body.is_null() { String::new() } else { body.to_string() };
        let request = Request::new(method, body.into())
            .header("content-type", "application/json")
            .path(&format!("/api/v1{path}"));
        let reply = self.client("/").send(request).await.unwrap();
        let status = reply.status.as_u16();
        let text = reply.text().await.unwrap();
        (status, if text.is_empty() { Value::Null } else { serde_json::from_str(&text).unwrap() })
    }

    /// Registers what is described here; the answer is the server as it is read.
    #[track_caller]
    pub fn register_as<'a>(&'a self, spec: &'a Value) -> impl Future<Output = Value> + 'a {
        let place = std::panic::Location::caller();
        async move {
            let (status, server) = self.rest(Method::POST, "/servers", spec).await;
            assert_eq!(status, 201, "{server} at {place}");
            server
        }
    }

    /// Registers a server of Streamable HTTP.
    pub async fn register(&self, slug: &str, url: &str) -> Value {
        let server = self.register_as(&json!({"slug": slug, "replicas": [{"url": url}]})).await;
        assert_eq!(server["status"]["state"], "ready", "{server}");
        server
    }

    /// A server as it is read.
    pub async fn server(&self, slug: &str) -> Value {
        self.rest(Method::GET, &format!("/servers/{slug}"), &Value::Null).await.1
    }

    /// Waits until a server is in this state.
    pub async fn until_state(&self, slug: &str, state: &str) -> Value {
        until(|| async {
            let server = self.server(slug).await;
            (server["status"]["state"] == state).then_some(server)
        })
        .await
    }

    /// A user.
    pub async fn user(&self, name: &str) {
        let (status, user) = self.rest(Method::POST, "/users", &json!({"username": name})).await;
        assert_eq!(status, 201, "{user}");
    }

    /// Somebody of this role; a key that may do whatever the role may.
    pub async fn person(&self, name: &str, role: &str) -> String {
        let (status, user) = self.rest(Method::POST, "/users", &json!({"username": name, "role": role})).await;
        assert_eq!(status, 201, "{user}");
        let order = json!({"name": "all", "username": name, "role": role, "servers": "*"});
        let (status, made) = self.rest(Method::POST, "/keys", &order).await;
        assert_eq!(status, 201, "{made}");
        made["key"].as_str().unwrap().to_owned()
    }

    /// A key of a user, for these servers and tools.
    pub async fn key(&self, user: &str, servers: Value, tools: Value) -> String {
        let order = json!({"name": "a key", "username": user, "servers": servers, "tools": tools});
        let (status, made) = self.rest(Method::POST, "/keys", &order).await;
        assert_eq!(status, 201, "{made}");
        made["key"].as_str().unwrap().to_owned()
    }
}

impl Drop for World {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

/// Shakes hands where the version has a handshake.
pub async fn shake(client: Client, version: &str) -> Client {
    if version != MODERN {
        let said = client.initialize(version).await.unwrap();
        assert!(client.session().is_some(), "no session: {}", said.response);
    }
    client
}

/// Asks again until there is something; a test that waits for nothing fails.
pub async fn until<T, F: Future<Output = Option<T>>>(mut look: impl FnMut() -> F) -> T {
    let looking = async {
        loop {
            if let Some(found) = look().await {
                return found;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(DEADLINE, looking).await.expect("it never came to be")
}

/// Waits for what must come within the deadline.
pub async fn within<T>(what: impl Future<Output = T>) -> T {
    tokio::time::timeout(DEADLINE, what).await.expect("nothing happened within the deadline")
}

/// The names in a list.
pub fn names(list: &Outcome, member: &str) -> Vec<String> {
    let items = list.result()[member].as_array().unwrap_or_else(|| panic!("no {member}: {}", list.response));
    items.iter().map(|item| item["name"].as_str().unwrap().to_owned()).collect()
}

/// Where the server that speaks over standard input and output is.
pub fn stdio_server() -> PathBuf {
    testkit::process::binary("stdio_server").unwrap()
}
