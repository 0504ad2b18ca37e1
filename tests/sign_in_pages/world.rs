//! A gateway inside the test with two local accounts, a client that registered itself, and a browser that stops at its address.

use std::net::{IpAddr, Ipv4Addr};

use http::Method;
use mcp_registry_gateway::app::App;
use mcp_registry_gateway::config::{DotEnv, Settings};
use mcp_registry_gateway::grants::{Possession, Redemption, Tokens, TraceFilter};
use mcp_registry_gateway::secret::Secret;
use mcp_registry_gateway::serve::{self, Running};
use mcp_registry_gateway::store::now;
use serde_json::{Value, json};
use testkit::browser::{Browser, Page};
use testkit::client::{Client, Request};
use testkit::settings::settings;
use testkit::sign_in;
pub use testkit::sign_in::VERIFIER;

/// The administrator's key.
pub const KEY: &str = "mcpg_3f9ad17c5be240c8b8a2d9e07f4116c35d8a90be6f17c24d05be93a1c7f2608d";
pub const PASSWORD: &str = "a long pass phrase";
/// Registered with another port than it is asked with.
pub const REDIRECT: &str = "http://127.0.0.1:7777/callback";

pub struct World {
    pub app: App,
    pub running: Running,
    pub client_id: String,
}

/// A person's browser, which stops where the client would take over.
pub fn new_browser() -> Browser {
    Browser::new().stop_at(REDIRECT)
}

impl World {
    pub async fn new() -> Self {
        Self::with(&[]).await
    }

    pub async fn with(args: &[&str]) -> Self {
        let folder = std::env::temp_dir().join(format!("mcp-gateway-pages-{}", uuid::Uuid::now_v7()));
        let args = settings(&folder, KEY, args);
        let (app, running) = serve::start(Settings::from_args(args, &DotEnv::default()).unwrap()).await.unwrap();
        let mut world = Self { app, running, client_id: String::new() };
        world.client_id = world.register("Editor", &["http://127.0.0.1/callback"]);
        world.rest(Method::POST, "/users", &json!({ "username": "ada", "password": PASSWORD })).await;
        world
    }

    /// A client that registers itself.
    pub fn register(&self, name: &str, redirect_uris: &[&str]) -> String {
        let body = json!({
            "client_name": name, "redirect_uris": redirect_uris, "token_endpoint_auth_method": "none",
            "grant_types": ["authorization_code", "refresh_token"],
        });
        let source = IpAddr::V4(Ipv4Addr::LOCALHOST);
        let made = self.app.clients.dynamic().register(body.to_string().as_bytes(), None, source, now());
        let made = serde_json::to_value(made.unwrap()).unwrap();
        made["client_id"].as_str().unwrap().to_owned()
    }

    /// One call of the REST API, which must go well.
    pub async fn rest(&self, method: Method, path: &str, body: &Value) -> Value {
        let request = Request::new(method, body.to_string().into())
            .header("content-type", "application/json")
            .path(&format!("/api/v1{path}"));
        let reply = Client::new(&self.running.url()).bearer(KEY).send(request).await.unwrap();
        let status = reply.status;
        let text = reply.text().await.unwrap();
        assert!(status.is_success(), "{status}: {text}");
        if text.is_empty() { Value::Null } else { serde_json::from_str(&text).unwrap() }
    }

    pub fn url(&self, path: &str) -> String {
        format!("{}{path}", self.app.issuer)
    }

    /// The address to which a client sends a browser; `changes` put in, take the place of, or with an empty text take away.
    pub fn authorize(&self, changes: &[(&str, &str)]) -> String {
        sign_in::authorize(&self.url(""), &self.client_id, REDIRECT, changes).unwrap()
    }

    /// Agrees and signs in with ada's password.
    pub async fn sign_in(&self, browser: &mut Browser, consent: &Page) -> Page {
        sign_in::with_password(browser, consent, "ada", PASSWORD).await.unwrap()
    }

    /// A browser that is signed in at "my access".
    pub async fn signed_in(&self) -> (Browser, Page) {
        let mut browser = new_browser();
        let page = browser.open(&self.url("/access")).await.unwrap();
        let page = browser.submit(&page, "username", &[("username", "ada"), ("password", PASSWORD)]).await.unwrap();
        assert!(page.url.path() == "/access" && page.text().contains("My access"), "{}", page.text());
        (browser, page)
    }

    /// Exchanges the code at the end of a way.
    pub async fn redeem(&self, client_id: &str, page: &Page) -> Tokens {
        let code = page.param("code").unwrap_or_else(|| panic!("no code at {}", page.url));
        let shown = Redemption {
            code: Secret::new(code),
            client_id: client_id.to_owned(),
            redirect_uri: None,
            redirects: None,
            verifier: Secret::new(VERIFIER),
            resource: None,
            possession: Possession::default(),
        };
        self.app.grants.redeem(&shown, now()).await.unwrap()
    }

    /// The steps of the attempt that was last noted: `name` for what went well, `!name` for what did not.
    pub async fn steps(&self) -> String {
        let traces = self.app.grants.traces(TraceFilter::default(), None, 1).await.unwrap();
        let steps = traces[0].steps.iter().map(|step| format!("{}{}", if step.ok { "" } else { "!" }, step.name));
        format!("{} → {}", steps.collect::<Vec<_>>().join(" "), traces[0].outcome)
    }

    pub async fn metrics(&self) -> String {
        let request = Request::new(Method::GET, "".into()).path("/metrics");
        Client::new(&self.running.url()).send(request).await.unwrap().text().await.unwrap()
    }
}
