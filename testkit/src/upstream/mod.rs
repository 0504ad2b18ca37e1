//! Servers to put behind a gateway. Each listens on a free port of 127.0.0.1, remembers what it was asked, and is gone
//! with its connections when dropped.

mod core;
mod engine;
mod faulty;
mod host;
mod legacy_sse;
mod plain;
mod tools;
mod words;

pub use self::{
    faulty::{Fault, Faulty},
    host::{Host, Recorded},
    legacy_sse::LegacySse,
    plain::Plain,
    tools::filler,
    words::{Answer, Call, Cancelled, Eras, How, ReplyForm, Settings},
};

/// An answer that is JSON.
pub(crate) fn json_reply(status: u16, body: &serde_json::Value) -> host::Reply {
    host::reply(status, "application/json", body.to_string())
}
