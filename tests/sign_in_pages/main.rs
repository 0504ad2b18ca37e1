//! The pages of signing in, as people meet them: consent, password, provider, what is refused, and "my access".

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

mod access;
mod asked;
mod bound;
mod connections;
mod entra;
mod entra_again;
mod entra_tenants;
mod local;
mod looks;
mod on_behalf;
mod remembered;
mod resources;
mod traced;
mod two_providers;
mod under_another_name;
mod world;
