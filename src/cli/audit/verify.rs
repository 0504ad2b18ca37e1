//! Whether the trail is whole, seen in the database itself.

use std::fmt::Write as _;

use clap::Args;
use serde_json::json;

use super::super::Verdict;
use super::super::screen::{Screen, clean, note};
use crate::app::preflight;
use crate::audit::{self, Verified};
use crate::config::Settings;
use crate::crypto::Sealer;
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
    /// Only the records of this tenant, and those of none; '' for these alone
    #[arg(long, value_name = "ID")]
    tenant: Option<String>,
    #[command(flatten)]
    settings: Settings,
}

/// The database that these settings name, and the master key, if it is there; nothing is made.
pub(super) async fn open(settings: &Settings) -> anyhow::Result<(Store, anyhow::Result<Sealer>)> {
    let seen = preflight::database(settings).await?;
    let sealing = preflight::master_key(settings, Some(&seen)).await?;
    let master = match &sealing.current {
        Ok(_) => Ok(sealing.sealer()?),
        Err(_) => Err(anyhow::anyhow!("there is no master key here")),
    };
    let store = Store::connect(preflight::database_url(settings).expose(), 2).await?;
    Ok((store, master))
}

pub(super) async fn run(verify: &Verify, screen: Screen) -> anyhow::Result<Verdict> {
    let (store, master) = open(&verify.settings).await?;
    let master = master.ok();
    if master.is_none() {
        note("there is no master key here: whose keys signed the trail is not looked at");
    }
    let bar = screen.wait("records");
    let looked = |records| bar.set_message(format!("{records} records"));
    let verified = audit::verify(&store, master.as_ref(), verify.tenant.as_deref(), looked).await?;
    bar.finish_and_clear();
    store.close().await;
    screen.show(&json!(verified), || text(&verified))?;
    Ok(if verified.findings.is_empty() { Verdict::Fine } else { Verdict::Bad })
}

/// The name of a chain as it is shown: who can write the database can call one anything.
pub(super) fn called(chain: &str) -> String {
    if chain.is_empty() { "(no tenant)".to_owned() } else { clean(chain) }
}

fn text(verified: &Verified) -> String {
    let mut text = String::new();
    for finding in &verified.findings {
        _ = writeln!(text, "{}: {}", called(&finding.chain), clean(&finding.what));
    }
    for taken in &verified.accepted {
        let (chain, by, reason) = (called(&taken.chain), clean(&taken.author), clean(&taken.reason));
        for finding in &taken.findings {
            let what = clean(&finding.what);
            _ = writeln!(text, "{chain}: {what}; accepted by {by}, up to record {}, because: {reason}", taken.seq);
        }
    }
    let whole = match (verified.findings.is_empty(), verified.accepted.is_empty()) {
        (true, true) => "the trail is whole",
        (true, false) => "the trail is whole but for what was accepted",
        (false, _) => "the trail is NOT whole",
    };
    text + &format!("{whole}: {} records in {} chains\n", verified.records, verified.chains)
}
