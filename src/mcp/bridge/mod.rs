//! One protocol era to another. Plain requests, progress, logging and cancellation cross in both directions; what needs a
//! server to ask the client something crosses only between ends of one era, and otherwise becomes an error that says so.
//!
//! `request` changes what goes to the server, `answer` what comes back. Both are splices: members that they do not know
//! stay as they are.

pub mod answer;
pub mod request;
