//! A connection as the path sees it: plain or TLS.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use rustls::CommonState;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

use crate::{Buffer, TlsStream};

/// A connection. Cheap to move; what TLS needs is behind a pointer.
#[derive(Debug)]
pub enum Transport {
    /// Bytes as they are.
    Plain(TcpStream),
    /// TLS.
    Tls(Box<TlsStream>),
}

impl Transport {
    /// The socket below.
    pub fn tcp(&self) -> &TcpStream {
        match self {
            Self::Plain(tcp) => tcp,
            Self::Tls(tls) => tls.tcp(),
        }
    }

    /// What a TLS handshake agreed on; none on a plain connection.
    pub fn tls(&self) -> Option<&CommonState> {
        match self {
            Self::Plain(_) => None,
            Self::Tls(tls) => Some(tls.common_state()),
        }
    }

    /// Reads something into `buffer`. Answers how many bytes came, 0 at the end. The buffer takes memory only
    /// when there is something to read, so that an idle connection waits without.
    pub fn poll_fill(
        &mut self,
        cx: &mut Context<'_>,
        buffer: &mut Buffer,
    ) -> Poll<io::Result<usize>> {
        let tcp = match self {
            Self::Plain(tcp) => tcp,
            Self::Tls(tls) => return tls.poll_fill(cx, buffer),
        };
        let was_empty = buffer.is_empty();
        let mut read = ReadBuf::new(buffer.space(1));
        let outcome = Pin::new(tcp).poll_read(cx, &mut read);
        let count = read.filled().len();
        buffer.advance(count);
        if was_empty && count == 0 {
            buffer.release();
        }
        outcome.map_ok(|()| count)
    }

    /// Reads something into `buffer`; see [`Transport::poll_fill`]. May be dropped and called again.
    pub async fn fill(&mut self, buffer: &mut Buffer) -> io::Result<usize> {
        std::future::poll_fn(|cx| self.poll_fill(cx, buffer)).await
    }

    /// Writes from the front of `data`, which must not be empty; answers how many bytes were taken. Taken is
    /// not always sent: a flush sends the rest, as does the next write.
    pub fn poll_send(&mut self, cx: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        let count = ready!(match self {
            Self::Plain(tcp) => Pin::new(tcp).poll_write(cx, data),
            Self::Tls(tls) => tls.poll_write(cx, data),
        })?;
        if count == 0 {
            return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
        }
        Poll::Ready(Ok(count))
    }

    /// Sends what was taken and is not sent yet.
    pub fn poll_send_rest(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Plain(_) => Poll::Ready(Ok(())),
            Self::Tls(tls) => tls.poll_flush(cx),
        }
    }

    /// Writes all of `data`, from `sent` on, and counts in `sent`, so that it may be polled again.
    pub fn poll_send_all(
        &mut self,
        cx: &mut Context<'_>,
        data: &[u8],
        sent: &mut usize,
    ) -> Poll<io::Result<()>> {
        while *sent < data.len() {
            *sent += ready!(self.poll_send(cx, &data[*sent..]))?;
        }
        self.poll_send_rest(cx)
    }

    /// Writes all of `data`. Not to be dropped half-way: nobody would know how much was written.
    pub async fn send_all(&mut self, data: &[u8]) -> io::Result<()> {
        let mut sent = 0;
        std::future::poll_fn(|cx| self.poll_send_all(cx, data, &mut sent)).await
    }

    /// Says that nothing more will be sent; the other direction stays open.
    pub fn poll_finish(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Plain(tcp) => Pin::new(tcp).poll_shutdown(cx),
            Self::Tls(tls) => tls.poll_shutdown(cx),
        }
    }

    /// Says that nothing more will be sent, and waits until that has left.
    pub async fn finish(&mut self) -> io::Result<()> {
        std::future::poll_fn(|cx| self.poll_finish(cx)).await
    }

    /// Wakes the task when something, be it the end, can be read. Costs no system call.
    pub fn poll_readable(&self, cx: &mut Context<'_>) -> Poll<()> {
        self.tcp().poll_read_ready(cx).map(|_| ())
    }

    /// Whether nothing has come since the last read, not even the end. A connection that is not quiet while no
    /// answer is due has been closed by the peer or has been sent something that nobody asked for: it is not
    /// to be used again. Costs no system call.
    ///
    /// TLS peers do send session tickets on their own; those are read here.
    pub fn is_quiet(&mut self) -> bool {
        let mut cx = Context::from_waker(Waker::noop());
        match self {
            Self::Plain(tcp) => tcp.poll_read_ready(&mut cx).is_pending(),
            Self::Tls(tls) => {
                if tls.is_settled() && tls.tcp().poll_read_ready(&mut cx).is_pending() {
                    return true;
                }
                let mut buffer = Buffer::new();
                tls.poll_fill(&mut cx, &mut buffer).is_pending() && tls.is_settled()
            }
        }
    }

    fn tcp_mut(&mut self) -> &mut TcpStream {
        match self {
            Self::Plain(tcp) => tcp,
            Self::Tls(tls) => tls.tcp_mut(),
        }
    }

    /// Makes the close of the connection a reset, so that the peer does not take what it got for complete.
    pub fn reset_when_closed(&mut self) {
        // Where it cannot be set the peer sees an ordinary close.
        let _ = self.tcp_mut().set_zero_linger();
    }
}

/// A connection together with what has been read from it and not been used up.
#[derive(Debug)]
pub struct Connection {
    /// The connection.
    pub transport: Transport,
    /// What was read.
    pub buffer: Buffer,
}

impl Connection {
    /// A connection of which nothing has been read.
    pub fn new(transport: Transport) -> Self {
        Self { transport, buffer: Buffer::new() }
    }

    /// Reads something; answers how many bytes came, 0 at the end.
    pub fn poll_fill(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        self.transport.poll_fill(cx, &mut self.buffer)
    }

    /// Reads something; answers how many bytes came, 0 at the end. May be dropped and called again.
    pub async fn fill(&mut self) -> io::Result<usize> {
        std::future::poll_fn(|cx| self.poll_fill(cx)).await
    }

    /// Whether something has been read, or comes within this time, be it the end or an error.
    pub async fn speaks_within(&mut self, wait: Duration) -> bool {
        !self.buffer.is_empty() || tokio::time::timeout(wait, self.fill()).await.is_ok()
    }
}

/// For streams that a library drives (HTTP/2).
impl AsyncRead for Connection {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        read: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.buffer.is_empty() {
            if let Transport::Plain(tcp) = &mut this.transport {
                return Pin::new(tcp).poll_read(cx, read);
            }
            if ready!(this.poll_fill(cx))? == 0 {
                return Poll::Ready(Ok(()));
            }
        }
        let count = this.buffer.len().min(read.remaining());
        read.put_slice(&this.buffer.filled()[..count]);
        this.buffer.consume(count);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        data: &[u8],
    ) -> Poll<io::Result<usize>> {
        if data.is_empty() {
            return Poll::Ready(Ok(0));
        }
        self.get_mut().transport.poll_send(cx, data)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.get_mut().transport.poll_send_rest(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.get_mut().transport.poll_finish(cx)
    }
}
