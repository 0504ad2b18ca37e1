//! A server as people read it: its state, where it is, everything about it but its secrets.

use serde_json::Value;

use super::screen::{Table, Tone, clean, text_at};

/// How the state of a server is coloured.
pub fn state_tone(state: &str) -> Tone {
    match state {
        "ready" => Tone::Good,
        "unreachable" => Tone::Bad,
        "disabled" => Tone::Dim,
        _ => Tone::Warn,
    }
}

/// Where a server is: its first URL, or its command line.
pub fn place(view: &Value) -> String {
    if let Some(replicas) = view["replicas"].as_array().filter(|replicas| !replicas.is_empty()) {
        let more = replicas.len() - 1;
        let first = text_at(&replicas[0], "/url");
        return if more == 0 { first } else { format!("{first} and {more} more") };
    }
    let args = view["command"]["args"].as_array().into_iter().flatten().filter_map(Value::as_str);
    std::iter::once(text_at(view, "/command/program").as_str()).chain(args).collect::<Vec<_>>().join(" ")
}

/// A server's view as lines `name  value`.
pub fn describe(view: &Value) -> String {
    let mut table = Table::new(&["", ""]);
    let mut add = |name: &str, text: String, tone| {
        if text != "-" && !text.is_empty() {
            table.row([(name.to_owned(), Tone::Dim), (text, tone)]);
        }
    };
    let state = text_at(view, "/status/state");
    add("server", text_at(view, "/slug"), Tone::Plain);
    add("state", state.clone(), state_tone(&state));
    add("last error", text_at(view, "/status/last_error"), Tone::Bad);
    for problem in problems(view) {
        add("problem", problem.to_owned(), Tone::Warn);
    }
    for (name, pointer) in [
        ("title", "/title"),
        ("description", "/description"),
        ("transport", "/transport"),
        ("protocol", "/protocol"),
        ("speaks", "/status/version"),
        ("tools", "/status/tools"),
        ("resources", "/status/resources"),
        ("prompts", "/status/prompts"),
        ("people connect at", "/status/connect/issuer"),
        ("for", "/status/connect/resource"),
        ("as a client that is", "/status/connect/client"),
        ("redirect URI", "/status/connect/redirect_uri"),
    ] {
        add(name, text_at(view, pointer), Tone::Plain);
    }
    add("nobody can connect", text_at(view, "/status/connect/problem"), Tone::Bad);
    for replica in view["replicas"].as_array().into_iter().flatten() {
        add("replica", format!("{} (weight {})", text_at(replica, "/url"), text_at(replica, "/weight")), Tone::Plain);
    }
    if view["command"].is_object() {
        add("command", place(view), Tone::Plain);
        add("folder", text_at(view, "/command/cwd"), Tone::Plain);
        add("sharing", text_at(view, "/sharing"), Tone::Plain);
    } else {
        add("balance", text_at(view, "/balance"), Tone::Plain);
    }
    for (name, field) in [("header", "headers"), ("env", "env")] {
        for (key, value) in view[field].as_object().into_iter().flatten() {
            add(name, format!("{key}: {}", value.as_str().unwrap_or("***")), Tone::Plain);
        }
    }
    for (name, field) in [("auth", "auth"), ("asks with", "discovery_auth")] {
        for (key, value) in view[field].as_object().into_iter().flatten() {
            add(name, format!("{key}: {}", setting(value)), Tone::Plain);
        }
    }
    add("tags", words(&view["tags"]), Tone::Plain);
    add("visible to", audience(&view["visibility"]), Tone::Plain);
    let wait = |name: &str| text_at(view, &format!("/timeouts/{name}"));
    add(
        "timeouts",
        format!("connect {} ms, idle {} ms, total {} ms", wait("connect_ms"), wait("idle_ms"), wait("total_ms")),
        Tone::Plain,
    );
    add("takes", limits(&view["rate_limits"]), Tone::Plain);
    add("revision", text_at(view, "/revision"), Tone::Plain);
    add("changed", text_at(view, "/updated_at"), Tone::Plain);
    // Nothing stands in the row of headings.
    table.render("").lines().skip(1).fold(String::new(), |text, line| text + line + "\n")
}

/// A value of a credential, in a row.
fn setting(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Array(_) => words(value),
        Value::Object(members) => members.keys().map(|name| format!("{name}: ***")).collect::<Vec<_>>().join(", "),
        other => other.to_string(),
    }
}

fn words(list: &Value) -> String {
    list.as_array().into_iter().flatten().filter_map(Value::as_str).collect::<Vec<_>>().join(", ")
}

/// How much a server takes; nothing where that is not limited.
fn limits(limits: &Value) -> String {
    let whole = limits["rpm"].as_u64().map(|rpm| format!("{rpm} requests a minute"));
    let tools = limits["tools"].as_object().into_iter().flatten().map(|(name, rpm)| format!("{rpm} of {name}"));
    whole.into_iter().chain(tools).collect::<Vec<_>>().join(", ")
}

