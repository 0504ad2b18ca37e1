//! Which operations there were, told apart by all but their arguments and counted: what a changed set of rules is tried on before it
//! is in force. Noting one writes into memory; a job writes what came together, at most as much as there is room for.

use std::sync::{Mutex, PoisonError};

use ahash::{AHashMap, RandomState};
use hashbrown::HashTable;
use sha2::{Digest as _, Sha256};

use super::{Thing, What};
use crate::access::subject::Subject;
use crate::store::access_rules::{MOST_OBSERVED, ObservedRow};
use crate::store::{Store, StoreError};

const PARTS: usize = 16;
/// Most operations of one part that wait to be written. When there is no room, one of the tenant that has most gives way to one of a
/// tenant that has less; of further ones of that tenant only those are counted that wait already.
const MOST: usize = 512;
/// What is called by a longer name is not noted.
const LONGEST: usize = 1_024;
/// Rows that are written in one transaction.
const AT_ONCE: usize = 500;

/// See the module.
pub struct Observed {
    parts: [Mutex<Part>; PARTS],
    hasher: RandomState,
}

#[derive(Default)]
struct Part {
    rows: HashTable<(u64, ObservedRow)>,
    /// How many are of each tenant.
    of: AHashMap<Box<str>, usize>,
}

impl Part {
    fn insert(&mut self, hash: u64, row: ObservedRow) {
        if self.rows.len() >= MOST && !self.make_room(&row.tenant_id) {
            return;
        }
        *self.of.entry(row.tenant_id.as_str().into()).or_default() += 1;
        self.rows.insert_unique(hash, (hash, row), |(hash, _)| *hash);
    }

    /// Forgets the least of the tenant that has most, if that is more than `tenant` will have.
    fn make_room(&mut self, tenant: &str) -> bool {
        let own = self.of.get(tenant).copied().unwrap_or_default();
        let Some((greatest, most)) = self.of.iter().max_by_key(|(_, count)| **count) else { return false };
        if own + 1 >= *most {
            return false;
        }
        let of_it = self.rows.iter().filter(|(_, row)| *row.tenant_id == **greatest);
        let Some(least) = of_it.min_by_key(|(_, row)| (row.count, row.last_at)).map(|(hash, _)| *hash) else {
            return false;
        };
        let Ok(found) = self.rows.find_entry(least, |(hash, _)| *hash == least) else { return false };
        let ((_, gone), _) = found.remove();
        if let Some(count) = self.of.get_mut(gone.tenant_id.as_str()) {
            *count -= 1;
        }
        true
    }
}

impl Default for Observed {
    fn default() -> Self {
        Self { parts: std::array::from_fn(|_| Mutex::default()), hasher: RandomState::new() }
    }
}

fn word(allowed: bool) -> &'static str {
    if allowed { "allowed" } else { "denied" }
}

impl Observed {
    /// Notes that it was decided about a call, at `now` (microseconds since 1970).
    pub fn note(&self, subject: &Subject, thing: &Thing<'_>, allowed: bool, now: i64) {
        let (slug, kind, name) = (thing.place.slug, thing.what.kind(), thing.what.name());
        if name.len() > LONGEST || matches!(thing.what, What::Server) {
            return;
        }
        let hash = self.hasher.hash_one((subject.tenant().as_str(), subject.shape(), slug, kind, name, allowed));
        let mut part = self.parts[(hash >> 48) as usize % PARTS].lock().unwrap_or_else(PoisonError::into_inner);
        // That two differ and have the same hash is one in billions, and costs a count.
        if let Some((_, row)) = part.rows.find_mut(hash, |(other, _)| *other == hash) {
            row.count += 1;
            row.last_at = row.last_at.max(now);
        } else {
            part.insert(hash, row_of(subject, thing, allowed, now));
        }
    }

