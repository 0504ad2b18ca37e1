//! The guarded dialler: every connection that this gateway opens to a URL somebody chose goes through [`Outbound::connect`].
//! A name is resolved once, every address is checked, and exactly a checked address is dialled: a name that answers
//! differently a moment later (DNS rebinding) changes nothing.
//!
//! It knows sockets and TLS; of HTTP only as much as a small question needs ([`Outbound::fetch`]). Redirects are the business
//! of whoever speaks HTTP; [`check_redirect`] is the rule.

mod address;
mod fetch;
mod stream;
mod target;

use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::net::{TcpSocket, TcpStream};
use tokio::sync::{OnceCell, Semaphore};
use tokio::time::{Instant, timeout_at};
use tokio_rustls::TlsConnector;

pub use address::{AddressPolicy, Class, classify};
pub use fetch::{Answer, Bounds};
pub use stream::Stream;
pub use target::{MAX_REDIRECTS, Redirect, Target, TargetHost, check_redirect};

use crate::fault::{Fault, Kind, Retry};

/// Most addresses of one name that are tried.
const MAX_ADDRESSES: usize = 8;
/// Most names being resolved at a time. The system's resolver cannot be cancelled; more would pile up threads behind a
/// name server that hangs.
const MAX_LOOKUPS: usize = 32;
/// The least time one address gets while others are left.
const LEAST_SHARE: Duration = Duration::from_millis(250);

/// Turns a name and a port into addresses. It may block.
pub type Resolve = dyn Fn(&str, u16) -> io::Result<Vec<SocketAddr>> + Send + Sync;

/// An open connection and what it took to open it.
#[derive(Debug)]
pub struct Connection {
    /// The connection.
    pub stream: Stream,
    /// The address that was dialled.
    pub peer: SocketAddr,
    /// Time to resolve the name; zero for an address.
    pub resolve_time: Duration,
    /// Time to a TCP connection, also with addresses that were tried before `peer` in vain.
    pub connect_time: Duration,
    /// Time of the TLS handshake.
    pub tls_time: Option<Duration>,
}

/// See the module. Clones share the TLS settings and the bound on lookups.
#[derive(Clone)]
pub struct Outbound {
    policy: AddressPolicy,
    parts: Arc<Parts>,
}

struct Parts {
    resolve: Arc<Resolve>,
    lookups: Arc<Semaphore>,
    extra_ca: Option<PathBuf>,
    /// Made at the first TLS connection: reading the system's certificates takes milliseconds that a start need not wait for.
    tls: OnceCell<TlsConnector>,
}

impl Outbound {
    /// A dialler under `policy`. `extra_ca` is a PEM file with certificates to trust besides the system's.
    pub fn new(policy: AddressPolicy, extra_ca: Option<PathBuf>) -> Self {
        let system = |host: &str, port: u16| (host, port).to_socket_addrs().map(Iterator::collect);
        Self::with_resolver(policy, extra_ca, Arc::new(system))
    }

    /// The same with another resolver.
    pub fn with_resolver(policy: AddressPolicy, extra_ca: Option<PathBuf>, resolve: Arc<Resolve>) -> Self {
        let lookups = Arc::new(Semaphore::new(MAX_LOOKUPS));
        Self { policy, parts: Arc::new(Parts { resolve, lookups, extra_ca, tls: OnceCell::new() }) }
    }

    /// The same dialler under another policy.
    #[must_use]
    pub fn under(&self, policy: AddressPolicy) -> Self {
        Self { policy, parts: Arc::clone(&self.parts) }
    }

    /// Opens a connection within `timeout`, from the lookup to the end of the TLS handshake. The addresses are tried in the
    /// order of the resolver, each with its share of the time that is left, so that a first one that swallows packets does
    /// not use up the time of the second.
    pub async fn connect(&self, target: &Target, timeout: Duration) -> Result<Connection, Fault> {
        let began = Instant::now();
        let deadline = began + timeout;
        let late = || unreachable(target, &format!("no connection within {} ms", timeout.as_millis()));
        let addresses = timeout_at(deadline, self.addresses(target)).await.map_err(|_| late())??;
        let resolve_time = match target.host {
            TargetHost::Name(_) => began.elapsed(),
            TargetHost::Address(_) => Duration::ZERO,
        };

        let dialled = Instant::now();
        let mut last = None;
        for (index, peer) in addresses.iter().enumerate() {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            let sharers = u32::try_from(addresses.len() - index).unwrap_or(1);
            let share = (left / sharers).max(LEAST_SHARE);
            match timeout_at(deadline.min(Instant::now() + share), dial(*peer)).await {
                Ok(Ok(stream)) => {
                    let connect_time = dialled.elapsed();
                    let secured = timeout_at(deadline, self.secure(target, stream)).await;
                    let (stream, tls_time) = secured.map_err(|_| late())??;
                    return Ok(Connection { stream, peer: *peer, resolve_time, connect_time, tls_time });
                }
                Ok(Err(error)) => last = Some(error),
                Err(_) => {}
            }
        }
        Err(last.map_or_else(late, |error| unreachable(target, &reason(&error))))
    }

