//! SURFACE: the gateway, JSON-RPC in and JSON-RPC out. `endpoint` is the door, `exchange` the way of one call: read that first.

mod admit;
pub mod answers;
pub mod batch;
pub mod bridge;
pub mod early;
pub mod endpoint;
pub mod error;
pub mod exchange;
pub mod handshake;
pub mod headers;
pub mod hear;
pub mod held;
pub mod lane;
pub mod legacy_sse;
pub mod listen;
pub mod notices;
pub mod outbox;
pub mod passage;
pub mod reach;
pub mod record;
pub mod relay;
pub mod resolve;
pub mod session;
pub mod source;
pub mod streams;
pub mod watch;
pub mod withdrawal;
