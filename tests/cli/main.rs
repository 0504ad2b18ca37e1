//! The command line as people and scripts run it: the binary itself, against a stand-in, against a real gateway, and as the
//! gateway.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test stops with a message")]
#![allow(missing_docs, reason = "a test binary")]

mod audit;
mod bans;
mod clients;
mod commands;
mod demo;
mod people;
mod policies;
mod real;
mod reports;
mod sealing_keys;
mod shell;
mod sign_ins;
mod stand_in;
mod start;
mod tenants;
mod top;
mod trust;

use std::path::Path;

use serde_json::Value;
use testkit::command::{self, Ran};

const BINARY: &str = env!("CARGO_BIN_EXE_mcp-gateway");

/// Runs the binary in `folder`, with nothing in its environment but what is given.
pub async fn run(folder: &Path, args: &[&str], env: &[(&str, &str)], input: &str) -> Ran {
    command::run(BINARY, folder, args, env.iter().copied(), input).await.unwrap()
}

/// A folder of a test's own, gone with it.
pub struct Folder(std::path::PathBuf);

impl Default for Folder {
    fn default() -> Self {
        let folder = std::env::temp_dir().join(format!("mcp-gateway-cli-{}", uuid::Uuid::now_v7()));
        std::fs::create_dir(&folder).unwrap();
        Self(folder)
    }
}

impl Folder {
    pub fn write(&self, name: &str, text: &str) {
        std::fs::write(self.0.join(name), text).unwrap();
    }

    pub fn read(&self, name: &str) -> Value {
        serde_json::from_slice(&std::fs::read(self.0.join(name)).unwrap()).unwrap()
    }
}

impl std::ops::Deref for Folder {
    type Target = Path;

    fn deref(&self) -> &Path {
        &self.0
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        std::fs::remove_dir_all(&self.0).ok();
    }
}
