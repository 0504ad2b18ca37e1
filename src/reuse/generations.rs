//! What was found out before, within a bound. What comes in goes to a young generation; when that has grown to half of the bound it
//! becomes the old one, and the one before it is forgotten. So nothing is forgotten before as much again has come in, and never all
//! at once.

use std::borrow::Borrow;
use std::hash::Hash;

use ahash::AHashMap;

/// See the module. Keys are hashed by a hasher that nobody outside of the process can know.
#[derive(Debug)]
pub struct Generations<K, V> {
    most: usize,
    young: AHashMap<K, V>,
    old: AHashMap<K, V>,
}

impl<K: Hash + Eq, V> Generations<K, V> {
    /// Holds at most so many, and never less than one.
    pub fn new(most: usize) -> Self {
        Self { most, young: AHashMap::new(), old: AHashMap::new() }
    }

    /// What is remembered of this.
    pub fn get<Q: Hash + Eq + ?Sized>(&self, key: &Q) -> Option<&V>
    where
        K: Borrow<Q>,
    {
        self.young.get(key).or_else(|| self.old.get(key))
    }

    /// Remembers something.
    pub fn insert(&mut self, key: K, value: V) {
        if self.young.len() >= (self.most / 2).max(1) {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(key, value);
    }

    /// How many are remembered.
    pub fn len(&self) -> usize {
        self.young.len() + self.old.len()
    }

    /// Whether nothing is.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_bounded_and_the_latest_half_is_always_there() {
        let mut kept = Generations::new(100);
        for number in 0..1_000_usize {
            kept.insert(number, number);
            assert!(kept.len() <= 100, "{number}");
            for lately in number.saturating_sub(49)..=number {
                assert_eq!(kept.get(&lately), Some(&lately), "{number}");
            }
        }
        assert_eq!(kept.get(&0), None);
        let mut least = Generations::new(0);
        least.insert(1, 1);
        assert_eq!(least.get(&1), Some(&1));
    }
}
