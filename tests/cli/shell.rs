//! What the shell and the terminal see: completions, progress, and mistakes in the command line told to programs.

use std::process::{Command, Stdio};

use tokio::io::AsyncReadExt as _;

use crate::real::PATIENCE;
use crate::stand_in::{Gateway, KEY, SLOW};
use crate::{BINARY, Folder, run};

/// What bash offers for the last of these words.
fn offered(script: &str, words: &[&str]) -> Vec<String> {
    const ASK: &str = r#"
source /dev/stdin; COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); COMPREPLY=()
asked=$(complete -p mcp-gateway); asked=${asked#*-F }; compopt() { :; }
"${asked%% *}" mcp-gateway "${COMP_WORDS[COMP_CWORD]}" "${COMP_WORDS[COMP_CWORD-1]}"
printf '%s\n' "${COMPREPLY[@]}""#;
    let mut bash = Command::new("bash")
        .args(["--norc", "-c", ASK, "bash"])
        .args(words)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    std::io::Write::write_all(&mut bash.stdin.take().unwrap(), script.as_bytes()).unwrap();
    let out = bash.wait_with_output().unwrap();
    String::from_utf8(out.stdout).unwrap().lines().map(str::to_owned).collect()
}

#[tokio::test]
async fn bash_completes_commands_below_commands_and_their_flags() {
    let folder = Folder::default();
    let script = run(&folder, &["completions", "bash"], &[], "").await.expect(0).out;
    let has = |words: &[&str], wanted: &[&str]| {
        let offered = offered(&script, words);
        for one in wanted {
            assert!(offered.iter().any(|word| word == one), "{words:?} offers no {one}: {offered:?}");
        }
        offered
    };
    let all = has(&["mcp-gateway", ""], &["servers", "apply", "demo", "doctor"]);
    assert!(!all.iter().any(|word| word == "sample-server"), "{all:?}");
    has(&["mcp-gateway", "servers", ""], &["add", "list", "call", "refresh"]);
    has(&["mcp-gateway", "servers", "add", "--"], &["--url", "--header", "--visible-to"]);
    has(&["mcp-gateway", "apply", "--"], &["--file", "--dry-run", "--prune"]);
    has(&["mcp-gateway", "keys", "create", "--role", ""], &["user", "server_owner", "tenant_admin", "admin"]);
    for shell in ["zsh", "fish"] {
        let script = run(&folder, &["completions", shell], &[], "").await.expect(0).out;
        assert!(script.contains("servers") && script.contains("visible-to"), "{shell}");
        assert!(!script.contains("sample-server"), "{shell}");
    }
}

#[tokio::test]
async fn a_wait_is_shown_on_a_terminal_by_its_words() {
    if Command::new("script").arg("--version").stdout(Stdio::null()).status().is_err() {
        assert!(std::env::var("CI").as_deref() != Ok("true"), "there is no `script`, of util-linux");
        eprintln!("skipped: there is no `script`, of util-linux");
        return;
    }
    let gateway = Gateway::start().await;
    let command = format!("'{BINARY}' servers add {SLOW} --url https://example.com/mcp");
    // When it is killed its terminal closes, and that ends the command.
    let mut terminal = tokio::process::Command::new("script")
        .args(["--quiet", "--return", "--command", &command, "/dev/null"])
        .env_clear()
        .envs([("PATH", "/usr/bin:/bin"), ("TERM", "xterm"), ("MREG_GATEWAY_URL", &gateway.url), ("MREG_API_KEY", KEY)])
        .current_dir(&gateway.folder)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let (mut out, mut shown) = (terminal.stdout.take().unwrap(), Vec::new());
    let seen = async {
        while !String::from_utf8_lossy(&shown).contains("registering and asking the server what it has") {
            assert_ne!(out.read_buf(&mut shown).await.unwrap(), 0, "{}", String::from_utf8_lossy(&shown));
        }
    };
    let seen = tokio::time::timeout(PATIENCE, seen).await;
    let shown = String::from_utf8_lossy(&shown);
    assert!(seen.is_ok() && !shown.contains('░'), "{shown}");
}

#[tokio::test]
async fn programs_are_told_in_json_what_is_wrong_with_their_command_line() {
    let folder = Folder::default();
    for (args, says) in [
        (&["serers", "list", "--json"][..], "serers"),
        (&["--json", "servers", "show", "Not A Name"], "Not A Name"),
        (&["servers", "--json"], "requires a subcommand"),
        (&["--json", "servers"], "ends too early"),
        (&["keys", "create", "--json"], "required arguments"),
    ] {
        let ran = run(&folder, args, &[], "").await.expect(2);
        let message = ran.json()["error"]["message"].as_str().unwrap().to_owned();
        assert!(message.contains(says) && !message.contains('\u{1b}'), "{message}");
        assert!(!ran.err.is_empty(), "people are told too");
    }
    assert_eq!(run(&folder, &["serers"], &[], "").await.expect(2).out, "");
    // What stands behind -- is not ours.
    assert_eq!(run(&folder, &["servers", "add", "A", "--", "x", "--json"], &[], "").await.expect(2).out, "");
}
