//! Whether the trail is whole, seen in the database itself.

use std::fmt::Write as _;

use clap::Args;
use serde_json::json;

use super::super::Verdict;
use super::super::screen::{Screen, note};
use crate::app::preflight;
use crate::audit;
use crate::config::Settings;
use crate::store::Store;

pub(super) const EXAMPLES: &str = "\
It reads the database that `serve` would use with these settings, and changes no record. With the
master key it is seen too that the keys which signed the trail are this gateway's own.

Examples:
  mcp-gateway audit verify
  mcp-gateway audit verify --database-url postgres://audit@db/gateway --tenant acme";

/// See whether the trail is whole.
#[derive(Debug, Args)]
pub(super) struct Verify {
    /// Only the records of this tenant; '' for those of none
    #[arg(long, value_name = "ID")]
    tenant: Option<String>,
    #[command(flatten)]
    settings: Settings,
}

pub(super) async fn run(verify: &Verify, screen: Screen) -> anyhow::Result<Verdict> {
    let settings = &verify.settings;
    let seen = preflight::database(settings).await?;
    let sealing = preflight::master_key(settings, Some(&seen)).await?;
    // Nothing is made here: a key that is not there is none.
    let master = if sealing.current.is_ok() { Some(sealing.sealer()?) } else { None };
    if master.is_none() {
        note("there is no master key here: whose keys signed the trail is not looked at");
    }
    let store = Store::connect(preflight::database_url(settings).expose(), 2).await?;
    let bar = screen.wait("records");
    let looked = |records| bar.set_message(format!("{records} records"));
    let verified = audit::verify(&store, master.as_ref(), verify.tenant.as_deref(), looked).await?;
    bar.finish_and_clear();
    store.close().await;
    screen.show(&json!(verified), || {
        let mut text = String::new();
        for finding in &verified.findings {
            let chain = if finding.chain.is_empty() { "(no tenant)" } else { &finding.chain };
            _ = writeln!(text, "{chain}: {}", finding.what);
        }
        let whole = if verified.findings.is_empty() { "the trail is whole" } else { "the trail is NOT whole" };
        text + &format!("{whole}: {} records in {} chains\n", verified.records, verified.chains)
    })?;
    Ok(if verified.findings.is_empty() { Verdict::Fine } else { Verdict::Bad })
}
