//! Running a binary as its users do, and watching it from outside.
//!
//! A process gets a group of its own, and the whole group is killed when the test is done with it, as are those who
//! left the group but are still descendants. What `/proc` knows of it is read on demand; this is Linux only.

use std::{
    collections::VecDeque,
    ffi::{OsStr, OsString},
    fs,
    fs::File,
    io::Write as _,
    path::{Path, PathBuf},
    process::{ExitStatus, Stdio},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use anyhow::{Context as _, bail};
use rustix::process::{Pid, Signal};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncRead, BufReader},
    process::{Child, ChildStdin, Command},
};

use crate::pulse::Pulse;

/// How many lines of each output are kept.
const KEPT_LINES: usize = 10_000;

/// A port that was free a moment ago. Prefer port 0 and the line that says which one it became.
pub fn free_port() -> std::io::Result<u16> {
    Ok(std::net::TcpListener::bind(("127.0.0.1", 0))?.local_addr()?.port())
}

/// The folder that cargo puts binaries in, seen from a test or a binary in it.
pub fn target_folder() -> anyhow::Result<PathBuf> {
    let mut folder = std::env::current_exe()?;
    folder.pop();
    if folder.ends_with("deps") || folder.ends_with("examples") {
        folder.pop();
    }
    Ok(folder)
}

/// A binary of this workspace by its name, built before. In a package's own tests `env!("CARGO_BIN_EXE_…")` is better.
pub fn binary(name: &str) -> anyhow::Result<PathBuf> {
    let path = target_folder()?.join(name);
    if !path.exists() {
        bail!("{} is not built: run `cargo build -p testkit --bins`", path.display());
    }
    Ok(path)
}

/// A command in the making.
#[derive(Clone, Debug)]
pub struct Start {
    program: PathBuf,
    arguments: Vec<OsString>,
    environment: Vec<(OsString, OsString)>,
    inherit: bool,
    folder: Option<PathBuf>,
    ready: Option<String>,
    patience: Duration,
    copies: Option<PathBuf>,
}

#[derive(Default)]
struct Output {
    lines: Mutex<(VecDeque<String>, VecDeque<String>)>,
    ended: Mutex<usize>,
    pulse: Pulse,
}

/// A running binary.
pub struct Process {
    child: Child,
    /// Kept apart from the child, whose waiting would close it and so end a program that reads it.
    stdin: Option<ChildStdin>,
    pid: u32,
    output: Arc<Output>,
    ready: String,
}

impl Start {
    /// Starts to describe how to run this program: with none of our environment but `PATH` and `HOME`.
    pub fn new(program: impl AsRef<Path>) -> Self {
        Self {
            program: program.as_ref().to_owned(),
            arguments: Vec::new(),
            environment: Vec::new(),
            inherit: false,
            folder: None,
            ready: None,
            patience: Duration::from_secs(30),
            copies: None,
        }
    }

    /// Adds an argument.
    #[must_use]
    pub fn arg(mut self, argument: impl AsRef<OsStr>) -> Self {
        self.arguments.push(argument.as_ref().to_owned());
        self
    }

    /// Adds arguments.
    #[must_use]
    pub fn args<T: AsRef<OsStr>>(mut self, arguments: impl IntoIterator<Item = T>) -> Self {
        self.arguments.extend(arguments.into_iter().map(|argument| argument.as_ref().to_owned()));
        self
    }

    /// Sets a variable.
    #[must_use]
    pub fn env(mut self, name: impl AsRef<OsStr>, value: impl AsRef<OsStr>) -> Self {
        self.environment.push((name.as_ref().to_owned(), value.as_ref().to_owned()));
        self
    }

    /// Passes our whole environment on.
    #[must_use]
    pub fn inherit_env(mut self) -> Self {
        self.inherit = true;
        self
    }

    /// Runs in this folder.
    #[must_use]
    pub fn folder(mut self, folder: impl AsRef<Path>) -> Self {
        self.folder = Some(folder.as_ref().to_owned());
        self
    }

    /// Counts as started once a line of either output contains this.
    #[must_use]
    pub fn ready(mut self, line: &str) -> Self {
        self.ready = Some(line.to_owned());
        self
    }

    /// Writes both outputs, whole, to the files `stdout` and `stderr` in this folder: of what it says much, only the end is kept
    /// in memory.
    #[must_use]
    pub fn copies_in(mut self, folder: impl AsRef<Path>) -> Self {
        self.copies = Some(folder.as_ref().to_owned());
        self
    }

