//! Takes each finished operation once and lets everything derive from it: the trail, metrics, one log line and its spans.

use std::sync::Arc;

use super::{Counter, Event, Metrics, Operation, Outcome, Sink, TraceParent, Tracer};
use crate::crypto::masked;

/// Where finished operations go. Cheap to clone.
#[derive(Clone)]
pub struct Recorder {
    metrics: Arc<Metrics>,
    sink: Option<Arc<dyn Sink>>,
    tracer: Option<Tracer>,
}

impl Recorder {
    /// One that counts into `metrics`.
    pub fn new(metrics: Arc<Metrics>) -> Self {
        Self { metrics, sink: None, tracer: None }
    }

    /// The same, whose operations `sink` keeps.
    #[must_use]
    pub fn kept_by(self, sink: Arc<dyn Sink>) -> Self {
        Self { sink: Some(sink), ..self }
    }

    /// The same, whose operations `tracer` takes to a collector.
    #[must_use]
    pub fn traced_by(self, tracer: Option<Tracer>) -> Self {
        Self { tracer, ..self }
    }

    /// What decides about traces, where they are exported.
    pub fn tracer(&self) -> Option<&Tracer> {
        self.tracer.as_ref()
    }

    /// Says to which trace an operation that begins belongs.
    pub fn trace(&self, operation: &mut Operation, parent: Option<TraceParent>) {
        operation.trace_id = parent.map(|parent| parent.trace);
        if let Some(tracer) = &self.tracer {
            let span = tracer.begin(parent);
            operation.trace_id = Some(span.trace);
            operation.span = Some(Box::new(span));
        }
    }

    /// The metrics, for what is no operation: connections, sessions, pools.
    pub fn metrics(&self) -> &Arc<Metrics> {
        &self.metrics
    }

    /// Keeps, counts and logs one finished operation. Call it once, before the last byte of the answer goes out, or when it is given
    /// up.
    pub fn record(&self, operation: &Operation) {
        if let Some(sink) = &self.sink {
            sink.operation(operation);
        }
        self.metrics.operation(operation);
        if let Some(tracer) = &self.tracer {
            tracer.take(operation);
        }
        // Levels are constants of the call site, hence two of them: what went well is for debugging.
        match operation.outcome {
            Outcome::Success | Outcome::ToolError if !operation.changes() => write_line!(DEBUG, operation),
            _ => write_line!(INFO, operation),
        }
    }

    /// Counts and keeps that somebody signed in by this method.
    pub fn signed_in(&self, method: &str, at: time::OffsetDateTime, event: Event) {
        let tenant = event.tenant.as_deref().unwrap_or_default();
        self.metrics.auth(tenant, "login", true, "");
        self.metrics.login(tenant, method, at);
        self.tell(event);
    }

    /// Counts and keeps that somebody did not sign in, for the reason that the event gives.
    pub fn not_signed_in(&self, event: Event) {
        let tenant = event.tenant.as_deref().unwrap_or_default();
        self.metrics.auth(tenant, "login", false, event.reason.as_deref().unwrap_or_default());
        self.tell(event);
    }

    /// Counts and keeps how a question to an identity provider came out.
    pub fn refreshed(&self, kind: &'static str, result: &'static str, event: Event) {
        let tenant = event.tenant.as_deref().unwrap_or_default();
        self.metrics.token_refresh.on([tenant, kind, result], Counter::inc);
        self.tell(Event { reason: Some(kind.into()), detail: Some(result.into()), ..event });
    }

    /// Counts and keeps that a session is over.
    pub fn session_ended(&self, event: Event) {
        let tenant = event.tenant.as_deref().unwrap_or_default();
        let reason = event.reason.as_deref().unwrap_or_default();
        self.metrics.session_duration.on([tenant, reason], |all| all.observe(event.lasted));
        self.tell(event);
    }

    /// Keeps what happened beside requests.
    pub fn tell(&self, event: Event) {
        if let Some(sink) = &self.sink {
            sink.event(event);
        }
    }
}

