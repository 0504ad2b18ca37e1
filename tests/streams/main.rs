//! Event streams to clients: how they end, how many there may be, the oldest transport, and what the gauges say of it all.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

mod ends;
mod gauges;
mod health;
mod legacy_sse;
mod world;
