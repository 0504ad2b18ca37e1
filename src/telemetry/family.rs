//! Counters, gauges and histograms, each by a set of labels. A look-up of a known set hashes the borrowed texts, takes one
//! shared lock for the length of a probe and allocates nothing.
//!
//! Every family has a cap on its label sets; beyond it, a new set is counted under `other` in every label and the family
//! says how often that happened, so that no caller can make this process remember without end.

use std::hash::{Hash, Hasher};
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, SystemTime};

use hashbrown::{Equivalent, HashMap};

use super::reading::{Kind, Reader, Reading, Times};

/// The label value under which sets beyond the cap are counted.
pub const OTHER: &str = "other";

/// What a family is: its place in the list of metrics.
#[derive(Debug, Clone, Copy)]
pub(super) struct Spec {
    pub(super) name: &'static str,
    pub(super) help: &'static str,
    /// Upper bounds of a histogram in nanoseconds, ascending; empty for the others.
    pub(super) bounds: &'static [u64],
}

/// One kind of measurement.
pub(super) trait Instrument {
    const KIND: Kind;
    fn make(spec: &Spec) -> Self;
    fn read(&self) -> Reading;
}

/// Only grows.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// One more.
    pub fn inc(&self) {
        self.add(1);
    }

    /// `n` more.
    pub fn add(&self, n: u64) {
        self.0.fetch_add(n, Ordering::Relaxed);
    }

    /// As many as somebody else counted, who only counts up.
    pub fn follow(&self, count: u64) {
        self.0.fetch_max(count, Ordering::Relaxed);
    }

    /// The count.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

impl Instrument for Counter {
    const KIND: Kind = Kind::Counter;

    fn make(_: &Spec) -> Self {
        Self::default()
    }

    fn read(&self) -> Reading {
        Reading::Count(self.get())
    }
}

/// Goes up and down.
#[derive(Debug, Default)]
pub struct Gauge(AtomicI64);

impl Gauge {
    /// Sets it.
    pub fn set(&self, value: i64) {
        self.0.store(value, Ordering::Relaxed);
    }

    /// The value.
    pub fn get(&self) -> i64 {
        self.0.load(Ordering::Relaxed)
    }

    /// One more until the returned guard is dropped.
    #[must_use = "the count goes down again when this is dropped"]
    pub fn hold(self: &Arc<Self>) -> Held {
        self.0.fetch_add(1, Ordering::Relaxed);
        Held(Arc::clone(self))
    }
}

/// Keeps a gauge one higher while it lives.
#[derive(Debug)]
pub struct Held(Arc<Gauge>);

impl Drop for Held {
    fn drop(&mut self) {
        self.0.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Instrument for Gauge {
    const KIND: Kind = Kind::Gauge;

    fn make(_: &Spec) -> Self {
        Self::default()
    }

    fn read(&self) -> Reading {
        Reading::Level(self.get())
    }
}

/// Times, by upper bound.
#[derive(Debug)]
pub struct Histogram {
    bounds: &'static [u64],
    /// One more than bounds: the last counts what is above all of them.
    buckets: Box<[AtomicU64]>,
    sum_nanos: AtomicU64,
}

impl Histogram {
    /// One that belongs to no family: for what is counted elsewhere and poured into one from time to time.
    pub fn over(bounds: &'static [u64]) -> Self {
        let buckets = (0..=bounds.len()).map(|_| AtomicU64::new(0)).collect();
        Self { bounds, buckets, sum_nanos: AtomicU64::new(0) }
    }

    /// Counts one time.
    pub fn observe(&self, time: Duration) {
        let nanos = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        let slot = self.bounds.iter().position(|bound| nanos <= *bound).unwrap_or(self.bounds.len());
        self.buckets[slot].fetch_add(1, Ordering::Relaxed);
        self.sum_nanos.fetch_add(nanos, Ordering::Relaxed);
    }

    /// Counts so many times of no length.
    pub fn observe_none(&self, count: u64) {
        self.buckets[0].fetch_add(count, Ordering::Relaxed);
    }

    /// Moves what was counted here over to one with the same bounds. Returns how many times that were, and their sum.
    pub fn pour_into(&self, other: &Self) -> (u64, Duration) {
        let mut count = 0;
        for (from, to) in self.buckets.iter().zip(&other.buckets) {
            let some = from.swap(0, Ordering::Relaxed);
            to.fetch_add(some, Ordering::Relaxed);
            count += some;
        }
        let nanos = self.sum_nanos.swap(0, Ordering::Relaxed);
        other.sum_nanos.fetch_add(nanos, Ordering::Relaxed);
        (count, Duration::from_nanos(nanos))
    }

    /// How many times were counted.
    pub fn count(&self) -> u64 {
        self.buckets.iter().map(|bucket| bucket.load(Ordering::Relaxed)).sum()
    }
}

impl Instrument for Histogram {
    const KIND: Kind = Kind::Histogram;

    fn make(spec: &Spec) -> Self {
        Self::over(spec.bounds)
    }

    fn read(&self) -> Reading {
        let buckets = self.buckets.iter().map(|bucket| bucket.load(Ordering::Relaxed)).collect();
        Reading::Times(Times { bounds: self.bounds, buckets, sum: self.sum_nanos.load(Ordering::Relaxed) })
    }
}

struct Key<const N: usize>([Arc<str>; N]);

impl<const N: usize> Hash for Key<N> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        for label in &self.0 {
            label.hash(state);
        }
    }
}

