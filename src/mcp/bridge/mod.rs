//! One protocol era to another. Plain requests, progress, logging and cancellation cross in both directions; what needs a
//! server to ask the client something crosses only between ends of one era, and otherwise becomes an error that says so.
//!
//! `request` changes what goes to the server, `answer` what comes back. Both are splices: members that they do not know
//! stay as they are. `flow` is `answer` for a response that is too long to be kept.

pub mod answer;
pub mod flow;
pub mod request;
