//! `demo`: the gateway in one command, in a data folder of its own. It starts as `serve` does, registers the sample server,
//! makes a first tool call through itself as any client would, over HTTP at `/mcp`, shows what happened and what to paste into
//! clients, and stays up. A server that somebody else registered it never touches.

use std::fmt::Write as _;
use std::path::Path;
use std::time::Duration;

use anyhow::Context;
use serde_json::{Value, json};

use super::failure::Failure;
use super::gateway::Gateway;
use super::mcp::{Answered, Asked, Client};
use super::sample;
use super::screen::{Screen, Tone};
use super::servers::until_ready;
use crate::app::App;
use crate::config::Settings;
use crate::id::Slug;
use crate::secret::Secret;
use crate::serve::{Running, Stopped, own_key};

/// Its data folder when none is named: not the one of `serve`, where a sample has no business.
pub const FOLDER: &str = "./data/demo";

/// Name of the sample server, and the beginning of others where that one is taken.
const SAMPLE: &str = "sample";
/// Tells the sample server from one that somebody registered under its name.
const TAG: &str = "mcp-gateway-demo";
/// Name of the key that it makes where it finds none.
const KEY: &str = "mcp-gateway demo";
/// Longest wait for the sample server to be ready, and for its answer.
const WAIT: Duration = Duration::from_secs(15);

/// What is shown: where the gateway is, the key, and the sample server's name.
struct Stage<'a> {
    gateway: &'a str,
    key: Secret,
    slug: Slug,
    folder: &'a Path,
}

/// Runs it until the process is told to stop.
pub async fn run(settings: Settings, screen: Screen) -> anyhow::Result<Stopped> {
    Box::pin(crate::serve::live(settings, async |app, running| Box::pin(show(app, running, screen)).await)).await
}

/// The gateway is up: makes the first call and tells of it. Where that fails the gateway stays up all the same, and a look
/// at it says more than its end would.
async fn show(app: &App, running: &Running, screen: Screen) -> anyhow::Result<()> {
    let url = running.url();
    screen.print(&format!("listening on {url}\n"))?;
    match first_call(app, &url).await {
        Ok((stage, answer)) => Ok(screen.say(&document(&stage, &answer), || story(&stage, &answer))?),
        Err(error) => {
            let failure = Failure::of(error.context("the first call did not succeed"));
            super::screen::note(failure.render().trim_end());
            Ok(screen.say(&failure.document(), String::new)?)
        }
    }
}

/// Registers the sample server where it is not, and calls it once through the gateway.
async fn first_call<'a>(app: &'a App, url: &'a str) -> anyhow::Result<(Stage<'a>, Answered)> {
    let key = own_key(app, url, KEY).await?;
    let gateway = Gateway::at(url, &key)?;
    let slug = register(&gateway).await?;
    let view = until_ready(&gateway, &slug, WAIT).await?;
    if view["status"]["state"] != "ready" {
        let why = view["status"]["last_error"].as_str().unwrap_or("no reason given");
        return Err(Failure::new(format!("the sample server is not ready: {why}"))
            .advise("`mcp-gateway doctor` says more")
            .into());
    }
    let client = Client::new(&gateway, gateway.url(&["mcp"]), WAIT)?;
    let arguments = json!({ "a": 2, "b": 40 });
    let name = format!("{slug}__add");
    let answer = client.call(&Asked { name: &name, arguments: &arguments, tool: None }, |_| {}).await?;
    Ok((Stage { gateway: url, key, slug, folder: &app.settings.data.data_dir }, answer))
}

/// Registers the sample server under the first name that is free or already its own.
async fn register(gateway: &Gateway) -> anyhow::Result<Slug> {
    let program = std::env::current_exe().context("cannot find this program's own file")?;
    let known = gateway.all(&["servers"]).await?;
    let holder = |slug: &str| known.iter().find(|view| view["slug"] == slug);
    let own = |view: &Value| view["tags"].as_array().is_some_and(|tags| tags.iter().any(|tag| tag == TAG));
    let names = std::iter::once(SAMPLE.to_owned()).chain((2..100).map(|number| format!("{SAMPLE}-{number}")));
    let free = names.into_iter().find(|name| holder(name).is_none_or(own));
    let slug = Slug::parse(&free.ok_or_else(|| Failure::new("every name for the sample server is taken"))?)?;
    let command = json!({ "program": program, "args": [sample::COMMAND] });
    if holder(slug.as_str()).is_some() {
        // From an earlier demo. The binary may have moved since.
        let body = serde_json::to_vec(&json!({ "command": command, "enabled": true }))?;
        gateway.api(http::Method::PATCH, &["servers", slug.as_str()], Some(body), None).await?;
    } else {
        let spec = json!({
            "slug": slug.as_str(), "title": "Sample server", "transport": "stdio", "command": command, "tags": [TAG],
            "description": "Four small tools that are built into the gateway",
        });
        gateway.post(&["servers"], &spec).await?;
    }
    Ok(slug)
}

