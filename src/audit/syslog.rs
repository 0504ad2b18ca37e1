//! Sends what is in the database to a collector, as messages of syslog (RFC 5424): one a record, in UDP datagrams (RFC 5426) or in a
//! TCP stream with their lengths in front (RFC 6587). UDP loses what the network loses, and TCP what the collector had not read when it went away.

use std::borrow::Cow;
use std::io;
use std::time::Duration;

use tokio::io::AsyncWriteExt as _;
use tokio::net::{TcpStream, UdpSocket};

use super::forward::{Destination, SendError, forward, without_arguments};
use crate::config::Syslog;
use crate::store::audit::{AuditRow, Way};
use crate::store::{Store, at};

/// Longest that the collector may take for one piece.
const PATIENCE: Duration = Duration::from_secs(5);
/// Facility 13, log audit; severity 5, notice, and 6, informational.
const NOTICE: u8 = 13 * 8 + 5;
const INFORMATIONAL: u8 = 13 * 8 + 6;

/// See the module.
pub struct Collector {
    to: Syslog,
    /// Whether it gets arguments too.
    arguments: bool,
    host: String,
    open: Option<Open>,
}

enum Open {
    Udp(UdpSocket),
    Tcp(TcpStream),
}

impl Collector {
    /// The one that the settings name, and whether it gets the arguments that tenants have recorded.
    pub fn new(to: Syslog, arguments: bool) -> Self {
        let host =
            rustix::system::uname().nodename().to_string_lossy().chars().filter(char::is_ascii_graphic).collect();
        Self { to, arguments, host, open: None }
    }

    /// Sends what was not sent yet.
    pub async fn forward(&mut self, store: &Store) -> Result<(), SendError> {
        forward(self, store).await
    }

    async fn send(&mut self, rows: &[AuditRow]) -> io::Result<()> {
        let sent = tokio::time::timeout(PATIENCE, self.send_all(rows)).await;
        let sent = sent.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()));
        if sent.is_err() {
            self.open = None;
        }
        sent
    }

    async fn send_all(&mut self, rows: &[AuditRow]) -> io::Result<()> {
        let open = match self.open.take() {
            Some(open) => open,
            None => self.connect().await?,
        };
        match self.open.insert(open) {
            Open::Udp(socket) => {
                for row in rows {
                    socket.send(message(&self.host, row, self.arguments).as_bytes()).await?;
                }
            }
            Open::Tcp(stream) => {
                let mut all = Vec::new();
                for row in rows {
                    let message = message(&self.host, row, self.arguments);
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

impl Destination for Collector {
    const WAY: Way = Way::Syslog;

    async fn take(&mut self, rows: &[AuditRow]) -> Result<(), SendError> {
        Ok(self.send(rows).await?)
    }
}

fn message(host: &str, row: &AuditRow, arguments: bool) -> String {
    let severity = if row.outcome == "success" { INFORMATIONAL } else { NOTICE };
    let time = at(row.at).format(&time::format_description::well_known::Rfc3339).unwrap_or_else(|_| "-".to_owned());
    let text = if arguments { Cow::Borrowed(&*row.text) } else { without_arguments(&row.text) };
    format!("<{severity}>1 {time} {host} mcp-gateway {} audit - \u{feff}{text}", std::process::id())
}
