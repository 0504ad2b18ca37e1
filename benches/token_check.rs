//! What it costs each request to find out who shows an access token that this process has seen: the text of the header is read, its
//! SHA-256 looked up, and looked at whether it is still good and opens the resource. No database is asked.
//!
//! `cargo bench --bench token_check`

#![allow(clippy::unwrap_used, missing_docs, reason = "a measurement")]

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use futures_util::FutureExt as _;
use http::header::AUTHORIZATION;
use http::{HeaderMap, HeaderValue};
use mcp_registry_gateway::access::{Direct, KeyRing, Opening, Role};
use mcp_registry_gateway::app::{App, assemble};
use mcp_registry_gateway::config::{DotEnv, Settings};
use mcp_registry_gateway::crypto::{MasterKey, Sealer, TokenKind, new_token};
use mcp_registry_gateway::grants::resource::{Issuer, Resource};
use mcp_registry_gateway::grants::{GrantKind, Issue, Order, ScopeSet};
use mcp_registry_gateway::id::TenantId;
use mcp_registry_gateway::store::users::UserRow;
use mcp_registry_gateway::store::{Store, micros};
use mcp_registry_gateway::web::caller::authenticate;
use mcp_registry_gateway::web::proof::Sent;
use time::{Duration, OffsetDateTime};
use uuid::Uuid;

/// Live tokens at a time: one whose entry stays in the processor's cache, and so many that hardly any does.
const LIVE: [usize; 2] = [1, 100_000];

fn token_check(criterion: &mut Criterion) {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let folder = std::env::temp_dir().join(format!("mcp-gateway-bench-{}", Uuid::now_v7()));
    let settings = Settings::from_args(&[] as &[&str], &DotEnv::default()).unwrap();
    // Without the jobs of a gateway that runs, which forget tokens of accounts that there are not.
    let _guard = runtime.enter();
    std::fs::create_dir(&folder).unwrap();
    let url = format!("sqlite://{}", folder.join("gateway.db").display());
    let store = runtime.block_on(Store::connect(&url, 1)).unwrap();
    let issuer = Issuer::new(None, false, "127.0.0.1:8001".parse().unwrap());
    let app = assemble(settings, issuer, store, Sealer::new(&MasterKey::generate()), KeyRing::empty()).unwrap();

    let mut group = criterion.benchmark_group("token check");
    group.throughput(Throughput::Elements(1));
    for live in LIVE {
        let now = OffsetDateTime::now_utc();
        let shown: Vec<(String, HeaderMap)> = (0..live)
            .map(|number| {
                let token = new_token(TokenKind::Access).expose().to_owned();
                let name = format!("person-{number}");
                let who = Direct {
                    issuer: "https://idp.example.com",
                    subject: &name,
                    provider: "idp",
                    tenant: TenantId::default_tenant(),
                    user: Uuid::now_v7(),
                    username: &name,
                    role: Role::User,
                    memberships: &std::sync::Arc::default(),
                    expires_at: now + Duration::hours(1),
                };
                app.tokens.admit(&token, &who, now, app.tokens.reloads());
                let header = HeaderValue::from_str(&format!("Bearer {token}")).unwrap();
                (token, HeaderMap::from_iter([(AUTHORIZATION, header)]))
            })
            .collect();
        let mut next = shown.iter().cycle();
        group.bench_function(format!("look-up among {live}"), |bencher| {
            bencher.iter(|| app.tokens.known(black_box(&next.next().unwrap().0), now).unwrap());
        });
        group.bench_function(format!("whole, among {live}"), |bencher| {
            bencher.iter(|| {
                let headers = &next.next().unwrap().1;
                authenticate(&app, black_box(headers), Opening::All, Sent::new("POST", "/mcp"))
                    .now_or_never()
                    .unwrap()
                    .unwrap()
            });
        });
    }
    // One that the gateway gave itself, for one resource.
    let now = OffsetDateTime::now_utc();
    let token = runtime.block_on(own(&app, now));
    let headers = HeaderMap::from_iter([(AUTHORIZATION, HeaderValue::from_str(&format!("Bearer {token}")).unwrap())]);
    let shown = || authenticate(&app, black_box(&headers), Opening::All, Sent::new("POST", "/mcp"));
    runtime.block_on(shown()).unwrap();
    group.bench_function("whole, of the gateway's own", |bencher| {
        bencher.iter(|| shown().now_or_never().unwrap().unwrap());
    });
    group.finish();
    _ = std::fs::remove_dir_all(folder);
}

/// An access token of an account for every server.
async fn own(app: &App, now: OffsetDateTime) -> String {
    let (tenant, user) = (TenantId::default_tenant(), Uuid::now_v7());
    let row = UserRow {
        id: user,
        username: "ada".into(),
        role: "user".into(),
        state: "active".into(),
        created_at: micros(now),
        updated_at: micros(now),
        ..UserRow::default()
    };
    app.store.insert_user(&tenant, &row).await.unwrap();
    let order = Order {
        tenant,
        user,
        client_id: "client".into(),
        client_name: None,
        resource: app.issuer.uri(&Resource::All),
        scopes: ScopeSet::DEFAULT,
        login_method: "local".into(),
        login: None,
    };
    let tokens = app.grants.issue(&order, Issue::alone(GrantKind::Client), now).await.unwrap();
    tokens.access.expose().to_owned()
}

criterion_group!(benches, token_check);
criterion_main!(benches);
