//! The board in Redis, for replicas that share a capacity: one script does the whole exchange, by the clock of Redis, so that the clocks
//! of the replicas need not agree. It follows the same rules as the board in memory, which tests compare it with.

use std::path::Path;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use redis::aio::MultiplexedConnection;
use redis::{
    AsyncConnectionConfig, Client, ConnectionAddr, IntoConnectionInfo as _, RedisError, Script, TlsCertificates,
};

use super::{LEASE, MOST_TAKEN, Other, Reply, Report, wire};
use crate::limit::bucket::Nanos;

/// How long an exchange may take: a lease that comes later would soon be over.
const PATIENCE: Duration = Duration::from_millis(500);
/// The board. What stands in braces keeps it and its buckets together where keys are spread over several servers.
const BOARD: &str = "{mcp-gateway}:board";

/// Why the board cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum BoardError {
    /// What was given is no address of a Redis.
    #[error(
        "not the address of a Redis: {0}. It looks like redis://[user:password@]host[:port][/database], or rediss:// for TLS"
    )]
    Address(RedisError),
    /// The certificates to trust cannot be read.
    #[error("cannot read the certificates in {0}: {1}")]
    Certificates(String, std::io::Error),
    /// It is away, or answers with an error.
    #[error("{0}")]
    Away(#[from] RedisError),
}

/// A board in Redis. Connects when it is used first, and anew when the connection was lost.
#[derive(Debug)]
pub struct RedisBoard {
    client: Client,
    connection: Option<MultiplexedConnection>,
    script: Script,
    capacity: f64,
}

impl RedisBoard {
    /// The one at `url`, for so many requests a second. `extra_ca` names certificates, PEM, that are trusted besides the system's.
    /// Connects to nothing yet.
    pub fn open(url: &str, extra_ca: Option<&Path>, capacity: f64) -> Result<Self, BoardError> {
        let info = url.into_connection_info().map_err(BoardError::Address)?;
        let client = match (info.addr(), extra_ca) {
            (ConnectionAddr::TcpTls { .. }, Some(file)) => {
                let root_cert = Some(trusted(file)?);
                Client::build_with_tls(info, TlsCertificates { client_tls: None, root_cert })
            }
            _ => Client::open(info),
        };
        let client = client.map_err(BoardError::Address)?;
        Ok(Self { client, connection: None, script: Script::new(include_str!("exchange.lua")), capacity })
    }

    /// One replica writes and reads. One round trip.
    pub async fn exchange(&mut self, report: &Report) -> Result<Reply, BoardError> {
        // Whoever fails, or is dropped while it waits, leaves no connection behind on which an answer is still to come.
        let mut connection = match self.connection.take() {
            Some(connection) => connection,
            None => self.connect().await?,
        };
        let invocation = self.invocation(report);
        let (lease, others, spent): (Vec<u8>, Vec<Vec<u8>>, Vec<i64>) =
            invocation.invoke_async(&mut connection).await?;
        self.connection = Some(connection);
        let lease = lease.try_into().map_or(0.0, f64::from_be_bytes);
        let others = others.chunks_exact(2).filter_map(|pair| read(&pair[0], &pair[1]));
        let spent = spent.into_iter().map(|micros| micros.saturating_mul(1000));
        Ok(Reply {
            others: others.collect(),
            lease: if lease.is_finite() { lease } else { 0.0 },
            spent: spent.collect(),
        })
    }

    /// Answers when Redis does, and may be used.
    pub async fn ping(&self) -> Result<(), BoardError> {
        Ok(redis::cmd("PING").exec_async(&mut self.connect().await?).await?)
    }

    async fn connect(&self) -> Result<MultiplexedConnection, RedisError> {
        let patience =
            AsyncConnectionConfig::new().set_connection_timeout(Some(PATIENCE)).set_response_timeout(Some(PATIENCE));
        self.client.get_multiplexed_async_connection_with_config(&patience).await
    }

    fn invocation(&self, report: &Report) -> redis::ScriptInvocation<'_> {
        let mut call = self.script.key(BOARD);
        call.arg(format!("{:032x}", report.replica)).arg(report.rate).arg(self.capacity).arg(LEASE / 1_000_000_000);
        call.arg(wire::write(report));
        for taken in report.taken.iter().take(MOST_TAKEN) {
            call.key(format!("{{mcp-gateway}}:bucket:{:032x}", taken.bucket));
            let price = taken.price;
            call.arg(taken.count).arg(micros(price.token)).arg(micros(price.saved.max(price.token)));
        }
        call
    }
}

fn read(replica: &[u8], text: &[u8]) -> Option<Other> {
    let replica = u128::from_str_radix(std::str::from_utf8(replica).ok()?, 16).ok()?;
    Some(wire::read(replica, text))
}

#[expect(clippy::cast_precision_loss, reason = "times of some minutes")]
fn micros(time: Nanos) -> f64 {
    time as f64 / 1000.0
}

/// The system's certificates and those of this file, PEM.
fn trusted(file: &Path) -> Result<Vec<u8>, BoardError> {
    let own = std::fs::read(file).map_err(|error| BoardError::Certificates(file.display().to_string(), error))?;
    let system = rustls_native_certs::load_native_certs().certs;
    let system = system.iter().map(|certificate| {
        format!("\n-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n", STANDARD.encode(certificate))
    });
    Ok(own.into_iter().chain(system.flat_map(String::into_bytes)).collect())
}
