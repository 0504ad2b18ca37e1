//! `policy`: the access rules of a tenant, who may see and call what: as text, and what they decide.

use std::fmt::Write as _;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use http::{HeaderValue, Method};
use serde_json::{Value, json};

use super::Verdict;
use super::diff::unified;
use super::failure::{Failure, unknown};
use super::gateway::Gateway;
use super::screen::{Screen, Table, Tone, clean, clean_block, note, text_at};
use crate::policy::{MOST_TEXT, Mistake, Rules};

const EXAMPLES: &str = "\
Examples:
  mcp-gateway policy show > rules.cedar
  mcp-gateway policy check -f rules.cedar
  mcp-gateway policy dry-run -f rules.cedar
  mcp-gateway policy edit -f rules.cedar
  mcp-gateway policy explain --user ada --tool git/push";

/// Say who may see and call what: the access rules of a tenant
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct Policy {
    /// Whose rules [default: those of the tenant that the key is of]
    #[arg(long, global = true, value_name = "TENANT")]
    tenant: Option<String>,
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Print the rules in force, or an older version of them
    #[command(after_help = "Examples:\n  mcp-gateway policy show\n  mcp-gateway policy show --version 3 > rules.cedar")]
    Show {
        /// Which version [default: the one in force]
        #[arg(long, value_name = "NUMBER")]
        version: Option<i64>,
    },
    /// Put the rules of a file in force
    #[command(
        after_help = "Examples:\n  mcp-gateway policy edit -f rules.cedar\n  mcp-gateway policy edit -f rules.cedar --tenant acme"
    )]
    Edit {
        /// The file, `-` for standard input
        #[arg(short, long, value_name = "FILE")]
        file: PathBuf,
    },
    /// Check the rules of a file; no gateway is asked
    #[command(after_help = "Examples:\n  mcp-gateway policy check -f rules.cedar")]
    Check {
        /// The file, `-` for standard input
        #[arg(short, long, value_name = "FILE")]
        file: PathBuf,
    },
    /// Say what the rules decide about somebody and something, and why
    #[command(after_help = "Examples:\n  mcp-gateway policy explain --user ada --tool git/push\n  \
                      mcp-gateway policy explain --user ada --tool db/query --arguments '{\"table\": \"prod\"}'\n  \
                      mcp-gateway policy explain --client bot --resource files/file:///a.txt")]
    Explain(Question),
    /// Say what the rules of a file would change of what was called lately
    #[command(
        after_help = "Examples:\n  mcp-gateway policy dry-run -f rules.cedar\n  mcp-gateway policy dry-run -f rules.cedar --days 90"
    )]
    DryRun {
        /// The file, `-` for standard input
        #[arg(short, long, value_name = "FILE")]
        file: PathBuf,
        /// How many days back to look
        #[arg(long, value_name = "DAYS", default_value_t = 30)]
        days: u16,
    },
    /// List the versions that are kept, and who wrote them
    #[command(after_help = "Examples:\n  mcp-gateway policy history\n  mcp-gateway policy history --json")]
    History,
    /// Put an older version in force again; 0 is what a tenant begins with
    #[command(after_help = "Examples:\n  mcp-gateway policy rollback 3\n  mcp-gateway policy rollback 0")]
    Rollback {
        /// Which version
        version: i64,
    },
}

#[derive(Debug, Args)]
struct Question {
    /// An account, by name or id
    #[arg(long, value_name = "USER")]
    user: Option<String>,
    /// An OAuth client or an API key, by its id
    #[arg(long, value_name = "CLIENT")]
    client: Option<String>,
    #[command(flatten)]
    what: What,
    /// The arguments of the call, a JSON object
    #[arg(long, value_name = "JSON")]
    arguments: Option<String>,
}

