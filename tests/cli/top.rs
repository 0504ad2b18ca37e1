//! `top` on a terminal, in a pipe and for programs.

use std::process::{Command, Stdio};

use serde_json::Value;
use testkit::process::{Process, Start};

use crate::BINARY;
use crate::real::{PATIENCE, Real};

#[tokio::test]
async fn in_a_pipe_it_is_one_table_and_for_programs_a_line_for_each_look() {
    let gateway = Real::start().await;
    gateway.sample("tools").await;
    let top = async |words: &[&str]| gateway.run(&[&["top", "--every", "1"], words].concat()).await.expect(0);
    // The first look is the one from which calls are counted.
    let (tables, _) = tokio::join!(top(&[]), gateway.run(&["servers", "call", "tools", "add", "a=2", "b=40"]));
    for text in ["TENANT", "SERVER", "REQ/S▾", "PEOPLE", "IN FLIGHT", "default", "rates of the last 1 s"] {
        assert!(tables.out.contains(text), "{text}: {}", tables.out);
    }
    assert!(!tables.out.contains('\u{1b}'), "{}", tables.out);
    let line: Value = serde_json::from_str(top(&["--once", "--json"]).await.out.trim_end()).unwrap();
    assert!(line["window_seconds"].as_f64().unwrap() >= 1.0 && line["requests_per_second"].is_f64(), "{line}");
    assert_eq!((&line["tools"][0]["tool"], &line["tools"][0]["p95"]), (&"add".into(), &Value::Null), "{line}");
    assert_eq!(line["tenants"][0]["tenant_id"], "default");

    let start = Start::new(BINARY).args(["top", "--every", "1", "--json"]).folder(&*gateway.folder);
    let looking = start.ready("{").start().await.unwrap();
    let two = async {
        while looking.stdout().len() < 2 {
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(PATIENCE, two).await.expect("another look");
    for line in looking.stdout() {
        assert!(serde_json::from_str::<Value>(&line).is_ok_and(|line| line["tenants"].is_array()), "{line}");
    }
}

#[tokio::test]
async fn who_may_read_no_report_is_told_so() {
    let gateway = Real::start().await;
    let user = gateway.run(&["keys", "create", "laptop", "--json"]).await.expect(0).json()["key"].take();
    let ran = gateway.run_as(user.as_str().unwrap(), &["top"]).await.expect(1);
    assert!(ran.err.contains("403") && ran.err.contains("ask an administrator"), "{}", ran.err);
}

/// `top` on a terminal of 100 columns and 20 rows, and behind it what the terminal then is.
struct Terminal(Process);

impl Terminal {
    /// None where there is no program that makes one.
    async fn open(gateway: &Real) -> Option<Self> {
        if Command::new("script").arg("--version").stdout(Stdio::null()).status().is_err() {
            assert!(std::env::var("CI").as_deref() != Ok("true"), "there is no `script`, of util-linux");
            eprintln!("skipped: there is no `script`, of util-linux");
            return None;
        }
        let command = format!(
            "stty cols 100 rows 20; stty -g | sed s/^/before:/; '{BINARY}' top --every 1; echo ended:$?; stty -g | sed s/^/behind:/"
        );
        let start = Start::new("script").args(["--quiet", "--flush", "--return", "--command", &command, "/dev/null"]);
        let start = start.env("TERM", "xterm").env("SHELL", "/bin/sh").folder(&*gateway.folder);
        Some(Self(start.start().await.unwrap()))
    }

    async fn press(&mut self, keys: &str) {
        use tokio::io::AsyncWriteExt as _;
        let keyboard = self.0.stdin().unwrap();
        keyboard.write_all(keys.as_bytes()).await.unwrap();
        keyboard.flush().await.unwrap();
    }

    /// Waits until this is on the page.
    async fn shows(&self, text: &str) {
        let seen = async {
            // Each line of the page ends as one.
            while !self.0.stdout().iter().any(|line| line.contains(text)) {
                tokio::time::sleep(std::time::Duration::from_millis(20)).await;
            }
        };
        let seen = tokio::time::timeout(PATIENCE, seen).await;
        assert!(seen.is_ok(), "no {text}: {:?}", self.0.said());
    }

    /// It ends by itself, and the terminal is as it was before.
    async fn ends(mut self) {
        self.shows("ended:0").await;
        self.shows("behind:").await;
        let lines = self.0.stdout();
        let of = |name: &str| {
            let line = lines.iter().find_map(|line| line.split_once(name)).unwrap_or_else(|| panic!("no {name}"));
            line.1.trim().to_owned()
        };
        assert_eq!(of("before:"), of("behind:"), "the terminal is as it was");
        let all = lines.join("\n");
        let last = |code: &str| all.rfind(code).unwrap_or_else(|| panic!("no {code:?}"));
        assert!(last("\u{1b}[?1049l") > last("\u{1b}[?1049h") && last("\u{1b}[?25h") > last("\u{1b}[?25l"), "{all:?}");
        self.0.wait().await.unwrap();
    }

    /// The process that draws.
    fn top(&self) -> u32 {
        let is_top = |pid: &u32| {
            let words = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            words.starts_with(BINARY.as_bytes())
        };
        self.0.descendants().into_iter().find(is_top).expect("it runs")
    }
}

#[tokio::test]
async fn on_a_terminal_it_draws_sorts_and_leaves_the_terminal_as_it_was() {
    let gateway = Real::start().await;
    gateway.sample("tools").await;
    let Some(mut terminal) = Terminal::open(&gateway).await else { return };
    terminal.shows("TENANT").await;
    terminal.shows("REQ/S▾").await;
    gateway.run(&["servers", "call", "tools", "add", "a=2", "b=40"]).await.expect(0);
    terminal.shows("rates of the last").await;
    terminal.press("\u{1b}[C").await;
    terminal.shows("ERR/S▾").await;
    terminal.press("r").await;
    terminal.shows("ERR/S▴").await;
    terminal.press("\t\t").await;
    terminal.shows("TOOL").await;
    terminal.shows("add ").await;
    terminal.press("q").await;
    terminal.ends().await;
}

#[tokio::test]
async fn ctrl_c_and_a_stop_from_outside_leave_the_terminal_as_it_was() {
    let gateway = Real::start().await;
    let Some(mut terminal) = Terminal::open(&gateway).await else { return };
    terminal.shows("TENANT").await;
    terminal.press("\u{3}").await;
    terminal.ends().await;

    let terminal = Terminal::open(&gateway).await.unwrap();
    terminal.shows("TENANT").await;
    let pid = rustix::process::Pid::from_raw(terminal.top().cast_signed()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    terminal.ends().await;
}
