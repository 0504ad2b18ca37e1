//! `servers`: register, look at, change, call. Descriptions are checked here first, so that a mistake is told at once and by
//! field; the gateway checks them again.

use std::fmt::Write as _;
use std::time::Duration;

use clap::{Args, Subcommand};
use http::Method;
use serde_json::{Map, Value, json};

use super::Verdict;
use super::call::{self, Call};
use super::failure::Failure;
use super::gateway::Gateway;
use super::pools;
use super::screen::{Screen, Table, Tone, shorten, text_at};
use super::spec_flags::SpecFlags;
use super::view::{describe, left_out, place, remark, state_tone, summary, without_tools};
use crate::id::Slug;
use crate::registry::model::ServerSpec;

/// Register, look at, change and call MCP servers
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  mcp-gateway servers list\n  mcp-gateway servers add --help")]
pub struct Servers {
    #[command(subcommand)]
    action: Action,
}

const ADD: &str = "\
Examples:
  mcp-gateway servers add search --url https://example.com/mcp \\
      --header 'Authorization: Bearer ${SEARCH_TOKEN}'
  mcp-gateway servers add two --balance weighted \\
      --url https://a.example.com/mcp --weight 3 --url https://b.example.com/mcp --weight 1
  mcp-gateway servers add orders --url https://orders.example.com/mcp \\
      --auth kind=on_behalf_of --auth audience=api://orders
  mcp-gateway servers add old --url https://example.com/sse --transport sse \\
      --visible-to role:server_owner --visible-to user:ada
  mcp-gateway servers add files --env LOG=debug --sharing per_user -- npx -y some-mcp-server ~/notes";

const EDIT: &str = "\
What is not named stays as it is. --url, --tag and --visible-to replace all earlier ones; --header
and --env replace those of the same name and keep the others, --auth the fields that are named, or
all of them with another kind. With --url a program becomes a server
at that URL, with `-- COMMAND` the other way about; its environment or its headers stay behind.

Examples:
  mcp-gateway servers edit search --title 'Company search' --timeout-total 10m
  mcp-gateway servers edit search --header 'Authorization: Bearer ${NEW_TOKEN}' \\
      --remove-header X-Old
  mcp-gateway servers edit files -- npx -y some-mcp-server@2 ~/notes";

#[derive(Debug, Subcommand)]
enum Action {
    /// Register a server by URL, or by the program that speaks MCP on its standard streams
    #[command(after_help = ADD)]
    Add {
        /// Short name: small letters, digits and single hyphens, at most 40
        #[arg(value_parser = slug)]
        slug: Slug,
        /// Register it without letting calls through yet
        #[arg(long)]
        disabled: bool,
        #[command(flatten)]
        flags: Box<SpecFlags>,
    },
    /// List the servers
    #[command(after_help = "Examples:\n  mcp-gateway servers list\n  mcp-gateway servers list --tag search --json")]
    List {
        /// Only those with this tag
        #[arg(long, value_name = "WORD")]
        tag: Option<String>,
    },
    /// Show everything about a server but its secrets
    #[command(after_help = "Examples:\n  mcp-gateway servers show files\n  mcp-gateway servers show files --json")]
    Show {
        /// Which server
        #[arg(value_parser = slug)]
        slug: Slug,
    },
    /// Change a server
    #[command(after_help = EDIT)]
    Edit {
        /// Which server
        #[arg(value_parser = slug)]
        slug: Slug,
        /// Header to take away
        #[arg(long, value_name = "NAME")]
        remove_header: Vec<String>,
        /// Environment variable to take away
        #[arg(long, value_name = "NAME")]
        remove_env: Vec<String>,
        #[command(flatten)]
        flags: Box<SpecFlags>,
    },
    /// Remove servers
    #[command(after_help = "Examples:\n  mcp-gateway servers remove files\n  mcp-gateway servers remove files search")]
    Remove {
        /// Which servers
        #[arg(value_parser = slug, required = true)]
        slugs: Vec<Slug>,
    },
    /// Let calls through to servers
    #[command(after_help = "Examples:\n  mcp-gateway servers enable files")]
    Enable {
        /// Which servers
        #[arg(value_parser = slug, required = true)]
        slugs: Vec<Slug>,
    },
    /// Let no calls through to servers, and keep them
    #[command(after_help = "Examples:\n  mcp-gateway servers disable files")]
    Disable {
        /// Which servers
        #[arg(value_parser = slug, required = true)]
        slugs: Vec<Slug>,
    },
    /// Ask servers anew for their tools, resources and prompts
    #[command(after_help = "Examples:\n  mcp-gateway servers refresh files\n  mcp-gateway servers refresh --all")]
    Refresh {
        /// Which servers
        #[arg(value_parser = slug, required_unless_present = "all")]
        slugs: Vec<Slug>,
        /// Every server that is enabled
        #[arg(long, conflicts_with = "slugs")]
        all: bool,
    },
    /// List the tools of a server
    #[command(after_help = "Examples:\n  mcp-gateway servers tools files\n  mcp-gateway servers tools files --json")]
    Tools {
        /// Which server
        #[arg(value_parser = slug)]
        slug: Slug,
    },
    /// Show how many requests each replica may have in flight, how busy it is, and how its connections do
    #[command(after_help = "Examples:\n  mcp-gateway servers pools\n  mcp-gateway servers pools --json")]
    Pools,
    /// Call a tool through the gateway
    #[command(after_help = call::EXAMPLES)]
    Call(Call),
}

