//! `/admin/capacity-status`: what of what there is is used, what runs out first, and when. Of the whole gateway, from samples.

use axum::response::Json;
use schemars::JsonSchema;
use serde::Serialize;
use time::OffsetDateTime;

use super::envelope::{Asked, Report};
use super::limits::of_gateway;
use super::status::{float, last_samples};
use crate::access::Admin;
use crate::analytics::outlook::Line;
use crate::app::App;
use crate::store::now;
use crate::store::samples::Sample;
use crate::web::json::Parameters;
use crate::web::problem::Problem;

const HOUR: i64 = 3_600;
/// Over which time a use that is too high, or too low, says that something should change.
const UP: i64 = 5 * 60;
const DOWN: i64 = 30 * 60;
/// What is too high, and too low.
const HIGH: f64 = 0.8;
const LOW: f64 = 0.3;

/// See `docs/analytics.md`.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "CapacityStatus")]
pub(in crate::admin) struct Capacity {
    current_utilization: Option<f64>,
    scaling_recommendation: Option<&'static str>,
    bottleneck_analysis: Vec<Bottleneck>,
    resource_projections: Vec<Projection>,
}

#[derive(Debug, Clone, Copy, Serialize, JsonSchema)]
struct Bottleneck {
    resource: &'static str,
    utilization: f64,
    limit: f64,
    headroom: f64,
}

#[derive(Debug, Serialize, JsonSchema)]
struct Projection {
    resource: &'static str,
    /// Of the utilization.
    slope_per_hour: Option<f64>,
    #[serde(with = "crate::clock::MaybeMoment")]
    reaches_80_percent_at: Option<OffsetDateTime>,
    /// In what the limit is given in, if twice as much were asked for.
    needed_at_double_load: Option<f64>,
}

/// What is looked at. Requests are first: the rest is measured against them.
const RESOURCES: [&str; 8] =
    ["requests", "users", "pool", "memory", "cpu", "file_descriptors", "database", "connections"];

/// Of all processes together: how much is used, and how much there is; requests a minute.
type Used = [Option<(f64, f64)>; RESOURCES.len()];

fn used(samples: &[Sample], global_rpm: u32) -> Used {
    let sum = |of: &dyn Fn(&Sample) -> Option<(f64, f64)>| {
        let all = samples.iter().filter_map(of).reduce(|(a, b), (c, d)| (a + c, b + d));
        all.filter(|(_, limit)| *limit > 0.0)
    };
    let known = |used: Option<i64>, limit: Option<i64>| used.map(float).zip(limit.map(float));
    let rpm = |one: &Sample| (one.seconds > 0.0).then(|| (float(one.requests) / one.seconds * 60.0, 0.0));
    let requests = samples.iter().filter_map(rpm).reduce(|(a, _), (b, _)| (a + b, 0.0));
    [
        requests.map(|(requests, _)| (requests, f64::from(global_rpm))),
        sum(&|one| known(Some(one.sessions), Some(one.sessions_limit))),
        sum(&|one| known(Some(one.pool_in_use), Some(one.pool_limit))),
        sum(&|one| known(one.memory, one.memory_limit)),
        sum(&|one| one.cpu.zip(one.cpu_limit)),
        sum(&|one| known(one.descriptors, one.descriptors_limit)),
        sum(&|one| known(Some(one.database_in_use), Some(one.database_limit))),
        sum(&|one| known(Some(one.connections), Some(one.connections_limit))),
    ]
}

/// The largest part that is used of anything.
fn largest(used: &Used) -> Option<f64> {
    used.iter().flatten().map(|(used, limit)| used / limit).reduce(f64::max)
}

/// Samples of one time together, by time.
fn steps(samples: &[Sample], global_rpm: u32) -> Vec<(i64, Used)> {
    let together = samples.chunk_by(|one, next| one.at == next.at);
    together.map(|samples| (samples[0].at, used(samples, global_rpm))).collect()
}

fn recommendation(steps: &[(i64, Used)], now: i64) -> Option<&'static str> {
    let mean = |seconds: i64| {
        let since = steps.iter().filter(|(at, _)| now - at <= seconds).filter_map(|(_, used)| largest(used));
        let (sum, count) = since.fold((0.0, 0), |(sum, count), one| (sum + one, count + 1));
        (count > 0).then(|| sum / f64::from(count))
    };
    let whole = steps.first().is_some_and(|(at, _)| now - at >= DOWN - 2 * 60);
    Some(match (mean(UP), mean(DOWN)) {
        (Some(lately), _) if lately > HIGH => "scale_up",
        (_, Some(lately)) if lately < LOW && whole => "scale_down",
        (None, None) => return None,
        _ => "maintain",
    })
}