impl<const N: usize> PartialEq for Key<N> {
    fn eq(&self, other: &Self) -> bool {
        self.0 == other.0
    }
}

impl<const N: usize> Eq for Key<N> {}

/// The same set, borrowed: hashes and compares as [`Key`] does.
struct Asked<'a, const N: usize>([&'a str; N]);

impl<const N: usize> Hash for Asked<'_, N> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        for label in &self.0 {
            label.hash(state);
        }
    }
}

impl<const N: usize> Equivalent<Key<N>> for Asked<'_, N> {
    fn equivalent(&self, key: &Key<N>) -> bool {
        self.0.iter().zip(&key.0).all(|(asked, known)| **asked == **known)
    }
}

/// One series, and when it began.
struct Series<M> {
    since: SystemTime,
    value: Arc<M>,
}

/// All series of one name. `N` is the number of labels.
pub struct Family<M, const N: usize> {
    spec: Spec,
    labels: [&'static str; N],
    most: usize,
    series: RwLock<HashMap<Key<N>, Series<M>, ahash::RandomState>>,
    folded: AtomicU64,
}

#[expect(private_bounds, reason = "the kinds of measurement are closed")]
impl<M: Instrument, const N: usize> Family<M, N> {
    pub(super) fn new(spec: Spec, labels: [&'static str; N], most: usize) -> Self {
        let series = RwLock::new(HashMap::default());
        Self { spec, labels, most, series, folded: AtomicU64::new(0) }
    }

    /// The series of these label values, made when it is new. Keep it where the same set is used again and again.
    pub fn with(&self, labels: [&str; N]) -> Arc<M> {
        let series = self.series.read().unwrap_or_else(PoisonError::into_inner);
        let known = series.get(&Asked(labels)).map(|series| Arc::clone(&series.value));
        drop(series);
        known.unwrap_or_else(|| self.insert(labels))
    }

    /// Measures into the series of these label values.
    pub fn on(&self, labels: [&str; N], measure: impl FnOnce(&M)) {
        if let Some(series) = self.series.read().unwrap_or_else(PoisonError::into_inner).get(&Asked(labels)) {
            return measure(&series.value);
        }
        measure(&self.insert(labels));
    }

    #[cold]
    fn insert(&self, labels: [&str; N]) -> Arc<M> {
        let mut series = self.series.write().unwrap_or_else(PoisonError::into_inner);
        let labels = if series.len() < self.most || series.contains_key(&Asked(labels)) {
            labels
        } else {
            self.folded.fetch_add(1, Ordering::Relaxed);
            [OTHER; N]
        };
        if let Some(known) = series.get(&Asked(labels)) {
            return Arc::clone(&known.value);
        }
        let made = Arc::new(M::make(&self.spec));
        series.insert(Key(labels.map(Arc::from)), Series { since: SystemTime::now(), value: Arc::clone(&made) });
        made
    }

    /// Every series that there is, with its label values.
    pub fn each(&self, mut look: impl FnMut([&str; N], &M)) {
        for (key, series) in self.series.read().unwrap_or_else(PoisonError::into_inner).iter() {
            look(std::array::from_fn(|index| &*key.0[index]), &series.value);
        }
    }

    /// Drops the series whose label values `unwanted` accepts: of a server that was removed, for instance. What somebody
    /// still holds goes on counting, unseen.
    pub fn forget(&self, unwanted: impl Fn([&str; N]) -> bool) {
        let mut series = self.series.write().unwrap_or_else(PoisonError::into_inner);
        series.retain(|key, _| !unwanted(std::array::from_fn(|index| &*key.0[index])));
    }

    /// How many measurements were counted under `other` because the cap was reached.
    pub fn folded(&self) -> u64 {
        self.folded.load(Ordering::Relaxed)
    }

    /// The metric's name.
    pub fn name(&self) -> &'static str {
        self.spec.name
    }

