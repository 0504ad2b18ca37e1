//! What a record of the audit trail costs a call: encoded and appended to the journal.

#![allow(missing_docs, clippy::unwrap_used, reason = "a measurement")]

use std::sync::Arc;

use criterion::{Criterion, criterion_group, criterion_main};
use mcp_registry_gateway::audit::Trail;
use mcp_registry_gateway::config::{DotEnv, Settings};
use mcp_registry_gateway::id::{Principal, Slug, TenantId};
use mcp_registry_gateway::telemetry::{Actor, Operation, Outcome, RequestId, Sink as _};
use uuid::Uuid;

fn record(criterion: &mut Criterion) {
    let base = std::env::temp_dir().join(format!("mcp-gateway-bench-{}", Uuid::now_v7()));
    let mut settings = Settings::from_args(Vec::<String>::new(), &DotEnv::default()).unwrap().audit;
    settings.journal_max_bytes = 1 << 40;
    let trail = Trail::new(Uuid::now_v7(), settings);
    trail.open(&base).unwrap();
    let mut call = Operation::start(RequestId::new(), "/mcp/{server}");
    call.set_method("tools/call");
    call.who = Some(Arc::new(Actor {
        tenant: TenantId::default_tenant(),
        principal: Principal {
            issuer: "https://login.example/tenant/v2.0".into(),
            subject: Uuid::nil().to_string().into(),
        },
        user: Uuid::now_v7(),
        username: "ada@example.com".into(),
        role: "user",
        session_type: "oauth",
        credential: Uuid::now_v7(),
        client: Some("https://editor.example/client.json".into()),
    }));
    call.address = Some([192, 0, 2, 7].into());
    call.server = Some(Slug::parse("files").unwrap());
    (call.replica, call.attempts) = (Some(0), 1);
    call.name = Some("read_file".into());
    call.arguments = Some([7; 32]);
    (call.client_version, call.upstream_version) = (Some("2026-07-28"), Some("2025-11-25"));
    call.finish(Outcome::Success);
    criterion.bench_function("audit/record", |bencher| bencher.iter(|| trail.operation(&call)));
    std::fs::remove_dir_all(&base).unwrap();
}

criterion_group!(benches, record);
criterion_main!(benches);
