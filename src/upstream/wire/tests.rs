use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

use super::*;
use crate::balance::{Figures, Mode, Replicas, Room, Scaling};
use crate::net::AddressPolicy;
use crate::registry::model::{Policy, Replica};
use crate::telemetry::Metrics;

const LONG: Duration = Duration::from_secs(20);

/// A wire to this address, and what is measured of it.
struct World {
    wire: Arc<Wire>,
    replicas: Replicas,
    metrics: Metrics,
}

impl World {
    fn new(url: &str, outbound: Outbound, connect: Duration) -> Self {
        let one = [Replica { url: url.to_owned(), weight: 1 }];
        let replicas = Replicas::new(&one, Policy::RoundRobin, Room::ENDLESS, None, Instant::now());
        let target = Target::parse(url).unwrap();
        let wire = Arc::new(Wire::new(target, Arc::new(outbound), connect, 8, replicas.sockets(0)));
        Self { wire, replicas, metrics: Metrics::new(100) }
    }

    fn to(address: std::net::SocketAddr) -> Self {
        Self::new(&format!("http://{address}/"), Outbound::new(AddressPolicy::ADMIN, None), LONG)
    }

    async fn send(&self) -> Result<Bytes, Fault> {
        let mut request = Some(Request::new(Full::new(Bytes::from_static(b"{}"))));
        self.wire.send(&mut request, LONG).await?.body.collect(1024).await
    }

    fn figures(&self) -> Figures {
        let fixed = Scaling { mode: Mode::Fixed, least: 1, most: 1, factor: 2.0, threshold: 0.8 };
        let now = Instant::now();
        self.replicas.settle(&fixed, &self.metrics, "it", now);
        self.replicas.pools(now).remove(0).figures
    }

    fn dials(&self, how: &str) -> u64 {
        self.metrics.upstream_dials.with(["it", "0", how]).get()
    }
}

/// Answers every request of one connection after the other; each connection takes so many.
async fn serve(listener: TcpListener, requests: usize) {
    loop {
        let (mut stream, _) = listener.accept().await.unwrap();
        for _ in 0..requests {
            let mut head = vec![0; 4096];
            if stream.read(&mut head).await.unwrap() == 0 {
                break;
            }
            stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}").await.unwrap();
        }
    }
}

#[tokio::test]
async fn requests_are_counted_by_whether_their_connection_had_carried_another() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let world = World::to(listener.local_addr().unwrap());
    let server = tokio::spawn(serve(listener, 3));
    for _ in 0..3 {
        assert_eq!(world.send().await.unwrap(), "{}");
    }
    // The server closes a connection after three; the fourth request finds that out, or goes out on a new one.
    while world.wire.resting() > 0 {
        tokio::task::yield_now().await;
        world.wire.sweep(Instant::now() + FOREVER);
    }
    world.send().await.unwrap();
    let figures = world.figures();
    assert_eq!((figures.fresh, figures.reused, figures.connect.count, figures.tls.count), (2, 2, 2, 0));
    assert_eq!(world.metrics.upstream_requests.with(["it", "0", "reused"]).get(), 2);
    assert_eq!((world.dials("connected"), world.metrics.upstream_connect.with(["it", "0"]).count()), (2, 2));
    assert_eq!(world.replicas.pools(Instant::now())[0].in_use, 0);
    server.abort();
}

#[tokio::test]
async fn a_connection_that_was_closed_meanwhile_carried_no_request() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let world = World::to(listener.local_addr().unwrap());
    let server = tokio::spawn(serve(listener, 1));
    for _ in 0..5 {
        world.send().await.unwrap();
    }
    let figures = world.figures();
    assert_eq!((figures.fresh, figures.reused), (5, 0));
    server.abort();
}

#[tokio::test]
async fn a_request_that_is_given_up_was_sent_all_the_same() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let world = World::to(listener.local_addr().unwrap());
    let mut sending = Box::pin(world.send());
    let (mut stream, _) = tokio::select! {
        accepted = listener.accept() => accepted.unwrap(),
        _ = &mut sending => panic!("nobody answered"),
    };
    let mut head = [0; 64];
    tokio::select! {
        read = stream.read(&mut head) => assert!(read.unwrap() > 0),
        _ = &mut sending => panic!("nobody answered"),
    }
    assert_eq!(world.replicas.pools(Instant::now())[0].in_use, 1);
    drop(sending);
    assert_eq!((world.figures().fresh, world.replicas.pools(Instant::now())[0].in_use), (1, 0));
}

#[tokio::test]
async fn attempts_to_connect_are_counted_by_how_they_end() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let refused = World::to(address);
    assert_eq!(refused.send().await.unwrap_err().kind, Kind::Unreachable);
    assert_eq!((refused.figures().connection_timeouts(), refused.dials("failure")), (Some(0.0), 1));

    // A name server that takes its time.
    let slow = Arc::new(|_: &str, _| {
        std::thread::sleep(Duration::from_millis(200));
        Ok(Vec::new())
    });
    let outbound = || Outbound::with_resolver(AddressPolicy::ADMIN, None, slow.clone());
    let late = World::new("http://name.example/", outbound(), Duration::from_millis(20));
    assert_eq!(late.send().await.unwrap_err().kind, Kind::Unreachable);
    assert_eq!((late.figures().connection_timeouts(), late.dials("timeout")), (Some(1.0), 1));

    let left = World::new("http://name.example/", outbound(), LONG);
    let mut sending = Box::pin(left.send());
    assert!(futures_util::poll!(&mut sending).is_pending());
    drop(sending);
    assert_eq!((left.figures().connection_timeouts(), left.dials("given_up")), (None, 1));
}

#[tokio::test]
async fn a_tls_handshake_is_measured_apart() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let slow = Duration::from_millis(30);
    let server = tokio::spawn(async move {
        let stream = listener.accept().await.unwrap().0;
        // The connection stands, and its handshake takes its time.
        sleep(slow).await;
        let mut stream = crate::net::tests::acceptor().accept(stream).await.unwrap();
        assert!(stream.read(&mut [0; 4096]).await.unwrap() > 0);
        stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}").await.unwrap();
    });
    let here = Arc::new(move |_: &str, port| Ok(vec![(std::net::Ipv4Addr::LOCALHOST, port).into()]));
    let authority = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("src/net/testdata/ca.pem");
    let outbound = Outbound::with_resolver(AddressPolicy::ADMIN, Some(authority), here);
    let world = World::new(&format!("https://upstream.test:{port}/"), outbound, LONG);
    assert_eq!(world.send().await.unwrap(), "{}");
    server.await.unwrap();
    let figures = world.figures();
    assert_eq!((figures.connect.count, figures.tls.count), (1, 1));
    assert!(figures.tls.sum >= slow && figures.handshake() < figures.connection_latency(), "{figures:?}");
    assert_eq!(world.metrics.upstream_tls.with(["it", "0"]).count(), 1);
}
