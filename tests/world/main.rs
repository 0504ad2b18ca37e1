//! The whole gateway between stand-ins: clients of every version in front, servers of every sort behind it. Each test is one
//! story, told through what others see: bytes in, bytes out, and what the servers recorded.

#![allow(clippy::unwrap_used, clippy::panic, clippy::too_many_lines, missing_docs, reason = "tests")]

mod analytics;
mod apply;
mod asks;
mod audit;
mod bad_input;
mod batches;
mod breaker;
mod changes;
mod channels;
mod credentials;
mod described;
mod exported;
mod faults;
mod guarded;
mod isolation;
mod limits;
mod lists;
mod matrix;
mod notices;
mod offered;
mod policies;
mod pools;
mod reasons;
mod records;
mod replicas;
mod sdk;
mod server_limits;
mod sessions;
mod shared;
mod stop;
mod tasks;
mod trail;
mod truth;
mod untouched;
mod uptake;
mod visible;
mod world;
