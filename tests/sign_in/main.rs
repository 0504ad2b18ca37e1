//! Signing in, as clients' programs see it: metadata, tokens, revocation and registration over HTTP, and what a token opens.

#![allow(clippy::unwrap_used, clippy::panic, missing_docs, reason = "tests")]

mod entra;
mod metadata;
mod opens;
mod registering;
mod tenants;
mod tokens;
mod world;
