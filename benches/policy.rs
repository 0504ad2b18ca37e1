//! What access rules cost a call: a decision that is remembered, one that is made for the first time, and one that depends on
//! arguments and is made each time. Twenty rules, somebody in five groups.
//!
//! `cargo bench --bench policy`

#![allow(clippy::unwrap_used, missing_docs, reason = "a measurement")]

use std::fmt::Write as _;
use std::hint::black_box;
use std::sync::Arc;

use criterion::{Criterion, criterion_group, criterion_main};
use mcp_registry_gateway::access::{Memberships, Role, SessionType, Subject};
use mcp_registry_gateway::id::{ServerId, TenantId};
use mcp_registry_gateway::policy::{Given, Hints, Place, Rules, Thing, Verdict, What, decide};
use uuid::Uuid;

fn group(number: u128) -> Uuid {
    Uuid::from_u128(0xaaaa_0000_0000_4000_8000_0000_0000_0000 + number)
}

/// Nineteen rules of the usual forms, and `last`.
fn set(last: &str) -> Rules {
    let mut text = String::new();
    for number in 0..10 {
        let id = group(number);
        let _ = write!(text, "permit(principal in Group::\"{id}\", action, resource in Server::\"s{number}\");");
    }
    for number in 0..9 {
        let _ = write!(
            text,
            "permit(principal in Role::\"user\", action, resource is Tool in Server::\"s{number}\")
             when {{ resource.readOnlyHint && resource.name like \"get_{number}*\" }};"
        );
    }
    Rules::read(&[text.as_str(), last].concat(), 1).unwrap().0
}

fn policy(criterion: &mut Criterion) {
    let groups: Vec<Uuid> = (0..5).map(group).collect();
    let memberships = Arc::new(Memberships::new(&groups, &[], false));
    let tenant = TenantId::default_tenant();
    let (client, user) = (Arc::from("client"), Uuid::now_v7());
    let subject = Subject::new(&tenant, user, None, Role::User, &client, SessionType::OAuth, &memberships);
    let id = ServerId::new();
    let thing = |revision: i64| Thing {
        place: Place { id, revision, slug: "s3", tags: &[] },
        what: What::Tool("push_branch", Hints::default()),
    };
    let early = set("forbid(principal, action, resource is Tool) when { resource.name == \"drop\" };");
    let late = set("forbid(principal, action, resource is Tool)
        when { context.text.hasTag(\"branch\") && context.text.getTag(\"branch\") == \"main\" };");

    let mut bench = criterion.benchmark_group("policy");
    bench.bench_function("nobody wrote rules", |bench| {
        let open = Rules::default();
        bench.iter(|| decide(&open, black_box(&subject), black_box(&thing(1)), Given::Call(None)));
    });
    bench.bench_function("remembered", |bench| {
        bench.iter(|| {
            let verdict = decide(&early, black_box(&subject), black_box(&thing(1)), Given::Call(None));
            assert!(verdict == Verdict::Allowed);
        });
    });
    // Another revision of the server is another thing; counted on from one sample to the next, so that none comes twice.
    let mut revision = 1;
    bench.bench_function("for the first time", |bench| {
        bench.iter(|| {
            revision += 1;
            let verdict = decide(&early, black_box(&subject), black_box(&thing(revision)), Given::Call(None));
            assert!(verdict == Verdict::Allowed);
        });
    });
    bench.bench_function("by arguments", |bench| {
        let arguments = br#"{"branch":"feature/x","message":"what was done"}"#;
        bench.iter(|| {
            let given = Given::Call(Some(black_box(arguments)));
            let verdict = decide(&late, black_box(&subject), black_box(&thing(1)), given);
            assert!(verdict == Verdict::Allowed);
        });
    });
    bench.finish();
}

criterion_group!(benches, policy);
criterion_main!(benches);
