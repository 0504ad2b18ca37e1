//! Changes by other processes, heard of when they happen: PostgreSQL's NOTIFY. An announcement says only that the registry's
//! revision moved, that grants ended or that bans changed; one that is lost, as over a connection that broke, is made good by looking.

use sqlx::postgres::{PgListener, PgPoolOptions};

use super::{Db, Store, StoreError};

/// Announces a change of the registry; delivered when the transaction commits. Channels are of the whole database: who uses
/// another schema of it looks in vain, which is cheap.
pub(super) const ANNOUNCE: &str = "SELECT pg_notify('mcp_gateway_registry', '')";
const CHANNEL: &str = "mcp_gateway_registry";
const ENDS: &str = "mcp_gateway_ends";
const BANS: &str = "mcp_gateway_bans";
/// Announces that bans changed.
pub(super) const ANNOUNCE_BANS: &str = "SELECT pg_notify('mcp_gateway_bans', '')";

/// What was announced, or may have been while the connection was down.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Heard {
    /// The registry's revision moved.
    pub registry: bool,
    /// Grants ended.
    pub ends: bool,
    /// Bans began or changed.
    pub bans: bool,
}

impl Heard {
    /// Whatever there is.
    pub const ALL: Self = Self { registry: true, ends: true, bans: true };
}

/// Announcements from now on, over a connection of their own.
pub struct Announcements(PgListener);

impl Announcements {
    /// Waits until something was announced, or may have been while the connection was down.
    pub async fn next(&mut self) -> Result<Heard, StoreError> {
        let Some(first) = self.0.try_recv().await? else { return Ok(Heard::ALL) };
        let mut heard = Heard::default();
        let mut hear = |channel: &str| match channel {
            ENDS => heard.ends = true,
            BANS => heard.bans = true,
            _ => heard.registry = true,
        };
        hear(first.channel());
        // One look serves all that have come.
        while let Some(next) = self.0.next_buffered() {
            hear(next.channel());
        }
        Ok(heard)
    }
}

impl Store {
    /// Announcements of changes; none on SQLite, whose other processes can only be looked for.
    pub async fn announcements(&self) -> Result<Option<Announcements>, StoreError> {
        let Db::Postgres(pool) = &self.db else { return Ok(None) };
        let options = (*pool.connect_options()).clone();
        let own = PgPoolOptions::new().max_connections(1).max_lifetime(None).idle_timeout(None);
        let mut listener = PgListener::connect_with(&own.connect_with(options).await?).await?;
        listener.listen_all([CHANNEL, ENDS, BANS]).await?;
        Ok(Some(Announcements(listener)))
    }

    /// Tells other processes that grants ended, if any did. It is told after the fact, and who does not hear it finds the ends
    /// by looking: that it fails is no failure of what ended them.
    pub(super) async fn announce_ends(&self, count: usize) {
        let Db::Postgres(pool) = &self.db else { return };
        if count > 0
            && let Err(error) = sqlx::query("SELECT pg_notify($1, '')").bind(ENDS).execute(pool).await
        {
            tracing::debug!("the end of grants is not announced: {error}");
        }
    }
}