/// Reads a slug from the command line.
pub fn slug(text: &str) -> Result<Slug, String> {
    Slug::parse(text).map_err(|error| error.to_string())
}

/// Carries out `servers …`.
pub async fn run(servers: Servers, gateway: &Gateway, screen: Screen) -> anyhow::Result<Verdict> {
    match servers.action {
        Action::Add { slug, disabled, flags } => add(slug, disabled, &flags, gateway, screen).await,
        Action::List { tag } => list(tag.as_deref(), gateway, screen).await,
        Action::Show { slug } => {
            let view = fetch(gateway, &slug).await?.0;
            screen.show(&view, || describe(&view))?;
            Ok(Verdict::Fine)
        }
        Action::Edit { slug, remove_header, remove_env, flags } => {
            let mut patch = flags.fields()?;
            remove(&mut patch, "headers", &remove_header);
            remove(&mut patch, "env", &remove_env);
            edit(&slug, patch, gateway, screen).await
        }
        Action::Remove { slugs } => each(&slugs, "removed", gateway, screen, Deed::Remove).await,
        Action::Enable { slugs } => each(&slugs, "enabled", gateway, screen, Deed::Act("enable")).await,
        Action::Disable { slugs } => each(&slugs, "disabled", gateway, screen, Deed::Act("disable")).await,
        Action::Refresh { slugs, all } => {
            let slugs = if all { enabled(gateway).await? } else { slugs };
            each(&slugs, "refreshed", gateway, screen, Deed::Act("refresh")).await
        }
        Action::Tools { slug } => tools(&slug, gateway, screen).await,
        Action::Pools => pools::run(gateway, screen).await,
        Action::Call(call) => call::run(&call, gateway, screen).await,
    }
}

async fn add(
    slug: Slug,
    disabled: bool,
    flags: &SpecFlags,
    gateway: &Gateway,
    screen: Screen,
) -> anyhow::Result<Verdict> {
    let mut fields = flags.fields()?;
    if !fields.contains_key("replicas") && fields.get("command").is_none_or(|command| command.get("program").is_none())
    {
        return Err(Failure::usage("say where the server is: --url URL, or `-- COMMAND ARGS…`")
            .advise("see `mcp-gateway servers add --help` for examples")
            .into());
    }
    fields.insert("slug".into(), slug.as_str().into());
    fields.insert("enabled".into(), (!disabled).into());
    let spec = checked(fields)?;
    let spinner = screen.wait("registering and asking the server what it has");
    let answer = gateway.post(&["servers"], &spec).await;
    spinner.finish_and_clear();
    let view = answer.map_err(|error| taken(error, &slug))?;
    screen.show(&view, || {
        let state = text_at(&view, "/status/state");
        let mut text = format!("registered {slug}: {}\n", state_tone(&state).paint(&state));
        if let Some(remark) = remark(&view) {
            let _ = writeln!(text, "{remark}");
        }
        text += &left_out(&view);
        let _ = writeln!(text, "clients reach it at {}/mcp/{slug}", gateway.base());
        text
    })?;
    Ok(Verdict::Fine)
}

fn taken(error: anyhow::Error, slug: &Slug) -> anyhow::Error {
    let failure = Failure::of(error);
    if failure.status == Some(409) {
        return failure
            .advise(format!("change it with `mcp-gateway servers edit {slug}`, or choose another name"))
            .into();
    }
    failure.into()
}

/// The fields as a description without mistakes.
pub fn checked(fields: Map<String, Value>) -> anyhow::Result<ServerSpec> {
    let spec: ServerSpec = serde_json::from_value(fields.into())
        .map_err(|error| Failure::usage(format!("this does not describe a server: {error}")))?;
    let mistakes = spec.check();
    if mistakes.is_empty() {
        return Ok(spec);
    }
    let lines = mistakes.into_iter().map(|mistake| format!("{}: {}", mistake.field, mistake.message));
    Err(Failure::usage(format!("`{}` cannot be registered like this", spec.slug)).detail(lines).into())
}

