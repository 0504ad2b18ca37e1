//! `apply`: brings the registry to what a file says, and is safe to run again. Everything is checked before anything is
//! changed; the plan is shown as a diff. Secrets cannot be read back, so they cannot be compared: a server that has some is
//! sent again, and the gateway, which can compare, says by its revision whether that changed anything.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::io::{IsTerminal as _, Read, Write as _};
use std::path::PathBuf;

use clap::Args;
use http::Method;
use serde_json::{Map, Value, json};

use super::Verdict;
use super::diff::unified;
use super::export::fields;
use super::failure::Failure;
use super::gateway::{Gateway, Reach};
use super::manifest::{self, Brief, Manifest};
use super::screen::{Screen, Tone};
use super::servers;
use crate::id::Slug;
use crate::registry::model::ServerSpec;

const EXAMPLES: &str = "\
Examples:
  mcp-gateway apply -f gateway.yaml --dry-run
  mcp-gateway apply -f gateway.yaml --prune --yes
  mcp-gateway export | sed s/staging/live/ | mcp-gateway apply -f -

The file:
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
        args: [-y, some-mcp-server, /srv/notes]";

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

/// One step of the plan.
#[derive(Debug)]
enum Step {
    Create(Box<ServerSpec>),
    /// `patch` is empty when only secrets, which cannot be compared, are sent again.
    Change {
        spec: Box<ServerSpec>,
        patch: Map<String, Value>,
        diff: String,
        revision: Value,
    },
    Remove(Slug, String),
}

/// Reads, plans, shows, applies.
pub async fn run(apply: &Apply, reach: &Reach, screen: Screen) -> anyhow::Result<Verdict> {
    let name =
        if apply.file.as_os_str() == "-" { "standard input".to_owned() } else { apply.file.display().to_string() };
    let text = read_file(&apply.file, &name)?;
    let manifest = manifest::read(&name, &text, |name| std::env::var(name).ok())?;
    let gateway = Gateway::find(reach)?;
    let views = gateway.all(&["servers"]).await?;
    let (steps, same) = plan(manifest, &views, apply.prune)?;
    if apply.dry_run {
        return show_plan(&steps, same, screen);
    }
    if !apply.yes {
        confirm(&steps, apply)?;
    }
    carry_out(&steps, same, &gateway, screen).await
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

/// The steps from what is registered to what is wanted, and how many servers are as they should be.
fn plan(manifest: Manifest, views: &[Value], prune: bool) -> anyhow::Result<(Vec<Step>, usize)> {
    let (mut steps, mut same) = (Vec::new(), 0);
    let wanted: BTreeSet<String> = manifest.servers.iter().map(|spec| spec.slug.to_string()).collect();
    for spec in manifest.servers {
        match views.iter().find(|view| view["slug"] == spec.slug.as_str()) {
            None => steps.push(Step::Create(Box::new(spec))),
            Some(view) => match change(spec, view)? {
                Some(step) => steps.push(step),
                None => same += 1,
            },
        }
    }
    if prune {
        for view in views {
            let Some(slug) = view["slug"].as_str().filter(|slug| !wanted.contains(*slug)) else { continue };
            let slug = Slug::parse(slug).map_err(|error| Failure::new(error.to_string()))?;
            steps.push(Step::Remove(slug, Brief::of(masked(fields(view))).yaml()));
        }
    }
    Ok((steps, same))
}

/// What brings a registered server to `spec`; nothing when it is so already.
fn change(spec: ServerSpec, view: &Value) -> anyhow::Result<Option<Step>> {
    let Value::Object(new) = serde_json::to_value(&spec)? else { return Ok(None) };
    let old = fields(view);
    let mut patch = Map::new();
    for name in manifest::FIELDS {
        let (was, is) = (old.get(name), new.get(name));
        // The view writes an empty list or nothing at all, and the slug where there is no title.
        let unsaid = |value: Option<&Value>| {
            value.is_none_or(|value| {
                value.is_null()
                    || value.as_array().is_some_and(Vec::is_empty)
                    || value.as_object().is_some_and(Map::is_empty)
                    || (name == "title" && (value == "" || value == spec.slug.as_str()))
            })
        };
        if matches!(name, "headers" | "env") {
            let names = |value: Option<&Value>| -> BTreeSet<String> {
                value.and_then(Value::as_object).into_iter().flatten().map(|(name, _)| name.clone()).collect()
            };
            let (was, now) = (names(was), names(is));
            if was != now {
                let mut values = is.and_then(Value::as_object).cloned().unwrap_or_default();
                values.extend(was.difference(&now).map(|gone| (gone.clone(), Value::Null)));
                patch.insert(name.to_owned(), values.into());
            }
        } else if was != is && !(unsaid(was) && unsaid(is)) {
            patch.insert(name.to_owned(), is.cloned().unwrap_or(Value::Null));
        }
    }
    let secrets = !spec.headers.is_empty() || !spec.env.is_empty();
    if patch.is_empty() && !secrets {
        return Ok(None);
    }
    let diff =
        unified(&format!("change {}", spec.slug), &Brief::of(masked(old)).yaml(), &Brief::of(masked(new)).yaml());
    let revision = view["revision"].clone();
    Ok(Some(Step::Change { spec: Box::new(spec), patch, diff, revision }))
}

fn masked(mut fields: Map<String, Value>) -> Map<String, Value> {
    for field in ["headers", "env"] {
        for value in fields.get_mut(field).and_then(Value::as_object_mut).into_iter().flat_map(Map::values_mut) {
            *value = "***".into();
        }
    }
    fields
}

impl Step {
    fn slug(&self) -> &Slug {
        match self {
            Self::Create(spec) | Self::Change { spec, .. } => &spec.slug,
            Self::Remove(slug, _) => slug,
        }
    }

    fn action(&self) -> &'static str {
        match self {
            Self::Create(_) => "create",
            Self::Change { patch, .. } if patch.is_empty() => "resend_secrets",
            Self::Change { .. } => "change",
            Self::Remove(..) => "remove",
        }
    }

    fn diff(&self) -> String {
        match self {
            Self::Create(spec) => {
                let new =
                    serde_json::to_value(spec).ok().and_then(|value| value.as_object().cloned()).unwrap_or_default();
                unified(&format!("create {}", spec.slug), "", &Brief::of(masked(new)).yaml())
            }
            Self::Change { patch, spec, .. } if patch.is_empty() => {
                format!(
                    "{}\n",
                    Tone::Dim.paint(&format!("same   {} (secrets cannot be compared and are sent again)", spec.slug))
                )
            }
            Self::Change { diff, .. } => diff.clone(),
            Self::Remove(slug, old) => unified(&format!("remove {slug}"), old, ""),
        }
    }
}

