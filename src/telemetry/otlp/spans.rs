//! The spans of finished operations, by the semantic conventions of OpenTelemetry for MCP, and for HTTP where it is the REST API. No
//! span says who called, or from where: that is in the audit trail, under the same trace.

use std::time::{Duration, SystemTime};

use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::post::{Lost, Poster};
use super::proto::{
    CLIENT, ERROR, KeyValue, Link, REMOTE, REMOTE_KNOWN, Resource, SAMPLED, SERVER, Span, Status, TracesRequest, Value,
    nanos,
};
use crate::config::Batches;
use crate::crypto::masked;
use crate::fault::Whose;
use crate::telemetry::span::Finished;
use crate::telemetry::{Operation, Outcome, Span as Told};

/// Sends the spans of what waits in the queue, until nothing more comes.
pub struct Spans {
    pub(super) waiting: mpsc::Receiver<Box<Finished>>,
    pub(super) batches: Batches,
    pub(super) poster: Poster,
    pub(super) resource: Resource,
}

impl Spans {
    /// Works until the process stops; what waits then is sent too, if the collector takes it at once.
    pub async fn run(mut self, last: CancellationToken) {
        let mut batch = Vec::new();
        while !last.is_cancelled() {
            last.run_until_cancelled(self.gather(&mut batch)).await;
            self.send(&mut batch, &last).await;
        }
        self.waiting.close();
        while self.waiting.recv_many(&mut batch, self.batches.most).await > 0 {
            self.send(&mut batch, &last).await;
        }
    }

    /// A full batch, or what came until the first has waited for long enough.
    #[expect(clippy::vec_box, reason = "as they come out of the queue")]
    async fn gather(&mut self, batch: &mut Vec<Box<Finished>>) {
        let most = self.batches.most;
        if self.waiting.recv_many(batch, most).await == 0 {
            // Nobody records any more.
            std::future::pending::<()>().await;
        }
        let full = async { while batch.len() < most && self.waiting.recv_many(batch, most - batch.len()).await > 0 {} };
        _ = tokio::time::timeout(self.batches.delay, full).await;
    }

    #[expect(clippy::vec_box, reason = "as they come out of the queue")]
    async fn send(&self, batch: &mut Vec<Box<Finished>>, last: &CancellationToken) {
        if batch.is_empty() {
            return;
        }
        let (batch, resource) = (std::mem::take(batch), self.resource.clone());
        let encoded = self.poster.encode(move || {
            let spans: Vec<_> = batch.iter().flat_map(|finished| spans(finished)).collect();
            (spans.len() as u64, TracesRequest::new(resource, spans))
        });
        let Some((count, body)) = encoded.await else { return };
        let sent = self.poster.send_again(body, count, last).await;
        if let Err(Lost { reason, .. }) = sent {
            self.poster.dropped(reason, count);
        }
    }
}

/// The spans of one operation.
fn spans(finished: &Finished) -> impl Iterator<Item = Span> {
    let operation = &finished.operation;
    let told = operation.span.as_deref();
    let server = told.map(|told| server(operation, told, finished.began));
    let client = told.and_then(|told| client(operation, told, finished.began));
    server.into_iter().chain(client)
}

fn server(operation: &Operation, told: &Told, began: SystemTime) -> Span {
    let mut span = begun(operation, told, SERVER);
    span.span_id = told.own.to_be_bytes().into();
    span.parent_span_id = told.parent.map(|parent| parent.to_be_bytes().into()).unwrap_or_default();
    span.flags |= if told.parent.is_some() { REMOTE } else { 0 };
    span.links.extend(told.link.map(|link| Link {
        trace_id: link.trace.to_be_bytes().into(),
        span_id: link.span.to_be_bytes().into(),
        flags: u32::from(link.sampled) | REMOTE_KNOWN | REMOTE,
    }));
    during(&mut span, began, Duration::ZERO, operation.times.total);
    let mut say = Say(&mut span.attributes);
    if operation.routed {
        say.text("http.request.method", operation.method.split(' ').next());
    } else {
        say.text("jsonrpc.request.id", told.message.as_deref().map(masked).as_deref());
        let session = operation.session.map(|session| session.to_string());
        say.text("mcp.session.id", session.as_deref());
        say.text("mcp.protocol.version", operation.client_version);
    }
    say.text("http.route", Some(&operation.endpoint));
    say.text("network.protocol.name", Some("http"));
    say.text("network.transport", Some("tcp"));
    say.text("mcp_gateway.tenant", operation.tenant().map(crate::id::TenantId::as_str));
    say.text("mcp_gateway.request_id", Some(operation.request_id.as_str()));
    say.text("mcp_gateway.outcome", Some(operation.outcome.label()));
    say.text("mcp_gateway.rule", operation.rule.as_deref());
    failed(&mut span, operation, kind(operation.outcome));
    span
}

