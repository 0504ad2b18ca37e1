//! The order of rooms, kept: a room uses those below it and never one beside or above it. The order is told in
//! `ARCHITECTURE.md`; here it is checked against what the source imports.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// From the ground up; rooms of one line do not see each other.
const ORDER: &[&[&str]] = &[
    &["clock", "fault", "field", "id", "json", "place", "reuse", "secret", "sketch"],
    &["config", "crypto", "net", "protocol"],
    &["store", "telemetry"],
    &["limit", "vault"],
    &["audit"],
    &["analytics"],
    &["access", "jobs"],
    &["grants", "idp", "policy"],
    // What a server is, in words that all engines share.
    &["registry::model"],
    &["balance", "connections"],
    &["upstream"],
    &["registry"],
    &["app"],
    &["web"],
    &["admin", "mcp", "oauth", "ops"],
    &["router"],
    &["serve"],
    &["cli"],
];

/// Imports that break the order, each with its reason.
const EXCEPTIONS: &[(&str, &str, &str)] = &[(
    "app",
    "mcp",
    "sessions and streams of clients are state of the process, and only the surface knows what they are",
)];

/// Where the web framework may be seen, and where the database.
const AXUM: &[&str] = &["admin", "app", "mcp", "oauth", "ops", "router", "serve", "web"];
const SQLX: &[&str] = &["store"];

fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|ending| ending == "rs") {
            found.push(path);
        }
    }
}

/// The room of a file, or of an imported path: its first part, but for the model of servers.
fn room(path: &str) -> String {
    let first = |text: &str| text.chars().take_while(|c| c.is_ascii_alphanumeric() || *c == '_').collect::<String>();
    match path.strip_prefix("registry").and_then(|rest| rest.strip_prefix("::").or(rest.strip_prefix('/'))) {
        Some(rest) if first(rest) == "model" => "registry::model".to_owned(),
        _ => first(path),
    }
}

fn height(room: &str) -> usize {
    let found = ORDER.iter().position(|line| line.contains(&room));
    found.unwrap_or_else(|| {
        panic!("`{room}` has no place in the order of rooms: give it one here and in ARCHITECTURE.md")
    })
}

#[test]
fn rooms_look_down_and_never_sideways() {
    let base = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    sources(&base, &mut files);
    assert!(files.len() > 100, "the source is here");
    let (mut wrong, mut used) = (BTreeSet::new(), BTreeSet::new());
    for file in files {
        let name = file.strip_prefix(&base).unwrap().display().to_string();
        if matches!(name.as_str(), "lib.rs" | "main.rs") {
            continue;
        }
        let own = room(&name);
        let text = std::fs::read_to_string(&file).unwrap();
        let code = text.lines().filter(|line| !line.trim_start().starts_with("//")).collect::<Vec<_>>().join("\n");
        for (tool, rooms) in [("axum::", AXUM), ("sqlx::", SQLX)] {
            if code.contains(tool) && !rooms.contains(&own.as_str()) {
                wrong.insert(format!("{name} sees {tool}"));
            }
        }
        for after in code.split("crate::").skip(1) {
            if after.starts_with('{') {
                wrong.insert(format!("{name}: write one `use crate::…` for each room"));
                continue;
            }
            let other = room(after);
            if other == own || height(&other) < height(&own) {
                continue;
            }
            match EXCEPTIONS.iter().find(|(from, to, _)| *from == own && *to == other) {
                Some((from, to, _)) => _ = used.insert((*from, *to)),
                None => _ = wrong.insert(format!("{name} looks from `{own}` to `{other}`")),
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    for (from, to, reason) in EXCEPTIONS {
        assert!(used.contains(&(*from, *to)), "`{from}` does not look to `{to}` any more ({reason}): strike it out");
    }
}
