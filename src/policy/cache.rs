//! Decisions that were made by a set, by who asked and what about. A set never changes, so they hold as long as it does; another
//! set comes with an empty memory. Looking one up takes a lock for reading of one part in sixteen, and allocates nothing.

use std::sync::{Arc, PoisonError, RwLock};

use ahash::RandomState;
use hashbrown::HashTable;

use super::Thing;
use super::decide::Decided;
use crate::access::subject::Subject;
use crate::id::ServerId;

const PARTS: usize = 16;
/// How much one part remembers, bytes; a decision has some 200, and more where many rules decide.
const MOST: usize = 256 * 1_024;
/// What is called by a longer name is decided each time.
const LONGEST: usize = 512;

pub(super) struct Cache {
    parts: [RwLock<Part>; PARTS],
    hasher: RandomState,
}

/// Two generations, as [`Generations`](crate::reuse::generations::Generations) has them, bounded by weight and looked up without a key in
/// one piece.
#[derive(Default)]
struct Part {
    weight: usize,
    young: HashTable<Entry>,
    old: HashTable<Entry>,
}

struct Entry {
    hash: u64,
    shape: [u8; 32],
    server: ServerId,
    revision: i64,
    kind: &'static str,
    hints: u8,
    name: Box<str>,
    decided: Arc<Decided>,
}

impl Default for Cache {
    fn default() -> Self {
        Self { parts: std::array::from_fn(|_| RwLock::default()), hasher: RandomState::new() }
    }
}

impl Entry {
    fn is_of(&self, subject: &Subject, thing: &Thing<'_>) -> bool {
        self.shape == *subject.shape()
            && self.server == thing.place.id
            && self.revision == thing.place.revision
            && self.kind == thing.what.kind()
            && self.hints == hints(thing)
            && *self.name == *thing.what.name()
    }
}

impl Part {
    fn find(&self, hash: u64, subject: &Subject, thing: &Thing<'_>) -> Option<&Entry> {
        let is_it = |entry: &Entry| entry.hash == hash && entry.is_of(subject, thing);
        self.young.find(hash, is_it).or_else(|| self.old.find(hash, is_it))
    }

    fn insert(&mut self, entry: Entry) {
        let weight = size_of::<Entry>() + entry.name.len() + entry.decided.weight();
        if self.weight > 0 && self.weight + weight > MOST / 2 {
            (self.old, self.weight) = (std::mem::take(&mut self.young), 0);
        }
        self.weight += weight;
        self.young.insert_unique(entry.hash, entry, |entry| entry.hash);
    }
}

fn hints(thing: &Thing<'_>) -> u8 {
    thing.what.hints().map_or(0, super::Hints::bits)
}

impl Cache {
    fn hash(&self, subject: &Subject, thing: &Thing<'_>) -> u64 {
        let (place, what) = (&thing.place, &thing.what);
        self.hasher.hash_one((subject.shape(), place.id, place.revision, what.kind(), hints(thing), what.name()))
    }

    fn part(&self, hash: u64) -> &RwLock<Part> {
        // The lowest bits choose the place within a part.
        &self.parts[(hash >> 48) as usize % PARTS]
    }

    /// The decision, made by `make` at the first time.
    pub(super) fn get(&self, subject: &Subject, thing: &Thing<'_>, make: impl FnOnce() -> Decided) -> Arc<Decided> {
        if thing.what.name().len() > LONGEST {
            return Arc::new(make());
        }
        let hash = self.hash(subject, thing);
        let part = self.part(hash);
        {
            let known = part.read().unwrap_or_else(PoisonError::into_inner);
            if let Some(entry) = known.find(hash, subject, thing) {
                return entry.decided.clone();
            }
        }
        // With no lock held: two may decide the same at once, and come to the same.
        let decided = Arc::new(make());
        let entry = Entry {
            hash,
            shape: *subject.shape(),
            server: thing.place.id,
            revision: thing.place.revision,
            kind: thing.what.kind(),
            hints: hints(thing),
            name: thing.what.name().into(),
            decided: decided.clone(),
        };
        let mut known = part.write().unwrap_or_else(PoisonError::into_inner);
        if known.find(hash, subject, thing).is_none() {
            known.insert(entry);
        }
        decided
    }

    pub(super) fn len(&self) -> usize {
        let length = |part: &Part| part.young.len() + part.old.len();
        self.parts.iter().map(|part| length(&part.read().unwrap_or_else(PoisonError::into_inner))).sum()
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::super::{Hints, Place, RuleName, What};
    use super::*;
    use crate::access::{Memberships, Role, SessionType};
    use crate::id::TenantId;

    #[test]
    fn it_is_bounded_by_what_it_weighs_and_never_forgets_all_at_once() {
        let (tenant, client, memberships) =
            (TenantId::default_tenant(), Arc::from("cli"), Arc::new(Memberships::default()));
        let ada = Subject::new(&tenant, Uuid::nil(), None, Role::User, &client, SessionType::OAuth, &memberships);
        let name: RuleName = "rule".into();
        for (rules, count) in [(1, 40_000), (1_000, 2_000)] {
            let cache = Cache::default();
            let heavy = size_of::<RuleName>() * rules;
            for number in 0..count {
                let name_of_tool = format!("t{number}");
                let place = Place { id: ServerId(Uuid::nil()), revision: 1, slug: "s", tags: &[] };
                let thing = Thing { place, what: What::Tool(&name_of_tool, Hints::default()) };
                let make = || {
                    let mut decided = Decided::misnamed();
                    decided.rules = vec![name.clone(); rules];
                    decided
                };
                let made = cache.get(&ada, &thing, make);
                let again = cache.get(&ada, &thing, || unreachable!("it was made a moment ago"));
                assert!(Arc::ptr_eq(&made, &again));
                assert!(cache.len() * heavy <= PARTS * MOST, "{number}");
                assert!(number < 1_000 || cache.len() > 100, "{number}");
            }
            assert!(cache.len() < count / 2);
        }
    }
}
