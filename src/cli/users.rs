//! `users`: local accounts. A password comes from standard input, never from the command line; without one, a strong one is
//! made and shown once.

use base64::Engine;
use clap::{Args, Subcommand};
use http::Method;
use serde_json::{Value, json};
use zeroize::Zeroizing;

use super::Verdict;
use super::failure::{Failure, unknown};
use super::gateway::Gateway;
use super::roles;
use super::screen::{Screen, Table, Tone, clean, text_at};

/// Manage local users
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  mcp-gateway users list\n  mcp-gateway users add ada --role admin")]
pub struct Users {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Add a user
    #[command(
        after_help = "Examples:\n  mcp-gateway users add ada\n  pass show ada | mcp-gateway users add ada --role admin --password-stdin"
    )]
    Add {
        /// Name to sign in with
        name: String,
        /// What the user may at most [default: user]
        #[arg(long, value_name = "ROLE", value_parser = roles::parser())]
        role: Option<String>,
        /// Tenant of the user, who then signs in as TENANT/NAME [default: your own]
        #[arg(long, value_name = "TENANT")]
        tenant: Option<String>,
        /// Read the password from the first line of standard input
        #[arg(long)]
        password_stdin: bool,
    },
    /// List the users
    #[command(after_help = "Examples:\n  mcp-gateway users list\n  mcp-gateway users list --json")]
    List,
    /// Let a user in no more: its keys and sign-ins stop at once
    #[command(after_help = "Examples:\n  mcp-gateway users disable ada")]
    Disable {
        /// Which user
        name: String,
    },
    /// Let a user in again, with the keys it had
    #[command(after_help = "Examples:\n  mcp-gateway users enable ada")]
    Enable {
        /// Which user
        name: String,
    },
    /// Show what identity providers gave for a user, and when it is refreshed; never a token
    #[command(
        after_help = "Examples:\n  mcp-gateway users tokens ada@example.com\n  mcp-gateway users tokens ada@example.com --json"
    )]
    Tokens {
        /// Which user
        name: String,
    },
    /// Ask the identity provider about a user now, and refresh what it gave
    #[command(after_help = "Examples:\n  mcp-gateway users refresh ada@example.com")]
    Refresh {
        /// Which user
        name: String,
    },
    /// Give a user another role
    #[command(after_help = "Examples:\n  mcp-gateway users role ada server_owner")]
    Role {
        /// Which user
        name: String,
        /// What the user may at most from now on
        #[arg(value_name = "ROLE", value_parser = roles::parser())]
        role: String,
    },
    /// Remove a user with every key; what it registered stays
    #[command(after_help = "Examples:\n  mcp-gateway users remove ada")]
    Remove {
        /// Which user
        name: String,
    },
    /// Give a user a new password
    #[command(
        after_help = "Examples:\n  mcp-gateway users password ada\n  pass show ada | mcp-gateway users password ada --password-stdin"
    )]
    Password {
        /// Which user
        name: String,
        /// Read the password from the first line of standard input
        #[arg(long)]
        password_stdin: bool,
    },
}

/// How it is called, and how to list those there are.
const WHAT: (&str, &str) = ("user", "users list");

