//! What those who share a channel want of its server: resources they watch, and what they want logged. The server knows one
//! client only, so it is told the sum: a resource is subscribed to by the first who watches it and given up by the last, and
//! the level is that of whoever wants to hear most. A fresh channel is told everything again.
//!
//! This is bookkeeping; `wish` does the telling. A holder is a session, or a listener of an era without sessions; whoever
//! leaves is forgotten by [`Share::leave`], which its guard or the end of its session calls.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use ahash::{AHashMap, AHashSet};
use tokio_util::sync::DropGuard;

use crate::protocol::level::Level;

/// Who wants something.
pub type Holder = Arc<str>;

/// Which channel of a server: that of a session or a user, or the one that all share.
pub type ShareKey = Option<Arc<str>>;

/// What is wanted over one channel. The lock is held until a message that says a change is on its way, so that none overtakes
/// another.
pub type Shared = Arc<tokio::sync::Mutex<Share>>;

/// What is wanted over all channels of one server.
#[derive(Default)]
pub struct Wanted(Mutex<AHashMap<ShareKey, Shared>>);

/// What is wanted over one channel.
#[derive(Default)]
pub struct Share {
    watched: AHashMap<Box<str>, Watched>,
    levels: AHashMap<Holder, Level>,
    /// The level that the server was told last.
    told: Option<Level>,
    /// Keeps a channel open, and opens it anew, as long as something is watched.
    pub sitting: Option<DropGuard>,
}

#[derive(Default)]
struct Watched {
    by: AHashSet<Holder>,
    /// Whether the server has agreed.
    agreed: bool,
}

impl Wanted {
    fn lock(&self) -> MutexGuard<'_, AHashMap<ShareKey, Shared>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is wanted over this channel.
    pub fn share(&self, key: ShareKey) -> Shared {
        self.lock().entry(key).or_default().clone()
    }

    /// The channels over which this holder may want something; `private` where each session has its own.
    pub fn shares_of(&self, holder: &Holder, private: bool) -> Vec<(ShareKey, Shared)> {
        let shares = self.lock();
        if private {
            let keys = [None, Some(holder.clone())];
            return keys.into_iter().filter_map(|key| Some((key.clone(), shares.get(&key)?.clone()))).collect();
        }
        shares.iter().map(|(key, share)| (key.clone(), share.clone())).collect()
    }

    /// Forgets the channel if nothing is wanted over it.
    pub fn tidy(&self, key: &ShareKey) {
        let mut shares = self.lock();
        // One that somebody holds may be about to be used.
        if shares.get_mut(key).and_then(Arc::get_mut).is_some_and(|share| share.get_mut().is_empty()) {
            shares.remove(key);
        }
    }

    /// Forgets everything.
    pub fn clear(&self) {
        self.lock().clear();
    }
}

impl Share {
    /// `holder` watches a resource; whether the server must be asked for it.
    pub fn watch(&mut self, uri: &str, holder: &Holder) -> bool {
        let watched = self.watched.entry(uri.into()).or_default();
        watched.by.insert(holder.clone());
        !watched.agreed
    }

    /// The server was asked for it, and has agreed or has not.
    pub fn agreed(&mut self, uri: &str, holder: &Holder, agreed: bool) {
        if !agreed {
            self.unwatch(uri, holder);
        } else if let Some(watched) = self.watched.get_mut(uri) {
            watched.agreed = true;
        }
    }

    /// `holder` watches a resource no more; whether nobody does, and the server is to be told.
    pub fn unwatch(&mut self, uri: &str, holder: &Holder) -> bool {
        let Some(watched) = self.watched.get_mut(uri) else { return true };
        watched.by.remove(holder);
        let last = watched.by.is_empty();
        if last {
            self.watched.remove(uri);
        }
        if self.watched.is_empty() {
            self.sitting = None;
        }
        last
    }

    /// `holder` wants this logged, and what is more severe; the level that the server is to be told, if it is another one now.
    pub fn set_level(&mut self, holder: &Holder, level: Level) -> Option<Level> {
        self.levels.insert(holder.clone(), level);
        self.changed_level()
    }

