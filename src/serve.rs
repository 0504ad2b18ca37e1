//! Placeholder of the server's start.

use std::net::SocketAddr;

use crate::config::Settings;
use crate::secret::Secret;

/// A server that runs.
#[derive(Debug)]
pub struct Running {
    /// Where it listens.
    pub address: SocketAddr,
    /// The first administrator's key, when this start made it.
    pub first_key: Option<Secret>,
}

impl Running {
    /// Returns when it has stopped.
    #[expect(clippy::unused_async, reason = "placeholder")]
    pub async fn stopped(self) -> anyhow::Result<()> {
        Ok(())
    }
}

/// Placeholder.
#[expect(clippy::unused_async, reason = "placeholder")]
pub async fn start(_settings: Settings) -> anyhow::Result<Running> {
    anyhow::bail!("the server is not part of this build")
}

/// Placeholder.
pub async fn run(settings: Settings) -> anyhow::Result<()> {
    start(settings).await?.stopped().await
}