async fn list(tag: Option<&str>, gateway: &Gateway, screen: Screen) -> anyhow::Result<Verdict> {
    let mut items = gateway.all(&["servers"]).await?;
    if let Some(tag) = tag {
        items.retain(|view| view["tags"].as_array().is_some_and(|tags| tags.iter().any(|word| word == tag)));
    }
    let document = json!({ "items": items });
    screen.show(&document, || {
        let mut table = Table::new(&["SERVER", "STATE", "TRANSPORT", "VERSION", "TOOLS", "WHERE"]);
        for view in &items {
            let state = text_at(view, "/status/state");
            let tone = state_tone(&state);
            table.row([
                (text_at(view, "/slug"), Tone::Plain),
                (state, tone),
                (text_at(view, "/transport"), Tone::Plain),
                (text_at(view, "/status/version"), Tone::Plain),
                (text_at(view, "/status/tools"), Tone::Plain),
                (shorten(&place(view), 60), Tone::Dim),
            ]);
        }
        match tag {
            Some(tag) => table.render(&format!("no server has the tag `{}`", super::screen::clean(tag))),
            None => table.render("no servers yet; register one with `mcp-gateway servers add`"),
        }
    })?;
    Ok(Verdict::Fine)
}

/// A server's view and its `ETag`. A name that is not known gets the nearest one that is.
pub async fn fetch(gateway: &Gateway, slug: &Slug) -> anyhow::Result<(Value, Option<http::HeaderValue>)> {
    match gateway.get(&["servers", slug.as_str()]).await {
        Ok(reply) => Ok((reply.value, reply.etag)),
        Err(error) => Err(suggest(gateway, slug, error).await),
    }
}

async fn suggest(gateway: &Gateway, slug: &Slug, error: anyhow::Error) -> anyhow::Error {
    let failure = Failure::of(error);
    if failure.status != Some(404) || failure.code.is_none() {
        return failure.into();
    }
    let known = gateway.all(&["servers"]).await.unwrap_or_default();
    let names: Vec<&str> = known.iter().filter_map(|view| view["slug"].as_str()).collect();
    let failure = Failure { what: format!("there is no server `{slug}`"), details: Vec::new(), ..failure };
    match nearest(slug.as_str(), &names) {
        Some(name) => failure.advise(format!("did you mean `{name}`?")).into(),
        None => failure.advise("`mcp-gateway servers list` shows those there are").into(),
    }
}

/// The name most like `word`, if one is alike enough.
pub fn nearest<'a>(word: &str, names: &[&'a str]) -> Option<&'a str> {
    let scored = names.iter().map(|name| (strsim::jaro_winkler(word, name), *name));
    scored.filter(|(score, _)| *score > 0.8).max_by(|a, b| a.0.total_cmp(&b.0)).map(|(_, name)| name)
}

fn remove(patch: &mut Map<String, Value>, field: &str, names: &[String]) {
    for name in names {
        patch.entry(field).or_insert_with(|| json!({}))[name.as_str()] = Value::Null;
    }
}

/// A server that goes from a URL to a program, or back, leaves behind what it had as the other; `view` is what it is.
fn moved(patch: &mut Map<String, Value>, view: &Value) {
    let is_program = view["transport"] == "stdio";
    let to_program = patch.get("command").is_some_and(|command| command.get("program").is_some());
    let left_behind: &[(&str, Value)] = match (is_program, to_program, patch.contains_key("replicas")) {
        (false, true, _) => &[
            ("replicas", json!([])),
            ("balance", Value::Null),
            ("headers", Value::Null),
            ("auth", Value::Null),
            ("discovery_auth", Value::Null),
        ],
        (true, false, true) => &[
            ("command", Value::Null),
            ("sharing", Value::Null),
            ("env", Value::Null),
            ("transport", "streamable_http".into()),
        ],
        _ => &[],
    };
    for (field, value) in left_behind {
        patch.entry(*field).or_insert_with(|| value.clone());
    }
    if to_program && patch.get("transport") == Some(&view["transport"]) {
        patch.remove("transport");
    }
    for field in ["auth", "discovery_auth"] {
        let Some(auth) = patch.get_mut(field).and_then(Value::as_object_mut) else { continue };
        // Another kind has other fields.
        if auth.get("kind").is_some_and(|kind| *kind != view[field]["kind"]) {
            for name in view[field].as_object().into_iter().flatten().map(|(name, _)| name) {
                auth.entry(name).or_insert(Value::Null);
            }
        }
    }
}

