//! `/admin/daily-health-report`: yesterday and today by the figures that matter, and what went wrong; also as Markdown. Of the whole gateway.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use time::format_description::well_known::Rfc3339;
use time::macros::format_description;
use time::{Date, OffsetDateTime};

use super::envelope::{Report, Scope};
use super::limits::of_gateway;
use super::past::{Past, missing_after};
use crate::access::Admin;
use crate::analytics::kpis::{self, Kpi};
use crate::app::App;
use crate::store::rollups::Span;
use crate::store::{at, micros, now};
use crate::web::answer::Readable;
use crate::web::json::Parameters;
use crate::web::problem::Problem;

/// Most days of history that are told.
const LONGEST: u16 = 1_100;
/// Most incidents that are told.
const MOST: usize = 200;

/// What a reader may ask for.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::admin) struct How {
    /// It is of all processes, whatever is asked for.
    #[serde(rename = "scope")]
    _scope: Option<Scope>,
    #[serde(default)]
    format: Format,
    /// Days before yesterday whose figures are told too.
    #[serde(default)]
    history: u16,
    /// The day that is told as `today`, UTC, such as 2026-07-05; absent: today.
    day: Option<String>,
}

impl How {
    /// The day that is asked for, in days since 1970.
    fn day(&self, today: i64) -> Result<i64, Problem> {
        let Some(text) = &self.day else { return Ok(today) };
        let day = Date::parse(text, format_description!("[year]-[month]-[day]")).ok();
        let day = day.map(|day| kpis::day_of(day.midnight().assume_utc())).filter(|day| (1..=today).contains(day));
        day.ok_or_else(|| Problem::field("day", "a day that has begun, in UTC, such as 2026-07-05"))
    }
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Deserialize, JsonSchema)]
#[schemars(rename = "ReportFormat")]
#[serde(rename_all = "snake_case")]
enum Format {
    #[default]
    Json,
    Markdown,
}

/// See `docs/analytics.md`.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "DailyHealthReport")]
pub(in crate::admin) struct Daily {
    yesterday: String,
    today: String,
    kpis: Vec<Line>,
    incidents: Vec<Incident>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    history: Vec<Earlier>,
}

#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "Kpi")]
struct Line {
    name: &'static str,
    target: Option<&'static str>,
    yesterday: Value,
    today: Value,
    /// Today's less yesterday's.
    change: Option<f64>,
}

#[derive(Debug, Clone, Copy, Serialize, JsonSchema)]
#[schemars(rename = "KpiValue")]
struct Value {
    value: Option<f64>,
    met: Option<bool>,
}

/// What went wrong.
#[derive(Debug, PartialEq, Serialize, JsonSchema)]
struct Incident {
    /// `down`, `unwell` or `ban`.
    kind: &'static str,
    what: String,
    #[serde(with = "crate::clock::Moment")]
    from: OffsetDateTime,
    #[serde(with = "crate::clock::Moment")]
    until: OffsetDateTime,
}

/// The figures of an earlier day.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "EarlierDay")]
struct Earlier {
    date: String,
    kpis: BTreeMap<String, f64>,
}

fn date(day: i64) -> String {
    at(day * 86_400_000_000).date().to_string()
}

pub(in crate::admin) async fn read(
    app: App,
    admin: Admin,
    Parameters(how): Parameters<How>,
) -> Result<Readable<Report<Daily>>, Problem> {
    of_gateway(&admin)?;
    if how.history > LONGEST {
        return Err(Problem::field("history", format!("at most {LONGEST} days")));
    }
    let now = now();
    let today = how.day(kpis::day_of(now))?;
    let (before, current) = (kpis::told(&app.store, today - 1, now).await?, kpis::told(&app.store, today, now).await?);
    let fields = Daily {
        yesterday: date(today - 1),
        today: date(today),
        kpis: before.iter().zip(&current).map(|(before, today)| Line::of(before, today)).collect(),
        incidents: incidents(&app, today, now).await?,
        history: history(&app, today - 1, i64::from(how.history)).await?,
    };
    if how.format == Format::Markdown {
        return Ok(Readable::Markdown(markdown(&fields, now)));
    }
    Ok(Readable::Json(Report::of_all(&app, two_days(today, now).seconds, fields)))
}

/// A day and the one before it, as far as they are over.
fn two_days(day: i64, now: OffsetDateTime) -> Past {
    let range = (day - 1) * Span::Day.seconds()..(day + 1) * Span::Day.seconds();
    let seconds = (now.unix_timestamp().min(range.end) - range.start).try_into().unwrap_or_default();
    Past { range, seconds }
}

impl Line {
    fn of(before: &Kpi, today: &Kpi) -> Self {
        let value = |kpi: &Kpi| Value { value: kpi.value, met: kpi.met };
        let change = today.value.zip(before.value).map(|(today, before)| today - before);
        Self { name: today.name, target: today.target, yesterday: value(before), today: value(today), change }
    }
}

