//! What was learned of servers, kept over restarts: a gateway that comes back lists what it listed before, at once, and asks
//! again behind the scenes.

use std::sync::Arc;

use ahash::AHashMap;
use bytes::{BufMut as _, Bytes, BytesMut};
use time::OffsetDateTime;

use crate::app::App;
use crate::id::ServerId;
use crate::registry::catalog::{Catalog, Item, Kind};
use crate::registry::snapshot::{Entry, State};
use crate::store::catalogs::{CatalogKind, CatalogRow};
use crate::store::{Store, StoreError, micros};

/// Items as a JSON array.
pub fn array(items: &[Item]) -> Bytes {
    let mut out = BytesMut::with_capacity(2 + items.iter().map(|item| item.raw.len() + 1).sum::<usize>());
    out.put_u8(b'[');
    for (at, item) in items.iter().enumerate() {
        if at > 0 {
            out.put_u8(b',');
        }
        out.put_slice(&item.raw);
    }
    out.put_u8(b']');
    out.freeze()
}

fn stored(kind: Kind) -> CatalogKind {
    match kind {
        Kind::Tools => CatalogKind::Tools,
        Kind::Resources => CatalogKind::Resources,
        Kind::Templates => CatalogKind::Templates,
        Kind::Prompts => CatalogKind::Prompts,
    }
}

/// Every catalogue that an earlier process kept.
pub async fn recall(store: &Store) -> Result<AHashMap<ServerId, Catalog>, StoreError> {
    let mut all: AHashMap<ServerId, Catalog> = AHashMap::new();
    for row in store.catalogs_of_all_tenants().await? {
        if let Some(kind) = Kind::ALL.into_iter().find(|kind| stored(*kind).as_str() == row.kind) {
            all.entry(ServerId(row.server_id)).or_default().take_in(kind, &row.items);
        }
    }
    Ok(all)
}

/// Keeps every catalogue that changed since it was last kept, until the process stops.
pub async fn keep(app: App) {
    let mut changes = app.registry.changes();
    let mut kept: AHashMap<ServerId, Arc<Catalog>> = AHashMap::new();
    loop {
        tokio::select! {
            () = app.shutdown.cancelled() => return,
            changed = changes.changed() => if changed.is_err() { return },
        }
        let snapshot = app.registry.snapshot();
        for (_, tenant) in snapshot.tenants() {
            for entry in tenant.entries() {
                let id = entry.upstream.server.id;
                let same = kept.get(&id).is_some_and(|before| Arc::ptr_eq(before, &entry.catalog));
                if same || entry.state != State::Ready {
                    continue;
                }
                match write(&app.store, entry).await {
                    Ok(()) => {
                        kept.insert(id, entry.catalog.clone());
                    }
                    // It was removed in the meantime.
                    Err(StoreError::Missing) => {}
                    Err(error) => tracing::warn!(server = entry.slug(), "its catalogue could not be kept: {error}"),
                }
            }
        }
    }
}

async fn write(store: &Store, entry: &Entry) -> Result<(), StoreError> {
    let server = &entry.upstream.server;
    for kind in Kind::ALL {
        let row = CatalogRow {
            server_id: server.id.0,
            kind: stored(kind).as_str().to_owned(),
            items: array(entry.catalog.items(kind)).to_vec(),
            discovered_at: micros(OffsetDateTime::now_utc()),
            error: None,
        };
        store.put_catalog(&server.tenant, &row).await?;
    }
    Ok(())
}
