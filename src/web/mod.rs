<<<<<<< HEAD
//! What surfaces share: the door that every request passes, the checks it makes, bodies with bounds.

pub mod body;
mod door;
mod forwarded;
mod gate;

pub use door::{Door, Visit};
pub use gate::{Gate, Refusal, Trust};
=======
//! What surfaces share: caller, bodies, problems, client address.

pub mod body;
pub mod caller;
pub mod problem;
>>>>>>> registry
