//! What time it is, and how times are written (RFC 3339). Tests of whole days move it on; only a build with debug assertions can do that, and no release is one.

use std::time::Instant;

use schemars::JsonSchema;
use serde::{Deserializer, Serializer};
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

/// A time as JSON writes it, for `#[serde(with = …)]`: what is described is what is written.
#[derive(Debug, JsonSchema)]
#[schemars(with = "String", inline, description = "A time (RFC 3339).", extend("format" = "date-time"))]
pub struct Moment;

impl Moment {
    /// Writes it.
    pub fn serialize<S: Serializer>(time: &OffsetDateTime, serializer: S) -> Result<S::Ok, S::Error> {
        time::serde::rfc3339::serialize(time, serializer)
    }

    /// Reads it.
    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<OffsetDateTime, D::Error> {
        time::serde::rfc3339::deserialize(deserializer)
    }
}

/// The same of a time that may be null.
#[derive(Debug, JsonSchema)]
#[schemars(with = "Option<Moment>", inline, description = "A time (RFC 3339), or null.")]
pub struct MaybeMoment;

impl MaybeMoment {
    /// Writes it.
    pub fn serialize<S: Serializer>(time: &Option<OffsetDateTime>, serializer: S) -> Result<S::Ok, S::Error> {
        time::serde::rfc3339::option::serialize(time, serializer)
    }

    /// Reads it.
    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<OffsetDateTime>, D::Error> {
        time::serde::rfc3339::option::deserialize(deserializer)
    }
}