fn milliseconds(answer: &Answered) -> f64 {
    (answer.took.as_secs_f64() * 1_000_000.0).round() / 1000.0
}

fn document(stage: &Stage<'_>, answer: &Answered) -> Value {
    json!({
        "gateway": stage.gateway, "mcp": endpoint(stage), "key": stage.key.expose(),
        "call": { "request": answer.request, "result": answer.result, "protocol_version": answer.version,
            "took_ms": milliseconds(answer) },
        "clients": {
            "claude_code": claude_code(stage),
            "vscode": vs_code(stage),
            "cursor": cursor(stage),
        },
    })
}

fn endpoint(stage: &Stage<'_>) -> String {
    format!("{}/mcp", stage.gateway.trim_end_matches('/'))
}

fn claude_code(stage: &Stage<'_>) -> String {
    format!(
        "claude mcp add --transport http gateway {} --header 'Authorization: Bearer {}'",
        endpoint(stage),
        stage.key.expose()
    )
}

fn vs_code(stage: &Stage<'_>) -> Value {
    json!({ "servers": { "gateway": { "type": "http", "url": endpoint(stage), "headers": bearer(stage) } } })
}

fn cursor(stage: &Stage<'_>) -> Value {
    json!({ "mcpServers": { "gateway": { "url": endpoint(stage), "headers": bearer(stage) } } })
}

fn bearer(stage: &Stage<'_>) -> Value {
    json!({ "Authorization": format!("Bearer {}", stage.key.expose()) })
}

/// What stands before a command so that it finds this gateway; nothing where it finds it anyway.
fn beside(folder: &Path) -> String {
    if folder == Path::new("data") || folder == Path::new("./data") {
        return String::new();
    }
    let shown = folder.display().to_string();
    let plain = shown.chars().all(|c| c.is_alphanumeric() || "/._-+@".contains(c));
    let shown = if plain { shown } else { format!("'{}'", shown.replace('\'', "'\\''")) };
    format!("MREG_DATA_DIR={shown} ")
}

fn story(stage: &Stage<'_>, answer: &Answered) -> String {
    let pretty = |value: &Value| format!("{value:#}").replace('\n', "\n    ");
    let head = |text: &str| Tone::Good.paint(text);
    let mut out = String::new();
    for (title, body) in [
        ("The gateway is up", format!("{}  (MCP: {})", stage.gateway, endpoint(stage))),
        ("The first call, through the gateway to the sample server", pretty(&answer.request["params"]["name"])),
        (
            "  request",
            pretty(&json!({ "method": answer.request["method"], "params": { "name":
            answer.request["params"]["name"], "arguments": answer.request["params"]["arguments"] } })),
        ),
        ("  answer", pretty(&answer.result)),
        ("  took", format!("{:.1} ms, MCP {}", milliseconds(answer), answer.version)),
        ("The sign-in key (an administrator's: keep it to yourself)", stage.key.expose().to_owned()),
        ("Claude Code", claude_code(stage)),
        ("VS Code, .vscode/mcp.json", pretty(&vs_code(stage))),
        ("Cursor, ~/.cursor/mcp.json", pretty(&cursor(stage))),
        (
            "More, in another terminal in this folder",
            format!(
                "{beside}mcp-gateway servers call {slug} now\n    {beside}mcp-gateway servers add --help\n    \
                 Ctrl-C here stops the gateway; `mcp-gateway serve` is the real start",
                beside = beside(stage.folder),
                slug = stage.slug
            ),
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

    #[test]
    fn what_is_shown_to_paste_is_what_the_clients_read() {
        let stage = Stage {
            gateway: "http://127.0.0.1:8001",
            key: Secret::new("mcpg_k"),
            slug: Slug::parse("sample").unwrap(),
            folder: Path::new(FOLDER),
        };
        for file in [vs_code(&stage), cursor(&stage)] {
            let found = mcp_files::read("f", &file.to_string(), &|_| None).unwrap();
            let spec = found[0].spec.as_ref().unwrap();
            assert_eq!(spec.replicas[0].url, "http://127.0.0.1:8001/mcp");
            assert_eq!(spec.headers["Authorization"].expose(), "Bearer mcpg_k");
        }
        assert!(claude_code(&stage).contains("--transport http gateway http://127.0.0.1:8001/mcp --header"));
    }
    #[test]
    fn commands_are_shown_with_the_folder_that_they_need() {
        assert_eq!(beside(Path::new("data")), "");
        assert_eq!(beside(Path::new(FOLDER)), "MREG_DATA_DIR=./data/demo ");
        assert_eq!(beside(Path::new("it's here")), "MREG_DATA_DIR='it'\\''s here' ");
    }
}
