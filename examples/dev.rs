#![allow(missing_docs, clippy::all, clippy::pedantic, clippy::unwrap_used, clippy::print_stdout)]
use axum::Router;
use axum::routing::get;
use mcp_registry_gateway::*;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
fn main() {
    let mut args = std::env::args().skip(1);
    let first = args.next().unwrap();
    if first == "__guard" {
        panic!("use mcp-gateway")
    }
    let port: u16 = first.parse().unwrap();
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap().block_on(async move {
        let settings = config::Settings::from_args(["mcp-gateway","serve"].iter().skip(1), &config::DotEnv::default()).unwrap_or_else(|_| config::Settings::from_args(&[] as &[&str], &config::DotEnv::default()).unwrap());
        let dir = std::env::temp_dir().join(format!("dev-{port}")); let _ = std::fs::remove_dir_all(&dir); std::fs::create_dir_all(&dir).unwrap();
        let store = store::Store::connect(&format!("sqlite://{}/db.sqlite", dir.display()), 5).await.unwrap();
        let key = access::bootstrap::bootstrap(&store, None).await.unwrap().unwrap();
        std::fs::write(dir.join("key"), key.expose()).unwrap();
        println!("KEY {}", key.expose());
        let keyring = access::KeyRing::empty(); keyring.reload(&store).await.unwrap();
        let metrics = Arc::new(telemetry::Metrics::new(2000));
        let tasks = tokio_util::task::TaskTracker::new();
        let children = upstream::stdio::pool::Pool::new(upstream::stdio::Settings { guard: PathBuf::from("/work/target/debug/mcp-gateway"), ..Default::default() }, tasks.clone());
        let ground = Arc::new(upstream::Ground { outbound: Arc::new(net::Outbound::new(net::AddressPolicy::ADMIN, None)), limits: upstream::http::Limits { message: 64<<20, resting: 256 }, children, notices: tokio::sync::broadcast::channel(1024).0, tasks: tasks.clone() });
        let registry = registry::live::Registry::new(ground, Duration::from_secs(300));
        let servers = args.map(|a| { let (slug, url) = a.split_once('=').unwrap();
            let spec: registry::model::ServerSpec = if url.starts_with("http") { serde_json::from_value(serde_json::json!({"slug": slug, "replicas":[{"url": url}]})).unwrap() } else { let mut w = url.split(' '); serde_json::from_value(serde_json::json!({"slug": slug, "transport":"stdio","command":{"program": w.next().unwrap(), "args": w.collect::<Vec<_>>()}})).unwrap() };
            registry::model::Server { id: id::ServerId::new(), tenant: id::TenantId::default_tenant(), spec, revision: 1, created_at: time::OffsetDateTime::now_utc(), updated_at: time::OffsetDateTime::now_utc() } }).collect();
        registry.follow(servers, &Default::default());
        let app = app::App::new(app::Parts { sessions: mcp::session::Sessions::new(20000, Duration::from_secs(1800)), settings: settings.clone(), accounts: access::Accounts::default(), sealer: crypto::Sealer::new(&crypto::MasterKey::generate()), store, keyring, registry, recorder: telemetry::Recorder::new(metrics.clone()), tasks, shutdown: Default::default() });
        use mcp::endpoint::*;
        let router = Router::new().route(ALL, get(get_all).post(post_all).delete(delete_all)).route(ONE, get(get_one).post(post_one).delete(delete_one)).with_state(app);
        let door = web::Door::new(&settings, metrics, router);
        let listener = tokio::net::TcpListener::bind(("127.0.0.1", port)).await.unwrap();
        println!("listening");
        loop { let (s, peer) = listener.accept().await.unwrap(); s.set_nodelay(true).unwrap(); let door = door.clone();
            tokio::spawn(async move { let svc = hyper::service::service_fn(move |r: http::Request<hyper::body::Incoming>| { let door = door.clone(); async move { Ok::<_, std::convert::Infallible>(door.answer(peer, r).await) } });
                let _ = hyper::server::conn::http1::Builder::new().serve_connection(hyper_util::rt::TokioIo::new(s), svc).await; }); }
    });
}
