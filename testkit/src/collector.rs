//! A collector of OpenTelemetry: takes OTLP over HTTP and reads it with the definitions of the OpenTelemetry project.

use std::collections::{BTreeMap, VecDeque};
use std::fmt::Write as _;
use std::io::{self, Read as _};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use http::header::{HeaderValue, RETRY_AFTER};
use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTracePartialSuccess, ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue, any_value};
use opentelemetry_proto::tonic::metrics::v1::{AggregationTemporality, metric, number_data_point};
use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use prost::Message as _;

use crate::upstream::{Host, Recorded};

const CUMULATIVE: i32 = AggregationTemporality::Cumulative as i32;

/// What is said of a thing, by name; values as text.
pub type Said = BTreeMap<String, String>;

/// What the next request is answered.
#[derive(Clone, Debug)]
pub enum Answer {
    /// This status.
    Status(u16),
    /// 503, and when to come back.
    Busy(&'static str),
    /// It is taken, but for so many spans.
    Rejects(i64),
}

/// A span as it came.
#[derive(Clone, Debug)]
pub struct SpanSeen {
    /// Who says so.
    pub resource: Said,
    /// Its trace, hexadecimal.
    pub trace: String,
    /// Its id.
    pub id: String,
    /// That of the span above it, or an empty text.
    pub parent: String,
    /// Its name.
    pub name: String,
    /// `SERVER`, `CLIENT`, as the definitions call it.
    pub kind: &'static str,
    /// When it began and ended, nanoseconds since 1970.
    pub times: (u64, u64),
    /// What is said of it.
    pub said: Said,
    /// Its message, if it failed.
    pub error: Option<String>,
    /// Trace and id of what it is linked to.
    pub links: Vec<(String, String)>,
    /// Its flags.
    pub flags: u32,
}

/// A log record as it came.
#[derive(Clone, Debug)]
pub struct LogSeen {
    /// When it happened, nanoseconds since 1970.
    pub time: u64,
    /// What it says.
    pub body: String,
    /// How bad that is.
    pub severity: i32,
    /// What kind of event.
    pub event: String,
    /// Its trace, hexadecimal, or an empty text.
    pub trace: String,
    /// What is said of it.
    pub said: Said,
}

/// A running one.
pub struct Collector {
    host: Host,
    answers: Arc<Mutex<VecDeque<Answer>>>,
}

impl Collector {
    /// It takes everything.
    pub async fn start() -> io::Result<Self> {
        Self::on(0).await
    }

    /// The same on this port.
    pub async fn on(port: u16) -> io::Result<Self> {
        let answers = Arc::new(Mutex::new(VecDeque::new()));
        let next = Arc::clone(&answers);
        let host = Host::start(port, move |_, _| {
            let answer = next.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
            let mut reply = crate::upstream::json_reply(200, &serde_json::Value::Null);
            let mut body = Vec::new();
            match answer {
                None => {}
                Some(Answer::Status(status)) => *reply.status_mut() = status.try_into().unwrap_or_default(),
                Some(Answer::Busy(after)) => {
                    *reply.status_mut() = http::StatusCode::SERVICE_UNAVAILABLE;
                    reply.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static(after));
                }
                Some(Answer::Rejects(rejected_spans)) => {
                    let error_message = "no more of these".to_owned();
                    let partial_success = Some(ExportTracePartialSuccess { rejected_spans, error_message });
                    body = ExportTraceServiceResponse { partial_success }.encode_to_vec();
                }
            }
            *reply.body_mut() = http_body_util::Either::Left(Bytes::from(body).into());
            std::future::ready(reply)
        })
        .await?;
        Ok(Self { host, answers })
    }

