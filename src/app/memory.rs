//! What was learned of servers, kept over restarts: a gateway that comes back lists what it listed before, at once, and speaks to
//! servers what it spoke before; it asks again behind the scenes.

use std::sync::Arc;

use ahash::AHashMap;
use bytes::{BufMut as _, Bytes, BytesMut};
use time::OffsetDateTime;

use crate::app::App;
use crate::id::ServerId;
use crate::protocol::era::LEGACY;
use crate::registry::catalog::{Catalog, Item, Kind};
use crate::registry::live::Recalled;
use crate::registry::model::Server;
use crate::registry::snapshot::{Entry, State};
use crate::store::catalogs::{CatalogKind, CatalogRow, MemoryRow};
use crate::store::{Store, StoreError, micros};
use crate::upstream::Transport;
use crate::upstream::peer::Peer;

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

/// Everything that an earlier process kept of these servers.
pub async fn recall(store: &Store, servers: &[Server]) -> Result<AHashMap<ServerId, Recalled>, StoreError> {
    let mut all: AHashMap<ServerId, Recalled> = AHashMap::new();
    for row in store.catalogs_of_all_tenants().await? {
        if let Some(kind) = Kind::ALL.into_iter().find(|kind| stored(*kind).as_str() == row.kind) {
            all.entry(ServerId(row.server_id)).or_default().catalog.take_in(kind, &row.items);
        }
    }
    let changed: AHashMap<ServerId, i64> =
        servers.iter().map(|server| (server.id, micros(server.updated_at))).collect();
    for row in store.memory_of_all_tenants().await? {
        let id = ServerId(row.server_id);
        // What was learned before the last change may be of another address.
        if changed.get(&id).is_some_and(|changed| row.learned_at >= *changed) {
            all.entry(id).or_default().peer =
                Peer::recalled(row.discover_result.as_deref(), row.initialize_result.as_deref());
        }
    }
    Ok(all)
}

/// What is kept of a server: its catalogue, and what it speaks, as of a revision of its description.
#[derive(Default)]
struct Kept {
    catalog: Option<Arc<Catalog>>,
    peer: Option<(i64, Option<Arc<Peer>>)>,
}

/// Keeps what changed since it was last kept, until the process stops.
pub async fn keep(app: App) {
    let mut changes = app.registry.changes();
    let mut kept: AHashMap<ServerId, Kept> = AHashMap::new();
    loop {
        tokio::select! {
            () = app.shutdown.cancelled() => return,
            changed = changes.changed() => if changed.is_err() { return },
            () = app.registry.ground.learned.notified() => {}
        }
        let snapshot = app.registry.snapshot();
        let mut before = std::mem::take(&mut kept);
        for entry in snapshot.entries() {
            let id = entry.upstream.server.id;
            let known = kept.entry(id).or_insert(before.remove(&id).unwrap_or_default());
            match keep_one(&app.store, entry, known).await {
                // It was removed in the meantime.
                Ok(()) | Err(StoreError::Missing) => {}
                Err(error) => tracing::warn!(server = entry.slug(), "what is known of it could not be kept: {error}"),
            }
        }
    }
}

async fn keep_one(store: &Store, entry: &Entry, kept: &mut Kept) -> Result<(), StoreError> {
    let same = kept.catalog.as_ref().is_some_and(|before| Arc::ptr_eq(before, &entry.catalog));
    if !same && entry.state == State::Ready {
        write(store, entry).await?;
        kept.catalog = Some(entry.catalog.clone());
    }
    // A child and a stream of the oldest transport tell in a handshake of their own, which nothing spares them.
    if !matches!(entry.upstream.transport, Transport::Http(_)) {
        return Ok(());
    }
    let server = &entry.upstream.server;
    let known = entry.upstream.known();
    let same = match (&kept.peer, &known) {
        (Some((revision, Some(before))), Some(known)) => *revision == server.revision && Arc::ptr_eq(before, known),
        (Some((_, None)), None) => true,
        _ => false,
    };
    if !same {
        match &known {
            Some(peer) => store.put_memory(&server.tenant, &row_of(server.id, peer)).await?,
            None => store.forget_memory(&server.tenant, server.id).await?,
        }
        kept.peer = Some((server.revision, known));
    }
    Ok(())
}

fn row_of(id: ServerId, peer: &Peer) -> MemoryRow {
    let version = peer.version().unwrap_or(LEGACY);
    MemoryRow {
        server_id: id.0,
        era: version.era().label().to_owned(),
        version: version.as_str().to_owned(),
        discover_result: peer.modern.as_ref().map(|result| result.to_vec()),
        initialize_result: match &peer.legacy {
            Some(legacy) => Some(legacy.result.to_vec()),
            None => peer.asked.then(Vec::new),
        },
        learned_at: micros(OffsetDateTime::now_utc()),
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
        };
        store.put_catalog(&server.tenant, &row).await?;
    }
    Ok(())
}
