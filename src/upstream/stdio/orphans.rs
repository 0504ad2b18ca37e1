//! What a guard leaves behind that was killed before it could sweep. The gateway makes itself the reaper of all descendants, as
//! guards do: those of a guard that is gone become its own children, and are ended here. It may have other children, which it
//! never made: whoever started it can have left it some. What was there before the first guard, or before this one, is let be.

use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, WaitOptions};
use tracing::warn;

use super::guarding::VERB;

/// From one look to the next.
const PAUSE: Duration = Duration::from_millis(20);
/// One that cannot be killed (another user's, or stuck in the kernel) is given up after this.
const PATIENCE: Duration = Duration::from_secs(10);
/// The field of `/proc/PID/stat` that names the parent, counted from behind the name (`proc(5)`: 4).
const PARENT: usize = 1;
/// The one that says when the process began, in ticks of the clock since the machine did (`proc(5)`: 22).
const BEGAN: usize = 19;

/// Has what a guard may leave behind become this process's own.
pub fn adopt() -> rustix::io::Result<()> {
    rustix::process::set_child_subreaper(Some(rustix::process::getpid()))
}

/// What one guard may leave behind.
#[derive(Debug)]
pub(super) struct Remains {
    /// What was started as guard.
    binary: PathBuf,
    /// When the guard began, as the kernel counts; what it leaves behind cannot have begun before.
    since: u64,
    /// Children of this process that were there before the first guard.
    strangers: Arc<[Pid]>,
    /// Killed and not yet reaped. Kept from one sweep to the next, for a sweep may be dropped.
    killed: Vec<Pid>,
}

impl Remains {
    /// Of the guard `pid`, which was started just now and is not reaped.
    pub(super) fn of(binary: PathBuf, pid: u32, strangers: Arc<[Pid]>) -> Self {
        let stat = std::fs::read(format!("/proc/{pid}/stat")).unwrap_or_default();
        // Without /proc there is nothing to sweep either.
        let since = field(&stat, BEGAN).unwrap_or(u64::MAX);
        Self { binary, since, strangers, killed: Vec::new() }
    }

    /// Kills and reaps the children of this process that are no guards and may come from this one, until none is left. May be
    /// dropped and called again.
    pub(super) async fn sweep(&mut self) {
        let (start, own) = (Instant::now(), std::fs::read("/proc/self/cmdline").unwrap_or_default());
        let mut before = Vec::new();
        loop {
            // Whatever they are called now. Before the others are looked for: those of one that has ended are then among them.
            self.killed.retain(|pid| matches!(rustix::process::waitpid(Some(*pid), WaitOptions::NOHANG), Ok(None)));
            let now: Vec<Pid> = children().into_iter().filter(|pid| self.is_orphan(*pid, &own)).collect();
            if now.is_empty() && self.killed.is_empty() {
                return;
            }
            // Seen twice: a guard that is just being started looks like something else for a moment.
            for pid in now.iter().filter(|pid| before.contains(*pid)) {
                let _ = rustix::process::kill_process(*pid, Signal::KILL);
                if !self.killed.contains(pid) {
                    self.killed.push(*pid);
                }
            }
            if start.elapsed() > PATIENCE {
                let killed = &self.killed;
                warn!(target: "mcp.upstream", pids = ?now, ?killed, "processes of a server whose guard is gone do not end");
                return;
            }
            before = now;
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// Whether this child may come from the guard, and is neither a guard itself nor one that is not yet what it is going to be.
    fn is_orphan(&self, pid: Pid, own: &[u8]) -> bool {
        let read = |name: &str| std::fs::read(format!("/proc/{}/{name}", pid.as_raw_nonzero())).unwrap_or_default();
        if self.strangers.contains(&pid) || field(&read("stat"), BEGAN).is_none_or(|began: u64| began < self.since) {
            return false;
        }
        let line = read("cmdline");
        if line.is_empty() {
            // It has ended; only its name is left, of which the kernel keeps 15 bytes.
            let name = self.binary.file_name().unwrap_or_default().as_encoded_bytes();
            return read("comm").trim_ascii_end() != &name[..name.len().min(15)];
        }
        line != own && line.split(|byte| *byte == 0).nth(1) != Some(VERB.as_bytes())
    }
}

/// Processes whose parent is this one.
pub fn children() -> Vec<Pid> {
    let myself = rustix::process::getpid().as_raw_nonzero().get();
    let Ok(entries) = std::fs::read_dir("/proc") else { return Vec::new() };
    entries
        .filter_map(|entry| {
            let pid: i32 = entry.ok()?.file_name().to_str()?.parse().ok()?;
            let stat = std::fs::read(format!("/proc/{pid}/stat")).ok()?;
            (field::<i32>(&stat, PARENT)? == myself).then(|| Pid::from_raw(pid)).flatten()
        })
        .collect()
}

/// A field in a line of `/proc/PID/stat`, counted from behind the name, which is in parentheses and may hold anything.
fn field<T: FromStr>(stat: &[u8], number: usize) -> Option<T> {
    let close = stat.iter().rposition(|byte| *byte == b')')?;
    std::str::from_utf8(&stat[close + 1..]).ok()?.split_ascii_whitespace().nth(number)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::{BEGAN, PARENT, field};

    #[test]
    fn the_parent_is_read_whatever_the_name_holds() {
        let parent = |stat: &[u8]| field::<i32>(stat, PARENT);
        assert_eq!(parent(b"12 (sh) S 7 12 12 0"), Some(7));
        assert_eq!(parent(b"12 (a) S 1 (b) ) R 8 12"), Some(8));
        assert_eq!(parent(b"12 (\xff) R 8 12"), Some(8));
        assert_eq!(parent(b""), None);
    }

    #[test]
    fn the_beginning_is_read_from_where_the_kernel_writes_it() {
        let stat = b"12 (sh) S 7 12 12 0 -1 4194560 98 0 0 0 0 0 0 0 20 0 1 0 31415 2654208 200";
        assert_eq!(field(stat, BEGAN), Some(31_415_u64));
    }
}
