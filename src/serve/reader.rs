//! An answer on its way to its reader. Its request counts as running until it is gone. Over HTTP/2 it waits for a window of its
//! own, of which the socket shows nothing: it notes since when it is the reader's turn, and the thread's round (`rounds`) resets
//! the one stream whose reader has made no room for too long. Its neighbours go on.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::task::{Context, Poll};

use axum::body::Body;
use bytes::Bytes;
use http_body::{Frame, SizeHint};
use tokio_util::sync::CancellationToken;

use super::watch::{Pulse, Running};

/// Largest piece that is handed over at once over HTTP/2, the default size of a frame: what is handed over waits where it
/// cannot be seen.
const PIECE: usize = 16 << 10;

/// Whose turn it is: the gateway's to say more, or the reader's to make room for what was said.
#[derive(Debug)]
pub(super) struct Turn {
    /// Since when it is the reader's, in the milliseconds of the connection's pulse; plus one, 0 for not at all.
    since: AtomicU64,
    reset: CancellationToken,
}

impl Turn {
    /// Resets the stream if it has been the reader's turn since `before` or longer.
    pub(super) fn reset_if_waiting_since(&self, before: u64) -> bool {
        let since = self.since.load(Relaxed);
        let late = since > 0 && since - 1 <= before && !self.reset.is_cancelled();
        if late {
            self.reset.cancel();
        }
        late
    }
}

/// The body.
pub(super) struct Answer {
    body: Body,
    running: Running,
    turn: Option<Arc<Turn>>,
    /// What is left of a large piece.
    rest: Bytes,
}

impl Answer {
    /// `reset` ends a stream of HTTP/2; without one the connection is the stream.
    pub(super) fn new(body: Body, running: Running, reset: Option<CancellationToken>) -> Self {
        let turn = reset.map(|reset| {
            // It is not asked for its first piece before there is room.
            let turn = Arc::new(Turn { since: AtomicU64::new(running.pulse().now() + 1), reset });
            running.pulse().look_after(&turn);
            turn
        });
        Self { body, running, turn, rest: Bytes::new() }
    }

    fn pulse(&self) -> &Pulse {
        self.running.pulse()
    }
}

impl http_body::Body for Answer {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let Some(turn) = self.turn.clone() else { return Pin::new(&mut self.body).poll_frame(cx) };
        turn.since.store(0, Relaxed);
        let mut frame = if self.rest.is_empty() {
            std::task::ready!(Pin::new(&mut self.body).poll_frame(cx))
        } else {
            Some(Ok(Frame::data(std::mem::take(&mut self.rest))))
        };
        if let Some(Ok(piece)) = &mut frame
            && let Some(data) = piece.data_mut()
            && data.len() > PIECE
        {
            self.rest = data.split_off(PIECE);
        }
        turn.since.store(self.pulse().now() + 1, Relaxed);
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty() && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let (mut hint, rest) = (self.body.size_hint(), self.rest.len() as u64);
        match hint.exact() {
            Some(exact) => hint.set_exact(exact + rest),
            None => hint.set_lower(hint.lower() + rest),
        }
        hint
    }
}
