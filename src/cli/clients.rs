//! `clients`: OAuth clients that an administrator registers. A secret is shown once; the gateway keeps only its hash.

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap::{Args, Subcommand, ValueEnum};
use http::Method;
use serde_json::{Value, json};

use super::Verdict;
use super::failure::{Failure, unknown};
use super::gateway::Gateway;
use super::roles;
use super::screen::{Screen, Table, Tone, clean, note, text_at};

/// Register OAuth clients
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  mcp-gateway clients list\n  mcp-gateway clients add portal --kind confidential --redirect https://portal.example/callback"
)]
pub struct Clients {
    #[command(subcommand)]
    action: Action,
}

const ADD: &str = "\
Examples:
  mcp-gateway clients add desktop --redirect http://127.0.0.1/callback
  mcp-gateway clients add portal --kind confidential --redirect https://portal.example/callback
  mcp-gateway clients add nightly --kind service --role server_owner --scope mcp --scope admin
  mcp-gateway clients add portal --kind confidential --redirect https://portal.example/callback \\
      --jwks keys.json
  mcp-gateway clients add editor --kind confidential --grant jwt-bearer
  mcp-gateway clients add build --kind service \\
      --workload https://token.actions.githubusercontent.com=repo:me/app:ref:refs/heads/main";

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Kind {
    /// For people; keeps no secret: a program on their machines
    Public,
    /// For people; keeps a secret or a key: a web application
    Confidential,
    /// For itself, as an account of its own
    Service,
}

/// What a client is made of, each part optional.
#[derive(Debug, Args)]
struct Parts {
    /// Where an authorization may be sent back; more than once for more. On the own machine any port is meant
    #[arg(long = "redirect", value_name = "URI")]
    redirects: Vec<String>,
    /// What it may ask for: mcp, admin, `offline_access`; more than once for more
    #[arg(long = "scope", value_name = "SCOPE")]
    scopes: Vec<String>,
    /// What a service may at most
    #[arg(long, value_name = "ROLE", value_parser = roles::parser())]
    role: Option<String>,
    /// File with the public keys that it signs with (a JSON Web Key Set), instead of a secret
    #[arg(long, value_name = "FILE", conflicts_with = "jwks_uri")]
    jwks: Option<PathBuf>,
    /// URL of those keys
    #[arg(long, value_name = "URL")]
    jwks_uri: Option<String>,
    /// What it exchanges for tokens, instead of what is usual for its kind: `authorization_code`, `refresh_token`,
    /// `client_credentials`, jwt-bearer, token-exchange; more than once for more
    #[arg(long = "grant", value_name = "TYPE")]
    grants: Vec<String>,
    /// Program that a service is by the word of a trusted issuer, instead of a secret; more than once for more
    #[arg(long = "workload", value_name = "ISSUER=SUBJECT", value_parser = workload, conflicts_with_all = ["jwks", "jwks_uri"])]
    workloads: Vec<(String, String)>,
    /// Give it only access tokens that are bound to a key of its own (`DPoP`); `--dpop=false` takes that back
    #[arg(long, value_name = "BOOL", num_args = 0..=1, default_missing_value = "true", require_equals = true)]
    dpop: Option<bool>,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Register a client and print its secret, once
    #[command(after_help = ADD)]
    Add {
        /// What it calls itself by, its client id
        id: String,
        /// What people call it [default: the id]
        #[arg(long)]
        name: Option<String>,
        /// What kind of client it is
        #[arg(long, value_enum, default_value = "public")]
        kind: Kind,
        #[command(flatten)]
        parts: Parts,
    },
    /// List the clients
    #[command(after_help = "Examples:\n  mcp-gateway clients list\n  mcp-gateway clients list --json")]
    List,
    /// Show one client
    #[command(after_help = "Examples:\n  mcp-gateway clients show portal")]
    Show {
        /// Its id
        id: String,
    },
    /// Change a client; what is not named stays
    #[command(
        after_help = "Examples:\n  mcp-gateway clients edit portal --redirect https://portal.example/callback \\\n      --redirect https://new.example/callback"
    )]
    Edit {
        /// Its id
        id: String,
        /// What people call it
        #[arg(long)]
        name: Option<String>,
        #[command(flatten)]
        parts: Parts,
    },
    /// Remove a client; what was granted to it ends
    #[command(after_help = "Examples:\n  mcp-gateway clients remove portal")]
    Remove {
        /// Its id
        id: String,
    },
    /// Make a new secret beside the old one, or end the old one
    #[command(
        after_help = "Examples:\n  mcp-gateway clients rotate portal\n  mcp-gateway clients rotate portal --drop mcpg_cs_Ab3d"
    )]
    Rotate {
        /// Its id
        id: String,
        /// First characters of a secret to end, from `clients show`; no new one is made
        #[arg(long, value_name = "HINT")]
        drop: Option<String>,
    },
}

