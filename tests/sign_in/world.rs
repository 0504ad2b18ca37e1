//! A gateway on a free port, a person with an account, and words for what clients do with it.

use std::path::PathBuf;

use http::{HeaderMap, Method};
use mcp_registry_gateway::app::App;
use mcp_registry_gateway::config::{DotEnv, Settings};
use mcp_registry_gateway::grants::{CodeTerms, Order, ScopeSet, challenge_of};
use mcp_registry_gateway::id::TenantId;
use mcp_registry_gateway::serve::{self, Running};
use mcp_registry_gateway::store::now;
use serde_json::{Value, json};
use testkit::client::{Client, Request};
use url::form_urlencoded::Serializer;
use uuid::Uuid;

/// The administrator's key.
pub const KEY: &str = "mcpg_91d5a0c27be34f8f9b6e1c8d7a2403f5be17c90d4a6f8e2253b7d1096ac4ef80";
pub const REDIRECT: &str = "http://127.0.0.1:7777/callback";
pub const VERIFIER: &str = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk";

pub struct World {
    pub app: App,
    pub url: String,
    _running: Running,
    folder: PathBuf,
    pub user: Uuid,
    pub client: String,
}

#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: HeaderMap,
    pub text: String,
}

impl Answer {
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|error| panic!("{error}: {}", self.text))
    }

    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    #[track_caller]
    pub fn expect(self, status: u16) -> Self {
        assert_eq!(self.status, status, "{}", self.text);
        self
    }

    /// Status and error code.
    pub fn error(&self) -> (u16, String) {
        (self.status, self.json()["error"].as_str().unwrap_or_default().to_owned())
    }
}

impl World {
    pub async fn start() -> Self {
        Self::with(&[]).await
    }

    /// A gateway with these settings, an account `ada` and a public client that registered itself.
    pub async fn with(args: &[&str]) -> Self {
        let folder = std::env::temp_dir().join(format!("mcp-gateway-sign-in-{}", Uuid::now_v7()));
        let own =
            ["--port=0".into(), format!("--data-dir={}", folder.display()), format!("--bootstrap-admin-key={KEY}")];
        let args: Vec<String> = own.into_iter().chain(args.iter().map(|arg| (*arg).to_owned())).collect();
        let (app, running) = serve::start(Settings::from_args(args, &DotEnv::default()).unwrap()).await.unwrap();
        let url = running.url();
        let mut world = Self { app, url, _running: running, folder, user: Uuid::nil(), client: String::new() };
        let made = world.rest("POST", "/users", json!({"username": "ada", "role": "tenant_admin"})).await.expect(201);
        world.user = made.json()["id"].as_str().unwrap().parse().unwrap();
        if world.app.clients.dynamic().is_offered() {
            let made = world.register(&json!({"redirect_uris": [REDIRECT], "client_name": "A client"}), &[]).await;
            made.json()["client_id"].as_str().unwrap_or_default().clone_into(&mut world.client);
        }
        world
    }

    pub async fn send(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> Answer {
        let method: Method = method.parse().unwrap();
        let request =
            headers.iter().fold(Request::new(method, body.to_owned().into()).path(path), |request, (name, value)| {
                request.header(name, value)
            });
        let reply = Client::new(&self.url).send(request).await.unwrap();
        let (status, headers) = (reply.status.as_u16(), reply.headers.clone());
        Answer { status, headers, text: reply.text().await.unwrap() }
    }

    pub async fn get(&self, path: &str, token: &str) -> Answer {
        let bearer = format!("Bearer {token}");
        self.send("GET", path, &[("authorization", bearer.as_str())], "").await
    }

    /// One call of the REST API by the administrator.
    pub async fn rest(&self, method: &str, path: &str, body: Value) -> Answer {
        let bearer = format!("Bearer {KEY}");
        let headers = [("authorization", bearer.as_str()), ("content-type", "application/json")];
        self.send(method, &format!("/api/v1{path}"), &headers, &body.to_string()).await
    }

    pub async fn register(&self, metadata: &Value, headers: &[(&str, &str)]) -> Answer {
        let headers = [&[("content-type", "application/json")], headers].concat();
        self.send("POST", "/oauth/register", &headers, &metadata.to_string()).await
    }

    pub async fn form(&self, path: &str, headers: &[(&str, &str)], fields: &[(&str, &str)]) -> Answer {
        let body = Serializer::new(String::new()).extend_pairs(fields).finish();
        let headers = [&[("content-type", "application/x-www-form-urlencoded")], headers].concat();
        self.send("POST", path, &headers, &body).await
    }

    /// What the token endpoint answers to these fields.
    pub async fn token(&self, fields: &[(&str, &str)]) -> Answer {
        self.form("/oauth/token", &[], fields).await
    }

    pub fn uri(&self, path: &str) -> String {
        format!("{}{path}", self.url)
    }

    /// A code of `ada` for the client, for the resource at this path.
    pub async fn code(&self, path: &str, scopes: &str) -> String {
        let order = Order {
            tenant: TenantId::default_tenant(),
            user: self.user,
            client_id: self.client.clone(),
            client_name: Some("A client".to_owned()),
            resource: self.uri(path),
            scopes: ScopeSet::parse(scopes).unwrap(),
            login_method: "local".to_owned(),
            login: None,
        };
        let terms = CodeTerms { redirect_uri: REDIRECT.to_owned(), code_challenge: challenge_of(VERIFIER) };
        self.app.grants.grant(&order, &terms, now()).await.unwrap().code.expose().to_owned()
    }

    /// What the client gets for a code.
    pub async fn redeem(&self, code: &str) -> Answer {
        let fields = [
            ("grant_type", "authorization_code"),
            ("code", code),
            ("code_verifier", VERIFIER),
            ("redirect_uri", REDIRECT),
            ("client_id", &self.client),
        ];
        self.token(&fields).await
    }

    /// Tokens of `ada`: access and refresh.
    pub async fn tokens(&self, path: &str, scopes: &str) -> (String, String) {
        let given = self.redeem(&self.code(path, scopes).await).await.expect(200).json();
        let text = |name: &str| given[name].as_str().unwrap_or_default().to_owned();
        (text("access_token"), text("refresh_token"))
    }

    pub async fn refresh(&self, token: &str, more: &[(&str, &str)]) -> Answer {
        let own = [("grant_type", "refresh_token"), ("refresh_token", token), ("client_id", self.client.as_str())];
        self.token(&[&own, more].concat()).await
    }

    /// A service that an administrator registers with these scopes; its secret.
    pub async fn service(&self, id: &str, scopes: &[&str]) -> String {
        let order = json!({"client_id": id, "name": id, "kind": "service", "scopes": scopes});
        let made = self.rest("POST", "/oauth-clients", order).await.expect(201);
        made.json()["client_secret"].as_str().unwrap().to_owned()
    }

    pub async fn metrics(&self) -> String {
        self.send("GET", "/metrics", &[], "").await.expect(200).text
    }
}

impl Drop for World {
    fn drop(&mut self) {
        _ = std::fs::remove_dir_all(&self.folder);
    }
}
