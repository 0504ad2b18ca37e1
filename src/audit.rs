//! ENGINE: the audit trail. One record of each operation stands in a journal of this process before the answer goes out, and goes
//! from there to the database, where the records of each tenant make a chain whose heads are signed. No record is dropped silently:
//! what cannot be recorded is not begun, or not answered.

mod accept;
mod added;
mod arguments;
mod block;
mod brief;
mod chain;
mod drain;
mod encode;
mod flood;
mod folder;
mod forward;
mod frame;
mod journal;
mod otlp;
mod pack;
mod prune;
mod reader;
mod record;
mod records;
mod route;
mod search;
mod stamper;
mod syslog;
mod ticket;
mod trail;
mod verify;
mod words;
mod writer;

pub use accept::{AcceptError, Accepted, accept};
pub use arguments::shown as arguments;
pub use brief::Brief;
pub use drain::{Drain, DrainError};
pub use forward::SendError;
pub use journal::Journal;
pub use otlp::OtlpCollector;
pub use pack::pack;
pub use prune::prune;
pub use record::{PLATFORM, Record, Surface};
pub use records::records;
pub use route::tenant_in;
pub use search::{record, search};
pub use syslog::Collector;
pub use ticket::{KeptBody, NotKept, kept};
pub use trail::Trail;
pub use verify::{Finding, Taken, Verified, verify};
pub use writer::Counting;
