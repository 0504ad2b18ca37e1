//! What surfaces share: the door that every request passes and the checks it makes, bodies with bounds, who is calling, JSON
//! in and problems out.

pub mod answer;
pub mod barred;
pub mod body;
pub mod caller;
pub mod challenge;
pub mod condition;
pub mod describe;
pub mod direct;
mod door;
mod forwarded;
mod gate;
pub mod idempotent;
pub mod json;
pub mod open;
mod origin;
pub mod path;
pub mod problem;
pub mod proof;
pub mod record;
mod source;
pub mod throttled;

pub use door::{Door, Goodbye, Serving, Surfaces, Unjudged, Visit, unrecorded};
pub use gate::{Gate, Refusal, Trust};
pub use origin::Origin;
pub use record::Refused;
pub use source::Source;
