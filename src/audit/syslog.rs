//! Sends what is in the database to a collector, as messages of syslog (RFC 5424): one a record, in UDP datagrams (RFC 5426) or in a
//! TCP stream with their lengths in front (RFC 6587). At least once: how far a chain was sent is noted behind it. One process sends a
//! chain at a time. UDP loses what the network loses, and TCP what the collector had not read when it went away.

use std::io;
use std::time::Duration;

use tokio::io::AsyncWriteExt as _;
use tokio::net::{TcpStream, UdpSocket};

use super::block::Kept;
use super::records;
use crate::config::Syslog;
use crate::store::audit::AuditRow;
use crate::store::{Store, StoreError, at, micros, now};

/// Longest that the collector may take for one piece.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long a chain is one process's to send: longer than that.
const CLAIM: i64 = 30_000_000;
/// Records of one piece.
const AT_ONCE: i64 = 500;
/// Facility 13, log audit; severity 5, notice, and 6, informational.
const NOTICE: u8 = 13 * 8 + 5;
const INFORMATIONAL: u8 = 13 * 8 + 6;

/// Why records were not sent.
#[derive(Debug, thiserror::Error)]
pub enum SendError {
    /// The collector does not take them.
    #[error("the collector of the audit trail (MREG_AUDIT_SYSLOG) takes nothing: {0}")]
    Collector(#[from] io::Error),
    /// The database refused or failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// See the module.
pub struct Collector {
    to: Syslog,
    host: String,
    open: Option<Open>,
}

enum Open {
    Udp(UdpSocket),
    Tcp(TcpStream),
}

impl Collector {
    /// The one that the settings name.
    pub fn new(to: Syslog) -> Self {
        let host =
            rustix::system::uname().nodename().to_string_lossy().chars().filter(char::is_ascii_graphic).collect();
        Self { to, host, open: None }
    }

    /// Sends what was not sent yet.
    pub async fn forward(&mut self, store: &Store) -> Result<(), SendError> {
        for chain in store.audit_unsent().await? {
            loop {
                let now = micros(now());
                let Some(after) = store.claim_audit_sending(&chain, now, now + CLAIM).await? else { break };
                let piece = records::piece(store, &chain, after, AT_ONCE).await?;
                let sent = self.send(&piece.records).await;
                let last = piece.records.last().map(|kept| kept.row.seq).max(piece.next);
                store.audit_was_sent(&chain, last.filter(|_| sent.is_ok()).unwrap_or(after)).await?;
                sent?;
                if last.is_none() {
                    break;
                }
            }
        }
        Ok(())
    }

    async fn send(&mut self, records: &[Kept]) -> io::Result<()> {
        let sent = tokio::time::timeout(PATIENCE, self.send_all(records)).await;
        let sent = sent.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()));
        if sent.is_err() {
            self.open = None;
        }
        sent
    }

    async fn send_all(&mut self, records: &[Kept]) -> io::Result<()> {
        let open = match self.open.take() {
            Some(open) => open,
            None => self.connect().await?,
        };
        match self.open.insert(open) {
            Open::Udp(socket) => {
                for Kept { row, .. } in records {
                    socket.send(message(&self.host, row).as_bytes()).await?;
                }
            }
            Open::Tcp(stream) => {
                let mut all = Vec::new();
                for Kept { row, .. } in records {
                    let message = message(&self.host, row);
                    all.extend_from_slice(format!("{} {message}", message.len()).as_bytes());
                }
                stream.write_all(&all).await?;
            }
        }
        Ok(())
    }

    async fn connect(&self) -> io::Result<Open> {
        let address = (self.to.host.as_str(), self.to.port);
        if self.to.tcp {
            return Ok(Open::Tcp(TcpStream::connect(address).await?));
        }
        let found = tokio::net::lookup_host(address).await?.next();
        let found = found.ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, "the collector has no address"))?;
        let any: std::net::IpAddr = if found.is_ipv4() { [0, 0, 0, 0].into() } else { [0; 16].into() };
        let socket = UdpSocket::bind((any, 0)).await?;
        socket.connect(found).await?;
        Ok(Open::Udp(socket))
    }
}

fn message(host: &str, row: &AuditRow) -> String {
    let severity = if row.outcome == "success" { INFORMATIONAL } else { NOTICE };
    let time = at(row.at).format(&time::format_description::well_known::Rfc3339).unwrap_or_else(|_| "-".to_owned());
    format!("<{severity}>1 {time} {host} mcp-gateway {} audit - \u{feff}{}", std::process::id(), row.text)
}
