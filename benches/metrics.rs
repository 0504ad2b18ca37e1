//! What it costs to show all metrics where there are many.

#![allow(missing_docs, clippy::unwrap_used, reason = "a measurement")]

use std::time::Duration;

use criterion::{Criterion, criterion_group, criterion_main};
use mcp_registry_gateway::telemetry::{Counter, Format, Metrics};

/// 50 tenants with 10 tools each: 2,000 sets of labels in four families, half of them histograms.
fn page(criterion: &mut Criterion) {
    let metrics = Metrics::new(2_000);
    for tenant in 0..50 {
        let tenant = format!("tenant-{tenant}");
        for tool in 0..10 {
            let (server, tool) = (format!("server-{tool}"), format!("tool_{tool}"));
            let took = Duration::from_millis(tool.len() as u64);
            metrics.request_duration.on([&tenant, "tools/call", &server, "success"], |all| all.observe(took));
            metrics.tool_usage.on([&tenant, &server, &tool], |all| all.observe(took));
            metrics.tool_calls.on([&tenant, &server, &tool, "success"], Counter::inc);
            metrics.errors.on([&tenant, &tool, "upstream"], Counter::inc);
        }
    }
    for format in [Format::Text, Format::OpenMetrics] {
        let length = metrics.render(format).lines().count();
        criterion.bench_function(&format!("metrics/{format:?}, {length} lines"), |bencher| {
            bencher.iter(|| metrics.render(format));
        });
    }
}

criterion_group!(benches, page);
criterion_main!(benches);