    /// What `OTEL_EXPORTER_OTLP_ENDPOINT` is.
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.host.address())
    }

    /// The listener.
    pub fn host(&self) -> &Host {
        &self.host
    }

    /// Answers the next requests so, and then takes everything again.
    pub fn answer(&self, answers: impl IntoIterator<Item = Answer>) {
        self.answers.lock().unwrap_or_else(PoisonError::into_inner).extend(answers);
    }

    /// The requests for `traces`, `metrics` or `logs`.
    pub fn requests(&self, signal: &str) -> Vec<Recorded> {
        let path = format!("/v1/{signal}");
        self.host.requests().into_iter().filter(|request| request.path == path).collect()
    }

    /// Every span that came, also those that were not taken.
    pub fn spans(&self) -> Vec<SpanSeen> {
        self.requests("traces").iter().flat_map(spans).collect()
    }

    /// Waits until so many spans fit, and gives them.
    pub async fn wait_spans(&self, count: usize, fits: impl Fn(&SpanSeen) -> bool) -> Vec<SpanSeen> {
        let enough = || {
            let found: Vec<_> = self.spans().into_iter().filter(|span| fits(span)).collect();
            (found.len() >= count).then_some(found)
        };
        _ = self.host.wait_for(|_| enough().is_some()).await;
        enough().unwrap_or_default()
    }

    /// Every log record that came.
    pub fn logs(&self) -> Vec<LogSeen> {
        self.requests("logs").iter().flat_map(logs).collect()
    }

    /// The last value of every series that came, by its name and labels as Prometheus writes them.
    pub fn series(&self) -> BTreeMap<String, f64> {
        let mut series = BTreeMap::new();
        for request in self.requests("metrics") {
            let Ok(sent) = ExportMetricsServiceRequest::decode(body(&request)) else { continue };
            let of_scopes = sent.resource_metrics.into_iter().flat_map(|of| of.scope_metrics);
            for metric in of_scopes.flat_map(|of| of.metrics) {
                points(&metric.name, metric.data, &mut series);
            }
        }
        series
    }

    /// What is said of metrics: type, unit, and whether all their points have a time and, if they only grow, a beginning before it.
    pub fn families(&self) -> BTreeMap<String, (&'static str, String, bool)> {
        let mut families = BTreeMap::new();
        for request in self.requests("metrics") {
            let Ok(sent) = ExportMetricsServiceRequest::decode(body(&request)) else { continue };
            let of_scopes = sent.resource_metrics.into_iter().flat_map(|of| of.scope_metrics);
            for metric in of_scopes.flat_map(|of| of.metrics) {
                let grows = |start: u64, time: u64| 0 < start && start <= time;
                let (kind, timed) = match metric.data {
                    Some(metric::Data::Gauge(of)) => ("gauge", of.data_points.iter().all(|p| p.time_unix_nano > 0)),
                    Some(metric::Data::Sum(of)) if of.is_monotonic && of.aggregation_temporality == CUMULATIVE => {
                        ("counter", of.data_points.iter().all(|p| grows(p.start_time_unix_nano, p.time_unix_nano)))
                    }
                    Some(metric::Data::Histogram(of)) if of.aggregation_temporality == CUMULATIVE => {
                        ("histogram", of.data_points.iter().all(|p| grows(p.start_time_unix_nano, p.time_unix_nano)))
                    }
                    _ => ("other", false),
                };
                families.insert(metric.name, (kind, metric.unit, timed));
            }
        }
        families
    }
}

fn body(request: &Recorded) -> Bytes {
    if request.header("content-encoding") != "gzip" {
        return request.body.clone();
    }
    let mut plain = Vec::new();
    match flate2::read::GzDecoder::new(&request.body[..]).read_to_end(&mut plain) {
        Ok(_) => plain.into(),
        Err(_) => Bytes::new(),
    }
}

