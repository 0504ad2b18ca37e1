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
        hexadecimal(digest, fields.out);
        fields.out.push(b'"');
    }
    fields.value("outcome", operation.outcome.label());
    fields.some("reason", kind);
    fields.some("whose", whose);
    fields.some("rule", operation.rule.as_deref().map(bounded));
    if let Some(detail) = operation.detail.as_deref() {
        fields.value("detail", bounded(&masked(detail)));
    }
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

/// Appends bytes as hexadecimal digits.
pub fn hexadecimal(bytes: &[u8], out: &mut Vec<u8>) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    out.extend(bytes.iter().flat_map(|byte| [DIGITS[usize::from(byte >> 4)], DIGITS[usize::from(byte & 15)]]));
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
