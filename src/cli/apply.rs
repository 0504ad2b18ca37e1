//! `apply`: brings the registry to what a file says, and is safe to run again. What can be known from the file is checked here,
//! the rest by the gateway, which makes all changes or none; a dry run asks it the same and changes nothing. What differs is
//! shown as a diff: secrets are compared there and never shown.

use std::fmt::Write as _;
use std::io::{IsTerminal as _, Read, Write as _};
use std::path::PathBuf;

use anyhow::Context as _;
use clap::Args;
use http::Method;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::Verdict;
use super::diff::unified;
use super::failure::Failure;
use super::gateway::{Gateway, Reach};
use super::manifest::{self, Brief, Manifest, Places, PolicySource};
use super::policy::{Of, told, told_as};
use super::screen::{Screen, clean};

const EXAMPLES: &str = "\
Examples:
  mcp-gateway apply -f gateway.yaml --dry-run
  mcp-gateway apply -f gateway.yaml --prune
  mcp-gateway export | sed s/staging/live/ | mcp-gateway apply -f -

The file (of a tenant, and of what it holds, what is not named stays as it is; --prune removes none):
  tenants:
    - tenant_id: acme
      entra_tenant_ids: [11111111-1111-4111-8111-111111111111]
      rate_limits: { fairness_weight: 2 }
  servers:
    - slug: search
      replicas:
        - url: https://example.com/mcp
      headers:
        Authorization: Bearer ${SEARCH_TOKEN}     # from the environment of this command
    - slug: files
      transport: stdio
      command:
        program: npx
        args: [-y, some-mcp-server, /srv/notes]
  policies:                                       # access rules of tenants
    default:
      file: rules.cedar                           # beside this file, or the text itself";

/// Bring the registry to what a file says
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct Apply {
    /// The file, `-` for standard input
    #[arg(short, long, value_name = "FILE")]
    file: PathBuf,
    /// Show what would change, and change nothing
    #[arg(long)]
    dry_run: bool,
    /// Remove servers that are not in the file; asks first, on a terminal
    #[arg(long)]
    prune: bool,
    /// Remove them without asking
    #[arg(long, requires = "prune")]
    yes: bool,
}

/// Reads the file, has the gateway carry it out (or say what it would do), and shows what came of it.
pub async fn run(apply: &Apply, reach: &Reach, screen: Screen) -> anyhow::Result<Verdict> {
    let name =
        if apply.file.as_os_str() == "-" { "standard input".to_owned() } else { apply.file.display().to_string() };
    let text = read_file(&apply.file, &name)?;
    let manifest = manifest::read(&name, &text, |name| std::env::var(name).ok())?;
    if apply.prune && !manifest.says_which {
        return Err(Failure::usage(format!("{name} has no list `servers`, so that --prune would remove every server"))
            .advise("name the servers that stay; if none shall, write `servers: []`")
            .into());
    }
    let texts = policies(&manifest, &apply.file)?;
    let gateway = Gateway::find(reach)?;
    let ask = async |dry_run: bool| -> anyhow::Result<Done> {
        let wanted = json!({
            "tenants": manifest.tenants, "servers": manifest.servers, "prune": apply.prune, "dry_run": dry_run,
        });
        let url = gateway.url(&["api", "v1", "apply"]);
        let answer = gateway.raw(Method::POST, &url, Some(serde_json::to_vec(&wanted)?), None).await?;
        if !answer.status.is_success() {
            return Err(refused(answer.status.as_u16(), &answer.body, &manifest.places).into());
        }
        serde_json::from_slice(&answer.body).context("the answer is none that `apply` knows")
    };
    if apply.prune && !apply.yes && !apply.dry_run {
        confirm(&ask(true).await?, apply)?;
    }
    // First whether the rules can be read and may be written at all: then the servers, then the rules about them.
    let mut rules = Vec::new();
    for (tenant, text) in texts {
        let in_force = Of { gateway: &gateway, tenant: &tenant }.in_force().await;
        let (before, tag) = match in_force.map_err(Failure::of) {
            Ok(in_force) => in_force,
            // The file makes it.
            Err(failure) if failure.status == Some(404) && manifest.makes(&tenant) => Default::default(),
            Err(failure) => return Err(failure.into()),
        };
        rules.push(Rules { tenant, before, tag, text });
    }
    let done = ask(apply.dry_run).await?;
    for rules in rules.iter().filter(|rules| !apply.dry_run && rules.before != rules.text) {
        Of { gateway: &gateway, tenant: &rules.tenant }.put(&rules.text, rules.tag.clone()).await?;
    }
    show(&done, &rules, screen)?;
    Ok(Verdict::Fine)
}

/// The access rules of a tenant, as they are and as they shall be.
struct Rules {
    tenant: String,
    before: String,
    tag: Option<http::HeaderValue>,
    text: String,
}

