//! The time that reports of stored figures are of: whole hours of the past, and what there is of this one.

use std::ops::Range;

use time::OffsetDateTime;

use crate::config::Analytics;
use crate::store::micros;
use crate::store::rollups::Span;

/// See the module.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Past {
    /// Seconds since 1970.
    pub(super) range: Range<i64>,
    /// How long that is until now.
    pub(super) seconds: u64,
}

impl Past {
    /// Of so many hours, this one among them.
    pub(super) fn hours(count: i64, now: OffsetDateTime) -> Self {
        let hour = Span::Hour.of(micros(now)).at;
        let range = hour - (count - 1) * Span::Hour.seconds()..hour + Span::Hour.seconds();
        let seconds = (now.unix_timestamp() - range.start).try_into().unwrap_or_default();
        Self { range, seconds }
    }

    /// Of so many days, UTC, today among them.
    pub(super) fn days(count: i64, now: OffsetDateTime) -> Self {
        let day = Span::Day.of(micros(now)).at;
        let range = day - (count - 1) * Span::Day.seconds()..day + Span::Day.seconds();
        let seconds = (now.unix_timestamp() - range.start).try_into().unwrap_or_default();
        Self { range, seconds }
    }

    /// The last minute that is over.
    pub(super) fn last_minute(now: OffsetDateTime) -> Range<i64> {
        let minute = Span::Minute.of(micros(now)).at;
        minute - Span::Minute.seconds()..minute
    }
}

/// Seconds after which a sample that should follow another one is missing: it may be late by a tenth of the interval, and one may fail.
pub(super) fn missing_after(settings: &Analytics) -> i64 {
    let interval = i64::try_from(settings.export_interval.as_secs()).unwrap_or(Span::Hour.seconds());
    5 * interval / 2
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hours_and_days_are_whole_ones_and_what_there_is_of_the_last() {
        let now = OffsetDateTime::from_unix_timestamp(86_400 * 3 + 3_600 * 5 + 70).unwrap();
        let hour = 86_400 * 3 + 3_600 * 5;
        assert_eq!(Past::hours(24, now), Past { range: hour - 23 * 3_600..hour + 3_600, seconds: 23 * 3_600 + 70 });
        assert_eq!(Past::days(2, now).range, 86_400 * 2..86_400 * 4);
        assert_eq!(Past::last_minute(now), hour..hour + 60);
    }
}
