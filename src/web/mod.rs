//! What surfaces share: caller, bodies, problems, client address.

pub mod body;
pub mod caller;
pub mod problem;
