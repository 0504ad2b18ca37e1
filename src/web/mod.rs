//! What surfaces share: the door that every request passes, the checks it makes, bodies with bounds.

pub mod body;
mod door;
mod forwarded;
mod gate;

pub use door::{Door, Visit};
pub use gate::{Gate, Refusal, Trust};