#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
struct What {
    /// A tool
    #[arg(long, value_name = "SERVER/TOOL")]
    tool: Option<String>,
    /// A resource
    #[arg(long, value_name = "SERVER/URI")]
    resource: Option<String>,
    /// A prompt
    #[arg(long, value_name = "SERVER/PROMPT")]
    prompt: Option<String>,
    /// A server as a whole
    #[arg(long, value_name = "SERVER")]
    server: Option<String>,
}

const PATH: [&str; 2] = ["admin", "policies"];
const WHAT: (&str, &str) = ("tenant", "tenants list");

/// Carries out `policy …`.
pub async fn run(policy: Policy, gateway: &Gateway, screen: Screen) -> anyhow::Result<Verdict> {
    if let Action::Check { file } = &policy.action {
        return check(file, screen);
    }
    let tenant = match policy.tenant {
        Some(tenant) => tenant,
        None => text_at(&gateway.get(&["me"]).await?.value, "/tenant_id"),
    };
    let of = Of { gateway, tenant: &tenant };
    match policy.action {
        Action::Show { version } => {
            let view = match version {
                None => of.ask(Method::GET, &[], None).await?,
                Some(version) => of.version(version).await?,
            };
            if let Some(trouble) = view["trouble"].as_str() {
                note(&format!("warning: these rules cannot be read, and nobody may use anything: {}", clean(trouble)));
            }
            screen.show(&view, || clean_block(view["text"].as_str().unwrap_or_default()))?;
        }
        Action::Edit { file } => {
            let text = read_file(&file)?;
            told(&file.display().to_string(), &text)?;
            put(&of, &text, screen).await?;
        }
        Action::Rollback { version } => {
            let text = of.version(version).await?["text"].as_str().unwrap_or_default().to_owned();
            put(&of, &text, screen).await?;
        }
        Action::Explain(question) => {
            let answer = of.ask(Method::POST, &["explain"], Some(&question.body()?)).await?;
            screen.show(&answer, || explained(&answer))?;
        }
        Action::DryRun { file, days } => {
            let text = read_file(&file)?;
            told(&file.display().to_string(), &text)?;
            let trial = of.ask(Method::POST, &["dry-run"], Some(&json!({ "text": text, "days": days }))).await?;
            screen.show(&trial, || tried(&trial))?;
        }
        Action::History => {
            let list = of.ask(Method::GET, &["versions"], None).await?;
            screen.show(&list, || history(&list))?;
        }
        Action::Check { .. } => {}
    }
    Ok(Verdict::Fine)
}

/// A tenant's rules at a gateway.
pub(super) struct Of<'a> {
    /// Which gateway.
    pub gateway: &'a Gateway,
    /// Whose.
    pub tenant: &'a str,
}

impl Of<'_> {
    async fn ask(&self, method: Method, below: &[&str], body: Option<&Value>) -> anyhow::Result<Value> {
        let path = [&PATH, [self.tenant].as_slice(), below].concat();
        let body = body.map(serde_json::to_vec).transpose()?;
        let answer = self.gateway.api(method, &path, body, None).await;
        Ok(answer.map_err(|error| unknown(error, WHAT, self.tenant))?.value)
    }

    async fn version(&self, version: i64) -> anyhow::Result<Value> {
        let number = version.to_string();
        let answer = self.gateway.get(&[PATH[0], PATH[1], self.tenant, "versions", &number]).await;
        Ok(answer.map_err(|error| unknown(error, ("version", "policy history"), &number))?.value)
    }

    /// The text in force and its tag.
    pub(super) async fn in_force(&self) -> anyhow::Result<(String, Option<HeaderValue>)> {
        let answer = self.gateway.get(&[PATH[0], PATH[1], self.tenant]).await;
        let reply = answer.map_err(|error| unknown(error, WHAT, self.tenant))?;
        Ok((reply.value["text"].as_str().unwrap_or_default().to_owned(), reply.etag))
    }

    /// Puts a text in force that takes the place of the one of this tag.
    pub(super) async fn put(&self, text: &str, tag: Option<HeaderValue>) -> anyhow::Result<Value> {
        let body = serde_json::to_vec(&json!({ "text": text }))?;
        Ok(self.gateway.api(Method::PUT, &[PATH[0], PATH[1], self.tenant], Some(body), tag).await?.value)
    }
}

