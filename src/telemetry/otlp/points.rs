//! Every metric of the one list as OTLP: the names and labels of `/metrics`, cumulative, with the bounds that the histograms have.

use std::time::SystemTime;

use tokio_util::sync::CancellationToken;

use super::post::{Lost, Poster};
use super::proto::{
    CUMULATIVE, Data, Gauge, Histogram, KeyValue, Metric, MetricsRequest, Number, NumberValue, Resource, Spread, Sum,
    nanos,
};
use crate::telemetry::Metrics;
use crate::telemetry::reading::{Kind, Reader, Reading, seconds, unit};

/// Points after which a request takes no more families: some megabytes.
const MOST: usize = 4000;

/// Pushes the metrics to a collector.
pub struct Points {
    pub(super) poster: Poster,
    pub(super) resource: Resource,
    pub(super) began: SystemTime,
}

impl Points {
    /// Sends what the metrics say now. What the collector does not take is dropped: the next look says it too.
    pub async fn push(&self, metrics: &Metrics, last: &CancellationToken) {
        let mut page = Page { began: nanos(self.began), now: nanos(SystemTime::now()), ..Page::default() };
        metrics.read(&mut page);
        for (count, metrics) in page.finish() {
            let resource = self.resource.clone();
            let encoded = self.poster.encode(move || (count, MetricsRequest::new(resource, metrics)));
            let Some((count, body)) = encoded.await else { continue };
            if let Err(Lost { reason, .. }) = self.poster.send_again(body, count, last).await {
                self.poster.dropped(reason, count);
            }
        }
    }
}

/// What is read, in pieces for a request each.
#[derive(Default)]
struct Page {
    began: u64,
    now: u64,
    done: Vec<(u64, Vec<Metric>)>,
    piece: Vec<Metric>,
    points: usize,
}

impl Page {
    fn finish(mut self) -> Vec<(u64, Vec<Metric>)> {
        self.cut();
        self.done
    }

    fn cut(&mut self) {
        self.piece.retain(|metric| match &metric.data {
            Some(Data::Gauge(gauge)) => !gauge.points.is_empty(),
            Some(Data::Sum(sum)) => !sum.points.is_empty(),
            Some(Data::Histogram(histogram)) => !histogram.points.is_empty(),
            None => false,
        });
        if !self.piece.is_empty() {
            self.done.push((self.points as u64, std::mem::take(&mut self.piece)));
        }
        self.points = 0;
    }
}

impl Reader for Page {
    fn family(&mut self, name: &'static str, help: &'static str, kind: Kind) {
        if self.points >= MOST {
            self.cut();
        }
        let data = match kind {
            Kind::Counter => Data::Sum(Sum { temporality: CUMULATIVE, monotonic: true, points: Vec::new() }),
            Kind::Gauge => Data::Gauge(Gauge::default()),
            Kind::Histogram => Data::Histogram(Histogram { temporality: CUMULATIVE, points: Vec::new() }),
        };
        let unit = match unit(name) {
            Some("seconds") => "s",
            Some("bytes") => "By",
            _ => "",
        };
        self.piece.push(Metric {
            name: name.to_owned(),
            description: help.to_owned(),
            unit: unit.to_owned(),
            data: Some(data),
        });
    }

    fn series(&mut self, labels: &[(&str, &str)], since: Option<SystemTime>, reading: Reading) {
        let Some(data) = self.piece.last_mut().and_then(|metric| metric.data.as_mut()) else { return };
        self.points += 1;
        let attributes = labels.iter().map(|(name, value)| KeyValue::new(name, *value)).collect();
        let (time_unix_nano, start) = (self.now, since.map_or(self.began, nanos).min(self.now));
        let whole = |number: u64| NumberValue::Int(i64::try_from(number).unwrap_or(i64::MAX));
        let value = match reading {
            Reading::Count(count) => whole(count),
            Reading::Level(level) => NumberValue::Int(level),
            Reading::Measured(value) => NumberValue::Double(value),
            Reading::Times(times) => {
                if let Data::Histogram(histogram) = data {
                    histogram.points.push(Spread {
                        start_time_unix_nano: start,
                        time_unix_nano,
                        count: times.buckets.iter().sum(),
                        sum: Some(seconds(times.sum)),
                        bucket_counts: times.buckets,
                        explicit_bounds: times.bounds.iter().map(|bound| seconds(*bound)).collect(),
                        attributes,
                    });
                }
                return;
            }
        };
        let point =
            |start_time_unix_nano| Number { start_time_unix_nano, time_unix_nano, value: Some(value), attributes };
        match data {
            // What goes up and down began at no time.
            Data::Gauge(gauge) => gauge.points.push(point(0)),
            Data::Sum(sum) => sum.points.push(point(start)),
            Data::Histogram(_) => {}
        }
    }
}
