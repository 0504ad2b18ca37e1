//! The whole room against a provider in the process.

mod access_tokens;
mod asking;
mod failures;
pub(crate) mod fake;
mod groups;
mod id_tokens;
mod key_changes;
mod others;
mod world;
