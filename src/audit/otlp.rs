//! Sends what is in the database to a collector of OpenTelemetry, a log record each. What arguments tenants have recorded stays here.

use std::borrow::Cow;
use std::time::Duration;

use super::forward::{Destination, SendError, forward};
use crate::json;
use crate::protocol::members::put;
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
        text: plain(&row.text).into_owned(),
    }
}

/// A record without what is in it as a whole: it says everything of its own in words and numbers.
fn plain(text: &str) -> Cow<'_, str> {
    let whole = |value: &[u8]| value.starts_with(b"{") || value.starts_with(b"[");
    if !json::members(text.as_bytes()).any(|(_, value)| whole(value)) {
        return Cow::Borrowed(text);
    }
    let mut kept = Vec::with_capacity(text.len());
    for (name, value) in json::members(text.as_bytes()).filter(|(_, value)| !whole(value)) {
        put(&mut kept, name, value);
    }
    Cow::Owned(format!("{{{}}}", String::from_utf8_lossy(&kept)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_recorded_as_a_whole_stays_here() {
        let text = r#"{"id":"1","arguments":{"a":["x",{"b":2}]},"list":[1],"outcome":"success","total_us":7}"#;
        assert_eq!(plain(text), r#"{"id":"1","outcome":"success","total_us":7}"#);
        let text = r#"{"id":"1","name":"a{b"}"#;
        assert_eq!(plain(text), text);
    }
}
