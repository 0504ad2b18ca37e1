//! Out to a collector of OpenTelemetry: spans as operations finish, metrics at their interval, audit records where they are wanted. Protobuf over HTTP (OTLP 1), through the
//! guarded dialler like everything that goes out.

mod points;
mod post;
mod proto;
mod records;
mod spans;

use std::sync::Arc;
use std::time::SystemTime;

use uuid::Uuid;

pub use points::Points;
pub use post::Lost;
pub use records::{AuditLog, Records};
pub use spans::Spans;

use self::post::Poster;
use self::proto::{KeyValue, Resource};
use super::{Metrics, Tracer};
use crate::config::Export;
use crate::net::Outbound;

/// What sends, as far as the settings say.
#[derive(Default)]
pub struct Exporters {
    /// Takes operations and their spans to a collector.
    pub traces: Option<(Tracer, Spans)>,
    /// Takes metrics there.
    pub metrics: Option<Points>,
    /// Takes audit records there.
    pub records: Option<Records>,
}

impl Exporters {
    /// Those of a process that begins now.
    pub fn new(export: &Export, outbound: &Outbound, instance: Uuid, metrics: &Arc<Metrics>) -> Self {
        let resource = resource(export, instance);
        let poster = |to: &Option<_>, signal| Some(Poster::new(outbound, Option::clone(to)?, signal, metrics));
        let traces = poster(&export.traces, "traces").map(|poster| {
            let (tracer, waiting) = Tracer::new(export.sampler, export.batches.queue, Arc::clone(metrics));
            (tracer, Spans { waiting, batches: export.batches, poster, resource: resource.clone() })
        });
        let points = poster(&export.metrics, "metrics").map(|poster| {
            let resource = resource.clone();
            Points { poster, resource, began: SystemTime::now() }
        });
        let records = poster(&export.logs, "logs").map(|poster| Records { poster, resource });
        Self { traces, metrics: points, records }
    }
}

/// Who says all that. What the operator says counts more.
fn resource(export: &Export, instance: Uuid) -> Resource {
    let own =
        [("service.version", env!("CARGO_PKG_VERSION").to_owned()), ("service.instance.id", instance.to_string())];
    let mut attributes: Vec<_> = export.resource.iter().map(|(key, value)| KeyValue::new(key, value.clone())).collect();
    for (key, value) in own {
        if attributes.iter().all(|said| said.key != key) {
            attributes.push(KeyValue::new(key, value));
        }
    }
    Resource { attributes }
}
