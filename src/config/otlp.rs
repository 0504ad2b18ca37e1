//! The section about OpenTelemetry. Names and meanings are those of its specification ("OpenTelemetry Protocol Exporter", "Environment
//! Variable Specification"), so that what a platform sets for all its programs holds here too. They are read when something is to be
//! exported, and only then: what others set for others stops no start.

use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue};
use percent_encoding::percent_decode_str;
use url::Url;

use super::parse;
use crate::secret::Secret;

/// Where traces, metrics and audit records go over OTLP.
#[derive(Debug, Clone, clap::Args)]
#[command(next_help_heading = "OpenTelemetry")]
pub struct Otlp {
    /// Where everything goes.
    #[command(flatten)]
    pub all: All,
    /// Where traces go instead.
    #[command(flatten)]
    pub traces: Traces,
    /// Where metrics go instead.
    #[command(flatten)]
    pub metrics: OtlpMetrics,
    /// Where audit records go instead.
    #[command(flatten)]
    pub logs: Logs,
    /// What of it and under which name.
    #[command(flatten)]
    pub what: What,
}

macro_rules! exporter {
    ($(#[$doc:meta])* $name:ident, $id:literal, $flag:literal, $variable:literal, $endpoint:literal, $of:literal) => {
        $(#[$doc])*
        #[derive(Debug, Clone, clap::Args)]
        #[command(next_help_heading = "OpenTelemetry")]
        pub struct $name {
            #[arg(id = concat!($id, "_endpoint"), long = concat!($flag, "-endpoint"), env = concat!($variable, "_ENDPOINT"),
                value_name = "URL", hide_env_values = true, value_parser = parse::secret, help = $endpoint)]
            endpoint: Option<Secret>,
            #[arg(id = concat!($id, "_headers"), long = concat!($flag, "-headers"), env = concat!($variable, "_HEADERS"),
                value_name = "LIST", hide_env_values = true, value_parser = parse::secret,
                help = concat!("Headers ", $of, ": name=value, comma-separated, values percent-encoded"))]
            headers: Option<Secret>,
            #[arg(id = concat!($id, "_timeout"), long = concat!($flag, "-timeout"), env = concat!($variable, "_TIMEOUT"),
                value_name = "MILLISECONDS", help = concat!("Longest that one request may take ", $of, "; 10000 when absent"))]
            timeout: Option<String>,
            #[arg(id = concat!($id, "_compression"), long = concat!($flag, "-compression"), env = concat!($variable, "_COMPRESSION"),
                value_name = "KIND", help = concat!("How bodies are compressed ", $of, ": gzip or none"))]
            compression: Option<String>,
            #[arg(id = concat!($id, "_protocol"), long = concat!($flag, "-protocol"), env = concat!($variable, "_PROTOCOL"),
                value_name = "PROTOCOL", help = concat!("What is spoken ", $of, "; only http/protobuf is"))]
            protocol: Option<String>,
        }

        impl $name {
            const VARIABLE: &str = $variable;

            fn said(&self) -> Said<'_> {
                Said {
                    variable: Self::VARIABLE,
                    endpoint: self.endpoint.as_ref().map(Secret::expose).filter(given),
                    headers: self.headers.as_ref().map(Secret::expose).filter(given),
                    timeout: self.timeout.as_deref().filter(given),
                    compression: self.compression.as_deref().filter(given),
                    protocol: self.protocol.as_deref().filter(given),
                }
            }
        }
    };
}

exporter!(
    /// Where everything goes.
    All,
    "otlp",
    "otlp",
    "OTEL_EXPORTER_OTLP",
    "OpenTelemetry collector that gets traces and metrics over HTTP, such as http://localhost:4318",
    "to the collector"
);
exporter!(
    /// Where traces go.
    Traces,
    "otlp_traces",
    "otlp-traces",
    "OTEL_EXPORTER_OTLP_TRACES",
    "Whole URL to which traces go instead",
    "for traces"
);
exporter!(
    /// Where metrics go.
    OtlpMetrics,
    "otlp_metrics",
    "otlp-metrics",
    "OTEL_EXPORTER_OTLP_METRICS",
    "Whole URL to which metrics go instead",
    "for metrics"
);
exporter!(
    /// Where audit records go.
    Logs,
    "otlp_logs",
    "otlp-logs",
    "OTEL_EXPORTER_OTLP_LOGS",
    "Whole URL to which audit records go instead, if --audit-otlp is set",
    "for audit records"
);

