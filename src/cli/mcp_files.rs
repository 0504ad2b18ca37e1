//! The configuration files of MCP clients: `mcpServers` (Claude Desktop, Claude Code, Cursor) and `servers` (VS Code), JSON
//! with comments and trailing commas. Reads them into descriptions, and says for each server that cannot be taken over why,
//! and what to do. Nothing is guessed that would change what is called.

use std::collections::BTreeSet;

use serde_json::{Map, Value};

use super::failure::Failure;
use super::screen::shorten;
use crate::json;
use crate::registry::model::ServerSpec;

/// What was found under one name.
#[derive(Debug)]
pub struct Found {
    /// The name in the file.
    pub name: String,
    /// The description, or why there is none.
    pub spec: Result<Box<ServerSpec>, String>,
    /// What was left out or understood in a certain way.
    pub notes: Vec<String>,
}

/// Reads a file. `lookup` gives the environment, for `${NAME}` in values.
pub fn read(file: &str, text: &str, lookup: &dyn Fn(&str) -> Option<String>) -> Result<Vec<Found>, Failure> {
    let plain = without_comments(text);
    let root: Value = serde_json::from_str(&plain).map_err(|error| {
        // At the end of a line the parser counts from 0.
        let line = format!("{file}:{}:{}: {}", error.line(), error.column().max(1), reason(&error));
        Failure::new(format!("{file} is not JSON")).detail([line])
    })?;
    // The parser takes the last of two; which one was meant only a person knows.
    if let Err(json::Problem::Duplicate { at, name }) = json::check(plain.as_bytes()) {
        let before = &plain[..at];
        let (line, column) =
            (before.matches('\n').count() + 1, before.chars().rev().take_while(|c| *c != '\n').count() + 1);
        let line = format!("{file}:{line}:{column}: the name \"{name}\" stands twice in one object");
        return Err(Failure::new(format!("{file} is ambiguous; nothing was registered")).detail([line]));
    }
    let groups = groups(&root);
    if groups.is_empty() {
        return Err(Failure::new(format!("{file} holds neither `mcpServers` nor `servers`"))
            .advise("give the file in which Claude, VS Code or Cursor keeps its MCP servers, such as .mcp.json or .vscode/mcp.json"));
    }
    let mut taken = BTreeSet::new();
    let mut found = Vec::new();
    for group in groups {
        for (name, entry) in group {
            found.push(one(name, entry, &mut taken, lookup));
        }
    }
    Ok(found)
}

/// serde's reason without the place, which stands in front already.
fn reason(error: &serde_json::Error) -> String {
    let text = error.to_string();
    text.split(" at line ").next().unwrap_or_default().to_owned()
}

/// Every object of servers in the file: at the root, in VS Code's settings, and for each project of Claude Code.
fn groups(root: &Value) -> Vec<&Map<String, Value>> {
    let direct = ["/mcpServers", "/servers", "/mcp/servers"];
    let mut groups: Vec<_> = direct.iter().filter_map(|at| root.pointer(at)?.as_object()).collect();
    for project in root["projects"].as_object().into_iter().flat_map(Map::values) {
        groups.extend(project["mcpServers"].as_object().filter(|servers| !servers.is_empty()));
    }
    groups
}

const UNDERSTOOD: [&str; 12] = [
    "command",
    "args",
    "env",
    "cwd",
    "url",
    "serverUrl",
    "headers",
    "type",
    "transport",
    "disabled",
    "description",
    "name",
];

fn one(name: &str, entry: &Value, taken: &mut BTreeSet<String>, lookup: &dyn Fn(&str) -> Option<String>) -> Found {
    let mut notes = Vec::new();
    let spec = describe(name, entry, taken, lookup, &mut notes);
    Found { name: name.to_owned(), spec: spec.map(Box::new), notes }
}