    /// Writes what came together. What cannot be written is lost: it is a sample to try rules on, and no proof of anything.
    pub async fn flush(&self, store: &Store) -> Result<(), StoreError> {
        let mut rows: Vec<ObservedRow> = Vec::new();
        for part in &self.parts {
            let taken = std::mem::take(&mut *part.lock().unwrap_or_else(PoisonError::into_inner));
            rows.extend(taken.rows.into_iter().map(|(_, row)| row));
        }
        // In one order, so that two processes that write the same rows do not wait for each other.
        rows.sort_by(|a, b| a.digest.cmp(&b.digest));
        for some in rows.chunks(AT_ONCE) {
            store.observe(some).await?;
        }
        let mut tenants: Vec<String> = rows.into_iter().map(|row| row.tenant_id).collect();
        tenants.sort_unstable();
        tenants.dedup();
        for tenant in tenants {
            store.trim_observed(&tenant, MOST_OBSERVED).await?;
        }
        Ok(())
    }
}

fn row_of(subject: &Subject, thing: &Thing<'_>, allowed: bool, now: i64) -> ObservedRow {
    let row = ObservedRow {
        digest: Vec::new(),
        tenant_id: subject.tenant().as_str().to_owned(),
        user_id: subject.user(),
        role: subject.role().as_str().to_owned(),
        client: subject.client().to_owned(),
        credential: subject.credential().to_owned(),
        server: thing.place.slug.to_owned(),
        kind: thing.what.kind().to_owned(),
        name: thing.what.name().to_owned(),
        decision: word(allowed).to_owned(),
        count: 1,
        last_at: now,
    };
    let user = row.user_id.to_string();
    let mut digest = Sha256::new();
    for part in [
        &row.tenant_id,
        &user,
        &row.role,
        &row.client,
        &row.credential,
        &row.server,
        &row.kind,
        &row.name,
        &row.decision,
    ] {
        digest.update((part.len() as u64).to_le_bytes());
        digest.update(part);
    }
    ObservedRow { digest: digest.finalize().to_vec(), ..row }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use uuid::Uuid;

    use super::*;
    use crate::access::{Memberships, Role, SessionType};
    use crate::id::{ServerId, TenantId};
    use crate::policy::{Hints, Place};

    #[test]
    fn a_tenant_pushes_nobody_out_and_the_whole_is_bounded() {
        let observed = Observed::default();
        let note = |tenant: &str, number: usize| {
            let tenant = TenantId::parse(tenant).unwrap();
            let memberships = Arc::new(Memberships::default());
            let client = Arc::from("cli");
            let somebody =
                Subject::new(&tenant, Uuid::nil(), None, Role::User, &client, SessionType::OAuth, &memberships);
            let (name, place) =
                (format!("t{number}"), Place { id: ServerId(Uuid::nil()), revision: 1, slug: "s", tags: &[] });
            observed.note(&somebody, &Thing { place, what: What::Tool(&name, Hints::default()) }, true, 1);
        };
        let count = |tenant: &str| -> usize {
            let of = |part: &Mutex<Part>| {
                let part = part.lock().unwrap();
                let rows = part.rows.iter().filter(|(_, row)| row.tenant_id == tenant).count();
                assert_eq!(part.of.get(tenant).copied().unwrap_or_default(), rows);
                assert!(part.rows.len() <= MOST);
                rows
            };
            observed.parts.iter().map(of).sum()
        };
        for number in 0..20_000 {
            note("loud", number);
        }
        assert_eq!(count("loud"), PARTS * MOST);
        for number in 0..1_000 {
            note("quiet", number);
        }
        assert_eq!((count("quiet"), count("loud")), (1_000, PARTS * MOST - 1_000));
        for number in 20_000..40_000 {
            note("loud", number);
        }
        assert_eq!(count("quiet"), 1_000, "who has least loses nothing");
        for number in 1_000..20_000 {
            note("quiet", number);
        }
        assert!(count("loud").abs_diff(count("quiet")) <= 2 * PARTS, "both have half at last");
    }
}
