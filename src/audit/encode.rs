//! The text of an operation's record, written straight into a buffer: on the way of a call nothing is copied or allocated for it.
//! What it writes reads as a [`super::Record`], field by field in the same order.

use std::borrow::Cow;
use std::io::Write as _;

use serde::Serialize;
use uuid::Uuid;

use super::Surface;
use crate::crypto::masked;
use crate::telemetry::{Operation, Outcome};

/// Longest text of a caller's making in a record, bytes.
const LONGEST: usize = 512;

/// Appends the record of `operation`, which began at `at`.
pub fn operation(operation: &Operation, id: Uuid, at: i64, instance: Uuid, out: &mut Vec<u8>) {
    let who = operation.who.as_deref();
    let surface = surface(operation);
    let (kind, whose) = match operation.outcome {
        Outcome::Error { whose, kind } => (Some(kind), Some(whose.label())),
        Outcome::Denied(rule) => (Some(rule), None),
        _ => (None, None),
    };
    let mut fields = Fields { out };
    fields.out.extend_from_slice(b"{\"id\":\"");
    fields.hyphenated(id);
    _ = write!(fields.out, "\",\"at\":{at},\"instance\":\"");
    fields.hyphenated(instance);
    fields.out.push(b'"');
    fields.value("surface", surface);
    match &operation.method {
        Cow::Borrowed(method) => fields.value("action", method),
        Cow::Owned(method) if operation.routed => fields.value("action", bounded(method)),
        Cow::Owned(method) => fields.value("action", bounded(&masked(method))),
    }
    fields.value("endpoint", &*operation.endpoint);
    fields.some("chain", operation.chain.as_deref());
    if let Some(who) = who {
        fields.value("tenant", who.tenant.as_str());
        fields.id("user", who.user);
        fields.value("username", &*who.username);
        fields.value("issuer", &*who.principal.issuer);
        fields.value("subject", &*who.principal.subject);
        fields.value("role", who.role);
        fields.value("session_type", who.session_type);
        fields.id("credential", who.credential);
        fields.some("client", who.client.as_deref());
    }
    if let Some(session) = operation.session {
        fields.shown("session", format_args!("{session}"));
    }
    if let Some(address) = operation.address {
        fields.shown("address", format_args!("{address}"));
    }
    fields.some("server", operation.server.as_ref().map(crate::id::Slug::as_str));
    fields.number("replica", operation.replica.map(u64::from));
    fields.number("attempts", Some(operation.attempts.into()).filter(|attempts| *attempts > 0));
    match operation.name.as_deref() {
        // A path may hold what its sender should not have put there.
        Some(path) if operation.routed => fields.value("name", bounded(&masked(path))),
        name => fields.some("name", name.map(bounded)),
    }
    if let Some(digest) = &operation.arguments {
        fields.name("arguments_digest");
        fields.out.push(b'"');
        crate::crypto::append_hexadecimal(digest, fields.out);
        fields.out.push(b'"');
    }
    if let Some(shown) = &operation.shown {
        fields.name("arguments");
        fields.out.extend_from_slice(shown.as_bytes());
    }
    fields.value("outcome", operation.outcome.label());
    fields.some("reason", kind);
    fields.some("whose", whose);
    fields.some("rule", operation.rule.as_deref().map(bounded));
    fields.some("detail", operation.told);
    fields.number("request_bytes", Some(operation.sizes.request));
    fields.number("response_bytes", Some(operation.sizes.response));
    fields.number("total_us", Some(micros(operation.times.total)));
    fields.number("upstream_us", Some(micros(operation.times.upstream)));
    fields.value("request_id", operation.request_id.as_str());
    if let Some(trace) = operation.trace_id {
        fields.shown("trace_id", format_args!("{trace:032x}"));
    }
    fields.some("client_version", operation.client_version);
    fields.some("upstream_version", operation.upstream_version);
    fields.out.push(b'}');
}

/// Through which side it came.
fn surface(operation: &Operation) -> Surface {
    if !operation.routed {
        Surface::Mcp
    } else if operation.endpoint.starts_with("/api/") || operation.endpoint == "none" {
        Surface::Admin
    } else {
        Surface::Oauth
    }
}

/// A time as records hold it.
pub fn micros(time: std::time::Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

/// As much of a text as a record holds.
pub fn bounded(text: &str) -> &str {
    &text[..text.floor_char_boundary(LONGEST)]
}

/// Members of a JSON object of which at least one is there.
struct Fields<'a> {
    out: &'a mut Vec<u8>,
}

