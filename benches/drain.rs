//! What a record of the audit trail costs behind the answer: journal, chain, what is counted of it, SQLite. A line for each: records a
//! second, and processor time of the whole process a record.

#![allow(missing_docs, clippy::unwrap_used, clippy::print_stdout, reason = "a measurement")]

use std::sync::Arc;
use std::time::{Duration, Instant};

use mcp_registry_gateway::analytics::{Analytics, Switches};
use mcp_registry_gateway::audit::{Brief, Counting, Drain, Trail};
use mcp_registry_gateway::config::{DotEnv, Settings};
use mcp_registry_gateway::crypto::{MasterKey, Sealer};
use mcp_registry_gateway::id::{Principal, Slug, TenantId};
use mcp_registry_gateway::store::Store;
use mcp_registry_gateway::store::rollups::Increments;
use mcp_registry_gateway::telemetry::{Actor, Metrics, Operation, Outcome, RequestId, Sink as _};
use uuid::Uuid;

const RECORDS: u32 = 200_000;

/// Counts nothing.
struct Nothing;

impl Counting for Nothing {
    fn fold<'a>(&self, _: &[Brief<'a>]) -> Increments<'a> {
        Increments::default()
    }

    fn settle(&self) {}
}

/// What a tenant of 50 people does with 5 servers of 8 tools each.
fn calls() -> Vec<Operation> {
    let actor = |number: u128| {
        Arc::new(Actor {
            tenant: TenantId::default_tenant(),
            principal: Principal {
                issuer: "https://login.example/tenant/v2.0".into(),
                subject: Uuid::from_u128(number).to_string().into(),
            },
            user: Uuid::from_u128(number),
            username: format!("person-{number}@example.com").into(),
            role: "user",
            session_type: "oauth",
            credential: Uuid::from_u128(number << 64),
            client: Some("https://editor.example/client.json".into()),
        })
    };
    let actors: Vec<_> = (0..50).map(actor).collect();
    let call = |number: u32| {
        let of = |count: usize, salt: u32| (number.wrapping_mul(2_654_435_761) >> salt) as usize % count;
        let mut call = Operation::start(RequestId::new(), "/mcp/{server}");
        call.set_method("tools/call");
        call.who = Some(Arc::clone(&actors[of(50, 3)]));
        call.server = Some(Slug::parse(&format!("server-{}", of(5, 7))).unwrap());
        call.name = Some(format!("read_part_{}", of(8, 11)).into());
        call.address = Some(std::net::Ipv4Addr::from(0x0a00_0000 + number % 50).into());
        (call.replica, call.attempts) = (Some(0), 1);
        call.arguments = Some(rand::random());
        (call.client_version, call.upstream_version) = (Some("2026-07-28"), Some("2025-11-25"));
        call.finish(if number.is_multiple_of(100) { Outcome::ToolError } else { Outcome::Success });
        call
    };
    (0..1_000).map(call).collect()
}

/// Processor time of this process so far, user and system.
fn processor() -> Duration {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
    let ticks: u64 = fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap();
    // A tick is a hundredth of a second on every Linux that is built today.
    Duration::from_millis(ticks * 10)
}

fn told(what: &str, began: (Instant, Duration)) {
    let each = |time: Duration| time.as_secs_f64() * 1e6 / f64::from(RECORDS);
    let (took, spent) = (began.0.elapsed(), processor().saturating_sub(began.1));
    let a_second = f64::from(RECORDS) / took.as_secs_f64();
    println!("{what:28} {a_second:8.0} records/s  {:6.2} us of processor time a record", each(spent));
}

async fn measure(what: &str, counting: Arc<dyn Counting>, calls: &[Operation]) {
    let base = std::env::temp_dir().join(format!("mcp-gateway-bench-{}", Uuid::now_v7()));
    std::fs::create_dir_all(&base).unwrap();
    let database = base.join("gateway.sqlite");
    let store = Store::connect(&format!("sqlite://{}", database.display()), 4).await.unwrap();
    let mut settings = Settings::from_args(Vec::<String>::new(), &DotEnv::default()).unwrap().audit;
    settings.journal_max_bytes = 4 << 30;
    let journals = base.join("audit");
    let trail = Trail::new(Uuid::now_v7(), settings);
    trail.open(&journals).unwrap();
    let calls: Vec<_> = (0..RECORDS as usize)
        .map(|number| Operation { request_id: RequestId::new(), ..calls[number % calls.len()].clone() })
        .collect();
    let began = (Instant::now(), processor());
    for call in &calls {
        trail.operation(call);
    }
    told(&format!("{what}: into the journal"), began);
    let metrics = Arc::new(Metrics::new(100));
    let sealer = Sealer::new(&MasterKey::generate());
    let drain = Drain::new(&trail, journals, store.clone(), sealer, &metrics, counting).unwrap();
    let began = (Instant::now(), processor());
    drain.finish().await.unwrap();
    told(&format!("{what}: into SQLite"), began);
    store.close().await;
    println!("{:28} {:8} bytes a record", "", std::fs::metadata(&database).unwrap().len() / u64::from(RECORDS));
    std::fs::remove_dir_all(&base).unwrap();
}

fn main() {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let calls = calls();
    let all = Switches { users: true, behaviour: true };
    let analytics = Analytics::new(all, Uuid::now_v7(), Arc::new(Metrics::new(100)));
    runtime.block_on(async {
        measure("trail alone", Arc::new(Nothing), &calls).await;
        measure("trail and analytics", Arc::new(analytics), &calls).await;
    });
}