/// One structured line. Texts are given as values, not as formats: the writer then quotes and escapes them, so that no
/// name can forge a line.
macro_rules! write_line {
    ($level:ident, $operation:expr) => {
        if tracing::enabled!(target: "operation", tracing::Level::$level) {
            let op: &Operation = $operation;
            let (kind, whose) = match op.outcome {
                Outcome::Error { whose, kind } => (Some(kind), Some(whose.label())),
                Outcome::Denied(rule) => (Some(rule), None),
                _ => (None, None),
            };
            tracing::event!(
                target: "operation",
                tracing::Level::$level,
                outcome = op.outcome.label(),
                kind,
                whose,
                method = &*masked(&op.method),
                server = op.server.as_ref().map(crate::id::Slug::as_str),
                name = op.name.as_deref().map(masked).as_deref(),
                endpoint = &*op.endpoint,
                tenant = op.tenant().map(crate::id::TenantId::as_str),
                principal = op.who.as_deref().map(|who| &*who.principal.subject),
                key = op.who.as_deref().map(|who| tracing::field::display(who.credential)),
                address = op.address.map(tracing::field::display),
                session = op.session.map(tracing::field::display),
                replica = op.replica,
                attempts = op.attempts,
                request_bytes = op.sizes.request,
                response_bytes = op.sizes.response,
                total_ms = op.times.total.as_secs_f64() * 1e3,
                upstream_ms = op.times.upstream.as_secs_f64() * 1e3,
                client_version = op.client_version,
                upstream_version = op.upstream_version,
                trace_id = op.trace_id.map(|id| tracing::field::display(format!("{id:032x}"))),
                request_id = op.request_id.as_str(),
                rule = op.rule.as_deref(),
                detail = op.detail.as_deref().map(masked).as_deref(),
            );
        }
    };
}
use write_line;

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::sync::Mutex;
    use std::time::Duration;

    use tracing_subscriber::fmt::MakeWriter;

    use super::*;
    use crate::config::{DotEnv, Settings};
    use crate::fault::{Fault, Kind, Retry};
    use crate::id::{Principal, Slug, TenantId};
    use crate::telemetry::{Actor, RequestId, logs};

    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    impl MakeWriter<'_> for Lines {
        type Writer = Self;

        fn make_writer(&self) -> Self {
            self.clone()
        }
    }

    fn logged(args: &[&str], record: impl FnOnce(&Recorder)) -> String {
        let log = Settings::from_args(args, &DotEnv::default()).unwrap().log;
        let lines = Lines::default();
        let subscriber = logs::subscriber(&log, false, lines.clone()).unwrap();
        let recorder = Recorder::new(Arc::new(Metrics::new(100)));
        tracing::dispatcher::with_default(&subscriber, || record(&recorder));
        String::from_utf8(lines.0.lock().unwrap().clone()).unwrap()
    }

    fn call() -> Operation {
        let mut call = Operation::start(RequestId::new(), "/mcp");
        call.method = "tools/call".into();
        call.server = Some(Slug::parse("files").unwrap());
        call.name = Some("read".into());
        call.who = Some(Arc::new(Actor {
            tenant: TenantId::default_tenant(),
            principal: Principal { issuer: "local".into(), subject: "ada".into() },
            user: uuid::Uuid::nil(),
            username: "ada".into(),
            role: "user",
            session_type: "api_key",
            credential: uuid::Uuid::nil(),
            client: None,
        }));
        call
    }

    #[test]
    fn one_record_counts_everywhere_it_belongs() {
        let metrics = Arc::new(Metrics::new(100));
        let recorder = Recorder::new(Arc::clone(&metrics));
        let mut good = call();
        good.finish(Outcome::Success);
        good.times.upstream = good.times.total * 2;
        recorder.record(&good);
        let mut bad = call();
        bad.fail(&Fault::upstream(Kind::Timeout, Retry::MaybeSent, "no answer"));
        recorder.record(&bad);
        let mut list = call();
        list.method = "tools/list".into();
        list.finish(Outcome::Success);
        recorder.record(&list);
        let mut apart = call();
        apart.tool_apart = true;
        apart.finish(Outcome::ToolError);
        recorder.record(&apart);
        assert_eq!(metrics.tool_calls.with(["default", "files", "read", "success"]).get(), 1);
        assert_eq!(metrics.tool_calls.with(["default", "files", "read", "error"]).get(), 1);
        assert_eq!(metrics.errors.with(["default", "timeout", "upstream"]).get(), 1);
        assert_eq!(metrics.tool_usage.with(["default", "files", ""]).count(), 2);
        assert_eq!(metrics.tool_usage.with(["default", "files", "read"]).count(), 1);
        assert_eq!(metrics.request_duration.with(["default", "tools/list", "files", "success"]).count(), 1);
        assert_eq!(metrics.gateway_overhead.with(["default", "tools/call"]).count(), 3);
    }

    #[test]
    fn a_method_of_the_callers_making_is_no_label() {
        let mut odd = call();
        odd.method = "evil/x".to_owned().into();
        assert_eq!(odd.method_label(), "other");
    }

    #[test]
    fn failures_are_one_json_line_and_successes_none_at_info() {
        let text = logged(&["--log-format", "json"], |recorder| {
            let mut good = call();
            good.finish(Outcome::Success);
            recorder.record(&good);
            let mut bad = call();
            bad.fail(&Fault::upstream(Kind::Garbage, Retry::MaybeSent, "an HTML page"));
            recorder.record(&bad);
        });
        assert_eq!(text.lines().count(), 1, "{text}");
        let line: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(line["target"], "operation");
        assert_eq!(
            (&line["outcome"], &line["kind"], &line["whose"]),
            (&"error".into(), &"garbage".into(), &"upstream".into())
        );
        assert_eq!(
            (&line["server"], &line["principal"], &line["detail"]),
            (&"files".into(), &"ada".into(), &"an HTML page".into())
        );
        assert!(line.get("trace_id").is_none(), "what is unknown is left out: {line}");
    }

    #[test]
    fn a_name_cannot_forge_a_line() {
        let text = logged(&["--log", "operation=debug"], |recorder| {
            let mut odd = call();
            odd.method = "x\n2026-01-01 INFO forged \u{1b}[31m".to_owned().into();
            odd.times.total = Duration::from_millis(3);
            odd.outcome = Outcome::Success;
            recorder.record(&odd);
        });
        assert_eq!(text.lines().count(), 1, "{text}");
        assert!(!text.contains('\u{1b}') && text.contains("total_ms=3"), "{text}");
    }
}
