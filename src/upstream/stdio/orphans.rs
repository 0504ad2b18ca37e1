//! What a guard leaves behind that was killed before it could sweep. The gateway makes itself the reaper of all descendants, as
//! guards do: those of a guard that is gone become its own children, and are ended here.

use std::path::Path;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, WaitOptions};
use tracing::warn;

use super::guarding::VERB;

/// From one look to the next.
const PAUSE: Duration = Duration::from_millis(20);
/// One that cannot be killed (another user's, or stuck in the kernel) is given up after this.
const PATIENCE: Duration = Duration::from_secs(10);

/// Has what a guard may leave behind become this process's own.
pub fn adopt() -> rustix::io::Result<()> {
    rustix::process::set_child_subreaper(Some(rustix::process::getpid()))
}

/// Kills and reaps all children of this process that are no guards, until none is left.
pub(super) async fn sweep(guard: &Path) {
    let (began, own) = (Instant::now(), std::fs::read("/proc/self/cmdline").unwrap_or_default());
    let mut before = Vec::new();
    loop {
        let now: Vec<Pid> = children().into_iter().filter(|pid| is_orphan(*pid, guard, &own)).collect();
        // Seen twice: a guard that is just being started looks like something else for a moment.
        for pid in now.iter().filter(|pid| before.contains(*pid)) {
            let _ = rustix::process::kill_process(*pid, Signal::KILL);
            let _ = rustix::process::waitpid(Some(*pid), WaitOptions::NOHANG);
        }
        if now.is_empty() {
            return;
        }
        if began.elapsed() > PATIENCE {
            warn!(target: "mcp.upstream", pids = ?now, "processes of a server whose guard was killed do not end");
            return;
        }
        before = now;
        tokio::time::sleep(PAUSE).await;
    }
}

/// Whether this child is neither a guard nor one that is not yet what it is going to be.
fn is_orphan(pid: Pid, guard: &Path, own: &[u8]) -> bool {
    let read = |name: &str| std::fs::read(format!("/proc/{}/{name}", pid.as_raw_nonzero())).unwrap_or_default();
    let line = read("cmdline");
    if line.is_empty() {
        // It has ended; only its name is left, of which the kernel keeps 15 bytes.
        let name = guard.file_name().unwrap_or_default().as_encoded_bytes();
        return read("comm").trim_ascii_end() != &name[..name.len().min(15)];
    }
    line != own && line.split(|byte| *byte == 0).nth(1) != Some(VERB.as_bytes())
}

/// Processes whose parent is this one.
pub fn children() -> Vec<Pid> {
    let myself = rustix::process::getpid().as_raw_nonzero().get();
    let Ok(entries) = std::fs::read_dir("/proc") else { return Vec::new() };
    entries
        .filter_map(|entry| {
            let pid: i32 = entry.ok()?.file_name().to_str()?.parse().ok()?;
            let stat = std::fs::read(format!("/proc/{pid}/stat")).ok()?;
            (parent_in(&stat)? == myself).then(|| Pid::from_raw(pid)).flatten()
        })
        .collect()
}

/// The parent in a line of `/proc/PID/stat`. The name before it is in parentheses and may hold anything.
fn parent_in(stat: &[u8]) -> Option<i32> {
    let close = stat.iter().rposition(|byte| *byte == b')')?;
    std::str::from_utf8(&stat[close + 1..]).ok()?.split_ascii_whitespace().nth(1)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::parent_in;

    #[test]
    fn the_parent_is_read_whatever_the_name_holds() {
        assert_eq!(parent_in(b"12 (sh) S 7 12 12 0"), Some(7));
        assert_eq!(parent_in(b"12 (a) S 1 (b) ) R 8 12"), Some(8));
        assert_eq!(parent_in(b"12 (\xff) R 8 12"), Some(8));
        assert_eq!(parent_in(b""), None);
    }
}
