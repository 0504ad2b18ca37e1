//! `audit`: the trail of what was done. It is looked at through the gateway; whether it is whole is seen in the database itself, which
//! needs no gateway, and none that could be made to say so.

mod accept;
mod columns;
mod search;
mod verify;

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::Verdict;
use super::gateway::{Gateway, Reach};
use super::screen::{Screen, Table, Tone, clean, shorten, text_at};
use search::Search;

const EXAMPLES: &str = "\
Each operation is one record: what was done, when, by whom, from where, and how it came out. No
argument, result or secret is in it.

Examples:
  mcp-gateway audit query --user ada --from 2h
  mcp-gateway audit tail --server files
  mcp-gateway audit export --from 30d --format csv > audit.csv
  mcp-gateway audit verify";

/// Look at the audit trail, export it, see whether it is whole
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct Audit {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// List records, the newest first
    #[command(
        after_help = "Examples:\n  mcp-gateway audit query --outcome denied --from 1d\n  mcp-gateway audit query --user ada --name read_file --json"
    )]
    Query {
        #[command(flatten)]
        search: Search,
        /// Most of them to list
        #[arg(long, value_name = "N", default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=100_000))]
        limit: u32,
    },
    /// Show records as they come, until it is stopped
    #[command(after_help = "Examples:\n  mcp-gateway audit tail\n  mcp-gateway audit tail --user ada --json")]
    Tail {
        #[command(flatten)]
        search: Search,
    },
    /// Print records whole, the newest first, one in a line
    #[command(
        after_help = "Examples:\n  mcp-gateway audit export --from 30d > audit.jsonl\n  mcp-gateway audit export --tenant acme --format csv > audit.csv"
    )]
    Export {
        #[command(flatten)]
        search: Search,
        /// How
        #[arg(long, value_enum, default_value_t = columns::Format::Jsonl, value_name = "FORMAT")]
        format: columns::Format,
    },
    /// See in the database itself whether the trail is whole; exit code 1 if it is not
    #[command(after_help = verify::EXAMPLES)]
    Verify(Box<verify::Verify>),
    /// Take a chain that is not whole as it is, and trust what comes from now on
    #[command(after_help = accept::EXAMPLES)]
    Accept(Box<accept::Accept>),
}

const PATH: [&str; 2] = ["admin", "audit"];

/// Carries out `audit …`.
pub async fn run(audit: Audit, reach: &Reach, screen: Screen) -> anyhow::Result<Verdict> {
    match audit.action {
        Action::Query { search, limit } => {
            let gateway = Gateway::find(reach)?;
            let query = search.query()?;
            let items = gateway.list(&PATH, &search::borrowed(&query), limit as usize).await?;
            screen.show(&json!({ "items": items }), || table(&items))?;
        }
        Action::Tail { search } => search::tail(&search, &Gateway::find(reach)?, screen).await?,
        Action::Export { search, format } => {
            let gateway = Gateway::find(reach)?;
            let query = search.query()?;
            let mut cursor = None;
            screen.print(format.head())?;
            loop {
                let (items, next) = gateway.page(&PATH, &search::borrowed(&query), cursor.as_deref(), 500).await?;
                for item in &items {
                    screen.print(&format.line(item)?)?;
                }
                let Some(next) = next else { break };
                cursor = Some(next);
            }
        }
        Action::Verify(verify) => return verify::run(&verify, screen).await,
        Action::Accept(accept) => accept::run(&accept, screen).await?,
    }
    Ok(Verdict::Fine)
}

fn table(items: &[Value]) -> String {
    let mut table = Table::new(&["TIME", "USER", "ACTION", "WHAT", "OUTCOME", "FROM", "REQUEST"]);
    for item in items {
        table.row(cells(item));
    }
    table.render("no record is like that")
}

/// A record in one line.
fn cells(item: &Value) -> [(String, Tone); 7] {
    let of = |name: &str| text_at(item, &format!("/record/{name}"));
    let outcome = of("outcome");
    let tone = match outcome.as_str() {
        "success" => Tone::Good,
        "denied" | "rate_limited" | "tool_error" => Tone::Warn,
        _ => Tone::Bad,
    };
    let what = match (of("server").as_str(), of("name").as_str()) {
        ("-", name) => name.to_owned(),
        (server, "-") => server.to_owned(),
        (server, name) => format!("{server}/{name}"),
    };
    let reason = of("reason");
    let outcome = if reason == "-" { outcome } else { format!("{outcome}: {reason}") };
    [
        (clean(&text_at(item, "/time")), Tone::Dim),
        (clean(&of("username")), Tone::Plain),
        (clean(&of("action")), Tone::Plain),
        (shorten(&clean(&what), 48), Tone::Plain),
        (clean(&outcome), tone),
        (clean(&of("address")), Tone::Dim),
        (clean(&of("request_id")), Tone::Dim),
    ]
}
