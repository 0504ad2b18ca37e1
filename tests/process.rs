//! The process from outside: what it listens to, whom it cuts off, how it stops.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test may stop with a message")]

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::{Body, Bytes};
use axum::routing::get;
use http_body_util::{BodyExt as _, Empty};
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use mcp_registry_gateway::config::{DotEnv, Settings};
use mcp_registry_gateway::crypto::new_api_key;
use mcp_registry_gateway::serve::{self, Ground, Running, Stopped};
use mcp_registry_gateway::telemetry::{Metrics, RequestId, Status, Weight};
use mcp_registry_gateway::web::{Serving, Surfaces};
use rustix::process::{Pid, Signal, kill_process};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// Long enough for a loaded machine; nothing waits that long when it works.
const DEADLINE: Duration = Duration::from_secs(30);

/// Each process has a data folder of its own, which is small and goes with the machine's temporary files.
fn settings(args: &[&str]) -> Settings {
    let folder = std::env::temp_dir().join(format!("mcp-gateway-test-{}", uuid::Uuid::now_v7()));
    let own = ["--port=0".to_owned(), format!("--data-dir={}", folder.display())];
    let args = own.into_iter().chain(args.iter().map(|arg| (*arg).to_owned()));
    Settings::from_args(args.collect::<Vec<_>>(), &DotEnv::default()).unwrap()
}

/// A listener in front of `router`.
async fn open(args: &[&str], router: impl Surfaces) -> (Running, Arc<Metrics>) {
    let ground = Ground {
        settings: Arc::new(settings(args)),
        metrics: Arc::new(Metrics::new(100)),
        tasks: TaskTracker::new(),
        shutdown: CancellationToken::new(),
    };
    let running = serve::open(&ground, router).await.unwrap();
    (running, ground.metrics)
}

async fn within<T>(what: impl Future<Output = T>) -> T {
    tokio::time::timeout(DEADLINE, what).await.expect("nothing happened within the deadline")
}

