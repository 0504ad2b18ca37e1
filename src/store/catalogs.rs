//! What servers were found to offer, and what was learned of the protocol they speak. Items are kept byte for byte.

use uuid::Uuid;

use super::{Store, StoreError};
use crate::id::{ServerId, TenantId};

/// What a catalogue lists.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum CatalogKind {
    /// `tools/list`.
    Tools,
    /// `resources/list`.
    Resources,
    /// `resources/templates/list`.
    Templates,
    /// `prompts/list`.
    Prompts,
}

impl CatalogKind {
    /// Each of them.
    pub const ALL: [Self; 4] = [Self::Tools, Self::Resources, Self::Templates, Self::Prompts];

    /// The stored name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Tools => "tools",
            Self::Resources => "resources",
            Self::Templates => "templates",
            Self::Prompts => "prompts",
        }
    }

    /// The kind of that name.
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == text)
    }
}

row! {
    /// A row of `catalogs`.
    #[derive(Debug, Clone, PartialEq, Eq)]
    pub struct CatalogRow {
        /// Of which server.
        pub server_id: Uuid,
        /// See [`CatalogKind::as_str`].
        pub kind: String,
        /// A JSON array as the server sent it.
        pub items: Vec<u8>,
        /// Microseconds since 1970.
        pub discovered_at: i64,
    }
}

row! {
    /// A row of `upstream_memory`.
    #[derive(Debug, Clone, PartialEq, Eq)]
    pub struct MemoryRow {
        /// Of which server.
        pub server_id: Uuid,
        /// `legacy` or `modern`.
        pub era: String,
        /// Protocol version, `2025-11-25`.
        pub version: String,
        /// The answer to `server/discover`, as sent.
        pub discover_result: Option<Vec<u8>>,
        /// The answer to `initialize`, as sent; empty when the server was asked for a handshake and has none.
        pub initialize_result: Option<Vec<u8>>,
        /// Microseconds since 1970.
        pub learned_at: i64,
    }
}

impl Store {
    /// Keeps one list of a server, instead of the one before. `Missing` when the tenant has no such server.
    pub async fn put_catalog(&self, tenant: &TenantId, row: &CatalogRow) -> Result<(), StoreError> {
        let text = "INSERT INTO catalogs (tenant_id, server_id, kind, items, discovered_at)
            VALUES ($1, $2, $3, $4, $5)
            ON CONFLICT (server_id, kind) DO UPDATE
            SET items = excluded.items, discovered_at = excluded.discovered_at
            WHERE catalogs.tenant_id = excluded.tenant_id";
        let done = on!(write self, tx => {
            sqlx::query(text)
                .bind(tenant.as_str())
                .bind(row.server_id)
                .bind(&row.kind)
                .bind(row.items.as_slice())
                .bind(row.discovered_at)
                .execute(&mut *tx)
                .await?
                .rows_affected()
        });
        if done == 0 { Err(StoreError::Missing) } else { Ok(()) }
    }

    /// The lists of one server.
    pub async fn catalogs(&self, tenant: &TenantId, server: ServerId) -> Result<Vec<CatalogRow>, StoreError> {
        let text = "SELECT server_id, kind, items, discovered_at FROM catalogs
            WHERE tenant_id = $1 AND server_id = $2 ORDER BY kind";
        Ok(on!(read self, db => sqlx::query_as(text).bind(tenant.as_str()).bind(server.0).fetch_all(db).await?))
    }

    /// Every list of every tenant: for the snapshot only.
    pub async fn catalogs_of_all_tenants(&self) -> Result<Vec<CatalogRow>, StoreError> {
        let text = "SELECT server_id, kind, items, discovered_at FROM catalogs ORDER BY server_id, kind";
        Ok(on!(read self, db => sqlx::query_as(text).fetch_all(db).await?))
    }

    /// Remembers what a server speaks. `Missing` when the tenant has no such server.
    pub async fn put_memory(&self, tenant: &TenantId, row: &MemoryRow) -> Result<(), StoreError> {
        let text = "INSERT INTO upstream_memory
            (tenant_id, server_id, era, version, discover_result, initialize_result, learned_at)
            VALUES ($1, $2, $3, $4, $5, $6, $7)
            ON CONFLICT (server_id) DO UPDATE
            SET era = excluded.era, version = excluded.version, discover_result = excluded.discover_result,
                initialize_result = excluded.initialize_result, learned_at = excluded.learned_at
            WHERE upstream_memory.tenant_id = excluded.tenant_id";
        let done = on!(write self, tx => {
            sqlx::query(text)
                .bind(tenant.as_str())
                .bind(row.server_id)
                .bind(&row.era)
                .bind(&row.version)
                .bind(row.discover_result.as_deref())
                .bind(row.initialize_result.as_deref())
                .bind(row.learned_at)
                .execute(&mut *tx)
                .await?
                .rows_affected()
        });
        if done == 0 { Err(StoreError::Missing) } else { Ok(()) }
    }

    /// Forgets what a server speaks, so that it is probed again.
    pub async fn forget_memory(&self, tenant: &TenantId, server: ServerId) -> Result<(), StoreError> {
        let text = "DELETE FROM upstream_memory WHERE tenant_id = $1 AND server_id = $2";
        on!(write self, tx => { sqlx::query(text).bind(tenant.as_str()).bind(server.0).execute(&mut *tx).await?; });
        Ok(())
    }

    /// What every server of every tenant speaks: for the snapshot only.
    pub async fn memory_of_all_tenants(&self) -> Result<Vec<MemoryRow>, StoreError> {
        let text =
            "SELECT server_id, era, version, discover_result, initialize_result, learned_at FROM upstream_memory";
        Ok(on!(read self, db => sqlx::query_as(text).fetch_all(db).await?))
    }
}
