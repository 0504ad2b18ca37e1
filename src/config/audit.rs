//! The settings of the audit trail.

use clap::builder::BoolishValueParser;
use url::Url;

use super::parse;

/// What becomes of the record of each operation.
#[derive(Debug, Clone, clap::Args)]
#[command(next_help_heading = "Audit trail")]
#[expect(clippy::doc_markdown, reason = "help texts are read where no markup is")]
pub struct Audit {
    /// What a record outlives before the answer of its operation goes out: the process, or a power cut
    #[arg(id = "audit_durability", long = "audit-durability", env = "MREG_AUDIT_DURABILITY", value_enum, default_value_t = Durability::Process, value_name = "WHAT")]
    pub durability: Durability,
    /// What becomes of requests while the journal is full or cannot be written: they are refused, or wait for some seconds before
    #[arg(id = "audit_when_full", long = "audit-when-full", env = "MREG_AUDIT_WHEN_FULL", value_enum, default_value_t = WhenFull::Refuse, value_name = "WHAT")]
    pub when_full: WhenFull,
    /// Most bytes of records that wait in the data folder until the database takes them, at least 1MiB
    #[arg(id = "audit_journal_max_bytes", long = "audit-journal-max-bytes", env = "MREG_AUDIT_JOURNAL_MAX_BYTES", default_value = "1GiB", value_name = "BYTES", value_parser = parse::bytes)]
    pub journal_max_bytes: usize,
    /// Collector that gets each record too, as a message of syslog: udp://HOST:PORT or tcp://HOST:PORT
    #[arg(id = "audit_syslog", long = "audit-syslog", env = "MREG_AUDIT_SYSLOG", value_name = "URL", value_parser = syslog)]
    pub syslog: Option<Syslog>,
    /// Send each record too as a log record of OpenTelemetry, to the collector of OTEL_EXPORTER_OTLP_ENDPOINT
    #[arg(id = "audit_otlp", long = "audit-otlp", env = "MREG_AUDIT_OTLP", default_value = "false", value_name = "BOOL", action = clap::ArgAction::Set, value_parser = BoolishValueParser::new())]
    pub otlp: bool,
    /// Whether the collector gets the arguments too that tenants have recorded
    #[arg(id = "audit_syslog_arguments", long = "audit-syslog-arguments", env = "MREG_AUDIT_SYSLOG_ARGUMENTS", default_value = "false", value_name = "BOOL", action = clap::ArgAction::Set, value_parser = BoolishValueParser::new())]
    pub syslog_arguments: bool,
}

impl Audit {
    /// What cannot be.
    pub(super) fn check(&self, wrong: &mut Vec<String>) {
        if self.journal_max_bytes < 1 << 20 {
            wrong.push("MREG_AUDIT_JOURNAL_MAX_BYTES must be at least 1MiB".to_owned());
        }
    }
}

/// A collector of syslog.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Syslog {
    /// Over TCP; else UDP.
    pub tcp: bool,
    /// Its name or address.
    pub host: String,
    /// Its port.
    pub port: u16,
}

impl std::fmt::Display for Syslog {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}://{}:{}", if self.tcp { "tcp" } else { "udp" }, self.host, self.port)
    }
}

fn syslog(text: &str) -> Result<Syslog, String> {
    let wrong = || "write it as udp://HOST:PORT or tcp://HOST:PORT".to_owned();
    let url = Url::parse(text).map_err(|_| wrong())?;
    let plain =
        url.username().is_empty() && url.password().is_none() && url.query().is_none() && url.fragment().is_none();
    match (url.scheme(), url.host_str(), url.port(), plain && matches!(url.path(), "" | "/")) {
        (scheme @ ("udp" | "tcp"), Some(host), Some(port), true) if !host.is_empty() => {
            let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
            Ok(Syslog { tcp: scheme == "tcp", host, port })
        }
        _ => Err(wrong()),
    }
}

/// What a record outlives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Durability {
    /// The process, however it ends
    Process,
    /// The machine: the disk is asked to keep it, once for all that wait
    Disk,
}

/// What becomes of requests that cannot be recorded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum WhenFull {
    /// They are refused with 503
    Refuse,
    /// They wait until there is room, for ten seconds at most
    Slow,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_collector_is_named_by_way_host_and_port() {
        for good in ["udp://127.0.0.1:514", "tcp://logs.example:6514"] {
            assert_eq!(syslog(good).unwrap().to_string(), good);
        }
        assert_eq!(syslog("tcp://[::1]:514").unwrap().host, "::1");
        for bad in
            ["", "logs.example:514", "http://logs.example:514", "udp://logs.example", "udp://a@b:1", "tcp://b:1/x"]
        {
            assert!(syslog(bad).is_err(), "{bad}");
        }
    }
}