async fn put(of: &Of<'_>, text: &str, screen: Screen) -> anyhow::Result<()> {
    let (before, tag) = of.in_force().await?;
    let view = of.put(text, tag).await?;
    for warning in view["warnings"].as_array().into_iter().flatten() {
        let place = format!("{}:{}", warning["line"], warning["column"]);
        note(&format!("warning: {place}: {}", clean(&text_at(warning, "/message"))));
    }
    Ok(screen.show(&view, || {
        let title = format!("version {} of {} is in force", view["version"], clean(of.tenant));
        if before == text { format!("{title} already\n") } else { unified(&title, &before, text) }
    })?)
}

fn read_file(path: &Path) -> Result<String, Failure> {
    let name = if path.as_os_str() == "-" { "standard input".to_owned() } else { path.display().to_string() };
    let wrong = |error: std::io::Error| Failure::new(format!("cannot read {name}: {error}"));
    let mut text = String::new();
    let bound = MOST_TEXT as u64 + 1;
    if path.as_os_str() == "-" {
        std::io::stdin().lock().take(bound).read_to_string(&mut text).map_err(wrong)?;
    } else {
        std::fs::File::open(path).map_err(wrong)?.take(bound).read_to_string(&mut text).map_err(wrong)?;
    }
    Ok(text)
}

/// The mistakes of a text, each with its place in the file; what does no harm otherwise.
pub(super) fn told(file: &str, text: &str) -> Result<Vec<Mistake>, Failure> {
    told_as(file, text, |mistake| placed(file, mistake))
}

/// The same for a text that stands within a file, its mistakes told as `place` says.
pub(super) fn told_as(name: &str, text: &str, place: impl Fn(&Mistake) -> String) -> Result<Vec<Mistake>, Failure> {
    Rules::read(text, 0).map(|(_, warnings)| warnings).map_err(|mistakes| {
        let count = mistakes.len();
        let what = if count == 1 { "a mistake".to_owned() } else { format!("{count} mistakes") };
        Failure::new(format!("{name} has {what}")).detail(mistakes.iter().map(place))
    })
}

fn placed(file: &str, mistake: &Mistake) -> String {
    match mistake.line {
        0 => format!("{file}: {}", mistake.message),
        line => format!("{file}:{line}:{}: {}", mistake.column, mistake.message),
    }
}

fn check(file: &Path, screen: Screen) -> anyhow::Result<Verdict> {
    let (name, text) = (file.display().to_string(), read_file(file)?);
    let warnings = told(&name, &text)?;
    for warning in &warnings {
        note(&format!("warning: {}", placed(&name, warning)));
    }
    screen
        .show(&json!({ "file": name, "warnings": warnings }), || format!("{} can be put in force\n", clean(&name)))?;
    Ok(Verdict::Fine)
}

impl Question {
    fn body(&self) -> Result<Value, Failure> {
        if self.user.is_none() && self.client.is_none() {
            return Err(Failure::usage("say who is meant: give --user, --client, or both"));
        }
        let mut body = json!({ "user": self.user, "client": self.client });
        let What { tool, resource, prompt, server } = &self.what;
        for (kind, named) in [("tool", tool), ("resource", resource), ("prompt", prompt)] {
            let Some(named) = named else { continue };
            let (server, name) = named.split_once('/').filter(|(_, name)| !name.is_empty()).ok_or_else(|| {
                Failure::usage(format!("write --{kind} as SERVER/NAME, under the server's own name for it"))
            })?;
            (body["server"], body[kind]) = (server.into(), name.into());
        }
        if let Some(server) = server {
            body["server"] = server.as_str().into();
        }
        if let Some(arguments) = &self.arguments {
            let read: Value = serde_json::from_str(arguments)
                .map_err(|error| Failure::usage(format!("--arguments is no JSON: {error}")))?;
            body["arguments"] = read;
        }
        Ok(body)
    }
}

