//! How records go to a collector of whatever sort: at least once, in their order, and one process sends a chain at a time. How far it
//! was sent is noted behind it.

use std::borrow::Cow;
use std::io;

use super::records;
use crate::json;
use crate::store::audit::{AuditRow, Way};
use crate::store::{Store, StoreError, micros, now};
use crate::telemetry::otlp::Lost;

/// How long a chain is one process's to send: longer than a collector may take for one piece.
const CLAIM: i64 = 30_000_000;
/// Records of one piece.
const AT_ONCE: i64 = 500;

/// Why records were not sent.
#[derive(Debug, thiserror::Error)]
pub enum SendError {
    /// The collector does not take them.
    #[error("the collector of the audit trail (MREG_AUDIT_SYSLOG) takes nothing: {0}")]
    Collector(#[from] io::Error),
    /// The one of OpenTelemetry does not.
    #[error("the collector of the audit trail (MREG_AUDIT_OTLP) takes nothing: {0}")]
    Otlp(#[from] Lost),
    /// The database refused or failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Where records go.
pub(super) trait Destination {
    /// Under which name it is noted how far.
    const WAY: Way;

    /// Takes a piece, or fails in less time than a chain is one process's.
    fn take(&mut self, rows: &[AuditRow]) -> impl Future<Output = Result<(), SendError>> + Send;
}

/// Sends what was not sent yet.
pub(super) async fn forward<D: Destination>(to: &mut D, store: &Store) -> Result<(), SendError> {
    let mut refused = Ok(());
    for chain in store.audit_unsent(D::WAY).await? {
        loop {
            let now = micros(now());
            let until = now + CLAIM;
            let Some(after) = store.claim_audit_sending(D::WAY, &chain, now, until).await? else { break };
            let piece = records::piece(store, &chain, after, AT_ONCE).await?;
            let rows: Vec<AuditRow> = piece.records.into_iter().map(|kept| kept.row).collect();
            let sent = if rows.is_empty() { Ok(()) } else { to.take(&rows).await };
            let last = rows.last().map(|row| row.seq).max(piece.next);
            let to = last.filter(|_| sent.is_ok()).unwrap_or(after);
            store.audit_was_sent(D::WAY, &chain, to, until).await?;
            match sent {
                // What the collector will not have of one chain holds up no other.
                Err(SendError::Otlp(lost)) if lost.is_refusal() => {
                    refused = Err(lost.into());
                    break;
                }
                sent => sent?,
            }
            for block in piece.damaged.iter().filter(|block| last.is_some_and(|last| block.first <= last)) {
                let (first, last) = (block.first, block.last);
                let what =
                    "a block of the audit trail cannot be read, and its records are not sent; see `audit verify`";
                tracing::error!(chain, first, last, "{what}");
            }
            if last.is_none() {
                break;
            }
        }
    }
    refused
}

/// A record without the arguments that its tenant has recorded.
pub(super) fn without_arguments(text: &str) -> Cow<'_, str> {
    const NAME: &str = ",\"arguments\":";
    let Some(value) = json::get(text.as_bytes(), "arguments") else { return Cow::Borrowed(text) };
    let span = json::span(text.as_bytes(), value);
    let before = text[..span.start].strip_suffix(NAME).unwrap_or(&text[..span.start]);
    Cow::Owned(format!("{before}{}", &text[span.end..]))
}

/// What is kept of a text that is no record, or none of this version: all but arguments, which are their tenant's alone.
pub(super) fn of_unreadable(text: &str) -> Cow<'_, str> {
    if json::check(text.as_bytes()).is_ok() {
        return without_arguments(text);
    }
    Cow::Borrowed(text.find("\"arguments\"").map_or(text, |at| &text[..at]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_what_cannot_be_read_arguments_are_taken_out_too() {
        for (text, kept) in [
            (r#"{"id":1,"arguments":{"a":"x"},"b":2}"#, r#"{"id":1,"b":2}"#),
            (r#"{"id":1,"arguments_digest":"ab","arguments":{"a":"x"},"b"#, r#"{"id":1,"arguments_digest":"ab","#),
            ("\u{1}damaged", "\u{1}damaged"),
        ] {
            assert_eq!(of_unreadable(text), kept);
        }
    }

    #[test]
    fn arguments_are_taken_out_and_nothing_else() {
        let text = r#"{"id":"1","arguments_digest":"ab","arguments":{"a":["x",{"arguments":2}]},"outcome":"success"}"#;
        assert_eq!(without_arguments(text), r#"{"id":"1","arguments_digest":"ab","outcome":"success"}"#);
        let text = r#"{"id":"1","arguments_digest":"ab"}"#;
        assert_eq!(without_arguments(text), text);
    }
}