fn show_plan(steps: &[Step], same: usize, screen: Screen) -> anyhow::Result<Verdict> {
    let plain = |step: &Step| anstream::adapter::strip_str(&step.diff()).to_string();
    let changes: Vec<Value> = steps
        .iter()
        .map(|step| json!({ "slug": step.slug().as_str(), "action": step.action(), "diff": plain(step) }))
        .collect();
    let document = json!({ "dry_run": true, "changes": changes, "unchanged": same });
    screen.show(&document, || {
        let mut text: String = steps.iter().map(Step::diff).collect();
        let count = |action: &str| steps.iter().filter(|step| step.action() == action).count();
        let _ = writeln!(
            text,
            "would create {}, change {}, remove {}; {} as they should be; nothing was changed",
            count("create"),
            count("change"),
            count("remove"),
            same + count("resend_secrets")
        );
        text
    })?;
    Ok(Verdict::Fine)
}

/// Has a person agree to what would be removed. Where nobody can be asked, only `--yes` does.
fn confirm(steps: &[Step], apply: &Apply) -> Result<(), Failure> {
    let gone: Vec<&str> =
        steps.iter().filter(|step| matches!(step, Step::Remove(..))).map(|step| step.slug().as_str()).collect();
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

async fn carry_out(steps: &[Step], same: usize, gateway: &Gateway, screen: Screen) -> anyhow::Result<Verdict> {
    let bar = screen.steps(steps.len(), "applying");
    let (mut items, mut text, mut failed, mut same) = (Vec::new(), String::new(), 0, same);
    for step in steps {
        let slug = step.slug();
        bar.set_message(slug.to_string());
        let result = one(step, gateway).await;
        bar.inc(1);
        match result {
            Ok("unchanged") => same += 1,
            Ok(done) => {
                items.push(json!({ "slug": slug.as_str(), "result": done }));
                let _ = writeln!(text, "{} {slug}", Tone::Good.paint(done));
            }
            Err(error) => {
                failed += 1;
                let failure = Failure::of(error);
                items.push(json!({ "slug": slug.as_str(), "result": "failed", "error": failure.document()["error"] }));
                bar.suspend(|| super::screen::note(&format!("{slug}: {}", failure.render().trim_end())));
            }
        }
    }
    bar.finish_and_clear();
    let document = json!({ "dry_run": false, "changes": items, "unchanged": same, "failed": failed });
    screen.show(&document, || {
        let changed = items.len() - failed;
        let _ = write!(text, "{changed} changed, {same} as they should be");
        if failed > 0 {
            let _ = write!(text, ", {failed} failed; run the same command again when the cause is gone");
        }
        text
    })?;
    Ok(if failed > 0 { Verdict::Bad } else { Verdict::Fine })
}

/// Carries out one step and says what came of it.
async fn one(step: &Step, gateway: &Gateway) -> anyhow::Result<&'static str> {
    match step {
        Step::Create(spec) => {
            gateway.post(&["servers"], spec).await?;
            Ok("created")
        }
        Step::Remove(slug, _) => {
            gateway.delete(&["servers", slug.as_str()]).await?;
            Ok("removed")
        }
        Step::Change { spec, patch, revision, .. } => {
            // What the plan was made from may be old by now: the tag of a fresh look guards the write.
            let (view, etag) = servers::fetch(gateway, &spec.slug).await?;
            if view["revision"] != *revision {
                return Err(Failure::new("it was changed by somebody else since the plan was made")
                    .advise("run the same command again")
                    .into());
            }
            let mut body = patch.clone();
            for (field, secrets) in [("headers", &spec.headers), ("env", &spec.env)] {
                if !secrets.is_empty() && !body.contains_key(field) {
                    body.insert(field.to_owned(), serde_json::to_value(secrets)?);
                }
            }
            let path = ["servers", spec.slug.as_str()];
            let new = gateway.api(Method::PATCH, &path, Some(serde_json::to_vec(&body)?), etag).await?.value;
            Ok(if patch.is_empty() && new["revision"] == *revision { "unchanged" } else { "changed" })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn view_of(text: &str) -> Value {
        let spec: ServerSpec = serde_json::from_str(text).unwrap();
        let mut view = masked(serde_json::to_value(spec).unwrap().as_object().unwrap().clone());
        view.insert("revision".into(), 3.into());
        view.insert("status".into(), json!({"state": "ready"}));
        view.into()
    }

    fn planned(wanted: &str, views: &[Value], prune: bool) -> (Vec<Step>, usize) {
        plan(manifest::read("f", wanted, |_| Some("v".into())).unwrap(), views, prune).unwrap()
    }

    #[test]
    fn what_is_so_already_needs_no_step_however_it_is_written() {
        let mut view = view_of(r#"{"slug":"a","replicas":[{"url":"https://x/"}]}"#);
        view["title"] = "a".into();
        view["headers"] = json!({});
        view["command"] = Value::Null;
        let (steps, same) = planned("servers: [{slug: a, replicas: [{url: https://x/, weight: 1}]}]", &[view], true);
        assert!(steps.is_empty(), "{steps:?}");
        assert_eq!(same, 1);
    }

    #[test]
    fn a_patch_holds_what_differs_and_takes_away_what_is_gone() {
        let view =
            view_of(r#"{"slug":"a","replicas":[{"url":"https://x/"}],"headers":{"Old":"1","Keep":"2"},"tags":["t"]}"#);
        let (steps, _) = planned(
            "servers: [{slug: a, title: New, replicas: [{url: https://x/}], headers: {Keep: '${K}', More: m}}]",
            &[view],
            false,
        );
        let [Step::Change { patch, diff, .. }] = &steps[..] else { panic!("{steps:?}") };
        assert_eq!(
            Value::from(patch.clone()),
            json!({"title": "New", "headers": {"Keep": "v", "More": "m", "Old": null}, "tags": []})
        );
        let plain = anstream::adapter::strip_str(diff).to_string();
        assert!(plain.contains("  + title: New\n") && plain.contains("  -   Old: "), "{plain}");
        assert!(!plain.contains(": v") && !plain.contains(": m\n"), "{plain}");
    }

    #[test]
    fn secrets_that_cannot_be_compared_are_sent_again_and_others_are_removed_only_when_asked() {
        let view = view_of(r#"{"slug":"a","replicas":[{"url":"https://x/"}],"headers":{"K":"1"}}"#);
        let other = view_of(r#"{"slug":"b","replicas":[{"url":"https://y/"}]}"#);
        let wanted = "servers: [{slug: a, replicas: [{url: https://x/}], headers: {K: v}}, {slug: c, replicas: [{url: https://z/}]}]";
        let actions = |prune| -> Vec<&'static str> {
            planned(wanted, &[view.clone(), other.clone()], prune).0.iter().map(Step::action).collect()
        };
        assert_eq!(actions(false), ["resend_secrets", "create"]);
        assert_eq!(actions(true), ["resend_secrets", "create", "remove"]);
    }
}