    /// The server was told a level and does not want to know.
    pub fn declined_level(&mut self, holder: &Holder) {
        self.levels.remove(holder);
        self.told = None;
    }

    fn changed_level(&mut self) -> Option<Level> {
        let level = self.levels.values().min().copied()?;
        (self.told.replace(level) != Some(level)).then_some(level)
    }

    /// `holder` is gone: the resources that nobody watches any more, and the level to be told.
    pub fn leave(&mut self, holder: &Holder) -> (Vec<Box<str>>, Option<Level>) {
        let held = self.watched.iter().filter(|(_, watched)| watched.by.contains(holder));
        let held: Vec<Box<str>> = held.map(|(uri, _)| uri.clone()).collect();
        let given_up = held.into_iter().filter(|uri| self.unwatch(uri, holder)).collect();
        let level = self.levels.remove(holder).and_then(|_| self.changed_level());
        (given_up, level)
    }

    /// What a fresh channel is to be told.
    pub fn everything(&mut self) -> (Vec<Box<str>>, Option<Level>) {
        self.told = None;
        (self.watched.keys().cloned().collect(), self.changed_level())
    }

    /// Whether nothing is wanted.
    pub fn is_empty(&self) -> bool {
        self.watched.is_empty() && self.levels.is_empty()
    }

    /// Whether anything is watched.
    pub fn watches(&self) -> bool {
        !self.watched.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn level(name: &str) -> Level {
        Level::parse(name).unwrap()
    }

    #[test]
    fn the_first_asks_and_the_last_gives_up() {
        let (mut share, ada, bob): (Share, Holder, Holder) = (Share::default(), "ada".into(), "bob".into());
        assert!(share.watch("x", &ada));
        assert!(share.watch("x", &bob), "nobody knows yet whether the server agrees");
        share.agreed("x", &ada, true);
        assert!(!share.watch("x", &bob));
        assert!(!share.unwatch("x", &bob));
        assert!(!share.watch("x", &bob));
        assert!(!share.unwatch("x", &ada));
        assert!(share.unwatch("x", &bob));
        assert!(share.is_empty());
        assert!(share.unwatch("x", &bob), "the server itself says what it thinks of that");
    }

    #[test]
    fn what_the_server_declines_is_held_by_nobody() {
        let (mut share, ada): (Share, Holder) = (Share::default(), "ada".into());
        share.watch("x", &ada);
        share.agreed("x", &ada, false);
        share.set_level(&ada, level("info"));
        share.declined_level(&ada);
        assert!(share.is_empty());
    }

    #[test]
    fn the_level_is_that_of_who_wants_most() {
        let (mut share, ada, bob): (Share, Holder, Holder) = (Share::default(), "ada".into(), "bob".into());
        assert_eq!(share.set_level(&ada, level("error")), Some(level("error")));
        assert_eq!(share.set_level(&bob, level("debug")), Some(level("debug")));
        assert_eq!(share.set_level(&ada, level("warning")), None);
        assert_eq!(share.set_level(&bob, level("emergency")), Some(level("warning")));
        assert_eq!(share.leave(&ada), (Vec::new(), Some(level("emergency"))));
        assert_eq!(share.leave(&bob), (Vec::new(), None));
        assert!(share.is_empty());
    }

    #[test]
    fn who_leaves_takes_along_what_only_they_wanted_and_a_fresh_channel_hears_the_rest() {
        let (mut share, ada, bob): (Share, Holder, Holder) = (Share::default(), "ada".into(), "bob".into());
        for (uri, holder) in [("x", &ada), ("y", &ada), ("y", &bob)] {
            share.watch(uri, holder);
        }
        share.set_level(&bob, level("info"));
        assert_eq!(share.leave(&ada), (vec!["x".into()], None));
        assert_eq!(share.everything(), (vec!["y".into()], Some(level("info"))));
    }
}