fn audience(visibility: &Value) -> String {
    if visibility["everyone"] == true {
        return "everyone".to_owned();
    }
    let named = |field: &str, prefix: &str| -> Vec<String> {
        let names = visibility[field].as_array().into_iter().flatten().filter_map(Value::as_str);
        names.map(|name| format!("{prefix}:{name}")).collect()
    };
    let mut all = vec!["admins".to_owned()];
    all.extend(named("roles", "role"));
    all.extend(named("users", "user"));
    all.join(", ")
}

/// What came of asking a server, behind its name.
pub fn summary(view: &Value) -> String {
    let count = |name: &str| view["status"][name].as_u64();
    match (view["status"]["state"].as_str(), count("tools")) {
        (Some("ready"), Some(tools)) => format!(
            ": {tools} tools, {} resources, {} prompts",
            count("resources").unwrap_or(0),
            count("prompts").unwrap_or(0)
        ),
        (Some(state @ "unreachable"), _) => {
            format!(": {}, {}", Tone::Bad.paint(state), clean(&text_at(view, "/status/last_error")))
        }
        _ => String::new(),
    }
}

/// What is wrong with a server's lists: what was left out of them, and why.
pub fn problems(view: &Value) -> impl Iterator<Item = &str> {
    view["status"]["problems"].as_array().into_iter().flatten().filter_map(Value::as_str)
}

/// The same as lines below another one.
pub fn left_out(view: &Value) -> String {
    problems(view).fold(String::new(), |text, problem| text + "  " + &Tone::Warn.paint(&clean(problem)) + "\n")
}

/// Why a server is not ready, and what comes of it; nothing where there is nothing to say.
pub fn remark(view: &Value) -> Option<String> {
    let slug = text_at(view, "/slug");
    match view["status"]["state"].as_str()? {
        "unreachable" => Some(format!("it is kept and tried again: {}", clean(&text_at(view, "/status/last_error")))),
        "unknown" => Some(format!(
            "it has not answered yet and is waited for; `mcp-gateway servers show {slug}` says what came of it"
        )),
        _ => None,
    }
}

/// Why a server shows no tools, and what to do.
pub fn without_tools(view: &Value) -> String {
    let slug = text_at(view, "/slug");
    match view["status"]["state"].as_str() {
        Some("disabled") => format!("the server is disabled; `mcp-gateway servers enable {slug}` lets calls through"),
        Some("unreachable") => format!(
            "the server cannot be reached: {}\n`mcp-gateway servers refresh {slug}` asks it again",
            clean(&text_at(view, "/status/last_error"))
        ),
        Some("unknown") => "the server has not answered yet; try again in a moment".to_owned(),
        _ => "this server offers no tools, or none to you".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_server_is_described_without_empty_lines() {
        let view = json!({
            "slug": "files", "transport": "stdio", "command": {"program": "npx", "args": ["-y", "x"]},
            "env": {"TOKEN": "***"}, "tags": [], "visibility": {"everyone": false, "roles": ["dev"], "users": []},
            "timeouts": {"connect_ms": 1, "idle_ms": 2, "total_ms": 3},
            "rate_limits": {"rpm": 600, "tools": {"search": 30}}, "revision": 4,
            "status": {"state": "unreachable", "last_error": "no \u{1b}[31mprogram"},
        });
        let text = anstream::adapter::strip_str(&describe(&view)).to_string();
        assert!(text.contains("command     npx -y x\n"), "{text}");
        assert!(text.contains("visible to  admins, role:dev\n"), "{text}");
        assert!(text.contains("takes       600 requests a minute, 30 of search\n"), "{text}");
        assert!(text.contains("env         TOKEN: ***\n"), "{text}");
        assert!(!text.contains("tags"), "{text}");
        assert!(text.contains("no \u{fffd}[31mprogram"), "{text}");
    }

    #[test]
    fn what_was_left_out_is_told() {
        let view = json!({"slug": "a", "status": {"state": "ready", "problems": ["tool `x` is left out", "y twice"]}});
        let plain = |text: &str| anstream::adapter::strip_str(text).to_string();
        assert_eq!(plain(&left_out(&view)), "  tool `x` is left out\n  y twice\n");
        let text = plain(&describe(&view));
        assert!(text.contains("problem     tool `x` is left out\nproblem     y twice\n"), "{text}");
        assert_eq!(left_out(&json!({"status": {"state": "ready"}})), "");
    }

    #[test]
    fn what_is_not_ready_says_why() {
        let view = |state: &str| json!({"slug": "a", "status": {"state": state, "last_error": "refused"}});
        assert_eq!(remark(&view("ready")), None);
        assert!(remark(&view("unreachable")).unwrap().ends_with("refused"));
        assert!(remark(&view("unknown")).unwrap().contains("servers show a"));
        assert!(without_tools(&view("disabled")).contains("servers enable a"));
        assert!(without_tools(&view("unreachable")).contains("refused"));
        assert!(!without_tools(&view("ready")).contains("refresh"));
    }
}
