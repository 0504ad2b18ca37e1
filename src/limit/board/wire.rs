//! How a report is written on a board in Redis: some numbers in a fixed order, so that a report about thousands of tenants is neither
//! long nor slow to read.

use bytes::{Buf as _, BufMut as _, TryGetError};

use super::{Asked, Other, Report};

/// What every report begins with. Replicas of two releases that write differently do not read each other, but count.
const VERSION: u8 = 1;

/// The report without what the board itself reads.
pub(super) fn write(report: &Report) -> Vec<u8> {
    let mut out = Vec::with_capacity(8 + 8 * report.counts.len() + 24 * report.asked.len());
    out.put_u8(VERSION);
    out.put_u8(u8::from(report.exhausted));
    out.put_u8(u8::try_from(report.counts.len()).unwrap_or(u8::MAX));
    report.counts.iter().take(u8::MAX.into()).for_each(|count| out.put_u64(*count));
    for asked in &report.asked {
        out.put_u64(asked.tenant);
        out.put_f32(asked.rate);
        out.put_f32(asked.long);
        out.put_u32(asked.wanted);
        out.put_u32(asked.given);
    }
    out
}

/// Reads it; as one without anything where it is of another release, or none at all.
pub(super) fn read(replica: u128, text: &[u8]) -> Other {
    try_read(replica, text).unwrap_or_else(|_| Other { replica, ..Other::default() })
}

fn try_read(replica: u128, mut text: &[u8]) -> Result<Other, TryGetError> {
    let mut other = Other { replica, ..Other::default() };
    if text.try_get_u8()? != VERSION {
        return Ok(other);
    }
    other.exhausted = text.try_get_u8()? != 0;
    let counts = text.try_get_u8()?;
    other.counts = (0..counts).map(|_| text.try_get_u64()).collect::<Result<_, _>>()?;
    while text.has_remaining() {
        let asked = Asked {
            tenant: text.try_get_u64()?,
            rate: rate(text.try_get_f32()?),
            long: rate(text.try_get_f32()?),
            wanted: text.try_get_u32()?,
            given: text.try_get_u32()?,
        };
        other.asked.push(asked);
    }
    Ok(other)
}

/// Whatever is written there, no rate is less than nothing, and none is beyond measure.
fn rate(rate: f32) -> f32 {
    if rate.is_finite() { rate.max(0.0) } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn what_was_written_is_read(
            asked in prop::collection::vec((any::<u64>(), 0_f32..1e6, 0_f32..1e6, any::<u32>(), any::<u32>()), 0..20),
            counts in prop::collection::vec(any::<u64>(), 0..9),
            exhausted in any::<bool>(),
        ) {
            let asked: Vec<Asked> = asked
                .into_iter()
                .map(|(tenant, rate, long, wanted, given)| Asked { tenant, rate, long, wanted, given })
                .collect();
            let report = Report { replica: 7, asked, counts, exhausted, ..Report::default() };
            let other = read(7, &write(&report));
            prop_assert_eq!((other.asked, other.counts, other.exhausted), (report.asked, report.counts, report.exhausted));
        }

        #[test]
        fn anything_else_is_read_as_nothing_or_as_numbers_in_range(text in prop::collection::vec(any::<u8>(), 0..200)) {
            let other = read(7, &text);
            prop_assert!(other.asked.iter().all(|asked| asked.rate >= 0.0 && asked.rate.is_finite() && asked.long.is_finite()));
        }
    }
}