    /// Gives up after this long without the line.
    #[must_use]
    pub fn patience(mut self, patience: Duration) -> Self {
        self.patience = patience;
        self
    }

    /// Runs it, and waits until it is ready.
    pub async fn start(self) -> anyhow::Result<Process> {
        let mut command = Command::new(&self.program);
        command.args(&self.arguments);
        if !self.inherit {
            command.env_clear();
            for name in ["PATH", "HOME", "TMPDIR"] {
                if let Some(value) = std::env::var_os(name) {
                    command.env(name, value);
                }
            }
        }
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        if let Some(folder) = &self.folder {
            command.current_dir(folder);
        }
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0);
        let mut child = command.spawn().with_context(|| format!("running {}", self.program.display()))?;
        let pid = child.id().context("the process ended at once")?;
        let output = Arc::new(Output::default());
        if let (Some(out), Some(err)) = (child.stdout.take(), child.stderr.take()) {
            let copy = |name| self.copies.as_ref().map(|folder| File::create(folder.join(name))).transpose();
            keep(Arc::clone(&output), out, false, copy("stdout")?);
            keep(Arc::clone(&output), err, true, copy("stderr")?);
        }
        let stdin = child.stdin.take();
        let mut process = Process { child, stdin, pid, output, ready: String::new() };
        if let Some(wanted) = &self.ready {
            let waited = tokio::time::timeout(self.patience, process.line(wanted)).await;
            match waited {
                Ok(Some(line)) => process.ready = line,
                _ => bail!("{} never said {wanted:?}. It said:\n{}", self.program.display(), process.said()),
            }
        }
        Ok(process)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn keep(output: Arc<Output>, from: impl AsyncRead + Unpin + Send + 'static, error: bool, mut copy: Option<File>) {
    tokio::spawn(async move {
        let mut lines = BufReader::new(from).split(b'\n');
        while let Ok(Some(line)) = lines.next_segment().await {
            if let Some(copy) = &mut copy {
                _ = copy.write_all(&line).and_then(|()| copy.write_all(b"\n"));
            }
            let line = String::from_utf8_lossy(&line).trim_end().to_owned();
            {
                let mut kept = lock(&output.lines);
                let kept = if error { &mut kept.1 } else { &mut kept.0 };
                if kept.len() == KEPT_LINES {
                    kept.pop_front();
                }
                kept.push_back(line);
            }
            output.pulse.tick();
        }
        *lock(&output.ended) += 1;
        output.pulse.tick();
    });
}

impl Process {
    /// Its process id, which is its group's too.
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// The line that said it was ready.
    pub fn ready_line(&self) -> &str {
        &self.ready
    }

    /// The address in the line that said it was ready.
    pub fn url(&self) -> Option<&str> {
        let from = self.ready.find("http://").or_else(|| self.ready.find("https://"))?;
        self.ready[from..].split([' ', '"', ',', '\u{1b}']).next()
    }

    /// What it writes to, to be read by it.
    pub fn stdin(&mut self) -> Option<&mut ChildStdin> {
        self.stdin.as_mut()
    }

    /// Closes its standard input.
    pub fn close_stdin(&mut self) {
        self.stdin = None;
    }

    /// The lines of its standard output so far.
    pub fn stdout(&self) -> Vec<String> {
        lock(&self.output.lines).0.iter().cloned().collect()
    }

    /// The lines of its standard error so far.
    pub fn stderr(&self) -> Vec<String> {
        lock(&self.output.lines).1.iter().cloned().collect()
    }

    /// All it said, for a message.
    pub fn said(&self) -> String {
        let lines = lock(&self.output.lines);
        lines.0.iter().chain(&lines.1).fold(String::new(), |said, line| said + "  " + line + "\n")
    }

    /// Waits for a line of either output that contains this; `None` if there is none when both have ended.
    pub async fn line(&self, wanted: &str) -> Option<String> {
        let find = || {
            // Whether it has ended is read first: a last line is then not missed.
            let ended = *lock(&self.output.ended) == 2;
            let lines = lock(&self.output.lines);
            let found = lines.0.iter().chain(&lines.1).find(|line| line.contains(wanted)).cloned();
            if found.is_none() && !ended { None } else { Some(found) }
        };
        loop {
            // One wait has its own patience; whoever needs less puts a limit around this.
            if let Some(found) = self.output.pulse.until(find).await {
                return found;
            }
        }
    }

    /// Sends a signal to it alone.
    pub fn signal(&self, signal: Signal) -> anyhow::Result<()> {
        rustix::process::kill_process(self.id()?, signal).context("signalling")
    }

