//! Sends what is in the database to a collector of OpenTelemetry, a log record each. What arguments tenants have recorded stays here.

use std::time::Duration;

use super::forward::{Destination, SendError, forward, without_arguments};
use crate::json;
use crate::store::Store;
use crate::store::audit::{AuditRow, Way};
use crate::telemetry::otlp::{AuditLog, Records};

/// Longest that the collector may take for one piece.
const PATIENCE: Duration = Duration::from_secs(15);

/// See the module.
pub struct OtlpCollector(Records);

impl OtlpCollector {
    /// The one that the settings name.
    pub fn new(records: Records) -> Self {
        Self(records)
    }

    /// Sends what was not sent yet.
    pub async fn forward(&mut self, store: &Store) -> Result<(), SendError> {
        forward(self, store).await
    }
}

impl Destination for OtlpCollector {
    const WAY: Way = Way::Otlp;

    async fn take(&mut self, rows: &[AuditRow]) -> Result<(), SendError> {
        Ok(self.0.send(rows.iter().map(log).collect(), PATIENCE).await?)
    }
}

fn log(row: &AuditRow) -> AuditLog {
    let trace = json::get_text(row.text.as_bytes(), "trace_id");
    AuditLog {
        at: row.at,
        action: row.action.clone(),
        good: row.outcome == "success",
        trace: trace.and_then(|trace| u128::from_str_radix(&trace, 16).ok()),
        chain: row.chain.clone(),
        seq: row.seq,
        text: without_arguments(&row.text).into_owned(),
    }
}