/// The time at the server, if it went there. Whatever came of it that the server knows nothing of is not in it.
fn client(operation: &Operation, told: &Told, began: SystemTime) -> Option<Span> {
    let sent = told.sent?;
    let mut span = begun(operation, told, CLIENT);
    span.span_id = told.upstream.to_be_bytes().into();
    span.parent_span_id = told.own.to_be_bytes().into();
    during(&mut span, began, sent, told.answered.unwrap_or(operation.times.total));
    let mut say = Say(&mut span.attributes);
    say.text("mcp.protocol.version", operation.upstream_version);
    say.number("mcp_gateway.replica", operation.replica.map(i64::from));
    say.number("mcp_gateway.attempts", Some(i64::from(operation.attempts)));
    let own = match operation.outcome {
        Outcome::Error { whose: Whose::Gateway, .. } | Outcome::Denied(_) | Outcome::RateLimited => None,
        outcome => kind(outcome),
    };
    failed(&mut span, operation, own);
    Some(span)
}

/// What both spans have.
fn begun(operation: &Operation, told: &Told, kind: i32) -> Span {
    let method = operation.method_label();
    let mut span =
        Span { trace_id: told.trace.to_be_bytes().into(), kind, flags: REMOTE_KNOWN | SAMPLED, ..Span::default() };
    let mut say = Say(&mut span.attributes);
    let target = match method {
        "tools/call" => {
            say.text("gen_ai.operation.name", Some("execute_tool"));
            Some("gen_ai.tool.name")
        }
        "prompts/get" => Some("gen_ai.prompt.name"),
        _ => None,
    };
    let name = operation.name.as_deref().map(masked).filter(|_| target.is_some());
    if let Some(target) = target {
        say.text(target, name.as_deref());
    }
    let message = !operation.routed && !matches!(method, "GET" | "DELETE" | "POST");
    say.text("mcp.method.name", Some(method).filter(|_| message));
    say.text("mcp_gateway.server", operation.server.as_ref().map(crate::id::Slug::as_str));
    span.name = match name {
        Some(name) => format!("{method} {name}"),
        None if message || operation.routed => method.to_owned(),
        None => format!("{method} {}", operation.endpoint),
    };
    span
}

fn during(span: &mut Span, began: SystemTime, from: Duration, to: Duration) {
    span.start_time_unix_nano = nanos(began + from);
    span.end_time_unix_nano = nanos(began + to.max(from));
}

/// `error.type`: one stable word.
fn kind(outcome: Outcome) -> Option<&'static str> {
    match outcome {
        Outcome::Success => None,
        Outcome::Error { kind, .. } | Outcome::Denied(kind) => Some(kind),
        Outcome::ToolError | Outcome::RateLimited => Some(outcome.label()),
    }
}

fn failed(span: &mut Span, operation: &Operation, kind: Option<&str>) {
    if let Some(kind) = kind {
        Say(&mut span.attributes).text("error.type", Some(kind));
        // What the REST API says may name people.
        let detail = operation.detail.as_deref().filter(|_| !operation.routed);
        let message = detail.map(masked).unwrap_or_default().into_owned();
        span.status = Some(Status { message, code: ERROR });
    }
}

struct Say<'a>(&'a mut Vec<KeyValue>);

impl Say<'_> {
    /// Says it, if there is something to say.
    fn text(&mut self, key: &str, value: Option<&str>) {
        self.0.extend(value.map(|value| KeyValue::new(key, value)));
    }

    fn number(&mut self, key: &str, value: Option<i64>) {
        self.0.extend(value.map(|value| KeyValue::new(key, Value::Int(value))));
    }
}
