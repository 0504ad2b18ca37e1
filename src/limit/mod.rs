//! How much each may call.

pub mod board;
pub mod bucket;
pub mod buckets;
pub mod exact;
pub mod fair;
pub mod figures;
pub mod limits;
mod pace;
pub mod share;
pub mod terms;
pub mod water;