/// What is exported, and under which name.
#[derive(Debug, Clone, clap::Args)]
#[command(next_help_heading = "OpenTelemetry")]
#[expect(clippy::doc_markdown, reason = "help texts are read where no markup is")]
pub struct What {
    /// Export nothing, whatever else is set
    #[arg(id = "otel_sdk_disabled", long = "otel-sdk-disabled", env = "OTEL_SDK_DISABLED", value_name = "BOOL", default_value = "false", action = clap::ArgAction::Set, value_parser = lenient)]
    disabled: bool,
    /// Whether traces are exported: otlp or none; otlp when absent
    #[arg(
        id = "otel_traces_exporter",
        long = "otel-traces-exporter",
        env = "OTEL_TRACES_EXPORTER",
        value_name = "KIND"
    )]
    traces: Option<String>,
    /// Whether metrics are exported: otlp or none; otlp when absent
    #[arg(
        id = "otel_metrics_exporter",
        long = "otel-metrics-exporter",
        env = "OTEL_METRICS_EXPORTER",
        value_name = "KIND"
    )]
    metrics: Option<String>,
    /// Which calls are traced: always_on, always_off, traceidratio, or one of them for calls without a trace of their own, with parentbased_ before it; parentbased_always_on when absent
    #[arg(
        id = "otel_traces_sampler",
        long = "otel-traces-sampler",
        env = "OTEL_TRACES_SAMPLER",
        value_name = "SAMPLER"
    )]
    sampler: Option<String>,
    /// Part of calls that a sampler by ratio takes, 0 to 1; 1 when absent
    #[arg(
        id = "otel_traces_sampler_arg",
        long = "otel-traces-sampler-arg",
        env = "OTEL_TRACES_SAMPLER_ARG",
        value_name = "RATIO"
    )]
    ratio: Option<String>,
    /// Pause after which finished spans are sent, if they are too few for a batch; 5000 when absent
    #[arg(
        id = "otel_bsp_schedule_delay",
        long = "otel-bsp-schedule-delay",
        env = "OTEL_BSP_SCHEDULE_DELAY",
        value_name = "MILLISECONDS"
    )]
    delay: Option<String>,
    /// Most finished operations that wait to be sent, each with one or two spans; more are dropped and counted; 2048 when absent
    #[arg(
        id = "otel_bsp_max_queue_size",
        long = "otel-bsp-max-queue-size",
        env = "OTEL_BSP_MAX_QUEUE_SIZE",
        value_name = "COUNT"
    )]
    queue: Option<String>,
    /// Most operations of one request; 512 when absent
    #[arg(
        id = "otel_bsp_max_export_batch_size",
        long = "otel-bsp-max-export-batch-size",
        env = "OTEL_BSP_MAX_EXPORT_BATCH_SIZE",
        value_name = "COUNT"
    )]
    batch: Option<String>,
    /// Name under which the gateway is seen; mcp-gateway when absent
    #[arg(id = "otel_service_name", long = "otel-service-name", env = "OTEL_SERVICE_NAME", value_name = "NAME")]
    service: Option<String>,
    /// What else is said of the gateway: name=value, comma-separated, values percent-encoded
    #[arg(
        id = "otel_resource_attributes",
        long = "otel-resource-attributes",
        env = "OTEL_RESOURCE_ATTRIBUTES",
        value_name = "LIST"
    )]
    attributes: Option<String>,
}

/// What was set for one signal, or for all; what is empty was not set.
#[derive(Clone, Copy)]
struct Said<'a> {
    variable: &'static str,
    endpoint: Option<&'a str>,
    headers: Option<&'a str>,
    timeout: Option<&'a str>,
    compression: Option<&'a str>,
    protocol: Option<&'a str>,
}

/// What is exported, where to and how.
#[derive(Debug, Clone, Default)]
pub struct Export {
    /// Where spans go.
    pub traces: Option<Collector>,
    /// Where metrics go.
    pub metrics: Option<Collector>,
    /// Where audit records go, if they do.
    pub logs: Option<Collector>,
    /// Which operations are traced.
    pub sampler: SamplerKind,
    /// How spans are gathered.
    pub batches: Batches,
    /// Who says so: `service.name` and whatever else.
    pub resource: Vec<(String, String)>,
}

