//! The figures by which a day is judged, made of what is stored: of the whole gateway, the same whichever process makes them.

use time::OffsetDateTime;

use crate::store::refreshes::RefreshSum;
use crate::store::rollup_sums::EventTotals;
use crate::store::rollups::{CallTotals, Span};
use crate::store::{Store, StoreError, micros};

const DAY: i64 = Span::Day.seconds();

/// What a figure should be.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Bound {
    Above(f64),
    Below(f64),
    Exactly(f64),
    Between(f64, f64),
    /// So much must be possible; whether it is, is known when it was.
    Reaches(f64),
    None,
}

impl Bound {
    fn met(self, value: f64) -> Option<bool> {
        match self {
            Self::Above(bound) => Some(value > bound),
            Self::Below(bound) => Some(value < bound),
            Self::Exactly(wanted) => Some((value - wanted).abs() < f64::EPSILON),
            Self::Between(least, most) => Some((least..=most).contains(&value)),
            Self::Reaches(wanted) => (value >= wanted).then_some(true),
            Self::None => None,
        }
    }
}

/// A figure: its name, what it should be in words, and the same as a bound.
type Line = (&'static str, Option<&'static str>, Bound);

const HOUR_MS: f64 = 3_600_000.0;

/// All of them, in the order in which they are told. Durations are in milliseconds.
const LINES: [Line; 15] = [
    ("authentication_success", Some(">0.995"), Bound::Above(0.995)),
    ("token_refresh_success", Some(">0.95"), Bound::Above(0.95)),
    ("uptime", Some(">0.999"), Bound::Above(0.999)),
    ("mean_response", Some("<100"), Bound::Below(100.0)),
    ("mean_gateway_overhead", Some("<100"), Bound::Below(100.0)),
    ("pool_utilization", Some("<0.8"), Bound::Below(0.8)),
    ("peak_concurrent_users", Some("500"), Bound::Reaches(500.0)),
    ("mean_session", Some("2 to 4 h"), Bound::Between(2.0 * HOUR_MS, 4.0 * HOUR_MS)),
    ("satisfaction", Some(">4.5"), Bound::Above(4.5)),
    ("authentication_failures", Some("<0.005"), Bound::Below(0.005)),
    ("ddos_false_positives", Some("<0.01"), Bound::Below(0.01)),
    ("fairness", Some(">0.99"), Bound::Above(0.99)),
    ("audit_completeness", Some("1.0"), Bound::Exactly(1.0)),
    ("tenant_isolation", Some("1.0"), Bound::Exactly(1.0)),
    ("tenants_active", None, Bound::None),
];

/// A figure of a day.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Kpi {
    /// What it is called.
    pub name: &'static str,
    /// What it should be.
    pub target: Option<&'static str>,
    /// None where nothing was measured.
    pub value: Option<f64>,
    /// Whether it is; unknown where nothing was measured.
    pub met: Option<bool>,
}

/// Days since 1970.
pub fn day_of(time: OffsetDateTime) -> i64 {
    time.unix_timestamp().div_euclid(DAY)
}

/// Minutes of a day in which nobody was there to serve, each stretch with its first minute and the first after it, since 1970.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Presence {
    /// Minutes that are over, since the gateway first started.
    pub minutes: i64,
    /// Those in which a process was there.
    pub there: i64,
    /// The others.
    pub gaps: Vec<(i64, i64)>,
}

/// When processes were there on a day; what of it is over by `now`.
pub async fn presence(store: &Store, day: i64, now: OffsetDateTime) -> Result<Presence, StoreError> {
    let Some(first) = store.first_beat().await? else { return Ok(Presence::default()) };
    let (start, end) = ((day * 1_440).max(first), ((day + 1) * 1_440).min(now.unix_timestamp().div_euclid(60)));
    if start >= end {
        return Ok(Presence::default());
    }
    Ok(gaps(start, end, &store.beats(start..end).await?))
}

fn gaps(start: i64, end: i64, beats: &[i64]) -> Presence {
    let (mut gaps, mut next) = (Vec::new(), start);
    for beat in beats.iter().copied().chain([end]) {
        if beat > next {
            gaps.push((next, beat));
        }
        next = beat + 1;
    }
    let there = i64::try_from(beats.len()).unwrap_or(i64::MAX);
    Presence { minutes: end - start, there, gaps }
}