impl Fields<'_> {
    fn name(&mut self, name: &'static str) {
        self.out.extend_from_slice(b",\"");
        self.out.extend_from_slice(name.as_bytes());
        self.out.extend_from_slice(b"\":");
    }

    fn value(&mut self, name: &'static str, value: impl Serialize) {
        self.name(name);
        // Writing into memory does not fail, nor do texts and numbers.
        _ = serde_json::to_writer(&mut *self.out, &value);
    }

    fn some(&mut self, name: &'static str, value: Option<&str>) {
        if let Some(value) = value {
            self.value(name, value);
        }
    }

    fn number(&mut self, name: &'static str, value: Option<u64>) {
        if let Some(value) = value {
            self.value(name, value);
        }
    }

    fn id(&mut self, name: &'static str, id: Uuid) {
        self.name(name);
        self.out.push(b'"');
        self.hyphenated(id);
        self.out.push(b'"');
    }

    fn hyphenated(&mut self, id: Uuid) {
        let mut text = [0; uuid::fmt::Hyphenated::LENGTH];
        self.out.extend_from_slice(id.hyphenated().encode_lower(&mut text).as_bytes());
    }

    /// What is shown without a character that would have to be escaped.
    fn shown(&mut self, name: &'static str, value: std::fmt::Arguments<'_>) {
        self.name(name);
        self.out.push(b'"');
        _ = self.out.write_fmt(value);
        self.out.push(b'"');
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use super::*;
    use crate::audit::Record;
    use crate::fault::{Fault, Kind, Retry};
    use crate::id::{Principal, Slug, TenantId};
    use crate::telemetry::{Actor, RequestId, SessionTag};

    fn text(operation: &Operation) -> String {
        let mut out = Vec::new();
        super::operation(operation, Uuid::from_u128(7), 1_234_567, Uuid::from_u128(8), &mut out);
        String::from_utf8(out).unwrap()
    }

    fn full() -> Operation {
        let mut full = Operation::start(RequestId::new(), "/mcp");
        full.set_method("tools/call");
        full.who = Some(Arc::new(Actor {
            tenant: TenantId::default_tenant(),
            principal: Principal { issuer: "https://idp.example".into(), subject: "a \"b\" \u{1b}".into() },
            user: Uuid::from_u128(1),
            username: "ada".into(),
            role: "user",
            session_type: "oauth",
            credential: Uuid::from_u128(2),
            client: Some("editor".into()),
        }));
        full.chain = Some("acme".into());
        full.address = Some("2001:db8::1".parse().unwrap());
        full.session = Some(SessionTag::of("session"));
        full.server = Some(Slug::parse("files").unwrap());
        (full.replica, full.attempts) = (Some(1), 2);
        full.name = Some("read".into());
        full.arguments = Some([0xab; 32]);
        full.shown = Some(r#"{"path":"/a"}"#.into());
        full.rule = Some("rule".into());
        full.trace_id = Some(0xfeed);
        (full.client_version, full.upstream_version) = (Some("2026-07-28"), Some("2025-11-25"));
        full.fail(&Fault::upstream(Kind::Timeout, Retry::MaybeSent, "a line\nand another"));
        (full.times.total, full.times.upstream) = (Duration::from_micros(1500), Duration::from_micros(1200));
        (full.sizes.request, full.sizes.response) = (10, 20);
        full
    }

    #[test]
    fn what_is_written_reads_as_a_record_that_is_written_alike() {
        let bare = Operation::start(RequestId::new(), "/mcp");
        for operation in [full(), bare] {
            let text = text(&operation);
            let record: Record = serde_json::from_str(&text).unwrap();
            assert_eq!(serde_json::to_string(&record).unwrap(), text);
        }
        let record: Record = serde_json::from_str(&text(&full())).unwrap();
        assert_eq!((record.total_us, record.upstream_us, record.reason.as_deref()), (1500, 1200, Some("timeout")));
        assert_eq!(record.arguments_digest.unwrap(), "ab".repeat(32));
    }

    #[test]
    fn a_text_of_a_callers_making_is_bounded_and_shows_no_secret() {
        let secret = format!("mcpg_{}", "0123456789abcdef".repeat(4));
        let mut odd = full();
        odd.set_method(&format!("made/{secret}{}", "ü".repeat(10_000)));
        odd.fail(&Fault::upstream(Kind::Garbage, Retry::MaybeSent, "the server wrote: postgres://root:hunter2@db"));
        let text = text(&odd);
        assert!(text.len() < 4_000 && !text.contains(&secret), "{text}");
        assert!(!text.contains("hunter2") && text.contains("is no valid MCP message"), "{text}");
        assert!(serde_json::from_str::<Record>(&text).is_ok());
    }
}
