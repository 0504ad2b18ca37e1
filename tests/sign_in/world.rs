//! A gateway inside the test on a free port, a person with an account, and codes that this person allowed.

use std::ops::Deref;
use std::path::PathBuf;

use mcp_registry_gateway::app::App;
use mcp_registry_gateway::config::{DotEnv, Settings};
use mcp_registry_gateway::grants::{CodeTerms, Order, ScopeSet, challenge_of};
use mcp_registry_gateway::id::TenantId;
use mcp_registry_gateway::serve::{self, Running};
use mcp_registry_gateway::store::now;
use serde_json::json;
use testkit::settings::settings;
pub use testkit::sign_in::VERIFIER;
use uuid::Uuid;

pub use crate::door::{Answer, Door, KEY, PASSWORD, REDIRECT, browser};

pub struct World {
    pub app: App,
    door: Door,
    _running: Running,
    folder: PathBuf,
    pub user: Uuid,
}

impl World {
    pub async fn start() -> Self {
        Self::with(&[]).await
    }

    /// A gateway with these settings, an account `ada` and a public client that registered itself.
    pub async fn with(args: &[&str]) -> Self {
        let folder = std::env::temp_dir().join(format!("mcp-gateway-sign-in-{}", Uuid::now_v7()));
        let args = settings(&folder, KEY, args);
        let (app, running) = serve::start(Settings::from_args(args, &DotEnv::default()).unwrap()).await.unwrap();
        let door = Door::at(running.url());
        let mut world = Self { app, door, _running: running, folder, user: Uuid::nil() };
        world.user = world.ada().await;
        if world.app.clients.dynamic().is_offered() {
            let made = world.register(&json!({"redirect_uris": [REDIRECT], "client_name": "A client"}), &[]).await;
            made.json()["client_id"].as_str().unwrap_or_default().clone_into(&mut world.door.client);
        }
        world
    }

    /// A code of `ada` for the client, for the resource at this path.
    pub async fn code(&self, path: &str, scopes: &str) -> String {
        self.code_of(&self.client, path, scopes).await
    }

    /// The same for another client.
    pub async fn code_of(&self, client: &str, path: &str, scopes: &str) -> String {
        let order = Order {
            tenant: TenantId::default_tenant(),
            user: self.user,
            client_id: client.to_owned(),
            client_name: Some("A client".to_owned()),
            resource: self.uri(path),
            scopes: ScopeSet::parse(scopes).unwrap(),
            login_method: "local".to_owned(),
            login: None,
        };
        let terms = CodeTerms {
            redirect_uri: REDIRECT.to_owned(),
            code_challenge: challenge_of(VERIFIER),
            key: None,
            trace: None,
        };
        self.app.grants.grant(&order, &terms, now()).await.unwrap().code.expose().to_owned()
    }

    /// Tokens of `ada`: access and refresh.
    pub async fn tokens(&self, path: &str, scopes: &str) -> (String, String) {
        let given = self.redeem(&self.code(path, scopes).await).await.expect(200).json();
        let text = |name: &str| given[name].as_str().unwrap_or_default().to_owned();
        (text("access_token"), text("refresh_token"))
    }
}

impl Deref for World {
    type Target = Door;

    fn deref(&self) -> &Door {
        &self.door
    }
}

impl Drop for World {
    fn drop(&mut self) {
        _ = std::fs::remove_dir_all(&self.folder);
    }
}
