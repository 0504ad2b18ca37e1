//! Takes a chain that is not whole as it is.

use clap::Args;
use serde_json::json;

use super::super::screen::Screen;
use super::verify::{called, open};
use crate::audit::{self, Trail};
use crate::config::Settings;

pub(super) const EXAMPLES: &str = "\
It works on the database that `serve` would use with these settings, and needs the master key. Look
first at what `audit verify` says, and find out how it came to that: what is accepted stays as it
is. `audit verify` goes on naming it, with who accepted it and why, and what changes later is found
as before.

Examples:
  mcp-gateway audit accept --chain acme --reason 'restored from the backup of May 3'";

/// Take a chain as it is.
#[derive(Debug, Args)]
pub(super) struct Accept {
    /// The records of this tenant; '' for those of none
    #[arg(long, value_name = "ID")]
    chain: String,
    /// How it came to what is wrong, for whoever reads it in years
    #[arg(long, value_name = "TEXT")]
    reason: String,
    /// Who says so [default: the user of this machine]
    #[arg(long, value_name = "NAME")]
    by: Option<String>,
    #[command(flatten)]
    settings: Settings,
}

pub(super) async fn run(accept: &Accept, screen: Screen) -> anyhow::Result<()> {
    let reason = accept.reason.trim();
    anyhow::ensure!(!reason.is_empty(), "say why with --reason: it is all that is known of it later");
    let (store, master) = open(&accept.settings).await?;
    let master = master.map_err(|error| error.context("only who has the master key can accept a chain"))?;
    let by = accept.by.clone().unwrap_or_else(user);
    // It has no journal: the record is written with what it is about.
    let trail = Trail::new(uuid::Uuid::now_v7(), accept.settings.audit.clone());
    let bar = screen.wait("records");
    let looked = |records| bar.set_message(format!("{records} records"));
    let accepted = audit::accept(&store, &master, &trail, &accept.chain, (&by, reason), looked).await;
    bar.finish_and_clear();
    store.close().await;
    let accepted = accepted?;
    let count = accepted.findings.len();
    screen.show(&json!({ "chain": accept.chain, "seq": accepted.seq, "findings": accepted.findings }), || {
        let chain = called(&accept.chain);
        if count == 0 {
            format!("{chain}: nothing is wrong, and nothing was accepted\n")
        } else {
            format!("{chain}: {count} findings were accepted, up to record {}\n", accepted.seq)
        }
    })?;
    Ok(())
}

/// Who this is, as far as the machine knows.
fn user() -> String {
    let name = ["USER", "LOGNAME"].iter().find_map(|name| std::env::var(name).ok());
    let name = name.unwrap_or_else(|| rustix::process::getuid().as_raw().to_string());
    format!("{name}@{}", rustix::system::uname().nodename().to_string_lossy())
}
