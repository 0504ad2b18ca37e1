//! `mcp-gateway __guard`: the small process between the gateway and the program of a stdio server, so that whatever the
//! program started ends with it, or with the gateway, even when the gateway is killed.
//!
//! It makes itself the reaper of all descendants (`PR_SET_CHILD_SUBREAPER`), so that a grandchild that left its group or
//! session still ends up as a child of the guard. It holds no state, uses no runtime and sleeps until something happens.
//! The program has the guard's standard streams; the guard lets go of the first two.

use std::ffi::{OsStr, OsString};
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, Signal, WaitOptions, WaitStatus};
use signal_hook::consts::{SIGCHLD, SIGHUP, SIGINT, SIGTERM};

use crate::upstream::stdio::guarding::{NOT_FOUND, NOT_STARTED, TERM_GRACE, VERB};
use crate::upstream::stdio::orphans::{adopt, children};

/// Runs as a guard if the process was started as one: `__guard --parent PID -- PROGRAM ARGS…`.
pub fn dispatch() -> Option<ExitCode> {
    let mut args = std::env::args_os().skip(1);
    if args.next().as_deref() != Some(OsStr::new(VERB)) {
        return None;
    }
    let args: Vec<OsString> = args.collect();
    let parent = match args.as_slice() {
        [flag, pid, dashes, _, ..] if flag == "--parent" && dashes == "--" => {
            pid.to_str().and_then(|text| text.parse().ok()).and_then(Pid::from_raw)
        }
        _ => None,
    };
    let Some(parent) = parent else {
        complain("this command is started by the gateway itself; usage: __guard --parent PID -- PROGRAM ARGS");
        return Some(ExitCode::from(2));
    };
    Some(run(parent, &args[3..]))
}

/// Starts `argv` and watches over it until it and all its descendants are gone. Returns its exit code, 128 and the signal's
/// number if a signal ended it.
pub fn run(parent: Pid, argv: &[OsString]) -> ExitCode {
    let mut guard = match Guard::start(parent, argv) {
        Ok(guard) => guard,
        Err(Refused { code, text }) => {
            complain(&text);
            return ExitCode::from(code);
        }
    };
    guard.watch();
    guard.sweep();
    ExitCode::from(guard.status.unwrap_or(1))
}

fn complain(text: &str) {
    // Nobody may be reading any more.
    let _ = writeln!(io::stderr(), "mcp-gateway: {text}");
}

struct Refused {
    code: u8,
    text: String,
}

struct Guard {
    /// Readable once the gateway is gone. `None` where the kernel has no such thing; then we look once a second.
    parent: Option<OwnedFd>,
    parent_pid: Pid,
    /// A byte for every SIGCHLD.
    child_news: UnixStream,
    /// A byte for every request to stop (SIGTERM, SIGINT, SIGHUP).
    stop_news: UnixStream,
    program: Pid,
    status: Option<u8>,
}