    pub(super) fn read(&self, reader: &mut dyn Reader) {
        let mut all: Vec<_> = {
            let series = self.series.read().unwrap_or_else(PoisonError::into_inner);
            series.iter().map(|(key, series)| (key.0.clone(), series.since, Arc::clone(&series.value))).collect()
        };
        // Sorted, so that two looks at the same numbers are the same text.
        all.sort_by(|a, b| a.0.cmp(&b.0));
        reader.family(self.spec.name, self.spec.help, M::KIND);
        for (values, since, series) in all {
            let labels: [(&str, &str); N] = std::array::from_fn(|index| (self.labels[index], &*values[index]));
            reader.series(&labels, Some(since), series.read());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::Format;
    use super::super::exposition::Page;
    use super::*;

    const SPEC: Spec = Spec { name: "mcp_things_total", help: "Things.", bounds: &[] };

    #[test]
    fn sets_beyond_the_cap_fold_into_other_and_are_counted() {
        let family: Family<Counter, 2> = Family::new(SPEC, ["a", "b"], 2);
        family.on(["1", "x"], Counter::inc);
        family.on(["2", "x"], Counter::inc);
        for set in ["3", "4", "5"] {
            family.on([set, "x"], Counter::inc);
        }
        family.on(["1", "x"], Counter::inc);
        assert_eq!(family.with(["1", "x"]).get(), 2);
        assert_eq!(family.with([OTHER, OTHER]).get(), 3);
        assert_eq!(family.folded(), 3);
        let mut page = Page::new(Format::Text);
        family.read(&mut page);
        let text = page.finish();
        assert!(text.contains("mcp_things_total{a=\"other\",b=\"other\"} 3"), "{text}");
        assert!(!text.contains("\"4\""), "{text}");
    }

    #[test]
    fn what_is_forgotten_makes_room() {
        let family: Family<Counter, 1> = Family::new(SPEC, ["server"], 1);
        family.on(["old"], Counter::inc);
        family.forget(|[server]| server == "old");
        family.on(["new"], Counter::inc);
        assert_eq!((family.with(["new"]).get(), family.folded()), (1, 0));
    }

    #[test]
    fn what_somebody_else_counts_never_goes_back() {
        let counter = Counter::default();
        for (count, shown) in [(0, 0), (7, 7), (5, 7), (9, 9)] {
            counter.follow(count);
            assert_eq!(counter.get(), shown);
        }
    }

    #[test]
    fn a_held_gauge_goes_down_when_the_holder_is_gone() {
        let gauge = Arc::new(Gauge::default());
        let held = gauge.hold();
        assert_eq!(gauge.get(), 1);
        drop(held);
        assert_eq!(gauge.get(), 0);
    }

    #[test]
    fn what_is_poured_over_is_counted_once() {
        const BOUNDS: &[u64] = &[1_000_000];
        let (from, to) = (Histogram::over(BOUNDS), Histogram::over(BOUNDS));
        from.observe(Duration::from_secs(1));
        from.observe_none(2);
        assert_eq!(from.pour_into(&to), (3, Duration::from_secs(1)));
        assert_eq!(from.pour_into(&to), (0, Duration::ZERO));
        assert_eq!((from.count(), to.count()), (0, 3));
    }

    #[test]
    fn a_time_on_the_bound_is_within_it() {
        let spec = Spec { name: "t_seconds", help: "Times.", bounds: &[1_000_000, 1_000_000_000] };
        let family: Family<Histogram, 0> = Family::new(spec, [], 1);
        let times = family.with([]);
        for time in [Duration::from_millis(1), Duration::from_millis(2), Duration::from_secs(2)] {
            times.observe(time);
        }
        let mut page = Page::new(Format::Text);
        family.read(&mut page);
        let text = page.finish();
        for line in [
            "t_seconds_bucket{le=\"0.001\"} 1\n",
            "t_seconds_bucket{le=\"1.0\"} 2\n",
            "t_seconds_bucket{le=\"+Inf\"} 3\n",
            "t_seconds_sum 2.003\n",
            "t_seconds_count 3\n",
        ] {
            assert!(text.contains(line), "{line} is missing in {text}");
        }
    }
}