async fn history(app: &App, before: i64, days: i64) -> Result<Vec<Earlier>, Problem> {
    let mut all: BTreeMap<i64, BTreeMap<String, f64>> = BTreeMap::new();
    if days > 0 {
        for (day, name, value) in app.store.kpis(before - days..before).await? {
            all.entry(day).or_default().insert(name, value);
        }
    }
    Ok(all.into_iter().map(|(day, kpis)| Earlier { date: date(day), kpis }).collect())
}

/// What went wrong since yesterday began, in the order in which it did.
async fn incidents(app: &App, today: i64, now: OffsetDateTime) -> Result<Vec<Incident>, Problem> {
    let mut all = Vec::new();
    for day in [today - 1, today] {
        for (from, until) in kpis::presence(&app.store, day, now).await?.gaps {
            let (from, until) = (at(from * 60_000_000), at(until * 60_000_000));
            all.push(Incident { kind: "down", what: "no process was there to serve".to_owned(), from, until });
        }
    }
    let range = two_days(today, now).range;
    let apart = missing_after(&app.settings.analytics);
    let unwell = app.store.unwell(range.clone()).await?;
    all.extend(stretches(unwell.iter().map(|one| (one.at, one.unwell.as_str())), apart));
    for ban in app.store.bans_within(range.start * 1_000_000..range.end * 1_000_000).await? {
        let wrong = if ban.false_positive { ", which was wrong" } else { "" };
        all.push(Incident {
            kind: "ban",
            what: format!("{} was banned ({}){wrong}", ban.network, ban.reason),
            from: at(ban.since_at),
            until: at(ban.lifted_at.unwrap_or(ban.until_at)),
        });
    }
    all.sort_by(|one, other| (one.from, &one.what).cmp(&(other.from, &other.what)));
    all.truncate(MOST);
    Ok(all)
}

/// For how long each component was not well: what is no more than `apart` seconds apart is one stretch.
fn stretches<'a>(samples: impl Iterator<Item = (i64, &'a str)>, apart: i64) -> Vec<Incident> {
    let (mut open, mut all): (BTreeMap<&str, (i64, i64)>, Vec<_>) = (BTreeMap::new(), Vec::new());
    let close = |what: &str, (from, until): (i64, i64)| Incident {
        kind: "unwell",
        what: format!("{what} was not well"),
        from: at(from * 1_000_000),
        until: at(until * 1_000_000),
    };
    for (when, parts) in samples {
        for part in parts.split(',') {
            match open.get_mut(part) {
                Some((_, until)) if when - *until <= apart => *until = when,
                _ => {
                    let before = open.insert(part, (when, when));
                    all.extend(before.map(|before| close(part, before)));
                }
            }
        }
    }
    all.extend(open.into_iter().map(|(part, stretch)| close(part, stretch)));
    all
}

fn markdown(report: &Daily, now: OffsetDateTime) -> String {
    let shown = |value: Option<f64>| value.map_or_else(|| "–".to_owned(), |value| format!("{value:.4}"));
    let met = |met: Option<bool>| met.map_or("", |met| if met { " ✓" } else { " ✗" });
    let time = |time: OffsetDateTime| time.format(&Rfc3339).unwrap_or_default();
    let mut text = format!("# Health of the gateway, {}\n\nMade at {}.\n\n", report.today, time(at(micros(now))));
    _ = writeln!(text, "| figure | target | {} | {} | change |\n|---|---|---|---|---|", report.yesterday, report.today);
    for line in &report.kpis {
        let (before, today) = (line.yesterday, line.today);
        let change = line.change.map_or_else(|| "–".to_owned(), |change| format!("{change:+.4}"));
        _ = writeln!(
            text,
            "| {} | {} | {}{} | {}{} | {change} |",
            line.name.replace('_', " "),
            line.target.unwrap_or("–"),
            shown(before.value),
            met(before.met),
            shown(today.value),
            met(today.met)
        );
    }
    text.push_str("\n## Incidents\n\n");
    if report.incidents.is_empty() {
        text.push_str("None that is known.\n");
    }
    for incident in &report.incidents {
        _ = writeln!(text, "- {} to {}: {}", time(incident.from), time(incident.until), incident.what);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_close_together_is_one_stretch() {
        let samples = [(0, "database"), (60, "database,upstreams"), (120, "upstreams"), (900, "database")];
        let all = stretches(samples.into_iter(), 150);
        let told: Vec<(&str, i64, i64)> =
            all.iter().map(|one| (one.what.as_str(), one.from.unix_timestamp(), one.until.unix_timestamp())).collect();
        let (database, upstreams) = ("database was not well", "upstreams was not well");
        assert_eq!(told, [(database, 0, 60), (database, 900, 900), (upstreams, 60, 120)]);
    }
}