fn describe(
    name: &str,
    entry: &Value,
    taken: &mut BTreeSet<String>,
    lookup: &dyn Fn(&str) -> Option<String>,
    notes: &mut Vec<String>,
) -> Result<ServerSpec, String> {
    let entry = entry.as_object().ok_or("its entry is not an object")?;
    if entry.contains_key("envFile") {
        return Err("it reads its environment from `envFile`; register it with `servers add` and --env".into());
    }
    let resolve = |text: &str| placeholders(text, lookup);
    let mut fields = Map::new();
    let url = entry.get("url").or_else(|| entry.get("serverUrl")).and_then(Value::as_str);
    let kind = entry.get("type").or_else(|| entry.get("transport")).and_then(Value::as_str);
    if let Some(program) = entry.get("command").and_then(Value::as_str) {
        if kind.is_some_and(|kind| kind != "stdio") {
            return Err(format!("it has a command, but its type is `{}`", shorten(kind.unwrap_or_default(), 40)));
        }
        let mut args = Vec::new();
        for arg in texts(entry.get("args"), "args")? {
            args.push(resolve(arg)?);
        }
        let mut command = serde_json::json!({ "program": resolve(program)?, "args": args });
        if let Some(cwd) = entry.get("cwd").and_then(Value::as_str) {
            command["cwd"] = resolve(cwd)?.into();
        }
        fields.insert("transport".into(), "stdio".into());
        fields.insert("command".into(), command);
        fields.insert("env".into(), values(entry.get("env"), "env", &resolve)?);
    } else if let Some(url) = url {
        let url = resolve(url)?;
        fields.insert("transport".into(), transport(kind, &url, notes)?.into());
        fields.insert("replicas".into(), serde_json::json!([{ "url": url }]));
        fields.insert("headers".into(), values(entry.get("headers"), "headers", &resolve)?);
    } else {
        return Err("it has neither a `command` nor a `url`".into());
    }
    if let Some(text) = entry.get("description").and_then(Value::as_str) {
        fields.insert("description".into(), text.into());
    }
    if entry.get("disabled") == Some(&Value::Bool(true)) {
        fields.insert("enabled".into(), false.into());
        notes.push("it is disabled there, and so here".into());
    }
    let ignored: Vec<_> = entry
        .keys()
        .filter(|key| !UNDERSTOOD.contains(&key.as_str()))
        .map(|key| format!("`{}`", shorten(key, 40)))
        .collect();
    if !ignored.is_empty() {
        notes.push(format!("left out: {}", ignored.join(", ")));
    }
    let slug = free_slug(name, taken).ok_or("its name holds no letter or digit; rename it in the file")?;
    if slug != name {
        fields.insert("title".into(), shorten(name, 60).into());
        notes.push(format!("registered as `{slug}`"));
    }
    fields.insert("slug".into(), slug.clone().into());
    let spec: ServerSpec = serde_json::from_value(fields.into()).map_err(|error| error.to_string())?;
    let mistakes: Vec<_> = spec.check().into_iter().map(|m| format!("{}: {}", m.field, m.message)).collect();
    if !mistakes.is_empty() {
        return Err(mistakes.join("; "));
    }
    taken.insert(slug);
    Ok(spec)
}

fn transport(kind: Option<&str>, url: &str, notes: &mut Vec<String>) -> Result<&'static str, String> {
    match kind.map(str::to_ascii_lowercase).as_deref() {
        Some("sse") => Ok("sse"),
        None if url.split(['?', '#']).next().is_some_and(|path| path.ends_with("/sse")) => {
            notes.push("taken for the old HTTP+SSE transport, as its URL ends in /sse".into());
            Ok("sse")
        }
        None | Some("http" | "streamable-http" | "streamablehttp" | "streamable_http") => Ok("streamable_http"),
        Some(other) => Err(format!("its type `{}` is not known; use stdio, http or sse", shorten(other, 40))),
    }
}

fn texts<'a>(list: Option<&'a Value>, field: &str) -> Result<Vec<&'a str>, String> {
    match list {
        None | Some(Value::Null) => Ok(Vec::new()),
        Some(Value::Array(items)) => items
            .iter()
            .map(|item| item.as_str().ok_or_else(|| format!("`{field}` holds something that is no text")))
            .collect(),
        Some(_) => Err(format!("`{field}` is not a list")),
    }
}

fn values(
    object: Option<&Value>,
    field: &str,
    resolve: &impl Fn(&str) -> Result<String, String>,
) -> Result<Value, String> {
    let mut out = Map::new();
    match object {
        None | Some(Value::Null) => {}
        Some(Value::Object(members)) => {
            for (name, value) in members {
                let text = match value {
                    Value::String(text) => resolve(text)?,
                    Value::Number(_) | Value::Bool(_) => value.to_string(),
                    _ => return Err(format!("`{field}.{name}` is no text")),
                };
                out.insert(name.clone(), text.into());
            }
        }
        Some(_) => return Err(format!("`{field}` is not an object")),
    }
    Ok(out.into())
}

