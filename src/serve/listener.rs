//! The listening socket and the loop that accepts. It never ends because of one bad connection, and it never holds more of
//! them than the cap.

use std::io::Write as _;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::OwnedSemaphorePermit;

use super::connection::{Host, serve};
use super::workers::{Seat, Workers};

/// Connections that the kernel keeps while the loop is busy.
const BACKLOG: u32 = 1024;

pub(super) fn bind(address: SocketAddr) -> std::io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    // Else a restart waits for connections of its predecessor to be forgotten by the kernel.
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

/// Accepts until the process begins to stop; the socket is closed then.
pub(super) async fn accept(listener: TcpListener, host: Arc<Host>, workers: Arc<Workers>) {
    let mut pause = Duration::ZERO;
    loop {
        let accepted = tokio::select! {
            () = host.shutdown.cancelled() => return,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, peer)) => {
                pause = Duration::ZERO;
                if let Err(wait) = host.may_connect(peer) {
                    turn_away(&host, stream, wait);
                    continue;
                }
                match Arc::clone(&host.places).try_acquire_owned() {
                    Ok(place) => {
                        // Without it an answer in two writes waits 40 ms for the client's delayed acknowledgement.
                        if stream.set_nodelay(true).is_ok()
                            && let Ok(stream) = stream.into_std()
                        {
                            let seat = workers.seat();
                            let handle = seat.handle.clone();
                            host.tasks.spawn_on(seated(Arc::clone(&host), stream, peer, place, seat), &handle);
                        }
                    }
                    Err(_) => refuse(&host, stream),
                }
            }
            Err(error) if is_of_one_connection(&error) => {}
            Err(error) => {
                // Out of descriptors, most likely: trying again at once would only burn a processor.
                pause = (pause * 2).clamp(Duration::from_millis(10), Duration::from_secs(1));
                tracing::warn!(%error, pause_ms = pause.as_millis(), "cannot accept connections");
                host.cut_for("accept_error");
                tokio::select! {
                    () = host.shutdown.cancelled() => return,
                    () = tokio::time::sleep(pause) => {}
                }
            }
        }
    }
}

/// On its own thread from here on: the socket is watched by that thread's runtime.
async fn seated(
    host: Arc<Host>,
    stream: std::net::TcpStream,
    peer: SocketAddr,
    place: OwnedSemaphorePermit,
    seat: Seat,
) {
    match TcpStream::from_std(stream) {
        Ok(stream) => serve(host, stream, peer, place, seat).await,
        Err(error) => tracing::warn!(%error, "an accepted connection cannot be watched"),
    }
}

fn is_of_one_connection(error: &std::io::Error) -> bool {
    use std::io::ErrorKind::{ConnectionAborted, ConnectionReset, Interrupted};
    matches!(error.kind(), ConnectionAborted | ConnectionReset | Interrupted)
}

/// Refuses a banned peer, of whom enough were heard out.
fn turn_away(host: &Host, stream: TcpStream, wait: Duration) {
    host.cut_for("banned");
    say(host, stream, "429 Too Many Requests", wait.as_secs().max(1));
}

/// Refuses a connection for which there is no place.
fn refuse(host: &Host, stream: TcpStream) {
    host.cut_for("full");
    say(host, stream, "503 Service Unavailable", 1);
}

/// Says it as far as that goes without waiting, and closes.
fn say(host: &Host, stream: TcpStream, status: &str, retry_after: u64) {
    // On a TLS listener this would be noise in the client's handshake.
    if !host.has_tls()
        && let Ok(mut stream) = stream.into_std()
    {
        let text = format!(
            "HTTP/1.1 {status}\r\nretry-after: {retry_after}\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"
        );
        let _ = stream.write(text.as_bytes());
    }
}
