//! Signing in, as clients' programs see it: metadata, tokens, revocation and registration over HTTP, and what a token opens.

#![allow(clippy::unwrap_used, clippy::panic, missing_docs, reason = "tests")]

mod advisories;
mod asked_again;
mod assertions;
mod credentials;
mod crowd;
mod described;
mod door;
mod entra;
mod exchange;
mod faults;
mod flood;
mod guide;
mod introduced;
mod limits;
mod log_scan;
mod metadata;
mod opens;
mod possession;
mod process;
mod recorded;
mod refreshed;
mod registering;
mod tenants;
mod tokens;
mod trusting;
mod workloads;
mod world;
