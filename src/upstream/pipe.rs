//! A two-way channel of whole JSON-RPC messages with one peer: what a stdio child and a legacy HTTP+SSE connection look
//! like to `mux`. A pipe knows neither ids nor methods. Both directions are bounded, and the first reason for closing is
//! the one that is kept.

use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::fault::Fault;

/// The near end: what the gateway holds.
#[derive(Debug)]
pub struct Pipe {
    /// Messages for the peer, one JSON text each.
    pub outgoing: mpsc::Sender<Bytes>,
    /// Messages of the peer, one JSON text each, not yet checked. Ends when nothing more will come.
    pub incoming: mpsc::Receiver<Bytes>,
    /// Why the peer is gone, once it is.
    pub closed: Closed,
}

/// The far end: what the transport holds. Dropping `incoming` ends the pipe, after what was sent before has been read.
#[derive(Debug)]
pub struct FarEnd {
    /// Messages to write to the peer.
    pub outgoing: mpsc::Receiver<Bytes>,
    /// Where messages of the peer go.
    pub incoming: mpsc::Sender<Bytes>,
    /// Where the reason for closing goes.
    pub closed: Closed,
}

/// Makes a pipe that holds up to `depth` messages in each direction (at least 1).
pub fn pipe(depth: usize) -> (Pipe, FarEnd) {
    let (to_peer, outgoing) = mpsc::channel(depth.max(1));
    let (from_peer, incoming) = mpsc::channel(depth.max(1));
    let closed = Closed::new();
    (Pipe { outgoing: to_peer, incoming, closed: closed.clone() }, FarEnd { outgoing, incoming: from_peer, closed })
}

/// A reason that is given once and can be waited for. Clones share it.
#[derive(Debug, Clone, Default)]
pub struct Closed(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    reason: OnceLock<Fault>,
    token: CancellationToken,
}

impl Closed {
    /// Not closed yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Closes with `fault`. Only the first call counts.
    pub fn set(&self, fault: Fault) {
        // The reason is stored before the token is cancelled, so that whoever wakes finds it.
        let _ = self.0.reason.set(fault);
        self.0.token.cancel();
    }

    /// The reason, if closed.
    pub fn reason(&self) -> Option<Fault> {
        self.0.reason.get().cloned()
    }

    /// Whether it is closed.
    pub fn is_set(&self) -> bool {
        self.0.reason.get().is_some()
    }

    /// Waits until it is closed.
    pub async fn wait(&self) -> Fault {
        loop {
            self.0.token.cancelled().await;
            if let Some(fault) = self.reason() {
                return fault;
            }
        }
    }
}
