//! `keys`: API keys. A new key is shown once; the gateway keeps only its hash. `rotate` and `status` are about those that seal secrets.

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::Verdict;
use super::gateway::Gateway;
use super::roles;
use super::screen::{Screen, Table, Tone, text_at};
use super::sealing_keys::{self, Rotate, Status};

/// Make and revoke API keys; replace the keys that seal secrets
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  mcp-gateway keys list\n  mcp-gateway keys create ci --server files --expires-in-days 90\n  mcp-gateway keys rotate"
)]
pub struct Keys {
    #[command(subcommand)]
    action: Action,
}

const CREATE: &str = "\
Examples:
  mcp-gateway keys create laptop
  mcp-gateway keys create laptop --user ada
  mcp-gateway keys create ci --server files --server 'search-*' --tool read_file \\
      --expires-in-days 90
  mcp-gateway keys create ops --role admin --json";

#[derive(Debug, Subcommand)]
enum Action {
    /// Make a key and print it, once
    #[command(after_help = CREATE)]
    Create {
        /// What the key is for
        name: String,
        /// What whoever shows the key may at most [default: user]
        #[arg(long, value_name = "ROLE", value_parser = roles::parser())]
        role: Option<String>,
        /// Whose key it is; for administrators [default: whose key makes it]
        #[arg(long, value_name = "NAME")]
        user: Option<String>,
        /// Server it may reach, `*` for any number of characters; more than once for more [default: all]
        #[arg(long, value_name = "SLUG")]
        server: Vec<String>,
        /// Tool it may call; more than once for more [default: all]
        #[arg(long, value_name = "NAME")]
        tool: Vec<String>,
        /// Days until it ends [default: never]
        #[arg(long, value_name = "DAYS", value_parser = clap::value_parser!(u32).range(1..=36_500))]
        expires_in_days: Option<u32>,
    },
    /// List the keys, without their secrets
    #[command(after_help = "Examples:\n  mcp-gateway keys list\n  mcp-gateway keys list --json")]
    List,
    /// End keys at once
    #[command(after_help = "Examples:\n  mcp-gateway keys revoke 0199f3a2-7c41-7bd0-9c55-3f0a4c1d2e3f")]
    Revoke {
        /// Ids from `keys list`
        #[arg(required = true)]
        ids: Vec<String>,
    },
    Rotate(Rotate),
    Status(Status),
}

/// Carries out `keys …`.
pub async fn run(keys: Keys, gateway: &Gateway, screen: Screen) -> anyhow::Result<Verdict> {
    match keys.action {
        Action::Create { name, role, user, server, tool, expires_in_days } => {
            let everywhere = || vec!["*".to_owned()];
            let mut body = json!({ "name": name, "servers": if server.is_empty() { everywhere() } else { server } });
            if let Some(role) = role {
                body["role"] = role.into();
            }
            if let Some(user) = user {
                body["username"] = user.into();
            }
            if !tool.is_empty() {
                body["tools"] = json!(tool);
            }
            if let Some(days) = expires_in_days {
                body["expires_in_days"] = days.into();
            }
            let view = gateway.post(&["keys"], &body).await?;
            screen.show(&view, || format!("{}\n", text_at(&view, "/key")))?;
            if !screen.is_json() {
                super::screen::note(&format!("key {} made; it is shown this once", super::screen::clean(&name)));
            }
        }
        Action::List => {
            let items = gateway.all(&["keys"]).await?;
            screen.show(&json!({ "items": items }), || {
                let heads = &["ID", "NAME", "USER", "ROLE", "SERVERS", "TOOLS", "STATE", "EXPIRES", "LAST USED"];
                let mut table = Table::new(heads);
                for key in &items {
                    let state = text_at(key, "/state");
                    let tone = if state == "active" { Tone::Good } else { Tone::Bad };
                    table.row([
                        (text_at(key, "/id"), Tone::Plain),
                        (text_at(key, "/name"), Tone::Plain),
                        (text_at(key, "/username"), Tone::Plain),
                        (text_at(key, "/role"), Tone::Plain),
                        (patterns(&key["servers"]), Tone::Plain),
                        (patterns(&key["tools"]), Tone::Plain),
                        (state, tone),
                        (text_at(key, "/expires_at"), Tone::Plain),
                        (text_at(key, "/last_used_at"), Tone::Dim),
                    ]);
                }
                table.render("no keys")
            })?;
        }
        Action::Revoke { ids } => {
            for id in &ids {
                gateway.delete(&["keys", id]).await?;
            }
            screen.show(&json!({ "revoked": ids }), || format!("revoked {}", ids.join(", ")))?;
        }
        Action::Rotate(order) => return sealing_keys::rotate(order, gateway, screen).await,
        Action::Status(status) => return sealing_keys::status(status, gateway, screen).await,
    }
    Ok(Verdict::Fine)
}

/// What a key reaches, in one cell.
fn patterns(list: &Value) -> String {
    let names: Vec<_> = list.as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    if names.is_empty() { "-".to_owned() } else { names.join(", ") }
}
