//! The command line as people and scripts run it: the binary itself, against a stand-in, against a real gateway, and as the
//! gateway.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test stops with a message")]
#![allow(missing_docs, reason = "a test binary")]

mod clients;
mod commands;
mod demo;
mod people;
mod real;
mod shell;
mod stand_in;
mod start;

use std::path::Path;
use std::process::Stdio;

use serde_json::Value;
use tokio::io::AsyncWriteExt;

const BINARY: &str = env!("CARGO_BIN_EXE_mcp-gateway");

/// What a command came to.
pub struct Ran {
    pub code: i32,
    pub out: String,
    pub err: String,
}

impl Ran {
    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.out).unwrap_or_else(|error| panic!("{error}: {}\n{}", self.out, self.err))
    }

    /// The same, if its exit code is this one.
    #[track_caller]
    #[allow(clippy::return_self_not_must_use, reason = "it is for what it checks")]
    pub fn expect(self, code: i32) -> Self {
        assert_eq!(self.code, code, "{}\n{}", self.out, self.err);
        self
    }
}

/// Runs the binary in `folder`, with nothing in its environment but what is given.
pub async fn run(folder: &Path, args: &[&str], env: &[(&str, &str)], input: &str) -> Ran {
    let mut child = tokio::process::Command::new(BINARY)
        .args(args)
        .env_clear()
        .env("PATH", "/usr/bin:/bin")
        .envs(env.iter().copied())
        .current_dir(folder)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    // A command that does not read its input may be gone already.
    stdin.write_all(input.as_bytes()).await.ok();
    drop(stdin);
    let output = child.wait_with_output().await.unwrap();
    Ran {
        code: output.status.code().unwrap(),
        out: String::from_utf8(output.stdout).unwrap(),
        err: String::from_utf8(output.stderr).unwrap(),
    }
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