impl Rules {
    fn diff(&self) -> String {
        unified(&format!("change the access rules of {}", clean(&self.tenant)), &self.before, &self.text)
    }
}

/// The access rules that the file holds or names, each read once to find its mistakes.
fn policies(manifest: &Manifest, file: &std::path::Path) -> anyhow::Result<Vec<(String, String)>> {
    let mut texts = Vec::new();
    for (tenant, source) in &manifest.policies {
        let (name, text, warnings) = match source {
            PolicySource::Text(text) => {
                let name = manifest.places.of(&format!("policies.{tenant}"));
                let warnings = told_as(&name, text, |mistake| format!("{name}: {mistake}"))?;
                (name, text.clone(), warnings)
            }
            PolicySource::File(path) => {
                let path = file.parent().map_or_else(|| path.clone(), |folder| folder.join(path));
                let name = path.display().to_string();
                let text = read_file(&path, &name)?;
                let warnings = told(&name, &text)?;
                (name, text, warnings)
            }
        };
        for warning in warnings {
            super::screen::note(&format!("warning: {name}: {}", clean(&warning.to_string())));
        }
        texts.push((tenant.clone(), text));
    }
    Ok(texts)
}

/// What the gateway did, or would do.
#[derive(Debug, Deserialize)]
struct Done {
    dry_run: bool,
    tenants: Vec<TenantChange>,
    tenants_unchanged: usize,
    changes: Vec<Change>,
    unchanged: usize,
    warnings: Vec<String>,
}

/// One tenant that is not as it should be.
#[derive(Debug, Deserialize)]
struct TenantChange {
    tenant_id: String,
    action: String,
    before: Option<Map<String, Value>>,
    after: Map<String, Value>,
}

impl TenantChange {
    fn diff(&self) -> String {
        let yaml = |fields: &Map<String, Value>| Brief::tenant(fields.clone()).yaml();
        let before = self.before.as_ref().map_or_else(String::new, yaml);
        unified(&format!("{} tenant {}", self.action, self.tenant_id), &before, &yaml(&self.after))
    }
}

/// One server that is not as it should be. Secrets are masked.
#[derive(Debug, Deserialize)]
struct Change {
    slug: String,
    action: String,
    before: Option<Map<String, Value>>,
    after: Option<Map<String, Value>>,
    /// Secrets that get another value, `headers.Authorization`.
    secrets: Vec<String>,
}

/// Why nothing was changed, each reason with its place in the file.
fn refused(status: u16, body: &[u8], places: &Places) -> Failure {
    let mut failure = Failure::from_answer(status, body);
    let problem: Value = serde_json::from_slice(body).unwrap_or_default();
    let errors = problem["errors"].as_array().into_iter().flatten();
    let lines: Vec<String> = errors
        .map(|error| {
            let part = |name: &str| error[name].as_str().unwrap_or_default();
            format!("{}: {}: {}", places.of(part("field")), part("field"), part("message"))
        })
        .collect();
    if !lines.is_empty() {
        failure.what = format!("{}; nothing was changed", failure.what);
        failure.details = lines;
    }
    failure
}

fn read_file(path: &std::path::Path, name: &str) -> anyhow::Result<String> {
    let wrong = |error: std::io::Error| {
        Failure::new(format!("cannot read {name}: {error}")).advise("name the file with -f, or - for standard input")
    };
    let mut text = String::new();
    let reader: Box<dyn Read> = if path.as_os_str() == "-" {
        Box::new(std::io::stdin().lock())
    } else {
        Box::new(std::fs::File::open(path).map_err(wrong)?)
    };
    reader.take(manifest::MAX_FILE + 1).read_to_string(&mut text).map_err(wrong)?;
    if text.len() as u64 > manifest::MAX_FILE {
        return Err(Failure::new(format!("{name} is larger than {} MiB", manifest::MAX_FILE >> 20)).into());
    }
    Ok(text)
}

impl Change {
    /// What is different, without colours when `screen` shows none.
    fn diff(&self) -> String {
        let mut after = self.after.clone();
        for path in &self.secrets {
            let value = path.split_once('.').and_then(|(field, name)| after.as_mut()?.get_mut(field)?.get_mut(name));
            if let Some(value) = value {
                *value = "*** (another value)".into();
            }
        }
        let yaml = |fields: Option<Map<String, Value>>| fields.map_or_else(String::new, |all| Brief::of(all).yaml());
        unified(&format!("{} {}", self.action, self.slug), &yaml(self.before.clone()), &yaml(after))
    }
}

