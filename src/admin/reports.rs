//! What operators read: each a [`Report`] of what was measured, `null` where nothing was.

pub(super) mod auth_failures;
pub(super) mod capacity;
pub(super) mod daily;
mod envelope;
pub(super) mod fairness;
mod finding;
pub(super) mod limits;
pub(super) mod memory;
pub(super) mod network;
mod past;
pub(super) mod pools;
pub(super) mod resources;
pub(super) mod status;
pub(super) mod tenant;
pub(super) mod tokens;
mod upstreams;
pub(super) mod user;
