//! What is seen from outside: metrics (the one list), logs, and the one record of each operation.
//!
//! Every finished operation makes one [`Operation`], and [`Recorder::record`] is the only place that counts it. Metrics, logs
//! and the [`Sink`] that keeps what happened read that value; nobody else counts.

mod actor;
mod exposition;
mod family;
mod health;
pub mod logs;
pub mod metrics;
mod operation;
pub mod otlp;
mod process;
mod reading;
mod recorder;
mod sink;
mod span;

pub use actor::Actor;
pub use exposition::Format;
pub use family::{Counter, Family, Gauge, Held, Histogram, OTHER};
pub use health::{Health, Part, Status, Weight};
pub use metrics::{Metrics, POOL};
pub use operation::{Operation, Outcome, RequestId, SessionTag, Sizes, Times};
pub use process::Usage;
pub use recorder::Recorder;
pub use sink::{Event, Sink};
pub use span::{Span, TraceParent, Tracer};
