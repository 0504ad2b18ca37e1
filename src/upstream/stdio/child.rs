//! One running program behind its guard: started with a cleared environment, spoken to through a pipe, stopped politely
//! first. Dropping a child asks the guard to end it; the guard needs nobody to wait for that.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use rustix::process::{Pid, Signal};
use tokio::io::BufReader;
use tokio::process::{ChildStdin, ChildStdout, Command};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::warn;

use super::lines::{self, End, Lines};
use super::orphans::{self, Remains};
use super::stderr::{self, Mask, Tail};
use super::{INHERITED, Launch, Settings, guarding};
use crate::fault::{Fault, Kind, Retry};
use crate::upstream::pipe::{Closed, FarEnd, Pipe, pipe};

/// Messages on their way in each direction.
const PIPE_DEPTH: usize = 16;
/// Read buffer: what a pipe of the kernel holds by default.
const READ_BUFFER: usize = 64 << 10;
/// How long the last lines on stderr are waited for after the end.
const LAST_WORDS: Duration = Duration::from_millis(500);
/// How long the end is waited for after a signal that nothing can hold off.
const LAST_PATIENCE: Duration = Duration::from_secs(2);
/// How long a program that closed its output may take to end before that alone is the reason.
const LAST_BREATH: Duration = Duration::from_secs(1);

/// A running program and its guard.
#[derive(Debug)]
pub struct Child {
    guard: tokio::process::Child,
    remains: Remains,
    pid: u32,
    close_grace: Duration,
    close_input: CancellationToken,
    closed: Closed,
    tail: Tail,
    errors: Option<JoinHandle<()>>,
}

/// How a program ended.
#[derive(Debug, Clone)]
pub struct Exit {
    /// Its exit code; 128 and the number of the signal if one ended it.
    pub code: Option<i32>,
    /// For a person.
    pub text: String,
}

