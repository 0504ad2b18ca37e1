use std::sync::atomic::{AtomicUsize, Ordering};

use rustls::pki_types::PrivateKeyDer;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use super::*;

const SOON: Duration = Duration::from_secs(5);

fn answering(addresses: &'static [&'static str]) -> Arc<Resolve> {
    Arc::new(move |_, port| {
        Ok(addresses.iter().map(|address| SocketAddr::new(address.parse().expect("an address"), port)).collect())
    })
}

fn dialler(policy: AddressPolicy, addresses: &'static [&'static str]) -> Outbound {
    Outbound::with_resolver(policy, Some(data("ca.pem")), answering(addresses))
}

/// A file with an authority, or a certificate and key that it gave to `upstream.test`.
pub(crate) fn data(file: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("src/net/testdata").join(file)
}

async fn listener() -> (TcpListener, u16) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    (listener, port)
}

/// Echoes what one client says.
async fn echo(mut stream: impl AsyncReadExt + AsyncWriteExt + Unpin) {
    let mut buffer = [0; 64];
    while let Ok(read @ 1..) = stream.read(&mut buffer).await {
        let _ = stream.write_all(&buffer[..read]).await;
        let _ = stream.flush().await;
    }
}

async fn says_back(mut connection: Connection) {
    connection.stream.write_all(b"hello").await.unwrap();
    connection.stream.flush().await.unwrap();
    let mut answer = [0; 5];
    connection.stream.read_exact(&mut answer).await.unwrap();
    assert_eq!(&answer, b"hello");
    connection.stream.shutdown().await.unwrap();
}

fn target(scheme: &str, host: &str, port: u16) -> Target {
    Target::parse(&format!("{scheme}://{host}:{port}/mcp")).unwrap()
}

#[tokio::test]
async fn a_plain_connection_carries_bytes_and_says_what_it_took() {
    let (listener, port) = listener().await;
    let server = async { echo(listener.accept().await.unwrap().0).await };
    let client = async {
        let outbound = dialler(AddressPolicy::ADMIN, &["127.0.0.1"]);
        let connection = outbound.connect(&target("http", "upstream.test", port), SOON).await.unwrap();
        assert_eq!(connection.peer.to_string(), format!("127.0.0.1:{port}"));
        assert_eq!(connection.tls_time, None);
        let Stream::Plain(stream) = &connection.stream else { panic!("not plain") };
        assert!(stream.nodelay().unwrap());
        says_back(connection).await;
    };
    tokio::join!(server, client);
}

#[tokio::test]
async fn a_name_that_answers_differently_a_moment_later_changes_nothing() {
    let (_listener, port) = listener().await;
    let asked = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&asked);
    let rebinding = move |_: &str, port| {
        let first = count.fetch_add(1, Ordering::Relaxed) == 0;
        Ok(vec![SocketAddr::new(if first { "127.0.0.1" } else { "169.254.169.254" }.parse().unwrap(), port)])
    };
    let outbound = Outbound::with_resolver(AddressPolicy::ADMIN, None, Arc::new(rebinding));
    let target = target("http", "rebinding.test", port);
    let connection = outbound.connect(&target, SOON).await.unwrap();
    assert_eq!((connection.peer.ip().to_string().as_str(), asked.load(Ordering::Relaxed)), ("127.0.0.1", 1));
    let fault = outbound.connect(&target, SOON).await.unwrap_err();
    assert_eq!((fault.kind, asked.load(Ordering::Relaxed)), (Kind::Setup, 2));
}

#[tokio::test]
async fn an_address_that_may_not_be_called_is_not_called_however_it_is_named() {
    let (listener, port) = listener().await;
    let stranger = dialler(AddressPolicy::STRANGER, &["127.0.0.1"]);
    for host in ["127.0.0.1", "127.1", "0x7f000001", "[::1]", "[::ffff:127.0.0.1]", "[64:ff9b::7f00:1]", "name.test"] {
        let fault = stranger.connect(&target("http", host, port), SOON).await.unwrap_err();
        assert_eq!((fault.kind, fault.retry), (Kind::Setup, Retry::NotSent), "{host}");
        assert!(fault.detail.contains("does not call") && !fault.counts_against_replica(), "{}", fault.detail);
    }
    let admin = dialler(AddressPolicy::ADMIN, &["169.254.169.254", "fd00:ec2::254", "::ffff:169.254.169.254"]);
    for host in ["metadata.test", "169.254.169.254", "[fe80::1]", "0.0.0.0", "255.255.255.255", "[ff02::1]"] {
        let fault = admin.connect(&target("http", host, port), SOON).await.unwrap_err();
        assert_eq!(fault.kind, Kind::Setup, "{host}: {}", fault.detail);
    }
    let nobody_came = tokio::time::timeout(Duration::ZERO, listener.accept()).await;
    assert!(nobody_came.is_err());
}

#[tokio::test]
async fn of_several_addresses_the_allowed_ones_are_tried_in_order() {
    let (_listener, port) = listener().await;
    // The first may not be called, at the second nothing listens, the third is the listener in IPv6 clothes.
    let outbound = dialler(AddressPolicy::ADMIN, &["169.254.169.254", "127.0.0.2", "::ffff:127.0.0.1"]);
    let connection = outbound.connect(&target("http", "many.test", port), SOON).await.unwrap();
    assert_eq!(connection.peer.to_string(), format!("127.0.0.1:{port}"));
}

