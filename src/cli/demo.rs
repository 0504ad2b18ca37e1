//! `demo`: the gateway in one command. It starts as `serve` does, registers the sample server, makes a first tool call through
//! itself as any client would, over HTTP at `/mcp`, shows what happened and what to paste into clients, and stays up.

use std::fmt::Write as _;
use std::time::Duration;

use anyhow::Context;
use serde_json::{Value, json};

use super::failure::Failure;
use super::gateway::{Access, Gateway};
use super::mcp::{Answered, Asked, Client};
use super::screen::{Screen, Tone};
use super::servers::until_ready;
use crate::config::Settings;
use crate::id::Slug;
use crate::serve::Stopped;

const SAMPLE: &str = "sample";
/// Longest wait for the sample server to be ready, and for its answer.
const WAIT: Duration = Duration::from_secs(15);

/// Runs it until the process is told to stop.
pub async fn run(settings: Settings, screen: Screen) -> anyhow::Result<Stopped> {
    let data = settings.data.data_dir.clone();
    crate::serve::live(settings, async || show(&data, screen).await).await
}

/// The gateway is up: makes the first call and tells of it. Where that fails the gateway stays up all the same, and a look
/// at it says more than its end would.
async fn show(data: &std::path::Path, screen: Screen) -> anyhow::Result<()> {
    let access = Access::read(data)?.ok_or_else(|| {
        Failure::new(format!("the gateway runs, but {} is not there", Access::path(data).display()))
            .advise("check that the data folder can be written")
    })?;
    match first_call(&access).await {
        Ok(answer) => Ok(screen.show(&document(&access, &answer), || story(&access, &answer))?),
        Err(error) => {
            let failure = Failure::of(error.context("the first call did not succeed"));
            super::screen::note(failure.render().trim_end());
            Ok(())
        }
    }
}

/// Registers the sample server where it is not, and calls it once through the gateway.
async fn first_call(access: &Access) -> anyhow::Result<Answered> {
    let gateway = Gateway::at(access)?;
    let slug = Slug::parse(SAMPLE)?;
    register(&gateway).await?;
    let view = until_ready(&gateway, &slug, WAIT).await?;
    if view["status"]["state"] != "ready" {
        let why = view["status"]["last_error"].as_str().unwrap_or("no reason given");
        return Err(Failure::new(format!("the sample server is not ready: {why}"))
            .advise("`mcp-gateway doctor` says more")
            .into());
    }
    let client = Client::new(&gateway, gateway.url(&["mcp"]), WAIT)?;
    let arguments = json!({ "a": 2, "b": 40 });
    client.call(&Asked { name: "sample__add", arguments: &arguments, tool: None }, |_| {}).await
}

async fn register(gateway: &Gateway) -> anyhow::Result<()> {
    let program = std::env::current_exe().context("cannot find this program's own file")?;
    let spec = json!({
        "slug": SAMPLE, "title": "Sample server", "description": "Four small tools that are built into the gateway",
        "transport": "stdio", "command": { "program": program, "args": ["sample-server"] }, "tags": ["sample"],
    });
    match gateway.post(&["servers"], &spec).await {
        Ok(_) => Ok(()),
        Err(error) => {
            let failure = Failure::of(error);
            if failure.status != Some(409) {
                return Err(failure.into());
            }
            // From an earlier demo. The binary may have moved since.
            let body = serde_json::to_vec(&json!({ "command": spec["command"], "enabled": true }))?;
            gateway.api(http::Method::PATCH, &["servers", SAMPLE], Some(body), None).await.map(drop)
        }
    }
}

fn milliseconds(answer: &Answered) -> f64 {
    (answer.took.as_secs_f64() * 1_000_000.0).round() / 1000.0
}

fn document(access: &Access, answer: &Answered) -> Value {
    json!({
        "gateway": access.gateway, "mcp": endpoint(access), "key": access.key.expose(),
        "call": { "request": answer.request, "result": answer.result, "protocol_version": answer.version,
            "took_ms": milliseconds(answer) },
        "clients": {
            "claude_code": claude_code(access),
            "vscode": vs_code(access),
            "cursor": cursor(access),
        },
    })
}

fn endpoint(access: &Access) -> String {
    format!("{}/mcp", access.gateway.trim_end_matches('/'))
}

fn claude_code(access: &Access) -> String {
    format!(
        "claude mcp add --transport http gateway {} --header 'Authorization: Bearer {}'",
        endpoint(access),
        access.key.expose()
    )
}

fn vs_code(access: &Access) -> Value {
    json!({ "servers": { "gateway": { "type": "http", "url": endpoint(access), "headers": bearer(access) } } })
}

fn cursor(access: &Access) -> Value {
    json!({ "mcpServers": { "gateway": { "url": endpoint(access), "headers": bearer(access) } } })
}

fn bearer(access: &Access) -> Value {
    json!({ "Authorization": format!("Bearer {}", access.key.expose()) })
}

fn story(access: &Access, answer: &Answered) -> String {
    let pretty = |value: &Value| format!("{value:#}").replace('\n', "\n    ");
    let head = |text: &str| Tone::Good.paint(text);
    let mut out = String::new();
    for (title, body) in [
        ("The gateway is up", format!("{}  (MCP: {})", access.gateway, endpoint(access))),
        ("The first call, through the gateway to the sample server", pretty(&answer.request["params"]["name"])),
        (
            "  request",
            pretty(&json!({ "method": answer.request["method"], "params": { "name":
            answer.request["params"]["name"], "arguments": answer.request["params"]["arguments"] } })),
        ),
        ("  answer", pretty(&answer.result)),
        ("  took", format!("{:.1} ms, MCP {}", milliseconds(answer), answer.version)),
        ("The sign-in key (an administrator's: keep it to yourself)", access.key.expose().to_owned()),
        ("Claude Code", claude_code(access)),
        ("VS Code, .vscode/mcp.json", pretty(&vs_code(access))),
        ("Cursor, ~/.cursor/mcp.json", pretty(&cursor(access))),
        (
            "More",
            "mcp-gateway servers call sample now\n    mcp-gateway servers add --help\n    Ctrl-C stops the gateway"
                .into(),
        ),
    ] {
        let _ = writeln!(out, "{}\n    {body}", head(title));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::mcp_files;
    use crate::secret::Secret;

    #[test]
    fn what_is_shown_to_paste_is_what_the_clients_read() {
        let access = Access { gateway: "http://127.0.0.1:8001".into(), key: Secret::new("mcpg_k") };
        for file in [vs_code(&access), cursor(&access)] {
            let found = mcp_files::read("f", &file.to_string(), &|_| None).unwrap();
            let spec = found[0].spec.as_ref().unwrap();
            assert_eq!(spec.replicas[0].url, "http://127.0.0.1:8001/mcp");
            assert_eq!(spec.headers["Authorization"].expose(), "Bearer mcpg_k");
        }
        assert!(claude_code(&access).contains("--transport http gateway http://127.0.0.1:8001/mcp --header"));
    }
}
