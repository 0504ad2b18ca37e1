//! Log lines, on standard error: standard output belongs to what a command answers. Secrets never reach a line because
//! their type does not print, and where a client put one into a path or a name, the record of the operation masks it.

use std::io::IsTerminal as _;

use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::util::SubscriberInitExt as _;

use crate::config::{Log, LogFormat};

/// Begins logging for the whole process. Fails when somebody already did, or the filter cannot be read.
pub fn start(log: &Log) -> anyhow::Result<()> {
    let colours = std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    subscriber(log, colours, std::io::stderr)?.try_init().map_err(|_| anyhow::anyhow!("logging was already started"))
}

/// What [`start`] installs, writing to `writer`.
pub fn subscriber<W>(log: &Log, colours: bool, writer: W) -> anyhow::Result<tracing::Dispatch>
where
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    let lines = tracing_subscriber::fmt()
        .with_env_filter(EnvFilter::try_new(&log.filter)?)
        .with_ansi(colours && log.format == LogFormat::Text)
        .with_writer(writer);
    Ok(match log.format {
        LogFormat::Text => lines.into(),
        LogFormat::Json => lines.json().flatten_event(true).with_current_span(false).with_span_list(false).into(),
    })
}
