//! A process is ended at every place where something outlives it: before and after each write to the database and each question to others,
//! by `kill -9`. The places are counted in one that nobody disturbs. Each is then come to by a process of its own, on a database of its
//! own, and what a later process makes of it is looked at.

use std::process::Command;
use std::sync::Mutex;
use std::time::Duration;

use mcp_registry_gateway::{clock, place};
use rustix::process::{Signal, getpid, kill_process};
use serde_json::{Value, json};

use crate::store_databases::Database;

/// How a process is told what to do.
const TOLD: &str = "DO_AND_DIE";
/// What a master key may be: random bytes.
pub const KEY: &str = "q3mZsV0c1yP8wJ5nR7tKdX2uHf9LbGe4aWiOoYzC6Bk=";
/// Where what came is lost with the only process that has it: from the answer until it is stored. Nobody is asked meanwhile.
pub const WINDOW: [&str; 3] = ["after an answer", "before a transaction", "before a commit"];

/// The places that this process has come to.
static REACHED: Mutex<Vec<&str>> = Mutex::new(Vec::new());

/// What this process is to do.
pub struct Told(Value);

impl Told {
    /// In the process of its own.
    pub fn here() -> Self {
        Self(serde_json::from_str(&std::env::var(TOLD).unwrap()).unwrap())
    }

    /// One of the texts.
    pub fn text(&self, name: &str) -> &str {
        self.0["what"][name].as_str().unwrap()
    }

    /// It is so late as was said, and from now on each place counts, of which the last may be the end.
    pub fn watch(&self) {
        clock::move_on(Duration::from_secs(self.0["later"].as_u64().unwrap()));
        let ends_at = self.0["ends_at"].as_u64().unwrap();
        place::watch(move |place| {
            let mut reached = REACHED.lock().unwrap();
            reached.push(place);
            if reached.len() as u64 == ends_at {
                kill_process(getpid(), Signal::KILL).unwrap();
            }
        });
    }
}

/// What it prints when it has come to its end.
pub fn reached() -> String {
    format!("\nreached: {}", REACHED.lock().unwrap().join("|"))
}

/// Runs the test of this name as a process of its own, so much later, to its end (0) or to the place with this number: the places that it
/// came to, where it came to its end.
pub async fn run(test: &'static str, what: &Value, later: Duration, ends_at: usize) -> Vec<String> {
    let told = json!({"what": what, "later": later.as_secs(), "ends_at": ends_at});
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args([test, "--exact", "--ignored", "--nocapture"]);
    command.env(TOLD, told.to_string());
    let output = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
    let said = || format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert_eq!(output.status.success(), ends_at == 0, "{}", said());
    let said = String::from_utf8_lossy(&output.stdout);
    let reached = said.lines().find_map(|line| line.strip_prefix("reached: ")).unwrap_or_default();
    reached.split('|').map(str::to_owned).collect()
}

/// What came of a process that ended somewhere.
pub struct Left {
    /// The places that it came to, where it came to its end.
    pub places: Vec<String>,
    /// Whether something was lost.
    pub lost: bool,
}

/// Ends one at every place of the one that comes to its end: all places, and those at which something was lost.
pub async fn at_every_place(
    databases: impl AsyncFn() -> Option<Database>,
    ends_at: impl AsyncFn(&Database, usize) -> Left,
) -> Option<(Vec<String>, Vec<String>)> {
    let places = ends_at(&databases().await?, 0).await.places;
    let mut lost = Vec::new();
    for place in 1..=places.len() {
        if ends_at(&databases().await?, place).await.lost {
            lost.push(places[place - 1].clone());
        }
    }
    Some((places, lost))
}
