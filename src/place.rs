//! Where tests end the process: before and after each write to the database and each question to an identity provider. Only a build with
//! debug assertions has such places; no release is one.

#[cfg(debug_assertions)]
pub use watched::{reached, watch};

#[cfg(debug_assertions)]
mod watched {
    use std::sync::OnceLock;

    type Watcher = Box<dyn Fn(&'static str) + Send + Sync>;

    static WATCHER: OnceLock<Watcher> = OnceLock::new();

    /// Whoever watches first hears of each place of the process, before it goes on.
    pub fn watch(watcher: impl Fn(&'static str) + Send + Sync + 'static) {
        _ = WATCHER.set(Box::new(watcher));
    }

    /// The process has come to this place.
    pub fn reached(place: &'static str) {
        if let Some(watcher) = WATCHER.get() {
            watcher(place);
        }
    }
}

/// The process has come to this place.
#[cfg(not(debug_assertions))]
pub const fn reached(_: &'static str) {}
