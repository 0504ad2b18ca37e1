//! What time it is. Tests of whole days move it on; only a build with debug assertions can do that, and no release is one.

use std::time::Instant;

use time::OffsetDateTime;

/// Now.
pub fn now() -> OffsetDateTime {
    OffsetDateTime::now_utc() + ahead()
}

/// Now, of what is measured against itself.
pub fn instant() -> Instant {
    Instant::now() + ahead()
}

#[cfg(debug_assertions)]
use moving::ahead;
#[cfg(debug_assertions)]
pub use moving::move_on;

#[cfg(debug_assertions)]
mod moving {
    use std::sync::atomic::{AtomicU64, Ordering};
    use std::time::Duration;

    static AHEAD: AtomicU64 = AtomicU64::new(0);

    pub(super) fn ahead() -> Duration {
        Duration::from_micros(AHEAD.load(Ordering::Relaxed))
    }

    /// From now on it is so much later, for the whole process.
    pub fn move_on(by: Duration) {
        AHEAD.fetch_add(u64::try_from(by.as_micros()).unwrap_or(0), Ordering::Relaxed);
    }
}

#[cfg(not(debug_assertions))]
const fn ahead() -> std::time::Duration {
    std::time::Duration::ZERO
}
