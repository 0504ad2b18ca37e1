//! What the gateway knows of the servers behind it: what they speak, over restarts and changes, and how their replicas are.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

mod memory;
mod replicas;
mod world;