/// Carries out `users …`.
pub async fn run(users: Users, gateway: &Gateway, screen: Screen) -> anyhow::Result<Verdict> {
    match users.action {
        Action::Add { name, role, tenant, password_stdin } => {
            let password = password(password_stdin)?;
            let mut body = json!({ "username": name, "password": *password });
            if let Some(role) = role {
                body["role"] = role.into();
            }
            if let Some(tenant) = tenant {
                body["tenant_id"] = tenant.into();
            }
            let view = gateway.post(&["users"], &body).await?;
            told(view, "added", &name, (!password_stdin).then_some(&password), screen)?;
        }
        Action::List => {
            let items = gateway.all(&["users"]).await?;
            screen.show(&json!({ "items": items }), || {
                let mut table = Table::new(&["NAME", "ROLE", "STATE", "CREATED"]);
                for user in &items {
                    let state = text_at(user, "/state");
                    let tone = if state == "active" { Tone::Good } else { Tone::Bad };
                    table.row([
                        (text_at(user, "/username"), Tone::Plain),
                        (text_at(user, "/role"), Tone::Plain),
                        (state, tone),
                        (text_at(user, "/created_at"), Tone::Dim),
                    ]);
                }
                table.render("no users; add one with `mcp-gateway users add NAME`")
            })?;
        }
        Action::Disable { name } => {
            let view = change(gateway, &name, &json!({ "state": "disabled" })).await?;
            told(view, "disabled", &name, None, screen)?;
        }
        Action::Enable { name } => {
            let view = change(gateway, &name, &json!({ "state": "active" })).await?;
            told(view, "enabled", &name, None, screen)?;
        }
        Action::Tokens { name } => {
            let view = gateway.get(&["admin", "user-token-status", &name]).await;
            show_tokens(&view.map_err(|error| unknown(error, WHAT, &name))?.value, screen)?;
        }
        Action::Refresh { name } => {
            let view = gateway.act(&["admin", "force-token-refresh", &name]).await;
            show_tokens(&view.map_err(|error| unknown(error, WHAT, &name))?, screen)?;
        }
        Action::Role { name, role } => {
            let view = change(gateway, &name, &json!({ "role": role })).await?;
            told(view, &format!("gave the role {role} to"), &name, None, screen)?;
        }
        Action::Remove { name } => {
            gateway.delete(&["users", &name]).await.map_err(|error| unknown(error, WHAT, &name))?;
            screen.show(&json!({ "removed": name }), || format!("removed {}\n", clean(&name)))?;
        }
        Action::Password { name, password_stdin } => {
            let password = password(password_stdin)?;
            let view = change(gateway, &name, &json!({ "password": *password })).await?;
            told(view, "gave a new password to", &name, (!password_stdin).then_some(&password), screen)?;
        }
    }
    Ok(Verdict::Fine)
}

fn show_tokens(view: &Value, screen: Screen) -> std::io::Result<()> {
    screen.show(view, || {
        let mut table = Table::new(&["PROVIDER", "STATE", "ENDS", "REFRESHED NEXT", "LAST", "ERROR"]);
        for one in view["credentials"].as_array().into_iter().flatten() {
            let failing = one["failing"] == true;
            let state = if failing { "failing".to_owned() } else { text_at(one, "/state") };
            let tone = match state.as_str() {
                "valid" | "due" | "refreshing" => Tone::Good,
                "none" => Tone::Dim,
                _ => Tone::Bad,
            };
            table.row([
                (text_at(one, "/provider"), Tone::Plain),
                (state, tone),
                (text_at(one, "/expires_at"), Tone::Plain),
                (text_at(one, "/refresh_due_at"), Tone::Plain),
                (text_at(one, "/last_refresh/result"), Tone::Plain),
                (text_at(one, "/last_refresh/error_code"), Tone::Dim),
            ]);
        }
        table.render("no identity provider gave anything for this user")
    })
}

async fn change(gateway: &Gateway, name: &str, body: &Value) -> anyhow::Result<Value> {
    let answer = gateway.api(Method::PATCH, &["users", name], Some(serde_json::to_vec(body)?), None).await;
    Ok(answer.map_err(|error| unknown(error, WHAT, name))?.value)
}

fn told(
    mut view: Value,
    deed: &str,
    name: &str,
    made: Option<&Zeroizing<String>>,
    screen: Screen,
) -> std::io::Result<()> {
    if !view.is_object() {
        view = json!({ "username": name });
    }
    if let Some(password) = made {
        view["password"] = password.as_str().into();
    }
    screen.show(&view, || match made {
        Some(password) => format!("{deed} {}\npassword: {}\n", clean(name), password.as_str()),
        None => format!("{deed} {}\n", clean(name)),
    })?;
    if made.is_some() && !screen.is_json() {
        super::screen::note("the password was made here and is shown this once");
    }
    Ok(())
}

/// The first line of standard input, or 144 random bits in 24 letters.
fn password(from_stdin: bool) -> anyhow::Result<Zeroizing<String>> {
    if !from_stdin {
        let bytes: Zeroizing<[u8; 18]> = Zeroizing::new(rand::random());
        return Ok(Zeroizing::new(base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(*bytes)));
    }
    let mut line = Zeroizing::new(String::new());
    std::io::stdin().read_line(&mut line)?;
    let password = line.trim_end_matches(['\r', '\n']);
    if password.is_empty() {
        return Err(Failure::usage("standard input holds no password").into());
    }
    Ok(Zeroizing::new(password.to_owned()))
}