async fn until(what: impl Fn() -> bool) {
    within(async {
        while !what() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
}

async fn connect(address: SocketAddr) -> TcpStream {
    within(TcpStream::connect(address)).await.unwrap()
}

/// Everything up to the end of the connection, which may also be a reset.
async fn rest(stream: &mut TcpStream) -> String {
    let mut bytes = Vec::new();
    let _ = within(stream.read_to_end(&mut bytes)).await;
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Sends one request on a connection of its own and returns the whole answer.
async fn ask(address: SocketAddr, path: &str, headers: &str) -> String {
    let mut stream = connect(address).await;
    let text = format!("GET {path} HTTP/1.1\r\nconnection: close\r\n{headers}\r\n");
    stream.write_all(text.as_bytes()).await.unwrap();
    rest(&mut stream).await
}

const HOST: &str = "host: localhost\r\n";

#[tokio::test]
async fn health_is_public_and_terse() {
    let (app, running) = serve::start(settings(&[])).await.unwrap();
    let address = running.address();
    for path in ["/health", "/health/live", "/health/ready"] {
        let answer = ask(address, path, HOST).await;
        assert!(answer.starts_with("HTTP/1.1 200") && answer.contains("\"status\":\"ok\""), "{path}: {answer}");
    }
    app.health.part("upstreams", Weight::Partial).set(Status::Failing);
    let answer = ask(address, "/health", HOST).await;
    assert!(answer.starts_with("HTTP/1.1 200") && answer.contains("degraded"), "{answer}");
    app.health.part("database", Weight::Vital).set(Status::Failing);
    for path in ["/health", "/health/ready"] {
        assert!(ask(address, path, HOST).await.starts_with("HTTP/1.1 503"), "{path}");
    }
    assert!(ask(address, "/health/live", HOST).await.starts_with("HTTP/1.1 200"));
}

#[tokio::test]
async fn metrics_come_in_two_forms_or_not_at_all() {
    let (_app, running) = serve::start(settings(&[])).await.unwrap();
    let text = ask(running.address(), "/metrics", HOST).await;
    assert!(text.contains("content-type: text/plain; version=0.0.4"), "{text}");
    assert!(text.contains("mcp_active_connections{side=\"client\",server=\"\"} 1\n"), "{text}");
    let open = ask(running.address(), "/metrics", "host: localhost\r\naccept: application/openmetrics-text\r\n").await;
    assert!(
        open.contains("application/openmetrics-text; version=1.0.0") && open.trim_end().ends_with("# EOF"),
        "{open}"
    );
    let (_app, running) = serve::start(settings(&["--metrics=false"])).await.unwrap();
    assert!(ask(running.address(), "/metrics", HOST).await.starts_with("HTTP/1.1 404"));
}

#[tokio::test]
async fn metrics_are_read_by_who_is_on_this_machine_and_else_by_who_shows_that_they_may() {
    const TOKEN: &str = "a-token-for-prometheus";
    let key = new_api_key();
    let (token, key_setting) = (format!("--metrics-token={TOKEN}"), format!("--bootstrap-admin-key={}", key.expose()));
    let forwarded = "x-forwarded-for: 192.0.2.7\r\n";
    for (more, by, status) in [
        (&[][..], "", 200),
        (&[], forwarded, 401),
        (&[], "forwarded: for=192.0.2.7\r\n", 401),
        (&[], "x-real-ip: 192.0.2.7\r\n", 401),
        (&[], "via: 1.1 proxy.example\r\n", 401),
        (&[], "x-forwarded-proto: https\r\n", 401),
        (&[], "x-forwarded-host: gateway.example\r\n", 401),
        (&["--public-url=http://localhost:8001"], "", 200),
        (&["--public-url=https://gateway.example"], "", 401),
        (&["--behind-proxy"], "", 401),
        (&["--behind-proxy"], forwarded, 401),
        (&["--behind-proxy"], "authorization: Bearer KEY\r\n", 200),
        (&["--behind-proxy"], "authorization: Bearer another-token-at-all\r\n", 401),
        (&["--behind-proxy", &token], "authorization: Bearer a-token-for-prometheus\r\n", 200),
        (&["--behind-proxy", &token], "authorization: Bearer another-token-at-all\r\n", 401),
        (&["--behind-proxy", &token], "", 401),
    ] {
        let more: Vec<&str> = more.iter().copied().chain([key_setting.as_str()]).collect();
        let (_app, running) = serve::start(settings(&more)).await.unwrap();
        let headers = format!("{HOST}{}", by.replace("KEY", key.expose()));
        let answer = ask(running.address(), "/metrics", &headers).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status}")), "{more:?} {by}: {answer}");
        assert_eq!(answer.contains("mcp_active_connections"), status == 200, "{more:?} {by}");
        assert_eq!(answer.contains("www-authenticate: Bearer"), status == 401, "{more:?} {by}: {answer}");
    }
}

#[tokio::test]
async fn no_route_answers_to_a_foreign_host_or_page() {
    let (_app, running) = serve::start(settings(&[])).await.unwrap();
    for path in
        ["/health", "/health/live", "/metrics", "/mcp", "/mcp/files", "/sse", "/messages", "/api/v1/servers", "/x"]
    {
        let answer = ask(running.address(), path, "host: evil.example\r\n").await;
        assert!(answer.starts_with("HTTP/1.1 403") && answer.contains("FOREIGN_HOST"), "{path}: {answer}");
        let answer = ask(running.address(), path, "host: localhost\r\norigin: https://evil.example\r\n").await;
        assert!(answer.starts_with("HTTP/1.1 403") && answer.contains("FOREIGN_ORIGIN"), "{path}: {answer}");
    }
}

#[tokio::test]
async fn a_client_that_trickles_its_head_is_cut_off_and_others_are_served() {
    let (app, running) = serve::start(settings(&["--header-read-timeout=200ms"])).await.unwrap();
    let mut slow = connect(running.address()).await;
    slow.write_all(b"GET /health/live HTTP/1.1\r\nhost: localhost\r\nx-slow: ").await.unwrap();
    let mut silent = connect(running.address()).await;
    let trickle = async {
        // Sending on does not buy time: the head has one deadline as a whole.
        while slow.write_all(b"a").await.is_ok() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    within(trickle).await;
    assert_eq!(rest(&mut silent).await, "", "a client that says nothing is not waited for either");
    until(|| app.recorder.metrics().connections_cut.with(["slow_head"]).get() == 2).await;
    assert!(ask(running.address(), "/health/live", HOST).await.starts_with("HTTP/1.1 200"));
}

#[tokio::test]
async fn a_connection_that_rests_too_long_is_closed_between_requests() {
    let (_app, running) = serve::start(settings(&["--keep-alive=100ms"])).await.unwrap();
    let mut stream = connect(running.address()).await;
    stream.write_all(b"GET /health/live HTTP/1.1\r\nhost: localhost\r\n\r\n").await.unwrap();
    let answer = rest(&mut stream).await;
    assert!(answer.starts_with("HTTP/1.1 200") && answer.ends_with("{\"status\":\"ok\"}"), "{answer}");
}

#[tokio::test]
async fn a_client_that_does_not_read_is_cut_off() {
    let endless = Router::new().route(
        "/endless",
        get(async || {
            Body::from_stream(futures_util::stream::repeat_with(|| {
                Ok::<_, std::io::Error>(Bytes::from_static(&[0; 8192]))
            }))
        }),
    );
    let (running, metrics) = open(&["--write-timeout=200ms"], endless).await;
    let mut stream = connect(running.address()).await;
    stream.write_all(b"GET /endless HTTP/1.1\r\nhost: localhost\r\n\r\n").await.unwrap();
    until(|| metrics.connections_cut.with(["slow_reader"]).get() == 1).await;
    until(|| metrics.active_connections.with(["client", ""]).get() == 0).await;
}

#[tokio::test]
async fn a_head_beyond_its_limit_is_refused() {
    let (_app, running) = serve::start(settings(&["--header-size-limit=8KiB"])).await.unwrap();
    let headers = format!("{HOST}x-large: {}\r\n", "a".repeat(20_000));
    let answer = ask(running.address(), "/health", &headers).await;
    assert!(answer.starts_with("HTTP/1.1 431"), "{answer}");
}

#[tokio::test]
async fn beyond_the_cap_a_connection_is_told_and_closed() {
    let (app, running) = serve::start(settings(&["--max-connections=1"])).await.unwrap();
    let first = connect(running.address()).await;
    until(|| app.recorder.metrics().active_connections.with(["client", ""]).get() == 1).await;
    let mut second = connect(running.address()).await;
    let answer = rest(&mut second).await;
    assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 503"), "{answer}");
    until(|| app.recorder.metrics().connections_cut.with(["full"]).get() == 1).await;
    drop(first);
    until(|| app.recorder.metrics().active_connections.with(["client", ""]).get() == 0).await;
    assert!(ask(running.address(), "/health/live", HOST).await.starts_with("HTTP/1.1 200"), "the place is free again");
}

#[tokio::test]
async fn http_2_is_spoken_to_who_knows_it() {
    let (_app, running) = serve::start(settings(&[])).await.unwrap();
    let io = TokioIo::new(connect(running.address()).await);
    let (mut send, connection) = within(http2::handshake(TokioExecutor::new(), io)).await.unwrap();
    let talk = async {
        let get = |url: &str| http::Request::get(url).body(Empty::<Bytes>::new()).unwrap();
        let answer = send.send_request(get(&format!("http://{}/health/live", running.address()))).await.unwrap();
        assert_eq!((answer.status().as_u16(), answer.version()), (200, http::Version::HTTP_2));
        assert_eq!(answer.into_body().collect().await.unwrap().to_bytes(), "{\"status\":\"ok\"}");
        let answer = send.send_request(get("http://evil.example/health/live")).await.unwrap();
        assert_eq!(answer.status(), 403);
    };
    within(async {
        tokio::select! { () = talk => {}, ended = connection => panic!("{ended:?}") }
    })
    .await;
}

#[tokio::test]
async fn over_http_2_an_answer_that_is_not_read_is_reset_and_its_neighbours_go_on() {
    let large = || get(async || vec![0_u8; 1 << 20]);
    let (running, metrics) =
        open(&["--write-timeout=200ms"], Router::new().route("/large", large()).route("/small", get("small"))).await;
    let io = TokioIo::new(connect(running.address()).await);
    let shy = http2::Builder::new(TokioExecutor::new()).initial_stream_window_size(100).handshake(io);
    let (mut send, connection) = within(shy).await.unwrap();
    let talk = async {
        let url = format!("http://{}", running.address());
        let get = |path: &str| http::Request::get(format!("{url}{path}")).body(Empty::<Bytes>::new()).unwrap();
        let mut unread = Vec::new();
        for _ in 0..100 {
            unread.push(send.send_request(get("/large")).await.unwrap());
        }
        until(|| metrics.connections_cut.with(["slow_reader"]).get() == 100).await;
        for answer in unread {
            assert!(answer.into_body().collect().await.is_err(), "no half an answer");
        }
        let small = send.send_request(get("/small")).await.unwrap();
        assert_eq!(small.into_body().collect().await.unwrap().to_bytes(), "small");
        let read = send.send_request(get("/large")).await.unwrap();
        assert_eq!(read.into_body().collect().await.unwrap().to_bytes().len(), 1 << 20, "who reads gets all of it");
    };
    within(async {
        tokio::select! { () = talk => {}, ended = connection => panic!("{ended:?}") }
    })
    .await;
}

#[tokio::test]
async fn over_http_2_a_ping_is_no_slow_head_and_no_use_either() {
    let (app, running) = serve::start(settings(&["--header-read-timeout=50ms", "--keep-alive=300ms"])).await.unwrap();
    let io = TokioIo::new(connect(running.address()).await);
    let lively = http2::Builder::new(TokioExecutor::new())
        .timer(TokioTimer::new())
        .keep_alive_interval(Duration::from_millis(10))
        .keep_alive_while_idle(true)
        .handshake(io);
    let (mut send, connection) = within(lively).await.unwrap();
    let first = async {
        let get = format!("http://{}/health/live", running.address());
        let get = http::Request::get(get).body(Empty::<Bytes>::new()).unwrap();
        send.send_request(get).await.unwrap().into_body().collect().await.unwrap();
        std::future::pending::<()>().await;
    };
    within(async {
        tokio::select! { () = first => {}, ended = connection => drop(ended) }
    })
    .await;
    assert_eq!(app.recorder.metrics().connections_cut.with(["slow_head"]).get(), 0);
}

/// A router with one request that waits to be released, and the two ends of it.
fn held() -> (Router, Arc<Notify>, Arc<Notify>) {
    let (entered, release) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let (say, wait) = (Arc::clone(&entered), Arc::clone(&release));
    let handler = async move || {
        say.notify_one();
        wait.notified().await;
        "whole"
    };
    (Router::new().route("/held", get(handler)), entered, release)
}

#[tokio::test]
async fn a_stop_lets_a_running_request_finish_and_takes_no_new_one() {
    let (router, entered, release) = held();
    let (running, _metrics) = open(&[], router).await;
    let address = running.address();
    let resting = connect(address).await;
    let request = tokio::spawn(async move { ask(address, "/held", HOST).await });
    within(entered.notified()).await;
    let stop = tokio::spawn(running.stop(std::future::pending()));
    within(async {
        while TcpStream::connect(address).await.is_ok() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
    assert!(!stop.is_finished(), "it waits for the request");
    release.notify_one();
    let answer = within(request).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200") && answer.ends_with("whole"), "{answer}");
    assert_eq!(within(stop).await.unwrap(), Stopped::Clean);
    drop(resting);
}

#[tokio::test]
async fn who_begins_http_2_and_says_nothing_more_holds_no_stop() {
    let (router, _entered, _release) = held();
    let (running, _metrics) = open(&["--header-read-timeout=200ms", "--shutdown-grace=25s"], router).await;
    let mut silent = connect(running.address()).await;
    // An empty frame of settings follows; the gateway's own are the answer.
    silent.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0").await.unwrap();
    let mut answer = [0; 9];
    within(silent.read_exact(&mut answer)).await.unwrap();
    assert_eq!(within(running.stop(std::future::pending())).await, Stopped::Clean);
}

#[tokio::test]
async fn what_outlives_the_grace_is_cut_off() {
    let (router, entered, _release) = held();
    let (running, metrics) = open(&["--shutdown-grace=50ms"], router).await;
    let address = running.address();
    let request = tokio::spawn(async move { ask(address, "/held", HOST).await });
    within(entered.notified()).await;
    assert_eq!(within(running.stop(std::future::pending())).await, Stopped::Expired);
    assert_eq!(within(request).await.unwrap(), "", "no half an answer");
    until(|| metrics.active_connections.with(["client", ""]).get() == 0).await;
}

#[tokio::test]
async fn a_taken_port_is_an_error_that_says_what_to_do() {
    let (_app, running) = serve::start(settings(&[])).await.unwrap();
    let port = format!("--port={}", running.address().port());
    let settings = Settings::from_args([port.as_str()], &DotEnv::default()).unwrap();
    let error = serve::start(settings).await.err().unwrap();
    assert!(format!("{error:#}").contains("Choose a port with --port"), "{error:#}");
}

#[tokio::test]
async fn https_is_served_with_the_certificate_given() {
    let file = |name: &str| format!("{}/src/net/testdata/{name}", env!("CARGO_MANIFEST_DIR"));
    let args = [format!("--tls-cert={}", file("server.pem")), format!("--tls-key={}", file("server.key"))];
    let (_app, running) = serve::start(settings(&[&args[0], &args[1]])).await.unwrap();
    assert!(running.url().starts_with("https://"));

    let mut roots = rustls::RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(file("ca.pem")).unwrap()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let connector = tokio_rustls::TlsConnector::from(Arc::new(config));
    let name = ServerName::try_from("upstream.test").unwrap();
    let mut stream = within(connector.connect(name, connect(running.address()).await)).await.unwrap();
    stream.write_all(b"GET /health/live HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n").await.unwrap();
    let mut answer = String::new();
    within(stream.read_to_string(&mut answer)).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200") && answer.contains("strict-transport-security"), "{answer}");

    let wrong = settings(&[&args[0], &format!("--tls-key={}", file("ca.pem"))]);
    let error = format!("{:#}", serve::start(wrong).await.err().unwrap());
    assert!(error.contains("no private key"), "{error}");
}

/// Not a test of its own: the process that the tests below start, this program again. It serves one request that never ends.
#[test]
#[ignore = "started by the tests of signals"]
fn child_process() {
    let (router, entered, _release) = held();
    let start = async {
        tokio::spawn(async move {
            entered.notified().await;
            println!("the request runs");
        });
        // Nothing but a signal may end it.
        Ok(((), open(&["--shutdown-grace=1h", "--header-read-timeout=1h"], router).await.0))
    };
    let up = async |(): &(), running: &Running| {
        println!("listening on {}", running.url());
        Ok(())
    };
    let life = serve::until_told(start, up, async |()| {});
    let how = serve::block_on(life).unwrap();
    std::process::exit(i32::from(how == Stopped::Forced) * 130);
}

struct Process {
    child: Child,
    address: SocketAddr,
    said: std::io::Lines<BufReader<std::process::ChildStdout>>,
}

impl Process {
    fn start() -> Self {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "child_process", "--ignored", "--nocapture"])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut said = BufReader::new(child.stdout.take().unwrap()).lines();
        let ready = said.find_map(|line| Some(line.unwrap().split_once("listening on http://")?.1.to_owned()));
        Self { child, address: ready.expect("a ready line").parse().unwrap(), said }
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    fn exit_code(&mut self) -> Option<i32> {
        let deadline = Instant::now() + DEADLINE;
        while Instant::now() < deadline {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status.code();
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        panic!("it did not end within the deadline");
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn a_signal_ends_a_process_that_has_nothing_to_do() {
    for signal in [Signal::TERM, Signal::INT] {
        let mut process = Process::start();
        process.signal(signal);
        assert_eq!(process.exit_code(), Some(0), "{signal:?}");
    }
}

#[test]
fn a_second_signal_does_not_wait() {
    let mut process = Process::start();
    let mut request = std::net::TcpStream::connect(process.address).unwrap();
    request.write_all(b"GET /held HTTP/1.1\r\nhost: localhost\r\n\r\n").unwrap();
    assert!(process.said.any(|line| line.unwrap() == "the request runs"));
    process.signal(Signal::TERM);
    let deadline = Instant::now() + DEADLINE;
    while std::net::TcpStream::connect(process.address).is_ok() {
        assert!(Instant::now() < deadline, "it still accepts");
        std::thread::sleep(Duration::from_millis(5));
    }
    assert!(process.child.try_wait().unwrap().is_none(), "it waits for the request");
    process.signal(Signal::TERM);
    assert_eq!(process.exit_code(), Some(130));
}

/// Takes nothing from anybody; who may not even connect is told for how long.
struct Nobody {
    may_connect: Result<(), Duration>,
}

impl Surfaces for Nobody {
    fn serve(&self, _: http::Request<Body>) -> Serving {
        panic!("nothing comes so far")
    }

    fn barred(&self, _: std::net::IpAddr, _: &str, _: &http::HeaderMap, _: &RequestId) -> Option<http::Response<Body>> {
        Some(http::Response::builder().status(429).body(Body::from("not now")).unwrap())
    }

    fn may_connect(&self, _: std::net::IpAddr) -> Result<(), Duration> {
        self.may_connect
    }
}

/// All that a connection says to a request that would keep it open.
async fn said(address: SocketAddr) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    // Whoever is turned away at once may be gone before it has said anything.
    let _ = stream.write_all(b"GET / HTTP/1.1\r\nhost: localhost\r\n\r\n").await;
    let mut said = Vec::new();
    let _ = within(stream.read_to_end(&mut said)).await;
    String::from_utf8(said).unwrap()
}

#[tokio::test]
async fn who_is_not_heard_is_told_so_and_the_connection_closed() {
    let (running, _) = open(&[], Nobody { may_connect: Ok(()) }).await;
    let said = said(running.address()).await;
    assert!(said.starts_with("HTTP/1.1 429") && said.ends_with("not now"), "{said}");
    assert!(said.to_lowercase().contains("connection: close"), "{said}");

    let stream = TcpStream::connect(running.address()).await.unwrap();
    let (mut send, connection) = http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
    let closed = tokio::spawn(connection);
    let request = http::Request::get("http://localhost/").body(Empty::<Bytes>::new()).unwrap();
    assert_eq!(within(send.send_request(request)).await.unwrap().status(), 429);
    // The handle stays: it is the gateway that goes.
    within(closed).await.unwrap().unwrap();
    drop(send);
}

#[tokio::test]
async fn who_may_not_connect_is_told_for_how_long_and_nothing_is_read() {
    let (running, metrics) = open(&[], Nobody { may_connect: Err(Duration::from_mins(1)) }).await;
    let mut stream = TcpStream::connect(running.address()).await.unwrap();
    let mut said = String::new();
    within(stream.read_to_string(&mut said)).await.unwrap();
    assert!(said.starts_with("HTTP/1.1 429") && said.contains("retry-after: 60"), "{said}");
    assert_eq!(metrics.connections_cut.with(["banned"]).get(), 1);
}
