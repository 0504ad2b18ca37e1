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

    /// Does something, and picks up what it leaves here. What was left before stays for whoever is above: one that waits may stand
    /// within another.
    fn of<T>(doing: impl FnOnce() -> T) -> (T, Option<Self>) {
        let before = Self::pick_up();
        let done = doing();
        let left = Self::pick_up();
        if let Some(before) = before {
            before.leave();
        }
        (done, left)
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
        let (value, left) = Ticket::of(|| serving.as_mut().poll(context));
        // They are in order: who has the last one has waited for all.
        ticket = left.or(ticket.take());
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
    /// Of what was recorded since the last frame.
    ticket: Option<Ticket>,
    waiting: Option<Waiting>,
}

struct Waiting {
    ticket: Pin<Box<dyn Future<Output = Result<(), NotKept>> + Send>>,
    frame: Option<Result<Frame<Bytes>, Broken>>,
}

impl<B> KeptBody<B> {
    /// Around `body`.
    pub fn new(body: B) -> Self {
        Self { body, ticket: None, waiting: None }
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
        let (frame, left) = Ticket::of(|| Pin::new(&mut self.body).poll_frame(context));
        self.ticket = left.or(self.ticket.take());
        let frame = ready!(frame).map(|frame| frame.map_err(Into::into));
        match self.ticket.take() {
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

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt as _;

    use super::*;

    /// Leaves tickets as it is polled, and gives its frame at the second time.
    struct Slow(watch::Sender<u64>, u64);

    impl Body for Slow {
        type Data = Bytes;
        type Error = std::convert::Infallible;

        fn poll_frame(
            mut self: Pin<&mut Self>,
            context: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
            self.1 += 1;
            if self.1 == 1 {
                Ticket { kept: self.0.subscribe(), number: 7 }.leave();
                context.waker().wake_by_ref();
                return Poll::Pending;
            }
            Poll::Ready((self.1 == 2).then(|| Ok(Frame::data(Bytes::from_static(b"answer")))))
        }
    }

    fn is_pending<T>(future: Pin<&mut impl Future<Output = T>>) -> bool {
        future.poll(&mut Context::from_waker(std::task::Waker::noop())).is_pending()
    }

    #[tokio::test]
    async fn what_is_recorded_before_a_frame_is_there_is_waited_for_with_it() {
        let (keeps, _) = watch::channel(6);
        let mut body = KeptBody::new(Slow(keeps.clone(), 0));
        let mut frame = pin!(body.frame());
        for _ in 0..3 {
            assert!(is_pending(frame.as_mut()), "its record is not kept");
        }
        keeps.send_replace(7);
        assert_eq!(frame.await.unwrap().unwrap().into_data().unwrap(), "answer");
    }

    #[tokio::test]
    async fn one_that_waits_within_another_takes_no_ticket_from_it() {
        let (keeps, _) = watch::channel(0);
        let ticket = |number| Ticket { kept: keeps.subscribe(), number };
        let serving = async {
            ticket(2).leave();
            KeptBody::new(http_body_util::Full::new(Bytes::new())).collect().await.unwrap();
            kept(async {}).await.unwrap();
        };
        let mut serving = pin!(kept(serving));
        assert!(is_pending(serving.as_mut()), "its record is not kept");
        keeps.send_replace(2);
        assert_eq!(serving.await, Ok(()));
    }
}
