//! What a listener must have before it can serve: the certificate, the port, the threads. It is had before anything is
//! written, so that a start that fails for want of it leaves nothing half done.

use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::Context as _;
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

use super::first_key::Settled;
use super::workers::Workers;
use super::{Ground, Running, connection, listener, tls};
use crate::config::Settings;
use crate::web::{Door, Surfaces};

/// A port that is held, and what is needed to serve at it.
pub(super) struct Front {
    socket: TcpListener,
    address: SocketAddr,
    acceptor: Option<TlsAcceptor>,
    workers: Arc<Workers>,
}

impl Front {
    /// Reads the certificate, takes the port and starts the threads. Clients that come now wait.
    pub(super) async fn open(settings: &Settings) -> anyhow::Result<Self> {
        let listen = &settings.listen;
        let acceptor = tls::acceptor(listen).await?;
        let wanted = SocketAddr::new(listen.host, listen.port);
        let socket = listener::bind(wanted).with_context(|| {
            format!("cannot listen on {wanted}; is another gateway running? Choose a port with --port")
        })?;
        let address = socket.local_addr()?;
        let workers = Workers::start(settings.pools.worker_threads).context("threads to serve requests")?;
        Ok(Self { socket, address, acceptor, workers: Arc::new(workers) })
    }

    /// The address it took.
    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    /// `http://address:port`; an address that stands for all is shown as the loopback one.
    pub(super) fn url(&self) -> String {
        let mut address = self.address;
        if address.ip().is_unspecified() {
            address.set_ip(if address.is_ipv4() {
                [127, 0, 0, 1].into()
            } else {
                std::net::Ipv6Addr::LOCALHOST.into()
            });
        }
        format!("{}://{address}", if self.acceptor.is_some() { "https" } else { "http" })
    }

    /// Serves `surfaces` behind the door.
    pub(super) fn serve(self, ground: &Ground, surfaces: impl Surfaces) -> Running {
        let url = self.url();
        let Self { socket, address, acceptor, workers } = self;
        let door = Door::new(&ground.settings, Arc::clone(&ground.metrics), surfaces);
        let cut = CancellationToken::new();
        let host = Arc::new(connection::Host::new(ground, door, acceptor, cut.clone()));
        workers.look_after(&host);
        ground.tasks.spawn(listener::accept(socket, host, Arc::clone(&workers)));
        Running {
            address,
            url,
            settled: Settled::default(),
            grace: ground.settings.limits.shutdown_grace,
            tasks: ground.tasks.clone(),
            shutdown: ground.shutdown.clone(),
            cut,
            workers,
        }
    }
}
