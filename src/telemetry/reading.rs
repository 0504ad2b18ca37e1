//! What a look at a metric finds, whatever form it is then given.

use std::time::SystemTime;

/// The type of a family.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Counter,
    Gauge,
    Histogram,
}

/// What one series says.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Reading {
    /// Of a counter.
    Count(u64),
    /// Of a gauge.
    Level(i64),
    /// Of either, where the kernel counts.
    Measured(f64),
    /// Of a histogram.
    Times(Times),
}

/// Times by upper bound.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Times {
    /// Nanoseconds, ascending.
    pub(super) bounds: &'static [u64],
    /// How many within each bound and above the one before; the last counts what is above all.
    pub(super) buckets: Vec<u64>,
    /// Of all of them, nanoseconds.
    pub(super) sum: u64,
}

/// Reads the list of metrics, one family after the other.
pub(super) trait Reader {
    /// Begins a family; its series follow. `name` is that of the samples: a counter's ends in `_total`.
    fn family(&mut self, name: &'static str, help: &'static str, kind: Kind);

    /// One series of it, which began to count then; none: with the process.
    fn series(&mut self, labels: &[(&str, &str)], since: Option<SystemTime>, reading: Reading);
}

/// The unit that the name of a family ends in, before the ending of a counter.
pub(super) fn unit(name: &str) -> Option<&'static str> {
    let name = name.strip_suffix("_total").unwrap_or(name);
    let ends = |unit: &&str| name.strip_suffix(*unit).is_some_and(|rest| rest.ends_with('_'));
    ["seconds", "bytes"].into_iter().find(ends)
}

#[expect(clippy::cast_precision_loss, reason = "2^53 nanoseconds are 104 days; beyond, a sum may lose nanoseconds")]
pub(super) fn seconds(nanos: u64) -> f64 {
    nanos as f64 / 1e9
}
