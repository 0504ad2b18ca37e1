//! GROUND: what is true of MCP on the wire, whichever side of the gateway it is read on: versions and eras, the JSON-RPC
//! envelope, Server-Sent Events framing, the reserved `_meta` keys and headers; and names of OAuth. It does no I/O and models no payload.

pub mod challenge;
pub mod disguise;
pub mod era;
pub mod level;
pub mod members;
pub mod message;
pub mod meta;
pub mod oauth;
pub mod sse;
