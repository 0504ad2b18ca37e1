//! Signing in, as clients' programs see it: metadata, tokens, revocation and registration over HTTP, and what a token opens.

#![allow(clippy::unwrap_used, clippy::panic, missing_docs, reason = "tests")]

mod assertions;
mod entra;
mod exchange;
mod introduced;
mod metadata;
mod opens;
mod registering;
mod tenants;
mod tokens;
mod trusting;
mod workloads;
mod world;