    /// Asks it to end, and waits; kills it after `patience`.
    pub async fn stop(&mut self, patience: Duration) -> anyhow::Result<ExitStatus> {
        _ = self.signal(Signal::TERM);
        let ended = tokio::time::timeout(patience, self.child.wait()).await;
        if let Ok(status) = ended {
            return Ok(status?);
        }
        self.kill();
        bail!("it did not end within {patience:?}. It said:\n{}", self.said())
    }

    /// Kills it, its group and its descendants, as a power cut would.
    pub fn kill(&mut self) {
        let descendants = descendants(self.pid);
        if let Ok(id) = self.id() {
            _ = rustix::process::kill_process_group(id, Signal::KILL);
        }
        for pid in descendants {
            if let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw) {
                _ = rustix::process::kill_process(pid, Signal::KILL);
            }
        }
    }

    /// Kills it and waits until it is gone.
    pub async fn kill_and_wait(&mut self) -> anyhow::Result<ExitStatus> {
        self.kill();
        Ok(self.child.wait().await?)
    }

    /// Waits until it ends by itself.
    pub async fn wait(&mut self) -> anyhow::Result<ExitStatus> {
        Ok(self.child.wait().await?)
    }

    /// Whether it still runs.
    pub fn is_running(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// Its resident memory in bytes.
    pub fn rss(&self) -> anyhow::Result<u64> {
        Ok(status_kib(self.pid, "VmRSS:")? * 1024)
    }

    /// The most resident memory it ever had, in bytes.
    pub fn peak_rss(&self) -> anyhow::Result<u64> {
        Ok(status_kib(self.pid, "VmHWM:")? * 1024)
    }

    /// The processor time it has used, in user and kernel together.
    pub fn cpu(&self) -> anyhow::Result<Duration> {
        let fields = stat(self.pid)?;
        let ticks = fields.get(11).zip(fields.get(12)).context("too few fields")?;
        let ticks = ticks.0.parse::<u64>()? + ticks.1.parse::<u64>()?;
        Ok(Duration::from_millis(ticks * 1000 / rustix::param::clock_ticks_per_second().max(1)))
    }

    /// How many files, sockets and pipes it has open.
    pub fn open_files(&self) -> anyhow::Result<usize> {
        Ok(fs::read_dir(format!("/proc/{}/fd", self.pid))?.count())
    }

    /// How many threads it has.
    pub fn threads(&self) -> anyhow::Result<usize> {
        Ok(fs::read_dir(format!("/proc/{}/task", self.pid))?.count())
    }

    /// The ids of its children, their children, and so on.
    pub fn descendants(&self) -> Vec<u32> {
        descendants(self.pid)
    }

    fn id(&self) -> anyhow::Result<Pid> {
        // Once waited for, its number may belong to somebody else.
        self.child.id().context("it has ended")?;
        i32::try_from(self.pid).ok().and_then(Pid::from_raw).context("no process id")
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

fn status_kib(pid: u32, key: &str) -> anyhow::Result<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix(key)).with_context(|| format!("no {key}"))?;
    Ok(line.trim().trim_end_matches("kB").trim().parse()?)
}

/// The fields of `/proc/PID/stat` after the name, which may itself contain anything: the first is the state.
fn stat(pid: u32) -> anyhow::Result<Vec<String>> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let (_, rest) = text.rsplit_once(')').context("no name")?;
    Ok(rest.split_whitespace().map(str::to_owned).collect())
}

/// Whether a process exists and is more than a remainder to be collected.
pub fn is_alive(pid: u32) -> bool {
    stat(pid).is_ok_and(|fields| !matches!(fields.first().map(String::as_str), Some("Z" | "X")))
}

/// Waits until a process is gone; `false` if it is still there after `patience`.
pub async fn wait_gone(pid: u32, patience: Duration) -> bool {
    let until = tokio::time::Instant::now() + patience;
    while is_alive(pid) {
        if tokio::time::Instant::now() > until {
            return false;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    true
}

/// The ids of a process's children, their children, and so on.
pub fn descendants(pid: u32) -> Vec<u32> {
    let parents: Vec<(u32, u32)> = fs::read_dir("/proc")
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .filter_map(|child| Some((child, stat(child).ok()?.get(1)?.parse().ok()?)))
        .collect();
    let mut found = vec![pid];
    let mut at = 0;
    while let Some(&parent) = found.get(at) {
        found.extend(parents.iter().filter(|(_, of)| *of == parent).map(|(child, _)| *child));
        at += 1;
    }
    found.split_off(1)
}
