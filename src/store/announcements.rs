//! Changes by other processes, heard of when they happen: PostgreSQL's NOTIFY. An announcement says only that the registry's
//! revision moved; one that is lost, as over a connection that broke, is made good by looking.

use sqlx::postgres::{PgListener, PgPoolOptions};

use super::{Db, Store, StoreError};

/// Announces a change of the registry; delivered when the transaction commits. Channels are of the whole database: who uses
/// another schema of it looks in vain, which is cheap.
pub(super) const ANNOUNCE: &str = "SELECT pg_notify('mcp_gateway_registry', '')";
const CHANNEL: &str = "mcp_gateway_registry";

/// Announcements from now on, over a connection of their own.
pub struct Announcements(PgListener);

impl Announcements {
    /// Waits until something was announced, or may have been while the connection was down.
    pub async fn next(&mut self) -> Result<(), StoreError> {
        self.0.try_recv().await?;
        // One look serves all that have come.
        while self.0.next_buffered().is_some() {}
        Ok(())
    }
}

impl Store {
    /// Announcements of changes; none on SQLite, whose other processes can only be looked for.
    pub async fn announcements(&self) -> Result<Option<Announcements>, StoreError> {
        let Db::Postgres(pool) = &self.db else { return Ok(None) };
        let options = (*pool.connect_options()).clone();
        let own = PgPoolOptions::new().max_connections(1).max_lifetime(None).idle_timeout(None);
        let mut listener = PgListener::connect_with(&own.connect_with(options).await?).await?;
        listener.listen(CHANNEL).await?;
        Ok(Some(Announcements(listener)))
    }
}
