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
        if flushed.is_pending() {
            self.pulse.wrote(false);
        }
        flushed
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
