//! The socket of a connection: what passes through it sets the marks of its pulse (`watch`), and what has come is read when its
//! thread takes up another request (`uptake`).

use std::io::{Error, ErrorKind, IoSlice};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::server::TlsStream;

use super::uptake::Slot;
use super::watch::Pulse;

/// What a socket shows without being read.
pub(super) trait Showing {
    /// Whether something seems to have come. Wakes the task when it does.
    fn has_more(&self, cx: &mut Context<'_>) -> bool;

    /// Whether the client is seen to send nothing more. Wakes the task when that changes.
    fn hung_up(&self, cx: &mut Context<'_>) -> bool;
}

impl Showing for TcpStream {
    fn has_more(&self, cx: &mut Context<'_>) -> bool {
        self.poll_read_ready(cx).is_ready()
    }

    fn hung_up(&self, cx: &mut Context<'_>) -> bool {
        // Most of the time nothing has come since the request, which is known without asking the kernel.
        if self.poll_read_ready(cx).is_pending() {
            return false;
        }
        let ready = pin!(self.ready(Interest::READABLE));
        matches!(ready.poll(cx), Poll::Ready(Ok(ready)) if ready.is_read_closed())
    }
}

impl Showing for TlsStream<TcpStream> {
    fn has_more(&self, cx: &mut Context<'_>) -> bool {
        self.get_ref().0.has_more(cx)
    }

    fn hung_up(&self, _: &mut Context<'_>) -> bool {
        false
    }
}

/// A connection whose reads and writes set the marks, and whose requests are taken up when their thread has room.
pub(super) struct Socket<T> {
    pub(super) stream: T,
    pub(super) pulse: Arc<Pulse>,
    pub(super) slot: Slot,
}

impl<T: AsyncRead + Showing + Unpin> AsyncRead for Socket<T> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<Result<(), Error>> {
        let Self { stream, slot, pulse } = &mut *self;
        if !pulse.is_running() {
            ready!(slot.poll_read(cx, |cx| stream.has_more(cx)));
        }
        let before = buf.filled().len();
        let read = Pin::new(stream).poll_read(cx, buf);
        if buf.filled().len() > before {
            slot.take();
            pulse.heard(&buf.filled()[before..]);
        } else {
            slot.rest();
        }
        read
    }
}

impl<T: AsyncWrite + Showing + Unpin> AsyncWrite for Socket<T> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<Result<usize, Error>> {
        self.slot.answer();
        let written = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.pulse.wrote(written.is_ready());
        written
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<Result<usize, Error>> {
        self.slot.answer();
        let written = Pin::new(&mut self.stream).poll_write_vectored(cx, parts);
        self.pulse.wrote(written.is_ready());
        written
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    /// Called at each look at the connection, whether there is something to flush or not.
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        if self.pulse.is_running() && self.stream.hung_up(cx) {
            return Poll::Ready(Err(ErrorKind::ConnectionAborted.into()));
        }
        let flushed = Pin::new(&mut self.stream).poll_flush(cx);
        // What is above flushes only what it has written whole: now either something of it waits below (TLS), or nothing at all.
        self.pulse.wrote(flushed.is_ready());
        flushed
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use futures_util::task::noop_waker_ref;

    use super::*;
    use crate::config::{DotEnv, Settings};
    use crate::serve::watch::Verdict;

    /// Takes everything at once, and passes it on when it is told to, as TLS does.
    #[derive(Default)]
    struct Holding {
        holds: bool,
    }

    impl AsyncWrite for Holding {
        fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<Result<usize, Error>> {
            Poll::Ready(Ok(bytes.len()))
        }

        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Result<(), Error>> {
            if self.holds { Poll::Pending } else { Poll::Ready(Ok(())) }
        }

        fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Result<(), Error>> {
            Poll::Ready(Ok(()))
        }
    }

    impl Showing for Holding {
        fn has_more(&self, _: &mut Context<'_>) -> bool {
            false
        }

        fn hung_up(&self, _: &mut Context<'_>) -> bool {
            false
        }
    }

    #[test]
    fn who_made_a_flush_wait_and_then_read_everything_is_not_cut_as_slow() {
        let mut limits = Settings::from_args([""; 0], &DotEnv::default()).unwrap().limits;
        limits.write_timeout = Duration::ZERO;
        let pulse = Pulse::new();
        let _runs = pulse.run();
        let stream = Holding { holds: true };
        let mut socket = Socket { stream, pulse: Arc::clone(&pulse), slot: Slot::new(Arc::default()) };
        let mut cx = Context::from_waker(noop_waker_ref());
        assert!(Pin::new(&mut socket).poll_write(&mut cx, b"an answer").is_ready());
        assert!(Pin::new(&mut socket).poll_flush(&mut cx).is_pending());
        assert_eq!(pulse.verdict(&limits), Verdict::Cut("slow_reader"));
        socket.stream.holds = false;
        assert!(Pin::new(&mut socket).poll_flush(&mut cx).is_ready());
        assert_eq!(pulse.verdict(&limits), Verdict::Wait);
    }
}
