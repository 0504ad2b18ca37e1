//! A command that is run to its end: what it printed and the code it ended with. Processes that go on running, and are watched
//! while they do, are [`crate::process`].

use std::{ffi::OsStr, path::Path, process::Stdio};

use anyhow::Context as _;
use serde_json::Value;
use tokio::{io::AsyncWriteExt as _, process::Command};

/// How long a command may take. Nothing in a test should take near as long.
const PATIENCE: std::time::Duration = std::time::Duration::from_mins(1);

/// What a command came to.
#[derive(Clone, Debug)]
pub struct Ran {
    /// The code it ended with.
    pub code: i32,
    /// Standard output.
    pub out: String,
    /// Standard error.
    pub err: String,
}

impl Ran {
    /// Standard output as JSON.
    ///
    /// # Panics
    /// When it is none.
    #[track_caller]
    #[expect(clippy::panic, reason = "a test stops with a message")]
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.out).unwrap_or_else(|error| panic!("{error}: {}\n{}", self.out, self.err))
    }

    /// The same, if its exit code is this one.
    ///
    /// # Panics
    /// When it is another.
    #[track_caller]
    #[expect(clippy::return_self_not_must_use, reason = "it is for what it checks")]
    pub fn expect(self, code: i32) -> Self {
        assert_eq!(self.code, code, "{}\n{}", self.out, self.err);
        self
    }
}

/// Runs `program` in `folder`, with nothing in its environment but `PATH` and what is given, and `input` on its standard input.
/// An error when it cannot be run, is killed, prints what is no text, or takes longer than a minute.
pub async fn run<K: AsRef<OsStr>, V: AsRef<OsStr>>(
    program: &str,
    folder: &Path,
    args: &[&str],
    env: impl IntoIterator<Item = (K, V)>,
    input: &str,
) -> anyhow::Result<Ran> {
    let mut child = Command::new(program)
        .args(args)
        .env_clear()
        .env("PATH", "/usr/bin:/bin")
        .envs(env)
        .current_dir(folder)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()?;
    let mut stdin = child.stdin.take().context("standard input")?;
    let ended = async {
        // A command that does not read its input may be gone already.
        stdin.write_all(input.as_bytes()).await.ok();
        drop(stdin);
        child.wait_with_output().await
    };
    let output = tokio::time::timeout(PATIENCE, ended).await.with_context(|| format!("{args:?} does not end"))??;
    Ok(Ran {
        code: output.status.code().with_context(|| format!("{args:?} was killed"))?,
        out: String::from_utf8(output.stdout)?,
        err: String::from_utf8(output.stderr)?,
    })
}
