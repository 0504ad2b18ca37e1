//! A map that never holds more than so many networks. Who comes when it is full takes the place of the one that matters least of a
//! few picked at random: a flood from ever new addresses pushes out its own, which have done next to nothing each, and not who has
//! done much, or whose people are known.

use hashbrown::HashMap;
use ipnet::IpNet;

use super::window::Slot;

/// How many are looked at for one to forget.
const PICKED: usize = 8;

/// What is remembered of a network.
pub(super) trait Remembered: Default {
    /// How much would be lost; nothing: it may be forgotten.
    fn matters(&mut self, now: Slot) -> u32;
}

/// See the module.
#[derive(Debug)]
pub(super) struct Bounded<T> {
    most: usize,
    index: HashMap<IpNet, usize, ahash::RandomState>,
    entries: Vec<(IpNet, T)>,
    /// Any number but zero (Marsaglia, xorshift).
    dice: u64,
}

impl<T: Remembered> Bounded<T> {
    pub(super) fn new(most: usize) -> Self {
        let dice = rand::random::<u64>() | 1;
        Self { most: most.max(1), index: HashMap::default(), entries: Vec::new(), dice }
    }

    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    pub(super) fn get(&mut self, network: &IpNet) -> Option<&mut T> {
        self.index.get(network).map(|at| &mut self.entries[*at].1)
    }

    /// What is remembered of it, from now on if nothing was; and whether something that mattered had to be forgotten for it.
    pub(super) fn get_or_take_in(&mut self, network: IpNet, now: Slot) -> (&mut T, bool) {
        if let Some(at) = self.index.get(&network) {
            return (&mut self.entries[*at].1, false);
        }
        let mut shed = false;
        if self.entries.len() >= self.most {
            let (least, matters) = self.least(now);
            shed = matters > 0;
            self.forget(least);
        }
        self.index.insert(network, self.entries.len());
        self.entries.push((network, T::default()));
        let last = self.entries.len() - 1;
        (&mut self.entries[last].1, shed)
    }

    /// Forgets those that do not matter any more.
    pub(super) fn sweep(&mut self, now: Slot) {
        let mut at = 0;
        while at < self.entries.len() {
            if self.entries[at].1.matters(now) == 0 { self.forget(at) } else { at += 1 }
        }
        self.entries.shrink_to(self.entries.len() * 2);
        self.index.shrink_to(self.entries.len() * 2);
    }

    fn least(&mut self, now: Slot) -> (usize, u32) {
        let mut least = (0, u32::MAX);
        for _ in 0..PICKED {
            self.dice ^= self.dice << 13;
            self.dice ^= self.dice >> 7;
            self.dice ^= self.dice << 17;
            let at = usize::try_from(self.dice % self.entries.len() as u64).unwrap_or_default();
            let matters = self.entries[at].1.matters(now);
            if matters < least.1 {
                least = (at, matters);
            }
        }
        least
    }

    fn forget(&mut self, at: usize) {
        let (network, _) = self.entries.swap_remove(at);
        self.index.remove(&network);
        if let Some((moved, _)) = self.entries.get(at) {
            self.index.insert(*moved, at);
        }
    }
}
