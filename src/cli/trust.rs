//! `trust`: issuers whose assertions are taken: an identity provider that vouches for people, a platform for its programs.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};
use serde_json::{Value, json};

use super::Verdict;
use super::clients::{key_set, words};
use super::failure::unknown;
use super::gateway::Gateway;
use super::roles;
use super::screen::{Screen, Table, Tone, clean, text_at};

/// Say whose assertions are taken for tokens
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  mcp-gateway trust list\n  mcp-gateway trust add corp --issuer https://idp.example.com --role user"
)]
pub struct Trust {
    #[command(subcommand)]
    action: Action,
}

const ADD: &str = "\
Examples:
  mcp-gateway trust add corp --issuer https://idp.example.com --role user
  mcp-gateway trust add corp --issuer https://idp.example.com --roles-claim groups \\
      --role-of admin=mcp-admins --role-of user=staff
  mcp-gateway trust add ci --profile workload --issuer https://token.actions.githubusercontent.com
  mcp-gateway trust add cluster --profile workload \\
      --issuer https://kubernetes.default.svc.cluster.local --jwks keys.json

Then register who shows them: `mcp-gateway clients add --help`.";

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Profile {
    /// People, to one client at a time: identity assertion grants (enterprise-managed authorization)
    IdJag,
    /// Programs that run on its platform: workload identity
    Workload,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum SubjectClaim {
    /// As everywhere
    Sub,
    /// As people of Entra are known who sign in here
    Oid,
}

#[derive(Debug, Args)]
struct Parts {
    /// The issuer, exactly as it writes itself
    #[arg(long, value_name = "URL")]
    issuer: String,
    /// What it may vouch for; more than once for both
    #[arg(long = "profile", value_name = "PROFILE", value_enum, default_value = "id-jag")]
    profiles: Vec<Profile>,
    /// Role of everybody for whom it vouches
    #[arg(long, value_name = "ROLE", value_parser = roles::parser())]
    role: Option<String>,
    /// Claim whose values give roles
    #[arg(long, value_name = "CLAIM", requires = "roles")]
    roles_claim: Option<String>,
    /// A role and a value of that claim that gives it; more than once for more
    #[arg(long = "role-of", value_name = "ROLE=VALUE", value_parser = pair, requires = "roles_claim", id = "roles")]
    roles: Vec<(String, String)>,
    /// Claim that names a person
    #[arg(long, value_name = "CLAIM", value_enum, default_value = "sub")]
    subject_claim: SubjectClaim,
    /// The most that a client gets by its word: mcp, admin; more than once for more [default: mcp]
    #[arg(long = "scope", value_name = "SCOPE")]
    scopes: Vec<String>,
    /// Whom assertions about programs are for [default: the URL of the gateway]
    #[arg(long, value_name = "TEXT")]
    audience: Option<String>,
    /// How they may be signed, ES256 for instance; more than once for more [default: everything that is known and asymmetric]
    #[arg(long = "algorithm", value_name = "NAME")]
    algorithms: Vec<String>,
    /// File with its public keys (a JSON Web Key Set), where it publishes none that can be reached
    #[arg(long, value_name = "FILE", conflicts_with = "jwks_uri")]
    jwks: Option<PathBuf>,
    /// URL of those keys, where it does not publish that itself
    #[arg(long, value_name = "URL")]
    jwks_uri: Option<String>,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Trust an issuer
    #[command(after_help = ADD)]
    Add {
        /// A short name for it
        name: String,
        #[command(flatten)]
        parts: Box<Parts>,
    },
    /// List the trusted issuers
    #[command(after_help = "Examples:\n  mcp-gateway trust list\n  mcp-gateway trust list --json")]
    List,
    /// Show one trusted issuer
    #[command(after_help = "Examples:\n  mcp-gateway trust show corp")]
    Show {
        /// Its short name
        name: String,
    },
    /// Trust an issuer no longer; sessions of those for whom it vouched end
    #[command(after_help = "Examples:\n  mcp-gateway trust remove corp")]
    Remove {
        /// Its short name
        name: String,
    },
}

const PATH: &str = "trusted-issuers";
const WHAT: (&str, &str) = ("trusted issuer", "trust list");

/// Carries out `trust …`.
pub async fn run(trust: Trust, gateway: &Gateway, screen: Screen) -> anyhow::Result<Verdict> {
    match trust.action {
        Action::Add { name, parts } => {
            let view = gateway.post(&[PATH], &parts.body(&name)?).await?;
            screen.show(&view, || format!("trusts {} as {}\n", text_at(&view, "/issuer"), clean(&name)))?;
        }
        Action::List => {
            let items = gateway.all(&[PATH]).await?;
            screen.show(&json!({ "items": items }), || {
                let mut table = Table::new(&["NAME", "ISSUER", "PROFILES", "ROLE", "SCOPES"]);
                for issuer in &items {
                    let [profiles, scopes] = ["profiles", "scopes"].map(|part| words(&issuer[part]));
                    let texts = [text_at(issuer, "/name"), text_at(issuer, "/issuer"), profiles, role(issuer), scopes];
                    table.row(texts.map(|text| (text, Tone::Plain)));
                }
                table.render(
                    "no issuer is trusted; trust one with `mcp-gateway trust add NAME --issuer URL --role user`",
                )
            })?;
        }
        Action::Show { name } => {
            let view = gateway.get(&[PATH, &name]).await.map_err(|error| unknown(error, WHAT, &name))?.value;
            screen.show(&view, || page(&view))?;
        }
        Action::Remove { name } => {
            gateway.delete(&[PATH, &name]).await.map_err(|error| unknown(error, WHAT, &name))?;
            screen.show(&json!({ "removed": name }), || format!("trusts {} no longer\n", clean(&name)))?;
        }
    }
    Ok(Verdict::Fine)
}

impl Parts {
    fn body(&self, name: &str) -> anyhow::Result<Value> {
        let profiles: Vec<_> = self.profiles.iter().map(wire).collect();
        let mut body = json!({ "name": name, "issuer": self.issuer, "profiles": profiles });
        body["subject_claim"] = wire(&self.subject_claim).into();
        let texts = [
            ("role", &self.role),
            ("roles_claim", &self.roles_claim),
            ("audience", &self.audience),
            ("jwks_uri", &self.jwks_uri),
        ];
        for (field, text) in texts {
            if let Some(text) = text {
                body[field] = text.as_str().into();
            }
        }
        for (field, list) in [("scopes", &self.scopes), ("algorithms", &self.algorithms)] {
            if !list.is_empty() {
                body[field] = json!(list);
            }
        }
        for (role, value) in &self.roles {
            match body["roles"][role].as_array_mut() {
                Some(values) => values.push(value.as_str().into()),
                None => body["roles"][role] = json!([value]),
            }
        }
        if let Some(file) = &self.jwks {
            body["jwks"] = key_set(file)?;
        }
        Ok(body)
    }
}

/// A choice as the REST API writes it.
fn wire(choice: &impl ValueEnum) -> String {
    choice.to_possible_value().map_or_else(String::new, |choice| choice.get_name().replace('-', "_"))
}

/// `ROLE=VALUE`.
fn pair(text: &str) -> Result<(String, String), String> {
    let (role, value) = text.split_once('=').ok_or("write ROLE=VALUE")?;
    Ok((role.to_owned(), value.to_owned()))
}

/// Which role it gives, in one cell.
fn role(view: &Value) -> String {
    let by_claim = view["roles"]
        .as_object()
        .into_iter()
        .flatten()
        .map(|(role, values)| format!("{} for {}={}", clean(role), text_at(view, "/roles_claim"), words(values)));
    let parts: Vec<String> = view["role"].as_str().map(clean).into_iter().chain(by_claim).collect();
    if parts.is_empty() { "-".to_owned() } else { parts.join(", ") }
}

fn page(view: &Value) -> String {
    let mut table = Table::new(&["", ""]);
    let keys = if view["jwks"].is_null() { text_at(view, "/jwks_uri") } else { "given".to_owned() };
    for (label, text) in [
        ("name", text_at(view, "/name")),
        ("issuer", text_at(view, "/issuer")),
        ("profiles", words(&view["profiles"])),
        ("person", text_at(view, "/subject_claim")),
        ("role", role(view)),
        ("scopes", words(&view["scopes"])),
        ("audience", text_at(view, "/audience")),
        ("algorithms", words(&view["algorithms"])),
        ("keys", if keys == "-" { "as the issuer publishes them".to_owned() } else { keys }),
        ("since", text_at(view, "/created_at")),
    ] {
        if text != "-" {
            table.row([(label.to_owned(), Tone::Dim), (text, Tone::Plain)]);
        }
    }
    table.render("")
}