fn spans(request: &Recorded) -> Vec<SpanSeen> {
    let Ok(sent) = ExportTraceServiceRequest::decode(body(request)) else { return Vec::new() };
    let mut seen = Vec::new();
    for of in sent.resource_spans {
        let resource = said(&of.resource.unwrap_or_default().attributes);
        for span in of.scope_spans.into_iter().flat_map(|of| of.spans) {
            seen.push(SpanSeen {
                resource: resource.clone(),
                trace: hex(&span.trace_id),
                id: hex(&span.span_id),
                parent: hex(&span.parent_span_id),
                kind: match span.kind() {
                    SpanKind::Server => "SERVER",
                    SpanKind::Client => "CLIENT",
                    _ => "other",
                },
                times: (span.start_time_unix_nano, span.end_time_unix_nano),
                said: said(&span.attributes),
                error: span.status.filter(|status| status.code == 2).map(|status| status.message),
                links: span.links.iter().map(|link| (hex(&link.trace_id), hex(&link.span_id))).collect(),
                flags: span.flags,
                name: span.name,
            });
        }
    }
    seen
}

fn logs(request: &Recorded) -> Vec<LogSeen> {
    let Ok(sent) = ExportLogsServiceRequest::decode(body(request)) else { return Vec::new() };
    let records = sent.resource_logs.into_iter().flat_map(|of| of.scope_logs).flat_map(|of| of.log_records);
    records
        .map(|record| LogSeen {
            time: record.time_unix_nano,
            body: text(record.body.as_ref()),
            severity: record.severity_number,
            event: record.event_name,
            trace: hex(&record.trace_id),
            said: said(&record.attributes),
        })
        .collect()
}

fn points(name: &str, data: Option<metric::Data>, series: &mut BTreeMap<String, f64>) {
    let numbers = match data {
        Some(metric::Data::Gauge(of)) => of.data_points,
        Some(metric::Data::Sum(of)) => of.data_points,
        Some(metric::Data::Histogram(of)) => {
            for point in of.data_points {
                let mut total = 0;
                for (index, count) in point.bucket_counts.iter().enumerate() {
                    total += count;
                    let bound = point.explicit_bounds.get(index);
                    let bound = bound.map_or_else(|| "+Inf".to_owned(), |bound| format!("{bound:?}"));
                    series.insert(key(&format!("{name}_bucket"), &point.attributes, Some(&bound)), float(total));
                }
                series.insert(key(&format!("{name}_sum"), &point.attributes, None), point.sum.unwrap_or(f64::NAN));
                series.insert(key(&format!("{name}_count"), &point.attributes, None), float(point.count));
            }
            return;
        }
        _ => return,
    };
    for point in numbers {
        let value = match point.value {
            Some(number_data_point::Value::AsInt(value)) => {
                u64::try_from(value).map_or(-float(value.unsigned_abs()), float)
            }
            Some(number_data_point::Value::AsDouble(value)) => value,
            None => f64::NAN,
        };
        series.insert(key(name, &point.attributes, None), value);
    }
}

#[expect(clippy::cast_precision_loss, reason = "tests count less than that")]
fn float(number: u64) -> f64 {
    number as f64
}

/// A series as Prometheus writes it.
fn key(name: &str, labels: &[KeyValue], bound: Option<&str>) -> String {
    let mut labels: Vec<_> = labels
        .iter()
        .map(|label| {
            let value = text(label.value.as_ref()).replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
            format!("{}=\"{value}\"", label.key)
        })
        .collect();
    labels.extend(bound.map(|bound| format!("le=\"{bound}\"")));
    if labels.is_empty() { name.to_owned() } else { format!("{name}{{{}}}", labels.join(",")) }
}

fn said(list: &[KeyValue]) -> Said {
    list.iter().map(|one| (one.key.clone(), text(one.value.as_ref()))).collect()
}

fn text(value: Option<&AnyValue>) -> String {
    match value.and_then(|value| value.value.as_ref()) {
        Some(any_value::Value::StringValue(text)) => text.clone(),
        Some(any_value::Value::BoolValue(value)) => value.to_string(),
        Some(any_value::Value::IntValue(value)) => value.to_string(),
        Some(any_value::Value::DoubleValue(value)) => value.to_string(),
        other => format!("{other:?}"),
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        _ = write!(text, "{byte:02x}");
        text
    })
}
