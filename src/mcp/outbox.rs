//! The stream of one listener: what was put into its queue, comments when there is nothing, and its end when the listener's time
//! is over. Who puts what into the queue is `listen`.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http_body::Frame;
use tokio::sync::mpsc;
use tokio::time::{Sleep, sleep};

use crate::app::App;
use crate::mcp::record::Finish;
use crate::mcp::session::Session;
use crate::mcp::streams::{Seat, Tenure};
use crate::protocol::sse;
use crate::telemetry::Outcome;

/// A listener's stream.
pub struct Outbox {
    tenure: Tenure,
    receiver: mpsc::Receiver<Bytes>,
    keep_alive: Duration,
    timer: Pin<Box<Sleep>>,
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
        let keep_alive = app.settings.limits.sse_keep_alive;
        Self { tenure, receiver, keep_alive, timer: Box::pin(sleep(keep_alive)), session, finish, _seat: seat }
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
        if let Poll::Ready(frame) = self.receiver.poll_recv(context) {
            let keep_alive = self.keep_alive;
            self.timer.as_mut().reset(tokio::time::Instant::now() + keep_alive);
            if let Some(frame) = &frame {
                self.finish.sent(frame.len());
            }
            return Poll::Ready(frame.map(|frame| Ok(Frame::data(frame))));
        }
        ready!(self.timer.as_mut().poll(context));
        let keep_alive = self.keep_alive;
        self.timer.as_mut().reset(tokio::time::Instant::now() + keep_alive);
        Poll::Ready(Some(Ok(Frame::data(sse::KEEP_ALIVE))))
    }
}

impl Drop for Outbox {
    fn drop(&mut self) {
        // A listener that goes away has heard what it wanted.
        self.finish.end(Outcome::Success);
        if let Some((session, number)) = &self.session {
            session.close_outbox(*number);
        }
    }
}
