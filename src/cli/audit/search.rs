//! Which records are looked for, and those that come while somebody looks.

use std::collections::HashMap;
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
/// Records of one page.
const PAGE: usize = 500;
/// Most chains that are followed.
const CHAINS: usize = 100_000;

/// Shows what comes, until somebody stops it: a record comes when its operation is over, whenever that began, and its place in its chain
/// is behind all that came before.
pub(super) async fn tail(search: &Search, gateway: &Gateway, screen: Screen) -> anyhow::Result<()> {
    let mut shown: Option<HashMap<String, i64>> = None;
    loop {
        let chains = gateway.list(&[&PATH[..], &["chains"]].concat(), &[], CHAINS).await?;
        let ends = chains.iter().map(|chain| {
            let name = chain["chain"].as_str().unwrap_or_default();
            (name.to_owned(), chain["seq"].as_i64().unwrap_or_default())
        });
        let ends = ends.filter(|(name, _)| search.tenant.as_ref().is_none_or(|tenant| tenant == name));
        let Some(shown) = &mut shown else {
            shown = Some(ends.collect());
            tokio::time::sleep(PAUSE).await;
            continue;
        };
        let mut new = Vec::new();
        for (name, end) in ends {
            let after = shown.entry(name.clone()).or_default();
            while *after < end {
                let mut query = search.query()?;
                query.retain(|(name, _)| *name != "tenant");
                query.extend([("tenant", name.clone()), ("after_seq", after.to_string())]);
                let (items, _) = gateway.page(&PATH, &borrowed(&query), None, PAGE).await?;
                *after = match items.last() {
                    Some(last) if items.len() == PAGE => last["seq"].as_i64().unwrap_or(end).max(*after + 1),
                    // Others may have come since, and were listed; what does not match was passed over.
                    last => last.and_then(|last| last["seq"].as_i64()).unwrap_or(end).max(end),
                };
                new.extend(items);
            }
        }
        new.sort_by(|one, other| one["id"].as_str().cmp(&other["id"].as_str()));
        for item in &new {
            screen.say(item, || line(item))?;
        }
        tokio::time::sleep(PAUSE).await;
    }
}

fn line(item: &Value) -> String {
    let [time, user, action, what, outcome, from, _] = cells(item).map(|(text, tone)| tone.paint(&text));
    format!("{time}  {user}  {action}  {what}  {outcome}  {from}\n")
}
