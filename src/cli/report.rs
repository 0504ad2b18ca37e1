//! `report`: what the gateway tells of itself, by name: the daily report as a table or as a page to send, the others field by field.

mod daily;
mod sheet;

use anyhow::Context;
use clap::{Args, ValueEnum};
use serde_json::Value;
use time::Date;
use time::macros::format_description;

use super::Verdict;
use super::failure::{Failure, unknown};
use super::gateway::Gateway;
use super::screen::Screen;

const EXAMPLES: &str = "\
With --json it is the document of the API, to the letter.

Examples:
  mcp-gateway report daily
  mcp-gateway report daily --day 2026-07-05 --format markdown > health.md
  mcp-gateway report token-refresh-status
  mcp-gateway report tenant-analytics acme
  mcp-gateway report user-activity ada --json";

/// Show a report: figures, what they should be, and what was found
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct Report {
    /// Which one
    #[arg(value_enum)]
    name: Name,
    /// Of which tenant or account, where it is of one
    id: Option<String>,
    /// How the daily report is written
    #[arg(long, value_enum, value_name = "FORMAT", default_value_t = Format::Text)]
    format: Format,
    /// Of which day, UTC, the daily report tells besides the one before [default: today]
    #[arg(long, value_name = "DATE", value_parser = day)]
    day: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    /// A table
    Text,
    /// A page to send
    Markdown,
    /// As --json
    Json,
}

/// A report, by the last part of its path.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Name {
    /// The key figures of yesterday and today, and what went wrong
    Daily,
    /// Who is there now, and what that takes
    MultiUserStatus,
    /// What runs out first, and when
    CapacityStatus,
    /// The places and connections of every replica of a server
    ConnectionPoolStatus,
    /// How well tokens of providers are kept fresh
    TokenRefreshStatus,
    /// How fair the limits were, and what they refused
    RateLimitAnalytics,
    /// What a tenant's share is, and what it had of it
    TenantFairness,
    /// What a tenant did in a day
    TenantAnalytics,
    /// What an account did in thirty days
    UserActivity,
    /// How the providers' tokens of an account are
    UserTokenStatus,
    /// What is wrong with servers and database, and what to do
    Resources,
    /// Why people and programs were not let in
    AuthFailures,
    /// What limits say, and what to do
    RateLimits,
    /// What this process holds in memory
    Memory,
    /// How fast connections come about
    Network,
}

/// Whose a report is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Whose {
    Gateway,
    Tenant,
    Account,
}

impl Name {
    /// Its path below the API, and whose it is.
    fn place(self) -> (&'static [&'static str], Whose) {
        match self {
            Self::Daily => (&["admin", "daily-health-report"], Whose::Gateway),
            Self::MultiUserStatus => (&["admin", "multi-user-status"], Whose::Gateway),
            Self::CapacityStatus => (&["admin", "capacity-status"], Whose::Gateway),
            Self::ConnectionPoolStatus => (&["admin", "connection-pool-status"], Whose::Gateway),
            Self::TokenRefreshStatus => (&["admin", "token-refresh-status"], Whose::Gateway),
            Self::RateLimitAnalytics => (&["admin", "rate-limit-analytics"], Whose::Gateway),
            Self::TenantFairness => (&["admin", "tenant-fairness"], Whose::Tenant),
            Self::TenantAnalytics => (&["admin", "tenant-analytics"], Whose::Tenant),
            Self::UserActivity => (&["admin", "user-activity"], Whose::Account),
            Self::UserTokenStatus => (&["admin", "user-token-status"], Whose::Account),
            Self::Resources => (&["admin", "diagnostics", "resources"], Whose::Gateway),
            Self::AuthFailures => (&["admin", "diagnostics", "auth-failures"], Whose::Gateway),
            Self::RateLimits => (&["admin", "diagnostics", "rate-limits"], Whose::Gateway),
            Self::Memory => (&["admin", "diagnostics", "memory"], Whose::Gateway),
            Self::Network => (&["admin", "diagnostics", "network"], Whose::Gateway),
        }
    }
}

fn day(text: &str) -> Result<String, &'static str> {
    let date = Date::parse(text, format_description!("[year]-[month]-[day]"));
    date.map(|_| text.to_owned()).map_err(|_| "give a day like 2026-07-05")
}

/// Carries out `report …`.
pub async fn run(report: &Report, gateway: &Gateway, screen: Screen) -> anyhow::Result<Verdict> {
    let (path, whose) = report.name.place();
    let daily = report.name == Name::Daily;
    if !daily && (report.day.is_some() || report.format != Format::Text) {
        return Err(Failure::usage("only the daily report takes --day and --format; --json is for all of them").into());
    }
    let screen = if report.format == Format::Json { Screen::new(true) } else { screen };
    let markdown = report.format == Format::Markdown && !screen.is_json();
    let mut query: Vec<(&str, &str)> = report.day.iter().map(|day| ("day", day.as_str())).collect();
    if markdown {
        query.push(("format", "markdown"));
    }
    let (path, what) = match (whose, &report.id) {
        (Whose::Gateway, None) => (path.to_vec(), None),
        (Whose::Gateway, Some(_)) => {
            return Err(Failure::usage("this report is of the whole gateway; name only it").into());
        }
        (Whose::Tenant, Some(id)) => ([path, &[id]].concat(), Some((("tenant", "tenants list"), id))),
        (Whose::Account, Some(id)) => ([path, &[id]].concat(), Some((("account", "users list"), id))),
        (_, None) => {
            let of = if whose == Whose::Tenant {
                "tenant; `mcp-gateway tenants list`"
            } else {
                "account; `mcp-gateway users list`"
            };
            return Err(Failure::usage(format!("this report is of one {of} shows those there are")).into());
        }
    };
    let answer = gateway.ask(&path, &query).await.map_err(|error| match what {
        Some((what, id)) => unknown(error, what, id),
        None => error,
    })?;
    if markdown {
        screen.print(&super::screen::clean_block(&String::from_utf8_lossy(&answer.body)))?;
        return Ok(Verdict::Fine);
    }
    let document: Value = serde_json::from_slice(&answer.body).context("the answer is not JSON")?;
    screen.show(&document, || if daily { daily::render(&document) } else { sheet::render(&document) })?;
    Ok(Verdict::Fine)
}