impl Child {
    /// Starts `launch`. The tasks that carry its streams belong to `tasks`; `strangers` are the children that this process had
    /// before its first guard.
    ///
    /// Fails with [`Kind::Setup`] when the program or its directory does not exist. A program that starts and ends at once
    /// shows as a closed pipe.
    pub fn start(
        launch: &Launch,
        settings: &Settings,
        strangers: Arc<[Pid]>,
        tasks: &TaskTracker,
    ) -> Result<(Self, Pipe), Fault> {
        check(launch)?;
        orphans::adopt().map_err(|error| {
            let text = format!("the gateway cannot become the reaper of the server's processes: {error}");
            Fault::gateway(Kind::Unreachable, text)
        })?;
        let mut command = Command::new(&settings.guard);
        command
            .arg0("mcp-gateway")
            .args([guarding::VERB, "--parent", &std::process::id().to_string(), "--"])
            .arg(&launch.program)
            .args(&launch.args)
            .env_clear()
            .envs(environment(launch))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0);
        if let Some(cwd) = &launch.cwd {
            command.current_dir(cwd);
        }
        let mut guard = command.spawn().map_err(|error| {
            let kind = if error.kind() == std::io::ErrorKind::NotFound { Kind::Setup } else { Kind::Unreachable };
            Fault::gateway(kind, format!("the process for the server could not be started: {error}"))
        })?;
        let (Some(stdin), Some(stdout), Some(stderr), Some(pid)) =
            (guard.stdin.take(), guard.stdout.take(), guard.stderr.take(), guard.id())
        else {
            return Err(Fault::gateway(Kind::Unreachable, "the process for the server has no streams"));
        };
        let (near, FarEnd { outgoing, incoming, closed }) = pipe(PIPE_DEPTH);
        let close_input = CancellationToken::new();
        let tail = Tail::default();
        let mask = Mask::new(launch.env.values());
        tasks.spawn(write(stdin, outgoing, closed.clone(), close_input.clone()));
        tasks.spawn(read(stdout, incoming, closed.clone(), settings.line_bytes));
        let errors = tasks.spawn(stderr::follow(BufReader::new(stderr), launch.name.clone(), mask, tail.clone()));
        let close_grace = settings.close_grace;
        let remains = Remains::of(settings.guard.clone(), pid, strangers);
        let child = Self { guard, remains, pid, close_grace, close_input, closed, tail, errors: Some(errors) };
        Ok((child, near))
    }

    /// Process id of the guard, whose only child the program is.
    pub fn pid(&self) -> u32 {
        self.pid
    }

    pub(super) fn tail(&self) -> Tail {
        self.tail.clone()
    }

    /// Waits until the program and all its descendants are gone. May be dropped and called again.
    pub async fn wait(&mut self) -> Exit {
        let exit = match self.guard.wait().await {
            Ok(status) => {
                if matches!(status.code(), None | Some(guarding::PANICKED)) {
                    // It was killed or panicked, and could end nobody.
                    self.remains.sweep().await;
                }
                describe(status)
            }
            Err(error) => Exit { code: None, text: format!("its end could not be seen: {error}") },
        };
        if let Some(errors) = &mut self.errors {
            let _ = tokio::time::timeout(LAST_WORDS, errors).await;
            self.errors = None;
        }
        self.closed.set(ended(&exit, &self.tail.lines()));
        exit
    }

    /// Ends it: closes its input, then SIGTERM to its group, then SIGKILL to everything that is left. `None` when even
    /// that did not end it in time; its guard goes on trying, unless it is gone itself.
    pub async fn stop(&mut self) -> Option<Exit> {
        self.close_input.cancel();
        let patience = [self.close_grace, guarding::TERM_GRACE + LAST_PATIENCE, LAST_PATIENCE];
        for (turn, patience) in patience.into_iter().enumerate() {
            if turn > 0 {
                self.signal();
            }
            if let Ok(exit) = tokio::time::timeout(patience, self.wait()).await {
                return Some(exit);
            }
        }
        // A guard that its program has stopped ends nothing: it is killed, and what it leaves behind is ended here.
        if self.guard.start_kill().is_ok()
            && let Ok(exit) = tokio::time::timeout(LAST_PATIENCE, self.wait()).await
        {
            return Some(exit);
        }
        // The id is there until the guard was reaped.
        if self.guard.id().is_some() {
            warn!(target: "mcp.upstream", pid = self.pid, "a server process does not end; its guard keeps trying");
        } else {
            warn!(target: "mcp.upstream", pid = self.pid, "processes of a server whose guard is gone do not end");
        }
        None
    }

    /// Asks the guard to end the program. Asked twice it kills at once.
    fn signal(&self) {
        // The id is there until the guard was reaped, so it cannot name another process.
        let pid = self.guard.id().and_then(|pid| i32::try_from(pid).ok()).and_then(Pid::from_raw);
        if let Some(pid) = pid {
            let _ = rustix::process::kill_process(pid, Signal::TERM);
        }
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        self.close_input.cancel();
        self.signal();
    }
}

/// The last lines of stderr as part of a sentence.
pub(super) fn last_words(lines: &[String]) -> String {
    if lines.is_empty() {
        return "; it wrote nothing to stderr".into();
    }
    let text = lines.join("\n");
    let skip = text.chars().count().saturating_sub(2_000);
    format!("; its last lines on stderr:\n{}", text.chars().skip(skip).collect::<String>())
}

fn ended(exit: &Exit, tail: &[String]) -> Fault {
    let words = last_words(tail);
    match exit.code.and_then(|code| u8::try_from(code).ok()) {
        // The guard's own codes; its reason is the last line.
        Some(guarding::NOT_FOUND | guarding::NOT_STARTED) => {
            Fault::gateway(Kind::Setup, format!("the server's program could not be run{words}"))
        }
        _ => Fault::upstream(Kind::Dropped, Retry::MaybeSent, format!("the server process {}{words}", exit.text)),
    }
}

fn describe(status: ExitStatus) -> Exit {
    let code = status.code();
    let text = match code {
        Some(0) => "ended".to_owned(),
        Some(code) if code > 128 => format!("was ended by signal {}", code - 128),
        Some(code) => format!("exited with status {code}"),
        None => format!("lost its guard ({status})"),
    };
    Exit { code, text }
}

