//! What operators read: each a [`Report`] of what was measured, `null` where nothing was.

mod envelope;
pub(super) mod fairness;
mod finding;
pub(super) mod limits;
pub(super) mod network;
pub(super) mod pools;
pub(super) mod resources;
pub(super) mod tokens;
mod upstreams;