/// `${env:NAME}`, `${NAME}` and `${NAME:-default}` from the environment, `${userHome}` from HOME. What a client asks a person
/// for (`${input:…}`) or knows only itself (`${workspaceFolder}`) cannot be taken over.
fn placeholders(text: &str, lookup: &dyn Fn(&str) -> Option<String>) -> Result<String, String> {
    let mut out = String::new();
    let mut rest = text;
    while let Some(at) = rest.find("${") {
        out.push_str(&rest[..at]);
        let Some(length) = rest[at..].find('}') else { break };
        let inside = &rest[at + 2..at + length];
        rest = &rest[at + length + 1..];
        if let Some(id) = inside.strip_prefix("input:") {
            return Err(format!(
                "it asks a person for the input `{}`; register it with `servers add` and give the value there",
                shorten(id, 40)
            ));
        }
        if inside == "pathSeparator" || inside == "/" {
            out.push(std::path::MAIN_SEPARATOR);
            continue;
        }
        let (name, default) = match inside.strip_prefix("env:") {
            Some(name) => (name, None),
            None if inside == "userHome" => ("HOME", None),
            None => inside.split_once(":-").map_or((inside, None), |(name, default)| (name, Some(default))),
        };
        if name.is_empty() || !name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_') || is_of_the_client(name) {
            return Err(format!("only the client knows `${{{}}}`; write the value into the file", shorten(inside, 40)));
        }
        match lookup(name).or_else(|| default.map(str::to_owned)) {
            Some(value) => out.push_str(&value),
            None => return Err(format!("it needs the environment variable {name}; export it before the command")),
        }
    }
    out.push_str(rest);
    Ok(out)
}

fn is_of_the_client(name: &str) -> bool {
    name.starts_with("workspaceFolder")
        || name.starts_with("CLAUDE_")
        || matches!(name, "file" | "cwd" | "extensionPath")
}

/// A slug like `name` that is not taken: small letters, digits and single hyphens, at most 40.
fn free_slug(name: &str, taken: &BTreeSet<String>) -> Option<String> {
    let mut slug = String::new();
    for c in name.chars() {
        if c.is_ascii_alphanumeric() {
            slug.push(c.to_ascii_lowercase());
        } else if !slug.is_empty() && !slug.ends_with('-') {
            slug.push('-');
        }
    }
    // Room for a number behind it.
    slug.truncate(36);
    let slug = slug.trim_end_matches('-').to_owned();
    if slug.is_empty() {
        return None;
    }
    std::iter::once(slug.clone()).chain((2..1000).map(|n| format!("{slug}-{n}"))).find(|slug| !taken.contains(slug))
}