fn list(value: &Value) -> String {
    let names = value.as_array().into_iter().flatten().filter_map(Value::as_str).map(clean);
    names.collect::<Vec<_>>().join(", ")
}

fn explained(answer: &Value) -> String {
    let decision = text_at(answer, "/decision");
    let tone = match decision.as_str() {
        "allowed" => Tone::Good,
        "denied" => Tone::Bad,
        _ => Tone::Plain,
    };
    let mut text = format!("{}\n", tone.paint(&decision));
    let rules = match list(&answer["rules"]) {
        none if none.is_empty() => "no rule permits it".to_owned(),
        some => some,
    };
    let _ = writeln!(text, "rules: {} ({rules})", text_at(answer, "/rules_say"));
    if !answer["reading_arguments"].as_array().is_none_or(Vec::is_empty) {
        let _ = writeln!(text, "rules that read arguments: {}", list(&answer["reading_arguments"]));
    }
    if let Some(message) = answer["message"].as_str() {
        let _ = writeln!(text, "message: {}", clean(message));
    }
    let word = |yes: bool| if yes { "yes" } else { "no" };
    let _ = writeln!(text, "visible to the account: {}", word(answer["visible"] == true));
    if let Some(in_scope) = answer["in_scope"].as_bool() {
        let _ = writeln!(text, "in the key's scopes: {}", word(in_scope));
    }
    let _ = writeln!(text, "shown in lists: {}", word(answer["listed"] == true));
    if answer["known"] == false {
        text.push_str("the server is not known to offer it\n");
    }
    let subject = &answer["subject"];
    let groups = subject["groups"].as_array().map_or(0, Vec::len);
    let unknown = if subject["memberships_unknown"] == true { ", not all of them known" } else { "" };
    let _ = writeln!(
        text,
        "seen as: {} in the role {}, through {}, in {groups} groups{unknown}",
        text_at(subject, "/user_id"),
        text_at(subject, "/role"),
        text_at(subject, "/client"),
    );
    text
}

fn tried(trial: &Value) -> String {
    let mut table = Table::new(&["USER", "THING", "NOW", "THEN", "CALLS", "RULES"]);
    for change in trial["changes"].as_array().into_iter().flatten() {
        let then = text_at(change, "/then");
        let tone = match then.as_str() {
            "allowed" => Tone::Good,
            "denied" => Tone::Bad,
            _ => Tone::Plain,
        };
        let thing = format!("{} {}/{}", text_at(change, "/kind"), text_at(change, "/server"), text_at(change, "/name"));
        table.row([
            (text_at(change, "/user"), Tone::Plain),
            (thing, Tone::Plain),
            (text_at(change, "/now"), Tone::Dim),
            (then, tone),
            (change["count"].to_string(), Tone::Plain),
            (list(&change["rules"]), Tone::Dim),
        ]);
    }
    let operations = match &trial["operations"] {
        one if *one == 1 => "1 operation".to_owned(),
        many => format!("{many} operations"),
    };
    let rest = format!(
        "{operations} since {}: {} would be decided otherwise, {} as now, {} of accounts or servers that are gone\n",
        text_at(trial, "/since"),
        trial["changed"],
        trial["unchanged"],
        trial["gone"],
    );
    format!("{}{rest}", table.render("nothing would change"))
}

fn history(list: &Value) -> String {
    let mut table = Table::new(&["VERSION", "AUTHOR", "AT", ""]);
    for version in list["items"].as_array().into_iter().flatten() {
        table.row([
            (version["version"].to_string(), Tone::Plain),
            (text_at(version, "/username"), Tone::Plain),
            (text_at(version, "/at"), Tone::Dim),
            (if version["in_force"] == true { "in force" } else { "" }.to_owned(), Tone::Good),
        ]);
    }
    table.render("nobody has changed the rules yet")
}