impl Guard {
    fn start(parent_pid: Pid, argv: &[OsString]) -> Result<Self, Refused> {
        let failed = |what: &'static str| {
            move |error: io::Error| Refused { code: NOT_STARTED, text: format!("cannot {what}: {error}") }
        };
        adopt().map_err(io::Error::from).map_err(failed("become the reaper of the server's processes"))?;
        let child_news = on_signals(&[SIGCHLD]).map_err(failed("watch child processes"))?;
        let stop_news = on_signals(&[SIGTERM, SIGINT, SIGHUP]).map_err(failed("watch signals"))?;
        let parent = rustix::process::pidfd_open(parent_pid, PidfdFlags::empty()).ok();
        // Asked after opening: if it is still our parent, the descriptor cannot mean a later process of the same number.
        if rustix::process::getppid() != Some(parent_pid) {
            return Err(Refused { code: NOT_STARTED, text: "the gateway is gone".into() });
        }
        let name = argv.first().map(OsString::as_os_str).unwrap_or_default();
        let child =
            Command::new(name).args(argv.get(1..).unwrap_or_default()).process_group(0).spawn().map_err(|error| {
                let code = if error.kind() == io::ErrorKind::NotFound { NOT_FOUND } else { NOT_STARTED };
                Refused { code, text: format!("cannot start `{}`: {error}", name.to_string_lossy()) }
            })?;
        let program = Pid::from_child(&child);
        let guard = Self { parent, parent_pid, child_news, stop_news, program, status: None };
        // The ends of the pipes must be the program's alone, or the gateway would not see it close them.
        if let Err(error) = let_go_of_streams() {
            complain(&format!("cannot let go of the server's streams: {error}"));
        }
        Ok(guard)
    }

    /// Returns when the program has ended, or when it was asked to and did not in time.
    fn watch(&mut self) {
        let mut deadline: Option<Instant> = None;
        let mut orphaned = false;
        while self.status.is_none() {
            let timeout = match deadline {
                Some(deadline) => match deadline.checked_duration_since(Instant::now()) {
                    Some(rest) => Some(rest),
                    None => return,
                },
                None if self.parent.is_none() => Some(Duration::from_secs(1)),
                None => None,
            };
            let parent = self.parent.as_ref().filter(|_| !orphaned);
            let (child, stop, gone) = wait(&self.child_news, Some(&self.stop_news), parent, timeout);
            if child {
                drain(&self.child_news);
                self.reap();
            }
            let mut asked = stop && drain(&self.stop_news);
            if !orphaned && (gone || rustix::process::getppid() != Some(self.parent_pid)) {
                orphaned = true;
                asked = true;
            }
            if asked && self.status.is_none() {
                // Asked twice: no more patience. The group is still the program's own, for the program is not reaped.
                let _ = rustix::process::kill_process_group(self.program, Signal::TERM);
                deadline = Some(deadline.map_or_else(|| Instant::now() + TERM_GRACE, |_| Instant::now()));
            }
        }
    }

    /// Kills and reaps until no descendant is left.
    fn sweep(&mut self) {
        if self.status.is_none() {
            let _ = rustix::process::kill_process_group(self.program, Signal::KILL);
        }
        let mut pause = Duration::from_millis(5);
        loop {
            // Those of deeper levels become our children when their parents end, and are found in a later round.
            for pid in children() {
                let _ = rustix::process::kill_process(pid, Signal::KILL);
            }
            if self.reap() == Left::Nobody {
                return;
            }
            // One that cannot be killed (another user's, or stuck in the kernel) is waited for, ever more patiently.
            let (news, ..) = wait(&self.child_news, None, None, Some(pause));
            if news {
                drain(&self.child_news);
            } else {
                pause = (pause * 2).min(Duration::from_millis(500));
            }
        }
    }

    fn reap(&mut self) -> Left {
        loop {
            match rustix::process::wait(WaitOptions::NOHANG) {
                Ok(Some((pid, status))) if pid == self.program => self.status = Some(code(status)),
                Ok(Some(_)) | Err(Errno::INTR) => {}
                Ok(None) => return Left::Some,
                Err(_) => return Left::Nobody,
            }
        }
    }
}

#[derive(PartialEq, Eq)]
enum Left {
    Some,
    Nobody,
}

fn code(status: WaitStatus) -> u8 {
    let code = status.exit_status().or_else(|| status.terminating_signal().map(|signal| 128 + signal)).unwrap_or(1);
    u8::try_from(code).unwrap_or(1)
}

/// The end of a socket pair that becomes readable with each of `signals`.
fn on_signals(signals: &[i32]) -> io::Result<UnixStream> {
    let (read, write) = UnixStream::pair()?;
    read.set_nonblocking(true)?;
    for signal in signals {
        signal_hook::low_level::pipe::register(*signal, write.try_clone()?)?;
    }
    Ok(read)
}

/// Reads what is there; whether anything was.
fn drain(mut stream: &UnixStream) -> bool {
    let mut buffer = [0; 64];
    let mut any = false;
    loop {
        match stream.read(&mut buffer) {
            Ok(0) => return any,
            Ok(_) => any = true,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(_) => return any,
        }
    }
}

fn let_go_of_streams() -> io::Result<()> {
    let null = std::fs::OpenOptions::new().read(true).write(true).open("/dev/null")?;
    rustix::stdio::dup2_stdin(&null)?;
    rustix::stdio::dup2_stdout(&null)?;
    Ok(())
}

/// Sleeps until one of them is readable or `timeout` has passed; says which are.
fn wait(
    child: &UnixStream,
    stop: Option<&UnixStream>,
    parent: Option<&OwnedFd>,
    timeout: Option<Duration>,
) -> (bool, bool, bool) {
    let mut fds = vec![PollFd::from_borrowed_fd(child.as_fd(), PollFlags::IN)];
    fds.extend(stop.map(|stream| PollFd::from_borrowed_fd(stream.as_fd(), PollFlags::IN)));
    fds.extend(parent.map(|fd| PollFd::from_borrowed_fd(fd.as_fd(), PollFlags::IN)));
    let timeout = timeout.and_then(|rest| Timespec::try_from(rest).ok());
    if rustix::event::poll(&mut fds, timeout.as_ref()).is_err() {
        // Interrupted by one of our signals: its byte is seen the next time.
        return (false, false, false);
    }
    let ready = |index: usize| fds.get(index).is_some_and(|fd| !fd.revents().is_empty());
    let parent_at = 1 + usize::from(stop.is_some());
    (ready(0), stop.is_some() && ready(1), parent.is_some() && ready(parent_at))
}