const PATH: &str = "oauth-clients";
const WHAT: (&str, &str) = ("client", "clients list");

/// Carries out `clients …`.
pub async fn run(clients: Clients, gateway: &Gateway, screen: Screen) -> anyhow::Result<Verdict> {
    match clients.action {
        Action::Add { id, name, kind, parts } => {
            let kind = kind.to_possible_value().map_or_else(String::new, |kind| kind.get_name().to_owned());
            let mut body = json!({ "client_id": id, "name": name.unwrap_or_else(|| id.clone()), "kind": kind });
            parts.put(&mut body)?;
            let view = gateway.post(&[PATH], &body).await?;
            told(&view, screen, || format!("registered {}\n", clean(&id)))?;
        }
        Action::List => {
            let items = gateway.all(&[PATH]).await?;
            screen.show(&json!({ "items": items }), || {
                let mut table = Table::new(&["ID", "NAME", "KIND", "PROOF", "ROLE", "SCOPES", "REDIRECTS"]);
                for client in &items {
                    table.row(
                        ["/client_id", "/name", "/kind", "/token_endpoint_auth_method", "/role"]
                            .map(|part| (text_at(client, part), Tone::Plain))
                            .into_iter()
                            .chain(["scopes", "redirect_uris"].map(|part| (words(&client[part]), Tone::Plain))),
                    );
                }
                table.render("no clients; register one with `mcp-gateway clients add ID --redirect URI`")
            })?;
        }
        Action::Show { id } => {
            let view = gateway.get(&[PATH, &id]).await.map_err(|error| unknown(error, WHAT, &id))?.value;
            screen.show(&view, || page(&view))?;
        }
        Action::Edit { id, name, parts } => {
            let mut body = json!({});
            if let Some(name) = name {
                body["name"] = name.into();
            }
            parts.put(&mut body)?;
            let answer = gateway.api(Method::PATCH, &[PATH, &id], Some(serde_json::to_vec(&body)?), None).await;
            let view = answer.map_err(|error| unknown(error, WHAT, &id))?.value;
            screen.show(&view, || format!("changed {}\n", clean(&id)))?;
        }
        Action::Remove { id } => {
            gateway.delete(&[PATH, &id]).await.map_err(|error| unknown(error, WHAT, &id))?;
            screen.show(&json!({ "removed": id }), || format!("removed {}\n", clean(&id)))?;
        }
        Action::Rotate { id, drop: None } => {
            let view = gateway.act(&[PATH, &id, "secrets"]).await.map_err(|error| unknown(error, WHAT, &id))?;
            told(&view, screen, String::new)?;
            if !screen.is_json() {
                note("the secret before is still good; end it with --drop when the client shows the new one");
            }
        }
        Action::Rotate { id, drop: Some(hint) } => {
            gateway.delete(&[PATH, &id, "secrets", &hint]).await?;
            screen.show(&json!({ "removed": hint }), || format!("ended {}\n", clean(&hint)))?;
        }
    }
    Ok(Verdict::Fine)
}