async fn edit(
    slug: &Slug,
    mut patch: Map<String, Value>,
    gateway: &Gateway,
    screen: Screen,
) -> anyhow::Result<Verdict> {
    if patch.is_empty() {
        return Err(Failure::usage("nothing to change")
            .advise("name what is to change, see `mcp-gateway servers edit --help`")
            .into());
    }
    let (view, etag) = fetch(gateway, slug).await?;
    moved(&mut patch, &view);
    let body = serde_json::to_vec(&patch)?;
    let view = gateway.api(Method::PATCH, &["servers", slug.as_str()], Some(body), etag).await?.value;
    screen.show(&view, || format!("changed {slug}: {}", patch.keys().cloned().collect::<Vec<_>>().join(", ")))?;
    Ok(Verdict::Fine)
}

async fn enabled(gateway: &Gateway) -> anyhow::Result<Vec<Slug>> {
    let views = gateway.all(&["servers"]).await?;
    let names = views.iter().filter(|view| view["enabled"] != false).filter_map(|view| view["slug"].as_str());
    Ok(names.filter_map(|name| Slug::parse(name).ok()).collect())
}

#[derive(Debug, Clone, Copy)]
enum Deed {
    Remove,
    Act(&'static str),
}

/// Does one thing to each server; one that fails does not keep the others from it.
async fn each(slugs: &[Slug], done: &str, gateway: &Gateway, screen: Screen, deed: Deed) -> anyhow::Result<Verdict> {
    let bar = screen.steps(slugs.len(), "servers");
    let (mut items, mut text, mut bad) = (Vec::new(), String::new(), false);
    for slug in slugs {
        bar.set_message(slug.to_string());
        let result = match deed {
            Deed::Remove => gateway.delete(&["servers", slug.as_str()]).await.map(|()| Value::Null),
            Deed::Act(action) => gateway.act(&["servers", slug.as_str(), action]).await,
        };
        bar.inc(1);
        match result {
            Ok(view) => {
                // The gateway did as it was told; that nothing came of it is what the caller must know.
                let vain = matches!(deed, Deed::Act("refresh")) && view["status"]["state"] == "unreachable";
                bad |= vain;
                let done = if vain { "not_refreshed" } else { done };
                items.push(json!({ "slug": slug.as_str(), "result": done, "server": view }));
                let _ = writeln!(text, "{} {slug}{}", done.replace('_', " "), summary(&view));
                text += &left_out(&view);
            }
            Err(error) => {
                let failure = Failure::of(suggest(gateway, slug, error).await);
                if slugs.len() == 1 {
                    bar.finish_and_clear();
                    return Err(failure.into());
                }
                items.push(json!({ "slug": slug.as_str(), "result": "failed", "error": failure.document()["error"] }));
                super::screen::note(&format!("{slug}: {}", failure.render().trim_end()));
                bad = true;
            }
        }
    }
    bar.finish_and_clear();
    screen.show(&json!({ "items": items }), || text)?;
    Ok(if bad { Verdict::Bad } else { Verdict::Fine })
}

async fn tools(slug: &Slug, gateway: &Gateway, screen: Screen) -> anyhow::Result<Verdict> {
    let items = match gateway.all(&["servers", slug.as_str(), "tools"]).await {
        Ok(items) => items,
        Err(error) => return Err(suggest(gateway, slug, error).await),
    };
    let view = if screen.is_json() { Value::Null } else { fetch(gateway, slug).await?.0 };
    screen.show(&json!({ "items": items }), || {
        let mut table = Table::new(&["TOOL", "ARGUMENTS", "WHAT IT DOES"]);
        for tool in &items {
            table.row([
                (text_at(tool, "/name"), Tone::Plain),
                (shorten(&call::signature(tool), 48), Tone::Plain),
                (shorten(&text_at(tool, "/description"), 72), Tone::Dim),
            ]);
        }
        table.render(&without_tools(&view)) + &left_out(&view)
    })?;
    Ok(Verdict::Fine)
}

/// Waits until a server is ready, at most `wait`; returns its view then, whatever its state.
pub async fn until_ready(gateway: &Gateway, slug: &Slug, wait: Duration) -> anyhow::Result<Value> {
    let end = tokio::time::Instant::now() + wait;
    loop {
        let view = fetch(gateway, slug).await?.0;
        if view["status"]["state"] == "ready" || tokio::time::Instant::now() >= end {
            return Ok(view);
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_name_is_offered_only_when_it_is_near() {
        assert_eq!(nearest("file", &["search", "files"]), Some("files"));
        assert_eq!(nearest("weather", &["search", "files"]), None);
    }
}
