//! `bans`: addresses from which nothing is taken for a while.

use clap::{Args, Subcommand, ValueEnum};
use serde_json::{Value, json};

use super::Verdict;
use super::failure::unknown;
use super::gateway::Gateway;
use super::screen::{Screen, Table, Tone, clean, text_at};

/// Look at banned addresses, ban one, lift a ban
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  mcp-gateway bans list\n  mcp-gateway bans lift 192.0.2.7 --reason wrong --note 'our own build machines'"
)]
pub struct Bans {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Why {
    /// It should never have been: counted as a false positive, and later bans are no longer for it
    Wrong,
    /// It was right, and was long enough
    Served,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// List the banned addresses, the newest first
    #[command(after_help = "Examples:\n  mcp-gateway bans list\n  mcp-gateway bans list --all --json")]
    List {
        /// Those too that are over but not forgotten
        #[arg(long)]
        all: bool,
    },
    /// Show the last ban of an address
    #[command(after_help = "Examples:\n  mcp-gateway bans show 192.0.2.7\n  mcp-gateway bans show 2001:db8::/64")]
    Show {
        /// An address or a network
        address: String,
    },
    /// Ban an address or a network
    #[command(after_help = "Examples:\n  mcp-gateway bans add 192.0.2.7 --note 'guesses keys'\n  \
                      mcp-gateway bans add 192.0.2.0/24 --seconds 86400 --note 'asked by the network team'")]
    Add {
        /// An address or a network
        address: String,
        /// Why, for who looks at it later
        #[arg(long, value_name = "TEXT")]
        note: String,
        /// How long [default: as a ban that begins by itself]
        #[arg(long, value_name = "SECONDS")]
        seconds: Option<u64>,
    },
    /// Lift a ban
    #[command(
        after_help = "Examples:\n  mcp-gateway bans lift 192.0.2.7 --reason wrong --note 'our own build machines'\n  \
                            mcp-gateway bans lift 192.0.2.0/24 --reason served"
    )]
    Lift {
        /// An address or a network
        address: String,
        /// Why
        #[arg(long, value_name = "REASON", value_enum)]
        reason: Why,
        /// In words, for who looks at it later
        #[arg(long, value_name = "TEXT")]
        note: Option<String>,
    },
}

const PATH: [&str; 2] = ["admin", "bans"];
const WHAT: (&str, &str) = ("ban", "bans list --all");

/// Carries out `bans …`.
pub async fn run(bans: Bans, gateway: &Gateway, screen: Screen) -> anyhow::Result<Verdict> {
    match bans.action {
        Action::List { all } => {
            let query: &[(&str, &str)] = if all { &[("state", "all")] } else { &[] };
            let items = gateway.list(&PATH, query, usize::MAX).await?;
            screen.show(&json!({ "items": items }), || table(&items))?;
        }
        Action::Show { address } => {
            let path = [PATH[0], PATH[1], &in_path(&address)];
            let view = gateway.get(&path).await.map_err(|error| unknown(error, WHAT, &address))?.value;
            screen.show(&view, || lines(&view))?;
        }
        Action::Add { address, note, seconds } => {
            let mut body = json!({ "address": address, "note": note });
            if let Some(seconds) = seconds {
                body["duration_seconds"] = seconds.into();
            }
            let view = gateway.post(&PATH, &body).await?;
            screen.show(&view, || format!("banned\n{}", lines(&view)))?;
        }
        Action::Lift { address, reason, note } => {
            let reason = if reason == Why::Wrong { "wrong" } else { "served" };
            let path = [PATH[0], PATH[1], &in_path(&address), "lift"];
            let lifted = gateway.post(&path, &json!({ "reason": reason, "note": note })).await;
            let view = lifted.map_err(|error| unknown(error, WHAT, &address))?;
            screen.show(&view, || format!("lifted the ban of {}\n", clean(&text_at(&view, "/address"))))?;
        }
    }
    Ok(Verdict::Fine)
}

/// A network as a path names it, whatever stands between: not every proxy passes an escaped slash.
fn in_path(address: &str) -> String {
    address.replace('/', "-")
}

fn table(items: &[Value]) -> String {
    let mut table = Table::new(&["ADDRESS", "STATE", "SINCE", "UNTIL", "REASON", "REFUSALS", "EARLIER", "WRONG"]);
    for ban in items {
        let texts = ["address", "state", "since", "until", "reason", "refusals", "earlier_bans"];
        let wrong = if ban["false_positive"] == true { "yes" } else { "-" };
        let row = texts.map(|field| text_at(ban, &format!("/{field}")));
        let row: Vec<_> = row.into_iter().chain([wrong.to_owned()]).map(|text| (text, Tone::Plain)).collect();
        table.row(row);
    }
    table.render("no address is banned")
}

fn lines(view: &Value) -> String {
    let mut table = Table::new(&["", ""]);
    for (label, place) in [
        ("address", "/address"),
        ("state", "/state"),
        ("since", "/since"),
        ("until", "/until"),
        ("reason", "/reason"),
        ("note", "/note"),
        ("by", "/made_by"),
        ("refusals", "/refusals"),
        ("bans before", "/earlier_bans"),
        ("requests prevented", "/requests_prevented"),
        ("false positive", "/false_positive"),
        ("lifted", "/lifted/at"),
        ("lifted as", "/lifted/reason"),
        ("lifted by", "/lifted/by"),
        ("because", "/lifted/note"),
    ] {
        let text = text_at(view, place);
        if text != "-" {
            table.row([(label.to_owned(), Tone::Dim), (text, Tone::Plain)]);
        }
    }
    table.render("")
}