/// Where one signal goes.
#[derive(Clone)]
pub struct Collector {
    /// The whole URL.
    pub url: Url,
    /// Headers of each request; they may be secret.
    pub headers: HeaderMap,
    /// Longest that one request may take.
    pub timeout: Duration,
    /// Whether bodies are compressed.
    pub gzip: bool,
}

impl std::fmt::Debug for Collector {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { url, timeout, gzip, .. } = self;
        f.debug_struct("Collector")
            .field("host", &url.host_str())
            .field("timeout", timeout)
            .field("gzip", gzip)
            .finish_non_exhaustive()
    }
}

/// Which operations are traced.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SamplerKind {
    /// The caller's word counts, if there is one.
    pub by_parent: bool,
    /// Part of the others.
    pub ratio: f64,
}

impl Default for SamplerKind {
    fn default() -> Self {
        Self { by_parent: true, ratio: 1.0 }
    }
}

/// How finished operations are gathered to be sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Batches {
    /// Most that wait.
    pub queue: usize,
    /// Most of one request.
    pub most: usize,
    /// Longest that one waits for others.
    pub delay: Duration,
}

impl Default for Batches {
    fn default() -> Self {
        Self { queue: 2048, most: 512, delay: Duration::from_secs(5) }
    }
}

/// Waiting operations take some kilobytes each at worst.
const MOST_WAITING: usize = 1 << 20;
/// Longest timeout and delay.
const LONGEST: Duration = Duration::from_mins(10);

impl Otlp {
    /// What is to be exported; else everything that is wrong with it. `records`: whether audit records are to be.
    pub fn export(&self, records: bool) -> Result<Export, Vec<String>> {
        let mut wrong = Vec::new();
        if self.what.disabled {
            return if records { Err(vec![NO_COLLECTOR.to_owned()]) } else { Ok(Export::default()) };
        }
        let all = self.all.said();
        let traces =
            self.exported("OTEL_TRACES_EXPORTER", self.what.traces.as_deref(), &self.traces.said(), &mut wrong);
        let metrics =
            self.exported("OTEL_METRICS_EXPORTER", self.what.metrics.as_deref(), &self.metrics.said(), &mut wrong);
        let mut to = |on: bool, own: Said<'_>, path: &str| {
            let found = if on { collector(own, all, path) } else { Ok(None) };
            found.unwrap_or_else(|error| {
                wrong.push(error);
                None
            })
        };
        let traces = to(traces, self.traces.said(), "v1/traces");
        let metrics = to(metrics, self.metrics.said(), "v1/metrics");
        let logs = to(records, self.logs.said(), "v1/logs");
        if records && logs.is_none() && wrong.is_empty() {
            wrong.push(NO_COLLECTOR.to_owned());
        }
        let mut export = Export { traces, metrics, logs, ..Export::default() };
        if export.traces.is_some() {
            self.what.of_traces(&mut export, &mut wrong);
        }
        if export.traces.is_some() || export.metrics.is_some() || export.logs.is_some() {
            self.what.resource(&mut export, &mut wrong);
        }
        wrong.dedup();
        if wrong.is_empty() { Ok(export) } else { Err(wrong) }
    }

    /// Whether a signal is exported. What is set for a gateway without a collector is nobody's mistake.
    fn exported(&self, variable: &str, kind: Option<&str>, own: &Said<'_>, wrong: &mut Vec<String>) -> bool {
        let collector = self.all.said().endpoint.or(own.endpoint).is_some();
        match kind.filter(given) {
            None | Some("otlp") => collector,
            Some("none") => false,
            Some(_) => {
                let text = || format!("{variable} is otlp or none: this gateway exports in no other way");
                wrong.extend(collector.then(text));
                false
            }
        }
    }
}

const NO_COLLECTOR: &str =
    "MREG_AUDIT_OTLP needs a collector: give OTEL_EXPORTER_OTLP_ENDPOINT or OTEL_EXPORTER_OTLP_LOGS_ENDPOINT";

