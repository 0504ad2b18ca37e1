//! Audit records as log records. Whoever asks keeps account of what has arrived: here each is sent once.

use std::time::Duration;

use super::post::{Lost, Poster};
use super::proto::{AnyValue, INFO, KeyValue, LogRecord, LogsRequest, Resource, Value, WARN};

/// Sends audit records to a collector.
pub struct Records {
    pub(super) poster: Poster,
    pub(super) resource: Resource,
}

/// One record as it is to be told.
#[derive(Debug, Clone)]
pub struct AuditLog {
    /// When it happened, microseconds since 1970.
    pub at: i64,
    /// What was done.
    pub action: String,
    /// Whether it came out well.
    pub good: bool,
    /// The trace that it is part of.
    pub trace: Option<u128>,
    /// The chain of records that it is part of, and its place there.
    pub chain: String,
    /// See `chain`.
    pub seq: i64,
    /// The record, JSON.
    pub text: String,
}

impl Records {
    /// Sends these once, in no more time than that. What a collector rejects of them, having taken them, is counted and not sent again, as OTLP has it.
    pub async fn send(&self, records: Vec<AuditLog>, within: Duration) -> Result<(), Lost> {
        let (count, resource) = (records.len() as u64, self.resource.clone());
        let make = move || (count, LogsRequest::new(resource, records.into_iter().map(log).collect()));
        let (count, body) = self.poster.encode(make).await.ok_or_else(Lost::stopping)?;
        self.poster.send(&body, count, within).await
    }
}

fn log(record: AuditLog) -> LogRecord {
    let nanos = u64::try_from(record.at).unwrap_or_default().saturating_mul(1000);
    let (severity_number, severity_text) = if record.good { (INFO, "INFO") } else { (WARN, "WARN") };
    LogRecord {
        time_unix_nano: nanos,
        observed_time_unix_nano: nanos,
        severity_number,
        severity_text: severity_text.to_owned(),
        body: Some(AnyValue { value: Some(Value::Text(record.text)) }),
        attributes: vec![
            KeyValue::new("mcp_gateway.audit.chain", record.chain),
            KeyValue::new("mcp_gateway.audit.seq", Value::Int(record.seq)),
        ],
        trace_id: record.trace.map(|trace| trace.to_be_bytes().into()).unwrap_or_default(),
        event_name: format!("mcp_gateway.audit.{}", event(&record.action)),
    }
}

/// A name of an event holds no spaces: verb and route are one word each.
fn event(action: &str) -> String {
    action.replace(char::is_whitespace, "_")
}
