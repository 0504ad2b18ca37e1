//! Stdio servers with real processes: what goes through, what ends with what, and that nothing is ever left behind.
//!
//! The servers are small scripts. Their processes are told from all others by a variable in their declared environment,
//! which descendants inherit.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

mod processes;
mod protocol;
mod world;
