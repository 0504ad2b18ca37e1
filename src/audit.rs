//! ENGINE: the audit trail. One record of each operation stands in a journal of this process before the answer goes out, and goes
//! from there to the database, where the records of each tenant make a chain whose heads are signed. No record is dropped silently:
//! what cannot be recorded is not begun, or not answered.

mod arguments;
mod chain;
mod drain;
mod encode;
mod flood;
mod folder;
mod forward;
mod frame;
mod journal;
mod otlp;
mod prune;
mod reader;
mod record;
mod route;
mod stamper;
mod syslog;
mod ticket;
mod trail;
mod verify;

pub use arguments::shown as arguments;
pub use drain::{Counting, Drain, DrainError};
pub use forward::SendError;
pub use journal::Journal;
pub use otlp::OtlpCollector;
pub use prune::prune;
pub use record::{PLATFORM, Record, Surface};
pub use route::tenant_in;
pub use syslog::Collector;
pub use ticket::{KeptBody, NotKept, kept};
pub use trail::Trail;
pub use verify::{Finding, Verified, verify};
