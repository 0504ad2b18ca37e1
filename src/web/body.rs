//! Bodies of requests, bounded in size and time. A body that stops half-way is given up at its deadline; one that is larger
//! than allowed is not read on.

use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::body::Body;
use bytes::{Bytes, BytesMut};
use http_body::{Frame, SizeHint};
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use tokio::time::{Instant, Sleep};

/// Bodies up to this size are copied out of the read buffer.
const SMALL: usize = 2048;

/// Why a body could not be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BodyProblem {
    /// More than [`crate::config::Limits::request_body`]: 413.
    #[error("the body is larger than this gateway accepts (MREG_REQUEST_BODY_LIMIT)")]
    TooLarge,
    /// Not whole within [`crate::config::Limits::body_read_timeout`]: 408.
    #[error("the body did not arrive in time")]
    TooSlow,
    /// The connection broke or its framing was wrong: 400.
    #[error("the body did not arrive whole")]
    Broken,
}

/// `body`, of at most `most` bytes and whole within `time` from now.
pub fn bounded<B>(body: B, most: usize, time: Duration) -> Body
where
    B: http_body::Body<Data = Bytes> + Send + Unpin + 'static,
    B::Error: Into<axum::BoxError>,
{
    // A request without a body is the usual GET: nothing to bound, nothing to allocate.
    if body.is_end_stream() {
        return Body::empty();
    }
    Body::new(Limited::new(Timed { body, deadline: Instant::now() + time, alarm: None }, most))
}

/// Reads a body that [`bounded`] made. One frame, the usual case, is returned without a copy.
pub async fn read(mut body: Body) -> Result<Bytes, BodyProblem> {
    let expected = usize::try_from(http_body::Body::size_hint(&body).lower()).unwrap_or(0);
    let mut first = Bytes::new();
    let mut all: Option<BytesMut> = None;
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame.map_err(|error| problem(&error))?.into_data() else { continue };
        match &mut all {
            Some(all) => all.extend_from_slice(&data),
            None if first.is_empty() => first = data,
            None => {
                let mut joined = BytesMut::with_capacity(expected.saturating_add(first.len()).min(16 << 20));
                joined.extend_from_slice(&first);
                joined.extend_from_slice(&data);
                all = Some(joined);
            }
        }
    }
    // A small body on its own: a slice of the read buffer would keep the whole of it.
    Ok(match all {
        Some(all) => all.freeze(),
        None if first.len() <= SMALL => Bytes::copy_from_slice(&first),
        None => first,
    })
}

/// The same of one that may have less than the usual: at most `most` bytes.
pub async fn read_at_most(body: Body, most: usize) -> Result<Bytes, BodyProblem> {
    read(Body::new(Limited::new(body, most))).await
}

fn problem(error: &axum::Error) -> BodyProblem {
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(error) = cause {
        if error.is::<LengthLimitError>() {
            return BodyProblem::TooLarge;
        }
        if let Some(problem) = error.downcast_ref::<BodyProblem>() {
            return *problem;
        }
        cause = error.source();
    }
    BodyProblem::Broken
}

struct Timed<B> {
    body: B,
    deadline: Instant,
    /// Made when the body is first waited for; most bodies arrive with their head.
    alarm: Option<Pin<Box<Sleep>>>,
}

impl<B> http_body::Body for Timed<B>
where
    B: http_body::Body<Data = Bytes> + Unpin,
    B::Error: Into<axum::BoxError>,
{
    type Data = Bytes;
    type Error = axum::BoxError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let this = self.get_mut();
        if let Poll::Ready(frame) = Pin::new(&mut this.body).poll_frame(cx) {
            return Poll::Ready(frame.map(|frame| frame.map_err(Into::into)));
        }
        let deadline = this.deadline;
        let alarm = this.alarm.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(deadline)));
        ready!(alarm.as_mut().poll(cx));
        Poll::Ready(Some(Err(BodyProblem::TooSlow.into())))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chunks(parts: &[&'static str]) -> Body {
        let parts: Vec<Result<Bytes, std::io::Error>> =
            parts.iter().map(|part| Ok(Bytes::from_static(part.as_bytes()))).collect();
        Body::from_stream(futures_util::stream::iter(parts))
    }

    const LONG: Duration = Duration::from_mins(1);

    #[tokio::test]
    async fn frames_are_joined_up_to_the_limit() {
        assert_eq!(read(bounded(chunks(&["ab", "", "cd", "e"]), 5, LONG)).await.unwrap(), "abcde");
        assert_eq!(read(bounded(chunks(&[]), 5, LONG)).await.unwrap(), "");
        assert_eq!(read(bounded(chunks(&["ab", "cd", "ef"]), 5, LONG)).await, Err(BodyProblem::TooLarge));
    }

    #[tokio::test]
    async fn a_body_that_stops_is_given_up() {
        let stuck = Body::from_stream(futures_util::stream::pending::<Result<Bytes, std::io::Error>>());
        assert_eq!(read(bounded(stuck, 5, Duration::ZERO)).await, Err(BodyProblem::TooSlow));
    }
}
