//! The audit trail: one record of each operation, in a journal of this process before the answer goes out, and from there in the
//! database, where the records of each tenant make a chain.

mod record;

pub use record::{Record, Surface};