    /// The addresses behind `target` that may be dialled, at least one.
    async fn addresses(&self, target: &Target) -> Result<Vec<SocketAddr>, Fault> {
        let found = match &target.host {
            TargetHost::Address(address) => vec![SocketAddr::new(*address, target.port)],
            TargetHost::Name(name) => self.look_up(name, target).await?,
        };
        let mut refused = None;
        let mut allowed = Vec::with_capacity(found.len().min(MAX_ADDRESSES));
        for address in found {
            // What is dialled is what was checked: an IPv4 address in IPv6 clothes is undressed before both.
            let address = SocketAddr::new(address.ip().to_canonical(), target.port);
            match self.policy.check(address.ip()) {
                Ok(()) if allowed.len() < MAX_ADDRESSES && !allowed.contains(&address) => allowed.push(address),
                Ok(()) => {}
                Err(what) => refused = Some(what),
            }
        }
        match (allowed.is_empty(), refused) {
            (false, _) => Ok(allowed),
            (true, Some(what)) => {
                Err(Fault::gateway(Kind::Setup, format!("{target} is {what}, which this gateway does not call")))
            }
            (true, None) => Err(unreachable(target, "the name has no address")),
        }
    }

    async fn look_up(&self, name: &Arc<str>, target: &Target) -> Result<Vec<SocketAddr>, Fault> {
        let Ok(permit) = Arc::clone(&self.parts.lookups).acquire_owned().await else {
            return Err(unreachable(target, "the gateway is stopping"));
        };
        let (resolve, name, port) = (Arc::clone(&self.parts.resolve), Arc::clone(name), target.port);
        // The permit goes along: a lookup that nobody waits for any more still holds its thread.
        let lookup = tokio::task::spawn_blocking(move || {
            let _permit = permit;
            resolve(&name, port)
        });
        match lookup.await {
            Ok(Ok(found)) => Ok(found),
            Ok(Err(error)) => Err(unreachable(target, &format!("the name could not be resolved ({error})"))),
            Err(_) => Err(unreachable(target, "the name could not be resolved")),
        }
    }

    async fn secure(&self, target: &Target, stream: TcpStream) -> Result<(Stream, Option<Duration>), Fault> {
        if !target.tls {
            return Ok((Stream::Plain(stream), None));
        }
        let connector = self.parts.tls.get_or_try_init(|| load_tls(self.parts.extra_ca.clone())).await?;
        let name = match &target.host {
            TargetHost::Name(name) => ServerName::try_from(name.to_string())
                .map_err(|_| Fault::gateway(Kind::Setup, format!("{name} is no name that TLS knows")))?,
            TargetHost::Address(address) => ServerName::IpAddress((*address).into()),
        };
        let started = Instant::now();
        match connector.connect(name, stream).await {
            Ok(stream) => Ok((Stream::Tls(Box::new(stream)), Some(started.elapsed()))),
            Err(error) => Err(unreachable(target, &format!("TLS failed: {error}"))),
        }
    }
}

impl std::fmt::Debug for Outbound {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Outbound").field("policy", &self.policy).finish_non_exhaustive()
    }
}

/// Reads the certificates to trust. A file that an administrator named must be readable and hold some; of the system's, what
/// can be read is taken.
async fn load_tls(extra_ca: Option<PathBuf>) -> Result<TlsConnector, Fault> {
    let load = move || {
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        if let Some(path) = extra_ca {
            let shown = path.display();
            let bad = |error: &dyn std::fmt::Display| {
                Fault::gateway(Kind::Setup, format!("the file of extra certificates, {shown}, cannot be used: {error}"))
            };
            let before = roots.len();
            for certificate in CertificateDer::pem_file_iter(&path).map_err(|error| bad(&error))? {
                let certificate = certificate.map_err(|error| bad(&error))?;
                roots.add(certificate).map_err(|error| bad(&error))?;
            }
            if roots.len() == before {
                return Err(bad(&"it holds no certificate in PEM form"));
            }
        }
        if roots.is_empty() {
            let detail =
                "this machine has no trusted certificates; install the package ca-certificates, or name a PEM file";
            return Err(Fault::gateway(Kind::Setup, detail));
        }
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| Fault::gateway(Kind::Setup, format!("TLS cannot be set up: {error}")))?;
        let mut config = builder.with_root_certificates(roots).with_no_client_auth();
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(TlsConnector::from(Arc::new(config)))
    };
    let loaded = tokio::task::spawn_blocking(load).await;
    loaded.unwrap_or_else(|_| Err(Fault::gateway(Kind::Setup, "the trusted certificates could not be read")))
}

async fn dial(peer: SocketAddr) -> io::Result<TcpStream> {
    let socket = if peer.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    // Answers of a few bytes must not wait for the other side's delayed acknowledgement.
    socket.set_nodelay(true)?;
    socket.set_keepalive(true)?;
    let stream = socket.connect(peer).await?;
    // A peer that vanished without a word is noticed after about two minutes instead of two hours.
    #[cfg(target_os = "linux")]
    {
        rustix::net::sockopt::set_tcp_keepidle(&stream, Duration::from_mins(1))?;
        rustix::net::sockopt::set_tcp_keepintvl(&stream, Duration::from_secs(15))?;
        rustix::net::sockopt::set_tcp_keepcnt(&stream, 4)?;
    }
    Ok(stream)
}

fn unreachable(target: &Target, why: &str) -> Fault {
    Fault::upstream(Kind::Unreachable, Retry::NotSent, format!("{target} cannot be reached: {why}"))
}

fn reason(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::ConnectionRefused => "nothing listens there (connection refused)".into(),
        io::ErrorKind::HostUnreachable | io::ErrorKind::NetworkUnreachable => "there is no route to it".into(),
        io::ErrorKind::ConnectionReset => "it closed the connection at once".into(),
        _ => error.to_string(),
    }
}

#[cfg(test)]
pub(crate) mod tests;
