//! A pool, scripts to start in it, and words for what the tests do with them.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use mcp_registry_gateway::fault::Fault;
use mcp_registry_gateway::id::ServerId;
use mcp_registry_gateway::secret::Secret;
use mcp_registry_gateway::upstream::mux::{Call, Event, Mux, Origin};
use mcp_registry_gateway::upstream::stdio::{Key, Launch, Link, Pool, Settings, Status};
use serde_json::{Value, json};
use tokio_util::task::TaskTracker;

pub const FAMILY: &str = include_str!("family.sh");
pub const ADA: Origin = Origin { session: 1, answers: true };
pub const BOB: Origin = Origin { session: 2, answers: true };

pub struct World {
    pub pool: Pool<&'static str>,
    pub mark: String,
    tasks: TaskTracker,
}

pub fn settings() -> Settings {
    Settings { guard: PathBuf::from(env!("CARGO_BIN_EXE_mcp-gateway")), ..Settings::default() }
}

pub fn world_with(settings: Settings) -> World {
    let tasks = TaskTracker::new();
    World { pool: Pool::new(settings, tasks.clone()), mark: new_mark(), tasks }
}

pub fn world() -> World {
    world_with(settings())
}

pub fn new_mark() -> String {
    format!("mark-{}", ServerId::new())
}

pub fn key() -> Key {
    Key { server: ServerId::new(), way: 1, share: None, modern: false }
}

pub fn launch(mark: &str, program: &str, args: &[&str]) -> Launch {
    let args = args.iter().map(|arg| (*arg).to_owned()).collect();
    let env = BTreeMap::from([("TEST_MARK".to_owned(), Secret::new(mark))]);
    Launch { program: program.into(), args, cwd: None, env, name: "test".into() }
}

impl World {
    pub fn python(&self) -> Launch {
        launch(&self.mark, "python3", &["-u", "-c", include_str!("server.py")])
    }

    pub fn sh(&self, script: &str) -> Launch {
        launch(&self.mark, "sh", &["-c", script])
    }

    pub async fn get(&self, key: &Key, launch: Launch) -> Result<Arc<Link<&'static str>>, Fault> {
        within(self.pool.get(key, || launch, |_| async { Ok("shaken") })).await
    }

    /// As `get`, for a server whose handshake ends only when the server does.
    pub async fn get_in_vain(&self, launch: Launch) -> Fault {
        let init = |mux: Mux| async move { Err(mux.closed().await) };
        within(self.pool.get(&key(), || launch, init)).await.unwrap_err()
    }

    pub fn status(&self, key: &Key) -> Status {
        self.pool.statuses().into_iter().find(|status| status.key == *key).expect("the child is known")
    }

    /// Ends the world; every test does, and so every test proves that nothing is left.
    pub async fn end(self) {
        within(self.pool.shutdown()).await;
        nothing_left(&self.mark).await;
        assert_eq!(self.pool.running(), 0);
        self.tasks.close();
        within(self.tasks.wait()).await;
    }
}

/// A test that hangs should say where.
pub async fn within<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_mins(1), future).await.expect("this should have happened by now")
}

pub async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_mins(1);
    while !holds() {
        assert!(Instant::now() < deadline, "never happened: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

fn pids() -> impl Iterator<Item = u32> {
    let entries = std::fs::read_dir("/proc").unwrap();
    entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
}

/// Processes with `mark` in their environment.
pub fn marked(mark: &str) -> Vec<u32> {
    let wanted = format!("TEST_MARK={mark}");
    pids()
        .filter(|pid| {
            let variables = std::fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
            variables.split(|byte| *byte == 0).any(|variable| variable == wanted.as_bytes())
        })
        .collect()
}

pub async fn nothing_left(mark: &str) {
    until("the last process is gone", || marked(mark).is_empty()).await;
}

/// The program under a guard: its child whose process group bears its own id.
pub fn program_of(guard: u32) -> u32 {
    pids()
        .find(|pid| {
            let Ok(stat) = std::fs::read_to_string(format!("/proc/{pid}/stat")) else { return false };
            let fields: Vec<&str> = stat.rsplit(") ").next().unwrap().split_whitespace().collect();
            fields[1] == guard.to_string() && fields[2] == pid.to_string()
        })
        .expect("the guard has a program")
}

/// Sends a signal through the shell.
pub fn kill(pid: u32, signal: &str) {
    let status = std::process::Command::new("sh").args(["-c", &format!("kill -{signal} {pid}")]).status().unwrap();
    assert!(status.success());
}

pub async fn call(mux: &Mux, params: Value, origin: Origin) -> Call {
    let message = json!({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params});
    within(mux.call(Bytes::from(message.to_string()), origin)).await.unwrap()
}

pub async fn event(call: &mut Call) -> Event {
    within(call.next()).await.expect("an event").expect("no fault")
}

pub fn value(event: &Event) -> Value {
    serde_json::from_slice(event.message()).unwrap()
}

pub async fn response(call: &mut Call) -> Value {
    loop {
        let event = event(call).await;
        if matches!(event, Event::Response(_)) {
            return value(&event);
        }
    }
}

pub async fn fault(call: &mut Call) -> Fault {
    loop {
        if let Err(fault) = within(call.next()).await.expect("a fault") {
            return fault;
        }
    }
}