#[tokio::test]
async fn the_time_to_connect_counts_addresses_that_swallow_packets() {
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.2:0".parse().unwrap()).unwrap();
    let full = socket.listen(1).unwrap();
    let address = full.local_addr().unwrap();
    // Nobody accepts: when the backlog is full, whoever comes is not answered.
    let mut held = Vec::new();
    while let Ok(stream) = tokio::time::timeout(Duration::from_millis(100), TcpStream::connect(address)).await {
        held.push(stream.unwrap());
    }
    let _listener = TcpListener::bind(("127.0.0.1", address.port())).await.unwrap();
    let outbound = dialler(AddressPolicy::ADMIN, &["127.0.0.2", "127.0.0.1"]);
    let connection = outbound.connect(&target("http", "many.test", address.port()), SOON).await.unwrap();
    assert!(connection.connect_time >= LEAST_SHARE, "{connection:?}");
}

#[tokio::test]
async fn a_fault_says_host_and_reason() {
    let (listener, port) = listener().await;
    drop(listener);
    let outbound = dialler(AddressPolicy::ADMIN, &["127.0.0.1"]);
    let fault = outbound.connect(&target("http", "gone.test", port), SOON).await.unwrap_err();
    assert_eq!((fault.kind, fault.retry), (Kind::Unreachable, Retry::NotSent));
    assert_eq!(fault.detail, format!("gone.test:{port} cannot be reached: nothing listens there (connection refused)"));
    assert!(fault.counts_against_replica());

    let unknown = |_: &str, _| Err(io::Error::other("no such name"));
    let outbound = Outbound::with_resolver(AddressPolicy::ADMIN, None, Arc::new(unknown));
    let fault = outbound.connect(&target("http", "unknown.test", 80), SOON).await.unwrap_err();
    assert!(fault.detail.contains("unknown.test:80") && fault.detail.contains("no such name"), "{}", fault.detail);
    let none = dialler(AddressPolicy::ADMIN, &[]).connect(&target("http", "none.test", 80), SOON).await.unwrap_err();
    assert!(none.detail.contains("has no address"), "{}", none.detail);
}

#[tokio::test]
async fn a_resolver_that_hangs_is_not_waited_for() {
    let (release, held) = std::sync::mpsc::channel::<()>();
    let held = std::sync::Mutex::new(held);
    let hangs = move |_: &str, _| {
        let _ = held.lock().unwrap().recv();
        Ok(Vec::new())
    };
    let outbound = Outbound::with_resolver(AddressPolicy::ADMIN, None, Arc::new(hangs));
    let fault = outbound.connect(&target("http", "slow.test", 80), Duration::from_millis(30)).await.unwrap_err();
    assert!(fault.detail.contains("no connection within 30 ms"), "{}", fault.detail);
    assert_eq!(outbound.parts.lookups.available_permits(), MAX_LOOKUPS - 1, "the thread is still counted");
    drop(release);
}

/// Speaks TLS as `upstream.test`.
pub(crate) fn acceptor() -> TlsAcceptor {
    let certificate = CertificateDer::from_pem_file(data("server.pem")).unwrap();
    let key = PrivateKeyDer::from_pem_file(data("server.key")).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = rustls::ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let mut config = builder.with_no_client_auth().with_single_cert(vec![certificate], key).unwrap();
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    TlsAcceptor::from(Arc::new(config))
}

#[tokio::test]
async fn tls_trusts_the_named_authority_for_the_name_in_the_certificate() {
    let (listener, port) = listener().await;
    let server = async {
        let stream = acceptor().accept(listener.accept().await.unwrap().0).await.unwrap();
        assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"http/1.1"[..]));
        echo(stream).await;
    };
    let client = async {
        let outbound = dialler(AddressPolicy::ADMIN, &["127.0.0.1"]);
        let connection = outbound.connect(&target("https", "upstream.test", port), SOON).await.unwrap();
        assert!(connection.tls_time.is_some());
        says_back(connection).await;
    };
    tokio::join!(server, client);
}

#[tokio::test]
async fn tls_refuses_another_name_and_an_unknown_authority() {
    for (host, extra_ca) in
        [("other.test", Some(data("ca.pem"))), ("127.0.0.1", Some(data("ca.pem"))), ("upstream.test", None)]
    {
        let (listener, port) = listener().await;
        let server = async { acceptor().accept(listener.accept().await.unwrap().0).await.map(|_| ()) };
        let client = async {
            let outbound = Outbound::with_resolver(AddressPolicy::ADMIN, extra_ca, answering(&["127.0.0.1"]));
            outbound.connect(&target("https", host, port), SOON).await.unwrap_err()
        };
        let (accepted, fault) = tokio::join!(server, client);
        // Without any certificate on the machine the gateway does not get as far as the handshake, and says so.
        assert!(
            fault.detail.contains("TLS failed") || fault.detail.contains("no trusted certificates"),
            "{}",
            fault.detail
        );
        assert!(accepted.is_err());
    }
}

#[tokio::test]
async fn a_file_of_certificates_that_holds_none_is_named() {
    let (_listener, port) = listener().await;
    let outbound = Outbound::with_resolver(AddressPolicy::ADMIN, Some(data("server.key")), answering(&["127.0.0.1"]));
    let fault = outbound.connect(&target("https", "upstream.test", port), SOON).await.unwrap_err();
    assert_eq!(fault.kind, Kind::Setup);
    assert!(fault.detail.contains("server.key") && fault.detail.contains("no certificate"), "{}", fault.detail);
}
