//! The gateway under load, and what is asked of it.

use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, bail};
use http::Method;
use serde_json::{Value, json};
use testkit::client::{Client, Request};
use testkit::process::{Process, Start};
use testkit::settings::roomy;

use crate::provider::{CLIENT, Provider, SECRET};

/// The administrator's key.
const KEY: &str = "mcpg_5b1f0c92ae7d4d638f24c1e09a7be35dd8306fa1c94e72b85f60d1ab37ce9284";
/// Where the client's answers go; nobody listens.
pub const REDIRECT: &str = "http://127.0.0.1:7777/callback";

/// See the module.
pub struct Gateway {
    program: PathBuf,
    folder: PathBuf,
    provider: String,
    port: u16,
    process: Process,
}

impl Gateway {
    /// Starts one with an empty folder behind which `provider` stands.
    pub async fn start(program: PathBuf, folder: PathBuf, provider: &Provider) -> anyhow::Result<Self> {
        let port = testkit::process::free_port()?;
        let process = start(&program, &folder, &provider.url, port).await?;
        Ok(Self { program, folder, provider: provider.url.clone(), port, process })
    }

    /// Starts it anew, over what it has stored.
    pub async fn restart(&mut self) -> anyhow::Result<()> {
        self.process.stop(Duration::from_secs(30)).await?;
        self.process = start(&self.program, &self.folder, &self.provider, self.port).await?;
        Ok(())
    }

    /// Its address.
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// Its resident memory, bytes.
    pub fn rss(&self) -> anyhow::Result<u64> {
        self.process.rss()
    }

    /// One call of the REST API that goes well.
    pub async fn rest(&self, path: &str, body: &Value) -> anyhow::Result<Value> {
        let request = Request::new(Method::POST, body.to_string().into())
            .header("content-type", "application/json")
            .path(&format!("/api/v1{path}"));
        let reply = Client::new(&self.url()).bearer(KEY).send(request).await?;
        let status = reply.status;
        let text = reply.text().await?;
        if !status.is_success() {
            bail!("{path}: {status}: {text}");
        }
        Ok(serde_json::from_str(&text)?)
    }

    /// Registers a service; its secret.
    pub async fn service(&self, id: &str) -> anyhow::Result<String> {
        let order = json!({ "client_id": id, "name": id, "kind": "service", "scopes": ["mcp"] });
        let made = self.rest("/oauth-clients", &order).await?;
        made["client_secret"].as_str().map(str::to_owned).context("no secret")
    }
}

async fn start(program: &Path, folder: &Path, provider: &str, port: u16) -> anyhow::Result<Process> {
    Start::new(program)
        .args(["serve", "--log=error", "--oidc-role-user=*"])
        .args(roomy(&[""; 0]))
        .arg(format!("--port={port}"))
        .arg(format!("--data-dir={}", folder.display()))
        .arg(format!("--oidc-issuer={provider}"))
        .arg(format!("--oidc-client-id={CLIENT}"))
        .env("MREG_OIDC_CLIENT_SECRET", SECRET)
        .env("MREG_BOOTSTRAP_ADMIN_KEY", KEY)
        .ready("listening on")
        .start()
        .await
}

/// The address of the machine of that number: many sit behind as many addresses of loopback.
pub fn address(number: usize) -> IpAddr {
    let [_, high, middle, low] = u32::try_from(number).unwrap_or(u32::MAX).to_be_bytes();
    IpAddr::V4(Ipv4Addr::new(127, 1 + high % 100, middle, low.max(1)))
}
