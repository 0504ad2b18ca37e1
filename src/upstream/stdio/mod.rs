//! Servers that are child processes, newline-delimited JSON on their standard streams.
//!
//! `pool` keeps at most one child for each key and restarts it; `child` is one running program behind its guard
//! (`cli::guard`); `lines` frames; `stderr` keeps what the program says beside the protocol. Nothing here knows MCP: the
//! handshake is a closure of the caller.

pub mod child;
pub mod guarding;
mod lines;
pub mod orphans;
pub mod pool;
mod stderr;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

pub use self::pool::{Hold, Key, Link, Phase, Pool, Status};
use super::mux;
use crate::secret::Secret;

/// Variables of the gateway's own environment that a child gets beside those declared for it.
pub const INHERITED: [&str; 7] = ["HOME", "LOGNAME", "PATH", "SHELL", "TERM", "USER", "LANG"];

/// A program to start.
#[derive(Debug, Clone)]
pub struct Launch {
    /// Program, looked up in the child's `PATH` when it holds no slash.
    pub program: String,
    /// Its arguments, passed as they are.
    pub args: Vec<String>,
    /// Working directory; the gateway's own when absent.
    pub cwd: Option<PathBuf>,
    /// Declared environment; with [`INHERITED`] all that the child gets.
    pub env: BTreeMap<String, Secret>,
    /// The server's name in logs.
    pub name: Arc<str>,
}

/// What all children have in common.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The binary that is started as guard.
    pub guard: PathBuf,
    /// Children at one time, those still stopping included.
    pub max_children: usize,
    /// Children of one server at one time.
    pub max_per_server: usize,
    /// A child without calls for this long is stopped.
    pub idle_after: Duration,
    /// A child that has not finished its handshake by then has failed to start.
    pub start_timeout: Duration,
    /// How long a child has to end after its input was closed, before it is sent SIGTERM (and 3 s later SIGKILL).
    pub close_grace: Duration,
    /// Pause before the first restart after a failure; doubles with each further one.
    pub backoff_first: Duration,
    /// Longest pause before a restart.
    pub backoff_most: Duration,
    /// Longest line a child may write to its output, in bytes.
    pub line_bytes: usize,
    /// What each child's mux may hold.
    pub mux: mux::Limits,
}

impl Default for Settings {
    /// The guard is the running binary itself.
    fn default() -> Self {
        Self {
            // The path of the link, not its target: it still works after the file was replaced by a newer version.
            guard: PathBuf::from("/proc/self/exe"),
            max_children: 256,
            max_per_server: 64,
            idle_after: Duration::from_mins(10),
            start_timeout: Duration::from_mins(1),
            close_grace: Duration::from_secs(2),
            backoff_first: Duration::from_millis(500),
            backoff_most: Duration::from_secs(30),
            line_bytes: 64 << 20,
            mux: mux::Limits::default(),
        }
    }
}
