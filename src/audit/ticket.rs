//! What an answer waits for. Whoever appends a record that is not kept yet, because the disk is asked first or does not take it, leaves
//! a ticket on its thread; whoever polls what serves a request picks it up, and gives the answer out once the record is kept. Most
//! records are kept when they are appended, and leave none.

use std::cell::RefCell;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use tokio::sync::watch;

/// Longest that an answer waits for its record.
const LONGEST: Duration = Duration::from_secs(10);

thread_local!(static LEFT: RefCell<Option<Ticket>> = const { RefCell::new(None) });

/// The record of an answer could not be kept, so that the answer is not given out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("what was done could not be recorded, so that its answer is not given out")]
pub struct NotKept;

/// A record that is not kept yet.
#[derive(Debug)]
pub(super) struct Ticket {
    /// How many records are kept.
    pub(super) kept: watch::Receiver<u64>,
    /// Which one it is, from 1.
    pub(super) number: u64,
}

impl Ticket {
    /// Leaves it on this thread.
    pub(super) fn leave(self) {
        LEFT.with_borrow_mut(|left| *left = Some(self));
    }

    fn pick_up() -> Option<Self> {
        LEFT.take()
    }

    async fn wait(mut self) -> Result<(), NotKept> {
        let number = self.number;
        let kept = tokio::time::timeout(LONGEST, self.kept.wait_for(|kept| *kept >= number)).await;
        if matches!(kept, Ok(Ok(_))) { Ok(()) } else { Err(NotKept) }
    }
}

/// What comes of `serving`, once all that it recorded is kept.
pub async fn kept<T>(serving: impl Future<Output = T>) -> Result<T, NotKept> {
    let (mut serving, mut ticket) = (pin!(serving), None);
    let value = std::future::poll_fn(|context| {
        drop(Ticket::pick_up());
        let value = serving.as_mut().poll(context);
        ticket = Ticket::pick_up().or(ticket.take());
        value
    });
    let value = value.await;
    match ticket {
        None => Ok(value),
        Some(ticket) => ticket.wait().await.map(|()| value),
    }
}

/// Why a stream breaks off.
pub type Broken = Box<dyn std::error::Error + Send + Sync>;

/// A stream whose frames go out once what was recorded while they were made is kept.
pub struct KeptBody<B> {
    body: B,
    waiting: Option<Waiting>,
}

struct Waiting {
    ticket: Pin<Box<dyn Future<Output = Result<(), NotKept>> + Send>>,
    frame: Option<Result<Frame<Bytes>, Broken>>,
}

impl<B> KeptBody<B> {
    /// Around `body`.
    pub fn new(body: B) -> Self {
        Self { body, waiting: None }
    }
}

impl<B> Body for KeptBody<B>
where
    B: Body<Data = Bytes> + Unpin,
    B::Error: Into<Broken>,
{
    type Data = Bytes;
    type Error = Broken;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        if let Some(waiting) = &mut self.waiting {
            let kept = ready!(waiting.ticket.as_mut().poll(context));
            let frame = self.waiting.take().and_then(|waiting| waiting.frame);
            return Poll::Ready(if let Err(lost) = kept { Some(Err(lost.into())) } else { frame });
        }
        drop(Ticket::pick_up());
        let frame = ready!(Pin::new(&mut self.body).poll_frame(context));
        let frame = frame.map(|frame| frame.map_err(Into::into));
        match Ticket::pick_up() {
            None => Poll::Ready(frame),
            Some(ticket) => {
                self.waiting = Some(Waiting { ticket: Box::pin(ticket.wait()), frame });
                self.poll_frame(context)
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.waiting.is_none() && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