fn show(done: &Done, rules: &[Rules], screen: Screen) -> anyhow::Result<()> {
    for warning in &done.warnings {
        super::screen::note(&format!("warning: {warning}"));
    }
    let plain = |diff: String| anstream::adapter::strip_str(&diff).to_string();
    let tenants = done
        .tenants
        .iter()
        .map(|change| json!({ "tenant_id": change.tenant_id, "action": change.action, "diff": plain(change.diff()) }));
    let servers = done
        .changes
        .iter()
        .map(|change| json!({ "slug": change.slug, "action": change.action, "diff": plain(change.diff()) }));
    let mut document = json!({
        "dry_run": done.dry_run,
        "tenants": tenants.collect::<Vec<_>>(),
        "tenants_unchanged": done.tenants_unchanged,
        "changes": servers.collect::<Vec<_>>(),
        "unchanged": done.unchanged,
        "warnings": done.warnings,
    });
    if !rules.is_empty() {
        let of = |rules: &Rules| {
            let diff = anstream::adapter::strip_str(&rules.diff()).to_string();
            json!({ "tenant_id": rules.tenant, "action": if diff.is_empty() { "none" } else { "change" }, "diff": diff })
        };
        document["policies"] = rules.iter().map(of).collect();
    }
    Ok(screen.show(&document, || {
        let tenants = done.tenants.iter().map(TenantChange::diff);
        let diffs = tenants.chain(done.changes.iter().map(Change::diff)).chain(rules.iter().map(Rules::diff));
        let mut text: String = diffs.collect();
        let actions = || done.tenants.iter().map(|one| &one.action).chain(done.changes.iter().map(|one| &one.action));
        let count = |wanted: &str| actions().filter(|action| *action == wanted).count();
        let (create, change, remove) = (count("create"), count("change"), count("remove"));
        let same = done.unchanged + done.tenants_unchanged;
        let _ = if done.dry_run {
            write!(
                text,
                "would create {create}, change {change}, remove {remove}; {same} as they should be; nothing was changed"
            )
        } else {
            write!(text, "created {create}, changed {change}, removed {remove}; {same} as they should be")
        };
        text
    })?)
}

/// Has a person agree to what would be removed. Where nobody can be asked, only `--yes` does.
fn confirm(plan: &Done, apply: &Apply) -> Result<(), Failure> {
    let removed = plan.changes.iter().filter(|change| change.action == "remove");
    let gone: Vec<&str> = removed.map(|change| change.slug.as_str()).collect();
    if gone.is_empty() {
        return Ok(());
    }
    let what = format!("{} not in the file: {}", count(gone.len(), "server is", "servers are"), gone.join(", "));
    let refused = |why: &str| {
        Failure::usage(format!("{what}; {why}, and nothing was changed"))
            .advise("look at the plan with --dry-run, then say --yes to remove them")
    };
    let (input, error) = (std::io::stdin(), std::io::stderr());
    if !input.is_terminal() || !error.is_terminal() || apply.file.as_os_str() == "-" {
        return Err(refused("there is no terminal to ask at"));
    }
    let mut error = error.lock();
    let mut answer = String::new();
    let asked = write!(error, "{what}. Remove? [y/N] ").and_then(|()| error.flush());
    if asked.and_then(|()| input.read_line(&mut answer)).is_ok() && matches!(answer.trim(), "y" | "Y" | "yes") {
        return Ok(());
    }
    Err(refused("you did not agree"))
}

fn count(number: usize, one: &str, many: &str) -> String {
    format!("{number} {}", if number == 1 { one } else { many })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_that_changes_is_shown_as_changed_and_not_as_what_it_is() {
        let change: Change = serde_json::from_value(json!({
            "slug": "a", "action": "change", "secrets": ["headers.X.Key"],
            "before": {"slug": "a", "headers": {"X.Key": "***", "Same": "***"}},
            "after": {"slug": "a", "headers": {"X.Key": "***", "Same": "***"}},
        }))
        .unwrap();
        let plain = anstream::adapter::strip_str(&change.diff()).to_string();
        assert_eq!(plain.lines().next(), Some("change a"));
        let changed: Vec<&str> = plain
            .lines()
            .filter(|line| line.starts_with(['+', '-']) || line.starts_with("  +") || line.starts_with("  -"))
            .collect();
        assert!(
            changed.len() == 2 && changed[1].contains("X.Key: ") && changed[1].contains("(another value)"),
            "{plain}"
        );
    }

    #[test]
    fn what_the_gateway_refuses_is_told_with_its_place() {
        let manifest =
            manifest::read("f", "servers:\n  - slug: a\n    replicas: [{url: https://x/}]\n", |_| None).unwrap();
        let body = br#"{"title":"Forbidden","detail":"no","code":"FORBIDDEN","errors":[{"field":"servers[0]","message":"not yours"}]}"#;
        let failure = refused(403, body, &manifest.places);
        assert_eq!(failure.details, ["f:2:5: servers[0]: not yours"]);
        assert!(failure.what.ends_with("nothing was changed"), "{}", failure.what);
    }
}