/// `text` with comments and trailing commas turned into spaces, so that every place stays the same.
fn without_comments(text: &str) -> String {
    let mut out = text.as_bytes().to_vec();
    let (mut at, mut comma) = (0, None);
    if text.starts_with('\u{feff}') {
        out[..3].fill(b' ');
        at = 3;
    }
    while at < out.len() {
        match out[at] {
            b'"' => {
                comma = None;
                at += 1;
                while at < out.len() && out[at] != b'"' {
                    at += if out[at] == b'\\' { 2 } else { 1 };
                }
                at += 1;
            }
            b'/' if out.get(at + 1) == Some(&b'/') => {
                while at < out.len() && out[at] != b'\n' {
                    out[at] = b' ';
                    at += 1;
                }
            }
            b'/' if out.get(at + 1) == Some(&b'*') => {
                let end = text.get(at + 2..).and_then(|rest| rest.find("*/")).map_or(out.len(), |step| at + step + 4);
                for byte in &mut out[at..end] {
                    if *byte != b'\n' {
                        *byte = b' ';
                    }
                }
                at = end;
            }
            b',' => {
                comma = Some(at);
                at += 1;
            }
            b'}' | b']' => {
                if let Some(comma) = comma.take() {
                    out[comma] = b' ';
                }
                at += 1;
            }
            byte => {
                if !byte.is_ascii_whitespace() {
                    comma = None;
                }
                at += 1;
            }
        }
    }
    // Only whole characters within comments were replaced, byte for byte.
    String::from_utf8(out).unwrap_or_else(|_| text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::registry::model::TransportKind;

    fn env(name: &str) -> Option<String> {
        (name == "TOKEN").then(|| "s3cret".to_owned())
    }

    fn only(text: &str) -> Found {
        let mut found = read("f.json", text, &env).unwrap();
        assert_eq!(found.len(), 1, "{found:?}");
        found.remove(0)
    }

    #[test]
    fn claude_desktop_files_are_read() {
        let found =
            only(r#"{"mcpServers":{"My Files":{"command":"npx","args":["-y","x","/home"],"env":{"A":"1","N":5}}}}"#);
        let spec = found.spec.unwrap();
        assert_eq!((spec.slug.as_str(), spec.title.as_str()), ("my-files", "My Files"));
        assert_eq!(spec.command.unwrap().args, ["-y", "x", "/home"]);
        assert_eq!(spec.env["N"].expose(), "5");
        assert_eq!(found.notes, ["registered as `my-files`"]);
    }

    #[test]
    fn claude_code_files_take_variables_with_defaults_and_projects() {
        let found = only(
            r#"{"projects":{"/p":{"mcpServers":{"api":{"type":"http","url":"${BASE:-https://x}/mcp","headers":{"Authorization":"Bearer ${TOKEN}"}}}}}}"#,
        );
        let spec = found.spec.unwrap();
        assert_eq!(spec.transport, TransportKind::StreamableHttp);
        assert_eq!(spec.replicas[0].url, "https://x/mcp");
        assert_eq!(spec.headers["Authorization"].expose(), "Bearer s3cret");
    }

    #[test]
    fn cursor_files_are_read_by_their_url() {
        let found =
            only(r#"{"mcpServers":{"old":{"url":"https://x/sse","headers":{"K":"${env:TOKEN}"},"autoApprove":[]}}}"#);
        assert_eq!(found.notes.len(), 2, "{:?}", found.notes);
        assert_eq!(found.spec.unwrap().transport, TransportKind::Sse);
        let found = only(r#"{"mcpServers":{"new":{"url":"https://x/mcp","disabled":true}}}"#);
        assert!(!found.spec.unwrap().enabled);
    }

    #[test]
    fn vs_code_files_with_comments_and_inputs_are_read() {
        let text = "{\n  // comment, with \"quotes\"\n  \"inputs\": [{\"id\": \"key\", \"type\": \"promptString\"},],\n  \
                    \"servers\": {\n    /* } */ \"ask\": {\"type\": \"http\", \"url\": \"https://x//mcp\", \"headers\": {\"K\": \
                    \"${input:key}\"}},\n    \"fine\": {\"type\": \"stdio\", \"command\": \"uvx\", \"args\": [\"a\",],},\n  },\n}\n";
        let found = read("mcp.json", text, &env).unwrap();
        assert!(found[0].spec.as_ref().unwrap_err().contains("asks a person for the input `key`"));
        assert_eq!(found[1].spec.as_ref().unwrap().command.as_ref().unwrap().program, "uvx");
    }

    #[test]
    fn what_cannot_be_taken_over_says_why() {
        let why = |entry: &str| only(&format!(r#"{{"servers":{{"a":{entry}}}}}"#)).spec.unwrap_err();
        assert!(why(r#"{"command":"x","envFile":".env"}"#).contains("envFile"));
        assert!(why(r#"{"command":"x","args":["${workspaceFolder}/a"]}"#).contains("only the client knows"));
        assert!(why(r#"{"command":"x","env":{"A":"${env:MISSING}"}}"#).contains("environment variable MISSING"));
        assert!(why(r#"{"type":"websocket","url":"https://x"}"#).contains("`websocket` is not known"));
        assert!(why(r#"{"url":"ftp://x"}"#).contains("only http and https"));
        assert!(why("{}").contains("neither"));
        assert!(why("7").contains("not an object"));
    }

    #[test]
    fn broken_json_is_told_with_line_and_column_and_other_files_are_refused() {
        let failure = read("f.json", "{\n  // fine\n  \"a\": nope\n}", &env).unwrap_err();
        assert!(failure.details[0].starts_with("f.json:3:"), "{:?}", failure.details);
        assert!(read("f.json", "{\"other\": {}}", &env).is_err());
    }

    #[test]
    fn names_that_become_the_same_stay_apart() {
        let text = r#"{"mcpServers":{"A b":{"url":"https://x"},"a_b":{"url":"https://y"},"日本":{"url":"https://z"}}}"#;
        let found = read("f", text, &env).unwrap();
        let slugs: Vec<_> = found.iter().map(|f| f.spec.as_ref().map(|s| s.slug.to_string()).ok()).collect();
        assert_eq!(slugs, [Some("a-b".into()), Some("a-b-2".into()), None]);
    }

    #[test]
    fn a_name_that_stands_twice_is_told_with_its_place_and_no_column_is_0() {
        let text = "{\"mcpServers\": {\n  \"a\": {\"url\": \"https://x\"},\n  \"a\": {\"url\": \"https://y\"}\n}}";
        let failure = read("f.json", text, &env).unwrap_err();
        assert_eq!(failure.details, ["f.json:3:4: the name \"a\" stands twice in one object"]);
        for broken in ["{\n", "{\"a\":\n\n", "\n"] {
            let failure = read("f.json", broken, &env).unwrap_err();
            assert!(!failure.details[0].contains(":0:"), "{:?}", failure.details);
        }
    }

    proptest::proptest! {
        #[test]
        fn taking_comments_out_never_panics_and_keeps_plain_json(text in r#"[/*"\\,\[\]{}:a\n é]{0,60}"#) {
            let plain = without_comments(&text);
            assert_eq!(plain.len(), text.len());
            if let Ok(value) = serde_json::from_str::<Value>(&text) {
                assert_eq!(serde_json::from_str::<Value>(&plain).unwrap(), value);
            }
        }
    }
}
