//! The two databases a test runs on: `on_both!` makes two tests of one story. SQLite is a file of its own; PostgreSQL a
//! database of its own in a throw-away cluster, which all test processes share and which ends by itself when none is left.
//! Without PostgreSQL the story prints that it was skipped; with `CI=true` it fails.

use std::fs::File;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use mcp_registry_gateway::store::Store;
use sqlx::{AssertSqlSafe, Connection, Executor};
use uuid::Uuid;

/// One story, two tests.
macro_rules! on_both {
    ($(#[$meta:meta])* async fn $name:ident($db:ident) $body:block) => {
        $(#[$meta])*
        mod $name {
            use super::*;

            async fn story($db: &$crate::store_databases::Database) $body

            #[tokio::test]
            async fn sqlite() {
                story(&$crate::store_databases::Database::sqlite()).await;
            }

            #[tokio::test]
            async fn postgresql() {
                if let Some(database) = $crate::store_databases::Database::postgresql().await {
                    story(&database).await;
                }
            }
        }
    };
}

/// An empty database.
pub struct Database {
    pub url: String,
    folder: Option<PathBuf>,
}

impl Database {
    pub fn sqlite() -> Self {
        let folder = std::env::temp_dir().join(format!("mcp-gateway-test-{}", Uuid::now_v7()));
        Self { url: format!("sqlite://{}", folder.join("gateway.db").display()), folder: Some(folder) }
    }

    pub async fn postgresql() -> Option<Self> {
        let Some(socket) = tokio::task::spawn_blocking(cluster).await.unwrap() else {
            assert!(std::env::var("CI").as_deref() != Ok("true"), "no PostgreSQL is installed");
            eprintln!("skipped: no PostgreSQL is installed (Debian: apt-get install postgresql)");
            return None;
        };
        let name = format!("t{}", Uuid::now_v7().simple());
        let address = |database: &str| format!("postgres://postgres@localhost/{database}?host={}", socket.display());
        let mut admin = sqlx::PgConnection::connect(&address("postgres")).await.unwrap();
        admin.execute(AssertSqlSafe(format!("CREATE DATABASE {name}"))).await.unwrap();
        admin.close().await.unwrap();
        Some(Self { url: address(&name), folder: None })
    }

    /// Opens it, as a process that starts does.
    pub async fn open(&self) -> Store {
        Store::connect(&self.url, 5).await.unwrap()
    }

    /// The file, on SQLite.
    pub fn file(&self) -> Option<PathBuf> {
        self.folder.as_ref().map(|folder| folder.join("gateway.db"))
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        if let Some(folder) = &self.folder {
            let _ = std::fs::remove_dir_all(folder);
        }
    }
}

/// The folder of the cluster's socket; starts it when it does not run. This process uses it until it ends.
fn cluster() -> Option<PathBuf> {
    static CLUSTER: OnceLock<Option<(PathBuf, File)>> = OnceLock::new();
    CLUSTER.get_or_init(|| Some(start_or_join(&programs()?))).as_ref().map(|(folder, _)| folder.clone())
}

fn programs() -> Option<PathBuf> {
    let mut found: Vec<PathBuf> = std::fs::read_dir("/usr/lib/postgresql")
        .into_iter()
        .flatten()
        .filter_map(|entry| Some(entry.ok()?.path().join("bin")))
        .chain(std::env::var_os("PATH").iter().flat_map(std::env::split_paths))
        .filter(|folder| folder.join("initdb").exists() && folder.join("postgres").exists())
        .collect();
    found.sort();
    found.pop()
}

#[expect(clippy::zombie_processes, reason = "the cluster outlives this process by design, and ends itself")]
fn start_or_join(programs: &Path) -> (PathBuf, File) {
    let root = rustix::process::geteuid().is_root();
    let base = std::env::temp_dir().join(format!("mcp-gateway-pg-{}", rustix::process::geteuid().as_raw()));
    std::fs::create_dir_all(&base).unwrap();
    let lock_file =
        |name: &str| File::options().create(true).truncate(false).read(true).write(true).open(base.join(name)).unwrap();
    let (starting, using) = (lock_file("start.lock"), lock_file("use.lock"));
    // One at a time decides whether to start; a cluster that is stopping holds the second lock until it is gone.
    starting.lock().unwrap();
    using.lock_shared().unwrap();
    let folder = base.join("cluster");
    let answers = || {
        let state = std::fs::read_to_string(folder.join("data/postmaster.pid")).unwrap_or_default();
        state.contains("ready") && UnixStream::connect(folder.join(".s.PGSQL.5432")).is_ok()
    };
    if !answers() {
        let _ = std::fs::remove_dir_all(&folder);
        std::fs::create_dir(&folder).unwrap();
        // PostgreSQL refuses to run as root.
        let user = ["postgres", "nobody"].into_iter().find_map(user_id).filter(|_| root);
        if let Some((uid, gid)) = user {
            std::os::unix::fs::chown(&folder, Some(uid), Some(gid)).unwrap();
        }
        let mut command = Command::new("sh");
        command.arg("-c").arg(include_str!("store_cluster.sh")).arg("cluster");
        command.arg(&folder).arg(base.join("use.lock")).arg(programs);
        if let Some((uid, gid)) = user {
            command.args(["setpriv", &format!("--reuid={uid}"), &format!("--regid={gid}"), "--clear-groups"]);
        } else {
            command.arg("env");
        }
        let quiet = || Stdio::null();
        let mut holder = command.process_group(0).stdin(quiet()).stdout(quiet()).stderr(quiet()).spawn().unwrap();
        let deadline = Instant::now() + Duration::from_mins(1);
        while !answers() {
            let ended = holder.try_wait().unwrap();
            let log = || std::fs::read_to_string(folder.join("initdb.log")).unwrap_or_default();
            assert!(ended.is_none() && Instant::now() < deadline, "PostgreSQL does not start: {}", log());
            std::thread::sleep(Duration::from_millis(20));
        }
    }
    starting.unlock().unwrap();
    (folder, using)
}

fn user_id(name: &str) -> Option<(u32, u32)> {
    let users = std::fs::read_to_string("/etc/passwd").ok()?;
    let line = users.lines().find(|line| line.split(':').next() == Some(name))?;
    let mut fields = line.split(':').skip(2);
    Some((fields.next()?.parse().ok()?, fields.next()?.parse().ok()?))
}
