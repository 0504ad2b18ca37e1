//! The stream of one listener: what was put into its queue, comments when there is nothing, and its end when the listener's time
//! is over. Who puts what into the queue is `listen`.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::Frame;
use tokio::sync::mpsc;

use crate::app::App;
use crate::mcp::record::Finish;
use crate::mcp::session::Session;
use crate::mcp::streams::{Next, Queue, Seat, Tenure};

/// A listener's stream.
pub struct Outbox {
    tenure: Tenure,
    queue: Queue,
    session: Option<(Arc<Session>, u64)>,
    finish: Finish,
    _seat: Option<Seat>,
}

impl Outbox {
    /// Gives out what comes through `receiver`. A legacy session's stream is closed with it.
    pub fn new(
        app: &App,
        tenure: Tenure,
        receiver: mpsc::Receiver<Bytes>,
        session: Option<(Arc<Session>, u64)>,
        finish: Finish,
        seat: Option<Seat>,
    ) -> Self {
        let queue = Queue::new(receiver, app.settings.limits.sse_keep_alive);
        Self { tenure, queue, session, finish, _seat: seat }
    }
}

impl http_body::Body for Outbox {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        // First: what waits to be read is no longer for this key.
        if self.tenure.poll(context).is_ready() {
            return Poll::Ready(None);
        }
        let next = ready!(self.queue.poll(context));
        if let Some(Next::Frame(frame)) = &next {
            self.finish.sent(frame.len());
        }
        Poll::Ready(next.map(|next| Ok(Frame::data(next.into_bytes()))))
    }
}

impl Drop for Outbox {
    fn drop(&mut self) {
        if let Some((session, number)) = &self.session {
            session.close_outbox(*number);
        }
    }
}