fn environment(launch: &Launch) -> BTreeMap<OsString, OsString> {
    let mut all: BTreeMap<OsString, OsString> =
        INHERITED.iter().filter_map(|name| Some((name.into(), std::env::var_os(name)?))).collect();
    all.extend(launch.env.iter().map(|(name, value)| (name.into(), value.expose().into())));
    all
}

/// Whether there is something to start, said in words before it is tried.
fn check(launch: &Launch) -> Result<(), Fault> {
    let setup = |text: String| Err(Fault::gateway(Kind::Setup, text));
    let here = launch.cwd.clone().unwrap_or_else(|| PathBuf::from("."));
    if !here.is_dir() {
        return setup(format!("the working directory `{}` does not exist", here.display()));
    }
    let program = &launch.program;
    if program.contains('/') {
        let path = here.join(program);
        return match () {
            () if !path.is_file() => setup(format!("the program `{program}` does not exist")),
            () if !is_executable(&path) => setup(format!("the file `{program}` may not be executed")),
            () => Ok(()),
        };
    }
    let search = match launch.env.get("PATH") {
        Some(declared) => Some(OsString::from(declared.expose())),
        None => std::env::var_os("PATH"),
    };
    let found = search.is_some_and(|search| {
        std::env::split_paths(&search).map(|folder| here.join(folder).join(program)).any(|path| is_executable(&path))
    });
    if found {
        Ok(())
    } else {
        setup(format!("the program `{program}` was not found in PATH; install it or give its full path"))
    }
}

fn is_executable(path: &Path) -> bool {
    path.metadata().is_ok_and(|data| data.is_file() && data.permissions().mode() & 0o111 != 0)
}

async fn write(
    mut stdin: ChildStdin,
    mut outgoing: mpsc::Receiver<Bytes>,
    closed: Closed,
    close_input: CancellationToken,
) {
    let carry = async {
        let mut scratch = Vec::new();
        while let Some(message) = outgoing.recv().await {
            if lines::write(&mut stdin, &message, &mut scratch).await.is_err() {
                // Usually it has just ended; why is worth more than that.
                let _ = tokio::time::timeout(LAST_BREATH, closed.wait()).await;
                closed.set(Fault::upstream(Kind::Dropped, Retry::MaybeSent, "the server process closed its input"));
                break;
            }
        }
    };
    tokio::select! {
        () = close_input.cancelled() => {}
        () = carry => {}
    }
}

async fn read(stdout: ChildStdout, incoming: mpsc::Sender<Bytes>, closed: Closed, most: usize) {
    let carry = async {
        let mut lines = Lines::new(BufReader::with_capacity(READ_BUFFER, stdout), most);
        loop {
            match lines.next().await {
                Ok(line) => incoming.send(line).await.ok()?,
                Err(end) => return Some(end),
            }
        }
    };
    // Somebody outside may hold the other end of the stream; nothing that matters comes after the end of the process.
    let overtime = async {
        closed.wait().await;
        tokio::time::sleep(LAST_BREATH).await;
    };
    let end = tokio::select! {
        end = carry => end,
        () = overtime => None,
    };
    let fault = match end {
        // Nobody listens any more, or the reason is known.
        None => return,
        Some(End::TooLong) => {
            let text = format!("the server process wrote a line of more than {most} bytes");
            Fault::upstream(Kind::TooLarge, Retry::MaybeSent, text)
        }
        Some(End::Eof) => {
            let _ = tokio::time::timeout(LAST_BREATH, closed.wait()).await;
            Fault::upstream(Kind::Dropped, Retry::MaybeSent, "the server process closed its output")
        }
        Some(End::Broken(error)) => {
            let text = format!("the output of the server process cannot be read: {error}");
            Fault::upstream(Kind::Dropped, Retry::MaybeSent, text)
        }
    };
    // Before `incoming` is dropped: whoever sees the end finds the reason.
    closed.set(fault);
}