/// The figures of a day, as far as it is over.
pub async fn of_day(store: &Store, day: i64, now: OffsetDateTime) -> Result<Vec<Kpi>, StoreError> {
    let range = day * DAY..(day + 1) * DAY;
    let calls = store.call_totals(None, Span::Day, range.clone()).await?;
    let auth = store.event_totals(None, Span::Day, range.clone(), "auth").await?;
    let sessions = store.event_totals(None, Span::Day, range.clone(), "session").await?;
    let isolation = store.event_totals(None, Span::Day, range.clone(), "isolation").await?;
    let refreshes = store.refresh_sums_within(None, day * 24..(day + 1) * 24).await?;
    let samples = store.sample_sums(range.clone()).await?;
    let (answered, recorded) = store.answered(range.clone()).await?;
    let presence = presence(store, day, now).await?;
    let bans = store.bans_within(range.start * 1_000_000..range.end * 1_000_000).await?;
    let own_bans = bans.iter().filter(|ban| ban.reason != "hand");
    let wrong_bans = own_bans.clone().filter(|ban| ban.false_positive).count();
    let active = store.calls_by_tenant(Span::Day, range).await?.len();
    let auth_success = part(&auth, "success");
    let values = [
        auth_success,
        refreshed(&refreshes),
        ratio(presence.there, presence.minutes),
        mean_ms(calls.total_us, calls.calls),
        mean_ms(calls.total_us - calls.upstream_us, calls.calls),
        samples.pool_utilization,
        samples.most_users.map(float),
        mean_ms(sessions.iter().map(|sum| sum.lasted_us).sum(), sessions.iter().map(|sum| sum.count).sum()),
        satisfaction(&calls),
        auth_success.map(|success| 1.0 - success),
        ratio(count(wrong_bans), count(own_bans.count())),
        samples.fairness,
        ratio(recorded, answered),
        part(&isolation, "refused"),
        (calls.calls > 0).then(|| float(count(active))),
    ];
    let kpi = |((name, target, bound), value): (Line, Option<f64>)| {
        let met = value.and_then(|value| bound.met(value));
        Kpi { name, target, value, met }
    };
    Ok(LINES.into_iter().zip(values).map(kpi).collect())
}

/// The figures of a day, with what was kept of it where it cannot be counted any more.
pub async fn told(store: &Store, day: i64, now: OffsetDateTime) -> Result<Vec<Kpi>, StoreError> {
    let mut all = of_day(store, day, now).await?;
    for (_, name, value) in store.kpis(day..day + 1).await? {
        let of = all.iter_mut().zip(LINES).find(|(kpi, _)| kpi.name == name && kpi.value.is_none());
        if let Some((kpi, (_, _, bound))) = of {
            (kpi.value, kpi.met) = (Some(value), bound.met(value));
        }
    }
    Ok(all)
}

/// Keeps the figures of the day before for longer than what they are made of.
pub async fn keep(store: &Store, now: OffsetDateTime) -> Result<(), StoreError> {
    let day = day_of(now) - 1;
    let kpis = of_day(store, day, now).await?;
    let known: Vec<(&str, f64)> = kpis.iter().filter_map(|kpi| Some((kpi.name, kpi.value?))).collect();
    store.keep_kpis(day, &known).await?;
    tracing::debug!(day, now = micros(now), "the figures of a day are kept");
    Ok(())
}

/// 1 + 4·Apdex, of 1 to 5: what did not succeed counts as frustrating.
fn satisfaction(calls: &CallTotals) -> Option<f64> {
    let apdex = (float(calls.satisfied) + float(calls.tolerated) / 2.0) / float(calls.calls);
    (calls.calls > 0).then_some(1.0 + 4.0 * apdex)
}

/// What part of events came out so.
pub fn part(events: &[EventTotals], result: &str) -> Option<f64> {
    let sum = |of_it: &dyn Fn(&&EventTotals) -> bool| events.iter().filter(|sum| of_it(sum)).map(|sum| sum.count).sum();
    ratio(sum(&|sum| sum.result == result), sum(&|_| true))
}

/// What part of refreshes gave something.
pub fn refreshed(sums: &[RefreshSum]) -> Option<f64> {
    let successful = sums.iter().filter(|sum| sum.result == "success").map(|sum| sum.count).sum();
    ratio(successful, sums.iter().map(|sum| sum.count).sum())
}

/// None without a whole.
pub fn ratio(part: i64, whole: i64) -> Option<f64> {
    (whole > 0).then(|| float(part) / float(whole))
}

/// Milliseconds on average; none of nothing.
pub fn mean_ms(micros: i64, count: i64) -> Option<f64> {
    ratio(micros, count).map(|mean| mean / 1e3)
}

#[expect(clippy::cast_precision_loss, reason = "counts of days")]
fn float(number: i64) -> f64 {
    number as f64
}

fn count(number: usize) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn minutes_without_a_process_are_gaps() {
        assert_eq!(gaps(10, 16, &[10, 11, 14]), Presence { minutes: 6, there: 3, gaps: vec![(12, 14), (15, 16)] });
        assert_eq!(gaps(10, 12, &[]), Presence { minutes: 2, there: 0, gaps: vec![(10, 12)] });
        assert_eq!(gaps(10, 12, &[10, 11]), Presence { minutes: 2, there: 2, gaps: vec![] });
    }

    #[test]
    fn what_was_not_measured_meets_nothing() {
        assert_eq!(ratio(0, 0), None);
        assert_eq!(satisfaction(&CallTotals::default()), None);
        let calls = CallTotals { calls: 4, satisfied: 2, tolerated: 1, ..CallTotals::default() };
        assert_eq!(satisfaction(&calls), Some(3.5));
        assert_eq!(Bound::Reaches(500.0).met(499.0), None);
        assert_eq!(Bound::Reaches(500.0).met(500.0), Some(true));
        assert_eq!(Bound::Between(1.0, 2.0).met(2.5), Some(false));
    }
}