impl What {
    fn of_traces(&self, export: &mut Export, wrong: &mut Vec<String>) {
        let number = |name: &str, text: &Option<String>, most: usize, default: usize, wrong: &mut Vec<String>| {
            let Some(text) = text.as_deref().filter(given) else { return default };
            text.trim().parse().ok().filter(|number| (1..=most).contains(number)).unwrap_or_else(|| {
                wrong.push(format!("{name} is a whole number, 1 to {most}"));
                default
            })
        };
        let Batches { queue, most, delay } = export.batches;
        let queue = number("OTEL_BSP_MAX_QUEUE_SIZE", &self.queue, MOST_WAITING, queue, wrong);
        let most = number("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", &self.batch, MOST_WAITING, most, wrong).min(queue);
        let longest = millis(LONGEST);
        let delay = number("OTEL_BSP_SCHEDULE_DELAY", &self.delay, longest, millis(delay), wrong);
        export.batches = Batches { queue, most, delay: Duration::from_millis(delay as u64) };

        let said = self.sampler.as_deref().filter(given).unwrap_or("parentbased_always_on");
        let (by_parent, root) = match said.strip_prefix("parentbased_") {
            Some(root) => (true, root),
            None => (false, said),
        };
        let ratio = match root {
            "always_on" => 1.0,
            "always_off" => 0.0,
            "traceidratio" => {
                let text = self.ratio.as_deref().filter(given).unwrap_or("1");
                let ratio = text.trim().parse().ok().filter(|ratio| (0.0..=1.0).contains(ratio));
                ratio.unwrap_or_else(|| {
                    wrong.push("OTEL_TRACES_SAMPLER_ARG is a part of calls, 0 to 1".to_owned());
                    1.0
                })
            }
            _ => {
                wrong.push(
                    "OTEL_TRACES_SAMPLER is always_on, always_off or traceidratio, or one of them with parentbased_ before it"
                        .to_owned(),
                );
                1.0
            }
        };
        export.sampler = SamplerKind { by_parent, ratio };
    }

    /// A name of its own counts more than one among the attributes.
    fn resource(&self, export: &mut Export, wrong: &mut Vec<String>) {
        let list = self.attributes.as_deref().filter(given).unwrap_or_default();
        let Some(mut resource) = pairs(list) else {
            wrong.push(
                "OTEL_RESOURCE_ATTRIBUTES is a list of name=value, comma-separated, values percent-encoded".to_owned(),
            );
            return;
        };
        let name = self.service.as_deref().filter(given).map(ToOwned::to_owned);
        let among = resource.iter().rposition(|(key, _)| key == "service.name").map(|at| resource.remove(at).1);
        resource.retain(|(key, _)| key != "service.name");
        let name = name.or(among).unwrap_or_else(|| "mcp-gateway".to_owned());
        resource.insert(0, ("service.name".to_owned(), name));
        export.resource = resource;
    }
}

/// Where a signal goes: its own URL as it stands, or the common one with the signal's path behind it. What is wrong is said without
/// what may be secret.
fn collector(own: Said<'_>, all: Said<'_>, path: &str) -> Result<Option<Collector>, String> {
    let (text, of) = match (own.endpoint, all.endpoint) {
        (Some(text), _) => (text, own.variable),
        (None, Some(text)) => (text, all.variable),
        (None, None) => return Ok(None),
    };
    let wrong = |what: &str| format!("{of}_ENDPOINT {what}");
    let mut url = Url::parse(text.trim()).map_err(|error| wrong(&format!("is no URL: {error}")))?;
    if !matches!(url.scheme(), "http" | "https") || url.host_str().is_none_or(str::is_empty) {
        return Err(wrong("must be an http or https URL"));
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err(wrong("holds credentials: give them in OTEL_EXPORTER_OTLP_HEADERS"));
    }
    if own.endpoint.is_none() {
        let base = url.path().trim_end_matches('/');
        url.set_path(&format!("{base}/{path}"));
    }
    let one = |pick: fn(&Said<'_>) -> Option<String>| {
        pick(&own).map(|value| (value, own.variable)).or_else(|| pick(&all).map(|value| (value, all.variable)))
    };
    if let Some((protocol, of)) = one(|said| said.protocol.map(ToOwned::to_owned))
        && protocol != "http/protobuf"
    {
        return Err(format!(
            "{of}_PROTOCOL must be http/protobuf: this gateway speaks nothing else; port 4318 of a collector does"
        ));
    }
    let compression = one(|said| said.compression.map(ToOwned::to_owned));
    let gzip = match compression.as_ref().map(|(kind, of)| (kind.as_str(), of)) {
        None | Some(("none", _)) => false,
        Some(("gzip", _)) => true,
        Some((_, of)) => return Err(format!("{of}_COMPRESSION is gzip or none")),
    };
    let timeout = match one(|said| said.timeout.map(ToOwned::to_owned)) {
        None => Duration::from_secs(10),
        Some((text, of)) => {
            let timeout = text.trim().parse().ok().map(Duration::from_millis);
            timeout
                .filter(|timeout| !timeout.is_zero() && *timeout <= LONGEST)
                .ok_or_else(|| format!("{of}_TIMEOUT is milliseconds, 1 to {}", LONGEST.as_millis()))?
        }
    };
    let headers = match one(|said| said.headers.map(ToOwned::to_owned)) {
        None => HeaderMap::new(),
        Some((list, of)) => headers(&list)
            .ok_or_else(|| format!("{of}_HEADERS is a list of name=value, comma-separated, values percent-encoded"))?,
    };
    Ok(Some(Collector { url, headers, timeout, gzip }))
}

