//! ENGINE: what servers there are and who may see and call them.

pub mod model;
pub mod names;
pub mod servers;
