//! What it costs each call to find what its server is to be shown for its caller, when that was got before.
//!
//! `cargo bench --bench upstream_credentials`

#![allow(clippy::unwrap_used, clippy::print_stdout, missing_docs, reason = "a measurement")]

use std::hint::black_box;
use std::sync::Arc;
use std::time::Instant;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use mcp_registry_gateway::access::{Caller, Direct, KeyRing, Role};
use mcp_registry_gateway::app::{App, assemble};
use mcp_registry_gateway::config::{DotEnv, Settings};
use mcp_registry_gateway::crypto::{MasterKey, Sealer, TokenKind, new_token};
use mcp_registry_gateway::grants::resource::Issuer;
use mcp_registry_gateway::id::{ServerId, TenantId};
use mcp_registry_gateway::registry::model::Server;
use mcp_registry_gateway::store::Store;
use mcp_registry_gateway::upstream::credentials::Plan;
use serde_json::json;
use time::{Duration, OffsetDateTime};
use uuid::Uuid;

/// People whose credentials are kept at a time.
const PEOPLE: [usize; 3] = [1, 1_000, 50_000];
/// Times that are looked at one by one, for the slowest of them.
const TIMED: usize = 1_000_000;

fn person(app: &App, number: usize) -> Caller {
    let (token, now) = (new_token(TokenKind::Access), OffsetDateTime::now_utc());
    let name = format!("person-{number}");
    let who = Direct {
        issuer: "https://idp.example.com",
        subject: &name,
        provider: "idp",
        tenant: TenantId::default_tenant(),
        user: Uuid::now_v7(),
        username: &name,
        role: Role::User,
        memberships: &Arc::default(),
        expires_at: now + Duration::hours(1),
    };
    app.tokens.admit(token.expose(), &who, now, app.tokens.reloads()).unwrap()
}

fn upstream_credentials(criterion: &mut Criterion) {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let _guard = runtime.enter();
    let folder = std::env::temp_dir().join(format!("mcp-gateway-bench-{}", Uuid::now_v7()));
    std::fs::create_dir(&folder).unwrap();
    let url = format!("sqlite://{}", folder.join("gateway.db").display());
    let store = runtime.block_on(Store::connect(&url, 1)).unwrap();
    let settings = Settings::from_args(&[] as &[&str], &DotEnv::default()).unwrap();
    let issuer = Issuer::new(None, false, "127.0.0.1:8001".parse().unwrap());
    let app = assemble(settings, issuer, store, Sealer::new(&MasterKey::generate()), KeyRing::empty()).unwrap();
    let credentials = app.registry.ground.credentials.clone();
    runtime.block_on(credentials.signer().follow(OffsetDateTime::now_utc())).unwrap();
    let now = OffsetDateTime::now_utc();
    let spec = json!({"slug": "a", "replicas": [{"url": "https://a.example/mcp"}], "auth": {"kind": "identity"}});
    let server = Server {
        id: ServerId::new(),
        tenant: TenantId::default_tenant(),
        spec: serde_json::from_value(spec).unwrap(),
        revision: 1,
        created_at: now,
        updated_at: now,
    };

    let mut group = criterion.benchmark_group("upstream credentials");
    group.throughput(Throughput::Elements(1));
    for people in PEOPLE {
        let plan = Plan::of(&server, &credentials).unwrap().unwrap();
        let callers: Vec<Caller> = (0..people).map(|number| person(&app, number)).collect();
        for caller in &callers {
            let key = plan.ready(Some(caller)).unwrap_err();
            runtime.block_on(plan.get(key, Some(caller))).unwrap();
        }
        let mut next = callers.iter().cycle();
        group.bench_function(format!("fresh, among {people}"), |bencher| {
            bencher.iter(|| plan.ready(Some(black_box(next.next().unwrap()))).unwrap().unwrap());
        });
        let mut times: Vec<u64> = (0..TIMED)
            .map(|_| {
                let (caller, began) = (next.next().unwrap(), Instant::now());
                black_box(plan.ready(Some(caller)).unwrap());
                u64::try_from(began.elapsed().as_nanos()).unwrap()
            })
            .collect();
        times.sort_unstable();
        let at = |part: usize| times[TIMED / 1_000 * part];
        println!("among {people}: p50 {} ns, p99 {} ns, p99.9 {} ns", at(500), at(990), at(999));
    }
    group.finish();
    drop(app);
    std::fs::remove_dir_all(&folder).unwrap();
}

criterion_group!(benches, upstream_credentials);
criterion_main!(benches);