fn headers(list: &str) -> Option<HeaderMap> {
    let mut headers = HeaderMap::new();
    for (name, value) in pairs(list)? {
        let mut value = HeaderValue::from_str(&value).ok()?;
        value.set_sensitive(true);
        headers.insert(HeaderName::try_from(name).ok()?, value);
    }
    Some(headers)
}

/// A list as the specification of W3C Baggage writes it, without properties.
fn pairs(list: &str) -> Option<Vec<(String, String)>> {
    let parts = list.split(',').map(str::trim).filter(given);
    parts
        .map(|part| {
            let (name, value) = part.split_once('=')?;
            let value = percent_decode_str(value.trim()).decode_utf8().ok()?;
            let name = name.trim();
            (!name.is_empty()).then(|| (name.to_owned(), value.into_owned()))
        })
        .collect()
}

fn given(text: &&str) -> bool {
    !text.trim().is_empty()
}

/// Whether it says yes. What is empty, or neither yes nor no, says no (Environment Variable Specification, "Boolean").
#[expect(clippy::unnecessary_wraps, reason = "the form that clap asks of a parser")]
fn lenient(text: &str) -> Result<bool, String> {
    Ok(text.trim().eq_ignore_ascii_case("true"))
}

fn millis(time: Duration) -> usize {
    usize::try_from(time.as_millis()).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::super::{DotEnv, Settings, SettingsError};
    use super::*;

    fn export(args: &[&str]) -> Result<Export, String> {
        let settings =
            Settings::from_args(args, &DotEnv::default()).map_err(|error: SettingsError| error.to_string())?;
        settings.otlp.export(settings.audit.otlp).map_err(|wrong| wrong.join("\n"))
    }

    #[test]
    fn without_a_collector_nothing_is_exported_and_nothing_is_wrong() {
        let odd = ["--otlp-protocol", "grpc", "--otel-traces-sampler", "xray", "--otlp-timeout", "soon"];
        let odd = [&odd[..], &["--otel-traces-exporter", "zipkin", "--otlp-endpoint", ""]].concat();
        for args in [&[][..], &odd, &["--otlp-endpoint", "http://a:4318", "--otel-sdk-disabled", "true"]] {
            let export = export(args).unwrap();
            assert!(export.traces.is_none() && export.metrics.is_none() && export.logs.is_none(), "{args:?}");
        }
        assert!(export(&["--audit-otlp=true"]).unwrap_err().contains("MREG_AUDIT_OTLP needs a collector"));
    }

    #[test]
    fn a_path_is_added_to_the_common_endpoint_and_to_no_other() {
        let export = export(&[
            "--otlp-endpoint",
            "http://collector:4318/otlp/",
            "--otlp-metrics-endpoint",
            "https://m.example/x?key=1",
            "--otlp-headers",
            "authorization=Bearer%20hush, x-a = 1 ,",
            "--otlp-metrics-headers",
            "x-b=2",
            "--otlp-compression",
            "gzip",
            "--otlp-metrics-compression",
            "none",
            "--otlp-timeout",
            "250",
            "--audit-otlp=true",
        ])
        .unwrap();
        let (traces, metrics) = (export.traces.clone().unwrap(), export.metrics.clone().unwrap());
        assert_eq!(traces.url.as_str(), "http://collector:4318/otlp/v1/traces");
        assert_eq!(metrics.url.as_str(), "https://m.example/x?key=1");
        assert_eq!(export.logs.as_ref().unwrap().url.as_str(), "http://collector:4318/otlp/v1/logs");
        assert_eq!(
            (&traces.headers["authorization"], traces.headers.len()),
            (&HeaderValue::from_static("Bearer hush"), 2)
        );
        assert_eq!((metrics.headers.len(), &metrics.headers["x-b"]), (1, &HeaderValue::from_static("2")));
        assert_eq!((traces.gzip, metrics.gzip), (true, false));
        assert_eq!((traces.timeout, metrics.timeout), (Duration::from_millis(250), Duration::from_millis(250)));
        assert!(!format!("{export:?}").contains("hush"));
    }

    #[test]
    fn the_sampler_is_as_its_name_says() {
        let of =
            |args: &[&str]| export(&[&["--otlp-endpoint", "http://a"], args].concat()).map(|export| export.sampler);
        assert_eq!(of(&[]).unwrap(), SamplerKind { by_parent: true, ratio: 1.0 });
        let ratio = ["--otel-traces-sampler-arg", "0.25", "--otel-traces-sampler"];
        for (name, by_parent, ratio_of) in [
            ("always_on", false, 1.0),
            ("always_off", false, 0.0),
            ("traceidratio", false, 0.25),
            ("parentbased_always_off", true, 0.0),
            ("parentbased_traceidratio", true, 0.25),
        ] {
            let sampler = of(&[&ratio[..], &[name]].concat()).unwrap();
            assert_eq!(sampler, SamplerKind { by_parent, ratio: ratio_of }, "{name}");
        }
        assert!(of(&["--otel-traces-sampler", "xray"]).unwrap_err().contains("OTEL_TRACES_SAMPLER is"));
        let beyond = ["--otel-traces-sampler", "traceidratio", "--otel-traces-sampler-arg", "2"];
        assert!(of(&beyond).unwrap_err().contains("OTEL_TRACES_SAMPLER_ARG"));
    }

    #[test]
    fn what_is_wrong_is_said_without_what_is_secret() {
        let with = |args: &[&str]| export(&[&["--otlp-endpoint", "http://a"], args].concat()).unwrap_err();
        for (args, part) in [
            (&["--otlp-endpoint", "http://u:hush@a"][..], "OTEL_EXPORTER_OTLP_ENDPOINT holds credentials"),
            (&["--otlp-traces-endpoint", "hush"], "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT is no URL"),
            (&["--otlp-headers", "hush"], "OTEL_EXPORTER_OTLP_HEADERS is a list"),
            (&["--otlp-metrics-headers", "a\u{7}=hush"], "OTEL_EXPORTER_OTLP_METRICS_HEADERS is a list"),
            (&["--otlp-protocol", "grpc"], "OTEL_EXPORTER_OTLP_PROTOCOL must be http/protobuf"),
            (&["--otlp-traces-timeout", "0"], "OTEL_EXPORTER_OTLP_TRACES_TIMEOUT is milliseconds"),
            (&["--otlp-compression", "zstd"], "OTEL_EXPORTER_OTLP_COMPRESSION is gzip or none"),
            (&["--otel-bsp-max-queue-size", "0"], "OTEL_BSP_MAX_QUEUE_SIZE is a whole number"),
            (&["--otel-metrics-exporter", "prometheus"], "OTEL_METRICS_EXPORTER is otlp or none"),
            (&["--otel-resource-attributes", "x"], "OTEL_RESOURCE_ATTRIBUTES is a list"),
        ] {
            let args = if args[0] == "--otlp-endpoint" { export(args).unwrap_err() } else { with(args) };
            assert!(args.contains(part) && !args.contains("hush"), "{part} is missing in {args}");
        }
    }

    #[test]
    fn a_name_of_its_own_counts_more_than_one_among_the_attributes() {
        let of = |args: &[&str]| export(&[&["--otlp-endpoint", "http://a"], args].concat()).unwrap().resource;
        let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        assert_eq!(of(&[]), [pair("service.name", "mcp-gateway")]);
        let list = ["--otel-resource-attributes", "a=b%20c,service.name=one"];
        assert_eq!(of(&list), [pair("service.name", "one"), pair("a", "b c")]);
        assert_eq!(of(&[&list[..], &["--otel-service-name", "two"]].concat())[0], pair("service.name", "two"));
    }
}
