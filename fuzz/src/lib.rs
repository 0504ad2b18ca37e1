//! Harnesses that feed the gateway's readers arbitrary bytes and hold them to oracles.

pub mod harness;
