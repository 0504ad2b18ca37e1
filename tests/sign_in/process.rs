//! The gateway as a process of its own, as operators run it.

use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::time::Duration;

use mcp_registry_gateway::store::Store;
use mcp_registry_gateway::store::traces::TraceSelection;
use testkit::process::{Process, Start};
use uuid::Uuid;

use crate::door::{Door, KEY, browser};

pub const BINARY: &str = env!("CARGO_BIN_EXE_mcp-gateway");

/// The running binary, its outputs in files, and its door.
pub struct Gateway {
    pub process: Process,
    pub door: Door,
    /// With the outputs in it, and the data in `data`.
    pub folder: PathBuf,
}

impl Gateway {
    /// Starts it, with these arguments, and secrets in variables as they should be.
    pub async fn start(args: &[&str], secrets: &[(&str, &str)]) -> Self {
        Self::start_at(0, args, secrets).await
    }

    /// The same on this port.
    pub async fn start_at(port: u16, args: &[&str], secrets: &[(&str, &str)]) -> Self {
        let folder = std::env::temp_dir().join(format!("mcp-gateway-process-{}", Uuid::now_v7()));
        std::fs::create_dir(&folder).unwrap();
        let process = launch(&folder, port, args, secrets).await;
        let url = process.url().unwrap().trim_end_matches('/').trim_end_matches("/mcp").to_owned();
        Self { door: Door::at(url), process, folder }
    }

    /// Kills it, and starts it anew where it was.
    pub async fn kill_and_start(&mut self, args: &[&str], secrets: &[(&str, &str)]) {
        self.process.kill_and_wait().await.unwrap();
        let port = url::Url::parse(&self.door.url).unwrap().port().unwrap();
        self.process = launch(&self.folder, port, args, secrets).await;
    }

    /// What lies in the data folder, names and contents, but for the two files that are there to keep a key: the one that seals,
    /// and the command line's.
    pub fn data(&self) -> Vec<(String, Vec<u8>)> {
        let files = std::fs::read_dir(self.folder.join("data")).unwrap().map(|entry| entry.unwrap());
        let named = files.map(|entry| (entry.file_name().into_string().unwrap(), entry.path()));
        let kept = named.filter(|(name, path)| !["master.key", "cli.json"].contains(&name.as_str()) && path.is_file());
        kept.map(|(name, path)| (name, std::fs::read(path).unwrap())).collect()
    }

    /// Asks it to end and waits until it has.
    pub async fn stop(&mut self) {
        assert!(self.process.stop(Duration::from_secs(20)).await.unwrap().success(), "{}", self.process.said());
        // Nothing says this: the wait is over when both outputs are read to their end.
        assert_eq!(self.process.line("\0").await, None);
    }
}

async fn launch(folder: &Path, port: u16, args: &[&str], secrets: &[(&str, &str)]) -> Process {
    let port = format!("--port={port}");
    let start = Start::new(BINARY).args(["serve", &port, "--data-dir=data"]).args(args).folder(folder);
    let start = secrets.iter().fold(start, |start, (name, value)| start.env(name, value));
    let start = start.env("MREG_BOOTSTRAP_ADMIN_KEY", KEY).copies_in(folder).ready("listening on");
    start.start().await.unwrap()
}

impl Deref for Gateway {
    type Target = Door;

    fn deref(&self) -> &Door {
        &self.door
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        self.process.kill();
        _ = std::fs::remove_dir_all(&self.folder);
    }
}

#[tokio::test]
async fn what_was_noted_of_a_sign_in_a_moment_before_the_end_is_written() {
    let mut gateway = Gateway::start(&[], &[]).await;
    let page = browser().open(&gateway.authorize(&[("client_id", "nobody")])).await.unwrap();
    assert_eq!(page.status.as_u16(), 400);
    gateway.stop().await;
    let file = gateway.folder.join("data").join("gateway.sqlite");
    let store = Store::connect(&format!("sqlite://{}", file.display()), 1).await.unwrap();
    let traces = store.traces(TraceSelection::default(), 10).await.unwrap();
    assert_eq!(traces.iter().map(|trace| trace.outcome.as_str()).collect::<Vec<_>>(), ["failure"]);
    store.close().await;
}
