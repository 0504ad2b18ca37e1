//! `import`: registers the servers of a client's configuration file. What is registered already is left alone; what cannot be
//! taken over is told and does not keep the rest from it.

use std::path::PathBuf;

use clap::Args;
use serde_json::{Value, json};

use super::Verdict;
use super::failure::Failure;
use super::gateway::{Gateway, Reach};
use super::mcp_files::{self, Found};
use super::screen::{Screen, Table, Tone};

const EXAMPLES: &str = "\
Read are `mcpServers` (Claude Desktop, Claude Code, Cursor) and `servers` (VS Code), with comments and trailing commas.
${NAME} and ${env:NAME} are taken from the environment; inputs that a client asks for cannot be taken over.

Examples:
  mcp-gateway import .mcp.json --dry-run
  mcp-gateway import ~/.cursor/mcp.json
  mcp-gateway import .vscode/mcp.json --json";

/// Register the servers of a client's configuration file (Claude, VS Code, Cursor)
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct Import {
    /// The file
    file: PathBuf,
    /// Show what would be registered, and register nothing
    #[arg(long)]
    dry_run: bool,
}

/// Reads and registers.
pub async fn run(import: &Import, reach: &Reach, screen: Screen) -> anyhow::Result<Verdict> {
    let name = import.file.display().to_string();
    let size = std::fs::metadata(&import.file).map_or(0, |data| data.len());
    if size > super::manifest::MAX_FILE {
        return Err(Failure::new(format!("{name} is larger than {} MiB", super::manifest::MAX_FILE >> 20)).into());
    }
    let text =
        std::fs::read_to_string(&import.file).map_err(|error| Failure::new(format!("cannot read {name}: {error}")))?;
    let found = mcp_files::read(&name, &text, &|name| std::env::var(name).ok())?;
    let gateway = Gateway::find(reach)?;
    let bar = screen.steps(found.len(), "importing");
    let (mut items, mut bad) = (Vec::new(), false);
    let known = gateway.all(&["servers"]).await?;
    for server in &found {
        bar.set_message(super::screen::clean(&server.name));
        let item = one(server, &known, import.dry_run, &gateway).await;
        bad |= matches!(item["result"].as_str(), Some("failed" | "not_importable"));
        items.push(item);
        bar.inc(1);
    }
    bar.finish_and_clear();
    screen.show(&json!({ "dry_run": import.dry_run, "items": items }), || render(&items))?;
    Ok(if bad { Verdict::Bad } else { Verdict::Fine })
}

async fn one(server: &Found, known: &[Value], dry_run: bool, gateway: &Gateway) -> Value {
    let item = |result: &str, slug: Option<&str>, reason: Option<String>| json!({ "name": server.name, "slug": slug, "result": result, "reason": reason, "notes": server.notes });
    let spec = match &server.spec {
        Ok(spec) => spec,
        Err(why) => return item("not_importable", None, Some(why.clone())),
    };
    let slug = Some(spec.slug.as_str());
    if known.iter().any(|view| view["slug"].as_str() == slug) {
        return item("exists", slug, Some("registered already; left as it is".into()));
    }
    if dry_run {
        return item("would_register", slug, None);
    }
    match gateway.post(&["servers"], spec).await {
        Ok(view) => {
            let state = view["status"]["state"].as_str().map(str::to_owned);
            item("registered", slug, super::view::remark(&view).or(state))
        }
        Err(error) => {
            let failure = Failure::of(error);
            if failure.status == Some(409) {
                return item("exists", slug, Some("registered already; left as it is".into()));
            }
            let lines = std::iter::once(failure.what.clone()).chain(failure.details.clone());
            item("failed", slug, Some(lines.collect::<Vec<_>>().join("; ")))
        }
    }
}

fn render(items: &[Value]) -> String {
    let mut table = Table::new(&["NAME", "SERVER", "RESULT", "REMARKS"]);
    for item in items {
        let result = super::screen::text_at(item, "/result").replace('_', " ");
        let tone = match item["result"].as_str() {
            Some("registered" | "would_register") => Tone::Good,
            Some("exists") => Tone::Dim,
            _ => Tone::Bad,
        };
        let remarks = item["reason"]
            .as_str()
            .into_iter()
            .chain(item["notes"].as_array().into_iter().flatten().filter_map(Value::as_str));
        table.row([
            (super::screen::text_at(item, "/name"), Tone::Plain),
            (super::screen::text_at(item, "/slug"), Tone::Plain),
            (result, tone),
            (remarks.collect::<Vec<_>>().join("; "), Tone::Dim),
        ]);
    }
    table.render("the file names no servers")
}
