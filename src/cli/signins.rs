//! `signins`: what became of attempts to sign in, and what to do about one that failed.

mod timeline;

use clap::{Args, Subcommand};
use serde_json::{Value, json};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::Verdict;
use super::failure::Failure;
use super::gateway::Gateway;
use super::screen::{Screen, Table, Tone, clean, shorten, text_at};
use crate::config;

const EXAMPLES: &str = "\
An attempt is kept for a week after its last step. No token, code or secret is in it.

Examples:
  mcp-gateway signins
  mcp-gateway signins --failed
  mcp-gateway signins --user ada --client cursor --since 2h
  mcp-gateway signins show 0198c0de-0000-7000-8000-000000000000
  mcp-gateway signins show last";

/// Look at attempts to sign in, and why one failed
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct Signins {
    #[command(subcommand)]
    action: Option<Action>,
    #[command(flatten)]
    search: Search,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// List attempts, the last changed first
    #[command(
        after_help = "Examples:\n  mcp-gateway signins list --failed\n  mcp-gateway signins list --client 'visual studio' --json"
    )]
    List,
    /// Show one attempt, step by step, and what to do
    #[command(
        after_help = "Examples:\n  mcp-gateway signins show last\n  mcp-gateway signins show last --failed --user ada"
    )]
    Show {
        /// Its id, or `last`
        id: String,
    },
}

/// Which attempts.
#[derive(Debug, Args)]
struct Search {
    /// Only those that failed or that nobody came back to
    #[arg(long, global = true)]
    failed: bool,
    /// Only of programs whose id or name holds this text, in any case
    #[arg(long, global = true, value_name = "TEXT")]
    client: Option<String>,
    /// Only of this person: the name, or the account's id
    #[arg(long, global = true, value_name = "NAME")]
    user: Option<String>,
    /// Only those with a step within this time (30m, 2h, 3d) or since then (RFC 3339)
    #[arg(long, global = true, value_name = "TIME", value_parser = since)]
    since: Option<OffsetDateTime>,
    /// Most of them to list
    #[arg(long, global = true, value_name = "N", default_value_t = 50, value_parser = clap::value_parser!(u16).range(1..))]
    limit: u16,
}

/// A time, or how long ago it was.
pub(super) fn since(text: &str) -> Result<OffsetDateTime, String> {
    if let Ok(time) = OffsetDateTime::parse(text, &Rfc3339) {
        return Ok(time);
    }
    let wrong = || "give a time like 30m, 2h or 3d, or one like 2026-01-31T08:00:00Z".to_owned();
    let ago = config::life(text).map_err(|_| wrong())?;
    OffsetDateTime::now_utc().checked_sub(ago.try_into().map_err(|_| wrong())?).ok_or_else(wrong)
}

const PATH: &str = "sign-ins";

impl Search {
    async fn find(&self, gateway: &Gateway, most: usize) -> anyhow::Result<Vec<Value>> {
        let since = self.since.map(|time| time.format(&Rfc3339)).transpose()?;
        let outcome = self.failed.then(|| "failure,abandoned".to_owned());
        let given = [("client", &self.client), ("user", &self.user), ("since", &since), ("outcome", &outcome)];
        let query: Vec<_> = given.iter().filter_map(|(name, value)| Some((*name, value.as_deref()?))).collect();
        gateway.list(&[PATH], &query, most).await
    }
}

/// Carries out `signins …`.
pub async fn run(signins: Signins, gateway: &Gateway, screen: Screen) -> anyhow::Result<Verdict> {
    let search = signins.search;
    match signins.action.unwrap_or(Action::List) {
        Action::List => {
            let items = search.find(gateway, search.limit.into()).await?;
            screen.show(&json!({ "items": items }), || table(&items))?;
        }
        Action::Show { id } => {
            let id = if id == "last" {
                let last = search.find(gateway, 1).await?.into_iter().next();
                let none =
                    || Failure::new("there is no such sign-in").advise("`mcp-gateway signins` shows those there are");
                text_at(&last.ok_or_else(none)?, "/id")
            } else {
                id
            };
            let view = gateway.get(&[PATH, &id]).await.map_err(|error| unknown(error, &id))?.value;
            screen.show(&view, || timeline::render(&view))?;
        }
    }
    Ok(Verdict::Fine)
}

fn table(items: &[Value]) -> String {
    let mut table = Table::new(&["LAST STEP", "OUTCOME", "USER", "CLIENT", "STOPPED AT", "ID"]);
    for item in items {
        let outcome = text_at(item, "/outcome");
        let at = match (text_at(item, "/stopped_at/step").as_str(), text_at(item, "/stopped_at/reason").as_str()) {
            ("-", _) => "-".to_owned(),
            (step, "-" | "awaited") => step.to_owned(),
            (step, reason) => format!("{step}: {reason}"),
        };
        table.row([
            (moment(&text_at(item, "/updated_at")), Tone::Dim),
            (outcome.replace('_', " "), timeline::tone(&outcome)),
            (text_at(item, "/username"), Tone::Plain),
            (shorten(&client(item), 40), Tone::Plain),
            (at, Tone::Plain),
            (text_at(item, "/id"), Tone::Dim),
        ]);
    }
    table.render("no sign-ins here: nobody has tried, or none is like that")
}

/// What a client calls itself, else its id.
fn client(view: &Value) -> String {
    let name = text_at(view, "/client_name");
    if name == "-" { text_at(view, "/client_id") } else { name }
}

/// A time without its fraction of a second.
fn moment(text: &str) -> String {
    match text.split_once('.') {
        Some((seconds, _)) => format!("{seconds}Z"),
        None => text.to_owned(),
    }
}

/// Says which sign-in is not there.
fn unknown(error: anyhow::Error, id: &str) -> anyhow::Error {
    let failure = Failure::of(error);
    if failure.status != Some(404) || failure.code.is_none() {
        return failure.into();
    }
    let failure = Failure { what: format!("there is no sign-in `{}`", clean(id)), details: Vec::new(), ..failure };
    failure.advise("`mcp-gateway signins` shows those there are; they are kept for a week").into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_a_moment_or_a_while_ago() {
        assert_eq!(since("2026-01-31T08:00:00Z").unwrap(), time::macros::datetime!(2026-01-31 08:00 UTC));
        let ago = OffsetDateTime::now_utc() - since("2h").unwrap();
        assert!((time::Duration::minutes(119)..time::Duration::hours(3)).contains(&ago), "{ago}");
        for text in ["", "yesterday", "2026-01-31", "-5m"] {
            assert!(since(text).is_err(), "{text}");
        }
        assert_eq!(moment("2026-01-31T08:00:00.123456Z"), "2026-01-31T08:00:00Z");
    }
}
