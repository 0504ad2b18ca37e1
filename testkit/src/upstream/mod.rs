//! Servers to put behind a gateway. Each listens on a free port of 127.0.0.1, remembers what it was asked, and is gone
//! with its connections when dropped.

mod core;
mod faulty;
mod host;
mod legacy_sse;
mod plain;
mod tools;

pub use self::{
    core::{Answer, Call, Cancelled, Eras, How, Settings},
    faulty::{Fault, Faulty},
    host::{Host, Recorded},
    legacy_sse::LegacySse,
    plain::{Plain, ReplyForm},
    tools::filler,
};
