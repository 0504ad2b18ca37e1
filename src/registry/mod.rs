//! ENGINE: what servers there are, what they offer, and who may see and call them.

pub mod apply;
pub mod catalog;
pub mod keeper;
pub mod live;
pub mod model;
pub mod names;
pub mod servers;
pub mod snapshot;
pub mod template;
