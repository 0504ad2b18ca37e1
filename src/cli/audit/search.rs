//! Which records are looked for, and those that come while somebody looks.

use std::collections::HashSet;
use std::time::Duration;

use clap::Args;
use serde_json::Value;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::super::gateway::Gateway;
use super::super::screen::Screen;
use super::super::signins::since;
use super::{PATH, cells};

/// Which records.
#[derive(Debug, Args)]
pub(super) struct Search {
    /// Of this tenant; '' for those of none [default: of all that you may see]
    #[arg(long, value_name = "ID")]
    tenant: Option<String>,
    /// Of this account: its name or id
    #[arg(long, value_name = "NAME")]
    user: Option<String>,
    /// Of this kind, such as tools/call or auth.login
    #[arg(long, value_name = "ACTION")]
    action: Option<String>,
    /// At this server
    #[arg(long, value_name = "SLUG")]
    server: Option<String>,
    /// Of this tool, prompt, resource or path
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
    /// Which came out so: success, `tool_error`, error, denied, `rate_limited`
    #[arg(long, value_name = "OUTCOME")]
    outcome: Option<String>,
    /// From this address
    #[arg(long, value_name = "ADDRESS")]
    address: Option<String>,
    /// Through this OAuth client
    #[arg(long, value_name = "ID")]
    client: Option<String>,
    /// Of this request, as its answer's X-Request-Id said
    #[arg(long, value_name = "ID")]
    request_id: Option<String>,
    /// That began within this time (30m, 2h, 3d) or since then (RFC 3339)
    #[arg(long, value_name = "TIME", value_parser = since)]
    from: Option<OffsetDateTime>,
    /// That began before then, said likewise
    #[arg(long, value_name = "TIME", value_parser = since)]
    to: Option<OffsetDateTime>,
}

impl Search {
    /// As the gateway is asked.
    pub(super) fn query(&self) -> anyhow::Result<Vec<(&'static str, String)>> {
        let texts = [
            ("tenant", &self.tenant),
            ("user", &self.user),
            ("action", &self.action),
            ("server", &self.server),
            ("name", &self.name),
            ("outcome", &self.outcome),
            ("address", &self.address),
            ("client", &self.client),
            ("request_id", &self.request_id),
        ];
        let mut query: Vec<_> = texts.into_iter().filter_map(|(name, text)| Some((name, text.clone()?))).collect();
        for (name, time) in [("from", self.from), ("to", self.to)] {
            if let Some(time) = time {
                query.push((name, time.format(&Rfc3339)?));
            }
        }
        Ok(query)
    }
}

/// The same, as lists of the gateway are asked for.
pub(super) fn borrowed<'a>(query: &'a [(&'static str, String)]) -> Vec<(&'a str, &'a str)> {
    query.iter().map(|(name, text)| (*name, text.as_str())).collect()
}

/// Between two looks.
const PAUSE: Duration = Duration::from_secs(1);
/// How far back each look goes: a record comes when its operation is over, and stands where that began.
const BACK: time::Duration = time::Duration::minutes(2);
/// Most records that one look shows.
const MOST: usize = 10_000;

/// Shows what comes, until somebody stops it.
pub(super) async fn tail(search: &Search, gateway: &Gateway, screen: Screen) -> anyhow::Result<()> {
    let began = OffsetDateTime::now_utc();
    let (mut known, mut first): (HashSet<String>, _) = (HashSet::new(), true);
    loop {
        let from = OffsetDateTime::now_utc() - BACK;
        let mut query = search.query()?;
        query.retain(|(name, _)| *name != "from");
        query.push(("from", from.max(search.from.unwrap_or(from)).format(&Rfc3339)?));
        let items = gateway.list(&PATH, &borrowed(&query), MOST).await?;
        let id = |item: &Value| item["id"].as_str().unwrap_or_default().to_owned();
        for item in items.iter().rev().filter(|item| !known.contains(&id(item))) {
            let is_new = item["time"].as_str().and_then(|time| OffsetDateTime::parse(time, &Rfc3339).ok());
            if !first || is_new.is_some_and(|time| time >= began) {
                screen.say(item, || line(item))?;
            }
        }
        known = items.iter().map(id).collect();
        first = false;
        tokio::time::sleep(PAUSE).await;
    }
}

fn line(item: &Value) -> String {
    let [time, user, action, what, outcome, from, _] = cells(item).map(|(text, tone)| tone.paint(&text));
    format!("{time}  {user}  {action}  {what}  {outcome}  {from}\n")
}