/// What comes of each resource, by what was stored of it.
fn projections(steps: &[(i64, Used)], current: &Used, now: i64) -> Vec<Projection> {
    #[expect(clippy::cast_precision_loss, reason = "hours of some days")]
    let hours = |at: i64| (at - now) as f64 / HOUR as f64;
    let of = |(at, resource): (usize, &'static str)| {
        let points: Vec<(f64, f64)> =
            steps.iter().filter_map(|(when, all)| all[at].map(|(used, limit)| (hours(*when), used / limit))).collect();
        let line = Line::through(&points);
        let full = current[at].is_some_and(|(used, limit)| used / limit >= HIGH);
        let reaches = if full { Some(0.0) } else { line.and_then(|line| line.reaches(HIGH, 0.0)) };
        let load: Vec<(f64, f64)> = steps.iter().filter_map(|(_, all)| Some((all[0]?.0, all[at]?.0))).collect();
        let needed = match (at, current[0], current[at]) {
            (0, Some((requests, _)), _) => Some(2.0 * requests),
            (_, Some((requests, _)), Some((used, _))) => {
                Line::through(&load).map(|line| used.max(used + line.slope * requests))
            }
            _ => None,
        };
        Projection {
            resource,
            slope_per_hour: line.map(|line| line.slope),
            reaches_80_percent_at: reaches.and_then(|hours| later(now, hours)),
            needed_at_double_load: needed,
        }
    };
    RESOURCES.into_iter().enumerate().map(of).collect()
}

/// So many hours from now, if that is within some years.
fn later(now: i64, hours: f64) -> Option<OffsetDateTime> {
    #[expect(clippy::cast_possible_truncation, reason = "bounded")]
    let seconds = (hours < 5.0 * 365.0 * 24.0).then_some((hours * 3_600.0) as i64)?;
    OffsetDateTime::from_unix_timestamp(now + seconds).ok()
}

pub(in crate::admin) async fn read(
    app: App,
    admin: Admin,
    Parameters(_): Parameters<Asked>,
) -> Result<Json<Report<Capacity>>, Problem> {
    of_gateway(&admin)?;
    let (time, rpm) = (now(), app.settings.rate_limits.global_rpm);
    let now = time.unix_timestamp();
    let current = used(&last_samples(&app, time).await?, rpm);
    let lately = steps(&app.store.sample_steps(now - DOWN..now + 1, 60).await?, rpm);
    // By hours of a week where there are some days of them, so that a day's course is no trend; else by five minutes of a day.
    let week = app.store.sample_steps(now - 7 * 24 * HOUR..now + 1, HOUR).await?;
    let long = week.first().is_some_and(|first| now - first.at >= 48 * HOUR);
    let (window, history) = if long {
        (7 * 24 * HOUR, week)
    } else {
        (24 * HOUR, app.store.sample_steps(now - 24 * HOUR..now + 1, 300).await?)
    };
    let history = steps(&history, rpm);
    let of = |(resource, used): (&'static str, &Option<(f64, f64)>)| {
        used.map(|(used, limit)| Bottleneck { resource, utilization: used / limit, limit, headroom: limit - used })
    };
    let mut bottlenecks: Vec<Bottleneck> = RESOURCES.into_iter().zip(&current).filter_map(of).collect();
    bottlenecks.sort_by(|one, other| other.utilization.total_cmp(&one.utilization));
    let fields = Capacity {
        current_utilization: largest(&current),
        scaling_recommendation: recommendation(&lately, now),
        bottleneck_analysis: bottlenecks,
        resource_projections: projections(&history, &current, now),
    };
    Ok(Json(Report::of_all(&app, window.unsigned_abs(), fields)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(at: i64, requests: i64, sessions: i64) -> Sample {
        Sample { at, seconds: 60.0, requests, sessions, sessions_limit: 100, ..Sample::default() }
    }

    #[test]
    fn what_is_used_is_of_all_processes_together() {
        let used = used(&[sample(0, 30, 10), sample(0, 50, 50)], 1_000);
        assert_eq!((used[0], used[1], used[3]), (Some((80.0, 1_000.0)), Some((60.0, 200.0)), None));
        assert_eq!(largest(&used), Some(0.3));
    }

    #[test]
    fn a_high_use_of_minutes_and_a_low_one_of_half_an_hour_say_what_to_do() {
        let steps = |minutes: i64, sessions: i64| -> Vec<(i64, Used)> {
            (0..minutes).rev().map(|ago| (-60 * ago, used(&[sample(0, 1, sessions)], 1_000))).collect()
        };
        for (minutes, sessions, said) in [
            (6, 90, Some("scale_up")),
            (31, 90, Some("scale_up")),
            (31, 10, Some("scale_down")),
            (10, 10, Some("maintain")),
            (31, 50, Some("maintain")),
            (0, 0, None),
        ] {
            assert_eq!(recommendation(&steps(minutes, sessions), 0), said, "{minutes} {sessions}");
        }
    }

    #[test]
    fn a_use_that_rises_reaches_its_bound_and_depends_on_the_load() {
        let steps: Vec<(i64, Used)> =
            (0..48).map(|hour| (HOUR * (hour - 47), used(&[sample(0, 60 + hour, 10 + hour)], 1_000))).collect();
        let current = steps.last().unwrap().1;
        let all = projections(&steps, &current, 0);
        assert!((all[1].slope_per_hour.unwrap() - 0.01).abs() < 1e-9);
        let at = all[1].reaches_80_percent_at.unwrap().unix_timestamp();
        assert!((at - 23 * HOUR).abs() < 60, "{at}");
        assert_eq!(all[0].needed_at_double_load, Some(2.0 * 107.0));
        assert!((all[1].needed_at_double_load.unwrap() - (57.0 + 107.0)).abs() < 1e-6);
        assert_eq!((all[3].slope_per_hour, all[3].reaches_80_percent_at), (None, None));
        assert!(projections(&steps[..5], &current, 0).iter().all(|one| one.slope_per_hour.is_none()));
    }
}