impl Parts {
    /// Puts what was named into the body of a request.
    fn put(self, body: &mut Value) -> anyhow::Result<()> {
        if !self.redirects.is_empty() {
            body["redirect_uris"] = json!(self.redirects);
        }
        if !self.scopes.is_empty() {
            body["scopes"] = json!(self.scopes);
        }
        if let Some(role) = self.role {
            body["role"] = role.into();
        }
        if !self.grants.is_empty() {
            body["grant_types"] = json!(self.grants.iter().map(|name| grant_type(name)).collect::<Vec<_>>());
        }
        if !self.workloads.is_empty() {
            let one = |(issuer, subject): &(String, String)| json!({ "issuer": issuer, "subject": subject });
            body["workloads"] = self.workloads.iter().map(one).collect();
        }
        if let Some(file) = self.jwks {
            body["jwks"] = key_set(&file)?;
        }
        if let Some(dpop) = self.dpop {
            body["dpop_bound_access_tokens"] = dpop.into();
        }
        if let Some(url) = self.jwks_uri {
            body["jwks_uri"] = url.into();
        }
        Ok(())
    }
}

/// A JSON Web Key Set in a file.
pub(super) fn key_set(file: &Path) -> anyhow::Result<Value> {
    let text = std::fs::read(file).with_context(|| format!("cannot read {}", file.display()))?;
    let read = serde_json::from_slice(&text);
    Ok(read.map_err(|error| Failure::usage(format!("{} is no JSON Web Key Set: {error}", file.display())))?)
}

/// The name of a grant type on the wire; two have short names here.
fn grant_type(name: &str) -> String {
    match name {
        "jwt-bearer" | "token-exchange" => format!("urn:ietf:params:oauth:grant-type:{name}"),
        name => name.to_owned(),
    }
}

/// `ISSUER=SUBJECT`.
fn workload(text: &str) -> Result<(String, String), String> {
    let (issuer, subject) = text.split_once('=').ok_or("write ISSUER=SUBJECT")?;
    Ok((issuer.to_owned(), subject.to_owned()))
}

/// Shows what was made: the secret alone on its line, if there is one, so that a script can take it.
fn told(view: &Value, screen: Screen, without: impl FnOnce() -> String) -> std::io::Result<()> {
    let secret = view["client_secret"].as_str();
    screen.show(view, || secret.map_or_else(without, |secret| format!("{secret}\n")))?;
    if secret.is_some() && !screen.is_json() {
        note(&format!("the secret of client {} is shown this once", text_at(view, "/client_id")));
    }
    Ok(())
}

fn page(view: &Value) -> String {
    let mut table = Table::new(&["", ""]);
    let bound = view["dpop_bound_access_tokens"] == true;
    for (label, text) in [
        ("id", text_at(view, "/client_id")),
        ("name", text_at(view, "/name")),
        ("kind", text_at(view, "/kind")),
        ("proof", text_at(view, "/token_endpoint_auth_method")),
        ("role", text_at(view, "/role")),
        ("scopes", words(&view["scopes"])),
        ("grants", words(&view["grant_types"])),
        ("redirects", words(&view["redirect_uris"])),
        ("keys", text_at(view, "/jwks_uri")),
        ("tokens", if bound { "bound to a key of its own (DPoP)" } else { "-" }.to_owned()),
        ("registered", text_at(view, "/created_at")),
    ] {
        if text != "-" {
            table.row([(label.to_owned(), Tone::Dim), (text, Tone::Plain)]);
        }
    }
    for workload in view["workloads"].as_array().into_iter().flatten() {
        let text = format!("{} of {}", text_at(workload, "/subject"), text_at(workload, "/issuer"));
        table.row([("workload".to_owned(), Tone::Dim), (text, Tone::Plain)]);
    }
    for secret in view["secrets"].as_array().into_iter().flatten() {
        let text = format!("{}… since {}", text_at(secret, "/hint"), text_at(secret, "/created_at"));
        table.row([("secret".to_owned(), Tone::Dim), (text, Tone::Plain)]);
    }
    table.render("")
}

/// A list in one cell.
pub(super) fn words(list: &Value) -> String {
    let words: Vec<_> = list.as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    if words.is_empty() { "-".to_owned() } else { words.join(" ") }
}
